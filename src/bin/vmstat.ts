/*
 * vmstat: what address spaces do, and what the allocators hold.
 *
 *      vmstat        threads, memory, faults and paging, in a line
 *      vmstat -m     malloc types: blocks and memory in use, requests, sizes
 *      vmstat -z     zones: item size, limit, used, free, requests, failures
 *      vmstat -s     sums since boot, and pages by their state
 *      vmstat -o     memory objects: pages, references, what they are
 *
 *      -w SECONDS    again and again        -c COUNT    so many times
 *      -M FILE       of a dump instead (dump_context.ts)
 *      --sort WHAT   types by inuse, memuse or requests, most first
 *
 * The types end with their sum.  Each table of types after the first one has columns of
 * what changed since the one before.
 *
 * Columns are BSD's; --json prints the same as one document, under the names
 * of BSD's machine-readable output: one a line, if it is repeated.  Everything
 * comes out of the two statistics streams and the variables below vm.stats, so the
 * figures are the kernel's own.  A row whose sample is not exact, because its CPUs
 * moved too much meanwhile, says so in JSON: `"approximate": true`; so does every row of
 * a dump that was written while threads ran.  Of a running program JSON says which one it
 * is; so does a line above the tables, on a terminal.
 */
import { errno_name } from '../sys/machine/errno.ts';
import { kinfo_vmobjects } from '../sys/observe/kinfo_vm.ts';
import type { memory_type } from '../sys/observe/memstat.ts';
import {
  memstat_read,
  memstat_sysctl_malloc,
  memstat_sysctl_uma,
} from '../sys/observe/memstat_sysctl.ts';
import { vmstat_object_row, vmstat_object_text } from '../sys/observe/procstat_text.ts';
import {
  kilobytes,
  MALLOC_SORTS,
  type MallocLine,
  type MallocSort,
  type MallocTable,
  malloc_lines,
  malloc_lines_text,
  malloc_total,
  vmstat_zone_rows,
  vmstat_zone_text,
} from '../sys/observe/vmstat_text.ts';
import {
  EXIT_FAIL,
  EXIT_OK,
  EXIT_USAGE,
  type ToolContext,
  tool_end,
  tool_fetch,
  tool_flags,
  tool_opening,
  tool_repeat,
  tool_rounds,
} from './tool.ts';
import {
  type VmSample,
  vmstat_boot_time,
  vmstat_line,
  vmstat_rates,
  vmstat_rates_row,
  vmstat_sample,
  vmstat_titles,
} from '../sys/observe/vmstat_rates.ts';
import { vmstat_sums, vmstat_sums_text } from '../sys/observe/vmstat_sums.ts';

const USAGE = 'vmstat [-mosz] [-M FILE] [-w SECONDS] [-c COUNT] [--sort WHAT] [--json]';

export const VMSTAT_HELP = `usage: kmem vmstat [-mosz] [-w SECONDS] [-c COUNT] [--sort WHAT]
                   [--json]
       kmem vmstat [-msz] -M FILE [--sort WHAT] [--json]

Shows what the allocators of a running machine hold, or held when it was dumped,
and its memory objects.  Without any of these, a line about its address spaces:
threads, memory, faults and paging, per second.

  -m               malloc types: blocks and memory in use, requests, sizes, total
  -z               zones: item size, limit, used, free, requests, failures, sleeps
  -s               sums since boot, and pages by their state
  -o               memory objects, newest first: pages, references, what they are
  -w SECONDS       again and again, so far apart; -m then has what changed, too
  -c COUNT         so many times (every second, unless -w says otherwise)
  -M FILE          of a dump, as machine.dump(FILE) or a panic wrote it, compressed
                   or not; or of the machine in a core file of the operating system
  --machine ID     the one that is meant of several in a core file
  --sort WHAT      types by inuse, memuse or requests, most first
  --json           one JSON document, each time on a line of its own

What a column means: kmem explain MemUse.

examples:
  kmem vmstat -w 1
  kmem vmstat -m --sort memuse
  kmem vmstat -z -p 4711
  kmem vmstat -mz -w 5
  kmem vmstat -mz -M app.core
  kmem vmstat -s --json | jq '."summary-statistics"'
`;

/** A row of `vmstat -m --json`. */
interface MallocRow {
  type: string;
  'in-use': number;
  /** Kilobytes, as the table shows them. */
  'memory-use': number;
  'memory-use-bytes': number;
  /** The most there was of both, if it is known; otherwise absent. */
  'high-use'?: number;
  'high-use-bytes'?: number;
  requests: number;
  size: readonly number[];
  /** With -w, from the second time on. */
  'in-use-more'?: number;
  'memory-use-bytes-more'?: number;
  'requests-more'?: number;
  /** The sample is not exact; absent if it is. */
  approximate?: true;
}
function malloc_row(t: MallocLine): MallocRow {
  const high = { 'high-use': kilobytes(t.high ?? 0), 'high-use-bytes': t.high ?? 0 };
  const { more } = t;
  return {
    type: t.name,
    'in-use': t.count,
    'memory-use': kilobytes(t.bytes),
    'memory-use-bytes': t.bytes,
    ...(t.high === null ? {} : high),
    requests: t.requests,
    size: t.sizes,
    ...(more && {
      'in-use-more': more.count,
      'memory-use-bytes-more': more.bytes,
      'requests-more': more.requests,
    }),
    ...(t.approximate ? { approximate: true } : {}),
  };
}
function malloc_document(lines: readonly MallocLine[], o: MallocTable): Record<string, unknown> {
  const { type, size, ...total } = malloc_row(malloc_total(lines, o));
  return { memory: lines.map(malloc_row), total };
}

/** Reads one allocator's types, newest numbers; null after a message. */
function read(
  ctx: ToolContext,
  fill: typeof memstat_sysctl_malloc,
  what: string,
): memory_type[] | null {
  const types = memstat_read(fill, ctx.fetch);
  if (typeof types === 'string') {
    if (!ctx.dump?.damage()) ctx.err(`vmstat: ${what}: ${types}\n`); // else: tool_end does
    return null;
  }
  if (ctx.dump?.approximate) for (const t of types) t.approximate = true;
  return types;
}
/** What is shown, and what was shown of the types the time before. */
interface Shown {
  readonly on: ReadonlySet<string>;
  readonly sort: MallocSort | undefined;
  before: MallocLine[] | undefined;
  /** The line about spaces before this one. */
  last: VmSample | null;
}
/** How many lines stand below titles before those come again. */
const TITLES_EACH = 20;
/** Prints the n-th line about spaces. */
function report_rates(shown: Shown, ctx: ToolContext, n: number): number {
  const sample = vmstat_sample(ctx.fetch, Date.now());
  const since = vmstat_boot_time(ctx.fetch);
  const errno = typeof sample === 'number' ? sample : typeof since === 'number' ? 0 : since.errno;
  if (typeof sample === 'number' || typeof since !== 'number') {
    ctx.err(`vmstat: vm.vmtotal: ${errno_name(errno)}\n`);
    return EXIT_FAIL;
  }
  const row = vmstat_rates(sample, shown.last, since);
  shown.last = sample;
  if (shown.on.has('json')) {
    const program = ctx.program ? { program: ctx.program } : {};
    ctx.out(`${JSON.stringify({ ...program, ...vmstat_rates_row(row) })}\n`);
  } else ctx.out((n % TITLES_EACH === 0 ? vmstat_titles() : '') + vmstat_line(row));
  return EXIT_OK;
}
/** Prints everything once. */
function report(shown: Shown, ctx: ToolContext): number {
  const { on, sort, before } = shown;
  const document: Record<string, unknown> = ctx.program ? { program: ctx.program } : {};
  const json = on.has('json');
  let code = EXIT_OK;
  if (on.has('s')) {
    const sums = vmstat_sums(ctx.fetch);
    document['summary-statistics'] = Object.fromEntries(sums.map((s) => [s.key, s.value]));
    if (!json) ctx.out(vmstat_sums_text(sums));
  }
  if (on.has('m')) {
    const types = read(ctx, memstat_sysctl_malloc, 'kern.malloc_stats');
    if (!types && !ctx.dump) return EXIT_FAIL;
    if (types) {
      const table = { sort, before };
      shown.before = malloc_lines(types, table);
      document['malloc-statistics'] = malloc_document(shown.before, table);
      if (!json) ctx.out(malloc_lines_text(shown.before, table));
    } else code = EXIT_FAIL;
  }
  if (on.has('z')) {
    const types = read(ctx, memstat_sysctl_uma, 'vm.zone_stats');
    if (!types && !ctx.dump) return EXIT_FAIL;
    if (types) {
      document['memory-zone-statistics'] = { zone: vmstat_zone_rows(types) };
      if (!json) ctx.out(vmstat_zone_text(types));
    } else code = EXIT_FAIL;
  }
  if (on.has('o')) {
    const bytes = tool_fetch(ctx, 'vm.objects');
    if (typeof bytes === 'string') {
      ctx.err(`vmstat: ${bytes}\n`);
      return EXIT_FAIL;
    }
    const objects = kinfo_vmobjects(bytes);
    document.object = objects.map(vmstat_object_row);
    if (!json) ctx.out(vmstat_object_text(objects));
  }
  if (json) ctx.out(`${JSON.stringify(document)}\n`);
  return tool_end('vmstat', ctx, code);
}

/** The command. Returns its exit code. */
export async function vmstat_main(argv: readonly string[], ctx: ToolContext): Promise<number> {
  const flags = tool_flags(argv, 'mszow:c:', USAGE, ctx, ['sort']);
  if (!flags) return EXIT_USAGE;
  const { on, values, operands, refuse } = flags;
  if (operands.length > 0) return refuse(`${operands[0]}: no operand is taken here`);
  const plain = !['m', 'z', 's', 'o'].some((what) => on.has(what));
  if (plain && ctx.dump) return refuse('say what to show: -m malloc types, -z zones, -s sums');
  if (ctx.dump && on.has('o')) return refuse('-o: a dump is not asked for objects');
  if (ctx.dump && (on.has('w') || on.has('c')))
    return refuse('-M: a dump does not change: no -w, no -c');
  const rounds = tool_rounds(values.get('w'), values.get('c'));
  if (typeof rounds === 'string') return refuse(rounds);
  const sort = values.get('sort');
  if (sort !== undefined && !is_sort(sort)) {
    return refuse(`--sort ${sort}: one of ${Object.keys(MALLOC_SORTS).join(', ')} is wanted`);
  }
  if (sort !== undefined && !on.has('m')) return refuse('--sort: it sorts the types of -m');
  const shown: Shown = { on, sort, before: undefined, last: null };
  tool_opening(ctx, on.has('json'));
  return await tool_repeat(rounds, (n) => {
    if (plain) return report_rates(shown, ctx, n);
    if (n > 0 && !on.has('json')) ctx.out('\n');
    return report(shown, ctx);
  });
}
function is_sort(text: string): text is MallocSort {
  return Object.hasOwn(MALLOC_SORTS, text);
}
