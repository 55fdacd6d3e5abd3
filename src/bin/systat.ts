/*
 * systat: a page that is drawn again and again.
 *
 *      systat -mbufs [SECONDS]     what the network's buffers hold, as bars
 *
 * On a terminal the page is overwritten in place; a file or pipe gets the pages one
 * below the other.  The command draws every five seconds, as BSD's, for ever or
 * COUNT times; a replay draws as often as it likes, of which a file gets one a
 * second.
 */
import { mbuf_figures } from '../sys/observe/netstat_text.ts';
import { systat_mbufs_text } from '../sys/observe/systat_mbufs.ts';
import {
  EXIT_FAIL,
  EXIT_OK,
  EXIT_USAGE,
  type ToolContext,
  tool_flags,
  tool_refuse,
  tool_repeat,
  tool_rounds,
} from './tool.ts';

const SECOND_MS = 1000;

/** Shows pages on a stream; what is no terminal gets one each `every_ms`. */
export function systat_page(
  to: NodeJS.WriteStream,
  every_ms: number = SECOND_MS,
): (text: string) => void {
  let drawn = 0;
  let next = 0;
  return (text) => {
    if (to.isTTY) {
      const lines = text.trimEnd().split('\n');
      const up = drawn > 0 ? `\x1b[${drawn}A` : '';
      to.write(`${up}\r${lines.map((line) => `${line}\x1b[K\n`).join('')}\x1b[J`);
      drawn = lines.length;
      return;
    }
    const now = performance.now();
    if (now < next) return;
    next = now + every_ms;
    to.write(`${text}\n`);
  };
}

const USAGE = 'systat -mbufs [-c COUNT] [--json] [SECONDS]';
/** Seconds between pages. */
const INTERVAL = '5';

export const SYSTAT_HELP = `usage: kmem systat -mbufs [-c COUNT] [--json] [SECONDS]

Shows a page of a running machine again and again, every SECONDS (default ${INTERVAL}),
until it is interrupted.

  -mbufs           mbufs and clusters in use, a bar for each kind
  -c COUNT         so many pages
  --json           one JSON document a line instead of pages

examples:
  kmem systat -mbufs
  kmem systat -mbufs 0.5
  kmem systat -mbufs -c 1 > page.txt
`;

/** The command; `page` shows a page. Returns its exit code. */
export async function systat_main(
  argv: readonly string[],
  ctx: ToolContext,
  page: (text: string) => void = systat_page(process.stdout, 0),
): Promise<number> {
  const refuse = tool_refuse(ctx, USAGE);
  const views = argv.filter((word) => /^-[a-z]{2}/.test(word));
  const unknown = views.find((word) => word !== '-mbufs');
  if (unknown) return refuse(`${unknown}: no such display`);
  const rest = argv.filter((word) => !views.includes(word));
  const flags = tool_flags(rest, 'c:', USAGE, ctx);
  if (!flags) return EXIT_USAGE;
  const { on, values, operands } = flags;
  if (views.length === 0) return refuse('say what to show: -mbufs');
  if (operands.length > 1) return refuse(`${operands[1]}: one number of seconds is taken`);
  const rounds = tool_rounds(operands[0] ?? INTERVAL, values.get('c'));
  if (typeof rounds === 'string') return refuse(rounds.replace(/^-w /, ''));
  return await tool_repeat(rounds, () => {
    const figures = mbuf_figures(ctx.fetch);
    if (typeof figures === 'string') {
      ctx.err(`systat: ${figures}\n`);
      return EXIT_FAIL;
    }
    if (on.has('json')) ctx.out(`${JSON.stringify({ 'mbuf-statistics': figures })}\n`);
    else page(systat_mbufs_text(figures));
    return EXIT_OK;
  });
}
