/*
 * us_replay: recorded heaps played on the kernel's malloc(9), as a competitor.
 *
 *      node us_replay.ts NAME=FILE ...
 *
 * One CPU; every call site of the recorded program is a type of its own, and
 * the statistics are on.  The loop is that of peers/replay.c, with the type of
 * each block added.
 */
import { OP_ALIGNED, OP_FREE, OP_REALLOC } from '../src/replay/ring/events.ts';
import { boot } from '../src/sys/boot/whole.ts';
import {
  free,
  M_NOWAIT,
  malloc,
  malloc_type_attach,
  type malloc_type_t,
  realloc,
} from '../src/sys/kmem/kern_malloc.ts';
import { mem } from '../src/sys/machine/memory.ts';
import { CHUNK_OPS, now_ns, type Pattern, serve } from './child.ts';
import {
  load_events,
  PLAY_WORDS,
  passes,
  replay_pattern,
  TYPE_MASK,
  TYPE_SHIFT,
} from './event_file.ts';

const MEMORY = '256M';
const memory = mem;
const NOWAIT = M_NOWAIT;
/** A block of a page's alignment begins a page already; larger ones are played as that. */
const PAGE_BYTES = 4096;

function out_of_memory(): never {
  throw new Error('the bench machine is out of memory: boot it larger');
}

function play(
  events: Int32Array,
  types: Int32Array,
  table: Int32Array,
  from: number,
  to: number,
): void {
  const words = memory.I32;
  const get = malloc;
  const give = free;
  const resize = realloc;
  for (let i = from * PLAY_WORDS; i < to * PLAY_WORDS; i += PLAY_WORDS) {
    const op = events[i] & 0xff;
    const t = types[(events[i] >>> TYPE_SHIFT) & TYPE_MASK] as malloc_type_t;
    const id = events[i + 1];
    if (op === OP_FREE) give(table[id], t);
    else {
      let bytes = events[i + 2];
      // A block is aligned to its size class: asking for no less than the alignment gives it.
      if (op === OP_ALIGNED) {
        bytes = Math.max(bytes, Math.min(PAGE_BYTES, 1 << (events[i] >>> 24)));
      }
      const p = op === OP_REALLOC ? resize(table[id], bytes, t, NOWAIT) : get(bytes, t, NOWAIT);
      if (p === 0) out_of_memory();
      words[p] = i;
      table[id] = p;
    }
  }
}

function replays(args: readonly string[]): Record<string, Pattern> {
  const patterns = args.map((arg): [string, Pattern] => {
    const trace = load_events(arg);
    const types = Int32Array.from({ length: trace.types }, (_, i) =>
      malloc_type_attach(`${trace.name} site ${i}`),
    );
    const table = new Int32Array(trace.ids);
    const chunk = (from: number, to: number): void => play(trace.words, types, table, from, to);
    return [
      replay_pattern(trace.name),
      (ops) => passes(trace.events, ops, CHUNK_OPS, now_ns, chunk),
    ];
  });
  return Object.fromEntries(patterns);
}

boot({ memory: MEMORY });
await serve(replays(process.argv.slice(2)), `kmem on Node ${process.version}`);
process.exit(0);
