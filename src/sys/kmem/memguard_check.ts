/*
 * memguard_check: proves guarded blocks of a quiet machine.
 *
 *      numalloc - numfree   =   entries of blocks in use
 *      held_n, held_pages   =   entries that nobody may access, each with a record
 *      wasted               =   what blocks of less than a page leave of theirs, summed up
 *
 * A block that was made with guards has a hole on each side.  What waits is looked at for late
 * stores.  (Pages and translations: map/vm_kern_check.ts.)
 */
import { panic } from '../machine/panic.ts';
import { PAGE_SIZE } from '../machine/memory.ts';
import { get64, NULL } from '../machine/struct.ts';
import { guard_root, memguard_root } from '../h/memguard.ts';
import { MAP_ENTRY_GUARDED, vm_map_entry } from '../h/vm_map.ts';
import { vm_map_lock, vm_map_unlock } from '../map/vm_map.ts';
import { map_header } from '../map/vm_map_tree.ts';
import { guard_held_check, type Guarded, guarded_of } from './memguard_held.ts';
import { guard_late } from './memguard_trap.ts';
import { guard_map_there } from './memguard_vars.ts';

const root = memguard_root;
const entry = vm_map_entry;

/** The proof. Panics. */
export function memguard_check(): void {
  const mp = guard_map_there();
  if (mp === NULL) return;
  const header = map_header(mp);
  const live: Guarded[] = [];
  let held = 0;
  vm_map_lock(mp);
  for (let e = entry.next[header]; e !== header; e = entry.next[e]) {
    if (entry.transition[e] !== 0) panic('memguard: in transition', entry.start[e]);
    const b = guarded_of(e);
    if (entry.protection[e] === 0) held += b.end - b.start;
    else live.push(b);
    const [below, above] = [entry.prev[e], entry.next[e]];
    const alone =
      (below === header || entry.end[below] < b.start) &&
      (above === header || entry.start[above] > b.end);
    if (b.flags & MAP_ENTRY_GUARDED && !alone) panic('memguard: a guard is in use', b.start);
    const outside = b.at + b.size > b.end * PAGE_SIZE || b.size === 0;
    if (outside) panic('memguard: a block is not on its pages', b.start, b.size);
  }
  vm_map_unlock(mp);
  const r = guard_root();
  const n = get64(root.numalloc, r) - get64(root.numfree, r);
  if (n !== live.length) panic('memguard: blocks in use', n, live.length);
  const small = live.filter((b) => b.size < PAGE_SIZE);
  const wasted = small.reduce((sum, b) => sum + PAGE_SIZE - b.size, 0);
  if (get64(root.wasted, r) !== wasted) panic('memguard: wasted', get64(root.wasted, r), wasted);
  const waits = guard_held_check(mp, guard_late);
  if (waits !== held || waits !== root.held_pages[r])
    panic('memguard: pages that wait', waits, held);
}
