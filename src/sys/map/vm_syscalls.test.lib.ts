/*
 * vm_syscalls.test.lib: what tests of the system calls share: calls on spaces of the table, and
 * accesses to memory by address.
 */
import assert from 'node:assert/strict';
import { errno_name } from '../machine/errno.ts';
import { mem, PAGE_SIZE } from '../machine/memory.ts';
import { sysctl_decls, sysctl_set } from '../machine/sysctl_decl.ts';
import { NULL } from '../machine/struct.ts';
import { MAP_ANON, MAP_FIXED, MAP_PRIVATE } from '../h/mman.ts';
import { VM_MAP_MAX, vm_map, vm_map_entry, type vm_map_t } from '../h/vm_map.ts';
import { VM_PROT_EXECUTE, VM_PROT_READ, VM_PROT_WRITE } from '../h/vm_prot.ts';
import { to_address, user_access } from './vm_bank.ts';
import { map_at, map_put, maps_make } from './vm_map.test.lib.ts';
import { boot } from '../boot/whole.ts';
import { map_entries, vm_map_check } from './vm_map_check.ts';
import { spaces_check, spaces_end } from './vm_space.test.lib.ts';
import { vmspace_alloc, vmspace_fork } from './vm_map_fork.ts';
import { type MapFile, user_min } from './vm_mmap.ts';
import { vm_syscall } from './vm_syscalls.ts';

export const P = PAGE_SIZE;
export const R = VM_PROT_READ;
export const W = VM_PROT_WRITE;
export const X = VM_PROT_EXECUTE;
export const RW = R | W;
export const ANON = MAP_ANON | MAP_PRIVATE;

/** A new space at a place of the table, as programs have them. */
export function user_make(s: number): vm_map_t {
  const mp = vmspace_alloc(user_min(), VM_MAP_MAX);
  assert.ok(mp !== NULL, 'no memory for a space');
  map_put(s, mp);
  return mp;
}
/** A copy of a space, at another place of the table. */
export function user_fork(from: number, to: number): vm_map_t {
  const made = vmspace_fork(map_at(from));
  assert.ok(made > 0, `fork: ${made}`);
  map_put(to, made as vm_map_t);
  return made as vm_map_t;
}
/** What a call answers: the value, or the name of the errno. */
export function call(
  mp: vm_map_t,
  name: string,
  args: readonly number[],
  file?: MapFile,
): number | string {
  const { error, value } = vm_syscall(mp, name, args, file);
  return error === 0 ? value : errno_name(error);
}
/** mmap of memory at an address: the address, or the name of the errno. */
export function anon_at(mp: vm_map_t, at: number, bytes: number, prot = RW): number | string {
  return call(mp, 'mmap', [at, bytes, prot, ANON | MAP_FIXED, -1, 0]);
}
/** mmap of memory anywhere: its address. */
export function anon(mp: vm_map_t, bytes: number, prot = RW, flags = ANON): number {
  const at = call(mp, 'mmap', [0, bytes, prot, flags, -1, 0]);
  assert.ok(typeof at === 'number', `mmap: ${at}`);
  return at;
}
/** Stores a byte. 0, or the name of the errno. */
export function poke(mp: vm_map_t, at: number, value: number): number | string {
  const { error } = user_access(mp, at, 1, true, (w) => void (mem.U8[w] = value));
  return error === 0 ? 0 : errno_name(error);
}
/** Loads a byte; or the name of the errno. */
export function peek(mp: vm_map_t, at: number): number | string {
  let seen = -1;
  const { error } = user_access(mp, at, 1, false, (w) => void (seen = mem.U8[w]));
  return error === 0 ? seen : errno_name(error);
}
/** The vector that mincore writes to `vec`, or the name of the errno. */
export function mincore(
  mp: vm_map_t,
  at: number,
  bytes: number,
  vec: number,
): number[] | string | number {
  const answer = call(mp, 'mincore', [at, bytes, vec]);
  if (answer !== 0) return answer;
  const pages = Math.ceil(bytes / P);
  return Array.from({ length: pages }, (_, i) => Number(peek(mp, vec + i)));
}

// --- what each test begins and ends with, and tables of calls ------------------------------------

export function up(options: Parameters<typeof boot>[0] = {}): vm_map_t {
  const strict = { INVARIANTS: true, WITNESS: true };
  boot({ cpus: 1, fresh: true, memory: '8M', options: strict, ...options });
  maps_make();
  return user_make(0);
}
export function set(name: string, value: number): void {
  const d = sysctl_decls.find((k) => k.name === name);
  assert.ok(d, name);
  sysctl_set(d, value);
}
/** Ends a test: everything is proved and given back. */
export function end(): void {
  spaces_check();
  spaces_end();
}
/** A row of a table of calls: what it is called, the call, its answer. */
export type Row = readonly [
  what: string,
  name: string,
  args: readonly number[],
  answer: number | string | 'ok',
];
export function rows(mp: vm_map_t, table: readonly Row[]): void {
  for (const [what, name, args, answer] of table) {
    const before = picture(mp);
    const got = call(mp, name, args);
    if (answer === 'ok') assert.equal(typeof got, 'number', `${what}: ${got}`);
    else assert.equal(got, answer, what);
    if (typeof got === 'string') assert.deepEqual(picture(mp), before, `${what}: changed nothing`);
    vm_map_check(mp);
  }
}
/** All that a map says. */
export function picture(mp: vm_map_t): unknown {
  const f = vm_map_entry;
  const entries = map_entries(mp).map((e) =>
    [f.start, f.end, f.protection, f.max_protection, f.inheritance, f.eflags].map((k) => k[e]),
  );
  const sizes = [vm_map.size, vm_map.dsize, vm_map.ssize].map((k) => k[mp]);
  return { entries, sizes, banks: [...Array(8).keys()].map((b) => to_address(mp, b * 2 ** 28)) };
}
/** Begin and length in pages of what is mapped. */
export function mapped(mp: vm_map_t): number[][] {
  const { start, end: last } = vm_map_entry;
  return map_entries(mp).map((e) => [to_address(mp, start[e]), last[e] - start[e]]);
}
export const AT = 0x7f12_3456_7000;
