/*
 * vm_syscalls (fuzz): the same seeded system calls, loads and stores on address spaces and on pages
 * of bytes.
 *
 * Four spaces have two windows each, one of them across two names of addresses.  Memory, and an
 * object that all of them know, is mapped there, shared or as a copy, taken out, protected, given
 * other inheritance and advice; bytes are written and read, across pages and holes, so that some
 * accesses end in the middle; spaces are forked from one another and dropped.  Every answer and
 * every byte must be the model's.
 *
 * Where memory is short a call may answer ENOMEM, and then has changed nothing; an access has
 * come as far as it says.
 *
 * A page that is shared has been read before.  Else the model would have to know whether zeros
 * came into the object that is shared, or into one above it.
 */
import { EACCES, EINVAL, ENOMEM, EOPNOTSUPP, ETIMEDOUT, errno_name } from '../machine/errno.ts';
import { mem, PAGE_SIZE } from '../machine/memory.ts';
import { dice } from '../machine/seed.test.lib.ts';
import {
  MAP_ANON,
  MAP_EXCL,
  MAP_FIXED,
  MAP_GUARD,
  MAP_PRIVATE,
  MAP_SHARED,
  MINCORE_INCORE,
  PROT_MAX_SHIFT,
} from '../h/mman.ts';
import {
  KERN_FAILURE,
  KERN_RESOURCE_SHORTAGE,
  MADV_CORE,
  MADV_DONTNEED,
  MADV_FREE,
  VM_INHERIT_SHARE,
  VM_INHERIT_ZERO,
  vm_map,
  type vm_map_t,
} from '../h/vm_map.ts';
import { OBJT_DEFAULT, type vm_object_t } from '../h/vm_object.ts';
import { VM_PROT_ALL, VM_PROT_READ, VM_PROT_WRITE } from '../h/vm_prot.ts';
import {
  vm_object_allocate,
  vm_object_deallocate,
  vm_object_reference,
} from '../object/vm_object.ts';
import { user_access } from './vm_bank.ts';
import { map_at, map_drop, map_put } from './vm_map.test.lib.ts';
import { vmspace_fork } from './vm_map_fork.ts';
import { play_steps, spaces_check, spaces_end } from './vm_space.test.lib.ts';
import { cell, node, type Node, SpaceModel, stored } from './vm_syscalls.model.ts';
import { user_make } from './vm_syscalls.test.lib.ts';
import { vm_syscall } from './vm_syscalls.ts';

const P = PAGE_SIZE;
const RW = VM_PROT_READ | VM_PROT_WRITE;
const SPACES = 4;
/** Pages of a window, and where windows begin: across an edge of names, and like a stack. */
export const PAGES = 40;
const WINDOWS = [0x56 * 2 ** 40 - 17 * P, 0x7ffd_1234_5000];
/** Where the vector of mincore is. */
const VECTOR = 0x4_0000_0000;
/** The object that all know. */
const FILE_PAGES = 24;
const FILE_FD = 3;

export type Draw = (n: number) => number;
/** A space, its model, and which pages of the windows are played with. */
export interface Player {
  readonly mp: vm_map_t;
  readonly model: SpaceModel;
  readonly draw: Draw;
  /** Pages of each window, from `from` on. */
  readonly from: number;
  readonly pages: number;
  /**
   * The object and its pages; absent: the space has other players, who may be at any of their
   * pages, and nothing that is shared is played with.
   */
  readonly file?: { readonly object: vm_object_t; readonly nodes: readonly Node[] };
  /** Memory may be short, or a CPU silent. */
  readonly short: boolean;
}
/** A range of pages inside a window. */
interface Range {
  readonly at: number;
  readonly vpn: number;
  readonly n: number;
}
function some_range({ draw, from, pages }: Player, most = 12): Range {
  const i = draw(pages);
  const at = WINDOWS[draw(WINDOWS.length)] + (from + i) * P;
  return { at, vpn: at / P, n: 1 + draw(Math.min(most, pages - i)) };
}
/** Whether a call did what it should; false: there was no memory, or a CPU was silent. */
function answered(p: Player, what: string, error: number, want: number): boolean {
  if (error === want) return error === 0;
  if (p.short && (error === ENOMEM || error === ETIMEDOUT)) return false;
  throw new Error(`${what}: ${errno_name(error)}, not ${errno_name(want)}`);
}
function sys(p: Player, name: string, args: number[], want: number): boolean {
  return answered(p, `${name} ${args}`, vm_syscall(p.mp, name, args).error, want);
}
/** A page that may only be written to may be read, too, once it was: so it is left out. */
const some_prot = (draw: Draw): number => [0, VM_PROT_READ, RW, RW, VM_PROT_ALL][draw(5)];

/** One random call, load or store. */
export function step(p: Player): void {
  const what = p.draw(100);
  if (what < 30) write(p);
  else if (what < 58) read(p);
  else if (what < 70) mmap(p);
  else if (what < 76) munmap(p);
  else if (what < 86) mprotect(p);
  else if (what < 91) minherit(p);
  else if (what < 94) madvise(p);
  else if (what < 97) mlock(p);
  else mincore(p);
}
function some_bytes(p: Player): { address: number; length: number } {
  const { at, n } = some_range(p, 4);
  const skip = p.draw(P);
  return { address: at + skip, length: 1 + p.draw(n * P - skip) };
}
function write(p: Player): void {
  const { address, length } = some_bytes(p);
  const first = p.draw(256);
  const got = user_access(p.mp, address, length, true, (w, n, done) => {
    for (let i = 0; i < n; i++) mem.U8[w + i] = first + done + i;
  });
  const much = p.short && got.error === ENOMEM ? got.done : length;
  const want = p.model.access(address, much, true, (bytes, done) => {
    for (let i = 0; i < bytes.length; i++) bytes[i] = first + done + i;
  });
  if (got.done !== want.done) throw new Error(`${got.done} bytes written, not ${want.done}`);
  if (much === length) answered(p, `write at ${address}`, got.error, want.error);
}
function read(p: Player): void {
  const { address, length } = some_bytes(p);
  const seen = new Uint8Array(length);
  const got = user_access(p.mp, address, length, false, (w, n, done) => {
    seen.set(mem.U8.subarray(w, w + n), done);
  });
  const much = p.short && got.error === ENOMEM ? got.done : length;
  const want = p.model.access(address, much, false, (bytes, done) => {
    if (Buffer.compare(bytes, seen.subarray(done, done + bytes.length)) === 0) return;
    const i = bytes.findIndex((b, k) => b !== seen[done + k]);
    throw new Error(`byte ${address + done + i} is ${seen[done + i]}, not ${bytes[i]}`);
  });
  if (got.done !== want.done) throw new Error(`${got.done} bytes read, not ${want.done}`);
  if (much === length) answered(p, `read at ${address}`, got.error, want.error);
}
function mmap(p: Player): void {
  const { draw, model } = p;
  const { at, vpn, n } = some_range(p);
  const kind = draw(8);
  if (kind === 0) return exclusive(p, { at, vpn, n });
  if (kind === 1 && p.file !== undefined) return anywhere(p, at, n);
  if (kind < 4 && p.file !== undefined) return file(p, { at, vpn, n });
  if (kind === 4 && p.file !== undefined) {
    if (!sys(p, 'mmap', [at, n * P, RW, MAP_ANON | MAP_SHARED | MAP_FIXED, -1, 0], 0)) return;
    model.map(vpn, n, () => cell(RW, { inherit: VM_INHERIT_SHARE }));
    touch(p, { at, vpn, n });
    return;
  }
  if (kind === 5) {
    if (!sys(p, 'mmap', [at, n * P, 0, MAP_GUARD | MAP_FIXED, -1, 0], 0)) return;
    return model.map(vpn, n, () => cell(0, { max: 0 }));
  }
  const prot = some_prot(draw);
  const max = draw(4) === 0 ? some_prot(draw) : 0;
  const flags = MAP_ANON | MAP_PRIVATE | MAP_FIXED;
  const want = max !== 0 && (prot & ~max) !== 0 ? EOPNOTSUPP : 0;
  if (!sys(p, 'mmap', [at, n * P, prot | (max << PROT_MAX_SHIFT), flags, -1, 0], want)) return;
  model.map(vpn, n, () => cell(prot, { max: max === 0 ? VM_PROT_ALL : max }));
}
/** Reads every page of a range that is new. Where that fails it is taken out again. */
function touch(p: Player, { at, vpn, n }: Range): void {
  const { error } = user_access(p.mp, at, n * P, false, () => undefined);
  if (answered(p, 'touch', error, 0)) for (let i = 0; i < n; i++) p.model.load(vpn + i);
  else if (sys(p, 'munmap', [at, n * P], 0)) p.model.unmap(vpn, n);
  else throw new Error('no memory to take out what was just mapped alone');
}
/** Only where nothing is. */
function exclusive(p: Player, { at, vpn, n }: Range): void {
  const want = p.model.range(vpn, n).length > 0 ? EINVAL : 0;
  const flags = MAP_ANON | MAP_FIXED | MAP_EXCL;
  if (sys(p, 'mmap', [at, n * P, RW, flags, -1, 0], want)) p.model.map(vpn, n, () => cell(RW));
}
/** From a hint on: where nothing is. Kept only inside the pages that are played with. */
function anywhere(p: Player, hint: number, n: number): void {
  const { error, value } = vm_syscall(p.mp, 'mmap', [hint, n * P, RW, MAP_ANON, -1, 0]);
  if (!answered(p, 'mmap anywhere', error, 0)) return;
  const vpn = value / P;
  if (value < hint) throw new Error(`mmap: ${value} is below the hint ${hint}`);
  if (p.model.range(vpn, n).length > 0) throw new Error(`mmap: ${value} is in use`);
  const inside = WINDOWS.some((w) => {
    const first = w / P + p.from;
    return vpn >= first && vpn + n <= first + p.pages;
  });
  if (inside) p.model.map(vpn, n, () => cell(RW));
  else if (!sys(p, 'munmap', [value, n * P], 0)) throw new Error('no memory to unmap an entry');
}
function file(p: Player, { at, vpn, n }: Range): void {
  const { object, nodes } = p.file as NonNullable<Player['file']>;
  const pages = Math.min(n, FILE_PAGES);
  const first = p.draw(FILE_PAGES - pages + 1);
  const shared = p.draw(2) === 0;
  const flags = MAP_FIXED | (shared ? MAP_SHARED : MAP_PRIVATE);
  vm_object_reference(object);
  const args = [at, pages * P, RW, flags, FILE_FD, first * P];
  const { error } = vm_syscall(p.mp, 'mmap', args, { object, readable: true, writable: true });
  if (error !== 0) vm_object_deallocate(object);
  if (!answered(p, 'mmap of the object', error, 0)) return;
  p.model.map(vpn, pages, (i) =>
    shared
      ? cell(RW, { node: nodes[first + i], inherit: VM_INHERIT_SHARE })
      : cell(RW, { node: nodes[first + i], copy: true }),
  );
}
function munmap(p: Player): void {
  const { at, vpn, n } = some_range(p);
  if (sys(p, 'munmap', [at + p.draw(2), n * P - 1], 0)) p.model.unmap(vpn, n);
}
function mprotect(p: Player): void {
  const { at, vpn, n } = some_range(p);
  const prot = some_prot(p.draw);
  const max = p.draw(6) === 0 ? some_prot(p.draw) : 0;
  const cells = p.model.range(vpn, n);
  const beyond = cells.some((c) => ((max === 0 ? prot : max) & ~c.max) !== 0);
  let want = beyond ? EACCES : 0;
  if (max !== 0 && (prot & ~max) !== 0) want = EOPNOTSUPP;
  if (!sys(p, 'mprotect', [at, n * P, prot | (max << PROT_MAX_SHIFT)], want)) return;
  for (const c of cells) {
    c.prot = prot;
    if (max !== 0) c.max = max;
  }
}
function minherit(p: Player): void {
  const { at, vpn, n } = some_range(p);
  const how = [VM_INHERIT_SHARE, p.draw(VM_INHERIT_ZERO + 1)][p.draw(2)];
  if (how === VM_INHERIT_SHARE) {
    if (p.file === undefined) return;
    for (let i = 0; i < n; i++) {
      if (!p.model.cells.has(vpn + i)) continue;
      if (p.model.load(vpn + i) === null) return;
      const { error } = user_access(p.mp, at + i * P, 1, false, () => undefined);
      if (!answered(p, 'read before sharing', error, 0)) return;
    }
  }
  if (!sys(p, 'minherit', [at, n * P, how], 0)) return;
  for (const c of p.model.range(vpn, n)) c.inherit = how;
}
function madvise(p: Player): void {
  const { at, n } = some_range(p);
  const advice = p.draw(MADV_CORE + 1);
  sys(p, 'madvise', [at, n * P, advice === MADV_FREE ? MADV_DONTNEED : advice], 0);
}
/** Locks, and unlocks; not where a failure in the middle may leave some pages copied. */
function mlock(p: Player): void {
  const { at, vpn, n } = some_range(p);
  const cells = p.model.range(vpn, n);
  if (p.draw(3) === 0) {
    if (!sys(p, 'munlock', [at, n * P], cells.length < n ? ENOMEM : 0)) return;
    for (const c of cells) c.locked = false;
  } else if (!p.short) {
    if (!sys(p, 'mlock', [at, n * P], p.model.lockable(vpn, n) ? 0 : ENOMEM)) return;
    for (const c of cells) p.model.lock(c);
  }
}
function mincore(p: Player): void {
  const { at, vpn, n } = some_range(p);
  const hole = p.model.range(vpn, n).length < n;
  if (!sys(p, 'mincore', [at, n * P, VECTOR], hole ? ENOMEM : 0) || p.short) return;
  user_access(p.mp, VECTOR, n, false, (w) => {
    for (let i = 0; i < n; i++) {
      const c = p.model.cells.get(vpn + i);
      const written = c !== undefined && stored(c.node);
      const said = (mem.U8[w + i] & MINCORE_INCORE) !== 0;
      if (written && !said)
        throw new Error(`mincore: page ${vpn + i}, which was written to, is out`);
    }
  });
}
/** Every byte that may be read is what the model says. */
export function compare(p: Player): void {
  const locked = [...p.model.cells.values()].filter((c) => c.locked).length;
  if (p.file !== undefined && vm_map.wired[p.mp] !== locked) {
    throw new Error(`${vm_map.wired[p.mp]} pages are locked, not ${locked}`);
  }
  for (const [vpn, c] of p.model.cells) {
    if ((c.prot & VM_PROT_READ) === 0) continue;
    const want = p.model.load(vpn) as Uint8Array;
    const { error } = user_access(p.mp, vpn * P, P, false, (w) => {
      if (Buffer.compare(want, mem.U8.subarray(w, w + P)) !== 0) {
        throw new Error(`page ${vpn} is not what was written to it`);
      }
    });
    answered(p, `page ${vpn}`, error, 0);
  }
}
/** Nothing is mapped at the pages that are played with, whatever was. */
export function clear(p: Player): void {
  for (const w of WINDOWS) {
    for (const at = w + p.from * P; !sys(p, 'munmap', [at, p.pages * P], 0); );
    p.model.unmap(w / P + p.from, p.pages);
  }
}
/** The page for the vectors of mincore. */
export function vector_page(mp: vm_map_t): void {
  vm_syscall(mp, 'mmap', [VECTOR, P, RW, MAP_ANON | MAP_FIXED, -1, 0]);
  vm_syscall(mp, 'minherit', [VECTOR, P, VM_INHERIT_ZERO]);
}

/** Spaces and their models. */
class Play {
  readonly models = new Map<number, SpaceModel>();
  readonly draw: Draw;
  readonly short: boolean;
  readonly file: NonNullable<Player['file']>;

  constructor(draw: Draw, short: boolean) {
    this.draw = draw;
    this.short = short;
    this.file = {
      object: vm_object_allocate(OBJT_DEFAULT, FILE_PAGES),
      nodes: Array.from({ length: FILE_PAGES }, () => node()),
    };
    this.fill();
  }
  /** The object gets all its pages. */
  fill(): void {
    const { object, nodes } = this.file;
    const mp = user_make(0);
    vm_object_reference(object);
    const how = { object, readable: true, writable: true };
    vm_syscall(mp, 'mmap', [VECTOR, FILE_PAGES * P, RW, MAP_SHARED | MAP_FIXED, FILE_FD, 0], how);
    for (const [i, n] of nodes.entries()) {
      n.bytes = new Uint8Array(P).fill(i + 1);
      n.stored = true;
      const { error } = user_access(mp, VECTOR + i * P, P, true, (w) => {
        mem.U8.fill(i + 1, w, w + P);
      });
      if (error !== 0) throw new Error(`the object: ${errno_name(error)}`);
    }
    map_drop(0);
  }
  player(s: number): Player {
    const model = this.models.get(s);
    if (model === undefined) throw new Error(`no space ${s}`);
    const { draw, file, short } = this;
    return { mp: map_at(s), model, draw, from: 0, pages: PAGES, file, short };
  }
  step(): void {
    const s = this.draw(SPACES);
    if (!this.models.has(s)) return this.begin(s, this.draw(SPACES));
    if (this.draw(24) > 0) return step(this.player(s));
    map_drop(s);
    this.models.delete(s);
  }
  begin(s: number, from: number): void {
    const seen = this.models.get(from);
    if (seen === undefined) {
      vector_page(user_make(s));
      this.models.set(s, new SpaceModel());
      return;
    }
    const made = vmspace_fork(map_at(from));
    if (made > 0) {
      map_put(s, made as vm_map_t);
      this.models.set(s, seen.fork());
    } else if (!this.short || (made !== -KERN_RESOURCE_SHORTAGE && made !== -KERN_FAILURE)) {
      throw new Error(`fork: ${made}`);
    }
  }
  check(): void {
    for (const s of this.models.keys()) compare(this.player(s));
    spaces_check();
  }
  end(): void {
    this.check();
    vm_object_deallocate(this.file.object);
    spaces_end();
  }
}
/** Plays `steps` operations in a machine of that size; throws where kernel and model differ. */
export function run(seed: number, steps: number, memory = '16M'): void {
  const options = { INVARIANTS: true };
  play_steps(seed, steps, { memory, options }, () => new Play(dice(seed), memory !== '16M'));
}
