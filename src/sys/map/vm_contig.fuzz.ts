/*
 * vm_contig (fuzz): runs of pages are taken, by every algorithm and within all sorts of limits,
 * and given back, while a few spaces that fill the memory are written, read, unmapped and forked
 * beside a model, and their pages go out to a swap area and come back.
 *
 * Each run is filled with its own number, and holds it when it is given back: nobody else has a
 * page of it meanwhile.
 */
import { counter_get } from '../machine/counter.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { mem, page_word } from '../machine/memory.ts';
import { sysctl_decls, sysctl_set } from '../machine/sysctl_decl.ts';
import { KERN_SUCCESS } from '../h/vm_map.ts';
import { VM_PROT_READ, VM_PROT_WRITE } from '../h/vm_prot.ts';
import { map_drop } from './vm_map.test.lib.ts';
import { ENOMEM } from '../machine/errno.ts';
import { PG_ZERO, VM_ALLOC_NORMAL, VM_ALLOC_ZERO, vm_page } from '../h/vm_page.ts';
import {
  vm_page_alloc_run,
  vm_page_free_count,
  vm_page_wire,
  vm_page_zero_idle,
} from '../page/vm_page.ts';
import { vm_page_run_length } from '../page/vm_page_contig.ts';
import { pageq_check } from '../page/vm_pageq.ts';
import { phys_root, type RunLimits, vm_phys } from '../page/vm_phys.ts';
import { vm_page_alloc_contig, vm_page_release_contig } from './vm_contig_alloc.ts';
import { v_contig_moved } from './vm_contig_vars.ts';
import { vm_contig_old } from './vm_contig_old.ts';
import { pages_away, type Sent, swap_up } from './vm_swap.test.lib.ts';
import {
  type Cell,
  type Model,
  play_steps,
  space_fork,
  space_make,
  space_map,
  space_read,
  space_write,
  spaces_check,
  spaces_compare,
  spaces_end,
  WINDOW,
} from './vm_space.test.lib.ts';

interface Run {
  m: number;
  n: number;
  value: number;
}
interface Did {
  runs: number;
  refused: number;
  moved: number;
}
const MOST = 6;
/** Spaces, which have more pages than there are. */
const SPACES = 3;
/** Pages that the spaces and the runs have. */
const FREE = 260;

function limits_of(draw: (n: number) => number, n: number): RunLimits {
  const ph = phys_root();
  const span = vm_phys.high[ph] - vm_phys.low[ph];
  const low = draw(4) === 0 ? vm_phys.low[ph] + draw(span) : 0;
  const high = draw(4) === 0 ? vm_phys.low[ph] + draw(span) : vm_phys.high[ph] + draw(9);
  const boundary = draw(2) === 0 ? 0 : 2 ** (Math.ceil(Math.log2(n)) + draw(3));
  return { low, high, align: 1 << draw(4), boundary };
}
/** Space s has all its pages anew, zeros. */
function fresh(model: Model, s: number): void {
  if (!space_make(s)) throw new Error('no memory for a space');
  if (space_map(s, 0, WINDOW) !== KERN_SUCCESS) throw new Error('no memory for an entry');
  model.set(s, new Array<Cell>(WINDOW).fill({ value: 0, prot: VM_PROT_READ | VM_PROT_WRITE }));
}
/** One operation on the spaces and on their model. */
function step(draw: (n: number) => number, model: Model): void {
  const [s, i, what] = [draw(SPACES), draw(WINDOW), draw(100)];
  const has = model.get(s);
  if (has === undefined) throw new Error(`space ${s} is gone`);
  const cell = has[i];
  if (what < 55) {
    const value = 1 + draw(2 ** 30);
    const error = space_write(s, i, value);
    if (error === 0 && cell !== null) has[i] = { ...cell, value };
    else if (error !== ENOMEM) throw new Error(`space ${s}, page ${i}: write says ${error}`);
  } else if (what < 95) {
    const got = space_read(s, i);
    if (got !== cell?.value && got !== -ENOMEM) throw new Error(`space ${s}, page ${i}: ${got}`);
  } else if (what < 98) {
    const n = Math.min(WINDOW - i, 1 + draw(10));
    if (space_map(s, i, n) !== KERN_SUCCESS) return;
    for (let k = i; k < i + n; k++) has[k] = { value: 0, prot: cell?.prot ?? 0 };
  } else {
    const from = (s + 1) % SPACES;
    map_drop(s);
    model.delete(s);
    if (space_fork(from, s) === KERN_SUCCESS) model.set(s, [...(model.get(from) ?? [])]);
    else fresh(model, s);
  }
}
/** The kernel has most of the memory, here and there, so that the rest is full soon. */
function hog(draw: (n: number) => number): void {
  while (vm_page_free_count() > FREE) {
    const m = vm_page_alloc_run(1 + draw(8), VM_ALLOC_NORMAL);
    if (m === 0) return;
    vm_page_wire(m, vm_page_run_length());
  }
}
/** What is wrong with a run; nothing if it keeps the limits. */
function wrong(m: number, n: number, l: RunLimits): string | undefined {
  if (m < l.low || m + n > l.high || m % l.align !== 0) return 'outside its limits';
  const same = Math.floor(m / l.boundary) === Math.floor((m + n - 1) / l.boundary);
  if (l.boundary !== 0 && !same) return 'across a boundary';
  for (let i = m; i < m + n; i++) {
    if ((vm_page.flags[i] & PG_ZERO) === 0) continue;
    if (mem.I32.subarray(page_word(i), page_word(i + 1)).some((v) => v !== 0)) return 'not zero';
  }
  return undefined;
}

/** Plays `steps` operations; throws, with the seed, where something is not as it is to be. */
export function run(seed: number, steps: number): Did {
  const did: Did = { runs: 0, refused: 0, moved: 0 };
  const sent: Sent = { written: 0, failed: 0, freed: 0 };
  const options = { INVARIANTS: true, WITNESS: seed % 2 === 0 };
  play_steps(seed, steps, { memory: '3M', options }, () => {
    const draw = dice(seed);
    const model: Model = new Map();
    const runs: Run[] = [];
    const relocate = sysctl_decls.find((d) => d.name === 'vm.contig_relocate');
    swap_up(seed % 3 === 0 ? 40 : 120);
    hog(draw);
    for (let s = 0; s < SPACES; s++) fresh(model, s);
    const take = (): void => {
      const n = 1 + draw(40);
      const [limits, wait] = [limits_of(draw, n), draw(3) !== 0];
      if (relocate) sysctl_set(relocate, draw(4) === 0 ? 0 : 1);
      const alloc = draw(5) === 0 ? vm_contig_old : vm_page_alloc_contig;
      const m = alloc(n, VM_ALLOC_NORMAL | VM_ALLOC_ZERO, limits, wait);
      if (m === 0) return void did.refused++;
      const text = wrong(m, n, limits);
      if (text !== undefined) throw new Error(`run ${m} of ${n}: ${text}`);
      did.runs++;
      const value = 1 + draw(2 ** 30);
      mem.I32.fill(value, page_word(m), page_word(m + n));
      vm_page_wire(m, n);
      runs.push({ m, n, value });
    };
    const give = (i: number): void => {
      const [{ m, n, value }] = runs.splice(i, 1);
      if (mem.I32.subarray(page_word(m), page_word(m + n)).some((v) => v !== value)) {
        throw new Error(`run ${m} of ${n} does not hold ${value}`);
      }
      vm_page_release_contig(m, n);
    };
    let n = 0;
    return {
      step(): void {
        step(draw, model);
        if (n % 5 === 0) pages_away(draw, sent, 60);
        if (n++ % 3 !== 0) return;
        if (runs.length < MOST && draw(2) === 0) take();
        else if (runs.length > 0) give(draw(runs.length));
        else vm_page_zero_idle(16);
      },
      check(): void {
        spaces_check();
        pageq_check();
      },
      end(): void {
        while (runs.length > 0) give(0);
        spaces_compare(model);
        did.moved = counter_get(v_contig_moved);
        spaces_end();
      },
    };
  });
  return did;
}
