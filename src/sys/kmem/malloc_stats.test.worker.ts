/*
 * The jobs of the tests of live statistics: a worker allocates and frees as fast as
 * it can while another thread reads what is in use.
 *
 *      pairs      frees its oldest block and allocates another: `hold` are in use,
 *                 or one less
 *      give       allocates, and lays the block into the ring of the common page
 *      take       takes it from there and frees it: what is in use lies in the ring
 *                 or in the hand of one of the two
 *      carrying   stands in the middle of a carry, and is killed there
 */
import { attach, detach } from '../boot/whole.ts';
import { thr } from '../machine/cpu.ts';
import { atomic_load, atomic_store } from '../machine/atomic.ts';
import { M, machine, ROOT_TEST } from '../machine/header.ts';
import { host_sleep } from '../machine/host.ts';
import { elem } from '../machine/struct.ts';
import { type Counts, run_job } from '../machine/workers.test.lib.ts';
import { malloc_type, mtstats, type mtstats_t } from '../h/malloc.ts';
import { free, M_NOWAIT, malloc, malloc_class, type malloc_type_t } from './kern_malloc.ts';
import { malloc_desc2type } from './kern_malloc_type.ts';

/** The common page: word 0 stop, word 1 a worker has got there, the ring from word 64 on. */
export const RING = 64;
export const RING_SIZE = 100;
export const TYPE = 'busy';
/** Blocks that the thread in a carry has. */
export const CARRY_BLOCKS = 6;

interface Args {
  size: number;
  hold?: number;
  /** Whether the low word has begun anew when the thread dies. */
  anew?: boolean;
}
const common = (): number => machine.roots[elem(M, ROOT_TEST)];
const stopped = (): boolean => atomic_load(common()) !== 0;
/** Operations between two looks at the stop word. */
const ROUND = 256;
/** Looks at the ring before the processor is left to the other thread, and for how long. */
const SPINS = 1000;
const NAP_MS = 0.05;

function block(size: number, t: malloc_type_t): number {
  const p = malloc(size, t, M_NOWAIT);
  if (p === 0) throw new Error('no memory');
  return p;
}
function pairs({ size, hold = 1 }: Args): Counts {
  const t = malloc_desc2type(TYPE);
  const held = Array.from({ length: hold }, () => block(size, t));
  let n = 0;
  for (let i = 0; n === 0 || !stopped(); n += ROUND) {
    for (let k = 0; k < ROUND; k++) {
      free(held[i], t);
      held[i] = block(size, t);
      i = i + 1 === hold ? 0 : i + 1;
    }
  }
  for (const p of held) free(p, t);
  return { n };
}
function give({ size }: Args): Counts {
  const t = malloc_desc2type(TYPE);
  const ring = common() + RING;
  let n = 0;
  for (let i = 0; !stopped(); i = (i + 1) % RING_SIZE) {
    const p = block(size, t);
    for (let spins = 0; atomic_load(ring + i) !== 0; spins++) {
      if (spins > SPINS) host_sleep(NAP_MS);
      if (!stopped()) continue;
      free(p, t);
      return { n };
    }
    atomic_store(ring + i, p);
    n++;
  }
  return { n };
}
function take(): Counts {
  const t = malloc_desc2type(TYPE);
  const ring = common() + RING;
  let n = 0;
  for (let i = 0; ; i = (i + 1) % RING_SIZE) {
    let p = atomic_load(ring + i);
    for (let spins = 0; p === 0; p = atomic_load(ring + i)) {
      if (spins++ > SPINS) host_sleep(NAP_MS);
      if (stopped()) return { n };
    }
    atomic_store(ring + i, 0);
    free(p, t);
    n++;
  }
}
function carrying({ size, anew = false }: Args): Counts {
  const t = malloc_desc2type(TYPE);
  for (let n = 0; n < CARRY_BLOCKS; n++) block(size, t); // as many as it will say are in use
  const s = malloc_type.stats[elem(t, thr.cpu)] as mtstats_t;
  const at = elem(s, malloc_class(size));
  // Stopped at a turn of both counts, before the high word of the frees has its mark; or
  // a quarter after a carry, before it has lost it.
  const turn = anew ? 2 ** 30 : 3 * 2 ** 30;
  mtstats.allocs[at] = turn + CARRY_BLOCKS;
  mtstats.allocs_high[at] = anew ? 2 : 1;
  mtstats.frees_high[at] = anew ? 1 : 0;
  mtstats.frees[at] = turn;
  atomic_store(common() + 1, 1);
  for (;;) host_sleep(1000);
}

const jobs: Record<string, (args: Args) => Counts> = { pairs, give, take, carrying };
run_job<Args>((job, args) => jobs[job](args), { join: attach, leave: () => void detach() });
