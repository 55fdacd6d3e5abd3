/*
 * vm_loan_check: proves all loans of a quiet machine.
 *
 * Of each: it is on the list once; its thread lives, or it is storage, or an object shows it; all
 * its pages are lent.  Of each page: it is lent as often as loans have it; it is an object's, which
 * leads to it, or of kind PK_LOAN, and then no object does, and it is on no queue and mapped only
 * by objects that show a loan; no translation allows to write to it.  All of it is counted, and the
 * zone has no other items.
 */
import { tid_alive } from '../machine/death.ts';
import { panic } from '../machine/panic.ts';
import { checked_quiet } from '../machine/parts.ts';
import { elem, NULL } from '../machine/struct.ts';
import { PTE_WRITE, pmap, type pmap_t } from '../h/pmap.ts';
import type { zone_t } from '../h/uma.ts';
import { vm_loan, vm_loan_root, type vm_loan_t } from '../h/vm_loan.ts';
import { vm_object, type vm_object_t } from '../h/vm_object.ts';
import { PK_LOAN, PK_MASK, PK_OBJECT, vm_page } from '../h/vm_page.ts';
import { PQ_NONE, page_queue, vm_page_held, vm_page_loans } from '../page/vm_pageq.ts';
import { phys_root, vm_phys } from '../page/vm_phys.ts';
import { object_page } from '../object/vm_object_page.ts';
import { pmap_pte, pte_page } from '../pmap/pmap_table.ts';
import { pv_all } from '../pmap/pmap_pv.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { zone_present } from '../uma/uma_stats.ts';
import { loan_root } from './vm_loan.ts';

const loan = vm_loan;
const root = vm_loan_root;
const page = vm_page;

/** Every loan, newest first. */
export function loans_all(): vm_loan_t[] {
  const all: vm_loan_t[] = [];
  let prev = NULL as vm_loan_t;
  for (let l = root.first[loan_root()]; l !== NULL; l = loan.next[l]) {
    if (loan.prev[l] !== prev) panic('vm_loan_check: link back', l * 4);
    all.push(l);
    prev = l;
  }
  const count = root.count[loan_root()];
  if (all.length !== count) panic('vm_loan_check: loans', all.length, count);
  return all;
}
/** The proof. */
export function vm_loan_check(): void {
  const r = loan_root();
  mtx_lock(root.lock, r); // what a dead thread left half done is undone
  mtx_unlock(root.lock, r);
  checked_quiet(true);
  const lent = new Map<number, number>();
  const shown = new Set<number>();
  let pages = 0;
  for (const l of loans_all()) {
    const tid = loan.tid[l];
    const o = loan.object[l];
    if (tid === 0 && loan.refs[l] === 0 && o === NULL) panic('vm_loan_check: nobody has it', l * 4);
    if (o !== NULL && vm_object.loan[o] !== l) panic('vm_loan_check: its object', l * 4, o * 4);
    if (tid !== 0 && !tid_alive(tid)) panic('vm_loan_check: of a dead thread', l * 4, tid);
    if (loan.wired[l] !== loan.pages[l]) panic('vm_loan_check: not lent yet', l * 4, loan.wired[l]);
    pages += loan.pages[l];
    for (let k = 0; k < loan.pages[l]; k++) {
      const m = loan.frames[elem(l, k)];
      lent.set(m, (lent.get(m) ?? 0) + 1);
      if (o !== NULL) shown.add(m);
    }
  }
  if (pages !== root.pages[r]) panic('vm_loan_check: pages', root.pages[r], pages);
  const used = zone_present(root.zone[r] as zone_t).used;
  if (used !== root.count[r]) panic('vm_loan_check: items', used, root.count[r]);
  checked_quiet(false);
  const ph = phys_root();
  for (let m = vm_phys.low[ph]; m < vm_phys.high[ph]; m++) {
    const n = lent.get(m) ?? 0;
    if (vm_page_loans(m) !== n) panic('vm_loan_check: borrowers', m, vm_page_loans(m), n);
    if (n > 0) page_check(m, shown.has(m));
    else if ((page.info[m] & PK_MASK) === PK_LOAN) panic('vm_loan_check: lent to nobody', m);
  }
}
/** `shown`: an object shows it by a loan. */
function page_check(m: number, shown: boolean): void {
  const kind = page.info[m] & PK_MASK;
  const o = page.owner[m] as vm_object_t;
  if (kind !== PK_OBJECT && kind !== PK_LOAN) panic('vm_loan_check: lent, of kind', m, kind);
  if (vm_page_held(m) < 0) panic('vm_loan_check: lent and not wired', m, page.wired[m]);
  if (kind === PK_LOAN && page_queue(m) !== PQ_NONE) panic('vm_loan_check: on a queue', m);
  if (page.busy[m] !== 0) panic('vm_loan_check: lent and busy', m, page.busy[m]);
  const mapped = kind === PK_LOAN && page.map_pmap[m] !== NULL;
  if (mapped && !shown) panic('vm_loan_check: mapped', m);
  mtx_lock(vm_object.lock, o);
  const found = object_page(o, page.index[m]) === m;
  mtx_unlock(vm_object.lock, o);
  if (found !== (kind === PK_OBJECT)) panic('vm_loan_check: owned twice, or by nobody', m, o * 4);
  for (const { pm, at } of pv_all(m)) writable_check(m, pm, at);
}
/** No translation lets anybody write to a lent page. */
function writable_check(m: number, pm: pmap_t, at: number): void {
  mtx_lock(pmap.lock, pm);
  const pte = pmap_pte(pm, at);
  mtx_unlock(pmap.lock, pm);
  if (pte_page(pte) === m && pte & PTE_WRITE) panic('vm_loan_check: written to', m, at);
}
