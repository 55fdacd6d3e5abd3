/*
 * vm_player.test.lib: recordings of system calls played in this thread, operation by operation,
 * and beside a naive model of what is mapped where.
 */
import assert from 'node:assert/strict';
import { checked_quiet } from '../../sys/machine/parts.ts';
import { PAGE_SIZE } from '../../sys/machine/memory.ts';
import { NULL } from '../../sys/machine/struct.ts';
import { OBJT_DEVICE, vm_object } from '../../sys/h/vm_object.ts';
import { PK_LIMBO, PK_OBJECT, PK_TABLE } from '../../sys/h/vm_page.ts';
import { vm_map } from '../../sys/h/vm_map.ts';
import { boot, shutdown } from '../../sys/boot/whole.ts';
import { to_address } from '../../sys/map/vm_bank.ts';
import { maps_all, vm_maps_check } from '../../sys/map/vm_map_check.ts';
import { objects_all } from '../../sys/object/vm_object_check.ts';
import { vm_page_census, vm_page_check } from '../../sys/page/vm_page.ts';
import { vm_page_limbo_free } from '../../sys/page/vm_page_limbo.ts';
import { pmap_check } from '../../sys/pmap/pmap_check.ts';
import { uma_check } from '../../sys/uma/uma_check.ts';
import { read_text } from '../read/strace.test.lib.ts';
import { VM_COLUMNS } from '../ring/vm_events.ts';
import { VmModel } from './vm_events.model.ts';
import { VmPlayer, type VmTotals } from './vm_player.ts';
import { vm_shared_buffers } from './vm_shared.ts';
import { stretches } from './vm_stretch.ts';

/** Runs in a machine of one CPU, which proves what it can. */
export function in_machine<T>(memory: string, run: () => T): T {
  boot({ cpus: 1, fresh: true, memory, options: { INVARIANTS: true, WITNESS: true } });
  try {
    return run();
  } finally {
    shutdown();
  }
}
/** Proves maps, objects, page tables and pages. The machine is quiet. */
export function all_check(): void {
  vm_maps_check();
  checked_quiet(true);
  for (const mp of maps_all()) if (vm_map.pmap[mp] !== NULL) pmap_check(vm_map.pmap[mp]);
  checked_quiet(false);
  uma_check();
  vm_page_check();
}
/** The same, and there is no space, no page of one, and none of an object. */
export function none_left(): void {
  vm_page_limbo_free();
  assert.deepEqual(maps_all(), []);
  assert.ok(
    objects_all().every((o) => vm_object.type[o] === OBJT_DEVICE),
    'objects are left',
  );
  const census = vm_page_census();
  assert.deepEqual([census[PK_OBJECT], census[PK_TABLE], census[PK_LIMBO]], [0, 0, 0]);
  all_check();
}
/** Pages of a space of the recording by their numbers, with their protection. */
export function pages_of(player: VmPlayer, space: number): Map<number, number> {
  const mp = player.map_of(space);
  const pages = new Map<number, number>();
  if (mp === NULL) return pages;
  for (const { start, end, prot } of stretches(mp, 0, 2 ** 31 - 1)) {
    const first = to_address(mp, start) / PAGE_SIZE;
    for (let i = 0; i < end - start; i++) pages.set(first + i, prot);
  }
  return pages;
}

export interface Play {
  /** Operations between two proofs of everything. */
  readonly prove_each?: number;
  /** Where files of the recording get contents; none: they are memory. */
  readonly folder?: string;
  /** What is mapped need not be what the model says: memory is short. */
  readonly short?: boolean;
  /** Called before the spaces that are left end. */
  readonly before_end?: (player: VmPlayer) => void;
}
/** Plays a recording in the machine that is up, beside the model. */
export function play_text(text: string | Uint8Array, how: Play = {}): VmTotals {
  const { rows, files } = read_text(text);
  const model = new VmModel();
  const player = new VmPlayer({
    index: 0,
    players: 1,
    spaces: vm_shared_buffers(),
    verify: true,
    folder: how.folder ?? '',
  });
  const each = how.prove_each ?? 1;
  for (let at = 0; at < rows.length; at += VM_COLUMNS * each) {
    const some = rows.subarray(at, at + VM_COLUMNS * each);
    const count = some.length / VM_COLUMNS;
    player.play({ rows: some, count, files });
    model.play(some, count);
    all_check();
    if (how.short !== true) as_the_model(player, model);
  }
  how.before_end?.(player);
  player.finish();
  none_left();
  const { touch } = player.totals;
  assert.deepEqual([touch.verify_errors, touch.refused, touch.complaints], [0, 0, []]);
  return player.totals;
}
/** Every space has the pages that the model has there, with their protection. */
export function as_the_model(player: VmPlayer, model: VmModel): void {
  for (const [number, { pages }] of model.spaces) {
    const found = pages_of(player, number);
    assert.equal(found.size, pages.size, `pages of space ${number}`);
    for (const [page, prot] of pages) {
      assert.equal(found.get(page), prot, `space ${number}, page ${page.toString(16)}`);
    }
  }
}
