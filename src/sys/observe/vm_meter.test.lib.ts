/*
 * vm_meter.test.lib: a program that uses memory, and what the kernel must have counted of it.
 *
 * Two regions of a space.  The first is read, written to and protected at random; then the space
 * is copied, and the second is read and written to by both.  The model says of each page whether
 * it is there, whose it is, and what the page tables let pass without a fault.
 */
import assert from 'node:assert/strict';
import { sysctlnametomib, sysctl } from './kern_sysctl.ts';
import { KERN_FAILURE, KERN_SUCCESS, type vm_map_t } from '../h/vm_map.ts';
import { vmspace_fork } from '../map/vm_map_fork.ts';
import { vmspace_segments } from '../map/vm_unix.ts';
import { anon_at, call, P, peek, poke, R, RW, user_make, W } from '../map/vm_syscalls.test.lib.ts';
import { map_drop, map_put } from '../map/vm_map.test.lib.ts';

export const PAGES = 24;
export const DATA = 0x5555_5555_0000;
export const SECOND = DATA + 64 * P;
const STEPS = 400;

/** What the program did, under the names of vm.stats. */
export interface Did {
  v_vm_faults: number;
  v_zfod: number;
  v_cow_faults: number;
  v_forks: number;
  v_forkpages: number;
  v_pfree: number;
  v_syscall: number;
}
export const NOTHING: Did = {
  ...{ v_vm_faults: 0, v_zfod: 0, v_cow_faults: 0, v_forks: 0, v_forkpages: 0, v_pfree: 0 },
  v_syscall: 0,
};
/** A variable below vm.stats. */
export function stat(name: string): number {
  const group = name === 'v_syscall' || name === 'v_trap' ? 'sys' : 'vm';
  const { error, mib } = sysctlnametomib(
    `vm.stats.${name.includes('.') ? name : `${group}.${name}`}`,
  );
  assert.equal(error, 0, name);
  const old = new Uint8Array(4);
  assert.deepEqual(sysctl(mib, old, null), { error: 0, oldlen: 4 });
  return new DataView(old.buffer).getUint32(0, true);
}
/** What the kernel has counted so far. */
export function counted(): Did {
  const names = Object.keys(NOTHING).map((name) => [name, stat(name)] as const);
  return Object.fromEntries(names) as unknown as Did;
}
export function sum(all: readonly Did[]): Did {
  const total = { ...NOTHING };
  for (const did of all) {
    for (const key of Object.keys(total) as (keyof Did)[]) total[key] += did[key];
  }
  return total;
}

interface Cell {
  /** Whose page it is: nobody's yet, the space's own, of the object below. */
  page: 'none' | 'own' | 'below';
  /** What passes without a fault. */
  passes: 'nothing' | 'loads' | 'all';
  prot: number;
}
const cells = (): Cell[] =>
  Array.from({ length: PAGES }, () => ({ page: 'none', passes: 'nothing', prot: RW }));

/** An access, and what it costs. */
function use(mp: vm_map_t, base: number, i: number, c: Cell, write: boolean, did: Did): void {
  const may = (c.prot & (write ? W : R)) !== 0;
  const got = write ? poke(mp, base + i * P, 1) : peek(mp, base + i * P);
  assert.equal(typeof got === 'number', may, `page ${i}, protection ${c.prot}: ${got}`);
  if (may && (c.passes === 'all' || (c.passes === 'loads' && !write))) return;
  did.v_vm_faults++;
  if (!may) return;
  if (c.page === 'none') {
    did.v_zfod++;
    c.page = 'own';
  } else if (c.page === 'below' && write) {
    did.v_cow_faults++;
    c.page = 'own';
  }
  c.passes = c.page === 'own' && (c.prot & W) !== 0 ? 'all' : 'loads';
}
/** The page tables never let more pass than the protection. */
function protect(mp: vm_map_t, i: number, c: Cell, prot: number, did: Did): void {
  assert.equal(call(mp, 'mprotect', [DATA + i * P, P, prot]), 0);
  did.v_syscall++;
  c.prot = prot;
  if (prot === 0) c.passes = 'nothing';
  else if (c.passes === 'all' && (prot & W) === 0) c.passes = 'loads';
}

/**
 * Runs the program in a space at place `at` of the table, with a copy of it behind that.  Both
 * are gone when it ends.
 */
export function program(at: number, draw: (n: number) => number): Did {
  const did: Did = { ...NOTHING };
  const mp = user_make(at);
  for (const base of [DATA, SECOND]) assert.equal(anon_at(mp, base, PAGES * P), base);
  did.v_syscall += 2;
  const stack = { address: SECOND, bytes: PAGES * P };
  assert.equal(vmspace_segments(mp, { data: { address: DATA, bytes: 10 * P }, stack }), 0);
  const first = cells();
  for (let n = 0; n < STEPS; n++) {
    const i = draw(PAGES);
    const what = draw(10);
    if (what === 0) protect(mp, i, first[i], [0, R, RW, RW][draw(4)], did);
    else use(mp, DATA, i, first[i], what < 6, did);
  }
  const parent = cells();
  for (let n = 0; n < PAGES; n++) {
    const i = draw(PAGES);
    use(mp, SECOND, i, parent[i], draw(2) === 0, did);
  }
  use(mp, SECOND, 0, parent[0], true, did);
  const child = fork(mp, at + 1);
  did.v_forks++;
  did.v_forkpages += 10 + PAGES;
  const below = (c: Cell): Cell => ({ ...c, page: c.page === 'none' ? 'none' : 'below' });
  const sides = [
    [mp, parent.map((c) => ({ ...below(c), passes: c.passes === 'nothing' ? c.passes : 'loads' }))],
    [child, parent.map((c) => ({ ...below(c), passes: 'nothing' }))],
  ] as [vm_map_t, Cell[]][];
  // With the first write to it each gets an object of its own for the region.
  for (const [space, has] of sides) use(space, SECOND, 0, has[0], true, did);
  for (let n = 0; n < STEPS; n++) {
    const [space, has] = sides[draw(2)];
    const i = draw(PAGES);
    use(space, SECOND, i, has[i], draw(2) === 0, did);
  }
  // What the copy alone had goes with it, then all the rest, each page with the object it is in.
  map_drop(at + 1);
  did.v_pfree += sides[1][1].filter((c) => c.page === 'own').length;
  map_drop(at);
  did.v_pfree += [...first, ...sides[0][1]].filter((c) => c.page !== 'none').length;
  return did;
}
/** A copy at another place. Where a CPU is silent for longer than a fork waits: once more. */
function fork(mp: vm_map_t, to: number): vm_map_t {
  for (;;) {
    const made = vmspace_fork(mp);
    if (made > 0) {
      map_put(to, made as vm_map_t);
      return made as vm_map_t;
    }
    assert.equal(-made, KERN_FAILURE, `${KERN_SUCCESS}`);
  }
}
