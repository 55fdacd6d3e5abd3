/*
 * The worker of vm_loan_smp.slow.test.ts: stores to its own pages of a space that others use, too,
 * and lends pages, its own and those of others.  What a loan showed first it shows until it is
 * given back; of its own pages that is what it stored.  It unmaps pages that are lent, opens
 * windows onto them, and leaves loans to storage.  It maps loans beside the pages that all use, and
 * finds there what was lent, until it stores to that.
 */
import { attach, detach } from '../boot/whole.ts';
import { atomic_add, atomic_load } from '../machine/atomic.ts';
import { EBUSY, EFAULT, ENOMEM } from '../machine/errno.ts';
import { mem, PAGE_SIZE, PAGE_WORDS, page_word } from '../machine/memory.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { run_job } from '../machine/workers.test.lib.ts';
import { NULL } from '../machine/struct.ts';
import { KERN_BUSY, KERN_RESOURCE_SHORTAGE, KERN_SUCCESS, MAP_COPY_ON_WRITE } from '../h/vm_map.ts';
import { LOAN_PAGES, type vm_loan_t } from '../h/vm_loan.ts';
import type { vm_window_t } from '../h/vm_window.ts';
import { loan_frames, vm_loan, vm_loan_drop, vm_loan_refer, vm_unloan } from './vm_loan.ts';
import { vm_object_deallocate } from '../object/vm_object.ts';
import { fuword } from './vm_copy.ts';
import { vm_loan_adopt, vm_loan_again, vm_loan_object } from './vm_loan_object.ts';
import { vm_map_fixed } from './vm_map_insert.ts';
import { done_word, map_at, stop_word } from './vm_map.test.lib.ts';
import {
  FIRST,
  space_map,
  space_read,
  space_unmap,
  space_write,
  WINDOW,
} from './vm_space.test.lib.ts';
import { vm_window_close, vm_window_open } from './vm_window.ts';

const BATCH = 16;
const LOANS = 4;
const WIDE = 40;

interface Part {
  seed: number;
  /** Which of the pages are its own: i % of === part. */
  part: number;
  of: number;
}
interface Lent {
  readonly loans: readonly vm_loan_t[];
  /** First and last word of each page. */
  readonly showed: readonly number[];
}
interface Own extends Part {
  readonly draw: (n: number) => number;
  readonly pages: readonly number[];
  /** What each of its pages holds. */
  readonly holds: Map<number, number>;
  readonly lent: Lent[];
  /** What pages hold that show a loan. */
  shown: number[];
  made: number;
}
function words(loans: readonly vm_loan_t[]): number[] {
  return loans.flatMap(loan_frames).flatMap((m) => {
    const w = page_word(m);
    return [mem.I32[w], mem.I32[w + PAGE_WORDS - 1]];
  });
}
function churn({ seed, part, of }: Part): { n: number; made: number } {
  const pages = Array.from({ length: WINDOW }, (_, i) => i).filter((i) => i % of === part);
  const draw = dice(seed);
  const own: Own = { seed, part, of, draw, pages, holds: new Map(), lent: [], shown: [], made: 0 };
  for (const i of pages) {
    map(i); // what one who died has left there is unknown
    write(own, i);
  }
  let n = 0;
  for (; atomic_load(stop_word()) === 0; n++) {
    step(own);
    if (n % BATCH === 0) atomic_add(done_word(), BATCH);
  }
  while (own.lent.length > 0) give_back(own);
  for (const i of pages) look(own, i);
  return { n, made: own.made };
}
function step(own: Own): void {
  const { draw } = own;
  const what = draw(100);
  const i = own.pages[draw(own.pages.length)];
  if (what < 35) write(own, i);
  else if (what < 50) look(own, i);
  else if (what < 66) lend(own);
  else if (what < 76) give_back(own);
  else if (what < 80) show(own);
  else if (what < 85) look_shown(own);
  else if (what < 93) window(own, i);
  else unmap(own, i);
}
/** Maps a page of its own anew, however often there is no memory, or a window is there. */
function map(i: number): void {
  for (;;) {
    const result = space_map(0, i, 1);
    if (result === KERN_SUCCESS) return;
    if (result !== KERN_RESOURCE_SHORTAGE && result !== KERN_BUSY) {
      throw new Error(`map of page ${i}: ${result}`);
    }
  }
}
function write(own: Own, i: number): void {
  const value = 1 + own.draw(2 ** 30);
  const error = space_write(0, i, value);
  if (error !== 0) throw new Error(`write to page ${i}: errno ${error}`);
  own.holds.set(i, value);
}
function look(own: Own, i: number): void {
  const got = space_read(0, i);
  if (got !== own.holds.get(i)) throw new Error(`page ${i} holds ${got}, not ${own.holds.get(i)}`);
}
function lend(own: Own): void {
  if (own.lent.length >= LOANS) return give_back(own);
  const n = 1 + own.draw(WIDE);
  const first = own.draw(WINDOW - n + 1);
  const loans: vm_loan_t[] = [];
  const error = vm_loan(map_at(0), FIRST + first, FIRST + first + n, loans);
  if (error !== 0) {
    if (![EBUSY, EFAULT, ENOMEM].includes(error)) throw new Error(`lend: errno ${error}`);
    return;
  }
  const showed = words(loans);
  for (let k = 0; k < n; k++) {
    const i = first + k;
    if (i % own.of !== own.part) continue;
    const want = own.holds.get(i);
    if (showed[k * 2] !== want || showed[k * 2 + 1] !== want) {
      throw new Error(`page ${i} was lent as ${showed[k * 2]}, and holds ${want}`);
    }
  }
  own.lent.push({ loans, showed });
  own.made++;
}
/** Where in the space a thread maps what was lent. */
const SHOWN = WINDOW + 20;
/** Pages of a loan that it holds are mapped, in place of those of another one. */
function show(own: Own): void {
  const [at] = own.lent;
  if (at === undefined) return;
  if (own.draw(4) === 0) vm_loan_adopt();
  const l = at.loans[0];
  const made: vm_loan_t[] = [];
  const error = vm_loan_again([l], made);
  if (error === ENOMEM) return;
  if (error !== 0) throw new Error(`lend again: errno ${error}`);
  const object = vm_loan_object(made[0]);
  if (object === NULL) return vm_unloan(made[0]);
  const n = loan_frames(l).length;
  const rights = { protection: 3, max_protection: 3, cow: MAP_COPY_ON_WRITE };
  const first = FIRST + SHOWN + own.part * LOAN_PAGES;
  const what = { object, offset: 0, ...rights };
  const got = vm_map_fixed(map_at(0), first, first + n, what);
  if (got !== KERN_SUCCESS) {
    vm_object_deallocate(object);
    if (got !== KERN_RESOURCE_SHORTAGE) throw new Error(`map of a loan: ${got}`);
    return;
  }
  for (let k = 0; k < n; k++) own.shown[k] = at.showed[k * 2 + 1];
}
function look_shown(own: Own): void {
  if (own.shown.length === 0) return;
  const k = own.draw(own.shown.length);
  const i = SHOWN + own.part * LOAN_PAGES + k;
  const got = fuword(map_at(0), (FIRST + i + 1) * PAGE_SIZE - 4);
  if (got !== own.shown[k]) throw new Error(`page ${k} that was lent: ${got}, ${own.shown[k]}`);
  if (own.draw(3) !== 0) return;
  const value = 1 + own.draw(2 ** 30);
  const error = space_write(0, i, value);
  if (error !== 0) throw new Error(`write to a page that was lent: errno ${error}`);
  own.shown[k] = value;
}
function give_back(own: Own): void {
  if (own.lent.length === 0) return;
  const [{ loans, showed }] = own.lent.splice(own.draw(own.lent.length), 1);
  const now = words(loans);
  const k = now.findIndex((value, at) => value !== showed[at]);
  if (k >= 0) throw new Error(`page ${k >> 1} of a loan showed ${showed[k]}, and shows ${now[k]}`);
  const storage = own.draw(2) === 0;
  for (const l of loans) {
    if (storage) vm_loan_refer(l);
    vm_unloan(l);
    if (storage) vm_loan_drop(l);
  }
}
/** Stores to a page of its own through a window, which breaks loans of it. */
function window(own: Own, i: number): void {
  const w = vm_window_open(map_at(0), FIRST + i, FIRST + i + 1, 3);
  if (w < 0) {
    if (![-EBUSY, -ENOMEM].includes(w)) throw new Error(`window: ${w}`);
    return;
  }
  const value = 1 + own.draw(2 ** 30);
  space_write(0, i, value);
  own.holds.set(i, value);
  vm_window_close(w as vm_window_t);
  look(own, i);
}
function unmap(own: Own, i: number): void {
  const result = space_unmap(0, i, 1);
  if (result === KERN_SUCCESS) {
    map(i);
    own.holds.set(i, 0);
  } else if (result !== KERN_BUSY && result !== KERN_RESOURCE_SHORTAGE) {
    throw new Error(`unmap of page ${i}: ${result}`);
  }
}

run_job<Part>((_job, part) => churn(part), { join: attach, leave: () => void detach() });
