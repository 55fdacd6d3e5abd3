/*
 * The kernel's tests on threads, with the checks and as programs run: those that draw one of
 * their ways, without drawing (KMEM_SMP=all).
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { walk } from '../../../tools/source.ts';
import { play_whole } from '../../../tools/whole.ts';

const root = join(import.meta.dirname, '../../..');
const files = ['src', 'tests']
  .flatMap((folder) => walk(root, folder))
  .filter((file) => file.endsWith('.test.ts'))
  .map((file) => join(root, file))
  .filter((file) => /\b(?:ways\(|ALL_WAYS\b)/.test(readFileSync(file, 'utf8')));
play_whole(files, 'KMEM_SMP', /^# (pass \d+)$/gm);
