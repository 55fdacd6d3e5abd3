/*
 * Shown: recordings of system calls, played on two CPUs: the bundled ones and the full set are as
 * their truth says, every call answers as recorded, every private page holds what its space
 * wrote, and when all is over not a page is left; also where memory ends in the middle, and
 * where the recording does.  Made-up recordings with threads in shared spaces, forks and reused
 * numbers, whole and damaged, leave nothing behind either.
 * By what means: real readers and players, INVARIANTS and WITNESS on, all walkers at the end;
 * truth.json; the made-up kernel of strace.fuzz.ts; beside the model where one thread plays.
 * Of the full set one is drawn, and memory ends in the beginning of one; recordings.stress.ts
 * takes all.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { PLAIN } from '../heap/replay.test.lib.ts';
import { play_trace, type ReplayOptions } from '../heap/replay.ts';
import { damaged, made_up } from '../read/strace.fuzz.ts';
import { strace_truth } from '../read/strace.test.lib.ts';
import {
  beside,
  BUNDLED,
  drawn,
  random_from,
  SEED,
  SHARED,
  temporary_file,
  WHOLE,
} from '../read/traces.test.common.ts';
import { in_machine, none_left, play_text } from './vm_player.test.lib.ts';
import { is_vm_outcome, sum_of, type VmOutcome } from './vm_replay.ts';

/** There is no swap area, and nobody waits for pages of others. */
const ENDS = { 'vm.swap_default': '0', 'vm.oom_wait': '0' };
const SMALL = { INVARIANTS: true, WITNESS: true };
/** Plays a file on two CPUs; whatever came of it, nothing is left. */
async function play(file: string, more: Partial<ReplayOptions> = {}): Promise<VmOutcome> {
  let proved = false;
  const inspect = (): void => {
    none_left();
    proved = true;
  };
  const options = { ...PLAIN, files: [file], cpus: 2, memory: '64M', options: SMALL };
  const out = await play_trace({ ...options, inspect, ...more });
  assert.ok(is_vm_outcome(out));
  assert.ok(proved);
  assert.deepEqual([out.cpus, out.memory.pages_left, out.verified], [2, 0, true]);
  assert.deepEqual([out.vm.verify_errors, out.vm.failed_touches, out.complaints], [0, 0, []]);
  return out;
}
const MAKERS = ['fork', 'vfork', 'clone', 'clone3'];
/** It had memory, and everything answered as recorded. */
function as_recorded({ trace, vm, not_played }: VmOutcome): void {
  assert.deepEqual([vm.mismatches, vm.different, vm.no_memory, vm.skipped], [{}, [], {}, {}]);
  assert.equal(vm.no_memory_touches, 0);
  for (const name of new Set([trace.calls, vm.calls, not_played].flatMap(Object.keys))) {
    const ended = (trace.plan.refused[name] ?? 0) + (not_played[name] ?? 0);
    const more = ended + (vm.calls[name] ?? 0) - (trace.calls[name] ?? 0);
    // A process that is seen was made, also by a call whose end the recording lacks.
    const lost = MAKERS.includes(name) ? (trace.never_resumed_calls[name] ?? 0) : 0;
    assert.ok(more >= 0 && more <= lost, `${name}: ${more} more than the recording has`);
  }
  assert.ok(vm.faults >= vm.zero_fills + vm.cow);
  assert.ok(vm.cow >= vm.cow_moved);
}

const bundled = Object.entries(strace_truth(BUNDLED) ?? {});
const others = beside(strace_truth);
const folders: Record<string, string> = {};
for (const [name] of bundled) folders[name] = BUNDLED;
for (const [name] of others) folders[name] = SHARED;
for (const [name, known] of [...bundled, ...drawn(others)]) {
  test(`${name}, on two CPUs`, async (t) => {
    const file = join(folders[name], name);
    const out = await play(file);
    as_recorded(out);
    const { trace, vm } = out;
    const truth: Record<string, unknown> = { ...known };
    for (const key of ['lines', 'calls', 'errors', 'exits', 'mmap_bytes', 'munmap_bytes']) {
      if (key in truth) assert.deepEqual(trace[key as keyof typeof trace], truth[key], key);
    }
    assert.equal(vm.spaces_left, 0);
    const mapped = (trace.calls.mmap ?? 0) > 0;
    assert.equal(vm.zero_fills > 0, mapped);
    if (vm.forks > 0) assert.ok(vm.cow > 0);
    assert.ok(vm.cow <= vm.stores, 'a copy is made by a store');
    t.diagnostic(`${vm.faults} faults, ${vm.cow} copies, ${vm.shootdowns} shoot-downs`);
    if (!mapped) return;
    // Of one CPU the counts are the same: what is used is a matter of the recording alone.
    const alone = await play_trace({ ...PLAIN, files: [file], cpus: 1, memory: '64M' });
    assert.ok(is_vm_outcome(alone));
    const { loads, stores, zero_fills } = vm;
    assert.deepEqual(
      [alone.vm.loads, alone.vm.stores, alone.vm.zero_fills, alone.vm.calls],
      [loads, stores, zero_fills, vm.calls],
    );
  });
}
test(`memory ends in the middle, and so does the recording (seed ${SEED})`, async (t) => {
  const random = random_from(SEED);
  // Each page that is refused costs a search for one: of a few hundred, not of thousands.
  const [least, more] = WHOLE ? [60_000, 20_000] : [25_000, 10_000];
  for (const name of drawn(Object.keys(folders).filter((one) => !one.includes('-io')))) {
    const text = gunzipSync(readFileSync(join(folders[name], name)));
    const cut = temporary_file(t, name, text.subarray(0, least + random(more)));
    const { vm } = await play(cut, { memory: '1M', set: ENDS });
    assert.ok(sum_of(vm.no_memory) + vm.no_memory_touches > 0, name);
    as_recorded(await play(cut));
  }
});

test(`made-up recordings, whole and damaged, on two CPUs (seed ${SEED})`, async (t) => {
  const random = random_from(SEED);
  for (let i = 0; i < 3; i++) {
    const text = made_up(random, 400);
    const whole = await play(temporary_file(t, 'whole.strace', Buffer.from(text, 'latin1')));
    as_recorded(whole);
    const bad = damaged(random, text);
    try {
      await play(temporary_file(t, 'bad.strace', Buffer.from(bad, 'latin1')));
    } catch (e) {
      // The cut may have left less than a line, and the damage nothing by which it is known.
      const refused = /: no line of this file was understood|: not a trace format kmem knows/;
      if (!(e instanceof Error && refused.test(e.message))) throw e;
    }
  }
});
test(`made-up recordings beside the model, with all walkers (seed ${SEED})`, () => {
  const random = random_from(SEED);
  for (let i = 0; i < 6; i++) {
    const text = made_up(random, 200);
    const { mismatches, no_memory } = in_machine('16M', () => play_text(text, { prove_each: 5 }));
    assert.deepEqual([mismatches, no_memory], [{}, {}], `recording ${i}`);
    in_machine('16M', () => play_text(damaged(random, text), { short: true, prove_each: 20 }));
    in_machine('1M', () => play_text(text, { short: true, prove_each: 20 }));
  }
});
