/*
 * Shows: a page is busy by one CPU at a time, also by one that had to sleep for it; what was seen
 * before the sleep is not believed after it; no page is put where one is, by whatever call.
 * By what means: a worker that has a page busy until this thread sleeps for it, then wakes or
 * frees it; a second page at the same place by each call that enters one.
 */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { abandon, type Booted, boot, shutdown } from '../boot/whole.ts';
import { thr } from '../machine/cpu.ts';
import { mem, PAGE_WORDS, page_word } from '../machine/memory.ts';
import { Crew, until, within } from '../machine/workers.test.lib.ts';
import { OBJT_DEFAULT, vm_object, type vm_object_t } from '../h/vm_object.ts';
import { VM_ALLOC_ZERO, vm_page } from '../h/vm_page.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import './object_spaces.test.lib.ts'; // the structures that the worker declares
import { vm_object_allocate, vm_object_deallocate } from './vm_object.ts';
import { objects_all, vm_object_check } from './vm_object_check.ts';
import {
  object_page,
  object_page_alloc,
  object_page_filled,
  object_page_free,
  object_page_grab,
  object_page_move,
  object_page_wakeup,
  vm_page_sleep_if_busy,
} from './vm_object_page.ts';

const object = vm_object;

afterEach(() => {
  try {
    shutdown();
  } catch {
    abandon();
  }
});
function up(): Booted {
  const options = { INVARIANTS: true, WITNESS: true };
  return boot({ cpus: 2, fresh: true, memory: '8M', options });
}
/** An object with a page of ones at 0 and at 3. */
function filled(): vm_object_t {
  const o = vm_object_allocate(OBJT_DEFAULT, 8);
  mtx_lock(object.lock, o);
  for (const i of [0, 3]) {
    const m = object_page_grab(o, i, VM_ALLOC_ZERO, false);
    mem.I32.fill(-1, page_word(m), page_word(m) + PAGE_WORDS);
    object_page_filled(m, o);
  }
  mtx_unlock(object.lock, o);
  return o;
}

describe('double insertion', () => {
  const twice: Record<string, (o: vm_object_t) => void> = {
    'a new page where one is': (o) => void object_page_alloc(o, 3, 0),
    'a page that moves to where one is': (o) => {
      const to = filled();
      mtx_lock(object.lock, to);
      object_page_move(object_page(o, 0), o, to, 3);
    },
    'a page that moves within its object': (o) => {
      object_page_move(object_page(o, 0), o, o, 3);
    },
  };
  for (const [what, insert] of Object.entries(twice)) {
    test(what, () => {
      up();
      const o = filled();
      mtx_lock(object.lock, o);
      assert.throws(() => insert(o), /page already inserted/);
    });
  }
});

describe('retry without re-taking busy', () => {
  for (const frees of [false, true]) {
    test(`a page that the other ${frees ? 'frees' : 'wakes'} is busy by the sleeper`, async () => {
      const { handle } = up();
      const o = filled();
      const crew = new Crew<{ n: number }>(new URL('./vm_object.test.worker.ts', import.meta.url));
      try {
        const job = crew.start(handle, 'hold', { object: o, page: 3, frees });
        await within(job.up, 'the worker');
        mtx_lock(object.lock, o);
        const was = object_page(o, 3);
        mtx_unlock(object.lock, o);
        await until(() => vm_page.busy[was] !== 0, 'it has the page busy');
        mtx_lock(object.lock, o);
        const m = object_page_grab(o, 3, VM_ALLOC_ZERO); // sleeps
        assert.equal(vm_page.busy[m], thr.tid, 'busy, though it was another one’s before');
        assert.equal(object_page(o, 3), m);
        assert.equal(mem.I32[page_word(m) + 9], frees ? 0 : -1, 'new and zero, or as it was');
        assert.equal(vm_page_sleep_if_busy(object_page(o, 0), o), false);
        object_page_wakeup(m, o);
        object_page_free(m, o);
        mtx_unlock(object.lock, o);
        assert.equal((await within(job.done, 'the worker')).n, was);
      } finally {
        await crew.end();
      }
      vm_object_check(() => 0);
      vm_object_deallocate(o);
      assert.deepEqual(objects_all(), []);
    });
  }
});
