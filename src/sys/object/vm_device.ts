/*
 * vm_device: objects that show pages which the kernel keeps for itself.
 *
 *      DEVICE_ZERO        page 0, 1, 2 ... ──> the page of zeros
 *      DEVICE_COUNTERS    page 0 ──> the event counters of the first CPU slots, page 1 ──> ...
 *
 * A device has no index and no resident pages: it says which page is seen at a number, and one
 * page may be seen at any number of places.  Such a page is *fictitious*: it belongs to no
 * object, is wired once and for ever, is on no queue, never busy, never freed, and whoever maps
 * it notes nothing at it, so that nothing has to be found again from the page.  It is real
 * memory: the page of zeros is taken from the page floor when somebody asks for the device
 * first, those of the counters are boot memory.
 *
 * Nobody writes to a device.  A private copy is a shadow above the device, and so anonymous
 * memory is what a private mapping of DEVICE_ZERO is; reading it takes no memory at all.
 *
 * Life.  The object of a device is made for the first who asks.  One reference to it stands in
 * the root, so it lives as long as the machine.
 */
import { pcpu, thr } from '../machine/cpu.ts';
import { counter_pages } from '../machine/counter.ts';
import { M, machine } from '../machine/header.ts';
import { mem, PAGE_WORDS, page_word } from '../machine/memory.ts';
import { panic } from '../machine/panic.ts';
import { elem, NULL } from '../machine/struct.ts';
import {
  DEVICE_ZERO,
  DEVICES,
  OBJT_DEVICE,
  vm_object,
  vm_object_root,
  type vm_object_t,
} from '../h/vm_object.ts';
import {
  PG_FICTITIOUS,
  PG_UNMANAGED,
  PG_ZERO,
  PK_BOOT,
  PK_WIRED,
  VM_ALLOC_ZERO,
  vm_page,
} from '../h/vm_page.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { pmap_zero_page, vm_page_free, vm_page_settle, vm_page_wired } from '../page/vm_page.ts';
import { vm_page_get } from '../page/vm_page_cache.ts';
import {
  object_root,
  vm_object_allocate,
  vm_object_anchor,
  vm_object_deallocate,
  vm_object_reference,
} from './vm_object.ts';

const object = vm_object;
const root = vm_object_root;
const page = vm_page;

/** Pages of DEVICE_ZERO: as many as a map can have. */
const ZERO_PAGES = 2 ** 31 - 1;
const KEPT = PG_FICTITIOUS | PG_UNMANAGED;

/** Marks the pages of the counters. At boot, when every page has its kind. */
export function vm_device_startup(): void {
  for (let i = 0; i < counter_pages(); i++) page.flags[counters_page() + i] = KEPT;
}
function counters_page(): number {
  return machine.counters[M] / PAGE_WORDS;
}
/** The page that is seen at number `i` of a device's object; 0: there is none. */
export function device_page(o: vm_object_t, i: number): number {
  if (i >= object.size[o]) return 0;
  return object.handle[o] === DEVICE_ZERO ? root.zeros[object_root()] : counters_page() + i;
}
/** The object of a device; a reference to it is in this CPU's hand. NULL: no memory. */
export function vm_device_object(device: number): vm_object_t {
  if (device_made(device) === NULL && !device_make(device)) return NULL as vm_object_t;
  const o = device_made(device);
  vm_object_reference(o); // it lives: the root's own reference stays
  return o;
}
/** The object of a device, NULL: it has none yet. Under the lock: what a dead CPU began is none. */
function device_made(device: number): vm_object_t {
  const r = object_root();
  mtx_lock(root.lock, r);
  const o = root.device[elem(r, device)] as vm_object_t;
  mtx_unlock(root.lock, r);
  return o;
}
/** Makes the object of a device, unless another CPU is faster. False: no memory. */
function device_make(device: number): boolean {
  const r = object_root();
  const zeros = device === DEVICE_ZERO ? zeros_take() : 0;
  if (device === DEVICE_ZERO && zeros === 0) return false;
  const pages = device === DEVICE_ZERO ? ZERO_PAGES : counter_pages();
  const o = vm_object_allocate(OBJT_DEVICE, pages, device);
  if (o === NULL) {
    if (zeros !== 0) vm_page_free(zeros);
    return false;
  }
  mtx_lock(root.lock, r);
  const first = root.device[elem(r, device)] === NULL;
  if (first) {
    undo_begin(root.lock, r);
    save(root.device, elem(r, device));
    root.device[elem(r, device)] = o;
    vm_object_anchor(o);
    if (zeros !== 0) {
      save(root.zeros, r);
      save(pcpu.in_hand_n, thr.pc);
      root.zeros[r] = zeros;
      vm_page_settle();
    }
    undo_end();
  }
  mtx_unlock(root.lock, r);
  if (first) return true;
  if (zeros !== 0) vm_page_free(zeros);
  vm_object_deallocate(o);
  return true;
}
/** A page of zeros for ever, in this CPU's hand; 0: no memory. */
function zeros_take(): number {
  const m = vm_page_get(VM_ALLOC_ZERO);
  if (m === 0) return 0;
  if ((page.flags[m] & PG_ZERO) === 0) pmap_zero_page(m);
  page.flags[m] = KEPT;
  vm_page_wired(m, 1);
  return m;
}

// --- proof --------------------------------------------------------------------------------

/** Proves devices and their pages. Returns the objects to which the root refers. */
export function device_check(): vm_object_t[] {
  const r = object_root();
  const made: vm_object_t[] = [];
  for (let device = DEVICE_ZERO; device < DEVICES; device++) {
    const o = root.device[elem(r, device)] as vm_object_t;
    if (o === NULL) continue;
    const own = object.type[o] === OBJT_DEVICE && object.handle[o] === device;
    if (!own || object.resident[o] !== 0) panic('device_check: object', device, object.resident[o]);
    made.push(o);
  }
  if ((root.zeros[r] !== 0) !== (root.device[elem(r, DEVICE_ZERO)] !== NULL)) {
    panic('device_check: page of zeros', root.zeros[r]);
  }
  if (root.zeros[r] !== 0) {
    page_check(root.zeros[r], PK_WIRED);
    const at = page_word(root.zeros[r]);
    if (mem.I32.subarray(at, at + PAGE_WORDS).some((v) => v !== 0)) {
      panic('device_check: the page of zeros was written to', root.zeros[r]);
    }
  }
  for (let i = 0; i < counter_pages(); i++) page_check(counters_page() + i, PK_BOOT);
  return made;
}
function page_check(m: number, kind: number): void {
  if (page.info[m] !== kind) panic('device_check: kind of a page', m, page.info[m]);
  if (page.flags[m] !== KEPT) panic('device_check: flags of a page', m, page.flags[m]);
  const noted = page.busy[m] | page.state[m] | page.queue[m] | page.wired[m] | page.map_pmap[m];
  if (noted !== 0) panic('device_check: something is noted at a page', m, noted);
}
