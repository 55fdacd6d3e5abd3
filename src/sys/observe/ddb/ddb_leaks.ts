/*
 * ddb_leaks: what a program holds, the most first.
 *
 *      findleaks [-t SECONDS]
 *
 * Types and zones by the bytes in use, as far as the machine's memory tells.  By whom, and for
 * how long, only stacks say that were kept when a block was obtained (kmem/kern_detect.ts): a
 * machine without them has no ages, and findleaks says so.
 */
import { malloc_type_sums } from '../../kmem/kern_malloc_sums.ts';
import { UMA_ZFLAG_INTERNAL, UMA_ZONE_MALLOC, uma_keg, uma_zone } from '../../h/uma.ts';
import { zone_present } from '../../uma/uma_stats.ts';
import { CS_OWN, DB_COMMAND, type DdbArgs } from './ddb_command.ts';
import { type Ddb, DdbError, db_printf, db_puts } from './ddb_session.ts';
import { db_type_name, db_types, db_zone_name, db_zones } from './ddb_uma.ts';

/** Rows that are shown. */
const ROWS = 32;
interface Row {
  readonly name: string;
  readonly what: string;
  readonly count: number;
  readonly bytes: number;
}
/** Stacks that were kept, if anything keeps them: writes its table. False: there are none. */
export const db_leak_stacks: ((db: Ddb, seconds: number) => boolean)[] = [];

function rows(db: Ddb): Row[] {
  const all: Row[] = [];
  for (const t of db_types(db)) {
    const { inuse, bytes } = malloc_type_sums(t);
    all.push({ name: db_type_name(t), what: 'type', count: inuse, bytes });
  }
  for (const z of db_zones(db)) {
    if (
      uma_zone.flags[z] & UMA_ZONE_MALLOC ||
      uma_keg.flags[uma_zone.keg[z]] & UMA_ZFLAG_INTERNAL
    ) {
      continue;
    }
    const { used } = zone_present(z);
    const bytes = used * uma_keg.rsize[uma_zone.keg[z]];
    all.push({ name: db_zone_name(z), what: 'zone', count: used, bytes });
  }
  return all.filter((r) => r.count > 0).sort((a, b) => b.bytes - a.bytes);
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
  if (db_leak_stacks.some((print) => print(db, seconds))) return;
  db_puts(db, 'No stacks are kept: who holds it, and for how long, is not known\n');
}
DB_COMMAND('findleaks', 'What is in use, the most first; -t SECONDS: as old as that', findleaks, {
  flags: CS_OWN,
});
