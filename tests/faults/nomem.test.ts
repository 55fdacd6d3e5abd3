/*
 * Shows what happens when memory ends at any one place: a script of calls runs
 * once for every N, and its N-th request for a page, a slab, a bucket or (with
 * NOWAIT) an item is refused, until the script no longer makes that many.
 *
 * Each call must give 0, an errno or the right thing.  When all is given back
 * and reclaimed, the free pages are as many as before, nothing is in use that
 * was not, the account is even, and no lock, undo log or page is held.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { TypeNames } from '../../src/replay/read/type_names.ts';
import { boot, shutdown } from '../../src/sys/boot/whole.ts';
import { pcpu, thr } from '../../src/sys/machine/cpu.ts';
import { ENOMEM, KmemError } from '../../src/sys/machine/errno.ts';
import { mem } from '../../src/sys/machine/memory.ts';
import { CTLFLAG_RW, sysctl_decls, sysctl_set } from '../../src/sys/machine/sysctl_decl.ts';
import { uma_keg } from '../../src/sys/h/uma.ts';
import { malloc_root } from '../../src/sys/h/malloc.ts';
import { account, account_text } from '../../src/sys/kmem/kmem.test.lib.ts';
import {
  free,
  M_NOWAIT,
  M_WAITOK,
  M_ZERO,
  malloc,
  type malloc_type_t,
  malloc_usable_size,
  realloc,
  reallocf,
} from '../../src/sys/kmem/kern_malloc.ts';
import {
  malloc_anchor,
  malloc_type_find_or_make,
  malloc_type_sums,
  malloc_uninit,
} from '../../src/sys/kmem/kern_malloc_type.ts';
import {
  sysctl_add_int,
  sysctl_add_node,
  sysctl_ctx_free,
  sysctl_ctx_init,
} from '../../src/sys/observe/sysctl_freebsd.ts';
import { OID_AUTO, oid_root } from '../../src/sys/observe/sysctl_tree.ts';
import { page_failpoint, vm_page_free_count } from '../../src/sys/page/vm_page.ts';
import { phys_root, vm_phys } from '../../src/sys/page/vm_phys.ts';
import { rw_read_holds } from '../../src/sys/sync/rw_row.ts';
import { sleepq_check } from '../../src/sys/sync/subr_sleepqueue.ts';
import { bucket_failpoint } from '../../src/sys/uma/uma_bucket.ts';
import { uma_check } from '../../src/sys/uma/uma_check.ts';
import { uma_zalloc, uma_zfree } from '../../src/sys/uma/uma_core.ts';
import { uma_reclaim } from '../../src/sys/uma/uma_drain.ts';
import { uma, uma_each_keg, uma_root } from '../../src/sys/uma/uma_int.ts';
import { slab_failpoint } from '../../src/sys/uma/uma_keg.ts';
import { uma_prealloc, uma_zcreate_nowait, uma_zdestroy } from '../../src/sys/uma/uma_zone.ts';

before(() => {
  boot({ memory: '4M', cpus: 2, options: { FAILPOINTS: true, INVARIANTS: true }, fresh: true });
});
after(() => shutdown());

/** Blocks of every kind; each that was given is whole and goes back. */
function blocks(t: malloc_type_t, wait: number): void {
  const live: number[] = [];
  const whole = (p: number): void => {
    const last = p + malloc_usable_size(p) / 4 - 1;
    assert.equal(mem.I32[p], p);
    assert.equal(mem.I32[last], p);
  };
  const keep = (p: number): void => {
    if (p === 0) return;
    mem.I32[p] = p;
    mem.I32[p + malloc_usable_size(p) / 4 - 1] = p;
    live.push(p);
  };
  for (const size of [16, 100, 1000, 2000, 4000, 5000, 40000]) {
    for (let i = 0; i < 3; i++) keep(malloc(size, t, wait | (i === 2 ? M_ZERO : 0)));
  }
  for (const [i, p] of live.entries()) {
    if (i % 2 === 0) continue;
    const q = realloc(p, malloc_usable_size(p) * 2, t, wait);
    if (q === 0) {
      whole(p); // the old block lives on
      continue;
    }
    assert.equal(mem.I32[q], p, 'contents came along');
    live[i] = q;
    mem.I32[q] = q;
    mem.I32[q + malloc_usable_size(q) / 4 - 1] = q;
  }
  const last = live.pop();
  if (last !== undefined) {
    const q = reallocf(last, 100_000, t, wait);
    if (q !== 0) free(q, t); // else it is gone already
  }
  for (const p of live) {
    whole(p);
    free(p, t);
  }
}
function zones(): void {
  const z = uma_zcreate_nowait('nomem', 700);
  if (z === 0) return;
  assert.ok([0, ENOMEM].includes(uma_prealloc(z, 12)));
  const items = Array.from({ length: 40 }, () => uma_zalloc(z, M_NOWAIT)).filter((i) => i !== 0);
  assert.equal(new Set(items).size, items.length);
  for (const item of items) uma_zfree(z, item);
  const big = uma_zcreate_nowait('nomem big', 9000);
  if (big !== 0) {
    uma_zfree(big, uma_zalloc(big, M_WAITOK));
    assert.equal(uma_zdestroy(big), 0);
  }
  assert.equal(uma_zdestroy(z), 0);
}
function sysctls(): void {
  const ctx = sysctl_ctx_init();
  const node = sysctl_add_node(ctx, oid_root(), OID_AUTO, 'nomem', CTLFLAG_RW, 'a node');
  if (node !== 0) sysctl_add_int(ctx, node, OID_AUTO, 'leaf', CTLFLAG_RW, 0, 5, 'a leaf');
  assert.equal(sysctl_ctx_free(ctx), 0);
}
/** The types of a replay: some sites fall back on "other", or none can be made at all. */
function replay_types(): void {
  const names = new TypeNames();
  const made = new Set<malloc_type_t>();
  for (let i = 0; i < 30; i++) {
    try {
      const t = names.type(`/bin/site:(f${i}+1)[0x${i}]`, malloc_type_find_or_make);
      made.add(t);
      free(malloc(50, t, M_NOWAIT), t);
    } catch (e) {
      assert.ok(e instanceof KmemError && e.code === 'ENOMEM', String(e));
    }
  }
  for (const t of made) malloc_uninit(t);
}
function script(): void {
  const t = malloc_type_find_or_make('nomem');
  if (t !== 0) {
    blocks(t, M_NOWAIT);
    blocks(t, M_WAITOK);
    const left = malloc_type_sums(t);
    assert.equal(left.inuse, 0);
    assert.equal(left.bytes, 0);
    malloc_uninit(t);
  }
  zones();
  sysctls();
  replay_types();
}

/** No lock word is taken and no log is open. */
function nothing_held(what: string): void {
  assert.equal(pcpu.undo_depth[thr.pc], 0, what);
  assert.deepEqual(rw_read_holds(thr.cpu), [], what);
  assert.equal(pcpu.in_hand_n[thr.pc], 0, what);
  assert.equal(pcpu.in_hand_items[thr.pc], 0, what);
  const r = uma();
  const words = [r + uma_root.lock, r + uma_root.drain, phys_root() + vm_phys.lock];
  words.push(malloc_anchor() + malloc_root.lock);
  uma_each_keg((k) => {
    words.push(k + uma_keg.lock);
  });
  for (const w of words) assert.equal(mem.I32[w], 0, `${what}: lock at ${w}`);
}
function settled(what: string): number {
  uma_reclaim();
  nothing_held(what);
  uma_check();
  sleepq_check();
  assert.equal(account_text(account()), '', what);
  return vm_page_free_count();
}

const kinds: [string, (refuse: (() => boolean) | null) => void, boolean][] = [
  ['page', (refuse) => void (page_failpoint.refuse = refuse), false],
  ['slab', (refuse) => void (slab_failpoint.refuse = refuse), false],
  ['bucket', (refuse) => void (bucket_failpoint.refuse = refuse), false],
  ['page and all after it', (refuse) => void (page_failpoint.refuse = refuse), true],
  ['slab and all after it', (refuse) => void (slab_failpoint.refuse = refuse), true],
];
for (const [name, plant, onwards] of kinds) {
  test(`no ${name}, for every one`, (context) => {
    script();
    const ground = settled('without failures');
    let n = 1;
    for (let reached = true; reached; n++) {
      let asked = 0;
      plant(() => {
        asked++;
        return onwards ? asked >= n : asked === n;
      });
      script();
      plant(null);
      reached = asked >= n;
      assert.equal(settled(`${name} ${n}`), ground, `free pages after ${name} ${n} was refused`);
    }
    context.diagnostic(`${n - 2} places`);
    assert.ok(n > 5);
  });
}
test('no item: every N-th NOWAIT request fails', () => {
  const rate = sysctl_decls.find((d) => d.name === 'debug.malloc.failure_rate');
  assert.ok(rate);
  script();
  const ground = settled('without failures');
  for (let n = 1; n <= 60; n++) {
    sysctl_set(rate, n);
    script();
    sysctl_set(rate, 0);
    assert.equal(settled(`item ${n}`), ground);
  }
});
