/*
 * Every recording, read and played in every way: the tests that draw some of that, without
 * drawing (KMEM_RECORDINGS=all).
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { walk } from '../../tools/source.ts';
import { play_whole } from '../../tools/whole.ts';

const src = join(import.meta.dirname, '..');
const files = ['bin', 'replay']
  .flatMap((folder) => walk(src, folder))
  .map((file) => join(src, file))
  .filter((file) => file.endsWith('.test.ts'))
  .filter((file) => /\b(?:drawn\(|WHOLE\b)/.test(readFileSync(file, 'utf8')));
play_whole(files, 'KMEM_RECORDINGS', /^# (pass \d+)$/gm);
