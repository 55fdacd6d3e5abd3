/*
 * heap_replay: a recorded heap played on a heap that JavaScript calls.
 *
 * The loop of peers/replay.c, statement for statement: look at the event, ask
 * the heap, write the first word of a new or moved block, note its address.
 */
import { OP_FREE, OP_REALLOC } from '../src/replay/ring/events.ts';
import { CHUNK_OPS, now_ns, type Pattern } from './child.ts';
import { load_events, PLAY_WORDS, passes, replay_pattern } from './event_file.ts';
import { type Heap, out_of_memory } from './heap_loops.ts';

function play(heap: Heap, events: Int32Array, table: Int32Array, from: number, to: number): void {
  const get = heap.get;
  const give = heap.give;
  const resize = heap.resize!;
  for (let i = from * PLAY_WORDS; i < to * PLAY_WORDS; i += PLAY_WORDS) {
    const op = events[i] & 0xff;
    const id = events[i + 1];
    if (op === OP_FREE) give(table[id]);
    else {
      const bytes = events[i + 2];
      // A realloc to nothing frees the block in some of these heaps.
      const p = op === OP_REALLOC ? resize(table[id], bytes || 1) : get(bytes);
      if (p === 0) out_of_memory();
      heap.words()[p >> 2] = i;
      table[id] = p;
    }
  }
}

/** One pattern for each NAME=FILE. */
export function heap_replay(heap: Heap, args: readonly string[]): Record<string, Pattern> {
  const patterns = args.map((arg): [string, Pattern] => {
    const { name, words, events, ids } = load_events(arg);
    const table = new Int32Array(ids);
    const chunk = (from: number, to: number): void => play(heap, words, table, from, to);
    return [replay_pattern(name), (ops) => passes(events, ops, CHUNK_OPS, now_ns, chunk)];
  });
  return Object.fromEntries(patterns);
}
