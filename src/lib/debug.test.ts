/*
 * Shows the levels of debugging: given to boot, by the environment, to a running machine and as a
 * variable; that each sets its variables for all threads; that `true` is advanced with what only a
 * boot can set; that what a boot sets by itself counts; what is refused, with the words that are
 * known; and that the errors of free tell who did what before.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import {
  type Address,
  type BootOptions,
  boot,
  current,
  KernelPanic,
  type Machine,
} from './index.ts';

let machine: Machine;
const up = (o: BootOptions = {}): Machine => (machine = boot({ memory: '8M', cpus: 2, ...o }));
afterEach(() => {
  delete process.env['KMEM_DEBUG'];
  try {
    current()?.shutdown();
  } catch {} // of a machine that was stopped
});
const says = (): unknown[] => [
  machine.debug(),
  machine.sysctl('debug.level'),
  machine.sysctl('vm.stack.enable'),
  machine.sysctl('vm.stack.interval'),
];

test('a level that boot is given is set, and can be changed', () => {
  up({ debug: 'simple' });
  assert.deepEqual(says(), ['simple', 'simple', 1, 524_288]);
  assert.equal(machine.debug('paranoid'), 'simple');
  assert.deepEqual(says(), ['paranoid', 'paranoid', 1, 1]);
  const t = machine.type('sessions');
  const at = t.alloc(100);
  assert.equal(machine.sysctl('vm.stack.samples'), 1);
  t.free(at);
  assert.equal(machine.sysctl('debug.level', 'advanced'), 'paranoid');
  assert.deepEqual(says(), ['advanced', 'advanced', 1, 8192]);
  assert.equal(machine.debug('off'), 'advanced');
  assert.deepEqual(says(), ['off', 'off', 0, 524_288]);
  machine.check();
});
test('without a word it is off; the environment may say one, and boot has the last', () => {
  up();
  assert.equal(machine.debug(), 'off');
  machine.shutdown();
  process.env['KMEM_DEBUG'] = 'advanced';
  up();
  assert.equal(machine.debug(), 'advanced');
  machine.shutdown();
  up({ debug: false });
  assert.equal(machine.debug(), 'off');
});
test('true is advanced, and what only a boot can set', () => {
  up({ debug: true });
  assert.deepEqual(says(), ['advanced', 'advanced', 1, 8192]);
  const t = machine.type('sessions');
  const [a, b] = [t.alloc(100), t.alloc(100)];
  t.free(a);
  t.free(b);
  assert.throws(() => t.free(a), {
    code: 'EFAULT',
    message: /a free block of 512 bytes: freed already, if/,
  });
  machine.sysctl('vm.redzone.enable', 0);
  const [c, d] = [t.alloc(100), t.alloc(100)];
  t.free(c);
  t.free(d);
  assert.throws(() => t.free(c), KernelPanic, 'INVARIANTS are on');
});
test('a tunable of the boot counts for more than what its level would set', () => {
  up({ debug: 'paranoid', set: { 'vm.memguard.frequency': 0, 'vm.redzone.enable': 0 } });
  assert.deepEqual(says(), ['paranoid', 'paranoid', 1, 1]);
  assert.equal(machine.sysctl('vm.memguard.frequency'), 0);
  assert.equal(machine.sysctl('vm.redzone.enable'), 0);
  machine.debug('paranoid');
  assert.equal(machine.sysctl('vm.memguard.frequency'), 1000, 'a running machine does as told');
});
test('what a boot sets by itself stays, whatever the level says; off is as at boot', () => {
  const [enable, stacks] = ['vm.redzone.enable', 'vm.redzone.stacks'];
  up({ debug: 'simple', set: { [enable]: 1, 'vm.stack.interval': 64 } });
  assert.deepEqual(says(), ['simple', 'simple', 1, 64]);
  assert.equal(machine.sysctl(enable), 1);
  machine.debug('off');
  assert.equal(machine.sysctl(enable), 0, 'a level that is set later counts');
  machine.shutdown();
  up({ debug: true, set: { [stacks]: 0, [enable]: 0 } });
  assert.deepEqual([machine.sysctl(enable), machine.sysctl(stacks)], [0, 0]);
  machine.shutdown();
  up();
  const first = machine.sysctl(stacks);
  machine.debug('paranoid');
  assert.notEqual(machine.sysctl(stacks), first);
  machine.debug('off');
  assert.equal(machine.sysctl(stacks), first);
});
test('a word that is no level is refused with those that are', () => {
  const refused = { code: 'EINVAL', message: /no level: give off, simple, advanced, paranoid/ };
  assert.throws(() => boot({ debug: 'loud' as 'off' }), refused);
  assert.throws(() => boot({ debug: '' as 'off' }), refused);
  assert.throws(() => boot({ debug: 1 as unknown as true }), { code: 'EINVAL' });
  process.env['KMEM_DEBUG'] = 'yes';
  assert.throws(() => boot(), { ...refused, message: /KMEM_DEBUG=yes/ });
  delete process.env['KMEM_DEBUG'];
  up();
  for (const wrong of ['loud', '', null, 2, {}]) {
    assert.throws(() => machine.debug(wrong as 'off'), refused, `${wrong}`);
  }
  assert.throws(() => machine.sysctl('debug.level', 'loud'), { code: 'EINVAL' });
  assert.throws(() => machine.sysctl('debug.level', 'offer'), { code: 'EINVAL' });
  assert.equal(machine.debug(), 'off', 'nothing has changed');
});
test('what is refused says who did what before, once somebody keeps that', () => {
  up();
  const t = machine.type('sessions');
  const refused = (free: () => void): { stacks?: string[] } => {
    try {
      free();
    } catch (e) {
      assert.equal((e as { code: string }).code, 'EFAULT');
      return e as { stacks?: string[] };
    }
    assert.fail('it was not refused');
  };
  const plain = t.alloc(100);
  t.free(plain);
  assert.equal(refused(() => t.free(plain)).stacks, undefined, 'nobody kept anything');
  machine.sysctl('vm.audit.zones', 'sessions');
  function connect(): Address {
    return t.alloc(100);
  }
  function close(at: Address): void {
    t.free(at);
  }
  const at = connect();
  const { stacks } = refused(() => t.free((at + 16) as Address));
  assert.match(stacks?.join('\n') ?? '', /^ {2}alloc by cpu0 .*:\n {4}#0 connect at .*debug\.test/);
  close(at);
  const twice = refused(() => t.free(at)).stacks?.join('\n') ?? '';
  assert.match(twice, /^ {2}free by cpu0 .*:\n {4}#0 close at .*\n {2}alloc by .*connect at/s);
  machine.check();
});
