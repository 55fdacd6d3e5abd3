/*
 * Shown: the bundled page traces and the full set in few pages of memory: every page holds what
 * was last written to it at every visit, the machine misses little more than exact LRU and no
 * more than FIFO or CLOCK, and two runs tell the same figures; on two CPUs beside the page daemon
 * too nothing is lost.
 * By what means: real readers and players; truth.json; FIFO and CLOCK that are told each use;
 * all walkers at the end.
 */
import assert from 'node:assert/strict';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import { pages_truth } from '../read/pages.test.lib.ts';
import { BUNDLED, SHARED } from '../read/traces.test.common.ts';
import { paged, play } from './pages_play.test.lib.ts';
import { simple_misses } from './pages_policies.test.lib.ts';

/** Times what exact LRU misses, at most, by pages in memory. */
const MOST: readonly [pages: number, ratio: number][] = [
  [64, 1.15],
  [256, 1.2],
];

const bundled = pages_truth(BUNDLED) ?? {};
const shared = pages_truth(SHARED);
if (shared === null) {
  const skip = 'the full set of traces is not beside the repository; set KMEM_TRACES to its folder';
  test('the full set of traces in few pages', { skip });
}
const all = Object.keys(shared ?? {}).map((name) => join(SHARED, name));
for (const file of [...Object.keys(bundled).map((name) => join(BUNDLED, name)), ...all]) {
  const name = basename(file);
  const truth = bundled[name] ?? shared?.[name];
  if (name in bundled && file.startsWith(SHARED)) continue;
  test(`${name}, in few pages`, async (t) => {
    const simple = await simple_misses(
      file,
      MOST.map(([pages]) => pages),
    );
    for (const [pages, most] of MOST) {
      const how = { pages: { resident: pages, readahead: false } };
      const out = await play(file, how);
      paged(out);
      if (name in bundled) assert.deepEqual((await play(file, how)).vm, out.vm);
      const { misses, lru_misses, lru_ratio } = out.vm;
      const { fifo, clock } = simple.get(pages) ?? { fifo: 0, clock: 0 };
      const figures = `${pages} pages: ${misses} of ${lru_misses}, FIFO ${fifo}, CLOCK ${clock}`;
      t.diagnostic(`${figures}: ${lru_ratio.toFixed(3)}`);
      assert.equal(lru_misses, truth?.lru_misses?.[String(pages)]);
      assert.ok(lru_ratio <= most, figures);
      assert.ok(misses <= Math.min(fifo, clock), figures);
    }
  });
}
for (const name of Object.keys(shared ?? {}).filter((one) => /^(sqlite|matmul)\.pages/.test(one))) {
  test(`${name} on two CPUs, beside the page daemon`, async () => {
    const how = { pages: { resident: 64, readahead: false }, asked_cpus: 2 };
    const out = await play(join(SHARED, name), how);
    assert.equal(out.cpus, 2);
    // Whether both find room at the same moment is a matter of chance.
    assert.equal(out.vm.references + out.vm.left_out, out.trace.references);
    assert.ok(out.vm.pageins > 0);
  });
}
