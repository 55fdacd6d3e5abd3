/*
 * vm_map (fuzz): the same seeded operations on a map and on an array of pages.
 *
 * Memory is mapped where it is asked for, in the first hole, in the last one, in place of what
 * is there; anonymous, or an object that two maps share, directly or as a private copy; taken out
 * again, protected, given advice, locked, written to and read.  Every answer must be the model's,
 * and from time to time every page is compared and the walker proves ring, tree and objects.
 */
import { boot } from '../boot/whole.ts';
import { NULL } from '../machine/struct.ts';
import { checked_quiet } from '../machine/parts.ts';
import { dice } from '../machine/seed.test.lib.ts';
import {
  KERN_NO_SPACE,
  KERN_RESOURCE_SHORTAGE,
  KERN_SUCCESS,
  MADV_DONTNEED,
  MADV_NOCORE,
  MADV_NORMAL,
  MADV_RANDOM,
  MADV_SEQUENTIAL,
  MADV_WILLNEED,
  MAP_COPY_ON_WRITE,
  MAP_ENTRY_BEHAV_RANDOM,
  MAP_ENTRY_BEHAV_SEQUENTIAL,
  MAP_ENTRY_NOCOREDUMP,
  MAP_ENTRY_USER_WIRED,
  VM_INHERIT_COPY,
  VM_INHERIT_SHARE,
  VM_MAP_WIRE_HOLESOK,
  VM_MAP_WIRE_NOHOLES,
  VM_MAP_WIRE_USER,
  VMFS_ANY_SPACE,
  VMFS_NO_SPACE,
  VMFS_TOPDOWN_SPACE,
  vm_map,
  vm_map_entry,
  type vm_map_t,
} from '../h/vm_map.ts';
import { OBJ_ONEMAPPING, OBJT_DEFAULT, vm_object, type vm_object_t } from '../h/vm_object.ts';
import { VM_PROT_ALL, VM_PROT_WRITE } from '../h/vm_prot.ts';
import {
  vm_object_allocate,
  vm_object_deallocate,
  vm_object_reference,
} from '../object/vm_object.ts';
import { objects_all } from '../object/vm_object_check.ts';
import { page_failpoint } from '../page/vm_page.ts';
import { map_failpoint } from './vm_map_entry.ts';
import { vmspace_alloc, vmspace_fork } from './vm_map_fork.ts';
import { vm_hold_unwire, vm_hold_wire } from './vm_hold.ts';
import { vm_map_deallocate, vm_map_lock_read, vm_map_unlock_read } from './vm_map.ts';
import { map_entries, maps_all, vm_map_check, vm_maps_check } from './vm_map_check.ts';
import { type Mapping, vm_map_find, vm_map_fixed } from './vm_map_insert.ts';
import {
  vm_map_check_protection,
  vm_map_inherit,
  vm_map_madvise,
  vm_map_protect,
  vm_map_remove,
} from './vm_map_range.ts';
import { vm_map_findspace, vm_map_findspace_down, vm_map_lookup_entry } from './vm_map_tree.ts';
import { vm_map_unwire, vm_map_wire } from './vm_map_wire.ts';
import { ANON, FORBIDDEN, map_make, memory_read, memory_write } from './vm_map.test.lib.ts';
import { type How, MapModel } from './vm_map.model.ts';

const map = vm_map;
const entry = vm_map_entry;
/** Bounds of the maps, and pages of the object that they share. */
const [MIN, MAX, SHARED] = [7, 260, 40];
const KEPT = MAP_ENTRY_BEHAV_RANDOM | MAP_ENTRY_BEHAV_SEQUENTIAL | MAP_ENTRY_NOCOREDUMP;

function same(what: string, got: unknown, expected: unknown): void {
  if (got !== expected) throw new Error(`${what}: ${got}, the model says ${expected}`);
}
/** What a page holds, for whoever reads it. */
function seen({ model, paged }: Pair, vpn: number): number | undefined {
  const c = model.cells[vpn];
  if (c === null) return undefined;
  return paged && (c.protection & 3) === 0 ? FORBIDDEN : model.read(vpn);
}
/** Whether a failure in the middle would leave some pages copied, nobody knows which. */
function unsure(model: MapModel, start: number, end: number): boolean {
  const refused = page_failpoint.refuse !== null || map_failpoint.refuse !== null;
  return refused && model.copies(start, end);
}
/** A map beside its model. */
interface Pair {
  readonly mp: vm_map_t;
  readonly model: MapModel;
  /** The model is of a part of the map only: others work in the rest. */
  readonly part: boolean;
  /** It has page tables, and what is used is used through them. */
  readonly paged: boolean;
}
export class MapPlay {
  readonly pairs: Pair[];
  /** An object that all of them show parts of; NULL: there is none. */
  readonly shared: vm_object_t;
  readonly draw: (n: number) => number;
  /** Answers that memory was short: the model stayed as it was. */
  short = 0;
  /** Copies that were tried: pages that two maps saw may outlive the mapping in either. */
  forks = 0;

  constructor(seed: number, pairs: Pair[], shared: vm_object_t) {
    this.draw = dice(seed);
    this.pairs = pairs;
    this.shared = shared;
  }
  /** Two maps of their own that share an object. */
  static begin(seed: number, paged = false): MapPlay {
    // With a handle it is not anonymous: a private copy may not pass over it for want of pages.
    const shared = vm_object_allocate(OBJT_DEFAULT, SHARED, 1);
    const values: number[] = new Array(SHARED).fill(0);
    const pair = (): Pair => ({
      mp: paged ? space_make(MIN, MAX) : map_make(MIN, MAX),
      model: new MapModel(MIN, MAX, values),
      part: false,
      paged,
    });
    return new MapPlay(seed, [pair(), pair()], shared);
  }
  /** A range, perhaps in part outside the map; if only a part of the map is ours, inside that. */
  range({ model, part }: Pair): { start: number; end: number } {
    const { min, max } = model;
    const long = this.draw(4) === 0 ? 150 : 25;
    if (!part) {
      const start = this.draw(max + 10);
      return { start, end: start + 1 + this.draw(long) };
    }
    const start = min + this.draw(max - min);
    return { start, end: Math.min(max, start + 1 + this.draw(long)) };
  }
  /** Whether an operation was done; memory that is short is no difference. */
  done(what: string, got: number, expected: number): boolean {
    if (got === KERN_RESOURCE_SHORTAGE) {
      this.short++;
      return false;
    }
    same(what, got, expected);
    return got === KERN_SUCCESS;
  }
  /** Something to map n pages of, and what the model notes of it. */
  mapping(n: number): { what: Mapping; cell: How } {
    const max_protection = this.draw(4) === 0 ? this.draw(8) : VM_PROT_ALL;
    const protection = this.draw(2) === 0 ? max_protection : max_protection & 3;
    const rights = { protection, max_protection };
    const cell = { protection, max: max_protection, of: -1, private: false };
    if (this.shared === NULL || n > SHARED || this.draw(3) !== 0)
      return { what: { ...ANON, ...rights }, cell };
    const of = this.draw(SHARED - n + 1);
    const copied = this.draw(2) === 0;
    vm_object_reference(this.shared);
    return {
      what: { object: this.shared, offset: of, ...rights, cow: copied ? MAP_COPY_ON_WRITE : 0 },
      cell: { ...cell, of, private: copied },
    };
  }
  /** What was not mapped is in hand still. */
  refused(what: Mapping): void {
    if (what.object !== 0) vm_object_deallocate(what.object);
  }
  find(pair: Pair): void {
    const { mp, model } = pair;
    const { start, end } = this.range(pair);
    const n = end - start;
    const { what, cell } = this.mapping(n);
    const modes = [VMFS_NO_SPACE, VMFS_ANY_SPACE, VMFS_TOPDOWN_SPACE];
    const mode = modes[this.draw(pair.part ? 2 : 3)];
    const align = 1 << this.draw(4);
    const high = this.draw(3) === 0 ? model.max - this.draw(100) : model.max;
    const got = vm_map_find(mp, n, what, { mode, at: start, align, high });
    let at = start;
    if (mode === VMFS_ANY_SPACE) at = model.lowest(start, n, high, align, 0);
    if (mode === VMFS_TOPDOWN_SPACE) at = model.highest(Math.min(start, high), n, align, 0);
    const code = at < 0 ? KERN_NO_SPACE : model.insertable(at, at + n);
    if (this.done('find', got < 0 ? -got : 0, code)) {
      same('the place', got, at);
      model.insert(at, at + n, cell);
    } else this.refused(what);
  }
  fixed(pair: Pair): void {
    const { mp, model } = pair;
    const { start, end } = this.range(pair);
    const { what, cell } = this.mapping(end - start);
    const inside = start >= model.min && end <= model.max;
    const code = inside ? KERN_SUCCESS : model.insertable(start, end);
    if (this.done('fixed', vm_map_fixed(mp, start, end, what), code)) {
      model.remove(start, end);
      model.insert(start, end, cell);
    } else this.refused(what);
  }
  remove(pair: Pair): void {
    const { mp, model } = pair;
    const { start, end } = this.range(pair);
    const done = this.done('remove', vm_map_remove(mp, start, end), KERN_SUCCESS);
    if (done) model.remove(Math.max(start, model.min), end);
  }
  protect(pair: Pair): void {
    const { mp, model } = pair;
    const { start, end } = this.range(pair);
    const prot = this.draw(3) === 0 ? this.draw(8) : VM_PROT_ALL;
    const set_max = this.draw(8) === 0;
    const got = vm_map_protect(mp, start, end, prot, set_max);
    if (got === KERN_RESOURCE_SHORTAGE) this.short++;
    else same('protect', got, model.protect(start, end, prot, set_max));
  }
  inherit(pair: Pair): void {
    const { mp, model } = pair;
    const { start, end } = this.range(pair);
    const how = this.draw(4);
    const done = this.done('inherit', vm_map_inherit(mp, start, end, how), KERN_SUCCESS);
    if (done) model.each(start, end, (c) => (c.inherit = how));
  }
  advise(pair: Pair): void {
    const { mp, model } = pair;
    const { start, end } = this.range(pair);
    const all = [MADV_NORMAL, MADV_RANDOM, MADV_SEQUENTIAL, MADV_NOCORE];
    const advice = [...all, MADV_WILLNEED, MADV_DONTNEED][this.draw(6)];
    if (!this.done('advice', vm_map_madvise(mp, start, end, advice), KERN_SUCCESS)) return;
    const how = MAP_ENTRY_BEHAV_RANDOM | MAP_ENTRY_BEHAV_SEQUENTIAL;
    model.each(start, end, (c) => {
      if (advice === MADV_NORMAL) c.flags &= ~how;
      if (advice === MADV_RANDOM) c.flags = (c.flags & ~how) | MAP_ENTRY_BEHAV_RANDOM;
      if (advice === MADV_SEQUENTIAL) c.flags = (c.flags & ~how) | MAP_ENTRY_BEHAV_SEQUENTIAL;
      if (advice === MADV_NOCORE) c.flags |= MAP_ENTRY_NOCOREDUMP;
    });
  }
  write(pair: Pair): void {
    const { mp, model } = pair;
    const vpn = model.min + this.draw(model.max - model.min);
    const value = 1 + this.draw(2 ** 30);
    const got = memory_write(mp, vpn, value);
    const c = model.cells[vpn];
    const forbidden = pair.paged && c !== null && (c.protection & VM_PROT_WRITE) === 0;
    const expected = c === null ? 'unmapped' : forbidden ? 'protection' : 'yes';
    if (got === 'no memory') this.short++;
    else same(`write of ${vpn}`, got, expected);
    if (got === 'yes') model.write(vpn, value);
  }
  /** A range is locked, as programs do it, or unlocked. */
  lock(pair: Pair): void {
    const { mp, model } = pair;
    const { start, end } = this.range(pair);
    const [on, holes] = [this.draw(3) > 0, this.draw(2) === 0];
    if (!pair.paged || unsure(model, start, end)) return;
    const how = VM_MAP_WIRE_USER | (holes ? VM_MAP_WIRE_HOLESOK : VM_MAP_WIRE_NOHOLES);
    const got = (on ? vm_map_wire : vm_map_unwire)(mp, start, end, how);
    if (this.done(on ? 'lock' : 'unlock', got, model.lock(start, end, on, holes))) {
      model.locked(start, end, on);
    }
  }
  /** The kernel wires a range for a while. */
  hold(pair: Pair): void {
    const { mp, model } = pair;
    const { start, end } = this.range(pair);
    if (!pair.paged || unsure(model, start, end)) return;
    if (!this.done('hold', vm_hold_wire(mp, start, end), model.lock(start, end, true, false)))
      return;
    for (let i = start; i < end; i++) model.own(i);
    for (let i = 0; i < 3; i++) this.write(pair);
    this.lock(pair);
    vm_map_check(mp);
    same('release', vm_hold_unwire(mp, start, end), KERN_SUCCESS);
  }
  ask(pair: Pair): void {
    const { mp, model } = pair;
    const { start, end } = this.range(pair);
    const n = end - start;
    const [align, prot] = [1 << this.draw(5), this.draw(8)];
    const how = { align, phase: this.draw(align) };
    const { phase } = how;
    vm_map_lock_read(mp);
    const [low, high] = [model.min, model.max];
    const first = model.lowest(start, n, high, align, phase);
    same('first hole', vm_map_findspace(mp, start, n, high, how), first);
    const last = model.highest(start, n, align, phase);
    same('last hole', vm_map_findspace_down(mp, start, n, low, how), last);
    const may = vm_map_check_protection(mp, start, end, prot);
    same('protection', may, model.check_protection(start, end, prot));
    vm_map_unlock_read(mp);
    const vpn = model.min + this.draw(model.max - model.min);
    same('a page', memory_read(mp, vpn), seen(pair, vpn));
  }
  step(): void {
    const pair = this.pairs[this.draw(this.pairs.length)];
    const what = this.draw(100);
    if (what < 22) this.find(pair);
    else if (what < 30) this.fixed(pair);
    else if (what < 45) this.remove(pair);
    else if (what < 58) this.protect(pair);
    else if (what < 62) this.inherit(pair);
    else if (what < 67) this.advise(pair);
    else if (what < 72) this.lock(pair);
    else if (what < 74) this.hold(pair);
    else if (what < 87) this.write(pair);
    else if (what < 98 || pair.part || this.draw(this.forks === 0 ? 20 : 1) !== 0) this.ask(pair);
    else this.fork(pair);
  }
  /** One of the two maps is a copy of the other one from here on. */
  fork(pair: Pair): void {
    const { mp, model } = pair;
    // What several see is not copied: a copy would show what others write to it later.
    for (let i = model.min; i < model.max; i++) {
      if (!model.joint(i) || model.cells[i]?.inherit !== VM_INHERIT_COPY) continue;
      const done = vm_map_inherit(mp, i, i + 1, VM_INHERIT_SHARE);
      if (!this.done('inherit', done, KERN_SUCCESS)) return;
      model.each(i, i + 1, (c) => (c.inherit = VM_INHERIT_SHARE));
    }
    this.forks++; // one that is refused in the middle counts, too
    const got = vmspace_fork(mp);
    if (!this.done('fork', got < 0 ? -got : 0, KERN_SUCCESS)) return;
    const other = this.pairs.findIndex((p) => p !== pair);
    vm_map_deallocate(this.pairs[other].mp);
    this.pairs[other] = {
      mp: got as vm_map_t,
      model: model.fork(),
      part: false,
      paged: pair.paged,
    };
  }
  /** Compares every page. */
  compare(): void {
    for (const pair of this.pairs) {
      const { mp, model, part } = pair;
      vm_map_check(mp);
      vm_map_lock_read(mp);
      if (!part) same('pages mapped', map.size[mp], model.size());
      if (!part) {
        same('pages locked', map.wired[mp], model.cells.filter((c) => c?.locked).length);
      }
      for (let vpn = model.min; vpn < model.max; vpn++) this.compare_page(mp, vpn, model);
      vm_map_unlock_read(mp);
      for (let vpn = model.min; vpn < model.max; vpn++) {
        same(`page ${vpn}`, memory_read(mp, vpn), seen(pair, vpn));
      }
    }
  }
  compare_page(mp: vm_map_t, vpn: number, model: MapModel): void {
    const e = vm_map_lookup_entry(mp, vpn);
    const c = model.cells[vpn];
    const covered = vpn >= entry.start[e] && vpn < entry.end[e];
    same(`page ${vpn} is mapped`, covered, c !== null);
    if (c === null) return;
    same(`protection of ${vpn}`, entry.protection[e], c.protection);
    same(`most of ${vpn}`, entry.max_protection[e], c.max);
    same(`inheritance of ${vpn}`, entry.inheritance[e], c.inherit);
    same(`${vpn} is locked`, (entry.eflags[e] & MAP_ENTRY_USER_WIRED) !== 0, c.locked);
    same(`wirings of ${vpn}`, entry.wired_count[e], c.locked ? 1 : 0);
    same(`flags of ${vpn}`, entry.eflags[e] & KEPT, c.flags);
  }
  /** Proves everything on a quiet machine. */
  check(): void {
    this.compare();
    vm_maps_check();
    if (this.forks === 0) this.nothing_unseen();
  }
  /** Before any fork: objects whose pages are seen once at most have none that is not seen. */
  nothing_unseen(): void {
    checked_quiet(true);
    for (const o of objects_all()) {
      if ((vm_object.flags[o] & OBJ_ONEMAPPING) === 0 || o === this.shared) continue;
      const shown = this.pairs
        .flatMap(({ mp }) => map_entries(mp))
        .filter((e) => entry.object[e] === o)
        .reduce((n, e) => n + entry.end[e] - entry.start[e], 0);
      if (vm_object.resident[o] > shown) {
        throw new Error(`an object of which ${shown} pages are seen has ${vm_object.resident[o]}`);
      }
    }
    checked_quiet(false);
  }
  /** Both maps end: nothing is left. */
  end(): void {
    this.check();
    for (const { mp } of this.pairs) vm_map_deallocate(mp);
    vm_object_deallocate(this.shared);
    same('maps left', maps_all().length, 0);
    same('objects left', objects_all().length, 0);
    vm_maps_check();
  }
  /** Entries of both maps. */
  entries(): number {
    return this.pairs.reduce((n, { mp }) => n + map_entries(mp).length, 0);
  }
}
/** A map with page tables, in hand. */
function space_make(min: number, max: number): vm_map_t {
  const mp = vmspace_alloc(min, max);
  if (mp === NULL) throw new Error('no memory for a space');
  return mp;
}
/** Plays `steps` operations; throws where map and model differ. */
export function run(seed: number, steps: number): void {
  const options = { INVARIANTS: true };
  const booted = boot({ memory: '32M', cpus: 1, fresh: true, options, seed });
  try {
    const play = MapPlay.begin(seed, seed % 2 === 1);
    for (let step = 0; step < steps; step++) {
      try {
        play.step();
        if (step % 256 === 0) play.check();
      } catch (e) {
        throw new Error(`seed ${seed}, step ${step}`, { cause: e });
      }
    }
    play.end();
  } finally {
    booted.shutdown();
  }
}
