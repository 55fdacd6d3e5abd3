/*
 * Shown: operations on address spaces come in the order in which they can be played,
 * whatever order the recording has: children that are seen before their parent knows them,
 * calls of several threads that overlap, numbers that are used again, processes that end in
 * the middle of calls.
 * By what means: recordings of a few lines; the operations as one word each.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { modelled, read_text } from '../read/strace.test.lib.ts';
import {
  V_ADDRESS,
  V_FILE,
  V_OP,
  V_PID,
  V_SPACE,
  V_TO,
  V_TO_LENGTH,
  VM_BRK,
  VM_COLUMNS,
  VM_EXEC,
  VM_EXIT,
  VM_FORK,
  VM_FREE,
  VM_MMAP,
  VM_MPROTECT,
  VM_MREMAP,
  VM_MUNMAP,
  VM_START,
} from '../ring/vm_events.ts';

const WORDS: Record<number, string> = {
  [VM_START]: 'start',
  [VM_FORK]: 'fork',
  [VM_EXEC]: 'exec',
  [VM_EXIT]: 'exit',
  [VM_FREE]: 'free',
  [VM_MMAP]: 'mmap',
  [VM_MUNMAP]: 'munmap',
  [VM_MPROTECT]: 'mprotect',
  [VM_MREMAP]: 'mremap',
  [VM_BRK]: 'brk',
};
/** Who, which space, what; of a fork the child and its space, else the address. */
function words(text: string): string[] {
  const read = read_text(text);
  assert.deepEqual(read.document.malformed, [], text);
  modelled(read); // all that the operations promise holds
  return Array.from({ length: read.rows.length / VM_COLUMNS }, (_, i) => {
    const row = read.rows.subarray(i * VM_COLUMNS, (i + 1) * VM_COLUMNS);
    const op = row[V_OP];
    const who = `${row[V_PID]}/${row[V_SPACE]} ${WORDS[op]}`;
    if (op === VM_FORK) return `${who} ${row[V_TO]}/${row[V_TO_LENGTH]}`;
    return op > VM_FREE ? `${who} ${row[V_ADDRESS].toString(16)}` : who;
  });
}
function lines(...list: string[]): string {
  return `${list.join('\n')}\n`;
}
const MAP = (pid: number, at: string): string =>
  `${pid} mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x${at}000`;
const UNMAP = (at: string): string => `munmap(0x${at}000, 4096`;
const FORK = 'clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD';
const THREAD = 'clone3({flags=CLONE_VM|CLONE_FS|CLONE_THREAD|CLONE_SETTLS, stack=0x7f}';

test('a fork copies, vfork and CLONE_VM share until execve or exit, threads for good', () => {
  const text = lines(
    MAP(1, 'a'),
    `1 ${FORK}) = 2`,
    MAP(2, 'b'),
    '1 vfork( <unfinished ...>',
    MAP(3, 'c'),
    '3 execve("x", ["x"], 0x1 /* 2 vars */) = 0',
    '1 <... vfork resumed>) = 3',
    MAP(3, 'd'),
    `1 ${THREAD}, 88) = 4`,
    MAP(4, 'e'),
    '1 clone(child_stack=0x7f, flags=CLONE_VM|SIGCHLD) = 5',
    MAP(5, 'f'),
    '5 exit(0) = ?',
    '5 +++ exited with 0 +++',
    '1 exit_group(0) = ?',
    '4 +++ exited with 0 +++',
    '1 +++ exited with 0 +++',
    '2 +++ killed by SIGKILL +++',
  );
  assert.deepEqual(words(text), [
    '1/1 start',
    '1/1 mmap a000',
    '1/1 fork 2/2',
    '2/2 mmap b000',
    '1/1 fork 3/1',
    '3/1 mmap c000',
    '3/3 exec',
    '3/3 mmap d000',
    '1/1 fork 4/1',
    '4/1 mmap e000',
    '1/1 fork 5/1',
    '5/1 mmap f000',
    '5/1 exit',
    '4/1 exit',
    '1/1 exit',
    '1/1 free',
    '2/2 exit',
    '2/2 free',
  ]);
});

test("a child's lines before its parent's result: the fork is played there", () => {
  const text = lines(
    MAP(1, 'a'),
    `1 ${FORK} <unfinished ...>`,
    MAP(7, 'b'),
    `7 ${FORK}) = 8`,
    MAP(8, 'c'),
    '8 exit_group(0) = ?',
    '1 <... clone resumed>, child_tidptr=0x7f) = 7',
    MAP(1, 'd'),
  );
  assert.deepEqual(words(text), [
    '1/1 start',
    '1/1 mmap a000',
    '1/1 fork 7/2',
    '7/2 mmap b000',
    '7/2 fork 8/3',
    '8/3 mmap c000',
    '8/3 exit',
    '8/3 free',
    '1/1 mmap d000',
  ]);
});

test('two forks on their way: each child comes to its own parent', () => {
  const ends = ['1 <... clone resumed>) = 8', '2 <... clone resumed>) = 7'];
  for (const order of [ends, [...ends].reverse()]) {
    const text = lines(
      MAP(1, 'a'),
      MAP(2, 'b'),
      `1 ${FORK} <unfinished ...>`,
      `2 ${FORK} <unfinished ...>`,
      MAP(7, 'c'),
      MAP(8, 'd'),
      ...order,
    );
    assert.deepEqual(words(text), [
      '1/1 start',
      '1/1 mmap a000',
      '2/2 start',
      '2/2 mmap b000',
      '2/2 fork 7/3',
      '7/3 mmap c000',
      '1/1 fork 8/4',
      '8/4 mmap d000',
    ]);
  }
});

test("a process that was there before is nobody's child, even while another forks", () => {
  const text = lines(
    `1 ${FORK} <unfinished ...>`,
    MAP(5, 'a'),
    '1 <... clone resumed>) = 9',
    MAP(9, 'b'),
  );
  assert.deepEqual(words(text), [
    '1/1 start',
    '5/2 start',
    '5/2 mmap a000',
    '1/1 fork 9/3',
    '9/3 mmap b000',
  ]);
  // The same when the fork fails, or its process is killed in it.
  const fails = '1 <... clone resumed>) = -1 EAGAIN (Resource temporarily unavailable)';
  for (const end of [fails, '1 +++ killed by SIGKILL +++', '1 <... clone resumed>) = ?']) {
    const some = words(lines(`1 ${FORK} <unfinished ...>`, MAP(5, 'a'), end));
    assert.deepEqual(some.slice(0, 3), ['1/1 start', '5/2 start', '5/2 mmap a000']);
  }
});

test('a recording that ends before the parent knows its child: the oldest fork had it', () => {
  const text = lines(MAP(1, 'a'), `1 ${FORK} <unfinished ...>`, MAP(7, 'b'), MAP(7, 'c'));
  assert.deepEqual(words(text).slice(2), ['1/1 fork 7/2', '7/2 mmap b000', '7/2 mmap c000']);
  assert.equal(read_text(text).document.plan.guessed, 1);
});

test('a child that runs on for long is not waited for without end', () => {
  const many = Array.from({ length: 40_000 }, () => '7 close(3) = 0');
  const before = [MAP(1, 'a'), '1 vfork( <unfinished ...>', MAP(7, 'b'), ...many];
  const { document } = read_text(lines(...before, '1 <... vfork resumed>) = 7', MAP(1, 'd')));
  assert.equal(document.plan.guessed, 1);
  assert.deepEqual(document.plan.planned, { mmap: 3, vfork: 1 });
  assert.deepEqual(document.plan.not_played, { close: 40_000 });
});

test('what a call on its way takes away has gone before another thread maps there', () => {
  const start = [MAP(1, 'a'), `1 ${THREAD}, 88) = 2`];
  const begun = ['1/1 start', '1/1 mmap a000', '1/1 fork 2/1'];
  const unmap = lines(
    ...start,
    `2 ${UNMAP('a')} <unfinished ...>`,
    MAP(1, 'a'),
    '1 mprotect(0xa000, 4096, PROT_NONE) = 0',
    '2 <... munmap resumed>) = 0',
  );
  assert.deepEqual(words(unmap), [
    ...begun,
    '2/1 munmap a000',
    '1/1 mmap a000',
    '1/1 mprotect a000',
  ]);
  const remap = lines(
    ...start,
    '2 mremap(0xa000, 4096, 8192, MREMAP_MAYMOVE <unfinished ...>',
    MAP(1, 'a'),
    '2 <... mremap resumed>) = 0xc000',
  );
  assert.deepEqual(words(remap), [...begun, '2/1 mremap a000', '1/1 mmap a000']);
  // One that takes away may need that another one did.
  const chain = lines(
    ...start,
    `1 ${THREAD}, 88) = 3`,
    MAP(1, 'c'),
    `3 ${UNMAP('c')} <unfinished ...>`,
    '2 mremap(0xa000, 4096, 8192, MREMAP_MAYMOVE <unfinished ...>',
    MAP(1, 'a'),
    '2 <... mremap resumed>) = 0xc000',
    '3 <... munmap resumed>) = 0',
  );
  assert.deepEqual(words(chain).slice(5), ['3/1 munmap c000', '2/1 mremap a000', '1/1 mmap a000']);
  // Two that wait for each other, which only a damaged recording has, are played all the same.
  const ring = lines(
    ...start,
    MAP(1, 'c'),
    `1 ${THREAD}, 88) = 3`,
    '2 mremap(0xa000, 4096, 4096, MREMAP_MAYMOVE <unfinished ...>',
    '3 mremap(0xc000, 4096, 4096, MREMAP_MAYMOVE <unfinished ...>',
    '2 <... mremap resumed>) = 0xc000',
    '3 <... mremap resumed>) = 0xa000',
  );
  assert.equal(read_text(ring).document.plan.planned.mremap, 2);
  // A failed one takes nothing; one elsewhere is waited for by nobody.
  const failed = lines(
    ...start,
    `2 ${UNMAP('a')} <unfinished ...>`,
    MAP(1, 'a'),
    '2 <... munmap resumed>) = -1 EINVAL (Invalid argument)',
  );
  assert.deepEqual(words(failed), [...begun, '1/1 mmap a000']);
  const elsewhere = lines(
    ...start,
    `2 ${UNMAP('f')} <unfinished ...>`,
    MAP(1, 'a'),
    '2 <... munmap resumed>) = 0',
  );
  assert.deepEqual(words(elsewhere), [...begun, '1/1 mmap a000', '2/1 munmap f000']);
  // Another space has a range of its own there.
  const other = lines(
    ...start,
    `1 ${FORK}) = 3`,
    `2 ${UNMAP('a')} <unfinished ...>`,
    MAP(3, 'a'),
    '2 <... munmap resumed>) = 0',
  );
  assert.deepEqual(words(other).slice(3), ['1/1 fork 3/2', '3/2 mmap a000', '2/1 munmap a000']);
});

test('a number that is used again is a new process', () => {
  const text = lines(
    `1 ${FORK}) = 2`,
    MAP(2, 'a'),
    '2 exit_group(0) = ?',
    '2 +++ exited with 0 +++',
    `1 ${FORK} <unfinished ...>`,
    MAP(2, 'b'),
    '1 <... clone resumed>) = 2',
    MAP(2, 'c'),
  );
  assert.deepEqual(words(text), [
    '1/1 start',
    '1/1 fork 2/2',
    '2/2 mmap a000',
    '2/2 exit',
    '2/2 free',
    '1/1 fork 2/3',
    '2/3 mmap b000',
    '2/3 mmap c000',
  ]);
  // Without `+++` lines (-qqq), and with an end that nobody saw.
  const quiet = text.replace('2 +++ exited with 0 +++\n', '');
  assert.deepEqual(words(quiet), words(text));
  const unseen = lines(`1 ${FORK}) = 2`, MAP(2, 'a'), `1 ${FORK}) = 2`, MAP(2, 'b'));
  assert.deepEqual(words(unseen), [
    '1/1 start',
    '1/1 fork 2/2',
    '2/2 mmap a000',
    '2/2 exit',
    '2/2 free',
    '1/1 fork 2/3',
    '2/3 mmap b000',
  ]);
});

test('threads that were on their way when their process ended change nothing', () => {
  const text = lines(
    MAP(1, 'a'),
    `1 ${THREAD}, 88) = 2`,
    '2 read(0,  <unfinished ...>',
    `1 ${FORK}) = 3`,
    '3 exit_group(1 <unfinished ...>',
    '1 exit_group(0) = ?',
    MAP(2, 'b'),
    '2 <... read resumed> <unfinished ...>) = ?',
    '3 <... exit_group resumed>) = ?',
    '2 +++ exited with 0 +++',
    '1 +++ exited with 0 +++',
    '3 +++ exited with 1 +++',
  ).replace(/^2 mmap.*$/m, '2 futex(0x1, FUTEX_WAKE) = 0');
  assert.deepEqual(words(text), [
    '1/1 start',
    '1/1 mmap a000',
    '1/1 fork 2/1',
    '1/1 fork 3/2',
    '3/2 exit',
    '3/2 free',
    '2/1 exit',
    '1/1 exit',
    '1/1 free',
  ]);
  const { plan } = read_text(text).document;
  assert.deepEqual(plan.planned, { exit_group: 2, clone: 1, clone3: 1, mmap: 1 });
  assert.deepEqual(plan.not_played, { futex: 1, read: 1 });
});

test('execve ends the other threads; in one of these, it goes on under the first number', () => {
  const text = lines(
    MAP(1, 'a'),
    `1 ${THREAD}, 88) = 2`,
    `1 ${THREAD}, 88) = 3`,
    '1 pause( <unfinished ...>',
    '2 execve("/bin/true", ["true"], 0x7f /* 35 vars */ <unfinished ...>',
    '3 +++ exited with 0 +++',
    '1 <... pause resumed>) = ?',
    '1 +++ superseded by execve in pid 2 +++',
    '1 <... execve resumed>) = 0',
    MAP(1, 'b'),
    '1 +++ exited with 0 +++',
  );
  assert.deepEqual(words(text), [
    '1/1 start',
    '1/1 mmap a000',
    '1/1 fork 2/1',
    '1/1 fork 3/1',
    '3/1 exit',
    '1/1 exit',
    '2/1 fork 1/1',
    '2/1 exit',
    '1/1 free',
    '1/2 exec',
    '1/2 mmap b000',
    '1/2 exit',
    '1/2 free',
  ]);
});

test('the break, files, and what fails', () => {
  const read = read_text(
    lines(
      '1 brk(NULL) = 0x5000',
      '1 brk(0x9000) = 0x9000',
      `1 ${FORK}) = 2`,
      '2 brk(0x7000) = 0x7000',
      '1 mmap(NULL, 9, PROT_READ, MAP_PRIVATE, 3</lib/a>, 0) = 0xa000',
      '1 mmap(NULL, 9, PROT_READ, MAP_PRIVATE, 4, 0) = 0xb000',
      '2 mmap(NULL, 9, PROT_READ, MAP_PRIVATE, 5</lib/b>, 0) = 0xc000',
      '2 mmap(NULL, 9, PROT_READ, MAP_PRIVATE, 3</lib/a>, 0) = 0xd000',
      '1 mmap(NULL, 9, PROT_READ, MAP_PRIVATE, 9, 0) = -1 EBADF (Bad file descriptor)',
      '1 madvise(0xa000, 4096, MADV_HUGEPAGE) = 0',
      '1 execve("/no", ["no"], 0x1) = -1 ENOENT (No such file or directory)',
    ),
  );
  assert.deepEqual(read.files, ['', '', '/lib/a', '/lib/b']);
  const { plan } = read.document;
  assert.deepEqual(plan.planned, { mmap: 4, brk: 3, clone: 1 });
  assert.deepEqual(plan.refused, { execve: 1, mmap: 1 });
  assert.deepEqual(plan.not_played, { madvise: 1 });
  const model = modelled(read);
  const sizes = [...model.spaces.values()].map((space) => space.pages.size);
  assert.deepEqual(sizes, [4 + 2, 2 + 2], 'the break of a child is its own');
});

test('files of mappings, without their names beside the descriptors', () => {
  const map = (pid: number, fd: number): string =>
    `${pid} mmap(NULL, 9, PROT_READ, MAP_PRIVATE, ${fd}, 0) = 0xa000`;
  const read = read_text(
    lines(
      map(1, 3),
      '1 openat(AT_FDCWD, "/lib/a\\303\\251", O_RDONLY|O_CLOEXEC) = 3',
      map(1, 3),
      '1 dup2(3, 7) = 7',
      '1 fcntl(7, F_DUPFD_CLOEXEC, 10) = 10',
      '1 close(3) = 0',
      map(1, 3),
      map(1, 7),
      `1 ${FORK}) = 2`,
      '2 open("b", O_RDWR) = 3',
      map(2, 3),
      map(1, 3),
      `2 ${THREAD.replace('CLONE_FS', 'CLONE_FILES')}, 88) = 4`,
      '4 memfd_create("m", 0) = 8',
      map(2, 8),
      '1 execve("x", ["x"], 0x1) = 0',
      map(1, 7),
      map(1, 10),
      '2 close_range(3, 9, 0) = 0',
      map(2, 7),
      '2 openat(AT_FDCWD, 0x7f12, O_RDONLY) = 3',
      map(2, 3),
      '2 openat(AT_FDCWD, "/no", O_RDONLY) = -1 ENOENT (No such file or directory)',
    ),
  );
  assert.deepEqual(read.document.malformed, []);
  const names: string[] = [];
  for (let at = 0; at < read.rows.length; at += VM_COLUMNS) {
    if (read.rows[at + V_OP] === VM_MMAP) names.push(read.files[read.rows[at + V_FILE]]);
  }
  const [a, none] = ['/lib/a\u00e9', ''];
  assert.deepEqual(names, [none, a, none, a, 'b', none, 'm', a, none, none, none]);
});
