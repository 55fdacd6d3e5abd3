/*
 * strace_stats: what a recording of system calls says, as one document.
 *
 * Names and meaning are those of traces/truth.json:
 *
 *   lines              all of the file, empty and damaged ones and a cut last one
 *                      included
 *   unparsed           those of which no sense could be made
 *   signals            `--- SIG… ---`, and stops, which are written alike
 *   exits, killed      `+++ exited with N +++`, `+++ killed by SIG… +++`
 *   unfinished         lines that end in `<unfinished ...>`; resumed those that begin
 *                      with `<... NAME resumed>`
 *   never_resumed      calls left unfinished whose process ended, or went on with
 *                      another call, or whose end the recording has not; by name in
 *                      never_resumed_calls.  They are not in `calls`
 *   thread_ids_seen    different numbers in front of lines; a number that was used again
 *                      counts once, lines without any are of one process
 *   calls              calls that ended, by name, failed ones and those of unknown
 *                      result (`?`) included; a call counts when it ends
 *   errors             of these, those with the result -1 and the name of an error, by it
 *   processes_created  fork, vfork, clone and clone3 that answered a number above 0
 *   threads_created    the same with CLONE_THREAD; these are not in processes_created
 *   mmap_bytes, munmap_bytes   lengths as they were asked for, of calls that did not fail
 *   read_bytes, write_bytes    results above 0 of `read` and of `write`; of no other call
 *
 * Of recordings in which blocks of named files are read and written (-y), the figures of
 * strace_blocks.ts follow; where these are files below /data, the format is `strace block`.
 */
import { type BlockFigures, StraceBlocks } from './strace_blocks.ts';
import { Names, type StraceCall, type StraceCalls } from './strace_calls.ts';

/** What the calls say. */
export interface StraceFigures extends Partial<BlockFigures> {
  format: 'strace' | 'strace block';
  signals: number;
  exits: number;
  killed: number;
  resumed: number;
  unfinished: number;
  never_resumed: number;
  never_resumed_calls: Record<string, number>;
  thread_ids_seen: number;
  calls: Record<string, number>;
  errors: Record<string, number>;
  processes_created: number;
  threads_created: number;
  mmap_bytes: number;
  munmap_bytes: number;
  read_bytes: number;
  write_bytes: number;
}

const CLONE_FLAGS = { CLONE_VM: 0x100, CLONE_FILES: 0x400, CLONE_THREAD: 0x10000 };

/** Whether a call by which a process is made has this flag, by name or as a bit. */
export function has_flag(call: StraceCall, flag: keyof typeof CLONE_FLAGS): boolean {
  const raw = /\bflags=(0x[0-9a-f]+)/.exec(call.args);
  if (raw === null) return new RegExp(`\\b${flag}\\b`).test(call.args);
  return Math.floor(Number(raw[1]) / CLONE_FLAGS[flag]) % 2 === 1;
}

export class StraceStats {
  readonly #calls = new Names();
  readonly #errors = new Names();
  readonly #blocks = new StraceBlocks();
  #processes = 0;
  #threads = 0;
  #mmap_bytes = 0;
  #munmap_bytes = 0;
  #read_bytes = 0;
  #write_bytes = 0;

  /** A call ended. */
  call(call: StraceCall): void {
    const { name, result, error } = call;
    this.#calls.add(name);
    if (error !== '') this.#errors.add(error);
    if (error !== '' || !(result >= 0)) return;
    switch (name) {
      case 'read':
        this.#read_bytes += result;
        break;
      case 'write':
        this.#write_bytes += result;
        break;
      case 'mmap':
        this.#mmap_bytes += call.memory?.length ?? 0;
        break;
      case 'munmap':
        this.#munmap_bytes += call.memory?.length ?? 0;
        break;
      case 'pread64':
      case 'pwrite64':
        this.#blocks.call(call);
        break;
      case 'fork':
      case 'vfork':
      case 'clone':
      case 'clone3':
        if (result === 0) break;
        if (has_flag(call, 'CLONE_THREAD')) this.#threads++;
        else this.#processes++;
    }
  }

  document(of: StraceCalls): StraceFigures {
    return {
      format: this.#blocks.own ? 'strace block' : 'strace',
      signals: of.signals,
      exits: of.exits,
      killed: of.killed,
      resumed: of.resumed,
      unfinished: of.unfinished,
      never_resumed: of.lost.total,
      never_resumed_calls: of.lost.sorted(),
      thread_ids_seen: of.pids.size,
      calls: this.#calls.sorted(),
      errors: this.#errors.sorted(),
      processes_created: this.#processes,
      threads_created: this.#threads,
      mmap_bytes: this.#mmap_bytes,
      munmap_bytes: this.#munmap_bytes,
      read_bytes: this.#read_bytes,
      write_bytes: this.#write_bytes,
      ...this.#blocks.document(),
    };
  }
}
