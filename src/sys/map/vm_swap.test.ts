/*
 * Shows: whatever goes out to the swap area comes back as it was, through copies, writes, and
 * chains that collapse over what is out there; slots are had by pages and by nobody else; a full
 * area loses nothing.
 * By what means: seeded programs beside a model, with the walkers.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { boot, shutdown } from '../boot/whole.ts';
import { pcpu, pcpu_of } from '../machine/cpu.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import { NULL } from '../machine/struct.ts';
import { KERN_SUCCESS, vm_map_entry } from '../h/vm_map.ts';
import { vm_object } from '../h/vm_object.ts';
import { SLOT_TWICE } from '../h/vm_page.ts';
import { object_index } from '../object/vm_object.ts';
import { object_slot } from '../object/vm_object_slot.ts';
import { radix_clear, radix_store } from '../pmap/vm_radix.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { undo_begin, undo_end } from '../sync/undo.ts';
import { map_at, map_drop, maps_make } from './vm_map.test.lib.ts';
import { map_entries } from './vm_map_check.ts';
import {
  FIRST,
  space_fork,
  space_make,
  space_map,
  space_read,
  space_write,
  spaces_check,
  spaces_end,
} from './vm_space.test.lib.ts';
import { run } from './vm_swap.fuzz.ts';
import { page_out, swap_up } from './vm_swap.test.lib.ts';

const object = vm_object;

test('spaces whose pages are out by lot hold what their model says', () => {
  for (let k = 0; k < 3; k++) {
    const seed = SEED * 3 + k;
    const { written, failed, freed } = run(seed, 4000);
    assert.ok(written > 100 && freed > 100, `seed ${seed}: ${written} written, ${freed} freed`);
    if (seed % 3 === 0) assert.ok(failed > 0, `seed ${seed}: the area was never full`);
  }
});

test('a slot that a thread was moving up when it died is not lost with the object between', () => {
  boot({ cpus: 2, fresh: true, memory: '4M', options: { INVARIANTS: true } });
  maps_make();
  swap_up(60);
  assert.ok(space_make(0));
  assert.equal(space_map(0, 0, 2), KERN_SUCCESS);
  for (const i of [0, 1]) assert.equal(space_write(0, i, 1), 0);
  assert.equal(space_fork(0, 1), KERN_SUCCESS);
  assert.equal(space_write(1, 0, 2), 0); // in an object over the first one
  assert.equal(space_fork(1, 2), KERN_SUCCESS);
  assert.equal(space_write(2, 1, 3), 0); // in an object over both
  page_out(map_at(1), FIRST, { written: 0, failed: 0, freed: 0 });
  const o = vm_map_entry.object[map_entries(map_at(2))[0]];
  const below = object.backing[o];
  assert.notEqual(object.backing[below], NULL);
  mtx_lock(object.lock, o);
  mtx_lock(object.lock, below);
  const slot = object_slot(below, 0);
  assert.ok(slot > 0, 'it is out');
  // As far as object_slot_move comes, in a thread that dies before it takes the mark away.
  undo_begin(object.lock, o);
  object.type[o] = object.type[below];
  const marked = -(slot | SLOT_TWICE);
  radix_store(object_index(o), 0, marked);
  undo_end();
  undo_begin(object.lock, below);
  radix_clear(object_index(below), 0);
  undo_end();
  pcpu.moving[pcpu_of(1)] = o;
  mtx_unlock(object.lock, below);
  mtx_unlock(object.lock, o);
  map_drop(1); // the object below has the one above left, and goes
  assert.notEqual(object.backing[o], below);
  assert.equal(space_read(2, 0), 2);
  assert.equal(space_read(0, 0), 1);
  pcpu.moving[pcpu_of(1)] = 0;
  spaces_check();
  spaces_end();
  shutdown();
});
