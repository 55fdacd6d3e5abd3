/*
 * us_pages: pages of the kernel as a competitor. One operation is a page obtained and
 * given back.
 *
 *      queue     from the free queues and back, one by one: the lowest page, under the lock
 *      page      from the CPU's cache and back
 *      pages     1000 from the cache, then all back: the cache is filled and emptied
 *      run       a run of 16 from the queues, a sixteenth of it
 *      kept      a run of 4 from the CPU's cache and back, all of it
 *      block     a block of malloc of two pages, and its free
 */
import { boot } from '../src/lib/index.ts';
import {
  vm_page_alloc,
  vm_page_alloc_run,
  vm_page_free,
  vm_page_free_run,
  vm_page_wire,
} from '../src/sys/page/vm_page.ts';
import { free, M_NOWAIT, malloc, malloc_type_attach } from '../src/sys/kmem/kern_malloc.ts';
import {
  vm_page_get,
  vm_page_get_run,
  vm_page_put,
  vm_page_put_run,
} from '../src/sys/page/vm_page_cache.ts';
import { serve, timed } from './child.ts';

boot({ memory: '64M' });
const held = new Int32Array(1000);

function queue(ops: number): void {
  for (let i = 0; i < ops; i++) {
    const m = vm_page_alloc(-1, 0);
    vm_page_wire(m, 1);
    vm_page_free(m);
  }
}
function page(ops: number): void {
  for (let i = 0; i < ops; i++) {
    const m = vm_page_get(0);
    vm_page_wire(m, 1);
    vm_page_put(m);
  }
}
function pages(ops: number): void {
  for (let left = ops; left > 0; left -= held.length) {
    for (let i = 0; i < held.length; i++) {
      held[i] = vm_page_get(0);
      vm_page_wire(held[i], 1);
    }
    for (let i = 0; i < held.length; i++) vm_page_put(held[i]);
  }
}
function run(ops: number): void {
  for (let left = ops; left > 0; left -= 16) {
    const m = vm_page_alloc_run(16, 0);
    vm_page_wire(m, 16);
    vm_page_free_run(m, 16);
  }
}
function kept(ops: number): void {
  for (let i = 0; i < ops; i++) {
    const m = vm_page_get_run(4, 0);
    vm_page_wire(m, 4);
    vm_page_put_run(m, 4);
  }
}
const type = malloc_type_attach('bench');
function block(ops: number): void {
  for (let i = 0; i < ops; i++) free(malloc(8192, type, M_NOWAIT), type);
}
await serve(
  {
    queue: (ops) => timed(ops, queue),
    page: (ops) => timed(ops, page),
    pages: (ops) => timed(ops, pages),
    run: (ops) => timed(ops, run),
    kept: (ops) => timed(ops, kept),
    block: (ops) => timed(ops, block),
  },
  'kmem',
);
process.exit(0);
