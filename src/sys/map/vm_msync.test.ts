/*
 * Shows: mmap of files, msync, mincore and madvise on them do what FreeBSD's do: every errno in the
 * order of the tables; what is beyond the end of an object is an error of the access, not of mmap;
 * what was synced is clean, what was invalidated is gone.
 * By what means: files of the host by the system calls; rows of the catalogue; no memory at every
 * place of opening; a checked machine; the walkers.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, describe, test } from 'node:test';
import { abandon, shutdown } from '../boot/whole.ts';
import { ENOMEM } from '../machine/errno.ts';
import {
  MAP_FIXED,
  MAP_PRIVATE,
  MAP_SHARED,
  MINCORE_INCORE,
  MINCORE_MODIFIED,
  MS_ASYNC,
  MS_INVALIDATE,
} from '../h/mman.ts';
import { MADV_RANDOM, MADV_WILLNEED, type vm_map_t } from '../h/vm_map.ts';
import { vm_object } from '../h/vm_object.ts';
import { vnode, type vnode_t } from '../h/vm_vnode.ts';
import { vm_object_check } from '../object/vm_object_check.ts';
import { vm_object_deallocate } from '../object/vm_object.ts';
import { vnode_open, vnode_stores } from '../object/vm_vnode.ts';
import { vnode_truncate } from '../object/vnode_sync.ts';
import { vm_store_check } from '../object/vm_store_check.ts';
import { page_failpoint } from '../page/vm_page.ts';
import type { MapFile } from './vm_mmap.ts';
import {
  AT,
  anon,
  call,
  end,
  mincore,
  P,
  peek,
  poke,
  R,
  RW,
  rows,
  up,
  user_fork,
} from './vm_syscalls.test.lib.ts';

const FOLDER = mkdtempSync(join(tmpdir(), 'kmem-msync-'));
const PATH = join(FOLDER, 'f');
after(() => rmSync(FOLDER, { recursive: true, force: true }));
afterEach(() => {
  page_failpoint.refuse = null;
  try {
    end();
    vm_store_check(vnode_stores());
    shutdown();
  } catch (e) {
    abandon();
    throw e;
  }
});

/** A file of so many bytes, each of which is its page's number + 1. */
function file(bytes: number): void {
  writeFileSync(
    PATH,
    new Uint8Array(bytes).map((_, i) => Math.floor(i / P) + 1),
  );
}
/** What is behind a descriptor of it. */
function opened(writable = true): MapFile {
  const v = vnode_open(PATH, writable);
  assert.ok(v > 0, `open: ${v}`);
  return { object: vnode.object[v as vnode_t], readable: true, writable };
}
/** Maps n pages of it; the address. */
function mapped(mp: vm_map_t, n: number, flags = MAP_SHARED, prot = RW, pos = 0): number {
  const at = call(mp, 'mmap', [0, n * P, prot, flags, 3, pos], opened());
  assert.ok(typeof at === 'number', `mmap: ${at}`);
  return at;
}

describe('mmap of a file', () => {
  test('shared, private, from an offset on, by who may only read', () => {
    const mp = up();
    file(4 * P);
    const shared = mapped(mp, 4);
    const own = mapped(mp, 4, MAP_PRIVATE);
    const part = mapped(mp, 1, MAP_SHARED, R, 2 * P);
    assert.deepEqual([peek(mp, shared), peek(mp, own + 3 * P), peek(mp, part)], [1, 4, 3]);
    assert.equal(poke(mp, shared + 2 * P, 77), 0);
    assert.deepEqual([peek(mp, own + 2 * P), peek(mp, part)], [77, 77]);
    assert.equal(poke(mp, own, 66), 0);
    assert.equal(peek(mp, shared), 1);
    assert.equal(poke(mp, part, 1), 'EFAULT');
    const reader = opened(false);
    assert.equal(call(mp, 'mmap', [0, P, RW, MAP_SHARED, 3, 0], reader), 'EACCES');
    const at = call(mp, 'mmap', [0, P, R, MAP_SHARED, 3, 0], reader);
    assert.equal(call(mp, 'mprotect', [at as number, P, RW]), 'EACCES', 'never more than that');
  });
  test('bus_objerr_1, 2: a mapping that is longer than its object', () => {
    const mp = up();
    file(0);
    const none = mapped(mp, 1);
    assert.equal(poke(mp, none, 1), 'EFAULT');
    assert.equal(call(mp, 'munmap', [none, P]), 0);
    file(P);
    const two = mapped(mp, 2);
    assert.equal(poke(mp, two, 1), 0);
    assert.equal(poke(mp, two + P, 1), 'EFAULT');
    const own = mapped(mp, 2, MAP_PRIVATE);
    assert.equal(poke(mp, own + P, 1), 'EFAULT', 'nor by a copy');
    assert.equal(peek(mp, own + P), 'EFAULT');
  });
  test('mmap09, mmap28, ftruncate: shorter, to nothing, longer; what comes back is zero', () => {
    const mp = up();
    file(3 * P);
    const at = mapped(mp, 3);
    for (let i = 0; i < 3; i++) assert.equal(poke(mp, at + i * P, 255), 0);
    const { object: o } = opened();
    assert.equal(vnode_truncate(o, P), 0);
    assert.deepEqual([peek(mp, at), peek(mp, at + P)], [255, 'EFAULT']);
    assert.equal(vnode_truncate(o, 0), 0);
    assert.equal(peek(mp, at), 'EFAULT');
    assert.equal(vnode_truncate(o, 3 * P), 0);
    assert.deepEqual(
      [0, P, 3 * P - 1].map((i) => peek(mp, at + i)),
      [0, 0, 0],
    );
    vm_object_deallocate(o);
    assert.equal(call(mp, 'munmap', [at, 3 * P]), 0);
    assert.ok(readFileSync(PATH).every((b) => b === 0));
  });
  test('in the place of another mapping, whose stores go to its file', () => {
    const mp = up();
    file(2 * P);
    const at = mapped(mp, 2);
    assert.equal(poke(mp, at + P, 99), 0);
    assert.equal(call(mp, 'mmap', [at, 2 * P, RW, 0x1000 | MAP_PRIVATE | MAP_FIXED, -1, 0]), at);
    assert.equal(peek(mp, at + P), 0);
    assert.equal(readFileSync(PATH)[P], 99);
  });
});

describe('msync', () => {
  test('msync01, 02, 04: the file has it, with every flag; then the page is clean', () => {
    const mp = up();
    const vec = anon(mp, P);
    for (const flags of [0, MS_ASYNC, MS_INVALIDATE]) {
      file(3 * P);
      const at = mapped(mp, 3);
      for (const i of [0, 2]) assert.equal(poke(mp, at + i * P + 5, 111), 0);
      const [before] = mincore(mp, at, P, vec) as number[];
      assert.ok(before & MINCORE_MODIFIED);
      assert.equal(call(mp, 'msync', [at, 3 * P, flags]), 0);
      const bytes = readFileSync(PATH);
      assert.deepEqual([bytes[5], bytes[2 * P + 5], bytes[P + 5]], [111, 111, 2]);
      const seen = mincore(mp, at, 3 * P, vec) as number[];
      if (flags === MS_INVALIDATE) assert.deepEqual(seen, [0, 0, 0]);
      else assert.ok((seen[0] & MINCORE_MODIFIED) === 0 && seen[0] & MINCORE_INCORE);
      assert.equal(peek(mp, at + 5), 111);
      assert.equal(call(mp, 'munmap', [at, 3 * P]), 0);
    }
  });
  test('a part, an address inside a page, the whole entry for no length', () => {
    const mp = up();
    file(3 * P);
    const at = mapped(mp, 3);
    const write = (): void => {
      for (let i = 0; i < 3; i++) assert.equal(poke(mp, at + i * P, 200), 0);
    };
    const firsts = (): number[] => [0, P, 2 * P].map((i) => readFileSync(PATH)[i]);
    write();
    assert.equal(call(mp, 'msync', [at + P + 7, 1, 0]), 0);
    assert.equal(firsts()[1], 200, 'its neighbours may come along');
    assert.equal(call(mp, 'msync', [at + P, 0, 0]), 0);
    assert.deepEqual(firsts(), [200, 200, 200]);
  });
  test('memory and private copies have nothing to write; a fork shares what is shared', () => {
    const mp = up();
    file(2 * P);
    const memory = anon(mp, 2 * P);
    assert.equal(poke(mp, memory, 5), 0);
    assert.equal(call(mp, 'msync', [memory, 2 * P, MS_INVALIDATE]), 0);
    assert.equal(peek(mp, memory), 5);
    const own = mapped(mp, 2, MAP_PRIVATE);
    assert.equal(poke(mp, own, 5), 0);
    assert.equal(call(mp, 'msync', [own, 2 * P, MS_INVALIDATE]), 0);
    assert.equal(peek(mp, own), 5);
    assert.equal(readFileSync(PATH)[0], 1);
    const shared = mapped(mp, 2);
    const child = user_fork(0, 1);
    assert.equal(poke(child, shared, 88), 0);
    assert.equal(peek(mp, shared), 88);
    assert.equal(call(mp, 'msync', [shared, P, 0]), 0);
    assert.equal(readFileSync(PATH)[0], 88);
  });
  test('msync03: its errors, in order', () => {
    const mp = up();
    file(P);
    const at = mapped(mp, 1);
    rows(mp, [
      ['bad flags', 'msync', [at, P, 8], 'EINVAL'],
      ['async and invalidate', 'msync', [at, P, MS_ASYNC | MS_INVALIDATE], 'EINVAL'],
      ['wraps', 'msync', [-P, 2 * P, 0], 'EINVAL'],
      ['unmapped', 'msync', [AT, P, 0], 'ENOMEM'],
      ['a hole', 'msync', [at, 64 * P, 0], 'ENOMEM'],
      ['unaligned', 'msync', [at + 1, P - 1, 0], 0],
    ]);
  });
});

describe('madvise, mincore', () => {
  test('willneed maps what is there; random brings one page in at a time', () => {
    const mp = up();
    const vec = anon(mp, P);
    file(32 * P);
    const count = (at: number): number => {
      const bits = mincore(mp, at, 32 * P, vec) as number[];
      return bits.filter((b) => b & MINCORE_INCORE).length;
    };
    const at = mapped(mp, 32);
    assert.equal(count(at), 0);
    assert.equal(call(mp, 'madvise', [at, 32 * P, MADV_RANDOM]), 0);
    peek(mp, at + 20 * P);
    assert.equal(count(at), 1);
    const other = mapped(mp, 32);
    peek(mp, other + 8 * P);
    assert.ok(count(at) > 8, 'and with its neighbours without that advice');
    assert.equal(call(mp, 'madvise', [at, 32 * P, MADV_WILLNEED]), 0);
    assert.equal(call(mp, 'munmap', [other, 32 * P]), 0);
  });
});

describe('opening', () => {
  test('no memory at every place: ENOMEM, and nothing is left', () => {
    up({ options: { INVARIANTS: true, WITNESS: true, FAILPOINTS: true } });
    file(P);
    let refused = 0;
    for (let n = 0; ; n++) {
      let left = n;
      page_failpoint.refuse = () => left-- <= 0;
      const v = vnode_open(PATH, true);
      page_failpoint.refuse = null;
      if (v > 0) {
        vm_object_deallocate(vnode.object[v as vnode_t]);
        break;
      }
      assert.equal(v, -ENOMEM);
      refused++;
      vm_object_check(() => 0);
      vm_store_check(vnode_stores());
    }
    assert.ok(refused >= 2);
  });
  test('who writes may come after who reads; the file can be cut then', () => {
    up();
    file(2 * P);
    const reader = opened(false).object;
    assert.equal(vnode_truncate(reader, P), 13, 'EACCES');
    const writer = opened(true).object;
    assert.equal(writer, reader);
    assert.equal(vnode_truncate(reader, P), 0);
    assert.equal(vm_object.size[reader], 1);
    vm_object_deallocate(reader);
    vm_object_deallocate(writer);
    truncateSync(PATH, 0);
  });
});
test('a checked machine', () => {
  const mp = up({ checked: true });
  file(3 * P);
  const at = mapped(mp, 3);
  const own = mapped(mp, 3, MAP_PRIVATE);
  for (const a of [at, at + 2 * P, own + P]) assert.equal(poke(mp, a, 9), 0);
  assert.equal(call(mp, 'msync', [at, 3 * P, MS_INVALIDATE]), 0);
  const { object: o } = opened();
  assert.equal(vnode_truncate(o, P + 10), 0);
  assert.equal(vnode_truncate(o, 3 * P), 0);
  vm_object_deallocate(o);
  assert.equal(peek(mp, at), 9);
});
