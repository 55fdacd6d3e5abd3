/*
 * vm_object_chain: copies by reference, and how chains of them stay short.
 *
 *      entry ──> object                            entry ──> shadow ──> object
 *                                  shadow                      |
 *      entry ──> object  (copied)  ──────>         entry ──────────────'
 *
 * A copy of memory is a shadow: an object without pages whose backing object has them.  A page
 * that is written to is copied into the shadow and hides the one below.
 *
 *      collapse   the object below has one reference left, this one's: its pages that are
 *                 not hidden move up, and it ends
 *      bypass     all of it that can be seen is hidden: this object goes on to the next
 *                 below, and gives its reference up
 *
 * Locks: of two objects of a chain the upper one first.
 */
import { counter_add, counter_u64 } from '../machine/counter.ts';
import { cpu_slots, pcpu as pcpu_, pcpu_of, thr as thr_ } from '../machine/cpu.ts';
import { NULL } from '../machine/struct.ts';
import { OBJ_DEAD, OBJT_DEAD, OBJT_DEFAULT, vm_object, type vm_object_t } from '../h/vm_object.ts';
import { vm_page } from '../h/vm_page.ts';
import { vm_page_held } from '../page/vm_pageq.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import {
  object_anonymous,
  object_shadow_in,
  object_shadow_out,
  vm_object_allocate,
  vm_object_anchor,
  vm_object_deallocate,
  vm_object_reference_locked,
  vm_object_unanchor,
} from './vm_object.ts';
import {
  object_page_drop,
  object_page_move,
  object_page_next,
  object_page_seen,
  object_stale_out,
  page_valid,
  vm_page_sleep_if_busy,
} from './vm_object_page.ts';
import {
  object_slot,
  object_slot_move,
  object_slot_next,
  object_slots_free,
} from './vm_object_slot.ts';
import { vm_pager_has_page } from './vm_pager.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const thr = thr_;
const pcpu = pcpu_;
const object = vm_object;
const page = vm_page;

const v_collapses = counter_u64(
  'vm.stats.object.collapses',
  'Objects that took the pages of the one below',
);
const v_bypasses = counter_u64(
  'vm.stats.object.bypasses',
  'Objects that passed over the one below',
);

/**
 * A shadow of `size` pages over `o` from its page `offset` on.  The reference to `o` in this
 * CPU's hand becomes the shadow's; that to the shadow is in hand then.  An anonymous object
 * that nobody else refers to needs none: it is returned itself.  NULL: no memory.
 */
export function vm_object_shadow(o: vm_object_t, offset: number, size: number): vm_object_t {
  mtx_lock(object.lock, o);
  const alone = object.refs[o] === 1 && object_anonymous(o);
  mtx_unlock(object.lock, o);
  return alone ? o : vm_object_split(o, offset, size);
}
/**
 * The first half of taking pages `offset` to `offset + size` of an object apart, each of which
 * is mapped once at most: a shadow over it, whatever its references.  The reference to it in
 * this CPU's hand becomes the shadow's, that to the shadow is in hand.  Until the shadow stands
 * where the object stood nothing has moved, so that nothing is lost should this thread die.
 * NULL: no memory.
 */
export function vm_object_split(o: vm_object_t, offset: number, size: number): vm_object_t {
  const shadow = vm_object_allocate(OBJT_DEFAULT, size);
  if (shadow === NULL) return shadow;
  mtx_lock(object.lock, shadow);
  mtx_lock(object.lock, o);
  pcpu.moving[thr.pc] = shadow;
  undo_begin(object.lock, shadow);
  save(object.backing, shadow);
  save(object.backing_offset, shadow);
  object.backing[shadow] = o;
  object.backing_offset[shadow] = offset;
  vm_object_anchor(o);
  undo_end();
  object_shadow_in(shadow, o);
  pcpu.moving[thr.pc] = 0;
  mtx_unlock(object.lock, o);
  mtx_unlock(object.lock, shadow);
  return shadow;
}
/** The other half: its pages move up, and it stands on what the object stands on. */
export function vm_object_split_end(shadow: vm_object_t): void {
  for (;;) {
    mtx_lock(object.lock, shadow);
    const o = object.backing[shadow];
    if (o === NULL) return mtx_unlock(object.lock, shadow);
    mtx_lock(object.lock, o);
    const done = pull_up(shadow, o);
    if (done === 'yes') pass_over(shadow, o);
    mtx_unlock(object.lock, shadow);
    if (typeof done === 'number') vm_page_sleep_if_busy(done, o);
    mtx_unlock(object.lock, o);
    if (done === 'yes') return vm_object_deallocate(o);
    if (done === 'no') return; // no memory: a shadow it stays
  }
}
/** Moves all pages up that are seen through o and have no page there yet. Both are locked. */
function pull_up(o: vm_object_t, b: vm_object_t): Step {
  const first = object.backing_offset[o];
  const end = first + object.size[o];
  for (let m = object_page_next(b, first); m !== 0; ) {
    const at = page.index[m];
    if (at >= end) break;
    if (page.busy[m] !== 0) return m;
    const free = page_valid(m) && !holds(o, at - first);
    if (free && !object_page_move(m, b, o, at - first)) return 'no';
    m = object_page_next(b, at + 1);
  }
  for (let at = object_slot_next(b, first); at >= 0 && at < end; at = object_slot_next(b, at + 1)) {
    if (!holds(o, at - first) && !object_slot_move(b, at, o, at - first)) return 'no';
  }
  return 'yes';
}
/** Whether an object has its page `i`, in memory, on its way there, or in the swap area. Locked. */
function holds(o: vm_object_t, i: number): boolean {
  return object_page_seen(o, i) !== 0 || object_slot(o, i) !== 0;
}
/**
 * Makes an anonymous object longer by `more` pages, for a mapping that ends at its page
 * `end` and is to go on.  False: others see what lies behind, or it has another below it.
 */
export function vm_object_coalesce(o: vm_object_t, end: number, more: number): boolean {
  vm_object_collapse(o);
  mtx_lock(object.lock, o);
  const fits = object.refs[o] === 1 || object.size[o] === end;
  const ok = object_anonymous(o) && object.backing[o] === NULL && fits;
  if (ok) {
    for (let m = object_page_next(o, end); m !== 0; m = object_page_next(o, end)) {
      if (vm_page_sleep_if_busy(m, o)) {
        mtx_unlock(object.lock, o);
        return vm_object_coalesce(o, end, more);
      }
      object_page_drop(m, o);
    }
    object_slots_free(o, end, object.size[o]);
    undo_begin(object.lock, o);
    save(object.size, o);
    object.size[o] = Math.max(object.size[o], end + more);
    undo_end();
  }
  mtx_unlock(object.lock, o);
  return ok;
}

/** Shortens the chain below an object to which the caller refers. Takes and gives back locks. */
export function vm_object_collapse(o: vm_object_t): void {
  for (let b = shorten(o); b !== NULL; b = shorten(o)) vm_object_deallocate(b);
}
/** One step of that: returns the object whose reference came into hand, NULL: no more to do. */
function shorten(o: vm_object_t): vm_object_t {
  const none = NULL as vm_object_t;
  for (;;) {
    mtx_lock(object.lock, o);
    const b = object.backing[o];
    if (b === NULL || !quiet(o)) {
      mtx_unlock(object.lock, o);
      return none;
    }
    mtx_lock(object.lock, b);
    const alone = object.refs[b] === 1;
    const done = quiet(b) ? (alone ? take_pages(o, b) : hides(o, b)) : 'no';
    if (done === 'yes') {
      pass_over(o, b);
      counter_add(alone ? v_collapses : v_bypasses, 1);
    }
    mtx_unlock(object.lock, o);
    if (typeof done === 'number') vm_page_sleep_if_busy(done, b);
    mtx_unlock(object.lock, b);
    if (done === 'yes') return b;
    if (done === 'no') return none;
  }
}
/** Anonymous, alive, and nobody pages in it. */
function quiet(o: vm_object_t): boolean {
  return object_anonymous(o) && (object.flags[o] & OBJ_DEAD) === 0 && object.paging[o] === 0;
}
/** Whether a step can be done; the page that is waited for, if one is busy. */
type Step = 'yes' | 'no' | number;
/** Moves up the pages of b that o does not hide, and frees the others. Both are locked. */
function take_pages(o: vm_object_t, b: vm_object_t): Step {
  for (let m = object_page_next(b, 0); m !== 0; m = object_page_next(b, 0)) {
    if (page.busy[m] !== 0) return m;
    if (object_page_seen(b, page.index[m]) === 0) continue;
    const i = page.index[m] - object.backing_offset[o];
    const inside = i >= 0 && i < object.size[o];
    const above = inside ? object_page_seen(o, i) : 0;
    if (inside && above === 0 && object_slot(o, i) === 0) {
      if (!object_page_move(m, b, o, i)) return 'no';
      continue;
    }
    // One that is being filled does not hide it yet; one that is wired goes when b does.
    if (filling(o, above) || vm_page_held(m) !== 0) return 'no';
    object_page_drop(m, b);
  }
  for (let at = object_slot_next(b, 0); at >= 0; at = object_slot_next(b, at + 1)) {
    const i = at - object.backing_offset[o];
    const inside = i >= 0 && i < object.size[o];
    const above = inside ? object_page_seen(o, i) : 0;
    if (filling(o, above)) return 'no';
    if (!inside || above !== 0 || object_slot(o, i) !== 0) continue; // it goes when b does
    if (!object_slot_move(b, at, o, i)) return 'no';
  }
  return 'yes';
}
/** Whether a page of o that was seen gets its contents now, and has none in the swap area. */
function filling(o: vm_object_t, m: number): boolean {
  return m !== 0 && page.busy[m] !== 0 && object_slot(o, page.index[m]) === 0;
}
/** Whether o has a page wherever b has one that could be seen through it. Both are locked. */
function hides(o: vm_object_t, b: vm_object_t): Step {
  const first = object.backing_offset[o];
  const end = first + object.size[o];
  for (let m = object_page_next(b, first); m !== 0; m = object_page_next(b, page.index[m] + 1)) {
    if (page.index[m] >= end) break;
    const empty = !page_valid(m) && page.busy[m] === 0 && page.slot[m] === 0;
    if (!empty && !hidden(o, page.index[m] - first)) return 'no';
  }
  for (let at = object_slot_next(b, first); at >= 0 && at < end; at = object_slot_next(b, at + 1)) {
    if (!hidden(o, at - first)) return 'no';
  }
  return 'yes';
}
/** Whether o has contents of its own for page `i`. */
function hidden(o: vm_object_t, i: number): boolean {
  const above = object_page_seen(o, i);
  return (above !== 0 && page.busy[above] === 0) || object_slot(o, i) !== 0;
}
/**
 * What a thread was moving into o when it died is settled: whether it has moved is seen by the
 * object below, which is another one soon.  The reaper may come later than whoever locks o next.
 */
function dead_moves_end(o: vm_object_t): void {
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    if (pcpu.moving[pcpu_of(cpu)] === o) object_stale_out(o);
  }
}
/** The object below b, if there is one, backs o instead of b, whose reference is in hand then. */
function pass_over(o: vm_object_t, b: vm_object_t): void {
  dead_moves_end(o);
  const below = object.backing[b];
  if (below !== NULL) {
    mtx_lock(object.lock, below);
    vm_object_reference_locked(below);
  }
  pcpu.moving[thr.pc] = o;
  object_shadow_out(o, b);
  undo_begin(object.lock, o);
  save(object.backing, o);
  save(object.backing_offset, o);
  object.backing[o] = below;
  object.backing_offset[o] += object.backing_offset[b];
  if (below !== NULL) vm_object_anchor(below);
  vm_object_unanchor(b);
  undo_end();
  if (below !== NULL) {
    object_shadow_in(o, below);
    mtx_unlock(object.lock, below);
  }
  pcpu.moving[thr.pc] = 0;
}

/**
 * Of this thread: the object that vm_object_seen left locked; or the one whose pager has what was
 * looked for, as page `i` of it, NULL: none has.
 */
export const object_seen = { o: NULL as vm_object_t, away: NULL as vm_object_t, i: 0 };
/**
 * The page that is seen as page `i` of an object, in it or, unless `top` is set, in one below it.
 * The object that has it, object_seen.o, is locked then; the page may be busy.  0: no page is there
 * yet, or it is not in memory, and nothing is locked.
 */
export function vm_object_seen(top_object: vm_object_t, first: number, top = false): number {
  let o = top_object;
  let i = first;
  mtx_lock(object.lock, o);
  for (;;) {
    const inside = i < object.size[o] && object.type[o] !== OBJT_DEAD;
    const m = inside ? object_page_seen(o, i) : 0;
    if (m !== 0) {
      object_seen.o = o;
      return m;
    }
    const below = object.backing[o];
    object_seen.away = inside && vm_pager_has_page(o, i) ? o : (NULL as vm_object_t);
    object_seen.i = i;
    if (top || below === NULL || object.type[o] === OBJT_DEAD) break;
    if (object_seen.away !== NULL) break;
    i += object.backing_offset[o];
    mtx_lock(object.lock, below);
    mtx_unlock(object.lock, o);
    o = below;
  }
  mtx_unlock(object.lock, o);
  return 0;
}
