/*
 * checked_letters: what the letters of the higher floors ask for.
 *
 * A checked boot tests every access of a field against its letter
 * (sync/checked.ts).  Letters that mean a lock or an owner outside the record
 * are explained here, in one place, because only boot may know all floors:
 *
 *      k   the keg's lock; of a slab, the lock of its keg
 *      z   the lock of the zone's first keg; of a bucket on a zone's list, the
 *          lock of some zone
 *      u   the UMA lock; of pages that windows show: the lock of the page queues
 *      m   of a map entry: the lock of its map; in no map, anything goes; of what is known of
 *          guarded blocks: the lock of their map
 *      i   of a map or its entry: the lock of the map, held in any way, to write too
 *      n   of an object, of a map, of a file, of a store: the lock of the list of all of them
 *      e   changes only while the keg is empty: it has no pages
 *      f   the free lock
 *      g   of a page: under the free lock, or by the CPU in whose hand it is; of a
 *          name: the registry's lock
 *      o   of a page: the CPU in whose hand it is; of an mbuf or a tag: whoever
 *          has the chain, while it is allocated; of a record behind a published
 *          number: only until the number is published
 *      l   the malloc lock
 *      q   the lock of the sleep queue chain that the record is on; off the
 *          chains, its own CPU
 *      t   of a sysctl node: the tree lock, or to read, running its handler
 *      r   of the machine's anchors: set once
 *      x   the CPU that panics
 *      y   the CPU that booted: slot 0
 *      p   of a cache, of counters: its CPU's own; of a bucket: the CPU's whose
 *          cache has it; in no cache, whoever holds the lock of a zone
 *
 * Records are found from any of their words: what UMA gives out lies in a slab
 * that says where each item begins.
 */
import { cpu_nobody, cpu_slots, pcpu, pcpu_of, thr } from '../machine/cpu.ts';
import {
  M,
  machine,
  ROOT_LIB,
  ROOT_MALLOC,
  ROOT_MAP,
  ROOT_OBJECT,
  ROOT_PAGEQ,
  ROOT_PHYS,
  ROOT_PMAP,
  ROOT_GUARD,
  ROOT_LOAN,
  ROOT_STACK,
  ROOT_STORE,
  ROOT_SWAP,
  ROOT_SYSCTL,
  ROOT_UMA,
  ROOT_VNODE,
  ROOT_WINDOW,
} from '../machine/header.ts';
import { slot_tid } from '../machine/death.ts';
import { mem, PAGE_WORD_SHIFT } from '../machine/memory.ts';
import { opt } from '../machine/opt.ts';
import { elem, type Field, field_word } from '../machine/struct.ts';
import { reg_root } from '../h/registry.ts';
import { memguard_root } from '../h/memguard.ts';
import { pmap_root, PV_LISTS, pv_entry, pv_list } from '../h/pmap.ts';
import { vm_map, vm_map_entry, vm_map_root } from '../h/vm_map.ts';
import { vm_hold } from '../h/vm_hold.ts';
import { vm_region } from '../h/vm_region.ts';
import { vm_object, vm_object_root } from '../h/vm_object.ts';
import { stack_root } from '../h/stack.ts';
import { swap_root } from '../h/swap.ts';
import { vm_store_root } from '../h/vm_store.ts';
import { vnode, vnode_root } from '../h/vm_vnode.ts';
import { vm_loan_root } from '../h/vm_loan.ts';
import { vm_window_root } from '../h/vm_window.ts';
import { vm_radix, vm_radix_node } from '../h/vm_radix.ts';
import { M_MAGIC, malloc_root, malloc_type, mtstats } from '../h/malloc.ts';
import {
  CACHE_SHIFT,
  UMA_ZFLAG_INTERNAL,
  uma_bucket,
  uma_cache,
  uma_keg,
  uma_slab,
  uma_zone,
} from '../h/uma.ts';
import {
  PK_CACHE,
  PK_FREE,
  PK_OBJECT,
  PK_MALLOC,
  PK_MALLOC_END,
  PK_MARKED,
  PK_MASK,
  PK_LIMBO,
  PK_LOAN,
  PK_SLAB,
  PK_TABLE,
  PK_WIRED,
  vm_page,
} from '../h/vm_page.ts';
import { oid_running_here, sysctl_root } from '../observe/sysctl_tree.ts';
import { pageq_lock } from '../page/vm_pageq.ts';
import { vm_phys } from '../page/vm_phys.ts';
import {
  type Access,
  checked_complete,
  checked_held,
  checked_hooks,
  checked_letter,
  checked_lock,
  checked_own,
  checked_owner,
  checked_rule,
  checked_start,
} from '../sync/checked.ts';
import { prof_published } from '../sync/lock_prof.ts';
import { LC_BUCKET, LC_SLAB, LC_SLEEPQ, LC_ZONE } from '../sync/lock_order.ts';
import { LOCK_CLASS } from '../sync/lock_word.ts';
import { sleepq_chain_lock, sleepq_sleeper } from '../sync/subr_sleepqueue.ts';
import { witness_notes, wstack_published } from '../sync/witness.ts';
import { uma_root } from '../uma/uma_int.ts';

/** Word of a field in a record at 0: rules read around the guards, or would check themselves. */
function offset<P extends number>(f: Field<P>): number {
  return field_word(f, 0 as P);
}
/** The anchor of a floor; 0 before it is there. */
function anchor(root: number): number {
  return mem.I32[field_word(machine.roots, elem(M, root))];
}

/** Explains the letters to this thread. For boot and for each attach, after checked_boot. */
export function checked_letters(): void {
  machine_letters();
  page_letters();
  uma_letters();
  bucket_letters();
  malloc_letters();
  sync_letters();
  client_letters();
  checked_complete();
}

// --- machine, sync ---------------------------------------------------------------------------

function machine_letters(): void {
  const panic_cpu = field_word(machine.panic_cpu, M);
  checked_rule('machine', 'r', (a) => (a.write && a.old !== 0 ? 'an anchor is set once' : ''));
  checked_rule('machine', 'y', (a) => (a.write && thr.cpu !== 0 ? 'this CPU did not boot' : ''));
  checked_rule('machine', 'x', (a) =>
    a.write && mem.I32[panic_cpu] !== thr.cpu + 1 ? 'this CPU does not panic' : '',
  );
}

function sync_letters(): void {
  const on = offset(sleepq_sleeper.on);
  const wchan = offset(sleepq_sleeper.wchan);
  const cpu = offset(sleepq_sleeper.cpu);
  checked_rule('sleeper', 'q', ({ start: s, write }) => {
    const wrong = checked_lock(sleepq_chain_lock(mem.I32[s + wchan]), write);
    if (wrong === '' || mem.I32[s + on] !== 0) return wrong;
    // Off the chains it is its CPU's own, or on its way to a chain whose lock is held.
    if (mem.I32[s + cpu] === thr.cpu || holds(LC_SLEEPQ)) return '';
    return `${wrong}, and it is cpu${mem.I32[s + cpu]}'s`;
  });
  const once = (what: string, published: (record: number) => boolean) => (a: Access) =>
    a.write && published(a.start) ? `${what} is published` : '';
  checked_rule('witness_stack', 'o', once('the stack', wstack_published));
  checked_rule('lock_prof_key', 'o', once('the record', prof_published));
}
function holds(...classes: number[]): boolean {
  if (!witness_notes()) return true; // debug.witness.watch is -1: nobody knows
  return checked_held().some((l) => classes.includes(mem.I32[l + LOCK_CLASS]));
}

// --- pages -----------------------------------------------------------------------------------

/** What a page is, read around the guards. */
function page_kind(m: number): number {
  return mem.I32[field_word(vm_page.info, 0) + m] & PK_MASK;
}
function page_letters(): void {
  const free_lock = (): number => anchor(ROOT_PHYS) + vm_phys.lock;
  checked_letter('vm_phys', 'f', free_lock);
  checked_letter('vm_phys_leaf', 'f', free_lock);
  checked_letter('vm_reserv', 'f', free_lock);
  checked_letter('vm_phys_node', 'f', free_lock);
  const runs = offset(pcpu.in_hand_n);
  const hand = offset(pcpu.in_hand);
  const has = (cpu: number, m: number): boolean => {
    const pc = pcpu_of(cpu);
    for (let i = 0; i < mem.I32[runs + pc]; i++) {
      const first = mem.I32[hand + pc + i * 2];
      if (m >= first && m < first + mem.I32[hand + pc + i * 2 + 1]) return true;
    }
    return false;
  };
  const in_hand = (m: number): string => {
    const busy = mem.I32[field_word(vm_page.busy, 0) + m];
    if (has(thr.cpu, m) || busy === thr.tid) return '';
    // Or in the hand of a dead CPU, which this one settles.
    for (let cpu = 0; cpu < cpu_slots(); cpu++) {
      if ((has(cpu, m) || busy === slot_tid(cpu)) && checked_own(cpu) === '') return '';
    }
    // Taken for good, without a zone: its owner is not written down.
    return page_kind(m) === PK_WIRED ? '' : `page ${m} is not in the hand of cpu${thr.cpu}`;
  };
  // A page that stays found while it goes from object to object: under the lock of the one.
  const by_object = (m: number): boolean => {
    const o = page_kind(m) === PK_OBJECT ? mem.I32[field_word(vm_page.owner, 0) + m] : 0;
    return o > 0 && checked_lock(o + vm_object.lock, true) === '';
  };
  checked_rule('vm_page', 'o', (a) => (by_object(a.start) ? '' : in_hand(a.start)));
  const owned = (m: number): boolean =>
    [PK_OBJECT, PK_TABLE, PK_LIMBO, PK_LOAN].includes(page_kind(m));
  checked_rule('vm_page', 'b', (a) => (owned(a.start) ? '' : in_hand(a.start)));
  checked_letter('pv_entry', 'v', (e) => {
    const lists = anchor(ROOT_PMAP) + offset(pmap_root.lists);
    return lists + (mem.I32[e + offset(pv_entry.page)] % PV_LISTS) * pv_list.sizeof;
  });
  checked_letter('vm_object', 'n', () => anchor(ROOT_OBJECT) + vm_object_root.lock);
  checked_letter('vm_object_root', 'n', (r) => r + vm_object_root.lock);
  const swap_lock = (): number => anchor(ROOT_SWAP) + swap_root.lock;
  checked_letter('swap_root', 'n', swap_lock);
  checked_letter('swap_area', 'w', swap_lock);
  checked_letter('swap_blist', 'w', swap_lock);
  const stores_lock = (): number => anchor(ROOT_STORE) + vm_store_root.lock;
  checked_letter('vm_store', 'n', stores_lock);
  checked_letter('vm_store_root', 'n', stores_lock);
  checked_letter('vm_object', 'k', (o) => {
    const backing = mem.I32[o + offset(vm_object.backing)];
    return backing > 0 ? backing + vm_object.lock : 0;
  });
  const vnodes_lock = (): number => anchor(ROOT_VNODE) + vnode_root.lock;
  checked_letter('vnode', 'n', vnodes_lock);
  checked_letter('vnode_root', 'n', vnodes_lock);
  checked_letter('vnode', 'o', (v) => {
    const o = mem.I32[v + offset(vnode.object)];
    return o > 0 ? o + vm_object.lock : 0;
  });
  map_letters();
  checked_letter('vm_radix', 'w', (t) => mem.I32[t + offset(vm_radix.lock)]);
  checked_letter('vm_radix_node', 'w', (n) => {
    const t = mem.I32[n + offset(vm_radix_node.tree)];
    return t > 0 ? mem.I32[t + offset(vm_radix.lock)] : 0;
  });
  checked_rule('vm_page', 'w', (a) =>
    owned(a.start) || !a.write ? '' : `page ${a.start} is of no object`,
  );
  const not_free = (a: { start: number; write: boolean }): string => {
    const lock = checked_lock(free_lock(), a.write);
    const mine = in_hand(a.start);
    return lock === '' || mine === '' ? '' : `${lock}, and ${mine}`;
  };
  checked_rule('vm_page', 'g', not_free);
  const cached = (m: number): boolean =>
    page_kind(m) === PK_CACHE && mem.I32[field_word(vm_page.owner, 0) + m] === thr.cpu;
  checked_rule('vm_page', 'f', (a) => (by_object(a.start) || cached(a.start) ? '' : not_free(a)));
}

function map_letters(): void {
  const of_map = offset(vm_map_entry.map);
  checked_letter('vm_map_entry', 'm', (e) => {
    const mp = mem.I32[e + of_map];
    return mp > 0 ? mp + vm_map.lock : 0;
  });
  checked_rule('vm_map_entry', 'i', (a) => {
    const mp = mem.I32[a.start + of_map];
    return mp > 0 ? checked_lock(mp + vm_map.lock, false) : '';
  });
  checked_letter('vm_region', 'm', (r) => {
    const mp = mem.I32[r + offset(vm_region.map)];
    return mp > 0 ? mp + vm_map.lock : 0;
  });
  checked_letter('vm_hold', 'm', (h) => {
    const mp = mem.I32[h + offset(vm_hold.map)];
    return mp > 0 ? mp + vm_map.lock : 0;
  });
  checked_rule('vm_map', 'i', (a) => checked_lock(a.start + vm_map.lock, false));
  // Guarded blocks: the lock of their map; before that is there, the lock of its making.
  const guards_lock = (): number => {
    const r = anchor(ROOT_GUARD);
    const mp = mem.I32[r + offset(memguard_root.map)];
    return mp > 0 ? mp + vm_map.lock : r + memguard_root.lock;
  };
  checked_letter('memguard_root', 'm', guards_lock);
  checked_letter('memguard_freed', 'm', guards_lock);
  checked_letter('vm_map', 'n', () => anchor(ROOT_MAP) + vm_map_root.lock);
  checked_letter('vm_map_root', 'n', (r) => r + vm_map_root.lock);
  const windows_lock = (): number => anchor(ROOT_WINDOW) + vm_window_root.lock;
  checked_letter('vm_map', 'w', windows_lock);
  checked_letter('vm_window', 'w', windows_lock);
  checked_letter('vm_window_run', 'w', windows_lock);
  checked_letter('vm_window_root', 'w', windows_lock);
  checked_letter('vm_window_run', 'u', () => anchor(ROOT_PAGEQ) + pageq_lock);
  const loans_lock = (): number => anchor(ROOT_LOAN) + vm_loan_root.lock;
  checked_letter('vm_loan', 'n', loans_lock);
  checked_letter('vm_loan_root', 'n', loans_lock);
  checked_letter('vm_loan', 'u', () => anchor(ROOT_PAGEQ) + pageq_lock);
}

// --- UMA -------------------------------------------------------------------------------------

interface Item {
  readonly start: number;
  readonly index: number;
  readonly slab: number;
  readonly keg: number;
}
/** The item of a slab that word `p` lies in; null: none. */
function item_of(p: number): Item | null {
  const m = p >>> PAGE_WORD_SHIFT;
  const info = mem.I32[field_word(vm_page.info, 0) + m];
  if ((info & PK_MASK) !== PK_SLAB && !((info & ~PK_MARKED) < PK_MALLOC_END)) return null;
  const slab = mem.I32[field_word(vm_page.owner, 0) + m];
  const keg = slab > 0 ? mem.I32[slab + offset(uma_slab.keg)] : 0;
  if (keg <= 0) return null;
  const words = mem.I32[keg + offset(uma_keg.rsize)] >> 2;
  const data = mem.I32[slab + offset(uma_slab.data)];
  const index = Math.floor((p - data) / words);
  if (index < 0 || index >= mem.I32[keg + offset(uma_keg.ipers)]) return null;
  return { start: data + index * words, index, slab, keg };
}
function bit(at: number, i: number): boolean {
  return (mem.I32[at + (i >> 5)] & (1 << (i & 31))) !== 0;
}
/** What is wrong with a record at `p` that somebody should have allocated. */
function freed(p: number): string {
  if (page_kind(p >>> PAGE_WORD_SHIFT) === PK_FREE) return 'its page is free';
  const item = item_of(p);
  if (!item) return '';
  if (bit(item.slab + offset(uma_slab.bits), item.index)) return 'it is free in its slab';
  const internal = (mem.I32[item.keg + offset(uma_keg.flags)] & UMA_ZFLAG_INTERNAL) !== 0;
  const given = item.slab + mem.I32[item.keg + offset(uma_keg.dbg_off)];
  return opt.INVARIANTS && !internal && !bit(given, item.index) ? 'it was freed' : '';
}
const item_start = (p: number): number => item_of(p)?.start ?? 0;

/** The zone whose caches word `p` lies in, and its place there. */
function zone_at(p: number): number {
  const uma = anchor(ROOT_UMA);
  for (const first of [uma_root.zone_keg, uma_root.zone_zone]) {
    const z = mem.I32[uma + offset(first)];
    if (p >= z && p < z + uma_zone.sizeof + ((cpu_nobody() + 1) << CACHE_SHIFT)) return z;
  }
  return item_start(p);
}
function cache_owner(c: number): number {
  const z = zone_at(c);
  return z === 0 ? -1 : (c - z - uma_zone.sizeof) >> CACHE_SHIFT;
}

function uma_letters(): void {
  const lock_of = (keg: number): number => (keg > 0 ? keg + uma_keg.lock : 0);
  const keg_of_zone = offset(uma_zone.keg);
  const keg_of_slab = offset(uma_slab.keg);
  const the_uma_lock = (): number => anchor(ROOT_UMA) + uma_root.lock;
  checked_letter('uma_root', 'u', the_uma_lock);
  checked_letter('uma_keg', 'u', the_uma_lock);
  checked_letter('uma_zone', 'u', the_uma_lock);
  checked_letter('uma_keg', 'k', lock_of);
  checked_letter('uma_slab', 'k', (s) => lock_of(mem.I32[s + keg_of_slab]));
  checked_letter('uma_zone', 'z', (z) => lock_of(mem.I32[z + keg_of_zone]));
  const pages = offset(uma_keg.pages);
  const empty = (a: Access, keg: number): string =>
    a.write && mem.I32[keg + pages] !== 0 ? `the keg has ${mem.I32[keg + pages]} pages` : '';
  checked_rule('uma_keg', 'e', (a) => empty(a, a.start));
  checked_rule('uma_zone', 'e', (a) => empty(a, mem.I32[a.start + keg_of_zone]));
  checked_start('uma_slab', slab_start);
  checked_start('uma_zone', zone_at);
  checked_owner('uma_cache', cache_owner);
}
/** The header that word `p` lies in: of the page, or an item of a zone of headers. */
function slab_start(p: number): number {
  const m = p >>> PAGE_WORD_SHIFT;
  const item = item_of(p);
  if (item) return item.start; // off the page
  const kind = page_kind(m);
  const here =
    kind === PK_SLAB || kind === PK_MALLOC ? mem.I32[field_word(vm_page.owner, 0) + m] : 0;
  return here > 0 && here <= p ? here : 0;
}

// --- buckets ---------------------------------------------------------------------------------

/** Where a bucket was found last: the word of the cache that points to it, and whose that is. */
const anchored = new Map<number, { word: number; cpu: number }>();
/** The CPU whose cache has bucket b; -1: it is on a zone's list, or on its way. */
function bucket_owner(b: number): number {
  const known = anchored.get(b);
  if (known && mem.I32[known.word] === b) return known.cpu;
  anchored.delete(b);
  const cpus = cpu_slots();
  const { cur, spare, hand, fill, drain } = uma_cache;
  const places = [cur, spare, hand, fill, drain].map((f) => offset(f));
  const [next_keg, zones, next_zone] = [uma_keg.link, uma_keg.zones, uma_zone.link].map((f) =>
    offset(f as Field<number>),
  );
  const kegs = mem.I32[anchor(ROOT_UMA) + offset(uma_root.kegs)];
  for (let k = kegs; k !== 0; k = mem.I32[k + next_keg]) {
    for (let z = mem.I32[k + zones]; z !== 0; z = mem.I32[z + next_zone]) {
      for (let cpu = 0; cpu < cpus; cpu++) {
        const c = z + uma_zone.sizeof + (cpu << CACHE_SHIFT);
        const at = places.find((place) => mem.I32[c + place] === b);
        if (at === undefined) continue;
        anchored.set(b, { word: c + at, cpu });
        return cpu;
      }
    }
  }
  return -1;
}
function bucket_letters(): void {
  anchored.clear();
  const nothing = offset(uma_root.null_bucket);
  checked_start('uma_bucket', item_start);
  checked_rule('uma_bucket', 'p', (a) => {
    const none = mem.I32[anchor(ROOT_UMA) + nothing];
    if (a.at >= none && a.at < none + uma_bucket.sizeof) {
      return a.write ? 'the null bucket stays as it is' : '';
    }
    const gone = freed(a.at);
    const owner = bucket_owner(a.start);
    if (gone !== '' || owner >= 0 || !a.write) return gone || checked_own(owner);
    // Looked for again: a keg that is unlinked meanwhile may lead the walk astray.
    if (holds(LC_ZONE, LC_BUCKET, LC_SLAB) || bucket_owner(a.start) === thr.cpu) return '';
    return 'no cache of this CPU has it, and no lock of a zone is held';
  });
  checked_rule('uma_bucket', 'z', (a) => {
    return holds(LC_ZONE, LC_BUCKET, LC_SLAB) ? freed(a.at) : 'no lock of a zone is held';
  });
}

// --- malloc, clients, observers ----------------------------------------------------------------

function malloc_letters(): void {
  const stacks_lock = (): number => anchor(ROOT_STACK) + stack_root.lock;
  checked_letter('stack', 'n', stacks_lock);
  checked_letter('stack_sample', 'n', stacks_lock);
  checked_letter('sample_table', 'n', stacks_lock);
  checked_letter('audit', 'n', stacks_lock);
  const the_malloc_lock = (): number => anchor(ROOT_MALLOC) + malloc_root.lock;
  checked_letter('malloc_type', 'l', the_malloc_lock);
  checked_letter('malloc_root', 'l', the_malloc_lock);
  checked_start('malloc_type', item_start);
  checked_start('malloc_type_stats', item_start);
  const magic = offset(malloc_type.magic);
  const stats = offset(malloc_type.stats);
  const type = offset(mtstats.type);
  const gone = offset(malloc_root.gone);
  // Each CPU has its own element of a type, and what that leads to.
  checked_rule('malloc_type', 'p', (a) => freed(a.at) || checked_own(a.at - a.start));
  checked_owner('malloc_type_stats', (s) => {
    const t = mem.I32[s + type];
    const first = mem.I32[anchor(ROOT_MALLOC) + gone];
    const cpus = cpu_slots();
    if (s >= first && s < first + cpus * mtstats.sizeof) {
      return Math.floor((s - first) / mtstats.sizeof);
    }
    if (t <= 0 || mem.I32[t + magic] !== M_MAGIC) return -1; // being made, or taken apart
    for (let cpu = 0; cpu < cpus; cpu++) if (mem.I32[t + stats + cpu] === s) return cpu;
    return -1;
  });
}

function client_letters(): void {
  checked_hooks.freed = freed;
  checked_rule('mbuf', 'o', (a) => freed(a.at));
  checked_rule('m_tag', 'o', (a) => freed(a.at));
  const tree_lock = (): number => anchor(ROOT_SYSCTL) + sysctl_root.lock;
  const registry_lock = (): number => {
    const r = anchor(ROOT_LIB);
    return r === 0 ? 0 : r + reg_root.lock;
  };
  checked_letter('reg_root', 'g', registry_lock);
  checked_letter('reg_entry', 'g', registry_lock);
  checked_letter('reg_zone', 'g', registry_lock);
  checked_letter('reg_records', 'g', registry_lock);
  checked_letter('reg_queue', 'g', registry_lock);
  checked_letter('reg_space', 'g', registry_lock);
  checked_letter('reg_value', 'g', registry_lock);
  checked_letter('sysctl_root', 't', tree_lock);
  checked_rule('sysctl_oid', 't', (a) => {
    const wrong = checked_lock(tree_lock(), a.write);
    return wrong !== '' && !a.write && oid_running_here(a.start) ? '' : wrong;
  });
}
