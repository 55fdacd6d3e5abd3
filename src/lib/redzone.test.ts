/*
 * Shows redzones as a program has them: switched on while it runs or by the boot, they change
 * nothing for whoever stays in his blocks; what is written beside one is told with the program's
 * own line; frees of what is no block are refused, with what it is; and a thread that has loaded
 * the core alone refuses the blocks of others rather than damage them.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { kconsole } from '../sys/machine/kconsole.ts';
import { kernel_parts, type MallocDetect } from '../sys/machine/parts.ts';
import { redzone_check } from '../sys/kmem/redzone.ts';
import { type Address, boot, type Machine } from './index.ts';
import { fails } from './fails.test.lib.ts';

const SIZES = [0, 1, 16, 100, 256, 600, 2040, 2048, 4096, 50_000];
function on(run: (machine: Machine, said: string[]) => void): void {
  const { print } = kconsole;
  for (const INVARIANTS of [false, true]) {
    const said: string[] = [];
    kconsole.print = (text) => void said.push(text);
    const set = { 'vm.redzone.enable': 1 };
    const machine = boot({ memory: '8M', cpus: 2, options: { INVARIANTS }, set });
    try {
      run(machine, said);
      assert.deepEqual(redzone_check(), []);
      assert.deepEqual(said, []);
      machine.check();
    } finally {
      machine.shutdown();
      kconsole.print = print;
    }
  }
}

describe('redzones of a program', () => {
  test('blocks, views, sizes, realloc, and all ways to allocate', async () => {
    on((machine) => {
      const type = machine.type('session');
      for (const size of SIZES) {
        const at = type.alloc(size, { zero: true });
        assert.equal(at % (size >= 4096 ? 4096 : 16), 0);
        assert.equal(type.usableSize(at), size);
        machine.bytes(at, size).fill(0x5a);
        const more = type.realloc(at, size + 3);
        assert.ok(machine.bytes(more, size).every((b) => b === 0x5a));
        const less = type.realloc(more, size >> 1);
        assert.ok(machine.bytes(less, size >> 1).every((b) => b === 0x5a));
        type.free(less);
        const tried = type.tryAlloc(size);
        assert.ok(tried !== undefined);
        type.free(tried);
      }
      {
        using block = type.block(300);
        assert.equal(block.bytes.length, 300);
        block.bytes.fill(1);
      }
      const { address, byteLength } = type.allocText('grün');
      assert.equal(byteLength, 5);
      type.free(address);
      assert.equal(type.stats.inUse, 0);
    });
  });
  test('what is written beside a block is told with the lines of the program', () => {
    on((machine, said) => {
      const type = machine.type('session');
      machine.sysctl('vm.redzone.types', 'session');
      const at = type.alloc(40);
      machine.bytes((at + 40) as Address, 2).fill(0);
      type.free(at);
      assert.match(said[0], /^REDZONE: Buffer overflow detected\. 2 bytes corrupted after 0x/);
      const own = said[0].split('\n').filter((line) => /redzone\.test\.[jt]s:\d+/.test(line));
      assert.ok(own.length >= 2, said[0]);
      const [allocation, free] = said[0].split('Free backtrace:\n');
      assert.match(allocation, /backtrace:\n#0 .*redzone\.test\.[jt]s/);
      assert.match(free, /^#0 .*redzone\.test\.[jt]s/);
      said.length = 0;
    });
  });
  test('frees of what is no block are refused, and nothing is lost', () => {
    on((machine) => {
      const type = machine.type('session');
      for (const size of [40, 2040, 9000]) {
        const at = type.alloc(size);
        const wrong = [at + 4, at - 256, at - 4096, at + 16, at - 2048];
        for (const p of wrong) {
          const e = fails('EFAULT', () => type.free(p as Address));
          assert.match(e.message, /is no address of a block of type 'session': it is /);
        }
        assert.match(
          fails('EFAULT', () => type.free((at + 8) as Address)).message,
          new RegExp(`8 bytes into a block of ${size} bytes of type 'session' \\(redzone\\)`),
        );
        const before = fails('EFAULT', () => type.usableSize((at - 16) as Address));
        assert.match(before.message, /it is 16 bytes before a block of/);
        fails('EFAULT', () => type.realloc((at - 256) as Address, 10));
        type.free(at);
        fails('EFAULT', () => type.free(at));
        fails('EFAULT', () => type.realloc(at, 10));
        assert.equal(type.stats.inUse, 0);
      }
    });
  });
  test('a second free is told as one', () => {
    const machine = boot({ memory: '8M', cpus: 2, options: { INVARIANTS: false } });
    machine.sysctl('vm.redzone.enable', 1);
    const type = machine.type('session');
    const at = type.alloc(40);
    type.free(at);
    const e = fails('EFAULT', () => type.free(at));
    const text = "a block of 40 bytes of type 'session' (redzone) that was freed already";
    assert.ok(e.message.endsWith(text), e.message);
    machine.shutdown();
  });
  test('a thread with the core alone leaves them as they are', () => {
    const machine = boot({ memory: '8M', cpus: 2, set: { 'vm.redzone.enable': 1 } });
    const type = machine.type('session');
    const blocks = [40, 2040, 9000].map((size) => type.alloc(size));
    const table = kernel_parts as { detect?: MallocDetect };
    const { detect } = table;
    delete table.detect; // as in such a thread
    for (const at of blocks) {
      const e = fails('EFAULT', () => type.free(at));
      assert.match(e.message, /perhaps of a detector: load 'kmem'/);
    }
    const plain = type.alloc(40);
    assert.equal(type.usableSize(plain), 64);
    type.free(plain);
    table.detect = detect;
    for (const at of blocks) type.free(at);
    assert.equal(type.stats.inUse, 0);
    machine.check();
    machine.shutdown();
  });
});
