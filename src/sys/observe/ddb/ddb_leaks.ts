/*
 * ddb_leaks: what a program holds, the most first, and by whom.
 *
 *      findleaks [-t SECONDS]      types and zones; then stacks, those that are old enough
 *      whatis ADDR                 also says who asked for the block, if that was noted
 *
 * The bytes of types and zones are exact.  Who holds them, and since when, is known of the
 * requests that were noted with their stacks (kmem/kern_stack_sample.ts): a sample, which
 * stands for so many bytes.  A machine that notes none (vm.stack.enable, boot({ debug })) says so.
 */
import { M, machine, ROOT_STACK } from '../../machine/header.ts';
import { memory_state } from '../../machine/memory.ts';
import { elem } from '../../machine/struct.ts';
import { stack_root, type stack_root_t, stack_sample } from '../../h/stack.ts';
import {
  UMA_ZFLAG_INTERNAL,
  UMA_ZONE_MALLOC,
  uma_keg,
  uma_zone,
  type zone_t,
} from '../../h/uma.ts';
import { stack_depot_text } from '../../kmem/kern_stack.ts';
import { type Sample, samples_walk } from '../../kmem/kern_stack_sample.ts';
import { leaks_of } from '../../kmem/kern_stackprof.ts';
import { malloc_type_sums } from '../../kmem/kern_malloc_sums.ts';
import { zone_present } from '../../uma/uma_stats.ts';
import { db_pointer } from './ddb_access.ts';
import { CS_OWN, DB_COMMAND, type DdbArgs } from './ddb_command.ts';
import { type Ddb, DdbError, db_printf, db_puts } from './ddb_session.ts';
import { db_type_name, db_types, db_zone_name, db_zones } from './ddb_uma.ts';

/** Rows that are shown. */
const ROWS = 32;
/** Frames of a stack that are shown. */
const FRAMES = 8;
interface Row {
  readonly name: string;
  readonly what: string;
  readonly count: number;
  readonly bytes: number;
}

/** Whether the program sees a zone: neither malloc's nor the allocator's own. */
function of_program(z: zone_t): boolean {
  const own = uma_keg.flags[uma_zone.keg[z]] & UMA_ZFLAG_INTERNAL;
  return (uma_zone.flags[z] & UMA_ZONE_MALLOC) === 0 && own === 0;
}
function rows(db: Ddb): Row[] {
  const all: Row[] = [];
  for (const t of db_types(db)) {
    const { inuse, bytes } = malloc_type_sums(t);
    all.push({ name: db_type_name(t), what: 'type', count: inuse, bytes });
  }
  for (const z of db_zones(db)) {
    if (!of_program(z)) continue;
    const { used } = zone_present(z);
    const bytes = used * uma_keg.rsize[uma_zone.keg[z]];
    all.push({ name: db_zone_name(z), what: 'zone', count: used, bytes });
  }
  return all.filter((r) => r.count > 0).sort((a, b) => b.bytes - a.bytes);
}
/** Requests that were noted and are in use; none where nothing is noted, or the list is wrong. */
function samples(): Sample[] {
  const r = machine.roots[elem(M, ROOT_STACK)] as stack_root_t;
  if (r === 0 || !db_pointer(r, stack_root.sizeof)) return [];
  const n = stack_root.samples[r];
  const most = memory_state.size / (stack_sample.sizeof * 4);
  if (!(n >= 0 && n <= most)) throw new DdbError('The list of samples is wrong');
  return samples_walk();
}
function age(db: Ddb, time: number): number {
  return Math.max(0, Math.floor((db.now() - time) / 1000));
}
function frames(db: Ddb, id: number, pad: string): void {
  const lines = stack_depot_text(id);
  if (lines.length === 0) db_printf(db, '%s(its stack was not kept)\n', pad);
  for (const [i, line] of lines.slice(0, FRAMES).entries())
    db_printf(db, '%s#%d %s\n', pad, i, line);
}
function stacks(db: Ddb, all: readonly Sample[], seconds: number): void {
  const zones = new Map<number, string>();
  for (const z of db_zones(db)) zones.set(z, db_zone_name(z));
  const leaks = leaks_of(all, db.now() - seconds * 1000, zones);
  db_printf(db, '\n%12s %12s %8s %8s %s\n', 'Bytes', 'Objects', 'Noted', 'Oldest', 'Owner');
  for (const l of leaks.slice(0, ROWS)) {
    const row = [Math.round(l.bytes), Math.round(l.objects), l.samples, age(db, l.oldest)];
    db_printf(db, '%12d %12d %8d %7ds %s\n', ...row, l.owners[0]?.[0] ?? '?');
    frames(db, l.stack, '    ');
  }
  if (leaks.length === 0) db_printf(db, 'Nothing that was noted is %d s old\n', seconds);
}
function seconds_of(text: string): number {
  const m = /^(?:-t\s*(\d{1,9}))?$/.exec(text.trim());
  if (!m) throw new DdbError('Usage: findleaks [-t SECONDS]');
  return Number(m[1] ?? 0);
}
function findleaks({ db, lex }: DdbArgs): void {
  const seconds = seconds_of(lex.rest());
  db_printf(db, '%12s %12s %5s %s\n', 'Bytes', 'InUse', 'What', 'Name');
  for (const r of rows(db).slice(0, ROWS)) {
    db_printf(db, '%12d %12d %5s %s\n', r.bytes, r.count, r.what, r.name);
  }
  const all = samples();
  if (all.length > 0) return stacks(db, all, seconds);
  db_puts(db, 'No request was noted with its stack (vm.stack.enable): by whom is not known\n');
}
DB_COMMAND('findleaks', 'What is in use, the most first; -t SECONDS: as old as that', findleaks, {
  flags: CS_OWN,
});
/** Who asked for the block or item at a word, if that was noted. */
export function db_item_note(db: Ddb, at: number): void {
  const s = samples().find((noted) => noted.item === at);
  if (!s) return;
  db_printf(db, '  %d bytes, asked for %d s ago by\n', s.size, age(db, s.time));
  frames(db, s.stack, '    ');
}
