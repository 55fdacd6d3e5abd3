/*
 * boot_env: what whoever starts a program has its machine booted with, by the environment.
 *
 *      KMEM_SET='vm.redzone.enable=1 vm.redzone.types=session,cookie' node app.js
 *      KMEM_DEBUG=advanced        a level, or true, as boot({ debug })
 *      KMEM_OPTIONS=WITNESS       kernel options that are on, as boot({ options })
 *      KMEM_DUMP=/var/crash       a folder, as boot({ dump })
 *
 * A BSD kernel takes tunables from its loader, which its owner may type at, whoever compiled the
 * kernel.  Here the environment stands for the loader: it says what a program's boot could,
 * without a change of the program, which may be at fault and not ours to edit.  KMEM_SET and
 * KMEM_OPTIONS count for more than what boot is given; KMEM_DEBUG and KMEM_DUMP are for a boot that
 * says nothing of these.  Names and values are looked at as those of boot are.  A host without an
 * environment has none.
 */
import { debug_is_level, debug_no_level } from '../sys/boot/debug_level.ts';
import type { BootOptions } from '../sys/boot/main.ts';
import { EINVAL } from '../sys/machine/errno.ts';
import { kmemError } from './errors.ts';

interface Host {
  process?: { env?: Readonly<Record<string, string | undefined>> };
}
function variable(name: string): string {
  return (globalThis as Host).process?.env?.[name] ?? '';
}

/** Tunables of the environment by name. Throws EINVAL for what is no NAME=VALUE. */
function tunables(): Record<string, string> {
  const set: Record<string, string> = {};
  for (const word of variable('KMEM_SET').split(/\s+/)) {
    if (word === '') continue;
    const at = word.indexOf('=');
    if (at <= 0) {
      const text = `KMEM_SET: '${word}' is no NAME=VALUE (blanks between them)`;
      throw kmemError(EINVAL, 'boot', text);
    }
    set[word.slice(0, at)] = word.slice(at + 1);
  }
  return set;
}
function options(): Record<string, true> {
  const names = variable('KMEM_OPTIONS').split(/[\s,]+/);
  return Object.fromEntries(names.filter((name) => name !== '').map((name) => [name, true]));
}
/** KMEM_DEBUG. Throws EINVAL for what is neither a level nor true. */
function debug(): BootOptions['debug'] {
  const word = variable('KMEM_DEBUG');
  if (word === '') return undefined;
  if (word === 'true') return true;
  if (!debug_is_level(word)) throw debug_no_level('boot', `KMEM_DEBUG=${word}`);
  return word;
}

/** What boot was given, with what the environment says. */
export function withEnvironment(given: BootOptions): BootOptions {
  const dump = given.dump ?? (variable('KMEM_DUMP') || undefined);
  return {
    ...given,
    debug: given.debug === undefined ? debug() : given.debug, // null is refused
    set: { ...given.set, ...tunables() },
    options: { ...given.options, ...options() },
    ...(dump === undefined ? {} : { dump }),
  };
}
