/*
 * Shows: the kernel counts faults, zeroed pages, copies, forks and ends of objects as programs made
 * them, exactly once all are through; every page of the machine is in one count of pages; vmtotal
 * adds up what objects have and may have; vmstat -s has a line for what is counted, in BSD's
 * order, and none for what is not.
 * By what means: seeded programs beside a model of what each access must cost, alone and on two
 * threads at once; sizes of objects made to order.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { abandon, boot, shutdown } from '../boot/whole.ts';
import { dice, SEED } from '../machine/seed.test.lib.ts';
import { Crew, within } from '../machine/workers.test.lib.ts';
import { anon_at, end, P, poke, R, up, user_fork } from '../map/vm_syscalls.test.lib.ts';
import { maps_make } from '../map/vm_map.test.lib.ts';
import { spaces_end } from '../map/vm_space.test.lib.ts';
import { vm_page_limbo_free } from '../page/vm_page_limbo.ts';
import { sysctl, sysctlnametomib } from './kern_sysctl.ts';
import { memstat_fetch_live } from './memstat_sysctl.ts';
import { vmtotal } from './vm_meter.ts';
import { counted, DATA, type Did, NOTHING, program, stat, sum } from './vm_meter.test.lib.ts';
import {
  vmstat_boot_time,
  vmstat_line,
  vmstat_rates,
  vmstat_sample,
  vmstat_titles,
} from './vmstat_rates.ts';
import { SUMS_LINES, vmstat_sums, vmstat_sums_text } from './vmstat_sums.ts';

afterEach(() => {
  try {
    shutdown();
  } catch {
    abandon();
  }
});
/** What was counted between two looks. */
const since = (before: Did): Did => {
  const now = counted();
  const keys = Object.keys(NOTHING) as (keyof Did)[];
  return Object.fromEntries(keys.map((k) => [k, now[k] - before[k]])) as unknown as Did;
};
/** Proves that every page is in one of the counts. The machine is quiet. */
function pages_add_up(): void {
  const names = ['free', 'cache', 'active', 'inactive', 'wire'].map((s) => `v_${s}_count`);
  const all = names.map(stat);
  const pages = all.reduce((a, b) => a + b, 0);
  assert.equal(pages, stat('v_page_count'), `${names.map((n, i) => `${n} ${all[i]}`)}`);
}
const optimized = (): number => stat('v_cow_optim');

test('one thread', () => {
  up();
  const before = counted();
  const draw = dice(SEED);
  const did = sum(Array.from({ length: 20 }, () => program(1, draw)));
  assert.deepEqual(since(before), did);
  assert.ok(did.v_zfod > 0 && did.v_cow_faults > 0 && did.v_pfree > 0);
  assert.ok(optimized() <= counted().v_cow_faults);
  assert.ok(stat('v_ozfod') <= stat('v_zfod'));
  vm_page_limbo_free();
  pages_add_up();
  end();
});
test('two threads at once: exact when both are through', async () => {
  const options = { INVARIANTS: true, WITNESS: true };
  const { handle } = boot({ memory: '16M', cpus: 3, options, fresh: true });
  maps_make();
  const before = counted();
  const crew = new Crew<Record<keyof Did, number>>(
    new URL('./vm_meter.test.worker.ts', import.meta.url),
  );
  const start = (i: number) => crew.start(handle, 'run', { seed: SEED + i, at: 2 * i, times: 5 });
  let all: Did[] = [];
  try {
    const jobs = [start(0), start(1)];
    all = await within(Promise.all(jobs.map((j) => j.done)), 'both programs');
  } finally {
    await crew.end();
  }
  assert.deepEqual(since(before), sum(all));
  spaces_end();
  pages_add_up();
});
test('vmtotal adds objects up', () => {
  const mp = up();
  const none = vmtotal();
  assert.deepEqual([none.vm, none.rm, none.pw, none.sw], [0, 0, 0, 0]);
  assert.equal(none.rq, 1, 'this thread runs');
  anon_at(mp, DATA, 100 * P);
  anon_at(mp, DATA + 200 * P, 50 * P, R);
  for (const i of [0, 1, 2]) poke(mp, DATA + i * P, 1);
  const some = vmtotal();
  // The second region has no object before it is used.
  assert.deepEqual([some.vm, some.avm, some.rm, some.arm], [100, 100, 3, 3]);
  assert.deepEqual([some.vmshr, some.rmshr], [0, 0]);
  assert.ok(some.free < none.free);
  const child = user_fork(0, 1);
  poke(child, DATA, 2);
  poke(mp, DATA, 2);
  // Two objects that are shown, over the old one, which both of them stand on.
  const two = vmtotal();
  assert.deepEqual([two.vm, two.avm, two.rm, two.arm], [300, 200, 5, 2]);
  assert.deepEqual([two.vmshr, two.avmshr, two.rmshr, two.armshr], [100, 0, 3, 0]);
  const bytes = new Uint8Array(48);
  assert.deepEqual(sysctlnametomib('vm.vmtotal').mib, [2, 1]);
  assert.deepEqual(sysctl([2, 1], bytes, null), { error: 0, oldlen: 48 });
  const v = new DataView(bytes.buffer);
  assert.deepEqual([v.getInt16(0, true), v.getInt32(12, true), v.getInt32(20, true)], [1, 300, 5]);
  end();
});
test('vmstat -s has a line for what is counted', () => {
  up();
  program(1, dice(SEED));
  const sums = vmstat_sums(memstat_fetch_live());
  const order = SUMS_LINES.map(([, key]) => key);
  const keys = sums.map((s) => s.key);
  assert.deepEqual(
    keys,
    order.filter((key) => keys.includes(key)),
  );
  const known =
    'system-calls forks swap-ins swap-in-pages swap-outs swap-out-pages vnode-page-ins ' +
    'vnode-page-in-pages vnode-page-outs vnode-page-out-pages page-daemon-wakeups ' +
    'page-daemon-pages reactivated copy-on-write-faults ' +
    'copy-on-write-optimized-faults zero-fill-pages zero-fill-prezeroed intransit-blocking ' +
    'total-faults faults-from-fork pages-total-cached pages-freed pages-freed-by-daemon ' +
    'pages-freed-on-exit active-pages inactive-pages vm-cache-pages wired-pages free-pages ' +
    'bytes-per-page';
  assert.deepEqual(keys, known.split(' '));
  const text = vmstat_sums_text(sums);
  assert.match(text, /^ {8}1 {2}fork\(\) calls$/m);
  assert.match(text, /^ {7}34 pages affected by {2}fork\(\)$/m);
  assert.match(text, /^ {5}4096 bytes per page$/m);
  end();
});
test('the line of vmstat is since boot, then since the line before', () => {
  const mp = up();
  anon_at(mp, DATA, 100 * P);
  const fetch = memstat_fetch_live();
  const since = vmstat_boot_time(fetch);
  assert.ok(typeof since === 'number' && since <= Date.now());
  const first = vmstat_sample(fetch, since + 2000);
  assert.ok(typeof first !== 'number');
  for (let i = 0; i < 20; i++) poke(mp, DATA + i * P, 1);
  const second = vmstat_sample(fetch, since + 4000);
  assert.ok(typeof second !== 'number');
  assert.equal(second.counts.flt - first.counts.flt, 20);
  const boot_row = vmstat_rates(first, null, since);
  assert.equal(boot_row.rates.fr, Math.round(first.counts.fr / 2));
  const row = vmstat_rates(second, first, since);
  assert.equal(row.rates.flt, 10, 'in two seconds');
  assert.equal(row.sample.active, 400);
  const wrapped = { ...first, at: since, counts: { ...first.counts, flt: 2 ** 32 - 10 } };
  const around = { ...second, at: since + 1000, counts: { ...second.counts, flt: 5 } };
  assert.equal(vmstat_rates(around, wrapped, since).rates.flt, 15);
  const [above, titles] = vmstat_titles().split('\n');
  assert.equal(
    titles,
    ' r b w     avm    fre   flt  re  pi  po    fr  sr   sy'.replace(/^ /, '  '),
  );
  assert.match(above, /^ procs {6}memory {6}page {29}faults$/);
  assert.match(vmstat_line(row), /^ {2}1 0 0 {5}400 +\d+ {4}10 {3}0 {3}0 {3}0 {5}0 {3}0 {4}0\n$/);
  end();
});
