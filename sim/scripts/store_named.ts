/*
 * store_named: stores that all threads know are made, used and ended, with faults, and by one who
 * dies anywhere.
 *
 * The stores lie over pages of the machine's own memory, so a run finds in them what setup left.
 * Each CPU has a word that leads to a store of its own, which it makes and ends; one store is
 * shared: each writes its part and reads it back, refers to it and lets go.  Operations of all
 * but CPU 0 fail, are short or slow, or find no room half-way.  Seen afterwards:
 *
 *      references of each store     the words that lead to it: no more are on their way
 *      parts of the shared store    what their CPUs wrote last, where no fault stopped them
 *      records and items            as many as there are stores, and nothing lost
 */
import { EIO, ENOSPC } from '../../src/sys/machine/errno.ts';
import { machine_random } from '../../src/sys/machine/machdep.ts';
import { mem, PAGE_WORDS, page_word } from '../../src/sys/machine/memory.ts';
import { type StoreFault, store_faults } from '../../src/sys/machine/store_fault.ts';
import { elem, i32, type Ptr, struct, words } from '../../src/sys/machine/struct.ts';
import { vm_store, type vm_store_t } from '../../src/sys/h/vm_store.ts';
import {
  vm_store_anchor,
  vm_store_drop,
  vm_store_memory,
  vm_store_readv,
  vm_store_reference,
  vm_store_size,
  vm_store_sync,
  vm_store_truncate,
  vm_store_unanchor,
  vm_store_writev,
} from '../../src/sys/object/vm_store.ts';
import { stores_all, vm_store_check } from '../../src/sys/object/vm_store_check.ts';
import { vm_page_alloc_run, vm_page_wire } from '../../src/sys/page/vm_page.ts';
import { save, undo_begin_private, undo_end } from '../../src/sys/sync/undo.ts';
import { check_account } from '../account.ts';
import { type SimScript, scratch } from '../script.ts';

type rec_t = Ptr<'sim_named'>;
const CPUS = 3;
const VICTIM = 1;
const PAGES = 2;
/** Bytes of the shared store that each CPU has. */
const PART = 48;
/* Locks: (c) constant  (-) of each CPU its own element */
const rec = struct<rec_t>('sim_named')({
  own: words('-', 'of each CPU: its own store, 0: none', CPUS),
  round: words('-', 'of each CPU: what its part holds; 0: nobody knows', CPUS),
  shared: i32('c', 'the store that all use'),
  first: i32('c', 'first page of the shared store; behind it lie those of the others'),
});
const at = (i = 0): rec_t => elem(scratch<rec_t>(), i);
const shared = (): vm_store_t => rec.shared[at()] as vm_store_t;

/** The CPU whose operation runs; faults are for all but CPU 0. */
let running = 0;
const MANY = 16;
function draw(): StoreFault | null {
  if (running === 0) return null;
  switch (machine_random() % MANY) {
    case 0:
      return { what: 'fail', errno: EIO };
    case 1:
      return { what: 'full' };
    case 2:
      return { what: 'short', bytes: 17 };
    case 3:
      return { what: 'slow', ms: 2 };
    default:
      return null;
  }
}
function expect(error: number): number {
  if (error !== 0 && !(running !== 0 && (error === EIO || error === ENOSPC))) {
    throw new Error(`errno ${error} without a fault`);
  }
  return error;
}
const op =
  (cpu: number, run: (cpu: number) => void): (() => void) =>
  () => {
    const before = running;
    store_faults.next = draw;
    running = cpu;
    try {
      run(cpu);
    } finally {
      running = before; // of the operation around this one
    }
  };

/** A word of this CPU's leads to the store in its hand from here on. */
function anchor(cpu: number, s: vm_store_t): void {
  undo_begin_private();
  save(rec.own, at(cpu));
  rec.own[at(cpu)] = s;
  vm_store_anchor(s);
  undo_end();
}
function make(cpu: number): void {
  const s = vm_store_memory(rec.first[at()] + PAGES + cpu, 1);
  if (s < 0) throw new Error(`no store: errno ${-s}`);
  anchor(cpu, s as vm_store_t);
}
function end(cpu: number): void {
  const s = rec.own[at(cpu)] as vm_store_t;
  undo_begin_private();
  save(rec.own, at(cpu));
  rec.own[at(cpu)] = 0;
  vm_store_unanchor(s);
  undo_end();
  vm_store_drop(s);
}
/** Writes a value into this CPU's part of a store by two views, and reads it by three. */
function use(s: vm_store_t, from: number, value: number): boolean {
  const out = new Uint8Array(PART).fill(value);
  const error = expect(vm_store_writev(s, from, [out.subarray(0, 11), out.subarray(11)]));
  if (error !== 0) return false;
  expect(vm_store_sync(s));
  const into = new Uint8Array(PART);
  const views = [into.subarray(0, 5), into.subarray(5, 40), into.subarray(40)];
  const got = vm_store_readv(s, from, views);
  if (got < 0) expect(-got);
  else if (got !== PART || into.some((v) => v !== value)) throw new Error(`read ${got}: ${into}`);
  return true;
}
function share(cpu: number): void {
  const value = (rec.round[at(cpu)] % 250) + 1;
  rec.round[at(cpu)] = 0;
  vm_store_reference(shared());
  if (use(shared(), cpu * PART, value)) rec.round[at(cpu)] = value;
  const size = vm_store_size(shared());
  if (size < 0) expect(-size);
  expect(vm_store_truncate(shared(), PAGES * PAGE_WORDS * 4));
  vm_store_drop(shared());
}
function mine(cpu: number): void {
  const s = rec.own[at(cpu)] as vm_store_t;
  if (s === 0) return;
  use(s, 100, cpu + 5);
}

export const script: SimScript = {
  help: 'stores that all threads know are made, used and ended, with faults; one of them dies',
  cpus: CPUS,
  victim: VICTIM,
  kill_seeds: 2,
  setup() {
    for (let w = 0; w < rec.sizeof; w++) mem.I32[at(w)] = 0;
    store_faults.next = null;
    const first = vm_page_alloc_run(PAGES + CPUS, 0);
    vm_page_wire(first, PAGES + CPUS);
    mem.I32.fill(0, page_word(first), page_word(first + PAGES + CPUS));
    rec.first[at()] = first;
    const s = vm_store_memory(first, PAGES) as vm_store_t;
    undo_begin_private();
    vm_store_anchor(s);
    undo_end();
    rec.shared[at()] = s;
  },
  ops: (cpu) =>
    [
      [make, share, end, share],
      [make, mine, share, end, make],
      [share, make, end, mine, share],
    ][cpu].map((run) => op(cpu, run)),
  check() {
    const own = Array.from({ length: CPUS }, (_, cpu) => rec.own[at(cpu)] as vm_store_t);
    const there = own.filter((s) => s !== 0);
    if (new Set(there).size !== there.length) return 'two words lead to one store';
    vm_store_check([shared(), ...there]);
    if (stores_all().length !== there.length + 1) return `${stores_all().length} stores`;
    if (vm_store.refs[shared()] !== 1) return 'somebody refers to the shared store still';
    for (let cpu = 0; cpu < CPUS; cpu++) {
      const value = rec.round[at(cpu)];
      const first = page_word(rec.first[at()]) * 4 + cpu * PART;
      const part = mem.U8.subarray(first, first + PART);
      if (value !== 0 && part.some((v) => v !== value)) return `part of CPU ${cpu}: ${part}`;
    }
    return check_account();
  },
};
