/*
 * page_runs (fuzz): the same seeded operations on the free page queues and on
 * their model.
 *
 * Pages and runs are taken and given back, whole or in pieces, zeroed or not,
 * zeroed ahead, and rebuilt; every answer must be the model's, and after every
 * operation phys_check proves bitmaps, tree and counts.  The machine is small,
 * so that runs collide and the queues run dry.
 */
import { boot } from '../boot/whole.ts';
import { PAGE_WORDS, mem, page_word } from '../machine/memory.ts';
import { elem } from '../machine/struct.ts';
import { sysctl_decls, sysctl_set } from '../machine/sysctl_decl.ts';
import {
  PG_ZERO,
  PK_FREE,
  PK_MASK,
  VM_ALLOC_INTERRUPT,
  VM_ALLOC_ZERO,
  vm_page,
} from '../h/vm_page.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { PageModel } from './page_runs.model.ts';
import {
  pmap_zero_page,
  vm_page_alloc,
  vm_page_alloc_run,
  vm_page_check,
  vm_page_free_run,
  vm_page_wire,
  vm_page_zero_idle,
} from './vm_page.ts';
import { phys_longest, phys_rebuild, phys_root, type RunLimits, vm_phys } from './vm_phys.ts';

/** A small generator: the same seed gives the same operations everywhere. */
export function dice(seed: number): (n: number) => number {
  let s = (seed * 2654435761) >>> 0 || 1;
  return (n) => {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0;
    return (s >>> 8) % n;
  };
}

/** Makes the model of the queues as they are now. */
export function model_of_queues(): PageModel {
  const ph = phys_root();
  const starts: number[] = [];
  for (let d = 0; d <= 8; d++) starts.push(vm_phys.start[elem(ph, d)]);
  const model = new PageModel(vm_phys.low[ph], vm_phys.high[ph], starts);
  for (let m = model.low; m < model.high; m++) {
    if ((vm_page.info[m] & PK_MASK) !== PK_FREE) continue;
    model.give(m, 1, (vm_page.flags[m] & PG_ZERO) !== 0);
  }
  return model;
}
/** Throws unless queues and model agree, and each holds together. */
export function queues_agree(model: PageModel): void {
  const ph = phys_root();
  vm_page_check();
  same('free', vm_phys.free[ph], model.count());
  same('zeroed', vm_phys.zeroed[ph], model.zeroed());
  same('longest run', phys_longest(), model.longest());
  for (let d = 0; d < 8; d++) {
    same(`free in domain ${d}`, vm_phys.nfree[elem(ph, d)], model.in_domain(d));
  }
}
function same(what: string, got: number, expected: number): void {
  if (got !== expected) throw new Error(`${what}: ${got}, the model says ${expected}`);
}

type Block = { m: number; n: number };

class Play {
  readonly model = model_of_queues();
  readonly held: Block[] = [];
  readonly draw: (n: number) => number;

  constructor(seed: number) {
    this.draw = dice(seed);
  }
  /** Somebody owns the pages: junk goes into them, so that only true zeroing passes. */
  own(m: number, n: number, wants_zero: boolean): void {
    for (let i = m; i < m + n; i++) {
      const zero = (vm_page.flags[i] & PG_ZERO) !== 0;
      same(`PG_ZERO of page ${i}`, Number(zero), Number(this.model.zero[i]));
      const words = mem.I32.subarray(page_word(i), page_word(i) + PAGE_WORDS);
      if (zero && words.some((v) => v !== 0)) throw new Error(`page ${i} is flagged zero`);
      if (!zero && wants_zero) pmap_zero_page(i);
      words.fill(i);
    }
    vm_page_wire(m, n);
    this.model.take(m, n);
    this.held.push({ m, n });
  }
  one(): void {
    const zero = this.draw(2) === 0;
    const color = this.draw(2) === 0 ? -1 : this.draw(32);
    const domain = this.draw(2) === 0 ? -1 : this.draw(2);
    const expected = this.model.choose(zero, color, domain);
    const m = vm_page_alloc(color, VM_ALLOC_INTERRUPT | (zero ? VM_ALLOC_ZERO : 0), domain);
    same('page', m, expected);
    if (m !== 0) this.own(m, 1, zero);
  }
  run(): void {
    const n = 1 + this.draw(this.draw(3) === 0 ? 150 : 12);
    const limits: RunLimits = {
      low: this.draw(2) === 0 ? 0 : this.draw(this.model.high),
      high: this.draw(2) === 0 ? 1 << 20 : this.draw(this.model.high + 40),
      align: 1 << this.draw(this.draw(2) === 0 ? 1 : 7),
      boundary: this.draw(2) === 0 ? 0 : 1 << this.draw(8),
    };
    const free = this.draw(3) === 0;
    const all = { low: 0, high: 1 << 20, align: 1, boundary: 0 };
    const expected = this.model.run(n, free ? all : limits);
    const m = vm_page_alloc_run(n, VM_ALLOC_INTERRUPT, free ? undefined : limits);
    same(`run of ${n} in ${JSON.stringify(limits)}`, m, expected);
    if (m !== 0) this.own(m, n, false);
  }
  /** Gives a block back, or some of its pages. */
  give(): void {
    if (this.held.length === 0) return;
    const [block] = this.held.splice(this.draw(this.held.length), 1);
    const at = this.draw(3) === 0 ? this.draw(block.n) : 0;
    const n = this.draw(3) === 0 ? 1 + this.draw(block.n - at) : block.n - at;
    const zero = this.draw(3) === 0;
    const m = block.m + at;
    for (let i = m; zero && i < m + n; i++) pmap_zero_page(i);
    vm_page_free_run(m, n, zero);
    this.model.give(m, n, zero);
    if (at > 0) this.held.push({ m: block.m, n: at });
    if (at + n < block.n) this.held.push({ m: m + n, n: block.n - at - n });
  }
  idle(): void {
    const most = this.draw(20);
    let n = 0;
    while (n < most && this.model.zeroed() * 2 < this.model.count()) {
      const m = this.model.choose(false, -1, -1);
      this.model.zero[m] = true;
      n++;
    }
    same('zeroed ahead', vm_page_zero_idle(most), n);
  }
  step(): void {
    const what = this.draw(100);
    // Phases of filling and of emptying, so that both ends are met.
    if (what < 35) this.one();
    else if (what < 55) this.run();
    else if (what < 90) for (let i = this.draw(4); i >= 0; i--) this.give();
    else if (what < 97) this.idle();
    else rebuild();
  }
}

function rebuild(): void {
  const ph = phys_root();
  mtx_lock(vm_phys.lock, ph);
  phys_rebuild(ph);
  mtx_unlock(vm_phys.lock, ph);
}

/** Plays `steps` operations; throws where queues and model differ. */
export function run(seed: number, steps: number): void {
  const machine = boot({ memory: '1M', cpus: 1, domains: 2, options: { INVARIANTS: true }, seed });
  const knob = sysctl_decls.find((d) => d.name === 'vm.v_free_reserved');
  if (knob) sysctl_set(knob, 0);
  try {
    const play = new Play(seed);
    for (let step = 0; step < steps; step++) {
      try {
        play.step();
        queues_agree(play.model);
      } catch (e) {
        throw new Error(`seed ${seed}, step ${step}`, { cause: e });
      }
    }
    for (const { m, n } of play.held) vm_page_free_run(m, n);
    vm_page_check();
  } finally {
    machine.shutdown();
  }
}
