/*
 * vm_page_limbo: pages that were freed while a CPU may still use them.
 *
 * Taking a mapping away waits for nobody: a CPU that is silent for long would hold up
 * everybody else.  What must wait is the page.  While any CPU owes an answer to a
 * shoot-down (machine/tlb_ack.ts) a page of an owner that is freed goes here, and is taken from
 * here as soon as none does: by whoever frees the next one, finds memory short, or has
 * nothing to do.
 *
 *      busy -> limbo     one section: it is on the list and nobody's
 *      limbo -> busy     one section: off the list, and this CPU's
 *
 * The lock stands further in than those of UMA, because memory may be short under them.
 */
import { pcpu as pcpu_, thr as thr_ } from '../machine/cpu.ts';
import { boot_alloc, M, machine as machine_, ROOT_LIMBO } from '../machine/header.ts';
import { mem as mem_ } from '../machine/memory.ts';
import { panic } from '../machine/panic.ts';
import { elem, i32, lock_words, type Ptr, struct } from '../machine/struct.ts';
import { sysctl_value } from '../machine/sysctl_decl.ts';
import { tlb_owed } from '../machine/tlb_ack.ts';
import { PK_LIMBO, PK_MASK, vm_page } from '../h/vm_page.ts';
import { MTX_WORDS, mtx_init, mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { LC_PAGE_LIMBO } from '../sync/lock_order.ts';
import { save, save_word, undo_begin, undo_end } from '../sync/undo.ts';
import { vm_page_free_now } from './vm_page_busy.ts';
import { phys_root, vm_phys } from './vm_phys.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const mem = mem_;
const thr = thr_;
const pcpu = pcpu_;
const machine = machine_;
const page = vm_page;

type vm_limbo_t = Ptr<'vm_limbo'>;
/* Locks: (s) the lock  (h) read by all, as a hint */
const limbo = struct<vm_limbo_t>(
  'vm_limbo',
  32,
)({
  lock: lock_words(MTX_WORDS, 'page limbo', 'the list'),
  head: i32('s', 'the page that came last, 0: none; they are linked by page.next'),
  count: i32('sh', 'pages'),
});
function root(): vm_limbo_t {
  return machine.roots[elem(M, ROOT_LIMBO)] as vm_limbo_t;
}
/** Lays the list out, while boot_alloc still works. */
export function limbo_boot(): void {
  const r = boot_alloc(limbo.sizeof, 'freed pages that wait', 32) as vm_limbo_t;
  machine.roots[elem(M, ROOT_LIMBO)] = r;
  mtx_init(limbo.lock, r, LC_PAGE_LIMBO);
}
sysctl_value(
  'vm.limbo_pages',
  { type: 'uint', unit: 'pages', help: 'Freed pages that wait until no CPU may still use them' },
  vm_page_limbo_count,
);
/** Pages that wait: a sample. */
export function vm_page_limbo_count(): number {
  return limbo.count[root()];
}

/**
 * A page that this CPU has busy, and that nothing leads to, waits until it may be freed; or one
 * that the word `anchor` led to, which does so no more.
 */
export function vm_page_limbo(m: number, anchor = 0): void {
  const r = root();
  mtx_lock(limbo.lock, r);
  undo_begin(limbo.lock, r);
  save(page.next, m);
  save(page.info, m);
  save(page.busy, m);
  save(limbo.head, r);
  save(limbo.count, r);
  if (anchor !== 0) {
    save_word(anchor);
    mem.I32[anchor] = 0;
  }
  page.info[m] = PK_LIMBO; // first: from here on the lock guards the rest
  page.next[m] = limbo.head[r];
  page.busy[m] = 0;
  limbo.head[r] = m;
  limbo.count[r]++;
  undo_end();
  mtx_unlock(limbo.lock, r);
}
/** Frees the pages that wait, unless some CPU owes an answer still. Returns how many. */
export function vm_page_limbo_free(): number {
  const r = root();
  let n = 0;
  while (limbo.count[r] > 0 && !tlb_owed()) {
    const m = take(r);
    if (m === 0) break;
    vm_page_free_now(m, false);
    n++;
  }
  return n;
}
/** The same before this CPU sleeps. A line of the idle table. */
export function vm_page_limbo_idle(): void {
  if (pcpu.in_hand_n[thr.pc] === 0) vm_page_limbo_free();
}
/** Takes a page off the list: it is busy by this CPU. 0: there is none. */
function take(r: vm_limbo_t): number {
  mtx_lock(limbo.lock, r);
  // One that came after the look may be waited for: then all wait.
  const m = tlb_owed() ? 0 : limbo.head[r];
  if (m !== 0) {
    undo_begin(limbo.lock, r);
    save(page.next, m);
    save(page.busy, m);
    save(limbo.head, r);
    save(limbo.count, r);
    limbo.head[r] = page.next[m];
    limbo.count[r]--;
    page.next[m] = 0;
    page.busy[m] = thr.tid;
    undo_end();
  }
  mtx_unlock(limbo.lock, r);
  return m;
}

/** Proves the list against the page array. Takes the lock. */
export function limbo_check(): void {
  const r = root();
  const ph = phys_root();
  mtx_lock(limbo.lock, r);
  let n = 0;
  for (let m = limbo.head[r]; m !== 0; m = page.next[m], n++) {
    if ((page.info[m] & PK_MASK) !== PK_LIMBO) panic('limbo_check: kind', m, page.info[m]);
    if (page.busy[m] !== 0) panic('limbo_check: busy', m, page.busy[m]);
    if (n > limbo.count[r]) panic('limbo_check: a ring', m);
  }
  if (n !== limbo.count[r]) panic('limbo_check: count', limbo.count[r], n);
  let said = 0;
  for (let m = vm_phys.low[ph]; m < vm_phys.high[ph]; m++) {
    if ((page.info[m] & PK_MASK) === PK_LIMBO && page.busy[m] === 0) said++;
  }
  if (said !== n) panic('limbo_check: pages that say so', said, n);
  mtx_unlock(limbo.lock, r);
}
