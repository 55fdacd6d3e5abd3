/*
 * Shows: whatever a call on objects needs and does not get, a page, a node of an index or an
 * object, the first or the Nth, it says so, what is seen through every object is what was seen
 * before, and nothing is lost.
 * By what means: each call is made with no page, node or object to be had, then with one, two
 * and so on, until it succeeds; contents beside those before, the walkers, and the counts of
 * zones and pages when all is given back.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { abandon, boot, shutdown } from '../boot/whole.ts';
import { mem, page_word } from '../machine/memory.ts';
import { NULL } from '../machine/struct.ts';
import { M_NOVM, M_NOWAIT } from '../h/malloc_flags.ts';
import { uma_zone, type zone_t } from '../h/uma.ts';
import {
  DEVICE_COUNTERS,
  DEVICE_ZERO,
  OBJT_DEFAULT,
  vm_object,
  vm_object_root,
  type vm_object_t,
} from '../h/vm_object.ts';
import { PK_OBJECT, VM_ALLOC_WIRED, VM_ALLOC_ZERO } from '../h/vm_page.ts';
import { page_failpoint, vm_page_census, vm_page_check } from '../page/vm_page.ts';
import { vm_page_owner_unwire } from '../page/vm_pageq.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { uma_check } from '../uma/uma_check.ts';
import { uma_zalloc, uma_zfree, uma_zfree_past_caches } from '../uma/uma_core.ts';
import { slab_failpoint } from '../uma/uma_keg.ts';
import { zone_present } from '../uma/uma_stats.ts';
import { pager_look } from './pager_work.test.lib.ts';
import { test_pager_object } from './test_pager.test.lib.ts';
import { vm_device_object } from './vm_device.ts';
import {
  object_root,
  vm_object_allocate,
  vm_object_deallocate,
  vm_object_reference,
} from './vm_object.ts';
import {
  vm_object_coalesce,
  vm_object_collapse,
  vm_object_shadow,
  vm_object_split,
  vm_object_split_end,
} from './vm_object_chain.ts';
import { objects_all, vm_object_check } from './vm_object_check.ts';
import {
  object_page,
  object_page_filled,
  object_page_grab,
  object_page_move,
  object_page_wakeup,
} from './vm_object_page.ts';

const object = vm_object;
/** Pages far enough apart to need nodes of their own. */
const PLACES = [0, 1, 63, 64, 5000, 300_000];
const SIZE = 300_001;

beforeEach(() => {
  const options = { INVARIANTS: true, WITNESS: true, FAILPOINTS: true };
  boot({ cpus: 1, fresh: true, memory: '8M', options });
});
afterEach(() => {
  page_failpoint.refuse = null;
  slab_failpoint.refuse = null;
  try {
    vm_object_check(() => 0);
    uma_check();
    vm_page_check();
    shutdown();
  } catch (e) {
    abandon();
    throw e;
  }
});

// --- so many and no more ----------------------------------------------------------------------

const KINDS = ['pages', 'nodes', 'objects'] as const;
type Kind = (typeof KINDS)[number];
/** From here on there are just `n` of a kind to be had. The result ends that. */
function leave(kind: Kind, n: number): () => void {
  if (kind === 'pages') {
    let left = n;
    page_failpoint.refuse = () => left-- <= 0;
    return () => {
      page_failpoint.refuse = null;
    };
  }
  const r = object_root();
  const z = (kind === 'nodes' ? vm_object_root.nodes[r] : vm_object_root.zone[r]) as zone_t;
  const held: number[] = [];
  const take = (flags: number): boolean => {
    const item = uma_zalloc(z, M_NOWAIT | flags);
    if (item !== 0) held.push(item);
    return item !== 0;
  };
  while (held.length < n) assert.ok(take(0));
  while (take(M_NOVM));
  slab_failpoint.refuse = (k) => k === uma_zone.keg[z];
  for (let i = 0; i < n; i++) uma_zfree_past_caches(z, held.pop() as number);
  return () => {
    slab_failpoint.refuse = null;
    for (const item of held) uma_zfree(z, item);
  };
}

// --- objects and what is seen through them ---------------------------------------------------

function locked<T>(o: vm_object_t, run: () => T): T {
  mtx_lock(object.lock, o);
  const result = run();
  mtx_unlock(object.lock, o);
  return result;
}
/** An object with a page at each of the places, which hold their numbers and `mark`. */
function filled(mark: number, places = PLACES): vm_object_t {
  const o = vm_object_allocate(OBJT_DEFAULT, SIZE);
  locked(o, () => {
    for (const i of places) {
      const m = object_page_grab(o, i, VM_ALLOC_ZERO, false);
      assert.notEqual(m, 0);
      mem.I32[page_word(m)] = mark + i;
      object_page_filled(m, o);
    }
  });
  return o;
}
/** What is seen through an object at each of the places: its own pages and those below. */
function seen(top: vm_object_t): number[] {
  return PLACES.map((place) => {
    let i = place;
    for (let o = top; o !== NULL; i += object.backing_offset[o], o = object.backing[o]) {
      const m = locked(o, () => object_page(o, i));
      if (m !== 0) return mem.I32[page_word(m)];
    }
    return 0;
  });
}
/** A second reference to an object, whose own is a shadow's from then on. */
function shadowed(o: vm_object_t): vm_object_t {
  vm_object_reference(o);
  return vm_object_shadow(o, 0, SIZE);
}

interface Case {
  /** What it stands on; the objects of which a reference is in hand. */
  readonly begin: () => vm_object_t[];
  /** The call. Objects to which references are in hand after it; null: it was refused. */
  readonly run: (objects: vm_object_t[]) => vm_object_t[] | null;
  /** What it cannot do without. */
  readonly needs: readonly Kind[];
}
const CASES: Record<string, Case> = {
  allocate: {
    begin: () => [],
    run() {
      const o = vm_object_allocate(OBJT_DEFAULT, 5);
      return o === NULL ? null : [o];
    },
    needs: ['objects'],
  },
  'shadow of what others see': {
    begin() {
      const o = filled(100);
      vm_object_reference(o);
      return [o, o];
    },
    run([o]) {
      const shadow = vm_object_shadow(o, 0, SIZE);
      return shadow === NULL ? null : [o, shadow];
    },
    needs: ['objects'],
  },
  'split, first half': {
    begin: () => [filled(200)],
    run([o]) {
      const part = vm_object_split(o, 0, SIZE);
      return part === NULL ? null : [part];
    },
    needs: ['objects'],
  },
  'split, second half': {
    begin: () => [vm_object_split(filled(300), 0, SIZE)],
    run([part]) {
      vm_object_split_end(part);
      return object.backing[part] === NULL ? [part] : null;
    },
    needs: ['nodes'],
  },
  collapse: {
    begin() {
      const below = filled(400);
      const above = shadowed(below);
      const other = vm_object_split(below, 0, SIZE); // keeps the first from collapsing
      object_write(above, 63, 7);
      // Only `above` is left over `below`, and nobody has come by to make them one.
      page_failpoint.refuse = () => true;
      const end = leave('nodes', 0);
      vm_object_deallocate(other);
      end();
      page_failpoint.refuse = null;
      return [above];
    },
    run([above]) {
      vm_object_collapse(above);
      return object.backing[above] === NULL ? [above] : null;
    },
    needs: ['nodes'],
  },
  'the last but one reference goes': {
    begin() {
      const below = filled(500);
      const above = shadowed(below);
      return [above, below];
    },
    run([above, below]) {
      vm_object_deallocate(below);
      return object.backing[above] === NULL ? [above] : [above, NULL as vm_object_t];
    },
    needs: [],
  },
  'an object made longer': {
    begin: () => [filled(600, [0, 1, 63])],
    run([o]) {
      assert.ok(vm_object_coalesce(o, 64, 10), 'it needs no memory');
      return [o];
    },
    needs: [],
  },
  'a page': {
    begin: () => [filled(700, [0])],
    run([o]) {
      const m = locked(o, () => object_page_grab(o, 200_000, VM_ALLOC_ZERO | VM_ALLOC_WIRED));
      if (m === 0) return null;
      locked(o, () => object_page_wakeup(m, o));
      vm_page_owner_unwire(m, true);
      return [o];
    },
    needs: ['pages', 'nodes'],
  },
  'a page that moves': {
    begin: () => [filled(800), vm_object_allocate(OBJT_DEFAULT, SIZE)],
    run([from, to]) {
      mtx_lock(object.lock, to);
      const done = locked(from, () => {
        const m = object_page(from, 5000);
        return object_page_move(m, from, to, 100_000);
      });
      if (done) {
        locked(from, () => {
          const m = object_page(to, 100_000);
          assert.ok(object_page_move(m, to, from, 5000), 'its place is there still, or made anew');
        });
      }
      mtx_unlock(object.lock, to);
      return done ? [from, to] : null;
    },
    needs: ['nodes'],
  },
  'the zero device': {
    begin: () => [],
    run() {
      const o = vm_device_object(DEVICE_ZERO);
      return o === NULL ? null : [o];
    },
    needs: ['pages', 'objects'],
  },
  'the counters': {
    begin: () => [],
    run() {
      const o = vm_device_object(DEVICE_COUNTERS);
      return o === NULL ? null : [o];
    },
    needs: ['objects'],
  },
  'a page from a pager': {
    begin: () => [test_pager_object(10, 9)],
    run: ([o]) => (pager_look(o, 3) ? [o] : null),
    needs: ['pages', 'nodes'],
  },
};
function object_write(o: vm_object_t, i: number, value: number): void {
  locked(o, () => {
    const m = object_page_grab(o, i, VM_ALLOC_ZERO, false);
    assert.notEqual(m, 0);
    mem.I32[page_word(m)] = value;
    object_page_filled(m, o);
  });
}
const used = (): number[] => {
  const r = object_root();
  return [vm_object_root.nodes[r], vm_object_root.zone[r]].map(
    (z) => zone_present(z as zone_t).used,
  );
};

/** Makes the call with `n` of a kind to be had, gives all back. Whether it was refused. */
function one(c: Case, kind: Kind, n: number): boolean {
  const before = used();
  const devices = objects_all().length;
  const objects = c.begin();
  const contents = objects.map(seen);
  const end = leave(kind, n);
  const done = c.run(objects);
  end();
  vm_object_check(() => 0);
  const held = done ?? objects;
  for (const [i, o] of held.entries()) {
    if (o !== NULL && contents[i] !== undefined) assert.deepEqual(seen(o), contents[i]);
  }
  for (const o of held) if (o !== NULL) vm_object_deallocate(o);
  vm_object_check(() => 0);
  const left = objects_all();
  assert.ok(left.length <= devices + 1, 'a device stays');
  assert.equal(vm_page_census()[PK_OBJECT], 0);
  const [nodes, items] = used();
  assert.deepEqual([nodes, items], [before[0], before[1] + left.length - devices]);
  return done === null;
}

describe('with nothing, with one, with two to be had', () => {
  for (const [name, c] of Object.entries(CASES)) {
    for (const kind of KINDS) {
      test(`${name}: ${kind}`, () => {
        let n = 0;
        while (one(c, kind, n)) n++;
        // A node or an object may want a page for its slab: not everywhere.
        if (kind !== 'pages') assert.equal(n > 0, c.needs.includes(kind), `${n} ${kind}`);
        else assert.ok(n > 0 || !c.needs.includes(kind), 'no page is needed');
      });
    }
  }
});
