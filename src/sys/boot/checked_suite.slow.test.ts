/*
 * Shows that the kernel keeps the rules of its lock letters while its own tests
 * use it: the tests below run once more, each machine a checked one.  Which rule is
 * broken, and where, is in the panic that such a test dies of.
 *
 * Left out are tests that break a rule on purpose, to see that the kernel notices
 * the damage (the rule is faster), and files and tests that would take long under guards
 * and use what others use too.  One file of each group is drawn (KMEM_SEED);
 * checked_suite.stress.ts takes them all (KMEM_CHECKED=all).
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';
import { dice, SEED, some_of } from '../machine/seed.test.lib.ts';

/** Test files below src, and which of their tests are left out; those that use much the same. */
const GROUPS: [path: string, ...left_out: string[]][][] = [
  [
    ['sys/uma/uma_core.test.ts', 'uma_check sees an item in two places'],
    ['sys/uma/uma_zone.test.ts'],
  ],
  [
    ['sys/kmem/malloc.test.ts', 'a garbage type panics', 'and around whole pages, INVARIANTS'],
    ['sys/page/vm_page.test.ts', 'seeded sequences of every operation'],
    ['sys/kmem/kern_stack.test.ts', 'a number that is none'],
    ['sys/kmem/kern_stack_sample.test.ts', 'two threads'],
    ['sys/kmem/redzone.test.ts', 'each byte of each side', 'realloc goes both ways'],
    ['sys/kmem/kern_audit.test.ts', 'two threads'],
    ['lib/debug.test.ts'],
    ['sys/kmem/kern_multizone.test.ts'],
    ['sys/kmem/memguard.test.ts', 'divisors that are none', 'their addresses are nobody'],
  ],
  [
    ['sys/client/mbuf.test.ts', 'an mbuf freed twice'],
    ['sys/client/kern_mbuf_drain.test.ts'],
    ['bin/netstat.test.ts'],
  ],
  [['sys/object/vm_store.test.ts'], ['sys/sync/lock_prof.test.ts'], ['sys/sync/refcount.test.ts']],
  [
    ['sys/observe/sysctl_tree.test.ts'],
    ['sys/observe/memstat.test.ts', 'the independent reader refuses'],
    ['sys/observe/sysctl_netbsd.test.ts'],
    ['sys/observe/sysctl_freebsd.test.ts'],
    ['bin/tools.test.ts'],
  ],
];
const draw = dice(SEED);
const most = process.env.KMEM_CHECKED === 'all' ? Number.POSITIVE_INFINITY : 1;
const FILES = GROUPS.flatMap((group) => some_of(group, most, draw));
const SRC = join(import.meta.dirname, '../..');
/** How this process finds its files, if the runner of the tests started it: faster. */
const preload = process.execArgv.indexOf('--import');
const finds = preload < 0 ? [] : process.execArgv.slice(preload, preload + 2);
const run = promisify(execFile);

describe('the kernel tests on checked machines', { concurrency: 2 }, () => {
  for (const [path, ...left_out] of FILES) {
    test(path, async () => {
      const always = join(import.meta.dirname, 'checked_always.test.lib.ts');
      const skip = left_out.map((name) => `--test-skip-pattern=${name}`);
      const args = [...finds, '--import', always, '--test-reporter=tap', ...skip, join(SRC, path)];
      const env = { ...process.env, NODE_TEST_CONTEXT: undefined }; // a run of its own
      const { stdout } = await run(process.execPath, args, { env, maxBuffer: 2 ** 26 }).catch(
        (e: { stdout: string; stderr: string }) => assert.fail(failures(e.stdout) + e.stderr),
      );
      const passed = Number(/^# pass (\d+)$/m.exec(stdout)?.[1]);
      assert.ok(passed > 0, `${passed} tests passed`);
    });
  }
});
/** What failed, and why: of the tests' output. */
function failures(tap: string): string {
  const lines = tap.split('\n').filter((line) => /^\s*not ok|^\s*error:|panic:/.test(line));
  return `${lines.map((line) => line.trim()).join('\n')}\n`;
}
