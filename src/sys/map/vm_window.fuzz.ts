/*
 * Driver: windows onto address spaces, beside a model of what is mapped and what is shared.
 *
 * The model of a space is an array of pages, each with what it holds and what may be done with it;
 * of a window a range of such an array, and the run that it is on: so what is stored through either
 * is seen through the other.  A copy of a space has an array of its own.  What must be refused
 * follows from the ranges of runs and windows alone, and is refused then and nowhere else.
 *
 * The pages of a copy that may only be read may be held in place by windows of other spaces, whose
 * pages they are: then another range of them is EBUSY, too.
 */
import { EBUSY, EFAULT, ENOMEM } from '../machine/errno.ts';
import { mem, PAGE_WORDS, page_word } from '../machine/memory.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { KERN_BUSY, KERN_RESOURCE_SHORTAGE, KERN_SUCCESS, type vm_map_t } from '../h/vm_map.ts';
import { vm_window, type vm_window_t } from '../h/vm_window.ts';
import { map_at, map_drop, map_put } from './vm_map.test.lib.ts';
import { vmspace_fork } from './vm_map_fork.ts';
import {
  type Cell,
  FIRST,
  space_make,
  space_map,
  space_protect,
  space_read,
  space_unmap,
  space_write,
  spaces_check,
  spaces_end,
  play_steps,
} from './vm_space.test.lib.ts';
import { vm_window_close, vm_window_find, vm_window_open } from './vm_window.ts';

const SPACES = 5;
const PAGES = 24;
const WINDOWS = 8;
const R = 1;
const RW = 3;

interface Run {
  readonly has: Cell[];
  readonly start: number;
  readonly end: number;
  windows: number;
}
interface Window {
  readonly w: vm_window_t;
  readonly run: Run;
  readonly start: number;
  readonly end: number;
  readonly prot: number;
}
const overlap = (a: { start: number; end: number }, start: number, end: number): boolean =>
  a.start < end && start < a.end;

class Play {
  private readonly spaces = new Map<number, Cell[]>();
  private readonly windows: Window[] = [];
  private runs: Run[] = [];

  private readonly draw: (n: number) => number;
  private readonly short: boolean;

  constructor(draw: (n: number) => number, short: boolean) {
    this.draw = draw;
    this.short = short;
  }
  step(): void {
    const s = this.draw(SPACES);
    const has = this.spaces.get(s);
    if (has === undefined) return this.begin(s);
    const i = this.draw(PAGES);
    const end = i + 1 + this.draw(Math.min(PAGES - i, 10));
    const what = this.draw(100);
    if (what < 20) this.write(s, has, i);
    else if (what < 35) this.look(s, has, i);
    else if (what < 55) this.use();
    else if (what < 68) this.open(s, has, i, end);
    else if (what < 80) this.close();
    else if (what < 86) {
      this.change(s, has, i, end, 'map', () => ({ value: 0, prot: RW }));
    } else if (what < 90) this.change(s, has, i, end, 'unmap', () => null);
    else if (what < 97) this.protect(s, has, i, end, [0, R, RW][this.draw(3)]);
    else {
      map_drop(s); // windows go on
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
    const refuse = this.draw(4) === 0;
    const made = vmspace_fork(map_at(from), refuse);
    if (refuse && this.runs.some((r) => r.has === seen)) return same('fork', made, -KERN_BUSY);
    if (made > 0) {
      map_put(s, made as vm_map_t);
      this.spaces.set(s, [...seen]);
    } else this.memory('fork', -made, KERN_SUCCESS);
  }
  /** A call that may find no memory where the machine is small. */
  private memory(what: string, got: number, want: number): boolean {
    if (got === KERN_RESOURCE_SHORTAGE && this.short) return false;
    same(what, got, want);
    return got === KERN_SUCCESS;
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
  private change(
    s: number,
    has: Cell[],
    i: number,
    end: number,
    how: 'map' | 'unmap',
    after: () => Cell,
  ): void {
    const got = how === 'map' ? space_map(s, i, end - i) : space_unmap(s, i, end - i);
    const held = this.runs.some((r) => r.has === has && overlap(r, i, end));
    if (this.memory(how, got, held ? KERN_BUSY : KERN_SUCCESS)) has.fill(after(), i, end);
  }
  private protect(s: number, has: Cell[], i: number, end: number, prot: number): void {
    const less = this.windows.some(
      (w) => w.run.has === has && overlap(w, i, end) && (w.prot & ~prot) !== 0,
    );
    const more = this.runs.some((r) => {
      if (r.has !== has || (prot & 2) === 0) return false;
      const part = has.slice(Math.max(r.start, i), Math.max(Math.min(r.end, end), i));
      return part.some((c) => c !== null && (c.prot & 2) === 0);
    });
    const got = space_protect(s, i, end - i, prot);
    if (!this.memory('protect', got, less || more ? KERN_BUSY : KERN_SUCCESS)) return;
    for (let k = i; k < end; k++) {
      const cell = has[k];
      if (cell !== null) has[k] = { ...cell, prot };
    }
  }
  private open(s: number, has: Cell[], i: number, end: number): void {
    if (this.windows.length >= WINDOWS) return;
    const prot = this.draw(2) === 0 ? R : RW;
    const got = vm_window_open(map_at(s), FIRST + i, FIRST + end, prot);
    const mapped = has.slice(i, end).every((c) => c !== null && (c.prot & prot) === prot);
    const over = this.runs.find((r) => r.has === has && overlap(r, i, end));
    const part = over !== undefined && (i < over.start || end > over.end);
    if (!mapped) return same('open', got, -EFAULT);
    if (part) return same('open', got, -EBUSY);
    if (got === -ENOMEM && this.short) return;
    if (got === -EBUSY && over === undefined && this.elsewhere(has)) return;
    if (got <= 0) throw new Error(`open of ${i} to ${end} in ${s} for ${prot}: ${got}`);
    const run = over ?? { has, start: i, end, windows: 0 };
    if (over === undefined) this.runs.push(run);
    run.windows++;
    this.windows.push({ w: got as vm_window_t, run, start: i, end, prot });
  }
  /** Whether another space has a window. */
  private elsewhere(has: Cell[]): boolean {
    return this.runs.some((r) => r.has !== has);
  }
  private close(): void {
    if (this.windows.length === 0) return;
    const [gone] = this.windows.splice(this.draw(this.windows.length), 1);
    vm_window_close(gone.w);
    gone.run.windows--;
    if (gone.run.windows === 0) this.runs = this.runs.filter((r) => r !== gone.run);
  }
  /** Loads through a window, or stores. */
  private use(): void {
    if (this.windows.length === 0) return;
    const at = this.windows[this.draw(this.windows.length)];
    const k = this.draw(at.end - at.start);
    const { has } = at.run;
    const cell = has[at.start + k];
    if (cell === null) throw new Error('the model has a hole under a window');
    const word = page_word(vm_window.frame[at.w] + k);
    for (const w of [word, word + PAGE_WORDS - 1]) same('in a window', mem.I32[w], cell.value);
    if ((at.prot & 2) === 0) return;
    const value = 1 + this.draw(2 ** 30);
    mem.I32[word] = value;
    mem.I32[word + PAGE_WORDS - 1] = value;
    has[at.start + k] = { ...cell, value };
  }
  check(): void {
    for (const [s, has] of this.spaces) {
      for (let i = 0; i < PAGES; i++) this.look(s, has, i);
      for (let i = 0; i < PAGES; i++) {
        const held = this.runs.some((r) => r.has === has && overlap(r, i, i + 1));
        const found = vm_window_find(map_at(s), FIRST + i, FIRST + i + 1) !== null;
        if (found !== held) throw new Error(`page ${i} of ${s}: found ${found}, held ${held}`);
      }
    }
    spaces_check();
  }
  end(): void {
    this.check();
    while (this.windows.length > 0) this.close();
    this.check();
    spaces_end();
  }
}
function same(what: string, got: number | undefined, want: number): void {
  if (got !== want) throw new Error(`${what}: ${got}, not ${want}`);
}
/** The machine. */
interface How {
  readonly memory?: string;
  readonly INVARIANTS?: boolean;
  readonly checked?: boolean;
}
/** Plays `steps` operations in such a machine; throws where kernel and model differ. */
export function run(seed: number, steps: number, how: How = {}): void {
  const { memory = '16M', INVARIANTS = true, checked = false } = how;
  const options = { memory, options: { INVARIANTS }, checked };
  play_steps(seed, steps, options, () => new Play(dice(seed), memory !== '16M'));
}
