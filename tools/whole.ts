/*
 * whole: stress programs that are test files without drawing.
 *
 *      x.slow.test.ts   draws some of what there is
 *      x.stress.ts      plays the same file with KMEM_X=all, by which that draws nothing
 *
 * What the tests say of themselves is the last line, which is what stress shows.
 */
import { spawnSync } from 'node:child_process';

/** Plays test files whole, and ends this process with how that went. */
export function play_whole(files: readonly string[], word: string, says: RegExp): never {
  const env = { ...process.env, [word]: 'all' };
  const args = ['--test', '--test-concurrency=1', '--test-reporter=tap', ...files];
  const how = { env, encoding: 'utf8', maxBuffer: 2 ** 28 } as const;
  const { status, stdout, stderr } = spawnSync(process.execPath, args, how);
  if (status !== 0) console.log(stdout + stderr);
  const said = [...stdout.matchAll(says)].map(([, line]) => line);
  console.log(said.length > 0 ? said.join('; ') : 'no test said anything');
  process.exit(status ?? 1);
}
