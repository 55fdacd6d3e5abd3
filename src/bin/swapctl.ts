/*
 * swapctl: the swap areas of a machine.
 *
 *      swapctl -l     a line for each: file, blocks, used, free, how full, priority
 *      swapctl -s     the sums, in one line
 *
 *      -k -m -g       blocks of so many bytes (1024, 2^20, 2^30); without: of 512
 *      -w SECONDS   -c COUNT      again and again, so many times
 *      -M FILE        of a dump instead (dump_context.ts)
 *
 * Columns are BSD's; --json prints the areas in bytes.  Areas come and go by machine.swapon()
 * and swapoff(), in the program itself.
 */
import {
  type SwapInfo,
  type SwapUnit,
  swapctl_sum_text,
  swapctl_text,
} from '../sys/observe/swap_info.ts';
import {
  EXIT_USAGE,
  type ToolContext,
  tool_fetch,
  tool_flags,
  tool_rounds,
  tool_show,
} from './tool.ts';

const USAGE = 'swapctl -l|-s [-k|-m|-g] [-M FILE] [-w SECONDS] [-c COUNT] [--json]';

export const SWAPCTL_HELP = `usage: kmem swapctl -l|-s [-k|-m|-g] [-w SECONDS] [-c COUNT] [--json]
       kmem swapctl -l|-s [-k|-m|-g] -M FILE [--json]

Shows the swap areas of a running machine, or of one when it was dumped: files
that pages lie in whose memory is needed for something else.

  -l               a line for each area
  -s               the sums, in one line
  -k, -m, -g       in blocks of 1K, 1M, 1G; without: of 512 bytes
  -w SECONDS       again and again, so far apart
  -c COUNT         so many times (every second, unless -w says otherwise)
  -M FILE          of a dump, as machine.dump(FILE) or a panic wrote it
  --json           one JSON document, in bytes, each time on a line of its own

What a column means: kmem explain Capacity.

examples:
  kmem swapctl -l
  kmem swapctl -s -m
  kmem swapctl -l --json | jq '.swapctl[].used'
`;

const UNITS = {
  k: { bytes: 2 ** 10, name: '1K-blocks' },
  m: { bytes: 2 ** 20, name: '1M-blocks' },
  g: { bytes: 2 ** 30, name: '1G-blocks' },
} as const;
const PLAIN: SwapUnit = { bytes: 512, name: '512-blocks' };

/** The areas; a text: why they cannot be told. */
function areas_of(ctx: ToolContext): SwapInfo[] | string {
  const bytes = tool_fetch(ctx, 'vm.swap_list');
  if (typeof bytes === 'string') return bytes;
  try {
    return JSON.parse(new TextDecoder().decode(bytes).replace(/\0.*$/s, '')) as SwapInfo[];
  } catch {
    return 'vm.swap_list: it cannot be read';
  }
}
/** The command. Returns its exit code. */
export async function swapctl_main(argv: readonly string[], ctx: ToolContext): Promise<number> {
  const flags = tool_flags(argv, 'lskmgw:c:', USAGE, ctx);
  if (!flags) return EXIT_USAGE;
  const { on, values, operands, refuse } = flags;
  if (operands.length > 0) return refuse(`${operands[0]}: nothing else is to be said`);
  if (on.has('l') === on.has('s')) return refuse('say what to show: -l each area, or -s the sums');
  const units = (['k', 'm', 'g'] as const).filter((unit) => on.has(unit));
  if (units.length > 1) return refuse('-k, -m, -g: one of them');
  const rounds = tool_rounds(values.get('w'), values.get('c'));
  if (typeof rounds === 'string') return refuse(rounds);
  const unit = units.length === 0 ? PLAIN : UNITS[units[0]];
  return await tool_show('swapctl', ctx, { rounds, json: on.has('json') }, () => {
    const areas = areas_of(ctx);
    if (typeof areas === 'string') return areas;
    const text = (on.has('l') ? swapctl_text : swapctl_sum_text)(areas, unit);
    return { text, document: { swapctl: areas } };
  });
}
