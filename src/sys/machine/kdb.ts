/*
 * kdb: what the kernel keeps for its debugger, and how CPUs are held while somebody looks.
 *
 *      message buffer     the last lines that the kernel printed (kconsole.ts)
 *      scripts            commands that the debugger runs by itself
 *      active             the CPU whose thread is in the debugger
 *      the hold           for whom all other CPUs wait, and until when
 *
 * Holding.  Whoever looks at a running machine may want it to stand still.  Each other CPU is
 * asked by a bit of its state word, as for all requests, and rung; at its next poll it waits
 * there, on that word.  It answers requests about translations meanwhile, because that
 * changes nothing, and a panic or the end of the machine ends the wait.  It may hold locks,
 * and so the holder takes none that it could not wait for.
 *
 *      kdb_hold(ms)     asks, for so long; again, to renew
 *      kdb_running()    who has not stopped: asleep in the kernel is as good as stopped
 *      kdb_release()    lets all go on
 *
 * It is a lease: a held CPU goes on by itself when the time is over, or when the holder's thread
 * is gone.  The holder's own thread is never held, and a thread that may not block is not either.
 *
 * Who has stopped is in its record (`held`), stored by itself.  Nothing here takes a lock.
 */
import { atomic_add, atomic_and, atomic_cas, atomic_load, atomic_notify } from './atomic.ts';
import { atomic_or, atomic_store, atomic_wait } from './atomic.ts';
import { now_ms } from './clock.ts';
import {
  CPU_DEAD,
  CPU_FREE,
  CPU_HOLD,
  CPU_PARKED,
  CPU_REQ_TLB,
  CPU_STOP,
  cpu_slots,
  cpu_state_word,
  pcpu,
  pcpu_of,
  thr,
} from './cpu.ts';
import { cpu_alive } from './death.ts';
import { EBUSY } from './errno.ts';
import { boot_alloc, M, machine, ROOT_KDB } from './header.ts';
import { host_can_block } from './host.ts';
import { mem, memory_state } from './memory.ts';
import { elem, field_word, get_string, i32, NULL, type Ptr, set_string, struct } from './struct.ts';
import { unchecked, words } from './struct.ts';

/** Bytes of the message buffer: a power of two. */
const MSGBUF_BYTES = 4096;
/** Words of all scripts together. */
const SCRIPT_WORDS = 320;
/** A held CPU looks at the clock so often, ms. */
const SLICE_MS = 50;

export type kdb_t = Ptr<'kdb'>;
/* Locks: (a) atomic */
const kdb = struct<kdb_t>(
  'kdb',
  32,
)({
  active: i32('a', 'slot + 1 of the CPU whose thread is in the debugger, 0: none'),
  hold_by: i32('a', 'slot + 1 of the CPU for whom all others are held, 0: nobody is'),
  hold_until: i32('a', 'when that ends unless it is renewed: ms, modulo 2^32'),
  messages_end: i32('a', 'bytes that were ever put into the message buffer, modulo 2^32'),
  scripts_by: i32('a', 'slot + 1 of the CPU that changes the scripts, 0: none'),
  scripts: words(
    unchecked('changed by one thread at a time, as scripts_by says, and read as they are'),
    'a script a line: name=commands; a zero byte ends them',
    SCRIPT_WORDS,
  ),
  messages: words(
    unchecked('each writer has the bytes that it counted in messages_end'),
    'a ring of the last lines that were printed',
    MSGBUF_BYTES / 4,
  ),
});

/** Lays the record out. */
export function kdb_boot(): void {
  const k = boot_alloc(kdb.sizeof, 'the debugger', 32) as kdb_t;
  machine.roots[elem(M, ROOT_KDB)] = k;
}
/** The record; NULL in a machine that is not up yet. */
function root(): kdb_t {
  if (memory_state.size === 0) return NULL as kdb_t;
  const k = machine.roots[elem(M, ROOT_KDB)];
  return (k > 0 && (k + kdb.sizeof) * 4 <= memory_state.size ? k : NULL) as kdb_t;
}

// --- who is in the debugger ------------------------------------------------------------------

/** This thread enters the debugger. False: another one is in it. */
export function kdb_enter_begin(): boolean {
  const k = root();
  return k !== NULL && atomic_cas(field_word(kdb.active, k), 0, thr.cpu + 1) === 0;
}
/** It leaves. */
export function kdb_enter_end(): void {
  atomic_store(field_word(kdb.active, root()), 0);
}
/** Whether a thread is in the debugger. */
export function kdb_active(): boolean {
  const k = root();
  return k !== NULL && atomic_load(field_word(kdb.active, k)) !== 0;
}

// --- the hold --------------------------------------------------------------------------------

/** How long the hold still lasts, ms; 0: nobody is held. */
export function kdb_hold_left(): number {
  const k = root();
  if (k === NULL) return 0;
  const by = atomic_load(field_word(kdb.hold_by, k));
  if (by === 0 || !cpu_alive(by - 1)) return 0;
  return Math.max(0, (atomic_load(field_word(kdb.hold_until, k)) - clock()) | 0);
}
function clock(): number {
  return Math.floor(now_ms() % 2 ** 32) | 0;
}
/** Holds all other CPUs for `ms` from now on. 0, or EBUSY: another CPU's thread has them held. */
export function kdb_hold(ms: number): number {
  const k = root();
  const by = field_word(kdb.hold_by, k);
  const seen = atomic_load(by);
  if (seen !== 0 && seen !== thr.cpu + 1 && kdb_hold_left() > 0) return EBUSY;
  if (atomic_cas(by, seen, thr.cpu + 1) !== seen) return EBUSY;
  atomic_store(field_word(kdb.hold_until, k), (clock() + ms) | 0); // before anybody is asked
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    if (cpu === thr.cpu) continue;
    const w = cpu_state_word(cpu);
    if (atomic_load(w) & (CPU_FREE | CPU_DEAD)) continue;
    atomic_or(w, CPU_HOLD);
    atomic_notify(w, 1);
  }
  return 0;
}
/** Lets all CPUs go on. */
export function kdb_release(): void {
  atomic_store(field_word(kdb.hold_by, root()), 0);
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    const w = cpu_state_word(cpu);
    if ((atomic_and(w, ~CPU_HOLD) & CPU_HOLD) !== 0) atomic_notify(w, cpu_slots());
  }
}
/** CPUs that run although they were asked to stop, this one not among them. */
export function kdb_running(): number[] {
  const running: number[] = [];
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    if (cpu === thr.cpu) continue;
    const away = atomic_load(cpu_state_word(cpu)) & (CPU_FREE | CPU_DEAD | CPU_PARKED);
    if (away === 0 && atomic_load(field_word(pcpu.held, pcpu_of(cpu))) === 0) running.push(cpu);
  }
  return running;
}
/** What a CPU does that finds itself asked to stop. Returns when it may go on. */
export function kdb_wait(): void {
  const w = cpu_state_word(thr.cpu);
  const held = field_word(pcpu.held, thr.pc);
  const may_block = host_can_block();
  atomic_store(held, 1);
  for (;;) {
    const v = atomic_load(w);
    if ((v & CPU_HOLD) === 0 || v & (CPU_STOP | CPU_DEAD)) break;
    if (v & CPU_REQ_TLB) {
      atomic_and(w, ~CPU_REQ_TLB); // no access is under way here
      continue;
    }
    const left = may_block ? kdb_hold_left() : 0;
    if (left === 0) atomic_and(w, ~CPU_HOLD);
    else atomic_wait(w, v, Math.min(left, SLICE_MS));
  }
  atomic_store(held, 0);
}

/** A thread becomes a CPU: nobody holds it, and it holds nobody. */
export function kdb_attach(): void {
  atomic_cas(field_word(kdb.hold_by, root()), thr.cpu + 1, 0);
  atomic_store(field_word(pcpu.held, thr.pc), 0);
}

// --- the message buffer ----------------------------------------------------------------------

/** Puts a line, or a few, into the message buffer. */
export function msgbuf_add(text: string): void {
  const k = root();
  if (k === NULL || thr.cpu < 0) return;
  const bytes = new TextEncoder().encode(`${text}\n`).slice(-MSGBUF_BYTES);
  const from = atomic_add(field_word(kdb.messages_end, k), bytes.length);
  const at = field_word(kdb.messages, k) * 4;
  for (const [i, b] of bytes.entries()) mem.U8[at + ((from + i) & (MSGBUF_BYTES - 1))] = b;
}
/** The lines that are in it, oldest first; one that was overwritten in part is left out. */
export function msgbuf_text(): string {
  const k = root();
  if (k === NULL) return '';
  const end = atomic_load(field_word(kdb.messages_end, k)) >>> 0;
  const n = Math.min(end, MSGBUF_BYTES);
  const at = field_word(kdb.messages, k) * 4;
  const bytes = Uint8Array.from(
    { length: n },
    (_, i) => mem.U8[at + ((end - n + i) & (MSGBUF_BYTES - 1))],
  );
  const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);
  return end > MSGBUF_BYTES ? text.slice(text.indexOf('\n') + 1) : text;
}

// --- scripts --------------------------------------------------------------------------------

/** Longest text of all scripts, bytes. */
export const SCRIPTS_BYTES_MAX = SCRIPT_WORDS * 4 - 1;
/** All scripts, one a line: name=commands. */
export function kdb_scripts(): string {
  const k = root();
  return k === NULL ? '' : get_string(kdb.scripts, k, SCRIPT_WORDS);
}
/** Puts others in their place. False: another thread is at it. */
export function kdb_scripts_set(text: string): boolean {
  const k = root();
  if (k === NULL) return false;
  const by = field_word(kdb.scripts_by, k);
  if (atomic_cas(by, 0, thr.cpu + 2) !== 0) return false;
  set_string(kdb.scripts, k, SCRIPT_WORDS, text);
  atomic_store(by, 0);
  return true;
}
