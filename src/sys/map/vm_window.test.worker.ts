/*
 * The worker of vm_window_smp.slow.test.ts: stores to its own pages of a space that others use,
 * too, by addresses and through windows that show the pages of others as well, and tries to take
 * away what is under windows.  Its pages lie between those of others, so that a window of another
 * one moves them.
 */
import { attach, detach } from '../boot/whole.ts';
import { atomic_add, atomic_load } from '../machine/atomic.ts';
import { EBUSY, EFAULT, ENOMEM, ETIMEDOUT } from '../machine/errno.ts';
import { mem, PAGE_WORDS, page_word } from '../machine/memory.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { run_job } from '../machine/workers.test.lib.ts';
import { KERN_BUSY, KERN_FAILURE, KERN_RESOURCE_SHORTAGE, KERN_SUCCESS } from '../h/vm_map.ts';
import { vm_window, type vm_window_t } from '../h/vm_window.ts';
import { done_word, map_at, stop_word } from './vm_map.test.lib.ts';
import {
  FIRST,
  space_map,
  space_protect,
  space_read,
  space_unmap,
  space_write,
  WINDOW,
} from './vm_space.test.lib.ts';
import { vm_window_close, vm_window_open } from './vm_window.ts';

const BATCH = 16;
const R = 1;
const RW = 3;
/** The most pages of a window. */
const WIDE = 9;
const OPEN = 3;

interface Part {
  seed: number;
  /** Which of the pages are its own: i % of === part. */
  part: number;
  of: number;
}
type Draw = (n: number) => number;
interface Own {
  readonly draw: Draw;
  readonly mine: (i: number) => boolean;
  readonly pages: readonly number[];
  /** What each of its pages holds. */
  readonly holds: Map<number, number>;
  readonly open: vm_window_t[];
  opened: number;
}
function churn({ seed, part, of }: Part): { n: number; opened: number } {
  const mine = (i: number): boolean => i % of === part;
  const pages = Array.from({ length: WINDOW }, (_, i) => i).filter(mine);
  const own: Own = { draw: dice(seed), mine, pages, holds: new Map(), open: [], opened: 0 };
  for (const i of pages) {
    // What one who died has left there is unknown.
    if (space_unmap(0, i, 1) === KERN_SUCCESS) map(i);
    else until_writable(own, i);
    write(own, i);
  }
  let n = 0;
  for (; atomic_load(stop_word()) === 0; n++) {
    step(own);
    if (n % BATCH === 0) atomic_add(done_word(), BATCH);
  }
  for (const i of pages) look(own, i);
  for (const w of own.open) vm_window_close(w);
  for (const i of pages) look(own, i);
  return { n, opened: own.opened };
}
/** Maps a page of its own anew, however often there is no memory. */
function map(i: number): void {
  for (;;) {
    const result = space_map(0, i, 1);
    if (result === KERN_SUCCESS) return;
    if (result !== KERN_RESOURCE_SHORTAGE) throw new Error(`map of page ${i}: ${result}`);
  }
}
function step(own: Own): void {
  const { draw } = own;
  const what = draw(100);
  const i = own.pages[draw(own.pages.length)];
  if (what < 30) write(own, i);
  else if (what < 50) look(own, i);
  else if (what < 65) open(own);
  else if (what < 80) use(own);
  else if (what < 93) close(own);
  else if (what < 96) protect(own, i);
  else unmap(own, i);
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
const REFUSED = [-EFAULT, -EBUSY, -ENOMEM, -ETIMEDOUT];
function open(own: Own): void {
  if (own.open.length >= OPEN) return;
  const n = 1 + own.draw(WIDE);
  const first = FIRST + own.draw(WINDOW - n + 1);
  const got = vm_window_open(map_at(0), first, first + n, own.draw(3) === 0 ? R : RW);
  if (got > 0) {
    own.open.push(got as vm_window_t);
    own.opened++;
  } else if (!REFUSED.includes(got)) throw new Error(`open: ${got}`);
}
function close(own: Own): void {
  if (own.open.length === 0) return;
  const [w] = own.open.splice(own.draw(own.open.length), 1);
  vm_window_close(w);
}
/** All of its own pages that a window shows: looked at, stored to, by address and through it. */
function use(own: Own): void {
  if (own.open.length === 0) return;
  const w = own.open[own.draw(own.open.length)];
  const first = vm_window.start[w] - FIRST;
  for (let k = 0; k < vm_window.pages[w]; k++) {
    const i = first + k;
    if (!own.mine(i)) continue;
    const at = page_word(vm_window.frame[w] + k);
    for (const word of [at, at + PAGE_WORDS - 1]) {
      const want = own.holds.get(i);
      if (mem.I32[word] !== want)
        throw new Error(`page ${i}: window ${mem.I32[word]}, not ${want}`);
    }
    if (vm_window.prot[w] === R) {
      write(own, i);
      continue;
    }
    const value = 1 + own.draw(2 ** 30);
    mem.I32[at] = value;
    mem.I32[at + PAGE_WORDS - 1] = value;
    own.holds.set(i, value);
    look(own, i);
  }
}
function unmap(own: Own, i: number): void {
  const result = space_unmap(0, i, 1);
  if (result === KERN_SUCCESS) {
    map(i);
    own.holds.set(i, 0);
  } else if (result !== KERN_BUSY && result !== KERN_RESOURCE_SHORTAGE) {
    throw new Error(`unmap of page ${i}: ${result}`);
  } else look(own, i);
}
function protect(own: Own, i: number): void {
  const result = space_protect(0, i, 1, R);
  look(own, i);
  if (result === KERN_SUCCESS) until_writable(own, i);
  else if (![KERN_BUSY, KERN_FAILURE, KERN_RESOURCE_SHORTAGE].includes(result)) {
    throw new Error(`protect of page ${i}: ${result}`);
  }
}
/**
 * Not while a window reads the page as one that nobody writes to: two threads may wait for this.
 */
function until_writable(own: Own, i: number): void {
  for (;;) {
    const result = space_protect(0, i, 1, RW);
    if (result === KERN_SUCCESS) return;
    if (result === KERN_BUSY) while (own.open.length > 0) close(own);
    else if (result !== KERN_FAILURE && result !== KERN_RESOURCE_SHORTAGE) {
      throw new Error(`protect of page ${i}: ${result}`);
    }
  }
}

run_job<Part>((_job, part) => churn(part), { join: attach, leave: () => void detach() });
