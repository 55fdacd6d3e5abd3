/*
 * Shows what kern.stackprof says, by a reader of its bytes that knows the documented layout alone:
 * with an interval of 1 it says to the byte what each place of a program has in use and had in
 * all; and that leaks are told by place, with whose they are and since when.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { sysctl_number } from '../machine/sysctl_decl.ts';
import { M_WAITOK } from '../h/malloc_flags.ts';
import type { malloc_type_t } from '../h/malloc.ts';
import { UMA_ZFLAG_PROGRAM } from '../h/uma.ts';
import { kernel_sysctlbyname, sysctl_read } from '../observe/kern_sysctl.ts';
import { uma_zalloc, uma_zfree } from '../uma/uma_core.ts';
import { down, up } from '../uma/uma.test.lib.ts';
import { uma_zcreate } from '../uma/uma_zone.ts';
import { free, malloc } from './kern_malloc.ts';
import { malloc_type_attach } from './kern_malloc_type.ts';
import { stack_depot_text } from './kern_stack.ts';
import { samples_check } from './kern_stack_sample.ts';
import { stack_leaks } from './kern_stackprof.ts';

const set = (name: string, value: number): void =>
  assert.equal(kernel_sysctlbyname(name, null, sysctl_number('uint', value)).error, 0, name);
let t: malloc_type_t;
beforeEach(() => {
  up({ memory: '8M' });
  t = malloc_type_attach('sessions');
  set('vm.stack.interval', 1);
  set('vm.stack.enable', 1);
});
afterEach(async () => {
  samples_check();
  await down();
});
function connect(size: number): number {
  return malloc(size, t, M_WAITOK);
}
function request(size: number): number {
  return malloc(size, t, M_WAITOK);
}

/** The stream by function of the innermost frame: numbers as the layout has them. */
function read(): Map<string, number[]> {
  const bytes = sysctl_read('kern.stackprof') as Uint8Array;
  const v = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const u64 = (at: number): number => Number(v.getBigUint64(at, true));
  assert.equal(v.getUint32(0, true), 1);
  assert.equal(u64(16), 1, 'the interval');
  assert.ok(Math.abs(u64(24) - Date.now()) < 1e6);
  let at = v.getUint32(8, true);
  const found = new Map<string, number[]>();
  for (let i = 0; i < v.getUint32(4, true); i++) {
    const text = new TextDecoder().decode(
      bytes.subarray(at + 64, at + 64 + v.getUint32(at + 12, true)),
    );
    assert.equal(text === '' ? 0 : text.split('\n').length, v.getUint32(at + 8, true));
    const fn = text.split(' at ')[0];
    assert.ok(!found.has(fn), `${fn} is there twice`);
    found.set(
      fn,
      [16, 24, 32, 40, 48].map((n) => u64(at + n)),
    );
    assert.equal(u64(at + 56) > 0, u64(at + 48) > 0, 'the oldest, if there is one');
    at += v.getUint32(at, true);
  }
  assert.equal(at, bytes.length, 'nothing is left over');
  return found;
}
test('each place: bytes and objects in use, and in all', () => {
  assert.equal(read().size, 0);
  const blocks: number[] = [];
  for (let i = 0; i < 50; i++) {
    blocks.push(connect(100));
    if (i < 20) free(blocks.pop() as number, t);
  }
  const large = request(100_000);
  const said = read();
  assert.deepEqual([...said.keys()].sort(), ['connect', 'request']);
  assert.deepEqual(said.get('connect'), [3000, 30, 5000, 50, 30]);
  assert.deepEqual(said.get('request'), [100_000, 1, 100_000, 1, 1]);
  for (const p of [...blocks, large]) free(p, t);
  assert.deepEqual(read().get('connect'), [0, 0, 5000, 50, 0]);
});
test('what is not known is told as that', () => {
  set('vm.stack.max', 0);
  const p = connect(40);
  assert.deepEqual(read().get(''), [40, 1, 40, 1, 1]);
  free(p, t);
});
test('leaks by place: whose they are, since when, most bytes first', () => {
  const z = uma_zcreate('conn', 64, { flags: UMA_ZFLAG_PROGRAM });
  const of = (size: number): number[] => [request(size), uma_zalloc(z, M_WAITOK)];
  const before = Date.now();
  const [a, item] = of(1000);
  const b = connect(200);
  const rows = stack_leaks();
  assert.deepEqual(
    rows.map((r) => [stack_depot_text(r.stack)[0].split(' at ')[0], r.bytes, r.objects, r.owners]),
    [
      ['request', 1000, 1, [["type 'sessions'", 1000]]],
      ['connect', 200, 1, [["type 'sessions'", 200]]],
      ['of', 64, 1, [["zone 'conn'", 64]]],
    ],
  );
  assert.ok(rows.every((r) => r.oldest >= before - 1 && r.newest <= Date.now() + 1));
  assert.equal(stack_leaks(3_600_000).length, 0, 'nothing is in use for an hour');
  free(a, t);
  free(b, t);
  uma_zfree(z, item);
});
