/*
 * Shown: the files that a recorded program had mapped have contents.  A private mapping shows them
 * until it writes, and again after MADV_DONTNEED; a shared one always; forks, cuts, mremap, two
 * names, a file without one, a mapping that shows more of a file than was there before; what is
 * shared and written goes to the file.  A page that holds something else is told, with the file
 * and the page; what the host does not take, and files that are too long, are memory.
 * By what means: recordings of a few lines beside the naive model of what is mapped, with all
 * walkers after each operation, and files that are spoiled beforehand.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { mem } from '../../sys/machine/memory.ts';
import { user_access } from '../../sys/map/vm_bank.ts';
import { temporary_folder } from '../temporary.ts';
import { in_machine, play_text } from './vm_player.test.lib.ts';
import type { VmPlayer, VmTotals } from './vm_player.ts';
import { live_counts } from './vm_replay.ts';

const P = 4096;
const A = 0x7f36_1000_0000;
const B = 0x7f36_2000_0000;
const hex = (n: number): string => `0x${n.toString(16)}`;
const lines = (...list: string[]): string => `${list.join('\n')}\n`;
const RW = 'PROT_READ|PROT_WRITE';
const map = (at: number, pages: number, how: string, file: string, first = 0, prot = RW): string =>
  `1 mmap(NULL, ${pages * P}, ${prot}, MAP_${how}, ${file}, ${hex(first * P)}) = ${hex(at)}`;
const LIBC = '3</lib/libc.so.6>';
const DATA = '4</var/data>';
/** Numbers of files: 1 is of those without a name. */
const FIRST_NAME = 2;

/** The first two words of a page. */
function words(player: VmPlayer, space: number, at: number): number[] {
  let seen: number[] = [];
  user_access(player.map_of(space), at, 8, false, (w) => {
    seen = [mem.I32[w / 4], mem.I32[w / 4 + 1]];
  });
  return seen;
}
function played(
  t: TestContext,
  text: string,
  look: (player: VmPlayer) => void = () => {},
): { totals: VmTotals; counts: ReturnType<typeof live_counts>; folder: string } {
  const { path: folder, remove } = temporary_folder();
  t.after(remove);
  return in_machine('16M', () => {
    const totals = play_text(text, { folder, before_end: look });
    assert.deepEqual([totals.mismatches, totals.no_memory, totals.skipped], [{}, {}, {}]);
    return { totals, counts: live_counts(), folder };
  });
}

test('a private file shows its pages until they are written, and when they were dropped', (t) => {
  const text = lines(
    map(A, 64, 'PRIVATE', LIBC, 8),
    '1 clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD) = 2',
    `1 madvise(${hex(A)}, ${4 * P}, MADV_DONTNEED) = 0`,
  );
  const { counts } = played(t, text, (player) => {
    assert.deepEqual(words(player, 1, A), [-1 - FIRST_NAME, 8], 'dropped');
    assert.deepEqual(words(player, 1, A + 40 * P), [-1 - FIRST_NAME, 48], 'never used');
    assert.equal(words(player, 1, A + 9 * P)[0], 1, 'written, and kept');
    assert.equal(words(player, 2, A + 9 * P)[0], 1, 'what the child has of its parent');
  });
  assert.ok(counts.pageins >= 16, `${counts.pageins} pages were read`);
  assert.equal(counts.pageouts, 0);
});
test('a shared file is one in all spaces and mappings, and gets what is written to it', (t) => {
  const text = lines(
    map(A, 8, 'SHARED', DATA),
    map(B, 8, 'SHARED', DATA, 4),
    '1 clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD) = 2',
    `1 msync(${hex(A)}, ${8 * P}, MS_SYNC) = 0`,
    `1 mremap(${hex(B)}, ${8 * P}, ${4 * P}, MREMAP_MAYMOVE) = ${hex(B)}`,
  );
  const { counts, folder } = played(t, text, (player) => {
    for (const space of [1, 2]) {
      assert.deepEqual(words(player, space, A + 5 * P), [-1 - FIRST_NAME, 5]);
      assert.deepEqual(words(player, space, B + 2 * P), [-1 - FIRST_NAME, 6]);
    }
  });
  assert.ok(counts.pageouts >= 8, `${counts.pageouts} pages were written`);
  const file = new Int32Array(Uint8Array.from(readFileSync(join(folder, `${FIRST_NAME}`))).buffer);
  assert.equal(file.length, (12 * P) / 4);
  for (let i = 0; i < 12; i++) {
    assert.deepEqual([...file.subarray(i * 1024, i * 1024 + 2)], [-1 - FIRST_NAME, i]);
  }
});
test('files without a name, /dev/zero, long ones, and a folder that cannot be written to', (t) => {
  const text = lines(
    map(A, 4, 'PRIVATE', '3', 1, 'PROT_READ'),
    map(B, 4, 'SHARED', '5</dev/zero>'),
    map(A + 2 ** 32, 4, 'PRIVATE', DATA, 2 ** 20),
  );
  played(t, text, (player) => {
    assert.deepEqual(words(player, 1, A), [-2, 1]);
    assert.deepEqual(words(player, 1, B), [0, 0]);
    assert.equal(words(player, 1, A + 2 ** 32)[0], 1, 'memory');
  });
  in_machine('16M', () => {
    const totals = play_text(text, { folder: '/proc/nowhere' });
    assert.deepEqual(totals.mismatches, {});
    assert.equal(live_counts().pageins, 0);
  });
});
test('a page that holds something else is told', (t) => {
  const { path: folder, remove } = temporary_folder();
  t.after(remove);
  const spoiled = new Int32Array((16 * P) / 4);
  for (let i = 0; i < 16; i++) {
    for (const at of [i * 1024, i * 1024 + 1022]) spoiled.set([-1 - FIRST_NAME, i], at);
  }
  spoiled[3 * 1024 + 1] = 5;
  spoiled[3 * 1024 + 1023] = 5;
  writeFileSync(join(folder, `${FIRST_NAME}`), new Uint8Array(spoiled.buffer));
  in_machine('16M', () => {
    assert.throws(
      () => play_text(lines(map(A, 8, 'PRIVATE', LIBC)), { folder }),
      /page 5 of file 2/,
    );
  });
});
