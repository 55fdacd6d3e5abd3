/*
 * Deaths in a row on the spare slots: all chains, and an heir that dies at each of its points.
 * heirs.slow.test.ts, which draws some of them, without drawing.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

const file = join(import.meta.dirname, 'heirs.slow.test.ts');
const env = { ...process.env, KMEM_KILLS: 'all' };
const args = ['--test', '--test-reporter=tap', file];
const { status, stdout, stderr } = spawnSync(process.execPath, args, { env, encoding: 'utf8' });
if (status !== 0) console.log(stdout + stderr);
const said = [...stdout.matchAll(/^ *# (seeds .*|\d+ of \d+ points)$/gm)].map(([, line]) => line);
console.log(said.join('; '));
process.exit(status ?? 1);
