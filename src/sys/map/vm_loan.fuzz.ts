/*
 * Driver: loans of pages of address spaces, beside a model of what is mapped and what was lent.
 *
 * The model of a space is an array of pages, each with what it holds and what may be done with it;
 * of a loan it is what its pages held when they were lent.  Whatever is done to a space afterwards,
 * through addresses, forks, windows, unmapping or its end, the borrower sees that and nothing else.
 * Loans are held by the thread, by storage, or by both, are mapped in spaces, and go in any
 * order.  Now and then a CPU
 * owes an answer that it does not give: then the loan is of copies.
 */
import { atomic_and, atomic_or } from '../machine/atomic.ts';
import { CPU_FREE, CPU_PARKED, CPU_REQ_TLB, cpu_state_word, thr } from '../machine/cpu.ts';
import { EBUSY, EFAULT, ENOMEM } from '../machine/errno.ts';
import { mem, PAGE_WORDS, page_word } from '../machine/memory.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { tlb_asked } from '../machine/tlb_ack.ts';
import { NULL } from '../machine/struct.ts';
import {
  KERN_BUSY,
  KERN_FAILURE,
  KERN_RESOURCE_SHORTAGE,
  KERN_SUCCESS,
  MAP_COPY_ON_WRITE,
} from '../h/vm_map.ts';
import { vm_object_deallocate } from '../object/vm_object.ts';
import { vm_loan as loan, type vm_loan_t } from '../h/vm_loan.ts';
import { vm_window, type vm_window_t } from '../h/vm_window.ts';
import {
  loan_copied,
  loan_frames,
  vm_loan,
  vm_loan_drop,
  vm_loan_refer,
  vm_unloan,
} from './vm_loan.ts';
import { vm_loan_adopt, vm_loan_again, vm_loan_object } from './vm_loan_object.ts';
import { map_at, map_drop } from './vm_map.test.lib.ts';
import { vm_map_fixed } from './vm_map_insert.ts';
import {
  type Cell,
  FIRST,
  play_steps,
  space_fork,
  space_make,
  space_map,
  space_protect,
  space_read,
  space_unmap,
  space_write,
  spaces_check,
  spaces_end,
} from './vm_space.test.lib.ts';
import { pages_away, type Sent, swap_up } from './vm_swap.test.lib.ts';
import { vm_window_close, vm_window_open } from './vm_window.ts';

const SPACES = 4;
const PAGES = 70;
const LOANS = 8;
/** Steps between two times that pages are sent out. */
const AWAY_EACH = 7;
const R = 1;
const RW = 3;
/** The slot that never answers, when it owes an answer. */
const SILENT = 1;

interface Lent {
  readonly l: vm_loan_t;
  /** What its pages held. */
  readonly values: readonly number[];
  held: boolean;
  refs: number;
}
interface Window {
  readonly w: vm_window_t;
  readonly has: Cell[];
  readonly start: number;
  readonly end: number;
}

class Play {
  private readonly spaces = new Map<number, Cell[]>();
  private loans: Lent[] = [];
  private window: Window | null = null;
  private readonly draw: (n: number) => number;
  private readonly short: boolean;
  private readonly sent: Sent | null;

  constructor(draw: (n: number) => number, short: boolean, sent: Sent | null) {
    this.draw = draw;
    this.short = short;
    this.sent = sent;
  }
  step(): void {
    if (this.sent !== null && this.draw(AWAY_EACH) === 0) pages_away(this.draw, this.sent);
    const s = this.draw(SPACES);
    const has = this.spaces.get(s);
    if (has === undefined) return this.begin(s);
    const i = this.draw(PAGES);
    const end = i + 1 + this.draw(Math.min(PAGES - i, 40));
    const what = this.draw(100);
    if (what < 24) this.write(s, has, i);
    else if (what < 36) this.look(s, has, i);
    else if (what < 52) this.lend(s, has, i, end);
    else if (what < 64) this.give_back();
    else if (what < 71) this.show(s, has, i);
    else if (what < 72) vm_loan_adopt();
    else if (what < 76) this.change(has, i, end, space_map(s, i, end - i), { value: 0, prot: RW });
    else if (what < 79) this.change(has, i, end, space_unmap(s, i, end - i), null);
    else if (what < 85) this.protect(s, has, i, end, [0, R, RW][this.draw(3)]);
    else if (what < 93) this.open(s, has, i, Math.min(end, i + 6));
    else if (what < 97) this.close();
    else {
      map_drop(s);
      this.spaces.delete(s);
    }
  }
  private begin(s: number): void {
    const from = this.draw(SPACES);
    const seen = this.spaces.get(from);
    if (seen === undefined) {
      if (space_make(s)) this.spaces.set(s, new Array<Cell>(PAGES).fill(null));
      return;
    }
    const result = space_fork(from, s);
    if (result === KERN_SUCCESS) this.spaces.set(s, [...seen]);
    else if (!this.want_of_memory(result)) same('fork', result, KERN_SUCCESS);
  }
  private want_of_memory(result: number): boolean {
    return result === KERN_RESOURCE_SHORTAGE && this.short;
  }
  private write(s: number, has: Cell[], i: number): void {
    const value = 1 + this.draw(2 ** 30);
    const cell = has[i];
    const may = cell !== null && (cell.prot & 2) !== 0;
    const got = space_write(s, i, value);
    if (got === ENOMEM && this.short && may) return;
    same(`write to page ${i} of ${s}`, got, may ? 0 : EFAULT);
    if (may) has[i] = { ...cell, value };
  }
  private look(s: number, has: Cell[], i: number): void {
    const cell = has[i];
    const got = space_read(s, i);
    if (got === -ENOMEM && this.short) return;
    same(`page ${i} of space ${s}`, got, cell !== null && cell.prot & 1 ? cell.value : -EFAULT);
  }
  private over(has: Cell[], i: number, end: number): boolean {
    const { window } = this;
    return window !== null && window.has === has && window.start < end && i < window.end;
  }
  private change(has: Cell[], i: number, end: number, got: number, cell: Cell): void {
    if (this.want_of_memory(got)) return;
    same('change', got, this.over(has, i, end) ? KERN_BUSY : KERN_SUCCESS);
    if (got === KERN_SUCCESS) has.fill(cell, i, end);
  }
  private protect(s: number, has: Cell[], i: number, end: number, prot: number): void {
    const got = space_protect(s, i, end - i, prot);
    if (this.want_of_memory(got) || got === KERN_FAILURE) return;
    if (got === KERN_BUSY && this.over(has, i, end)) return;
    same('protect', got, KERN_SUCCESS);
    for (let k = i; k < end; k++) {
      const cell = has[k];
      if (cell !== null) has[k] = { ...cell, prot };
    }
  }

  // --- loans -----------------------------------------------------------------------------------

  private lend(s: number, has: Cell[], i: number, end: number): void {
    if (this.loans.length >= LOANS) return this.give_back();
    const silent = this.draw(10) === 0;
    if (silent) silent_on();
    const made: vm_loan_t[] = [];
    const got = vm_loan(map_at(s), FIRST + i, FIRST + end, made);
    if (silent) silent_off();
    if (got === 0) same('copied', made.some(loan_copied) ? 1 : 0, silent ? 1 : 0);
    const cells = has.slice(i, end);
    const may = cells.every((c) => c !== null && (c.prot & 1) !== 0);
    if (got === ENOMEM && this.short && may) return;
    // A copy shows the pages that a window of another space holds.
    if (got === EBUSY && this.window !== null) return;
    same(`lend ${i} to ${end} of ${s}`, got, may ? 0 : EFAULT);
    if (got === EFAULT && made.length > 0) throw new Error('loans of nothing');
    if (got !== 0) return;
    if (this.over(has, i, end)) throw new Error('what is under a window was lent');
    let k = 0;
    for (const l of made) {
      const n = loan.pages[l];
      const values = cells.slice(k, k + n).map((c) => c?.value ?? -1);
      this.loans.push({ l, values, held: true, refs: 0 });
      k += n;
    }
    same('pages lent', k, end - i);
  }
  /** Pages of a loan that is held are mapped somewhere, in place of what is there. */
  private show(s: number, has: Cell[], i: number): void {
    const held = this.loans.filter((at) => at.held && at.values.length <= PAGES - i);
    if (held.length === 0) return;
    const { l, values } = held[this.draw(held.length)];
    const made: vm_loan_t[] = [];
    const error = vm_loan_again([l], made);
    if (error === ENOMEM && this.short) return;
    same('lend again', error, 0);
    const object = vm_loan_object(made[0]);
    if (object === NULL) {
      if (!this.short) throw new Error('no object');
      return vm_unloan(made[0]);
    }
    const n = values.length;
    const rights = { protection: RW, max_protection: RW, cow: MAP_COPY_ON_WRITE };
    const what = { object, offset: 0, ...rights };
    const got = vm_map_fixed(map_at(s), FIRST + i, FIRST + i + n, what);
    if (got !== KERN_SUCCESS) vm_object_deallocate(object);
    if (this.want_of_memory(got)) return;
    same('show', got, this.over(has, i, i + n) ? KERN_BUSY : KERN_SUCCESS);
    if (got !== KERN_SUCCESS) return;
    for (const [k, value] of values.entries()) has[i + k] = { value, prot: RW };
  }
  private give_back(): void {
    if (this.loans.length === 0) return;
    const at = this.loans[this.draw(this.loans.length)];
    this.unchanged(at);
    const what = this.draw(4);
    if (what === 0 && at.refs < 3) {
      vm_loan_refer(at.l);
      at.refs++;
    } else if (at.held && (what !== 1 || at.refs === 0)) {
      vm_unloan(at.l);
      at.held = false;
    } else if (at.refs > 0) {
      vm_loan_drop(at.l);
      at.refs--;
    }
    if (!at.held && at.refs === 0) this.loans = this.loans.filter((a) => a !== at);
  }
  /** The borrower sees what was there when it was lent. */
  private unchanged({ l, values }: Lent): void {
    for (const [k, m] of loan_frames(l).entries()) {
      const word = page_word(m);
      for (const w of [word, word + PAGE_WORDS - 1]) same('in a loan', mem.I32[w], values[k]);
    }
  }

  // --- a window --------------------------------------------------------------------------------

  private open(s: number, has: Cell[], i: number, end: number): void {
    if (this.window !== null) return this.use();
    const cells = has.slice(i, end);
    const prot = this.draw(2) === 0 ? R : RW;
    const got = vm_window_open(map_at(s), FIRST + i, FIRST + end, prot);
    const may = cells.every((c) => c !== null && (c.prot & prot) === prot);
    if (got === -ENOMEM && this.short && may) return;
    if (!may) return same('open', got, -EFAULT);
    if (got <= 0) throw new Error(`open of ${i} to ${end} in ${s} for ${prot}: ${got}`);
    this.window = { w: got as vm_window_t, has, start: i, end };
  }
  private use(): void {
    if (this.window === null) return;
    const { w, has, start, end } = this.window;
    const k = this.draw(end - start);
    const cell = has[start + k];
    if (cell === null) throw new Error('the model has a hole under a window');
    const word = page_word(vm_window.frame[w] + k);
    same('in a window', mem.I32[word], cell.value);
    if ((vm_window.prot[w] & 2) === 0) return;
    const value = 1 + this.draw(2 ** 30);
    mem.I32[word] = value;
    mem.I32[word + PAGE_WORDS - 1] = value;
    has[start + k] = { ...cell, value };
  }
  private close(): void {
    if (this.window === null) return;
    this.use();
    vm_window_close(this.window.w);
    this.window = null;
  }
  check(): void {
    for (const [s, has] of this.spaces) for (let i = 0; i < PAGES; i++) this.look(s, has, i);
    for (const at of this.loans) this.unchanged(at);
    spaces_check();
  }
  end(): void {
    this.check();
    this.close();
    for (const s of this.spaces.keys()) map_drop(s);
    for (const at of this.loans) this.unchanged(at);
    while (this.loans.length > 0) this.give_back();
    spaces_end();
  }
}
function same(what: string, got: number | undefined, want: number): void {
  if (got !== want) throw new Error(`${what}: ${got}, not ${want}`);
}
/** A second CPU is at work, owes an answer, and does not give it. */
export function silent_on(): void {
  if (thr.cpu === SILENT) throw new Error('this thread is that CPU');
  atomic_and(cpu_state_word(SILENT), ~(CPU_PARKED | CPU_FREE));
  atomic_or(cpu_state_word(SILENT), CPU_REQ_TLB);
  tlb_asked();
}
/** It is gone. */
export function silent_off(): void {
  atomic_or(cpu_state_word(SILENT), CPU_PARKED | CPU_FREE);
  atomic_and(cpu_state_word(SILENT), ~CPU_REQ_TLB);
}
/** The machine. */
interface How {
  readonly memory?: string;
  readonly INVARIANTS?: boolean;
  readonly checked?: boolean;
  /** Pages of a swap area, to which pages go by lot; 0: there is none. */
  readonly swap?: number;
}
/** Plays `steps` operations in such a machine; throws where kernel and model differ. */
export function run(seed: number, steps: number, how: How = {}): void {
  const { memory = '16M', INVARIANTS = true, checked = false, swap = 0 } = how;
  const set = { 'vm.loan_max': 2000, 'vm.max_wired': 2000 };
  const options = { memory, options: { INVARIANTS }, checked, cpus: 2, set };
  const sent: Sent = { written: 0, failed: 0, freed: 0 };
  play_steps(seed, steps, options, () => {
    if (swap > 0) swap_up(swap);
    return new Play(dice(seed), memory !== '16M', swap > 0 ? sent : null);
  });
  if (swap > 0 && steps > 1000 && sent.freed === 0) throw new Error('no page went out');
}
