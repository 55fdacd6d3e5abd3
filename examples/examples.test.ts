/*
 * The examples do what their page says: each is run as a newcomer would run it,
 * and its output compared with the block that README.md shows under its name.
 * Each stays short enough to be read at once.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';

const run = promisify(execFile);
const HERE = import.meta.dirname;
const LINES_MAX = 80;
const page = readFileSync(join(HERE, 'README.md'), 'utf8');
const files = readdirSync(HERE).filter((f) => f.endsWith('.ts') && !f.endsWith('.test.ts'));

describe('examples', () => {
  test('the page shows each of them, and no others', () => {
    const shown = [...page.matchAll(/^## (\S+\.ts)$/gm)].map((m) => m[1]);
    assert.deepEqual(shown.sort(), files.sort());
  });
  for (const file of files) {
    test(file, async () => {
      const block = new RegExp(`^## ${file}$[^]*?^\`\`\`\\n([^]*?)^\`\`\`$`, 'm').exec(page);
      assert.ok(block, 'README.md has its output');
      const { stdout, stderr } = await run(process.execPath, [join(HERE, file)], {
        timeout: 60_000,
      });
      assert.equal(stdout, block[1]);
      assert.equal(stderr, '');
      const lines = readFileSync(join(HERE, file), 'utf8').split('\n').length;
      assert.ok(lines <= LINES_MAX, `${lines} lines: an example is read at once`);
    });
  }
});
