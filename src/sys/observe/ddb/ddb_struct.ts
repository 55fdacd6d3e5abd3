/*
 * ddb_struct: any record, field by field, as its declaration says.
 *
 *      show struct vm_map_entry ADDR      one record: fields, values, bits by name
 *      show struct vm_page M              a row of columns, by its number
 *      show struct uma_keg                the declaration itself
 *      show structs                       the names of all
 *
 * The tables are those that the views are made of (machine/struct.ts), so nothing can be out of
 * date here.  A word that is a pointer cannot be told from a number by its declaration: it is
 * shown as both.
 */
import { mem } from '../../machine/memory.ts';
import {
  column_layouts,
  type FieldLayout,
  type StructLayout,
  struct_layouts,
} from '../../machine/struct.ts';
import { db_get_double, db_get_value, db_record, db_there } from './ddb_access.ts';
import { CS_OWN, DB_SHOW_COMMAND, type DdbArgs, db_argument, db_no_more } from './ddb_command.ts';
import { db_address } from './ddb_expr.ts';
import { db_field_flags } from './ddb_flags.ts';
import { type Ddb, DdbError, db_end_line, db_hex, db_printf, db_puts } from './ddb_session.ts';

/** Words of an array that are shown. */
const WORDS_SHOWN = 8;
/** Widths of columns, bytes. */
const WIDTH: Record<string, number> = { u8: 1, u16: 2, u32: 4, i32: 4 };

function find(name: string): StructLayout {
  const all = [...struct_layouts, ...column_layouts];
  const exact = all.find((s) => s.name === name);
  if (exact) return exact;
  const near = all.filter((s) => s.name.startsWith(name)).map((s) => s.name);
  const which = near.length > 0 ? `; near it: ${near.slice(0, 8).join(', ')}` : '';
  throw new DdbError(`No structure is called ${name}${which}`);
}
function word_text(v: number): string {
  return v >= 0 && v < 10 ? String(v) : `${v} (${db_hex((v >>> 0) * 4)})`;
}
/** The value of a field of the record at byte address `at`. */
function value_text(of: StructLayout, f: FieldLayout, at: number): string {
  const from = at + f.offset * 4;
  if (f.kind === 'u64') return String(db_get_double(from));
  if (f.kind === 'words' || f.kind === 'lock') return words_text(from, f.words);
  const v = Number(db_get_value(from, 4, f.kind !== 'u32'));
  return `${word_text(v)}${db_field_flags(of.name, f.name, v)}`;
}
function words_text(from: number, n: number): string {
  const shown = Array.from({ length: Math.min(n, WORDS_SHOWN) }, (_, i) =>
    String(db_get_value(from + i * 4, 4, true)),
  );
  const text = printable(from, n * 4);
  const more = n > WORDS_SHOWN ? ' …' : '';
  return `{${shown.join(' ')}${more}}${text ? ` "${text}"` : ''}`;
}
/** The text that words hold, if all of it up to its zero byte is printable; '' otherwise. */
function printable(from: number, bytes: number): string {
  let text = '';
  for (let i = 0; i < bytes && db_there(from + i, 1); i++) {
    const c = mem.U8[from + i];
    if (c === 0) return text;
    if (c < 32 || c > 126) return '';
    text += String.fromCharCode(c);
  }
  return '';
}
function row_text(of: StructLayout, f: FieldLayout, row: number): string {
  const width = WIDTH[f.kind] ?? 4;
  const v = Number(db_get_value(f.offset * 4 + row * width, width, f.kind === 'i32'));
  return `${word_text(v)}${db_field_flags(of.name, f.name, v)}`;
}
function declaration(db: Ddb, of: StructLayout): void {
  db_printf(db, '%s: %s\n', of.name, of.words > 0 ? `${of.words * 4} bytes` : 'columns');
  for (const f of of.fields) {
    const lock = f.unchecked ? '-' : f.lock;
    const at = of.words > 0 ? db_hex(f.offset * 4) : f.kind;
    db_printf(db, '  %6s %-16s (%s) %s\n', at, f.name, lock, f.help);
  }
}
function show_struct(a: DdbArgs): void {
  const { db, lex } = a;
  const { kind, text } = lex.take();
  if (kind !== 'ident' && kind !== 'name') throw new DdbError('Usage: show struct NAME [ADDRESS]');
  const of = find(text);
  const given = db_argument(a);
  db_no_more(lex);
  if (given === null) return declaration(db, of);
  const at = db_address(given);
  if (of.words > 0) db_record(at, `a ${of.name}`, of.words);
  db.state.dot = at;
  db_printf(db, '%s %s\n', of.name, db_hex(at));
  for (const f of of.fields) {
    const value = of.words > 0 ? value_text(of, f, at) : row_text(of, f, at);
    db_printf(db, '  %-16s %s\n', f.name, value);
  }
}
DB_SHOW_COMMAND('struct', 'A record, field by field: NAME [ADDRESS]', show_struct, {
  flags: CS_OWN,
});
DB_SHOW_COMMAND('structs', 'The names of all structures', ({ db }) => {
  for (const { name } of [...struct_layouts, ...column_layouts]) {
    db_end_line(db, 24);
    db_printf(db, '%-23s ', name);
  }
  db_puts(db, '\n');
});
