/*
 * us_vm: the kernel's virtual memory as a competitor. One operation is one fault, fork, pair,
 * change of protection, lock, or search; of loads and windows, one number (vm_loops.ts).
 *
 * A sample goes through a fixture, an address space that is made for it, in batches of some
 * tens of microseconds, and its answer is the shortest batch: what the machine does beside us
 * lengthens others.  A call that is longer than a batch is a batch of its own.
 *
 * Memory that was never used is zero already.  So all of it is written to before the first
 * sample, and a batch counts only if as many of its pages were zero ahead as the pattern wants:
 * none, or all.
 */
import { boot } from '../src/lib/index.ts';
import { counter_get, counters } from '../src/sys/machine/counter.ts';
import { mem } from '../src/sys/machine/memory.ts';
import { KVA_BASE } from '../src/sys/h/vm_kern.ts';
import { VM_MAP_MAX, VM_MAP_SYSTEM, type vm_map_t } from '../src/sys/h/vm_map.ts';
import { VM_PROT_ALL, VM_PROT_READ, VM_PROT_WRITE } from '../src/sys/h/vm_prot.ts';
import { vm_frame } from '../src/sys/map/vm_copy.ts';
import {
  kernel_map,
  kmem_alloc,
  kmem_alloc_nofault,
  kmem_free,
  kmem_suballoc,
} from '../src/sys/map/vm_kern.ts';
import { vm_map_deallocate } from '../src/sys/map/vm_map.ts';
import { vmspace_alloc, vmspace_fork } from '../src/sys/map/vm_map_fork.ts';
import { type Mapping, vm_map_fixed } from '../src/sys/map/vm_map_insert.ts';
import { vm_map_protect } from '../src/sys/map/vm_map_range.ts';
import { vm_lock, vm_unlock } from '../src/sys/map/vm_mlock.ts';
import { vm_map_findspace, vm_map_lookup } from '../src/sys/map/vm_map_tree.ts';
import { vm_page_count, vm_page_zero_idle } from '../src/sys/page/vm_page.ts';
import { now_ns, serve } from './child.ts';
import { BYTES, PLACES, shortest, summed, total, WINDOW_BYTES } from './vm_loops.ts';

const machine = boot({ memory: '512M', cpus: 2 });

/* The same in peers/vm.c. */
const REGION_PAGES = 20_000;
const ENTRIES = 10_000;
const SPLITS = 5000;
const LOCKED = 1000;
const KERNEL_PAGES = 4;
const BATCH = 50;
/** A pattern of long calls is asked for operations that count as so many. */
const LONG = 64;

const LARGE = 128 * 2 ** 20;
const STRIDE = 37;

const FIRST = 1024;
const HOW: Mapping = {
  object: 0 as Mapping['object'],
  offset: 0,
  protection: VM_PROT_READ | VM_PROT_WRITE,
  max_protection: VM_PROT_ALL,
  cow: 0,
};
const zeroed = counters.find((c) => c.name === 'vm.stats.misc.zeroed')!;

/* How many pages were zeroed in a batch: some are a few faults before they are wanted. */
const any = (_n: number): boolean => true;
const all = (n: number): boolean => n >= BATCH * 0.8;
const none = (n: number): boolean => n === 0;

/** Shortest batch of `n` operations so far, ns for each. */
class Shortest {
  ns = Number.POSITIVE_INFINITY;
  /** Times `batch` operations at a time; a batch counts if `suits` says so of the pages zeroed. */
  batches(n: number, batch: number, run: (i: number) => void, suits = any): void {
    for (let i = 0; i < n; i += batch) {
      const before = counter_get(zeroed);
      const start = now_ns();
      for (let j = i; j < i + batch; j++) run(j);
      const ns = (now_ns() - start) / batch;
      if (!suits(counter_get(zeroed) - before)) continue;
      if (ns < this.ns) this.ns = ns;
    }
  }
  answer(ops: number): number {
    if (this.ns === Number.POSITIVE_INFINITY) throw new Error('no batch had pages of that sort');
    return this.ns * ops;
  }
}
function must(done: number): void {
  if (done !== 0) throw new Error(`KERN code ${done}`);
}
function space(): vm_map_t {
  const mp = vmspace_alloc(16, VM_MAP_MAX);
  if (mp === 0) throw new Error('no memory for an address space');
  return mp;
}
function touch(mp: vm_map_t, vpn: number): void {
  const frame = vm_frame(mp, vpn, true);
  if (frame <= 0) throw new Error(`no page at ${vpn}`);
  mem.I32[frame] = 1;
}
/** A space with one region. */
function region(): vm_map_t {
  const mp = space();
  must(vm_map_fixed(mp, FIRST, FIRST + REGION_PAGES, HOW));
  return mp;
}
/** Page `i` of a space whose every second page is mapped, each by an entry of its own. */
const lone = (i: number): number => FIRST + 2 * i;
function entries(n: number): vm_map_t {
  const mp = space();
  for (let i = 0; i < n; i++) must(vm_map_fixed(mp, lone(i), lone(i) + 1, HOW));
  return mp;
}
/** Pages are not zero any more. */
function soil(): void {
  const mp = space();
  const n = Math.floor(vm_page_count() * 0.9);
  must(vm_map_fixed(mp, FIRST, FIRST + n, HOW));
  for (let i = 0; i < n; i++) touch(mp, FIRST + i);
  vm_map_deallocate(mp);
}
soil();

/** An order of the entries, the same in every sample. */
const order = new Int32Array(ENTRIES).map((_, i) => i);
for (let i = ENTRIES - 1, x = 1; i > 0; i--) {
  x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
  const j = (x >>> 8) % (i + 1);
  [order[i], order[j]] = [order[j], order[i]];
}

function zero_fill(ops: number, ahead: boolean): number {
  const best = new Shortest();
  for (let left = ops; left > 0; left -= REGION_PAGES) {
    const mp = region();
    if (ahead) vm_page_zero_idle(REGION_PAGES + 1000);
    best.batches(REGION_PAGES, BATCH, (i) => touch(mp, FIRST + i), ahead ? none : all);
    vm_map_deallocate(mp);
  }
  if (ahead) soil();
  return best.answer(ops);
}
function zero_fill_random(ops: number): number {
  const best = new Shortest();
  for (let left = ops; left > 0; left -= ENTRIES) {
    const mp = entries(ENTRIES);
    best.batches(ENTRIES, BATCH, (i) => touch(mp, lone(order[i])), all);
    vm_map_deallocate(mp);
  }
  return best.answer(ops);
}
function fork_of(mp: vm_map_t): vm_map_t {
  const child = vmspace_fork(mp);
  if (child < 0) must(-child);
  return child as vm_map_t;
}
/** The child writes to every page, of the parent's one region or of its entries. */
function copy_on_write(ops: number, made: () => vm_map_t, n: number, at: (i: number) => number) {
  const best = new Shortest();
  const mp = made();
  for (let i = 0; i < n; i++) touch(mp, at(i));
  for (let left = ops; left > 0; left -= n) {
    const child = fork_of(mp);
    best.batches(n, BATCH, (i) => touch(child, at(i)));
    vm_map_deallocate(child);
  }
  vm_map_deallocate(mp);
  return best.answer(ops);
}
/** Forks of a space that was written to everywhere since the one before. */
function fork(ops: number): number {
  const best = new Shortest();
  const mp = entries(ENTRIES);
  for (let left = ops; left > 0; left -= LONG) {
    for (let i = 0; i < ENTRIES; i++) touch(mp, lone(i));
    let child = 0 as vm_map_t;
    best.batches(1, 1, () => {
      child = fork_of(mp);
    });
    vm_map_deallocate(child);
  }
  vm_map_deallocate(mp);
  return best.answer(ops);
}
/** Every third page of a region that was written to loses the right to write. */
function protect(ops: number): number {
  const best = new Shortest();
  for (let left = ops; left > 0; left -= SPLITS) {
    const mp = region();
    for (let i = 0; i < REGION_PAGES; i++) touch(mp, FIRST + i);
    const one = (i: number): void => {
      const at = FIRST + 2 + 3 * i;
      must(vm_map_protect(mp, at, at + 1, VM_PROT_READ));
    };
    best.batches(SPLITS, BATCH, one);
    vm_map_deallocate(mp);
  }
  return best.answer(ops);
}

/** Pages that are in memory are locked and unlocked. */
function lock(ops: number): number {
  const best = new Shortest();
  const mp = region();
  for (let i = 0; i < LOCKED; i++) touch(mp, FIRST + i);
  best.batches(ops, 1, () => {
    must(vm_lock(mp, FIRST, FIRST + LOCKED));
    must(vm_unlock(mp, FIRST, FIRST + LOCKED));
  });
  vm_map_deallocate(mp);
  return best.answer(ops);
}

// --- searches in small and large maps ----------------------------------------------------------

const SEARCHES = 100;
/** Every so many holes there is one of this many pages; the others have one page. */
const WIDE_EVERY = 32;
const WIDE_PAGES = 4;
const sparse = (i: number): number => FIRST + 2 * i + WIDE_PAGES * Math.floor(i / WIDE_EVERY);
const maps = new Map<number, vm_map_t>();
function sparse_map(n: number): vm_map_t {
  let mp = maps.get(n);
  if (mp === undefined) {
    mp = space();
    for (let i = 0; i < n; i++) must(vm_map_fixed(mp, sparse(i), sparse(i) + 1, HOW));
    maps.set(n, mp);
  }
  return mp;
}
let found = 0;
/** Searches at random places. */
function search(ops: number, n: number, one: (mp: vm_map_t, at: number) => number): number {
  const best = new Shortest();
  const mp = sparse_map(n);
  const places = new Int32Array(SEARCHES);
  let x = 1;
  for (let left = ops; left > 0; left -= SEARCHES) {
    for (let i = 0; i < SEARCHES; i++) {
      x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
      places[i] = sparse((x >>> 8) % n);
    }
    best.batches(SEARCHES, SEARCHES, (i) => {
      found ^= one(mp, places[i]);
    });
  }
  return best.answer(ops);
}
/** A map of kernel addresses with as many entries, and holes, as a sparse_map. */
function kernel_sparse(n: number): vm_map_t {
  const known = maps.get(-n);
  if (known !== undefined) return known;
  const mp = kmem_suballoc(kernel_map(), 4 * n, VM_MAP_SYSTEM);
  const holes: { at: number; pages: number }[] = [];
  for (let i = 0; i < n; i++) {
    if (kmem_alloc_nofault(mp, 1) === 0) throw new Error('no kernel address');
    const pages = i % WIDE_EVERY === 0 ? WIDE_PAGES : 1;
    holes.push({ at: kmem_alloc_nofault(mp, pages), pages });
  }
  for (const { at, pages } of holes) kmem_free(mp, at, pages);
  maps.set(-n, mp);
  return mp;
}
/** Searches for the first hole of four pages. */
function kernel_search(ops: number, n: number): number {
  const best = new Shortest();
  const mp = kernel_sparse(n);
  for (let left = ops; left > 0; left -= SEARCHES) {
    best.batches(SEARCHES, SEARCHES, () => {
      found ^= vm_map_findspace(mp, KVA_BASE, WIDE_PAGES + 1);
    });
  }
  return best.answer(ops);
}
/** Pages of zeros are asked for, used and given back. */
function kernel_pages(ops: number): number {
  const best = new Shortest();
  const mp = kernel_map();
  const other = kmem_alloc(mp, 1); // as in a kernel that is in use: page tables are there
  best.batches(ops, BATCH, () => {
    const at = kmem_alloc(mp, KERNEL_PAGES);
    for (let i = 0; i < KERNEL_PAGES; i++) touch(mp, at + i);
    kmem_free(mp, at, KERNEL_PAGES);
  });
  kmem_free(mp, other, 1);
  return best.answer(ops);
}
const find_entry = (mp: vm_map_t, at: number): number => vm_map_lookup(mp, at);
const find_hole = (mp: vm_map_t, at: number): number => vm_map_findspace(mp, at, WIDE_PAGES);

// --- typed loads and windows -------------------------------------------------------------------

const m = machine.space('bench').mmap({ name: 'numbers', length: BYTES });
for (let at = 0; at < BYTES; at += 4) m.setU32(at, at);
function ascending(from: number): number {
  let sum = 0;
  const first = from * 4;
  for (let at = first; at < first + WINDOW_BYTES; at += 4) sum = (sum + m.getU32(at)) | 0;
  return sum;
}
function random(from: number): number {
  let sum = 0;
  for (let i = from; i < from + WINDOW_BYTES / 4; i++) sum = (sum + m.getU32(PLACES[i])) | 0;
  return sum;
}
function opened(): number {
  const w = m.window(0, WINDOW_BYTES);
  const sum = total(w.u32);
  w.close();
  return sum;
}
function held(ops: number): number {
  const w = m.window(0, WINDOW_BYTES);
  const { u32 } = w;
  const ns = shortest('window open', ops, () => total(u32));
  w.close();
  return ns;
}

// --- loans -------------------------------------------------------------------------------------

/** More than any cache has. */
const large = machine.space('bench').mmap({ name: 'large', length: LARGE });
large.fill(0, LARGE, 1);
const copy = new Uint8Array(WINDOW_BYTES);
const lend = (at: number): void => large.lend(at, WINDOW_BYTES).dispose();
const read = (at: number): void => void large.read(at, copy);
function pieces(ops: number, cold: boolean, run: (at: number) => void): number {
  const best = new Shortest();
  const n = LARGE / WINDOW_BYTES;
  // Cold: each piece is far from the one before, and comes again when it was long forgotten.
  best.batches(ops, BATCH, (i) => run(cold ? ((i * STRIDE) % n) * WINDOW_BYTES : 0));
  return best.answer(ops);
}

await serve(
  {
    'lend-64K': (ops) => pieces(ops, false, lend),
    'read-64K': (ops) => pieces(ops, false, read),
    'lend-64K-cold': (ops) => pieces(ops, true, lend),
    'read-64K-cold': (ops) => pieces(ops, true, read),
    'zero-fill-ascending': (ops) => zero_fill(ops, false),
    'zero-fill-random': zero_fill_random,
    'zero-fill-pre-zeroed': (ops) => zero_fill(ops, true),
    'copy-on-write': (ops) => copy_on_write(ops, region, REGION_PAGES, (i) => FIRST + i),
    'copy-on-write-10000': (ops) =>
      copy_on_write(
        ops,
        () => entries(ENTRIES),
        ENTRIES,
        (i) => lone(i),
      ),
    'fork-10000': fork,
    'protect-split': protect,
    'lock-1000': lock,
    'lookup-1000': (ops) => search(ops, 1000, find_entry),
    'lookup-100000': (ops) => search(ops, 100_000, find_entry),
    'find-space-1000': (ops) => search(ops, 1000, find_hole),
    'find-space-100000': (ops) => search(ops, 100_000, find_hole),
    'kernel-pages': kernel_pages,
    'kernel-find-1000': (ops) => kernel_search(ops, 1000),
    'kernel-find-100000': (ops) => kernel_search(ops, 100_000),
    load: (ops) => shortest('load', ops, ascending),
    'load-random': (ops) => shortest('load random', ops, random),
    window: (ops) => shortest('window', ops, opened),
    'window-open': held,
  },
  'kmem',
);
process.exit(found === 0.5 || summed() === 0.5 ? 1 : 0);
