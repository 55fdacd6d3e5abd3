/*
 * Shows that whoever starts a program says by its environment how its machine is booted: tunables,
 * kernel options, the level of debugging and the folder of dumps; which of them count for more
 * than what the program says; and that what is wrong is refused with the variable's own words.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, test } from 'node:test';
import { opt } from '../sys/machine/opt.ts';
import { boot, current, type KmemError } from './index.ts';

const NAMES = ['KMEM_SET', 'KMEM_OPTIONS', 'KMEM_DEBUG', 'KMEM_DUMP'] as const;
function says(env: Partial<Record<(typeof NAMES)[number], string>>): void {
  for (const name of NAMES) {
    delete process.env[name];
    if (env[name] !== undefined) process.env[name] = env[name];
  }
}
afterEach(() => {
  says({});
  try {
    current()?.shutdown();
  } catch {} // of a machine that was stopped
});
const refused = (text: RegExp) => (e: KmemError) => e.code === 'EINVAL' && text.test(e.message);
const small = { memory: '4M', cpus: 2 };

test('KMEM_OPTIONS: kernel options that are on, whatever boot is given', () => {
  says({ KMEM_OPTIONS: ' WITNESS, INVARIANTS ' });
  const machine = boot({ ...small, options: { WITNESS: false } });
  assert.deepEqual([opt.WITNESS, opt.INVARIANTS, opt.QUARANTINE], [true, true, false]);
  machine.shutdown();
  says({ KMEM_OPTIONS: 'WITNES' });
  assert.throws(() => boot(small), refused(/kernel option 'WITNES': there is no such/));
});
test('KMEM_DEBUG=true is what boot({ debug: true }) is, for a boot that says nothing of it', () => {
  says({ KMEM_DEBUG: 'true' });
  const machine = boot(small);
  assert.equal(machine.debug(), 'advanced');
  assert.deepEqual([opt.INVARIANTS, opt.QUARANTINE], [true, true]);
  machine.shutdown();
  assert.equal(boot({ ...small, debug: 'simple' }).debug(), 'simple');
  assert.equal(opt.INVARIANTS, false);
});
test('KMEM_DUMP: the folder in which a panic leaves a dump, unless boot names one', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'kmem-env-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  says({ KMEM_DUMP: folder });
  const machine = boot(small);
  t.mock.method(console, 'error', () => {});
  assert.throws(() => machine.sysctl('debug.kdb.panic', 1), /kdb_sysctl_panic/);
  assert.match(readdirSync(folder).join(), /^kmem-[\da-f]+-\d+-\d+\.core$/);
});
test('KMEM_DUMP: false in the program is the last word', () => {
  says({ KMEM_DUMP: 'x'.repeat(5000) });
  assert.throws(() => boot(small), /dump: the path has 5000 bytes/);
  boot({ ...small, dump: false }).shutdown();
});
