/*
 * The examples do what their page says: each is run as a newcomer would run it,
 * and its output compared with the block that README.md shows under its name.
 * Each stays short enough to be read at once.
 *
 * Four have a counterpart in before/, the same program as it is written without
 * kmem.  It is compared with the page in the same way, and both must come to the
 * same result, at the sizes they start with and at others.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';
import { some_of } from '../src/sys/machine/seed.test.lib.ts';

// Leads to './' alone.
const HERE = import.meta.dirname;
const LINES_MAX = 80;
const page = readFileSync(join(HERE, 'README.md'), 'utf8');
const programs = (folder: string): string[] =>
  readdirSync(join(HERE, folder)).filter((f) => f.endsWith('.ts') && !f.endsWith('.test.ts'));
const files = programs('.');
const before = programs('before');

interface Pair {
  /** How many lines of the output are the result. */
  result: number;
  /** Other sizes to run at, and what the result says of them. */
  sizes: Record<string, string>;
}
const PAIRS: Record<string, Pair> = {
  'sessions.ts': { result: 5, sizes: { '333': 'served 666 requests' } },
  'particles.ts': { result: 2, sizes: { '7': '7 steps by 2 workers' } },
  'pipeline.ts': { result: 1, sizes: { '77': '77 blocks of 64K', '1000 4': '1000 blocks of 4K' } },
  'tiles.ts': { result: 1, sizes: { '5000': '5000 tiles served' } },
};

const all = process.env.KMEM_EXAMPLES === 'all';
/**
 * Those that take long run at a smaller size, which they are told, and what the page shows of the
 * size is what is replaced.  With KMEM_EXAMPLES=all they run as the page says.
 */
const SMALLER: Record<string, { args: string[]; shown: (text: string) => string }> = {
  'checkpoints.ts': { args: ['384'], shown: (text) => text.replace('20 MB', '3 MB') },
  'files.ts': {
    args: ['16', '3'],
    shown: (text) =>
      text.replace('64 MB of file, 8 MB', '16 MB of file, 3 MB').replaceAll('1664', '416'),
  },
  'numbers.ts': { args: ['10000000'], shown: (text) => text.replaceAll('0000000', '000000') },
};

/** How this process finds its files, if the runner of the tests started it: faster. */
const preload = process.execArgv.indexOf('--import');
const finds = preload < 0 ? [] : process.execArgv.slice(preload, preload + 2);
/** What a program prints; it prints nothing to stderr, and ends by itself. */
async function output(file: string, args: readonly string[] = []): Promise<string> {
  const { stdout, stderr } = await promisify(execFile)(
    process.execPath,
    [...finds, join(HERE, file), ...args],
    { timeout: 480_000, killSignal: 'SIGKILL' },
  );
  assert.equal(stderr, '', file);
  return stdout;
}
/** The blocks of output that the page shows under a name. */
function blocks(file: string): string[] {
  const section = page.split(/^## /m).find((text) => text.startsWith(`${file}\n`)) ?? '';
  return [...section.matchAll(/^```\n([\s\S]*?)^```$/gm)].map(([, text]) => text);
}
const first = (text: string, lines: number): string[] => text.split('\n').slice(0, lines);

describe('examples', () => {
  test('the page shows each of them, and no others', () => {
    const shown = [...page.matchAll(/^## (\S+\.ts)$/gm)].map((m) => m[1]);
    assert.deepEqual(shown.sort(), files.sort());
  });
  for (const file of files) {
    test(file, async () => {
      const small = all ? undefined : SMALLER[file];
      const shown = blocks(file)[0];
      assert.equal(await output(file, small?.args), small?.shown(shown) ?? shown);
      const lines = readFileSync(join(HERE, file), 'utf8').split('\n').length;
      assert.ok(lines <= LINES_MAX, `${lines} lines: an example is read at once`);
    });
  }
});

describe('examples, and the same without kmem', () => {
  test('each counterpart is compared', () => {
    assert.deepEqual(before.sort(), Object.keys(PAIRS).sort());
  });
  for (const [file, { result, sizes }] of Object.entries(PAIRS)) {
    test(`before/${file} prints what the page says, and the same result`, async () => {
      const [ours, theirs] = blocks(file);
      assert.equal(await output(`before/${file}`), theirs);
      assert.deepEqual(first(theirs, result), first(ours, result));
    });
    const others = Object.entries(sizes);
    for (const [args, says] of all ? others : some_of(others, 1)) {
      test(`${file} ${args}: both come to the same result`, async () => {
        const both = [file, `before/${file}`].map((f) => output(f, args.split(' ')));
        const [ours, theirs] = (await Promise.all(both)).map((text) => first(text, result));
        assert.deepEqual(theirs, ours);
        assert.ok(ours.join('\n').includes(says), `${ours.join('\n')} does not say ${says}`);
      });
    }
  }
});
