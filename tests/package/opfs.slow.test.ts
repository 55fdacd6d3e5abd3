/*
 * What is shown: in a browser, one thread keeps files of the origin open for all.  Two workers read
 * and write one file at once, page by page in shared memory; the page's own thread is told that it
 * would have to wait, and has pages brought in by another one; and a space three times as large as
 * the memory lives by a swap area that is such a file.  By what means: opfs/ is served from the
 * source, its types taken away, and opened in each browser that is here and has such files.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { EEXIST, EWOULDBLOCK } from '../../src/sys/machine/errno.ts';
import { BROWSERS } from './browsers.ts';
import { serve } from './serve.ts';

const ROOT = join(import.meta.dirname, '../..');
/** WebKit's driver opens pages without storage of their own. */
const WITHOUT: readonly string[] = ['webkit'];

describe('files of a browser', () => {
  for (const kind of BROWSERS) {
    const none = WITHOUT.includes(kind.name) ? 'it has no such files here' : false;
    const skip = kind.missing === '' ? none : `needs ${kind.missing}`;
    test(kind.name, { skip }, async (t) => {
      const served = await serve(ROOT, true, kind.script);
      t.after(() => served.close());
      const browser = await kind.start();
      t.after(() => browser.close());
      const seen = await browser.open(`${served.url}tests/package/opfs/`);
      assert.equal(seen.state, 'done', `${seen.summary}\n${seen.said.join('\n')}`);
      const { made, a, b, here, ended, large, page, again } = JSON.parse(seen.report);
      assert.ok(made.store > 0, `errno ${-made.store}`);
      assert.equal(made.twice, -EEXIST);
      for (const used of [a, b]) assert.deepEqual(used, { wrong: 0, errors: [] });
      assert.equal(here, -EWOULDBLOCK);
      assert.deepEqual(ended, { size: 2 * 20 * 16 * 4096, removed: 0 });
      assert.equal(large.wrong, 0);
      assert.ok(large.out > 2000, `${large.out} pages went out`);
      assert.deepEqual([page.wrong, page.kind], [0, 'opfs']);
      assert.ok(page.told > 0, 'the page would have had to wait');
      assert.equal(again.wrong, 0);
    });
  }
});
