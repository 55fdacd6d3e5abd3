/*
 * vm_kern (fuzz): the same seeded operations on maps of kernel addresses and on arrays of pages.
 *
 * A system map and a pageable one, of a few dozen addresses each: pages that stay, pages that come
 * when they are touched, and addresses alone are asked for and given back, whole, several at once
 * and in parts; written, read, and asked about.  The place must be the first that there is, or
 * there must be none; memory that is short changes nothing.  From time to time every page is
 * compared, and the walkers prove maps, objects and pages.
 */
import { boot, shutdown } from '../boot/whole.ts';
import { ptoa } from '../machine/memory.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { M_NORECLAIM, M_NOWAIT } from '../h/malloc_flags.ts';
import { VM_MAP_PAGED, VM_MAP_SYSTEM, vm_map, type vm_map_t } from '../h/vm_map.ts';
import { PK_OBJECT } from '../h/vm_page.ts';
import { VM_PROT_READ, VM_PROT_WRITE } from '../h/vm_prot.ts';
import { page_failpoint, vm_page_census } from '../page/vm_page.ts';
import { uma_check } from '../uma/uma_check.ts';
import { fuword, suword } from './vm_copy.ts';
import { kernacc } from './vm_kern_fault.ts';
import {
  kernel_map,
  kmem_alloc_nofault,
  kmem_free,
  kmem_malloc,
  kmem_suballoc,
} from './vm_kern.ts';
import { kmem_free_wakeup, uvm_km_valloc } from './vm_kern_wait.ts';
import { vm_maps_check } from './vm_map_check.ts';
import { map_failpoint } from './vm_map_entry.ts';

const SPAN = 48;
/** Nobody may touch it. */
const BARE = -1;

/** A map beside its model: what each page holds, BARE, or undefined: a hole. */
interface Pair {
  readonly mp: vm_map_t;
  readonly first: number;
  readonly system: boolean;
  readonly cells: (number | undefined)[];
}
function same(what: string, got: unknown, expected: unknown): void {
  if (got !== expected) throw new Error(`${what}: ${got}, the model says ${expected}`);
}
export class KernPlay {
  readonly draw: (n: number) => number;
  readonly pairs: Pair[];
  /** Requests that memory was short for. */
  short = 0;
  served = 0;

  constructor(seed: number) {
    this.draw = dice(seed);
    this.pairs = [VM_MAP_SYSTEM, VM_MAP_PAGED].map((kind) => {
      const mp = kmem_suballoc(kernel_map(), SPAN, kind);
      if (mp === 0) throw new Error('no memory for a map');
      const first = uvm_km_valloc(mp, 1); // the first place is the first page
      kmem_free_wakeup(mp, first, 1);
      const cells: undefined[] = new Array(SPAN).fill(undefined);
      return { mp, first, system: kind === VM_MAP_SYSTEM, cells };
    });
  }
  step(): void {
    const pair = this.pairs[this.draw(2)];
    const what = this.draw(8);
    if (what < 3) this.ask(pair, 1 + this.draw(9));
    else if (what < 5) this.give(pair);
    else this.touch(pair, this.draw(SPAN));
  }
  /** The first place for n pages in the model; -1: none. */
  place({ cells }: Pair, n: number): number {
    for (let at = 0; at + n <= SPAN; at++) {
      if (cells.slice(at, at + n).every((c) => c === undefined)) return at;
    }
    return -1;
  }
  ask(pair: Pair, n: number): void {
    const { mp, first, system, cells } = pair;
    const expected = this.place(pair, n);
    const how = system ? this.draw(3) : 0;
    let at = 0;
    if (how === 0) at = uvm_km_valloc(mp, n);
    if (how === 1) at = kmem_alloc_nofault(mp, n);
    if (how === 2) at = kmem_malloc(mp, n, M_NOWAIT | M_NORECLAIM);
    if (at === 0) {
      if (expected >= 0) this.short++;
      return;
    }
    same('place', at - first, expected);
    cells.fill(how === 1 ? BARE : 0, expected, expected + n);
    this.served++;
  }
  /** Gives a part of what lies side by side back. */
  give({ mp, first, system, cells }: Pair): void {
    const from = this.draw(SPAN);
    if (cells[from] === undefined) return;
    let n = 1;
    const most = 1 + this.draw(12);
    while (n < most && from + n < SPAN && cells[from + n] !== undefined) n++;
    // One entry after the other goes, so that with more than one a part of the range may go.
    if (page_failpoint.refuse !== null || map_failpoint.refuse !== null) n = 1;
    const give = system ? kmem_free : kmem_free_wakeup;
    if (give(mp, first + from, n)) cells.fill(undefined, from, from + n);
    else this.short++;
  }
  touch({ mp, first, cells }: Pair, i: number): void {
    const now = cells[i];
    const there = now !== undefined && now !== BARE;
    const access = this.draw(2) === 0 ? VM_PROT_READ : VM_PROT_READ | VM_PROT_WRITE;
    const top = this.draw(2) === 0 ? kernel_map() : mp;
    same('kernacc', kernacc(top, first + i, 1, access), there);
    if (now === BARE) return; // to touch it would be an error
    const at = ptoa(first + i) + 4 * (i % 7);
    const value = this.draw(2 ** 30);
    if (this.draw(2) === 0) {
      const got = fuword(top, at);
      if (got === -1 && there) this.short++;
      else same('read', got, there ? now : -1);
    } else if (suword(top, at, value) === 0) {
      same('written', there, true);
      cells[i] = value;
    } else if (there) this.short++;
  }
  compare(): void {
    for (const { mp, first, cells } of this.pairs) {
      let size = 0;
      for (const [i, now] of cells.entries()) {
        if (now !== undefined) size++;
        const there = now !== undefined && now !== BARE;
        same(`page ${i}`, kernacc(mp, first + i, 1, VM_PROT_READ), there);
        if (!there) continue;
        const got = fuword(mp, ptoa(first + i) + 4 * (i % 7));
        if (got === -1) this.short++;
        else same(`page ${i}`, got, now);
      }
      same('size', vm_map.size[mp], size);
    }
    vm_maps_check();
  }
  /** All goes back, and nothing is left. */
  end(): void {
    for (const { mp, first, cells, system } of this.pairs) {
      for (let i = 0; i < SPAN; i++) {
        if (cells[i] === undefined) continue;
        same('free', (system ? kmem_free : kmem_free_wakeup)(mp, first + i, 1), true);
      }
      same('entries', vm_map.nentries[mp], 0);
    }
    vm_maps_check();
    same('pages', vm_page_census()[PK_OBJECT], 0);
    uma_check();
  }
}
/** Plays so many steps; every `nth` page, or entry, is refused if that is not 0. */
export function play(seed: number, steps: number, each: number, nth = 0): KernPlay {
  const p = new KernPlay(seed);
  const draw = dice(seed + 1);
  const refuse = nth === 0 ? null : () => draw(nth) === 0;
  for (let i = 0; i < steps; i++) {
    page_failpoint.refuse = refuse;
    map_failpoint.refuse = refuse;
    p.step();
    page_failpoint.refuse = null;
    map_failpoint.refuse = null;
    if (i % each === 0) p.compare();
  }
  p.compare();
  p.end();
  return p;
}
/** For npm run fuzz. */
export function run(seed: number, steps: number): void {
  const options = { INVARIANTS: true, WITNESS: true, FAILPOINTS: true };
  boot({ cpus: 1, fresh: true, memory: '4M', options, seed: 1 });
  play(seed, steps, 200, seed % 2 === 0 ? 0 : 9);
  shutdown();
}
