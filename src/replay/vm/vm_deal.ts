/*
 * vm_deal: who plays what of a recording of system calls.
 *
 *      operations  ─┬─► player on CPU 1:  those of tasks 1692, 1695 …
 *                   └─► player on CPU 2:  those of tasks 1693, 1694 …
 *
 * Every player sees every operation, in the order of the recording, and so all of them come to
 * the same answers here without a word between them.  A task is dealt to the CPU that has the
 * fewest of those that live; threads of one process, and a vfork's child and its parent, may be
 * on different CPUs, and then two CPUs work in one space.
 *
 * A space has a slot, a small number that is used again when it is gone.  By the slot the players
 * share what one must know of what another did (vm_shared.ts), and take turns: an operation
 * waits for those before it in the same space.  A fork is one in two spaces, its parent's and
 * its child's.  In different spaces the CPUs go on beside each other.
 *
 * The CPU that makes a space also ends it, because it is this one that keeps it meanwhile.
 *
 * Line of descent.  What stands in private memory of a space was written there by itself, or
 * by the space that it was copied from, before that; and so on upwards.
 */

/** A space and those that it descends from. */
export interface Descent {
  /** Its number in the recording. */
  readonly space: number;
  readonly from: Descent | null;
  /** The parent's turn in which it was copied. */
  readonly turn: number;
}
export interface DealtSpace {
  readonly slot: number;
  /** The player that makes it, keeps it, and ends it. */
  readonly maker: number;
  readonly descent: Descent;
  /** Names of its program, as an index of the files of the batch; 0: not known. */
  program: number;
}
export interface DealtTask {
  readonly player: number;
  space: DealtSpace;
}

export class Deal {
  /** Spaces that are there now, by their numbers in the recording. */
  readonly spaces = new Map<number, DealtSpace>();
  /** How many there were in all, and at a time. */
  spaces_made = 0;
  most_spaces = 0;
  readonly #tasks = new Map<number, DealtTask>();
  readonly #load: number[];
  readonly #free: number[] = [];

  constructor(players: number) {
    this.#load = new Array<number>(players).fill(0);
  }

  /** A new space; `from` is null, or it is a copy, made in that turn of the parent. */
  space(number: number, maker: number, from: DealtSpace | null, turn: number): DealtSpace {
    const slot = this.#free.pop() ?? this.spaces.size;
    const descent = { space: number, from: from?.descent ?? null, turn };
    const made = { slot, maker, descent, program: from?.program ?? 0 };
    this.spaces.set(number, made);
    this.spaces_made++;
    this.most_spaces = Math.max(this.most_spaces, this.spaces.size);
    return made;
  }
  /** A space is gone; its slot may be used again. */
  space_gone(number: number): DealtSpace {
    const space = this.spaces.get(number);
    if (space === undefined) throw new Error(`vm_deal: space ${number} is not there`);
    this.spaces.delete(number);
    this.#free.push(space.slot);
    return space;
  }
  /** The player that a new task would be dealt to. */
  least(): number {
    return this.#load.indexOf(Math.min(...this.#load));
  }
  task(pid: number, player: number, space: DealtSpace): void {
    this.#tasks.set(pid, { player, space });
    this.#load[player]++;
  }
  task_of(pid: number): DealtTask {
    const task = this.#tasks.get(pid);
    if (task === undefined) throw new Error(`vm_deal: task ${pid} is not there`);
    return task;
  }
  task_gone(pid: number): void {
    this.#load[this.task_of(pid).player]--;
    this.#tasks.delete(pid);
  }
}

/** Whether what space `writer` wrote in one of its turns may stand in private memory of another. */
export function may_hold(descent: Descent, writer: number, turn: number): boolean {
  for (let at: Descent | null = descent; at !== null; at = at.from) {
    if (at.from !== null && at.from.space === writer) return turn < at.turn;
    if (at.space === writer) return true;
  }
  return false;
}
