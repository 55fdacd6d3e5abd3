/*
 * boot_args: what boot is given, looked at before anything is made of it.
 *
 * An option of another type than its own is an error: nothing is converted.  What the
 * environment says (boot_env.ts) is added.
 */
import type { BootOptions } from '../sys/boot/main.ts';
import { EINVAL } from '../sys/machine/errno.ts';
import { OPTION_NUMBER } from '../sys/machine/opt.ts';
import { shown } from './args.ts';
import { withEnvironment } from './boot_env.ts';
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
/** Options as plain data: each was read once, so that no getter runs in the middle of the boot. */
export function plainOptions(given: BootOptions): BootOptions {
  const plain = { ...given };
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
  return withEnvironment(plain);
}
