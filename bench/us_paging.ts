/*
 * us_paging: the kernel's paging as a competitor.
 *
 *      in-runs, in-scattered     a fault brings a cluster of 16 pages in from the swap area, into
 *                                pages that lie side by side, or that do not
 *      in-single                 a fault brings one page in, in a region of random accesses
 *      out-runs, out-scattered   a cluster of dirty pages is written to the swap area
 *      resident                  a page at random is copied out of a mapped file
 *      resident-word             a number is read in one
 *      scan, scan-again          windows on a mapped file that is not in memory, and that is: of
 *                                64 KiB, or large, of 1 MiB
 *      fault-one, fault-two      a thread has faults in a file; two have them in two files
 *
 * What lies in the swap area and not in memory is made so before each pass, and not timed: pages
 * are written, and lose their memory as they do on the cache queue.  Pages are scattered when of
 * all that are free none has a free neighbour.  A batch counts only if its pages were as asked for.
 */
import { join } from 'node:path';
import { isMainThread, Worker, workerData } from 'node:worker_threads';
import { attach, boot, type Machine, type Region } from '../src/lib/index.ts';
import { MADV_RANDOM, VM_MAP_MAX, vm_map_entry, type vm_map_t } from '../src/sys/h/vm_map.ts';
import { vm_object, type vm_object_t } from '../src/sys/h/vm_object.ts';
import { VM_ALLOC_INTERRUPT } from '../src/sys/h/vm_page.ts';
import { VM_PROT_ALL, VM_PROT_READ, VM_PROT_WRITE } from '../src/sys/h/vm_prot.ts';
import { mem } from '../src/sys/machine/memory.ts';
import { vm_frame } from '../src/sys/map/vm_copy.ts';
import { vmspace_alloc } from '../src/sys/map/vm_map_fork.ts';
import { type Mapping, vm_map_fixed } from '../src/sys/map/vm_map_insert.ts';
import { vm_map_madvise } from '../src/sys/map/vm_map_range.ts';
import { vm_map_lookup_entry } from '../src/sys/map/vm_map_tree.ts';
import { object_page_launder } from '../src/sys/object/vm_launder.ts';
import { object_page, object_page_free } from '../src/sys/object/vm_object_page.ts';
import { vm_page_alloc, vm_page_free, vm_page_wire } from '../src/sys/page/vm_page.ts';
import { mtx_lock, mtx_unlock } from '../src/sys/sync/kern_mutex.ts';
import { now_ns, type Pattern, serve } from './child.ts';
import {
  CLUSTER_BATCH,
  CLUSTER_BYTES,
  CLUSTER_PAGES,
  CLUSTERS,
  LARGE_BYTES,
  look,
  PAGE_BATCH,
  PAGE_BYTES,
  PAGES,
  SET_BYTES,
  SET_PAGES,
  shortest_batch,
} from './paging_loops.ts';
import { follow, Pair, type PairWords } from './pair.ts';

const MEMORY = '160M';
/** Swap space: what is resident, and as much again, since a page goes to a new slot each time. */
const SWAP = '68M';
const FIRST = 1024;
const HOW: Mapping = {
  object: 0 as Mapping['object'],
  offset: 0,
  protection: VM_PROT_READ | VM_PROT_WRITE,
  max_protection: VM_PROT_ALL,
  cow: 0,
};
/** Faults here have a whole cluster come in: 7 pages before it, 8 behind it. */
const MIDDLE = 7;
let sink = 0;

function must(done: number): void {
  if (done !== 0) throw new Error(`code ${done}`);
}
/** A region of memory with as many pages as are resident. */
class Memory {
  readonly mp: vm_map_t;
  readonly o: vm_object_t;
  constructor(random: boolean) {
    this.mp = vmspace_alloc(16, VM_MAP_MAX);
    if (this.mp === 0) throw new Error('no memory for an address space');
    must(vm_map_fixed(this.mp, FIRST, FIRST + SET_PAGES, HOW));
    if (random) must(vm_map_madvise(this.mp, FIRST, FIRST + SET_PAGES, MADV_RANDOM));
    this.store(0);
    this.o = vm_map_entry.object[vm_map_lookup_entry(this.mp, FIRST)];
    this.out();
  }
  /** Stores to a page, which comes in if it is not there. */
  store(i: number): void {
    const frame = vm_frame(this.mp, FIRST + i, true);
    if (frame <= 0) throw new Error(`no page at ${i}`);
    mem.I32[frame] = i;
  }
  /** Loads from a page, which comes in if it is not there. */
  load(i: number): void {
    const frame = vm_frame(this.mp, FIRST + i, false);
    if (frame <= 0 || mem.I32[frame] !== i) throw new Error(`page ${i} holds something else`);
  }
  /** Whether the pages of a cluster lie side by side; with `apart`, whether no two of them do. */
  lies(first: number, apart: boolean): boolean {
    mtx_lock(vm_object.lock, this.o);
    let as_asked = true;
    let before = object_page(this.o, first);
    for (let i = first + 1; i < first + CLUSTER_PAGES && as_asked; i++) {
      const m = object_page(this.o, i);
      as_asked = m !== 0 && before !== 0 && (m === before + 1) !== apart;
      before = m;
    }
    mtx_unlock(vm_object.lock, this.o);
    return as_asked;
  }
  /** Has a cluster written. */
  write(first: number): void {
    mtx_lock(vm_object.lock, this.o);
    const error = object_page_launder(object_page(this.o, first), this.o, true);
    mtx_unlock(vm_object.lock, this.o);
    must(error);
  }
  /** All of it is dirty and in memory. */
  dirty(): void {
    for (let i = 0; i < SET_PAGES; i++) this.store(i);
  }
  /** All of it is in the swap area, and not in memory. */
  out(): void {
    this.dirty();
    for (let i = 0; i < SET_PAGES; i += CLUSTER_PAGES) this.write(i);
    this.away();
  }
  /** What has been written is not in memory any more. */
  away(): void {
    mtx_lock(vm_object.lock, this.o);
    for (let i = 0; i < SET_PAGES; i++) {
      const m = object_page(this.o, i);
      if (m !== 0) object_page_free(m, this.o);
    }
    mtx_unlock(vm_object.lock, this.o);
  }
}
let plain: Memory | undefined;
let random: Memory | undefined;

/** Runs `work` while no free page has a free neighbour, if `apart` is set. */
function lying(apart: boolean, work: () => number): number {
  if (!apart) return work();
  const held: number[] = [];
  for (let m = -1; m !== 0; ) {
    m = vm_page_alloc(-1, VM_ALLOC_INTERRUPT);
    if (m === 0) break;
    vm_page_wire(m, 1);
    held.push(m);
  }
  for (const m of held) if (m % 2 === 0) vm_page_free(m);
  const ns = work();
  for (const m of held) if (m % 2 !== 0) vm_page_free(m);
  return ns;
}
function page_in(ops: number, apart: boolean): number {
  plain ??= new Memory(false);
  const of = plain;
  const run = (i: number): void => of.load(i * CLUSTER_PAGES + MIDDLE);
  const suits = (i: number): boolean => of.lies(i * CLUSTER_PAGES, apart);
  const ready = (): void => of.away();
  of.away();
  return lying(apart, () =>
    shortest_batch(ops, { n: CLUSTERS, batch: CLUSTER_BATCH, ready, run, suits }),
  );
}
function page_out(ops: number, apart: boolean): number {
  plain ??= new Memory(false);
  const of = plain;
  const run = (i: number): void => of.write(i * CLUSTER_PAGES);
  const suits = (i: number): boolean => of.lies(i * CLUSTER_PAGES, apart);
  const ready = (): void => of.dirty();
  of.away();
  return lying(apart, () => {
    for (let i = 0; i < CLUSTERS; i++) of.load(i * CLUSTER_PAGES + MIDDLE);
    const ns = shortest_batch(ops, { n: CLUSTERS, batch: CLUSTER_BATCH, ready, run, suits });
    of.away();
    return ns;
  });
}
function single(ops: number): number {
  random ??= new Memory(true);
  const of = random;
  const run = (i: number): void => of.load(PAGES[i]);
  const ready = (): void => of.away();
  const ns = shortest_batch(ops, { n: SET_PAGES, batch: PAGE_BATCH, ready, run });
  of.away();
  return ns;
}

// --- files -------------------------------------------------------------------------------------

function file_region(machine: Machine, folder: string, name: string): Region {
  const file = join(folder, name);
  return machine.space('files').mmap({ name, file, shared: true, write: false });
}
/** Nothing of a file is in memory. Pages stay while the other thread owes an answer. */
async function drop(m: Region): Promise<void> {
  for (let i = 0; i < DROPS; i++) {
    m.revalidate();
    if (m.resident().every((is) => is === 0)) return;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  throw new Error('pages of a file stay in memory');
}
const DROPS = 100;
const page = new Uint8Array(PAGE_BYTES);
function resident(ops: number, m: Region): number {
  const run = (i: number): void => {
    m.read(PAGES[i] * PAGE_BYTES, page);
    sink ^= page[0];
  };
  return shortest_batch(ops, { n: SET_PAGES, batch: PAGE_BATCH, run });
}
function resident_word(ops: number, m: Region): number {
  const run = (i: number): void => {
    sink ^= m.getU32(PAGES[i] * PAGE_BYTES);
  };
  return shortest_batch(ops, { n: SET_PAGES, batch: PAGE_BATCH, run });
}
/** Windows on all of it. */
function scan(ops: number, m: Region, size: number, again: boolean): number {
  let windows = m.windows({ size });
  const ready = (): void => {
    for (const w of windows) w.close();
    if (!again) m.revalidate();
    windows = m.windows({ size });
  };
  const run = (): void => {
    const { value } = windows.next();
    if (value === undefined) throw new Error('the file is shorter than it was');
    sink ^= look(value.u32, 0, size / PAGE_BYTES);
  };
  const batch = size === LARGE_BYTES ? 1 : CLUSTER_BATCH;
  const ns = shortest_batch(ops, { n: SET_BYTES / size, batch, ready, run });
  windows.return();
  return ns;
}
/** Faults that bring all of a file in, one for each cluster: all of them are timed. */
function faults(ops: number, m: Region): number {
  const start = now_ns();
  for (let i = 0; i < CLUSTERS; i++) {
    sink ^= m.getU32((i * CLUSTER_PAGES + MIDDLE) * PAGE_BYTES);
  }
  return ((now_ns() - start) / CLUSTERS) * ops;
}

interface Second {
  readonly handle: ReturnType<typeof boot>['handle'];
  readonly words: PairWords;
  readonly folder: string;
}
async function main(folder: string): Promise<void> {
  const machine = boot({ memory: MEMORY, cpus: 2, pagedaemon: false });
  machine.swapon(join(folder, `swap-${process.pid}`), { size: SWAP });
  const m = file_region(machine, folder, 'one');
  const other = file_region(machine, folder, 'two');
  const pair = new Pair((words) => {
    const data: Second = { handle: machine.handle, words, folder };
    return new Worker(new URL(import.meta.url), { workerData: data });
  });
  const patterns: Record<string, Pattern> = {
    'in-runs': (ops) => page_in(ops, false),
    'in-scattered': (ops) => page_in(ops, true),
    'in-single': single,
    'out-runs': (ops) => page_out(ops, false),
    'out-scattered': (ops) => page_out(ops, true),
    resident: (ops) => resident(ops, m),
    'resident-word': (ops) => resident_word(ops, m),
    scan: (ops) => scan(ops, m, CLUSTER_BYTES, false),
    'scan-large': (ops) => scan(ops, m, LARGE_BYTES, false),
    'scan-again': (ops) => scan(ops, m, CLUSTER_BYTES, true),
    'scan-large-again': (ops) => scan(ops, m, LARGE_BYTES, true),
    'fault-one': async (ops) => {
      await drop(m);
      return faults(ops, m);
    },
    'fault-two': async (ops) => {
      await drop(m);
      await drop(other);
      return pair.ask('faults', ops, 0, () => faults(ops, m));
    },
  };
  await serve(patterns, 'kmem');
  process.exit(sink === 0.5 ? 1 : 0);
}

if (isMainThread) await main(process.argv[2]);
else {
  const { handle, words, folder } = workerData as Second;
  const machine = attach(handle);
  const m = file_region(machine, folder, 'two');
  // Between its jobs this thread owes no answers, so that the other one can drop pages.
  let parked = machine.park();
  follow(words, ({ ops }) => {
    parked[Symbol.dispose]();
    const ns = faults(ops, m);
    parked = machine.park();
    return ns;
  });
}
