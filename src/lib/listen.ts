/*
 * listen: the control socket, by which other programs ask this one's machine.
 *
 *      await machine.listen();        then, in another terminal:  kmem vmstat -m
 *
 *      tool ── request ──> Unix socket ──> event loop of the thread that listens
 *           <── reply ───                    └── sysctl(name, old, new)
 *
 * What can be asked and set is what sysctl(3) of this kernel offers, no more and no
 * less; wire.ts has every byte.  The socket belongs to the user: mode 0600, in a
 * folder with mode 0700 (socket_folder.ts), and it is never a TCP port.
 *
 * Life of the socket.  It is bound and gets its mode in a folder of its own, which
 * nobody else may enter, and is then put at its path (socket_publish.ts).  So a socket
 * that can be seen listens already, and one that refuses a connection is stale.  It goes when
 * it is closed, when the thread leaves the machine, when the thread ends by itself, and
 * before SIGINT, SIGTERM or SIGHUP ends the process (at_signal.ts); after SIGKILL it stays
 * until somebody meets it: the next tool or listener.
 *
 * The program is never disturbed.  Neither the socket nor its clients keep the
 * process alive.  Requests of all clients are served in turns, one of each, for at
 * most TURN_MS of each WINDOW_MS.  What a client can make us hold is bounded: a
 * request of 1 MiB, one reply more than the socket takes.  A client has a time for each
 * request, from its first byte to its last, and for reading what is sent, however many
 * bytes come meanwhile: then it is cut off.  Who sends anything but requests is cut off at
 * once.  CLIENTS_MAX may be connected; one more takes the place of the one that has been
 * idle for longest, so that nobody who only stays connected locks the tools out.
 *
 * The debugger is asked there, too (sys/observe/ddb/ddb_serve.ts).  It takes no lock of the kernel,
 * so it answers while a thread sits on one, and a command has a time after which it is cut.  It
 * may hold the other CPUs, but not this thread: the hold ends by itself unless it is renewed.
 *
 * What sysctl.debug prints on the kernel's console is the client's that asks for it: it is the
 * value that is sent, and nothing of it is printed here.
 *
 * In a thread of its own (`worker: true`, listen_thread.ts) all of this goes on while the program's
 * event loop is busy.
 *
 * A request that finds the machine down, or runs into a panic, closes the socket,
 * quietly: the program finds out by its own next call.
 */
import { atomic_load } from '../sys/machine/atomic.ts';
import { CPU_PARKED, cpu_state_word, park, thr, unpark } from '../sys/machine/cpu.ts';
import {
  EACCES,
  EADDRINUSE,
  EINVAL,
  EIO,
  ENAMETOOLONG,
  ENOENT,
  ENOMEM,
  ENOTDIR,
  EOPNOTSUPP,
  ESHUTDOWN,
} from '../sys/machine/errno.ts';
import { M, machine as header, SITE_WORDS } from '../sys/machine/header.ts';
import { host_js_tid } from '../sys/machine/host.ts';
import { kconsole } from '../sys/machine/kconsole.ts';
import { get64, get_string } from '../sys/machine/struct.ts';
import { ddb_serve } from '../sys/observe/ddb/ddb_serve.ts';
import { sysctl, type SysctlResult } from '../sys/observe/kern_sysctl.ts';
import { bracket, type Context, type Mortal } from './context.ts';
import { booleanOf, checkOptions, type Known, shown } from './args.ts';
import { atSignal } from './at_signal.ts';
import { KernelPanic, KmemError, kmemError } from './errors.ts';
import { hostAtExit, hostBuiltin } from './host.ts';
import { listenInThread } from './listen_thread.ts';
import {
  folderFault,
  type Host,
  pathBytesMax,
  socketFolders,
  socketHost,
  socketName,
  socketOwner,
} from './socket_folder.ts';
import {
  HIDDEN_BYTES,
  hide,
  probe,
  publish,
  same,
  sweep,
  type Connects,
  unlinked,
} from './socket_publish.ts';
import {
  Frames,
  helloFrame,
  type Reply,
  REQUEST_BYTES_MAX,
  type Request,
  replyFrame,
  requestOf,
  WireError,
} from './wire.ts';

/** Most time for requests, ms, of each window of time, ms. */
const TURN_MS = 2;
const WINDOW_MS = 4;
/** Clients at a time: one more takes the place of another. */
const CLIENTS_MAX = 256;
/** How long a client may leave a request unfinished, or replies unread, ms. */
const STALL_MS = 10_000;
/** An old value up to here goes through a buffer that is kept. */
const ROOM_KEPT = 65536;
/** sysctl.debug: prints the tree. */
const DEBUG = [0, 0];
const NOTHING = new Uint8Array(0);

export interface ListenOptions {
  /**
   * Path of the socket, at most 107 bytes, of which its folder may have 96 (where Unix sockets
   * take 103, as on macOS: 92); the folder must be there.  Unless given: PID-THREAD.sock in the
   * user's own folder, where the tools look.
   */
  readonly path?: string;
  /**
   * How long a client may leave a request unfinished, or replies unread, before it is
   * cut off, ms; 10,000 unless given.
   */
  readonly timeout?: number;
  /**
   * Whether the socket's file is removed before SIGINT, SIGTERM or SIGHUP ends the process:
   * true unless given.  While the program has no handler of its own, such a signal is
   * then acted on when the event loop comes round: so it is false unless given with `worker`.
   * In a worker of the program there are no signals.
   */
  readonly signals?: boolean;
  /**
   * Serves the socket from a thread of its own, which takes a CPU slot: so the tools have their
   * answers while this thread's event loop is busy, or stuck.  Default false.
   */
  readonly worker?: boolean;
}

const OPTIONS: Known = ['path', 'timeout', 'signals', 'worker'];

interface Socket {
  on(event: 'data', hear: (chunk: Uint8Array) => void): void;
  on(event: 'error' | 'end' | 'drain' | 'close' | 'connect', hear: () => void): void;
  on(event: 'error', hear: (e: Error) => void): void;
  write(bytes: Uint8Array): boolean;
  end(): void;
  destroy(): void;
  pause(): void;
  resume(): void;
  unref(): void;
}
interface Server {
  on(event: 'error', hear: (e: Error) => void): void;
  once(event: 'listening', hear: () => void): void;
  listen(options: { path: string; exclusive: true }): void;
  close(done: () => void): void;
  unref(): void;
}
interface Net extends Connects {
  createServer(options: { allowHalfOpen: true }, hear: (socket: Socket) => void): Server;
}

class Client {
  readonly socket: Socket;
  readonly frames = new Frames(REQUEST_BYTES_MAX);
  /** It has not read what was sent. */
  blocked = false;
  /** It will send no more. */
  ended = false;
  /** Cuts it off if it leaves a request unfinished, or replies unread. */
  deadline: ReturnType<typeof setTimeout> | null = null;

  constructor(socket: Socket) {
    this.socket = socket;
  }
}

/** An open control socket. */
export interface Listener extends AsyncDisposable {
  /** Path of the socket. */
  readonly path: string;
  /** Closes the socket, removes its file, cuts off its clients. Again: does nothing. */
  close(): Promise<void>;
}
/** One that is served by the event loop of this thread. */
class SocketListener implements Listener, Mortal {
  readonly path: string;

  readonly #ctx: Context;
  readonly #up: () => boolean;
  readonly #remove: () => void;
  readonly #stallMs: number;
  readonly #clients = new Set<Client>();
  readonly #ready = new Set<Client>();
  readonly #old = new Uint8Array(ROOM_KEPT);
  readonly #atExit: () => void;
  #server: Server | null;
  #closed: Promise<void> | null = null;
  #timer: ReturnType<typeof setTimeout> | null = null;
  #windowStart = 0;
  #spentMs = 0;

  /**
   * Use machine.listen().
   * @internal
   */
  constructor(
    ctx: Context,
    up: () => boolean,
    bound: { path: string; server: Server; remove: () => void; stallMs: number; signals: boolean },
  ) {
    this.path = bound.path;
    this.#ctx = ctx;
    this.#up = up;
    this.#server = bound.server;
    this.#remove = bound.remove;
    this.#stallMs = bound.stallMs;
    const calls = [hostAtExit(bound.remove)];
    if (bound.signals) calls.push(atSignal(bound.remove));
    this.#atExit = () => {
      for (const off of calls) off();
    };
    ctx.waits.add(this);
  }
  close(): Promise<void> {
    this.#closed ??= new Promise((resolve) => this.#close(resolve));
    return this.#closed;
  }
  /** The same. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
  /** @internal */
  bury(): void {
    void this.close();
  }
  #close(done: () => void): void {
    this.#remove();
    this.#atExit();
    this.#ctx.waits.delete(this);
    if (this.#timer) clearTimeout(this.#timer);
    this.#ready.clear();
    for (const c of [...this.#clients]) this.#cut(c);
    this.#server?.close(done);
    this.#server = null;
  }

  /**
   * A client has come.
   * @internal
   */
  welcome(socket: Socket): void {
    const c = new Client(socket);
    socket.unref();
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#cut(c));
    if (this.#closed || !this.#live()) return socket.destroy();
    if (this.#clients.size >= CLIENTS_MAX && !this.#makeRoom()) return socket.destroy();
    this.#clients.add(c);
    socket.on('data', (chunk) => {
      c.frames.push(chunk);
      this.#look(c);
    });
    socket.on('drain', () => {
      c.blocked = false;
      this.#look(c);
    });
    socket.on('end', () => {
      c.ended = true;
      this.#look(c);
    });
    socket.write(this.#hello());
  }
  #cut(c: Client): void {
    this.#clients.delete(c);
    this.#ready.delete(c);
    if (c.deadline !== null) clearTimeout(c.deadline);
    c.deadline = null;
    c.socket.destroy();
  }
  /** Cuts off the client that has been idle for longest, or owes something for longest. */
  #makeRoom(): boolean {
    let owing: Client | null = null;
    // In the order in which they were served last, or came.
    for (const c of this.#clients) {
      if (this.#ready.has(c)) continue;
      if (c.deadline === null) {
        this.#cut(c);
        return true;
      }
      owing ??= c;
    }
    if (owing !== null) this.#cut(owing);
    return owing !== null;
  }
  #hello(): Uint8Array {
    return helloFrame({
      pid: (socketHost() as Host).pid,
      thread: host_js_tid(),
      machine: header.id_low[M],
      memory: get64(header.size_bytes, M),
      bootedAt: get_string(header.site, M, SITE_WORDS),
    });
  }
  /** False: the machine is down, and the socket goes with it. */
  #live(): boolean {
    if (this.#up()) return true;
    void this.close();
    return false;
  }
  /** Something has happened to a client. */
  #look(c: Client): void {
    if (this.#closed) return;
    this.#settle(c);
    if (this.#ready.size > 0 && !this.#timer) this.#turn();
  }
  /** Decides what is next for a client: to serve it, to wait for it, or to end. */
  #settle(c: Client): void {
    const { ready, held } = c.frames;
    if (ready && !c.blocked) this.#ready.add(c);
    // Nothing is taken from who does not read, or has more to be served than fits.
    if (c.blocked || (ready && held > REQUEST_BYTES_MAX)) c.socket.pause();
    else c.socket.resume();
    this.#time(c, c.blocked || (held > 0 && !ready));
    if (c.ended && !ready && !c.blocked) c.socket.end();
  }
  /** A client begins to owe something, or owes nothing more; its time runs on if it still does. */
  #time(c: Client, owes: boolean): void {
    if (owes === (c.deadline !== null)) return;
    if (c.deadline !== null) clearTimeout(c.deadline);
    c.deadline = null;
    if (!owes) return;
    c.deadline = setTimeout(() => this.#cut(c), this.#stallMs);
    c.deadline.unref?.();
  }
  /** Serves one request of each client in turn, as long as there is time for it. */
  #turn(): void {
    let now = performance.now();
    if (now - this.#windowStart >= WINDOW_MS) {
      this.#windowStart = now;
      this.#spentMs = 0;
    }
    const from = now - this.#spentMs;
    for (const c of this.#ready) {
      if (now - from >= TURN_MS) break;
      this.#ready.delete(c); // and in again, behind the others, if it has more
      this.#serve(c);
      now = performance.now();
    }
    this.#spentMs = now - from;
    if (this.#ready.size === 0 || this.#closed) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#turn();
    }, WINDOW_MS - TURN_MS);
    this.#timer.unref?.();
  }
  #serve(c: Client): void {
    let request: Request;
    try {
      const body = c.frames.take();
      if (!body) return;
      request = requestOf(body);
    } catch (e) {
      if (!(e instanceof WireError)) throw e;
      return this.#cut(c);
    }
    this.#time(c, false); // the time for the next one is its own
    this.#clients.delete(c); // and in again: the last that was served
    this.#clients.add(c);
    if (!this.#live()) return;
    let reply: Reply;
    try {
      reply = this.#answer(request);
    } catch (e) {
      return this.#fail(e);
    }
    if (!c.socket.write(replyFrame(reply))) c.blocked = true;
    this.#settle(c);
  }
  #answer(r: Request): Reply {
    const state = thr.cpu < 0 ? 0 : atomic_load(cpu_state_word(thr.cpu));
    const parked = (state & CPU_PARKED) !== 0; // park() may stand over an await
    if (!parked) return this.#ask(r);
    unpark();
    return bracket(() => this.#ask(r), park);
  }
  /** Asks the kernel. What sysctl.debug prints is for the client. */
  #ask(r: Request): Reply {
    if (r.ddb) return this.#ddb(r);
    if (r.mib.join() !== DEBUG.join()) return this.#sysctl(r);
    const { print } = kconsole;
    let said = '';
    kconsole.print = (line) => {
      said += `${line}\n`;
    };
    const { error: refused } = bracket(
      () => sysctl(r.mib, null, r.value), // once: each call prints
      () => {
        kconsole.print = print;
      },
    );
    if (refused !== ENOENT) return { tag: r.tag, error: refused, oldlen: 0, bytes: NOTHING };
    const text = new TextEncoder().encode(`${said}\0`);
    if (r.room === null) return { tag: r.tag, error: 0, oldlen: text.length, bytes: NOTHING };
    const bytes = text.subarray(0, r.room);
    const error = bytes.length < text.length ? ENOMEM : 0;
    return { tag: r.tag, error, oldlen: bytes.length, bytes };
  }
  /** Asks the debugger, which takes no lock: it answers when nothing else can. */
  #ddb({ tag, room, value }: Request): Reply {
    const text = ddb_serve(value ?? NOTHING);
    const bytes = text.subarray(0, room ?? 0);
    return { tag, error: bytes.length < text.length ? ENOMEM : 0, oldlen: bytes.length, bytes };
  }
  #sysctl({ tag, mib, room, value }: Request): Reply {
    const reply = (r: SysctlResult, old: Uint8Array | null): Reply => {
      if (r.reason !== undefined && old !== null) {
        const why = new TextEncoder().encode(r.reason).subarray(0, old.length);
        return { tag, error: r.error, oldlen: why.length, bytes: why };
      }
      const some = old !== null && (r.error === 0 || r.error === ENOMEM);
      const bytes = some ? old.subarray(0, r.oldlen) : NOTHING;
      return { tag, error: r.error, oldlen: r.oldlen, bytes };
    };
    if (room === null || room <= ROOM_KEPT || value !== null) {
      const spare = (room ?? 0) > ROOM_KEPT ? new Uint8Array(room ?? 0) : this.#old;
      const old = room === null ? null : spare.subarray(0, room);
      return reply(sysctl(mib, old, value), old);
    }
    // No more than the value has, and something for what it grows by meanwhile.
    for (let more = ROOM_KEPT; ; more *= 2) {
      const long = sysctl(mib, null, null).oldlen;
      const old: Uint8Array = new Uint8Array(Math.min(room, long + more));
      const r = sysctl(mib, old, null);
      if (r.error !== ENOMEM || old.length === room) return reply(r, old);
    }
  }
  /** A request could not be served: the machine is broken or gone. */
  #fail(e: unknown): void {
    void this.close();
    const known = e instanceof KernelPanic || (e instanceof KmemError && e.errno === ESHUTDOWN);
    if (!known) console.error(`kmem: the control socket ${this.path} is closed:`, e);
  }
}

// --- opening -----------------------------------------------------------------------------------

/** How failures of the host's file system are passed on. */
const HOST_ERRNO: Readonly<Record<string, number>> = {
  EACCES,
  EPERM: EACCES,
  EADDRINUSE,
  ENOENT,
  ENOTDIR,
};
function hostFailed(path: string, e: unknown): never {
  const { code = '', message } = e as { code?: string; message: string };
  const errno = HOST_ERRNO[code];
  if (errno === undefined) throw kmemError(EIO, 'listen', message);
  const why = code === 'ENOENT' ? 'its folder is not there' : `the host says ${code}`;
  throw kmemError(errno, 'listen', `${path}: ${why}`);
}
function folderOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/')) || '/';
}
/** The socket is bound in a folder beside its path, so that one must fit, too. */
function checkBytes(host: Host, path: string): void {
  const long = (text: string): number => new TextEncoder().encode(text).length;
  const most = pathBytesMax(host);
  const refuse = (what: string): never => {
    throw kmemError(ENAMETOOLONG, 'listen', `${what}: give a shorter path`);
  };
  if (long(path) > most) refuse(`${path}: ${long(path)} bytes, a Unix socket takes ${most}`);
  const folder = folderOf(path);
  const room = most - HIDDEN_BYTES;
  if (long(folder) > room) refuse(`${folder}: ${long(folder)} bytes, its folder may have ${room}`);
}
/** The path in the user's own folder, which is made. */
function ownPath(host: Host): string {
  const [folder] = socketFolders(host);
  const path = `${folder}/${socketName(host.pid, host_js_tid())}`;
  checkBytes(host, path);
  try {
    if (folderFault(host, folder) === undefined) host.fs.mkdirSync(folder, { mode: 0o700 });
  } catch (e) {
    if ((e as { code?: string }).code !== 'EEXIST') hostFailed(folder, e); // another was faster
  }
  const fault = folderFault(host, folder);
  if (typeof fault === 'string') throw kmemError(EACCES, 'listen', `${fault}, or give a path`);
  return path;
}
/** Removes what programs that were killed left where the socket shall be. */
async function clean(host: Host, net: Net, folder: string, ours: boolean): Promise<void> {
  let names: string[];
  try {
    names = host.fs.readdirSync(folder);
  } catch (e) {
    if (!ours) return; // a folder in which one may write, and no more; or none
    hostFailed(folder, e);
  }
  await sweep(host, net, folder, names, ours);
  for (const name of ours ? names : []) {
    const owner = socketOwner(name);
    if (!owner || owner.pid === host.pid || host.hasProcess(owner.pid)) continue;
    const path = `${folder}/${name}`;
    // The process may live where this one cannot see it: in another container.
    if ((await probe(net, path)) === 'stale') unlinked(host, path);
  }
}
function bind(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.on('error', reject); // and later ones are nobody's: a client that could not come
    server.once('listening', resolve);
    server.listen({ path, exclusive: true });
  });
}
/** Binds a socket that others cannot see, and links it to its path. */
async function open(host: Host, net: Net, server: Server, path: string): Promise<() => void> {
  let hidden = '';
  let own = '';
  try {
    ({ hidden, own } = hide(host, folderOf(path)));
    await bind(server, own);
    host.fs.chmodSync(own, 0o600);
    await publish(host, net, hidden, path);
  } catch (e) {
    server.close(() => {});
    if (e instanceof KmemError) throw e;
    hostFailed(path, e);
  } finally {
    if (own !== '') unlinked(host, own);
    if (hidden !== '') host.fs.rmdirSync(hidden);
  }
  return remover(host, path);
}
/** What removes the file at a path, if it is the one that is there now. */
export function remover(host: Host, path: string): () => void {
  const ours = host.fs.lstatSync(path);
  return () => {
    try {
      if (same(host.fs.lstatSync(path), ours)) host.fs.unlinkSync(path);
    } catch {
      // Somebody took it away.
    }
  };
}

/** The options, read once. Throws EINVAL. */
function optionsOf(options: ListenOptions): ListenOptions {
  checkOptions('listen', options, OPTIONS);
  const worker = booleanOf('listen', 'worker', options.worker ?? false);
  const { path, timeout = STALL_MS, signals = !worker } = options;
  if (path !== undefined && (typeof path !== 'string' || !/^[^\0]+$/.test(path))) {
    throw kmemError(EINVAL, 'listen', `path ${shown(path)}: give the path of a socket`);
  }
  if (typeof timeout !== 'number' || !(timeout >= 1 && timeout < 2 ** 31)) {
    throw kmemError(EINVAL, 'listen', `timeout ${shown(timeout)}: give milliseconds, at least 1`);
  }
  booleanOf('listen', 'signals', signals);
  const others = { timeout, signals, worker };
  return path === undefined ? others : { path: absolute(path), ...others };
}
/** Opens the socket of a thread that is in the machine. See Machine.listen. */
export async function listen(
  ctx: Context,
  up: () => boolean,
  given: ListenOptions,
): Promise<Listener> {
  const host = socketHost();
  const net = hostBuiltin<Net>('node:net');
  if (!host || !net) {
    throw kmemError(EOPNOTSUPP, 'listen', 'this host has no Unix sockets');
  }
  const options = optionsOf(given);
  if (options.worker) return await listenInThread(ctx, up, host, options);
  const path = options.path ?? ownPath(host);
  checkBytes(host, path);
  await clean(host, net, folderOf(path), options.path === undefined);
  let listener: SocketListener | null = null;
  const server = net.createServer({ allowHalfOpen: true }, (socket) => listener?.welcome(socket));
  const remove = await open(host, net, server, path);
  server.unref();
  const { timeout: stallMs = STALL_MS, signals = true } = options;
  listener = new SocketListener(ctx, up, { path, server, remove, stallMs, signals });
  if (!up()) {
    await listener.close();
    throw kmemError(ESHUTDOWN, 'listen', 'this thread left the machine meanwhile');
  }
  return listener;
}
/** A path that stays right when the program changes its folder. */
function absolute(path: string): string {
  const { resolve } = hostBuiltin<{ resolve(path: string): string }>('node:path') as {
    resolve(path: string): string;
  };
  return resolve(path);
}
