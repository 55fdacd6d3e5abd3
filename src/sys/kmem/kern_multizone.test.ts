/*
 * Shows several zones for a size class: how many there are, by which rule types are dealt out,
 * that blocks come from the zones of their class and go back there, whoever frees them, that all
 * counts add up, and that damage stays in its class and is told with the types of it.  The rule
 * is written down here a second time, with numbers that were worked out by hand.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { kconsole } from '../machine/kconsole.ts';
import { mem } from '../machine/memory.ts';
import { panic } from '../machine/panic.ts';
import { type malloc_type_t, malloc_type } from '../h/malloc.ts';
import { uma_keg, uma_slab } from '../h/uma.ts';
import { sysctl_read } from '../observe/kern_sysctl.ts';
import { uma_check } from '../uma/uma_check.ts';
import { uma_each_zone, zone_name } from '../uma/uma_int.ts';
import { vtoslab } from '../uma/uma_keg.ts';
import { zone_present, zones_present } from '../uma/uma_stats.ts';
import { down, panics, up } from '../uma/uma.test.lib.ts';
import { account, account_text } from './kmem.test.lib.ts';
import { free, M_NOWAIT, M_WAITOK, malloc, malloc_freed_last, realloc } from './kern_malloc.ts';
import { free_at, malloc_at } from './kern_malloc.ts';
import {
  malloc_type_attach,
  malloc_type_create,
  malloc_type_sums,
  malloc_uninit,
} from './kern_malloc_type.ts';
import { multizone_class, multizone_matches, multizones } from './kern_multizone.ts';

const { print } = kconsole;
afterEach(async () => {
  kconsole.print = print;
  await down();
});
const number = (name: string): number => {
  const bytes = sysctl_read(name) as Uint8Array;
  return new DataView(bytes.buffer, bytes.byteOffset).getInt32(0, true);
};
function many(n: number, set: Record<string, number> = {}): void {
  up({ memory: '8M', options: { MALLOC_DEBUG_MAXZONES: n }, set });
}
const zone_of = (p: number): string => zone_name(uma_keg.zones[uma_slab.keg[vtoslab(p)]]);
function sound(): void {
  uma_check();
  const a = account();
  assert.deepEqual([...a.leaked], [], account_text(a));
  assert.equal(a.pages_leaked, 0);
}

test('how many zones: the option, the tunable, a debug boot', async () => {
  const asked: [options: object, zones: number, INVARIANTS: boolean][] = [
    [{ options: { INVARIANTS: false } }, 1, false],
    [{ options: { INVARIANTS: false, MALLOC_DEBUG_MAXZONES: 1 } }, 1, false],
    [{ options: { INVARIANTS: false, MALLOC_DEBUG_MAXZONES: 5 } }, 5, true],
    [{ options: { MALLOC_DEBUG_MAXZONES: true } }, 8, true],
    [{ options: { MALLOC_DEBUG_MAXZONES: 5 }, set: { 'debug.malloc.numzones': 3 } }, 3, true],
    [{ options: { MALLOC_DEBUG_MAXZONES: 5 }, set: { 'debug.malloc.numzones': 9 } }, 5, true],
    [{ set: { 'debug.malloc.numzones': 4 } }, 4, true],
    [{ set: { 'debug.malloc.zone_offset': 4 } }, 8, true],
    [{ memory: '16M', debug: true }, 8, true],
    [{ memory: '8M', debug: true }, 1, true],
    [{ memory: '16M', debug: true, options: { MALLOC_DEBUG_MAXZONES: 0 } }, 1, true],
  ];
  for (const [options, zones] of asked) {
    up({ memory: '8M', ...options });
    assert.equal(multizones(), zones, JSON.stringify(options));
    assert.equal(number('debug.malloc.numzones'), zones);
    let n = 0;
    uma_each_zone((z) => {
      if (/^64(?:-\d+)?$/.test(zone_name(z))) n++;
    });
    assert.equal(n, zones);
    await down();
  }
  for (const wrong of [-1, 1.5, 33]) {
    assert.throws(
      () => up({ options: { MALLOC_DEBUG_MAXZONES: wrong } }),
      /MALLOC_DEBUG_MAXZONES: /,
    );
  }
});
test('the class of a type is a letter of its name', () => {
  // 'a' is 97: 97 % 8 = 1, 97 % 5 = 2; 'b' 98: 2, 3; 'ü' is 195 188: 195 % 8 = 3, 188 % 8 = 4.
  assert.equal(multizone_class('ab', 8, 0), 1);
  assert.equal(multizone_class('ab', 8, 1), 2);
  assert.equal(multizone_class('ab', 8, 2), 1);
  assert.equal(multizone_class('ab', 5, 1), 3);
  assert.equal(multizone_class('ü', 8, 0), 3);
  assert.equal(multizone_class('ü', 8, 1), 4);
  assert.equal(multizone_class('', 8, 7), 0);
  assert.equal(multizone_class('ab', 1, 1), 0);
  many(8, { 'debug.malloc.zone_offset': 3 });
  assert.equal(number('debug.malloc.zone_offset'), 3);
  for (const [name, at] of [
    ['socket', 'k'],
    ['cred', 'd'],
    ['ab', 'b'],
    ['x', 'x'],
  ]) {
    const t = malloc_type_attach(name);
    assert.equal(malloc_type.subzone[t], at.charCodeAt(0) % 8, name);
  }
  const long = malloc_type_attach('0123456789012345678901234567890 and what is cut off');
  assert.equal(malloc_type.subzone[long], '3'.charCodeAt(0) % 8);
});
test('blocks come from the zones of their class, and go back there', () => {
  many(5, { 'debug.malloc.zone_offset': 0 });
  const names = ['alpha', 'beta', 'gamma', 'delta', 'epsilon', 'zeta'];
  const types = names.map((name) => malloc_type_attach(name));
  const before = malloc_type_sums(types[0]).requests;
  const all: [p: number, t: malloc_type_t][] = [];
  for (let i = 0; i < 400; i++) {
    const t = types[i % types.length];
    const size = [10, 60, 200, 1000, 4000, 9000][(i % 7) % 6];
    const p = malloc(size, t, M_WAITOK);
    const zone = malloc_type.subzone[t];
    if (size <= 4096) assert.match(zone_of(p), new RegExp(`^\\d+-${zone}$`));
    all.push([p, t]);
  }
  const inuse = types.map((t) => malloc_type_sums(t).inuse);
  assert.equal(
    inuse.reduce((a, b) => a + b),
    400,
  );
  uma_check();
  const rows = zones_present().map(({ name }) => name);
  for (let i = 0; i < 5; i++) assert.ok(rows.includes(`64-${i}`));
  for (const [i, [p, t]] of all.entries()) {
    if (i % 3 === 0) all[i][0] = realloc(p, 70, t, M_WAITOK);
  }
  for (const [p, t] of all) free(p, t);
  const [p, q] = [malloc(60, types[0], M_NOWAIT), malloc(60, types[1], M_NOWAIT)];
  free(p, types[0]);
  free(q, types[1]);
  assert.ok(malloc_freed_last(p, 2) && malloc_freed_last(q, 2), 'each of its zone');
  for (const t of types) assert.equal(malloc_type_sums(t).inuse, 0);
  assert.ok(malloc_type_sums(types[0]).requests > before);
  uma_each_zone((z) => {
    const { used, allocs, frees } = zone_present(z);
    if (/^\d+-\d+$/.test(zone_name(z))) assert.equal(used, allocs - frees);
  });
  const anchor = malloc(16, types[2], M_WAITOK);
  mem.I32[anchor] = 0;
  const at = malloc_at(100, types[3], anchor);
  assert.match(zone_of(at), new RegExp(`-${malloc_type.subzone[types[3]]}$`));
  free_at(anchor, types[3]);
  free(anchor, types[2]);
  sound();
});
test('a block that outlives its type is counted where it came from', () => {
  many(5, { 'debug.malloc.zone_offset': 0 });
  kconsole.print = () => {};
  const [gone, other] = [malloc_type_attach('gone'), malloc_type_attach('other')];
  assert.notEqual(malloc_type.subzone[gone], malloc_type.subzone[other]);
  const p = malloc(60, gone, M_WAITOK);
  malloc_uninit(gone);
  sound();
  free(p, other);
  assert.equal(malloc_type_sums(other).inuse, 0);
  sound();
});
test('show multizone_matches: by address, by name, and what it says of others', () => {
  many(2, { 'debug.malloc.zone_offset': 0 });
  const names = ['a1', 'b1', 'a2', 'c2'];
  const [t] = names.map((name) => malloc_type_attach(name));
  const mine = (lines: string[]): string[] => lines.filter((line) => names.includes(line));
  assert.deepEqual(mine(multizone_matches(t)), ['c2', 'a2', 'a1'], 'newest first, as the list is');
  assert.deepEqual(mine(multizone_matches('c2')), ['c2', 'a2', 'a1']);
  assert.deepEqual(mine(multizone_matches('b1')), ['b1']);
  assert.deepEqual(multizone_matches(), ['Usage: show multizone_matches <malloc type/addr>']);
  assert.deepEqual(multizone_matches('no'), ["No type 'no'"]);
  const p = malloc(16, t, M_WAITOK);
  mem.I32[p] = 0x1f;
  assert.deepEqual(multizone_matches(p), ['Magic 1f does not match expected 3454f8e9']);
  assert.deepEqual(multizone_matches(2 ** 30), ['Magic 0 does not match expected 3454f8e9']);
  free(p, t);
});
test('an overrun stays in its class, and the report says who may have done it', () => {
  many(8, { 'debug.malloc.zone_offset': 0 });
  const said: string[] = [];
  kconsole.print = (text) => void said.push(text);
  const names = ['culprit', 'caller', 'victim', 'bystander'];
  const [culprit, caller] = names.map((name) => malloc_type_attach(name));
  const blocks = Array.from({ length: 30 }, () => malloc(60, culprit, M_WAITOK));
  blocks.sort((a, b) => a - b);
  const [p, q] = blocks.slice(10, 12); // side by side
  free(q, culprit);
  for (let i = 0; i < 20; i++) mem.U8[p * 4 + 60 + i] = 1;
  panics(() => {
    for (let i = 0; i < 300; i++) malloc(60, caller, M_NOWAIT);
  }, /Memory modified after free 0x\w+\(64\) val=0x1010101 @ 0x\w+, zone 64-3\. Most recently/);
  // 'c' is 99, 99 % 8 = 3.
  assert.equal(said.length, 1);
  const [, types] = /^Damage in zone 64-3 of types (.*)$/.exec(said[0]) ?? [];
  const found = JSON.parse(`[${types}]`) as string[];
  assert.ok(found.includes('culprit') && found.includes('caller'));
  assert.ok(!found.includes('victim') && !found.includes('bystander'));
});
test('a panic that names a zone of malloc says who takes from it', async () => {
  const texts: [text: string, zone: string | null][] = [
    ['uma: item given out twice: 449088 64-3', '64-3'],
    ['Duplicate free of item: 449088 from zone 4096-7', '4096-7'],
    ['uma: Freed item did not belong to zone: 449088 16-0', '16-0'],
    ['Duplicate free of item: 449088', null],
    ['what lies from 100-200', null],
  ];
  for (const [text, zone] of texts) {
    many(8);
    for (const name of ['c', 'g', 'h']) malloc_type_attach(name); // classes 3, 7 and 0
    const said: string[] = [];
    kconsole.print = (line) => void said.push(line);
    panics(() => panic(text), /panic: /);
    assert.equal(said.length, zone === null ? 0 : 1, text);
    if (zone !== null) assert.ok(said[0].startsWith(`Damage in zone ${zone} of types "`), said[0]);
    await down();
  }
});
test('a type that is not registered has a class, too', () => {
  many(8);
  const t = malloc_type_create('loose');
  assert.equal(malloc_type.subzone[t], multizone_class('loose', 8, 1000));
});
