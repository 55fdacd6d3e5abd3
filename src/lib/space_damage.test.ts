/*
 * Shows: a file that is not as it was written is refused by one clear error, and nothing of it is
 * mapped: cut off, longer, changed in a byte, with parts of another file in it, of another version
 * or host, or no such file at all; and so is one that was made to deceive, with
 * checksums that are right.
 * By what means: one small file, of which every byte that says something is changed, the others
 * here and there; all of them, and every length, in space_damage.slow.test.ts.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { dice, SEED } from '../sys/machine/seed.test.lib.ts';
import { maps_all } from '../sys/map/vm_map_check.ts';
import { boot, type Machine, type Space } from './index.ts';
import { spaces_gone, vm_checks } from './space.test.lib.ts';
import {
  changed,
  type Forged,
  folderEnd,
  forged,
  fresh,
  refused,
  small_file,
} from './space_file.test.lib.ts';

let machine: Machine;
let space: Space;
let path = '';
let bytes = new Uint8Array();
/** Another file, that was saved after it. */
let theirs = new Uint8Array();
before(() => {
  const [one, two] = [fresh(), fresh()];
  for (const file of [one, two]) small_file(file);
  path = one;
  bytes = readFileSync(one);
  theirs = readFileSync(two);
});
beforeEach(() => {
  machine = boot({ memory: '4M', options: { INVARIANTS: true } });
  space = machine.space('s', { limit: '1G' });
});
afterEach(() => {
  assert.equal(maps_all().length, 1);
  space.load(path); // it is as good as new
  vm_checks();
  spaces_gone(machine);
  machine.shutdown();
});
after(folderEnd);

const PAGE = 4096;
/** Bytes of each page that say something: of the header, a table of two regions, an index. */
const SAYS = [
  [0, 128],
  [PAGE - 8, PAGE + 64 + 2 * 64],
  [2 * PAGE, 2 * PAGE + 64 + 3 * 16],
];

describe('damaged', () => {
  test('cut off', () => {
    for (let n = 0; n < 200; n++) refused(space, bytes.subarray(0, n), `${n} bytes`);
    for (let n = 200; n < bytes.length; n += 97) refused(space, bytes.subarray(0, n), `${n}`);
    for (let n = 1; n < 20; n++) refused(space, bytes.subarray(0, bytes.length - n), `-${n}`);
    assert.match(refused(space, bytes.subarray(0, 5000), 'cut'), /cut off: 5000 of \d+ bytes/);
  });
  test('longer', () => {
    for (const n of [1, 100, PAGE, 10 * PAGE]) {
      const more = Buffer.concat([bytes, new Uint8Array(n)]);
      assert.match(refused(space, more, `${n} more`), /longer/);
    }
  });
  test('changed in a byte that says something', () => {
    for (const [from, end] of SAYS) {
      for (let at = from; at < end; at++) {
        for (const to of [0, 1, 255]) {
          const one = changed(path, at, (b) => (b === to ? 128 : to));
          refused(space, one, `byte ${at}, ${to}`);
        }
      }
    }
  });
  test('changed in some bytes, here and there', () => {
    const draw = dice(SEED);
    for (let i = 0; i < 600; i++) {
      const some = Uint8Array.from(bytes);
      for (let n = 1 + draw(4); n > 0; n--) some[draw(some.length)] ^= 1 + draw(255);
      if (Buffer.compare(some, bytes) !== 0) refused(space, some, `seed ${SEED}, ${i}`);
    }
  });
  test('with pages that are elsewhere, or of another file', () => {
    const pages = bytes.length / PAGE;
    for (let a = 0; a < pages; a++) {
      for (let b = 0; b < pages; b++) {
        const mixed = Uint8Array.from(bytes);
        mixed.set(theirs.subarray(b * PAGE, (b + 1) * PAGE), a * PAGE);
        // Contents may be the same in both.
        if (Buffer.compare(mixed, bytes) !== 0) refused(space, mixed, `page ${b} for ${a}`);
      }
    }
  });
  test('nothing of a kind', () => {
    const kinds = ['', 'k', 'kmemsnap', '\x7fELF', 'x'.repeat(20_000), '\0'.repeat(20_000)];
    for (const kind of kinds) refused(space, new TextEncoder().encode(kind), kind.slice(0, 8));
    assert.match(refused(space, new TextEncoder().encode('no such file'), ''), /no saved space/);
    assert.match(
      refused(
        space,
        changed(path, 8, () => 9),
        '',
      ),
      /version 9, and version 1 is/,
    );
  });
});

describe('made to deceive', () => {
  const name = (text: string): Uint8Array => new TextEncoder().encode(text);
  const rows: Record<string, [file: Forged, text: RegExp]> = {
    'regions that overlap': [{ regions: [{ vpn: 1 }, { vpn: 4 }] }, /overlaps/],
    'regions in no order': [{ regions: [{ vpn: 9 }, { vpn: 1 }] }, /overlaps/],
    'a region of no pages': [{ regions: [{ pages: 0 }] }, /place of region 0/],
    'a region beyond all addresses': [{ regions: [{ vpn: 2 ** 36 - 3 }] }, /place of region 0/],
    'a region at no page': [{ regions: [{ vpn: 1.5 }] }, /place of region 0/],
    'a region of 2^60 pages': [{ regions: [{ pages: 2 ** 60 }] }, /header|place/],
    "a region at nobody's page": [{ regions: [{ vpn: 0 }] }, /nobody may map/],
    'rights that are none': [{ regions: [{ prot: 8 }] }, /region 0/],
    'an inheritance that is none': [{ regions: [{ inheritance: 4 }] }, /region 0/],
    'an advice that is none': [{ regions: [{ advice: 3 }] }, /region 0/],
    'a name with control characters': [{ regions: [{ name: name('a\nb') }] }, /name of region 0/],
    'a name that is no text': [{ regions: [{ name: Uint8Array.of(255) }] }, /name of region 0/],
    'a name that is too long': [{ regions: [{ name: name('x'.repeat(32)) }] }, /name of region 0/],
    'one name twice': [
      { regions: [{ name: name('a') }, { vpn: 9, name: name('a') }] },
      /two regions 'a'/,
    ],
    'a run before all regions': [{ runs: [{ vpn: 0, pages: 1 }] }, /a run of pages/],
    'a run behind all regions': [{ runs: [{ vpn: 5, pages: 1 }] }, /a run of pages/],
    'a run over the end of its region': [{ runs: [{ vpn: 3, pages: 3 }] }, /in no region/],
    'a run over two regions': [
      { regions: [{}, { vpn: 5 }], runs: [{ vpn: 3, pages: 4 }] },
      /in no region/,
    ],
    'runs that overlap': [
      {
        runs: [
          { vpn: 1, pages: 2 },
          { vpn: 2, pages: 1 },
        ],
      },
      /a run of pages/,
    ],
    'a run of no pages': [{ runs: [{ vpn: 1, pages: 0 }] }, /a run of pages/],
    'a run of too many pages': [
      { regions: [{ pages: 100 }], runs: [{ vpn: 1, pages: 16 }] },
      /a run of pages/,
    ],
    'a run at no page': [{ runs: [{ vpn: 2 ** 53, pages: 1 }] }, /a run of pages/],
    'more rows than a table has': [{ runs: [{ vpn: 1, pages: 1 }], rows: 300 }, /300 rows/],
    'no rows': [{ runs: [{ vpn: 1, pages: 1 }], rows: 0 }, /0 rows/],
    'rows that are all zero': [{ runs: [{ vpn: 1, pages: 1 }], rows: 3 }, /a run of pages/],
    'pages that do not follow': [{ runs: [{ vpn: 1, pages: 1 }], follow: 7 }, /sum of table 1/],
    'fewer pages than its header says': [
      { runs: [{ vpn: 1, pages: 2 }], header: { pages: 1, groups: 2 } },
      /./,
    ],
    'another sum of pages': [{ header: { mapped: 9 } }, /sums/],
    'another sum of tables': [{ header: { sum: 1 } }, /sum of its tables/],
    'no regions, and pages of them': [{ regions: [], header: { mapped: 4 } }, /sums/],
    'more regions than there are': [{ header: { regions: 2, mapped: 8 } }, /table 0/],
    'a space with a name of two lines': [{ header: { name: name('a\nb') } }, /name in its header/],
  };
  for (const [what, [file, text]] of Object.entries(rows)) {
    test(what, () => {
      assert.match(refused(space, forged(file), what), text);
    });
  }
  test('and what does not is loaded', () => {
    const good: Forged = {
      regions: [{ name: name('a') }, { vpn: 5 }, { vpn: 9, pages: 2 ** 17 }],
      runs: [
        { vpn: 2, pages: 3 },
        { vpn: 5, pages: 1 },
      ],
    };
    const bytes = forged(good);
    const e = (): string => refused(space, bytes, 'it is good');
    assert.throws(e, /it is good: it was loaded/);
    assert.equal(space.region('a').getU8(3 * PAGE + 5), 1);
    assert.equal(space.load8(5 * PAGE + 7), 2);
    assert.equal(space.regions().length, 3);
    for (const { address } of space.regions()) space.region(address).unmap();
  });
});
