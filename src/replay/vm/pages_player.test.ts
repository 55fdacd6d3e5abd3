/*
 * Shown: references to pages, played by one and by two players on one space: where all fits, each
 * page is made once and missed once, and holds what was last written to it; when all is over
 * not a page is left.  A page that is changed by somebody else is told.
 * By what means: real readers and players, INVARIANTS and WITNESS on, all walkers at the end; a
 * recording made up from the seed, and damage done to the memory while it plays.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { PLAIN } from '../heap/replay.test.lib.ts';
import { play_trace, type ReplayOptions } from '../heap/replay.ts';
import { BUNDLED, random_from, SEED, temporary_file } from '../read/traces.test.common.ts';
import { is_pages_outcome, type PagesOutcome } from './pages_replay.ts';
import { none_left } from './vm_player.test.lib.ts';

const MATMUL = join(BUNDLED, 'matmul.pages.gz');

/** Plays a file; whatever came of it, nothing is left. */
async function play(file: string, more: Partial<ReplayOptions> = {}): Promise<PagesOutcome> {
  let proved = false;
  const inspect = (): void => {
    none_left();
    proved = true;
  };
  const options = { INVARIANTS: true, WITNESS: true };
  const base = { ...PLAIN, files: [file], cpus: 2, memory: '16M', options, inspect };
  const out = await play_trace({ ...base, ...more });
  assert.ok(is_pages_outcome(out));
  assert.ok(proved);
  assert.equal(out.memory.pages_left, 0);
  assert.deepEqual([out.vm.verify_errors, out.vm.failed, out.complaints], [0, 0, []]);
  return out;
}
/** Every page was made once. */
function all_fit({ trace, vm }: PagesOutcome): void {
  const { pages, references } = trace;
  assert.deepEqual([vm.references, vm.misses, vm.zero_fills], [references, pages, pages]);
  assert.deepEqual([vm.faults_hard, vm.pageins, vm.pageouts, vm.no_memory], [0, 0, 0, 0]);
  assert.deepEqual([vm.lru_misses, vm.lru_ratio], [pages, 1]);
}
/** References drawn from a seed: runs in few pages, and jumps to any. */
function made_up(pages: number, references: number): string {
  const random = random_from(SEED);
  const lines = ['# kmem-pages v1 page_bytes=4096 exact_from=1'];
  let near = 0;
  for (let i = 0; i < references; i++) {
    if (random(20) === 0) near = random(pages);
    const page = 0x4000 + ((near + random(8)) % pages) * (1 + (near % 3));
    lines.push(`${random(4) === 0 ? 'w' : 'r'} ${page.toString(16)}`);
  }
  return `${lines.join('\n')}\n`;
}

for (const cpus of [1, 2]) {
  test(`a recording that fits, by ${cpus} players`, async () => {
    const out = await play(MATMUL, { asked_cpus: cpus });
    all_fit(out);
    assert.deepEqual([out.cpus, out.verified, out.resident], [cpus, true, null]);
    assert.deepEqual([out.trace.references, out.trace.pages], [725_481, 247]);
  });
  test(`a made-up one, by ${cpus} players (seed ${SEED})`, async (t) => {
    const file = temporary_file(t, 'made.pages', made_up(600, 60_000));
    all_fit(await play(file, { asked_cpus: cpus }));
  });
}
test('where nobody says how many play, one does', async () => {
  assert.equal((await play(MATMUL, { verify: false })).cpus, 1);
});
