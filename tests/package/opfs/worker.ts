/*
 * A worker of the page: it makes a store over a file of the browser, uses its half of it, or has a
 * space larger than the memory, by a swap area.
 */
import { attach } from '../../../src/lib/index.ts';
import { mem, PAGE_WORDS } from '../../../src/sys/machine/memory.ts';
import { STORE_NEW } from '../../../src/sys/machine/store.ts';
import type { vm_store_t } from '../../../src/sys/h/vm_store.ts';
import {
  vm_store_anchor,
  vm_store_drop,
  vm_store_make,
  vm_store_readv,
  vm_store_remove,
  vm_store_size,
  vm_store_sync,
  vm_store_unanchor,
  vm_store_writev,
} from '../../../src/sys/object/vm_store.ts';
import { undo_begin_private, undo_end } from '../../../src/sys/sync/undo.ts';
import { vm_page_alloc_run, vm_page_free_run } from '../../../src/sys/page/vm_page.ts';

const PAGE = PAGE_WORDS * 4;
const PAGES = 16;
const ROUNDS = 20;
type Machine = ReturnType<typeof attach>;

function make(): object {
  const name = `opfs:test-${Date.now()}-${Math.random()}`;
  const store = vm_store_make(name, STORE_NEW) as vm_store_t;
  if (store < 0) return { store };
  const twice = vm_store_make(name, STORE_NEW);
  undo_begin_private();
  vm_store_anchor(store);
  undo_end();
  return { store, twice };
}
/** Writes clusters of pages that lie anywhere, and reads them into others. */
function use(s: vm_store_t, me: number): object {
  const first = vm_page_alloc_run(2 * PAGES, 0);
  const page = (i: number): Uint8Array =>
    mem.U8.subarray((first + i) * PAGE, (first + i + 1) * PAGE);
  const order = Array.from({ length: PAGES }, (_, i) => (i * 5) % PAGES);
  let wrong = 0;
  const errors: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const at = (me * ROUNDS + round) * PAGES * PAGE;
    for (let i = 0; i < PAGES; i++) page(i).fill(me * 100 + round + i);
    errors.push(vm_store_writev(s, at, order.map(page)));
    const got = vm_store_readv(
      s,
      at,
      Array.from({ length: PAGES }, (_, i) => page(PAGES + i)),
    );
    if (got !== PAGES * PAGE) errors.push(-got);
    for (let i = 0; i < PAGES; i++) {
      const value = (me * 100 + round + order[i]) & 255;
      if (page(PAGES + i).some((v) => v !== value)) wrong++;
    }
  }
  errors.push(vm_store_sync(s));
  vm_page_free_run(first, 2 * PAGES);
  return { wrong, errors: errors.filter((e) => e !== 0) };
}
function end(s: vm_store_t): object {
  const size = vm_store_size(s);
  const removed = vm_store_remove(s);
  undo_begin_private();
  vm_store_unanchor(s);
  undo_end();
  vm_store_drop(s);
  return { size, removed };
}
/** A region three times as large as the memory, every page of it written and read again. */
function large(machine: Machine): object {
  machine.swapon(`swap-${Date.now()}`, { size: '32M' });
  const space = machine.space('large');
  const m = space.mmap({ name: 'all', length: '24M' });
  const pages = (24 * 2 ** 20) / PAGE;
  for (let i = 0; i < pages; i++) m.setU32(i * PAGE + 16, i * 3 + 1);
  let wrong = 0;
  for (let i = 0; i < pages; i++) if (m.getU32(i * PAGE + 16) !== i * 3 + 1) wrong++;
  return { wrong, out: machine.sysctl('vm.stats.vm.v_swappgsout'), swap: machine.swaps() };
}
/** Another thread sees the same, at places here and there. */
function look(machine: Machine): object {
  const m = machine.space('large').region('all');
  let wrong = 0;
  for (let i = 0; i < 6000; i += 37) if (m.getU32(i * PAGE + 16) !== i * 3 + 1) wrong++;
  machine.space('large').destroy();
  return { wrong };
}
interface Job {
  readonly handle: Parameters<typeof attach>[0];
  readonly job: string;
  readonly me: number;
  readonly s: vm_store_t;
}
interface Scope {
  addEventListener(event: 'message', hear: (e: { data: Job }) => void): void;
  postMessage(answer: object): void;
}
const scope = globalThis as unknown as Scope;
scope.addEventListener('message', ({ data }) => {
  const machine = attach(data.handle);
  const jobs: Record<string, () => object> = {
    make,
    use: () => use(data.s, data.me),
    end: () => end(data.s),
    large: () => large(machine),
    look: () => look(machine),
  };
  const answer = jobs[data.job]();
  machine.detach();
  scope.postMessage(answer);
});
