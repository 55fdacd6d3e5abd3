/*
 * Shows what each operation on mbufs does at its edges, one line of a table or
 * one small chain at a time: the borders between an mbuf and a cluster, what is
 * shared and what is copied, who frees external storage, what becomes of packet
 * length, flags and tags, and which chain comes out.
 */
import { kconsole } from '../machine/kconsole.ts';
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { mem } from '../machine/memory.ts';
import { NULL } from '../machine/struct.ts';
import { vector } from '../machine/vectors.ts';
import { M_NOWAIT } from '../h/malloc_flags.ts';
import {
  EXT_CLUSTER,
  EXT_EXTREF,
  EXT_JUMBO16,
  EXT_JUMBO9,
  EXT_JUMBOP,
  EXT_NET_DRV,
  EXT_PACKET,
  M_BCAST,
  M_COPYALL,
  M_COPYFLAGS,
  M_EOR,
  M_EXT,
  M_FREELIST,
  M_MCAST,
  M_NOFREE,
  M_PKTHDR,
  M_PROTO1,
  M_RDONLY,
  M_VLANTAG,
  m_tag,
  mb_root,
  mbuf,
  type mbuf_t,
  MCLBYTES,
  MHLEN,
  MINCLSIZE,
  MJUM16BYTES,
  MJUM9BYTES,
  MJUMPAGESIZE,
  MLEN,
  MSIZE,
  MT_CONTROL,
  MT_DATA,
  MT_NOINIT,
  MT_OOBDATA,
  mtod,
} from '../h/mbuf.ts';
import { uma_keg, uma_zone, type zone_t } from '../h/uma.ts';
import { free, malloc } from '../kmem/kern_malloc.ts';
import { malloc_type_attach, malloc_type_sums } from '../kmem/kern_malloc_type.ts';
import { uma_zfree_arg } from '../uma/uma_core.ts';
import {
  m_cljget,
  m_cljset,
  m_clget,
  m_get,
  m_getcl,
  m_getclr,
  m_gethdr,
  m_getjcl,
  mb,
} from './kern_mbuf.ts';
import { bytes_of, mbufs_of } from './mbuf.model.ts';
import {
  bytes,
  chain,
  cl,
  clhdr,
  down,
  hdr,
  in_use,
  jumbo,
  m,
  NONE,
  nothing_left,
  panics,
  shape,
  up,
  whole,
} from './mbuf.test.lib.ts';
import {
  M_LEADINGSPACE,
  M_TRAILINGSPACE,
  M_WRITABLE,
  m_align,
  m_append,
  m_apply,
  m_copyback,
  m_copydata,
  m_copym,
  m_copypacket,
  m_demote,
  m_devget,
  m_dup,
  m_dup_pkthdr,
  m_extadd,
  m_extaddref,
  m_free,
  m_freem,
  m_getm,
  m_getm2,
  m_getptr,
  m_length,
  m_move_pkthdr,
  m_sanity,
} from './uipc_mbuf.ts';
import {
  m_tag_alloc,
  m_tag_copy,
  m_tag_data,
  m_tag_delete_chain,
  m_tag_delete_nonpersistent,
  m_tag_find,
  m_tag_free,
  m_tag_get,
  m_tag_locate,
  m_tag_prepend,
  m_tag_unlink,
  MTAG_PERSISTENT,
} from './uipc_mbuf_tag.ts';

afterEach(down);

const word = (n: number): number => mem.I32[n];

describe('allocation', () => {
  test('the zones have the names, sizes and kegs of the reference', () => {
    up();
    const r = mb();
    const all = mb_root;
    for (const [z, size] of [
      [all.mbuf[r], MSIZE],
      [all.pack[r], MSIZE],
      [all.clust[r], MCLBYTES],
      [all.jumbop[r], MJUMPAGESIZE],
      [all.jumbo9[r], MJUM9BYTES],
      [all.jumbo16[r], MJUM16BYTES],
      [all.ext_refcnt[r], 4],
    ]) {
      assert.equal(uma_zone.size[z as zone_t], size);
    }
    assert.equal(uma_zone.keg[all.pack[r] as zone_t], uma_zone.keg[all.mbuf[r] as zone_t]);
    assert.equal(uma_keg.align[uma_zone.keg[all.mbuf[r] as zone_t]], MSIZE - 1);
  });
  test('m_get, m_gethdr, m_getclr: room, flags, and no trace of who had it before', () => {
    up();
    const old = chain([hdr(MHLEN)]);
    mbuf.rcvif[old] = 9;
    mbuf.flowid[old] = 9;
    m_freem(old);
    const a = m_get(M_NOWAIT, MT_CONTROL);
    const b = m_gethdr(M_NOWAIT, MT_OOBDATA);
    const c = m_getclr(M_NOWAIT, MT_DATA);
    assert.deepEqual([mbuf.flags[a], mbuf.type[a], mbuf.len[a]], [0, MT_CONTROL, 0]);
    assert.deepEqual([M_LEADINGSPACE(a), M_TRAILINGSPACE(a)], [0, MLEN]);
    assert.deepEqual([mbuf.flags[b], mbuf.type[b], mbuf.plen[b]], [M_PKTHDR, MT_OOBDATA, 0]);
    assert.deepEqual([mbuf.rcvif[b], mbuf.flowid[b], mbuf.tags[b]], [0, 0, 0]);
    assert.deepEqual([M_LEADINGSPACE(b), M_TRAILINGSPACE(b)], [0, MHLEN]);
    assert.ok(mem.U8.subarray(mtod(c), mtod(c) + MLEN).every((v) => v === 0));
    for (const x of [a, b, c]) {
      assert.equal(mtod(x) % 8, 0);
      assert.equal((x * 4) % MSIZE, 0);
      m_free(x);
    }
    nothing_left();
  });
  test('the type MT_NOINIT leaves the mbuf as it is', () => {
    up();
    const a = m_get(M_NOWAIT, MT_CONTROL);
    mbuf.len[a] = 77;
    m_free(a);
    const b = m_get(M_NOWAIT, MT_NOINIT);
    assert.equal(b, a, 'the last one freed');
    assert.deepEqual([mbuf.len[b], mbuf.type[b]], [77, MT_CONTROL]);
    m_free(b);
  });
  test('clusters of each size: their room, their type, their count', () => {
    up();
    for (const [size, type] of [
      [MCLBYTES, EXT_PACKET],
      [MJUMPAGESIZE, EXT_JUMBOP],
      [MJUM9BYTES, EXT_JUMBO9],
      [MJUM16BYTES, EXT_JUMBO16],
    ]) {
      const a = m_getjcl(M_NOWAIT, MT_DATA, M_PKTHDR | M_EOR, size);
      assert.equal(mbuf.flags[a], M_PKTHDR | M_EOR | M_EXT);
      assert.equal(mbuf.ext_type[a], type);
      assert.equal(word(mbuf.ext_ref[a]), 1);
      assert.deepEqual([M_LEADINGSPACE(a), M_TRAILINGSPACE(a)], [0, size]);
      m_free(a);
    }
    panics(() => m_getjcl(M_NOWAIT, MT_DATA, 0, 5000), /no cluster has this size/);
  });
  test('m_clget, m_cljget, m_cljset attach; an mbuf that has storage keeps it', () => {
    up();
    const said: string[] = [];
    const print = kconsole.print;
    kconsole.print = (text) => void said.push(text);
    const a = m_get(M_NOWAIT, MT_DATA);
    m_clget(a, M_NOWAIT);
    assert.equal(mbuf.ext_type[a], EXT_CLUSTER);
    const had = mbuf.buf[a];
    m_clget(a, M_NOWAIT);
    assert.equal(m_cljget(a, M_NOWAIT, MJUMPAGESIZE), 0);
    assert.equal(mbuf.buf[a], had);
    assert.equal(said.filter((s) => s.includes('already has M_EXT')).length, 2);
    kconsole.print = print;
    const b = m_get(M_NOWAIT, MT_DATA);
    const loose = m_cljget(NONE, M_NOWAIT, MJUM9BYTES);
    m_cljset(b, loose, EXT_JUMBO9);
    assert.deepEqual([mbuf.buf[b], mbuf.ext_size[b]], [loose, MJUM9BYTES]);
    assert.equal(word(mbuf.ext_ref[b]), 1);
    panics(() => m_cljset(b, loose, EXT_NET_DRV), /unknown cluster type/);
  });
  test('m_getm2 takes a size of cluster for what is left; only two flags count', () => {
    up();
    for (const [len, header, wanted] of [
      [1, false, '0'],
      [MHLEN, true, '0'],
      [MINCLSIZE - 1, false, '0'],
      [MINCLSIZE, false, '0e'],
      [MCLBYTES, true, '0e'],
      [MCLBYTES + 1, true, '0e'],
      [MJUMPAGESIZE + 1, true, '0e 0'],
      [MJUMPAGESIZE + MCLBYTES + 1, false, '0e 0e'],
    ] as const) {
      const flags = (header ? M_PKTHDR : 0) | M_EOR | M_BCAST;
      const a = m_getm2(NONE, len, M_NOWAIT, MT_DATA, flags);
      const list = mbufs_of(a);
      assert.equal(shape(a), wanted, `${len}`);
      const given = list.map((at) => mbuf.flags[at] & ~M_EXT);
      const expected = list.map(
        (_, i) => (header && i === 0 ? M_PKTHDR : 0) | (i === list.length - 1 ? M_EOR : 0),
      );
      assert.deepEqual(given, expected);
      m_freem(a);
    }
    assert.equal(m_getm2(NONE, 0, M_NOWAIT, MT_DATA, M_PKTHDR), NONE);
    nothing_left();
  });
  test('m_getm2 behind a chain: its tail loses M_EOR, no header comes inside', () => {
    up();
    const a = chain([hdr(10), m(20)]);
    const tail = mbuf.next[a];
    mbuf.flags[tail] |= M_EOR;
    assert.equal(m_getm(a, 300, M_NOWAIT, MT_DATA), a);
    assert.equal(shape(a), '10 20 0e');
    assert.equal(mbuf.flags[tail] & M_EOR, 0);
    whole(a, 0, 30);
    m_freem(a);
    nothing_left();
  });
});

describe('release', () => {
  test('a shared packet cluster goes back with the mbuf that drops it last', () => {
    up();
    for (const order of [
      [0, 1, 2],
      [2, 1, 0],
      [1, 0, 2],
    ]) {
      const a = chain([clhdr(100)]);
      const all = [a, m_copypacket(a, M_NOWAIT), m_copym(a, 0, M_COPYALL, M_NOWAIT)];
      assert.equal(word(mbuf.ext_ref[a]), 3);
      assert.ok(all.every((x) => mbuf.buf[x] === mbuf.buf[a]));
      for (const i of order) m_freem(all[i]);
      nothing_left(`${order}`);
    }
  });
  test('m_free gives the next; a packet header takes its tags along', () => {
    up();
    const a = chain([hdr(1), m(2)]);
    m_tag_prepend(a, m_tag_get(1, 10, M_NOWAIT));
    const next = mbuf.next[a];
    assert.equal(m_free(a), next);
    assert.equal(malloc_type_sums(malloc_type_attach('mbuf_tag')).inuse, 0);
    assert.equal(m_free(next), NONE);
    m_freem(NONE);
    nothing_left();
  });
  test('M_NOFREE: the storage goes, the mbuf stays', () => {
    up();
    const before = in_use();
    const a = m_get(M_NOWAIT, MT_DATA);
    m_clget(a, M_NOWAIT);
    mbuf.flags[a] |= M_NOFREE;
    m_free(a);
    assert.deepEqual(in_use(), { ...before, mbufs: before.mbufs + 1 });
    assert.equal(mbuf.flags[a] & (M_EXT | M_NOFREE), M_NOFREE);
    assert.equal(mbuf.buf[a], a);
    mbuf.flags[a] = 0;
    m_free(a);
    nothing_left();
  });
  test('INVARIANTS: a cluster that others share is not freed, a packet not twice', () => {
    up();
    const a = chain([clhdr(5)]);
    const loose = m_cljget(NONE, M_NOWAIT, MCLBYTES);
    const b = m_get(M_NOWAIT, MT_DATA);
    m_cljset(b, loose, EXT_CLUSTER);
    mem.I32[mbuf.ext_ref[b]] = 2;
    panics(() => uma_zfree_arg(mb_root.clust[mb()] as zone_t, loose, 0), /the cluster is shared/);
    assert.notEqual(a, NONE);
  });
  test('INVARIANTS: an mbuf freed twice', () => {
    up();
    const a = chain([m(5)]);
    m_free(a);
    panics(() => m_free(a), /Duplicate free/);
  });
});

describe('storage from elsewhere', () => {
  const calls: [number, number][] = [];
  const note = vector('mbuf_test_free', (a: number, b: number) => void calls.push([a, b]));
  const lend = (flags: number): { top: mbuf_t; block: number } => {
    const block = malloc(1000, malloc_type_attach('lent'), M_NOWAIT);
    const top = m_gethdr(M_NOWAIT, MT_DATA);
    m_extadd(top, block, 1000, note, 11, 22, flags, EXT_NET_DRV);
    mbuf.len[top] = 1000;
    mbuf.plen[top] = 1000;
    return { top, block };
  };
  test('its free routine is called once, by whoever lets go last', () => {
    up();
    calls.length = 0;
    const { top, block } = lend(0);
    assert.deepEqual([mtod(top), M_TRAILINGSPACE(top)], [block * 4, 0]);
    const copy = m_copypacket(top, M_NOWAIT);
    const tail = m_copym(top, 900, 50, M_NOWAIT);
    assert.equal(in_use().counts, 1);
    m_freem(top);
    m_freem(tail);
    assert.deepEqual(calls, []);
    m_freem(copy);
    assert.deepEqual(calls, [[11, 22]]);
    free(block, malloc_type_attach('lent'));
    nothing_left();
  });
  test('M_RDONLY goes along with every copy, and nothing writes it', () => {
    up();
    calls.length = 0;
    const { top } = lend(M_RDONLY);
    assert.deepEqual([M_WRITABLE(top), M_LEADINGSPACE(top), M_TRAILINGSPACE(top)], [false, 0, 0]);
    const copy = m_copym(top, 10, 20, M_NOWAIT);
    m_freem(top);
    assert.equal(word(mbuf.ext_ref[copy]), 1);
    assert.equal(M_WRITABLE(copy), false, 'alone, and still not to be written');
    assert.equal(m_append(copy, 5, bytes(0, 5), 0), 1);
    assert.equal(shape(copy), '20e 5');
    m_freem(copy);
    assert.equal(calls.length, 1);
    nothing_left();
  });
  test('EXT_EXTREF: the count is the lender’s own', () => {
    up();
    calls.length = 0;
    const type = malloc_type_attach('lent');
    const count = malloc(16, type, M_NOWAIT);
    mem.I32[count] = 1; // the lender's own reference
    const top = m_get(M_NOWAIT, MT_DATA);
    m_extaddref(top, count, 16, count, note, 1, 2);
    assert.deepEqual([mbuf.ext_type[top], word(count)], [EXT_EXTREF, 2]);
    assert.equal(M_WRITABLE(top), false);
    assert.equal(in_use().counts, 0, 'no count of ours');
    m_free(top);
    assert.equal(word(count), 1);
    assert.deepEqual(calls, [], 'the lender still refers to it');
    free(count, type);
    nothing_left();
  });
  test('clusters do not come by m_extadd', () => {
    up();
    const top = m_get(M_NOWAIT, MT_DATA);
    panics(() => m_extadd(top, 0, 1, 0, 0, 0, 0, EXT_CLUSTER), /clusters come from m_clget/);
  });
});

describe('copies', () => {
  const flags = M_EOR | M_BCAST | M_MCAST | M_PROTO1 | M_VLANTAG;
  const packet = (): mbuf_t => {
    const a = chain([clhdr(500), m(200), jumbo(MJUMPAGESIZE, 3000)]);
    mbuf.flags[a] |= flags | M_FREELIST;
    mbuf.rcvif[a] = 4;
    mbuf.csum_data[a] = 5;
    m_tag_prepend(a, m_tag_get(3, 0, M_NOWAIT));
    return a;
  };
  const headers_like = (a: mbuf_t): void => {
    assert.equal(mbuf.flags[a] & M_COPYFLAGS, flags | M_PKTHDR);
    assert.equal(mbuf.flags[a] & M_FREELIST, 0, 'is no business of a copy');
    assert.deepEqual([mbuf.rcvif[a], mbuf.csum_data[a]], [4, 5]);
    assert.equal(m_tag.id[mbuf.tags[a]], 3);
  };
  test('m_copym shares clusters, copies the rest; a header only from the start', () => {
    up();
    const a = packet();
    const b = m_copym(a, 0, 600, M_NOWAIT);
    whole(b, 0, 600);
    assert.equal(shape(b), '500e 100');
    headers_like(b);
    const c = m_copym(a, 1, M_COPYALL, M_NOWAIT);
    whole(c, 1, 3700);
    assert.equal(mbuf.flags[c] & M_PKTHDR, 0);
    const d = m_copym(a, 700, 10, M_NOWAIT);
    assert.equal(shape(d), '10e');
    assert.equal(mbuf.buf[d], mbuf.buf[mbufs_of(a)[2]]);
    assert.equal(m_copym(a, 3700, M_COPYALL, M_NOWAIT), NONE, 'nothing is left there');
    for (const x of [a, b, c, d]) m_freem(x);
    nothing_left();
  });
  test('m_copym, m_copydata, m_apply behind the end panic', () => {
    const to = new Uint8Array(9);
    for (const [fn, text] of [
      [(a: mbuf_t) => m_copym(a, 0, 11, M_NOWAIT), /m_copym/],
      [(a: mbuf_t) => m_copym(a, 11, M_COPYALL, M_NOWAIT), /m_copym: offset behind the end/],
      [(a: mbuf_t) => m_copym(a, -1, 5, M_NOWAIT), /m_copym: negative/],
      [(a: mbuf_t) => m_copydata(a, 5, 6, to, 0), /m_copydata: length behind the end/],
      [(a: mbuf_t) => m_copydata(a, 11, 1, to, 0), /m_copydata: offset behind the end/],
      [(a: mbuf_t) => m_copydata(a, 0, -1, to, 0), /m_copydata: negative/],
      [(a: mbuf_t) => m_apply(a, 5, 6, () => 0), /m_apply: length behind the end/],
    ] as const) {
      up();
      panics(() => fn(chain([hdr(4), m(6)])), text);
      down();
    }
  });
  test('m_copypacket keeps the place of the first data', () => {
    up();
    const a = chain([hdr(20, 70), m(30)]);
    const b = m_copypacket(a, M_NOWAIT);
    whole(b, 0, 50);
    assert.equal(M_LEADINGSPACE(b), 70);
    for (const x of [a, b]) m_freem(x);
    const c = packet();
    const d = m_copypacket(c, M_NOWAIT);
    headers_like(d);
    assert.equal(shape(d), shape(c));
    for (const x of [c, d]) m_freem(x);
    nothing_left();
  });
  test('m_dup shares nothing, may be written, and packs', () => {
    up();
    const a = packet();
    const b = m_dup(a, M_NOWAIT);
    whole(b, 0, 3700);
    headers_like(b);
    assert.equal(shape(b), '2048e 1652e');
    assert.ok(mbufs_of(b).every(M_WRITABLE));
    for (const x of [a, b]) m_freem(x);
    for (const [len, wanted] of [
      [0, '0'],
      [MHLEN, `${MHLEN}`],
      [MINCLSIZE, `${MINCLSIZE}e`],
    ] as const) {
      const e = chain([clhdr(len)]);
      const f = m_dup(e, M_NOWAIT);
      assert.equal(shape(f), wanted);
      whole(f, 0, len);
      for (const x of [e, f]) m_freem(x);
    }
    assert.equal(m_dup(NONE, M_NOWAIT), NONE);
    nothing_left();
  });
  test('the copy of a read-only packet may be written', () => {
    up();
    const a = chain([clhdr(300)]);
    mbuf.flags[a] |= M_RDONLY;
    const b = m_dup(a, M_NOWAIT);
    assert.ok(M_WRITABLE(b));
    for (const x of [a, b]) m_freem(x);
  });
});

describe('bytes in and out', () => {
  test('m_append fills the last mbuf, then mbufs, never clusters; the length goes up', () => {
    up();
    const a = chain([hdr(10), cl(2000)]);
    assert.equal(m_append(a, 400, bytes(2010, 2500), 0), 1);
    assert.equal(shape(a), '10 2048e 216 136');
    whole(a, 0, 2410);
    const shared = m_copym(a, 10, 2048, M_NOWAIT);
    assert.equal(m_append(shared, 1, bytes(0, 1), 0), 1);
    assert.equal(shape(shared), '2048e 1', 'others share the cluster');
    assert.equal(m_append(shared, -1, bytes(0, 1), 0), 0);
    assert.equal(shape(shared), '2048e 1', 'a negative length appends nothing');
    for (const x of [a, shared]) m_freem(x);
    nothing_left();
  });
  test('m_copyback overwrites, grows, and fills holes with zeros', () => {
    up();
    const a = chain([hdr(100), m(50)]);
    assert.equal(m_copyback(a, 90, 30, bytes(90, 120), 0), 1);
    whole(a, 0, 150);
    assert.equal(m_copyback(a, 150, 300, bytes(0, 450), 150), 1);
    whole(a, 0, 450);
    assert.equal(shape(a), '100 216 134');
    // A hole: first the room of the last mbuf, then zeroed mbufs; none of it is what lay there.
    const old = chain([m(216)]);
    m_free(old);
    assert.equal(m_copyback(a, 1000, 10, bytes(1000, 1010), 0), 1);
    const got = bytes_of(a);
    assert.deepEqual(got.slice(0, 450), bytes(0, 450));
    assert.ok(got.subarray(450, 1000).every((b) => b === 0));
    assert.deepEqual(got.slice(1000), bytes(1000, 1010));
    assert.equal(m_sanity(a), '');
    m_freem(a);
    nothing_left();
  });
  test('m_copyback inside does not touch the length', () => {
    up();
    const a = chain([hdr(100), m(50)]);
    m_copyback(a, 10, 20, bytes(10, 30), 0);
    assert.equal(mbuf.plen[a], 150);
    m_copyback(a, 0, 0, bytes(0, 0), 0);
    whole(a, 0, 150);
    m_freem(a);
  });
  test('m_copyback does not grow into a cluster that others share', () => {
    up();
    const a = chain([clhdr(100)]);
    const b = m_copypacket(a, M_NOWAIT);
    assert.equal(m_copyback(b, 100, 5, bytes(100, 105), 0), 1);
    assert.equal(shape(b), '100e 5');
    whole(a, 0, 100);
    whole(b, 0, 105);
    for (const x of [a, b]) m_freem(x);
  });
  test('m_devget: room in front, a cluster as soon as an mbuf does not hold it', () => {
    up();
    for (const [len, off, wanted] of [
      [0, 0, '0'],
      [MHLEN, 0, `${MHLEN}`],
      [MHLEN - 14, 14, `${MHLEN - 14}`],
      [MHLEN - 13, 14, `${MHLEN - 13}e`],
      [MCLBYTES, 0, `${MCLBYTES}e`],
      [MCLBYTES, 14, `${MCLBYTES - 14}e 14`],
      [5000, 0, '2048e 2048e 904e'],
    ] as const) {
      const a = m_devget(bytes(0, len), 0, len, off, 6);
      assert.equal(shape(a), wanted, `${len} ${off}`);
      assert.deepEqual([mbuf.rcvif[a], M_LEADINGSPACE(a)], [6, off]);
      whole(a, 0, len);
      m_freem(a);
    }
    assert.equal(m_devget(bytes(0, 1), 0, 1, MHLEN + 1, 0), NONE);
    assert.equal(m_devget(bytes(0, 1), 0, -1, 0, 0), NONE);
    nothing_left();
  });
  test('m_getptr finds each byte, the end, and nothing behind it', () => {
    up();
    const a = chain([hdr(3), m(0), m(4), m(0)]);
    const list = mbufs_of(a);
    const places = [0, 2, 3, 6, 7, 8].map((loc) => {
      const p = m_getptr(a, loc);
      return [list.indexOf(p.m), p.off];
    });
    assert.deepEqual(places, [
      [0, 0],
      [0, 2],
      [2, 0],
      [2, 3],
      [3, 0],
      [-1, 0],
    ]);
    const one = chain([m(5)]);
    assert.deepEqual(m_getptr(one, 5), { m: one, off: 5 });
    for (const x of [a, one]) m_freem(x);
  });
  test('m_apply stops where it is told to', () => {
    up();
    const a = chain([hdr(3), m(4), m(5)]);
    const seen: number[] = [];
    assert.equal(
      m_apply(a, 1, 10, (_, len) => (seen.push(len) === 2 ? 42 : 0)),
      42,
    );
    assert.deepEqual(seen, [2, 4]);
    m_freem(a);
  });
  test('m_length, and room by m_align', () => {
    up();
    const a = chain([hdr(3), m(4)]);
    assert.deepEqual(m_length(a), { len: 7, last: mbuf.next[a] });
    const b = m_get(M_NOWAIT, MT_DATA);
    m_align(b, 13);
    assert.deepEqual([M_LEADINGSPACE(b), M_TRAILINGSPACE(b)], [200, 16]);
    for (const x of [a, b]) m_freem(x);
  });
});

describe('packet headers', () => {
  test('m_move_pkthdr takes the tags along and leaves a plain mbuf', () => {
    up();
    const a = chain([hdr(10)]);
    m_tag_prepend(a, m_tag_get(5, 4, M_NOWAIT));
    const to = m_getcl(M_NOWAIT, MT_DATA, 0);
    m_move_pkthdr(to, a);
    assert.equal(mbuf.flags[a], 0);
    assert.equal(mbuf.flags[to], M_PKTHDR | M_EXT);
    assert.equal(mbuf.off[to], 0, 'the place in a cluster stays');
    assert.equal(m_tag.id[m_tag_find(to, 5)], 5);
    m_freem(a);
    m_freem(to);
    assert.equal(malloc_type_sums(malloc_type_attach('mbuf_tag')).inuse, 0);
    nothing_left();
  });
  test('m_dup_pkthdr copies tags; those it had before go', () => {
    up();
    const from = chain([hdr(10)]);
    for (const id of [1, 2]) m_tag_prepend(from, m_tag_get(id, 4, M_NOWAIT));
    const to = chain([hdr(10)]);
    m_tag_prepend(to, m_tag_get(9, 4, M_NOWAIT));
    assert.equal(m_dup_pkthdr(to, from, M_NOWAIT), 1);
    assert.equal(malloc_type_sums(malloc_type_attach('mbuf_tag')).inuse, 4);
    assert.equal(m_tag_find(to, 9), NULL);
    for (const x of [from, to]) m_freem(x);
    assert.equal(malloc_type_sums(malloc_type_attach('mbuf_tag')).inuse, 0);
  });
  test('m_demote: all headers, or those behind the first', () => {
    up();
    const a = chain([hdr(1)]);
    const b = chain([hdr(2)]);
    mbuf.next[a] = b;
    assert.match(m_sanity(a), /a packet header inside/);
    m_demote(a, false);
    assert.deepEqual([mbuf.flags[a], mbuf.flags[b]], [M_PKTHDR, 0]);
    m_demote(a, true);
    assert.equal(mbuf.flags[a], 0);
    m_freem(a);
  });
});

describe('m_sanity says what is wrong', () => {
  const wrong: [string, (a: mbuf_t, b: mbuf_t) => void, RegExp][] = [
    ['off', (a) => void (mbuf.off[a] = 80), /begins before its storage/],
    ['len', (a) => void (mbuf.len[a] = -1), /length -1/],
    ['end', (_, b) => void (mbuf.len[b] = MCLBYTES + 1), /ends behind its storage/],
    ['buf', (a) => void (mbuf.buf[a] = a + 64), /storage is not its own/],
    ['count', (_, b) => void (mem.I32[mbuf.ext_ref[b]] = 0), /count below 1/],
    ['header', (_, b) => void (mbuf.flags[b] |= M_PKTHDR), /a packet header inside/],
    ['nextpkt', (a, b) => void (mbuf.nextpkt[b] = a), /nextpkt inside/],
    ['plen', (a) => void mbuf.plen[a]++, /packet length 111, data 110/],
  ];
  for (const [what, spoil, text] of wrong) {
    test(what, () => {
      up();
      const a = chain([hdr(10), cl(100)]);
      assert.equal(m_sanity(a), '');
      spoil(a, mbuf.next[a]);
      assert.match(m_sanity(a), text);
    });
  }
});

describe('tags', () => {
  test('found by cookie and id, behind another; unlinked; persistent ones stay', () => {
    up();
    const a = chain([hdr(1)]);
    const ids = [1, MTAG_PERSISTENT | 1, 1, 2];
    const tags = ids.map((id) => m_tag_get(id, 3, M_NOWAIT));
    for (const t of tags) m_tag_prepend(a, t);
    const foreign = m_tag_alloc(77, 1, 3, M_NOWAIT);
    m_tag_prepend(a, foreign);
    assert.equal(m_tag_find(a, 1), tags[2]);
    assert.equal(m_tag_find(a, 1, tags[2]), tags[0]);
    assert.equal(m_tag_find(a, 1, tags[0]), NULL);
    assert.equal(m_tag_locate(a, 77, 1), foreign);
    m_tag_unlink(a, tags[2]);
    m_tag_free(tags[2]);
    assert.equal(m_tag_find(a, 1), tags[0]);
    m_tag_delete_nonpersistent(a);
    assert.equal(mbuf.tags[a], tags[1]);
    assert.equal(m_tag.link[tags[1]], NULL);
    m_tag_delete_chain(a);
    assert.equal(mbuf.tags[a], NULL);
    assert.equal(m_tag_alloc(0, 0, -1, M_NOWAIT), NULL);
    assert.equal(malloc_type_sums(malloc_type_attach('mbuf_tag')).inuse, 0);
  });
  test('m_tag_delete_chain from a tag on leaves those before it', () => {
    up();
    const a = chain([hdr(1)]);
    const tags = [1, 2, 3].map((id) => m_tag_get(id, 3, M_NOWAIT));
    for (const t of tags) m_tag_prepend(a, t);
    m_tag_delete_chain(a, tags[1]);
    assert.equal(mbuf.tags[a], tags[2]);
    assert.equal(m_tag.link[tags[2]], NULL);
    m_freem(a);
  });
  test('a tag with a free routine of its own: a copy comes from malloc and goes back there', () => {
    up();
    const gone: number[] = [];
    const routine = vector('mbuf_test_tag_free', (t: number) => void gone.push(t));
    const t = m_tag_get(1, 8, M_NOWAIT);
    mem.I32[m_tag_data(t) >> 2] = 1234;
    m_tag.free[t] = routine;
    const copy = m_tag_copy(t, M_NOWAIT);
    assert.equal(mem.I32[m_tag_data(copy) >> 2], 1234);
    m_tag_free(copy);
    assert.deepEqual(gone, []);
    assert.equal(malloc_type_sums(malloc_type_attach('mbuf_tag')).inuse, 1);
    m_tag_free(t);
    assert.deepEqual(gone, [t]);
  });
});
