/*
 * Shown: each form that a line of strace can have is taken apart as it should be, and what
 * is none of them is called so, with a reason; arguments are cut where they end; calls on
 * memory become the numbers that a player needs.
 * By what means: tables of lines as strace 4 to 6 write them, with their parts beside them.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  VM_ADVICE_DISCARD,
  VM_ANON,
  VM_BRK,
  VM_EXCL,
  VM_FIXED,
  VM_KEEP,
  VM_MADVISE,
  VM_MINHERIT,
  VM_MLOCKALL,
  VM_MMAP,
  VM_MPROTECT,
  VM_MREMAP,
  VM_MSYNC,
  VM_MUNMAP,
  VM_NORESERVE,
  VM_PRIVATE,
  VM_SHARED,
} from '../ring/vm_events.ts';
import { detect_format } from './detect_format.ts';
import { descriptor_of, number_of, split_args, unescaped } from './strace_args.ts';
import {
  is_strace_call,
  LINE_BAD,
  LINE_CALL,
  LINE_EXITED,
  LINE_KILLED,
  LINE_NOTE,
  LINE_RESUMED,
  LINE_RESUMED_UNFINISHED,
  LINE_SIGNAL,
  LINE_SPLIT,
  LINE_SUPERSEDED,
  LINE_UNFINISHED,
  StraceLine,
} from './strace_line.ts';
import { type MemoryCall, memory_call } from './strace_memory.ts';

const PREFIXES: [prefix: string, pid: number][] = [
  ['', 0],
  ['1234 ', 1234],
  ['7     ', 7],
  ['4194303 ', 4194303],
  ['[pid  1234] ', 1234],
  ['[pid 123456] ', 123456],
  ['1234<redis-server> ', 1234],
  ['[pid  1234<sh>] ', 1234],
  ["1234<t> /* 1 in strace's PID NS */ ", 1234],
];
const CLOCKS = [
  '',
  '12:30:01 ',
  '12:30:01.123456 ',
  '1795244560.946801 ',
  '1795244560.946801234 ',
  '1795244560 ',
  '     0.000012 ',
  '12:30:01 (+     0.000012) ',
  '1795244560.946801 [00007f04ab6b98d9] ',
  '[00007f04ab6b98d9] ',
  '[????????????????] ',
  '[ 435] ',
  '12:30:01 [  59] [00007f04ab6b98d9] ',
];

test('whatever stands in front, the rest is the same', () => {
  const line = new StraceLine();
  for (const [prefix, pid] of PREFIXES) {
    for (const clock of CLOCKS) {
      const text = `${prefix}${clock}close(3)        = 0`;
      assert.equal(line.parse(text), LINE_CALL, text);
      assert.deepEqual([line.pid, line.name, line.args, line.result], [pid, 'close', '3', 0], text);
      assert.ok(is_strace_call(text), text);
      assert.equal(detect_format(Buffer.from(`${text}\n`)), 'strace', text);
      assert.equal(line.parse(`${prefix}${clock}+++ exited with 3 +++`), LINE_EXITED);
      assert.deepEqual([line.pid, line.status], [pid, 3], text);
      assert.equal(line.parse(`${prefix}${clock}<... read resumed>"a", 9) = 1`), LINE_RESUMED);
      assert.deepEqual([line.pid, line.name, line.args], [pid, 'read', '"a", 9']);
    }
  }
});

test('calls and their results', () => {
  const cases: [text: string, args: string, result: number, error?: string][] = [
    ['close(3) = 0', '3', 0],
    ['getpid() = 12', '', 12],
    ['exit_group(0)                     = ?', '0', Number.NaN],
    ['read(0, 0x7f, 1) = ? <unavailable>', '0, 0x7f, 1', Number.NaN],
    ['pause() = ? ERESTARTNOHAND (To be restarted if no handler)', '', Number.NaN],
    ['close(3) = -1 EBADF (Bad file descriptor)', '3', -1, 'EBADF'],
    ['close(3) = -1 EBADF (Bad file descriptor) (INJECTED)', '3', -1, 'EBADF'],
    ['close(3) = -1 EBADF (Bad file descriptor) <0.000012>', '3', -1, 'EBADF'],
    ['foo(1) = -1 (errno 523)', '1', -1, '(errno 523)'],
    ['times({x=1}) = -1', '{x=1}', -1],
    ['brk(NULL) = 0x561c40ef3000 <0.000010>', 'NULL', 0x561c40ef3000],
    ['open("a", 0) = 3</tmp/a> <0.1>', '"a", 0', 3],
    ['open("a", 0) = 3</tmp/a) = 5>', '"a", 0', 3],
    ['fcntl(3, F_GETFL) = 0x8002 (flags O_RDWR|O_LARGEFILE)', '3, F_GETFL', 0x8002],
    ['poll([{fd=3}], 1, 0) = 1 ([{fd=3, revents=POLLIN}])', '[{fd=3}], 1, 0', 1],
    ['write(1, "f(x) = 5\\n", 9) = 9', '1, "f(x) = 5\\n", 9', 9],
    ['write(1, ") = 5", 5) = 5', '1, ") = 5", 5', 5],
    ['write(1, "a\\") = 7 \\\\"..., 99) = 99', '1, "a\\") = 7 \\\\"..., 99', 99],
    ['sendto(3, "é(\\303", 3, 0, NULL, 0) = 3', '3, "é(\\303", 3, 0, NULL, 0', 3],
    ['read(3, <unfinished ...>) = ?', '3, ', Number.NaN],
    ['wait4(-1, [{WIFEXITED(s) && WEXITSTATUS(s) == 0}], 0, NULL) = 17', '', 17],
    ['syscall_0x1ff(0x1, 0x2) = -1 ENOSYS (Function not implemented)', '0x1, 0x2', -1, 'ENOSYS'],
    ['clone3({flags=X} => {parent_tid=[2]}, 88) = 2<t>', '{flags=X} => {parent_tid=[2]}, 88', 2],
  ];
  const line = new StraceLine();
  for (const [text, args, result, error = ''] of cases) {
    assert.equal(line.parse(text), LINE_CALL, text);
    if (args !== '') assert.equal(line.args, args, text);
    assert.deepEqual([line.result, line.error], [result, error], text);
    assert.equal(line.name, text.slice(0, text.indexOf('(')), text);
  }
});

test('the other kinds of lines', () => {
  const cases: [kind: number, text: string, parts?: Partial<StraceLine>][] = [
    [LINE_UNFINISHED, 'read(0,  <unfinished ...>', { name: 'read', args: '0, ' }],
    [LINE_UNFINISHED, 'vfork( <unfinished ...>', { name: 'vfork', args: '' }],
    [LINE_UNFINISHED, 'vfork(<unfinished ...>', { name: 'vfork', args: '' }],
    [LINE_UNFINISHED, 'a({x=1} <unfinished ...>', { args: '{x=1}' }],
    [LINE_UNFINISHED, 'execve("t", 0x7 <pid changed to 12 ...>', { args: '"t", 0x7' }],
    [LINE_RESUMED, '<... wait4 resumed>NULL, 0, NULL) = 1', { args: 'NULL, 0, NULL', result: 1 }],
    [LINE_RESUMED, '<... close resumed>) = 0', { name: 'close', args: '', result: 0 }],
    [LINE_RESUMED, '<... close resumed> )      = 0', { name: 'close', result: 0 }],
    [LINE_RESUMED, '<... read resumed> <unfinished ...>) = ?', { args: '', result: Number.NaN }],
    [LINE_RESUMED_UNFINISHED, '<... read resumed>"ab" <unfinished ...>', { args: '"ab"' }],
    [LINE_SIGNAL, '--- SIGCHLD {si_signo=SIGCHLD, si_status=0} ---'],
    [LINE_SIGNAL, '--- SIGSEGV (Segmentation fault) @ 0 (0) ---'],
    [LINE_SIGNAL, '--- stopped by SIGSTOP ---'],
    [LINE_EXITED, '+++ exited with 255 +++', { status: 255 }],
    [LINE_KILLED, '+++ killed by SIGPIPE +++'],
    [LINE_KILLED, '+++ killed by SIGSEGV (core dumped) +++'],
    [LINE_KILLED, '+++ killed by SIGRT_1 +++'],
    [LINE_SUPERSEDED, '12 +++ superseded by execve in pid 34 +++', { pid: 12, status: 34 }],
    [LINE_NOTE, 'strace: Process 77 attached', { status: 77 }],
    [LINE_NOTE, 'Process 77 attached', { status: 77 }],
    [LINE_NOTE, 'Process 77 detached', { status: 0 }],
    [LINE_NOTE, 'strace: [ Process PID=1 runs in x32 mode. ]'],
    [LINE_NOTE, '[ Process PID=1 runs in 32 bit mode. ]'],
    [LINE_NOTE, ' > /usr/lib/libc.so.6(__libc_start_main+0x85) [0x27305]'],
    [LINE_NOTE, '% time     seconds  usecs/call     calls    errors syscall'],
    [LINE_NOTE, '------ ----------- ----------- --------- --------- ----------------'],
    [LINE_NOTE, '  0.00    0.000000           0         8           pread64'],
    [LINE_NOTE, '100.00    0.027148          54       495        31 total'],
    [LINE_SPLIT, 'vfork(strace: Process 12 attached', { args: 'vfork(', status: 12 }],
    [LINE_SPLIT, '[pid 5] mmap(NULL, 8, 0strace: Process 12 attached', { status: 12 }],
  ];
  const line = new StraceLine();
  for (const [kind, text, parts = {}] of cases) {
    assert.equal(line.parse(text), kind, text);
    for (const [name, value] of Object.entries(parts)) {
      assert.deepEqual(line[name as keyof StraceLine], value, `${name} of ${text}`);
    }
  }
});

test('what makes no sense is told why', () => {
  const cases: [text: string, reason: RegExp][] = [
    ['', /^an empty line$/],
    ['1234 ', /^only a beginning$/],
    ['1234 12:30:01.5 ', /^only a beginning$/],
    ['hello world', /^no call, signal or end: "hello world"$/],
    [`x${'y'.repeat(100)}`, /^no call, signal or end: "xy{39}"$/],
    ['close(3', /^close without `\) = ` and a result$/],
    ['close(3)', /^close without `\) = ` and a result$/],
    ['close(3) = ', /^close without/],
    ['close(3) = zero', /^close without/],
    ['close(3) = 0x', /^close without/],
    ['close(3) = 12abc', /^close without/],
    ['<... close resumed>', /^close without/],
    ['<... close', /^no call, signal or end/],
    ['+++ exited with +++', /^an end \(`\+\+\+`\) that is none of exited, killed and superseded$/],
    ['+++ exited with 0', /^an end/],
    ['--- SIGCHLD {si_signo=', /^a signal \(`---`\) without its end$/],
    ['--- ---', /^a signal/],
    ['\0\0\0\xff', /^no call, signal or end: /],
  ];
  const line = new StraceLine();
  for (const [text, reason] of cases) {
    assert.equal(line.parse(text), LINE_BAD, text);
    assert.match(line.reason, reason, text);
    assert.ok(!/[\n\0]/.test(line.reason), 'one line');
  }
});

test('arguments end at their commas', () => {
  const cases: [text: string, args: string[]][] = [
    ['', []],
    ['NULL', ['NULL']],
    ['3, "a, b", 4', ['3', '"a, b"', '4']],
    ['3, "a\\", b"..., 4', ['3', '"a\\", b"...', '4']],
    ['{a=1, b=[2, 3]}, 88', ['{a=1, b=[2, 3]}', '88']],
    ['3</a, b>, "", 1', ['3</a, b>', '""', '1']],
    ['3<TCP:[1.1.1.1:1->2.2.2.2:2]>, 9', ['3<TCP:[1.1.1.1:1->2.2.2.2:2]>', '9']],
    ['1</dev/pts/0<char 136:0>>, 2', ['1</dev/pts/0<char 136:0>>', '2']],
    ['MAP_HUGETLB|21<<MAP_HUGE_SHIFT, -1', ['MAP_HUGETLB|21<<MAP_HUGE_SHIFT', '-1']],
    ['["sh", "-c"], 0x7 /* 35 vars, all */', ['["sh", "-c"]', '0x7 /* 35 vars, all */']],
    ['4</x>(deleted), ""..., 8, 0', ['4</x>(deleted)', '""...', '8', '0']],
    ['"never closed, 3', ['"never closed, 3']],
    ['1, /* never closed, 3', ['1', '/* never closed, 3']],
    ['1 < 2, 3', ['1 < 2', '3']],
    [')]}, 1', [')]}, 1']],
  ];
  for (const [text, args] of cases) assert.deepEqual(split_args(text), args, text);
  const numbers: [string | undefined, number][] = [
    ['NULL', 0],
    ['0x10', 16],
    ['-1', -1],
    ['8192', 8192],
    ['0x3 /* PROT_READ|PROT_WRITE */', 3],
    ['', Number.NaN],
    [undefined, Number.NaN],
    ['0x', Number.NaN],
    ['1e3', Number.NaN],
    ['PROT_READ', Number.NaN],
  ];
  for (const [text, n] of numbers) assert.deepEqual(number_of(text), n, String(text));
  assert.deepEqual(descriptor_of('3'), { fd: 3, file: '' });
  assert.deepEqual(descriptor_of('-1'), { fd: -1, file: '' });
  assert.deepEqual(descriptor_of('0xffffffff'), { fd: -1, file: '' });
  assert.deepEqual(descriptor_of('4</a\\74b\\303\\251>'), { fd: 4, file: '/a<bé' });
  assert.equal(descriptor_of('three'), null);
  assert.equal(unescaped('a\\n\\t\\\\\\x41\\60'), 'a\n\t\\A0');
});

const at = 0x7f0000001000;
/** A call as it is written, its result, and what it becomes. */
const MEMORY_CALLS: [call: string, result: number, parts: Partial<MemoryCall>][] = [
  [
    'mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)',
    at,
    { op: VM_MMAP, address: at, length: 8192, prot: 3, flags: VM_PRIVATE | VM_ANON, fd: -1 },
  ],
  [
    'mmap(0x7f0000001000, 62, PROT_READ|PROT_EXEC, MAP_PRIVATE|MAP_FIXED|MAP_DENYWRITE, 3, 38)',
    at,
    { length: 62, prot: 5, flags: VM_PRIVATE | VM_FIXED, fd: 3, file: '', offset: 38 },
  ],
  [
    'mmap(NULL, 4096, PROT_NONE, MAP_SHARED, 3</data/io.db>, 0)',
    at,
    { prot: 0, flags: VM_SHARED, fd: 3, file: '/data/io.db' },
  ],
  [
    'mmap(NULL, 4096, 0, 0x20022, 0xffffffff, 0)',
    at,
    { prot: 0, flags: VM_PRIVATE | VM_ANON, fd: -1 },
  ],
  [
    'mmap(NULL, 4096, 0x3 /* PROT_READ|PROT_WRITE */, 0x4022 /* MAP_PRIVATE|… */, -1, 0)',
    at,
    { prot: 3, flags: VM_PRIVATE | VM_ANON | VM_NORESERVE },
  ],
  [
    'mmap(NULL, 4096, PROT_READ, MAP_SHARED_VALIDATE|MAP_SYNC, 3, 0)',
    at,
    { flags: VM_SHARED, fd: 3 },
  ],
  [
    'mmap(0x1000, 1, PROT_READ, MAP_PRIVATE|MAP_ANON|MAP_FIXED_NOREPLACE|2<<MAP_HUGE_SHIFT, 3, 0)',
    0x1000,
    { flags: VM_PRIVATE | VM_ANON | VM_FIXED | VM_EXCL },
  ],
  ['munmap(0x7f0000001000, 37851)', 0, { op: VM_MUNMAP, address: at, length: 37851 }],
  ['mprotect(0x1000, 4096, PROT_READ|PROT_WRITE)', 0, { op: VM_MPROTECT, prot: 3 }],
  ['pkey_mprotect(0x1000, 4096, PROT_NONE, 1)', 0, { op: VM_MPROTECT, prot: 0 }],
  [
    'mremap(0x1000, 4096, 8192, MREMAP_MAYMOVE)',
    0x9000,
    { op: VM_MREMAP, address: 0x1000, length: 4096, to: 0x9000, to_length: 8192, flags: 0 },
  ],
  [
    'mremap(0x1000, 4096, 4096, MREMAP_MAYMOVE|MREMAP_FIXED|MREMAP_DONTUNMAP, 0x9000)',
    0x9000,
    { to: 0x9000, flags: VM_KEEP },
  ],
  ['madvise(0x1000, 4096, MADV_DONTNEED)', 0, { op: VM_MADVISE, flags: VM_ADVICE_DISCARD }],
  ['madvise(0x1000, 4096, 0x8 /* MADV_FREE */)', 0, { op: VM_MADVISE, flags: 5 }],
  ['madvise(0x1000, 4096, MADV_DONTFORK)', 0, { op: VM_MINHERIT, flags: 2 }],
  ['madvise(0x1000, 4096, MADV_HUGEPAGE)', 0, { op: 0 }],
  ['brk(NULL)', 0x5000, { op: VM_BRK, address: 0x5000 }],
  ['brk(0x6000)', 0x6000, { op: VM_BRK, address: 0x6000 }],
  ['msync(0x1000, 4096, MS_SYNC|MS_INVALIDATE)', 0, { op: VM_MSYNC, flags: 2 }],
  ['mlockall(MCL_CURRENT|MCL_FUTURE)', 0, { op: VM_MLOCKALL, flags: 3 }],
  ['munmap(0x1000, 18446744073709551615)', -1, { length: 2 ** 64 }],
];

test('calls on memory, in numbers', () => {
  for (const [call, result, parts] of MEMORY_CALLS) {
    const [, name, args] = /^(\w+)\((.*)\)$/.exec(call) as unknown as string[];
    const unknown: string[] = [];
    const found = memory_call(name, args, result, (flag) => unknown.push(flag));
    assert.ok(typeof found !== 'string', `${call}: ${found}`);
    for (const [key, value] of Object.entries(parts)) {
      assert.deepEqual(found[key as keyof MemoryCall], value, `${key} of ${call}`);
    }
    assert.deepEqual(unknown, [], call);
  }
});

test('flags that are not known, arguments that make no sense', () => {
  const unknown: string[] = [];
  const add = (flag: string): void => void unknown.push(flag);
  const newer = memory_call('mmap', 'NULL, 1, PROT_READ, MAP_PRIVATE|MAP_NEWER, 3, 0', at, add);
  assert.deepEqual([typeof newer, unknown], ['object', ['MAP_NEWER']]);
  const wrong: [name: string, args: string, reason: string][] = [
    ['mmap', 'NULL, 81x92, PROT_READ, MAP_PRIVATE, 3, 0', 'its length, argument 2, is "81x92"'],
    [
      'mmap',
      'NULL, 8192, PROT_READ|, MAP_PRIVATE, 3, 0',
      'its protection, argument 3, is "PROT_READ|"',
    ],
    ['mmap', 'NULL, 8192, PROT_READ', 'its flags, argument 4, is missing'],
    ['mmap', 'NULL, 1, PROT_READ, MAP_PRIVATE, x, 0', 'its descriptor, argument 5, is "x"'],
    ['munmap', '', 'its address, argument 1, is missing'],
    ['munmap', '-4096, 1', 'its address, argument 1, is "-4096"'],
    ['madvise', '0x1000, 1, whatever', 'its advice, argument 3, is "whatever"'],
  ];
  for (const [name, args, reason] of wrong) {
    assert.equal(memory_call(name, args, 0, add), `${name}: ${reason}`);
  }
});
