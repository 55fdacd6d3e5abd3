/*
 * vm_player: the part of one CPU in the replay of operations on address spaces.
 *
 *      ring ─► vm_deal: whose is it, when is its turn ─► vm_calls: the system calls
 *                                                    └─► vm_touch: loads and stores
 *
 * It follows the ring and sees every operation; those of its own tasks it plays, each when those
 * before it in the same space are over, on whatever CPU these are.
 *
 * A recorded process becomes a space of the kernel: fork copies it, exec and the first line of
 * a process make an empty one, and when its last task has ended it is given back.  Spaces that
 * are left when the recording is over are of processes that did not end in it; then they end.
 *
 * Where memory is not had the replay goes on.  A call that failed is counted with its errno; a
 * space that could not be made is missing, and what is to be done in it is skipped and counted.
 *
 * What the players find out in the same way, each for itself, is told by all alike; the outcome
 * takes it from one of them (VmTotals.recorded).
 */
import { away } from '../../sys/boot/whole.ts';
import { EINVAL, ENOMEM, ETIMEDOUT, errno_name } from '../../sys/machine/errno.ts';
import { PAGE_SIZE } from '../../sys/machine/memory.ts';
import { NULL } from '../../sys/machine/struct.ts';
import {
  KERN_FAILURE,
  KERN_RESOURCE_SHORTAGE,
  VM_MAP_MAX,
  type vm_map_t,
} from '../../sys/h/vm_map.ts';
import { vmspace_alloc, vmspace_fork } from '../../sys/map/vm_map_fork.ts';
import { vm_map_keep, vm_map_unkeep } from '../../sys/map/vm_map_keep.ts';
import { to_page } from '../../sys/map/vm_bank.ts';
import { user_min } from '../../sys/map/vm_mmap.ts';
import { RingReader, type RingHandle } from '../ring/ring.ts';
import {
  V_ADDRESS,
  V_CALL,
  V_FILE,
  V_FLAGS,
  V_LENGTH,
  V_LINE,
  V_OFFSET,
  V_OP,
  V_PID,
  V_PROT,
  V_SPACE,
  V_TO,
  V_TO_LENGTH,
  VM_BRK,
  VM_CALLS,
  VM_COLUMNS,
  VM_EXEC,
  VM_EXIT,
  VM_FORK,
  VM_FREE,
  VM_MMAP,
  VM_MPROTECT,
  VM_MREMAP,
  VM_PREFAULT_READ,
  VM_START,
  VM_TOUCH,
  type VmBatch,
  vm_batches,
} from '../ring/vm_events.ts';
import {
  type CallFile,
  no_room,
  OTHERWISE,
  play_call,
  PLAYED,
  without_limits,
} from './vm_calls.ts';
import { Deal, type DealtSpace, type DealtTask } from './vm_deal.ts';
import { VmFiles } from './vm_files.ts';
import { VmShared, type VmSharedHandle } from './vm_shared.ts';
import { stretches } from './vm_stretch.ts';
import { Toucher, type TouchTotals, type Use } from './vm_touch.ts';

/** The part of one player. */
export interface VmPart {
  readonly index: number;
  readonly players: number;
  /** What makes it a task for this player. */
  readonly spaces: VmSharedHandle;
  readonly verify: boolean;
  /** Where the files are that the recorded programs had mapped; '': they are memory. */
  readonly folder: string;
}
export interface VmTask extends VmPart {
  readonly ring: RingHandle;
}
/** Counts by name of a call. */
export type ByCall = Record<string, number>;
/** The process that had most pages mapped, at a time. */
export interface Holder {
  pid: number;
  program: string;
  pages: number;
}
export interface VmTotals {
  play_seconds: number;
  /** Calls by name: made, and answered as recorded or not; */
  calls: ByCall;
  mismatches: ByCall;
  /** the first few of these that this player saw, by line; */
  different: Different[];
  /** that found no memory; whose space is missing for want of memory; that are not made. */
  no_memory: ByCall;
  skipped: ByCall;
  not_played: ByCall;
  touch: TouchTotals;
  /**
   * Spaces that were copied, and pages that these had mapped, which forks
   * without copy-on-write would copy.
   */
  forks: number;
  fork_pages: number;
  /** The process that held most of those this player played. */
  holder: Holder | null;
  /** What every player counts alike. */
  recorded: { operations: number; spaces: number; most_spaces: number; left: number };
}
export interface Different {
  line: number;
  what: string;
}

/** Calls that answered otherwise which are told by line. */
export const DIFFERENT_KEPT = 5;
/** How often a fork is tried that a CPU did not answer. */
const FORK_TRIES = 200;
/** What answers mean that do not speak for themselves. */
const ANSWERS = new Map([
  [OTHERWISE, 'something was in its place'],
  [ENOMEM, 'ENOMEM: no room at its address'],
]);
/** What stands for the name of a call where an operation follows from none: a process begins. */
const NO_CALL = '(none)';

/** Plays this CPU's part to the end of the recording. */
export function play_spaces(task: VmTask): VmTotals {
  const player = new VmPlayer(task);
  for (const batch of vm_batches(new RingReader(task.ring, task.index), away)) player.play(batch);
  player.finish();
  return player.totals;
}

export class VmPlayer {
  readonly totals: VmTotals;
  readonly #part: VmPart;
  readonly #deal: Deal;
  readonly #shared: VmShared;
  readonly #toucher: Toucher;
  readonly #contents: VmFiles;
  #files: readonly string[] = [];

  constructor(part: VmPart) {
    this.#part = part;
    this.#deal = new Deal(part.players);
    this.#shared = new VmShared(part.spaces);
    this.#contents = new VmFiles(part.folder);
    this.#toucher = new Toucher(this.#shared, this.#contents, part.verify);
    this.totals = {
      play_seconds: 0,
      calls: {},
      mismatches: {},
      different: [],
      no_memory: {},
      skipped: {},
      not_played: {},
      touch: this.#toucher.totals,
      forks: 0,
      fork_pages: 0,
      holder: null,
      recorded: { operations: 0, spaces: 0, most_spaces: 0, left: 0 },
    };
  }

  /** Plays operations, in the order of the recording. */
  play({ rows, count, files }: VmBatch): void {
    const began = performance.now();
    this.#files = files;
    for (let i = 0; i < count; i++) this.#row(rows, i * VM_COLUMNS);
    this.totals.recorded.operations += count;
    this.totals.play_seconds += (performance.now() - began) / 1000;
  }
  /** The recording is over: spaces of processes that did not end in it end now. */
  finish(): void {
    const { spaces_made, most_spaces, spaces } = this.#deal;
    const { recorded } = this.totals;
    Object.assign(recorded, { spaces: spaces_made, most_spaces, left: spaces.size });
    for (const number of [...spaces.keys()]) this.#free(number);
    this.#contents.close();
  }
  /** The kernel's record of a space of the recording; NULL: there was no memory for it. */
  map_of(number: number): vm_map_t {
    const space = this.#deal.spaces.get(number);
    return space === undefined ? (NULL as vm_map_t) : this.#shared.map(space.slot);
  }

  // --- whose an operation is, and when it is its turn -------------------------------------------

  #row(rows: Float64Array, at: number): void {
    const deal = this.#deal;
    const pid = rows[at + V_PID];
    switch (rows[at + V_OP]) {
      case VM_START: {
        const player = deal.least();
        deal.task(pid, player, this.#empty(rows, at, player));
        break;
      }
      case VM_FORK:
        this.#fork(rows, at, deal.task_of(pid));
        break;
      case VM_EXEC: {
        const task = deal.task_of(pid);
        task.space = this.#empty(rows, at, task.player);
        task.space.program = rows[at + V_FILE];
        break;
      }
      case VM_EXIT:
        if (this.#is_mine(deal.task_of(pid))) this.#counted(this.totals.calls, rows, at);
        deal.task_gone(pid);
        break;
      case VM_FREE:
        this.#free(rows[at + V_SPACE]);
        break;
      default:
        this.#memory(rows, at, deal.task_of(pid));
    }
  }
  #is_mine({ player }: DealtTask): boolean {
    return player === this.#part.index;
  }
  #counted(counts: ByCall, rows: Float64Array, at: number): void {
    const name = call_name(rows, at);
    if (name === NO_CALL && counts === this.totals.calls) return; // it follows from another
    counts[name] = (counts[name] ?? 0) + 1;
  }

  // --- spaces ----------------------------------------------------------------------------------

  /** A new space with nothing in it. */
  #empty(rows: Float64Array, at: number, player: number): DealtSpace {
    const { turns } = this.#shared;
    const space = this.#deal.space(rows[at + V_SPACE], player, null, 0);
    const turn = turns.next(space.slot);
    if (player !== this.#part.index) return space;
    turns.wait(space.slot, turn);
    const mp = vmspace_alloc(user_min(), VM_MAP_MAX);
    if (mp !== NULL) without_limits(mp);
    this.#made(rows, at, space, mp === NULL ? -KERN_RESOURCE_SHORTAGE : mp);
    turns.end(space.slot);
    return space;
  }
  #fork(rows: Float64Array, at: number, { player, space: from }: DealtTask): void {
    const deal = this.#deal;
    const mine = player === this.#part.index;
    const [pid, number] = [rows[at + V_TO], rows[at + V_TO_LENGTH]];
    if (number === rows[at + V_SPACE]) {
      deal.task(pid, deal.least(), from);
      if (mine) this.#counted(this.totals.calls, rows, at);
      return;
    }
    const { turns } = this.#shared;
    const turn = turns.next(from.slot);
    const space = deal.space(number, player, from, turn);
    const first = turns.next(space.slot);
    const child = deal.least();
    deal.task(pid, child, space);
    if (mine) {
      turns.wait(from.slot, turn);
      turns.wait(space.slot, first);
      this.#copied(rows, at, from, space, turn);
      turns.end(space.slot);
      turns.end(from.slot);
    }
    // The child goes on, on its own CPU.
    const second = turns.next(space.slot);
    if (child !== this.#part.index) return;
    turns.wait(space.slot, second);
    this.#goes_on(space, second);
    turns.end(space.slot);
  }
  /** A space that was forked, or came of it, is worked with. */
  #goes_on({ slot, descent }: DealtSpace, turn: number): void {
    const mp = this.#shared.map(slot);
    if (mp !== NULL) this.#toucher.forked({ mp, slot, turn, descent });
  }
  #copied(rows: Float64Array, at: number, from: DealtSpace, space: DealtSpace, turn: number): void {
    const shared = this.#shared;
    const parent = shared.map(from.slot);
    if (parent === NULL) {
      shared.set_map(space.slot, parent);
      this.#counted(this.totals.skipped, rows, at);
      return;
    }
    const pages = shared.look(from.slot);
    let made = vmspace_fork(parent);
    for (let n = 1; made === -KERN_FAILURE && n < FORK_TRIES; n++) made = vmspace_fork(parent);
    this.#made(rows, at, space, made);
    shared.place[space.slot] = shared.place[from.slot];
    if (made < 0) return;
    this.totals.forks++;
    this.totals.fork_pages += pages;
    this.#goes_on(from, turn);
  }
  /** A space that was made is in hand: it is kept. Or -KERN_*. */
  #made(rows: Float64Array, at: number, { slot }: DealtSpace, made: number): void {
    const mp = (made < 0 ? NULL : made) as vm_map_t;
    if (mp !== NULL) vm_map_keep(mp);
    this.#shared.set_map(slot, mp);
    if (made === -KERN_RESOURCE_SHORTAGE) this.#counted(this.totals.no_memory, rows, at);
    else if (made < 0) this.#differs(rows, at, made === -KERN_FAILURE ? ETIMEDOUT : EINVAL);
    else this.#counted(this.totals.calls, rows, at);
  }
  /** Nobody has a space any more. */
  #free(number: number): void {
    const shared = this.#shared;
    const space = this.#deal.space_gone(number);
    const turn = shared.turns.next(space.slot);
    if (space.maker !== this.#part.index) return;
    shared.turns.wait(space.slot, turn);
    const mp = shared.map(space.slot);
    shared.set_map(space.slot, NULL as vm_map_t);
    shared.look(space.slot);
    if (mp !== NULL) vm_map_unkeep(mp);
    shared.turns.end(space.slot);
  }

  // --- calls on memory -------------------------------------------------------------------------

  #memory(rows: Float64Array, at: number, task: DealtTask): void {
    const { slot, descent, program } = task.space;
    const { turns } = this.#shared;
    const turn = turns.next(slot);
    if (!this.#is_mine(task)) return;
    turns.wait(slot, turn);
    const mp = this.#shared.map(slot);
    const op = rows[at + V_OP];
    const use = { mp, slot, turn, descent };
    if (op === VM_TOUCH) {
      if (mp !== NULL) this.#touch(rows, at, use);
    } else if (!PLAYED.has(op)) this.#counted(this.totals.not_played, rows, at);
    else if (mp === NULL) this.#counted(this.totals.skipped, rows, at);
    else this.#call(rows, at, use);
    this.#held(rows[at + V_PID], slot, program);
    turns.end(slot);
  }
  #touch(rows: Float64Array, at: number, use: Use): void {
    const [address, bytes] = [rows[at + V_ADDRESS], rows[at + V_LENGTH]];
    this.#toucher.call(use);
    if (rows[at + V_FLAGS] === 1) this.#toucher.read(use, address, bytes);
    else this.#toucher.written(use, address, bytes);
  }
  #call(rows: Float64Array, at: number, use: Use): void {
    this.#toucher.call(use);
    const usable = usable_range(use.mp, rows, at);
    const result = play_call(use.mp, rows, at, this.#file(rows, at));
    const short = result === ENOMEM && !no_room(use.mp, rows, at);
    if (short) this.#counted(this.totals.no_memory, rows, at);
    else if (result !== 0) this.#differs(rows, at, result);
    else this.#counted(this.totals.calls, rows, at);
    if (usable === null || result > 0) return;
    const all = rows[at + V_OP] === VM_MMAP && (rows[at + V_FLAGS] & VM_PREFAULT_READ) !== 0;
    this.#toucher.begun(use, usable[0], usable[1], all);
  }
  /** What a call maps of a file; undefined: it maps memory. */
  #file(rows: Float64Array, at: number): CallFile | undefined {
    const file = rows[at + V_FILE];
    if (rows[at + V_OP] !== VM_MMAP || file === 0) return undefined;
    const offset = rows[at + V_OFFSET];
    const name = this.#files[file] ?? '';
    const object = this.#contents.object(file, name, offset + rows[at + V_LENGTH]);
    return object === NULL ? undefined : { object, offset };
  }
  #differs(rows: Float64Array, at: number, result: number): void {
    const { different, mismatches } = this.totals;
    this.#counted(mismatches, rows, at);
    if (different.length === DIFFERENT_KEPT) return;
    const answer = ANSWERS.get(result) ?? errno_name(result);
    different.push({ line: rows[at + V_LINE], what: `${call_name(rows, at)}: ${answer}` });
  }
  /** Notes what a space maps, if that is more than any held before. */
  #held(pid: number, slot: number, program: number): void {
    const { totals } = this;
    const pages = this.#shared.look(slot);
    if (pages <= (totals.holder?.pages ?? 0)) return;
    totals.holder = { pid, program: this.#files[program] ?? '', pages };
  }
}

/** The name of the call that an operation was. */
function call_name(rows: Float64Array, at: number): string {
  return VM_CALLS[rows[at + V_CALL]] || NO_CALL;
}
/** The memory that a call makes usable, from an address on; null: none. Before it is made. */
function usable_range(
  mp: vm_map_t,
  rows: Float64Array,
  at: number,
): [address: number, length: number] | null {
  const [address, length] = [rows[at + V_ADDRESS], rows[at + V_LENGTH]];
  switch (rows[at + V_OP]) {
    case VM_MMAP:
      return [address, length];
    case VM_MPROTECT: {
      const first = rows[at + V_PROT] === 0 ? -1 : to_page(mp, address);
      const before = first < 0 ? undefined : stretches(mp, first, first + 1)[0];
      return before?.prot === 0 ? [address, length] : null;
    }
    case VM_BRK: {
      const from = Math.ceil(length / PAGE_SIZE) * PAGE_SIZE;
      return address > from ? [from, address - from] : null;
    }
    case VM_MREMAP: {
      const more = rows[at + V_TO_LENGTH] - length;
      return more > 0 ? [rows[at + V_TO] + length, more] : null;
    }
    default:
      return null;
  }
}
