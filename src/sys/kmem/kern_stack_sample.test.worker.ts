/*
 * The worker of kern_stack_sample.test.ts: allocates and frees blocks that pass through the ring of
 * the common page, so that many are freed by another thread than asked for them.  It says what it
 * put there less what it took; with `all` it frees what it finds at the end.
 */
import { attach, detach } from '../boot/whole.ts';
import { atomic_xchg } from '../machine/atomic.ts';
import { M, machine, ROOT_TEST } from '../machine/header.ts';
import { mem } from '../machine/memory.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { elem } from '../machine/struct.ts';
import { run_job } from '../machine/workers.test.lib.ts';
import { M_WAITOK } from '../h/malloc_flags.ts';
import { free, malloc } from './kern_malloc.ts';
import { malloc_desc2type } from './kern_malloc_type.ts';

interface Args {
  seed: number;
  turns: number;
  all?: boolean;
}
/** The ring of blocks, from word 64 on of the common page. */
const RING = 64;
const PLACES = 100;

function churn({ seed, turns, all = false }: Args): { bytes: number; blocks: number } {
  const t = malloc_desc2type('noted');
  const ring = machine.roots[elem(M, ROOT_TEST)] + RING;
  const draw = dice(seed);
  const count = { bytes: 0, blocks: 0 };
  const put = (place: number, p: number): void => {
    const old = atomic_xchg(place, p);
    if (old === 0) return;
    count.bytes -= mem.I32[old];
    count.blocks--;
    free(old, t);
  };
  for (let i = 0; i < turns; i++) {
    const size = 4 + (draw(20) === 0 ? draw(20_000) : draw(200));
    const p = malloc(size, t, M_WAITOK);
    mem.I32[p] = size;
    count.bytes += size;
    count.blocks++;
    put(ring + draw(PLACES), p);
  }
  for (let i = 0; all && i < PLACES; i++) put(ring + i, 0);
  return count;
}
run_job((_job, args: Args) => churn(args), { join: attach, leave: detach });
