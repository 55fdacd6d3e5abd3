/*
 * listen_thread: a control socket that is served by a thread of its own.
 *
 *      the program's thread                     listen_worker.ts
 *      listen({ worker: true })  ── starts ──>  takes a CPU slot, opens the socket, parks
 *                                <── path ────
 *      its event loop may be stuck              answers the tools
 *      close, leaving the machine ── word ──>   closes the socket, gives the slot back, ends
 *
 * That thread is one of the kernel's, not of the program's: it has no named objects and keeps no
 * process alive.  While it has nothing to answer it is parked, so that nobody waits for it.
 *
 * Ends.  It ends when it is told to; when the machine was shut down or has panicked, which it looks
 * for by itself, because this thread may be stuck; and with this thread, as all workers of one do:
 * then its slot is settled as that of any thread that died.  The socket's file goes with the
 * listener, also when the process ends by itself; after a kill it stays until a tool meets it.
 */
import { cpu_exited } from '../sys/machine/death.ts';
import { EIO, EOPNOTSUPP } from '../sys/machine/errno.ts';
import { type Handle, machine_handle } from '../sys/machine/machdep.ts';
import { type Context, inKernel, letGo, type Mortal } from './context.ts';
import { atSignal } from './at_signal.ts';
import { kmemError } from './errors.ts';
import { hostAtExit, hostBuiltin } from './host.ts';
import { type Listener, type ListenOptions, remover } from './listen.ts';
import type { Host } from './socket_folder.ts';

/** What the thread is started with. */
export interface ListenStart {
  readonly kmem: Handle;
  readonly options: ListenOptions;
}
/** What it says: where it listens, or why it does not. */
export type ListenSaid =
  | { readonly path: string }
  | { readonly errno: number; readonly op: string; readonly text: string };

interface Thread {
  readonly threadId: number;
  on(event: 'message', hear: (said: ListenSaid) => void): void;
  on(event: 'error', hear: (e: Error) => void): void;
  on(event: 'exit', hear: () => void): void;
  postMessage(word: 'close'): void;
  unref(): void;
}
interface Threads {
  Worker: new (file: URL, options: { workerData: ListenStart; name: string }) => Thread;
}

/** A control socket in a thread of its own. */
class ThreadListener implements Listener, Mortal {
  readonly path: string;
  readonly #ctx: Context;
  readonly #thread: Thread;
  readonly #ended: Promise<void>;
  readonly #remove: () => void;
  readonly #offs: (() => void)[];
  #told = false;

  constructor(
    ctx: Context,
    thread: Thread,
    ended: Promise<void>,
    of: { path: string; remove: () => void; signals: boolean },
  ) {
    this.path = of.path;
    this.#ctx = ctx;
    this.#thread = thread;
    this.#ended = ended;
    this.#remove = of.remove;
    this.#offs = [hostAtExit(of.remove)];
    if (of.signals) this.#offs.push(atSignal(of.remove));
    ctx.waits.add(this);
    // It may end by itself: the machine was shut down.
    void ended.then(() => this.#forget());
  }
  close(): Promise<void> {
    this.#forget();
    if (!this.#told) this.#thread.postMessage('close');
    this.#told = true;
    return this.#ended;
  }
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
  /** @internal */
  bury(): void {
    void this.close();
  }
  #forget(): void {
    this.#remove();
    this.#ctx.waits.delete(this);
    for (const off of this.#offs.splice(0)) off();
  }
}

/** Starts the thread, and waits until it listens. See Machine.listen. */
export async function listenInThread(
  ctx: Context,
  up: () => boolean,
  host: Host,
  options: ListenOptions,
): Promise<Listener> {
  const threads = hostBuiltin<Threads>('node:worker_threads');
  const handle = machine_handle();
  if (!threads || handle.memory === null) {
    throw kmemError(EOPNOTSUPP, 'listen', 'worker: no other thread can share this memory');
  }
  const file = new URL(/* @vite-ignore */ './listen_worker.ts', import.meta.url);
  const workerData: ListenStart = { kmem: handle, options };
  const thread = new threads.Worker(file, { workerData, name: 'kmem listen' });
  const id = thread.threadId; // it is -1 once the thread is gone
  const ended = new Promise<void>((resolve) => {
    thread.on('exit', () => {
      // Does nothing if it has given its slot back.
      if (up()) letGo(() => inKernel('exit', () => cpu_exited(id)));
      resolve();
    });
  });
  const said = await new Promise<ListenSaid>((resolve) => {
    const failed = (text: string): void => resolve({ errno: EIO, op: 'listen', text });
    thread.on('message', resolve);
    thread.on('error', (e) => failed(`worker: ${e.message}`));
    void ended.then(() => failed('worker: the thread ended before it listened'));
  });
  if ('errno' in said) throw kmemError(said.errno, said.op, said.text);
  thread.unref();
  const remove = remover(host, said.path);
  const { signals = false } = options;
  return new ThreadListener(ctx, thread, ended, { path: said.path, remove, signals });
}
