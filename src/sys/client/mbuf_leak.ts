/*
 * mbuf_leak: where the chains that are alive were made.
 *
 *      mb_root.sites -> site -> site -> ...     a list that only grows
 *
 *      site   next | hash | live | made | bytes of the text | text ...
 *
 * A site is a place in a program (file:line).  Whoever makes a chain while
 * kern.ipc.mbuf_leak is on counts it at its site, and takes it off when the
 * chain is freed, in whatever thread that happens: a chain that is released to
 * another thread carries the number of its site along (mbuf.site).  Chains that a
 * site still counts when all should be free are a leak with a name, and it is there
 * for every thread and every tool to see (kern.ipc.mbuf_leak_sites), also when the
 * thread that lost the chain is dead.
 *
 * Locks.  A new site is put in front by compare-and-swap and never taken out; the
 * loser of that race looks at what came in between, so that a place has one site.
 * Counts change atomically.
 */
import { atomic_add, atomic_cas, atomic_load } from '../machine/atomic.ts';
import { mem } from '../machine/memory.ts';
import { sbuf_printf, sbuf_text_report } from '../machine/sbuf.ts';
import { field_word } from '../machine/struct.ts';
import {
  CTLFLAG_RWTUN,
  sysctl_get,
  sysctl_int,
  type SysctlDecl,
  sysctl_proc,
} from '../machine/sysctl_decl.ts';
import { M_NOWAIT } from '../h/malloc_flags.ts';
import { mb_root } from '../h/mbuf.ts';
import { free, malloc } from '../kmem/kern_malloc.ts';
import { MALLOC_DEFINE } from '../kmem/kern_malloc_type.ts';
import { mb } from './kern_mbuf.ts';

/** Levels of kern.ipc.mbuf_leak. */
export const LEAK_OFF = 0;
export const LEAK_SIMPLE = 1;
export const LEAK_PARANOID = 3;

const M_SITES = MALLOC_DEFINE('mbuf_leak', 'places where chains were made');
const level: SysctlDecl = sysctl_int('kern.ipc.mbuf_leak', {
  value: LEAK_OFF,
  min: LEAK_OFF,
  max: LEAK_PARANOID,
  flags: CTLFLAG_RWTUN,
  help: 'Notes where chains are made: 0 off, 1 one of some, 2 all, 3 also where last touched',
});
const sample: SysctlDecl = sysctl_int('kern.ipc.mbuf_leak_sample', {
  value: 128,
  min: 1,
  max: 2 ** 30,
  flags: CTLFLAG_RWTUN,
  unit: 'chains',
  help: 'At level 1 of mbuf_leak, one chain of so many is noted',
});
/** The level of detection: LEAK_*. */
export function mbuf_leak_level(): number {
  return sysctl_get(level);
}
/** At LEAK_SIMPLE one chain of so many is noted. */
export function mbuf_leak_sample(): number {
  return sysctl_get(sample);
}

const S_NEXT = 0;
const S_HASH = 1;
const S_LIVE = 2;
const S_MADE = 3;
const S_BYTES = 4;
const S_TEXT = 5;
/** A longer text is cut, bytes. */
const TEXT_MAX = 200;

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

function hash_of(bytes: Uint8Array): number {
  let h = 0x811c9dc5;
  for (const b of bytes) h = Math.imul(h ^ b, 0x01000193);
  return h | 0;
}
function same_text(site: number, bytes: Uint8Array): boolean {
  if (mem.I32[site + S_BYTES] !== bytes.length) return false;
  const at = (site + S_TEXT) * 4;
  return bytes.every((b, i) => mem.U8[at + i] === b);
}
/** The site of a place, made if there is none. 0: no memory for it. */
export function mbuf_site(place: string): number {
  const bytes = encoder.encode(place).subarray(0, TEXT_MAX);
  const hash = hash_of(bytes);
  const head = field_word(mb_root.sites, mb());
  const first = atomic_load(head);
  for (let s = first; s !== 0; s = mem.I32[s + S_NEXT]) {
    if (mem.I32[s + S_HASH] === hash && same_text(s, bytes)) return s;
  }
  const s = malloc(S_TEXT * 4 + bytes.length, M_SITES.t, M_NOWAIT);
  if (s === 0) return 0;
  mem.I32[s + S_HASH] = hash;
  mem.I32[s + S_LIVE] = 0;
  mem.I32[s + S_MADE] = 0;
  mem.I32[s + S_BYTES] = bytes.length;
  mem.U8.set(bytes, (s + S_TEXT) * 4);
  return site_link(head, s, first, hash, bytes);
}
/** Puts a site in front of the list, unless another thread put it there meanwhile. */
function site_link(head: number, s: number, seen: number, hash: number, text: Uint8Array): number {
  for (let known = seen; ; ) {
    mem.I32[s + S_NEXT] = known;
    const now = atomic_cas(head, known, s);
    if (now === known) return s;
    for (let other = now; other !== known; other = mem.I32[other + S_NEXT]) {
      if (mem.I32[other + S_HASH] !== hash || !same_text(other, text)) continue;
      free(s, M_SITES.t);
      return other;
    }
    known = now;
  }
}
/** Counts a chain at its site. 0 is none. */
export function mbuf_site_take(site: number): void {
  if (site === 0) return;
  atomic_add(site + S_MADE, 1);
  atomic_add(site + S_LIVE, 1);
}
/** Takes a chain off its site. */
export function mbuf_site_drop(site: number): void {
  if (site !== 0) atomic_add(site + S_LIVE, -1);
}
/** The text of a site. */
export function mbuf_site_text(site: number): string {
  const at = (site + S_TEXT) * 4;
  return decoder.decode(mem.U8.slice(at, at + mem.I32[site + S_BYTES]));
}

export interface SiteCount {
  readonly site: string;
  /** Chains made there that are not freed. */
  readonly live: number;
  /** Chains made there. */
  readonly made: number;
}
/** All sites, those with most live chains first. A sample while threads run. */
export function mbuf_sites(): SiteCount[] {
  const all: SiteCount[] = [];
  for (let s = atomic_load(field_word(mb_root.sites, mb())); s !== 0; s = mem.I32[s + S_NEXT]) {
    const live = atomic_load(s + S_LIVE);
    all.push({ site: mbuf_site_text(s), live, made: atomic_load(s + S_MADE) });
  }
  return all.sort((a, b) => b.live - a.live || (a.site < b.site ? -1 : 1));
}

sysctl_proc(
  'kern.ipc.mbuf_leak_sites',
  { type: 'string', fmt: 'A', help: 'Chains that are alive, by the place where they were made' },
  (req) =>
    sbuf_text_report(req, (s) => {
      for (const { live, made, site } of mbuf_sites()) {
        sbuf_printf(s, '%d live of %d made at %s\n', live, made, site);
      }
    }),
);
