/*
 * slot: a CPU leaves and joins again while the others drain, reclaim and look for the dead.
 *
 * CPU 1 gives its slot back with items in its caches and takes it again; CPU 0 works and
 * reaps; CPU 2 sleeps, so that its caches are claimed, and reclaims.  If CPU 1 dies on
 * the way, its slot must come free, held by nobody, with nothing missing.
 */
import { M, machine } from '../../src/sys/machine/header.ts';
import { slot_joined, slot_leave, slot_start, slot_take } from '../../src/sys/machine/cpu_slots.ts';
import { cpu_alive, cpus_attached, reap_all } from '../../src/sys/machine/death.ts';
import { tsleep } from '../../src/sys/sync/subr_sleepqueue.ts';
import { check_account } from '../account.ts';
import { burst, reclaim, setup } from '../malloc_ops.ts';
import { type SimScript, scratch } from '../script.ts';

const rejoin = (): void => {
  const generation = machine.generation[M];
  slot_leave();
  const taken = slot_take(generation);
  if (taken === null || taken.cpu !== 1)
    throw new Error(`took ${taken?.cpu}: slot 1 was given back`);
  slot_start(taken);
  slot_joined();
};
const look = (): void => void reap_all();
const nap = (): void => void tsleep(scratch(), 'a nap', 0.5, () => true);

function check(): string | undefined {
  const one = cpu_alive(1) ? 1 : 0;
  if (cpus_attached() !== 2 + one)
    return `${cpus_attached()} slots are held, ${2 + one} threads live`;
  return check_account();
}

export const script: SimScript = {
  help: 'slot: a CPU dies while it leaves its slot or takes it again',
  cpus: 3,
  victim: 1,
  kill_seeds: 1,
  setup: () => setup(),
  ops: (cpu) =>
    cpu === 1
      ? [burst(4, 500), rejoin, burst(4, 500), rejoin]
      : cpu === 0
        ? [burst(4, 500), look, reclaim, look]
        : [burst(4, 500), nap, reclaim, nap],
  check,
};
