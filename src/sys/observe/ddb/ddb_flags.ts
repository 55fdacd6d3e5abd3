/*
 * ddb_flags: the bits of flag words, by name.
 *
 *      db_flags(0x2010, ZONE_FLAGS)    '<MALLOC,VTOSLAB>'
 *
 * Bits without a name show as a number behind the names, so that nothing is hidden.  The table
 * by structure and field is what `show struct` decodes with.
 */
import {
  CPU_CLAIM,
  CPU_CLAIMER,
  CPU_DEAD,
  CPU_FREE,
  CPU_LATE,
  CPU_PARKED,
  CPU_REQ_DRAIN,
  CPU_REQ_TLB,
  CPU_STOP,
} from '../../machine/cpu.ts';
import * as mb from '../../h/mbuf.ts';
import * as um from '../../h/uma.ts';
import * as mm from '../../h/vm_map.ts';
import * as ob from '../../h/vm_object.ts';
import * as pg from '../../h/vm_page.ts';

export type FlagNames = Readonly<Record<string, number>>;

/** The constants of a header whose names begin so, without that beginning. */
function flags_of(
  header: Readonly<Record<string, unknown>>,
  begin: string,
  except: readonly string[] = [],
): FlagNames {
  const all: Record<string, number> = {};
  for (const [name, value] of Object.entries(header)) {
    if (!name.startsWith(begin) || typeof value !== 'number') continue;
    const one = value !== 0 && (value & (value - 1)) === 0; // one bit
    if (one && !except.includes(name)) all[name.slice(begin.length)] = value;
  }
  return all;
}
export const ZONE_FLAGS: FlagNames = {
  ...flags_of(um, 'UMA_ZONE_'),
  ...flags_of(um, 'UMA_ZFLAG_'),
};
export const MBUF_FLAGS = flags_of(mb, 'M_', ['M_TAG_WORDS', 'M_DAT', 'M_COPYALL']);
export const ENTRY_FLAGS = flags_of(mm, 'MAP_ENTRY_');
export const PAGE_FLAGS = flags_of(pg, 'PG_');
export const CPU_FLAGS: FlagNames = {
  PARKED: CPU_PARKED,
  CLAIM: CPU_CLAIM,
  REQ_DRAIN: CPU_REQ_DRAIN,
  LATE: CPU_LATE,
  STOP: CPU_STOP,
  DEAD: CPU_DEAD,
  FREE: CPU_FREE,
  REQ_TLB: CPU_REQ_TLB,
};
/** By `structure.field`. */
const FIELDS: Readonly<Record<string, { names: FlagNames; rest?: number }>> = {
  'uma_zone.flags': { names: ZONE_FLAGS },
  'uma_zone.hooks': { names: flags_of(um, 'ZH_') },
  'uma_keg.flags': { names: ZONE_FLAGS },
  'mbuf.flags': { names: MBUF_FLAGS },
  'vm_map_entry.eflags': { names: ENTRY_FLAGS },
  'vm_map_entry.protection': { names: { READ: 1, WRITE: 2, EXECUTE: 4 } },
  'vm_map_entry.max_protection': { names: { READ: 1, WRITE: 2, EXECUTE: 4 } },
  'vm_object.flags': { names: flags_of(ob, 'OBJ_') },
  'vm_page.flags': { names: PAGE_FLAGS },
  'pcpu.state': { names: CPU_FLAGS, rest: CPU_CLAIMER },
};

/** The names of the bits that are set; '' if none is. Bits of `rest` are something else. */
export function db_flags(value: number, names: FlagNames, rest = 0): string {
  let left = value & ~rest;
  const said: string[] = [];
  for (const [name, bit] of Object.entries(names)) {
    if ((left & bit) === 0) continue;
    said.push(name);
    left &= ~bit;
  }
  if (left !== 0) said.push(`0x${(left >>> 0).toString(16)}`);
  return said.length > 0 ? `<${said.join(',')}>` : '';
}
/** The bits of a field, if it is one of flags; '' otherwise. */
export function db_field_flags(of: string, field: string, value: number): string {
  const f = FIELDS[`${of}.${field}`];
  return f ? db_flags(value, f.names, f.rest) : '';
}

/** Kinds of pages, as the debugger calls them. */
export function db_page_kind(info: number): string {
  const kind = info & pg.PK_MASK;
  if (kind === pg.PK_MALLOC) return `malloc ${16 << (info & ~pg.PK_MARKED & 0xf)}`;
  return KINDS[kind] ?? `kind 0x${kind.toString(16)}`;
}
const KINDS: Readonly<Record<number, string>> = {
  [pg.PK_BOOT]: 'boot',
  [pg.PK_FREE]: 'free',
  [pg.PK_HAND]: 'in the hand of a CPU',
  [pg.PK_SLAB]: 'slab',
  [pg.PK_LARGE]: 'large block',
  [pg.PK_REST]: 'further page',
  [pg.PK_WIRED]: 'wired',
  [pg.PK_CACHE]: 'cached by a CPU',
  [pg.PK_QUARANTINE]: 'quarantine',
  [pg.PK_OBJECT]: 'object',
  [pg.PK_TABLE]: 'page table',
  [pg.PK_LIMBO]: 'limbo',
  [pg.PK_LOAN]: 'lent',
  [pg.PK_GUARD]: 'guard',
};
