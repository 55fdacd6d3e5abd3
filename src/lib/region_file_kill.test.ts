/*
 * Shows: threads that map, write, sync and cut files, open windows on them, and are killed at any
 * moment of it, cost nothing: what they had stored is in the file, and nobody waits for them.
 * By what means: workers that never stop by themselves; region_file.test.lib.ts.  Longer:
 * region_file_kill.stress.ts.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { files_killed } from './region_file.test.lib.ts';

test('three threads on two files, twenty of which are killed', async () => {
  assert.ok((await files_killed('16M', 3, (kills) => kills >= 20)) >= 20);
});
