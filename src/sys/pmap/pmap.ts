/*
 * pmap: which page of memory an address means, for one address space.
 *
 *      pmap_enter       maps a page, in place of what was mapped there
 *      pmap_remove      takes mappings away              waits for nobody
 *      pmap_protect     takes a right away               waits until all CPUs have answered
 *      pmap_translate   what an access does that missed  fills this CPU's tags
 *      pmap_remove_all  takes a page away from whoever maps it
 *
 * All tables are software: an index leads from the page number to a page table, which is a
 * page of its own (pmap_table.ts), and that to the entry (h/pmap.ts).  All of it is changed
 * under the lock of the pmap, in sections; how CPUs that translate meanwhile are told is told in
 * pmap_tlb.ts.
 *
 * References and modifications are noted at the page, by the miss that fills a tag, or by the
 * fault that enters a translation and fills one at once.  Whoever clears a note takes the tags
 * back, so that the next access notes it again.
 *
 * A mapping is on the page's list (pmap_pv.ts) before the table has it and until after all
 * CPUs were asked; so nobody takes a page for unmapped that some CPU was not asked about.
 *
 * Deaths.  Whoever takes the lock over plays the section back and takes all translations of
 * the pmap back, because the dead CPU may have changed the table and not yet asked.
 */
import { poll } from '../machine/cpu.ts';
import { mem as mem_, page_word } from '../machine/memory.ts';
import { panic } from '../machine/panic.ts';
import { elem, NULL } from '../machine/struct.ts';
import { vector } from '../machine/vectors.ts';
import { zone_declared } from '../machine/zone_decl.ts';
import { M_NOWAIT } from '../h/malloc_flags.ts';
import {
  CPUSET_WORDS,
  PTE_FLAGS,
  PTE_VALID,
  PTE_WIRED,
  PTE_WRITE,
  pmap as pmap_,
  pmap_root as pmap_root_,
  type pmap_t,
  TABLE_ENTRIES,
  TABLE_SHIFT,
} from '../h/pmap.ts';
import { UMA_ZONE_NOFREE, type zone_t } from '../h/uma.ts';
import { PQ_CACHE as PQ_CACHE_, PQ_MASK as PQ_MASK_ } from '../h/vm_pageq.ts';
import { PG_FICTITIOUS, vm_page } from '../h/vm_page.ts';
import { VM_PROT_READ, VM_PROT_WRITE } from '../h/vm_prot.ts';
import { checked_fresh, checked_publish } from '../machine/parts.ts';
import { mtx_init, mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { LC_PMAP } from '../sync/lock_order.ts';
import { save, save_word, undo_begin, undo_end } from '../sync/undo.ts';
import { vm_page_activate } from '../page/vm_pageq.ts';
import { zone_alloc_hand, zone_free_at } from '../uma/uma_core.ts';
import { uma_zcreate } from '../uma/uma_zone.ts';
import { pmap_root_of, pv_all, pv_enter, pv_remove, pv_startup } from './pmap_pv.ts';
import {
  pmap_index,
  pmap_nodes,
  pmap_pte,
  pte_change,
  pte_page,
  pte_word,
  table_free,
  table_make,
  table_of,
} from './pmap_table.ts';
import {
  super_demote,
  super_is,
  super_mapped,
  super_open,
  super_close,
  super_sampled,
  super_try,
} from './pmap_super.ts';
import {
  tlb_enter,
  tlb_fill,
  tlb_fill_super,
  tlb_flush,
  tlb_revoke,
  tlb_shoot,
  tlb_untag,
  tlb_wait,
} from './pmap_tlb.ts';
import { radix_end, radix_init, radix_next, radix_peek, radix_zone_create } from './vm_radix.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const mem = mem_;
const pmap = pmap_;
const pmap_root = pmap_root_;
const page = vm_page;
const PQ_CACHE = PQ_CACHE_;
const PQ_MASK = PQ_MASK_;

const Z_PMAPS = zone_declared('PMAP', 'Page tables of address spaces: where their indexes begin');
const Z_NODES = zone_declared('PMAP NODE', 'Nodes of the indexes of page tables');
const init = vector('pmap_zinit', (pm: pmap_t) => {
  mtx_init(pmap.lock, pm, LC_PMAP);
  return 0;
});

/** Makes the zones. */
export function pmap_startup(): void {
  const r = pmap_root_of();
  const flags = UMA_ZONE_NOFREE;
  pmap_root.zone[r] = uma_zcreate(Z_PMAPS, pmap.sizeof * 4, { init, flags, align: 63 });
  pmap_root.nodes[r] = radix_zone_create(Z_NODES);
  pv_startup();
}

// --- coming and going --------------------------------------------------------------------------

/** An empty pmap, the item on top of this CPU's hand. NULL: no memory. Never sleeps. */
export function pmap_pinit(): pmap_t {
  const pm = zone_alloc_hand(pmap_root.zone[pmap_root_of()] as zone_t, M_NOWAIT) as pmap_t;
  if (pm === NULL) return pm;
  checked_fresh(pm, pmap.sizeof);
  const { resident, wired, tables, table, supers, super_failed } = pmap;
  for (const f of [resident, wired, tables, table, supers, super_failed]) f[pm] = 0;
  pmap.table_key[pm] = -1;
  for (let i = 0; i < CPUSET_WORDS; i++) pmap.active[elem(pm, i)] = 0;
  radix_init(pmap_index(pm), pm + pmap.lock);
  checked_publish(pm);
  return pm;
}
/**
 * Ends a pmap that is the item on top of this CPU's hand, and by which nothing is mapped.
 * CPUs that have a set of tags for it lose that.
 */
export function pmap_release(pm: pmap_t): void {
  mtx_lock(pmap.lock, pm);
  if (pmap.resident[pm] !== 0) panic('pmap_release: pages are mapped', pm * 4, pmap.resident[pm]);
  tlb_revoke(pm);
  // A CPU that died between two sections may have left an empty table.
  for (let key = radix_next(pmap_index(pm), 0); key >= 0; key = radix_next(pmap_index(pm), 0)) {
    table_free(pm, key);
  }
  radix_end(pmap_index(pm), pmap_nodes());
  mtx_unlock(pmap.lock, pm);
  zone_free_at(pmap_root.zone[pmap_root_of()] as zone_t, pm, 0);
}

// --- mapping -----------------------------------------------------------------------------------

/**
 * Maps page m at page number `at`, in place of what was mapped there, with the rights in
 * `prot`, which includes VM_PROT_READ.  The caller has the page busy or its object locked; it is
 * not as good as free any more.  `access`, VM_PROT_READ or VM_PROT_WRITE, says that this CPU will
 * use it at once: its tag leads to it then, as after pmap_translate.  False: no memory for a table
 * or for the list of mappings; nothing has changed.
 */
export function pmap_enter(
  pm: pmap_t,
  at: number,
  m: number,
  prot: number,
  wired = false,
  access = 0,
): boolean {
  const pte =
    page_word(m) | PTE_VALID | (prot & VM_PROT_WRITE ? PTE_WRITE : 0) | (wired ? PTE_WIRED : 0);
  // Before, and not after: what is as good as free must not be written to, whoever dies here.
  if ((page.queue[m] & PQ_MASK) === PQ_CACHE) vm_page_activate(m);
  mtx_lock(pmap.lock, pm);
  const done = enter(pm, at, m, pte);
  if (done && (prot & access) !== 0) use(pm, at, pte, (access & VM_PROT_WRITE) !== 0);
  if (done) filled(pm, at);
  mtx_unlock(pmap.lock, pm);
  return done;
}
/** What is mapped at page number `at` has changed: perhaps its table is a superpage now. */
function filled(pm: pmap_t, at: number): void {
  const table = table_of(pm, at);
  if (page.state[table] === TABLE_ENTRIES) super_try(pm, at, table);
}
/**
 * The same of pages `ms`, one after another from page number `at` on, for the kernel: wired, and
 * this CPU will use them at once.  They are new.  Returns how many were mapped: the others for want
 * of memory were not.
 */
export function pmap_enter_kernel(
  pm: pmap_t,
  at: number,
  ms: readonly number[],
  prot: number,
): number {
  const bits = PTE_VALID | PTE_WIRED | (prot & VM_PROT_WRITE ? PTE_WRITE : 0);
  let n = 0;
  mtx_lock(pmap.lock, pm);
  for (; n < ms.length && enter(pm, at + n, ms[n], page_word(ms[n]) | bits); n++) {
    use(pm, at + n, page_word(ms[n]) | bits, true);
  }
  mtx_unlock(pmap.lock, pm);
  return n;
}
function enter(pm: pmap_t, at: number, m: number, pte: number): boolean {
  const table = table_make(pm, at);
  if (table === 0) return false;
  const w = pte_word(table, at);
  const old = mem.I32[w];
  if (old === pte) return true;
  const same = old !== 0 && pte_page(old) === m;
  if (old !== 0) super_demote(pm, at);
  if (!same && !pv_enter(m, pm, at)) {
    if (page.state[table] === 0) table_free(pm, at >>> TABLE_SHIFT);
    return false;
  }
  undo_begin(pmap.lock, pm);
  if (old !== 0) pte_change(pm, w, pte);
  else {
    save_word(w);
    save(page.state, table);
    save(pmap.resident, pm);
    page.state[table]++;
    pmap.resident[pm]++;
    if (pte & PTE_WIRED) {
      save(pmap.wired, pm);
      pmap.wired[pm]++;
    }
    mem.I32[w] = pte;
  }
  undo_end();
  if (old === 0 || (same && (old & ~pte & PTE_WRITE) === 0)) return true;
  tlb_shoot(pm, at, 1, same);
  if (!same) pv_remove(pte_page(old), pm, at);
  return true;
}
/** Entries that are made in one section. */
const ENTER_BATCH = 8;
/**
 * Maps the pages of a superpage, from page m on, at page number `at`, a multiple of 1024, for
 * reading.  They lie side by side, and the caller has the object of all of them locked.  False:
 * something is mapped there, or no memory; nothing has changed.
 */
export function pmap_enter_super(pm: pmap_t, at: number, m: number): boolean {
  mtx_lock(pmap.lock, pm);
  const table = table_make(pm, at);
  const done = table !== 0 && page.state[table] === 0 && enter_row(pm, at, m, table);
  if (table !== 0 && page.state[table] === 0) table_free(pm, at >>> TABLE_SHIFT);
  mtx_unlock(pmap.lock, pm);
  return done;
}
function enter_row(pm: pmap_t, at: number, m: number, table: number): boolean {
  for (let k = 0; k < TABLE_ENTRIES; k++) {
    if ((page.queue[m + k] & PQ_MASK) === PQ_CACHE) vm_page_activate(m + k);
    if (pv_enter(m + k, pm, at + k)) continue;
    for (let i = 0; i < k; i++) pv_remove(m + i, pm, at + i);
    return false;
  }
  const w = page_word(table);
  for (let k = 0; k < TABLE_ENTRIES; k += ENTER_BATCH) {
    undo_begin(pmap.lock, pm);
    save(page.state, table);
    save(pmap.resident, pm);
    page.state[table] += ENTER_BATCH;
    pmap.resident[pm] += ENTER_BATCH;
    for (let i = k; i < k + ENTER_BATCH; i++) {
      save_word(w + i);
      mem.I32[w + i] = page_word(m + i) | PTE_VALID;
    }
    undo_end();
  }
  super_mapped(pm, at, table);
  return true;
}
/** Whether a page may be mapped ahead at page number `at`: nothing is, and its table is there. */
export function pmap_is_prefaultable(pm: pmap_t, at: number): boolean {
  mtx_lock(pmap.lock, pm);
  const table = table_of(pm, at);
  const free = table !== 0 && mem.I32[pte_word(table, at)] === 0;
  mtx_unlock(pmap.lock, pm);
  return free;
}
/** The page that is mapped at page number `at`, 0: none. */
export function pmap_extract(pm: pmap_t, at: number): number {
  mtx_lock(pmap.lock, pm);
  const m = pte_page(pmap_pte(pm, at));
  mtx_unlock(pmap.lock, pm);
  return m;
}

/**
 * The pages that are mapped from page number `from` on without a gap, before `to` and in one table,
 * come into `ms`. How many: a list of that length at most.
 */
export function pmap_frames(pm: pmap_t, from: number, to: number, ms: Int32Array): number {
  mtx_lock(pmap.lock, pm);
  const table = table_of(pm, from);
  let n = 0;
  if (table !== 0) {
    const w = pte_word(table, from);
    const most = Math.min(to - from, TABLE_ENTRIES - (from & (TABLE_ENTRIES - 1)), ms.length);
    for (; n < most && mem.I32[w + n] !== 0; n++) ms[n] = pte_page(mem.I32[w + n]);
  }
  mtx_unlock(pmap.lock, pm);
  return n;
}
/**
 * An entry that is there is used by this CPU.  The pmap is locked.  True: so the page was not, or
 * not written to, since that was last cleared.
 */
function use(pm: pmap_t, at: number, pte: number, write: boolean): boolean {
  tlb_fill(pm, at, pte & ~PTE_FLAGS, write);
  const m = pte_page(pte);
  if ((page.flags[m] & PG_FICTITIOUS) !== 0) return false;
  const first = page.ref[m] === 0 || (write && page.mod[m] === 0);
  page.ref[m] = 1;
  if (write) page.mod[m] = 1;
  if (super_is(pm, at)) use_super(pm, at, write);
  return first;
}
/** The superpage around it is, and has a tag. */
function use_super(pm: pmap_t, at: number, write: boolean): void {
  const table = table_of(pm, at);
  page.ref[table] = 1;
  tlb_fill_super(pm, at >>> TABLE_SHIFT, mem.I32[page_word(table)] & ~PTE_FLAGS, write);
}
/**
 * Whether pmap_translate would find nothing, as far as that can be seen without the lock: the
 * table that was used last has no such entry.  Wrong at times: then a fault finds the page.
 */
export function pmap_absent(pm: pmap_t, at: number, write: boolean): boolean {
  if (pmap.table_key[pm] !== at >>> TABLE_SHIFT) return false;
  const need = write ? PTE_VALID | PTE_WRITE : PTE_VALID;
  return (mem.I32[pte_word(pmap.table[pm], at)] & need) !== need;
}
/**
 * What an access does whose tag is not there: the frame of page number `at`, and this CPU's
 * tag leads to it.  It is noted at the page that it was used, or written to.  0: nothing is
 * mapped there, or not for that; -1: no memory for a set of tags.  The caller holds no lock.
 */
export function pmap_translate(pm: pmap_t, at: number, write: boolean): number {
  poll();
  if (!tlb_enter(pm)) return -1;
  const need = write ? PTE_VALID | PTE_WRITE : PTE_VALID;
  mtx_lock(pmap.lock, pm);
  const pte = pmap_pte(pm, at);
  const found = (pte & need) === need;
  const frame = found ? pte & ~PTE_FLAGS : 0;
  if (found && use(pm, at, pte, write)) filled(pm, at);
  mtx_unlock(pmap.lock, pm);
  return frame;
}

// --- taking away -------------------------------------------------------------------------------

/** Calls `each` with every entry in a range of page numbers, and its word. Locked. */
function ptes(
  pm: pmap_t,
  from: number,
  to: number,
  each: (at: number, pte: number, w: number, table: number) => void,
): void {
  const t = pmap_index(pm);
  const last = (to - 1) >>> TABLE_SHIFT;
  if (from >>> TABLE_SHIFT === last) {
    const table = table_of(pm, from);
    if (table !== 0) ptes_of_table(table, last * TABLE_ENTRIES, from, to, each);
    return;
  }
  for (let key = radix_next(t, from >>> TABLE_SHIFT); key >= 0 && key <= last; ) {
    ptes_of_table(Math.abs(radix_peek(t, key)), key * TABLE_ENTRIES, from, to, each);
    key = key === last ? -1 : radix_next(t, key + 1);
  }
}
/** The same in one table, whose first entry is that of page number `first`. */
function ptes_of_table(
  table: number,
  first: number,
  from: number,
  to: number,
  each: (at: number, pte: number, w: number, table: number) => void,
): void {
  const end = Math.min(to - first, TABLE_ENTRIES);
  for (let i = Math.max(from - first, 0); i < end; i++) {
    const w = page_word(table) + i;
    const pte = mem.I32[w];
    if (pte !== 0) each(first + i, pte, w, table);
  }
}
/** Takes away what is mapped from page number `from` to before `to`. Waits for nobody. */
export function pmap_remove(pm: pmap_t, from: number, to: number): void {
  if (pmap.resident[pm] === 0 && pmap.tables[pm] === 0) return; // only users of the map map
  mtx_lock(pmap.lock, pm);
  super_open(pm, from, to);
  const gone: number[] = [];
  const empty: number[] = [];
  ptes(pm, from, to, (at, pte, w, table) => {
    clear(pm, w, table);
    gone.push(at, pte_page(pte));
    if (page.state[table] === 0) empty.push(at >>> TABLE_SHIFT);
  });
  if (gone.length > 0) shoot_and_forget(pm, gone);
  for (const key of empty) table_free(pm, key);
  mtx_unlock(pmap.lock, pm);
}
/** Clears one entry. */
function clear(pm: pmap_t, w: number, table: number): void {
  undo_begin(pmap.lock, pm);
  pte_change(pm, w, mem.I32[w] & ~PTE_WIRED);
  save(page.state, table);
  save(pmap.resident, pm);
  page.state[table]--;
  pmap.resident[pm]--;
  mem.I32[w] = 0;
  undo_end();
}
/** Takes the translations of entries back that were cleared, pairs of page number and page. */
function shoot_and_forget(pm: pmap_t, gone: readonly number[]): void {
  const first = gone[0];
  tlb_shoot(pm, first, gone[gone.length - 2] - first + 1);
  for (let i = 0; i < gone.length; i += 2) pv_remove(gone[i + 1], pm, gone[i]);
}

/**
 * Leaves no right in a range but those in `prot`: without VM_PROT_READ what is mapped there
 * is taken away.  Where the right to write goes, it waits until every CPU has answered, at most
 * `ms`, so that no store is under way afterwards.  Returns -1; else the CPU that is silent,
 * and nothing has changed.
 */
export function pmap_protect(
  pm: pmap_t,
  from: number,
  to: number,
  prot: number,
  ms: number,
): number {
  if ((prot & VM_PROT_READ) === 0) {
    pmap_remove(pm, from, to);
    return -1;
  }
  if (prot & VM_PROT_WRITE) return -1;
  const cut = pmap_cut_begin(pm);
  pmap_cut(cut, from, to);
  return pmap_cut_end(cut, ms);
}
/** Several ranges of one pmap that lose the right to write at the same moment. */
export interface Cut {
  readonly pm: pmap_t;
  /** Words of the entries that lost it. */
  readonly changed: number[];
  /** Superpages that lost it as a whole. */
  readonly supers: number[];
}
/** Begins to take the right to write away; the pmap is locked until pmap_cut_end. */
export function pmap_cut_begin(pm: pmap_t): Cut {
  mtx_lock(pmap.lock, pm);
  return { pm, changed: [], supers: [] };
}
/** Takes the right to write away from page number `from` to before `to`. */
export function pmap_cut({ pm, changed, supers }: Cut, from: number, to: number): void {
  const before = changed.length;
  supers.push(...super_open(pm, from, to));
  if (from >>> TABLE_SHIFT === (to - 1) >>> TABLE_SHIFT) {
    const table = table_of(pm, from);
    const first = pte_word(table, from);
    const last = table === 0 ? first : first + to - from;
    for (let w = first; w < last; w++) if (mem.I32[w] & PTE_WRITE) changed.push(w);
  } else {
    ptes(pm, from, to, (_at, pte, w) => {
      if (pte & PTE_WRITE) changed.push(w);
    });
  }
  for (let i = before; i < changed.length; i += CUT_BATCH) {
    const end = Math.min(i + CUT_BATCH, changed.length);
    undo_begin(pmap.lock, pm);
    for (let k = i; k < end; k++) {
      save_word(changed[k]);
      mem.I32[changed[k]] &= ~PTE_WRITE;
    }
    undo_end();
  }
}
/** Entries that lose the right to write in one section. */
const CUT_BATCH = 8;
function write_set(pm: pmap_t, w: number, on: boolean): void {
  undo_begin(pmap.lock, pm);
  save_word(w);
  mem.I32[w] = on ? mem.I32[w] | PTE_WRITE : mem.I32[w] & ~PTE_WRITE;
  undo_end();
}
/**
 * Asks all CPUs once, and keeps the pmap locked until they have answered: so a store comes
 * either before the moment at which none may write, or after this.  Returns -1; else the
 * CPU that was silent for `ms`, and all rights are as before, or with `keep` are gone.
 */
export function pmap_cut_end({ pm, changed, supers }: Cut, ms: number, keep = false): number {
  if (changed.length > 0) tlb_shoot(pm, 0, TABLE_ENTRIES, true);
  // A store by a right that somebody took before, without waiting, may be under way, too.
  const silent = tlb_wait(pm, ms);
  if (silent >= 0 && !keep) for (const w of changed) write_set(pm, w, true);
  super_close(pm, supers);
  mtx_unlock(pmap.lock, pm);
  return silent;
}

/** The first `n` mappings from page number `from` on that are not wired: page number and page. */
export function pmap_mapped(pm: pmap_t, from: number, n: number): { at: number; m: number }[] {
  const found: { at: number; m: number }[] = [];
  mtx_lock(pmap.lock, pm);
  const t = pmap_index(pm);
  for (let key = radix_next(t, from >>> TABLE_SHIFT); key >= 0; key = radix_next(t, key + 1)) {
    const first = key * TABLE_ENTRIES;
    const table = page_word(Math.abs(radix_peek(t, key)));
    for (let i = Math.max(from - first, 0); i < TABLE_ENTRIES && found.length < n; i++) {
      const pte = mem.I32[table + i];
      if (pte !== 0 && (pte & PTE_WIRED) === 0) found.push({ at: first + i, m: pte_page(pte) });
    }
    if (found.length === n) break;
  }
  mtx_unlock(pmap.lock, pm);
  return found;
}
/**
 * Takes away what is mapped at page number `at` if it is page m, and not wired.  Waits for nobody.
 * False: it is not.
 */
export function pmap_remove_page(pm: pmap_t, at: number, m: number): boolean {
  mtx_lock(pmap.lock, pm);
  const pte = pmap_pte(pm, at);
  const is = pte !== 0 && pte_page(pte) === m && (pte & PTE_WIRED) === 0;
  if (is) {
    forget(pm, at, m, pte_word(table_of(pm, at), at));
  }
  mtx_unlock(pmap.lock, pm);
  return is;
}
/** Takes one mapping away, the entry at word w. Locked. */
function forget(pm: pmap_t, at: number, m: number, w: number): void {
  const table = table_of(pm, at);
  super_demote(pm, at);
  clear(pm, w, table);
  shoot_and_forget(pm, [at, m]);
  if (page.state[table] === 0) table_free(pm, at >>> TABLE_SHIFT);
}

// --- by page -----------------------------------------------------------------------------------

/** Calls `each` for every mapping of a page, with its pmap locked. False of `each`: it is over. */
function mappings(m: number, each: (pm: pmap_t, at: number, pte: number, w: number) => void): void {
  for (const { pm, at } of pv_all(m)) {
    mtx_lock(pmap.lock, pm);
    const table = table_of(pm, at);
    const w = table === 0 ? 0 : pte_word(table, at);
    const pte = w === 0 ? 0 : mem.I32[w];
    if (pte !== 0 && pte_page(pte) === m) each(pm, at, pte, w);
    else pv_remove(m, pm, at); // what a dead CPU left on the list
    mtx_unlock(pmap.lock, pm);
  }
}
/** Takes page m away from whoever maps it. Waits for nobody. The page is the caller's. */
export function pmap_remove_all(m: number): void {
  while (page.map_pmap[m] !== NULL) {
    mappings(m, (pm, at, _pte, w) => forget(pm, at, m, w));
  }
}
/**
 * Takes the right to write to page m away from whoever maps it, and waits for the answers, at
 * most `ms` for each mapping.  Returns -1, or the CPU that is silent: a store of its may be
 * under way.
 */
export function pmap_remove_write(m: number, ms: number): number {
  let silent = -1;
  mappings(m, (pm, at, pte, w) => {
    if (pte & PTE_WRITE) {
      super_demote(pm, at);
      write_set(pm, w, false);
      tlb_shoot(pm, at, 1, true);
    }
    const cpu = tlb_wait(pm, ms);
    if (cpu >= 0) silent = cpu;
  });
  return silent;
}
/**
 * The same of several pages, which stay the caller's: where the mapping of each is its only one,
 * and those are of one pmap, that is locked once, and all CPUs are waited for once.
 */
export function pmap_remove_write_all(pages: readonly number[], ms: number): number {
  let silent = -1;
  for (let k = 0; k < pages.length; ) {
    const pm = page.map_pmap[pages[k]] as pmap_t;
    if (pm === NULL) {
      k++;
      continue;
    }
    mtx_lock(pmap.lock, pm);
    const end = remove_write_some(pm, pages, k);
    const cpu = end > k ? tlb_wait(pm, ms) : -1;
    mtx_unlock(pmap.lock, pm);
    const by_list = end > k ? cpu : pmap_remove_write(pages[k], ms);
    if (by_list >= 0) silent = by_list;
    k = Math.max(end, k + 1);
  }
  return silent;
}
/**
 * Of pages from number k on whose only mapping is one of this pmap, which is locked. Returns behind
 * the last of them.  Nobody maps them anew, so what is the only mapping stays so until it goes.
 */
function remove_write_some(pm: pmap_t, pages: readonly number[], k: number): number {
  let [first, n] = [0, 0]; // what is to be taken back
  let i = k;
  for (; i < pages.length; i++) {
    const m = pages[i];
    const at = page.map_page[m];
    if (page.map_pmap[m] !== pm || page.map_more[m] !== 0) break;
    const table = table_of(pm, at);
    const w = table === 0 ? 0 : pte_word(table, at);
    const pte = w === 0 ? 0 : mem.I32[w];
    if (pte === 0 || pte_page(pte) !== m) break;
    if ((pte & PTE_WRITE) === 0) continue;
    super_demote(pm, at);
    write_set(pm, w, false);
    if (n > 0 && at === first + n) n++;
    else {
      if (n > 0) tlb_shoot(pm, first, n, true);
      [first, n] = [at, 1];
    }
  }
  if (n > 0) tlb_shoot(pm, first, n, true);
  return i;
}
/** Whether page m was used since that was last asked. Its tags go, so that use is noted again. */
export function pmap_ts_referenced(m: number): boolean {
  let used = page.ref[m] !== 0;
  if (!used && !may_be_super(m)) return false;
  page.ref[m] = 0;
  const noted = used;
  mappings(m, (pm, at) => {
    if (noted) tlb_untag(pm, at);
    if (super_is(pm, at) && super_sampled(pm, at, table_of(pm, at))) used = true;
  });
  return used;
}
/** Whether some mapping of a page may be part of a superpage: then its use is noted there. */
function may_be_super(m: number): boolean {
  const pm = page.map_pmap[m] as pmap_t;
  return pm !== NULL && (pmap.supers[pm] !== 0 || page.map_more[m] !== 0);
}
/** Whether page m was written to since pmap_clear_modify. */
export function pmap_is_modified(m: number): boolean {
  return page.mod[m] !== 0;
}
/** From here on a write to page m is noted anew; one that is under way may not be. */
export function pmap_clear_modify(m: number): void {
  page.mod[m] = 0;
  mappings(m, (pm, at, pte) => {
    if (pte & PTE_WRITE) super_demote(pm, at);
    tlb_shoot(pm, at, 1, true);
  });
}
/** Wires a mapping, or ends that; nothing else of it changes. */
export function pmap_change_wiring(pm: pmap_t, at: number, wired: boolean): void {
  mtx_lock(pmap.lock, pm);
  const pte = pmap_pte(pm, at);
  if (pte !== 0 && ((pte & PTE_WIRED) !== 0) !== wired) {
    super_demote(pm, at);
    undo_begin(pmap.lock, pm);
    pte_change(pm, pte_word(table_of(pm, at), at), pte ^ PTE_WIRED);
    undo_end();
    filled(pm, at);
  }
  mtx_unlock(pmap.lock, pm);
}

// --- deaths ------------------------------------------------------------------------------------

/** After a death under the lock at word `l`, whose section was played back. */
export function pmap_recover(l: number): void {
  const pm = (l - pmap.lock) as pmap_t;
  pmap.table_key[pm] = -1;
  tlb_flush(pm);
}
