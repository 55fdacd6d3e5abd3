/*
 * The worker of vm_space_smp and of vm_fault_locks.
 *
 *      share    its own pages of a space that another one uses, too, each byte beside a model;
 *               pages that both change in turns; forks whose copies are compared
 *      zeros    writes once to each page of its own part
 *      loads    reads pages, again and again
 */
import { attach, detach } from '../boot/whole.ts';
import './vm_syscalls.ts'; // the tests that start it have what is declared there
import { atomic_add, atomic_cas, atomic_load, atomic_store } from '../machine/atomic.ts';
import { poll } from '../machine/cpu.ts';
import { EFAULT } from '../machine/errno.ts';
import { mem, PAGE_SIZE } from '../machine/memory.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { run_job } from '../machine/workers.test.lib.ts';
import { KERN_FAILURE, KERN_SUCCESS, vm_map, type vm_map_t } from '../h/vm_map.ts';
import type { vm_object_t } from '../h/vm_object.ts';
import { NULL } from '../machine/struct.ts';
import { VM_PROT_ALL, VM_PROT_NONE, VM_PROT_READ, VM_PROT_WRITE } from '../h/vm_prot.ts';
import { TLB_ENTRIES, TLB_STORES } from '../h/pmap.ts';
import { tlb_base } from '../pmap/pmap_tlb.ts';
import { fault_errno, fuword, suword, vm_frame } from './vm_copy.ts';
import { vm_map_fixed } from './vm_map_insert.ts';
import { vmspace_fork } from './vm_map_fork.ts';
import { vm_map_protect, vm_map_remove } from './vm_map_range.ts';
import { map_at, map_drop, map_put, stop_word } from './vm_map.test.lib.ts';
import {
  BLOCK,
  BLOCKS,
  CHANGING,
  type Done,
  NONE,
  OWN,
  TURN,
  TURNS,
  WORKERS,
} from './vm_space_smp.test.lib.ts';

const RW = VM_PROT_READ | VM_PROT_WRITE;
const ZEROS = { object: NULL as vm_object_t, offset: 0, cow: 0 };
const HOW = { ...ZEROS, protection: RW, max_protection: VM_PROT_ALL };
/** No page holds this word, so comparing with it stores nothing. */
const NEVER = -77;

interface Share {
  seed: number;
  part: number;
  operations: number;
  words: number;
}
/** A page of one's own; null: nothing is mapped there. */
type Cell = { bytes: Uint8Array; prot: number } | null;
type Pages = Map<number, Cell>;

function succeeds(result: number, what: string): void {
  if (result !== KERN_SUCCESS) throw new Error(`${what}: ${result}`);
}
/**
 * The first word of what a page number means, as programs find it: by this CPU's tag, and only
 * where it has none by the page tables or a fault.  -KERN_*: it may not be used so.
 */
function frame_of(mp: vm_map_t, vpn: number, write: boolean): number {
  const base = tlb_base(vm_map.pmap[mp]);
  const tag = base + ((vpn & (TLB_ENTRIES - 1)) << 1) + (write ? TLB_STORES : 0);
  if (base !== 0 && mem.I32[tag] === vpn) return mem.I32[tag + 1];
  return vm_frame(mp, vpn, write);
}
/** Moves bytes between a buffer and memory. As far as it came, and why no further. */
function move(mp: vm_map_t, at: number, data: Uint8Array, write: boolean) {
  for (let done = 0; done < data.length; ) {
    const offset = (at + done) % PAGE_SIZE;
    const n = Math.min(PAGE_SIZE - offset, data.length - done);
    const frame = frame_of(mp, Math.floor((at + done) / PAGE_SIZE), write);
    if (frame < 0) return { error: fault_errno(-frame), done };
    const byte = frame * 4 + offset;
    if (write) mem.U8.set(data.subarray(done, done + n), byte);
    else data.set(mem.U8.subarray(byte, byte + n), done);
    done += n;
  }
  return { error: 0, done: data.length };
}
/** A word in memory, for a load or a store; -1: it may not be used so. */
function word_at(mp: vm_map_t, at: number, write: boolean): number {
  const frame = frame_of(mp, Math.floor(at / PAGE_SIZE), write);
  return frame < 0 ? -1 : frame + (at % PAGE_SIZE) / 4;
}
/** How many bytes of a range may be used so before a page forbids it. */
function allowed(has: Pages, at: number, length: number, prot: number): number {
  for (let done = 0; done < length; ) {
    const cell = has.get(Math.floor((at + done) / PAGE_SIZE));
    if (!cell || (cell.prot & prot) === 0) return done;
    done += PAGE_SIZE - ((at + done) % PAGE_SIZE);
  }
  return length;
}
class Sharer {
  readonly done: Done = { ...NONE };
  readonly mp = map_at(0);
  readonly draw: (n: number) => number;
  readonly has: Pages = new Map();
  readonly blocks: number[] = [];
  readonly task: Share;

  constructor(task: Share) {
    this.task = task;
    this.draw = dice(task.seed);
    for (let b = task.part; b < BLOCKS; b += WORKERS) this.blocks.push(OWN + b * BLOCK);
    for (const first of this.blocks) this.map(first, BLOCK);
    if (task.part !== 0) return;
    for (let k = 0; k < TURNS; k++) {
      this.turn_map(k, WORKERS * 4);
      atomic_store(this.word(k), WORKERS * 4);
    }
  }
  /** Some pages of a block of one's own. */
  range(): { first: number; n: number } {
    const block = this.blocks[this.draw(this.blocks.length)];
    const from = this.draw(BLOCK);
    return { first: block + from, n: 1 + this.draw(BLOCK - from) };
  }
  map(first: number, n: number): void {
    succeeds(vm_map_fixed(this.mp, first, first + n, HOW), 'map');
    for (let i = first; i < first + n; i++) {
      this.has.set(i, { bytes: new Uint8Array(PAGE_SIZE), prot: RW });
    }
  }
  step(): void {
    const what = this.draw(100);
    const { first, n } = this.range();
    if (what < 25) this.write(this.mp, this.has, first, n);
    else if (what < 50) this.read(this.mp, this.has, first, n);
    else if (what < 55) this.map(first, n);
    else if (what < 60) {
      succeeds(vm_map_remove(this.mp, first, first + n), 'unmap');
      for (let i = first; i < first + n; i++) this.has.set(i, null);
    } else if (what < 67) this.protect(first, n);
    else if (what < 69) this.fork();
    else if (what < 75) this.turn();
    else this.meet();
    this.done.operations++;
  }
  protect(first: number, n: number): void {
    const prot = [VM_PROT_NONE, VM_PROT_READ, RW, RW][this.draw(4)];
    const result = vm_map_protect(this.mp, first, first + n, prot, false);
    if (result === KERN_FAILURE) return; // a CPU was silent: nothing has changed
    succeeds(result, 'protect');
    for (let i = first; i < first + n; i++) {
      const cell = this.has.get(i);
      if (cell) cell.prot = prot;
    }
  }
  write(mp: vm_map_t, has: Pages, first: number, n: number): void {
    const at = first * PAGE_SIZE + this.draw(PAGE_SIZE);
    const length = 1 + this.draw((first + n) * PAGE_SIZE - at);
    const value = 1 + this.draw(255);
    const data = new Uint8Array(length).fill(value);
    data[0] = this.draw(256);
    const may = allowed(has, at, length, VM_PROT_WRITE);
    this.ended(move(mp, at, data, true), may, length, `write of ${length} at page ${first}`);
    for (let done = 0; done < may; ) {
      const offset = (at + done) % PAGE_SIZE;
      const some = Math.min(PAGE_SIZE - offset, may - done);
      has
        .get(Math.floor((at + done) / PAGE_SIZE))
        ?.bytes.set(data.subarray(done, done + some), offset);
      done += some;
    }
  }
  read(mp: vm_map_t, has: Pages, first: number, n: number): void {
    const length = n * PAGE_SIZE;
    const data = new Uint8Array(length);
    const may = allowed(has, first * PAGE_SIZE, length, VM_PROT_READ);
    const what = `read of ${n} pages from ${first}`;
    this.ended(move(mp, first * PAGE_SIZE, data, false), may, length, what);
    for (let i = 0; i < may / PAGE_SIZE; i++) {
      const cell = has.get(first + i);
      const got = data.subarray(i * PAGE_SIZE, (i + 1) * PAGE_SIZE);
      if (cell && Buffer.compare(cell.bytes, got) === 0) continue;
      const at = got.findIndex((byte, k) => byte !== cell?.bytes[k]);
      throw new Error(`${what}: page ${first + i}, byte ${at}: ${got[at]}, not ${cell?.bytes[at]}`);
    }
    this.done.bytes += may;
  }
  ended(got: { error: number; done: number }, may: number, length: number, what: string): void {
    const error = may < length ? EFAULT : 0;
    if (got.error === error && got.done === may) return;
    throw new Error(`${what}: ${got.error} after ${got.done}, not ${error} after ${may}`);
  }
  /** A copy has one's own pages as they are; what is written to it stays there. */
  fork(): void {
    const made = vmspace_fork(this.mp);
    if (made < 0) {
      if (made !== -KERN_FAILURE) throw new Error(`fork: ${made}`);
      this.done.refused++;
      return;
    }
    const at = 1 + this.task.part;
    const copy = made as vm_map_t;
    map_put(at, copy);
    const has: Pages = new Map();
    for (const [i, cell] of this.has) has.set(i, cell && { ...cell, bytes: cell.bytes.slice() });
    for (const first of this.blocks) this.read(copy, has, first, BLOCK);
    for (let k = 0; k < 4; k++) {
      const { first, n } = this.range();
      this.write(copy, has, first, n);
      this.write(this.mp, this.has, first, n);
    }
    for (const first of this.blocks) {
      this.read(copy, has, first, BLOCK);
      this.read(this.mp, this.has, first, BLOCK);
    }
    map_drop(at);
    this.done.forks++;
  }

  // --- pages that both change, in turns ----------------------------------------------------------

  word(k: number): number {
    return this.task.words + k;
  }
  /** Maps memory in the place of such a page, which holds the number. Nobody is told yet. */
  turn_map(k: number, number: number): void {
    succeeds(vm_map_fixed(this.mp, TURN + k, TURN + k + 1, HOW), 'map');
    const at = (TURN + k) * PAGE_SIZE;
    for (const where of [at, at + PAGE_SIZE - 4]) {
      const w = word_at(this.mp, where, true);
      if (w < 0) throw new Error(`turn ${k}: write`);
      mem.I32[w] = number;
    }
  }
  /** Changes one of the pages whose turn is this one's: the next to change it is the other. */
  turn(): void {
    const k = this.draw(TURNS);
    const w = this.word(k);
    const now = atomic_load(w);
    if (now === CHANGING || now === 0 || (now >> 2) % WORKERS !== this.task.part) return;
    atomic_store(w, CHANGING);
    const number = (((now >> 2) + 1) << 2) | this.draw(4);
    const sort = number & 3;
    const [first, last] = [TURN + k, TURN + k + 1];
    if (sort === 1) {
      succeeds(vm_map_remove(this.mp, first, last), 'unmap');
      return void atomic_store(w, number);
    }
    this.turn_map(k, number);
    if (sort === 0) return void atomic_store(w, number);
    const prot = sort === 2 ? VM_PROT_READ : VM_PROT_NONE;
    const result = vm_map_protect(this.mp, first, last, prot, false);
    // A CPU was silent: it may be written to still, and so it is of sort 0.
    if (result === KERN_FAILURE) {
      this.turn_map(k, number & ~3);
      return void atomic_store(w, number & ~3);
    }
    succeeds(result, 'protect');
    atomic_store(w, number);
  }
  /** Accesses one of them, whoever may be changing it. */
  meet(): void {
    const k = this.draw(TURNS);
    const w = this.word(k);
    const at = (TURN + k) * PAGE_SIZE + (this.draw(2) === 0 ? 0 : PAGE_SIZE - 4);
    const write = this.draw(3) === 0;
    const before = atomic_load(w);
    const found = word_at(this.mp, at, write);
    // Whoever compares needs the right to write, and stores nothing.
    const got = found < 0 ? -1 : write ? atomic_cas(found, NEVER, NEVER) : atomic_load(found);
    if (before === CHANGING || before === 0 || atomic_load(w) !== before) return;
    const sort = before & 3;
    const may = sort === 0 || (sort === 2 && !write);
    const want = may ? before : -1;
    if (got !== want)
      throw new Error(`turn ${k}: ${write ? 'compared' : 'read'} ${got}, not ${want}`);
    this.done.met++;
  }
}
function share(task: Share): Done {
  const s = new Sharer(task);
  while (s.done.operations < task.operations && atomic_load(stop_word()) === 0) s.step();
  for (const first of s.blocks) s.read(s.mp, s.has, first, BLOCK);
  return s.done;
}

interface Part {
  first: number;
  pages: number;
  words: number;
}
/** Waits until the test says so. Words: go, ready, ended, stop. */
function gate(words: number): void {
  atomic_add(words + 1, 1);
  while (atomic_load(words) === 0) poll();
}
function zeros({ first, pages, words }: Part): void {
  const mp = map_at(0);
  gate(words);
  for (let i = first; i < first + pages; i++) {
    if (suword(mp, i * PAGE_SIZE, i) !== 0) throw new Error(`page ${i}: write`);
  }
  atomic_add(words + 2, 1);
  while (atomic_load(words + 3) === 0) poll();
  for (let i = first; i < first + pages; i++) {
    if (fuword(mp, i * PAGE_SIZE) !== i) throw new Error(`page ${i}: read`);
  }
}
function loads({ first, pages, words }: Part): void {
  const mp = map_at(0);
  atomic_add(words + 1, 1);
  for (let n = 0; atomic_load(words + 3) === 0; n++) {
    const i = first + (n % pages);
    if (fuword(mp, i * PAGE_SIZE) !== i) throw new Error(`page ${i}: read`);
  }
}
run_job<Share & Part>(
  (job, args) => {
    if (job === 'share') return { ...share(args) };
    if (job === 'zeros') zeros(args);
    else loads(args);
    return {};
  },
  { join: attach, leave: () => void detach() },
);
