/*
 * strace.test.lib: reading what strace wrote, for the tests of its reader.
 *
 * read_text() reads in this thread, in pieces of any size, and keeps the operations;
 * read_strace() has the reader's own thread do it, with a real ring.
 */
import { RingReader } from '../ring/ring.ts';
import { VM_COLUMNS, vm_batches } from '../ring/vm_events.ts';
import { VmModel } from '../vm/vm_events.model.ts';
import { LineStats } from './line_stats.ts';
import { LineCutter } from './lines.ts';
import type { StraceDocument } from './read_trace.ts';
import { open_reader, type ReaderOptions } from './reader.ts';
import type { SourceError } from './source.ts';
import { StraceParser, type StraceReading } from './strace.ts';
import { truth_in } from './traces.test.common.ts';

export interface Read {
  document: StraceReading;
  /** Operations, one row behind another. */
  rows: Float64Array;
  files: string[];
  /** The last line is whole. */
  whole: boolean;
}
export function read_text(text: string | Uint8Array, piece = (): number => 1 << 20): Read {
  const bytes = typeof text === 'string' ? Buffer.from(text, 'latin1') : text;
  const lines = new LineStats(false);
  const cutter = new LineCutter();
  const rows: number[] = [];
  const files: string[] = ['', ''];
  const parser = new StraceParser(cutter, lines, {
    file: (index, name) => void (files[index] = name),
    operation: (row) => void rows.push(...row),
  });
  lines.begin('trace');
  for (let at = 0; at < bytes.length; ) {
    const n = Math.max(1, piece());
    cutter.feed(bytes.subarray(at, at + n), parser);
    at += n;
  }
  const whole = cutter.finish(parser);
  parser.file_over();
  parser.finish();
  return { document: parser.document(), rows: Float64Array.from(rows), files, whole };
}
/** The operations of a recording, played by the model. */
export function modelled({ rows }: Pick<Read, 'rows'>): VmModel {
  const model = new VmModel();
  model.play(rows, rows.length / VM_COLUMNS);
  return model;
}

/** Reads files with the reader's thread; this thread plays what comes out of the ring. */
export async function read_strace(
  files: string[],
  more: Partial<ReaderOptions> = {},
): Promise<{ trace?: StraceDocument; error?: SourceError; model: VmModel; names: string[] }> {
  const reader = open_reader({ files, cpus: 1, ...more });
  const model = new VmModel();
  let names: string[] = [];
  for (const batch of vm_batches(new RingReader(reader.ring_handle, 0))) {
    model.play(batch.rows, batch.count);
    names = [...batch.files];
  }
  return await reader.done.then(
    ({ trace }) => ({ trace: trace as unknown as StraceDocument, model, names }),
    (error: SourceError) => ({ error, model, names }),
  );
}

export type StraceTruth = Record<string, Partial<StraceDocument>>;
/** What is true of the recordings of system calls of a folder; null: there is none. */
export const strace_truth = (folder: string): StraceTruth | null =>
  truth_in(folder, /\.strace\.gz$/);
