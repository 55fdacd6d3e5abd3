/*
 * kern_whatis: what lies at an address.
 *
 * The page array says of every page what it is and whose, the slab where each of its
 * items begins: enough to tell a program what it has in its hands when it frees
 * something that is not its own.
 *
 *      whatis(p)         'an item of zone 'conn'', '16 bytes into a block of 64 bytes',
 *                        'free memory', ...
 *      item_of_keg       whether an item of that keg begins there
 *      block_starts      where in a page of malloc blocks begin, for each size class
 *
 * All of it looks and takes no lock: what others change meanwhile may be told as it was.
 */
import { machine, M } from '../machine/header.ts';
import { mem, PAGE_SIZE, PAGE_WORDS, page_word, word_page } from '../machine/memory.ts';
import { opt } from '../machine/opt.ts';
import { kernel_parts } from '../machine/parts.ts';
import { elem, NULL } from '../machine/struct.ts';
import { KMEM_CLASSES, type malloc_type_t } from '../h/malloc.ts';
import {
  type keg_t,
  type slab_t,
  UMA_ZFLAG_INTERNAL,
  uma_keg,
  uma_slab,
  uma_zone,
  type zone_t,
} from '../h/uma.ts';
import {
  PK_BOOT,
  PK_CACHE,
  PK_FREE,
  PK_GUARD,
  PK_HAND,
  PK_LARGE,
  PK_MARKED,
  PK_MALLOC_END,
  PK_MASK,
  PK_QUARANTINE,
  PK_RESERV,
  PK_REST,
  PK_SLAB,
  vm_page,
} from '../h/vm_page.ts';
import { guard_text } from '../page/vm_guard.ts';
import { keg_item_starts, slab_item_free } from '../uma/uma_keg.ts';
import { uma_each_zone, zone_name } from '../uma/uma_int.ts';
import { malloc_type_name_of, malloc_zone } from './kern_malloc_type.ts';

/** The item that word p lies in: its slab, number, and the words that p is into it. */
interface Item {
  readonly slab: slab_t;
  readonly number: number;
  readonly into: number;
}
/** null: the page is of no slab, or p is in its header or beyond its items. */
function item_at(p: number): Item | null {
  const m = word_page(p);
  const info = vm_page.info[m] & ~PK_MARKED;
  if ((info & PK_MASK) !== PK_SLAB && !(info < PK_MALLOC_END)) return null;
  const s = vm_page.owner[m] as slab_t;
  if (s === NULL) return null;
  const k = uma_slab.keg[s];
  const words = uma_keg.rsize[k] / 4;
  const off = p - uma_slab.data[s];
  const number = Math.floor(off / words);
  if (number < 0 || number >= uma_keg.ipers[k]) return null;
  return { slab: s, number, into: off - number * words };
}
/** The item or large block that word p lies in, by its first word; `keg` 0: a large block. */
export function item_around(p: number): { item: number; keg: number } | null {
  const m = word_page(p);
  if (!(p > 0) || m >= machine.npages[M]) return null;
  const found = item_at(p);
  if (found !== null) {
    const keg = uma_slab.keg[found.slab];
    return { item: uma_slab.data[found.slab] + found.number * (uma_keg.rsize[keg] / 4), keg };
  }
  let first = m;
  while (first > 0 && (vm_page.info[first] & PK_MASK) === PK_REST) first--;
  const large = (vm_page.info[first] & ~PK_MARKED & PK_MASK) === PK_LARGE;
  return large ? { item: page_word(first), keg: 0 } : null;
}
/** Whether an item of keg k begins at word p. */
export function item_of_keg(k: keg_t, p: number): boolean {
  const item = item_at(p);
  return item !== null && item.into === 0 && uma_slab.keg[item.slab] === k;
}
/** Whether a malloc block begins at word p. */
export function block_begins(p: number): boolean {
  const marked = vm_page.info[word_page(p)];
  const info = marked & ~PK_MARKED;
  const theirs = marked !== info ? (kernel_parts.detect?.size(p) ?? -1) : -1;
  if (theirs !== -1) return theirs >= 0;
  if ((info & PK_MASK) === PK_LARGE) return p % PAGE_WORDS === 0;
  return info < PK_MALLOC_END && item_at(p)?.into === 0;
}

const STARTS = PAGE_WORDS / 32;
/**
 * A bit for each word of a page at which a block begins, by what `vm_page.info` says of the
 * page; none for what is no page of malloc.  Of this machine: its zones decide.
 */
export function block_starts(): Int32Array {
  const starts = new Int32Array((PK_MASK + PK_MALLOC_END) * STARTS);
  for (let b = 0; b < KMEM_CLASSES; b++) {
    starts.set(keg_item_starts(uma_zone.keg[malloc_zone(b)] as keg_t), b * STARTS);
  }
  return starts;
}

const bytes = (words: number): string => `${words * 4} bytes`;
const into = (words: number, what: string): string =>
  words === 0 ? what : `${bytes(words)} into ${what}`;

/** What lies at word p, in a phrase: for messages. */
export function whatis(p: number): string {
  const m = word_page(p);
  if (!(p > 0) || m >= machine.npages[M]) return 'no memory of this machine';
  const info = vm_page.info[m] & ~PK_MARKED;
  const { detect } = kernel_parts;
  if (detect === undefined && info !== vm_page.info[m]) return `${plainly(p, m)}, ${CORE_ALONE}`;
  return detect?.what?.(p) || plainly(p, m);
}
/** A page is marked, and this thread cannot tell for what. */
const CORE_ALONE = "perhaps of a detector: load 'kmem', this thread has kmem/core alone";
/** The same of what no detector knows. */
function plainly(p: number, m: number): string {
  const info = vm_page.info[m] & ~PK_MARKED;
  const kind = info & PK_MASK;
  if ([PK_FREE, PK_CACHE, PK_HAND, PK_RESERV].includes(kind)) return 'free memory';
  if (kind === PK_LARGE || kind === PK_REST) return large(p, m);
  if (kind === PK_GUARD) return guard_text(m);
  if (kind === PK_QUARANTINE) return 'a block that was freed';
  if (info < PK_MALLOC_END || kind === PK_SLAB) return small(p, info);
  return kind === PK_BOOT ? "the kernel's own memory" : 'pages of the kernel';
}
function large(p: number, at: number): string {
  let m = at;
  while (m > 0 && (vm_page.info[m] & PK_MASK) === PK_REST) m--;
  if ((vm_page.info[m] & PK_MASK) !== PK_LARGE) return 'pages of the kernel';
  const type = malloc_type_name_of(vm_page.owner[m]);
  const block = `a block of ${vm_page.index[m] * PAGE_SIZE} bytes of type '${type}'`;
  return into(p - page_word(m), block);
}
function small(p: number, info: number): string {
  const item = item_at(p);
  if (item === null) return "the kernel's own memory";
  const k = uma_slab.keg[item.slab];
  const free = slab_item_free(item.slab, item.number) || untyped(item, info);
  if (info < PK_MALLOC_END) {
    const block = `${free ? 'a free' : 'a'} block of ${16 << info} bytes`;
    if (!free) return into(item.into, block + type_of(item));
    // A block with redzones begins inside one of malloc, and its header is gone by now.
    const perhaps = (vm_page.info[word_page(p)] & PK_MARKED) !== 0 && item.into > 0;
    return into(item.into, perhaps ? `${block}: freed already, if it had redzones` : block);
  }
  if (uma_keg.flags[k] & UMA_ZFLAG_INTERNAL) return "the kernel's own memory";
  return into(item.into, `${free ? 'a free' : 'an'} item of zone '${zone_of(k)}'`);
}
/** Whether nobody has a small block that lies in a cache: seen under INVARIANTS only. */
function untyped({ slab, number }: Item, info: number): boolean {
  if (!opt.INVARIANTS || !(info < PK_MALLOC_END)) return false;
  return mem.I32[elem(slab, uma_keg.user_off[uma_slab.keg[slab]] + number)] === NULL;
}
/** The type of a small block is noted under INVARIANTS only. */
function type_of({ slab, number }: Item): string {
  if (!opt.INVARIANTS) return '';
  const t = mem.I32[elem(slab, uma_keg.user_off[uma_slab.keg[slab]] + number)] as malloc_type_t;
  return t === NULL ? '' : ` of type '${malloc_type_name_of(t)}'`;
}
function zone_of(k: keg_t): string {
  let name = '?';
  uma_each_zone((z: zone_t) => {
    if (name === '?' && uma_zone.keg[z] === k) name = zone_name(z);
  });
  return name;
}
