/*
 * event_file: a recorded heap as a file of plain words, which every competitor plays from memory.
 *
 *      words 0-7     magic, version, events, ids, types, 0, 0, 0
 *      then three words an event:
 *        word 0      operation in bits 0-7, type in bits 8-23, log2 of the alignment above
 *        word 1      block id, below `ids`
 *        word 2      bytes; 0 for a free
 *
 * An ALLOC names an id that is dead, REALLOC and FREE one that is alive, and
 * all carry the type of the block, so that a player needs one table only: the
 * address of each id.  The file ends with a free of whatever the recorded
 * program left, so that it can be played again and again.
 *
 * Made by the same reader as `kmem replay` uses; types are call sites.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  EVENT_WORDS,
  event_align_shift,
  event_op,
  OP_ALIGNED,
  OP_ALLOC,
  OP_END,
  OP_FREE,
  OP_REALLOC,
  OP_SITE,
  SIZE_SATURATED,
  site_units,
} from '../src/replay/ring/events.ts';
import { open_reader } from '../src/replay/read/reader.ts';
import { RING_END, RING_FAILED, RING_TIMEOUT, RingReader } from '../src/replay/ring/ring.ts';
import { TYPES_MAX } from '../src/replay/read/type_names.ts';

export const MAGIC = 0x6b6d6576;
export const VERSION = 1;
export const HEAD_WORDS = 8;
export const PLAY_WORDS = 3;
export const TYPE_SHIFT = 8;
export const TYPE_MASK = 0xffff;
const LOOK_MS = 5;

/** The traces that are played: the first of each row that is there. */
const WANTED: readonly string[][] = [
  ['sqlite.mtrace.gz', 'gitlog.mtrace.gz'],
  ['python.mtrace.gz', 'make.mtrace.gz'],
  ['redis.mtrace.gz', 'redis.threads.gz'],
];

export interface EventFile {
  name: string;
  file: string;
  events: number;
  types: number;
}

function folders(): string[] {
  const root = fileURLToPath(new URL('..', import.meta.url));
  const shared = process.env['KMEM_TRACES'] ?? join(root, '..', 'shared', 'traces');
  return [shared, join(root, 'traces')];
}

function find_traces(): string[] {
  const found = WANTED.map((row) =>
    row.flatMap((name) => folders().map((folder) => join(folder, name))).find(existsSync),
  );
  return [...new Set(found.filter((file) => file !== undefined))];
}

/** Collects the words of an event file. */
class Collector {
  readonly #words: number[] = [];
  readonly #type_of: number[] = [];
  readonly #alive = new Set<number>();
  #ids = 0;
  #types = 0;

  /** One event of the ring. */
  add(word0: number, id: number, size: number, site: number): void {
    const op = event_op(word0);
    if (op !== OP_ALLOC && op !== OP_ALIGNED && op !== OP_REALLOC && op !== OP_FREE) return;
    if (size === SIZE_SATURATED) throw new Error('a block of 4 GiB or more cannot be played');
    if (op === OP_ALLOC || op === OP_ALIGNED) {
      this.#type_of[id] = Math.min(site, TYPES_MAX - 1);
      this.#alive.add(id);
    } else if (op === OP_FREE) this.#alive.delete(id);
    this.#put(op, event_align_shift(word0), id, size);
  }

  #put(op: number, shift: number, id: number, size: number): void {
    const type = this.#type_of[id];
    this.#ids = Math.max(this.#ids, id + 1);
    this.#types = Math.max(this.#types, type + 1);
    this.#words.push(op | (type << TYPE_SHIFT) | (shift << 24), id, size);
  }

  finish(): Int32Array {
    for (const id of this.#alive) this.#put(OP_FREE, 0, id, 0);
    const events = this.#words.length / PLAY_WORDS;
    const all = new Int32Array(HEAD_WORDS + this.#words.length);
    all.set([MAGIC, VERSION, events, this.#ids, this.#types]);
    all.set(this.#words, HEAD_WORDS);
    return all;
  }
}

/** Reads a trace with the replay's own reader. */
export async function read_events(trace: string): Promise<Int32Array> {
  const reader = open_reader({ files: [trace], cpus: 1 });
  const ring = new RingReader(reader.ring_handle, 0);
  const collector = new Collector();
  const { words } = ring;
  for (;;) {
    const n = ring.next_batch(LOOK_MS);
    if (n === RING_END || n === RING_FAILED) break;
    // The reader's thread reports to this one, which must not block for long.
    if (n === RING_TIMEOUT) await new Promise((resolve) => setImmediate(resolve));
    for (let i = 0; i < n; i++) {
      const at = ring.word_of(i);
      const op = event_op(words[at]);
      if (op === OP_SITE) i += site_units(words[at + 2]) - 1;
      else if (op !== OP_END) {
        collector.add(words[at], words[at + 1], words[at + 2] >>> 0, words[at + EVENT_WORDS - 1]);
      }
    }
    if (n > 0) ring.release(n);
  }
  await reader.done;
  return collector.finish();
}

/** Writes the event files of three recorded heaps into `folder`. */
export async function write_event_files(folder: string): Promise<EventFile[]> {
  const files: EventFile[] = [];
  for (const trace of find_traces()) {
    const words = await read_events(trace);
    const name = trace.replace(/^.*[/\\]/, '').replace(/\.(mtrace|threads)\.gz$/, '');
    const file = join(folder, `${name}.events`);
    writeFileSync(file, words);
    files.push({ name, file, events: words[2], types: words[4] });
  }
  return files;
}

/** The pattern that asks for a replay. */
export function replay_pattern(name: string): string {
  return `replay:${name}`;
}

export interface Events {
  name: string;
  /** Without the head. */
  words: Int32Array;
  events: number;
  ids: number;
  types: number;
}

/** Loads what a command line names as NAME=FILE. */
export function load_events(arg: string): Events {
  const [name, file] = [arg.slice(0, arg.indexOf('=')), arg.slice(arg.indexOf('=') + 1)];
  const bytes = readFileSync(file);
  const all = new Int32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
  const [magic, version, events, ids, types] = all;
  if (magic !== MAGIC || version !== VERSION || all.length !== HEAD_WORDS + events * PLAY_WORDS) {
    throw new Error(`${file}: not a whole event file: run the bench again`);
  }
  return { name, words: all.subarray(HEAD_WORDS).slice(), events, ids, types };
}

/**
 * Plays whole passes, at least one, a chunk of events at a time, and answers
 * as if `ops` events had been played.
 */
export function passes(
  events: number,
  ops: number,
  chunk_events: number,
  now: () => number,
  chunk: (from: number, to: number) => void,
): number {
  const n = Math.max(1, Math.round(ops / events));
  const start = now();
  for (let pass = 0; pass < n; pass++) {
    for (let from = 0; from < events; from += chunk_events) {
      chunk(from, Math.min(events, from + chunk_events));
    }
  }
  return ((now() - start) / (n * events)) * ops;
}
