/*
 * store_dump: stores are read and written, and the machine is dumped, while others allocate.
 *
 * All CPUs allocate and free.  CPU 0 dumps without faults; CPU 1, which may die anywhere,
 * and CPU 2 dump and write with faults that the machine's own generator draws: operations
 * fail, are short or slow, find no room half-way.  Seen afterwards:
 *
 *      a dump that was finished     is one, by its headers, and has this machine's header
 *      words that its CPU wrote     are in it as they were: only that CPU writes them
 *      words of the others          are not older than before it, nor newer than after
 *      bytes of a shared store      each CPU's own part holds what it wrote last
 *      a file that was discarded    is gone; one that was finished is whole
 *
 * and the machine has lost nothing: no item, page, lock or CPU that does not come back,
 * wherever CPU 1 died in the middle of a dump, parked as it is then.
 *
 * What dumps are written into lies outside the machine, one for each CPU: an operation
 * that is taken back leaves something there, and the next begins by removing it.  How much
 * a dump writes depends on what free pages hold, so each operation begins with these
 * cleared: otherwise a seed would not give the same points again.
 */
import { existsSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CPU_PARKED, pcpu, pcpu_of } from '../../src/sys/machine/cpu.ts';
import { machine_random } from '../../src/sys/machine/machdep.ts';
import { EIO, ENOSPC } from '../../src/sys/machine/errno.ts';
import { M, MACHINE_MAGIC, machine } from '../../src/sys/machine/header.ts';
import { hw, mem, PAGE_WORDS, page_word } from '../../src/sys/machine/memory.ts';
import {
  STORE_CREATE,
  STORE_NEW,
  store_abandon,
  store_close,
  store_discard,
  store_open,
  store_open_memory,
} from '../../src/sys/machine/store.ts';
import {
  store_read,
  store_size,
  store_sync,
  store_truncate,
  store_write,
} from '../../src/sys/machine/store_io.ts';
import { type StoreFault, type StoreOp, store_faults } from '../../src/sys/machine/store_fault.ts';
import { elem, field_word, i32, type Ptr, struct, words } from '../../src/sys/machine/struct.ts';
import { PG_ZERO, PK_FREE, PK_MASK, vm_page } from '../../src/sys/h/vm_page.ts';
import type { malloc_type_t } from '../../src/sys/h/malloc.ts';
import { free, M_NOWAIT, malloc, malloc_type_attach } from '../../src/sys/kmem/kern_malloc.ts';
import { DUMP_LOAD, dump_parse } from '../../src/sys/observe/dump_elf.ts';
import { dump_room, dump_store } from '../../src/sys/observe/kern_dump.ts';
import { check_account } from '../account.ts';
import { type SimScript, scratch } from '../script.ts';

type rec_t = Ptr<'sim_store'>;
const CPUS = 3;
/** Words of the shared store that each CPU has. */
const PART = 8;
/* Locks: (c) constant  (-) of each CPU its own part */
const rec = struct<rec_t>('sim_store')({
  round: words('-', 'of each CPU: turns that it has made', CPUS),
  finished: words('-', 'of each CPU: dumps that it has finished', CPUS),
  shared: words('-', 'what the shared store holds', CPUS * PART),
  type: i32('c', 'the type of all blocks'),
});
const at = (i = 0): rec_t => elem(scratch<rec_t>(), i);
const round_word = (cpu: number): number => field_word(rec.round, at(cpu));

// --- faults --------------------------------------------------------------------------------

/** Whether the operation that runs may be at fault. */
let faulty = false;
const MANY = 6;
function draw(op: StoreOp): StoreFault | null {
  if (!faulty || op === 'discard') return null;
  switch (machine_random() % (MANY * 4)) {
    case 0:
      return { what: 'fail', errno: EIO };
    case 1:
      return { what: 'full' };
    case 2:
      return { what: 'short', bytes: 5000 };
    case 3:
      return { what: 'slow', ms: 3 };
    default:
      return null;
  }
}
/** Runs an operation on a store; if it is cut off, the host closes what it had open. */
function with_store(st: number, run: (st: number) => void): void {
  if (st < 0) return expect(-st);
  try {
    run(st);
  } catch (e) {
    store_abandon(st);
    throw e;
  }
}
function expect(error: number): void {
  if (error !== 0 && !(faulty && (error === EIO || error === ENOSPC))) {
    throw new Error(`errno ${error} without a fault`);
  }
}
/** An operation of a CPU; those of CPU 0 meet no fault. */
const op =
  (cpu: number, run: (cpu: number) => void): (() => void) =>
  () => {
    const before = faulty;
    store_faults.next = draw;
    clean();
    faulty = cpu !== 0;
    mem.I32[round_word(cpu)]++;
    try {
      run(cpu);
    } finally {
      faulty = before; // of the operation around this one, of another CPU
    }
  };
/** Free pages hold zeros: what an earlier run left in them is no business of this one. */
function clean(): void {
  for (let m = machine.first_page[M]; m < machine.npages[M]; m++) {
    const is_free = (vm_page.info[m] & PK_MASK) === PK_FREE;
    if (is_free && (vm_page.flags[m] & PG_ZERO) === 0) hw.fill(page_word(m), 0, PAGE_WORDS);
  }
}

// --- operations ----------------------------------------------------------------------------

/** Of each CPU: what a dump of its goes into, and the room it takes. */
const held: Uint8Array[] = [];
const rooms: Int32Array<ArrayBuffer>[] = [];
function dump(cpu: number): void {
  const size = DUMP_LOAD + machine.npages[M] * PAGE_WORDS * 4;
  held[cpu] ??= new Uint8Array(new SharedArrayBuffer(size));
  rooms[cpu] ??= dump_room();
  const bytes = held[cpu];
  const before = [0, 1, 2].map((i) => mem.I32[round_word(i)]);
  with_store(store_open_memory(bytes, STORE_CREATE), (st) => {
    const { error } = dump_store(st, rooms[cpu]);
    if (pcpu.state[pcpu_of(cpu)] & CPU_PARKED) throw new Error(`CPU ${cpu} is away still`);
    const closed = store_close(st);
    expect(error);
    expect(closed);
    if (error !== 0 || closed !== 0) return;
    dumped(cpu, bytes, before);
    rec.finished[at(cpu)]++;
  });
}
function dumped(cpu: number, bytes: Uint8Array, before: readonly number[]): void {
  const parsed = dump_parse(bytes.subarray(0, DUMP_LOAD), bytes.length);
  if ('fault' in parsed) throw new Error(`a dump that was finished: ${parsed.fault}`);
  if (parsed.head.cpu !== cpu) throw new Error(`CPU ${parsed.head.cpu} wrote the dump of ${cpu}`);
  const words = new Int32Array(bytes.buffer, DUMP_LOAD);
  if (words[M] !== MACHINE_MAGIC) throw new Error('the dump has no header');
  for (let i = 0; i < CPUS; i++) {
    const [seen, now] = [words[round_word(i)], mem.I32[round_word(i)]];
    if (i === cpu && seen !== now) throw new Error(`own word ${now}, in the dump ${seen}`);
    if (seen < before[i] || seen > now) {
      throw new Error(`word of CPU ${i}: ${before[i]} before, ${seen} in the dump, ${now} now`);
    }
  }
}
/** Writes this CPU's part of a store that all write, and reads it back. */
function shared(cpu: number): void {
  const first = field_word(rec.shared, at()) * 4;
  const all = mem.U8.subarray(first, first + CPUS * PART * 4);
  const mine = cpu * PART * 4;
  with_store(store_open_memory(all), (st) => {
    const out = new Uint8Array(PART * 4).fill(mem.I32[round_word(cpu)] & 255);
    const error = store_write(st, mine, out);
    expect(error);
    expect(store_sync(st));
    const into = new Uint8Array(PART * 4);
    const got = store_read(st, mine, into);
    if (got < 0) expect(-got);
    else if (got !== into.length) throw new Error(`${got} bytes of ${into.length}`);
    else if (error === 0 && !into.every((byte, i) => byte === out[i])) {
      throw new Error(`the part of CPU ${cpu} is not what it wrote`);
    }
    const size = store_size(st);
    if (size < 0) expect(-size);
    expect(store_close(st));
  });
}
const path_of = (cpu: number): string => join(tmpdir(), `kmem-sim-${process.pid}-${cpu}.core`);
const FILE_BYTES = 100_000;
/** Makes a file anew; finished it is whole, otherwise it is gone. */
function file(cpu: number): void {
  const path = path_of(cpu);
  rmSync(path, { force: true }); // of an operation that was cut off
  with_store(store_open(path, STORE_NEW), (st) => {
    const some = new Uint8Array(1000).fill(cpu + 1);
    const error = store_write(st, 500, some) || store_truncate(st, FILE_BYTES);
    expect(error);
    if (error !== 0) {
      const left = store_discard(st);
      if (left !== 0 || existsSync(path)) throw new Error(`discarded, and there: errno ${left}`);
      return;
    }
    const closed = store_close(st);
    expect(closed);
    const size = statSync(path, { throwIfNoEntry: false })?.size;
    if (size !== (closed === 0 ? FILE_BYTES : undefined)) {
      throw new Error(`closed with errno ${closed}, the file has ${size} bytes`);
    }
  });
}
function work(): void {
  const type = rec.type[at()] as malloc_type_t;
  for (const size of [40, 700, 5000]) {
    const p = malloc(size, type, M_NOWAIT);
    if (p !== 0) mem.I32[p] = size;
    free(p, type);
  }
}

export const script: SimScript = {
  help: 'stores and dumps while others allocate, with faults; the one that dumps dies',
  cpus: CPUS,
  victim: 1,
  kill_seeds: 1,
  setup() {
    for (let w = 0; w < rec.sizeof; w++) mem.I32[at(w)] = 0;
    rec.type[at()] = malloc_type_attach('sim');
  },
  ops: (cpu) =>
    [
      [work, dump, shared],
      [work, dump, file, shared],
      [work, file, shared, work, work],
    ][cpu].map((run) => op(cpu, run)),
  check() {
    for (let cpu = 0; cpu < CPUS; cpu++) rmSync(path_of(cpu), { force: true });
    if (rec.finished[at(0)] !== 1) return 'the dump without a fault was not finished';
    return check_account();
  },
};
