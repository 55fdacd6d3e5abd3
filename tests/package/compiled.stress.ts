/*
 * All quick tests of the façade on the compiled package and the oldest Node that it promises:
 * compiled.slow.test.ts, which draws some of them, without drawing.
 */
import { join } from 'node:path';
import { play_whole } from '../../tools/whole.ts';

const file = join(import.meta.dirname, 'compiled.slow.test.ts');
play_whole([file], 'KMEM_COMPILED', /^# (pass \d+)$/gm);
