/*
 * Shows how many mbufs and clusters there may be: the automatic limits for
 * several machines, what may be set at run time and what is refused, that a
 * limit that grows wakes who sleeps for it on another thread, that packets
 * nobody uses give their clusters to whoever needs them, what happens when
 * memory is short, and that nobody sleeps for an mbuf with a lock held.
 */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { atomic_load, atomic_notify, atomic_store } from '../machine/atomic.ts';
import { counter_get } from '../machine/counter.ts';
import { EINVAL } from '../machine/errno.ts';
import { ptoa } from '../machine/memory.ts';
import { sysctl_decls, sysctl_get } from '../machine/sysctl_decl.ts';
import { until, within } from '../machine/workers.test.lib.ts';
import { M_NOWAIT, M_WAITOK } from '../h/malloc_flags.ts';
import {
  M_EXT,
  M_PKTHDR,
  mb_root,
  mbuf,
  type mbuf_t,
  MCLBYTES,
  MJUMPAGESIZE,
  MT_DATA,
} from '../h/mbuf.ts';
import type { zone_t } from '../h/uma.ts';
import { free, malloc } from '../kmem/kern_malloc.ts';
import { malloc_type_attach } from '../kmem/kern_malloc_type.ts';
import { kernel_sysctlbyname } from '../observe/kern_sysctl.ts';
import { vm_page_count, vm_page_free_count } from '../page/vm_page.ts';
import { mtx_init, mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { LC_USER_MTX } from '../sync/lock_order.ts';
import { sleepq_list } from '../sync/subr_sleepqueue.ts';
import { uma_check } from '../uma/uma_check.ts';
import { uma_zfree_arg } from '../uma/uma_core.ts';
import { zone_present } from '../uma/uma_stats.ts';
import { step_word, up, witness_texts } from '../uma/uma.test.lib.ts';
import { uma_zone_exhausted, uma_zone_get_max } from '../uma/uma_zone.ts';
import { type Line, life } from '../machine/life.ts';
import { pagedaemon_new, vm_pageout_round } from '../map/vm_pageout.ts';
import {
  m_clget,
  m_cljget,
  m_get,
  m_getcl,
  m_gethdr,
  mb,
  mb_drain_add,
  mb_drains,
  nmbclusters_change,
} from './kern_mbuf.ts';
import { bytes, NONE, nothing_left, rec, type rec_t, whole } from './mbuf.test.lib.ts';
import { end_all, start } from './mbuf_smp.test.lib.ts';
import { m_append, m_devget, m_freem } from './uipc_mbuf.ts';

afterEach(end_all);

const SISTERS = ['nmbclusters', 'nmbjumbop', 'nmbjumbo9', 'nmbjumbo16', 'nmbufs'] as const;
function value(name: string): number {
  const d = sysctl_decls.find((x) => x.name === name);
  assert.ok(d, name);
  return sysctl_get(d);
}
const limits = (): number[] => SISTERS.map((s) => value(`kern.ipc.${s}`));
/** Sets a limit as a program does. Returns the errno. */
function set(name: string, n: number): number {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, n, true);
  return kernel_sysctlbyname(`kern.ipc.${name}`, null, bytes).error;
}
const zone = (name: 'mbuf' | 'pack' | 'clust' | 'jumbop' | 'jumbo9' | 'jumbo16'): zone_t =>
  mb_root[name][mb()] as zone_t;

describe('automatic limits', () => {
  for (const memory of ['1M', '4M', '64M', '1G']) {
    test(`follow from the memory: ${memory}`, () => {
      up({ memory });
      const pages = vm_page_count();
      const by_memory = Math.floor(pages / 512);
      const users = by_memory > 384 ? 384 + Math.floor((by_memory - 384) / 8) : by_memory;
      assert.equal(value('kern.maxusers'), Math.max(32, users));
      const most = ptoa(pages) / 2;
      const clusters = Math.min(1024 + 64 * Math.max(32, users), Math.floor(most / MCLBYTES));
      const [c, p, n9, n16, n] = limits();
      assert.equal(c, clusters);
      assert.deepEqual([p, n9, n16], [c >> 1, c >> 2, c >> 3]);
      assert.equal(n, Math.max(Math.floor(most / 256 / 5), c + p + n9 + n16));
      const kegs = (['clust', 'jumbop', 'jumbo9', 'jumbo16', 'mbuf'] as const).map((z) =>
        uma_zone_get_max(zone(z)),
      );
      for (const [i, max] of kegs.entries()) assert.ok(max >= limits()[i], SISTERS[i]);
    });
  }
  test('known values: 64 MiB, and 100 users', () => {
    up({ memory: '64M' });
    assert.deepEqual(limits().slice(0, 4), [3072, 1536, 768, 384]);
  });
  test('kern.maxusers, kern.ipc.maxmbufmem and each limit can be given', () => {
    up({ memory: '64M', set: { 'kern.maxusers': 100 } });
    assert.deepEqual(limits().slice(0, 4), [7424, 3712, 1856, 928]);
  });
  test('maxmbufmem is at most three quarters of memory', () => {
    up({ memory: '8M', set: { 'kern.ipc.maxmbufmem': 2 ** 30 } });
    assert.equal(value('kern.ipc.maxmbufmem'), Math.floor((ptoa(vm_page_count()) / 4) * 3));
  });
  test('maxmbufmem limits the clusters', () => {
    up({ memory: '64M', set: { 'kern.ipc.maxmbufmem': 2 ** 20 } });
    assert.equal(limits()[0], 512);
  });
  test('however little it is, a limit stays a limit', () => {
    up({ set: { 'kern.ipc.maxmbufmem': 1 } });
    assert.ok(
      limits().every((n) => n >= 1),
      `${limits()}`,
    );
  });
  test('0 is no limit; its sisters keep theirs', () => {
    up({ set: { 'kern.ipc.nmbclusters': 0 } });
    assert.equal(uma_zone_get_max(zone('clust')), 0);
    const [c, p, n9, n16, n] = limits();
    assert.deepEqual([c, n], [0, 0], 'mbufs for clusters without limit have none either');
    assert.ok(p > 0 && n9 > 0 && n16 > 0);
  });
  test('a small limit does not make its sisters unlimited', async () => {
    for (const n of [1, 2, 3, 7]) {
      await end_all();
      up({ set: { 'kern.ipc.nmbclusters': n } });
      const [c, ...rest] = limits();
      assert.equal(c, n);
      assert.ok(
        rest.every((x) => x >= 1),
        `${n}: ${rest}`,
      );
    }
  });
});

describe('at run time', () => {
  test('a limit grows, stays, or vanishes; it never shrinks', () => {
    up({ set: { 'kern.ipc.nmbclusters': 40, 'kern.ipc.nmbufs': 400 } });
    const seen: number[] = [];
    nmbclusters_change.push((n) => void seen.push(n));
    assert.equal(set('nmbclusters', 39), EINVAL);
    assert.equal(set('nmbclusters', -1), EINVAL);
    assert.equal(set('nmbclusters', 40), 0);
    assert.deepEqual(seen, [], 'nothing changed');
    assert.equal(set('nmbclusters', 80), 0);
    assert.ok(uma_zone_get_max(zone('clust')) >= 80);
    assert.equal(set('nmbclusters', 79), EINVAL);
    assert.equal(set('nmbclusters', 0), 0);
    assert.equal(uma_zone_get_max(zone('clust')), 0);
    assert.equal(set('nmbclusters', 1000), EINVAL, 'a limit where there was none is a smaller one');
    assert.equal(set('nmbclusters', 0), 0);
    assert.deepEqual(seen, [80, 0]);
    nmbclusters_change.pop();
  });
  test('every sister', () => {
    up({ set: { 'kern.ipc.nmbclusters': 40 } });
    for (const name of ['nmbjumbop', 'nmbjumbo9', 'nmbjumbo16'] as const) {
      const now = value(`kern.ipc.${name}`);
      assert.equal(set(name, now - 1), EINVAL);
      assert.equal(set(name, now + 8), 0);
      const z = zone(name === 'nmbjumbop' ? 'jumbop' : name === 'nmbjumbo9' ? 'jumbo9' : 'jumbo16');
      assert.ok(uma_zone_get_max(z) >= now + 8);
    }
  });
  test('mbufs must be enough for all clusters', () => {
    up({ set: { 'kern.ipc.nmbclusters': 40, 'kern.ipc.nmbufs': 50 } });
    const sum = limits()
      .slice(0, 4)
      .reduce((a, b) => a + b);
    assert.equal(set('nmbufs', sum - 1), EINVAL);
    assert.equal(set('nmbufs', sum), 0);
    assert.ok(uma_zone_get_max(zone('mbuf')) >= sum);
    assert.equal(set('nmbclusters', 41), EINVAL, 'there would be no mbuf for it');
    assert.equal(set('nmbufs', sum + 8), 0);
    assert.equal(set('nmbclusters', 48), 0);
    assert.equal(set('nmbjumbop', value('kern.ipc.nmbjumbop') + 1), EINVAL);
    assert.equal(set('nmbjumbop', 0), 0);
    assert.equal(set('nmbufs', sum + 1000), EINVAL, 'no number covers clusters without limit');
    assert.equal(set('nmbufs', 0), 0);
  });
});

/** Takes all clusters there are, as packets. */
function all_packets(): mbuf_t[] {
  const list: mbuf_t[] = [];
  for (;;) {
    const n = m_getcl(M_NOWAIT, MT_DATA, M_PKTHDR);
    if (n === NONE) return list;
    list.push(n);
  }
}
const FEW = { 'kern.ipc.nmbclusters': 16, 'kern.ipc.nmbufs': 400 };
const WITNESSED = { INVARIANTS: true, WITNESS: true };
const asleep = (): Promise<void> =>
  until(() => sleepq_list().some((s) => s.wmesg === 'keglimit'), 'it sleeps');

/** Another CPU that frees a chain, and then hands over nothing of what it caches. */
async function freeing(
  handle: Parameters<typeof start>[0],
  chain: mbuf_t,
): Promise<ReturnType<typeof start>> {
  const freer = start(handle, 'freer', { chains: [chain] });
  await within(freer.up, 'start');
  await until(() => atomic_load(step_word(1)) === 1, 'both are ready');
  atomic_store(step_word(3), 1);
  atomic_notify(step_word(3), 99);
  return freer;
}
async function freed(freer: ReturnType<typeof start>): Promise<void> {
  atomic_store(step_word(5), 1);
  atomic_notify(step_word(5), 99);
  await within(freer.done, 'the freer');
}
describe('a thread asleep for a cluster', () => {
  for (const job of ['wait_packet', 'wait_cluster']) {
    test(`is woken when the limit grows: ${job}`, async () => {
      const handle = up({ set: FEW, options: WITNESSED });
      const held = all_packets();
      const sleeper = start(handle, job);
      await within(sleeper.up, 'start');
      await asleep();
      assert.equal(set('nmbclusters', held.length + 16), 0);
      assert.equal((await within(sleeper.done, 'the sleeper')).got, 1);
      for (const p of held) m_freem(p);
      nothing_left();
    });
    test(`gets the cluster of a packet that another CPU frees: ${job}`, async () => {
      const handle = up({ set: FEW, options: WITNESSED });
      const held = all_packets();
      const sleeper = start(handle, job);
      await within(sleeper.up, 'start');
      await asleep();
      const freer = await freeing(handle, held.pop() as mbuf_t);
      const got = Promise.race([sleeper.done, freer.done]); // the freer's only if it failed
      assert.equal((await within(got, 'the sleeper')).got, 1);
      await freed(freer);
      for (const p of held) m_freem(p);
      nothing_left();
    });
  }
  test('for an mbuf gets that of a packet: both come from one keg', async () => {
    const set = { 'kern.ipc.nmbclusters': 400, 'kern.ipc.nmbufs': 32 };
    const handle = up({ set, options: WITNESSED });
    const packet = m_getcl(M_NOWAIT, MT_DATA, M_PKTHDR);
    const held: mbuf_t[] = [];
    for (let n = m_get(M_NOWAIT, MT_DATA); n !== NONE; n = m_get(M_NOWAIT, MT_DATA)) held.push(n);
    const sleeper = start(handle, 'wait_mbuf');
    await within(sleeper.up, 'start');
    await asleep();
    const freer = await freeing(handle, packet);
    const got = Promise.race([sleeper.done, freer.done]); // the freer's only if it failed
    assert.equal((await within(got, 'the sleeper')).got, 1);
    await freed(freer);
    for (const p of held) m_freem(p);
    nothing_left();
  });
  test('needs one cluster, and does not wait for a bucketful', async () => {
    const handle = up({ set: FEW, options: WITNESSED });
    const held = all_packets();
    m_freem(held.pop() as mbuf_t);
    const other = start(handle, 'wait_packet');
    assert.equal((await within(other.done, 'it had what it needed')).got, 1);
    for (const p of held) m_freem(p);
    nothing_left();
  });
});

describe('packets that nobody uses', () => {
  test('lose their clusters to m_clget, M_NOWAIT', () => {
    up({ set: FEW });
    for (const p of all_packets()) m_freem(p);
    const got: mbuf_t[] = [];
    for (;;) {
      const n = m_get(M_NOWAIT, MT_DATA);
      m_clget(n, M_NOWAIT);
      got.push(n);
      if ((mbuf.flags[n] & M_EXT) === 0) break;
    }
    assert.equal(got.length - 1, uma_zone_get_max(zone('clust')), 'every cluster there is');
    for (const n of got) m_freem(n);
    nothing_left();
  });
  test('a packet freed while clusters are short keeps none', () => {
    up({ set: FEW });
    const held = all_packets();
    assert.ok(uma_zone_exhausted(zone('clust')));
    m_freem(held.pop() as mbuf_t);
    assert.equal(zone_present(zone('pack')).free, 0);
    assert.notEqual(m_cljget(NONE, M_NOWAIT, MCLBYTES), 0);
    for (const p of held) m_freem(p);
    uma_check();
  });
  test('a request that fails is counted in both zones', () => {
    up({ set: FEW });
    const held = all_packets();
    const before = [zone('pack'), zone('clust')].map((z) => zone_present(z).fails);
    assert.equal(m_getcl(M_NOWAIT, MT_DATA, 0), NONE);
    const now = [zone('pack'), zone('clust')].map((z) => zone_present(z).fails);
    assert.ok(now.every((n, i) => n > before[i]));
    for (const p of held) m_freem(p);
    nothing_left();
  });
});

test('when memory is short the drain routines are called, first, and counted', () => {
  up({ memory: '1M', set: { 'vm.lowmem_period': 0 } });
  const order: string[] = [];
  const no_more = mb_drain_add(() => void order.push('protocol'));
  const lines = life.lowmem as Line[];
  lines.push([() => void order.push('other'), 'of this test']);
  const state = pagedaemon_new();
  vm_pageout_round(state);
  assert.equal(counter_get(mb_drains), 0, 'memory is ample');
  const type = malloc_type_attach('ballast');
  const held: number[] = [];
  for (let p = malloc(4096, type, M_NOWAIT); p !== 0; p = malloc(4096, type, M_NOWAIT)) {
    held.push(p);
  }
  vm_pageout_round(state);
  assert.equal(counter_get(mb_drains), 1);
  assert.deepEqual(order, ['protocol', 'other']);
  no_more();
  lines.pop();
  for (const p of held) free(p, type);
});

describe('with a lock held nobody sleeps for an mbuf', () => {
  const waits: [string, () => mbuf_t | number][] = [
    ['m_get', () => m_get(M_WAITOK, MT_DATA)],
    ['m_gethdr', () => m_gethdr(M_WAITOK, MT_DATA)],
    ['m_getcl', () => m_getcl(M_WAITOK, MT_DATA, M_PKTHDR)],
    ['m_cljget', () => m_cljget(NONE, M_WAITOK, MJUMPAGESIZE)],
  ];
  for (const [what, take] of waits) {
    test(`${what} is reported, and goes on as M_NOWAIT`, async () => {
      const handle = up({
        options: WITNESSED,
        set: { 'kern.ipc.nmbclusters': 8, 'kern.ipc.nmbufs': 32 },
      });
      // Somebody else is attached, so that without the lock it would sleep.
      const other = start(handle, 'freer');
      await within(other.up, 'start');
      const type = malloc_type_attach('lock');
      const lock = malloc(rec.sizeof * 4, type, M_NOWAIT) as rec_t;
      mtx_init(rec.lock, lock, LC_USER_MTX);
      const held: number[] = [];
      mtx_lock(rec.lock, lock);
      for (let n = take(); n !== 0; n = take()) held.push(n);
      mtx_unlock(rec.lock, lock);
      assert.ok(held.length > 0, 'there were some');
      assert.ok(witness_texts.some((t) => /Sleeping on "mbuf" with the following/.test(t)));
      witness_texts.length = 0;
      for (const n of held) {
        if (what === 'm_cljget') uma_zfree_arg(zone('jumbop'), n, 0);
        else m_freem(n as mbuf_t);
      }
      for (const step of [3, 5]) {
        atomic_store(step_word(step), 1);
        atomic_notify(step_word(step), 99);
      }
      await within(other.done, 'the other');
      nothing_left();
    });
  }
});

describe('debug.nosleepwithlocks', () => {
  const LIMITS = { 'kern.ipc.nmbclusters': 8, 'kern.ipc.nmbufs': 32 };
  const word = new Uint8Array(4);
  const OFF = { WITNESS: false };
  for (const [what, boot, on] of [
    ['with WITNESS', { options: WITNESSED }, 1],
    ['without', { options: OFF }, 0],
    ['as boot says', { options: OFF, set: { 'debug.nosleepwithlocks': 1 } }, 1],
  ] as const) {
    test(`is ${on} ${what}`, () => {
      up(boot);
      const { oldlen, error } = kernel_sysctlbyname('debug.nosleepwithlocks', word, null);
      assert.deepEqual([error, oldlen, word[0]], [0, 4, on]);
    });
  }
  test('without WITNESS nobody sleeps for an mbuf while it is set', async () => {
    const set = { ...LIMITS, 'debug.nosleepwithlocks': 1 };
    const handle = up({ options: { WITNESS: false }, set });
    const other = start(handle, 'freer');
    await within(other.up, 'start');
    const type = malloc_type_attach('lock');
    const lock = malloc(rec.sizeof * 4, type, M_NOWAIT) as rec_t;
    mtx_init(rec.lock, lock, LC_USER_MTX);
    mtx_lock(rec.lock, lock);
    const held: mbuf_t[] = [];
    for (let m = m_get(M_WAITOK, MT_DATA); m !== NONE; m = m_get(M_WAITOK, MT_DATA)) held.push(m);
    mtx_unlock(rec.lock, lock);
    assert.ok(held.length > 0, 'there were some');
    for (const m of held) m_freem(m);
    for (const step of [3, 5]) {
      atomic_store(step_word(step), 1);
      atomic_notify(step_word(step), 99);
    }
    await within(other.done, 'the other');
    nothing_left();
  });
});

test('1 MiB with two CPUs: most pages are free, and mbufs work', () => {
  up({ memory: '1M', cpus: 2, options: { INVARIANTS: false } });
  assert.ok(vm_page_free_count() / 256 >= 0.6, `${vm_page_free_count()} of 256 pages free`);
  for (let round = 0; round < 20; round++) {
    const top = m_devget(bytes(0, 5000), 0, 5000, 16, 0);
    assert.equal(m_append(top, 1000, bytes(5000, 6000), 0), 1);
    whole(top, 0, 6000);
    m_freem(top);
  }
  nothing_left();
});
