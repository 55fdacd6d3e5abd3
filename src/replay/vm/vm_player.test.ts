/*
 * Shown: what a recording of system calls does to address spaces: forks copy, vfork and
 * CLONE_VM share until exec or exit, exec and exit free, numbers are used again; calls run at
 * the recorded addresses and change what they changed when they were recorded; what a program
 * uses costs what it must: zeros at first use, a copy at the first write after a fork, nothing
 * for what is shared.  Where memory ends the replay goes on, and nothing is lost.
 * By what means: recordings of a few lines, played in this thread beside a naive model of what
 * is mapped, with all walkers after each operation.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mem } from '../../sys/machine/memory.ts';
import { user_access } from '../../sys/map/vm_bank.ts';
import { vm_page_wire_count } from '../../sys/page/vm_pageq.ts';
import { Deal, may_hold } from './vm_deal.ts';
import { in_machine, pages_of, play_text } from './vm_player.test.lib.ts';
import type { VmPlayer, VmTotals } from './vm_player.ts';
import { live_counts } from './vm_replay.ts';
import { has_spaces, vm_systat_text } from './vm_systat.ts';
import { FIRST_PAGES, WORK_PAGES } from './vm_touch.ts';

const P = 4096;
const A = 0x7f36_1000_0000;
const hex = (n: number): string => `0x${n.toString(16)}`;
const lines = (...list: string[]): string => `${list.join('\n')}\n`;
const RW = 'PROT_READ|PROT_WRITE';
const ANON = 'MAP_PRIVATE|MAP_ANONYMOUS';
const map = (pid: number, at: number, pages: number, prot = RW, flags = ANON): string =>
  `${pid} mmap(NULL, ${pages * P}, ${prot}, ${flags}, -1, 0) = ${hex(at)}`;
const fixed = (pid: number, at: number, pages: number, prot = RW): string =>
  `${pid} mmap(${hex(at)}, ${pages * P}, ${prot}, ${ANON}|MAP_FIXED, -1, 0) = ${hex(at)}`;
const unmap = (pid: number, at: number, pages: number): string =>
  `${pid} munmap(${hex(at)}, ${pages * P}) = 0`;
const fork = (pid: number, child: number): string =>
  `${pid} clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD) = ${child}`;
const exec = (pid: number, what: string): string =>
  `${pid} execve("/bin/${what}", ["${what}"], 0x1 /* 2 vars */) = 0`;
const read = (pid: number, bytes: number): string => `${pid} read(3, "x"..., ${bytes}) = ${bytes}`;

/** First word of a page of a space: the number of the space that wrote it; undefined: none. */
function writer(player: VmPlayer, space: number, at: number): number | undefined {
  let seen: number | undefined;
  user_access(player.map_of(space), at, 4, false, (w) => {
    seen = mem.I32[w / 4];
  });
  return seen;
}
interface Counted {
  totals: VmTotals;
  counts: ReturnType<typeof live_counts>;
}
function play(text: string, before_end?: (player: VmPlayer) => void): Counted {
  return in_machine('16M', () => {
    const totals = play_text(text, { before_end });
    return { totals, counts: live_counts() };
  });
}
/** All calls answered as recorded. */
function good({ totals }: Counted): void {
  assert.deepEqual([totals.mismatches, totals.no_memory, totals.skipped], [{}, {}, {}]);
}

test('new memory is used by its first pages, what is read fills it, a fork parts it', () => {
  const one = play(lines(map(1, A, 64)));
  good(one);
  assert.deepEqual([one.counts.zero_fills, one.totals.touch.stores], [FIRST_PAGES, FIRST_PAGES]);
  const filled = play(lines(map(1, A, 64), read(1, 40 * P)));
  assert.equal(filled.counts.zero_fills, 40 + 1, 'from the second byte on');
  const parted = play(lines(map(1, A, 64), read(1, 40 * P), fork(1, 2)), (player) => {
    const at = A + 39 * P;
    assert.deepEqual([writer(player, 1, at), writer(player, 2, at)], [1, 2]);
    assert.deepEqual([writer(player, 1, A), writer(player, 2, A)], [1, 1], 'not written since');
  });
  good(parted);
  const { counts, totals } = parted;
  assert.equal(totals.fork_pages, 41);
  // Of the pages that both go on with half were used before.
  assert.equal(counts.cow, WORK_PAGES);
  assert.equal(totals.recorded.left, 2);
});

test('what write takes out is loaded, and what has an address is where it says', () => {
  const text = lines(map(1, A, 64, 'PROT_READ'), map(1, A + 2 ** 20, 64), '1 write(1, "x", 8) = 8');
  assert.deepEqual(play(text).totals.touch.loads, FIRST_PAGES + 1);
  const there = lines(
    map(1, A, 64),
    `1 read(0x3, ${hex(A + 50 * P + 5)}, 0x2000) = 0x2000`,
    `1 write(0x1, ${hex(A + 60 * P)}, 0x10) = 0x10`,
    `1 read(0x3, ${hex(A - 2 ** 20)}, 0x10) = 0x10`,
  );
  const { counts } = play(there, (player) => {
    assert.deepEqual(writer(player, 1, A + 50 * P), 1);
  });
  assert.equal(counts.zero_fills, FIRST_PAGES + 3 + 1);
});

test('vfork and CLONE_VM share until exec or exit; exec and exit free', () => {
  const text = lines(
    map(1, A, 8),
    '1 vfork( <unfinished ...>',
    map(2, A + 2 ** 20, 8),
    exec(2, 'true'),
    '1 <... vfork resumed>) = 2',
    map(2, A, 4, 'PROT_READ'),
    '1 clone(child_stack=0x7f, flags=CLONE_VM|SIGCHLD) = 3',
    unmap(3, A, 8),
    '3 exit(0) = ?',
    fork(1, 4),
    exec(1, 'next'),
    '4 exit_group(0) = ?',
  );
  const out = play(text, (player) => {
    assert.equal(pages_of(player, 1).size, 0, 'gone with exec');
    assert.deepEqual([...pages_of(player, 2).values()], [1, 1, 1, 1]);
    assert.equal(player.map_of(3), 0);
    assert.equal(pages_of(player, 4).size, 0);
  });
  good(out);
  const { recorded, calls, holder } = out.totals;
  assert.deepEqual(recorded, { operations: 14, spaces: 4, most_spaces: 3, left: 2 });
  assert.equal(calls.execve, 2);
  assert.deepEqual([holder?.pid, holder?.pages], [2, 16]);
});

test('in place of others, parts, protection, and a number that is used again', () => {
  const text = lines(
    map(1, A, 32),
    fixed(1, A + 4 * P, 8, 'PROT_READ'),
    fixed(1, A - 4 * P, 6),
    unmap(1, A + 6 * P, 2),
    `1 mprotect(${hex(A + 20 * P)}, ${4 * P}, PROT_NONE) = 0`,
    `1 mprotect(${hex(A + 21 * P)}, ${P}, PROT_READ|PROT_WRITE|PROT_EXEC) = 0`,
    fork(1, 2),
    map(2, A + 2 ** 21, 8),
    '2 +++ exited with 0 +++',
    fork(1, 2),
    unmap(2, A, 4),
    '2 +++ killed by SIGKILL +++',
    map(1, 0x5555_0000_0000, 4),
    map(1, 0x40_0000, 4),
  );
  good(play(text));
});

test('calls that failed are not made; one that answers otherwise is told by its line', () => {
  const failed = lines(
    map(1, A, 8),
    '1 mmap(NULL, 0, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = -1 EINVAL (Invalid argument)',
    `1 munmap(${hex(A)}, 32768) = -1 EINVAL (Invalid argument)`,
    `1 mprotect(${hex(A)}, 4096, PROT_NONE) = -1 ENOMEM (Cannot allocate memory)`,
    '1 execve("/bin/no", ["no"], 0x1) = -1 ENOENT (No such file or directory)',
    '1 clone(child_stack=NULL, flags=SIGCHLD) = -1 EAGAIN (Resource temporarily unavailable)',
  );
  const out = play(failed, (player) => assert.equal(pages_of(player, 1).size, 8));
  good(out);
  assert.deepEqual(out.totals.calls, { mmap: 1 });
  // The recorded kernel found a place where nothing was.
  const taken = play(lines(map(1, A, 8), unmap(1, A, 2), map(1, A, 4)));
  assert.deepEqual(taken.totals.mismatches, { mmap: 1 });
  const [first] = taken.totals.different;
  assert.deepEqual(first, { line: 3, what: 'mmap: something was in its place' });
  const odd = in_machine('16M', () =>
    play_text(lines(map(1, A + 5, 1), unmap(1, A + 7, 1)), { short: true }),
  );
  assert.deepEqual(odd.different, [{ line: 1, what: 'mmap: EINVAL' }]);
});

test('a ninth of the places where addresses begin, and a break with something in its way', () => {
  const places = Array.from({ length: 9 }, (_, i) => map(1, (0x70 + i) * 2 ** 40 + 2 ** 24, 4));
  const short = { short: true };
  const out = in_machine('16M', () => play_text(lines(...places), short));
  assert.deepEqual([out.calls, out.mismatches, out.no_memory], [{ mmap: 8 }, { mmap: 1 }, {}]);
  assert.deepEqual(out.different, [{ line: 9, what: 'mmap: ENOMEM: no room at its address' }]);
  const text = lines('1 brk(NULL) = 0x5000', map(1, 0x9000, 1), '1 brk(0xc000) = 0xc000');
  const way = in_machine('16M', () => play_text(text, short));
  assert.deepEqual([way.mismatches, way.no_memory], [{ brk: 1 }, {}]);
});

test('the break goes up and down, and is copied by a fork', () => {
  const at = 0x561c_4000_0000;
  const brk = (pid: number, to: number): string => `${pid} brk(${hex(to)}) = ${hex(to)}`;
  const text = lines(
    `1 brk(NULL) = ${hex(at)}`,
    brk(1, at + 32 * P),
    brk(1, at + 33 * P + 100),
    fork(1, 2),
    brk(2, at + 10 * P),
    brk(1, at + 20 * P),
    brk(2, at),
    brk(2, at + 2 * P),
    exec(1, 'true'),
    '1 brk(NULL) = 0x55d000000000',
    brk(1, 0x55d0_0000_3000),
  );
  const out = play(text, (player) => assert.equal(pages_of(player, 2).size, 2));
  good(out);
  assert.equal(out.totals.calls.brk, 9);
  // A recording that begins in the middle: what is below the first break is not known.
  good(play(lines(brk(1, at + 8 * P), brk(1, at), brk(1, at + 4 * P), brk(1, at - 4 * P))));
});

test('mremap: shorter, longer, elsewhere, with what is in it', () => {
  const B = A + 2 ** 24;
  const text = lines(
    map(1, A, 32),
    read(1, 30 * P),
    `1 mremap(${hex(A)}, ${32 * P}, ${24 * P}, MREMAP_MAYMOVE) = ${hex(A)}`,
    `1 mremap(${hex(A)}, ${24 * P}, ${40 * P}, 0) = ${hex(A)}`,
    fork(1, 2),
    `2 mremap(${hex(A)}, ${40 * P}, ${48 * P}, MREMAP_MAYMOVE) = ${hex(B)}`,
    `1 mremap(${hex(A)}, ${40 * P}, ${8 * P}, MREMAP_MAYMOVE|MREMAP_FIXED, ${hex(B)}) = ${hex(B)}`,
  );
  const out = play(text, (player) => {
    for (const space of [1, 2]) {
      assert.equal(writer(player, space, B), 1, `space ${space}`);
      assert.equal(writer(player, space, A), undefined);
    }
    assert.equal(writer(player, 2, B + 20 * P), 1);
    assert.equal(writer(player, 2, B + 47 * P), 2, 'what it grew by');
  });
  good(out);
  const keeps = lines(
    map(1, A, 4),
    `1 mremap(${hex(A)}, ${4 * P}, ${4 * P}, MREMAP_MAYMOVE|MREMAP_DONTUNMAP) = ${hex(B)}`,
  );
  good(play(keeps, (p) => assert.deepEqual([writer(p, 1, A), writer(p, 1, B)], [0, 1])));
});

test('shared memory after a fork is one; private memory is not what the other wrote', () => {
  const S = A + 2 ** 24;
  const text = lines(
    map(1, S, 4, RW, 'MAP_SHARED|MAP_ANONYMOUS'),
    map(1, A, 4),
    fork(1, 2),
    `2 mremap(${hex(S)}, ${4 * P}, ${4 * P}, MREMAP_MAYMOVE) = ${hex(S + 2 ** 20)}`,
  );
  const out = play(text, (player) => {
    const store = (at: number, value: number, space: number): void => {
      user_access(player.map_of(space), at, 4, true, (w) => void (mem.I32[w / 4] = value));
    };
    store(S + P, 77, 1);
    assert.equal(writer(player, 2, S + 2 ** 20 + P), 77);
    store(S + 2 ** 20 + 3 * P, 78, 2);
    assert.equal(writer(player, 1, S + 3 * P), 78);
    store(S + P, 0, 1);
    store(S + 3 * P, 0, 1);
  });
  good(out);
});

test('MADV_DONTNEED makes private memory zero, in one of two that share it', () => {
  const gone = (pid: number): string => `${pid} madvise(${hex(A)}, ${8 * P}, MADV_DONTNEED) = 0`;
  const text = lines(map(1, A, 16), fork(1, 2), gone(2), '1 madvise(0x7f3610000000, 4096, 5) = 0');
  good(
    play(text, (player) => {
      assert.deepEqual([writer(player, 1, A), writer(player, 2, A)], [1, 0]);
      assert.equal(writer(player, 2, A + 10 * P), 1);
    }),
  );
  const asked = `1 mincore(${hex(A)}, 4096, [1]) = 0`;
  const left_out = play(lines(map(1, A, 4), asked));
  assert.deepEqual(left_out.totals.not_played, { mincore: 1 });
});
test('locks are played: no fork has them, they go with mappings, and nothing is left', () => {
  const lock = (pid: number, name: string, pages: number): string =>
    `${pid} ${name}(${hex(A)}, ${pages * P}) = 0`;
  const text = lines(
    map(1, A, 16),
    lock(1, 'mlock', 8),
    '1 mlockall(MCL_CURRENT|MCL_FUTURE) = 0',
    map(1, A + 2 ** 24, 4),
    fork(1, 2),
    lock(2, 'munlock', 16),
    lock(2, 'mlock', 2),
    `1 munmap(${hex(A)}, ${4 * P}) = 0`,
    `1 msync(${hex(A + 4 * P)}, ${P}, MS_SYNC) = 0`,
    '2 exit_group(0) = ?',
    '1 munlockall() = 0',
    '1 mlockall(MCL_CURRENT) = 0',
  );
  const out = play(text, (player) => {
    assert.equal(vm_page_wire_count(), 16);
    assert.equal(writer(player, 1, A + 5 * P), 1);
  });
  good(out);
  assert.deepEqual(out.totals.not_played, {});
  assert.equal(vm_page_wire_count(), 0, 'at the end all memory is back');
});

test('small machines: calls and uses fail and are counted, and nothing is lost', () => {
  const many = Array.from({ length: 12 }, (_, i) => [
    map(1, A + i * 2 ** 24, 64),
    read(1, 60 * P),
    fork(1, 10 + i),
    read(10 + i, 60 * P),
    ...(i % 3 === 0 ? [`${10 + i} exit_group(0) = ?`] : []),
  ]).flat();
  let failed = 0;
  for (const memory of ['1M', '1280K', '2M', '4M']) {
    const short = { short: true, prove_each: 4 };
    const { touch, no_memory } = in_machine(memory, () => play_text(lines(...many), short));
    failed += touch.failed + Object.keys(no_memory).length;
  }
  assert.ok(failed > 0);
});

test('the page of figures while system calls are played', () => {
  in_machine('16M', () => {
    assert.equal(has_spaces(), false);
    play_text(lines(map(1, A, 8)), {
      before_end: () => {
        assert.equal(has_spaces(), true);
        const [titles, figures, ...rest] = vm_systat_text().split('\n');
        assert.deepEqual(rest, ['']);
        assert.equal(titles.length, figures.length);
        const numbers = figures
          .trim()
          .split(/ +/)
          .map((n) => Number(n.replaceAll(',', '')));
        const [spaces, free, taken, most, faults, zero, copies] = numbers;
        assert.deepEqual([spaces, faults, zero, copies], [1, 8, 8, 0]);
        assert.ok(free > 0 && taken > 8 && most >= taken);
      },
    });
  });
});

test('what may stand in private memory: of itself, and of those before, until they parted', () => {
  const deal = new Deal(2);
  const one = deal.space(1, 0, null, 0);
  const two = deal.space(2, 0, one, 10);
  const three = deal.space(3, 1, two, 20).descent;
  const may = (writer_: number, turn: number): boolean => may_hold(three, writer_, turn);
  assert.deepEqual(
    [may(3, 99), may(2, 19), may(2, 20), may(1, 9), may(1, 10)],
    [true, true, false, true, false],
  );
  assert.equal(may_hold(two.descent, 3, 1), false);
  assert.deepEqual([deal.least(), deal.most_spaces], [0, 3]);
  for (const pid of [1, 2, 3]) deal.task(pid, deal.least(), one);
  assert.deepEqual(
    [1, 2, 3].map((pid) => deal.task_of(pid).player),
    [0, 1, 0],
  );
  deal.task_gone(3);
  deal.task_gone(1);
  assert.equal(deal.least(), 0);
  assert.equal(deal.space(4, 0, null, 0).slot, 3);
  deal.space_gone(2);
  assert.equal(deal.space(5, 0, null, 0).slot, 1, 'used again');
});
