/*
 * A file of a saved space, cut off at every length and changed in every byte.
 * space_damage.slow.test.ts, which draws some of them, without drawing.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

const file = join(import.meta.dirname, 'space_damage.slow.test.ts');
const env = { ...process.env, KMEM_DAMAGE: 'all' };
const args = ['--test', '--test-reporter=tap', file];
const { status, stdout, stderr } = spawnSync(process.execPath, args, { env, encoding: 'utf8' });
if (status !== 0) console.log(stdout + stderr);
console.log(/^ *# (\d+ bytes of \d+)$/m.exec(stdout)?.[1] ?? 'nothing was changed');
process.exit(status ?? 1);
