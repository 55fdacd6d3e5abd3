/*
 * Shows: of a file of a saved space every byte counts: cut off at any length, or changed in any
 * byte, it is refused, and nothing of it is mapped.
 * By what means: a small file, and of its lengths and bytes one in ONE_IN, other ones each time
 * (KMEM_SEED).  space_damage.stress.ts takes them all (KMEM_DAMAGE=all); what a byte of the head
 * says is in space_damage.test.ts, byte by byte.
 */
import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, truncateSync, writeSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { dice, SEED } from '../sys/machine/seed.test.lib.ts';
import { maps_all } from '../sys/map/vm_map_check.ts';
import { boot, type Machine, type Space } from './index.ts';
import { spaces_gone } from './space.test.lib.ts';
import { folderEnd, fresh, refusedAt, small_file } from './space_file.test.lib.ts';

/** Of so many bytes that follow each other one is drawn. */
const ONE_IN = process.env.KMEM_DAMAGE === 'all' ? 1 : 8;
const draw = dice(SEED);
function places(n: number): number[] {
  const all: number[] = [];
  for (let at = 0; at < n; at += ONE_IN) all.push(Math.min(n - 1, at + draw(ONE_IN)));
  return all;
}

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

test('changed in any byte', (t) => {
  const fd = openSync(path, 'r+');
  const all = places(bytes.length);
  for (const at of all) {
    writeSync(fd, Uint8Array.of(bytes[at] ^ (1 + ((at * 37) & 127))), 0, 1, at);
    refusedAt(space, path, `byte ${at}`);
    writeSync(fd, bytes, at, 1, at);
  }
  closeSync(fd);
  t.diagnostic(`${all.length} bytes of ${bytes.length}`);
});
test('cut off at any length', () => {
  for (const n of places(bytes.length).reverse()) {
    truncateSync(path, n);
    refusedAt(space, path, `${n} bytes`);
  }
});
