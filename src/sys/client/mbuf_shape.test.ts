/*
 * Shows what becomes of a chain when its shape changes: which mbufs come out,
 * that the bytes are the same, and what the calls do where a request cannot be
 * met (freed or kept).  One small chain for each edge.
 */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { counter_get } from '../machine/counter.ts';
import { mem } from '../machine/memory.ts';
import { SEED, dice } from '../machine/seed.test.lib.ts';
import { NULL } from '../machine/struct.ts';
import { M_NOWAIT } from '../h/malloc_flags.ts';
import {
  M_COPYALL,
  M_PKTHDR,
  M_RDONLY,
  mbuf,
  type mbuf_t,
  MCLBYTES,
  MHLEN,
  MJUM16BYTES,
  MJUM9BYTES,
  MJUMPAGESIZE,
  MLEN,
  MT_DATA,
  mtod,
} from '../h/mbuf.ts';
import { m_clget, m_get } from './kern_mbuf.ts';
import { bytes_of, mbufs_of } from './mbuf.model.ts';
import {
  byte,
  bytes,
  chain,
  cl,
  clhdr,
  down,
  hdr,
  jumbo,
  m,
  NONE,
  nothing_left,
  panics,
  type Piece,
  shape,
  up,
  whole,
} from './mbuf.test.lib.ts';
import {
  M_LEADINGSPACE,
  M_WRITABLE,
  m_copym,
  m_copypacket,
  m_freem,
  m_mpfail,
  m_sanity,
} from './uipc_mbuf.ts';
import {
  M_PREPEND,
  m_adj,
  m_cat,
  m_collapse,
  m_copyup,
  m_defrag,
  m_fragment,
  m_prepend,
  m_pulldown,
  m_pullup,
  m_split,
  m_unshare,
} from './uipc_mbuf_shape.ts';
import { m_tag_find, m_tag_get, m_tag_prepend } from './uipc_mbuf_tag.ts';

afterEach(down);

/** A cluster from the cluster zone behind an mbuf: what m_pulldown takes for its own. */
function own_cluster(len: number, from: number): mbuf_t {
  const n = m_get(M_NOWAIT, MT_DATA);
  m_clget(n, M_NOWAIT);
  mbuf.len[n] = len;
  mem.U8.set(bytes(from, from + len), mtod(n));
  return n;
}
function tag(a: mbuf_t): void {
  m_tag_prepend(a, m_tag_get(5, 0, M_NOWAIT));
}
const has_tag = (a: mbuf_t): boolean => m_tag_find(a, 5) !== NULL;

describe('at the ends', () => {
  test('M_PREPEND uses the room in front; else a new mbuf takes the header', () => {
    up();
    const a = chain([hdr(20, 50)], 100);
    tag(a);
    assert.equal(M_PREPEND(a, 50, M_NOWAIT), a);
    assert.deepEqual([shape(a), mbuf.plen[a], M_LEADINGSPACE(a)], ['70', 70, 0]);
    mem.U8.set(bytes(50, 100), mtod(a));
    const b = M_PREPEND(a, 10, M_NOWAIT);
    assert.deepEqual([shape(b), mbuf.plen[b]], ['10 70', 80]);
    assert.equal(M_LEADINGSPACE(b), (MHLEN - 10) & ~7, 'its data lie at the end of its room');
    assert.ok(has_tag(b));
    mem.U8.set(bytes(40, 50), mtod(b));
    whole(b, 40, 120);
    m_freem(b);
    nothing_left();
  });
  test('M_PREPEND never writes in front of shared or read-only data', () => {
    up();
    const a = chain([clhdr(100, 60)]);
    const b = m_copypacket(a, M_NOWAIT);
    const c = M_PREPEND(b, 10, M_NOWAIT);
    assert.equal(shape(c), '10 100e');
    m_freem(c);
    mbuf.flags[a] |= M_RDONLY;
    const d = M_PREPEND(a, 10, M_NOWAIT);
    assert.equal(shape(d), '10 100e');
    m_freem(d);
    nothing_left();
  });
  test('m_prepend: up to all the room of an mbuf, and not a byte more', () => {
    for (const [plan, most] of [
      [hdr(5), MHLEN],
      [m(5), MLEN],
    ] as const) {
      up();
      const a = m_prepend(chain([plan]), most, M_NOWAIT);
      assert.deepEqual([shape(a), M_LEADINGSPACE(a)], [`${most} 5`, 0]);
      m_freem(a);
      nothing_left();
      panics(() => m_prepend(chain([plan]), most + 1, M_NOWAIT), /no mbuf holds so much/);
      down();
    }
  });
  const adjusted: [number, string, number, number][] = [
    [0, '10 20 30', 0, 60],
    [9, '1 20 30', 9, 60],
    [10, '0 20 30', 10, 60],
    [35, '0 0 25', 35, 60],
    [60, '0 0 0', 60, 60],
    [99, '0 0 0', 60, 60],
    [-1, '10 20 29', 0, 59],
    [-30, '10 20', 0, 30],
    [-31, '10 19', 0, 29],
    [-50, '10', 0, 10],
    [-59, '1', 0, 1],
    [-60, '0', 0, 0],
    [-99, '0', 0, 0],
  ];
  for (const [n, wanted, from, to] of adjusted) {
    test(`m_adj by ${n}`, () => {
      up();
      const a = chain([hdr(10), m(20), m(30)]);
      m_adj(a, n);
      assert.equal(shape(a), wanted);
      whole(a, from, to);
      m_freem(a);
      nothing_left();
    });
  }
  test('m_adj of no chain does nothing', () => m_adj(NONE, 5));
});

describe('m_cat', () => {
  const cats: [string, Piece[], Piece[], string][] = [
    ['what fits is copied', [hdr(100)], [m(68)], '168'],
    ['one byte too much is linked', [hdr(100)], [m(69)], '100 69'],
    ['copied until it does not fit', [hdr(100)], [m(60), m(9), m(1)], '160 9 1'],
    ['into a cluster of its own', [hdr(10), cl(1000)], [m(100), cl(900)], '10 2000e'],
  ];
  for (const [what, front, back, wanted] of cats) {
    test(what, () => {
      up();
      const len = front.reduce((n, p) => n + p.len, 0);
      const a = chain(front);
      const b = chain(back, len);
      const all = len + back.reduce((n, p) => n + p.len, 0);
      m_cat(a, b);
      assert.equal(shape(a), wanted);
      assert.equal(mbuf.plen[a], len, 'the packet length is the caller’s business');
      assert.deepEqual(bytes_of(a), bytes(0, all));
      m_freem(a);
      nothing_left();
    });
  }
  test('not into a cluster that others share', () => {
    up();
    const a = chain([clhdr(100)]);
    const b = m_copypacket(a, M_NOWAIT);
    m_cat(a, chain([m(5)], 100));
    assert.equal(shape(a), '100e 5');
    whole(b, 0, 100);
    for (const x of [a, b]) m_freem(x);
    nothing_left();
  });
});

describe('m_pullup and m_copyup', () => {
  const ups: [string, Piece[], number, string | null][] = [
    ['already there', [hdr(50), m(50)], 50, '50 50'],
    ['from the next', [hdr(50), m(50), m(50)], 60, '100 50'],
    ['as many as protocols want, where there is room', [hdr(10), m(200)], 20, '70 140'],
    ['from several', [hdr(1), m(1), m(1), m(1), cl(100)], 5, '64 40e'],
    ['all of MHLEN', [hdr(10), cl(1000)], MHLEN, '168 842e'],
    ['out of a cluster into a new mbuf', [clhdr(1000), m(9)], 40, '60 940e 9'],
    ['a packet of one mbuf is moved all the same', [hdr(100)], 40, '60 40'],
    ['over an empty one', [hdr(0), m(0), m(30), m(7)], 30, '30 7'],
    ['all there is', [hdr(5), m(6)], 11, '11'],
    ['one byte more than there is', [hdr(5), m(6)], 12, null],
    ['more than an mbuf holds', [hdr(10), cl(1000)], MHLEN + 1, null],
    ['no room behind what lies there', [hdr(100, 60), cl(100)], 109, '160 40e'],
  ];
  for (const [what, plan, len, wanted] of ups) {
    test(`m_pullup: ${what}`, () => {
      up();
      const a = chain(plan);
      tag(a);
      const all = plan.reduce((n, p) => n + p.len, 0);
      const failed = counter_get(m_mpfail);
      const b = m_pullup(a, len);
      assert.equal(b === NONE, wanted === null);
      assert.equal(counter_get(m_mpfail) - failed, wanted === null ? 1 : 0);
      if (b !== NONE) {
        assert.equal(shape(b), wanted);
        whole(b, 0, all);
        assert.ok(has_tag(b));
        m_freem(b);
      }
      nothing_left();
    });
  }
  test('m_pullup leaves a cluster that others share to them', () => {
    up();
    const a = chain([clhdr(1000)]);
    const b = m_copypacket(a, M_NOWAIT);
    const c = m_pullup(b, 40);
    mem.U8.fill(0, mtod(c), mtod(c) + 40);
    whole(a, 0, 1000);
    for (const x of [a, c]) m_freem(x);
    nothing_left();
  });
  test('m_copyup leaves room in front; a byte more than fits frees the chain', () => {
    up();
    const a = m_copyup(chain([hdr(50), cl(500)]), 100, 40);
    assert.deepEqual([shape(a), M_LEADINGSPACE(a)], ['110 440e', 40]);
    whole(a, 0, 550);
    m_freem(a);
    const b = m_copyup(chain([hdr(50), cl(500)]), MHLEN - 40, 40);
    whole(b, 0, 550);
    m_freem(b);
    assert.equal(m_copyup(chain([hdr(50), cl(500)]), MHLEN - 39, 40), NONE);
    assert.equal(m_copyup(chain([hdr(50)]), 51, 0), NONE);
    nothing_left();
  });
});

describe('m_pulldown', () => {
  /** [what, chain, offset, length, whether a place in the mbuf is wanted, shape, mbuf, place] */
  type Row = [string, Piece[], number, number, boolean, string, number, number];
  const rows: Row[] = [
    ['in one piece already', [hdr(50), m(100)], 60, 30, true, '50 100', 1, 10],
    ['at the first byte of an mbuf', [hdr(50), m(100)], 50, 100, false, '50 100', 1, 0],
    ['cut off, to begin an mbuf', [hdr(50), m(100)], 60, 30, false, '50 10 90', 2, 0],
    [
      'into the room behind the first part',
      [hdr(50), m(60), m(70)],
      60,
      80,
      true,
      '50 90 40',
      1,
      10,
    ],
    [
      'into the room before the second part',
      [hdr(50), m(206), m(50, 60)],
      246,
      30,
      true,
      '50 196 60',
      2,
      0,
    ],
    ['into a new mbuf', [hdr(50), m(216), m(216)], 200, 100, true, '50 150 100 182', 2, 0],
    [
      'into a new cluster',
      [hdr(50), cl(2000), cl(2000)],
      100,
      2048,
      true,
      '50 50e 2048e 1902e',
      2,
      0,
    ],
    ['a packet’s cluster is not written', [hdr(50), cl(100)], 60, 10, true, '50 10e 90', 2, 0],
    ['over empty mbufs', [hdr(50), m(0), m(20), m(0), m(30)], 60, 30, true, '50 0 40 0 10', 2, 10],
    [
      'out of a jumbo cluster',
      [hdr(50), jumbo(MJUMPAGESIZE, 4000)],
      60,
      10,
      true,
      '50 10e 2048e 1942e',
      2,
      0,
    ],
  ];
  for (const [what, plan, off, len, place_ok, wanted, nth, at] of rows) {
    test(what, () => {
      up();
      const a = chain(plan);
      const place = { off: -1 };
      const n = m_pulldown(a, off, len, place_ok ? place : null);
      assert.equal(shape(a), wanted);
      assert.deepEqual([mbufs_of(a).indexOf(n), place_ok ? place.off : at], [nth, at]);
      whole(
        a,
        0,
        plan.reduce((sum, p) => sum + p.len, 0),
      );
      assert.equal(mem.U8[mtod(n) + at], byte(off));
      m_freem(a);
      nothing_left();
    });
  }
  test('the cluster of its own is written in place', () => {
    up();
    const a = chain([hdr(50)]);
    mbuf.next[a] = own_cluster(100, 50);
    mbuf.next[mbuf.next[a]] = chain([m(40)], 150);
    mbuf.plen[a] = 190;
    const place = { off: 0 };
    const n = m_pulldown(a, 60, 100, place);
    assert.deepEqual([shape(a), n, place.off], ['50 110e 30', mbuf.next[a], 10]);
    whole(a, 0, 190);
    m_freem(a);
    nothing_left();
  });
  test('the same cluster, shared: not written', () => {
    up();
    const a = chain([hdr(50)]);
    mbuf.next[a] = own_cluster(100, 50);
    mbuf.plen[a] = 150;
    const b = m_copypacket(a, M_NOWAIT);
    const n = m_pulldown(a, 60, 20, { off: 0 });
    mem.U8.fill(0, mtod(n), mtod(n) + 20);
    whole(b, 0, 150);
    for (const x of [a, b]) m_freem(x);
    nothing_left();
  });
  test('what cannot be: the chain is freed', () => {
    up();
    for (const [off, len] of [
      [0, MCLBYTES + 1],
      [100, 2000],
      [2049, 1],
      [3000, 1],
      [2049, 0],
      [0, -1],
    ]) {
      assert.equal(m_pulldown(chain([hdr(49), cl(2000)]), off, len, { off: 0 }), NONE);
      nothing_left(`${off} ${len}`);
    }
  });
});

describe('m_split', () => {
  const splits: [string, Piece[], number, string, string | null][] = [
    ['in an mbuf', [hdr(100), m(50)], 40, '40', '60 50'],
    ['in a cluster: shared', [hdr(100), cl(500)], 300, '100 200e', '300e'],
    ['between two', [hdr(100), m(50)], 100, '100', '0 50'],
    ['at the end', [hdr(100), m(50)], 150, '100 50', '0'],
    ['at the start', [hdr(100), m(50)], 0, '0', '100 50'],
    ['more than fits behind a header', [hdr(10), m(216)], 20, '10 10', '0 206'],
    ['without a header, between', [m(100), m(50)], 100, '100', '50'],
    ['without a header, inside', [m(100), m(216)], 101, '100 1', '215'],
    ['without a header, at the end: nothing is left', [m(100), m(50)], 150, '100 50', null],
    ['behind the end', [hdr(100), m(50)], 151, '100 50', null],
    ['before the start', [hdr(100), m(50)], -1, '100 50', null],
    ['before the start of a cluster', [clhdr(500)], -1, '500e', null],
    ['before the start, without a header', [m(100), m(50)], -7, '100 50', null],
  ];
  for (const [what, plan, at, front, back] of splits) {
    test(what, () => {
      up();
      const a = chain(plan);
      const header = mbuf.flags[a] & M_PKTHDR;
      if (header) {
        mbuf.rcvif[a] = 8;
        tag(a);
      }
      const all = plan.reduce((n, p) => n + p.len, 0);
      const b = m_split(a, at, M_NOWAIT);
      assert.equal(shape(a), front);
      assert.equal(b === NONE ? null : shape(b), back);
      whole(a, 0, b === NONE ? all : at);
      if (header) assert.ok(has_tag(a));
      if (b !== NONE) {
        whole(b, at, all);
        assert.equal(mbuf.flags[b] & M_PKTHDR, header);
        if (header) assert.deepEqual([mbuf.rcvif[b], mbuf.tags[b]], [8, NULL]);
      }
      for (const x of [a, b]) m_freem(x);
      nothing_left();
    });
  }
  test('both parts of a cluster that was cut are not to be written', () => {
    up();
    const a = chain([clhdr(500)]);
    const b = m_split(a, 300, M_NOWAIT);
    assert.deepEqual([M_WRITABLE(a), M_WRITABLE(b)], [false, false]);
    m_freem(a);
    assert.ok(M_WRITABLE(b), 'alone again');
    m_freem(b);
    nothing_left();
  });
});

describe('fewer mbufs', () => {
  const defrags: [Piece[], string][] = [
    [[hdr(0)], '0'],
    [[hdr(100), m(MHLEN - 100)], `${MHLEN}`],
    [[hdr(100), m(MHLEN - 99)], `${MHLEN + 1}e`],
    [[hdr(48), cl(1000), cl(1000)], '2048e'],
    [[hdr(49), cl(1000), cl(1000)], '2048e 1'],
    [[hdr(100), cl(2000), m(100), jumbo(MJUM9BYTES, 3000)], '2048e 2048e 1104e'],
    [[hdr(1), jumbo(MJUM16BYTES, 16000)], `${'2048e '.repeat(7)}1665e`],
  ];
  for (const [plan, wanted] of defrags) {
    test(`m_defrag to ${wanted}`, () => {
      up();
      const a = chain(plan);
      tag(a);
      mbuf.flags[a] |= M_RDONLY;
      const b = m_defrag(a, M_NOWAIT);
      assert.equal(shape(b), wanted);
      whole(
        b,
        0,
        plan.reduce((n, p) => n + p.len, 0),
      );
      assert.ok(has_tag(b));
      assert.ok(mbufs_of(b).every(M_WRITABLE), 'nobody else has its storage');
      m_freem(b);
      nothing_left();
    });
  }
  test('m_defrag without a header does nothing', () => {
    up();
    const a = chain([m(5), m(6)]);
    assert.equal(m_defrag(a, M_NOWAIT), a);
    assert.equal(shape(a), '5 6');
  });
  const full = m(MLEN);
  const collapses: [string, Piece[], number, string | null][] = [
    ['short enough already', [hdr(10), m(10)], 2, '10 10'],
    ['into the room behind', [hdr(10), m(10), m(10)], 2, '20 10'],
    ['strictly less than the room', [hdr(100), m(68), m(67)], 2, '100 135'],
    ['pairs into a cluster, never the first', [hdr(168), full, full, full], 3, '168 432e 216'],
    ['pairs, then the room behind', [hdr(168), full, full, full, full], 2, '168 864e'],
    ['impossible', [clhdr(2048), cl(2048), cl(2048)], 2, null],
    ['impossible below one cluster', [clhdr(2048), cl(1000), cl(1047)], 2, '2048e 2047e'],
    ['a byte too much for the room and for a pair', [clhdr(2048), cl(1000), cl(1048)], 2, null],
  ];
  for (const [what, plan, most, wanted] of collapses) {
    test(`m_collapse: ${what}`, () => {
      up();
      const a = chain(plan);
      const all = plan.reduce((n, p) => n + p.len, 0);
      const b = m_collapse(a, M_NOWAIT, most);
      if (wanted === null) assert.equal(b, NONE);
      else assert.deepEqual([b, shape(b)], [a, wanted]);
      whole(a, 0, all);
      m_freem(a);
      nothing_left();
    });
  }
  test('m_collapse does not write into what others share', () => {
    up();
    const a = chain([clhdr(100), m(50), m(50)]);
    const b = m_copypacket(a, M_NOWAIT);
    assert.equal(m_collapse(a, M_NOWAIT, 2), a);
    assert.equal(shape(a), '100e 100');
    whole(a, 0, 200);
    whole(b, 0, 200);
    for (const x of [a, b]) m_freem(x);
    nothing_left();
  });
});

describe('m_unshare', () => {
  const shares: [string, Piece[], string][] = [
    ['clusters are copied', [clhdr(1000), cl(2000)], '1000e 2000e'],
    ['small mbufs go into the cluster before', [clhdr(1000), m(200), m(100)], '1300e'],
    ['mbufs before a cluster stay', [hdr(100), m(50), cl(2000)], '100 50 2000e'],
    ['a jumbo cluster becomes several', [hdr(9), jumbo(MJUMPAGESIZE, 4001)], '9 2048e 1953e'],
    ['an empty one', [clhdr(0), cl(5)], '5e'],
  ];
  for (const [what, plan, wanted] of shares) {
    test(what, () => {
      up();
      const a = chain(plan);
      tag(a);
      const copy = m_copym(a, 0, M_COPYALL, M_NOWAIT);
      const all = plan.reduce((n, p) => n + p.len, 0);
      const b = m_unshare(a, M_NOWAIT);
      assert.equal(shape(b), wanted);
      whole(b, 0, all);
      assert.ok(has_tag(b));
      for (const n of mbufs_of(b)) {
        assert.ok(M_WRITABLE(n));
        mem.U8.fill(0, mtod(n), mtod(n) + mbuf.len[n]);
      }
      whole(copy, 0, all);
      for (const x of [b, copy]) m_freem(x);
      nothing_left();
    });
  }
  test('a packet that is its own stays as it is', () => {
    up();
    const a = chain([clhdr(1900), cl(100), hdr(0)].slice(0, 2));
    const list = mbufs_of(a);
    assert.equal(m_unshare(a, M_NOWAIT), a);
    assert.deepEqual(mbufs_of(a), list);
    m_freem(a);
  });
  test('the header that was moved off read-only storage may be written', () => {
    up();
    const a = chain([clhdr(500)]);
    mbuf.flags[a] |= M_RDONLY;
    const b = m_unshare(M_PREPEND(a, 10, M_NOWAIT), M_NOWAIT);
    assert.ok(mbufs_of(b).every(M_WRITABLE));
    assert.deepEqual([shape(b), mbuf.plen[b]], ['10 500e', 510]);
    m_freem(b);
    nothing_left();
  });
});

describe('m_fragment', () => {
  test('of a length, of one random length, of random lengths', () => {
    up();
    const longest = (a: mbuf_t): number => Math.max(...mbufs_of(a).map((n) => mbuf.len[n]));
    for (const length of [1, 7, 100, -1, -2]) {
      const a = chain([hdr(100), cl(700), m(150)]);
      tag(a);
      assert.equal(
        m_fragment(a, M_NOWAIT, length, () => dice(SEED)(1e6)),
        a,
      );
      whole(a, 0, 950);
      assert.ok(has_tag(a));
      assert.ok(longest(a) <= (length > 0 ? length : 256));
      m_freem(a);
      nothing_left();
    }
  });
  test('clusters are shared by their pieces', () => {
    up();
    const a = chain([clhdr(100)]);
    m_fragment(a, M_NOWAIT, 30, () => 0);
    assert.equal(shape(a), '30e 30e 30e 10e');
    assert.equal(mem.I32[mbuf.ext_ref[a]], 4);
    assert.equal(m_sanity(a), '');
    m_freem(a);
    nothing_left();
  });
  test('a length of 0 would have no end', () => {
    up();
    panics(() => m_fragment(chain([hdr(5)]), M_NOWAIT, 0, () => 0), /m_fragment: .*length/);
  });
});
