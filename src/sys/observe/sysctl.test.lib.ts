/*
 * What tests set variables of the kernel with, as a program does: by a request.
 */
import assert from 'node:assert/strict';
import { sysctl_number } from '../machine/sysctl_decl.ts';
import { sysctl, sysctlnametomib } from './kern_sysctl.ts';

function set(name: string, bytes: Uint8Array): void {
  const { error, mib } = sysctlnametomib(name);
  assert.equal(error, 0, name);
  assert.equal(sysctl(mib, null, bytes).error, 0, name);
}
/** Sets an int. */
export function sysctl_set_number(name: string, value: number): void {
  set(name, sysctl_number('int', value));
}
/** Sets a text. */
export function sysctl_set_text(name: string, text: string): void {
  set(name, new TextEncoder().encode(text));
}
