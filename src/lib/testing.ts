/*
 * testing: machines that end, and tests that fail on what is left.
 *
 *      test('cache', (t) => {
 *        const machine = testMachine(t);         checks on, shut down at the end
 *        ...                                     a block still in use fails the test
 *      });
 *
 *      await withMachine({ memory: '64M' }, async (machine) => { ... });
 *
 * What counts as a leak: blocks of malloc types that the program made, items of
 * its zones and records, values in its queues, spaces in which something is mapped, open
 * windows, buffers of its chains; and by the
 * place where they were made, the chains that kern.ipc.mbuf_leak noted.  What
 * caches hold does not.
 */
import { EBUSY, EINVAL } from '../sys/machine/errno.ts';
import { PAGE_SIZE } from '../sys/machine/memory.ts';
import {
  malloc_type_list,
  malloc_type_name,
  malloc_type_sums,
} from '../sys/kmem/kern_malloc_type.ts';
import { declared_type_names } from '../sys/kmem/kern_malloc_type.ts';
import { zone_present } from '../sys/uma/uma_stats.ts';
import { mb_root, MCLBYTES, MJUM16BYTES, MJUM9BYTES, MJUMPAGESIZE, MSIZE } from '../sys/h/mbuf.ts';
import type { malloc_type_t } from '../sys/h/malloc.ts';
import { uma_zone, type zone_t } from '../sys/h/uma.ts';
import { mb } from '../sys/client/kern_mbuf.ts';
import { mbuf_sites } from '../sys/client/mbuf_leak.ts';
import { checkFunction, checkObject, checkOptions, shown } from './args.ts';
import { windows_open } from '../sys/map/vm_window.ts';
import { contextOf } from './context.ts';
import { kmemError, type Leak } from './errors.ts';
import { type BootOptions, boot, type Machine } from './machine.ts';
import { pmap } from '../sys/h/pmap.ts';
import { vm_map, type vm_map_t } from '../sys/h/vm_map.ts';
import { reg_queue, reg_records, reg_space, reg_zone } from '../sys/h/registry.ts';
import { records_used } from '../sys/client/kern_records.ts';
import { registry_name } from '../sys/client/kern_registry.ts';
import { partIfThere } from './parts.ts';
import { eachEntry } from './registry.ts';

/** What the façade and the kernel keep for themselves. */
function ownTypes(): Set<string> {
  const own = new Set(declared_type_names());
  eachEntry((e, kind) => {
    if (kind === 'records') own.add(registry_name(e)); // their columns
  });
  return own;
}
/** Buffers in use, and the chains that were noted where they were made. */
function chainLeaks(): Leak[] {
  const r = mb();
  const counts = (field: { [at: number]: number }) => zone_present(field[r] as zone_t);
  const [mbufs, packets] = [counts(mb_root.mbuf), counts(mb_root.pack)];
  // Over both: an mbuf may leave by the one zone and come back by the other.
  const count = mbufs.allocs + packets.allocs - mbufs.frees - packets.frees;
  const found: Leak[] = [];
  for (const { site, live } of mbuf_sites()) {
    if (live > 0) found.push({ kind: 'chain', name: site, count: live, bytes: 0 });
  }
  if (count <= 0) return found;
  const bytes =
    count * MSIZE +
    Math.max(0, counts(mb_root.clust).used - packets.free) * MCLBYTES +
    counts(mb_root.jumbop).used * MJUMPAGESIZE +
    counts(mb_root.jumbo9).used * MJUM9BYTES +
    counts(mb_root.jumbo16).used * MJUM16BYTES;
  return [{ kind: 'mbuf', name: 'mbuf', count, bytes }, ...found];
}
/** Open windows, by their space. */
function windowLeaks(): Leak[] {
  const names = new Map<vm_map_t, string>();
  eachEntry((e, kind) => {
    if (kind === 'space') names.set(reg_space.map[e], registry_name(e));
  });
  const found = new Map<string, { count: number; bytes: number }>();
  for (const { map, pages } of windows_open()) {
    const name = names.get(map) ?? '(destroyed)';
    const { count, bytes } = found.get(name) ?? { count: 0, bytes: 0 };
    found.set(name, { count: count + 1, bytes: bytes + pages * PAGE_SIZE });
  }
  return [...found].map(([name, sums]) => ({ kind: 'window', name, ...sums }));
}
/** What memguard has of a type or a zone, which counts nowhere else. */
function guardedOf(owner: malloc_type_t | zone_t, item: boolean): { count: number; bytes: number } {
  return partIfThere('kva')?.().guarded(owner, item) ?? { count: 0, bytes: 0 };
}
/** What the program has in use, largest first. A sample while other threads run. */
export function leaks(machine: Machine): Leak[] {
  contextOf('leaks', machine).enter('leaks');
  const found: Leak[] = [];
  const own = ownTypes();
  malloc_type_list((t) => {
    const name = malloc_type_name(t);
    const sums = malloc_type_sums(t);
    const guarded = guardedOf(t, false);
    const count = sums.inuse + guarded.count;
    const bytes = sums.bytes + guarded.bytes;
    if (count > 0 && !own.has(name)) found.push({ kind: 'type', name, count, bytes });
  });
  eachEntry((e, kind) => {
    const name = registry_name(e);
    if (kind === 'zone' || kind === 'records') {
      const z = kind === 'zone' ? reg_zone.zone[e] : reg_records.zone[e];
      const used = kind === 'zone' ? zone_present(z).used : records_used(e);
      const count = used + guardedOf(z, true).count;
      if (count > 0) found.push({ kind, name, count, bytes: count * uma_zone.size[z] });
    } else if (kind === 'queue') {
      const count = reg_queue.count[e];
      if (count > 0) found.push({ kind, name, count, bytes: count * 8 });
    } else if (kind === 'space') {
      const mp = reg_space.map[e];
      const mapped = vm_map.gone[mp] === 0 ? vm_map.size[mp] : 0;
      const bytes = mapped === 0 ? 0 : pmap.resident[vm_map.pmap[mp]] * PAGE_SIZE;
      if (mapped > 0) found.push({ kind, name, count: 1, bytes });
    }
  });
  return [...found, ...windowLeaks(), ...chainLeaks()].sort((a, b) => b.bytes - a.bytes);
}
const UNIT = {
  type: 'blocks',
  zone: 'items',
  records: 'items',
  queue: 'values',
  mbuf: 'buffers',
  chain: 'chains',
  space: 'not destroyed',
  window: 'open',
} as const;
/**
 * Throws EBUSY, naming what is in use, unless everything was given back.  `ignore`
 * names what may stay: types, zones, queues, spaces with the windows onto them.
 */
export function assertNoLeaks(
  machine: Machine,
  options: { ignore?: readonly string[] } = {},
): void {
  checkOptions('assertNoLeaks', options, ['ignore']);
  const { ignore = [] } = options;
  if (!Array.isArray(ignore)) {
    throw kmemError(EINVAL, 'assertNoLeaks', `ignore: ${shown(ignore)} is no array of names`);
  }
  const left = leaks(machine).filter((l) => !ignore.includes(l.name));
  if (left.length === 0) return;
  const list = left.map((l) => `${l.kind} '${l.name}': ${l.count} ${UNIT[l.kind]}`);
  throw kmemError(EBUSY, 'assertNoLeaks', `still in use: ${list.join('; ')}`, { leaks: left });
}

/**
 * Boots a machine for `fn`, ends the workers it started, checks for leaks, and
 * shuts it down, whatever happens.  Rejects with what `fn` throws, else with
 * EBUSY if something is still in use.
 */
export async function withMachine<T>(
  options: BootOptions,
  fn: (machine: Machine) => T | Promise<T>,
): Promise<T> {
  checkFunction('withMachine', fn);
  const machine = boot(options);
  try {
    const result = await fn(machine);
    await machine.endWorkers();
    if (machine.up) assertNoLeaks(machine);
    return result;
  } finally {
    await machine[Symbol.asyncDispose]();
  }
}

/** As much of a test's context as is used: node:test has `after`, vitest `onTestFinished`. */
export interface TestContext {
  after?(fn: () => Promise<void>): void;
  onTestFinished?(fn: () => Promise<void>): void;
}
/**
 * A machine for one test, with the kernel's checks on (INVARIANTS).  When the
 * test ends its workers are ended, the structures proved, leaks reported as a
 * failure, and the machine is shut down.
 */
export function testMachine(t: TestContext, options: BootOptions = {}): Machine {
  checkObject('testMachine', options);
  if (typeof t !== 'object' || t === null) {
    throw kmemError(EINVAL, 'testMachine', `${shown(t)} is no context of a test`);
  }
  const after = t.after ?? t.onTestFinished;
  if (after !== undefined) checkFunction('testMachine', after);
  const { options: kernel, ...rest } = options;
  checkObject('testMachine', kernel);
  const machine = boot({ memory: '16M', ...rest, options: { INVARIANTS: true, ...kernel } });
  const end = async (): Promise<void> => {
    try {
      await machine.endWorkers();
      if (!machine.up) return;
      machine.check();
      assertNoLeaks(machine);
    } finally {
      await machine[Symbol.asyncDispose]();
    }
  };
  if (after) after.call(t, end);
  return machine;
}
