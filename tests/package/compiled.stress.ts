/*
 * All quick tests of the façade on the compiled package and the oldest Node that it promises, and
 * the commands on both: compiled.slow.test.ts, package.slow.test.ts and live.slow.test.ts, which
 * draw, without drawing.
 */
import { join } from 'node:path';
import { play_whole } from '../../tools/whole.ts';

const files = ['compiled', 'package', '../../src/bin/live'].map((name) => `${name}.slow.test.ts`);
play_whole(
  files.map((file) => join(import.meta.dirname, file)),
  'KMEM_COMPILED',
  /^# (pass \d+)$/gm,
);
