/*
 * Shows: `kmem saved` prints what is in a file of a saved space, as text and as JSON, and tells by
 * one line and its exit code what is wrong with one.
 * By what means: files of a space that is known, one of them damaged; the command itself.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { folder, folderEnd, fresh, small_file } from '../lib/space_file.test.lib.ts';

const KMEM = join(import.meta.dirname, '../../bin/kmem.js');
function saved(...args: string[]): { code: number | null; out: string; err: string } {
  const ran = spawnSync(process.execPath, [KMEM, 'saved', ...args], { encoding: 'utf8' });
  return { code: ran.status, out: ran.stdout, err: ran.stderr };
}
let path = '';
before(() => {
  path = fresh();
  small_file(path);
});
after(folderEnd);

test('the space, its regions, and how much of each has contents', () => {
  const { code, out, err } = saved(path);
  assert.deepEqual([code, err], [0, '']);
  const lines = out.split('\n');
  assert.match(lines[0], /^space {6}'small', saved \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$/);
  assert.deepEqual(lines.slice(1), [
    'file       28672 bytes: all checksums are right',
    'contents   16384 of 53248 bytes',
    '',
    '           ADDRESS         LENGTH  PROT INHERIT       CONTENTS NAME',
    '            0x1000          16384    rw    copy           4096 a',
    '            0x6000          36864    rw    copy          12288 b',
    '',
  ]);
  const { time, ...json } = JSON.parse(saved('--json', path).out);
  assert.ok(Math.abs(time - Date.now()) < 3_600_000);
  const region = { protect: 'rw', inherit: 'copy' };
  assert.deepEqual(json, {
    name: 'small',
    mapped: 53_248,
    contents: 16_384,
    size: 28_672,
    regions: [
      { name: 'a', address: 4096, length: 16_384, ...region, contents: 4096 },
      { name: 'b', address: 24_576, length: 36_864, ...region, contents: 12_288 },
    ],
  });
});
test('damaged, foreign, unreadable, and wrong usage: one line, and a code', () => {
  const [cut, changed, foreign] = [fresh(), fresh(), fresh()];
  const bytes = readFileSync(path);
  writeFileSync(cut, bytes);
  truncateSync(cut, 20_000);
  bytes[bytes.length - 1] ^= 1;
  writeFileSync(changed, bytes);
  writeFileSync(foreign, 'a text');
  const rows: [args: string[], code: number, text: RegExp][] = [
    [[cut], 1, /damaged: it is cut off: 20000 of 28672 bytes are there$/],
    [[changed], 1, /damaged: the contents of 8192 bytes at address 40960$/],
    [[foreign], 2, /it is no saved space$/],
    [[join(folder, 'none')], 2, /it cannot be read: ENOENT$/],
    [[folder], 2, /it cannot be read: EISDIR$/],
    [[], 2, /give one file/],
    [[path, path], 2, /give one file/],
    [['--all', path], 2, /--all/],
  ];
  for (const [args, code, text] of rows) {
    const ran = saved(...args);
    assert.deepEqual([ran.code, ran.out], [code, ''], ran.err);
    assert.match(ran.err, /^kmem saved: [^\n]+\n$/);
    assert.match(ran.err.trim(), text);
  }
});
