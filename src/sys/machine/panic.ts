/*
 * panic: the memory is wrong, everybody stops.
 *
 * The first CPU to panic stores its slot in the header; the others see STOP at
 * their next lock, slow path or return from a wait, and throw KernelPanic too,
 * releasing nothing and undoing nothing: the memory stays as it was found wrong.  A
 * CPU between its look and its wait would miss a single notification, so the
 * panicking CPU notifies again and again until each has stopped, is parked or
 * a second is over.  From then on every slow path of a stopped CPU, the panicking one
 * included, throws at once, and its fast paths lead there.
 *
 * Each CPU notes its frames when it stops, because nobody has them later (cpu_stop.ts).
 * Then the panic table of boot/main.ts is run, by which the memory can be written to a
 * file.  No lock is taken here: the locks may be what is broken.
 */
import { atomic_cas, atomic_load, atomic_notify, atomic_or, atomic_store } from './atomic.ts';
import {
  CPU_DEAD,
  CPU_FREE,
  CPU_PARKED,
  CPU_STOP,
  cpu_slots,
  pcpu,
  pcpu_of,
  thr,
  thr_off,
} from './cpu.ts';
import { cpu_stop_note } from './cpu_stop.ts';
import { ESHUTDOWN, KmemError } from './errno.ts';
import { M, machine, PANIC_TEXT_WORDS, PHASE_DOWN } from './header.ts';
import { host_sleep } from './host.ts';
import { type Line, life } from './life.ts';
import { memory_state } from './memory.ts';
import { opt } from './opt.ts';
import { field_word, get_string, set_string } from './struct.ts';

const STOP_WAIT_MS = 1000;
/** In pcpu.stopped: the CPU has noted where it was, too. */
export const STOP_NOTED = 2;

/** A panic as the program sees it. */
export class KernelPanic extends Error {
  override readonly name = 'KernelPanic';
  /** CPU slot that panicked. */
  readonly cpu: number;

  constructor(text: string, cpu: number) {
    super(text);
    this.cpu = cpu;
  }
}

/**
 * Stops the machine.  `text` says what was believed; `values` are put behind
 * it.  Never returns.
 */
export function panic(text: string, ...values: (number | string)[]): never {
  const shown = values.map((v) => (typeof v === 'number' ? `${v}` : v)).join(' ');
  const message = `panic: ${text}${shown ? `: ${shown}` : ''}`;
  if (memory_state.size === 0 || thr.cpu < 0) throw new KernelPanic(message, -1);
  const first = atomic_cas(field_word(machine.panic_cpu, M), 0, thr.cpu + 1);
  if (first !== 0) cpu_stopped(CPU_STOP); // another one's, or one of its own before
  set_string(machine.panic_text, M, PANIC_TEXT_WORDS, message);
  cpu_stop_note(thr.cpu);
  stop_others();
  atomic_or(field_word(pcpu.state, thr.pc), CPU_STOP);
  atomic_store(field_word(pcpu.stopped, thr.pc), 1);
  thr_off();
  for (const line of life.panic ?? []) panic_line(line);
  throw new KernelPanic(message, thr.cpu);
}
/** What goes wrong in a line must not hide the panic: a want of stack, or of the host's memory. */
function panic_line([run]: Line): void {
  try {
    run();
  } catch {}
}

function stop_others(): void {
  const n = cpu_slots();
  for (let cpu = 0; cpu < n; cpu++) {
    if (cpu !== thr.cpu) atomic_or(field_word(pcpu.state, pcpu_of(cpu)), CPU_STOP);
  }
  const until = performance.now() + STOP_WAIT_MS;
  let running = true;
  while (running && performance.now() < until) {
    running = false;
    for (let cpu = 0; cpu < n; cpu++) {
      if (cpu === thr.cpu) continue;
      const pc = pcpu_of(cpu);
      const v = atomic_load(field_word(pcpu.state, pc));
      const over = (v & (CPU_PARKED | CPU_DEAD | CPU_FREE)) !== 0;
      atomic_notify(field_word(pcpu.state, pc), 64);
      const waiting = atomic_load(field_word(pcpu.waiting, pc));
      if (waiting !== 0) atomic_notify(waiting, 64);
      if (!over && atomic_load(field_word(pcpu.stopped, pc)) !== STOP_NOTED) running = true;
    }
    if (running && !opt.SIM) host_sleep(1);
  }
}

/**
 * Whether an exception says no more than that this CPU was stopped by another thread, which
 * shut the machine down or panicked.  Whoever leaves the machine, gives something back or serves
 * an event then has nothing left to do, and nobody to tell: the program's next call says so.
 */
export function stopped_elsewhere(e: unknown, cpu = thr.cpu): boolean {
  if (e instanceof KernelPanic) return e.cpu !== cpu;
  if (!(e instanceof KmemError) || e.errno !== ESHUTDOWN || memory_state.size === 0) return false;
  return atomic_load(field_word(machine.phase, M)) === PHASE_DOWN;
}
/** Says that this CPU has stopped, and then where, for a panic: that takes a millisecond. */
function stopped_note(): void {
  const stopped = field_word(pcpu.stopped, thr.pc);
  if (atomic_load(stopped) !== 0) return; // before
  atomic_store(stopped, 1);
  if (atomic_load(field_word(machine.panic_cpu, M)) === 0) return;
  cpu_stop_note(thr.cpu);
  atomic_store(stopped, STOP_NOTED);
}
/**
 * What a CPU does that finds itself told to stop: because another panicked,
 * because the machine was shut down, or because others took it for dead.
 */
export function cpu_stopped(state: number): never {
  stopped_note();
  thr_off();
  if (atomic_load(field_word(machine.phase, M)) === PHASE_DOWN) {
    throw new KmemError(ESHUTDOWN, 'kmem', 'the machine was shut down by another thread');
  }
  const by = atomic_load(field_word(machine.panic_cpu, M));
  if (by !== 0) {
    const text = get_string(machine.panic_text, M, PANIC_TEXT_WORDS);
    throw new KernelPanic(`cpu${thr.cpu} stopped: ${text}`, by - 1);
  }
  throw new KernelPanic(`cpu${thr.cpu} stopped: state ${state}`, thr.cpu);
}
