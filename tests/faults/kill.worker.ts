/*
 * A worker of the kill and hammer tests: takes, resizes, hands over and frees
 * blocks until it is told to stop, or is killed.
 *
 * Each block carries its address, mixed with a mark, in its first and its last
 * word; a block that was given out twice or lost its contents ends the worker
 * with a message.
 */
import { abandon, attach, detach } from '../../src/sys/boot/whole.ts';
import { atomic_add, atomic_load, atomic_xchg } from '../../src/sys/machine/atomic.ts';
import { mem } from '../../src/sys/machine/memory.ts';
import { dice } from '../../src/sys/machine/seed.test.lib.ts';
import { run_job } from '../../src/sys/machine/workers.test.lib.ts';
import {
  free,
  M_NOWAIT,
  M_ZERO,
  malloc,
  malloc_type_attach,
  malloc_usable_size,
  type malloc_type_t,
  realloc,
  reallocf,
} from '../../src/sys/kmem/kern_malloc.ts';
import { uma_reclaim } from '../../src/sys/uma/uma_drain.ts';
import { type Done, PLACES, TYPES, type Work } from './kill.lib.ts';

const MARK = 0x2b3c4d5e;
/** Whether sizes above a page are asked for, and the numbers of this worker: set by its work. */
let large = false;
let draw = dice(0);

const done = { mallocs: 0, frees: 0, failed: 0 };
function mark(p: number): void {
  mem.I32[p] = MARK ^ p;
  mem.I32[p + malloc_usable_size(p) / 4 - 1] = MARK ^ p;
}
function whole(p: number, what: string): void {
  const last = mem.I32[p + malloc_usable_size(p) / 4 - 1];
  if (mem.I32[p] !== (MARK ^ p) || last !== (MARK ^ p)) throw new Error(`${what}: block ${p} torn`);
}
/** Freed under the type it was allocated with: the address says which. */
function give(p: number, t: malloc_type_t): void {
  whole(p, 'free');
  mem.I32[p] = 0;
  free(p, t);
  done.frees++;
}
function size(): number {
  const kind = draw(100);
  if (kind < 70) return draw(300);
  if (kind < 97 || !large) return draw(4097);
  return 4097 + draw(20000);
}
function take(t: malloc_type_t): number {
  const n = size();
  const zero = draw(8) === 0;
  const p = malloc(n, t, M_NOWAIT | (zero ? M_ZERO : 0));
  if (p === 0) {
    done.failed++;
    return 0;
  }
  done.mallocs++;
  if (zero && n > 3 && (mem.I32[p] !== 0 || mem.I32[p + (n >> 2) - 1] !== 0)) {
    throw new Error(`M_ZERO: block ${p} is not zero`);
  }
  mark(p);
  return p;
}
function resize(p: number, t: malloc_type_t): number {
  whole(p, 'realloc');
  const old = malloc_usable_size(p);
  const drop = draw(4) === 0;
  const q = (drop ? reallocf : realloc)(p, Math.max(4, size()), t, M_NOWAIT);
  if (q === 0) {
    done.failed++;
    if (drop) done.frees++;
    return drop ? 0 : p;
  }
  if (mem.I32[q] !== (MARK ^ p)) throw new Error(`realloc: block ${p} lost its contents`);
  if (q !== p || malloc_usable_size(q) !== old) {
    done.mallocs++;
    done.frees++;
  }
  mark(q);
  return q;
}

function work({ board, index, seed, reclaim, large: may_be_large }: Work): Done {
  large = may_be_large;
  draw = dice(seed);
  const types = TYPES.map((name) => malloc_type_attach(name));
  const own: number[] = [];
  const place = (): number => draw(PLACES);
  while (atomic_load(board) === 0) {
    for (let i = 0; i < 50; i++) {
      const k = place();
      const t = types[k % types.length];
      const w = board + 32 + k;
      const what = draw(reclaim);
      if (what === 0) uma_reclaim();
      else if (what % 4 === 0) {
        const p = atomic_xchg(w, 0);
        const q = p === 0 ? 0 : resize(p, t);
        const r = q === 0 ? 0 : atomic_xchg(w, q);
        if (r !== 0) give(r, t);
      } else if (what % 4 === 1) {
        const p = atomic_xchg(w, 0);
        if (p !== 0) give(p, t);
      } else if (what % 4 === 2 && own.length > 40) {
        while (own.length > 0) give(own.pop() as number, types[0]);
      } else if (what % 4 === 2) {
        const p = take(types[0]);
        if (p !== 0) own.push(p);
      } else {
        const p = take(t);
        const r = p === 0 ? 0 : atomic_xchg(w, p);
        if (r !== 0) give(r, t);
      }
    }
    atomic_add(board + 1 + index, 1);
  }
  for (const p of own) give(p, types[0]);
  return done;
}

run_job<Work>((_, args) => work(args), { join: attach, leave: detach, failed: abandon });
