/*
 * ddb_page: pages.
 *
 *      show page            counts and targets
 *      show pageq           the queues
 *      show freepages       free pages, in blocks of powers of two as a buddy system has them
 *      show pginfo M        one page: owner, queue, wirings, valid and dirty blocks; /p: by the
 *                           byte address of something in it
 *
 * The kernel keeps free pages in bitmaps and a tree of runs (page/vm_phys.ts), not in lists of
 * blocks: `show freepages` cuts its runs as a buddy system does, at multiples of their size.
 * Pool 1 are blocks that are known to be zero.  A free list is a memory domain.
 */
import { counter_get, counters } from '../../machine/counter.ts';
import { tid_cpu } from '../../machine/cpu.ts';
import { M, machine, ROOT_PAGEQ, ROOT_PHYS } from '../../machine/header.ts';
import { PAGE_SIZE, ptoa } from '../../machine/memory.ts';
import { elem } from '../../machine/struct.ts';
import { sysctl_decls, sysctl_get } from '../../machine/sysctl_decl.ts';
import {
  PAGE_DIRTY,
  PAGE_VALID,
  PG_ZERO,
  PK_FREE,
  PK_LOAN,
  PK_MASK,
  PK_OBJECT,
  vm_page,
} from '../../h/vm_page.ts';
import {
  ACT_MASK,
  ACT_SHIFT,
  PQ_ACTIVE,
  PQ_CACHE,
  PQ_INACTIVE,
  PQ_MASK,
  vm_pageq,
  type vm_pageq_t,
} from '../../h/vm_pageq.ts';
import { vm_page_free_count } from '../../page/vm_page.ts';
import { vm_page_held, vm_page_loans } from '../../page/vm_pageq.ts';
import { DOMAINS_MAX, type phys_t, vm_phys } from '../../page/vm_phys.ts';
import { db_page_number } from './ddb_access.ts';
import { DB_SHOW_COMMAND } from './ddb_command.ts';
import { db_flags, db_page_kind, PAGE_FLAGS } from './ddb_flags.ts';
import { type Ddb, DdbError, db_check, db_hex, db_printf, db_puts } from './ddb_session.ts';
import { db_root } from './ddb_uma.ts';

/** A number by the name of its variable, or of its counter. */
export function db_number(name: string): number {
  const count = counters.find((c) => c.name === name);
  if (count) return counter_get(count);
  const decl = sysctl_decls.find((d) => d.name === name);
  if (!decl || decl.handler) throw new DdbError(`No number is called ${name}`);
  return sysctl_get(decl);
}
function pageq(): vm_pageq_t {
  return db_root(ROOT_PAGEQ, vm_pageq.sizeof, 'page queues') as vm_pageq_t;
}
function queue_count(q: number): number {
  return vm_pageq.count[elem(pageq(), q)];
}

DB_SHOW_COMMAND('page', 'Counts of pages, and how many there should be', ({ db }) => {
  const rows: [string, number][] = [
    ['free_count', vm_page_free_count()],
    ['cache_count', queue_count(PQ_CACHE)],
    ['inactive_count', queue_count(PQ_INACTIVE)],
    ['active_count', queue_count(PQ_ACTIVE)],
    ['wire_count', vm_pageq.wired[pageq()]],
    ...TARGETS.map((name): [string, number] => [name, db_number(`vm.v_${name}`)]),
  ];
  for (const [name, value] of rows) db_printf(db, 'cnt.v_%s: %d\n', name, value);
});
const TARGETS = ['free_reserved', 'free_min', 'free_target', 'cache_min', 'inactive_target'];
DB_SHOW_COMMAND('pageq', 'Pages on each queue', ({ db }) => {
  db_printf(db, 'PQ_FREE: %d\n', vm_page_free_count());
  db_printf(db, 'PQ_CACHE: %d\n', queue_count(PQ_CACHE));
  const counts = [queue_count(PQ_ACTIVE), queue_count(PQ_INACTIVE)];
  db_printf(db, 'PQ_ACTIVE: %d, PQ_INACTIVE: %d\n', ...counts);
});

// --- blocks of free pages --------------------------------------------------------------------

const ORDERS = 11;
const POOLS = 2;
/** Blocks of a domain, by order and pool. */
function blocks_of(db: Ddb, low: number, high: number): number[][] {
  const blocks = Array.from({ length: ORDERS }, () => [0, 0]);
  for (let m = low; m < high; ) {
    if (!is_free(m)) {
      m++;
      if (m % 65536 === 0) db_check(db);
      continue;
    }
    let end = m;
    while (end < high && is_free(end)) end++;
    for (let at = m; at < end; ) {
      const aligned = at === 0 ? ORDERS - 1 : 31 - Math.clz32(at & -at);
      const fits = 31 - Math.clz32(end - at);
      const order = Math.min(aligned, fits, ORDERS - 1);
      blocks[order][is_zero(at, 1 << order) ? 1 : 0]++;
      at += 1 << order;
    }
    m = end;
  }
  return blocks;
}
function is_free(m: number): boolean {
  return (vm_page.info[m] & PK_MASK) === PK_FREE;
}
function is_zero(m: number, n: number): boolean {
  for (let i = m; i < m + n; i++) if ((vm_page.flags[i] & PG_ZERO) === 0) return false;
  return true;
}
DB_SHOW_COMMAND('freepages', 'Free pages, in blocks of powers of two', ({ db }) => {
  const ph = db_root(ROOT_PHYS, vm_phys.sizeof, 'free page queues') as phys_t;
  const domains = Math.min(Math.max(machine.domains[M], 1), DOMAINS_MAX);
  for (let d = 0; d < domains; d++) {
    const start = db_page_number(vm_phys.start[elem(ph, d)]);
    const end = Math.min(vm_phys.start[elem(ph, d + 1)], machine.npages[M]);
    const blocks = blocks_of(db, start, end);
    db_printf(db, 'FREE LIST %d:\n\n  ORDER (SIZE)  |  NUMBER\n              ', d);
    for (let p = 0; p < POOLS; p++) db_printf(db, '  |  POOL %d', p);
    db_puts(db, `\n--            ${'-- --      '.repeat(POOLS)}--\n`);
    for (let o = ORDERS - 1; o >= 0; o--) {
      db_printf(db, '  %2.2d (%6.6dK)', o, (PAGE_SIZE / 1024) * 2 ** o);
      for (let p = 0; p < POOLS; p++) db_printf(db, '  |  %6.6d', blocks[o][p]);
      db_puts(db, '\n');
    }
    db_puts(db, '\n');
  }
});

// --- one page --------------------------------------------------------------------------------

DB_SHOW_COMMAND('pginfo', 'A page, by number or /p byte address', (a) => {
  const { db, addr, have_addr, modif } = a;
  if (!have_addr) return db_puts(db, 'show pginfo addr\n');
  if (modif !== '' && modif !== 'p') throw new DdbError(`Bad modifier '${modif}': p`);
  db_pginfo(db, db_page_number(modif === 'p' ? Math.floor(addr / PAGE_SIZE) : addr));
});
/** What is known of page m. */
export function db_pginfo(db: Ddb, m: number): void {
  const info = vm_page.info[m];
  const kind = info & PK_MASK;
  const of_object = kind === PK_OBJECT || kind === PK_LOAN;
  const state = of_object ? vm_page.state[m] : 0;
  const queue = of_object ? vm_page.queue[m] : 0;
  const wired = of_object ? vm_page.wired[m] !== 0 : false;
  db_printf(
    db,
    'page %p obj %p pidx 0x%x phys 0x%x q %d hold %d wire %d\n',
    m,
    of_object ? vm_page.owner[m] * 4 : 0,
    of_object ? vm_page.index[m] >>> 0 : 0,
    ptoa(m),
    queue & PQ_MASK,
    wired ? vm_page_loans(m) : 0,
    wired ? vm_page_held(m) : 0,
  );
  const flags = vm_page.flags[m];
  db_printf(
    db,
    '  af 0x%x of 0x%x f 0x%x act %d busy %d valid 0x%x dirty 0x%x\n',
    vm_page.ref[m] | (vm_page.mod[m] << 1),
    info,
    flags,
    (queue >> ACT_SHIFT) & ACT_MASK,
    vm_page.busy[m] === 0 ? 0 : 1,
    state & PAGE_VALID,
    (state & PAGE_DIRTY) >>> 8,
  );
  const busy = vm_page.busy[m];
  const by = busy === 0 ? '' : `, busy by CPU ${tid_cpu(busy)}`;
  db_puts(db, `  ${db_page_kind(info)}${by}${flags ? ` ${db_flags(flags, PAGE_FLAGS)}` : ''}\n`);
  if (kind !== PK_OBJECT) db_puts(db, `  owner ${db_hex(vm_page.owner[m] * 4)}\n`);
}
