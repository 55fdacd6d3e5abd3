/*
 * Deaths in a row on the spare slots: all chains, and an heir that dies at each of its points.
 * heirs.slow.test.ts, which draws some of them, without drawing.
 */
import { join } from 'node:path';
import { play_whole } from '../tools/whole.ts';

const file = join(import.meta.dirname, 'heirs.slow.test.ts');
play_whole([file], 'KMEM_KILLS', /^ *# (seeds .*|\d+ of \d+ points)$/gm);
