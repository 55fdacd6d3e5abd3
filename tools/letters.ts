/*
 * letters: every field of every structure, its lock letters, and what a checked
 * boot makes of them.
 *
 *      uma_keg.free          kh    rule     items free in slabs
 *      uma_zone.last_keg     -     none     a guess: any keg of the zone may ...
 *
 * The table comes from the declarations, and the rules from a checked machine that
 * is booted for it: what the table says is what is tested.  `rule` means that each
 * letter of the field has one; `none` is followed by the reason that the
 * declaration gives; `MISSING` names a letter that nobody explains.
 *
 * Usage: node tools/letters.ts [part of a name ...].  Exit code 1 if a letter is missing.
 */
import { boot, shutdown } from '../src/sys/boot/whole.ts';
import { column_layouts, struct_layouts } from '../src/sys/machine/struct.ts';
import { checked_has_rule } from '../src/sys/sync/checked.ts';

export interface LetterRow {
  readonly field: string;
  readonly letters: string;
  /** Every letter has a rule. */
  readonly rule: boolean;
  /** Why there is none; '' if there should be one. */
  readonly unchecked: string;
  readonly help: string;
}
/** One row for each field and column of the kernel. */
export function letter_rows(): LetterRow[] {
  boot({ memory: '4M', cpus: 2, checked: true });
  const rows: LetterRow[] = [];
  for (const layout of [...struct_layouts, ...column_layouts]) {
    for (const f of layout.fields) {
      const rule = f.lock !== '' && [...f.lock].every((letter) => checked_has_rule(layout, letter));
      const field = `${layout.name}${layout.words === 0 ? '[]' : ''}.${f.name}`;
      rows.push({ field, letters: f.lock, rule, unchecked: f.unchecked, help: f.help });
    }
  }
  shutdown();
  return rows;
}
/** Rows without a rule and without a reason. */
export function letters_missing(rows: readonly LetterRow[]): LetterRow[] {
  return rows.filter((row) => !row.rule && row.unchecked === '');
}

function row_text(row: LetterRow): string {
  const what = row.rule ? 'rule' : row.unchecked !== '' ? 'none' : 'MISSING';
  const why = row.unchecked !== '' ? row.unchecked : row.help;
  return `${row.field.padEnd(34)}${(row.letters || '-').padEnd(4)}${what.padEnd(9)}${why}`;
}

if (import.meta.main) {
  const parts = process.argv.slice(2);
  const rows = letter_rows();
  const shown = rows.filter((row) => parts.every((part) => row.field.includes(part)));
  for (const row of shown) console.log(row_text(row));
  const rules = rows.filter((row) => row.rule).length;
  const reasons = rows.filter((row) => row.unchecked !== '').length;
  const missing = letters_missing(rows).length;
  console.log(
    `${rows.length} fields: ${rules} with a rule, ${reasons} unchecked with a reason, ` +
      `${missing === 0 ? 'none' : missing} missing`,
  );
  process.exitCode = missing === 0 ? 0 : 1;
}
