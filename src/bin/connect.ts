/*
 * connect: how a tool finds a running machine, and asks it.
 *
 *      main thread     request() ── posts ──> worker ──> control socket of the program
 *                      sleeps on a word         │
 *                      wakes, takes the reply <─┘ <── reply
 *
 * Tools ask as in BSD: a call of sysctl(3) that returns with the answer.  Sockets
 * here answer in an event loop, so one thread speaks to the socket, and the thread
 * that runs the tool sleeps until the answer is there.  It sleeps for a limited
 * time: a program whose event loop computes cannot answer, and the user is told.
 *
 * Finding.  Sockets lie in known folders (lib/socket_folder.ts); each that is met
 * says in its greeting which machine it is.  One that refuses was left by a program
 * that was killed, and is removed.  Two sockets of one machine count once.  With
 * one machine running there is nothing to choose; otherwise -p or --socket do.
 */
import { connect } from 'node:net';
import { lstatSync, readdirSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import {
  MessageChannel,
  type MessagePort,
  receiveMessageOnPort,
  Worker,
} from 'node:worker_threads';
import { folderFault, socketFolders, socketHost, socketOwner } from '../lib/socket_folder.ts';
import {
  Frames,
  type Hello,
  helloOf,
  REPLY_BYTES_MAX,
  type Reply,
  WireError,
} from '../lib/wire.ts';

/** The machine cannot be reached, or went away. */
export class ConnectError extends Error {
  override readonly name = 'ConnectError';
}
/** Several machines are running, and none was chosen. */
export class SeveralError extends Error {
  readonly table: string;
  constructor(message: string, table: string) {
    super(message);
    this.table = table;
  }
}

export interface ConnectOptions {
  /** The process; undefined: the only one there is. */
  readonly pid?: number;
  /** The socket itself. */
  readonly socket?: string;
  /** How long an answer may take, seconds. */
  readonly timeout: number;
}

export interface Found {
  readonly path: string;
  readonly pid: number;
  /** null: it does not answer. */
  readonly hello: Hello | null;
}

/** How a socket answers a connection: its greeting, or what is wrong with it. */
type Greeting = Hello | 'stale' | 'busy' | 'closed' | Error;

function greeting(path: string, ms: number): Promise<Greeting> {
  return new Promise((resolve) => {
    const frames = new Frames(REPLY_BYTES_MAX);
    const socket = connect(path);
    const end = (g: Greeting): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(g);
    };
    const timer = setTimeout(() => end('busy'), ms);
    socket.on('error', (e: NodeJS.ErrnoException) => end(e.code === 'ECONNREFUSED' ? 'stale' : e));
    socket.on('close', () => end('closed')); // it went down just now
    socket.on('data', (chunk: Uint8Array) => {
      frames.push(chunk);
      try {
        const body = frames.take();
        if (body) end(helloOf(body));
      } catch (e) {
        end(e as Error);
      }
    });
  });
}
/** Removes a socket that nobody listens at; another tool may be faster. */
function remove(path: string): void {
  try {
    if (lstatSync(path).isSocket()) unlinkSync(path);
  } catch {}
}
async function look_at(path: string, pid: number, ms: number): Promise<Found | null> {
  const g = await greeting(path, ms);
  if (g === 'stale') remove(path);
  if (g === 'busy') return { path, pid, hello: null };
  // What is no socket of ours, or went away meanwhile, is none of our business.
  return typeof g === 'string' || g instanceof Error ? null : { path, pid, hello: g };
}
/** The running machines of this user, and why a folder could not be looked into. */
export async function find_machines(
  ms: number,
  pid?: number,
): Promise<{ found: Found[]; faults: string[] }> {
  const host = socketHost();
  if (!host) throw new ConnectError('this host has no Unix sockets');
  const looks: Promise<Found | null>[] = [];
  const faults: string[] = [];
  for (const folder of socketFolders(host)) {
    const fault = folderFault(host, folder);
    if (typeof fault === 'string') faults.push(fault);
    if (fault !== null) continue;
    for (const name of readdirSync(folder)) {
      const owner = socketOwner(name);
      if (!owner || (pid !== undefined && owner.pid !== pid)) continue;
      looks.push(look_at(join(folder, name), owner.pid, ms));
    }
  }
  const all = (await Promise.all(looks)).filter((f) => f !== null);
  all.sort((a, b) => a.pid - b.pid || (a.hello?.thread ?? 0) - (b.hello?.thread ?? 0));
  const seen = new Set<string>();
  const found = all.filter(({ path, pid, hello }) => {
    const key = hello ? `${pid} ${hello.machine}` : path;
    return !seen.has(key) && seen.add(key);
  });
  return { found, faults };
}

function table_of(found: readonly Found[]): string {
  const rows = found.map(({ path, pid, hello }) => [
    String(pid),
    hello ? `${hello.memory / 2 ** 20}M` : '-',
    hello ? hello.bootedAt : 'does not answer',
    path,
  ]);
  rows.unshift(['PID', 'MEMORY', 'BOOTED AT', 'SOCKET']);
  const widths = [0, 1, 2].map((i) => Math.max(...rows.map((r) => r[i].length)));
  return rows
    .map(([a, b, c, d]) => {
      const [pid, memory] = [a.padStart(widths[0]), b.padStart(widths[1])];
      return `  ${pid}  ${memory}  ${c.padEnd(widths[2])}  ${d}\n`;
    })
    .join('');
}
function busy(pid: number | string, timeout: number): ConnectError {
  const text = `pid ${pid} does not answer (${timeout} s): its event loop is busy`;
  return new ConnectError(`${text}; kmem dump ${pid} reads its memory all the same`);
}
async function at_socket(path: string, timeout: number): Promise<Found> {
  const g = await greeting(path, timeout * 1000);
  if (g === 'busy') {
    const text = `${path}: no answer (${timeout} s): the program's event loop is busy`;
    throw new ConnectError(text);
  }
  if (g === 'stale' || g === 'closed') throw new ConnectError(`${path}: no program listens there`);
  if (!(g instanceof Error)) return { path, pid: g.pid, hello: g };
  const { code } = g as NodeJS.ErrnoException;
  const known: Record<string, string> = {
    ENOENT: 'there is no such file',
    ENOTSOCK: 'is no socket',
    EACCES: 'belongs to another user, or its folder does',
  };
  throw new ConnectError(`${path}: ${known[code ?? ''] ?? g.message}`);
}
/** The machine that is meant. Throws ConnectError, SeveralError. */
export async function choose_machine(o: ConnectOptions): Promise<Found> {
  if (o.socket !== undefined) return at_socket(o.socket, o.timeout);
  const { found, faults } = await find_machines(o.timeout * 1000, o.pid);
  const of_pid = o.pid === undefined ? '' : ` of pid ${o.pid}`;
  if (found.length === 0) {
    const aside = faults.length > 0 ? ` (${faults.join('; ')})` : '';
    throw new ConnectError(
      `no running machine${of_pid} is found: its program must call machine.listen()${aside}`,
    );
  }
  if (found.length > 1) {
    const by = o.pid === undefined ? '-p PID, or --socket PATH' : '--socket PATH';
    const text = `${found.length} machines${of_pid} are running: choose one by ${by}`;
    throw new SeveralError(text, table_of(found));
  }
  if (!found[0].hello) throw busy(found[0].pid, o.timeout);
  return found[0];
}

// --- asking -------------------------------------------------------------------------------------

/** What the worker posts: the greeting, then replies; or why there will be none. */
export type FromWorker = { hello: Hello } | { reply: Reply } | { gone: string };
export interface ToWorker {
  readonly mib: readonly number[];
  readonly room: number | null;
  readonly value: Uint8Array | null;
  readonly ddb?: boolean;
}
/** What the worker is started with. */
export interface WorkerStart {
  readonly path: string;
  readonly port: MessagePort;
  /** One word: how many messages were posted. */
  readonly posted: Int32Array;
}

/** A connection whose requests return with the answer. */
export class Connection {
  readonly pid: number;
  readonly #timeout: number;
  readonly #worker: Worker;
  readonly #port: MessagePort;
  readonly #posted = new Int32Array(new SharedArrayBuffer(4));

  constructor({ path, pid }: Found, timeout: number) {
    const { port1, port2 } = new MessageChannel();
    this.pid = pid;
    this.#timeout = timeout;
    this.#port = port1;
    this.#worker = new Worker(new URL('./connect_worker.ts', import.meta.url), {
      workerData: { path, port: port2, posted: this.#posted } satisfies WorkerStart,
      transferList: [port2],
    });
    this.#worker.unref();
    this.#receive(); // the greeting
  }
  /** One request. Throws ConnectError if there is no answer in time, or ever. */
  request(request: ToWorker): Reply {
    this.#port.postMessage(request);
    const said = this.#receive();
    if ('reply' in said) return said.reply;
    throw new WireError('a second greeting');
  }
  #receive(): FromWorker {
    const until = performance.now() + this.#timeout * 1000;
    for (;;) {
      const posted = Atomics.load(this.#posted, 0);
      const got = receiveMessageOnPort(this.#port);
      if (got) {
        const said = got.message as FromWorker;
        if ('gone' in said) throw new ConnectError(`pid ${this.pid}: ${said.gone}`);
        return said;
      }
      const left = until - performance.now();
      if (left <= 0) throw busy(this.pid, this.#timeout);
      Atomics.wait(this.#posted, 0, posted, left);
    }
  }
  async close(): Promise<void> {
    this.#port.close();
    await this.#worker.terminate();
  }
}
