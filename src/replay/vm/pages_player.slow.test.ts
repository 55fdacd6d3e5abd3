/*
 * Shown: the bundled page traces and others in few pages of memory: every page holds what
 * was last written to it at every visit, the machine misses little more than exact LRU and no
 * more than FIFO or CLOCK, and two runs tell the same figures; on two CPUs beside the page daemon
 * too nothing is lost.
 * By what means: real readers and players; truth.json; FIFO and CLOCK that are told each use;
 * all walkers at the end.  Of the full set one is drawn, in all pages and on two CPUs;
 * recordings.stress.ts takes all.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { pages_truth } from '../read/pages.test.lib.ts';
import { beside, BUNDLED, drawn, SHARED, WHOLE } from '../read/traces.test.common.ts';
import { paged, play } from './pages_play.test.lib.ts';
import { simple_misses } from './pages_policies.test.lib.ts';

/** Times what exact LRU misses, at most, by pages in memory. */
const MOST: readonly [pages: number, ratio: number][] = [
  [64, 1.15],
  [256, 1.2],
];

const bundled = Object.entries(pages_truth(BUNDLED) ?? {});
const others = beside(pages_truth);
/** The same is asked for twice at one of the sizes. */
const [twice] = drawn(MOST);
for (const [folder, [name, truth]] of [
  ...bundled.map((one) => [BUNDLED, one] as const),
  ...drawn(others).map((one) => [SHARED, one] as const),
]) {
  const file = join(folder, name);
  test(`${name}, in few pages`, async (t) => {
    const simple = await simple_misses(
      file,
      MOST.map(([pages]) => pages),
    );
    for (const [pages, most] of MOST) {
      const how = { pages: { resident: pages, readahead: false } };
      const out = await play(file, how);
      paged(out);
      const again = folder === BUNDLED && (WHOLE || pages === twice[0]);
      if (again) assert.deepEqual((await play(file, how)).vm, out.vm);
      const { misses, lru_misses, lru_ratio } = out.vm;
      const { fifo, clock } = simple.get(pages) ?? { fifo: 0, clock: 0 };
      const figures = `${pages} pages: ${misses} of ${lru_misses}, FIFO ${fifo}, CLOCK ${clock}`;
      t.diagnostic(`${figures}: ${lru_ratio.toFixed(3)}`);
      assert.equal(lru_misses, truth.lru_misses?.[String(pages)]);
      assert.ok(lru_ratio <= most, figures);
      assert.ok(misses <= Math.min(fifo, clock), figures);
    }
  });
}
const two = [...bundled, ...others].filter(([name]) => /^(sqlite|matmul)\.pages/.test(name));
for (const [name] of drawn(two)) {
  test(`${name} on two CPUs, beside the page daemon`, async () => {
    const how = { pages: { resident: 64, readahead: false }, asked_cpus: 2 };
    const here = bundled.some(([known]) => known === name);
    const out = await play(join(here ? BUNDLED : SHARED, name), how);
    assert.equal(out.cpus, 2);
    // Whether both find room at the same moment is a matter of chance.
    assert.equal(out.vm.references + out.vm.left_out, out.trace.references);
    assert.ok(out.vm.pageins > 0);
  });
}
