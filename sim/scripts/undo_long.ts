/*
 * undo_long: sections that are long, nested eight deep, or private.
 *
 * Eight mutexes nest, each with a section of its own; the outermost changes more
 * words than an eighth of the log holds, before and after the inner ones.  Other
 * operations change words of their CPU alone in a private section, around a
 * section with a lock.  One CPU dies anywhere: every pair of piles must be
 * whole, all cells equal, and the private words of every CPU in balance.
 */
import { sim_point } from '../../src/sys/machine/atomic.ts';
import { thr, UNDO_LEVELS, UNDO_PAIRS } from '../../src/sys/machine/cpu.ts';
import {
  elem,
  lock_words,
  type LockField,
  type Ptr,
  struct,
  unchecked,
  words,
} from '../../src/sys/machine/struct.ts';
import {
  MTX_WORDS,
  mtx_init,
  mtx_lock,
  mtx_timedlock,
  mtx_unlock,
} from '../../src/sys/sync/kern_mutex.ts';
import { LC_REGISTRY } from '../../src/sys/sync/lock_order.ts';
import {
  save,
  undo_begin,
  undo_begin_private,
  undo_commit,
  undo_end,
  undo_most,
} from '../../src/sys/sync/undo.ts';
import { type SimScript, scratch } from '../script.ts';

const CELLS = UNDO_PAIRS / UNDO_LEVELS + 16;
const TOKENS = 12;
const CPUS = 2;

type rec_t = Ptr<'sim_undo_long'>;
const rec = struct<rec_t>('sim_undo_long')({
  lock: lock_words(MTX_WORDS * UNDO_LEVELS, 'registry', 'one for each level'),
  left: words(
    unchecked('each element has a mutex of its own'),
    'tokens on the left, by level',
    UNDO_LEVELS,
  ),
  right: words(
    unchecked('each element has a mutex of its own'),
    'tokens on the right, by level',
    UNDO_LEVELS,
  ),
  cells: words(unchecked('under the first mutex'), 'all the same; under the first mutex', CELLS),
  mine: words(
    unchecked('each CPU has its own part'),
    'two words of each CPU: their sum is TOKENS',
    CPUS * 2,
  ),
});
const lock_of = (level: number): LockField<rec_t> =>
  (rec.lock + level * MTX_WORDS) as LockField<rec_t>;

function whole(r: rec_t, level: number): boolean {
  return rec.left[elem(r, level)] + rec.right[elem(r, level)] === TOKENS;
}
/** Adds one to the cells from `from` up to `end`, in steps of two. */
function raise(r: rec_t, from: number, end: number): void {
  for (let i = from; i < end; i += 2) {
    save(rec.cells, elem(r, i));
    rec.cells[elem(r, i)]++;
  }
}
/** Moves a token at this level and at all those inside it. */
function descend(r: rec_t, level: number): void {
  mtx_lock(lock_of(level), r);
  if (!whole(r, level)) throw new Error(`level ${level} was left torn`);
  undo_begin(lock_of(level), r);
  const at = elem(r, level);
  save(rec.left, at);
  rec.left[at]--;
  sim_point(at);
  if (level === 0) raise(r, 0, CELLS);
  if (level + 1 < UNDO_LEVELS) descend(r, level + 1);
  if (level === 0) raise(r, 1, CELLS);
  save(rec.right, at);
  rec.right[at]++;
  undo_end();
  mtx_unlock(lock_of(level), r);
}
const deep = (): void => descend(scratch<rec_t>(), 0);

/** Moves tokens between the words of this CPU, and one of level 7 under its lock meanwhile. */
const alone = (n: number) => (): void => {
  const r = scratch<rec_t>();
  const last = UNDO_LEVELS - 1;
  const [a, b] = [elem(r, thr.cpu * 2), elem(r, thr.cpu * 2 + 1)];
  undo_begin_private();
  save(rec.mine, a);
  rec.mine[a] -= n;
  sim_point(a);
  mtx_lock(lock_of(last), r);
  undo_begin(lock_of(last), r);
  save(rec.right, elem(r, last));
  rec.right[elem(r, last)]--;
  sim_point(r);
  save(rec.left, elem(r, last));
  rec.left[elem(r, last)]++;
  undo_end();
  mtx_unlock(lock_of(last), r);
  save(rec.mine, b);
  rec.mine[b] += n;
  sim_point(b);
  undo_commit();
  undo_end();
};

export const script: SimScript = {
  help: 'undo: long, nested and private sections; a CPU dies in any of them',
  pages: false,
  cpus: CPUS,
  victim: 1,
  kill_seeds: 2,
  setup() {
    const r = scratch<rec_t>();
    for (let level = 0; level < UNDO_LEVELS; level++) {
      mtx_init(lock_of(level), r, LC_REGISTRY);
      rec.left[elem(r, level)] = TOKENS;
    }
    for (let cpu = 0; cpu < CPUS; cpu++) rec.mine[elem(r, cpu * 2)] = TOKENS;
  },
  ops: (cpu) => (cpu === 0 ? [deep, alone(3)] : [alone(2), deep, alone(-1)]),
  check() {
    const r = scratch<rec_t>();
    for (let level = 0; level < UNDO_LEVELS; level++) {
      if (!mtx_timedlock(lock_of(level), r, 60_000)) return `mutex ${level} cannot be had`;
      mtx_unlock(lock_of(level), r);
      if (!whole(r, level)) return `tokens of level ${level} were lost`;
    }
    for (let i = 1; i < CELLS; i++) {
      if (rec.cells[elem(r, i)] !== rec.cells[r]) return `cell ${i} differs from the first`;
    }
    for (let cpu = 0; cpu < CPUS; cpu++) {
      const sum = rec.mine[elem(r, cpu * 2)] + rec.mine[elem(r, cpu * 2 + 1)];
      if (sum !== TOKENS) return `the words of cpu${cpu} add up to ${sum}`;
    }
    return undo_most() > CELLS || rec.cells[r] === 0 ? undefined : 'no section was long';
  },
};
