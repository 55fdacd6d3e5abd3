/*
 * reader_worker: the thread that reads a trace (reader.ts starts it).
 *
 * It is given a ring and file names and reads until the end or until nobody
 * listens.  It posts the format as soon as it knows it, and at the end the result
 * or the error.  A thread that dies without a message is noticed by its parent,
 * which fails the ring.
 */

import { parentPort, workerData } from 'node:worker_threads';
import { type AnyDocument, type ReadOptions, read_trace, type TraceResult } from './read_trace.ts';
import type { RingHandle } from '../ring/ring.ts';
import type { TraceFormat } from './detect_format.ts';
import { SourceError, type SourceFault } from './source.ts';

export interface ReaderTask {
  options: ReadOptions;
  ring: RingHandle;
}

export interface ReaderFailure {
  file: string;
  offset: number | null;
  reason: string;
  advice: string;
  fault: SourceFault;
}

export type ReaderMessage =
  | { format: TraceFormat }
  | { result: TraceResult<AnyDocument> }
  | { failure: ReaderFailure };

const task = workerData as ReaderTask;

async function run(): Promise<ReaderMessage> {
  try {
    const begun = (format: TraceFormat): void => parentPort?.postMessage({ format });
    return { result: await read_trace(task.options, task.ring, begun) };
  } catch (error) {
    if (!(error instanceof SourceError)) throw error;
    const { file, offset, reason, advice, fault } = error;
    return { failure: { file, offset, reason, advice, fault } };
  }
}

parentPort?.postMessage(await run());
