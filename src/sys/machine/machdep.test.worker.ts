/*
 * A thread that joins a machine by boot/main.ts for machdep.test.ts, does one
 * thing and says how it went.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { attach, detach } from '../boot/whole.ts';
import { poll } from './cpu.ts';
import { counter_add, counter_u64 } from './counter.ts';
import { host_sleep } from './host.ts';
import { CTLFLAG_RDTUN, CTLFLAG_RWTUN, sysctl_int, sysctl_string } from './sysctl_decl.ts';

// The same declarations as the test, or the layouts would differ.
const events = counter_u64('debug.test.events', 'Events that this test makes');
sysctl_int('debug.test.tunable', {
  value: 3,
  min: 1,
  max: 10,
  flags: CTLFLAG_RDTUN,
  help: 'A tunable of this test',
});
sysctl_string('debug.test.text', {
  value: 'first',
  bytes: 16,
  flags: CTLFLAG_RWTUN,
  help: 'A text of this test',
});

const { handle, what, meeting } = workerData;
let said: unknown;
try {
  said = attach(handle);
  if (what === 'until stopped') {
    for (;;) {
      poll();
      host_sleep(1);
    }
  }
  if (what === 'count') counter_add(events, 3);
  if (what === 'meet') {
    Atomics.add(meeting, 0, 1);
    while (Atomics.load(meeting, 0) < 2) host_sleep(1); // each has a slot until both have
  }
  detach();
} catch (e) {
  said = (e as Error).message;
}
parentPort?.postMessage(said);
