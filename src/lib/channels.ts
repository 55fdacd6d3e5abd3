/*
 * channels: what the façade tells the host's diagnostics_channel.
 *
 *      kmem:boot       { cpu, memory }          kmem:attach    { cpu }
 *      kmem:shutdown   { cpu }                  kmem:detach    { cpu }
 *      kmem:malloc     { type, size, address }  kmem:free      { type, address }
 *      kmem:enomem     { op, type | zone, reason, size, freeBytes, longestRun,
 *                                                      holders }
 *      kmem:wait       { op, name, ms }         a call begins to wait for memory
 *      kmem:leak       { kind, name, count, bytes }
 *      kmem:exit       { threadId, code }       a worker that was adopted ended
 *
 * A message is made only if somebody listens; kmem:malloc and kmem:free moreover
 * only in a thread that called machine.trace(true), because the fast path has no
 * room for a look at them.  In a browser there is no such
 * module, and nothing is said.
 */
import { hostChannel } from './host.ts';

export const channels = {
  boot: hostChannel('kmem:boot'),
  attach: hostChannel('kmem:attach'),
  detach: hostChannel('kmem:detach'),
  shutdown: hostChannel('kmem:shutdown'),
  malloc: hostChannel('kmem:malloc'),
  free: hostChannel('kmem:free'),
  enomem: hostChannel('kmem:enomem'),
  wait: hostChannel('kmem:wait'),
  leak: hostChannel('kmem:leak'),
  exit: hostChannel('kmem:exit'),
} as const;

/** The names of all channels. */
export const CHANNEL_NAMES: readonly string[] = Object.keys(channels).map((name) => `kmem:${name}`);
