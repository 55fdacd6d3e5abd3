/*
 * boot_env: tunables from the environment of the process.
 *
 *      KMEM_SET='vm.redzone.enable=1 vm.redzone.types=session,cookie' node app.js
 *
 * A BSD kernel takes tunables from its loader, which its owner may type at, whoever compiled the
 * kernel.  Here the environment stands for the loader: it sets what a program's boot({ set })
 * could, without a change of the program, and counts for more.  Names and values are looked at as
 * those of boot are.  A host without an environment has none.
 */
import { EINVAL } from '../sys/machine/errno.ts';
import { kmemError } from './errors.ts';

const NAME = 'KMEM_SET';
interface Host {
  process?: { env?: Readonly<Record<string, string | undefined>> };
}

/** Tunables of the environment by name. Throws EINVAL for what is no NAME=VALUE. */
export function environmentTunables(): Record<string, string> {
  const set: Record<string, string> = {};
  const text = (globalThis as Host).process?.env?.[NAME] ?? '';
  for (const word of text.split(/\s+/)) {
    if (word === '') continue;
    const at = word.indexOf('=');
    if (at <= 0) {
      throw kmemError(EINVAL, 'boot', `${NAME}: '${word}' is no NAME=VALUE (blanks between them)`);
    }
    set[word.slice(0, at)] = word.slice(at + 1);
  }
  return set;
}
