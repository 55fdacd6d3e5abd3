/*
 * lock_prof_vars: what the profiler of locks keeps in the memory, and what can be asked of it
 * and set.
 *
 * Every program declares it, also one that has not loaded the profiler itself (lock_prof.ts),
 * because the memory and the tree of variables look the same in every thread
 * (machine/parts.ts).  Without the option there are no tables, and nothing was recorded.
 */
import { M, machine, ROOT_PROF } from '../machine/header.ts';
import { kernel_parts } from '../machine/parts.ts';
import { type sbuf, sbuf_cat, sbuf_text_report } from '../machine/sbuf.ts';
import { elem, i32, NULL, type Ptr, ptr, struct, words } from '../machine/struct.ts';
import {
  CTLFLAG_RW,
  sysctl_int,
  sysctl_number,
  sysctl_proc,
  sysctl_value,
} from '../machine/sysctl_decl.ts';

/** Words of the place of a record. */
export const WHERE_WORDS = 12;

export type prof_t = Ptr<'lock_prof'>;
export type prof_key_t = Ptr<'lock_prof_key'>;

/*
 * Locks: (a) atomic  (c) constant once booted  (o) written before its number is published
 */
export const prof = struct<prof_t>('lock_prof')({
  records_max: i32('c', 'room for records'),
  hash_size: i32('c', 'slots of the hash table'),
  slots: i32('c', 'first slot'),
  keys: ptr<prof_key_t>('c', 'first key'),
  times: i32('c', 'first double of CPU 0, at an even word'),
  cpu_words: i32('c', 'words from one CPU to the next'),
  records: i32('a', 'records taken'),
  rejected: i32('a', 'acquisitions for which there was no record'),
  collisions: i32('a', 'slots passed by while looking for a key'),
  epoch: i32('a', 'goes up at every reset'),
});
export const prof_key = struct<prof_key_t>('lock_prof_key')({
  cls: i32('o', 'class of the lock'),
  line: i32('o', 'hash of the key'),
  where: words('o', 'file:line, or the name of the lock', WHERE_WORDS),
});

export const prof_enable = sysctl_int('debug.mutex.prof.enable', {
  value: 0,
  min: 0,
  max: 1,
  help: 'Measure how long locks are held and waited for; needs the option MUTEX_PROFILING',
  needs: 'MUTEX_PROFILING',
});

/** The anchor of its tables; NULL while the option is off. */
export function prof_root(): prof_t {
  return machine.roots[elem(M, ROOT_PROF)] as prof_t;
}

function no_records(s: sbuf): void {
  sbuf_cat(s, 'No locking recorded');
}
function number_of(read: (r: prof_t) => number): () => number {
  return () => (prof_root() === NULL ? 0 : read(prof_root()));
}
sysctl_proc(
  'debug.mutex.prof.stats',
  { type: 'string', fmt: 'A', help: 'Times of holding and waiting, by place and class of lock' },
  (req) => sbuf_text_report(req, prof_root() === NULL ? no_records : kernel_parts.prof_stats),
);
sysctl_proc(
  'debug.mutex.prof.reset',
  { type: 'int', fmt: 'I', flags: CTLFLAG_RW, help: 'Write other than 0 to forget all records' },
  (req) => {
    const error = req.out(sysctl_number('int', 0));
    const reset = error === 0 && req.new_bytes?.some((b) => b !== 0);
    if (reset && prof_root() !== NULL) kernel_parts.prof_reset();
    return error;
  },
);
sysctl_value(
  'debug.mutex.prof.acquisitions',
  { type: 'int', help: 'Acquisitions measured' },
  number_of(() => kernel_parts.prof_acquisitions()),
);
sysctl_value(
  'debug.mutex.prof.records',
  { type: 'int', help: 'Places and classes recorded' },
  number_of((r) => prof.records[r]),
);
sysctl_value(
  'debug.mutex.prof.maxrecords',
  { type: 'int', help: 'Room for places and classes' },
  number_of((r) => prof.records_max[r]),
);
sysctl_value(
  'debug.mutex.prof.rejected',
  { type: 'int', help: 'Acquisitions not measured for lack of a record' },
  number_of((r) => prof.rejected[r]),
);
sysctl_value(
  'debug.mutex.prof.hashsize',
  { type: 'int', help: 'Slots of the hash table of records' },
  number_of((r) => prof.hash_size[r]),
);
sysctl_value(
  'debug.mutex.prof.collisions',
  { type: 'int', help: 'Slots of the hash table passed by while looking for a record' },
  number_of((r) => prof.collisions[r]),
);
