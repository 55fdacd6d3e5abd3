/*
 * ddb_cpu: CPUs, and where they stopped.
 *
 *      trace [CPU]          the frames of the thread that panicked, and what each CPU does;
 *                           bt and where are the same
 *      show pcpu CPU        a CPU's record      show allpcpu    those of all
 *      show msgbuf          the last lines that the kernel printed
 *
 * The frames of a thread are its own: the machine's memory has them only of a CPU that has stopped
 * for good, as a note (machine/cpu_stop.ts).  Of one that runs, sleeps or waits there is what
 * its record says.
 */
import { atomic_load } from '../../machine/atomic.ts';
import { CPU_CLAIMER, CPU_FREE, cpu_slots, pcpu, pcpu_of, thr } from '../../machine/cpu.ts';
import { M, machine, PANIC_TEXT_WORDS } from '../../machine/header.ts';
import { cpu_stop_text } from '../../machine/cpu_stop.ts';
import { msgbuf_text } from '../../machine/kdb.ts';
import { elem, field_word, get_string } from '../../machine/struct.ts';
import { DB_COMMAND, DB_SHOW_ALL_COMMAND, DB_SHOW_COMMAND, type DdbArgs } from './ddb_command.ts';
import { CPU_FLAGS, db_flags } from './ddb_flags.ts';
import {
  db_asleep,
  db_cpu,
  db_cpu_state,
  db_cpu_text,
  db_held_lines,
  db_waits_for,
} from './ddb_lock.ts';
import { type Ddb, db_hex, db_printf, db_puts } from './ddb_session.ts';

/** The CPU that panicked; -1: none has. */
export function db_panic_cpu(): number {
  return atomic_load(field_word(machine.panic_cpu, M)) - 1;
}
/** What a CPU does, in a phrase. */
function does(cpu: number): string {
  const l = db_waits_for(cpu);
  if (l !== 0) return `blocked on lock ${db_hex(l * 4)}`;
  const s = db_asleep(cpu);
  return s ? `sleeping on ${db_hex(s.wchan * 4)} "${s.wmesg}"` : db_cpu_state(cpu);
}
/** Where a CPU stopped for good, a frame a line; '' if it has not. */
export function db_stop_frames(cpu: number): string {
  const text = cpu_stop_text(cpu);
  if (text === '') return '';
  return text
    .split('\n')
    .map((frame, i) => `#${i} ${frame}\n`)
    .join('');
}
function trace_cpu(db: Ddb, cpu: number): void {
  db_puts(db, `Tracing ${db_cpu_text(cpu)}: ${does(cpu)}\n`);
  db_puts(db, db_stop_frames(cpu));
}
/** CPUs that have a thread, or had one that noted where it stopped. */
function used(): number[] {
  const all = Array.from({ length: cpu_slots() }, (_, cpu) => cpu);
  const has = (cpu: number): boolean => (pcpu.state[pcpu_of(cpu)] & CPU_FREE) === 0;
  return all.filter((cpu) => has(cpu) || cpu_stop_text(cpu) !== '');
}
function trace({ db, have_addr, addr }: DdbArgs): void {
  if (have_addr) return trace_cpu(db, db_cpu(addr));
  const by = db_panic_cpu();
  if (by >= 0) {
    db_puts(db, `${get_string(machine.panic_text, M, PANIC_TEXT_WORDS)}\n`);
    trace_cpu(db, db_cpu(by));
  }
  for (const cpu of used()) if (cpu !== by) trace_cpu(db, cpu);
}
for (const name of ['trace', 'bt', 'where', 'alltrace']) {
  DB_COMMAND(name, 'Where the CPU that panicked was, and what the others do', trace);
}
DB_SHOW_ALL_COMMAND('trace', 'What every CPU does', trace);

// --- records --------------------------------------------------------------------------------

function pcpu_print(db: Ddb, cpu: number): void {
  const pc = pcpu_of(cpu);
  const row = (name: string, value: string): void => db_printf(db, '%-12s = %s\n', name, value);
  const state = pcpu.state[pc];
  row('cpuid', String(cpu));
  row('dynamic pcpu', db_hex(pc * 4));
  row('curthread', `thread ${pcpu.js_tid[pc]}, tid ${pcpu.os_tid[pc]}`);
  row('state', `${db_hex(state >>> 0)}${db_flags(state, CPU_FLAGS, CPU_CLAIMER)}`);
  row('does', does(cpu));
  row('critnest', String(pcpu.critnest[pc]));
  row('undo depth', String(pcpu.undo_depth[pc]));
  row('free pages', `${pcpu.cached_n[pc] + pcpu.zcached_n[pc] + pcpu.rcached_n[pc]}`);
  row('pages in hand', runs(cpu));
  row('in hand', `${pcpu.in_hand_items[pc]} items, ${pcpu.in_hand_refs[pc]} objects`);
  db_puts(db, 'locks held:\n');
  for (const line of db_held_lines(db, cpu)) db_printf(db, '%s\n', line);
}
function runs(cpu: number): string {
  const pc = pcpu_of(cpu);
  const all: string[] = [];
  for (let i = 0; i < Math.min(pcpu.in_hand_n[pc], 8); i++) {
    const [m, n] = [pcpu.in_hand[elem(pc, 2 * i)], pcpu.in_hand[elem(pc, 2 * i + 1)]];
    all.push(`${db_hex(m)}+${n}`);
  }
  return all.join(' ') || 'none';
}
DB_SHOW_COMMAND('pcpu', 'The record of a CPU', ({ db, addr, have_addr }) => {
  const mine = db_panic_cpu() >= 0 ? db_panic_cpu() : Math.max(0, thr.cpu);
  pcpu_print(db, db_cpu(have_addr ? addr : mine));
});
function all_pcpu({ db }: DdbArgs): void {
  db_printf(db, 'Current CPU: %d\n\n', thr.cpu);
  for (const cpu of used()) {
    pcpu_print(db, cpu);
    db_puts(db, '\n');
  }
}
DB_SHOW_COMMAND('allpcpu', 'The records of all CPUs that have a thread', all_pcpu);
DB_SHOW_ALL_COMMAND('pcpu', 'The records of all CPUs that have a thread', all_pcpu);

DB_SHOW_COMMAND('msgbuf', 'The last lines that the kernel printed', ({ db }) => {
  const text = msgbuf_text();
  db_printf(db, 'msgbufp: %d bytes\n', text.length);
  db_puts(db, text);
});
