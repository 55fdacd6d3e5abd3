/*
 * procstat: what is mapped in address spaces.
 *
 *      procstat -v [SPACE...]     entries, lowest address first; without SPACE of all spaces; SPACE
 *                                 is the number of one, or its name
 *
 *      -a                         of all spaces, as without SPACE
 *      -h                         no line of titles
 *      -w SECONDS   -c COUNT      again and again, so many times
 *
 * Columns, and with --json the names, are BSD's.  Its processes are spaces here, and PID is
 * the number of one: the kernel has it in kern.proc.vmmap, which all of this comes from.
 */
import { ENOENT } from '../sys/machine/errno.ts';
import { type kinfo_vmentry, kinfo_vmentries } from '../sys/observe/kinfo_vm.ts';
import { procstat_vm_document, procstat_vm_text } from '../sys/observe/procstat_text.ts';
import {
  EXIT_USAGE,
  type ToolContext,
  tool_fetch,
  tool_flags,
  tool_rounds,
  tool_show,
} from './tool.ts';

const USAGE = 'procstat -v [-ah] [-w SECONDS] [-c COUNT] [--json] [SPACE...]';

export const PROCSTAT_HELP = `usage: kmem procstat -v [-ah] [-w SECONDS] [-c COUNT] [--json]
                        [SPACE...]

Shows what is mapped in the address spaces of a running machine: where, what may
be done there, and how many pages of it are in memory.

  -v               what is mapped
  -a               in all spaces, as without SPACE
  -h               no line of titles
  -w SECONDS       again and again, so far apart
  -c COUNT         so many times (every second, unless -w says otherwise)
  --json           one JSON document, each time on a line of its own
  SPACE            name of a space, or its number, as the column PID shows it

What a column means: kmem explain PRES.

examples:
  kmem procstat -v
  kmem procstat -v store
  kmem procstat -v --json | jq '.procstat.vm[].vm[].kve_resident'
`;

/** What is mapped in the spaces that are wanted; a text: why that cannot be told. */
function entries_of(ctx: ToolContext, wanted: readonly string[]): kinfo_vmentry[] | string {
  const bytes = tool_fetch(ctx, 'kern.proc.vmmap');
  if (typeof bytes === 'string') return bytes;
  const all = kinfo_vmentries(bytes);
  if (wanted.length === 0) return all.sort((a, b) => a.space - b.space);
  const found: kinfo_vmentry[] = [];
  for (const space of wanted) {
    const number = /^[1-9]\d{0,9}$/.test(space) ? Number(space) : 0;
    const own = all.filter((e) =>
      number > 0 ? e.space === number : e.path === space || e.path.startsWith(`${space}/`),
    );
    // Of a space in which nothing is mapped nothing was said; one that has a number is asked for.
    if (own.length === 0 && (number === 0 || !space_exists(ctx, number))) {
      return `${space}: no such address space${number === 0 ? ', or nothing is mapped there' : ''}`;
    }
    found.push(...own);
  }
  return found;
}
/** Whether there is a space with that number. */
function space_exists(ctx: ToolContext, space: number): boolean {
  const mib = new Uint8Array(96);
  const name = new TextEncoder().encode('kern.proc.vmmap');
  const { error, oldlen } = ctx.sysctl([0, 3], mib, name);
  if (error !== 0) return false;
  const v = new DataView(mib.buffer);
  const numbers = Array.from({ length: oldlen / 4 }, (_, i) => v.getInt32(i * 4, true));
  return ctx.sysctl([...numbers, space], null, null).error !== ENOENT;
}

/** The command. Returns its exit code. */
export async function procstat_main(argv: readonly string[], ctx: ToolContext): Promise<number> {
  const flags = tool_flags(argv, 'vahw:c:', USAGE, ctx);
  if (!flags) return EXIT_USAGE;
  const { on, values, operands, refuse } = flags;
  if (!on.has('v')) return refuse('say what to show: -v what is mapped');
  if (on.has('a') && operands.length > 0) return refuse('-a: all spaces are shown, no SPACE');
  const rounds = tool_rounds(values.get('w'), values.get('c'));
  if (typeof rounds === 'string') return refuse(rounds);
  return await tool_show('procstat', ctx, { rounds, json: on.has('json') }, () => {
    const entries = entries_of(ctx, operands);
    if (typeof entries === 'string') return entries;
    const text = procstat_vm_text(entries, !on.has('h'));
    return { text, document: { procstat: procstat_vm_document(entries) } };
  });
}
