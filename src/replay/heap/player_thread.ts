/*
 * player_thread: one player's thread, as the thread that started it sees it.
 *
 * Life of a player: the thread attaches to the machine and says that it is up; it
 * gets its task; it plays, detaches and tells its totals.  If it is dismissed instead,
 * it detaches, and has none.  What it throws, or an
 * end without totals, rejects `end`, and `up` if that is still awaited.
 */
import { Worker } from 'node:worker_threads';
import type { PacketTask, PacketTotals } from '../packet/packet_task.ts';
import { DISMISSED, type PlayerTask, type PlayerTotals } from './player.ts';
import type { PlayerStart } from './player_worker.ts';
import type { Reader } from '../read/reader.ts';
import type { PagesTask, PagesTotals } from '../vm/pages_player.ts';
import type { VmTask, VmTotals } from '../vm/vm_player.ts';

/** A player's thread died of something that is not a kernel's error. */
export class PlayerError extends Error {
  override readonly name = 'PlayerError';
}

export type AnyTask = PlayerTask | PacketTask | VmTask | PagesTask;
export type AnyTotals = PlayerTotals | PacketTotals | VmTotals | PagesTotals;

export class PlayerThread {
  readonly worker: Worker;
  readonly index: number;
  readonly up: Promise<void>;
  readonly end: Promise<AnyTotals>;
  /** It was dismissed, and is no CPU any more. */
  readonly gone: Promise<void>;
  #reader: Reader | null = null;

  constructor(machine: PlayerStart['machine'], index: number) {
    const start = { workerData: { machine } satisfies PlayerStart };
    this.index = index;
    this.worker = import.meta.url.endsWith('.ts')
      ? new Worker(new URL('./player_worker.ts', import.meta.url), start)
      : new Worker(new URL('./player_worker.js', import.meta.url), start);
    let is_up: () => void = () => {};
    let not_up: (e: Error) => void = () => {};
    let gone_well: () => void = () => {};
    this.gone = new Promise((resolve) => {
      gone_well = resolve;
    });
    this.up = new Promise((resolve, reject) => {
      is_up = resolve;
      not_up = reject;
    });
    this.end = new Promise((resolve, reject) => {
      let totals: AnyTotals | null = null;
      const fail = (e: Error): void => {
        this.#reader?.player_gone(index);
        not_up(e);
        reject(e);
      };
      this.worker.on('message', (m: AnyTotals | 'up' | typeof DISMISSED) => {
        if (m === 'up') is_up();
        else if (m === DISMISSED) gone_well();
        else totals = m;
      });
      this.worker.on('error', (e: Error) => fail(player_error(index, e)));
      this.worker.on('exit', (code) => {
        if (totals) resolve(totals);
        else fail(player_error(index, new Error(`it ended early, with exit code ${code}`)));
      });
    });
    this.end.catch(() => {}); // whoever waits for `up` hears of it first
  }
  /** There is nothing to play for it; then nobody waits for its `end`. */
  async dismiss(reader: Reader): Promise<void> {
    reader.player_gone(this.index);
    this.worker.postMessage(DISMISSED);
    await Promise.race([this.gone, this.end]);
  }
  /** Gives the thread its task, which reads that reader's ring. */
  start(reader: Reader, task: AnyTask): void {
    this.#reader = reader;
    this.worker.postMessage(task);
  }
}

/** Errors that a player throws for the user. */
const TOLD = ['KmemError', 'KernelPanic', 'SourceError'];

/** An error of the kernel as it is; any other with the CPU and the place, in one line. */
function player_error(index: number, e: Error): Error {
  if (TOLD.includes(e.name)) return e;
  const place = /([^/\s]+\.[jt]s:\d+)(:\d+)?\)?$/m.exec(e.stack ?? '')?.[1];
  const where = place && !place.startsWith('player_thread') ? ` (${place})` : '';
  const text = `the player on CPU ${index + 1} died: ${e.message}${where}`;
  return new PlayerError(text, { cause: e });
}
