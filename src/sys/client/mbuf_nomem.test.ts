/*
 * Shows what becomes of a chain when memory ends inside an operation.
 *
 * Each operation runs again and again, each time with one item more to be had:
 * no mbuf, one, two … until it succeeds; the same for clusters, page clusters
 * and counts of external storage (the limit of the zone, all but N items held by the
 * test), and with the N-th page refused, and all from the N-th on, caches bare
 * (that meets tags, which are of more than a page here, and half-filled
 * buckets).  A chain is then freed or intact, as each case says; when all is
 * given back, every zone has in use what it had before.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { mem } from '../machine/memory.ts';
import { NULL } from '../machine/struct.ts';
import { vector } from '../machine/vectors.ts';
import { M_NOWAIT } from '../h/malloc_flags.ts';
import {
  EXT_NET_DRV,
  M_COPYALL,
  M_EXT,
  M_PKTHDR,
  m_tag,
  mb_root,
  mbuf,
  type mbuf_t,
  MCLBYTES,
  MJUM16BYTES,
  MJUM9BYTES,
  MJUMPAGESIZE,
  MT_DATA,
  mtod,
} from '../h/mbuf.ts';
import type { zone_t } from '../h/uma.ts';
import { free, malloc } from '../kmem/kern_malloc.ts';
import { malloc_type_attach, malloc_type_sums } from '../kmem/kern_malloc_type.ts';
import { page_failpoint } from '../page/vm_page.ts';
import { uma_zalloc, uma_zfree, uma_zfree_arg } from '../uma/uma_core.ts';
import { uma_reclaim } from '../uma/uma_drain.ts';
import { uma_zone_set_max } from '../uma/uma_zone.ts';
import {
  m_cljget,
  m_clget,
  m_get,
  m_getcl,
  m_getclr,
  m_gethdr,
  m_getjcl,
  mb,
} from './kern_mbuf.ts';
import { bytes_of, mbufs_of, overwritten } from './mbuf.model.ts';
import {
  byte,
  bytes,
  chain,
  cl,
  down,
  hdr,
  in_use,
  type InUse,
  jumbo,
  m,
  NONE,
  nothing_left,
  type Piece,
  up,
  whole,
} from './mbuf.test.lib.ts';
import {
  m_append,
  m_copyback,
  m_copym,
  m_copypacket,
  m_devget,
  m_dup,
  m_dup_pkthdr,
  m_extadd,
  m_freem,
  m_getm2,
  m_length,
  m_sanity,
} from './uipc_mbuf.ts';
import {
  M_PREPEND,
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
import {
  m_adj_head,
  m_append_keep,
  m_last,
  m_makewritable,
  m_prepend_keep,
  m_pullup_keep,
  m_share,
  m_writable,
} from './uipc_mbuf_keep.ts';
import {
  m_tag_alloc,
  m_tag_copy_chain,
  m_tag_data,
  m_tag_free,
  m_tag_get,
  m_tag_prepend,
} from './uipc_mbuf_tag.ts';

before(() => {
  up({
    cpus: 2,
    set: {
      'kern.ipc.nmbclusters': 40,
      'kern.ipc.nmbjumbop': 20,
      'kern.ipc.nmbjumbo9': 4,
      'kern.ipc.nmbjumbo16': 4,
      'kern.ipc.nmbufs': 160,
    },
  });
  uma_zone_set_max(zone('ext_refcnt'), 1);
});
after(down);

function zone(name: 'mbuf' | 'clust' | 'jumbop' | 'ext_refcnt'): zone_t {
  return mb_root[name][mb()] as zone_t;
}

// --- the chains ----------------------------------------------------------------------------------

/** A packet with every kind of storage and two tags: 100 + 1500 + 200 + 3000 + 50 bytes. */
const MIXED: readonly Piece[] = [hdr(100), cl(1500), m(200), jumbo(MJUMPAGESIZE, 3000), m(50)];
const LEN = 4850;
/** A tag's data: more than a page, so that each tag asks for pages of its own. */
const TAG_BYTES = 5000;

function tagged(plan: readonly Piece[]): mbuf_t {
  const top = chain(plan);
  for (const id of [1, 2]) {
    const t = m_tag_get(id, TAG_BYTES, M_NOWAIT);
    assert.notEqual(t, NULL);
    mem.U8.fill(id, m_tag_data(t), m_tag_data(t) + TAG_BYTES);
    m_tag_prepend(top, t);
  }
  return top;
}
function tag_ids(top: mbuf_t): number[] {
  const ids: number[] = [];
  for (let t = mbuf.tags[top]; t !== NULL; t = m_tag.link[t]) {
    ids.push(m_tag.id[t]);
    assert.equal(mem.U8[m_tag_data(t) + TAG_BYTES - 1], m_tag.id[t]);
  }
  return ids;
}
const mixed = (): mbuf_t => tagged(MIXED);
const none = (): mbuf_t => NONE;
const plain =
  (...plan: Piece[]) =>
  (): mbuf_t =>
    chain(plan);

// --- the cases ----------------------------------------------------------------------------------

/** How a call ended: whether it got all its memory; it gives back what it holds. */
interface Case {
  readonly name: string;
  readonly build: () => mbuf_t;
  /** Calls, checks, frees. False: memory had run out. */
  readonly run: (top: mbuf_t) => boolean;
  /** It says itself where memory is to end (with_items). */
  readonly itself?: true;
}
function done(ok: boolean, ...chains: mbuf_t[]): boolean {
  for (const c of chains) m_freem(c);
  return ok;
}
/** A call that makes something out of nothing. */
const makes = (name: string, make: () => mbuf_t): Case => ({
  name,
  build: none,
  run() {
    const n = make();
    return done(n !== NONE, n);
  },
});
/** A call that makes a chain of the bytes `from` to `to` and leaves the old one as it is. */
const copies = (name: string, from: number, to: number, f: (t: mbuf_t) => mbuf_t): Case => ({
  name,
  build: mixed,
  run(top) {
    const n = f(top);
    whole(top, 0, LEN);
    assert.deepEqual(tag_ids(top), [2, 1]);
    if (n !== NONE) {
      whole(n, from, to);
      if (from === 0) assert.deepEqual(tag_ids(n), [2, 1]);
    }
    return done(n !== NONE, n, top);
  },
});
/** A call that gives the chain back, or frees it. */
const or_freed = (name: string, build: () => mbuf_t, f: (t: mbuf_t) => mbuf_t): Case => ({
  name,
  build,
  run(top) {
    const len = m_length(top).len;
    const n = f(top);
    if (n !== NONE) whole(n, 0, len);
    return done(n !== NONE, n);
  },
});
/** A call that gives the chain back, or leaves its bytes as they are. */
const or_kept = (name: string, build: () => mbuf_t, f: (t: mbuf_t) => mbuf_t): Case => ({
  name,
  build,
  run(top) {
    const len = m_length(top).len;
    const n = f(top);
    whole(n === NONE ? top : n, 0, len);
    return done(n !== NONE, n === NONE ? top : n);
  },
});
/** A call that makes bytes `from` to `to` of the chain, or leaves the very same mbufs. */
const keeps = (
  name: string,
  plan: readonly Piece[],
  [from, to]: readonly [number, number],
  f: (t: mbuf_t) => mbuf_t,
): Case => ({
  name,
  build: () => tagged(plan),
  run(top) {
    const len = m_length(top).len;
    const before = mbufs_of(top);
    const lens = before.map((n) => mbuf.len[n]);
    const n = f(top);
    if (n === NONE) {
      assert.deepEqual(mbufs_of(top), before, 'the very same mbufs');
      assert.deepEqual(
        before.map((b) => mbuf.len[b]),
        lens,
      );
    }
    const now = n === NONE ? top : n;
    whole(now, n === NONE ? 0 : from, n === NONE ? len : to);
    assert.deepEqual(tag_ids(now), [2, 1]);
    return done(n !== NONE, now);
  },
});
/** m_pulldown in one of its ways; the chain is freed where it fails. */
const pulls = (name: string, plan: Piece[], off: number, len: number, off_ok: boolean): Case => ({
  name: `m_pulldown ${name}`,
  build: plain(...plan),
  run(top) {
    const all = m_length(top).len;
    const place = { off: 0 };
    const n = m_pulldown(top, off, len, off_ok ? place : null);
    if (n === NONE) return false;
    whole(top, 0, all);
    assert.equal(mem.U8[mtod(n) + place.off + len - 1], byte(off + len - 1));
    return done(true, top);
  },
});
const splits = (name: string, plan: Piece[], at: number): Case => ({
  name: `m_split ${name}`,
  build: plain(...plan),
  run(top) {
    const len = m_length(top).len;
    const before = mbufs_of(top);
    const n = m_split(top, at, M_NOWAIT);
    if (n === NONE) {
      assert.deepEqual(mbufs_of(top), before, 'the very same mbufs');
      whole(top, 0, len);
      return done(false, top);
    }
    whole(top, 0, at);
    whole(n, at, len);
    return done(true, n, top);
  },
});
/** A call that writes as much as there is memory for. */
const writes = (
  name: string,
  off: number,
  len: number,
  f: (t: mbuf_t, put: Uint8Array) => number,
): Case => ({
  name,
  build: mixed,
  run(top) {
    const put = bytes(9000, 9000 + len);
    const all = f(top, put);
    const now = m_length(top).len;
    const wanted = overwritten(bytes(0, LEN), off, put);
    assert.equal(m_sanity(top), '');
    assert.deepEqual(bytes_of(top), wanted.slice(0, now));
    if (all === 1) assert.equal(now, wanted.length);
    else assert.ok(now >= LEN && now < wanted.length, `${now} bytes`);
    return done(all === 1, top);
  },
});

const freed_word = vector('mbuf_nomem_free', (block: number) => {
  free(block, malloc_type_attach('nomem'));
});
function extadd(): boolean {
  const top = m_gethdr(M_NOWAIT, MT_DATA);
  const type = malloc_type_attach('nomem');
  const block = top === NONE ? 0 : malloc(500, type, M_NOWAIT);
  if (block === 0) return done(false, top);
  m_extadd(top, block, 500, freed_word, block, 0, 0, EXT_NET_DRV);
  const ok = (mbuf.flags[top] & M_EXT) !== 0;
  assert.equal(mbuf.buf[top], ok ? block : top, 'without a count the mbuf is as before');
  if (!ok) free(block, type);
  return done(ok, top);
}
function unshare(top: mbuf_t): boolean {
  const copy = m_copym(top, 0, M_COPYALL, M_NOWAIT);
  assert.notEqual(copy, NONE);
  return with_items(() => {
    const n = m_unshare(top, M_NOWAIT);
    whole(copy, 0, LEN);
    if (n !== NONE) whole(n, 0, LEN);
    return done(n !== NONE, n, copy);
  });
}
/** A chain whose clusters another one refers to: what it had, it has in any case. */
function makewritable(top: mbuf_t): boolean {
  const copy = m_copym(top, 0, M_COPYALL, M_NOWAIT);
  assert.notEqual(copy, NONE);
  assert.equal(m_writable(top, 0, LEN), false);
  return with_items(() => {
    const before = mbufs_of(top);
    const n = m_makewritable(top, 0, LEN, M_NOWAIT);
    if (n === NONE) assert.deepEqual(mbufs_of(top), before, 'the very same mbufs');
    const now = n === NONE ? top : n;
    whole(now, 0, LEN);
    whole(copy, 0, LEN);
    assert.equal(m_writable(now, 0, LEN), n !== NONE);
    assert.deepEqual(tag_ids(now), [2, 1]);
    return done(n !== NONE, now, copy);
  });
}
/** The part of a case that is to be short of memory; the rest before it is not. */
let with_items = (part: () => boolean): boolean => part();

const CASES: readonly Case[] = [
  makes('m_get', () => m_get(M_NOWAIT, MT_DATA)),
  makes('m_gethdr', () => m_gethdr(M_NOWAIT, MT_DATA)),
  makes('m_getclr', () => m_getclr(M_NOWAIT, MT_DATA)),
  makes('m_getcl', () => m_getcl(M_NOWAIT, MT_DATA, M_PKTHDR)),
  makes('m_getjcl page', () => m_getjcl(M_NOWAIT, MT_DATA, M_PKTHDR, MJUMPAGESIZE)),
  makes('m_getjcl 9k', () => m_getjcl(M_NOWAIT, MT_DATA, M_PKTHDR, MJUM9BYTES)),
  makes('m_getjcl 16k', () => m_getjcl(M_NOWAIT, MT_DATA, 0, MJUM16BYTES)),
  makes('m_devget', () => {
    const n = m_devget(bytes(0, 5000), 0, 5000, 16, 3);
    if (n !== NONE) whole(n, 0, 5000);
    return n;
  }),
  makes('m_getm2', () => m_getm2(NONE, 9000, M_NOWAIT, MT_DATA, M_PKTHDR)),
  {
    name: 'm_getm2 behind a chain',
    build: mixed,
    run(top) {
      const before = mbufs_of(top);
      const n = m_getm2(top, 9000, M_NOWAIT, MT_DATA, 0);
      whole(top, 0, LEN);
      if (n === NONE) assert.deepEqual(mbufs_of(top), before);
      else assert.equal(n, top);
      return done(n !== NONE, top);
    },
  },
  {
    name: 'm_clget',
    build: plain(m(10)),
    run(top) {
      m_clget(top, M_NOWAIT);
      return done((mbuf.flags[top] & M_EXT) !== 0, top);
    },
  },
  {
    name: 'm_cljget',
    build: plain(m(10)),
    run(top) {
      const got = m_cljget(top, M_NOWAIT, MJUMPAGESIZE);
      assert.equal(got === 0, (mbuf.flags[top] & M_EXT) === 0);
      return done(got !== 0, top);
    },
  },
  { name: 'm_extadd', build: none, run: extadd },
  copies('m_copym', 0, LEN, (t) => m_copym(t, 0, M_COPYALL, M_NOWAIT)),
  copies('m_copym from the middle', 700, 4840, (t) => m_copym(t, 700, 4140, M_NOWAIT)),
  copies('m_copypacket', 0, LEN, (t) => m_copypacket(t, M_NOWAIT)),
  copies('m_dup', 0, LEN, (t) => m_dup(t, M_NOWAIT)),
  writes('m_append', LEN, 1000, (t, put) => m_append(t, put.length, put, 0)),
  writes('m_copyback', LEN - 10, 1000, (t, put) => m_copyback(t, LEN - 10, put.length, put, 0)),
  writes('m_copyback behind a hole', LEN + 700, 700, (t, put) =>
    m_copyback(t, LEN + 700, put.length, put, 0),
  ),
  {
    name: 'm_prepend',
    build: mixed,
    run(top) {
      const n = m_prepend(top, 20, M_NOWAIT);
      if (n === NONE) return false;
      assert.deepEqual(bytes_of(n).slice(20), bytes(0, LEN));
      assert.deepEqual(tag_ids(n), [2, 1]);
      return done(true, n);
    },
  },
  {
    name: 'M_PREPEND',
    build: mixed,
    run(top) {
      const n = M_PREPEND(top, 100, M_NOWAIT);
      if (n === NONE) return false;
      assert.equal(m_sanity(n), '');
      assert.equal(mbuf.plen[n], LEN + 100);
      return done(true, n);
    },
  },
  or_freed(
    'm_pullup',
    () => tagged([hdr(100, 60), cl(1500), m(200)]),
    (t) => m_pullup(t, 160),
  ),
  or_freed('m_copyup', mixed, (t) => m_copyup(t, 120, 30)),
  or_freed('m_unshare of a chain that is its own', mixed, (t) => m_unshare(t, M_NOWAIT)),
  { name: 'm_unshare', build: mixed, run: unshare, itself: true },
  or_kept('m_defrag', mixed, (t) => m_defrag(t, M_NOWAIT)),
  or_kept('m_collapse', plain(hdr(168), m(216), m(216), m(216), m(216), m(216), cl(2048)), (t) =>
    m_collapse(t, M_NOWAIT, 3),
  ),
  {
    name: 'm_fragment',
    build: plain(hdr(160), cl(1000), m(200)),
    run(top) {
      assert.equal(
        m_fragment(top, M_NOWAIT, 50, () => 0),
        top,
      );
      whole(top, 0, 1360);
      return done(
        mbufs_of(top).every((n) => mbuf.len[n] <= 50),
        top,
      );
    },
  },
  keeps('m_append_keep', MIXED, [0, LEN + 9000], (t) => {
    const end = m_append_keep(m_last(t), bytes(LEN, LEN + 9000), M_NOWAIT);
    if (end === NONE) return NONE;
    assert.equal(m_last(t), end);
    mbuf.plen[t] += 9000;
    return t;
  }),
  keeps('m_prepend_keep a little', MIXED, [-30, LEN], (t) =>
    m_prepend_keep(t, bytes(-30, 0), M_NOWAIT),
  ),
  keeps('m_prepend_keep much', MIXED, [-9000, LEN], (t) =>
    m_prepend_keep(t, bytes(-9000, 0), M_NOWAIT),
  ),
  keeps('m_pullup_keep of a cluster', MIXED, [0, LEN], (t) => m_pullup_keep(t, 1700, M_NOWAIT)),
  keeps('m_pullup_keep of a page', MIXED, [0, LEN], (t) => m_pullup_keep(t, 4000, M_NOWAIT)),
  keeps('m_adj_head, then m_pullup_keep', MIXED, [60, LEN], (t) => {
    const kept = m_pullup_keep(t, 1000, M_NOWAIT);
    return kept === NONE ? NONE : m_adj_head(kept, 60);
  }),
  copies('m_share', 700, 4840, (t) => m_share(t, 700, 4140, M_NOWAIT)),
  { name: 'm_makewritable', build: mixed, run: makewritable, itself: true },
  pulls('copies the piece', [hdr(100), cl(1500)], 200, 300, false),
  pulls('copies a small piece', [hdr(100), cl(200)], 150, 100, false),
  pulls('of a jumbo cluster', [hdr(100), jumbo(MJUMPAGESIZE, 3500)], 120, 300, false),
  pulls('gathers', [hdr(100), cl(2000), cl(2000)], 2000, 1000, false),
  pulls('gathers a little', [hdr(100), cl(2000), cl(2000)], 2050, 100, true),
  splits('in the header', [hdr(100), cl(1500)], 40),
  splits('in a cluster', [hdr(100), cl(1500), m(20)], 640),
  splits('in an mbuf with more than fits behind a header', [hdr(100), m(216), m(20)], 110),
  splits('between mbufs', [hdr(100), cl(1500)], 100),
  splits('without a header', [m(100), m(150)], 150),
  {
    name: 'm_tag_alloc',
    build: none,
    run() {
      const t = m_tag_alloc(7, 8, TAG_BYTES, M_NOWAIT);
      if (t !== NULL) m_tag_free(t);
      return t !== NULL;
    },
  },
  {
    name: 'm_tag_copy_chain',
    build: mixed,
    itself: true,
    run(top) {
      const to = chain([hdr(1)]);
      return with_items(() => {
        const ok = m_tag_copy_chain(to, top, M_NOWAIT) === 1;
        assert.deepEqual(tag_ids(to), ok ? [2, 1] : []);
        assert.deepEqual(tag_ids(top), [2, 1]);
        return done(ok, to, top);
      });
    },
  },
  {
    name: 'm_dup_pkthdr',
    build: mixed,
    itself: true,
    run(top) {
      const to = chain([m(0)]);
      return with_items(() => {
        const ok = m_dup_pkthdr(to, top, M_NOWAIT) === 1;
        assert.deepEqual(tag_ids(to), ok ? [2, 1] : []);
        assert.equal(mbuf.flags[to] & M_PKTHDR, M_PKTHDR);
        return done(ok, to, top);
      });
    },
  },
];

// --- memory ends ---------------------------------------------------------------------------------

/** Lets the test hold all items of a kind but n; returns what gives them back. */
type Shortage = (n: number) => () => void;
function hold(take: () => number, give: (item: number) => void): Shortage {
  return (n) => {
    uma_reclaim();
    const held: number[] = [];
    for (let item = take(); item !== 0; item = take()) held.push(item);
    assert.ok(held.length > n, `only ${held.length} items are left`);
    for (const item of held.splice(0, n)) give(item);
    return () => held.forEach(give);
  };
}
const MOST = 60;
const limits: [string, Shortage][] = [
  [
    'mbufs',
    hold(
      () => m_get(M_NOWAIT, MT_DATA),
      (item) => m_freem(item as mbuf_t),
    ),
  ],
  [
    'clusters',
    hold(
      () => m_cljget(NONE, M_NOWAIT, MCLBYTES),
      (item) => uma_zfree_arg(zone('clust'), item, 0),
    ),
  ],
  [
    'page clusters',
    hold(
      () => m_cljget(NONE, M_NOWAIT, MJUMPAGESIZE),
      (item) => uma_zfree_arg(zone('jumbop'), item, 0),
    ),
  ],
  [
    'counts',
    hold(
      () => uma_zalloc(zone('ext_refcnt'), M_NOWAIT),
      (i) => uma_zfree(zone('ext_refcnt'), i),
    ),
  ],
];
/** Runs a case once. What it has before its first allocation is built with memory at hand. */
function attempt(c: Case, around: (part: () => boolean) => boolean): boolean {
  const top = c.build();
  const whole_case = with_items;
  let deferred = false;
  with_items = (part) => {
    deferred = true;
    return around(part);
  };
  try {
    // A case that says itself where memory is to end runs in full outside.
    if (c.itself) {
      const ok = c.run(top);
      assert.ok(deferred);
      return ok;
    }
    return around(() => c.run(top));
  } finally {
    with_items = whole_case;
  }
}
for (const c of CASES) {
  test(`${c.name}: no item of a kind, for every one`, (t) => {
    assert.ok(
      attempt(c, (part) => part()),
      'with memory it succeeds',
    );
    nothing_left();
    const places: string[] = [];
    for (const [what, shortage] of limits) {
      let n = 0;
      for (let ok = false; !ok; n++) {
        assert.ok(n < MOST, `${what}: it never succeeds`);
        ok = attempt(c, (part) => {
          const give_back = shortage(n);
          const result = part();
          give_back();
          return result;
        });
        nothing_left(`${what}: ${n} to be had`);
        assert.equal(malloc_type_sums(malloc_type_attach('mbuf_tag')).inuse, 0);
      }
      places.push(`${what} ${n - 1}`);
    }
    t.diagnostic(places.join(', '));
  });
  test(`${c.name}: no page, for every one`, (t) => {
    let n = 1;
    for (const onwards of [false, true]) {
      n = 1;
      for (let reached = true; reached; n++) {
        assert.ok(n < MOST * 10);
        let asked = 0;
        const ok = attempt(c, (part) => {
          uma_reclaim();
          page_failpoint.refuse = () => (++asked >= n && onwards) || asked === n;
          try {
            return part();
          } finally {
            page_failpoint.refuse = null;
          }
        });
        reached = asked >= n;
        if (!reached) assert.ok(ok, 'no page was refused');
        nothing_left(`page ${n}${onwards ? ' and all after it' : ''}`);
        assert.equal(malloc_type_sums(malloc_type_attach('mbuf_tag')).inuse, 0);
      }
    }
    t.diagnostic(`${n - 2} pages`);
  });
}
test('what the cases need differs: the test can tell', () => {
  const need: InUse = in_use();
  const top = mixed();
  const now = in_use();
  assert.equal(now.mbufs - need.mbufs, MIXED.length);
  assert.equal(now.clusters - need.clusters, 1);
  assert.equal(now.jumbos - need.jumbos, 1);
  m_freem(top);
});
