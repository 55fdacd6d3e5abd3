/*
 * A thread that joins a machine by boot/main.ts for machdep.test.ts, does one
 * thing and says how it went.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { attach, detach } from '../boot/main.ts';
import { atomic_load } from './atomic.ts';
import { poll } from './cpu.ts';
import { counter_u64 } from './counter.ts';
import { M, machine } from './header.ts';
import { host_sleep } from './host.ts';
import { field_word } from './struct.ts';
import { CTLFLAG_RDTUN, sysctl_int } from './sysctl_decl.ts';

// The same declarations as the test, or the layouts would differ.
counter_u64('debug.test.events', 'Events that this test makes');
sysctl_int('debug.test.tunable', {
  value: 3,
  min: 1,
  max: 10,
  flags: CTLFLAG_RDTUN,
  help: 'A tunable of this test',
});

const { handle, what } = workerData;
let said: unknown;
try {
  said = attach(handle);
  if (what === 'until stopped') {
    for (;;) {
      poll();
      host_sleep(1);
    }
  }
  // Two that stay at once must have two slots: wait a while for the other.
  for (let i = 0; i < 200 && atomic_load(field_word(machine.attached, M)) < 3; i++) {
    host_sleep(1);
  }
  host_sleep(20);
  detach();
} catch (e) {
  said = (e as Error).message;
}
parentPort?.postMessage(said);
