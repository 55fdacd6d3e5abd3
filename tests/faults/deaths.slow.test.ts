/*
 * Shows that threads may be killed in any call of the façade: a few dozen here, a
 * thousand in deaths.stress.ts.  The others go on, the machine stays whole.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { host_sees_threads } from '../../src/sys/machine/host.ts';
import { SEED, ways } from '../../src/sys/machine/seed.test.lib.ts';
import { deaths } from './deaths.lib.ts';

const skip = !host_sees_threads();
for (const [name, options] of ways([
  ['INVARIANTS, page daemon', { options: { INVARIANTS: true }, pagedaemon: true }],
  ['two domains', { domains: 2 }],
] as const)) {
  test(`killed over all calls: ${name}`, { skip }, async (t) => {
    const d = await deaths(12, SEED, options);
    t.diagnostic(`seed ${SEED}: ${JSON.stringify(d)}`);
    assert.equal(d.kills, 12);
    assert.ok(d.calls > 0);
  });
}
