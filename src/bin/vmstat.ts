/*
 * vmstat: what the allocators hold.
 *
 *      vmstat -m     malloc types: blocks and memory in use, requests, sizes
 *      vmstat -z     zones: item size, limit, used, free, requests, failures
 *      vmstat -s     sums since boot, and pages by their state
 *
 *      -w SECONDS    again and again        -c COUNT    so many times
 *      -M FILE       of a dump instead (dump_context.ts)
 *
 * Columns are BSD's; --json prints the same as one document, under the names
 * of BSD's machine-readable output: one a line, if it is repeated.  Everything
 * comes out of the two statistics streams and the variables below vm.stats, so the
 * figures are the kernel's own.  A row whose sample is not exact, because its CPUs
 * moved too much meanwhile, says so in JSON: `"approximate": true`; so does every row of
 * a dump that was written while threads ran.
 */
import { type memory_type, memstat_malloc_sizes } from '../sys/observe/memstat.ts';
import {
  memstat_read,
  memstat_sysctl_malloc,
  memstat_sysctl_uma,
} from '../sys/observe/memstat_sysctl.ts';
import {
  approximate,
  kilobytes,
  malloc_types,
  vmstat_malloc_text,
  vmstat_zone_rows,
  vmstat_zone_text,
} from '../sys/observe/vmstat_text.ts';
import {
  EXIT_FAIL,
  EXIT_OK,
  EXIT_USAGE,
  type ToolContext,
  tool_flags,
  tool_repeat,
  tool_rounds,
} from './tool.ts';
import { vmstat_sums, vmstat_sums_text } from './vmstat_sums.ts';

const USAGE = 'vmstat [-msz] [-M FILE] [-w SECONDS] [-c COUNT] [--json]';

export const VMSTAT_HELP = `usage: kmem vmstat [-msz] [-w SECONDS] [-c COUNT] [--json]
       kmem vmstat [-msz] -M FILE [--json]

Shows what the allocators of a running machine hold, or held when it was dumped.

  -m               malloc types: blocks and memory in use, requests, sizes
  -z               zones: item size, limit, used, free, requests, failures, sleeps
  -s               sums since boot, and pages by their state
  -w SECONDS       again and again, so far apart
  -c COUNT         so many times (every second, unless -w says otherwise)
  -M FILE          of a dump, as machine.dump(FILE) or a panic wrote it
  --json           one JSON document, each time on a line of its own

examples:
  kmem vmstat -m
  kmem vmstat -z -p 4711
  kmem vmstat -mz -w 5
  kmem vmstat -mz -M app.core
  kmem vmstat -s --json | jq '."summary-statistics"'
`;

interface MallocRow {
  type: string;
  'in-use': number;
  /** Kilobytes, as the table shows them. */
  'memory-use': number;
  'memory-use-bytes': number;
  requests: number;
  size: number[];
  /** The sample is not exact; absent if it is. */
  approximate?: true;
}
/** The rows of `vmstat -m --json`. */
function vmstat_malloc_rows(types: readonly memory_type[]): MallocRow[] {
  return malloc_types(types).map((t) => ({
    type: t.name,
    'in-use': t.count,
    'memory-use': kilobytes(t.bytes),
    'memory-use-bytes': t.bytes,
    requests: t.numallocs,
    size: memstat_malloc_sizes(t.sizemask),
    ...approximate(t),
  }));
}

/** Reads one allocator's types, newest numbers; null after a message. */
function read(
  ctx: ToolContext,
  fill: typeof memstat_sysctl_malloc,
  what: string,
): memory_type[] | null {
  const types = memstat_read(fill, ctx.fetch);
  if (typeof types === 'string') {
    ctx.err(`vmstat: ${ctx.dump?.damage() || `${what}: ${types}`}\n`);
    return null;
  }
  if (ctx.dump?.approximate) for (const t of types) t.approximate = true;
  return types;
}
/** Prints everything once. */
function report(on: ReadonlySet<string>, ctx: ToolContext): number {
  const document: Record<string, unknown> = {};
  const json = on.has('json');
  if (on.has('s')) {
    const sums = vmstat_sums(ctx.fetch);
    document['summary-statistics'] = Object.fromEntries(sums.map((s) => [s.key, s.value]));
    if (!json) ctx.out(vmstat_sums_text(sums));
  }
  if (on.has('m')) {
    const types = read(ctx, memstat_sysctl_malloc, 'kern.malloc_stats');
    if (!types) return EXIT_FAIL;
    document['malloc-statistics'] = { memory: vmstat_malloc_rows(types) };
    if (!json) ctx.out(vmstat_malloc_text(types));
  }
  if (on.has('z')) {
    const types = read(ctx, memstat_sysctl_uma, 'vm.zone_stats');
    if (!types) return EXIT_FAIL;
    document['memory-zone-statistics'] = { zone: vmstat_zone_rows(types) };
    if (!json) ctx.out(vmstat_zone_text(types));
  }
  if (json) ctx.out(`${JSON.stringify(document)}\n`);
  return EXIT_OK;
}

/** The command. Returns its exit code. */
export async function vmstat_main(argv: readonly string[], ctx: ToolContext): Promise<number> {
  const flags = tool_flags(argv, 'mszw:c:', USAGE, ctx);
  if (!flags) return EXIT_USAGE;
  const { on, values, operands } = flags;
  const refuse = (text: string): number => {
    ctx.err(`vmstat: ${text}; usage: ${USAGE}\n`);
    return EXIT_USAGE;
  };
  if (operands.length > 0) return refuse(`${operands[0]}: no operand is taken here`);
  if (!on.has('m') && !on.has('z') && !on.has('s')) {
    return refuse('say what to show: -m malloc types, -z zones, -s sums since boot');
  }
  if (ctx.dump && (on.has('w') || on.has('c')))
    return refuse('-M: a dump does not change: no -w, no -c');
  const rounds = tool_rounds(values.get('w'), values.get('c'));
  if (typeof rounds === 'string') return refuse(rounds);
  return await tool_repeat(rounds, (n) => {
    if (n > 0 && !on.has('json')) ctx.out('\n');
    return report(on, ctx);
  });
}
