/*
 * strace_plan: a recording of system calls as operations on address spaces.
 *
 *      calls ─► queue ─► strace_spaces ─► operations (ring/vm_events.ts)
 *
 * The order of operations is that in which calls ended, but for what a recording shows
 * in another order than it happened:
 *
 *   - A child's first lines may come before the line on which its parent learns of it.
 *     Whose child it is stands there only, so the queue waits for that line; then the
 *     fork is played where the child was first seen.
 *   - A call that takes a range away (munmap, mremap) may still be on its way when
 *     another thread maps something there; the range must have gone before.  So an mmap
 *     waits for such a call to end, and is played behind it.
 *   - A process that calls exit_group or exit is gone where the call begins: what its
 *     other threads still had on their way changes nothing any more.
 *
 * While the head of the queue waits, everything behind it does, and nothing else changes
 * its order.  What it waits for comes a few lines later, unless the recording ends before,
 * or a vfork's child runs on for long: behind HELD_MAX events, and at the end, the queue
 * goes on with what is known.  A child whose parent did not tell then belongs to the call
 * that has been on its way for longest; where there is none, it is a process that was
 * there before, with an empty space.
 *
 * A call that moves bytes between the process's memory and a file is not played, but the
 * memory is used: where the space has any, an operation says how many bytes, which way and,
 * if the recording has it, where (`-e raw=read`; else strace shows what the bytes are).
 *
 * What became of a call, by name: `planned` those that became operations; `refused` those
 * that would have, but failed when they were recorded, so that nothing is to be played;
 * `not_played` all others.  Together they are the calls that ended, less those whose
 * arguments made no sense.
 */
import { Names, type StraceCall } from '../read/strace_calls.ts';
import { split_args } from '../read/strace_args.ts';
import { is_memory_call, memory_call } from '../read/strace_memory.ts';
import { VM_MMAP, VM_MREMAP, type VmSink } from '../ring/vm_events.ts';
import { follow_files } from './strace_files.ts';
import { is_planned, type Leaving, StraceSpaces, type Task } from './strace_spaces.ts';

/** Events that wait at most. */
const HELD_MAX = 1 << 15;
/** Events in front of the head that are kept before the queue is moved. */
const PLAYED_KEPT = 1 << 12;

const MAKERS = new Set(['fork', 'vfork', 'clone', 'clone2', 'clone3']);
const TAKERS = new Set(['munmap', 'mremap']);

/** Calls that move as many bytes as they answer, by which argument is the memory, and which way. */
const MOVERS = new Map<string, { readonly buffer: number; readonly into: boolean }>([
  ...['read', 'pread', 'pread64', 'readv', 'preadv', 'preadv2', 'recv', 'recvfrom', 'recvmsg']
    .concat('getdents', 'getdents64')
    .map((name) => [name, { buffer: 1, into: true }] as const),
  ['getrandom', { buffer: 0, into: true }],
  ...[
    'write',
    'pwrite',
    'pwrite64',
    'writev',
    'pwritev',
    'pwritev2',
    'send',
    'sendto',
    'sendmsg',
  ].map((name) => [name, { buffer: 1, into: false }] as const),
]);
const POINTER = /^0x[0-9a-f]+$/;

const BEGIN = 1;
const END = 2;
const EXITED = 3;
const SUPERSEDED = 4;
const NAMED = 5;

interface Event {
  readonly what: number;
  readonly pid: number;
  readonly call: StraceCall | null;
  readonly status: number;
}
/** A call on its way that makes a process. */
interface Making {
  readonly call: StraceCall;
  readonly parent: Task;
  /** The child that was seen already; 0: none was. */
  child: number;
}

export interface PlanFigures {
  planned: Record<string, number>;
  refused: Record<string, number>;
  not_played: Record<string, number>;
  operations: number;
  /** Children whose parent had to be guessed. */
  guessed: number;
}

export class StracePlan {
  readonly #spaces: StraceSpaces;
  readonly #planned = new Names();
  readonly #refused = new Names();
  readonly #not_played = new Names();
  readonly #making = new Map<StraceCall, Making>();
  /** Calls that were played before they ended. */
  readonly #early = new Set<StraceCall>();
  readonly #queue: Event[] = [];
  #head = 0;
  #guessed = 0;

  constructor(out: VmSink) {
    this.#spaces = new StraceSpaces(out);
  }

  begin(call: StraceCall): void {
    this.#put(BEGIN, call.pid, call, 0);
  }
  end(call: StraceCall): void {
    this.#put(END, call.pid, call, 0);
  }
  exited(pid: number, status: number): void {
    this.#put(EXITED, pid, null, status);
  }
  superseded(pid: number, by: number): void {
    this.#put(SUPERSEDED, pid, null, by);
  }
  named(pid: number): void {
    this.#put(NAMED, pid, null, 0);
  }
  /** Nothing follows: what still waits goes on with what is known. */
  finish(): void {
    while (this.#head < this.#queue.length) this.#play(this.#queue[this.#head++], true);
    this.#drop();
  }
  figures(): PlanFigures {
    return {
      planned: this.#planned.sorted(),
      refused: this.#refused.sorted(),
      not_played: this.#not_played.sorted(),
      operations: this.#spaces.operations,
      guessed: this.#guessed,
    };
  }

  #put(what: number, pid: number, call: StraceCall | null, status: number): void {
    const event = { what, pid, call, status };
    const queue = this.#queue;
    if (this.#head === queue.length) {
      if (this.#play(event, false)) return;
      queue.push(event);
      return;
    }
    queue.push(event);
    this.#go_on(queue.length - this.#head > HELD_MAX);
  }
  #go_on(full: boolean): void {
    const queue = this.#queue;
    let force = full;
    while (this.#head < queue.length && this.#play(queue[this.#head], force)) {
      force = false;
      this.#head++;
    }
    if (this.#head === queue.length || this.#head > PLAYED_KEPT) this.#drop();
  }
  #drop(): void {
    this.#queue.splice(0, this.#head);
    this.#head = 0;
  }

  /* False: it has to wait; with `force` it does not. */
  #play(event: Event, force: boolean): boolean {
    const { what, pid, call } = event;
    if (what === EXITED) {
      // A child may come and go before its parent knows of it.
      const known = this.#spaces.task(pid) !== undefined || this.#spaces.was_gone(pid, 0);
      if (!known && this.#making.size > 0 && !this.#born(pid, force)) return false;
      this.#spaces.ended(pid, event.status);
    } else if (what === SUPERSEDED) this.#spaces.superseded(pid, event.status);
    else if (what === NAMED) this.#spaces.named(pid);
    else if (call !== null) {
      let task = this.#spaces.task(pid);
      if (task === undefined && !this.#spaces.was_gone(pid, call.line)) {
        if (!this.#born(pid, force)) return false;
        task = this.#spaces.task(pid);
      }
      if (what === BEGIN) this.#begin(task, call);
      else if (task !== undefined && !force && this.#must_wait(task, call)) return false;
      else this.#end(task, call);
    }
    return true;
  }

  // --- how processes come to be ----------------------------------------------------------------

  /* A number that nobody has: a child whose parent did not tell yet, or a process from before. */
  #born(pid: number, force: boolean): boolean {
    let first: Making | null = null;
    let told: Making | null = null;
    for (const making of this.#making.values()) {
      const { call } = making;
      if (call.ended && Number.isNaN(call.result)) this.#making.delete(call);
      if (making.child !== 0) continue;
      // Of two that told the same number, the earlier one meant the earlier process.
      const tells = call.ended && call.result === pid;
      if (tells && call.end_line < (told?.call.end_line ?? Number.POSITIVE_INFINITY)) told = making;
      if (!call.ended && making.parent.pid !== pid) first ??= making;
    }
    if (told !== null) {
      this.#adopt(told, pid);
      return true;
    }
    if (first !== null && !force) return false;
    /* Of a process that ended by a call, this is a thread that was still on its way. */
    if (this.#spaces.was_gone(pid, 0)) return true;
    if (first === null) this.#spaces.start(pid);
    else {
      this.#guessed++;
      this.#adopt(first, pid);
    }
    return true;
  }
  #adopt(making: Making, pid: number): void {
    making.child = pid;
    const { parent, call } = making;
    if (this.#spaces.task(parent.pid) === parent) this.#spaces.fork(parent, call, pid);
    else this.#spaces.start(pid); // what it was copied from is gone
  }

  // --- calls -----------------------------------------------------------------------------------

  #begin(task: Task | undefined, call: StraceCall): void {
    if (task === undefined) return;
    if (MAKERS.has(call.name)) this.#making.set(call, { call, parent: task, child: 0 });
    else if (is_end(call.name)) {
      this.#early.add(call);
      this.#spaces.exit(task, call, call.name === 'exit_group');
    } else if (TAKERS.has(call.name)) {
      const taken = memory_call(call.name, call.args, Number.NaN, () => {});
      if (typeof taken === 'string') return; // its arguments stand on the next line
      task.space.leaving.push({ task, call, address: taken.address, length: taken.length });
    }
  }

  #end(task: Task | undefined, call: StraceCall): void {
    const making = this.#making.get(call);
    if (making !== undefined) this.#making.delete(call);
    const early = this.#early.delete(call);
    if (task !== undefined) forget(task.space.leaving, call);
    if (!is_planned(call.name)) {
      this.#not_played.add(call.name);
      if (task === undefined) return;
      follow_files(task.files, call);
      this.#moved(task, call);
    } else if (early) this.#planned.add(call.name);
    else if (failed(call)) this.#refused.add(call.name);
    else if (task === undefined || !this.#planned_call(task, call, making)) {
      this.#not_played.add(call.name);
    } else this.#planned.add(call.name);
  }
  #moved(task: Task, call: StraceCall): void {
    const mover = MOVERS.get(call.name);
    if (mover === undefined || !(call.result > 0) || call.error !== '') return;
    const { buffer, into } = mover;
    // Most show the bytes, which need not be cut into arguments to see that.
    const shown = call.headless || !call.args.includes('0x');
    const text = shown ? '' : (split_args(call.args)[buffer] ?? '');
    this.#spaces.touch(task, call, into, POINTER.test(text) ? Number(text) : 0);
  }
  /* False: it makes no operation. */
  #planned_call(task: Task, call: StraceCall, making: Making | undefined): boolean {
    if (is_memory_call(call.name)) {
      if (call.memory === null || call.memory.op === 0) return false;
      this.#spaces.memory(task, call, call.memory);
      return true;
    }
    if (MAKERS.has(call.name)) {
      if (!(call.result > 0) || call.headless) return false;
      if (making?.child !== call.result) this.#spaces.fork(task, call, call.result);
      return true;
    }
    if (is_end(call.name)) this.#spaces.exit(task, call, call.name === 'exit_group');
    else this.#spaces.exec(task, call);
    return true;
  }

  /* Whether it maps what a call on its way takes away; those of these that ended are played. */
  #must_wait(task: Task, call: StraceCall, on_the_way: StraceCall[] = []): boolean {
    const { leaving } = task.space;
    if (leaving.length === 0) return false;
    const made = made_range(call);
    if (made === null) return false;
    const [from, to] = made;
    const path = [...on_the_way, call]; // nobody waits for himself, whatever a recording says
    for (const one of [...leaving]) {
      if (path.includes(one.call) || from >= one.address + one.length) continue;
      if (to <= one.address) continue;
      // What it takes away may come to lie where another one takes away.
      if (!one.call.ended || this.#must_wait(task, one.call, path)) return true;
      if (leaving.includes(one)) this.#play_early(task, one);
    }
    return false;
  }
  #play_early(mapper: Task, { task, call }: Leaving): void {
    forget(mapper.space.leaving, call);
    if (failed(call) || call.memory === null) return;
    const there = this.#spaces.task(task.pid) === task;
    this.#spaces.memory(there ? task : mapper, call, call.memory);
    this.#early.add(call);
  }
}

function is_end(name: string): boolean {
  return name === 'exit' || name === 'exit_group';
}
/* A call that did nothing when it was recorded, or whose process ended within it. */
function failed(call: StraceCall): boolean {
  if (is_end(call.name)) return false;
  if (call.error !== '' || Number.isNaN(call.result)) return true;
  return call.result < 0 && is_memory_call(call.name);
}
function forget(leaving: Leaving[], call: StraceCall): void {
  const at = leaving.findIndex((one) => one.call === call);
  if (at >= 0) leaving.splice(at, 1);
}
/* The range at which a call made memory appear. */
function made_range(call: StraceCall): [from: number, to: number] | null {
  const { memory } = call;
  if (memory === null || failed(call)) return null;
  if (memory.op === VM_MMAP) return [memory.address, memory.address + memory.length];
  if (memory.op === VM_MREMAP) return [memory.to, memory.to + memory.to_length];
  return null;
}
