/*
 * Shows that a stack is kept once, whoever keeps it: in a thread that asks again, and in two
 * threads that keep the same stacks at the same time; that what is read is what was kept, cut where
 * it is too long; that a full depot says 0 and counts; and that a number that is none reads as
 * nothing.  That a death loses nothing: sim/scripts/stack_depot.ts.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import type { Frame } from '../machine/backtrace.ts';
import { counter_get } from '../machine/counter.ts';
import type { Handle } from '../machine/machdep.ts';
import { mem } from '../machine/memory.ts';
import { sysctl_set } from '../machine/sysctl_decl.ts';
import { Crew, within } from '../machine/workers.test.lib.ts';
import { STACK_DEPTH, STACK_MAGIC, stack, stack_root, type stack_t } from '../h/stack.ts';
import { uma_check } from '../uma/uma_check.ts';
import { down, up } from '../uma/uma.test.lib.ts';
import {
  stack_depot_check,
  stack_depot_frames,
  stack_depot_keep,
  stack_depot_save,
  stack_depot_text,
} from './kern_stack.ts';
import { stack_anchor, stack_max, v_stack_full } from './kern_stack_vars.ts';
import { SHARED, shared_stack } from './kern_stack.test.worker.ts';

let handle: Handle;
const crew = new Crew<{ ids: number[] }>(new URL('./kern_stack.test.worker.ts', import.meta.url));
beforeEach(() => {
  handle = up();
});
afterEach(async () => {
  stack_depot_check();
  uma_check();
  await crew.end();
  await down();
});
const stacks = (): number => stack_root.stacks[stack_anchor()];
const frame = (fn: string, file = '/app/a.ts', line = 1, column = 2): Frame => ({
  fn,
  file,
  line,
  column,
});

test('the same stack has one number, another place another one', () => {
  assert.equal(stacks(), 0, 'and no zone before the first');
  const ids: number[] = [];
  function connect(): void {
    for (let i = 0; i < 3; i++) ids.push(stack_depot_save());
    ids.push(stack_depot_save());
  }
  connect();
  assert.ok(ids[0] !== 0 && ids[0] === ids[1] && ids[1] === ids[2] && ids[3] !== ids[0]);
  const lines = stack_depot_text(ids[0]);
  assert.match(lines[0], /^connect at .*kern_stack\.test\.ts:\d+:\d+$/);
  assert.equal(stacks(), 2);
});
test('what is read is what was kept: first frames, a name its beginning, a path its end', () => {
  const many = Array.from({ length: 30 }, (_, i) => frame(`f${i}`));
  const read = stack_depot_frames(stack_depot_keep(many));
  assert.deepEqual(read, many.slice(0, STACK_DEPTH));
  const name = 'ŋ'.repeat(400);
  const path = `/${'deep/'.repeat(100)}ünique.ts`;
  const [cut] = stack_depot_frames(stack_depot_keep([frame(name, path)]));
  assert.ok(cut.fn.length > 80 && name.startsWith(cut.fn));
  assert.ok(cut.file.length > 150 && path.endsWith(cut.file.slice(1)) && cut.file[0] === '…');
  assert.equal(stack_depot_keep([frame(name, path)]), stack_depot_keep([frame(name, path)]));
  const odd = [frame('a\0b', '\ud800/x'), frame('')];
  assert.equal(stack_depot_keep(odd), stack_depot_keep(odd));
  assert.deepEqual(stack_depot_text(stack_depot_keep(odd)), [
    'a?b at \ufffd/x:1:2',
    '<anonymous> at /app/a.ts:1:2',
  ]);
  assert.equal(stack_depot_keep([]), stack_depot_keep([]), 'no frames at all are a stack, too');
  assert.equal(stacks(), 4);
});
test('a full depot says 0 and counts; what it has it still finds', () => {
  sysctl_set(stack_max, 2);
  const [a, b, c, again] = ['a', 'b', 'c', 'b'].map((fn) => stack_depot_keep([frame(fn)]));
  assert.ok(a !== 0 && b !== 0 && c === 0 && again === b);
  assert.equal(counter_get(v_stack_full), 1);
});
test('a number that is none reads as nothing', () => {
  const id = stack_depot_keep([frame('a')]);
  for (const wrong of [0, -1, 0.5, Number.NaN, id + 1, id - 1, mem.I32.length - 1, 2 ** 31]) {
    assert.deepEqual(stack_depot_text(wrong), [], `${wrong}`);
  }
  const s = id as stack_t;
  const first = stack.frames[s];
  for (const wild of [0, mem.I32.length * 2]) {
    stack.frames[s] = wild;
    assert.deepEqual(stack_depot_text(id), []);
  }
  stack.frames[s] = first;
  stack.depth[s] = 1000;
  assert.equal(stack_depot_text(id).length, 1, 'no frames are there');
  stack.magic[s] = 0;
  assert.deepEqual(stack_depot_text(id), []);
  stack.depth[s] = 1;
  stack.magic[s] = STACK_MAGIC;
});
test('two threads that keep the same stacks find the same numbers', async () => {
  const jobs = [0, 1].map((first) => crew.start(handle, 'keep', { first }));
  const all = await within(Promise.all(jobs.map((j) => j.done)), 'both have kept theirs');
  assert.deepEqual(all[0].ids, all[1].ids);
  assert.equal(new Set(all[0].ids).size, SHARED);
  assert.equal(stacks(), SHARED);
  for (const [i, id] of all[0].ids.entries()) {
    assert.deepEqual(stack_depot_frames(id), shared_stack(i).slice(0, STACK_DEPTH));
  }
});
