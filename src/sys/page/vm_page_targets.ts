/*
 * vm_page_targets: how many pages should be free, and when that is too few.
 *
 *      page_targets(memory, pages, free)     all figures, from the size of the memory; at boot
 *
 *      0 ── interrupt 2 ── reserved ─ severe ─ min ──── target ─────────── all that there are
 *             INTERRUPT     SYSTEM      |      |          '- reclaiming stops here, and goes on
 *             requests      requests    |      '- who waits for pages is woken above this       to
 *                                       '- writes are not spared                        cache_min
 *
 * Pages that are as good as free count as free in all of these: `avail` is free pages and pages
 * of the cache queue.
 *
 * The formulas are BSD's, made for machines of 32 MiB and more.  A smaller one has its share of
 * what a machine of 32 MiB has, but a few pages at least.  All of them are variables, and are
 * used as they stand when they are needed.
 */
import { M, machine } from '../machine/header.ts';
import {
  CTLFLAG_RD,
  CTLFLAG_RWTUN,
  sysctl_get,
  sysctl_set,
  sysctl_uint,
  sysctl_value,
  type SysctlDecl,
} from '../machine/sysctl_decl.ts';
import { PQ_CACHE, pageq_count } from '../h/vm_pageq.ts';

/** Pages of a machine of 32 MiB: from there on the formulas hold to the letter. */
const FORMULA_PAGES = 8192;
/** Pages that only INTERRUPT requests get. */
export const INTERRUPT_FREE_MIN = 2;
/** Colours of pages: bits of a word of the free bitmap. */
const COLORS = 32;
/** The largest block of a file that is written at once, in pages. */
const MAXBSIZE_PAGES = 16;
/** Pages that are paged out together. */
const CLUSTER_PAGES = 16;

/** Pages, each of them. */
export interface PageTargets {
  readonly cluster: number;
  readonly pageout_free_min: number;
  readonly free_reserved: number;
  readonly free_severe: number;
  readonly free_min: number;
  readonly free_target: number;
  readonly cache_min: number;
  readonly cache_max: number;
  readonly inactive_target: number;
}
/** The figures of a machine with `pages` managed pages of `memory`, of which `free` are free. */
export function page_targets(memory: number, pages: number, free: number): PageTargets {
  if (memory >= FORMULA_PAGES) return formulas(pages, free);
  const scale = FORMULA_PAGES / memory;
  const whole = formulas(Math.floor(pages * scale), Math.floor(free * scale));
  const share = (n: number, least: number): number => Math.max(Math.floor(n / scale), least);
  const free_reserved = share(whole.free_reserved, 4);
  const free_severe = share(whole.free_severe, free_reserved + 1);
  const free_min = share(whole.free_min, free_severe + 1);
  return {
    cluster: whole.cluster,
    pageout_free_min: share(whole.pageout_free_min, INTERRUPT_FREE_MIN + 1),
    free_reserved,
    free_severe,
    free_min,
    free_target: share(whole.free_target, free_min + 2),
    cache_min: share(whole.cache_min, 0),
    cache_max: share(whole.cache_max, 0),
    inactive_target: share(whole.inactive_target, 1),
  };
}
function formulas(pages: number, free: number): PageTargets {
  const cluster = pages < 2000 ? CLUSTER_PAGES / 2 : CLUSTER_PAGES;
  const min = 4 + (pages > 1024 ? Math.floor((pages - 1024) / 200) : 0);
  const pageout_free_min = 2 * MAXBSIZE_PAGES + INTERRUPT_FREE_MIN;
  const free_reserved = cluster + pageout_free_min + Math.floor(pages / 768) + COLORS;
  const free_severe = Math.floor(min / 2) + free_reserved;
  const free_min = min + free_reserved;
  const free_target = (free > 6144 ? 4 : 2) * free_min + free_reserved;
  const many = free > 2048;
  const wanted = many ? Math.floor((3 * free_target) / 2) : Math.floor(free / 4);
  return {
    cluster,
    pageout_free_min,
    free_reserved,
    free_severe,
    free_min,
    free_target,
    cache_min: many ? free_target : 0,
    cache_max: many ? 2 * free_target : 0,
    inactive_target: Math.min(wanted, Math.floor(free / 3)),
  };
}

// --- as variables --------------------------------------------------------------------------------

const knob = (name: string, number: number | undefined, help: string): SysctlDecl => {
  const named = number === undefined ? {} : { number };
  return sysctl_uint(`vm.${name}`, {
    value: 0,
    flags: CTLFLAG_RWTUN,
    unit: 'pages',
    help,
    ...named,
  });
};
export const v_free_min = knob('v_free_min', 3, 'Below this waiters for memory stay asleep');
export const v_free_target = knob('v_free_target', 4, 'Free pages that reclaiming aims at');
export const v_free_reserved = knob(
  'v_free_reserved',
  5,
  'Pages only SYSTEM and INTERRUPT requests get',
);
export const v_inactive_target = knob(
  'v_inactive_target',
  6,
  'Pages that should be inactive, unless vm.inactive_percent says fewer',
);
const v_cache_min = knob(
  'v_cache_min',
  7,
  'Pages that should be as good as free beside those that are free: below both the page daemon ' +
    'wakes up',
);
export const v_cache_max = knob(
  'v_cache_max',
  8,
  'Pages that may be as good as free before pages grow old without need',
);
const v_free_severe = knob(
  'v_free_severe',
  undefined,
  'Below this the page daemon writes any number of dirty pages, in its first look, too',
);
const v_page_count = sysctl_uint('vm.stats.vm.v_page_count', {
  value: 0,
  flags: CTLFLAG_RD,
  unit: 'pages',
  help: 'Pages managed',
});
const v_pageout_free_min = sysctl_uint('vm.stats.vm.v_pageout_free_min', {
  value: 0,
  flags: CTLFLAG_RD,
  unit: 'pages',
  help: 'The part of vm.v_free_reserved that paging out may need',
});
const constant = (name: string, help: string, value: number | SysctlDecl): SysctlDecl =>
  sysctl_value(`vm.stats.vm.${name}`, { type: 'uint', unit: 'pages', help }, () =>
    typeof value === 'number' ? value : sysctl_get(value),
  );
constant('v_free_min', 'What vm.v_free_min is', v_free_min);
constant('v_free_target', 'What vm.v_free_target is', v_free_target);
constant('v_free_reserved', 'What vm.v_free_reserved is', v_free_reserved);
constant('v_inactive_target', 'What vm.v_inactive_target is', v_inactive_target);
constant('v_cache_min', 'What vm.v_cache_min is', v_cache_min);
constant('v_cache_max', 'What vm.v_cache_max is', v_cache_max);
constant('v_interrupt_free_min', 'Pages only INTERRUPT requests get', INTERRUPT_FREE_MIN);

/** Gives the variables that nobody has set their values, of `pages` that are all free. */
export function page_targets_set(pages: number): void {
  const t = page_targets(machine.npages[M], pages, pages);
  sysctl_set(v_page_count, pages);
  sysctl_set(v_pageout_free_min, t.pageout_free_min);
  const values: [SysctlDecl, number][] = [
    [v_free_reserved, t.free_reserved],
    [v_free_severe, t.free_severe],
    [v_free_min, t.free_min],
    [v_free_target, t.free_target],
    [v_cache_min, t.cache_min],
    [v_cache_max, t.cache_max],
    [v_inactive_target, t.inactive_target],
  ];
  for (const [decl, value] of values) if (sysctl_get(decl) === 0) sysctl_set(decl, value);
}
/** Pages managed. */
export function vm_page_count(): number {
  return sysctl_get(v_page_count);
}

// --- whether pages are few -----------------------------------------------------------------------

/** Of so many free pages, with those that are as good as free. */
const avail = (free: number): number => free + pageq_count(PQ_CACHE);
/** Whether dirty pages are written without delay. */
export function page_few_severe(free: number): boolean {
  return avail(free) < sysctl_get(v_free_severe);
}
/** Whether who waits for pages stays asleep. */
export function page_few_min(free: number): boolean {
  return avail(free) < sysctl_get(v_free_min);
}
/** How many pages are to be reclaimed; not more than 0: none. */
export function page_few_target(free: number): number {
  return sysctl_get(v_free_target) + sysctl_get(v_cache_min) - avail(free);
}
/**
 * Whether the page daemon is to wake up: for what BSD's does, or because nothing but what is as
 * good as free is left, which requests of the kernel do not take.
 */
export function page_few_needed(free: number): boolean {
  const reserved = sysctl_get(v_free_reserved);
  return free <= reserved || avail(free) < reserved + sysctl_get(v_cache_min);
}
/**
 * How many pages should be inactive, as good as free or free, and are not: so many active ones grow
 * old although nobody needs pages.
 */
export function page_few_unused(free: number, inactive: number, target: number): number {
  return target + sysctl_get(v_cache_max) + sysctl_get(v_free_min) - avail(free) - inactive;
}
