/*
 * vm_object: memory objects come, are referred to, and end.
 *
 *      vm_object_allocate ──> a reference in this CPU's hand
 *      vm_object_anchor ────> the word of a record leads to it now      in that record's section
 *      vm_object_unanchor <── the word leads to it no more              in that record's section
 *      vm_object_deallocate   the reference in hand is given up; with the last one it ends
 *
 * Who refers to an object is counted in it.  A reference that is in no record is noted in the
 * hand of the CPU that has it on its way; note and count change in one section, and so do
 * note and record.  So the count is at every moment the records plus the notes.
 *
 * An object ends in steps: it is DEAD, then its pages go one by one, then its backing object
 * is let go of, then it leaves the list.  Until then its last reference stays noted, so that
 * whoever settles a dead CPU finds it and goes on.
 *
 * Records are type-stable: a zone that keeps its slabs, locks that are made once with the
 * slab.  Who holds an old pointer may lock it and see that it is not what it was.
 *
 * Read next: vm_object_page.ts (its pages), vm_object_chain.ts (copies), vm_pager.ts (what pages
 * come with).
 */
import { HAND_REFS, pcpu as pcpu_, pcpu_of, type pcpu_t, thr as thr_ } from '../machine/cpu.ts';
import { boot_alloc, M, machine as machine_, ROOT_OBJECT } from '../machine/header.ts';
import { opt as opt_ } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import { elem, field_word, NULL } from '../machine/struct.ts';
import { sysctl_value } from '../machine/sysctl_decl.ts';
import { vector } from '../machine/vectors.ts';
import { W_OBJPIP } from '../machine/wmesg.ts';
import { zone_declared } from '../machine/zone_decl.ts';
import { M_NORECLAIM, M_NOWAIT } from '../h/malloc_flags.ts';
import { UMA_ZONE_NOFREE, type zone_t } from '../h/uma.ts';
import {
  OBJ_DEAD,
  OBJ_ONEMAPPING,
  OBJ_PIPWNT,
  OBJT_DEAD,
  OBJT_DEFAULT,
  OBJT_SWAP,
  OBJT_VNODE,
  vm_object,
  type vm_object_root_t,
  vm_object_root,
  type vm_object_t,
} from '../h/vm_object.ts';
import type { vm_radix_t } from '../h/vm_radix.ts';
import { checked_fresh, checked_publish } from '../machine/parts.ts';
import { mtx_assert, mtx_init, mtx_lock, mtx_trylock, mtx_unlock } from '../sync/kern_mutex.ts';
import { LC_VM_OBJECT, LC_VM_OBJECTS } from '../sync/lock_order.ts';
import { msleep, wakeup } from '../sync/subr_sleepqueue.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { list_insert, list_remove } from '../sync/undo_list.ts';
import { zone_alloc_hand, zone_free_at } from '../uma/uma_core.ts';
import { item_in_hand, item_settle } from '../uma/uma_keg.ts';
import { uma_zcreate } from '../uma/uma_zone.ts';
import { vm_device_startup } from './vm_device.ts';
import { vm_object_collapse } from './vm_object_chain.ts';
import { object_pages_free, object_pages_revoke, object_stale_out } from './vm_object_page.ts';
import { life } from '../machine/life.ts';
import { vnode_inactive } from './vm_vnode.ts';
import { radix_init, radix_zone_create } from '../pmap/vm_radix.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const thr = thr_;
const pcpu = pcpu_;
const opt = opt_;
const machine = machine_;
const object = vm_object;
const root = vm_object_root;

const Z_OBJECTS = zone_declared('VM OBJECT', 'Memory objects: what pages belong to');
const Z_NODES = zone_declared('RADIX NODE', 'Nodes of the indexes of memory objects');
const init = vector('vm_object_zinit', (o: vm_object_t) => {
  mtx_init(object.lock, o, LC_VM_OBJECT);
  return 0;
});
/** How long a wait lasts before it looks again, ms: a wake-up may have died with its sender. */
const SLICE_MS = 250;

/** The record that anchors all objects. */
export function object_root(): vm_object_root_t {
  return machine.roots[elem(M, ROOT_OBJECT)] as vm_object_root_t;
}
/** Lays the root out, while boot_alloc still works. */
export function vm_object_boot(): void {
  const r = boot_alloc(root.sizeof, 'memory objects', 32) as vm_object_root_t;
  machine.roots[elem(M, ROOT_OBJECT)] = r;
  mtx_init(root.lock, r, LC_VM_OBJECTS);
}
/** Makes the zones. */
export function vm_object_startup(): void {
  const r = object_root();
  const flags = UMA_ZONE_NOFREE;
  root.zone[r] = uma_zcreate(Z_OBJECTS, object.sizeof * 4, { init, flags, align: 63 });
  root.nodes[r] = radix_zone_create(Z_NODES);
  vm_device_startup();
}
sysctl_value(
  'vm.stats.object.count',
  { type: 'uint', help: 'Memory objects that there are' },
  () => root.count[object_root()],
);

/** The index of an object's pages. */
export function object_index(o: vm_object_t): vm_radix_t {
  return field_word(object.index, o) as vm_radix_t;
}
/** Whether it is anonymous memory, which nobody finds but by references to it. */
export function object_anonymous(o: vm_object_t): boolean {
  const type = object.type[o];
  return (type === OBJT_DEFAULT || type === OBJT_SWAP) && object.handle[o] === 0;
}

// --- references on their way -------------------------------------------------------------------

/** Notes a reference in this CPU's hand. Inside a section. */
function ref_push(o: vm_object_t): void {
  const { pc } = thr;
  const n = pcpu.in_hand_refs[pc];
  if (n >= HAND_REFS) panic('vm_object: more references in hand than it can hold', n);
  save(pcpu.in_hand_ref, elem(pc, n)); // the section may have taken another one out of there
  save(pcpu.in_hand_refs, pc);
  pcpu.in_hand_ref[elem(pc, n)] = o;
  pcpu.in_hand_refs[pc] = n + 1;
}
/** Takes the note of a reference to `o` out of this CPU's hand. Inside a section. */
function ref_pop(o: vm_object_t): void {
  const { pc } = thr;
  const last = pcpu.in_hand_refs[pc] - 1;
  let i = last;
  while (i >= 0 && pcpu.in_hand_ref[elem(pc, i)] !== o) i--;
  if (i < 0) panic('vm_object: no reference to it in hand', o * 4);
  save(pcpu.in_hand_ref, elem(pc, i));
  save(pcpu.in_hand_refs, pc);
  pcpu.in_hand_ref[elem(pc, i)] = pcpu.in_hand_ref[elem(pc, last)];
  pcpu.in_hand_refs[pc] = last;
}
/** A record leads to the object from here on: its reference is in hand no more. In a section. */
export function vm_object_anchor(o: vm_object_t): void {
  ref_pop(o);
}
/** A record leads to it no more: the reference is in hand. Inside the record's section. */
export function vm_object_unanchor(o: vm_object_t): void {
  ref_push(o);
}

// --- coming ------------------------------------------------------------------------------------

/**
 * A new object of `size` pages, with one reference, in hand.  NULL: no memory.  It never sleeps,
 * and reclaims nothing, because its callers may hold locks.
 */
export function vm_object_allocate(type: number, size: number, handle = 0, loan = 0): vm_object_t {
  const r = object_root();
  const o = zone_alloc_hand(root.zone[r] as zone_t, M_NOWAIT | M_NORECLAIM) as vm_object_t;
  if (o === NULL) return o;
  checked_fresh(o, object.sizeof);
  object.type[o] = type;
  object.flags[o] = type === OBJT_DEFAULT || type === OBJT_SWAP ? OBJ_ONEMAPPING : 0;
  object.size[o] = size;
  object.refs[o] = 1;
  object.handle[o] = handle;
  object.loan[o] = loan;
  const { shadow_count, paging, resident, backing_offset, color } = object;
  for (const f of [shadow_count, paging, resident, backing_offset, color]) f[o] = 0;
  for (const f of [object.backing, object.shadows, object.shadow_next, object.shadow_prev]) {
    f[o] = NULL as vm_object_t;
  }
  radix_init(object_index(o), o + object.lock);
  checked_publish(o);
  list_in(r, o);
  return o;
}
function list_in(r: vm_object_root_t, o: vm_object_t): void {
  mtx_lock(root.lock, r);
  undo_begin(root.lock, r);
  list_insert(root, r, object, o);
  save(pcpu.in_hand_items, thr.pc);
  item_settle();
  ref_push(o);
  undo_end();
  mtx_unlock(root.lock, r);
}
/** One more reference, into this CPU's hand. The caller knows that the object lives. */
export function vm_object_reference(o: vm_object_t): void {
  mtx_lock(object.lock, o);
  vm_object_reference_locked(o);
  mtx_unlock(object.lock, o);
}
/** The same under its lock. */
export function vm_object_reference_locked(o: vm_object_t): void {
  if (opt.INVARIANTS) mtx_assert(object.lock, o);
  undo_begin(object.lock, o);
  save(object.refs, o);
  object.refs[o]++;
  ref_push(o);
  undo_end();
}

// --- going -------------------------------------------------------------------------------------

/**
 * Gives up the reference to `o` in this CPU's hand.  With the last one the object ends,
 * and with it perhaps those below it; where one shadow is all that is left, the two become
 * one.  The caller holds no lock of an object.
 */
export function vm_object_deallocate(o: vm_object_t): void {
  for (let at = o; at !== NULL; at = drop(at));
}
/** Gives up one reference. Returns the object whose reference came into hand instead. */
function drop(o: vm_object_t): vm_object_t {
  mtx_lock(object.lock, o);
  if (object.refs[o] <= 1) return terminate(o);
  undo_begin(object.lock, o);
  save(object.refs, o);
  object.refs[o]--;
  ref_pop(o);
  undo_end();
  const file = object.type[o] === OBJT_VNODE && object.refs[o] === 1;
  const child = file ? (NULL as vm_object_t) : last_shadow(o);
  mtx_unlock(object.lock, o);
  if (file) vnode_inactive(o);
  if (child !== NULL) vm_object_collapse(child);
  return child;
}
/** The same with one that is not the last, and nothing follows from it. */
export function vm_object_release(o: vm_object_t): void {
  mtx_lock(object.lock, o);
  if (object.refs[o] <= 1) panic('vm_object_release: the last reference', o * 4);
  undo_begin(object.lock, o);
  save(object.refs, o);
  object.refs[o]--;
  ref_pop(o);
  undo_end();
  mtx_unlock(object.lock, o);
}
/** The one shadow whose reference is the last to `o`, referred to; NULL: there is no such. */
function last_shadow(o: vm_object_t): vm_object_t {
  const none = NULL as vm_object_t;
  if (object.refs[o] !== 1 || !object_anonymous(o)) return none;
  const child = object.shadows[o];
  if (child === NULL) {
    undo_begin(object.lock, o);
    save(object.flags, o);
    object.flags[o] |= OBJ_ONEMAPPING;
    undo_end();
    return none;
  }
  // Against the order of locks: only if it is free now; another fault or fork comes by again.
  if (!mtx_trylock(object.lock, child)) return none;
  const lives = (object.flags[child] & OBJ_DEAD) === 0 && object.refs[child] > 0;
  if (lives) vm_object_reference_locked(child);
  mtx_unlock(object.lock, child);
  return lives ? child : none;
}
/**
 * What the object holds is gone for good: its pages go, and every access fails from here on.
 * The caller refers to it and holds no lock of an object; whoever maps a page of it loses it.
 */
export function vm_object_revoke(o: vm_object_t): void {
  mtx_lock(object.lock, o);
  undo_begin(object.lock, o);
  save(object.type, o);
  object.type[o] = OBJT_DEAD;
  undo_end();
  object_pip_wait(o);
  object_pages_revoke(o); // should this thread die here, the rest goes with the object
  mtx_unlock(object.lock, o);
}
/** Ends an object whose last reference is in hand; it is locked. Returns its backing object. */
function terminate(o: vm_object_t): vm_object_t {
  undo_begin(object.lock, o);
  save(object.flags, o);
  object.flags[o] |= OBJ_DEAD;
  undo_end();
  object_pip_wait(o);
  object_pages_free(o);
  const backing = object.backing[o];
  if (backing !== NULL) {
    mtx_lock(object.lock, backing);
    object_shadow_out(o, backing);
    mtx_unlock(object.lock, backing);
    undo_begin(object.lock, o);
    save(object.backing, o);
    object.backing[o] = NULL as vm_object_t;
    ref_push(backing);
    undo_end();
  }
  mtx_unlock(object.lock, o);
  if (object.loan[o] !== 0) life.object_loan_end(o); // should this thread die here: again
  list_out(o);
  return backing;
}
/** The object leaves the list; then its record is free. Its last reference goes with it. */
function list_out(o: vm_object_t): void {
  const r = object_root();
  mtx_lock(root.lock, r);
  undo_begin(root.lock, r);
  list_remove(root, r, object, o);
  save(pcpu.in_hand_items, thr.pc);
  item_in_hand(o);
  ref_pop(o);
  undo_end();
  mtx_unlock(root.lock, r);
  zone_free_at(root.zone[r] as zone_t, o, 0);
}

// --- shadows -----------------------------------------------------------------------------------

/** Notes o among the shadows of `backing`. Both are locked. */
export function object_shadow_in(o: vm_object_t, backing: vm_object_t): void {
  undo_begin(object.lock, backing);
  const first = object.shadows[backing];
  save(object.shadow_next, o);
  save(object.shadow_prev, o);
  save(object.shadows, backing);
  save(object.shadow_count, backing);
  object.shadow_next[o] = first;
  object.shadow_prev[o] = NULL as vm_object_t;
  if (first !== NULL) {
    save(object.shadow_prev, first);
    object.shadow_prev[first] = o;
  }
  object.shadows[backing] = o;
  object.shadow_count[backing]++;
  undo_end();
}
/** Takes o from the shadows of `backing`, if it is there. Both are locked. */
export function object_shadow_out(o: vm_object_t, backing: vm_object_t): void {
  const [next, prev] = [object.shadow_next[o], object.shadow_prev[o]];
  if (prev === NULL && object.shadows[backing] !== o) return; // a dead CPU had come so far
  undo_begin(object.lock, backing);
  save(object.shadow_next, o);
  save(object.shadow_prev, o);
  save(object.shadow_count, backing);
  if (next !== NULL) {
    save(object.shadow_prev, next);
    object.shadow_prev[next] = prev;
  }
  if (prev !== NULL) {
    save(object.shadow_next, prev);
    object.shadow_next[prev] = next;
  } else {
    save(object.shadows, backing);
    object.shadows[backing] = next;
  }
  object.shadow_next[o] = NULL as vm_object_t;
  object.shadow_prev[o] = NULL as vm_object_t;
  object.shadow_count[backing]--;
  undo_end();
}

/** Notes o among the shadows of its backing object, if a dead CPU left it in no list. Locked. */
function shadow_relist(o: vm_object_t): void {
  const backing = object.backing[o];
  if (backing === NULL || (object.flags[o] & OBJ_DEAD) !== 0) return;
  mtx_lock(object.lock, backing);
  const listed = object.shadow_prev[o] !== NULL || object.shadows[backing] === o;
  if (!listed) object_shadow_in(o, backing);
  mtx_unlock(object.lock, backing);
}

// --- paging in progress ------------------------------------------------------------------------

/** This CPU will use pages of the object with its lock let go: it stays as it is. Locked. */
export function object_pip_add(o: vm_object_t): void {
  const { pc } = thr;
  const n = pcpu.paging[pc];
  if (n >= HAND_REFS) panic('vm_object: paging in more objects than can be noted', n);
  undo_begin(object.lock, o);
  save(object.paging, o);
  save(pcpu.paging, pc);
  pcpu.paging_in[elem(pc, n)] = o;
  object.paging[o]++;
  pcpu.paging[pc] = n + 1;
  undo_end();
}
/** The end of that. Locked. */
export function object_pip_done(o: vm_object_t): void {
  pip_out(o, thr.pc);
}
function pip_out(o: vm_object_t, pc: pcpu_t): void {
  const last = pcpu.paging[pc] - 1;
  let i = last;
  while (i >= 0 && pcpu.paging_in[elem(pc, i)] !== o) i--;
  if (i < 0) panic('vm_object: this CPU does not page in it', o * 4);
  undo_begin(object.lock, o);
  save(object.paging, o);
  save(pcpu.paging, pc);
  save(pcpu.paging_in, elem(pc, i));
  pcpu.paging_in[elem(pc, i)] = pcpu.paging_in[elem(pc, last)];
  pcpu.paging[pc] = last;
  object.paging[o]--;
  const wanted = object.paging[o] === 0 && (object.flags[o] & OBJ_PIPWNT) !== 0;
  if (wanted) {
    save(object.flags, o);
    object.flags[o] &= ~OBJ_PIPWNT;
  }
  undo_end();
  if (wanted) wakeup(field_word(object.paging, o));
}
/** Sleeps until nobody pages in the object. Locked, and locked again when it returns. */
export function object_pip_wait(o: vm_object_t): void {
  while (object.paging[o] > 0) {
    undo_begin(object.lock, o);
    save(object.flags, o);
    object.flags[o] |= OBJ_PIPWNT;
    undo_end();
    msleep(field_word(object.paging, o), object.lock, o, W_OBJPIP, SLICE_MS); // errno: looks again
  }
}

// --- deaths ------------------------------------------------------------------------------------

/** What a dead CPU had on its way in objects. A line of the death table. */
export function vm_object_reap(cpu: number): void {
  if (object_root() === 0) return;
  const pc = pcpu_of(cpu);
  paging_reap(pc);
  const moving = pcpu.moving[pc] as vm_object_t;
  if (moving !== NULL) {
    mtx_lock(object.lock, moving);
    object_stale_out(moving);
    shadow_relist(moving);
    mtx_unlock(object.lock, moving);
    pcpu.moving[pc] = 0;
  }
  const r = object_root();
  mtx_lock(root.lock, r); // a reaper may have died while it took a reference over: that is undone
  mtx_unlock(root.lock, r);
  while (pcpu.in_hand_refs[pc] > 0) {
    const o = pcpu.in_hand_ref[elem(pc, pcpu.in_hand_refs[pc] - 1)] as vm_object_t;
    if (cpu !== thr.cpu) ref_take_over(o, pc);
    vm_object_deallocate(o);
  }
}
/** The last reference in the hand of a dead CPU goes into this CPU's. */
function ref_take_over(o: vm_object_t, pc: pcpu_t): void {
  const r = object_root();
  mtx_lock(root.lock, r);
  undo_begin(root.lock, r);
  save(pcpu.in_hand_refs, pc);
  pcpu.in_hand_refs[pc]--;
  ref_push(o);
  undo_end();
  mtx_unlock(root.lock, r);
}
/** A dead CPU pages in no object any more. */
function paging_reap(pc: pcpu_t): void {
  // A reaper may have died while it ended the last one, which stands there still: that is undone.
  const n = pcpu.paging[pc];
  const half = (n < HAND_REFS ? pcpu.paging_in[elem(pc, n)] : NULL) as vm_object_t;
  if (half !== NULL) {
    mtx_lock(object.lock, half);
    mtx_unlock(object.lock, half);
  }
  while (pcpu.paging[pc] > 0) {
    const o = pcpu.paging_in[elem(pc, pcpu.paging[pc] - 1)] as vm_object_t;
    mtx_lock(object.lock, o);
    pip_out(o, pc);
    mtx_unlock(object.lock, o);
  }
}
