/*
 * Shows that a structure declared as data lies in memory as it says: fields at
 * their offsets, 64-bit fields even, strings cut whole, columns apart; that
 * pointers of different structures do not mix; that guards see each access;
 * and that the layout hash notices any change.  Memory is read back through
 * the raw views, not through the fields under test.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mem, memory_bind } from './memory.ts';
import { once, opt, opt_bind } from './opt.ts';
import {
  add64,
  addr,
  col8,
  col16,
  col32,
  columns,
  columns_bind,
  columns_words,
  elem,
  field_word,
  field_word64,
  get64,
  get_string,
  guard,
  i32,
  layout_hash,
  lock_words,
  type Ptr,
  ptr,
  set64,
  set_string,
  struct,
  struct_layouts,
  u32,
  u64,
  words,
} from './struct.ts';

type thing_t = Ptr<'test_thing'>;
type other_t = Ptr<'test_other'>;
const thing = struct<thing_t>('test_thing')({
  next: ptr<thing_t>('s', 'another'),
  big: u64('s', '64 bits'),
  lock: lock_words(4, 'user mtx', 'its lock'),
  unsigned: u32('c', 'no sign'),
  signed: i32('a', 'a sign'),
  name: words('c', 'a name', 4),
});
const other = struct<other_t>('test_other', 32)({ thing: ptr<thing_t>('-', 'one') });
memory_bind(new SharedArrayBuffer(1 << 20));
const p = 1000 as thing_t;

test('fields lie in order; a 64-bit one starts at an even word', () => {
  const layout = struct_layouts.find((l) => l.name === 'test_thing');
  assert.deepEqual(
    layout?.fields.map((f) => [f.name, f.offset, f.words, f.lock]),
    [
      ['next', 0, 1, 's'],
      ['big', 2, 2, 's'],
      ['lock', 4, 4, 'c'],
      ['unsigned', 8, 1, 'c'],
      ['signed', 9, 1, 'a'],
      ['name', 10, 4, 'c'],
    ],
  );
  assert.equal(thing.sizeof, 14);
  assert.equal(other.sizeof, 32, 'rounded up to its line');
  assert.equal(thing.lock, 4, 'a lock field is its offset');
});

test('a field is a view of memory', () => {
  thing.unsigned[p] = 0xffffffff;
  thing.signed[p] = 0xffffffff;
  assert.equal(thing.unsigned[p], 0xffffffff);
  assert.equal(thing.signed[p], -1);
  assert.equal(mem.U32[1008], 0xffffffff);
  assert.equal(mem.I32[1009], -1);
  assert.equal(field_word(thing.signed, p), 1009);
  assert.equal(addr(p), 4000);
  thing.next[p] = p;
  assert.equal(thing.next[thing.next[p]], p);
});

test('64 bits: exact to 2^53', () => {
  set64(thing.big, p, 2 ** 53 - 2);
  add64(thing.big, p, 1);
  assert.equal(get64(thing.big, p), Number.MAX_SAFE_INTEGER);
  assert.equal(field_word64(thing.big, p), 1002);
  assert.equal(mem.F64[501], Number.MAX_SAFE_INTEGER);
});

test('strings are cut to fit, never inside a character, and padded with zeros', () => {
  mem.U8.fill(0xff, 1010 * 4, 1014 * 4);
  set_string(thing.name, p, 4, 'abc');
  assert.equal(get_string(thing.name, p, 4), 'abc');
  assert.deepEqual([...mem.U8.slice(1010 * 4 + 3, 1014 * 4)], Array(13).fill(0));
  set_string(thing.name, p, 4, '0123456789abcdefgh');
  assert.equal(get_string(thing.name, p, 4), '0123456789abcde');
  set_string(thing.name, p, 4, '0123456789abc\u00e9\u00e9');
  assert.equal(get_string(thing.name, p, 4), '0123456789abc\u00e9');
  set_string(thing.name, p, 4, '0123456789ab\u20ac\u20ac');
  assert.equal(get_string(thing.name, p, 4), '0123456789ab\u20ac');
  thing.name[elem(p, 1)] = 0;
  assert.equal(get_string(thing.name, p, 4), '0123');
});

test('pointers of another structure do not compile, nor do plain numbers or locks', () => {
  const o = 2000 as other_t;
  other.thing[o] = p;
  // @ts-expect-error another structure's pointer
  assert.equal(typeof thing.signed[o], 'number');
  // @ts-expect-error a plain number is no pointer
  assert.equal(typeof thing.signed[5], 'number');
  // @ts-expect-error a pointer to another structure
  other.thing[o] = o;
  // @ts-expect-error a 64-bit field is not indexed
  assert.equal(thing.big[p], thing.big[p]);
});

test('columns: each of its own width, an odd number of lines long, bound at a word', () => {
  type row_t = Ptr<'test_rows'>;
  const rows = columns<row_t>('test_rows')({
    flags: col8('a', 'bits'),
    order: col16('a', 'small number'),
    owner: col32('a', 'word'),
  });
  assert.equal(columns_words('test_rows', 256), (5 + 9 + 17) * 16);
  columns_bind('test_rows', 4096, 256);
  rows.flags[255 as row_t] = 0x1ff;
  rows.order[255 as row_t] = 0x1ffff;
  rows.owner[255 as row_t] = -5;
  assert.equal(rows.flags[255 as row_t], 0xff);
  assert.equal(rows.order[255 as row_t], 0xffff);
  assert.equal(mem.U8[4096 * 4 + 255], 0xff);
  assert.equal(mem.I32[4096 + (5 + 9) * 16 + 255], -5);
  assert.equal(rows.owner[256 as row_t], undefined, 'no row beyond the last');
  const before = rows.flags;
  columns_bind('test_rows', 4096, 256);
  assert.equal(rows.flags, before, 'the same place keeps the same view');
  assert.throws(() => columns_words('nobody', 1), /columns nobody are not declared/);
});

test('guards see structure, field, address, direction and the old value', () => {
  const seen: unknown[][] = [];
  opt_bind(0);
  once(opt, 'CHECKED', true);
  type seen_t = Ptr<'test_seen'>;
  const watched = struct<seen_t>('test_seen')({
    one: i32('s', 'a word'),
    wide: u64('s', '64 bits'),
  });
  once(opt, 'CHECKED', false);
  guard.access = (l, f, at, write, old) => seen.push([l.name, f.name, at, write, old]);
  const q = 3000 as seen_t;
  watched.one[q] = 7;
  watched.one[q]++;
  add64(watched.wide, q, 3);
  guard.access = null;
  assert.equal(watched.one[q], 8);
  assert.equal(field_word(watched.one, q), 3000, 'finding a word is no access');
  assert.deepEqual(seen, [
    ['test_seen', 'one', 3000, true, 0],
    ['test_seen', 'one', 3000, false, 7],
    ['test_seen', 'one', 3000, true, 7],
    ['test_seen', 'wide', 3000, false, 0],
    ['test_seen', 'wide', 3000, true, 0],
  ]);
});

test('the layout hash changes with a field, and not with the order of declaration', () => {
  const before = layout_hash(['x', 'y']);
  assert.equal(layout_hash(['y', 'x']), before);
  assert.notEqual(layout_hash(['x']), before);
  struct<Ptr<'test_more'>>('test_more')({ a: i32('-', 'new') });
  assert.notEqual(layout_hash(['x', 'y']), before);
});
