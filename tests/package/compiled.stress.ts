/*
 * All quick tests of the façade on the compiled package and the oldest Node that it promises:
 * compiled.slow.test.ts, which draws some of them, without drawing.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

const file = join(import.meta.dirname, 'compiled.slow.test.ts');
const env = { ...process.env, KMEM_COMPILED: 'all' };
const args = ['--test', '--test-reporter=tap', file];
const { status, stdout, stderr } = spawnSync(process.execPath, args, { env, encoding: 'utf8' });
if (status !== 0) console.log(stdout + stderr);
console.log(`${/^# pass (\d+)$/m.exec(stdout)?.[1] ?? 'no'} tests passed`);
process.exit(status ?? 1);
