/*
 * netstat: what the network's buffers hold.
 *
 *      netstat -m     mbufs, clusters, what was denied and delayed
 *
 *      -M FILE        of a dump instead (dump_context.ts)
 *
 * The lines are BSD's; --json prints the same figures, and a few that have no
 * line, as one document.  They come from the statistics of the zones, read as
 * any tool reads them, and are sums of what vmstat -z shows of each.
 *
 *      { "mbuf-statistics": {
 *          "mbufs", "clusters", "packets", "jumbo_page", "jumbo_9k", "jumbo_16k":
 *             { current, cache, total, max, denied, delayed }    items; requests
 *          "tags": { current, bytes }
 *          "bytes": { current, cache, total }                    not rounded to K
 *          "sfbufs": { current, peak, max }, or null: this kernel does not say
 *          "sfbufs_denied", "sfbufs_delayed", "sendfile_io"
 *          "drains", "copies_failed", "pullups_failed"           calls
 *      } }
 *
 * All are whole numbers; max is 0 where there is no limit.  A replay's JSON has the
 * inner object as `mbufs`.
 */
import { mbuf_figures, netstat_mbuf_text } from '../sys/observe/netstat_text.ts';
import { EXIT_FAIL, EXIT_OK, EXIT_USAGE, type ToolContext, tool_end, tool_flags } from './tool.ts';

const USAGE = 'netstat -m [-M FILE] [--json]';

export const NETSTAT_HELP = `usage: kmem netstat -m [-M FILE] [--json]

Shows what the network's buffers of a running machine hold, or held when it was
dumped: mbufs and clusters in use and cached, requests that were denied or delayed.

  -m               that: there is no other view
  -M FILE          of a dump, as machine.dump(FILE) or a panic wrote it
  --json           one JSON document

examples:
  kmem netstat -m
  kmem netstat -m -p 4711
  kmem netstat -m --json | jq '."mbuf-statistics".clusters.current'
`;

/** The command. Returns its exit code. */
export function netstat_main(argv: readonly string[], ctx: ToolContext): number {
  const flags = tool_flags(argv, 'm', USAGE, ctx);
  if (!flags) return EXIT_USAGE;
  const { on, operands } = flags;
  if (operands.length > 0) {
    ctx.err(`netstat: ${operands[0]}: no operand is taken here; usage: ${USAGE}\n`);
    return EXIT_USAGE;
  }
  if (!on.has('m')) {
    ctx.err(`netstat: say what to show: -m mbufs; usage: ${USAGE}\n`);
    return EXIT_USAGE;
  }
  const figures = mbuf_figures(ctx.fetch);
  if (typeof figures === 'string') {
    if (!ctx.dump?.damage()) ctx.err(`netstat: ${figures}\n`);
    return tool_end('netstat', ctx, EXIT_FAIL);
  }
  if (on.has('json')) {
    ctx.out(`${JSON.stringify({ 'mbuf-statistics': figures })}\n`);
  } else ctx.out(netstat_mbuf_text(figures));
  return tool_end('netstat', ctx, EXIT_OK);
}
