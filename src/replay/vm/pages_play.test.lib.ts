/*
 * pages_play: references to pages, played for tests, and what holds whatever was played.
 */
import assert from 'node:assert/strict';
import { PLAIN } from '../heap/replay.test.lib.ts';
import { play_trace, type ReplayOptions } from '../heap/replay.ts';
import { random_from, SEED } from '../read/traces.test.common.ts';
import { is_pages_outcome, type PagesOutcome } from './pages_replay.ts';
import { none_left } from './vm_player.test.lib.ts';

/** Plays a file; whatever came of it, nothing is left, and every page held what was written. */
export async function play(file: string, more: Partial<ReplayOptions> = {}): Promise<PagesOutcome> {
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
/** Every page was made once, and stayed. */
export function all_fit({ trace, vm }: PagesOutcome): void {
  const { pages, references } = trace;
  assert.deepEqual([vm.references, vm.misses, vm.zero_fills], [references, pages, pages]);
  assert.deepEqual([vm.faults_hard, vm.pageins, vm.pageouts, vm.no_memory], [0, 0, 0, 0]);
  assert.deepEqual([vm.lru_misses, vm.lru_ratio], [pages, 1]);
}
/** One player, in fewer pages than are used, each brought in alone. */
export function paged({ trace, vm, cpus, readahead }: PagesOutcome): void {
  assert.deepEqual([cpus, readahead, vm.references], [1, false, trace.references]);
  assert.deepEqual([vm.no_memory, vm.left_out], [0, 0]);
  assert.equal(vm.misses, vm.zero_fills + vm.faults_hard);
  assert.equal(vm.faults, vm.misses + vm.faults_soft);
  assert.equal(vm.pageins, vm.faults_hard, 'a page for each fault');
  assert.ok(vm.zero_fills >= trace.pages && vm.misses >= trace.pages);
  assert.ok(vm.faults_soft >= 0);
  assert.equal(vm.lru_ratio, vm.misses / vm.lru_misses);
}
/** References drawn from a seed: runs in few pages, and jumps to any. */
export function made_up(pages: number, references: number): string {
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
