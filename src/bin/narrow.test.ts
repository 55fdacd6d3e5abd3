/*
 * Shows kmem narrow on a program that really damages its memory: by runs of it one type is left,
 * whichever thread did it and however much the program says; a sound program, one that cannot be
 * run and wrong usage end as they should.  The choice of the next run is tried on names.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { boot } from '../lib/index.ts';
import { damage_of, type Deal, narrow_main, next_deal } from './narrow.ts';
import { UsageError } from './usage.ts';

const program = new URL('./narrow.test.program.ts', import.meta.url).pathname;
afterEach(() => {
  delete process.env.KMEM_SET;
});
async function narrow(...args: string[]): Promise<{ code: number; out: string }> {
  let out = '';
  const code = await narrow_main(args, (text) => {
    out += text;
  });
  return { code, out };
}

for (const what of ['fault', 'thread', 'talk']) {
  test(`the type that does the damage is left: ${what}`, async () => {
    const { code, out } = await narrow('--', process.execPath, program, what);
    const lines = out.trimEnd().split('\n');
    assert.deepEqual(lines.slice(-2), ['the type', '  "cursor"'], out);
    assert.equal(code, 0);
    assert.match(lines[0], /^run {2}1 {2}offset {2}0 of 8 zones {2}damage in zone 64-\d/);
    assert.ok(lines.length <= 14);
  });
}
test('a sound program: no damage is seen, in as many runs as are asked for', async () => {
  const { code, out } = await narrow('--runs', '2', '--', process.execPath, program, 'sound');
  assert.equal(code, 2);
  assert.match(
    out,
    /^run {2}1 .* no damage seen\nrun {2}2 .* no damage seen\nno damage was seen\n$/,
  );
});
test('several types are left where one run is not enough', async () => {
  const { code, out } = await narrow('--runs', '1', '--', process.execPath, program, 'fault');
  assert.equal(code, 1);
  assert.match(out, /\d+ types are left\n(?: {2}".*"\n)*/);
  assert.match(out, /^ {2}"cursor"$/m);
});
test('usage, and what cannot be run', async () => {
  const refused = (args: string[], text: RegExp): Promise<void> =>
    assert.rejects(narrow(...args), (e) => e instanceof UsageError && text.test(e.message));
  await refused([], /^give the command after -- \(kmem narrow --help\)$/);
  await refused(['node'], /^give the command after --/);
  await refused(['--'], /^give the command after --/);
  await refused(['--runs', '13', '--', 'x'], /^--runs 13: 1 to 12/);
  await refused(['--timeout', '-1', '--', 'x'], /--timeout/);
  await refused(['--what', '--', 'x'], /^Unknown option '--what'/);
  await refused(['--', '/no/such/program'], /^\/no\/such\/program: cannot be run: ENOENT$/);
  assert.match((await narrow('--help')).out, /^usage: kmem narrow/);
});

test('the next run is the one that parts the names best', () => {
  assert.deepEqual(next_deal(null, []), { offset: 0, zones: 8 });
  // All begin alike; the second letters differ, and the third ones only a little.
  assert.deepEqual(next_deal(['sax', 'sbx', 'scy', 'sdy'], []), { offset: 1, zones: 8 });
  // 'a' is 97, 'i' is 105: the same modulo 8, not modulo 7.
  assert.deepEqual(next_deal(['a', 'i'], []), { offset: 0, zones: 7 });
  assert.equal(next_deal(['same', 'same'], []), null);
  const done: Deal[] = [];
  for (let deal = next_deal(['ab', 'ac'], done); deal; deal = next_deal(['ab', 'ac'], done)) {
    done.push(deal);
  }
  assert.ok(done.length > 0 && done.every(({ offset }) => offset % 2 === 1), 'the other is one');
});
test('what a program says of damage is read, and nothing else', () => {
  const types = ['a b', 'x", "y', '%s'];
  const line = `Damage in zone 64-3 of types ${types.map((t) => JSON.stringify(t)).join(', ')}`;
  assert.deepEqual(damage_of(`x\n${line}\ny`), { zone: '64-3', types });
  for (const other of ['', 'Damage in zone 64-3', 'Damage in zone 64-3 of types a', `no ${line}`]) {
    assert.equal(damage_of(other), null);
  }
  assert.equal(damage_of('Damage in zone 64-3 of types "a" b"'), null);
});

test('KMEM_SET: tunables of the environment, which count for more than the program', () => {
  process.env.KMEM_SET = ' vm.redzone.enable=1  vm.redzone.types=red,blue ';
  const machine = boot({ memory: '4M', cpus: 2, set: { 'vm.redzone.enable': 0 } });
  assert.equal(machine.sysctl('vm.redzone.enable'), 1);
  assert.equal(machine.sysctl('vm.redzone.types'), 'red,blue');
  machine.shutdown();
  process.env.KMEM_SET = 'no.such=1';
  assert.throws(() => boot({ memory: '4M' }), /boot: set no.such=1: no such tunable/);
  process.env.KMEM_SET = 'vm.redzone.enable';
  assert.throws(() => boot({ memory: '4M' }), /KMEM_SET: 'vm.redzone.enable' is no NAME=VALUE/);
});
