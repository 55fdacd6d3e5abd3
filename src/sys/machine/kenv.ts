/*
 * kenv: the boot parameters, and the tunables among them.
 *
 * boot({ set: { 'vm.kmem_size': '64m', 'debug.lock.slice': 50 } }) gives
 * variables that are declared tunable their first value.  Numbers are written
 * as the kernel environment takes them: decimal, 0x, 0 prefixes, one suffix
 * k m g t.  A variable that is a text takes any that fits.  A name that nobody declared, or a
 * value outside its range, is an error before anything is made.  A tunable that does nothing
 * without a kernel option brings it along.
 */
import { EINVAL, KmemError } from './errno.ts';
import type { WantedOptions } from './opt.ts';
import { CTLFLAG_TUN, sysctl_decls } from './sysctl_decl.ts';

/** Reads a number as tunables are written; null if it is none. */
export function kenv_number(text: string): number | null {
  const m = /^\s*([+-]?)(0x[0-9a-f]+|0[0-7]*|[1-9][0-9]*)\s*([kmgt]?)\s*$/i.exec(text);
  if (!m) return null;
  const digits = m[2].toLowerCase();
  const base = digits.startsWith('0x') ? 16 : digits.startsWith('0') ? 8 : 10;
  const value = Number.parseInt(digits, base) * 1024 ** ' kmgt'.indexOf(m[3].toLowerCase() || ' ');
  return m[1] === '-' ? -value : value;
}

/** Checks boot parameters against the declared tunables. Throws EINVAL naming the parameter. */
export function kenv_tunables(
  set: Readonly<Record<string, number | string>>,
): Map<string, number | string> {
  const values = new Map<string, number | string>();
  for (const [name, given] of Object.entries(set)) {
    const d = sysctl_decls.find((x) => x.name === name);
    const bad = (why: string): never => {
      throw new KmemError(EINVAL, 'boot', `set ${name}=${given}: ${why}`);
    };
    if (!d || d.index < 0)
      bad('no such tunable (machine.sysctls() and kmem replay --sysctl=-aT list them)');
    if (d && (d.flags & CTLFLAG_TUN) === 0) bad('not a tunable: it has no value before boot');
    if (d && d.bytes > 0) {
      const text = String(given);
      const length = new TextEncoder().encode(text).length;
      if (length >= d.bytes) bad(`${length} bytes, more than ${d.bytes - 1}`);
      const refused = d.check_text?.(text) ?? 0;
      if (typeof refused === 'string') bad(refused);
      values.set(name, text);
      continue;
    }
    const value = typeof given === 'number' ? given : kenv_number(given);
    if (value === null || !Number.isFinite(value)) bad('not a number');
    else if (d && (value < d.min || value > d.max)) bad(`outside ${d.min} to ${d.max}`);
    else values.set(name, value);
  }
  return values;
}
/** The kernel options that tunables need which are not at their default. */
export function kenv_options(values: ReadonlyMap<string, number | string>): WantedOptions {
  const needed: WantedOptions = {};
  for (const d of sysctl_decls) {
    const value = values.get(d.name);
    if (d.needs !== null && value !== undefined && value !== d.value) needed[d.needs] = true;
  }
  return needed;
}
