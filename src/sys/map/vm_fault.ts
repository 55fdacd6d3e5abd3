/*
 * vm_fault: a page that an access found no translation for, or none for that.
 *
 *      map, shared         what is mapped there, and may it be used so?
 *        object, top       has it the page?  ── no ──> the object below, and so on
 *          page, busy      zeros, or a copy of the page that was found further down
 *      pmap                the translation
 *
 * An access to memory that is shown to others as well is a fault of one of two kinds.  One
 * that only reads is given the page where it is, without the right to write.  One that writes
 * gets a page of its own in the topmost object: copied, or, where nobody else can come to
 * see the page below, that page itself, moved up.  Where several entries show the topmost
 * object, others may have translations to the page below: they lose them, because the one
 * above it is theirs, too.
 *
 * Who waits.  The map stays shared all the while, so that what the entry shows stays what
 * it is; faults hold it beside each other.  The topmost object is locked while the chain is
 * walked, and until a translation to a page that was there has been entered: else another
 * fault could put a newer page in its place meanwhile, and this one the old page over it.  A page
 * that is new is busy in the topmost object, and is filled with no object locked, unless it is
 * zero already: who wants the same page sleeps for it.  For a busy page everything is let go of,
 * and begun anew.
 *
 * The CPU that faulted has a tag for the page afterwards, as after a miss (pmap.ts): it need not
 * walk the table again.
 *
 * Nothing is in a hand.  A thread that dies leaves a page without contents, which nobody sees,
 * or a translation more or less.
 *
 * A page that is lent (object/vm_object_loan.ts) is copied before it is written to, wherever it is.
 *
 * What only a pager has is filled by it with nothing else locked, and then looked up again.
 *
 * Memory comes from reclaiming (vm_pageout.ts), perhaps after a wait (vm_oom.ts), or not at all:
 * KERN_RESOURCE_SHORTAGE.  So does a page that is more than vm.v_resident_max allows.  A space that
 * has a limit of its own gives other pages up first (vm_rss.ts).
 */
import { counter_add, counter_u64 } from '../machine/counter.ts';
import { poll } from '../machine/cpu.ts';
import { host_can_block } from '../machine/host.ts';
import { panic } from '../machine/panic.ts';
import { NULL } from '../machine/struct.ts';
import {
  KERN_ABORTED,
  KERN_FAILURE,
  KERN_INVALID_ADDRESS,
  KERN_OUT_OF_BOUNDS,
  KERN_PROTECTION_FAILURE,
  KERN_RESOURCE_SHORTAGE,
  KERN_SUCCESS,
  MAP_ENTRY_BEHAV_RANDOM,
  MAP_ENTRY_BEHAV_SEQUENTIAL,
  MAP_ENTRY_IS_SUB_MAP,
  MAP_ENTRY_NEEDS_COPY,
  MAP_ENTRY_NOFAULT,
  MAP_ENTRY_SUPER,
  vm_map,
  vm_map_entry,
  type vm_map_entry_t,
  type vm_map_t,
} from '../h/vm_map.ts';
import {
  OBJ_DEAD,
  OBJ_ONEMAPPING,
  OBJT_DEAD,
  vm_object,
  type vm_object_t,
} from '../h/vm_object.ts';
import { PG_FICTITIOUS, PG_ZERO, VM_ALLOC_NORMAL, VM_ALLOC_ZERO, vm_page } from '../h/vm_page.ts';
import type { pmap_t } from '../h/pmap.ts';
import { VM_PROT_ALL, VM_PROT_COPY, VM_PROT_READ, VM_PROT_WRITE } from '../h/vm_prot.ts';
import { object_page_break } from '../object/vm_object_loan.ts';
import {
  object_anonymous,
  vm_object_deallocate,
  vm_object_reference_locked,
} from '../object/vm_object.ts';
import {
  object_page_alloc,
  object_page_borrowed,
  object_page_free,
  object_page_move,
  object_page_ready,
  object_page_seen,
  vm_page_sleep_if_busy,
} from '../object/vm_object_page.ts';
import { object_color } from '../object/vm_object_reserv.ts';
import {
  cluster_pages,
  pager_came,
  VM_PAGER_BAD,
  VM_PAGER_NOMEM,
  VM_PAGER_OK,
  vm_pager_beyond,
  vm_pager_has_page,
  vm_pager_page_in,
} from '../object/vm_pager.ts';
import { pmap_copy_page, pmap_zero_page } from '../page/vm_page.ts';
import { vm_page_zero_ahead } from '../page/vm_page_cache.ts';
import { PQ_ACTIVE, page_queue, vm_page_activate, vm_page_loans } from '../page/vm_pageq.ts';
import { pmap_enter, pmap_remove_all } from '../pmap/pmap.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import {
  vm_map_lock_downgrade,
  vm_map_lock_read,
  vm_map_lock_upgrade,
  vm_map_unlock_read,
} from './vm_map.ts';
import { vm_map_entry_make_object, vm_map_entry_shadow } from './vm_map_entry.ts';
import { entry_submap } from './vm_map_insert.ts';
import { shortage_none, vm_fault_reclaim } from './vm_oom.ts';
import { pageout_most, pageout_readahead } from './vm_pageout_vars.ts';
import { vm_map_growstack } from './vm_map_stack.ts';
import { vm_map_lookup } from './vm_map_tree.ts';
import { vm_rss_room } from './vm_rss.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const map = vm_map;
const entry = vm_map_entry;
const object = vm_object;
const page = vm_page;

const v_vm_faults = counter_u64('vm.stats.vm.v_vm_faults', 'Calls of the fault handler');
const v_cow_faults = counter_u64('vm.stats.vm.v_cow_faults', 'Private pages made by writing');
const v_cow_optim = counter_u64(
  'vm.stats.vm.v_cow_optim',
  'Of these, pages that were moved and not copied',
);
const v_zfod = counter_u64('vm.stats.vm.v_zfod', 'Pages that were filled with zeros by a fault');
const v_ozfod = counter_u64(
  'vm.stats.vm.v_ozfod',
  'Of these, pages that were zero when they were taken: zeroed by an idle CPU, or some at a time',
);
const v_io_faults = counter_u64(
  'vm.stats.vm.v_io_faults',
  'Faults that had their page brought in by a pager',
);
const v_intrans = counter_u64('vm.stats.vm.v_intrans', 'Faults that waited for a busy page');

/** Of this thread: how many pages the fault wanted that found too few. */
const shortage = { pages: 1 };
/** Beside the KERN_* codes: everything was let go of, and is to be looked up again. */
const AGAIN = -1;
/** How often a fault waits for a busy page, where a thread may not block, before it gives up. */
export const fault_patience = { rounds: host_can_block() ? Number.POSITIVE_INFINITY : 8 };
/** Accesses for which the topmost object must have the page. */
const OWN = VM_PROT_WRITE | VM_PROT_COPY;

/**
 * Makes page number `vpn` of a map usable for `access` (VM_PROT_*), by this or another CPU, if it
 * may be; with VM_PROT_COPY it gets a page of its own as if it were written to.  Answers with a
 * KERN_* code.  The caller holds no lock; it may sleep.  A browser's main thread may not: after
 * some milliseconds that is KERN_ABORTED.  `most`: see vm_fault_ahead.
 */
export function vm_fault(mp: vm_map_t, vpn: number, access: number, most = 0): number {
  counter_add(v_vm_faults, 1);
  let grown = false;
  const short = shortage_none();
  shortage.pages = 1;
  let waits = 0;
  if (map.rss_limit[mp] !== 0) vm_rss_room(mp);
  for (;;) {
    poll();
    vm_page_zero_ahead();
    const result = fault(mp, vpn, access, most);
    if (result === KERN_INVALID_ADDRESS && !grown) {
      grown = true; // a stack may grow so far
      if (vm_map_growstack(mp, vpn) === KERN_SUCCESS) continue;
    } else if (result === KERN_RESOURCE_SHORTAGE && vm_fault_reclaim(mp, short, shortage.pages))
      continue;
    if (result !== AGAIN) return result;
    if (++waits > fault_patience.rounds) return KERN_ABORTED;
  }
}
/**
 * The same by one who is about to use the n pages from there on where they are, and looks for them
 * by himself: what a pager has of them comes with the first, and not what lies before.
 * fault_ahead.pages: so many came, and have no translation.
 */
export function vm_fault_ahead(mp: vm_map_t, vpn: number, access: number, n: number): number {
  pager_came.pages = 0;
  const result = vm_fault(mp, vpn, access, Math.max(n, cluster_pages()));
  fault_ahead.pages = Math.max(1, pager_came.pages);
  return result;
}
/** Of this thread: see vm_fault_ahead. */
export const fault_ahead = { pages: 1 };
/** How often pages that had come may be gone again before memory is said to be short. */
const LOSSES = 32;
/** What one remembers who wants several pages in memory at a time, and faults them in. */
export interface Coming {
  /** The last page that was missing. */
  far: number;
  /** How often one was that had come. */
  lost: number;
}
/** A new one. */
export function coming_none(): Coming {
  return { far: -1, lost: 0 };
}
/**
 * Page `vpn` is the first that is missing.  False: pages go as fast as they come, because there is
 * no room for all of them, in memory or under vm.v_resident_max.
 */
export function still_coming(c: Coming, vpn: number): boolean {
  if (vpn <= c.far) return ++c.lost <= LOSSES;
  c.far = vpn;
  return true;
}
/** One attempt. Nothing is locked when it returns. */
function fault(top: vm_map_t, vpn: number, access: number, most: number): number {
  let mp = top;
  vm_map_lock_read(mp);
  let e = vm_map_lookup(mp, vpn);
  while (e !== NULL && entry.eflags[e] & MAP_ENTRY_IS_SUB_MAP) {
    const sub = entry_submap(e);
    vm_map_lock_read(sub);
    vm_map_unlock_read(mp);
    mp = sub;
    e = vm_map_lookup(mp, vpn);
  }
  let result = e === NULL ? KERN_INVALID_ADDRESS : may(mp, e, vpn, access);
  if (result === KERN_SUCCESS) result = entry_ready(mp, e, access);
  if (result === AGAIN) return AGAIN; // the map is not locked any more
  if (result === KERN_SUCCESS) return resolve(map.pmap[top], mp, e, vpn, access, most);
  vm_map_unlock_read(mp);
  return result;
}
/** Whether the entry may be used so. */
function may(mp: vm_map_t, e: vm_map_entry_t, vpn: number, access: number): number {
  if (entry.eflags[e] & MAP_ENTRY_NOFAULT) panic('vm_fault: on nofault entry', mp * 4, vpn);
  const rights = access & VM_PROT_ALL;
  const allowed = (entry.protection[e] & rights) === rights;
  return allowed ? KERN_SUCCESS : KERN_PROTECTION_FAILURE;
}
/**
 * Sees to it that the entry has an object, and if it is to be written one that nobody else
 * shows.  The map stays shared; AGAIN: it is not locked any more.
 */
function entry_ready(mp: vm_map_t, e: vm_map_entry_t, access: number): number {
  const shadow = (access & OWN) !== 0 && entry.eflags[e] & MAP_ENTRY_NEEDS_COPY;
  if (!shadow && entry.object[e] !== NULL) return KERN_SUCCESS;
  if (!vm_map_lock_upgrade(mp)) return AGAIN;
  const done = vm_map_entry_make_object(mp, e) && (!shadow || vm_map_entry_shadow(mp, e));
  vm_map_lock_downgrade(mp);
  return done ? KERN_SUCCESS : KERN_RESOURCE_SHORTAGE;
}

/** Gives the page behind an entry a translation. The map is shared, and is let go of. */
function resolve(
  pm: pmap_t,
  mp: vm_map_t,
  e: vm_map_entry_t,
  vpn: number,
  access: number,
  most: number,
): number {
  const o = entry.object[e];
  const i = vpn - entry.start[e] + entry.offset[e];
  const copies = (entry.eflags[e] & MAP_ENTRY_NEEDS_COPY) !== 0;
  const prot = copies ? entry.protection[e] & ~VM_PROT_WRITE : entry.protection[e];
  mtx_lock(object.lock, o);
  if (entry.eflags[e] & MAP_ENTRY_SUPER) object_color(o, vpn - i);
  let result = KERN_SUCCESS;
  if (i >= object.size[o]) result = KERN_OUT_OF_BOUNDS;
  if (dead(o)) result = KERN_PROTECTION_FAILURE;
  if (result !== KERN_SUCCESS) {
    mtx_unlock(object.lock, o);
    vm_map_unlock_read(mp);
    return result;
  }
  const write = (access & OWN) !== 0;
  let m = object_page_seen(o, i);
  const behaves = entry.eflags[e];
  if (m === 0 && vm_pager_has_page(o, i)) return page_in(mp, o, o, i, behaves, most);
  if (m === 0 && vm_pager_beyond(o, i)) return no_page(mp, o, o);
  if (m === 0) return below(pm, mp, { o, i, vpn, prot, write, behaves, most });
  if (page.busy[m] !== 0 && !object_page_borrowed(m, o)) return busy(mp, o, o, m);
  // Of a lent page the object gets a copy before anybody writes to it.
  if (vm_page_loans(m) > 0 && write) m = broken_off(m, o);
  const device = of_device(m);
  const own = !device && vm_page_loans(m) === 0;
  const stores = (access & VM_PROT_WRITE) !== 0;
  if (device && stores) result = KERN_PROTECTION_FAILURE;
  else if (m !== 0 && pmap_enter(pm, vpn, m, right(prot, own), false, access_of(stores)))
    used(m, o);
  else result = KERN_RESOURCE_SHORTAGE;
  mtx_unlock(object.lock, o);
  vm_map_unlock_read(mp);
  return result;
}
/** The copy that takes the place of page m of the object, which is lent; 0: no memory. */
function broken_off(m: number, o: vm_object_t): number {
  return pageout_most(1) > 0 ? object_page_break(m, o, VM_ALLOC_NORMAL) : 0;
}
/** The rights of a translation, which may always read; without `write` it may do no more. */
function right(prot: number, write: boolean): number {
  return (write ? prot : prot & ~VM_PROT_WRITE) | VM_PROT_READ;
}
function access_of(write: boolean): number {
  return write ? VM_PROT_WRITE : VM_PROT_READ;
}
/** Whether several entries may show the same page of an object. */
function shown_twice(o: vm_object_t): boolean {
  return object.refs[o] > 1 && (object.flags[o] & OBJ_ONEMAPPING) === 0;
}
/** Whether what an object held is gone. */
function dead(o: vm_object_t): boolean {
  return (object.flags[o] & OBJ_DEAD) !== 0 || object.type[o] === OBJT_DEAD;
}
/**
 * Has page `i` of the locked object `of` filled by its pager, which may sleep: everything else is
 * let go of meanwhile.  AGAIN: it is there.
 */
function page_in(
  mp: vm_map_t,
  o: vm_object_t,
  of: vm_object_t,
  i: number,
  eflags: number,
  most: number,
): number {
  if (o !== of) mtx_unlock(object.lock, o);
  vm_object_reference_locked(of);
  vm_map_unlock_read(mp);
  const around = eflags & MAP_ENTRY_BEHAV_RANDOM ? 1 : cluster_pages();
  const wanted = pageout_readahead(most || around);
  const ahead = most > 0 || (eflags & MAP_ENTRY_BEHAV_SEQUENTIAL) !== 0;
  const room = pageout_most(wanted);
  // Where the limit leaves room for a few of them only, others go first, once.
  const some = room > 0 && (room === wanted || shortage.pages === wanted);
  shortage.pages = wanted;
  const got = some ? vm_pager_page_in(of, i, room, ahead) : VM_PAGER_NOMEM;
  mtx_unlock(object.lock, of);
  vm_object_deallocate(of);
  if (got === VM_PAGER_NOMEM) return KERN_RESOURCE_SHORTAGE;
  if (got === VM_PAGER_OK) {
    counter_add(v_io_faults, 1);
    return most > 0 && o === of ? KERN_SUCCESS : AGAIN;
  }
  return got === VM_PAGER_BAD ? KERN_PROTECTION_FAILURE : KERN_FAILURE;
}
/** Lets go of everything: the page lies behind the end of the file that object `of` shows. */
function no_page(mp: vm_map_t, o: vm_object_t, of: vm_object_t): number {
  if (o !== of) mtx_unlock(object.lock, of);
  mtx_unlock(object.lock, o);
  vm_map_unlock_read(mp);
  return KERN_OUT_OF_BOUNDS;
}
/**
 * It was used: it goes to the active queue, if it is not there.  The object in which it is seen is
 * locked.
 */
function used(m: number, o: vm_object_t): void {
  if (page_queue(m) === PQ_ACTIVE || of_device(m) || object_page_borrowed(m, o)) return;
  vm_page_activate(m);
}
/** Whether it is a page that a device shows: nobody writes to it, and nothing is noted at it. */
function of_device(m: number): boolean {
  return (page.flags[m] & PG_FICTITIOUS) !== 0;
}
/** Lets go of everything and sleeps until the page of object `of` is busy no more. */
function busy(mp: vm_map_t, o: vm_object_t, of: vm_object_t, m: number): number {
  if (o !== of) mtx_unlock(object.lock, o);
  vm_map_unlock_read(mp);
  counter_add(v_intrans, 1);
  // A record of an object stays one, and its lock a lock, whatever becomes of the object.
  vm_page_sleep_if_busy(m, of);
  mtx_unlock(object.lock, of);
  return AGAIN;
}

/** What is wanted of the topmost object. */
interface Want {
  readonly o: vm_object_t;
  readonly i: number;
  readonly vpn: number;
  readonly prot: number;
  readonly write: boolean;
  /** Flags of the entry: how it will be used. */
  readonly behaves: number;
  /** See vm_fault_ahead; 0: it was not called. */
  readonly most: number;
}
/** The topmost object, which is locked, has no such page: those below it are asked. */
function below(pm: pmap_t, mp: vm_map_t, want: Want): number {
  const { o } = want;
  let of = o;
  let i = want.i;
  for (;;) {
    const next = object.backing[of];
    if (next !== NULL) {
      i += object.backing_offset[of];
      mtx_lock(object.lock, next);
    }
    if (of !== o) mtx_unlock(object.lock, of);
    if (next === NULL) return own_page(pm, mp, want, 0, NULL as vm_object_t);
    of = next;
    if (dead(of)) {
      mtx_unlock(object.lock, of);
      mtx_unlock(object.lock, o);
      vm_map_unlock_read(mp);
      return KERN_PROTECTION_FAILURE;
    }
    const m = i < object.size[of] ? object_page_seen(of, i) : 0;
    if (m === 0 && vm_pager_has_page(of, i)) return page_in(mp, o, of, i, want.behaves, want.most);
    if (m === 0 && vm_pager_beyond(of, i)) return no_page(mp, o, of);
    if (m === 0) continue;
    if (page.busy[m] !== 0 && !object_page_borrowed(m, of)) return busy(mp, o, of, m);
    if (want.write) return moved_up(pm, mp, want, m, of) ?? own_page(pm, mp, want, m, of);
    // Nothing is noted at a device's page, so that no write could take it from whom it shows.
    if (of_device(m) && shown_twice(o)) return own_page(pm, mp, want, m, of);
    const done = pmap_enter(pm, want.vpn, m, right(want.prot, false), false, VM_PROT_READ);
    if (done) used(m, of);
    mtx_unlock(object.lock, of);
    mtx_unlock(object.lock, o);
    vm_map_unlock_read(mp);
    return done ? KERN_SUCCESS : KERN_RESOURCE_SHORTAGE;
  }
}
/**
 * Moves page m of the object right below up, if nobody but the topmost one can come to see it.
 * Undefined: it is to be copied.
 */
function moved_up(
  pm: pmap_t,
  mp: vm_map_t,
  want: Want,
  m: number,
  of: vm_object_t,
): number | undefined {
  const { o, i, vpn, prot, write } = want;
  const alone = object.refs[of] === 1 && object.backing[o] === of && object_anonymous(of);
  if (!alone || vm_page_loans(m) > 0 || !object_page_move(m, of, o, i)) return undefined;
  counter_add(v_cow_faults, 1);
  counter_add(v_cow_optim, 1);
  const done = pmap_enter(pm, vpn, m, right(prot, true), false, access_of(write));
  if (done) used(m, o);
  mtx_unlock(object.lock, of);
  mtx_unlock(object.lock, o);
  vm_map_unlock_read(mp);
  return done ? KERN_SUCCESS : KERN_RESOURCE_SHORTAGE;
}
/**
 * A new page for the topmost object: a copy of page `from` of the locked object `of`, or zeros
 * where there is none.  It is busy while it is filled, and the topmost object is not locked.
 */
function own_page(pm: pmap_t, mp: vm_map_t, want: Want, from: number, of: vm_object_t): number {
  const { o, i } = want;
  const req = from === 0 ? VM_ALLOC_ZERO : 0;
  const m = pageout_most(1) > 0 ? object_page_alloc(o, i, req) : 0;
  let done = false;
  if (m === 0) {
    if (from !== 0) mtx_unlock(object.lock, of);
  } else if (from === 0 && page.flags[m] & PG_ZERO) {
    counter_add(v_zfod, 1);
    counter_add(v_ozfod, 1);
    done = own_page_enter(pm, want, m);
  } else {
    const shared = shown_twice(o);
    mtx_unlock(object.lock, o);
    fill(m, from);
    if (from !== 0) {
      if (shared) pmap_remove_all(from);
      mtx_unlock(object.lock, of);
    }
    mtx_lock(object.lock, o);
    done = own_page_enter(pm, want, m);
  }
  mtx_unlock(object.lock, o);
  vm_map_unlock_read(mp);
  return done ? KERN_SUCCESS : KERN_RESOURCE_SHORTAGE;
}
/**
 * A page that was filled is seen from here on, and has a translation.  In this order: others
 * write to it as soon as it has one, and what they wrote must not go with this thread.  The
 * object is locked.
 */
function own_page_enter(pm: pmap_t, { o, vpn, prot, write }: Want, m: number): boolean {
  vm_page_activate(m); // while it is busy: who dies here leaves it on a queue
  object_page_ready(m, o);
  const done = pmap_enter(pm, vpn, m, right(prot, true), false, access_of(write));
  if (!done) object_page_free(m, o);
  return done;
}
function fill(m: number, from: number): void {
  if (from !== 0) {
    pmap_copy_page(from, m);
    counter_add(v_cow_faults, 1);
    return;
  }
  counter_add(v_zfod, 1);
  pmap_zero_page(m);
}
