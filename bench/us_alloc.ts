/*
 * us_alloc: the kernel as a competitor.
 *
 *      node us_alloc.ts [first | rebooted]
 *
 * Boots a machine of 256M and answers the harness (child.ts).  `rebooted` runs
 * on one machine first, shuts it down and boots another of the same size, then
 * answers from that: what a second machine in a thread costs is the ratio
 * between two such processes.
 *
 *      a b c d        malloc(9) with its accounting, one thread
 *      za zb zc       a zone of 64-byte items
 *      a2 b2 x xb     with a second thread
 *
 * The second thread is this same file in a worker, started when first asked
 * for (pair.ts).
 */
import { isMainThread, Worker, workerData } from 'node:worker_threads';
import { attach, boot } from '../src/sys/boot/whole.ts';
import { free, M_NOWAIT, malloc, malloc_type_attach } from '../src/sys/kmem/kern_malloc.ts';
import { mem } from '../src/sys/machine/memory.ts';
import { uma_zcreate } from '../src/sys/uma/uma_zone.ts';
import { type Pattern, SMALL_BYTES, serve, timed } from './child.ts';
import { follow, Pair, type PairWords } from './pair.ts';
import {
  type Address,
  BATCHES_BYTES,
  consume,
  consume_batches,
  malloc_a,
  malloc_b,
  malloc_c,
  malloc_d,
  produce,
  produce_batches,
  RING_BYTES,
  type Type,
  type Zone,
  zone_a,
  zone_b,
  zone_c,
} from './us_loops.ts';

const MEMORY = '256M';
/** Operations on the first machine before a re-boot: enough for V8 to have optimised everything. */
const FIRST_MACHINE_OPS = 3_000_000;

/** What each thread of a two-thread pattern does; returns its nanoseconds. */
type Half = (t: Type, ring: Address, ops: number) => number;
interface Two {
  here: Half;
  there: Half;
  /** Bytes of the ring between them; 0: they do not talk. */
  ring_bytes: number;
}

const both_a: Half = (t, _ring, ops) => timed(ops, (chunk) => malloc_a(t, chunk));
const both_b: Half = (t, _ring, ops) => timed(ops, (chunk) => malloc_b(t, chunk));

const TWO: Record<string, Two> = {
  a2: { here: both_a, there: both_a, ring_bytes: 0 },
  b2: { here: both_b, there: both_b, ring_bytes: 0 },
  x: { here: produce, there: consume, ring_bytes: RING_BYTES },
  xb: { here: produce_batches, there: consume_batches, ring_bytes: BATCHES_BYTES },
};

interface WorkerData {
  handle: unknown;
  type: Type;
  words: PairWords;
}

/* ---- the second thread ---- */

function second_thread(): void {
  const { handle, type, words } = workerData as WorkerData;
  attach(handle as Parameters<typeof attach>[0]);
  follow(words, (job) => TWO[job.name].there(type, job.ring as Address, job.ops));
}

/* ---- the first thread ---- */

function make_ring(t: Type, bytes: number): Address {
  const ring = malloc(bytes, t, M_NOWAIT);
  if (ring === 0) throw new Error(`no memory for a ring of ${bytes} bytes`);
  mem.I32.fill(0, ring, ring + bytes / 4);
  return ring;
}

/** The two-thread patterns. */
function two_threads(handle: unknown, t: Type): Record<string, Pattern> {
  const pair = new Pair((words) => {
    return new Worker(new URL(import.meta.url), {
      workerData: { handle, type: t, words } satisfies WorkerData,
    });
  });
  const ask = async (name: string, ops: number): Promise<number> => {
    const two = TWO[name];
    const ring = two.ring_bytes === 0 ? (0 as Address) : make_ring(t, two.ring_bytes);
    const spent = await pair.ask(name, ops, ring, () => two.here(t, ring, ops));
    if (ring !== 0) free(ring, t);
    return spent;
  };
  return Object.fromEntries(
    Object.keys(TWO).map((name): [string, Pattern] => [name, (ops) => ask(name, ops)]),
  );
}

function one_thread(t: Type, z: Zone): Record<string, Pattern> {
  return {
    a: (ops) => timed(ops, (chunk) => malloc_a(t, chunk)),
    b: (ops) => timed(ops, (chunk) => malloc_b(t, chunk)),
    c: (ops) => malloc_c(t, ops),
    d: (ops) => malloc_d(t, ops),
    za: (ops) => timed(ops, (chunk) => zone_a(z, chunk)),
    zb: (ops) => timed(ops, (chunk) => zone_b(z, chunk)),
    zc: (ops) => zone_c(z, ops),
  };
}

async function first_thread(mode: string): Promise<void> {
  let machine = boot({ memory: MEMORY });
  if (mode === 'rebooted') {
    const t = malloc_type_attach('bench');
    timed(FIRST_MACHINE_OPS, (chunk) => malloc_a(t, chunk));
    machine.shutdown();
    machine = boot({ memory: MEMORY });
  }
  const t = malloc_type_attach('bench');
  const z = uma_zcreate('bench 64', SMALL_BYTES);
  const patterns = { ...one_thread(t, z), ...two_threads(machine.handle, t) };
  await serve(patterns, `kmem on Node ${process.version}`);
  // A worker parked in its event loop would keep the process alive.
  process.exit(0);
}

if (!isMainThread) {
  second_thread();
} else {
  const mode = process.argv[2] ?? 'first';
  if (mode === 'first' || mode === 'rebooted') {
    await first_thread(mode);
  } else {
    process.stderr.write(`us_alloc: mode '${mode}': one of first, rebooted\n`);
    process.exitCode = 2;
  }
}
