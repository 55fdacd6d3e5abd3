/*
 * machdep: makes the bare machine, before any floor stands on it.
 *
 *      memory -> header -> columns -> variables -> counters -> CPU records
 *
 * A thread that boots again takes its old memory over, if that machine is down, no
 * living thread is attached to it and it is large enough: the views stay the same, and
 * with them the speed of the code that V8 has compiled against them.  Columns lie
 * where the size of the whole memory puts them, so a smaller machine in the
 * same memory finds them at the same place; if they would fill much of it, it
 * gets memory of its own.
 *
 * Two threads may want to boot one memory, and late attachers may still have handles of
 * the machine before.  Who boots holds the boot word, and closes every slot word
 * (slot_word.ts) before anything is wiped: whoever took a slot earlier keeps the boot
 * away, whoever comes later finds none.  The slots open again when all is up.
 */
import { atomic_add, atomic_load, atomic_store } from './atomic.ts';
import { counters, counters_boot, counters_freeze } from './counter.ts';
import { CPU_FREE, CPU_PARKED, CPU_STOP, cpu_slots, MAXCPU, pcpu, pcpu_of } from './cpu.ts';
import type { Taken } from './cpu_slots.ts';
import { cpu_stop_boot } from './cpu_stop.ts';
import { cpu_alive, life_cpu, tid_alive } from './death.ts';
import { EINVAL, EOPNOTSUPP, ESHUTDOWN, KmemError } from './errno.ts';
import {
  boot_alloc,
  HEADER_END,
  LIFE_START,
  M,
  MACHINE_MAGIC,
  machine,
  NOBODY_STATE,
  PHASE_BOOT,
  PHASE_DOWN,
  PHASE_UP,
} from './header.ts';
import { host_cpus, host_gone, host_who } from './host.ts';
import { ROW_WORDS, type WasmMemory } from './hw.ts';
import {
  type AtomicsKind,
  hw,
  mem,
  memory_bind,
  is_shared_memory,
  memory_buffer,
  memory_unshared,
  memory_create,
  memory_state,
  MEMORY_MIN,
  PAGE_SHIFT,
  type SharedMemory,
} from './memory.ts';
import { opt, opt_bind } from './opt.ts';
import {
  boot_word_drop,
  boot_word_take,
  LIFE_SPARE,
  life_bind,
  next_generation,
  SLOT_CLOSED,
  SLOT_FREE,
  SLOT_HELD,
  SLOT_SETTLE,
  SPARES,
  slot_incarnation,
  slot_load,
  slot_rest,
  slot_state,
  slot_swap,
  slot_word,
} from './slot_word.ts';
import {
  columns_bind,
  columns_words,
  elem,
  field_word,
  layout_hash,
  set64,
  set_string,
} from './struct.ts';
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
  readonly tunables: ReadonlyMap<string, number | string>;
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
    ...sysctl_decls.map((d) => `sysctl ${d.name} ${d.type} ${d.bytes}`),
  ]);
}

/** What tells this kernel's memory from that of another: its structures, by their hash. */
export function machine_layout(): number {
  machine_freeze();
  return frozen;
}

/** Finds or makes memory, makes this thread its only owner, and writes the boot records. */
export function machine_boot(p: MachineParameters): Taken {
  if (p.cpus < 1 || p.cpus > MAXCPU || !Number.isInteger(p.cpus)) {
    throw new KmemError(
      EINVAL,
      'boot',
      `cpus: ${p.cpus} is not a whole number from 1 to ${MAXCPU}`,
    );
  }
  const old = p.fresh ? null : reusable(p);
  const used = old ? Math.max(machine.first_page[M] << (PAGE_SHIFT - 2), machine.boot_next[M]) : 0;
  opt_bind(p.options);
  const memory = old ?? memory_create(p.size, p.atomics);
  // Guards are made with the views: another kind of boot needs other views.
  if (!old || memory_state.checked !== opt.CHECKED) memory_bind(memory);
  if (!old) life_bind(mem.I32.buffer);
  if (!old) boot_word_take(host_who(), () => false);
  const generation = next_generation();
  const zero = slot_load(0);
  const taken = { cpu: 0, incarnation: slot_incarnation(zero), generation };
  slot_swap(0, zero, slot_word(SLOT_HELD, taken.incarnation, host_who()));
  try {
    write_boot_records(p, generation, used);
  } catch (e) {
    machine_unboot(taken);
    throw e;
  }
  return taken;
}
function write_boot_records(p: MachineParameters, generation: number, used: number): void {
  if (used > 0) {
    hw.fill(0, 0, LIFE_START);
    hw.fill(HEADER_END, 0, used - HEADER_END);
  }
  mem.I32[NOBODY_STATE] = CPU_PARKED | CPU_STOP;
  write_header(p, generation, used > 0);
  place_columns(p);
  sysctl_boot(p.tunables);
  counters_boot();
  machine.pcpu_words[M] = pcpu.sizeof;
  machine.pcpu[M] = boot_alloc(pcpu.sizeof * cpu_slots(), 'CPU records', 32);
  machine.rw_rows[M] = boot_alloc(ROW_WORDS * cpu_slots(), 'rows of read holds', 16);
  cpu_stop_boot(cpu_slots());
  for (let cpu = 0; cpu < cpu_slots(); cpu++) pcpu.state[pcpu_of(cpu)] = CPU_PARKED | CPU_FREE;
}
/** The machine is up: its slots can be taken, and the memory be booted again once it is down. */
export function machine_open(generation: number): void {
  for (let i = 1; i < LIFE_SPARE + SPARES; i++) {
    if (i >= machine.maxcpus[M] && i < LIFE_SPARE) continue; // these stay closed
    const v = slot_load(i);
    slot_swap(i, v, slot_word(SLOT_FREE, slot_incarnation(v), generation));
  }
  boot_word_drop();
}
/** The boot failed: the memory can be booted again. */
export function machine_unboot(taken: Taken): void {
  atomic_store(field_word(machine.phase, M), PHASE_DOWN);
  const v = slot_load(0);
  slot_swap(0, v, slot_word(SLOT_CLOSED, taken.incarnation + 1, 0));
  boot_word_drop();
}

/** This thread's last memory, if it can serve again: then nobody else can get into it. */
function reusable(p: MachineParameters): SharedMemory | null {
  const memory = memory_state.memory;
  if (!memory || memory_state.size < p.size) return null;
  if (p.atomics !== 'auto' && (p.atomics === 'wasm') !== memory_state.wasm) return null;
  if (columns_bytes(p) > p.size / COLUMNS_SHARE) return null;
  life_bind(memory_buffer(memory));
  if (!boot_word_take(host_who(), host_gone)) return null;
  if (atomic_load(field_word(machine.phase, M)) !== PHASE_UP && close_slots()) return memory;
  boot_word_drop();
  return null;
}
/**
 * Closes every slot; from then on no handle of the machine before opens one.  False: a
 * living thread holds one, or it cannot be told whether it lives.
 */
function close_slots(): boolean {
  for (let i = 0; i < LIFE_SPARE + SPARES; i++) {
    for (;;) {
      const v = slot_load(i);
      const cpu = life_cpu(i);
      if (slot_state(v) === SLOT_HELD && cpu_alive(cpu)) return false;
      if (slot_state(v) === SLOT_SETTLE && tid_alive(slot_rest(v) * 8)) return false;
      if (slot_swap(i, v, slot_word(SLOT_CLOSED, slot_incarnation(v) + 1, 0))) break;
    }
  }
  return true;
}
/** The columns of a large memory take at most 1 / this of a small machine in it. */
const COLUMNS_SHARE = 8;
function columns_bytes(p: MachineParameters): number {
  const capacity = Math.floor(memory_state.size / 2 ** PAGE_SHIFT);
  return p.columns.reduce((sum, c) => sum + columns_words(c.name, c.rows(capacity)) * 4, 0);
}

function write_header(p: MachineParameters, generation: number, reused: boolean): void {
  machine.magic[M] = MACHINE_MAGIC;
  machine.layout[M] = frozen;
  machine.id_low[M] = (Math.random() * 2 ** 31) | 0;
  machine.generation[M] = generation;
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

/**
 * Finds the slot words of a handle's memory.  Throws EINVAL if the handle is none, or
 * of another version; EOPNOTSUPP if its memory cannot be shared.
 */
export function machine_find(handle: Handle): void {
  const bad = (why: string): never => {
    throw new KmemError(EINVAL, 'attach', why);
  };
  if (typeof handle !== 'object' || handle === null || handle.kmem !== 1) {
    bad('not a machine handle: pass machine.handle as it is, in workerData or a message');
  }
  const { memory } = handle;
  if (!memory) {
    const text = `the machine has one CPU, no memory can be shared: ${memory_unshared()}`;
    throw new KmemError(EOPNOTSUPP, 'attach', text);
  }
  if (handle.layout !== frozen) {
    bad('the handle comes from another version of kmem: its memory layout differs from ours');
  }
  const { id, generation } = handle;
  if (!is_shared_memory(memory) || !Number.isInteger(id) || !Number.isInteger(generation)) {
    return bad('the handle is damaged: pass machine.handle as it is');
  }
  const buffer = memory_buffer(memory);
  if (buffer.byteLength < MEMORY_MIN) bad('the memory holds no machine');
  life_bind(buffer);
}
/** Why no slot of a handle's machine is to be had: it is another one by now, or down. */
export function machine_refuses(handle: Handle): void {
  const words = new Int32Array(memory_buffer(handle.memory as SharedMemory), M * 4, 16);
  const bad = (why: string): never => {
    throw new KmemError(EINVAL, 'attach', why);
  };
  if (Atomics.load(words, 0) >>> 0 !== MACHINE_MAGIC) bad('the memory holds no machine');
  const generation = Atomics.load(words, 3);
  if (generation !== handle.generation || Atomics.load(words, 2) !== handle.id) {
    bad(`the handle is of generation ${handle.generation}; the memory is at ${generation} by now`);
  }
  if (Atomics.load(words, 4) === PHASE_DOWN) {
    throw new KmemError(ESHUTDOWN, 'attach', 'the machine was shut down');
  }
}
/** Binds this thread's views to the machine in which it has taken a slot. */
export function machine_bind(handle: Handle, columns: readonly { name: string }[]): void {
  const memory = handle.memory as SharedMemory;
  opt_bind(new Int32Array(memory_buffer(memory), M * 4, 16)[5]);
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
