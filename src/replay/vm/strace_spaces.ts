/*
 * strace_spaces: which process has which address space.
 *
 *      make 1692 ──── space 1                       a fork makes a copy:    space 2
 *       ├─ sh 1693  vfork: has space 1, too         execve makes an empty:  space 3
 *       └─ thread 1694  has space 1, for good
 *
 * A task is whatever has a number of its own in the recording: a process, or a thread of
 * one.  The tasks of a process end together, by exit_group, by execve of one of them, or
 * when the last one ends.  A space is there as long as any task has it.
 *
 * A task that ended by a call is remembered until its `+++ exited` line, so that lines of
 * its threads behind the call are told from those of a new process with the same number.
 *
 * Always true: a space's users are the tasks that have it, and no task that is gone has one.
 */
import {
  FILE_NONE,
  FILE_UNKNOWN,
  V_ADDRESS,
  V_CALL,
  V_FILE,
  V_FLAGS,
  V_LENGTH,
  V_LINE,
  V_OFFSET,
  V_OP,
  V_PID,
  V_PROT,
  V_SPACE,
  V_TO,
  V_TO_LENGTH,
  VM_BRK,
  VM_CALLS,
  VM_COLUMNS,
  VM_EXEC,
  VM_EXIT,
  VM_FORK,
  VM_FREE,
  VM_MMAP,
  VM_START,
  VM_TOUCH,
  type VmSink,
} from '../ring/vm_events.ts';
import { split_args, unescaped } from '../read/strace_args.ts';
import type { MemoryCall } from '../read/strace_memory.ts';
import { has_flag } from '../read/strace_stats.ts';
import { after_exec, type Files } from './strace_files.ts';
import type { StraceCall } from '../read/strace_calls.ts';

export interface Space {
  readonly number: number;
  /** Tasks that have it. */
  users: number;
  /** The break; 0: not seen yet. */
  brk: number;
  /** Something was mapped in it. */
  mapped: boolean;
  /** Calls on their way that take a range away. */
  readonly leaving: Leaving[];
}
/** A range that a call on its way is about to take away. */
export interface Leaving {
  readonly task: Task;
  readonly call: StraceCall;
  readonly address: number;
  readonly length: number;
}
interface Process {
  readonly tasks: Set<Task>;
}
export interface Task {
  pid: number;
  space: Space;
  process: Process;
  files: Files;
}

/** Names of files that are told apart. */
const FILES_MAX = 1 << 16;
const CALL_NUMBER = new Map(VM_CALLS.map((name, number) => [name, number]));

/** Whether a call becomes an operation, if it does not fail. */
export function is_planned(name: string): boolean {
  return name !== '' && CALL_NUMBER.has(name);
}
/** Whether the process that a call makes has its maker's space. */
function shares(call: StraceCall): boolean {
  if (call.name === 'fork') return false;
  return call.name === 'vfork' || has_flag(call, 'CLONE_VM');
}

export class StraceSpaces {
  operations = 0;
  readonly #out: VmSink;
  readonly #tasks = new Map<number, Task>();
  /** Tasks that ended by a call, whose `+++` line may follow: on which line, by number. */
  readonly #gone = new Map<number, number>();
  readonly #files = new Map<string, number>();
  readonly #row = new Float64Array(VM_COLUMNS);
  #spaces = 0;

  constructor(out: VmSink) {
    this.#out = out;
  }

  task(pid: number): Task | undefined {
    return this.#tasks.get(pid);
  }
  /** Whether a task with this number ended by a call on that line, or behind it. */
  was_gone(pid: number, line: number): boolean {
    return (this.#gone.get(pid) ?? -1) >= line;
  }

  /** A process of which the recording does not tell how it came to be. */
  start(pid: number): Task {
    const task = this.#new_task(pid, this.#new_space(), { tasks: new Set() }, new Map());
    this.#put(VM_START, pid, task.space);
    return task;
  }
  /** A process or thread is made. One that had this number must have ended unseen. */
  fork(parent: Task, call: StraceCall, pid: number): void {
    const old = this.#tasks.get(pid);
    if (old === parent) return; // nobody is his own child: the recording is damaged
    if (old !== undefined) this.#leave(old, null, 0);
    const shared = shares(call);
    const thread = has_flag(call, 'CLONE_THREAD');
    const process = thread ? parent.process : { tasks: new Set<Task>() };
    const files = has_flag(call, 'CLONE_FILES') ? parent.files : new Map(parent.files);
    const space = shared ? parent.space : this.#new_space();
    space.brk = parent.space.brk;
    space.mapped = parent.space.mapped;
    this.#new_task(pid, space, process, files);
    const row = this.#begin(VM_FORK, parent.pid, parent.space, call);
    row[V_TO] = pid;
    row[V_TO_LENGTH] = space.number;
    this.#send();
  }
  /** The process of a task gets an empty space; its other threads end. */
  exec(task: Task, call: StraceCall): void {
    for (const other of [...task.process.tasks]) {
      if (other !== task) this.#end_by_call(other, call);
    }
    const old = task.space;
    old.users--;
    this.#free_unused(task.pid, old);
    task.space = this.#new_space();
    task.space.users = 1;
    task.files = after_exec(task.files);
    const program = program_of(call);
    const file = program === '' ? FILE_UNKNOWN : this.#file_number(program);
    const row = this.#begin(VM_EXEC, task.pid, task.space, call);
    row[V_FILE] = file;
    this.#send();
  }
  /** A task ends, by a call; with `all`, its whole process does. */
  exit(task: Task, call: StraceCall, all: boolean): void {
    const status = Number.parseInt(call.args, 10) || 0;
    if (all) {
      for (const other of [...task.process.tasks]) {
        if (other !== task) this.#end_by_call(other, call);
      }
    }
    this.#gone.set(task.pid, call.line);
    this.#leave(task, call, status);
  }
  /** A task is over: its `+++` line. */
  ended(pid: number, status: number): void {
    const task = this.#tasks.get(pid);
    if (task !== undefined) this.#leave(task, null, status);
    this.#gone.delete(pid);
  }
  /** Task `by` goes on under this number; the one that had it is gone. */
  superseded(pid: number, by: number): void {
    this.ended(pid, 0);
    const task = this.#tasks.get(by);
    if (task === undefined) return;
    const row = this.#begin(VM_FORK, by, task.space, null);
    row[V_TO] = pid;
    row[V_TO_LENGTH] = task.space.number;
    this.#send();
    this.#new_task(pid, task.space, task.process, task.files);
    this.#leave(task, null, 0);
  }
  /** The task without a number (0) gets one. */
  named(pid: number): void {
    const task = this.#tasks.get(0);
    if (task === undefined || this.#tasks.has(pid)) return;
    this.superseded(pid, 0);
  }

  /** A call on memory. */
  memory(task: Task, call: StraceCall, memory: MemoryCall): void {
    const { space } = task;
    const file = memory.op === VM_MMAP ? this.#file(task, memory) : FILE_NONE;
    const row = this.#begin(memory.op, task.pid, space, call);
    row[V_ADDRESS] = memory.address;
    row[V_LENGTH] = memory.length;
    row[V_PROT] = memory.prot;
    row[V_FLAGS] = memory.flags;
    row[V_FILE] = file;
    row[V_OFFSET] = memory.offset;
    row[V_TO] = memory.to;
    row[V_TO_LENGTH] = memory.to_length;
    if (memory.op === VM_BRK) {
      row[V_LENGTH] = space.brk === 0 ? memory.address : space.brk;
      space.brk = memory.address;
    }
    space.mapped ||=
      memory.op === VM_MMAP || (memory.op === VM_BRK && row[V_ADDRESS] > row[V_LENGTH]);
    this.#send();
  }
  /** A call that is not played moved bytes into the memory of a task, or out of it. */
  touch(task: Task, call: StraceCall, into: boolean, address: number): void {
    if (!task.space.mapped) return; // there is no memory that could be meant
    const row = this.#begin(VM_TOUCH, task.pid, task.space, null);
    row[V_LINE] = call.line;
    row[V_ADDRESS] = address;
    row[V_LENGTH] = call.result;
    row[V_FLAGS] = into ? 1 : 0;
    this.#send();
  }

  #file({ files }: Task, memory: MemoryCall): number {
    if (memory.fd < 0) return FILE_NONE;
    const file = memory.file !== '' ? memory.file : (files.get(memory.fd)?.file ?? '');
    return file === '' ? FILE_UNKNOWN : this.#file_number(file);
  }
  #file_number(file: string): number {
    const known = this.#files.get(file);
    if (known !== undefined) return known;
    if (this.#files.size === FILES_MAX) return FILE_UNKNOWN;
    const number = FILE_UNKNOWN + 1 + this.#files.size;
    this.#files.set(file, number);
    this.#out.file(number, file);
    return number;
  }

  #new_space(): Space {
    return { number: ++this.#spaces, users: 0, brk: 0, mapped: false, leaving: [] };
  }
  #new_task(pid: number, space: Space, process: Process, files: Files): Task {
    const task = { pid, space, process, files };
    space.users++;
    process.tasks.add(task);
    this.#tasks.set(pid, task);
    this.#gone.delete(pid);
    return task;
  }
  #end_by_call(task: Task, call: StraceCall): void {
    this.#gone.set(task.pid, call.line);
    this.#leave(task, null, 0);
  }
  #leave(task: Task, call: StraceCall | null, status: number): void {
    this.#tasks.delete(task.pid);
    task.process.tasks.delete(task);
    const row = this.#begin(VM_EXIT, task.pid, task.space, call);
    row[V_LENGTH] = status;
    this.#send();
    task.space.users--;
    this.#free_unused(task.pid, task.space);
  }
  #free_unused(pid: number, space: Space): void {
    if (space.users === 0) this.#put(VM_FREE, pid, space);
  }

  #put(op: number, pid: number, space: Space): void {
    this.#begin(op, pid, space, null);
    this.#send();
  }
  #begin(op: number, pid: number, space: Space, call: StraceCall | null): Float64Array {
    const row = this.#row;
    row.fill(0);
    row[V_OP] = op;
    row[V_PID] = pid;
    row[V_SPACE] = space.number;
    row[V_CALL] = call === null ? 0 : (CALL_NUMBER.get(call.name) ?? 0);
    row[V_LINE] = call?.line ?? 0;
    return row;
  }
  #send(): void {
    this.operations++;
    this.#out.operation(this.#row);
  }
}
/** The program that an execve names; '': it is not known. */
function program_of({ name, args }: StraceCall): string {
  const path = split_args(args)[name === 'execveat' ? 1 : 0] ?? '';
  const quoted = /^"((?:[^"\\]|\\.)*)"/.exec(path);
  return quoted === null ? '' : unescaped(quoted[1]);
}
