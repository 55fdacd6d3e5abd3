/*
 * vm_map: address spaces come, are locked, and end.
 *
 *      vm_map_create ───────> a reference in this CPU's hand
 *      vm_map_anchor ───────> a record leads to it now              in that record's section
 *      vm_map_unanchor <───── it leads to it no more                in that record's section
 *      vm_map_deallocate      the reference in hand is given up; with the last one it ends
 *
 * As with memory objects a reference is in a record or noted in the hand of a CPU, and whoever
 * settles a dead CPU gives up what is noted there.
 *
 * Locks.  A map has an sx lock, the outermost of virtual memory.  Faults hold it shared.  A system
 * map (vm_kern.ts) has a mutex in its place, and whoever reads it has it for himself, too.  Every
 * time that somebody takes it exclusively its timestamp goes up: who let go of the map and
 * finds the same timestamp later, plus its own, need not look anything up again.
 *
 * A death under the lock.  What the ring and the entries say changes in undo sections of a
 * dozen words; the tree, the holes and the hint are not logged, and are made anew from the ring
 * by whoever takes the lock over (vm_map_rebuild).
 *
 * What is taken out of a map while it is locked is let go of after it is unlocked, because the
 * end of an object may take long: an entry that leaves the ring joins, in the same section, a
 * list that this CPU's record leads to, and takes the reference to its object along.
 * vm_map_unlock works through that list; whoever settles a dead CPU does so too.
 *
 * Read next: vm_map_tree.ts (what covers a page, where a hole is), vm_map_entry.ts (entries are
 * made, cut and merged), vm_map_insert.ts, vm_map_range.ts (what is done to ranges).
 */
import { atomic_add, atomic_load } from '../machine/atomic.ts';
import { HAND_MAPS, pcpu as pcpu_, pcpu_of, thr as thr_ } from '../machine/cpu.ts';
import { tid_alive } from '../machine/death.ts';
import { boot_alloc, M, machine as machine_, ROOT_MAP } from '../machine/header.ts';
import { atop } from '../machine/memory.ts';
import { opt as opt_ } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import { checked_fresh, checked_publish } from '../machine/parts.ts';
import { elem, field_word, NULL } from '../machine/struct.ts';
import { sysctl_value } from '../machine/sysctl_decl.ts';
import { vector } from '../machine/vectors.ts';
import { W_VMMAP } from '../machine/wmesg.ts';
import { zone_declared } from '../machine/zone_decl.ts';
import { M_NOWAIT } from '../h/malloc_flags.ts';
import { UMA_ZONE_NOFREE, type zone_t } from '../h/uma.ts';
import { CPUSET_WORDS, type pmap_t } from '../h/pmap.ts';
import {
  MAP_ENTRY_IN_TRANSITION,
  MAP_ENTRY_NEEDS_WAKEUP,
  VM_BANKS,
  VM_MAP_MAX,
  VM_MAP_SYSTEM,
  VM_MAP_USER,
  vm_map,
  vm_map_entry,
  type vm_map_entry_t,
  vm_map_root,
  type vm_map_root_t,
  type vm_map_t,
} from '../h/vm_map.ts';
import type { vm_region_t } from '../h/vm_region.ts';
import type { vm_window_run_t } from '../h/vm_window.ts';
import { mtx_assert, mtx_init, mtx_lock, mtx_timedlock, mtx_unlock } from '../sync/kern_mutex.ts';
import {
  rw_assert,
  rw_downgrade,
  rw_init,
  rw_rlock,
  rw_runlock,
  rw_timedrlock,
  rw_timedwlock,
  rw_try_upgrade,
  rw_wlock,
  rw_wunlock,
} from '../sync/kern_rwlock.ts';
import { LC_VM_MAP, LC_VM_MAPS } from '../sync/lock_order.ts';
import { tsleep, wakeup } from '../sync/subr_sleepqueue.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { list_insert, list_remove } from '../sync/undo_list.ts';
import { zone_alloc_hand, zone_free_at } from '../uma/uma_core.ts';
import { item_in_hand, item_settle } from '../uma/uma_keg.ts';
import { uma_zcreate } from '../uma/uma_zone.ts';
import { entries_reap, vm_map_process_deferred } from './vm_map_entry.ts';
import { holds_died, holds_settle } from './vm_hold.ts';
import { map_empty } from './vm_map_range.ts';
import { map_header, tree_rebuild } from './vm_map_tree.ts';
import { entry_back_out } from './vm_map_wire.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const thr = thr_;
const pcpu = pcpu_;
const opt = opt_;
const machine = machine_;
const map = vm_map;
const entry = vm_map_entry;
const root = vm_map_root;

const Z_MAPS = zone_declared('MAP', 'Address spaces');
const Z_ENTRIES = zone_declared('MAP ENTRY', 'What is where in an address space');
const init = vector('vm_map_zinit', (mp: vm_map_t) => {
  rw_init(map.lock, mp, LC_VM_MAP);
  return 0;
});
/** How long a wait lasts before it looks again, ms: a wake-up may have died with its sender. */
const SLICE_MS = 1000;
/** What data may be as large as at first, and what that limit may become. */
const DFLDSIZ_BYTES = 128 * 2 ** 20;
const MAXDSIZ_BYTES = 32 * 2 ** 30;

/** The record that anchors all maps. */
export function map_root(): vm_map_root_t {
  return machine.roots[elem(M, ROOT_MAP)] as vm_map_root_t;
}
/** Lays the root out, while boot_alloc still works. */
export function vm_map_boot(): void {
  const r = boot_alloc(root.sizeof, 'address spaces', 32) as vm_map_root_t;
  machine.roots[elem(M, ROOT_MAP)] = r;
  mtx_init(root.lock, r, LC_VM_MAPS);
}
/** Makes the zones. */
export function vm_map_startup(): void {
  const r = map_root();
  root.maps[r] = uma_zcreate(Z_MAPS, map.sizeof * 4, { init, flags: UMA_ZONE_NOFREE, align: 63 });
  root.entries[r] = uma_zcreate(Z_ENTRIES, entry.sizeof * 4, { align: 31 });
}
sysctl_value('vm.maps', { type: 'uint', help: 'Address spaces' }, () => root.count[map_root()]);

/** Pages that spaces have wired: a sample. */
export function vm_map_wired(): number {
  const r = map_root();
  let pages = 0;
  mtx_lock(root.lock, r);
  for (let mp = root.first[r]; mp !== NULL; mp = map.next[mp]) pages += map.wired[mp];
  mtx_unlock(root.lock, r);
  return pages;
}
sysctl_value(
  'vm.locked_pages',
  { type: 'uint', unit: 'pages', help: 'Pages that address spaces have locked' },
  vm_map_wired,
);

// --- references on their way -------------------------------------------------------------------

/** Notes a reference in this CPU's hand. Inside a section. */
function hand_push(mp: vm_map_t): void {
  const { pc } = thr;
  const n = pcpu.in_hand_maps[pc];
  if (n >= HAND_MAPS) panic('vm_map: more references in hand than it can hold', n);
  save(pcpu.in_hand_map, elem(pc, n));
  save(pcpu.in_hand_maps, pc);
  pcpu.in_hand_map[elem(pc, n)] = mp;
  pcpu.in_hand_maps[pc] = n + 1;
}
/** A record leads to the map from here on: its reference is in hand no more. In a section. */
export function vm_map_anchor(mp: vm_map_t): void {
  const { pc } = thr;
  const last = pcpu.in_hand_maps[pc] - 1;
  let i = last;
  while (i >= 0 && pcpu.in_hand_map[elem(pc, i)] !== mp) i--;
  if (i < 0) panic('vm_map: no reference to it in hand', mp * 4);
  save(pcpu.in_hand_map, elem(pc, i));
  save(pcpu.in_hand_maps, pc);
  pcpu.in_hand_map[elem(pc, i)] = pcpu.in_hand_map[elem(pc, last)];
  pcpu.in_hand_maps[pc] = last;
}
/** A record leads to it no more: the reference is in hand. Inside the record's section. */
export function vm_map_unanchor(mp: vm_map_t): void {
  hand_push(mp);
}
/** One more reference, into this CPU's hand. The caller knows that the map lives. */
export function vm_map_reference(mp: vm_map_t): void {
  const r = map_root();
  mtx_lock(root.lock, r);
  undo_begin(root.lock, r);
  save(map.refs, mp);
  map.refs[mp]++;
  hand_push(mp);
  undo_end();
  mtx_unlock(root.lock, r);
}

// --- coming and going --------------------------------------------------------------------------

/**
 * A new map of the pages from `min` up to `max`, of which `limit` may be mapped, with one
 * reference, in hand.  `pm` has its translations and is the map's from here on; it is the item on
 * top of this CPU's hand.  NULL: there are none.  A map of the kernel (`kind`) shares its pmap
 * with others.  Returns NULL if there is no memory; the pmap is in hand still.  Never sleeps.
 */
export function vm_map_create(
  pm: pmap_t,
  min: number,
  max: number,
  limit = VM_MAP_MAX,
  kind = VM_MAP_USER,
): vm_map_t {
  if (min < 0 || min >= max || max > VM_MAP_MAX) panic('vm_map_create: bounds', min, max);
  const r = map_root();
  const mp = zone_alloc_hand(zone_for(kind), M_NOWAIT) as vm_map_t;
  if (mp === NULL) return mp;
  checked_fresh(mp, map.sizeof);
  const header = map_header(mp);
  map.root[mp] = NULL as vm_map_entry_t;
  map.hint[mp] = NULL as vm_map_entry_t;
  for (const f of [map.nentries, map.size, map.timestamp, map.tsize, map.dsize, map.ssize]) {
    f[mp] = 0;
  }
  for (const f of [map.taddr, map.daddr, map.maxsaddr, map.gone, map.cursor]) f[mp] = 0;
  for (const f of [map.region_ids, map.region_ends, map.joint, map.needs_wakeup]) f[mp] = 0;
  map.kind[mp] = kind;
  for (const f of [map.wired, map.wire_future, map.holds]) f[mp] = 0;
  for (let i = 0; i < CPUSET_WORDS; i++) map.keepers[elem(mp, i)] = 0;
  map.regions[mp] = NULL as vm_region_t;
  map.limit[mp] = limit;
  map.dlimit[mp] = atop(DFLDSIZ_BYTES);
  map.dlimit_max[mp] = atop(MAXDSIZ_BYTES);
  map.slimit[mp] = VM_MAP_MAX;
  map.rss_limit[mp] = map.rss_hand[mp] = 0;
  map.wire_limit[mp] = VM_MAP_MAX;
  for (let b = 0; b < VM_BANKS; b++) map.banks[elem(mp, b)] = 0;
  map.runs[mp] = NULL as vm_window_run_t;
  map.pmap[mp] = pm;
  map.refs[mp] = 1;
  entry.map[header] = mp;
  entry.next[header] = header;
  entry.prev[header] = header;
  entry.end[header] = min;
  entry.start[header] = max;
  entry.adj_free[header] = max - min;
  checked_publish(mp);
  list_in(r, mp);
  return mp;
}
/** The zone of maps of a kind: of those with a mutex, or of the others. */
function zone_for(kind: number): zone_t {
  const r = map_root();
  return (kind === VM_MAP_SYSTEM ? root.system[r] : root.maps[r]) as zone_t;
}
function list_in(r: vm_map_root_t, mp: vm_map_t): void {
  mtx_lock(root.lock, r);
  undo_begin(root.lock, r);
  list_insert(root, r, map, mp);
  save(pcpu.in_hand_items, thr.pc);
  const own = map.pmap[mp] !== NULL && map.kind[mp] === VM_MAP_USER;
  item_settle(own ? 2 : 1); // the map, and below it its pmap
  hand_push(mp);
  undo_end();
  mtx_unlock(root.lock, r);
}
/** The map leaves the list; then its record is free. Its last reference goes with it. */
function list_out(mp: vm_map_t): void {
  const r = map_root();
  mtx_lock(root.lock, r);
  undo_begin(root.lock, r);
  list_remove(root, r, map, mp);
  save(pcpu.in_hand_items, thr.pc);
  item_in_hand(mp);
  vm_map_anchor(mp); // nothing leads to it: the note goes, the item is in hand
  undo_end();
  mtx_unlock(root.lock, r);
  zone_free_at(zone_for(map.kind[mp]), mp, 0);
}
/**
 * Gives up the reference to the map in this CPU's hand.  With the last one it ends: what is
 * mapped is let go of.  The caller has no map locked.
 */
export function vm_map_deallocate(mp: vm_map_t): void {
  const r = map_root();
  mtx_lock(root.lock, r);
  const last = map.refs[mp] === 1;
  if (!last) {
    undo_begin(root.lock, r);
    save(map.refs, mp);
    map.refs[mp]--;
    vm_map_anchor(mp);
    undo_end();
  }
  mtx_unlock(root.lock, r);
  if (!last) return;
  // Nobody else can find it. The reference stays noted until it is on the list no more.
  map_empty(mp);
  list_out(mp);
}
/** What a dead CPU had of maps and entries on its way. A line of the death table. */
export function vm_map_reap(cpu: number): void {
  const r = map_root();
  if (r === 0) return;
  entries_reap(r, cpu);
  holds_died(r);
  // Whoever waits for an entry that it had in transition or wired looks again, and ends that.
  mtx_lock(root.lock, r);
  for (let mp = root.first[r]; mp !== NULL; mp = map.next[mp]) vm_map_wakeup(mp);
  mtx_unlock(root.lock, r);
  const pc = pcpu_of(cpu);
  for (;;) {
    // A settler that died here before is undone by this lock: its sections change that record.
    mtx_lock(root.lock, r);
    const n = pcpu.in_hand_maps[pc];
    const mp = n === 0 ? (NULL as vm_map_t) : (pcpu.in_hand_map[elem(pc, n - 1)] as vm_map_t);
    if (n > 0 && cpu !== thr.cpu) {
      undo_begin(root.lock, r);
      save(pcpu.in_hand_maps, pc);
      pcpu.in_hand_maps[pc] = n - 1;
      hand_push(mp);
      undo_end();
    }
    mtx_unlock(root.lock, r);
    if (n === 0) return;
    vm_map_deallocate(mp);
  }
}
/** Makes the tree of a map anew, whose lock a dead thread had. A line of the recovery table. */
export function vm_map_rebuild(lock: number): void {
  const mp = (lock - map.lock) as vm_map_t;
  tree_rebuild(mp);
  map.timestamp[mp]++;
}

// --- locks -------------------------------------------------------------------------------------

/** Takes the map exclusively. */
export function vm_map_lock(mp: vm_map_t): void {
  if (map.kind[mp] === VM_MAP_SYSTEM) mtx_lock(map.lock, mp);
  else rw_wlock(map.lock, mp);
  map.timestamp[mp]++;
}
/** The same if it can be had at once. */
export function vm_map_trylock(mp: vm_map_t): boolean {
  const system = map.kind[mp] === VM_MAP_SYSTEM;
  const taken = system ? mtx_timedlock(map.lock, mp, 0) : rw_timedwlock(map.lock, mp, 0);
  if (!taken) return false;
  map.timestamp[mp]++;
  return true;
}
/** Gives the map back, and lets go of what was taken out of maps meanwhile. */
export function vm_map_unlock(mp: vm_map_t): void {
  give_back(mp);
  if (pcpu.map_dying[thr.pc] !== 0) vm_map_process_deferred();
}
function give_back(mp: vm_map_t): void {
  if (map.kind[mp] === VM_MAP_SYSTEM) mtx_unlock(map.lock, mp);
  else rw_wunlock(map.lock, mp);
}
/** Takes the map shared. */
export function vm_map_lock_read(mp: vm_map_t): void {
  if (map.kind[mp] === VM_MAP_SYSTEM) mtx_lock(map.lock, mp);
  else rw_rlock(map.lock, mp);
}
/** The same if it can be had at once. */
export function vm_map_trylock_read(mp: vm_map_t): boolean {
  if (map.kind[mp] === VM_MAP_SYSTEM) return mtx_timedlock(map.lock, mp, 0);
  return rw_timedrlock(map.lock, mp, 0);
}
export function vm_map_unlock_read(mp: vm_map_t): void {
  if (map.kind[mp] === VM_MAP_SYSTEM) mtx_unlock(map.lock, mp);
  else rw_runlock(map.lock, mp);
}
/**
 * Turns the shared hold into the exclusive one.  False: the map changed meanwhile, and it is
 * not locked in any way.
 */
export function vm_map_lock_upgrade(mp: vm_map_t): boolean {
  if (rw_try_upgrade(map.lock, mp)) {
    map.timestamp[mp]++;
    return true;
  }
  const seen = map.timestamp[mp];
  rw_runlock(map.lock, mp);
  vm_map_lock(mp);
  if (map.timestamp[mp] === ((seen + 1) | 0)) return true;
  vm_map_unlock(mp);
  return false;
}
/** Turns the exclusive hold into a shared one. */
export function vm_map_lock_downgrade(mp: vm_map_t): void {
  if (!rw_downgrade(map.lock, mp)) panic('vm_map_lock_downgrade: too many locks are read', mp * 4);
  if (pcpu.map_dying[thr.pc] !== 0) vm_map_process_deferred();
}
/** Panics, under INVARIANTS, unless this CPU has the map exclusively. */
export function vm_map_assert_locked(mp: vm_map_t): void {
  if (!opt.INVARIANTS) return;
  if (map.kind[mp] === VM_MAP_SYSTEM) mtx_assert(map.lock, mp);
  else rw_assert(map.lock, mp, true);
}
/** The most pages that may be mapped; what is mapped already stays. */
export function vm_map_set_limit(mp: vm_map_t, pages: number): void {
  vm_map_lock(mp);
  undo_begin(map.lock, mp);
  save(map.limit, mp);
  map.limit[mp] = pages;
  undo_end();
  vm_map_unlock(mp);
}

// --- waiting -----------------------------------------------------------------------------------

/**
 * Gives the map, held exclusively, back and sleeps until vm_map_wakeup, at most `ms`.  A
 * wake-up that comes in between is not lost: the count is read before the map is given back,
 * and looked at again by the sleeper that is queued already.
 */
export function vm_map_unlock_and_wait(mp: vm_map_t, ms: number): void {
  const count = field_word(map.wait_seq, mp);
  const seen = atomic_load(count);
  give_back(mp);
  vm_map_wait(mp, seen, ms);
}
/** Sleeps until vm_map_wakeup, at most `ms`, unless it comes since `seen` was read. */
export function vm_map_wait(mp: vm_map_t, seen: number, ms: number): void {
  const count = field_word(map.wait_seq, mp);
  tsleep(count, W_VMMAP, ms, () => atomic_load(count) === seen); // errno: looks again
}
/** Wakes all who sleep for entries of the map. The map need not be locked. */
export function vm_map_wakeup(mp: vm_map_t): void {
  const count = field_word(map.wait_seq, mp);
  atomic_add(count, 1);
  wakeup(count);
}
/** This CPU will work on the entry with the map let go: it stays as it is. Locked exclusively. */
export function vm_map_transition_begin(mp: vm_map_t, e: vm_map_entry_t): void {
  vm_map_assert_locked(mp);
  undo_begin(map.lock, mp);
  save(entry.eflags, e);
  save(entry.transition, e);
  entry.eflags[e] |= MAP_ENTRY_IN_TRANSITION;
  entry.transition[e] = thr.tid;
  undo_end();
}
/** The end of that. True: somebody sleeps for it (vm_map_wakeup). Locked exclusively. */
export function vm_map_transition_end(mp: vm_map_t, e: vm_map_entry_t): boolean {
  vm_map_assert_locked(mp);
  const wanted = (entry.eflags[e] & MAP_ENTRY_NEEDS_WAKEUP) !== 0;
  undo_begin(map.lock, mp);
  save(entry.eflags, e);
  save(entry.transition, e);
  entry.eflags[e] &= ~(MAP_ENTRY_IN_TRANSITION | MAP_ENTRY_NEEDS_WAKEUP);
  entry.transition[e] = 0;
  undo_end();
  return wanted;
}
/**
 * Sleeps for an entry that is in transition, or wired by the kernel.  The map, locked exclusively
 * before and after, is let go meanwhile: the entry may be gone.  A transition whose thread
 * died is taken back here, and so are wirings of threads that died.
 */
export function vm_map_entry_wait(mp: vm_map_t, e: vm_map_entry_t): void {
  const by = entry.transition[e];
  if (by !== 0 && !tid_alive(by)) {
    if (entry_back_out(mp, e)) vm_map_wakeup(mp);
    return;
  }
  if (by === 0 && holds_settle(mp)) return;
  undo_begin(map.lock, mp);
  save(entry.eflags, e);
  entry.eflags[e] |= MAP_ENTRY_NEEDS_WAKEUP;
  undo_end();
  vm_map_unlock_and_wait(mp, SLICE_MS);
  vm_map_lock(mp);
}

// --- all of them ---------------------------------------------------------------------------------

/**
 * Calls `look` with each address space of programs, locked shared, or `exclusive`.  The caller
 * holds no lock.
 */
export function maps_each(look: (mp: vm_map_t) => void, exclusive = false): void {
  const r = map_root();
  const all: vm_map_t[] = [];
  mtx_lock(root.lock, r);
  for (let mp = root.first[r]; mp !== NULL; mp = map.next[mp]) {
    if (map.kind[mp] === VM_MAP_USER) all.push(mp);
  }
  mtx_unlock(root.lock, r);
  for (const mp of all) {
    // A record of a map stays one, and its lock a lock, whatever becomes of the map.
    if (exclusive) vm_map_lock(mp);
    else vm_map_lock_read(mp);
    mtx_lock(root.lock, r);
    const prev = map.prev[mp];
    const listed = (prev === NULL ? root.first[r] : map.next[prev]) === mp;
    mtx_unlock(root.lock, r);
    if (listed) look(mp);
    if (exclusive) vm_map_unlock(mp);
    else vm_map_unlock_read(mp);
  }
}
