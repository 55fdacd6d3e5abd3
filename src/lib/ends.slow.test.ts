/*
 * The end of a machine, met at any moment: some rounds of ends.stress.ts, in a process of
 * its own, because what nobody catches must end it.  A failure shows the seed and what was
 * wrong.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { ALL_WAYS, SEED } from '../sys/machine/seed.test.lib.ts';

const FILE = fileURLToPath(new URL('./ends.stress.ts', import.meta.url));
const ROUNDS = ALL_WAYS ? 12 : 6;

test(`${ROUNDS} machines end in all ways`, async () => {
  const env = { ...process.env, KMEM_STRESS_ROUNDS: `${ROUNDS}` };
  const args = [FILE, `${SEED}`];
  const { stdout } = await promisify(execFile)(process.execPath, args, { env }).catch((e) => e);
  assert.match(stdout, new RegExp(`^${ROUNDS} rounds .* nothing wrong$`, 'm'), stdout);
});
