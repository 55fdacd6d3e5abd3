/*
 * strace (fuzz): processes that never were, as strace would have written them down.
 *
 * A small kernel runs some processes and threads, drawn from a seed: each call begins,
 * takes effect some time later, and ends later still, while others run between.  Its
 * addresses are few, so that ranges are mapped again as soon as they are free, and so are
 * its numbers of processes.  What it does is written as strace writes it, in one of many
 * styles; calls that were not alone stand on two lines.
 *
 * Held against the kernel: the operations that the plan makes of the recording, played by
 * the model, end with the same spaces, the same pages in them, the same protection; every
 * call counts once; no hit of a page that was taken away.
 *
 * Then the recording is damaged: bytes changed, lines cut, doubled, left out, the end cut
 * off.  Whatever is read, the operations keep what they promise (vm_events.model.ts), the
 * counts belong together, and nothing else is thrown than by a strict reading.
 *
 * What a recording cannot tell is not drawn: whether a thread's call came before or
 * behind the copy that a fork on its way made.  So the other threads of a process do
 * nothing while one of them forks.
 */
import assert from 'node:assert/strict';
import { dice } from '../../sys/machine/seed.test.lib.ts';
import { modelled, type Read, read_text } from './strace.test.lib.ts';

type Dice = (n: number) => number;

export function run(seed: number, steps: number): void {
  const random = dice(seed);
  for (let done = 0; done < steps; done += 200) {
    const place = `seed ${seed}, from step ${done}`;
    const kernel = new Kernel(dice(random(2 ** 30)), 200);
    const text = kernel.run();
    const read = read_text(text, () => 1 + random(5000));
    same(read, kernel, place);
    for (let i = 0; i < 3; i++) holds_together(read_text(damaged(random, text)), place);
  }
}

/** What strace would have written of processes that never were. */
export function made_up(random: Dice, steps: number): string {
  return new Kernel(dice(random(2 ** 30)), steps).run();
}

// --- the kernel --------------------------------------------------------------------------------

const BASE = 0x7f0000000000;
const PAGES = 24;
const PAGE = 4096;
const HEAP = 0x550000000000;

class Space {
  readonly pages = new Map<number, number>();
  /** Ranges that a call on its way is about to change. */
  readonly busy = new Set<number>();
  brk = HEAP;
  /** Somebody asked for the break, as every program does first. */
  asked = false;
  users = 0;
}
interface Process {
  tasks: Task[];
}
interface Task {
  pid: number;
  space: Space;
  process: Process;
  /** The call on its way; what it still has to do, and how it is written when it ends. */
  call: Call | null;
  waits_for: Task | null;
}
interface Call {
  name: string;
  /** Arguments that stand on the first line, and those that are known at the end. */
  head: string;
  tail: string;
  result: string;
  effect: (() => void) | null;
  /** What it used may be used by others, now that its caller knows of it. */
  release: () => void;
  copies: boolean;
  /** The process that it made; 0: none. */
  made: number;
  /** Line on which it began. */
  line: number;
}

class Kernel {
  readonly lines: string[] = [];
  readonly calls = new Map<string, number>();
  readonly spaces = new Set<Space>();
  readonly #random: Dice;
  readonly #style: number;
  #steps: number;
  #tasks: Task[] = [];
  /** A call that began, and no line was written since. */
  #open: Task | null = null;

  constructor(random: Dice, steps: number) {
    this.#random = random;
    this.#style = random(6);
    this.#steps = steps;
  }

  run(): string {
    this.#new_task(1000, this.#new_space(null), { tasks: [] });
    for (; this.#steps > 0; this.#steps--) this.#step(false);
    // All calls end; nothing new begins.
    for (let i = 0; i < 10_000 && this.#tasks.some((t) => t.call !== null); i++) this.#step(true);
    return `${this.lines.join('\n')}\n`;
  }
  get processes(): Task[] {
    return this.#tasks;
  }

  #step(ending: boolean): void {
    const able = this.#tasks.filter((t) => this.#can_go_on(t, ending));
    if (able.length === 0) return this.#break_wait();
    const task = able[this.#random(able.length)];
    const { call } = task;
    if (call === null) this.#begin(task);
    else if (call.effect !== null) {
      const { effect } = call;
      call.effect = null;
      effect();
    } else this.#end(task, call);
  }
  #can_go_on(task: Task, ending: boolean): boolean {
    if (task.waits_for !== null) return false;
    if (task.call !== null) return true;
    if (ending) return false;
    return !this.#tasks.some((t) => t.space === task.space && t.call?.copies);
  }
  /* A vfork waits for its child, and nothing else may begin: then the child ends. */
  #break_wait(): void {
    const child = this.#tasks.find((t) => t.waits_for !== null)?.waits_for;
    if (child === undefined || child === null) return;
    if (child.call === null) this.#exit(child, true);
    else child.waits_for = null;
  }

  // --- writing ---------------------------------------------------------------------------------

  #write(pid: number, text: string): void {
    const open = this.#open;
    this.#open = null;
    if (open?.call) {
      const { name, head } = open.call;
      this.lines[open.call.line] = this.#line(open.pid, `${name}(${head} <unfinished ...>`);
    }
    this.lines.push(this.#line(pid, text));
  }
  #line(pid: number, text: string): string {
    const clock = [
      '',
      '10:00:00 ',
      '1795244560.000001 ',
      '     0.000001 ',
      '',
      '[00007f04ab6b98d9] ',
    ];
    const before = this.#style === 4 ? `[pid ${pid}] ` : `${String(pid).padEnd(5)} `;
    return before + clock[this.#style] + text;
  }
  #count(name: string): void {
    this.calls.set(name, (this.calls.get(name) ?? 0) + 1);
  }

  // --- calls -----------------------------------------------------------------------------------

  #begin(task: Task): void {
    const call = this.#draw(task);
    if (call === null) return;
    task.call = call;
    // It takes its place among the lines; what is written there, the next line decides.
    this.#write(task.pid, '');
    call.line = this.lines.length - 1;
    this.#open = task;
  }
  #end(task: Task, call: Call): void {
    task.call = null;
    call.release();
    this.#count(call.name);
    const result = `${call.tail}) = ${call.result}`;
    if (this.#open === task) {
      this.#open = null;
      this.lines[call.line] = this.#line(task.pid, `${call.name}(${call.head}${result}`);
    } else this.#write(task.pid, `<... ${call.name} resumed>${result}`);
  }
  #call(name: string, head: string, effect: (call: Call) => void, copies = false): Call {
    const call: Call = {
      ...{ name, head, tail: '', result: '0', effect: null, release: () => {} },
      ...{ copies, made: 0, line: 0 },
    };
    call.effect = () => effect(call);
    return call;
  }
  #draw(task: Task): Call | null {
    const what = this.#random(100);
    if (what < 30) return this.#mmap(task);
    if (what < 45) return this.#munmap(task);
    if (what < 52) return this.#mprotect(task);
    if (what < 58) return this.#mremap(task);
    if (what < 63) return this.#brk(task);
    if (what < 70) return this.#call('read', '0, ""..., 10', (c) => void (c.result = '5'));
    if (what < 74) return this.#call('close', '99', (c) => void (c.result = '-1 EBADF (Bad)'));
    if (what < 90) return this.#fork(task);
    if (what < 95) return this.#exec(task);
    if (this.#tasks.length > 1) this.#exit(task, this.#random(2) === 0);
    return null;
  }

  #free_run(space: Space, pages: number): number | null {
    const start = this.#random(PAGES);
    for (let i = 0; i < PAGES; i++) {
      const first = (start + i) % PAGES;
      const run = Array.from({ length: pages }, (_, n) => first + n);
      if (first + pages <= PAGES && run.every((n) => !space.pages.has(n))) return first;
    }
    return null;
  }
  /** A mapped run that no call on its way is about to change. */
  #mapped_run(space: Space): [first: number, pages: number] | null {
    const heads = [...space.pages.keys()].filter((n) => n < PAGES && !space.busy.has(n));
    if (heads.length === 0) return null;
    const first = heads[this.#random(heads.length)];
    let pages = 1;
    const usable = (n: number): boolean => space.pages.has(n) && !space.busy.has(n) && n < PAGES;
    while (usable(first + pages) && this.#random(3) > 0) pages++;
    return [first, pages];
  }
  #mmap(task: Task): Call {
    const { space } = task;
    const pages = 1 + this.#random(5);
    const prot = this.#random(4);
    const names = ['PROT_NONE', 'PROT_READ', 'PROT_WRITE', 'PROT_READ|PROT_WRITE'];
    const head = `NULL, ${pages * PAGE - this.#random(9)}, ${names[prot]}`;
    const call = this.#call('mmap', head, () => {
      const first = this.#free_run(space, pages);
      if (first === null) {
        call.result = '-1 ENOMEM (Cannot allocate memory)';
        return;
      }
      for (let n = first; n < first + pages; n++) {
        space.pages.set(n, prot);
        space.busy.add(n); // nobody knows of it yet
      }
      call.result = hex(first);
      call.release = () => {
        for (let n = first; n < first + pages; n++) space.busy.delete(n);
      };
    });
    call.tail = ', MAP_PRIVATE|MAP_ANONYMOUS, -1, 0';
    if (this.#random(2) === 0) {
      call.head += call.tail;
      call.tail = '';
    }
    return call;
  }
  #munmap(task: Task): Call | null {
    const run = this.#mapped_run(task.space);
    if (run === null) return null;
    const { pages } = task.space;
    const free = this.#keep(task.space, run);
    const call = this.#call('munmap', `${hex(run[0])}, ${run[1] * PAGE}`, () => {
      for (const n of numbers(run)) pages.delete(n);
      free();
      call.release = () => {};
    });
    call.release = free;
    return call;
  }
  #mprotect(task: Task): Call | null {
    const run = this.#mapped_run(task.space);
    if (run === null) return null;
    const { pages } = task.space;
    const free = this.#keep(task.space, run);
    const write = this.#random(2) === 0;
    const prot = write ? 'PROT_READ|PROT_WRITE' : 'PROT_NONE';
    const call = this.#call('mprotect', `${hex(run[0])}, ${run[1] * PAGE}, ${prot}`, () => {
      for (const n of numbers(run)) pages.set(n, write ? 3 : 0);
    });
    call.release = free;
    return call;
  }
  #mremap(task: Task): Call | null {
    const { space } = task;
    const run = this.#mapped_run(space);
    if (run === null) return null;
    const alike = numbers(run).findIndex((n) => space.pages.get(n) !== space.pages.get(run[0]));
    if (alike > 0) run[1] = alike; // one mapping, not several
    const free = this.#keep(space, run);
    const to_pages = 1 + this.#random(4);
    const head = `${hex(run[0])}, ${run[1] * PAGE}, ${to_pages * PAGE}, MREMAP_MAYMOVE`;
    const call = this.#call('mremap', head, () => {
      const prot = space.pages.get(run[0]) ?? 0;
      for (const n of numbers(run)) space.pages.delete(n);
      const first = this.#free_run(space, to_pages);
      if (first === null) {
        for (const n of numbers(run)) space.pages.set(n, prot);
        call.result = '-1 ENOMEM (Cannot allocate memory)';
        return;
      }
      const to: [number, number] = [first, to_pages];
      for (const n of numbers(to)) space.pages.set(n, prot);
      free();
      const release = this.#keep(space, to);
      call.result = hex(first);
      call.release = release;
    });
    call.release = free;
    return call;
  }
  #brk(task: Task): Call | null {
    const { space } = task;
    if (space.busy.has(-1)) return null;
    space.busy.add(-1);
    const ask = !space.asked || this.#random(3) === 0;
    const to = HEAP + this.#random(8) * PAGE;
    const call = this.#call('brk', ask ? 'NULL' : `0x${to.toString(16)}`, () => {
      if (!ask) {
        for (let n = HEAP; n < HEAP + 8 * PAGE; n += PAGE) {
          if (n < to) space.pages.set(n, space.pages.get(n) ?? 3);
          else space.pages.delete(n);
        }
        space.brk = to;
      }
      space.asked = true;
      call.result = `0x${space.brk.toString(16)}`;
    });
    call.release = () => void space.busy.delete(-1);
    return call;
  }
  /** Nobody else may use this run until what this returns was called. */
  #keep({ busy }: Space, run: [number, number]): () => void {
    for (const n of numbers(run)) busy.add(n);
    return () => {
      for (const n of numbers(run)) busy.delete(n);
    };
  }

  // --- processes -------------------------------------------------------------------------------

  #fork(task: Task): Call | null {
    if (this.#tasks.length > 12) return null;
    const kinds: [name: string, head: string, shares: boolean, thread: boolean][] = [
      ['fork', '', false, false],
      ['clone', 'child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD', false, false],
      ['vfork', '', true, false],
      ['clone3', '{flags=CLONE_VM|CLONE_VFORK, exit_signal=SIGCHLD}, 88', true, false],
      ['clone3', '{flags=CLONE_VM|CLONE_FS|CLONE_THREAD|CLONE_SYSVSEM}, 88', true, true],
      ['clone', 'child_stack=0x7f, flags=0x10f00', true, true],
    ];
    const [name, head, shares, thread] = kinds[this.#random(kinds.length)];
    const others = this.#tasks.some((t) => t !== task && t.space === task.space && t.call !== null);
    if (!shares && others) return null;
    return this.#call(
      name,
      head,
      (call) => {
        const pid = this.#number();
        const space = shares ? task.space : this.#new_space(task.space);
        const child = this.#new_task(pid, space, thread ? task.process : { tasks: [] });
        if (name === 'vfork' || head.includes('VFORK')) task.waits_for = child;
        call.made = pid;
        call.result = String(pid);
      },
      !shares,
    );
  }
  #number(): number {
    for (;;) {
      const pid = 1000 + this.#random(20);
      const told = (t: Task): boolean => t.call?.made === pid;
      if (!this.#tasks.some((t) => t.pid === pid || told(t))) return pid;
    }
  }
  #exec(task: Task): Call {
    if (this.#random(3) === 0) {
      const result = '-1 ENOENT (No such file or directory)';
      return this.#call('execve', '"/no", ["no"], 0x1', (c) => void (c.result = result));
    }
    const call = this.#call('execve', '"/bin/sh", ["sh", "-c"], 0x1 /* 2 vars */', () => {
      const { process } = task;
      const first = process.tasks[0].pid;
      for (const other of [...process.tasks]) {
        if (other !== task) this.#die(other, other.pid !== first || other === task);
      }
      if (task.pid !== first && process.tasks[0] === task) {
        this.#write(first, `+++ superseded by execve in pid ${task.pid} +++`);
        task.pid = first;
      }
      const old = task.space;
      old.users--;
      if (old.users === 0) this.spaces.delete(old);
      task.space = this.#new_space(null);
      task.space.users++;
      this.#wake(task);
    });
    return call;
  }
  #exit(task: Task, all: boolean): void {
    const status = this.#random(3);
    const { process, pid } = task;
    const whole = all || process.tasks.length === 1;
    if (this.#random(6) > 0) {
      const name = whole ? 'exit_group' : 'exit';
      // What its threads did is seen before; what they did not do yet, they never will.
      for (const other of whole ? process.tasks : []) {
        if (other.call !== null && other.call.effect === null) this.#end(other, other.call);
      }
      this.#write(pid, `${name}(${status}) = ?`);
      this.#count(name);
    } else if (!whole) return;
    // The first thread's number stays until the last one is gone: it is not used again here.
    const leaving = whole ? [...process.tasks].reverse() : [task];
    for (const one of leaving) this.#die(one, true);
  }
  /* Gone, whatever it was at. */
  #die(task: Task, written: boolean): void {
    if (task.call !== null && task.call.effect === null) this.#end(task, task.call);
    if (task.call !== null) {
      const { name } = task.call;
      if (this.#open === task) this.#write(task.pid, '--- SIGKILL {si_signo=SIGKILL} ---');
      if (this.#random(2) === 0) {
        this.#write(task.pid, `<... ${name} resumed>) = ?`);
        this.#count(name);
      }
      task.call.release();
      task.call = null;
    }
    this.#tasks = this.#tasks.filter((t) => t !== task);
    task.process.tasks = task.process.tasks.filter((t) => t !== task);
    if (written) {
      const how = this.#random(2) === 0 ? 'exited with 0' : 'killed by SIGKILL';
      this.#write(task.pid, `+++ ${how} +++`);
    }
    task.space.users--;
    if (task.space.users === 0) this.spaces.delete(task.space);
    this.#wake(task);
  }
  #wake(child: Task): void {
    for (const t of this.#tasks) if (t.waits_for === child) t.waits_for = null;
  }
  #new_space(from: Space | null): Space {
    const space = new Space();
    for (const [page, prot] of from?.pages ?? []) space.pages.set(page, prot);
    space.brk = from?.brk ?? HEAP;
    space.asked = from?.asked ?? false;
    this.spaces.add(space);
    return space;
  }
  #new_task(pid: number, space: Space, process: Process): Task {
    const task: Task = { pid, space, process, call: null, waits_for: null };
    space.users++;
    process.tasks.push(task);
    this.#tasks.push(task);
    return task;
  }
}
function hex(page: number): string {
  return `0x${(BASE + page * PAGE).toString(16)}`;
}
function numbers([first, pages]: [number, number]): number[] {
  return Array.from({ length: pages }, (_, i) => first + i);
}

// --- what must be so ---------------------------------------------------------------------------

function same(read: Read, kernel: Kernel, place: string): void {
  const { document } = read;
  assert.deepEqual(document.malformed, [], place);
  assert.deepEqual(document.calls, sorted(kernel.calls), place);
  assert.equal(document.lines, kernel.lines.length, place);
  const model = modelled(read);
  assert.deepEqual(model.wrong, [], place);
  const ours = new Map([...model.processes].map(([pid, n]) => [pid, model.spaces.get(n)]));
  for (const task of kernel.processes) {
    // One that did nothing yet is in no line.
    if (!ours.has(task.pid)) continue;
    const pages = [...task.space.pages].map(([n, prot]) => [
      n < HEAP ? BASE / PAGE + n : n / PAGE,
      prot,
    ]);
    const wanted = new Map(pages as [number, number][]);
    const found = ours.get(task.pid)?.pages ?? new Map();
    assert.deepEqual(by_page(found), by_page(wanted), `${place}, process ${task.pid}`);
  }
  const alive = new Set(kernel.processes.map((t) => t.pid));
  for (const pid of ours.keys()) assert.ok(alive.has(pid), `${place}: process ${pid} is gone`);
  holds_together(read, place);
}
function by_page(pages: Map<number, number>): [number, number][] {
  return [...pages].sort((a, b) => a[0] - b[0]);
}
function sorted(calls: Map<string, number>): Record<string, number> {
  return Object.fromEntries([...calls].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1)));
}

/** What holds of any recording, however damaged. */
function holds_together(read: Read, place: string): void {
  const { document } = read;
  const { plan, resumed, unfinished, never_resumed } = document;
  const sum = (of: Record<string, number>): number => Object.values(of).reduce((a, b) => a + b, 0);
  const became = sum(plan.planned) + sum(plan.refused) + sum(plan.not_played);
  assert.equal(became, sum(document.calls), place);
  assert.ok(never_resumed <= unfinished, place);
  assert.ok(unfinished <= never_resumed + resumed, place);
  assert.equal(document.unparsed, document.malformed_lines, place);
  for (const line of document.malformed) assert.match(line, /^trace:\d+: [^\n]+$/, place);
  modelled(read);
}

const PIECES = [
  '<unfinished ...>',
  ' resumed>',
  ') = ',
  '0x',
  '"',
  '\\',
  '<',
  '(',
  '\n',
  '\0',
  '+++',
];
/** A recording with some damage. */
export function damaged(random: Dice, text: string): string {
  let out = text;
  for (let n = 1 + random(4); n > 0; n--) {
    const at = random(out.length + 1);
    const some = random(200);
    const kind = random(6);
    if (kind === 0) out = out.slice(0, at);
    else if (kind === 1) out = out.slice(0, at) + out.slice(at + some);
    else if (kind === 2) out = out.slice(0, at + some) + out.slice(at);
    else if (kind === 3) out = out.slice(0, at) + PIECES[random(PIECES.length)] + out.slice(at);
    else if (kind === 4)
      out = out.slice(0, at) + String.fromCharCode(random(256)) + out.slice(at + 1);
    else {
      const lines = out.split('\n');
      const [from, to] = [random(lines.length), random(lines.length)];
      lines.splice(to, 0, ...lines.splice(from, 1 + random(3)));
      out = lines.join('\n');
    }
  }
  return out;
}
