/*
 * reader: starts the thread that reads a trace, and watches over it.
 *
 *        this thread            reader's thread           players' threads
 *   open_reader() ────start───► read_trace()
 *        │                         │ events ──► ring ══════► RingReader …
 *        │◄── one message ─────────┘              ▲
 *        └── thread died? fail the ring ──────────┘
 *
 * Text is parsed away from the players, so that playing is never held up by it;
 * the ring's size says how far the reader may run ahead.
 *
 * Always true: whatever happens to the reader's thread, the ring ends or fails,
 * so no player waits for ever; `done` settles once, after the thread is gone.
 */

import { Worker } from 'node:worker_threads';
import type { TraceResult } from './read_trace.ts';
import type { ReaderMessage, ReaderTask } from './reader_worker.ts';
import {
  FAULT_ABORTED,
  FAULT_WRITER_DIED,
  make_ring,
  RingControl,
  type RingHandle,
  type RingProgress,
} from '../ring/ring.ts';
import type { TraceFormat } from './detect_format.ts';
import type { TypeBy } from './sites.ts';
import { SourceError } from './source.ts';

export type { TraceResult } from './read_trace.ts';

export interface ReaderOptions {
  /** Parts of one trace, in order; '-' is standard input. */
  files: string[];
  /** What messages call them, when not so. */
  names?: string[];
  /** Players that will read the ring, each with an index of its own from 0. */
  cpus: number;
  /** How finely call sites are told apart; 'caller' when absent. */
  type_by?: TypeBy;
  /** The first malformed line ends the reading with an error. */
  strict?: boolean;
  /** Times a capture is read; once when absent. */
  loop?: number;
  /** References to pages: a size of memory for which exact LRU is told. */
  lru_pages?: number;
  /** Events the ring holds. */
  ring_events?: number;
}

export interface Reader {
  readonly ring_handle: RingHandle;
  /** What the first file is, as soon as that is known; rejects as `done` does. */
  readonly format: Promise<TraceFormat>;
  /** Rejects with a SourceError when the input is unreadable; of a capture see `format`. */
  readonly done: Promise<TraceResult>;
  /** Bytes and events so far; cheap, no message is sent. */
  progress(): RingProgress;
  /** A player's thread is gone: do not wait for it. */
  player_gone(index: number): void;
  /** Calls the reading off; players get RING_FAILED, `done` rejects. */
  abort(): Promise<void>;
}

export function open_reader(options: ReaderOptions): Reader {
  const ring = make_ring(options.cpus, options.ring_events);
  const control = new RingControl(ring);
  const task: ReaderTask = {
    options: {
      files: options.files,
      names: options.names,
      type_by: options.type_by ?? 'caller',
      strict: options.strict ?? false,
      loop: options.loop ?? 1,
      lru_pages: options.lru_pages ?? 0,
    },
    ring,
  };
  const start = { workerData: task, ...worker_flags() };
  const worker = import.meta.url.endsWith('.ts')
    ? new Worker(new URL('./reader_worker.ts', import.meta.url), start)
    : new Worker(new URL('./reader_worker.js', import.meta.url), start);
  const called_off = { yet: false };
  const done = outcome(worker, control, called_off, String(options.names ?? options.files));
  const format = first_format(worker, done);
  /* Whoever does not look at `done` hears of the failure from the ring. */
  done.catch(() => {});
  format.catch(() => {});
  return {
    ring_handle: ring,
    format,
    done,
    progress: () => control.progress(),
    player_gone: (index) => control.reader_gone(index),
    abort: async () => {
      called_off.yet = true;
      control.fail(FAULT_ABORTED);
      await worker.terminate();
    },
  };
}

/* A thread inherits Node's flags, but the one for scripts given with -e keeps it from starting. */
function worker_flags(): { execArgv?: string[] } {
  return process.execArgv.some((flag) => flag.startsWith('--input-type')) ? { execArgv: [] } : {};
}

function first_format(worker: Worker, done: Promise<TraceResult>): Promise<TraceFormat> {
  return new Promise((resolve, reject) => {
    worker.on('message', (posted: ReaderMessage) => {
      if ('format' in posted) resolve(posted.format);
    });
    done.catch(reject);
  });
}

function outcome(
  worker: Worker,
  control: RingControl,
  called_off: { yet: boolean },
  files: string,
): Promise<TraceResult> {
  return new Promise((resolve, reject) => {
    let message: ReaderMessage | null = null;
    let died: Error | null = null;
    worker.on('message', (posted: ReaderMessage) => {
      if (!('format' in posted)) message = posted;
    });
    worker.on('error', (error: Error) => {
      died = error;
      control.fail(FAULT_WRITER_DIED);
    });
    worker.on('exit', (code) => {
      control.fail(FAULT_WRITER_DIED);
      // A ring that had ended when the reading was called off shows no fault.
      const ended_by_us = called_off.yet && message === null && died === null;
      if (ended_by_us || control.fault() === FAULT_ABORTED) {
        reject(new SourceError(files, null, 'called off', 'run it again to read it whole'));
      } else if (message !== null && 'result' in message) {
        resolve(message.result as TraceResult);
      } else if (message !== null && 'failure' in message) {
        const { file, offset, reason, advice, fault } = message.failure;
        reject(new SourceError(file, offset, reason, advice, fault));
      } else {
        const why = died === null ? `the reader stopped (exit ${code})` : died.message;
        reject(new SourceError(files, null, why, 'run it again; if it stays, report it'));
      }
    });
  });
}
