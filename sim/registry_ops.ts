/*
 * registry_ops: named objects are made, shared and ended while others do the same.
 *
 * Two CPUs ask for the same zone, records and queue by name, so that one makes
 * what the other finds, and both let go, so that the last one ends it.  The
 * parts are small, but of every sort: pages of a run with a page whose last items
 * are withheld, blocks from slabs and a block of whole pages, a ring.
 *
 * Afterwards what is left is ended, and then there must be nothing: no entry, no
 * zone, no block of the three types, no page outside the free queues and the
 * slabs.  So a CPU that died in the middle of any step lost nothing.
 */
import { i32, type Ptr, struct } from '../src/sys/machine/struct.ts';
import { type reg_entry_t, reg_root, type RegKind } from '../src/sys/h/registry.ts';
import { PK_WIRED } from '../src/sys/h/vm_page.ts';
import { queue_init } from '../src/sys/client/kern_queue.ts';
import {
  registry_add,
  registry_check,
  registry_each,
  registry_end,
  registry_find,
  registry_key,
  registry_leave,
  registry_lock,
  registry_ready,
  registry_root,
  registry_settle,
  registry_unlock,
  registry_use,
  registry_used_by_others,
} from '../src/sys/client/kern_registry.ts';
import { part_columns, part_numbers, part_zone } from '../src/sys/client/kern_registry_parts.ts';
import { free, M_NOWAIT, malloc } from '../src/sys/kmem/kern_malloc.ts';
import { malloc_desc2type, malloc_type_sums } from '../src/sys/kmem/kern_malloc_type.ts';
import { vm_page_census } from '../src/sys/page/vm_page.ts';
import { uma, uma_root } from '../src/sys/uma/uma_int.ts';
import { uma_reclaim } from '../src/sys/uma/uma_drain.ts';
import { check_account } from './account.ts';
import { type SimScript, scratch } from './script.ts';

type rec_t = Ptr<'sim_registry'>;
/* Locks: (c) constant */
const rec = struct<rec_t>('sim_registry')({
  zones: i32('c', 'zones of the machine itself'),
});

const CAPACITY = 300;
const BLOCK_BYTES = 200;
const COLUMNS = [CAPACITY, 2 * 4096, 40];

function build(e: reg_entry_t, kind: RegKind, name: string): boolean {
  if (kind === 'zone') return part_zone(e, name, 64, 8, 10) === 0;
  if (kind === 'queue') return queue_init(e, 20) === 0;
  return part_numbers(e, name, CAPACITY) === 0 && part_columns(e, 'sim columns', COLUMNS) === 0;
}
function obtain(kind: RegKind, name: string): void {
  const key = registry_key(kind, name);
  registry_lock();
  let e = registry_find(key);
  if (e === 0) {
    e = registry_add(key, 'shape');
    if (e !== 0 && build(e, kind, name)) registry_ready(e);
    else if (e !== 0) {
      registry_end(e);
      e = 0 as reg_entry_t;
    }
  }
  if (e !== 0) registry_use(e, true);
  registry_unlock();
}
function release(kind: RegKind, name: string): void {
  registry_lock();
  const e = registry_find(registry_key(kind, name));
  if (e !== 0 && registry_used_by_others(e)) registry_use(e, false);
  else if (e !== 0) registry_end(e);
  registry_unlock();
  registry_settle();
}
export const registry_turn =
  (kind: RegKind, name: string): (() => void) =>
  () => {
    obtain(kind, name);
    release(kind, name);
  };

function block(): void {
  const t = malloc_desc2type('temp');
  free(malloc(BLOCK_BYTES, t, M_NOWAIT), t);
}

/** The script for objects of one kind. */
export const registry_script = (kind: RegKind, help: string): SimScript => ({
  help,
  cpus: 2,
  victim: 1,
  kill_seeds: 3,
  setup() {
    for (const k of ['zone', 'records', 'queue'] as const) registry_turn(k, 'warm')();
    rec.zones[scratch<rec_t>()] = uma_root.nzones[uma()];
  },
  ops: (cpu) => [
    registry_turn(kind, 'shared'),
    block, // of the class of the entries: under INVARIANTS it looks at what they left
    registry_turn(kind, `own ${cpu}`),
    () => obtain(kind, 'shared'),
    () => registry_leave(),
    () => release(kind, 'shared'),
  ],
  check,
});
function check(): string | undefined {
  registry_check();
  registry_lock();
  const left: reg_entry_t[] = [];
  registry_each((e) => left.push(e));
  for (const e of left) registry_end(e);
  registry_unlock();
  registry_settle();
  uma_reclaim();
  if (reg_root.count[registry_root()] !== 0) return 'entries are left';
  const zones = uma_root.nzones[uma()] - rec.zones[scratch<rec_t>()];
  if (zones !== 0) return `${zones} zones are left`;
  for (const name of ['registry', 'queue', 'sim columns']) {
    const { inuse, bytes } = malloc_type_sums(malloc_desc2type(name));
    if (inuse !== 0 || bytes !== 0) return `type '${name}': ${inuse} blocks, ${bytes} bytes left`;
  }
  if (vm_page_census()[PK_WIRED] !== 0) return 'pages of a run are left';
  return check_account();
}
