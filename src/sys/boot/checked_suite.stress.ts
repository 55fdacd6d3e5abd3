/*
 * The kernel's own tests on checked machines: checked_suite.slow.test.ts, which draws one file of
 * each group, without drawing.
 */
import { join } from 'node:path';
import { play_whole } from '../../../tools/whole.ts';

const file = join(import.meta.dirname, 'checked_suite.slow.test.ts');
play_whole([file], 'KMEM_CHECKED', /^# (pass \d+)$/gm);
