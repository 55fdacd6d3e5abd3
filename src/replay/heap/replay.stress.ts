/*
 * replay.stress: what every recorded heap takes at the least, and how fast it plays.
 *
 * For each heap recording of the full set (the bundled ones where there is none):
 * the smallest memory in which it plays on one CPU without a failed request,
 * against the pages it takes at its peak in ample memory, and the speeds with and
 * without verification.  Fails if a recording needs more than 1.10 times its peak
 * (1 MiB, the least a machine can have, is always right).
 */
import { join } from 'node:path';
import { fit } from './fit.ts';
import { type ReplayOutcome, replay } from './replay.ts';
import { PLAIN } from './replay.test.lib.ts';
import { BUNDLED, heap_truth, SHARED } from '../read/traces.test.common.ts';

const MOST = 1.1;
const MB = 2 ** 20;
const folder = heap_truth(SHARED) ? SHARED : BUNDLED;

function mega(bytes: number): string {
  return (bytes / MB).toFixed(2).padStart(8);
}
function speed({ time }: ReplayOutcome): string {
  const end_to_end = (time.events_per_second / 1e6).toFixed(2);
  return `${end_to_end.padStart(6)} ${time.playing_ns_per_event.toFixed(0).padStart(6)}`;
}

let over = 0;
let traces = 0;
console.log('                      MiB:    peak     fit  ratio   M ev/s  ns/ev  same, unverified');
for (const name of Object.keys(heap_truth(folder) ?? {})) {
  const o = { ...PLAIN, files: [join(folder, name)], cpus: 1 };
  const fast = await replay({ ...o, verify: false });
  const ample = await replay(o);
  const out = await fit(o, () => {});
  const peak = ample.memory.kernel_peak_bytes;
  const size = out.memory.fit_bytes ?? Number.NaN;
  const ratio = size / peak;
  const good = size === MB || ratio <= MOST;
  if (!good) over++;
  traces++;
  const row = `${name.padEnd(22)}${mega(peak)}${mega(size)} ${ratio.toFixed(3).padStart(6)}`;
  console.log(`${row}   ${speed(ample)}   ${speed(fast)}${good ? '' : '   OVER'}`);
}
console.log(`${traces} recordings, ${over} need more than ${MOST} times their peak`);
if (over > 0 || traces === 0) process.exitCode = 1;
