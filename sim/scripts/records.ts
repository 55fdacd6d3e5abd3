/*
 * records: three CPUs take numbers by handle, and two of them free the same ones.
 *
 * A handle goes into a place where all see it, and whoever gets there first frees it;
 * the others are told that it is stale.  The model is a word for each handle there can
 * be, because a number and its generation are a name that is given once: how often it
 * was given and how often its free succeeded.  Number 1 begins near the end of its
 * generations, so that it is retired on the way.
 *
 * Afterwards each number is in use, or not, as its model says.  A CPU that was killed may
 * have had one number in its hands, which the model does not know, and which may be lost.
 * If none is, the records are ended, and nothing is left of them.
 */
import { atomic_add } from '../../src/sys/machine/atomic.ts';
import { counter_get } from '../../src/sys/machine/counter.ts';
import { v_reaps } from '../../src/sys/machine/death.ts';
import { EINVAL } from '../../src/sys/machine/errno.ts';
import { mem } from '../../src/sys/machine/memory.ts';
import {
  elem,
  field_word,
  get64,
  i32,
  type Ptr,
  ptr,
  set64,
  struct,
  u64,
  words,
} from '../../src/sys/machine/struct.ts';
import { M_NOWAIT } from '../../src/sys/h/malloc_flags.ts';
import {
  NUMBER_RETIRED,
  number,
  type number_t,
  type reg_entry_t,
  reg_records,
} from '../../src/sys/h/registry.ts';
import { PK_WIRED } from '../../src/sys/h/vm_page.ts';
import {
  records_alloc_handle,
  records_check,
  records_free_handle,
  records_handle,
  records_handle_number,
  records_index,
  records_used,
} from '../../src/sys/client/kern_records.ts';
import {
  registry_add,
  registry_check,
  registry_end,
  registry_key,
  registry_lock,
  registry_ready,
  registry_settle,
  registry_unlock,
} from '../../src/sys/client/kern_registry.ts';
import { part_numbers } from '../../src/sys/client/kern_registry_parts.ts';
import { vm_page_census } from '../../src/sys/page/vm_page.ts';
import { uma, uma_root } from '../../src/sys/uma/uma_int.ts';
import { uma_drain_pending, uma_reclaim } from '../../src/sys/uma/uma_drain.ts';
import { check_account } from '../account.ts';
import { type SimScript, scratch } from '../script.ts';

type rec_t = Ptr<'sim_records'>;
const CPUS = 3;
const CAPACITY = 5;
/** Generations that a number can have in a run. */
const GENERATIONS = 20;
const PLACES = 2;
const LAST = NUMBER_RETIRED / 2;
/* Locks: (c) constant  (a) atomic */
const rec = struct<rec_t>('sim_records')({
  first: u64('a', 'a handle for all to free; 0: none yet'),
  second: u64('a', 'another'),
  records: ptr<reg_entry_t>('c', 'the entry'),
  zones: i32('c', 'zones before'),
  given: words('a', 'how often each handle was given', (CAPACITY + 1) * GENERATIONS),
  freed: words('a', 'how often its free succeeded', (CAPACITY + 1) * GENERATIONS),
});
const at = (): rec_t => scratch<rec_t>();
const records = (): reg_entry_t => rec.records[at()];
const place = (i: number) => (i % PLACES === 0 ? rec.first : rec.second);

/** Where the model has a handle: by its number and generation. */
function index(h: number): number {
  const n = records_handle_number(records(), h);
  if (n === 0) throw new Error(`${h} is no handle`);
  const g = Math.floor(-h / 2 ** 32);
  const i = g < GENERATIONS ? g : g - LAST + GENERATIONS - 1; // those of number 1 are the last
  if (i < 0 || i >= GENERATIONS) throw new Error(`generation ${g} of number ${n}`);
  return n * GENERATIONS + i;
}
const word = (f: typeof rec.given, i: number): number => field_word(f, elem(at(), i));

function take(): number {
  const h = records_alloc_handle(records(), M_NOWAIT);
  if (h === 0) return 0;
  if (atomic_add(word(rec.given, index(h)), 1) !== 0) throw new Error(`${h} was given twice`);
  return h;
}
function free(h: number): void {
  if (h === 0) return;
  const error = records_free_handle(records(), h);
  if (error === EINVAL) throw new Error(`${h} is no handle`);
  if (error !== 0) return; // stale: another was first
  if (atomic_add(word(rec.freed, index(h)), 1) !== 0) throw new Error(`${h} was freed twice`);
}
/** Takes a number and frees it. */
const turn = (): void => {
  const h = take();
  if (h !== 0 && records_index(records(), h) === 0) throw new Error(`${h} is stale at once`);
  free(h);
};
/** Takes a number for all to free. */
const share = (i: number) => (): void => {
  const h = take();
  if (h !== 0) set64(place(i), at(), h);
};
/** Frees the number that all may free. */
const race = (i: number) => (): void => free(get64(place(i), at()));

export const script: SimScript = {
  help: 'records: numbers are taken, freed twice and retired; none is given twice',
  cpus: CPUS,
  victim: 1,
  kill_seeds: 4,
  setup() {
    rec.zones[at()] = uma_root.nzones[uma()];
    registry_lock();
    const e = registry_add(registry_key('records', 'sim'), '');
    if (part_numbers(e, 'sim', CAPACITY) !== 0) throw new Error('no memory for the numbers');
    registry_ready(e);
    registry_unlock();
    rec.records[at()] = e;
    // Two generations are left to number 1.
    number.count[(reg_records.base[e] + number.sizeof) as number_t] = NUMBER_RETIRED - 4;
    share(0)();
    share(1)();
  },
  ops: (cpu) =>
    cpu === 0
      ? [race(0), turn, share(0), race(1), turn]
      : [race(1), race(0), turn, share(1), race(0), turn],
  check() {
    const e = records();
    records_check(e);
    registry_check();
    const deaths = counter_get(v_reaps);
    let unknown = 0;
    let live = 0;
    for (let n = 1; n <= CAPACITY; n++) {
      let uses = 0;
      for (let g = 0; g < GENERATIONS; g++) {
        const i = n * GENERATIONS + g;
        const [given, freed] = [mem.I32[word(rec.given, i)], mem.I32[word(rec.freed, i)]];
        if (given > 1 || freed > given) return `number ${n}: given ${given}, freed ${freed}`;
        uses += given - freed;
      }
      const h = records_handle(e, n);
      if (h !== 0) live++;
      if (uses !== (h === 0 ? 0 : 1)) unknown++;
    }
    if (unknown > deaths) return `${unknown} numbers are not as the model has them`;
    const lost = records_used(e) - live;
    if (lost < 0 || lost > deaths) return `${lost} numbers are lost`;
    return lost === 0 ? end(e) : undefined; // with a lost one they stay, as the façade has it
  },
};
function end(e: reg_entry_t): string | undefined {
  for (let n = 1; n <= CAPACITY; n++) {
    const h = records_handle(e, n);
    if (h !== 0 && records_free_handle(e, h) !== 0) return `number ${n} cannot be freed`;
  }
  registry_lock();
  registry_end(e);
  registry_unlock();
  registry_settle();
  uma_reclaim();
  const zones = uma_root.nzones[uma()] - rec.zones[at()];
  // A CPU that lives and makes no more calls has been asked for its cache, and has not answered.
  if (zones !== 0 && !uma_drain_pending()) return `${zones} zones are left`;
  if (uma_root.lost_pages[uma()] !== 0) return 'pages went with numbers that were lost';
  if (vm_page_census()[PK_WIRED] !== 0) return 'pages of the run are left';
  return check_account();
}
