/*
 * kmem saved: what is in the file of a saved address space.
 *
 *      space      'store', saved 2026-11-29 16:44:40 UTC
 *      file       10948608 bytes: all checksums are right
 *      contents   10895360 of 1073762795520 bytes
 *
 *             ADDRESS         LENGTH  PROT INHERIT       CONTENTS NAME
 *              0x1000       20971520    rw    copy       10485760 index
 *
 * The whole file is read and checked, as space.load() would check it, without a machine.
 */
import { parseArgs } from 'node:util';
import { errno_name } from '../sys/machine/errno.ts';
import { PAGE_SIZE } from '../sys/machine/memory.ts';
import { STORE_READ, store_close, store_open } from '../sys/machine/store.ts';
import { store_read, store_size } from '../sys/machine/store_io.ts';
import {
  SnapDamage,
  SnapForeign,
  type SnapHeader,
  type SnapRegion,
} from '../sys/client/snap_file.ts';
import { SnapReader } from '../sys/client/snap_reader.ts';
import { inheritName, protectionName } from '../lib/space_args.ts';
import { type SavedSpace, savedSpace } from '../lib/space_file.ts';
import { FoundWrong, UsageError } from './usage.ts';

export const SAVED_HELP = `usage: kmem saved [--json] FILE

Shows what is in a file that space.save() wrote: the space, when it was saved, its
regions, and how much of each has contents.  All of it is read, and every checksum
is looked at.  Addresses and lengths are in bytes.

  --json           one JSON document

exit codes: 0 it is whole; 1 it is cut off or damaged; 2 it cannot be read, or is no
saved space

examples:
  kmem saved monday.kmem
  kmem saved --json monday.kmem | jq '.regions[].name'
`;

/** A region of the file, in bytes. */
interface Row {
  readonly name: string;
  readonly address: number;
  readonly length: number;
  readonly protect: string;
  readonly inherit: string;
  readonly contents: number;
}
interface Shown extends SavedSpace {
  readonly rows: readonly Row[];
}
const text_of = (name: Uint8Array): string => new TextDecoder().decode(name);

/** Runs the command; returns the exit code. */
export function saved_main(argv: readonly string[]): number {
  const { json, file } = asked(argv);
  const shown = read(file);
  const { rows, ...space } = shown;
  const text = json ? `${JSON.stringify({ ...space, regions: rows })}\n` : table(shown);
  process.stdout.write(text);
  return 0;
}
function asked(argv: readonly string[]): { json: boolean; file: string } {
  let values: { json?: boolean };
  let positionals: string[];
  try {
    const options = { json: { type: 'boolean' } } as const;
    ({ values, positionals } = parseArgs({ args: [...argv], options, allowPositionals: true }));
  } catch (e) {
    throw new UsageError((e as Error).message.split('. ')[0], 'saved');
  }
  const [file] = positionals;
  if (positionals.length !== 1 || file === '') {
    throw new UsageError('give one file that space.save() wrote', 'saved');
  }
  return { json: values.json ?? false, file };
}
function unreadable(file: string, errno: number): never {
  throw new UsageError(`${file}: it cannot be read: ${errno_name(errno)}`, 'saved');
}
function read(file: string): Shown {
  const st = store_open(file, STORE_READ);
  if (st < 0) return unreadable(file, -st);
  try {
    const size = store_size(st);
    if (size < 0) unreadable(file, -size);
    return checked(
      new SnapReader(size, (at, into) => {
        const n = store_read(st, at, into);
        return n < 0 ? unreadable(file, -n) : n;
      }),
    );
  } catch (e) {
    if (e instanceof SnapForeign) throw new UsageError(`${file}: ${e.message}`, 'saved');
    if (e instanceof SnapDamage) throw new FoundWrong(`${file}: damaged: ${e.message}`);
    throw e;
  } finally {
    store_close(st); // errno: it was only read
  }
}
function checked(reader: SnapReader): Shown {
  const h: SnapHeader = reader.header();
  const tables = reader.regions(h);
  const contents = tables.regions.map(() => 0);
  for (const { region, pages } of reader.contents(h, tables)) {
    contents[region] += pages * PAGE_SIZE;
  }
  return { ...savedSpace(h), rows: tables.regions.map((r, i) => row_of(r, contents[i])) };
}
function row_of({ name, vpn, pages, prot, inheritance }: SnapRegion, contents: number): Row {
  return {
    name: text_of(name),
    address: vpn * PAGE_SIZE,
    length: pages * PAGE_SIZE,
    protect: protectionName(prot),
    inherit: inheritName(inheritance),
    contents,
  };
}
function table({ name, time, size, contents, mapped, rows }: Shown): string {
  const when = new Date(time).toISOString().replace('T', ' ').slice(0, 19);
  const lines = [
    `space      '${name}', saved ${when} UTC`,
    `file       ${size} bytes: all checksums are right`,
    `contents   ${contents} of ${mapped} bytes`,
    '',
    line('ADDRESS', 'LENGTH', 'PROT', 'INHERIT', 'CONTENTS', 'NAME'),
  ];
  for (const r of rows) {
    const address = `0x${r.address.toString(16)}`;
    lines.push(line(address, r.length, r.protect, r.inherit, r.contents, r.name));
  }
  return `${lines.join('\n')}\n`;
}
function line(...cells: (string | number)[]): string {
  const widths = [18, 14, 5, 7, 14];
  return cells
    .map((c, i) => (i < widths.length ? String(c).padStart(widths[i]) : c))
    .join(' ')
    .trimEnd();
}
