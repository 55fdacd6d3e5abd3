/*
 * Shows: kmem bench contig prints a row for each size and a document with --json; in a memory that
 * is nearly full of pages the algorithms differ as they are to: before 2004 everything is written,
 * in 2004 what lies in one place, with relocation it moves; wrong options are told in one line.
 * By what means: the command on a small machine, one request for each algorithm.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BENCH_HELP, bench_main } from './bench.ts';
import { UsageError } from './usage.ts';

/** What the command prints. */
function printed(args: string[]): string {
  const { write } = process.stdout;
  let text = '';
  process.stdout.write = (some: string | Uint8Array) => {
    text += String(some);
    return true;
  };
  try {
    assert.equal(bench_main(args), 0);
  } finally {
    process.stdout.write = write;
  }
  return text;
}
const SMALL = ['contig', '--rounds=1', '--memory=16M', '--pages=64', '--in-use=90'];

test('the algorithms differ in what they do', () => {
  const { rounds, cells } = JSON.parse(printed([...SMALL, '--json']));
  assert.equal(rounds, 1);
  assert.deepEqual(
    cells.map((c: { algorithm: string; pages: number }) => [c.algorithm, c.pages]),
    [
      ['old', 64],
      ['2004', 64],
      ['relocation', 64],
    ],
  );
  const [old, in2004, relocation] = cells;
  assert.ok(old.moved === 0 && old.written > 1000, JSON.stringify(old));
  assert.ok(in2004.served === 1 && in2004.moved === 0, JSON.stringify(in2004));
  assert.ok(in2004.written > 0 && in2004.written < 500, JSON.stringify(in2004));
  assert.ok(relocation.served === 1 && relocation.written === 0, JSON.stringify(relocation));
  assert.ok(relocation.moved > 0 && relocation.moved <= 64, JSON.stringify(relocation));
});
test('a table for people', () => {
  const text = printed([...SMALL.slice(0, 3), '--pages=4', '--in-use=50']);
  assert.match(text, /^50 % in use\n/);
  assert.match(text, /old +2004 +relocation\n/);
  assert.match(text, /\n {6}4 +100 % /);
  assert.match(BENCH_HELP, /kmem bench contig/);
});
test('what is wrong with a command line', () => {
  const refused = (text: RegExp, args: string[]): void => {
    assert.throws(
      () => bench_main(args),
      (e) => e instanceof UsageError && text.test(e.message),
    );
  };
  refused(/say which/, []);
  refused(/say which/, ['config']);
  refused(/--rounds 0/, ['contig', '--rounds=0']);
  refused(/--memory 1M/, ['contig', '--memory=1M']);
  refused(/--pages x/, ['contig', '--pages=x']);
  refused(/--in-use 99/, ['contig', '--in-use=99']);
  refused(/Unknown option/, ['contig', '--no']);
});
