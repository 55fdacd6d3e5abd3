/*
 * Shows: pages of a space move while two threads use it in every way: each finds in its pages every
 * byte that it wrote and no other; whoever has a run has it alone; and they go on meanwhile.
 * By what means: the two workers of vm_space_smp.test.lib.ts beside models of their pages; this
 * thread makes runs where those pages lie, by all algorithms, fills them, and gives them back; the
 * walkers afterwards.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { abandon, shutdown } from '../boot/whole.ts';
import { mem, page_word } from '../machine/memory.ts';
import { dice, SEED } from '../machine/seed.test.lib.ts';
import { PK_MASK, PK_OBJECT, VM_ALLOC_NORMAL, vm_page } from '../h/vm_page.ts';
import { phys_root, vm_phys } from '../page/vm_phys.ts';
import { vm_page_alloc_contig, vm_page_release_contig } from './vm_contig_alloc.ts';
import { vm_contig_old } from './vm_contig_old.ts';
import { counted, together } from './vm_space_smp.test.lib.ts';

afterEach(() => {
  try {
    shutdown();
  } catch {
    abandon();
  }
});
const draw = dice(SEED);
/** A page of an object, by lot; 0: none was found. */
function any_page(): number {
  const ph = phys_root();
  const [low, high] = [vm_phys.low[ph], vm_phys.high[ph]];
  const from = low + draw(high - low);
  for (let m = from; m < high; m++) if ((vm_page.info[m] & PK_MASK) === PK_OBJECT) return m;
  for (let m = low; m < from; m++) if ((vm_page.info[m] & PK_MASK) === PK_OBJECT) return m;
  return 0;
}
let runs = 0;
function make(): void {
  for (let k = 0; k < 4; k++) {
    const [n, at] = [1 + draw(12), any_page()];
    if (at === 0) continue;
    const limits = { low: at - draw(n), high: at + n + draw(4), align: 1, boundary: 0 };
    const alloc = draw(6) === 0 ? vm_contig_old : vm_page_alloc_contig;
    const m = alloc(n, VM_ALLOC_NORMAL, limits, draw(4) !== 0);
    if (m === 0) continue;
    runs++;
    const words = mem.I32.subarray(page_word(m), page_word(m + n));
    words.fill(-5);
    assert.ok(
      words.every((v) => v === -5),
      'somebody else has a page of it',
    );
    vm_page_release_contig(m, n);
  }
}
test('two threads in a space whose pages move', async () => {
  const done = await together(SEED, 800, make);
  assert.equal(done.operations, 1600);
  assert.ok(runs > 0, `${runs} runs`);
  assert.ok(counted('vm.contig.moved') > 0, `${counted('vm.contig.moved')} moved`);
});
