/*
 * boot_args: what boot is given, looked at before anything is made of it.
 *
 * An option of another type than its own is an error: nothing is converted.  Tunables of the
 * environment (boot_env.ts) are added.
 */
import { debug_is_level, debug_no_level } from '../sys/boot/debug_level.ts';
import type { BootOptions } from '../sys/boot/main.ts';
import { EINVAL } from '../sys/machine/errno.ts';
import { OPTION_NUMBER } from '../sys/machine/opt.ts';
import { shown } from './args.ts';
import { environmentTunables } from './boot_env.ts';
import { kmemError } from './errors.ts';

/** Types of the options that are values: what has another is not converted. */
const VALUES = {
  memory: ['number', 'string'],
  cpus: ['number'],
  domains: ['number'],
  seed: ['number'],
  atomics: ['string'],
  checked: ['boolean'],
  debug: ['boolean', 'string'],
  fresh: ['boolean'],
  pagedaemon: ['boolean'],
  pagers: ['number'],
  opfs: ['boolean'],
} as const;
/** Throws EINVAL for values of other types. */
function checkValues(
  what: string,
  values: object,
  types: (name: string) => readonly string[],
): void {
  for (const [name, value] of Object.entries(values)) {
    if (value === undefined || types(name).includes(typeof value)) continue;
    const kinds = types(name).join(' or ');
    throw kmemError(EINVAL, 'boot', `${what}${name}: ${shown(value)} is no ${kinds}`);
  }
}
/** The level that whoever started the program asks for: KMEM_DEBUG. */
function debugOfHost(): BootOptions['debug'] {
  const { process } = globalThis as { process?: { env?: Record<string, string | undefined> } };
  const word = process?.env?.['KMEM_DEBUG'];
  if (word === undefined || word === '') return undefined;
  if (!debug_is_level(word)) throw debug_no_level('boot', `KMEM_DEBUG=${word}`);
  return word;
}
/** Options as plain data: each was read once, so that no getter runs in the middle of the boot. */
export function plainOptions(given: BootOptions): BootOptions {
  const plain = { ...given };
  plain.debug ??= debugOfHost();
  for (const name of Object.keys(VALUES) as (keyof typeof VALUES)[]) {
    checkValues('', { [name]: plain[name] }, () => VALUES[name]);
  }
  for (const name of ['options', 'set'] as const) {
    const part: unknown = plain[name];
    if (part === undefined) continue;
    if (typeof part !== 'object' || part === null) {
      throw kmemError(EINVAL, 'boot', `${name}: ${shown(part)} is no object`);
    }
    Object.assign(plain, { [name]: { ...part } });
  }
  checkValues('set ', plain.set ?? {}, () => ['number', 'string']);
  checkValues('options ', plain.options ?? {}, (name) =>
    name === OPTION_NUMBER ? ['number', 'boolean'] : ['boolean'],
  );
  const outside = environmentTunables();
  if (Object.keys(outside).length > 0) plain.set = { ...plain.set, ...outside };
  return plain;
}
