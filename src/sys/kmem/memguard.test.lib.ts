/*
 * memguard.test.lib: what tests of guarded blocks share: a machine, its variables, blocks as a
 * program asks for them, and the end, before which all of it is proved.
 */
import { abandon, type Booted, type boot } from '../boot/whole.ts';
import { counter_get, counters } from '../machine/counter.ts';
import { kconsole } from '../machine/kconsole.ts';
import { mem } from '../machine/memory.ts';
import type { malloc_type_t } from '../h/malloc.ts';
import { M_GUARDABLE, M_NOWAIT } from '../h/malloc_flags.ts';
import { kern_down, kern_up } from '../map/vm_kern_up.test.lib.ts';
import { sysctl, sysctl_decode, sysctlnametomib } from '../observe/kern_sysctl.ts';
import { page_failpoint } from '../page/vm_page.ts';
import { malloc } from './kern_malloc.ts';
import { memguard_check } from './memguard_check.ts';
import { memguard_has } from './memguard.ts';

/** What the kernel printed since the machine came up. */
export const said: string[] = [];
const { print } = kconsole;

/** A machine of 16M, unless `options` say another size, that checks itself. */
export function guard_up(
  set: Record<string, number | string> = {},
  options: Parameters<typeof boot>[0] = {},
): Booted {
  said.length = 0;
  kconsole.print = (text) => void said.push(text);
  const named = Object.entries(set).map(([name, value]) => [`vm.memguard.${name}`, value]);
  return kern_up({ ...options, set: Object.fromEntries(named) });
}
/** All is proved, and the machine ends. */
export function guard_down(): void {
  try {
    guards_prove();
    kern_down();
  } finally {
    kconsole.print = print;
  }
}
function guards_prove(): void {
  page_failpoint.refuse = null;
  try {
    const order = said.find((text) => text.startsWith('lock order'));
    if (order !== undefined) throw new Error(order);
    memguard_check();
  } catch (e) {
    abandon();
    throw e;
  }
}
const encoder = new TextEncoder();
/** Sets a variable of vm.memguard: an errno, 0 if it was taken, and why. */
export function set(name: string, value: number | string): { error: number; reason: string } {
  const { mib } = sysctlnametomib(`vm.memguard.${name}`);
  const wide = name === 'quarantine';
  const number = typeof value === 'number' ? value : 0;
  const bytes = wide ? new BigInt64Array([BigInt(number)]) : Int32Array.of(number);
  const given = typeof value === 'string' ? encoder.encode(value) : new Uint8Array(bytes.buffer);
  const { error, reason = '' } = sysctl(mib, null, given);
  return { error, reason };
}
/** The value of a number of vm.memguard. */
export function get(name: string): number {
  const counter = counters.find((c) => c.name === `vm.memguard.${name}`);
  if (counter) return counter_get(counter);
  const old = new Uint8Array(8);
  const { mib } = sysctlnametomib(`vm.memguard.${name}`);
  const { oldlen } = sysctl(mib, old, null);
  return sysctl_decode(old.subarray(0, oldlen), false);
}
/** A block as the façade asks for one, without waiting: its first byte; 0: no memory. */
export function take(size: number, t: malloc_type_t, flags = 0): number {
  return malloc(size, t, M_NOWAIT | M_GUARDABLE | flags) * 4;
}
/** Whether the block at a byte is guarded. */
export function is_guarded(at: number): boolean {
  return at >= mem.U8.length && memguard_has(at);
}
