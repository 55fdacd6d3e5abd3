/*
 * machdep: makes the bare machine, before any floor stands on it.
 *
 *      memory -> header -> columns -> variables -> counters -> CPU records
 *
 * A thread that boots again takes its old memory over, if no other thread is
 * attached to it and it is large enough: the views stay the same, and with
 * them the speed of the code that V8 has compiled against them.  Columns lie
 * where the size of the whole memory puts them, so a smaller machine in the
 * same memory finds them at the same place; if they would fill much of it, it
 * gets memory of its own.
 */
import { atomic_add, atomic_load } from './atomic.ts';
import { counters, counters_boot, counters_freeze } from './counter.ts';
import { CPU_FREE, MAXCPU, pcpu, pcpu_of } from './cpu.ts';
import { EINVAL, EOPNOTSUPP, KmemError } from './errno.ts';
import { boot_alloc, HEADER_END, M, MACHINE_MAGIC, machine, PHASE_BOOT } from './header.ts';
import { host_cpus } from './host.ts';
import type { WasmMemory } from './hw.ts';
import {
  type AtomicsKind,
  hw,
  mem,
  memory_bind,
  memory_buffer,
  memory_create,
  memory_state,
  PAGE_SHIFT,
  type SharedMemory,
} from './memory.ts';
import { opt, opt_bind } from './opt.ts';
import { columns_bind, columns_words, elem, layout_hash, set64, set_string } from './struct.ts';
import { sysctl_boot, sysctl_decls, sysctl_freeze } from './sysctl_decl.ts';

export interface MachineParameters {
  readonly size: number;
  readonly cpus: number;
  readonly options: number;
  readonly atomics: AtomicsKind;
  readonly fresh: boolean;
  readonly domains: number;
  readonly site: string;
  readonly seed: number;
  readonly tunables: ReadonlyMap<string, number>;
  /** Column sets in order, with the rows that a memory of so many pages needs. */
  readonly columns: readonly { name: string; rows(pages: number): number }[];
}

let frozen = 0;
/** Ends the declarations: from here on numbers and the layout hash are fixed. */
export function machine_freeze(): void {
  if (frozen !== 0) return;
  counters_freeze();
  sysctl_freeze();
  frozen = layout_hash([
    ...counters.map((c) => `counter ${c.name}`),
    ...sysctl_decls.map((d) => `sysctl ${d.name} ${d.type}`),
  ]);
}

/** Finds or makes memory, and writes the header and the boot records into it. */
export function machine_boot(p: MachineParameters): void {
  if (p.cpus < 1 || p.cpus > MAXCPU || !Number.isInteger(p.cpus)) {
    throw new KmemError(
      EINVAL,
      'boot',
      `cpus: ${p.cpus} is not a whole number from 1 to ${MAXCPU}`,
    );
  }
  opt_bind(p.options);
  const old = p.fresh ? null : reusable(p);
  const memory = old ?? memory_create(p.size, p.atomics);
  const used = old ? Math.max(machine.first_page[M] << (PAGE_SHIFT - 2), machine.boot_next[M]) : 0;
  const generation = old ? machine.generation[M] : 0;
  // Guards are made with the views: another kind of boot needs other views.
  if (!old || memory_state.checked !== opt.CHECKED) memory_bind(memory);
  if (used > 0) hw.fill(0, 0, used);
  write_header(p, generation, used > 0);
  place_columns(p);
  sysctl_boot(p.tunables);
  counters_boot();
  machine.pcpu_words[M] = pcpu.sizeof;
  machine.pcpu[M] = boot_alloc(pcpu.sizeof * p.cpus, 'CPU records', 32);
  for (let cpu = 0; cpu < p.cpus; cpu++) pcpu.state[pcpu_of(cpu)] = CPU_FREE;
}

/** This thread's last memory, if it can serve again. */
function reusable(p: MachineParameters): SharedMemory | null {
  const memory = memory_state.memory;
  if (!memory || memory_state.size < p.size || machine.magic[M] !== MACHINE_MAGIC) return null;
  if (atomic_load(attached_word()) !== 0) return null;
  if (p.atomics !== 'auto' && (p.atomics === 'wasm') !== memory_state.wasm) return null;
  return columns_bytes(p) > p.size / COLUMNS_SHARE ? null : memory;
}
/** The columns of a large memory take at most 1 / this of a small machine in it. */
const COLUMNS_SHARE = 8;
function columns_bytes(p: MachineParameters): number {
  const capacity = Math.floor(memory_state.size / 2 ** PAGE_SHIFT);
  return p.columns.reduce((sum, c) => sum + columns_words(c.name, c.rows(capacity)) * 4, 0);
}
function attached_word(): number {
  return (machine.attached as unknown as Int32Array).byteOffset / 4 + M;
}

function write_header(p: MachineParameters, generation: number, reused: boolean): void {
  machine.magic[M] = MACHINE_MAGIC;
  machine.layout[M] = frozen;
  machine.id_low[M] = (Math.random() * 2 ** 31) | 0;
  machine.generation[M] = generation + 1;
  machine.phase[M] = PHASE_BOOT;
  machine.options[M] = p.options;
  machine.maxcpus[M] = p.cpus;
  machine.host_cpus[M] = host_cpus();
  machine.npages[M] = Math.floor(p.size / 2 ** PAGE_SHIFT);
  machine.domains[M] = p.domains;
  machine.random[M] = p.seed | 1;
  machine.boot_next[M] = HEADER_END;
  machine.boot_end[M] = Math.floor(p.size / 4);
  machine.zeroed_from[M] = reused ? 0x7fffffff : 0;
  set64(machine.size_bytes, M, p.size);
  set64(machine.boot_time, M, Date.now());
  set_string(machine.site, M, 32, p.site);
}

function place_columns(p: MachineParameters): void {
  const capacity = Math.floor(memory_state.size / 2 ** PAGE_SHIFT);
  for (const [i, set] of p.columns.entries()) {
    const rows = set.rows(capacity);
    const at = boot_alloc(columns_words(set.name, rows), set.name, 16);
    machine.column_start[elem(M, i)] = at;
    machine.column_rows[elem(M, i)] = rows;
    columns_bind(set.name, at, rows);
  }
}

/** What another thread needs in order to attach. Plain data: it can be cloned and posted. */
export interface Handle {
  readonly kmem: 1;
  /** null: nobody can share it, so the thread that booted is the only CPU. */
  readonly memory: WasmMemory | SharedArrayBuffer | null;
  readonly layout: number;
  readonly id: number;
  readonly generation: number;
}
/** The handle of the machine this thread is bound to. */
export function machine_handle(): Handle {
  return {
    kmem: 1,
    memory: memory_state.shared ? (memory_state.memory as SharedArrayBuffer) : null,
    layout: frozen,
    id: machine.id_low[M],
    generation: machine.generation[M],
  };
}

/** Binds this thread to a handle's memory. Throws EINVAL if it cannot be the same machine. */
export function machine_bind(handle: Handle, columns: readonly { name: string }[]): void {
  const bad = (why: string): never => {
    throw new KmemError(EINVAL, 'attach', why);
  };
  if (typeof handle !== 'object' || handle === null || handle.kmem !== 1) {
    bad('not a machine handle: pass machine.handle as it is, in workerData or a message');
  }
  const { memory } = handle;
  if (!memory) {
    const why = 'it was booted where no memory can be shared (a page that is not cross-origin';
    throw new KmemError(EOPNOTSUPP, 'attach', `the machine has one CPU: ${why} isolated)`);
  }
  if (handle.layout !== frozen) {
    bad('the handle comes from another version of kmem: its memory layout differs from ours');
  }
  const words = new Int32Array(memory_buffer(memory), M * 4, 16);
  if (words[0] >>> 0 !== MACHINE_MAGIC) bad('the memory holds no machine');
  if (words[3] !== handle.generation || words[2] !== handle.id) {
    bad(`the handle is of generation ${handle.generation}; the memory is at ${words[3]} by now`);
  }
  opt_bind(words[5]);
  const same = memory_state.size > 0 && machine.id_low[M] === handle.id && mem.I32.length > 0;
  if (!same || memory_state.checked !== opt.CHECKED) memory_bind(memory);
  for (const [i, set] of columns.entries()) {
    columns_bind(set.name, machine.column_start[elem(M, i)], machine.column_rows[elem(M, i)]);
  }
}

/** A number from the kernel's own generator: good enough to spread, not to guard. */
export function machine_random(): number {
  const w = (machine.random as unknown as Int32Array).byteOffset / 4 + M;
  let x = atomic_add(w, 0x6d2b79f5) | 0;
  x = Math.imul(x ^ (x >>> 15), x | 1);
  x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
  return (x ^ (x >>> 14)) >>> 0;
}
