/*
 * vmstat: what the allocators hold.
 *
 *      vmstat -m     malloc types: blocks and memory in use, requests, sizes
 *      vmstat -z     zones: item size, limit, used, free, requests, failures
 *
 * Columns are BSD's; --json prints the same as one document, under the names
 * of BSD's machine-readable output.  Everything comes out of the two statistics
 * streams, so the figures are the kernel's own.
 */
import { type memory_type, memstat_malloc_sizes } from '../sys/observe/memstat.ts';
import {
  memstat_read,
  memstat_sysctl_malloc,
  memstat_sysctl_uma,
} from '../sys/observe/memstat_sysctl.ts';
import {
  kilobytes,
  malloc_types,
  vmstat_malloc_text,
  vmstat_zone_rows,
  vmstat_zone_text,
} from '../sys/observe/vmstat_text.ts';
import { EXIT_FAIL, EXIT_OK, EXIT_USAGE, type ToolContext, tool_flags } from './tool.ts';

const USAGE = 'vmstat [-mz] [--json]';

interface MallocRow {
  type: string;
  'in-use': number;
  /** Kilobytes, as the table shows them. */
  'memory-use': number;
  'memory-use-bytes': number;
  requests: number;
  size: number[];
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
  }));
}

/** Reads one allocator's types, newest numbers; null after a message. */
function read(
  ctx: ToolContext,
  fill: typeof memstat_sysctl_malloc,
  what: string,
): memory_type[] | null {
  const types = memstat_read(fill, ctx.fetch);
  if (typeof types !== 'string') return types;
  ctx.err(`vmstat: ${what}: ${types}\n`);
  return null;
}

/** The command. Returns its exit code. */
export function vmstat_main(argv: readonly string[], ctx: ToolContext): number {
  const flags = tool_flags(argv, 'mz', USAGE, ctx);
  if (!flags) return EXIT_USAGE;
  const { on, operands } = flags;
  if (operands.length > 0) {
    ctx.err(`vmstat: ${operands[0]}: no operand is taken here; usage: ${USAGE}\n`);
    return EXIT_USAGE;
  }
  if (!on.has('m') && !on.has('z')) {
    ctx.err(`vmstat: say what to show: -m malloc types, -z zones; usage: ${USAGE}\n`);
    return EXIT_USAGE;
  }
  const document: Record<string, unknown> = {};
  if (on.has('m')) {
    const types = read(ctx, memstat_sysctl_malloc, 'kern.malloc_stats');
    if (!types) return EXIT_FAIL;
    document['malloc-statistics'] = { memory: vmstat_malloc_rows(types) };
    if (!on.has('json')) ctx.out(vmstat_malloc_text(types));
  }
  if (on.has('z')) {
    const types = read(ctx, memstat_sysctl_uma, 'vm.zone_stats');
    if (!types) return EXIT_FAIL;
    document['memory-zone-statistics'] = { zone: vmstat_zone_rows(types) };
    if (!on.has('json')) ctx.out(vmstat_zone_text(types));
  }
  if (on.has('json')) ctx.out(`${JSON.stringify(document)}\n`);
  return EXIT_OK;
}
