/*
 * heap_js: heaps that JavaScript calls, as competitors.
 *
 *      node heap_js.ts wasm FILE       an allocator compiled to WebAssembly
 *      node heap_js.ts shared FILE     one that several threads may call
 *      node heap_js.ts thing           @thi.ng/malloc
 *      node heap_js.ts lock | wlock    one lock over free lists (lock_heap.ts)
 *
 * With further arguments, NAME=FILE, it replays those event files instead of
 * the patterns a to d.
 *
 * One process plays one heap.  The shared ones also answer the two-thread
 * patterns, with this same file in a worker.
 */
import { readFileSync } from 'node:fs';
import { WASI } from 'node:wasi';
import { isMainThread, Worker, workerData } from 'node:worker_threads';
import { type Pattern, serve } from '../child.ts';
import { type Heap, make_ring, one_thread, two_threads } from '../heap_loops.ts';
import { heap_replay } from '../heap_replay.ts';
import { follow, Pair, type PairWords } from '../pair.ts';
import { lock_heap, lock_memory } from './lock_heap.ts';

const THING_BYTES = 64 * 2 ** 20;
const SHARED_PAGES = 4096;
const SECOND_STACK = 65536;

interface Exports {
  memory: WebAssembly.Memory;
  get: (bytes: number) => number;
  give: (p: number) => void;
  resize: (p: number, bytes: number) => number;
  _initialize?: () => void;
  __stack_pointer?: { value: number };
}

function wasm_heap(file: string): Heap {
  const module = new WebAssembly.Module(readFileSync(file));
  const wasi = new WASI({ version: 'preview1' });
  const imports = wasi.getImportObject() as Record<string, Record<string, unknown>>;
  const instance = new WebAssembly.Instance(module, imports);
  const { memory, get, give, resize } = instance.exports as unknown as Exports;
  // Starts the C library where there is one, and does nothing where there is none.
  wasi.initialize(instance);
  let words = new Int32Array(memory.buffer);
  return {
    get,
    give,
    resize,
    words: () => {
      if (words.buffer !== memory.buffer) words = new Int32Array(memory.buffer);
      return words;
    },
  };
}

/** The second thread's instance gets a stack of its own out of the heap. */
function shared_heap(module: WebAssembly.Module, memory: WebAssembly.Memory): Heap {
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  const { get, give, resize, _initialize, __stack_pointer } = exports as unknown as Exports;
  if (isMainThread) _initialize?.();
  else __stack_pointer!.value = get(SECOND_STACK) + SECOND_STACK;
  const words = new Int32Array(memory.buffer);
  return { get, give, resize, words: () => words };
}

async function thing_heap(): Promise<Heap> {
  const { MemPool } = await import('@thi.ng/malloc');
  const pool = new MemPool({ size: THING_BYTES });
  const words = new Int32Array(pool.buf);
  return {
    get: (bytes) => pool.malloc(bytes),
    give: (p) => {
      pool.free(p);
    },
    words: () => words,
    reset: () => pool.freeAll(),
  };
}

/** What a second thread is given to open the same heap. */
interface Shared {
  kind: string;
  memory: WebAssembly.Memory;
  module: WebAssembly.Module | undefined;
  ring: WebAssembly.Memory;
  words?: PairWords;
}

function open_shared({ kind, memory, module }: Shared): Heap {
  if (module !== undefined) return shared_heap(module, memory);
  return lock_heap(memory, kind === 'wlock' ? 'wasm' : 'atomics');
}

function shared(kind: string, file: string | undefined): Record<string, Pattern> {
  const limits = { initial: SHARED_PAGES, maximum: SHARED_PAGES, shared: true };
  const given: Shared = {
    kind,
    memory: file === undefined ? lock_memory() : new WebAssembly.Memory(limits),
    module: file === undefined ? undefined : new WebAssembly.Module(readFileSync(file)),
    ring: make_ring(),
  };
  const heap = open_shared(given);
  const two = two_threads(heap, given.ring);
  const pair = new Pair((words) => {
    return new Worker(new URL(import.meta.url), { workerData: { ...given, words } });
  });
  const asked = Object.entries(two).map(([name, { here }]): [string, Pattern] => [
    name,
    (ops) => pair.ask(name, ops, 0, () => here(ops)),
  ]);
  return { ...one_thread(heap), ...Object.fromEntries(asked) };
}

async function first_thread([kind = '', ...rest]: string[]): Promise<void> {
  let patterns: Record<string, Pattern>;
  if (kind === 'wasm') {
    const heap = wasm_heap(rest[0]);
    patterns = rest.length > 1 ? heap_replay(heap, rest.slice(1)) : one_thread(heap);
  } else if (kind === 'thing') patterns = one_thread(await thing_heap());
  else if (kind === 'shared') patterns = shared(kind, rest[0]);
  else if (kind === 'lock' || kind === 'wlock') patterns = shared(kind, undefined);
  else {
    process.stderr.write(`heap_js: kind '${kind}': one of wasm, shared, thing, lock, wlock\n`);
    process.exitCode = 2;
    return;
  }
  await serve(patterns, `${kind} on Node ${process.version}`);
  // A worker in its event loop would keep the process alive.
  process.exit(0);
}

if (isMainThread) {
  await first_thread(process.argv.slice(2));
} else {
  const given = workerData as Shared & { words: PairWords };
  const two = two_threads(open_shared(given), given.ring);
  follow(given.words, ({ name, ops }) => two[name].there(ops));
}
