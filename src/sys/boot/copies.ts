/*
 * copies: several copies of this package in one thread.
 *
 *      app ── kmem (its own) ── boot: up
 *       └── a library ── kmem (another version, or the same one loaded twice)
 *                          └── boot, attach: EBUSY, with both paths
 *
 * A copy is a set of module instances: two versions installed, a build beside its sources,
 * a module that a test runner loads anew.  Each has views, a CPU number and caches of its
 * own, so two of them would be two CPUs that the host takes for one thread: the death of
 * the one is the death of the other, and a lock that the one holds the other waits for,
 * for ever.  So only one of them may be in a machine at a time.
 *
 * The copies of a thread find one another in a list that hangs on an object which all of
 * them see and no other thread does: Node's worker_threads module, which is the same in
 * all contexts of a thread; elsewhere the global object.  Each says there where it
 * lies, and can be asked whether it is up.  What other versions wrote there is looked at with care.
 */
import { thr } from '../machine/cpu.ts';
import { EBUSY, KmemError } from '../machine/errno.ts';
import { M, machine, SITE_WORDS } from '../machine/header.ts';
import { host_thread_object } from '../machine/host.ts';
import { get_string } from '../machine/struct.ts';

/** One copy; other versions read this too. */
interface Copy {
  /** Where its modules lie. */
  readonly path: string;
  /** Where its machine was booted; null: it is in none. */
  up(): string | null;
}
const LIST = Symbol.for('kmem.copies');

const own: Copy = {
  path: where(import.meta.url),
  up: () => (thr.cpu < 0 ? null : get_string(machine.site, M, SITE_WORDS)),
};
/** The folder that holds this one's folder; a bundle is its own file. */
function where(url: string): string {
  const folder = /^(.*\/)sys\/boot\/copies\.[jt]s$/.exec(url)?.[1] ?? url;
  return folder.startsWith('file://') ? decodeURIComponent(folder.slice('file://'.length)) : folder;
}
/** The other copies that are in a machine. From here on this one is among those to be asked. */
function others_up(): { path: string; site: string }[] {
  const holder = host_thread_object() as { [LIST]?: unknown };
  const list: unknown[] = Array.isArray(holder[LIST]) ? holder[LIST] : [];
  const up: { path: string; site: string }[] = [];
  const asked: unknown[] = [own];
  for (const other of list) {
    const site = other === own ? null : site_of(other);
    if (site === null) continue;
    asked.push(other);
    up.push({ path: String((other as Partial<Copy>).path), site });
  }
  // Who is not in a machine comes back when it wants to be in one; until then nothing keeps it.
  holder[LIST] = asked;
  return up;
}
/** Where a copy's machine was booted; null: it is in none, or is no record of a copy. */
function site_of(other: unknown): string | null {
  const up = (other as Partial<Copy> | null)?.up;
  const site: unknown = typeof up === 'function' ? up.call(other) : null;
  return typeof site === 'string' ? site : null;
}
/** Throws EBUSY if another copy is in a machine in this thread. */
export function copies_check(op: string): void {
  for (const { path, site } of others_up()) {
    const text =
      `another copy of kmem is in a machine in this thread: ${path}, ` +
      `booted at ${site}; this one is ${own.path}: let all import the same one`;
    throw new KmemError(EBUSY, op, text);
  }
}
