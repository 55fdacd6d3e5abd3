/*
 * Shows that the kernel's reports stream.  Each is asked for by a request that notes
 * what happens to it: the caller's buffer is wired, once, before the report takes its
 * lock; then pieces come, none longer than SBUF_REPORT_BYTES.  The long report is real:
 * kern.malloc_stats of 2600 types on a machine of 64 CPU slots, above 10 MB, read
 * while two workers allocate, and compared with what each type was given.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { boot, shutdown } from '../boot/whole.ts';
import { mbuf_site, mbuf_site_take } from '../client/mbuf_leak.ts';
import { M_NOWAIT } from '../h/malloc_flags.ts';
import { malloc_root, type malloc_type_t } from '../h/malloc.ts';
import { free, malloc } from '../kmem/kern_malloc.ts';
import { malloc_anchor, malloc_type_attach } from '../kmem/kern_malloc_type.ts';
import { atomic_store } from '../machine/atomic.ts';
import { ENOMEM } from '../machine/errno.ts';
import { M, machine, ROOT_TEST } from '../machine/header.ts';
import { hw, mem, PAGE_WORDS, page_word } from '../machine/memory.ts';
import {
  SBUF_REPORT_BYTES,
  sbuf_bcopyin,
  sbuf_copyin,
  sbuf_finish,
  sbuf_new_auto,
  sbuf_text,
} from '../machine/sbuf.ts';
import { elem } from '../machine/struct.ts';
import { sysctl_decls } from '../machine/sysctl_decl.ts';
import { Crew, within } from '../machine/workers.test.lib.ts';
import { VM_ALLOC_SYSTEM } from '../h/vm_page.ts';
import { TYPE } from '../kmem/malloc_stats.test.worker.ts';
import { vm_page_alloc, vm_page_check, vm_page_wire } from '../page/vm_page.ts';
import { mtx_owned } from '../sync/kern_mutex.ts';
import { uma_check } from '../uma/uma_check.ts';
import { uma, uma_root } from '../uma/uma_int.ts';
import { sysctl, sysctl_read, sysctlnametomib } from './kern_sysctl.ts';
import { ALLOCATOR_MALLOC, memstat_mtl_alloc, memstat_mtl_find } from './memstat.ts';
import { memstat_parse_malloc } from './memstat_malloc.ts';
import { sysctl_check } from './sysctl_tree.ts';

const JOBS = new URL('../kmem/malloc_stats.test.worker.ts', import.meta.url);
const crew = new Crew<{ n: number }>(JOBS);
afterEach(async () => {
  await crew.end();
  shutdown();
});

interface Seen {
  readonly pieces: Uint8Array[];
  /** Whether the lock was held with each piece. */
  readonly locked: boolean[];
  wired: number;
}
/** Whether this CPU holds the lock of either list. */
function locked(): boolean {
  return mtx_owned(malloc_root.lock, malloc_anchor()) || mtx_owned(uma_root.lock, uma());
}
/** Asks a report as a request does. `under`: it is written under the lock of a list. */
function ask(name: string, under: boolean): Seen {
  const seen: Seen = { pieces: [], locked: [], wired: 0 };
  const error = sysctl_decls
    .find((d) => d.name === name)
    ?.handler?.({
      new_bytes: null,
      rest: [],
      wire: () => {
        assert.equal(locked(), false, `${name}: wired before the lock is taken`);
        assert.equal(seen.pieces.length, 0, `${name}: wired before the first piece`);
        seen.wired++;
        return 0;
      },
      out: (bytes) => {
        seen.pieces.push(bytes.slice());
        seen.locked.push(locked());
        return 0;
      },
    });
  assert.equal(error, 0, name);
  assert.equal(seen.wired, 1, name);
  // The last piece comes when all is written, and the lock given back.
  for (const held of seen.locked.slice(0, -1)) assert.equal(held, under, name);
  assert.ok(
    seen.pieces.every((p) => p.length > 0 && p.length <= SBUF_REPORT_BYTES),
    `${name}: ${seen.pieces.map((p) => p.length)}`,
  );
  return seen;
}
const whole = ({ pieces }: Seen): Uint8Array => Uint8Array.from(Buffer.concat(pieces));

test('every report wires the buffer, then comes in pieces', () => {
  const options = { WITNESS: true, MUTEX_PROFILING: true, MALLOC_PROFILE: true };
  boot({ memory: '16M', cpus: 16, options });
  const t = malloc_type_attach('reports');
  for (let i = 0; i < 200; i++) free(malloc(1 + i * 20, t, M_NOWAIT), t);
  for (let i = 0; i < 200; i++) mbuf_site_take(mbuf_site(`place.ts:${i}`));
  for (const [name, under, last] of [
    ['kern.malloc_stats', true, null],
    ['kern.malloc_approximate', true, null],
    ['vm.zone_stats', true, null],
    ['vm.zone_approximate', true, null],
    ['kern.mprof', false, 10],
    ['kern.ipc.mbuf_leak_sites', false, 0],
    ['debug.witness.fullgraph', false, 0],
    ['debug.witness.badstacks', false, 0],
    ['debug.mutex.prof.stats', false, 0],
  ] as const) {
    const seen = ask(name, under);
    const bytes = whole(seen);
    if (last !== null) assert.equal(bytes.at(-1), last, `${name}: what it ends with`);
    if (name === 'debug.mutex.prof.stats') continue; // to read it takes locks
    assert.deepEqual(bytes, Uint8Array.from(sysctl_read(name) as Uint8Array), name);
    if (/stats|mprof|sites/.test(name)) assert.ok(seen.pieces.length > 1, `${name} is long`);
  }
  sysctl_check();
});

test('an sbuf takes strings and bytes from the memory of the machine', () => {
  boot({ memory: '4M', cpus: 2 });
  const t = malloc_type_attach('reports');
  const p = malloc(64, t, M_NOWAIT);
  mem.U8.set(new TextEncoder().encode('a string\0and more'), p * 4);
  const s = sbuf_new_auto();
  assert.equal(sbuf_copyin(s, p * 4, 0), 0);
  assert.equal(sbuf_copyin(s, p * 4, 4), 0, 'three bytes, and room for a NUL');
  assert.equal(sbuf_bcopyin(s, p * 4 + 9, 8), 0);
  assert.equal(sbuf_finish(s), 0);
  assert.equal(sbuf_text(s), 'a stringa sand more');
  free(p, t);
});

test('a real report of more than 10 MB passes through 4 KiB, while workers allocate', async () => {
  const types = 2600;
  const { handle } = boot({ memory: '64M', cpus: 64 });
  const m = vm_page_alloc(-1, VM_ALLOC_SYSTEM);
  vm_page_wire(m, 1);
  hw.fill(page_word(m), 0, PAGE_WORDS);
  machine.roots[elem(M, ROOT_TEST)] = page_word(m);
  malloc_type_attach(TYPE);
  const held: [malloc_type_t, number][] = [];
  for (let i = 0; i < types; i++) {
    const t = malloc_type_attach(`type ${i}`);
    for (let n = 0; n <= i % 3; n++) held.push([t, malloc(16 << (i % 5), t, M_NOWAIT)]);
  }
  assert.ok(held.every(([, p]) => p !== 0));
  const jobs = [0, 1].map(() => crew.start(handle, 'pairs', { size: 200, hold: 5 }));
  await within(Promise.all(jobs.map((j) => j.up)), 'the workers');

  const { mib } = sysctlnametomib('kern.malloc_stats');
  const size = sysctl(mib, null, null).oldlen;
  assert.ok(size > 10e6, `${size} bytes`);
  assert.equal((size - 16) % (32 + 64 * 64), 0);
  const old = new Uint8Array(size);
  assert.deepEqual(sysctl(mib, old, null), { error: 0, oldlen: size });
  const short = new Uint8Array(5000);
  assert.deepEqual(sysctl(mib, short, null), { error: ENOMEM, oldlen: 5000 });
  assert.deepEqual(short.subarray(0, 16), old.subarray(0, 16));
  const { pieces } = ask('kern.malloc_stats', true);
  assert.equal(pieces.length, Math.ceil(size / SBUF_REPORT_BYTES));

  const list = memstat_mtl_alloc();
  assert.equal(memstat_parse_malloc(list, old), 0);
  for (let i = 0; i < types; i++) {
    const row = memstat_mtl_find(list, ALLOCATOR_MALLOC, `type ${i}`);
    const blocks = 1 + (i % 3);
    assert.deepEqual([row?.count, row?.bytes], [blocks, blocks * (16 << (i % 5))], `type ${i}`);
  }
  const busy = memstat_mtl_find(list, ALLOCATOR_MALLOC, TYPE);
  assert.ok(busy && busy.count >= 0);
  atomic_store(page_word(m), 1);
  await within(Promise.all(jobs.map((j) => j.done)), 'the jobs');
  for (const [t, p] of held) free(p, t);
  uma_check();
  vm_page_check();
  sysctl_check();
});
