/*
 * A file of a saved space, cut off at every length and changed in every byte.
 * space_damage.slow.test.ts, which draws some of them, without drawing.
 */
import { join } from 'node:path';
import { play_whole } from '../../tools/whole.ts';

const file = join(import.meta.dirname, 'space_damage.slow.test.ts');
play_whole([file], 'KMEM_DAMAGE', /^ *# (\d+ bytes of \d+)$/gm);
