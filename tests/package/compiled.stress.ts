/*
 * All quick tests of the façade on the compiled package and the oldest Node that it promises, and
 * the commands that look at a program on both: compiled.slow.test.ts and live.slow.test.ts, which
 * draw, without drawing.
 */
import { join } from 'node:path';
import { play_whole } from '../../tools/whole.ts';

const files = ['compiled.slow.test.ts', '../../src/bin/live.slow.test.ts'];
play_whole(
  files.map((file) => join(import.meta.dirname, file)),
  'KMEM_COMPILED',
  /^# (pass \d+)$/gm,
);
