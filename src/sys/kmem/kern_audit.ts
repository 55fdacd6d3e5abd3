/*
 * kern_audit: the last operations of every block and item of some types and zones.
 *
 *      vm.audit.zones=sessions,conn      vm.audit.depth=2
 *
 *      root.audits   first[page % 1024] ──> audit ──> audit      by the item's address
 *                                            | free, CPU 2, time, stack | alloc, CPU 0 ... |
 *
 * What libumem calls auditing.  A ring of operations lies off the item, so that nothing the program
 * writes can change it, and it stays when the item is freed: a block freed twice, or under a wrong
 * type, is told with who did it before.  Each operation takes a stack, which costs a thousand
 * allocations: it is for the hunt.  A name may be that of a type or of a zone that does not exist
 * yet.  Emptied, all rings are forgotten.
 *
 * A realloc that moves a block is a realloc of the new place and a free of the old one.  One that
 * leaves the block where it is goes unnoticed.
 *
 * A free of an item whose last operation is a free is not kept: it is about to be found a
 * duplicate, and what was before is what one wants to know.
 */
import { now_ms } from '../machine/clock.ts';
import { counter_add } from '../machine/counter.ts';
import { thr } from '../machine/cpu.ts';
import { M, machine } from '../machine/header.ts';
import { mem, word_page } from '../machine/memory.ts';
import { panic } from '../machine/panic.ts';
import { elem, field_word, get_string, NULL, set_string } from '../machine/struct.ts';
import { sysctl_get } from '../machine/sysctl_decl.ts';
import { atomic_add } from '../machine/atomic.ts';
import { MD_AUDIT } from '../h/malloc.ts';
import {
  AU_ALLOC,
  AU_FREE,
  AU_REALLOC,
  AUDIT_DEPTH_MAX,
  AUDIT_OP_WORDS,
  AUDIT_ZONES_WORDS,
  audit,
  type audit_t,
  SR_AUDIT,
  stack_root,
  type stack_root_t,
} from '../h/stack.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { save, save_word, undo_begin, undo_end } from '../sync/undo.ts';
import { uma_notes } from '../uma/uma_zone.ts';
import { detect_set, page_mark } from './kern_detect.ts';
import { stack_depot_text, stack_fresh } from './kern_stack.ts';
import {
  type ItemLists,
  list_at,
  list_find,
  list_is_empty,
  list_put,
  list_take,
  list_walk,
} from './kern_stack_lists.ts';
import { audit_depth, audit_max, stack_anchor, v_audit_lost } from './kern_stack_vars.ts';
import { item_around } from './kern_whatis.ts';

const root = stack_root;

const lists: ItemLists<audit_t> = {
  sort: SR_AUDIT,
  table: () => root.audits,
  gone: () => root.audit_gone,
  count: () => root.audited,
  next: () => audit.next,
  item: () => audit.item,
};

// --- whose --------------------------------------------------------------------------------------

/** Keeps the operations of these types and zones from now on; '': of none, and forgets all. */
export function audit_switch(names: string): void {
  const r = stack_anchor();
  mtx_lock(root.lock, r);
  set_string(root.audit_zones, r, AUDIT_ZONES_WORDS, names);
  atomic_add(field_word(root.audit_turn, r), 1);
  mtx_unlock(root.lock, r);
  const on = names.trim() !== '';
  detect_set(MD_AUDIT, on);
  uma_notes();
  while (!on && forget_some(r));
}
/** The names as this thread read them last, and of which machine and turn they are. */
const wanted = { names: new Set<string>(), memory: mem.I32, boot: -1, turn: -1 };
/** Whether the operations of a type or a zone are kept. */
export function audit_wants(name: string): boolean {
  const r = stack_anchor();
  const [boot, turn] = [machine.generation[M], root.audit_turn[r]];
  if (wanted.turn !== turn || wanted.boot !== boot || wanted.memory !== mem.I32) {
    const text = get_string(root.audit_zones, r, AUDIT_ZONES_WORDS);
    const names = new Set(text.split(/[,\s]+/).filter((n) => n !== ''));
    Object.assign(wanted, { names, memory: mem.I32, boot, turn });
  }
  return wanted.names.has('*') || wanted.names.has(name);
}

// --- operations ---------------------------------------------------------------------------------

/** Keeps an operation, AU_*, of the item or large block in which word p lies. */
export function audit_note(p: number, what: number, owner: number, id: number): void {
  const at = item_around(p);
  if (at === null) return;
  const r = stack_anchor();
  mtx_lock(root.lock, r);
  const a = ring_of(r, at.item, at.keg);
  if (a === NULL) counter_add(v_audit_lost, 1);
  else if (what !== AU_FREE || last_of(a) !== AU_FREE) add(r, a, what, owner, id);
  mtx_unlock(root.lock, r);
  if (what !== AU_FREE) page_mark(word_page(p));
}
/** The ring of an item, made if there is none; emptied if the place was another keg's. */
function ring_of(r: stack_root_t, item: number, keg: number): audit_t {
  const place = list_find(lists, r, item);
  if (place === null) return NULL as audit_t;
  const a = place.found;
  if (a !== NULL && audit.keg[a] === keg) return a;
  if (a !== NULL) list_take(lists, r, place);
  if (root.audited[r] >= sysctl_get(audit_max)) return NULL as audit_t;
  const fresh = stack_fresh(r, SR_AUDIT) as audit_t;
  if (fresh === NULL) return fresh;
  audit.item[fresh] = item;
  audit.keg[fresh] = keg;
  audit.count[fresh] = 0;
  list_put(lists, r, place.list, fresh);
  return fresh;
}
/** The first word of the n-th operation. */
function op_word(a: audit_t, n: number): number {
  return field_word(audit.ops, elem(a, (n % AUDIT_DEPTH_MAX) * AUDIT_OP_WORDS));
}
function last_of(a: audit_t): number {
  const n = audit.count[a];
  return n === 0 ? 0 : mem.I32[op_word(a, n - 1)] & 0xff;
}
function add(r: stack_root_t, a: audit_t, what: number, owner: number, id: number): void {
  const w = op_word(a, audit.count[a]);
  undo_begin(root.lock, r);
  for (let i = 0; i < AUDIT_OP_WORDS; i++) save_word(w + i);
  save(audit.count, a);
  mem.I32[w] = what | (thr.cpu << 8);
  mem.I32[w + 1] = owner;
  mem.I32[w + 2] = id;
  mem.F64[(w + 4) >> 1] = now_ms();
  audit.count[a]++;
  undo_end();
}
const FORGET_LISTS = 16;
let forget_at = 0;
function forget_some(r: stack_root_t): boolean {
  mtx_lock(root.lock, r);
  const off = get_string(root.audit_zones, r, AUDIT_ZONES_WORDS).trim() === '';
  for (let i = 0; i < FORGET_LISTS && off && root.audited[r] > 0; i++) {
    const n = forget_at++;
    for (let a = list_at(lists, r, n); a !== NULL; a = list_at(lists, r, n)) {
      const place = list_find(lists, r, audit.item[a]);
      if (place !== null) list_take(lists, r, place);
    }
  }
  const more = off && root.audited[r] > 0;
  mtx_unlock(root.lock, r);
  return more;
}

// --- looking ------------------------------------------------------------------------------------

/** An operation of an item. */
export interface AuditOp {
  readonly what: 'alloc' | 'free' | 'realloc' | '?';
  readonly cpu: number;
  /** Its malloc type or its zone. */
  readonly owner: number;
  readonly stack: number;
  /** When, ms since the epoch. */
  readonly time: number;
}
const WHAT: Readonly<Record<number, AuditOp['what']>> = {
  [AU_ALLOC]: 'alloc',
  [AU_FREE]: 'free',
  [AU_REALLOC]: 'realloc',
};
/** The last operations of the item in which word p lies, the newest first. Takes the lock. */
export function audit_ops(p: number): AuditOp[] {
  const r = stack_anchor();
  const item = item_around(p)?.item ?? p; // of a large block that is freed, its first word
  if (!(p > 0 && item < mem.I32.length) || list_is_empty(lists, r, item)) return [];
  mtx_lock(root.lock, r);
  const a = list_find(lists, r, item)?.found ?? (NULL as audit_t);
  const ops = a === NULL ? [] : ops_of(a);
  mtx_unlock(root.lock, r);
  return ops;
}
function ops_of(a: audit_t): AuditOp[] {
  const ops: AuditOp[] = [];
  const n = audit.count[a];
  for (let i = 1; i <= Math.min(n, sysctl_get(audit_depth), AUDIT_DEPTH_MAX); i++) {
    const w = op_word(a, n - i);
    const what = WHAT[mem.I32[w] & 0xff] ?? '?';
    const [owner, stack] = [mem.I32[w + 1], mem.I32[w + 2]];
    ops.push({ what, cpu: mem.I32[w] >> 8, owner, stack, time: mem.F64[(w + 4) >> 1] });
  }
  return ops;
}
/** The same as lines: what, CPU, how long ago, and the stack. */
export function audit_text(p: number): string[] {
  const now = now_ms();
  return audit_ops(p).flatMap(({ what, cpu, time, stack }) => {
    const frames = stack_depot_text(stack).map((line, i) => `    #${i} ${line}`);
    const ago = Math.max(0, now - time).toFixed(1);
    return [`  ${what} by cpu${cpu} ${ago} ms ago:`, ...(frames.length > 0 ? frames : ['    ?'])];
  });
}
/** Proves that each ring is on its list once. Takes the lock. */
export function audit_check(): void {
  const r = stack_anchor();
  mtx_lock(root.lock, r);
  const items = new Set<number>();
  let n = 0;
  list_walk(lists, r, audit.sizeof, (a) => {
    items.add(audit.item[a]);
    n++;
  });
  const counted = root.audited[r];
  mtx_unlock(root.lock, r);
  if (items.size !== n) panic('audit: an item has two rings');
  if (n !== counted) panic(`audit: ${n} rings, counted ${counted}`);
}
