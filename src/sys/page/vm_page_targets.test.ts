/*
 * Shows: the figures that the page daemon works by are those of BSD's formulas on machines of
 * 32 MiB and more, and shares of them below; a machine that is booted has them, unless it was
 * told others.
 * By what means: the table of figures written out by hand for several sizes, on both sides of each
 * condition; machines of five sizes.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { boot } from '../boot/whole.ts';
import { sysctl_read } from '../observe/kern_sysctl.ts';
import { type PageTargets, page_targets } from './vm_page_targets.ts';

/* In the order of PageTargets: what the formulas give, worked out by hand. */
const TABLE: [memory: number, pages: number, free: number, number[]][] = [
  // 256 MiB: min 4 + 64512/200 = 326; reserved 16 + 34 + 85 + 32 = 167; target 4 * 493 + 167
  [65536, 65536, 65536, [16, 34, 167, 330, 493, 2139, 2139, 4278, 3208]],
  // 64 MiB: min 4 + 15360/200 = 80; reserved 16 + 34 + 21 + 32 = 103; target 4 * 183 + 103
  [16384, 16384, 16384, [16, 34, 103, 143, 183, 835, 835, 1670, 1252]],
  // 32 MiB: min 4 + 7168/200 = 39; reserved 16 + 34 + 10 + 32 = 92; target 4 * 131 + 92
  [8192, 8192, 8192, [16, 34, 92, 111, 131, 616, 616, 1232, 924]],
  // The same with few free pages: not more than 6144, target 2 * 131 + 92
  [8192, 8192, 6144, [16, 34, 92, 111, 131, 354, 354, 708, 531]],
  // Just above 2048: 3 * 354 / 2 is 531, a third of what is free is 683
  [8192, 8192, 2049, [16, 34, 92, 111, 131, 354, 354, 708, 531]],
  // Not more than 2048: nothing is kept as good as free, a quarter is inactive
  [8192, 8192, 2048, [16, 34, 92, 111, 131, 354, 0, 0, 512]],
  // So few managed pages that clusters are of 8: reserved 8 + 34 + 2 + 32, min 4 + 975/200 = 8
  [8192, 1999, 1000, [8, 34, 76, 80, 84, 244, 0, 0, 250]],
  // Not more than 1024: min is 4
  [8192, 1024, 900, [8, 34, 75, 77, 79, 233, 0, 0, 225]],
];
const values = (t: PageTargets): number[] => [
  t.cluster,
  t.pageout_free_min,
  t.free_reserved,
  t.free_severe,
  t.free_min,
  t.free_target,
  t.cache_min,
  t.cache_max,
  t.inactive_target,
];

describe('formulas', () => {
  test('every figure of the table, at 32 MiB and more', () => {
    for (const [memory, pages, free, want] of TABLE) {
      assert.deepEqual(
        values(page_targets(memory, pages, free)),
        want,
        `${memory} ${pages} ${free}`,
      );
    }
  });
  test('the cap of a third of the free pages', () => {
    // 2049 free pages of many managed ones: target 2 * 3000 and more, a third is 683.
    const t = page_targets(262144, 262144, 2049);
    assert.equal(t.inactive_target, 683);
    assert.equal(t.cache_min, t.free_target);
  });
  test('below 32 MiB: the share of the figures at 32 MiB', () => {
    assert.deepEqual(
      values(page_targets(4096, 4096, 4096)),
      [16, 17, 46, 55, 65, 308, 308, 616, 462],
    );
    assert.deepEqual(
      values(page_targets(2048, 2048, 2048)),
      [16, 8, 23, 27, 32, 154, 154, 308, 231],
    );
    assert.deepEqual(values(page_targets(256, 256, 256)), [16, 3, 4, 5, 6, 19, 19, 38, 28]);
  });
  test('levels stand above one another, and grow with the memory', () => {
    let last: number[] = [];
    for (let memory = 128; memory <= 2 ** 21; memory += Math.max(1, memory >> 4)) {
      const t = page_targets(memory, memory, memory);
      const levels = [
        t.pageout_free_min,
        t.free_reserved,
        t.free_severe,
        t.free_min,
        t.free_target,
      ];
      assert.ok(t.free_reserved > 2 && t.free_reserved < t.free_severe, `${memory}`);
      assert.ok(t.free_severe < t.free_min && t.free_min < t.free_target, `${memory}`);
      assert.ok(t.inactive_target <= memory / 3 && t.free_target < memory / 4, `${memory}`);
      for (const [i, n] of levels.entries()) assert.ok(n >= (last[i] ?? 0), `${memory} ${levels}`);
      last = levels;
    }
  });
});

const NAMES = [
  'vm.stats.vm.v_pageout_free_min',
  'vm.v_free_reserved',
  'vm.v_free_severe',
  'vm.v_free_min',
  'vm.v_free_target',
  'vm.v_cache_min',
  'vm.v_cache_max',
  'vm.v_inactive_target',
];
const value = (name: string): number => {
  const bytes = sysctl_read(name);
  assert.ok(typeof bytes !== 'number' && bytes.length === 4, name);
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
};
describe('a machine', () => {
  test('has the figures of its managed pages', () => {
    for (const mib of [1, 4, 16, 32, 64]) {
      const machine = boot({ memory: `${mib}M`, cpus: 2, fresh: true });
      const pages = value('vm.stats.vm.v_page_count');
      const [, ...want] = values(page_targets(mib * 256, pages, pages));
      for (const [i, name] of NAMES.entries()) {
        assert.equal(value(name), want[i], `${mib} MiB: ${name}`);
        const of = name.replace(/^vm\.v_/, 'vm.stats.vm.v_');
        if (!name.includes('severe')) assert.equal(value(of), want[i], of);
      }
      machine.shutdown();
    }
  });
  test('keeps what it was told', () => {
    const machine = boot({
      memory: '4M',
      cpus: 1,
      fresh: true,
      set: { 'vm.v_free_target': 99, 'vm.v_inactive_target': 7 },
    });
    assert.equal(value('vm.v_free_target'), 99);
    assert.equal(value('vm.v_inactive_target'), 7);
    machine.shutdown();
  });
});
