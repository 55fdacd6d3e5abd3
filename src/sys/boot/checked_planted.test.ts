/*
 * Shows that a checked boot catches what breaks the rule of a lock letter, for
 * every letter of the kernel: plain fields, arrays, 64-bit fields, strings and
 * columns.  By what means: one violation is planted on a machine of its own, and
 * the panic must name structure, field, address, letter, what the letter asks
 * for, and what this CPU holds.  The same access done rightly is silent.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { atomic_store } from '../machine/atomic.ts';
import { CPU_PARKED, mcache, mcache_of, pcpu, pcpu_of, thr } from '../machine/cpu.ts';
import { death_oracle } from '../machine/death.ts';
import { M, machine, ROOT_UMA } from '../machine/header.ts';
import { KernelPanic } from '../machine/panic.ts';
import { SLOT_HELD, slot_load, slot_swap, slot_word } from '../machine/slot_word.ts';
import { add64, addr, elem, field_word, guard, set_string } from '../machine/struct.ts';
import { m_getcl, m_gethdr } from '../client/kern_mbuf.ts';
import { m_freem } from '../client/uipc_mbuf.ts';
import { malloc_root, malloc_type, mtstats, type mtstats_t } from '../h/malloc.ts';
import { M_NOWAIT } from '../h/malloc_flags.ts';
import { mb_root, mbuf, MT_DATA } from '../h/mbuf.ts';
import {
  type bucket_t,
  uma_bucket,
  uma_cache,
  uma_keg,
  uma_slab,
  uma_zone,
  type zone_t,
} from '../h/uma.ts';
import { PK_FREE, PK_HAND, vm_page } from '../h/vm_page.ts';
import { malloc } from '../kmem/kern_malloc.ts';
import { M_TEMP, malloc_anchor } from '../kmem/kern_malloc_type.ts';
import { oid_named, oid_root, sysctl_oid, tree, sysctl_root } from '../observe/sysctl_tree.ts';
import { vm_page_alloc, vm_page_free, vm_page_wire } from '../page/vm_page.ts';
import { phys_is_free, phys_root, vm_phys } from '../page/vm_phys.ts';
import { mtx_lock } from '../sync/kern_mutex.ts';
import { rw_rlock } from '../sync/kern_rwlock.ts';
import { sleepq_sleeper, sleepq_sleeper_of } from '../sync/subr_sleepqueue.ts';
import { uma_zalloc, uma_zfree } from '../uma/uma_core.ts';
import { uma_hand_over } from '../uma/uma_drain.ts';
import { cache_of, uma, uma_root } from '../uma/uma_int.ts';
import { vtoslab } from '../uma/uma_keg.ts';
import { uma_zcreate } from '../uma/uma_zone.ts';
import { abandon, boot, shutdown } from './whole.ts';

afterEach(() => {
  try {
    shutdown();
  } catch {
    abandon(); // a machine that panicked lets nobody leave in order
  }
  guard.access = null;
  death_oracle.dead = null;
});

interface Plant {
  field: string;
  letter: string;
  why: RegExp;
  run(): void;
  options?: { INVARIANTS?: boolean };
}
const OTHER = 1;
/** Where the plant is, as a word; 0: in a column, whose row the panic names. */
let planted = 0;
function at<P extends number>(p: P): P {
  planted = p;
  return p;
}
let z: zone_t;
const page = (): number => {
  const m = vm_page_alloc(-1, 0);
  vm_page_wire(m, 1);
  return m;
};
/** Another CPU that lives: its slot is held, and the proof of death always fails. */
function somebody(): void {
  assert.ok(slot_swap(OTHER, slot_load(OTHER), slot_word(SLOT_HELD, 1, 1)));
  atomic_store(field_word(pcpu.state, pcpu_of(OTHER)), 0);
  death_oracle.dead = () => false;
}

const plants: Plant[] = [
  {
    field: 'write to uma_keg.free',
    letter: 'k',
    why: /lock 'UMA zone' at 0x\w+ is not held; cpu0 holds no lock/,
    run: () => void uma_keg.free[at(uma_zone.keg[z])]++,
  },
  {
    field: 'write to uma_keg.link',
    letter: 'u',
    why: /lock 'UMA lock' at 0x\w+ is not held; cpu0 holds lock 'UMA zone' at 0x/,
    run: () => {
      const k = uma_zone.keg[z];
      mtx_lock(uma_keg.lock, k);
      uma_keg.link[at(k)] = k;
    },
  },
  {
    field: 'write to uma_zone.kegs',
    letter: 'z',
    why: /lock 'UMA zone' at 0x\w+ is not held/,
    run: () => void (uma_zone.kegs[at(elem(z, 7))] = 5),
  },
  {
    field: 'write to uma_zone.fails',
    letter: 'z',
    why: /lock 'UMA zone' at 0x\w+ is not held/,
    run: () => add64(uma_zone.fails, at(z), 1),
  },
  {
    field: 'write to uma_zone.name',
    letter: 'c',
    why: /a change of a constant/,
    run: () => set_string(uma_zone.name, at(z), 8, 'another'),
  },
  {
    field: 'write to uma_keg.fini',
    letter: 'e',
    why: /the keg has \d+ pages/,
    run: () => {
      uma_zfree(z, uma_zalloc(z, M_NOWAIT));
      uma_keg.fini[at(uma_zone.keg[z])] = 77;
    },
  },
  {
    field: 'write to uma_keg.ipers',
    letter: 'c',
    why: /a change of a constant that is \d+/,
    run: () => void (uma_keg.ipers[at(uma_zone.keg[z])] = 1),
  },
  {
    field: 'write to uma_zone.hooks',
    letter: 'a',
    why: /a plain store to an atomic field/,
    run: () => void (uma_zone.hooks[at(z)] = 8),
  },
  {
    field: 'read of uma_cache.split',
    letter: 'p',
    why: /it is cpu1's own, and cpu0 has no claim on it/,
    run: () => {
      somebody();
      assert.ok(uma_cache.split[at(cache_of(z, OTHER))]);
    },
  },
  {
    field: 'write to uma_cache.installed',
    letter: 'p',
    why: /it is cpu1's own/,
    run: () => {
      somebody();
      add64(uma_cache.installed, at(cache_of(z, OTHER)), 1);
    },
  },
  {
    field: 'write to uma_bucket.cnt',
    letter: 'p',
    why: /it is cpu1's own/,
    run: () => {
      somebody();
      uma_zfree(z, uma_zalloc(z, M_NOWAIT));
      const b = uma_cache.cur[cache_of(z, thr.cpu)];
      // The other CPU has the bucket now: the rule goes by who anchors it.
      const cur = field_word(uma_cache.cur, cache_of(z, OTHER));
      atomic_store(cur, b);
      atomic_store(field_word(uma_cache.cur, cache_of(z, thr.cpu)), uma_root.null_bucket[uma()]);
      uma_bucket.cnt[at(b)] = 0;
    },
  },
  {
    field: 'write to uma_bucket.cnt',
    letter: 'p',
    why: /no cache of this CPU has it, and no lock of a zone is held/,
    run: () => {
      uma_zfree(z, uma_zalloc(z, M_NOWAIT));
      uma_hand_over();
      uma_bucket.cnt[at(uma_zone.full_buckets[z])] = 0;
    },
  },
  {
    field: 'write to uma_bucket.item',
    letter: 'p',
    why: /the null bucket stays as it is/,
    run: () => {
      const b = uma_root.null_bucket[uma()];
      uma_bucket.item[at(elem(b, 1))] = 9;
    },
  },
  {
    field: 'write to uma_bucket.link',
    letter: 'z',
    why: /no lock of a zone is held/,
    run: () => {
      uma_zfree(z, uma_zalloc(z, M_NOWAIT));
      const b = uma_cache.cur[cache_of(z, thr.cpu)];
      uma_bucket.link[at(b)] = 0 as bucket_t;
    },
  },
  {
    field: 'write to uma_slab.bits',
    letter: 'k',
    why: /lock 'UMA zone' at 0x\w+ is not held/,
    run: () => {
      const tiny = uma_zcreate('tiny', 16);
      const s = vtoslab(uma_zalloc(tiny, M_NOWAIT));
      uma_slab.bits[at(elem(s, 5))] = 0;
    },
  },
  {
    field: 'write to vm_phys.free',
    letter: 'f',
    why: /lock 'page free' at 0x\w+ is not held/,
    run: () => void vm_phys.free[at(phys_root())]--,
  },
  {
    field: 'write to vm_page.info',
    letter: 'g',
    why: /lock 'page free' at 0x\w+ is not held, and page \d+ is not in the hand of cpu0/,
    run: () => {
      const m = page();
      vm_page_free(m);
      vm_page.info[m] = PK_HAND;
    },
  },
  {
    field: 'write to vm_page.flags',
    letter: 'f',
    why: /is not in the hand of cpu0/,
    run: () => void (vm_page.flags[1] = 0x40),
  },
  {
    field: 'write to vm_page.owner',
    letter: 'o',
    why: /page \d+ is not in the hand of cpu0/,
    run: () => void (vm_page.owner[uma_zalloc(z, M_NOWAIT) >>> 10] = 0 as never),
  },
  {
    field: 'read of vm_phys_leaf.dirty',
    letter: 'f',
    why: /lock 'page free' at 0x\w+ is not held/,
    run: () => void phys_is_free(1),
  },
  {
    field: 'write to malloc_type.registered',
    letter: 'l',
    why: /lock 'malloc' at 0x\w+ is not held/,
    run: () => void (malloc_type.registered[at(M_TEMP.t)] = 0),
  },
  {
    field: 'write to malloc_type_stats.frees',
    letter: 'p',
    why: /it is cpu1's own/,
    run: () => {
      somebody();
      malloc(16, M_TEMP.t, M_NOWAIT);
      const s = malloc_type.stats[elem(M_TEMP.t, 0)] as mtstats_t;
      atomic_store(field_word(malloc_type.stats, elem(M_TEMP.t, 0)), 0);
      atomic_store(field_word(malloc_type.stats, elem(M_TEMP.t, OTHER)), s);
      mtstats.frees[at(elem(s, 3))]++;
    },
  },
  {
    field: 'write to malloc_root.types',
    letter: 'l',
    why: /lock 'malloc' at/,
    run: () => void (malloc_root.types[at(malloc_anchor())] = 0 as never),
  },
  {
    field: 'write to mbuf.len',
    letter: 'o',
    why: /it was freed/,
    options: { INVARIANTS: true },
    run: () => {
      const m = m_getcl(M_NOWAIT, MT_DATA, 0);
      m_freem(m);
      mbuf.len[at(m)] = 3;
    },
  },
  {
    field: 'read of mbuf.next',
    letter: 'o',
    why: /it was freed/,
    options: { INVARIANTS: true },
    run: () => {
      const m = m_gethdr(M_NOWAIT, MT_DATA);
      m_freem(m);
      assert.ok(mbuf.next[at(m)]);
    },
  },
  {
    field: 'write to mb_root.sites',
    letter: 'a',
    why: /a plain store/,
    run: () => {
      const r = machine.roots[elem(M, 9)] as never;
      mb_root.sites[at(r)] = 1;
    },
  },
  {
    field: 'read of sysctl_oid.child',
    letter: 't',
    why: /lock 'sysctl tree' at 0x\w+ is not held/,
    run: () => void oid_named(at(oid_root()), 'kern'),
  },
  {
    field: 'write to sysctl_oid.number',
    letter: 't',
    why: /lock 'sysctl tree' at 0x\w+ is only held shared/,
    run: () => {
      rw_rlock(sysctl_root.lock, tree());
      sysctl_oid.number[at(oid_root())] = 3;
    },
  },
  {
    field: 'write to sleeper.result',
    letter: 'q',
    why: /lock 'sleep queue' at 0x\w+ is not held, and it is cpu1's/,
    run: () => {
      sleepq_sleeper.result[at(sleepq_sleeper_of(OTHER))] = 4;
    },
  },
  {
    field: 'write to pcpu.undo_depth',
    letter: 't',
    why: /it is cpu1's own/,
    run: () => {
      somebody();
      pcpu.undo_depth[at(pcpu_of(OTHER))] = 1;
    },
  },
  {
    field: 'write to mcache.bucket',
    letter: 't',
    why: /it is cpu1's own/,
    run: () => {
      somebody();
      atomic_store(field_word(pcpu.state, pcpu_of(OTHER)), CPU_PARKED); // parked, but not claimed
      mcache.bucket[at(elem(mcache_of(OTHER), 2))] = 0;
    },
  },
  {
    field: 'write to machine.first_page',
    letter: 'b',
    why: /a store after the machine came up/,
    run: () => void (machine.first_page[at(M)] = 1),
  },
  {
    field: 'write to machine.roots',
    letter: 'r',
    why: /an anchor is set once/,
    run: () => void (machine.roots[at(elem(M, ROOT_UMA))] = 8),
  },
  {
    field: 'write to machine.panic_text',
    letter: 'x',
    why: /this CPU does not panic/,
    run: () => set_string(machine.panic_text, at(M), 64, 'no'),
  },
];

for (const p of plants) {
  test(`${p.field} (${p.letter})`, () => {
    boot({ memory: '2M', cpus: 3, checked: true, options: { ...p.options } });
    z = uma_zcreate('planted', 48);
    planted = 0;
    assert.throws(
      () => p.run(),
      (e) => {
        assert.ok(e instanceof KernelPanic, String(e));
        const where = planted === 0 ? '0x' : `0x${addr(planted).toString(16)}: (${p.letter}) `;
        assert.ok(e.message.startsWith(`panic: checked: ${p.field} at ${where}`), e.message);
        if (planted === 0)
          assert.match(e.message, new RegExp(`\\(row \\d+\\): \\(${p.letter}\\) `));
        assert.match(e.message, p.why);
        assert.match(e.message, /; cpu0 holds (no lock|lock ')/);
        return true;
      },
    );
  });
}

test('the address in the panic of a column is that of the row', () => {
  boot({ memory: '2M', cpus: 3, checked: true });
  z = uma_zcreate('planted', 48);
  const info = field_word(vm_page.info, 1);
  const where = `vm_page.info at 0x${addr(info).toString(16)} (row 1): `;
  assert.throws(
    () => {
      vm_page.info[1] = PK_FREE;
    },
    (e) => String(e).includes(where),
  );
});

test('the same done rightly is silent', () => {
  boot({ memory: '2M', cpus: 3, checked: true });
  z = uma_zcreate('planted', 48);
  const k = uma_zone.keg[z];
  mtx_lock(uma_keg.lock, k);
  uma_keg.reserve[k] = 0;
  uma_zone.kegs[elem(z, 7)] = 0;
  add64(uma_zone.fails, z, 0);
  assert.equal(uma_keg.part[k], 0);
  mtx_lock(vm_phys.lock, phys_root());
  vm_phys.lowest[phys_root()] = 1;
  pcpu.critnest[thr.pc] = 0;
  assert.equal(uma_cache.split[cache_of(z, thr.cpu)], 0);
});
