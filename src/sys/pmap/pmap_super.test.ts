/*
 * Shows: a full table of a run that is used alike becomes one translation, and single pages again
 * before a part of it changes, without memory; what becomes of pages that were only read, written
 * to in part, or wired; use and writes are noted as before; a change of the whole keeps it.
 * By what means: seeded operations beside a model (pmap_super.fuzz.ts), and each rule by itself.
 * Several threads: pmap_super_smp.slow.test.ts; deaths: sim/scripts/pmap_super.ts.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { abandon, boot, shutdown } from '../boot/whole.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import { sysctl_decls, sysctl_set } from '../machine/sysctl_decl.ts';
import { pmap, type pmap_t, TABLE_ENTRIES } from '../h/pmap.ts';
import { vm_page } from '../h/vm_page.ts';
import { VM_PROT_NONE, VM_PROT_READ, VM_PROT_WRITE } from '../h/vm_prot.ts';
import { page_failpoint } from '../page/vm_page.ts';
import {
  pmap_change_wiring,
  pmap_clear_modify,
  pmap_enter,
  pmap_enter_super,
  pmap_extract,
  pmap_is_modified,
  pmap_pinit,
  pmap_protect,
  pmap_release,
  pmap_remove,
  pmap_remove_all,
  pmap_translate,
  pmap_ts_referenced,
} from './pmap.ts';
import { down, mapped } from './pmap.fuzz.ts';
import { pmap_check } from './pmap_check.ts';
import { pv_all } from './pmap_pv.ts';
import { is_super, pde, play_super, run_of_pages } from './pmap_super.fuzz.ts';
import { tlb_supers } from './pmap_tlb.ts';

const RW = VM_PROT_READ | VM_PROT_WRITE;
const N = TABLE_ENTRIES;
const AT = 3 * N;
const WAIT_MS = 20_000;

afterEach(() => {
  page_failpoint.refuse = null;
  try {
    shutdown();
  } catch {
    abandon();
  }
});
function up(options: Parameters<typeof boot>[0] = {}): void {
  boot({
    cpus: 2,
    fresh: true,
    memory: '8M',
    set: { 'vm.pmap.pg_ps_enabled': 1 },
    options: { INVARIANTS: true, WITNESS: true },
    ...options,
  });
}
/** Runs `body` with a pmap that maps a run of pages, used by `access`, which may be none. */
function mapping(
  access: number,
  body: (pm: pmap_t, first: number) => void,
  prot = RW,
  wired = false,
): void {
  up();
  const { o, first } = run_of_pages();
  const pm = pmap_pinit();
  for (let k = 0; k < N; k++) {
    assert.equal(is_super(pm, AT), false);
    assert.ok(pmap_enter(pm, AT + k, first + k, prot, wired, access));
  }
  body(pm, first);
  pmap_check(pm);
  pmap_remove(pm, AT, AT + N);
  down([pm], o);
}

test('two pmaps, a run of pages, and a model', () => {
  up();
  play_super(60_000, SEED, 6000);
});
test('the same in a checked machine', () => {
  up({ checked: true });
  play_super(2500, SEED + 1, 2000);
});
test('the last page that is written to makes it one; the walk is by one tag then', () => {
  mapping(VM_PROT_WRITE, (pm, first) => {
    assert.ok(is_super(pm, AT));
    assert.deepEqual([pde('promotions'), pde('demotions')], [1, 0]);
    assert.equal(tlb_supers(pm), 0, 'nobody has missed yet');
    assert.equal(pmap_translate(pm, AT + 77, true), (first + 77) << 10);
    assert.notEqual(tlb_supers(pm), 0);
    assert.equal(pmap.resident[pm], N);
  });
});
test('pages that were only read may not be written to, until a write demotes', () => {
  mapping(VM_PROT_READ, (pm, first) => {
    assert.ok(is_super(pm, AT));
    assert.equal(mapped(pm, AT + 5)?.write, false);
    assert.equal(pmap_translate(pm, AT + 5, true), 0, 'a write faults');
    assert.ok(pmap_enter(pm, AT + 5, first + 5, RW, false, VM_PROT_WRITE));
    assert.equal(is_super(pm, AT), false);
    assert.deepEqual(
      [5, 6].map((k) => pmap_is_modified(first + k)),
      [true, false],
    );
    for (let k = 0; k < N; k++) pmap_enter(pm, AT + k, first + k, RW, false, VM_PROT_WRITE);
    assert.ok(is_super(pm, AT), 'all were written to');
    assert.deepEqual([pde('promotions'), pde('demotions')], [2, 1]);
  });
});
test('pages that nobody used, or that were written to in part, are no superpage', () => {
  mapping(0, (pm, first) => {
    assert.ok(pde('p_failures') > 0);
    for (let k = 0; k < N; k++) pmap_translate(pm, AT + k, k === 0);
    assert.equal(is_super(pm, AT), false, 'one was written to');
    for (let k = N - 1; k > 0; k--) pmap_translate(pm, AT + k, true);
    assert.ok(is_super(pm, AT), 'the last miss that is noted makes it one');
    assert.equal(mapped(pm, AT)?.m, first);
  });
});
test('wired pages are one when all are; a part that is wired ends it', () => {
  mapping(
    VM_PROT_WRITE,
    (pm) => {
      assert.ok(is_super(pm, AT));
      assert.equal(pmap.wired[pm], N);
      pmap_change_wiring(pm, AT + 9, true);
      assert.ok(is_super(pm, AT), 'nothing changed');
      pmap_change_wiring(pm, AT + 9, false);
      assert.equal(is_super(pm, AT), false);
      for (let k = 0; k < N; k++) pmap_change_wiring(pm, AT + k, false);
      assert.ok(is_super(pm, AT));
      assert.deepEqual([pmap.wired[pm], pde('demotions')], [0, 1]);
    },
    RW,
    true,
  );
});
test('wired pages that were read only keep the right to write', () => {
  mapping(
    VM_PROT_READ,
    (pm) => {
      assert.equal(is_super(pm, AT), false);
      assert.equal(mapped(pm, AT)?.write, true);
    },
    RW,
    true,
  );
});
test('demotion needs no memory', () => {
  mapping(VM_PROT_WRITE, (pm, first) => {
    page_failpoint.refuse = () => true;
    assert.equal(pmap_protect(pm, AT + 3, AT + 4, VM_PROT_NONE, WAIT_MS), -1);
    assert.equal(pmap_extract(pm, AT + 4), first + 4);
    assert.equal(pmap_extract(pm, AT + 3), 0);
    assert.equal(pde('demotions'), 1);
    page_failpoint.refuse = null;
  });
});
test('all of it is protected, or unmapped, without demotion', () => {
  mapping(VM_PROT_WRITE, (pm, first) => {
    pmap_translate(pm, AT, true);
    assert.equal(pmap_protect(pm, AT - 5, AT + N + 5, VM_PROT_READ, WAIT_MS), -1);
    assert.ok(is_super(pm, AT));
    assert.equal(pmap_translate(pm, AT + 1, true), 0);
    assert.equal(pmap_translate(pm, AT + 1, false), (first + 1) << 10);
    pmap_check(pm);
    pmap_remove(pm, AT, AT + N);
    assert.deepEqual([pmap.supers[pm], pmap.tables[pm], pde('demotions')], [0, 0, 0]);
  });
});
test('use by the one tag is use of all pages, until nobody uses it any more', () => {
  mapping(VM_PROT_WRITE, (pm, first) => {
    const sample = (): number => {
      let used = 0;
      for (let k = 0; k < N; k++) if (pmap_ts_referenced(first + k)) used++;
      return used;
    };
    assert.equal(sample(), N, 'all were mapped by a use');
    assert.equal(sample(), 0);
    pmap_translate(pm, AT + 500, false);
    assert.equal(sample(), N);
    assert.equal(sample(), 0);
    assert.ok(is_super(pm, AT), 'looking is no change');
    pmap_translate(pm, AT + 500, false);
    pmap_remove(pm, AT, AT + 1);
    assert.equal(vm_page.ref[first + 7], 1, 'what is noted for all is noted at each, at the end');
  });
});
test('a write that is to be noted anew demotes, unless nobody may write', () => {
  mapping(VM_PROT_WRITE, (pm, first) => {
    pmap_protect(pm, AT, AT + N, VM_PROT_READ, WAIT_MS);
    pmap_clear_modify(first + 1);
    assert.ok(is_super(pm, AT));
    pmap_enter(pm, AT, first, RW, false, VM_PROT_WRITE);
    for (let k = 0; k < N; k++) pmap_enter(pm, AT + k, first + k, RW, false, VM_PROT_WRITE);
    assert.ok(is_super(pm, AT));
    pmap_clear_modify(first + 1);
    assert.equal(is_super(pm, AT), false);
    assert.equal(pmap_is_modified(first + 1), false);
    pmap_translate(pm, AT + 1, true);
    assert.ok(pmap_is_modified(first + 1));
    assert.ok(is_super(pm, AT));
  });
});
test('all pages of a run are mapped at once by another pmap, or none', () => {
  mapping(VM_PROT_WRITE, (pm, first) => {
    const other = pmap_pinit();
    for (let n = 0; ; n++) {
      let left = n;
      page_failpoint.refuse = () => left-- <= 0;
      if (pmap_enter_super(other, 7 * N, first)) break;
      assert.deepEqual([pmap.resident[other], pmap.tables[other]], [0, 0]);
      assert.equal(pv_all(first + 3).length, 1);
      pmap_check(other);
    }
    page_failpoint.refuse = null;
    assert.equal(pde('mappings'), 1);
    assert.ok(is_super(other, 7 * N) && is_super(pm, AT));
    assert.equal(pmap_enter_super(other, 7 * N, first), false, 'it is there already');
    assert.deepEqual(mapped(other, 7 * N + 9), { m: first + 9, write: false, wired: false });
    assert.equal(pmap_translate(other, 7 * N + 9, false), (first + 9) << 10);
    pmap_check(other);
    pmap_remove_all(first + 9);
    assert.equal(is_super(other, 7 * N) || is_super(pm, AT), false);
    pmap_remove(other, 7 * N, 8 * N);
    pmap_release(other);
  });
});
test('no memory for the tags: the table is walked', () => {
  mapping(VM_PROT_WRITE, (pm, first) => {
    pmap_translate(pm, 0, false); // the set is there
    page_failpoint.refuse = () => true;
    assert.equal(pmap_translate(pm, AT + 7, true), (first + 7) << 10);
    page_failpoint.refuse = null;
  });
});
test('where superpages are off none is made, and those there are stay', () => {
  mapping(VM_PROT_WRITE, (pm, first) => {
    const enabled = sysctl_decls.find((d) => d.name === 'vm.pmap.pg_ps_enabled');
    assert.ok(enabled);
    sysctl_set(enabled, 0);
    assert.ok(is_super(pm, AT));
    pmap_change_wiring(pm, AT, true);
    pmap_change_wiring(pm, AT, false);
    assert.equal(is_super(pm, AT), false);
    sysctl_set(enabled, -1);
    assert.ok(pmap_enter(pm, AT, first, RW));
    assert.equal(is_super(pm, AT), false, 'the memory is small');
  });
});
