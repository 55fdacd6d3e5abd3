/*
 * procstat_vm: what is mapped in an address space, in the columns of `procstat -v`.
 *
 *      START  END  PRT  RES  PRES  REF  SHD  FLAG  TP
 *
 * A row is an entry of the map, or the part of one that lies in banks whose addresses follow each
 * other.  Counts are a sample: the map is locked shared, so that entries stay, but pages come
 * and go.  BSD's column PATH, the file behind an object, is for when there are files.
 */
import { NULL } from '../machine/struct.ts';
import {
  MAP_ENTRY_COW,
  MAP_ENTRY_GROWS_DOWN,
  MAP_ENTRY_GROWS_UP,
  MAP_ENTRY_NEEDS_COPY,
  vm_map_entry,
  type vm_map_entry_t,
  type vm_map_t,
} from '../h/vm_map.ts';
import {
  OBJT_DEAD,
  OBJT_DEFAULT,
  OBJT_DEVICE,
  OBJT_PHYS,
  OBJT_SWAP,
  vm_object,
} from '../h/vm_object.ts';
import { vm_page } from '../h/vm_page.ts';
import { VM_PROT_EXECUTE, VM_PROT_READ, VM_PROT_WRITE } from '../h/vm_prot.ts';
import { BANK_PAGES, to_address } from '../map/vm_bank.ts';
import { vm_map_lock_read, vm_map_unlock_read } from '../map/vm_map.ts';
import { map_entries } from '../map/vm_map_check.ts';
import { entry_object } from '../map/vm_map_entry.ts';
import { object_page_next, page_valid } from '../object/vm_object_page.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { type Column, columns_text } from './columns.ts';

const entry = vm_map_entry;
const object = vm_object;
const PAGE_BYTES = 4096;

/** A row: what is mapped at some addresses. */
export interface MapLine {
  readonly start: number;
  /** The first address beyond. */
  readonly end: number;
  readonly protection: string;
  /** Pages in memory, of its object or of one below. */
  readonly resident: number;
  /** Those that nobody else can see. */
  readonly private_resident: number;
  /** References to its object. */
  readonly references: number;
  /** Objects that its object backs. */
  readonly shadows: number;
  readonly flags: string;
  readonly type: string;
}
const TYPES = new Map([
  [OBJT_DEFAULT, 'df'],
  [OBJT_SWAP, 'sw'],
  [OBJT_PHYS, 'ph'],
  [OBJT_DEVICE, 'dv'],
  [OBJT_DEAD, 'dd'],
]);
const letters = (value: number, all: readonly (readonly [number, string])[]): string =>
  all.map(([bit, letter]) => (value & bit ? letter : '-')).join('');
const PROTECTIONS = [
  [VM_PROT_READ, 'r'],
  [VM_PROT_WRITE, 'w'],
  [VM_PROT_EXECUTE, 'x'],
] as const;
const FLAGS = [
  [MAP_ENTRY_COW, 'C'],
  [MAP_ENTRY_NEEDS_COPY, 'N'],
  [0, 'S'], // large pages, which no page table here has
  [MAP_ENTRY_GROWS_UP, 'U'],
  [MAP_ENTRY_GROWS_DOWN, 'D'],
] as const;

export const PROCSTAT_COLUMNS: readonly Column<MapLine>[] = [
  {
    title: 'START',
    help: 'The first address.',
    width: 18,
    gap: '',
    text: (l) => `0x${l.start.toString(16)}`,
  },
  {
    title: 'END',
    help: 'The first address beyond.',
    width: 18,
    gap: ' ',
    text: (l) => `0x${l.end.toString(16)}`,
  },
  {
    title: 'PRT',
    help: 'What may be done there: read, write, run.',
    width: 3,
    gap: ' ',
    text: (l) => l.protection,
  },
  {
    title: 'RES',
    help: 'Pages in memory, of the object that is mapped there or of one below it.',
    width: 4,
    gap: ' ',
    text: (l) => String(l.resident),
  },
  {
    title: 'PRES',
    help: 'Of these, pages of an object that nothing else refers to.',
    width: 4,
    gap: ' ',
    text: (l) => String(l.private_resident),
  },
  {
    title: 'REF',
    help: 'References to the object.',
    width: 3,
    gap: ' ',
    text: (l) => String(l.references),
  },
  {
    title: 'SHD',
    help: 'Objects above it that show its pages where they have none.',
    width: 3,
    gap: ' ',
    text: (l) => String(l.shadows),
  },
  {
    title: 'FLAG',
    help: 'C: writes go to a copy. N: which is yet to be made. U, D: it grows up, down.',
    width: -5,
    gap: ' ',
    text: (l) => l.flags,
  },
  {
    title: 'TP',
    help: 'Its object: df memory, sw swap, ph never reclaimed, dv device, dd dead; --: none.',
    width: -2,
    gap: ' ',
    text: (l) => l.type,
  },
];

/** What is mapped in a space, lowest page first. The caller holds no lock. */
export function procstat_vm(mp: vm_map_t): MapLine[] {
  const lines: MapLine[] = [];
  vm_map_lock_read(mp);
  for (const e of map_entries(mp)) {
    for (let at = entry.start[e]; at < entry.end[e]; ) {
      let end = at;
      do end = Math.min((Math.floor(end / BANK_PAGES) + 1) * BANK_PAGES, entry.end[e]);
      while (
        end < entry.end[e] &&
        to_address(mp, end) - to_address(mp, at) === (end - at) * PAGE_BYTES
      );
      lines.push(line_of(mp, e, at, end));
      at = end;
    }
  }
  vm_map_unlock_read(mp);
  return lines;
}
function line_of(mp: vm_map_t, e: vm_map_entry_t, from: number, to: number): MapLine {
  const start = to_address(mp, from);
  const o = entry_object(e);
  const own = pages_of(e, from, to);
  return {
    start,
    end: start + (to - from) * PAGE_BYTES,
    protection: letters(entry.protection[e], PROTECTIONS),
    resident: own.all,
    private_resident: own.alone,
    references: o === NULL ? 0 : object.refs[o],
    shadows: o === NULL ? 0 : object.shadow_count[o],
    flags: letters(entry.eflags[e], FLAGS),
    type: o === NULL ? '--' : (TYPES.get(object.type[o]) ?? '??'),
  };
}
/** How many pages of a part of an entry are in memory, and how many nobody else can see. */
function pages_of(e: vm_map_entry_t, from: number, to: number): { all: number; alone: number } {
  const seen = new Set<number>();
  let alone = 0;
  let o = entry_object(e);
  if (o === NULL) return { all: 0, alone };
  let first = entry.offset[e] + from - entry.start[e];
  let only = true;
  mtx_lock(object.lock, o);
  for (;;) {
    only &&= object.refs[o] === 1;
    for (let m = object_page_next(o, first); m !== 0; ) {
      const i = vm_page.index[m];
      if (i >= first + to - from) break;
      if (page_valid(m) && !seen.has(i - first)) {
        seen.add(i - first);
        if (only) alone++;
      }
      m = object_page_next(o, i + 1);
    }
    const below = object.backing[o];
    if (below === NULL) break;
    first += object.backing_offset[o];
    mtx_lock(object.lock, below);
    mtx_unlock(object.lock, o);
    o = below;
  }
  mtx_unlock(object.lock, o);
  return { all: seen.size, alone };
}
/** The rows as BSD prints them. */
export function procstat_vm_text(lines: readonly MapLine[]): string {
  const { titles, lines: rows } = columns_text(PROCSTAT_COLUMNS, lines);
  return [titles, ...rows].map((row) => `${row.trimEnd()}\n`).join('');
}
