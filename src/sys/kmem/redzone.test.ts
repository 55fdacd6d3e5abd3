/*
 * Shows redzones at each size at which something changes: where the user's bytes lie, that a byte
 * written on either side is told with the right side, count and address, and that nothing is told
 * of a block that was used rightly; how they are switched, for whom, and with which stacks; that
 * realloc goes both ways; that frees of what is no block are refused.  With and without
 * INVARIANTS.  The walker proves the bytes that are counted, and that of the zones the rest.
 */
import assert from 'node:assert/strict';
import { after, afterEach, beforeEach, describe, test } from 'node:test';
import { counter_get } from '../machine/counter.ts';
import { kconsole } from '../machine/kconsole.ts';
import { mem, PAGE_SIZE } from '../machine/memory.ts';
import type { malloc_type_t } from '../h/malloc.ts';
import { sysctl_set_number, sysctl_set_text } from '../observe/sysctl.test.lib.ts';
import { uma_check } from '../uma/uma_check.ts';
import { down, panics, up } from '../uma/uma.test.lib.ts';
import { account, account_text } from './kmem.test.lib.ts';
import {
  free,
  M_NOWAIT,
  M_WAITOK,
  M_ZERO,
  malloc,
  malloc_usable_size,
  realloc,
} from './kern_malloc.ts';
import { malloc_type_attach, malloc_type_sums } from './kern_malloc_type.ts';
import { stack_depot_check } from './kern_stack.ts';
import { block_begins, whatis } from './kern_whatis.ts';
import { redzone_check, redzone_roundup, redzone_size } from './redzone.ts';
import { v_extra, v_found } from './redzone_vars.ts';

let t: malloc_type_t;
const said: string[] = [];
const { print } = kconsole;
after(() => {
  kconsole.print = print;
});
afterEach(async () => {
  await down();
  assert.deepEqual(said.splice(0), [], 'all that was said is expected');
});

/** Sizes at which the layout, the class or the kind of block changes, and those beside them. */
const EDGES = [0, 1, 3, 4, 15, 16, 17, 100, 175, 176, 177, 239, 240, 241, 255, 256, 257, 495];
EDGES.push(496, 497, 511, 512, 513, 1007, 1008, 1009, 1024, 1025, 2031, 2032, 2033, 2047, 2048);
EDGES.push(2049, 4079, 4080, 4081, 4095, 4096, 4097, 8176, 8192, 8193, 100_001);

const use = (p: number, size: number): void => void mem.U8.fill(0xa5, p * 4, p * 4 + size);
function sound(): void {
  uma_check();
  const a = account();
  assert.deepEqual([...a.leaked], [], account_text(a));
  assert.equal(a.pages_leaked, 0);
}

for (const INVARIANTS of [false, true]) {
  describe(`INVARIANTS ${INVARIANTS}`, () => {
    beforeEach(() => {
      up({ memory: '4M', options: { INVARIANTS }, set: { 'vm.redzone.enable': 1 } });
      kconsole.print = (text) => void said.push(text);
      t = malloc_type_attach('red');
    });

    test('every size: aligned, zero when asked for, and silent when used rightly', () => {
      for (const size of EDGES) {
        const p = malloc(size, t, M_WAITOK | M_ZERO);
        assert.ok(p > 0);
        const align = size > 2048 ? PAGE_SIZE : redzone_roundup(size);
        assert.equal((p * 4) % align, 0, `${size}`);
        assert.equal(malloc_usable_size(p), size);
        assert.ok(block_begins(p));
        assert.equal(whatis(p), `a block of ${size} bytes of type 'red' (redzone)`);
        assert.deepEqual(redzone_check(), [p]);
        assert.equal(counter_get(v_extra), redzone_size(size) - size);
        for (let i = 0; i < size; i++) assert.equal(mem.U8[p * 4 + i], 0);
        use(p, size);
        free(p, t);
        assert.ok(!block_begins(p), `${size}`);
        assert.deepEqual(redzone_check(), []);
      }
      assert.equal(counter_get(v_extra), 0);
      assert.equal(malloc_type_sums(t).inuse, 0);
      sound();
    });
    test('every size: each byte of each side is told, with its address', () => {
      for (const size of EDGES) {
        for (let i = 0; i < 16; i++) {
          const p = malloc(size, t, M_WAITOK);
          use(p, size);
          const [under, over] = [p * 4 - 1 - i, p * 4 + size + i];
          mem.U8[under] = 0;
          mem.U8.fill(7, over, p * 4 + size + 16);
          free(p, t);
          const [first, second] = said.splice(0).map((text) => text.split('\n'));
          const at = `before 0x${(p * 4).toString(16)} (${size} bytes allocated).`;
          assert.equal(first[0], `REDZONE: Buffer underflow detected. 1 byte corrupted ${at}`);
          const n = 16 - i;
          const behind = `after 0x${(p * 4 + size).toString(16)} (${size} bytes allocated).`;
          const bytes = `${n} byte${n === 1 ? '' : 's'}`;
          assert.equal(
            second[0],
            `REDZONE: Buffer overflow detected. ${bytes} corrupted ${behind}`,
          );
        }
      }
      assert.equal(counter_get(v_found), EDGES.length * 32);
      sound();
    });
    test('realloc goes both ways, keeps what it should, and looks at what it leaves', () => {
      for (const from of EDGES) {
        for (const to of [0, 1, 30, 255, 256, 2040, 5001]) {
          const p = malloc(from, t, M_WAITOK);
          use(p, from);
          const q = realloc(p, to, t, M_WAITOK | M_ZERO);
          assert.notEqual(q, p);
          for (let i = 0; i < to; i++) assert.equal(mem.U8[q * 4 + i], i < from ? 0xa5 : 0);
          assert.equal(malloc_usable_size(q), to);
          mem.U8[q * 4 + to] = 1;
          sysctl_set_number('vm.redzone.enable', 0);
          const plain = realloc(q, 100, t, M_WAITOK);
          assert.match(said.splice(0).join(), /^REDZONE: Buffer overflow detected. 1 byte corr/);
          assert.equal(malloc_usable_size(plain), 128);
          for (let i = 0; i < Math.min(from, to, 100); i++)
            assert.equal(mem.U8[plain * 4 + i], 0xa5);
          sysctl_set_number('vm.redzone.enable', 1);
          const again = realloc(plain, 300, t, M_WAITOK);
          assert.equal(malloc_usable_size(again), 300);
          free(again, t);
          assert.deepEqual(redzone_check(), []);
        }
      }
      sound();
    });
    test('a block knows: they are switched, and types chosen, while blocks live', () => {
      const other = malloc_type_attach('other, with a comma');
      const mine = malloc(50, t, M_WAITOK);
      sysctl_set_text('vm.redzone.types', ' blue , green');
      const plain = malloc(50, t, M_WAITOK);
      assert.equal(malloc_usable_size(plain), 64);
      assert.equal(malloc_usable_size(mine), 50);
      const green = malloc_type_attach('green'); // named before it was there
      const theirs = malloc(50, green, M_WAITOK);
      assert.equal(malloc_usable_size(theirs), 50);
      sysctl_set_text('vm.redzone.types', '*');
      const all = malloc(50, other, M_WAITOK);
      assert.equal(malloc_usable_size(all), 50);
      sysctl_set_number('vm.redzone.enable', 0);
      const off = malloc(50, other, M_WAITOK);
      assert.equal(malloc_usable_size(off), 64);
      assert.equal(redzone_check().length, 3);
      mem.U8[mine * 4 + 50] = 0;
      for (const p of [mine, plain]) free(p, t);
      assert.match(said.splice(0).join(), /overflow detected. 1 byte/);
      for (const p of [all, off]) free(p, other);
      free(theirs, green);
      assert.equal(counter_get(v_extra), 0);
      sound();
    });
    test('a request that fails changes nothing', () => {
      assert.equal(malloc(2 ** 22 - 5000, t, M_NOWAIT), 0);
      assert.equal(malloc_type_sums(t).failed, 1);
      const p = malloc(500, t, M_WAITOK);
      use(p, 500);
      assert.equal(realloc(p, 2 ** 22, t, M_NOWAIT), 0);
      assert.equal(mem.U8[p * 4 + 499], 0xa5);
      assert.deepEqual(redzone_check(), [p]);
      free(p, t);
      sound();
    });
    test('both stacks are told where types are named, or where each is asked for', () => {
      const line = (text: string): number => Number(/redzone\.test\.[jt]s:(\d+)/.exec(text)?.[1]);
      const here = (): number => line(new Error().stack?.split('\n')[2] ?? '');
      let [taken, given] = [0, 0];
      function take(): number {
        taken = here();
        return malloc(77, t, M_WAITOK);
      }
      function give(p: number): string[] {
        mem.U8[p * 4 + 77] = 0;
        given = here();
        free(p, t);
        return said.splice(0).join('\n').split('\n');
      }
      const unknown = '(not known: vm.redzone.stacks keeps those of every request)';
      const stacks: [types: string, stacks: number, kept: boolean, sampled?: boolean][] = [
        ['*', -1, false],
        ['*', 1, true],
        ['red,blue', -1, true],
        ['red', 0, false],
        ['red', 0, true, true], // who asked for it is known by its sample
      ];
      for (const [types, each, kept, sampled] of stacks) {
        sysctl_set_number('vm.stack.interval', 1);
        sysctl_set_number('vm.stack.enable', sampled ? 1 : 0);
        sysctl_set_text('vm.redzone.types', types);
        sysctl_set_number('vm.redzone.stacks', each);
        const p = take();
        const lines = give(p);
        assert.match(lines[0], /^REDZONE: Buffer overflow detected. 1 byte corrupted after 0x/);
        assert.equal(lines[1], 'Allocation backtrace:');
        const second = lines.indexOf('Free backtrace:');
        if (!kept) assert.deepEqual(lines.slice(2, second), [unknown]);
        else {
          assert.match(lines[2], /^#0 take at \/.*redzone\.test\.[jt]s:\d+:\d+$/);
          assert.equal(line(lines[2]), taken + 1);
          assert.match(lines[3], /^#1 TestContext/);
        }
        assert.match(lines[second + 1], /^#0 give at \/.*redzone\.test\.[jt]s:\d+:\d+$/);
        assert.equal(line(lines[second + 1]), given + 1);
      }
      stack_depot_check();
    });
    test('what lies where', () => {
      const p = malloc(2100, t, M_WAITOK);
      const block = "a block of 2100 bytes of type 'red' (redzone)";
      assert.equal(whatis(p + 25), `100 bytes into ${block}`);
      assert.equal(whatis(p - 25), `100 bytes before ${block}`);
      assert.equal(whatis(p + 527), `8 bytes behind ${block}`);
      free(p, t);
    });
    for (const size of [60, 2048, 3000]) {
      test(`frees of what is no block stop the machine: ${size} bytes`, () => {
        const p = malloc(size, t, M_WAITOK);
        const b = p - redzone_roundup(size) / 4;
        assert.ok(!block_begins(b) && malloc_usable_size(b) === 0);
        panics(
          () => free(b, t),
          /free: address \d+ has not been allocated: it is \d+ bytes before/,
        );
      });
      test(`a second free is told as one: ${size} bytes`, () => {
        const p = malloc(size, t, M_WAITOK);
        free(p, t);
        const small =
          /Duplicate free of item \d+: it is a block of 60 bytes of type 'red' \(redzone\)/;
        // Poison, or the page floor, has the header of the others.
        const any = /Duplicate free|has not been allocated|is no item of its slab/;
        panics(() => free(p, t), size === 60 && !INVARIANTS ? small : any);
        said.length = 0;
      });
    }
    test('an address inside a block is no block', () => {
      const p = malloc(60, t, M_WAITOK);
      panics(() => free(p + 4, t), /has not been allocated|is no item of its slab/);
    });
    test('vm.redzone.panic stops the machine after the report', () => {
      sysctl_set_number('vm.redzone.panic', 1);
      const p = malloc(60, t, M_WAITOK);
      mem.U8[p * 4 - 16] = 0;
      panics(() => free(p, t), /panic: Stopping here\.$/);
      assert.match(said.splice(0).join(), /underflow detected. 1 byte corrupted before/);
    });
  });
}
