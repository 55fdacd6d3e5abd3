/*
 * The jobs that workers run for the tests of mbufs.
 *
 * `exchange` makes packets, shares their clusters by copies, swaps chains with
 * the others through the ring (uma.test.lib.ts), and looks at every byte of what
 * it gets before it frees it, copies it, or makes it writable and writes it anew.
 * The bytes of a chain follow from its first four.  The others wait for
 * clusters, or hold packets, for one part of a scripted test.
 */
import { attach, detach } from '../boot/whole.ts';
import {
  atomic_load,
  atomic_notify,
  atomic_store,
  atomic_wait,
  atomic_xchg,
} from '../machine/atomic.ts';
import { mem } from '../machine/memory.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { type Counts, run_job } from '../machine/workers.test.lib.ts';
import { M_NOWAIT, M_WAITOK } from '../h/malloc_flags.ts';
import {
  M_COPYALL,
  M_EXT,
  M_PKTHDR,
  mbuf,
  type mbuf_t,
  MCLBYTES,
  MJUMPAGESIZE,
  MT_DATA,
  mtod,
} from '../h/mbuf.ts';
import { common, RING, RING_SIZE, step_word, stopped } from '../uma/uma.test.lib.ts';
import { m_clget, m_get, m_getcl, m_getjcl } from './kern_mbuf.ts';
import { bytes_of, mbufs_of } from './mbuf.model.ts';
import { NONE } from './mbuf.test.lib.ts';
import {
  m_append,
  m_copydata,
  m_copym,
  m_copypacket,
  m_devget,
  m_dup,
  m_freem,
  m_sanity,
} from './uipc_mbuf.ts';
import { m_pullup, m_split, m_unshare } from './uipc_mbuf_shape.ts';

interface Args {
  seed?: number;
  most?: number;
  wait?: boolean;
  chains?: mbuf_t[];
}
const LEAST = 50;
const HEAD = 4;

function step(n: number): void {
  atomic_store(step_word(n), 1);
  atomic_notify(step_word(n), 99);
}
function wait_step(n: number): void {
  while (atomic_load(step_word(n)) === 0) atomic_wait(step_word(n), 0, 50);
}

/** The bytes that a chain with these first four should have. */
function body(mark: number, len: number): Uint8Array {
  const bytes = new Uint8Array(len);
  new DataView(bytes.buffer).setInt32(0, mark, true);
  for (let i = HEAD; i < len; i++) bytes[i] = mark + i * 13;
  return bytes;
}
/** Throws if a chain is not what its first bytes say. */
function look(top: mbuf_t): void {
  const sane = m_sanity(top);
  if (sane !== '') throw new Error(sane);
  const got = bytes_of(top);
  const mark = new DataView(got.buffer).getInt32(0, true);
  const right = body(mark, got.length);
  const i = got.findIndex((b, k) => b !== right[k]);
  if (i >= 0) throw new Error(`packet ${mark}: byte ${i} of ${got.length} is ${got[i]}`);
}

function make(draw: (n: number) => number): mbuf_t {
  const mark = draw(1 << 30);
  const len = HEAD + draw(draw(3) === 0 ? 4000 : 1500);
  const bytes = body(mark, len);
  switch (draw(3)) {
    case 0:
      return m_devget(bytes, 0, len, draw(20), 1);
    case 1: {
      const top = m_getjcl(M_NOWAIT, MT_DATA, M_PKTHDR, draw(2) === 0 ? MCLBYTES : MJUMPAGESIZE);
      if (top === NONE || m_append(top, len, bytes, 0) === 1) return top;
      m_freem(top);
      return NONE;
    }
    default: {
      const top = m_get(M_NOWAIT, MT_DATA);
      if (top === NONE) return top;
      m_clget(top, M_NOWAIT);
      if (m_append(top, len, bytes, 0) === 1) return top;
      m_freem(top);
      return NONE;
    }
  }
}
/** Makes a chain writable, and writes it anew: nobody who shares it may see that. */
function rewrite(given: mbuf_t, draw: (n: number) => number): mbuf_t {
  const top = m_unshare(given, M_NOWAIT);
  if (top === NONE) return NONE;
  const len = mbufs_of(top).reduce((n, at) => n + mbuf.len[at], 0);
  const bytes = body(draw(1 << 30), len);
  let done = 0;
  for (const at of mbufs_of(top)) {
    mem.U8.set(bytes.subarray(done, done + mbuf.len[at]), mtod(at));
    done += mbuf.len[at];
  }
  return top;
}
/** What is left of a chain after it was cut in two and one part went away. */
function cut(top: mbuf_t, draw: (n: number) => number): void {
  const tail = m_split(top, HEAD + draw(200), M_NOWAIT);
  if (tail !== NONE) m_freem(tail);
}

function exchange({ seed = 1, most = 30 }: Args): Counts {
  const draw = dice(seed);
  const held: mbuf_t[] = [];
  const c = { made: 0, copies: 0, swaps: 0, fails: 0, written: 0 };
  const put = (m: mbuf_t, what: 'made' | 'copies'): void => {
    if (m === NONE) {
      // Everything may lie in the ring: some of it has to come free.
      c.fails++;
      if (held.length === 0) m_freem(atomic_xchg(common() + RING + draw(RING_SIZE), 0) as mbuf_t);
      for (const x of held.splice(0)) m_freem(x);
      return;
    }
    held.push(m);
    c[what]++;
  };
  const pop = (): mbuf_t => held.splice(draw(held.length), 1)[0];
  while (!stopped() || c.swaps < LEAST) {
    const what = draw(12);
    if (what < 3 && held.length < most) put(make(draw), 'made');
    if (held.length === 0) continue;
    if (what < 5 && held.length < most) {
      const from = held[draw(held.length)];
      if (mbuf.flags[from] & M_PKTHDR && draw(2) === 0) put(m_copypacket(from, M_NOWAIT), 'copies');
      else put(m_copym(from, 0, M_COPYALL, M_NOWAIT), 'copies');
    } else if (what === 5 && held.length < most) {
      put(m_dup(held[draw(held.length)], M_NOWAIT), 'copies');
    } else if (what === 6) {
      const top = rewrite(pop(), draw);
      if (top !== NONE) held.push(top);
      c.written++;
    } else if (what === 7) {
      const top = m_pullup(pop(), HEAD); // moves bytes, never those of a cluster that others read
      if (top !== NONE) held.push(top);
    } else if (what === 8) cut(held[draw(held.length)], draw);
    else if (what < 11) {
      const top = pop();
      look(top);
      const slot = common() + RING + draw(RING_SIZE);
      const other = atomic_xchg(slot, top) as mbuf_t;
      c.swaps++;
      if (other !== NONE) {
        look(other);
        held.push(other);
      }
    } else {
      for (let n = draw(8); n >= 0 && held.length > 0; n--) {
        const top = pop();
        look(top);
        m_freem(top);
      }
    }
  }
  for (const top of held) {
    look(top);
    m_freem(top);
  }
  return c;
}
/** Copies a few bytes of what lies in the ring until it is killed. */
function doomed(args: Args): Counts {
  step(1);
  return exchange(args);
}
/** Waits for a packet, says so, and frees it. */
function wait_packet(): Counts {
  step(1);
  const top = m_getcl(M_WAITOK, MT_DATA, M_PKTHDR);
  const got = top === NONE ? 0 : 1;
  m_freem(top);
  return { got };
}
/** Waits for an mbuf without storage outside. */
function wait_mbuf(): Counts {
  step(1);
  const n = m_get(M_WAITOK, MT_DATA);
  const got = n === NONE ? 0 : 1;
  if (got) m_freem(n);
  return { got };
}
/** Waits for a cluster to attach. */
function wait_cluster(): Counts {
  const top = m_get(M_NOWAIT, MT_DATA);
  step(1);
  m_clget(top, M_WAITOK);
  const got = mbuf.flags[top] & M_EXT ? 1 : 0;
  m_freem(top);
  return { got };
}
/** Frees chains that another CPU made, when told to. */
function freer({ chains = [] }: Args): Counts {
  step(1);
  wait_step(3);
  for (const top of chains) m_freem(top);
  step(4);
  wait_step(5); // computing, as it were: it does not come by to hand over what it caches
  return { freed: chains.length };
}
/** Reads a chain that was handed over by its number. */
function reader({ chains = [] }: Args): Counts {
  const to = new Uint8Array(64);
  m_copydata(chains[0], 0, 64, to, 0);
  m_freem(chains[0]);
  return { sum: to.reduce((n, b) => n + b, 0) };
}

const jobs: Record<string, (args: Args) => Counts> = {
  exchange,
  doomed,
  wait_packet,
  wait_mbuf,
  wait_cluster,
  freer,
  reader,
};
run_job<Args>((job, args) => jobs[job](args), { join: attach, leave: detach });
