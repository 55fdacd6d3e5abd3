/*
 * Shows: arguments, pipes and buffers have their parts of kernel addresses, with exact limits; what
 * they show is used, and some of it written out when memory is short; an exec that finds no place
 * waits for one; a buffer's piece lies in one run of memory where there is one.
 * By what means: each driver up to its limit and back, a worker that waits, the walkers.
 */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { counter_get } from '../machine/counter.ts';
import { E2BIG, ENOMEM } from '../machine/errno.ts';
import { mem, page_word, PAGE_SIZE, ptoa } from '../machine/memory.ts';
import { sysctl_decls } from '../machine/sysctl_decl.ts';
import { Crew, until, within } from '../machine/workers.test.lib.ts';
import { M_NOWAIT } from '../h/malloc_flags.ts';
import { VM_MAP_PAGED, VM_MAP_SYSTEM, vm_map } from '../h/vm_map.ts';
import { PK_OBJECT, VM_ALLOC_SYSTEM } from '../h/vm_page.ts';
import { vm_page_alloc, vm_page_census, vm_page_free, vm_page_wire } from '../page/vm_page.ts';
import { kern_down, kern_up } from './vm_kern_up.test.lib.ts';
import { fubyte, fuword, suword } from './vm_copy.ts';
import { kernel_map, kmem_alloc } from './vm_kern.ts';
import {
  ARG_MAX,
  BUF_PAGES,
  buf_piece,
  buf_piece_free,
  buffer_map,
  exec_args,
  exec_args_free,
  exec_map,
  pipe_map,
  pipe_space,
  pipe_space_free,
} from './vm_kern_parts.ts';
import { v_kmem_waits, v_kmem_wakeups } from './vm_kern_vars.ts';
import { uvm_km_valloc } from './vm_kern_wait.ts';
import { vm_maps_check } from './vm_map_check.ts';

afterEach(kern_down);
/** The value of a variable. */
function value(name: string): number {
  let got = 0;
  const decl = sysctl_decls.find((d) => d.name === name);
  decl?.handler?.({
    out: (bytes: Uint8Array) => {
      got = Number(new DataView(bytes.buffer).getBigInt64(0, true));
    },
  } as never);
  assert.ok(decl, name);
  return got;
}

describe('exec_map', () => {
  test('texts one behind the other; too long: E2BIG; so many at a time', () => {
    kern_up({ set: { 'vm.exec_map_entries': 3 } });
    assert.equal(vm_map.kind[exec_map()], VM_MAP_PAGED, 'it is no system map');
    const at = exec_args(['sh', '-c', 'true']);
    const text = Array.from({ length: 11 }, (_, i) => fubyte(exec_map(), ptoa(at) + i));
    assert.equal(String.fromCharCode(...text), 'sh\0-c\0true\0');
    assert.equal(exec_args(['x'.repeat(ARG_MAX)]), -E2BIG);
    const most = exec_args(['x'.repeat(ARG_MAX - 1)]);
    const others = [at, most, exec_args([])];
    assert.equal(uvm_km_valloc(exec_map(), 1), 0, 'there is no place for a fourth');
    vm_maps_check();
    for (const one of others) exec_args_free(one);
    assert.equal(vm_map.size[exec_map()], 0);
    assert.equal(counter_get(v_kmem_wakeups), 0);
  });
  test('without memory: ENOMEM, and the place is free', () => {
    kern_up({ memory: '2M', pagedaemon: false });
    const top = kernel_map();
    const text = ['x'.repeat(ARG_MAX - 1)];
    exec_args_free(exec_args([]));
    while (kmem_alloc(top, 16) !== 0);
    while (kmem_alloc(top, 1) !== 0);
    assert.equal(exec_args(text), -ENOMEM);
    assert.equal(vm_map.size[exec_map()], 0);
  });
  test('an exec more than there are places waits until one is over', async () => {
    const { handle } = kern_up({ cpus: 2, set: { 'vm.exec_map_entries': 1 } });
    const at = exec_args(['one']);
    const crew = new Crew<{ at: number }>(
      new URL('./vm_kern_parts.test.worker.ts', import.meta.url),
    );
    try {
      const job = crew.start(handle, 'exec');
      await until(() => counter_get(v_kmem_waits) > 0, 'it waits');
      exec_args_free(at);
      assert.equal((await within(job.done, 'it is served')).at, at);
    } finally {
      await crew.end();
    }
    assert.equal(vm_map.size[exec_map()], 0);
  });
});

describe('pipe_map', () => {
  test('so many bytes as kern.ipc.maxpipekva, whole pages; what it holds is anonymous', () => {
    kern_up({ set: { 'kern.ipc.maxpipekva': 10 * PAGE_SIZE } });
    const pipes = [pipe_space(1), pipe_space(3 * PAGE_SIZE), pipe_space(6 * PAGE_SIZE)];
    assert.ok(pipes.every((at) => at !== 0));
    assert.equal(pipe_space(1), 0);
    assert.equal(value('kern.ipc.pipekva'), 10 * PAGE_SIZE);
    assert.equal(vm_page_census()[PK_OBJECT], 0, 'nothing was touched');
    assert.equal(suword(kernel_map(), ptoa(pipes[2] + 5), 77), 0);
    assert.equal(fuword(pipe_map(), ptoa(pipes[2] + 5)), 77);
    vm_maps_check();
    pipe_space_free(pipes[1], 3 * PAGE_SIZE);
    assert.equal(pipe_space(2 * PAGE_SIZE + 1), pipes[1]);
    for (const [i, n] of [1, 3, 6].entries()) pipe_space_free(pipes[i], n * PAGE_SIZE);
    assert.equal(value('kern.ipc.pipekva'), 0);
  });
  test('a twentieth of the memory, and half a MiB at least', () => {
    kern_up();
    assert.equal(pipe_space(2 ** 20), 0);
    const at = pipe_space(700_000);
    assert.notEqual(at, 0);
    pipe_space_free(at, 700_000);
  });
});

describe('buffer_map', () => {
  test('pieces up to vm.bufmem_hiwater, each in one run of memory', () => {
    kern_up({ set: { 'vm.bufmem_hiwater': 200_000 } });
    const pieces = [1, 2, 3].map(() => buf_piece(M_NOWAIT));
    assert.equal(buf_piece(M_NOWAIT), null);
    assert.equal(vm_map.kind[buffer_map()], VM_MAP_SYSTEM);
    assert.equal(value('vm.bufmem'), 3 * 65_536);
    for (const piece of pieces) {
      assert.ok(piece !== null && piece.run !== 0);
      const { at, run } = piece;
      for (let i = 0; i < BUF_PAGES; i++) {
        assert.equal(suword(kernel_map(), ptoa(at + i), at + i), 0);
        assert.equal(mem.I32[page_word(run + i)], at + i, 'the same memory');
      }
    }
    vm_maps_check();
    for (const piece of pieces) if (piece !== null) buf_piece_free(piece.at);
    assert.equal(value('vm.bufmem'), 0);
    assert.equal(vm_page_census()[PK_OBJECT], 0);
  });
  test('where there is no run its pages lie anywhere', () => {
    kern_up();
    const all: number[] = [];
    for (let m = vm_page_alloc(-1, VM_ALLOC_SYSTEM); m !== 0; ) {
      vm_page_wire(m, 1);
      all.push(m);
      m = vm_page_alloc(-1, VM_ALLOC_SYSTEM);
    }
    all.sort((a, b) => a - b);
    const freed = all.filter((_, i) => i % 2 === 0);
    for (const m of freed) vm_page_free(m);
    const piece = buf_piece(M_NOWAIT);
    assert.ok(piece !== null && piece.run === 0);
    assert.equal(suword(kernel_map(), ptoa(piece.at + 9), 9), 0);
    vm_maps_check();
    buf_piece_free(piece.at);
    for (const m of all.filter((_, i) => i % 2 !== 0)) vm_page_free(m);
  });
});
