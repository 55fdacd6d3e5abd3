/*
 * Shows: of a file of a saved space every byte counts: cut off at any length, or changed in any
 * byte, it is refused, and nothing of it is mapped.
 * By what means: a small file, all its lengths and bytes.
 */
import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, truncateSync, writeSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { maps_all } from '../sys/map/vm_map_check.ts';
import { boot, type Machine, type Space } from './index.ts';
import { spaces_gone } from './space.test.lib.ts';
import { folderEnd, fresh, refusedAt, small_file } from './space_file.test.lib.ts';

let machine: Machine;
let space: Space;
let path = '';
let bytes = new Uint8Array();
before(() => {
  path = fresh();
  small_file(path);
  bytes = readFileSync(path);
  machine = boot({ memory: '4M' });
  space = machine.space('s');
});
after(() => {
  assert.equal(maps_all().length, 1);
  spaces_gone(machine);
  machine.shutdown();
  folderEnd();
});

test('changed in any byte', () => {
  const fd = openSync(path, 'r+');
  for (let at = 0; at < bytes.length; at++) {
    writeSync(fd, Uint8Array.of(bytes[at] ^ (1 + ((at * 37) & 127))), 0, 1, at);
    refusedAt(space, path, `byte ${at}`);
    writeSync(fd, bytes, at, 1, at);
  }
  closeSync(fd);
});
test('cut off at any length', () => {
  for (let n = bytes.length - 1; n >= 0; n--) {
    truncateSync(path, n);
    refusedAt(space, path, `${n} bytes`);
  }
});
