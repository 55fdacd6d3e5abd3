/*
 * The worker of vm_meter.test.ts: runs the program some times, and says what it did.
 */
import { attach, detach } from '../boot/whole.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { run_job } from '../machine/workers.test.lib.ts';
import { program, sum } from './vm_meter.test.lib.ts';

interface Task {
  seed: number;
  at: number;
  times: number;
}
run_job<Task>(
  (_job, { seed, at, times }) => {
    const draw = dice(seed);
    return { ...sum(Array.from({ length: times }, () => program(at, draw))) };
  },
  { join: attach, leave: () => void detach() },
);
