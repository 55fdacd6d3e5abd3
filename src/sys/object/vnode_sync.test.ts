/*
 * Shows: a file is made shorter while another thread has its pages in work, and nothing is lost. A
 * page that is wired while the truncation sleeps is EBUSY, and all is as it was; a page behind the
 * new end is not taken for written, so that it is there still if the host refuses the cut; a page
 * that a CPU may be using is not freed, however clean it is.
 * By what means: a worker that truncates, and sleeps for a page that this thread has busy; one that
 * computes after it has translated (vm_object.test.worker.ts); the file itself; the walkers.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, beforeEach, test } from 'node:test';
import { abandon, boot, type Booted, shutdown } from '../boot/whole.ts';
import { atomic_load, atomic_store } from '../machine/atomic.ts';
import { EAGAIN, EBUSY, EIO } from '../machine/errno.ts';
import { mem, PAGE_SIZE, page_word } from '../machine/memory.ts';
import { tlb_owed } from '../machine/tlb_ack.ts';
import { Crew, type Job, until, within } from '../machine/workers.test.lib.ts';
import { vm_object, type vm_object_t } from '../h/vm_object.ts';
import { PG_WANTED, vm_page } from '../h/vm_page.ts';
import { VM_PROT_READ, VM_PROT_WRITE } from '../h/vm_prot.ts';
import { vnode, type vnode_t } from '../h/vm_vnode.ts';
import { vm_page_owner_unwire, vm_page_owner_wire } from '../page/vm_pageq.ts';
import { pmap_enter, pmap_pinit, pmap_release } from '../pmap/pmap.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { done_word, spaces_make, stop_word } from './object_spaces.test.lib.ts';
import { page_dirty } from './vm_launder.ts';
import { vm_object_deallocate } from './vm_object.ts';
import { objects_all, vm_object_check } from './vm_object_check.ts';
import {
  object_page,
  object_page_busy,
  object_page_filled,
  object_page_wakeup,
} from './vm_object_page.ts';
import { vm_object_page_in, VM_PAGER_OK } from './vm_pager.ts';
import { vnode_open } from './vm_vnode.ts';
import { vnode_flush, vnode_revalidate, vnode_truncate } from './vnode_sync.ts';

const object = vm_object;
const PAGES = 4;
const ALL = { first: 0, end: PAGES, wait: true, invalidate: false };
const FOLDER = mkdtempSync(join(tmpdir(), 'kmem-vnode-'));
const PATH = join(FOLDER, 'f');
after(() => rmSync(FOLDER, { recursive: true, force: true }));

let machine: Booted;
let crew: Crew<{ n: number }>;
/** The object of the file, all of whose pages are in memory: each begins with its number + 1. */
let o: vm_object_t;
beforeEach(() => {
  const options = { INVARIANTS: true, WITNESS: true };
  machine = boot({ cpus: 2, fresh: true, memory: '4M', options });
  crew = new Crew(new URL('./vm_object.test.worker.ts', import.meta.url));
  writeFileSync(PATH, file(1));
  const v = vnode_open(PATH, true);
  assert.ok(v > 0, `open: ${v}`);
  o = vnode.object[v as vnode_t];
  for (let i = 0; i < PAGES; i++) assert.equal(vm_object_page_in(o, i), VM_PAGER_OK);
});
afterEach(async () => {
  await crew.end();
  try {
    shutdown();
  } catch {
    abandon();
  }
});
/** Nobody has the file open, and it has what it should. */
function end(has: Uint8Array): void {
  vm_object_check(() => 0);
  vm_object_deallocate(o);
  assert.deepEqual(objects_all(), []);
  assert.ok(readFileSync(PATH).equals(has));
}
function file(first: number): Uint8Array {
  const words = new Int32Array((PAGES * PAGE_SIZE) / 4);
  for (let i = 0; i < PAGES; i++) words[(i * PAGE_SIZE) / 4] = first + i;
  return new Uint8Array(words.buffer);
}
function locked<T>(run: () => T): T {
  mtx_lock(object.lock, o);
  const result = run();
  mtx_unlock(object.lock, o);
  return result;
}
const page_of = (i: number): number => locked(() => object_page(o, i));
/** Writes to page m what it will begin with. */
function write(m: number, value: number): void {
  mem.I32[page_word(m)] = value;
  locked(() => object_page_filled(m, o, true));
}
/** Another thread makes the file one page long, and sleeps for page 1, which this one has busy. */
async function cut_begins(refused = 0): Promise<Job<{ n: number }>> {
  const m = page_of(1);
  locked(() => object_page_busy(m, o));
  const job = crew.start(machine.handle, 'cut', { object: o, bytes: PAGE_SIZE, refused });
  await within(job.up, 'the worker');
  await until(() => (vm_page.flags[m] & PG_WANTED) !== 0, 'the truncation sleeps');
  return job;
}
/** It may go on. The errno that it comes back with. */
async function cut_ends(job: Job<{ n: number }>): Promise<number> {
  locked(() => object_page_wakeup(object_page(o, 1), o));
  return (await within(job.done, 'the truncation')).n;
}

test('a page that is wired meanwhile: EBUSY, and all is as it was', async () => {
  const job = await cut_begins();
  const wired = page_of(2);
  locked(() => vm_page_owner_wire(wired));
  assert.equal(await cut_ends(job), EBUSY);
  assert.equal(statSync(PATH).size, PAGES * PAGE_SIZE);
  assert.equal(object.size[o], PAGES);
  const ms = [0, 1, 2, 3].map(page_of);
  assert.equal(ms[2], wired);
  assert.deepEqual(
    ms.map((m) => [mem.I32[page_word(m)], vm_page.busy[m]]),
    [1, 2, 3, 4].map((value) => [value, 0]),
  );
  locked(() => vm_page_owner_unwire(wired, true));
  assert.equal(vnode_truncate(o, PAGE_SIZE), 0);
  end(file(1).subarray(0, PAGE_SIZE));
});
test('what lies behind the new end stays to be written until the file is cut', async () => {
  for (let i = 0; i < PAGES; i++) write(page_of(i), 11 + i);
  const job = await cut_begins(EIO);
  assert.equal(vnode_flush(o, { ...ALL, first: 2, wait: false }), EAGAIN);
  assert.deepEqual([2, 3].map(page_of).map(page_dirty), [true, true]);
  assert.equal(await cut_ends(job), EIO);
  assert.ok(readFileSync(PATH).equals(file(1)), 'nothing was written');
  assert.equal(vnode_flush(o, ALL), 0);
  end(file(11));
});
test('a page that a CPU may be using is not freed until it has answered', async () => {
  spaces_make();
  const pm = pmap_pinit();
  const m = page_of(0);
  assert.ok(locked(() => pmap_enter(pm, 7, m, VM_PROT_READ | VM_PROT_WRITE)));
  const job = crew.start(machine.handle, 'reads', { pmap: pm, page: 7 });
  await within(job.up, 'the worker');
  await until(() => atomic_load(done_word()) === 1, 'it has translated');
  assert.equal(vnode_revalidate(o, 0, 1), 0);
  assert.equal(tlb_owed(), true);
  assert.equal(page_of(0), m, 'it is there still');
  atomic_store(stop_word(), 1);
  assert.equal((await within(job.done, 'the worker')).n, 1, 'what the file has');
  assert.equal(vnode_revalidate(o, 0, 1), 0);
  assert.equal(page_of(0), 0);
  pmap_release(pm);
  end(file(1));
});
