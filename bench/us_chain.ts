/*
 * us_chain: mbufs and chains as competitors.
 *
 *      pair          an mbuf with a 2 KiB cluster, obtained and given back
 *      share         a packet of three clusters copied by reference, the copy given back
 *      build         a packet of three times 1500 bytes copied in, given back
 *      chain:share   the same by the façade: clone() and free()
 *      chain:build   the same by the façade: append() three times and free()
 *
 * Operations of one kind stand in a function of their own, so that V8 compiles
 * each for itself.
 */
import { boot } from '../src/lib/index.ts';
import { m_getcl } from '../src/sys/client/kern_mbuf.ts';
import { m_append, m_copypacket, m_free, m_freem } from '../src/sys/client/uipc_mbuf.ts';
import { M_NOWAIT as M_NOWAIT_ } from '../src/sys/h/malloc_flags.ts';
import {
  M_PKTHDR as M_PKTHDR_,
  mbuf as mbuf_,
  type mbuf_t,
  MT_DATA as MT_DATA_,
  mtod,
} from '../src/sys/h/mbuf.ts';
import { mem as mem_ } from '../src/sys/machine/memory.ts';
import { PIECE_BYTES, PIECES, serve, timed } from './child.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const mbuf = mbuf_;
const mem = mem_;
const M_NOWAIT = M_NOWAIT_;
const M_PKTHDR = M_PKTHDR_;
const MT_DATA = MT_DATA_;

const machine = boot({ memory: '256M' });
const source = Buffer.alloc(PIECE_BYTES, 'kmem');

function build(): mbuf_t {
  const first = m_getcl(M_NOWAIT, MT_DATA, M_PKTHDR);
  mem.U8.set(source, mtod(first));
  mbuf.len[first] = PIECE_BYTES;
  let last = first;
  for (let i = 1; i < PIECES; i++) {
    const m = m_getcl(M_NOWAIT, MT_DATA, 0);
    mem.U8.set(source, mtod(m));
    mbuf.len[m] = PIECE_BYTES;
    mbuf.next[last] = m;
    last = m;
  }
  mbuf.plen[first] = PIECES * PIECE_BYTES;
  return first;
}
const packet = build();
const chain = machine.chain();
for (let i = 0; i < PIECES; i++) chain.append(source);
if (m_append(packet, 1, source, 0) !== 1) throw new Error('no memory');

function pair(ops: number): void {
  for (let i = 0; i < ops; i++) {
    const m = m_getcl(M_NOWAIT, MT_DATA, M_PKTHDR);
    mem.I32[mbuf.buf[m]] = i;
    m_free(m);
  }
}
function share(ops: number): void {
  for (let i = 0; i < ops; i++) m_freem(m_copypacket(packet, M_NOWAIT));
}
function built(ops: number): void {
  for (let i = 0; i < ops; i++) m_freem(build());
}
function chain_share(ops: number): void {
  for (let i = 0; i < ops; i++) chain.clone().free();
}
function chain_build(ops: number): void {
  for (let i = 0; i < ops; i++) {
    const one = machine.chain();
    for (let k = 0; k < PIECES; k++) one.append(source);
    one.free();
  }
}

await serve(
  {
    pair: (ops) => timed(ops, pair),
    share: (ops) => timed(ops, share),
    build: (ops) => timed(ops, built),
    'chain:share': (ops) => timed(ops, chain_share),
    'chain:build': (ops) => timed(ops, chain_build),
  },
  'kmem',
);
machine.shutdown();
