/*
 * player_worker: a thread that is one CPU of the replayed machine.
 *
 * It attaches, says that it is up, waits for its task, plays, detaches, and
 * posts its totals; what it throws reaches the coordinator as the worker's error.
 * A recording may have work for fewer CPUs than there are: the others are dismissed.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { attach, detach } from '../../sys/boot/whole.ts';
import type { Handle } from '../../sys/machine/machdep.ts';
import { play_packets } from '../packet/packet_player.ts';
import { DISMISSED, Player } from './player.ts';
import type { AnyTask, AnyTotals } from './player_thread.ts';
import { play_pages } from '../vm/pages_player.ts';
import { play_spaces } from '../vm/vm_player.ts';

export interface PlayerStart {
  readonly machine: Handle;
}

attach((workerData as PlayerStart).machine);
parentPort?.once('message', (task: AnyTask | typeof DISMISSED) => {
  let totals: AnyTotals | typeof DISMISSED = DISMISSED;
  if (task !== DISMISSED) {
    if ('packets' in task) totals = play_packets(task);
    else if ('pages' in task) totals = play_pages(task);
    else totals = 'spaces' in task ? play_spaces(task) : new Player(task).run();
  }
  detach();
  parentPort?.postMessage(totals);
});
parentPort?.postMessage('up');
