/*
 * ddb_mbuf: buffer chains.
 *
 *      show mbuf ADDR       one mbuf: header, packet header, storage
 *      show chain ADDR      the mbufs of a packet, and of the packets behind it
 */
import { elem } from '../../machine/struct.ts';
import { M, machine, ROOT_MBUF } from '../../machine/header.ts';
import { uma_keg, uma_slab, uma_zone, type zone_t } from '../../h/uma.ts';
import { M_EXT, M_PKTHDR, mb_root, type mb_root_t, mbuf, type mbuf_t, mtod } from '../../h/mbuf.ts';
import { item_of_keg } from '../../kmem/kern_whatis.ts';
import { mem } from '../../machine/memory.ts';
import { db_pointer, db_record, db_walk } from './ddb_access.ts';
import { DB_SHOW_COMMAND, type DdbArgs } from './ddb_command.ts';
import { db_flags, MBUF_FLAGS } from './ddb_flags.ts';
import { type Ddb, DdbError, db_hex, db_printf, db_puts } from './ddb_session.ts';
import { db_root, db_slab_at } from './ddb_uma.ts';

/** The mbuf at an address: it begins an item of the zone of mbufs. */
function mbuf_at({ addr, have_addr }: DdbArgs): mbuf_t {
  if (!have_addr) throw new DdbError('Which mbuf? Give its address');
  if (machine.roots[elem(M, ROOT_MBUF)] === 0) throw new DdbError('There are no mbufs yet');
  const m = db_record(addr, 'an mbuf', mbuf.sizeof) as mbuf_t;
  const r = db_root(ROOT_MBUF, mb_root.sizeof, 'mbufs') as mb_root_t;
  const z = mb_root.mbuf[r] as zone_t;
  const is = db_pointer(z, uma_zone.sizeof) && item_of_keg(uma_zone.keg[z], m);
  if (!is) throw new DdbError(`${db_hex(addr)}: no mbuf begins there`);
  return m;
}
/** Whether the zone has it: what was freed to a CPU's cache cannot be told from what is in use. */
function in_slab(m: mbuf_t): boolean {
  const s = db_slab_at(m * 4);
  const k = uma_slab.keg[s];
  const i = (m - uma_slab.data[s]) / (uma_keg.rsize[k] / 4);
  return (mem.I32[s + 8 + (i >> 5)] & (1 << (i & 31))) !== 0;
}
function mbuf_line(db: Ddb, m: mbuf_t): void {
  const flags = mbuf.flags[m];
  const args = [m * 4, mbuf.next[m] * 4, mbuf.nextpkt[m] * 4, mtod(m), mbuf.len[m], mbuf.type[m]];
  db_printf(db, 'mbuf %p: next=%p, nextpkt=%p, data=%p, len=%d, type=%d', ...args);
  db_printf(db, ', flags=0x%x%s', flags >>> 0, db_flags(flags, MBUF_FLAGS));
  db_puts(db, in_slab(m) ? ' (free)\n' : '\n');
}
function mbuf_print(db: Ddb, m: mbuf_t): void {
  mbuf_line(db, m);
  const flags = mbuf.flags[m];
  if (flags & M_PKTHDR) {
    const args = [mbuf.plen[m], mbuf.rcvif[m], mbuf.flowid[m], mbuf.tags[m] * 4];
    db_printf(db, ' pkthdr: len=%d, rcvif=%d, flowid=%d, tags=%p', ...args);
    const sums = [mbuf.csum_flags[m], mbuf.csum_data[m]];
    db_printf(db, ', csum_flags=0x%x, csum_data=0x%x\n', ...sums);
  }
  if (flags & M_EXT) {
    const ref = mbuf.ext_ref[m];
    const count = db_pointer(ref, 1) ? mem.I32[ref] : 0;
    const args = [mbuf.buf[m] * 4, mbuf.ext_size[m], mbuf.ext_type[m], ref * 4, count];
    db_printf(db, ' ext: buf=%p, size=%d, type=%d, ref_cnt=%p(%d)\n', ...args);
  }
}
DB_SHOW_COMMAND('mbuf', 'An mbuf', (a) => mbuf_print(a.db, mbuf_at(a)));
DB_SHOW_COMMAND('chain', 'The mbufs of a packet, and of those behind it', (a) => {
  const { db } = a;
  const words = mbuf.sizeof;
  let packets = 0;
  const first = mbuf_at(a);
  const queue = { what: 'packets', first, words, next: (p: mbuf_t) => mbuf.nextpkt[p] };
  for (const packet of db_walk(db, queue)) {
    db_printf(db, 'packet %d\n', packets++);
    let [mbufs, bytes] = [0, 0];
    const chain = { what: 'mbufs', first: packet, words, next: (p: mbuf_t) => mbuf.next[p] };
    for (const m of db_walk(db, chain)) {
      db_puts(db, '  ');
      mbuf_line(db, m);
      mbufs++;
      bytes += mbuf.len[m];
    }
    db_printf(db, '  %d mbufs, %d bytes\n', mbufs, bytes);
  }
});
