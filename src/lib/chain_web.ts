/*
 * chain_web: Web streams of chains, in browsers and in Node.
 *
 *      readableChains(machine, response.body)      bytes come in, chains come out
 *      writableChains(machine, stream)             chains go in, bytes go out
 *
 *      ReadableStream of bytes -> chain -> ... -> chain -> WritableStream of bytes
 *
 * What comes in is copied into clusters once; where a limit is reached the source
 * is not read until others have freed some: the limit is the back-pressure.  A
 * chain that is read belongs to the reader.  A chain that is written is given
 * away: it is freed when its bytes are out, or when the stream fails.
 *
 * Most of what takes bytes in a browser (fetch, CompressionStream, Response)
 * refuses shared memory, so bytes go out as copies; `shared: true` hands out
 * views instead, for sinks that take them and are done with them when write()
 * resolves.
 */
import { EINVAL, ESHUTDOWN } from '../sys/machine/errno.ts';
import { booleanOf, checkOptions, shown, timeoutOf } from './args.ts';
import { Chain } from './chain.ts';
import type { ChainSource } from './chain_args.ts';
import { Held } from './chain_held.ts';
import { contextOf, gone } from './context.ts';
import { kmemError } from './errors.ts';
import type { Machine } from './machine.ts';

export interface ReadableChainsOptions {
  /** Longest wait for a limit, ms; then the stream fails with ETIMEDOUT. Default: no end. */
  readonly timeout?: number;
}
/**
 * A stream of chains, one for each chunk of `source` (bytes or text).  A chunk is
 * read when a chain is asked for, so that none lies in between; cancelling cancels
 * the source.  Errors of the source come through; ETIMEDOUT, ENOMEM for a chunk
 * that no limit could ever hold.
 */
export function readableChains(
  machine: Machine,
  source: ReadableStream<ChainSource>,
  options: ReadableChainsOptions = {},
): ReadableStream<Chain> {
  const timeout = timeoutOf('readableChains', options);
  contextOf('readableChains', machine);
  const reader = unlocked('readableChains', source, 'getReader').getReader();
  const stop = new AbortController();
  const wait = { timeout, signal: stop.signal };
  return new ReadableStream<Chain>(
    {
      async pull(controller) {
        const { done, value } = await reader.read();
        if (stop.signal.aborted) return;
        if (done) return controller.close();
        const chain = machine.chain();
        try {
          controller.enqueue(await chain.appendAsync(value, wait));
        } catch (e) {
          chain.free();
          if (stop.signal.aborted) return;
          reader.cancel(e).catch(() => {});
          throw e;
        }
      },
      async cancel(reason) {
        stop.abort(reason);
        await reader.cancel(reason);
      },
    },
    { highWaterMark: 0 },
  );
}

/** Throws EINVAL for what is no stream of that direction, or is another's already. */
function unlocked<T extends { readonly locked: boolean }>(op: string, stream: T, by: keyof T): T {
  const is = typeof stream === 'object' && stream !== null && typeof stream[by] === 'function';
  if (!is) throw kmemError(EINVAL, op, `${shown(stream)} is no stream with ${String(by)}()`);
  if (stream.locked) throw kmemError(EINVAL, op, 'the stream is locked: somebody has it already');
  return stream;
}

export interface WritableChainsOptions {
  /** Hands out views of shared memory instead of copies. Default false. */
  readonly shared?: boolean;
}
/**
 * A stream that takes chains and writes their bytes to `sink`, piece by piece, as
 * fast as that takes them.  A chain that was taken is freed, also when the stream
 * fails or is aborted, once the sink is done with it; only one that is written to a
 * stream that had failed before stays with its writer, whose write() rejects.
 */
export function writableChains(
  machine: Machine,
  sink: WritableStream<Uint8Array<ArrayBuffer>> | WritableStream<Uint8Array>,
  options: WritableChainsOptions = {},
): WritableStream<Chain> {
  checkOptions('writableChains', options, ['shared']);
  const shared = booleanOf('writableChains', 'shared', options.shared);
  const context = contextOf('writableChains', machine);
  const writer = unlocked(
    'writableChains',
    sink as WritableStream<Uint8Array>,
    'getWriter',
  ).getWriter();
  const state = { destroyed: false, writableEnded: false };
  const end = (): void => {
    state.destroyed = true; // what comes now goes nowhere
    held.freeAll();
  };
  /** Why nothing more is written: the thread has left the machine. */
  let left: Error | null = null;
  const held = new Held(() => {
    state.destroyed = true;
    left = kmemError(ESHUTDOWN, 'writableChains', 'the thread has left the machine');
    writer.abort(left).catch(() => {});
  });
  const put = async (chain: Chain): Promise<void> => {
    if (!(chain instanceof Chain)) throw kmemError(EINVAL, 'writableChains', 'not a chain');
    if (!context.up) gone('writableChains', context);
    if (!held.has(chain)) {
      throw kmemError(EINVAL, 'writableChains', 'the chain was freed, or given away before');
    }
    if (shared) held.lend(chain);
    for (const view of Chain.taken(chain)) {
      await writer.ready;
      if (left !== null) throw left;
      if (!held.has(chain)) throw kmemError(EINVAL, 'writableChains', 'the stream was aborted');
      await writer.write(shared ? view : view.slice());
    }
    held.free(chain);
  };
  return new WritableStream<Chain>(
    {
      start({ signal }) {
        // The sink hears of it at once: it may be what the write before is waiting for.
        signal.addEventListener('abort', () => {
          writer.abort(signal.reason).catch(() => {});
          state.destroyed = true;
          held.freeAll(false); // it may never be done with what it has
        });
      },
      async write(chain) {
        try {
          await put(chain);
        } catch (e) {
          end(); // no more of them will be asked for
          throw e;
        }
      },
      async close() {
        end();
        if (left !== null) throw left;
        await writer.close();
      },
      abort: end,
    },
    {
      highWaterMark: 1,
      size: (chain) => {
        held.take(chain, state); // from here on it is ours
        return 1;
      },
    },
  );
}
