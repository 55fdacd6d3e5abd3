/*
 * dump_context: a dump, as the commands see it.
 *
 * They ask by the names of statistics and variables, and do not know whether a running
 * program answers or the memory that one left (sys/observe/kvm.ts).  A dump answers by
 * name only: there is no tree to be walked, and nothing can be set.
 *
 * The whole of the library is imported: which structures there are, and so the layout
 * by which a dump is known to be of this version, follows from what a program imports.
 */
import '../lib/index.ts';
import { EOPNOTSUPP } from '../sys/machine/errno.ts';
import { kvm_load } from '../sys/observe/kvm.ts';
import type { ToolContext } from './tool.ts';

/**
 * A context over the dump at `path`, or over the machine in a core file: the one with the id
 * `machine` if there are several.  Null after a line that says why not.
 */
export async function dump_context(
  { path, machine }: { path: string; machine?: string | undefined },
  command: string,
  out: ToolContext['out'],
  err: ToolContext['err'],
): Promise<ToolContext | null> {
  const k = await kvm_load(path, machine);
  if (typeof k === 'string') {
    err(`${command}: ${path}: ${k}\n`);
    return null;
  }
  if (!k.quiet) {
    const what = 'threads ran while it was written: figures may not belong together';
    err(`${command}: ${path}: ${what}\n`);
  }
  return {
    sysctl: (_mib, oldp) => ({ error: EOPNOTSUPP, oldlen: oldp ? oldp.length : 0 }),
    fetch: k.fetch,
    out,
    err,
    dump: {
      approximate: !k.quiet,
      damage: () => (k.damage() === '' ? '' : `${path}: ${k.damage()}`),
    },
  };
}
