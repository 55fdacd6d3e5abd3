/*
 * The jobs that workers run for the tests of machine/ and sync/.
 *
 * Each job is a loop or a script on the shared record (sync.test.lib.ts); it
 * ends with what it counted, so that the test can compare the sum over the
 * CPUs with the words in memory.  An invariant that breaks inside a job throws
 * at once, with the CPU and the values.
 */
import { atomic_add, atomic_load, atomic_notify, atomic_store } from '../machine/atomic.ts';
import { curcpu, poll, thr } from '../machine/cpu.ts';
import { slot_leave } from '../machine/cpu_slots.ts';
import { EOWNERDEAD, EWOULDBLOCK } from '../machine/errno.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { elem, field_word } from '../machine/struct.ts';
import { type Counts, run_job, WAIT_MS } from '../machine/workers.test.lib.ts';
import { cv_signal, cv_wait } from './kern_condvar.ts';
import { mtx_lock, mtx_timedlock, mtx_unlock } from './kern_mutex.ts';
import {
  rw_downgrade,
  rw_rlock,
  rw_runlock,
  rw_timedrlock,
  rw_timedwlock,
  rw_try_upgrade,
  rw_wlock,
  rw_wunlock,
} from './kern_rwlock.ts';
import { refcount_acquire, refcount_release } from './refcount.ts';
import { msleep, sleepq_abort, sleepq_async_add, wakeup, wakeup_one } from './subr_sleepqueue.ts';
import { area, type area_t, CELLS, join, the_area } from './sync.test.lib.ts';
import { save, undo_begin, undo_begin_private, undo_end } from './undo.ts';
import { witness_console } from './witness.ts';

type Args = { seed?: number; [name: string]: unknown };

const stopped = (t: area_t): boolean => atomic_load(field_word(area.stop, t)) !== 0;
function tick(t: area_t): void {
  atomic_add(field_word(area.progress, t) + curcpu() * 16, 1);
}
function work(t: area_t, rounds: number): void {
  for (let i = 0; i < rounds; i++) area.spoil[elem(t, curcpu())] = i;
}
function step(t: area_t, n: number): void {
  atomic_store(field_word(area.gate, t), n);
  atomic_notify(field_word(area.gate, t), 99);
}
function wait_step(t: area_t, n: number): void {
  while (atomic_load(field_word(area.gate, t)) < n) poll();
}

/** Two words go up under the mutex; some takers give up early. */
function job_mutex(t: area_t, { seed = 1 }: Args): Counts {
  const draw = dice(seed);
  let n = 0;
  let timeouts = 0;
  while (!stopped(t)) {
    tick(t);
    if (draw(8) === 0) {
      if (!mtx_timedlock(area.mtx, t, draw(20) / 100)) {
        timeouts++;
        continue;
      }
    } else mtx_lock(area.mtx, t);
    if (area.a[t] !== area.b[t]) throw new Error(`cpu${curcpu()}: ${area.a[t]} ${area.b[t]}`);
    area.a[t]++;
    if (draw(64) === 0) work(t, draw(4000));
    area.b[t]++;
    n++;
    mtx_unlock(area.mtx, t);
  }
  return { n, timeouts };
}

/** Readers look for half a write; some upgrade; writers may give up or downgrade. */
function job_rw(t: area_t, { seed = 1, sx = false }: Args): Counts {
  const draw = dice(seed);
  const lock = sx ? area.sx : area.rw;
  const same = (): void => {
    if (area.x[t] !== area.y[t]) throw new Error(`cpu${curcpu()}: ${area.x[t]} ${area.y[t]}`);
  };
  const write = (): void => {
    area.x[t]++;
    work(t, draw(50));
    area.y[t]++;
  };
  const c = { writes: 0, reads: 0, upgrades: 0, downgrades: 0, timeouts: 0 };
  while (!stopped(t)) {
    tick(t);
    if (draw(4) === 0) {
      const ms = draw(4) === 0 ? draw(20) / 100 : Number.POSITIVE_INFINITY;
      if (!rw_timedwlock(lock, t, ms)) {
        c.timeouts++;
        continue;
      }
      write();
      c.writes++;
      if (draw(4) === 0) {
        rw_downgrade(lock, t);
        same();
        c.downgrades++;
        rw_runlock(lock, t);
      } else rw_wunlock(lock, t);
      continue;
    }
    if (draw(8) !== 0) rw_rlock(lock, t);
    else if (!rw_timedrlock(lock, t, draw(20) / 100)) {
      c.timeouts++;
      continue;
    }
    const x = area.x[t];
    const twice = draw(4) === 0;
    if (twice) rw_rlock(lock, t); // a second hold of the same CPU: waiting writers must not bar it
    work(t, draw(50));
    if (x !== area.y[t]) throw new Error(`cpu${curcpu()}: a reader saw half a write`);
    c.reads++;
    if (twice) rw_runlock(lock, t);
    if (draw(4) === 0 && rw_try_upgrade(lock, t)) {
      write();
      c.upgrades++;
      rw_wunlock(lock, t);
    } else rw_runlock(lock, t);
  }
  return c;
}
/** A pool of tokens: odd CPUs put, even ones take and sleep when there is none. */
function job_tokens(t: area_t, { seed = 1, put = true, cv = false }: Args): Counts {
  const draw = dice(seed);
  const wchan = field_word(area.tokens, t);
  const c = { put: 0, got: 0, timeouts: 0, aborted: 0 };
  while (!stopped(t)) {
    tick(t);
    mtx_lock(area.mtx, t);
    if (put && area.tokens[t] < 200) {
      area.tokens[t]++;
      c.put++;
      if (cv) cv_signal(wchan);
      else wakeup_one(wchan);
    } else if (!put) {
      let error = 0;
      while (area.tokens[t] === 0 && error === 0 && !stopped(t)) {
        if (cv) cv_wait(wchan, area.mtx, t, 'tokens');
        else error = msleep(wchan, area.mtx, t, 'tokens', draw(3) === 0 ? draw(30) / 10 : 5000);
      }
      if (area.tokens[t] > 0) {
        area.tokens[t]--;
        c.got++;
        atomic_add(field_word(area.got, t), 1);
      } else if (error === EWOULDBLOCK) c.timeouts++;
      else if (error !== 0) c.aborted++;
    }
    mtx_unlock(area.mtx, t);
    if (put && draw(4) === 0) work(t, draw(2000));
  }
  wakeup(wchan);
  return c;
}

/** References come and go; whoever drops the last one says so. */
function job_refs(t: area_t, { rounds = 1000, seed = 1 }: Args & { rounds?: number }): Counts {
  const draw = dice(seed);
  let last = 0;
  for (let i = 0; i < rounds; i++) {
    refcount_acquire(area.refs, t);
    if (draw(16) === 0) work(t, draw(100));
    if (refcount_release(area.refs, t)) last++;
  }
  return { last: last + (refcount_release(area.refs, t) ? 1 : 0) };
}

/** Moves items between two sides under an undo log, for ever: meant to be killed. */
function job_move(
  t: area_t,
  { seed = 1, items = 160, sx = false }: Args & { items?: number },
): Counts {
  const draw = dice(seed);
  const left = sx ? area.sx_left : area.left;
  const right = sx ? area.sx_right : area.right;
  const enter = sx ? () => rw_wlock(area.undo_sx, t) : () => mtx_lock(area.undo, t);
  const exit = sx ? () => rw_wunlock(area.undo_sx, t) : () => mtx_unlock(area.undo, t);
  const lock = sx ? area.undo_sx : area.undo;
  let n = 0;
  while (!stopped(t)) {
    enter();
    if (left[t] + right[t] !== items) throw new Error(`cpu${curcpu()}: ${left[t]} + ${right[t]}`);
    const [from, to] =
      left[t] > 0 && (right[t] === 0 || draw(2) === 0) ? [left, right] : [right, left];
    const k = 1 + draw(Math.min(5, from[t]));
    undo_begin(lock, t);
    save(from, t);
    save(to, t);
    from[t] -= k;
    work(t, draw(97) === 0 ? 20000 : 5);
    to[t] += k;
    undo_end();
    exit();
    n++;
    tick(t);
  }
  return { n };
}

/** Long sections, and private ones around sections with a lock, for ever: meant to be killed. */
function job_long(t: area_t, { seed = 1 }: Args): Counts {
  const draw = dice(seed);
  const at = elem(t, thr.cpu * 16);
  if (area.mine[at] + area.mine[elem(at, 1)] === 0) area.mine[at] = CELLS;
  let n = 0;
  for (; !stopped(t); n++) {
    undo_begin_private();
    save(area.mine, at);
    const k = draw(5) - 2;
    area.mine[at] -= k;
    mtx_lock(area.undo, t);
    undo_begin(area.undo, t);
    for (let i = 0; i < CELLS; i++) {
      save(area.cells, elem(t, i));
      if (area.cells[elem(t, i)] !== area.cells[elem(t, CELLS - 1)]) throw new Error(`cell ${i}`);
      area.cells[elem(t, i)]++;
      if (draw(16) === 0) work(t, 10);
    }
    undo_end();
    mtx_unlock(area.undo, t);
    save(area.mine, elem(at, 1));
    area.mine[elem(at, 1)] += k;
    work(t, draw(50));
    undo_end();
    tick(t);
  }
  return { n };
}

/** Takes one lock and never gives it back: for tests that kill the holder. */
function job_hold(t: area_t, { lock = 'mtx' }: Args & { lock?: string }): Counts {
  if (lock === 'mtx') mtx_lock(area.mtx, t);
  else if (lock === 'undo') {
    mtx_lock(area.undo, t);
    undo_begin(area.undo, t);
    save(area.left, t);
    save(area.right, t);
    area.left[t] -= 7;
  } else if (lock === 'undo_sx') {
    rw_wlock(area.undo_sx, t);
    undo_begin(area.undo_sx, t);
    save(area.sx_left, t);
    area.sx_left[t] -= 7;
  } else if (lock === 'rw_read') rw_rlock(area.rw, t);
  else if (lock === 'rw_write') rw_wlock(area.rw, t);
  step(t, 1);
  for (;;) work(t, 1000);
}
interface Take extends Args {
  lock?: string;
  /** How long it waits for the lock at most. */
  ms?: number;
  /** The step of the test that it waits for before it tries. */
  after?: number;
}
/** Takes a lock and gives it back; says how long that took, and what it saw inside. */
function job_take(t: area_t, { lock = 'mtx', ms, after = 0 }: Take): Counts {
  wait_step(t, after);
  const limit = ms ?? Number.POSITIVE_INFINITY;
  const start = performance.now();
  let got = true;
  if (lock === 'mtx') got = mtx_timedlock(area.mtx, t, limit);
  else if (lock === 'undo') got = mtx_timedlock(area.undo, t, limit);
  else if (lock === 'undo_sx') got = rw_timedwlock(area.undo_sx, t, limit);
  else if (lock === 'rw_read') got = rw_timedrlock(area.rw, t, limit);
  else got = rw_timedwlock(area.rw, t, limit);
  const waited = performance.now() - start;
  const seen = { left: area.left[t], right: area.right[t], sx_left: area.sx_left[t] };
  if (got) {
    if (lock === 'mtx') mtx_unlock(area.mtx, t);
    else if (lock === 'undo') mtx_unlock(area.undo, t);
    else if (lock === 'undo_sx') rw_wunlock(area.undo_sx, t);
    else if (lock === 'rw_read') rw_runlock(area.rw, t);
    else rw_wunlock(area.rw, t);
  }
  return { got, waited, seen, cpu: curcpu() };
}
/** One sleep on a channel, with its result. */
function job_sleep(t: area_t, { ms, wchan = 0 }: Args & { ms?: number; wchan?: number }): Counts {
  mtx_lock(area.mtx, t);
  atomic_add(field_word(area.gate, t), 1);
  const error = msleep(
    wchan || field_word(area.tokens, t),
    area.mtx,
    t,
    'a test',
    ms ?? Number.POSITIVE_INFINITY,
  );
  if (error === EOWNERDEAD) return { error, cpu: curcpu() };
  area.tokens[t]++;
  const order = area.tokens[t];
  mtx_unlock(area.mtx, t);
  return { error, order, cpu: curcpu() };
}
/** A sleeper of an event loop. */
function job_async(t: area_t): Counts {
  return { word: sleepq_async_add(field_word(area.tokens, t), 'async') };
}
/** Sleeps again and again until `stop`: every sleep must end with an abort. */
function job_abortable(t: area_t): Counts {
  let aborted = 0;
  while (!stopped(t)) {
    mtx_lock(area.mtx, t);
    const error = msleep(
      field_word(area.spoil, t) + (aborted & 7),
      area.mtx,
      t,
      'abort me',
      Number.POSITIVE_INFINITY,
    );
    mtx_unlock(area.mtx, t);
    if (error !== 0) aborted++;
    tick(t);
  }
  return { aborted };
}
/** Aborts the sleeps of a CPU one by one; counts those that it saw end. */
function job_aborter(t: area_t, { victim = 0 }: Args & { victim?: number }): Counts {
  const progress = field_word(area.progress, t) + victim * 16;
  let n = 0;
  while (!stopped(t)) {
    const before = atomic_load(progress);
    sleepq_abort(victim);
    const end = performance.now() + WAIT_MS / 2; // before the test gives up waiting
    // Told to stop, the victim may have ended without another sleep.
    while (atomic_load(progress) === before && !stopped(t)) {
      if (performance.now() > end) throw new Error(`abort ${n} of cpu${victim} was lost`);
    }
    if (atomic_load(progress) !== before) n++;
  }
  sleepq_abort(victim); // the sleep that it was about to begin
  return { n };
}
/** Spins in the locks until the machine stops it. */
function job_spin(t: area_t): Counts {
  step(t, 1);
  for (;;) {
    mtx_lock(area.mtx, t);
    area.a[t]++;
    mtx_unlock(area.mtx, t);
    poll();
  }
}
/** Takes two locks the other way round, and hands over what WITNESS says. */
function job_reverse(t: area_t): Counts {
  const reports: string[] = [];
  witness_console((text) => reports.push(text));
  mtx_lock(area.mtx2, t);
  mtx_lock(area.mtx, t);
  mtx_unlock(area.mtx, t);
  mtx_unlock(area.mtx2, t);
  return { reports };
}

const jobs: Record<string, (t: area_t, args: Args) => Counts> = {
  mutex: job_mutex,
  rw: job_rw,
  tokens: job_tokens,
  refs: job_refs,
  move: job_move,
  long: job_long,
  hold: job_hold,
  take: job_take,
  sleep: job_sleep,
  async: job_async,
  abortable: job_abortable,
  aborter: job_aborter,
  spin: job_spin,
  reverse: job_reverse,
};

run_job<Args>((job, args) => jobs[job](the_area(), args), { join, leave: slot_leave });
