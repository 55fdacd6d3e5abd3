/*
 * streams: sockets and other Node streams that carry chains.
 *
 *      const out = connectChains(machine, { host, port });   reads straight into clusters
 *      const peer = wrapSocket(machine, socket);             for accepted sockets
 *      for await (const chain of peer) out.write(chain);     given away: freed when it is out
 *
 *      kernel socket -> cluster -> chain -> program -> chain -> views -> writev
 *
 * Reading.  connectChains has the socket read into a cluster of ours (net's
 * `onread`).  A short read is copied into an mbuf, so that a peer that sends byte by
 * byte does not cost a cluster for each; a longer one goes on with its cluster, and
 * the next read gets another.  A server's sockets cannot be told where to read to
 * (wrapSocket says why): what they bring is copied into clusters once.
 *
 * Back-pressure.  Where no cluster is to be had the socket is paused, and goes on
 * when somebody frees one: so the limits (kern.ipc.nmbclusters …) hold however fast
 * the peers are.  Chains that nobody reads pause it as well (highWaterMark, in
 * chains).
 *
 * Ownership.  What is read belongs to the reader.  A chain that is written is given
 * away, and freed when its bytes have left, or when the stream fails or is
 * destroyed; so are chains that nobody had read.
 *
 * When the thread leaves the machine, its streams that hold chains are destroyed and
 * give them back; only what a target is reading where it lies (`shared`) cannot be.
 * A chain that sits in a Transform of the program when a pipeline fails is nobody's:
 * the Transform's own destroy() has to free it.
 *
 * This module is Node's alone; Web streams are in chain_web.ts.
 */
import { type NetConnectOpts, type OnReadOpts, Socket, type SocketConstructorOpts } from 'node:net';
import { Duplex, Writable } from 'node:stream';
import { EINVAL, ESHUTDOWN } from '../sys/machine/errno.ts';
import { NULL } from '../sys/machine/struct.ts';
import { M_DRAIN, M_NOWAIT } from '../sys/h/malloc_flags.ts';
import {
  M_PKTHDR,
  mbuf,
  type mbuf_t,
  MCLBYTES,
  MHLEN,
  MJUM16BYTES,
  MJUM9BYTES,
  MJUMPAGESIZE,
  MT_DATA,
  mtod,
} from '../sys/h/mbuf.ts';
import { m_getjcl } from '../sys/client/kern_mbuf.ts';
import { mb_can_room } from '../sys/client/kern_mbuf_supply.ts';
import { m_freem } from '../sys/client/uipc_mbuf.ts';
import { Chain } from './chain.ts';
import { type Can, chainFailure, chainMemory } from './chain_wait.ts';
import { booleanOf, checkOptions, type Known, shown, what, whole } from './args.ts';
import { Held } from './chain_held.ts';
import { m_fill, m_getcl_any, m_getroom } from '../sys/client/uipc_mbuf_keep.ts';
import { type Context, contextOf, giveBack, type Mortal, whenBack } from './context.ts';
import { KernelPanic, KmemError, kmemError } from './errors.ts';
import { byHost } from './host.ts';
import { bytesAt } from './memory.ts';
import type { Machine } from './machine.ts';
import { callSite } from './site.ts';

export type { Chain } from './chain.ts';

type Done = (error?: Error | null) => void;

export interface ChainSocketOptions {
  /** Chains that wait for the reader before the socket is paused. Default 16. */
  readonly highWaterMark?: number;
  /** This side may go on writing when the peer has ended. Default false, as in net. */
  readonly allowHalfOpen?: boolean;
  /** Bytes of the clusters read into: 2048, 4096, 9216 or 16384. Default 4096. */
  readonly readBytes?: number;
}
const NONE = NULL as mbuf_t;
/** Chains do not wait for memory; what others cache is given the time to come. */
const NOWAIT = M_NOWAIT | M_DRAIN;
const SOCKET_OPTIONS: Known = ['highWaterMark', 'allowHalfOpen', 'readBytes'];
const HIGH_WATER_MARK = 16;
const READ_SIZES = [MCLBYTES, MJUMPAGESIZE, MJUM9BYTES, MJUM16BYTES];

/** Writes the pieces of a chain that was taken, and calls back when the last is out. */
function writePieces(target: Writable, chain: Chain, copy: boolean, done: Done): void {
  const views = Chain.taken(chain);
  if (views.length === 0) return void process.nextTick(done);
  let left = views.length;
  let failed: Error | null = null;
  const one: Done = (error) => {
    failed ??= error ?? null;
    if (--left === 0) done(failed);
  };
  target.cork();
  for (const view of views) target.write(copy ? view.slice() : view, one);
  target.uncork();
}

/** How a stream writes the chains that it took. */
interface WritePlan {
  readonly target: Writable;
  readonly unsent: Held;
  /** Copies instead of views of shared memory. */
  readonly copy: boolean;
  /** The target may still read the views when it has called back. */
  readonly lend: boolean;
}
/** Writes what a stream of chains was given: a chain that it took, bytes or a text. */
function writeChunk(
  { target, unsent, copy, lend }: WritePlan,
  chunk: Chain | string | Uint8Array,
  encoding: BufferEncoding,
  done: Done,
): void {
  if (!(chunk instanceof Chain)) return writePlain(target, chunk, encoding, done);
  if (!unsent.has(chunk)) return done(notOurs());
  if (lend) unsent.lend(chunk);
  writePieces(target, chunk, copy, (error) => {
    unsent.free(chunk);
    done(error);
  });
}
/**
 * Takes a chain that is written to `stream`.  If the machine has ended, that is an error of the
 * stream: who writes may be the host's own pipe(), which catches nothing.
 */
function takeInto(held: Held, chunk: unknown, stream: Writable): void {
  try {
    held.take(chunk, stream);
  } catch (e) {
    const ended = e instanceof KernelPanic || (e instanceof KmemError && e.errno === ESHUTDOWN);
    if (!ended) throw e;
    stream.destroy(e);
  }
}
/** Writes bytes or a text, which a stream of chains takes as well. */
function writePlain(
  target: Writable,
  chunk: string | Uint8Array,
  encoding: BufferEncoding,
  done: Done,
): void {
  if (typeof chunk === 'string' || ArrayBuffer.isView(chunk)) target.write(chunk, encoding, done);
  else done(kmemError(EINVAL, 'write', `${what(chunk)} is no chain, nor bytes, nor a text`));
}
function notOurs(): Error {
  return kmemError(EINVAL, 'write', 'the chain was freed, or given away before');
}
// --- reading ---------------------------------------------------------------------------------

/** What comes in from a socket, as packets; paused while there is no memory. */
class Intake implements Mortal {
  readonly #ctx: Context;
  readonly #size: number;
  readonly #stop = new AbortController();
  /** The cluster that the socket reads into; NONE: it brings its own buffers. */
  #into: mbuf_t = NONE;
  /** Delivers a packet. False: no more for now. */
  deliver: (m: mbuf_t) => boolean = () => false;
  /** Memory was there again, or there will be none. */
  resumed: (error: Error | null) => void = () => {};
  left: () => void = () => {};
  /** Bytes came for which there is no memory yet. */
  stalled = false;

  constructor(ctx: Context, size: number) {
    this.#ctx = ctx;
    this.#size = size;
    ctx.waits.add(this);
  }
  /** The first cluster to read into. False: there is none. */
  start(): boolean {
    this.#into = this.#cluster();
    return this.#into !== NONE;
  }
  #cluster(): mbuf_t {
    const big = this.#size > MCLBYTES;
    const m = big ? m_getjcl(M_NOWAIT, MT_DATA, M_PKTHDR, this.#size) : NONE;
    return m !== NONE ? m : m_getcl_any(NOWAIT, true);
  }
  /** Where the socket reads to next. */
  readonly buffer = (): Uint8Array => {
    const m = this.#into;
    return m === NONE ? new Uint8Array(1) : bytesAt(mtod(m), mbuf.ext_size[m]);
  };
  /** The socket read `n` bytes into the buffer. False: it is to pause. */
  readonly received = (n: number): boolean => this.#guarded(() => this.#received(n));
  #received(n: number): boolean {
    const m = this.#into;
    if (m === NONE) return false;
    const next = n > MHLEN ? this.#cluster() : NONE;
    if (next === NONE) return this.copied(bytesAt(mtod(m), n));
    this.#into = next;
    mbuf.len[m] = n;
    mbuf.plen[m] = n;
    return this.deliver(m);
  }
  /** The socket brought bytes in a buffer of its own. False: it is to pause. */
  brought(bytes: unknown): boolean {
    return this.#guarded(() => {
      if (bytes instanceof Uint8Array) return this.copied(bytes);
      throw kmemError(EINVAL, 'read', 'the socket brings texts: it must have no encoding');
    });
  }
  /**
   * In a callback of the host nobody would catch that the machine was ended meanwhile.  What
   * comes while this thread is parked is taken when it is back.
   */
  #guarded(take: () => boolean): boolean {
    const { parked } = this.#ctx;
    if (parked !== null) {
      this.stalled = true;
      void parked.then(() => {
        this.stalled = false;
        if (!this.#stop.signal.aborted && this.#guarded(take)) this.resumed(null);
      });
      return false;
    }
    try {
      return take();
    } catch (e) {
      if (!(e instanceof KmemError || e instanceof KernelPanic)) throw e;
      this.resumed(e);
      return false;
    }
  }
  /** Bytes came that are to be copied. False: the socket is to pause. */
  copied(bytes: Uint8Array): boolean {
    let more = true;
    for (let at = 0; at < bytes.length; ) {
      const m = packet(bytes, at);
      if (m === NONE) {
        this.#later(bytes.subarray(at));
        return false;
      }
      at += mbuf.plen[m];
      more = this.deliver(m);
    }
    return more;
  }
  /** Goes on with bytes that came when there is memory for the first of them. */
  #later(bytes: Uint8Array): void {
    this.stalled = true;
    const n = Math.min(bytes.length, MCLBYTES);
    const attempt = (): { more: boolean } | undefined => {
      const m = m_getroom(NOWAIT, n, true);
      if (m === NONE) return undefined;
      this.stalled = false;
      const more = this.deliver(filled(m, bytes, 0, n));
      return { more: n === bytes.length ? more : this.copied(bytes.subarray(n)) };
    };
    const options = { signal: this.#stop.signal };
    const can: Can = (pages) => mb_can_room(n, pages);
    chainMemory(this.#ctx, { op: 'read', key: `${n}`, can }, options, attempt).then(
      ({ more }) => {
        if (more && !this.#stop.signal.aborted) this.resumed(null);
      },
      (error: Error) => {
        if (!this.#stop.signal.aborted) this.resumed(error);
      },
    );
  }
  /** The socket is closed: nobody reads into the cluster any more. */
  end(): void {
    this.#stop.abort();
    this.#ctx.waits.delete(this);
    const m = this.#into;
    this.#into = NONE;
    if (m !== NONE && this.#ctx.up) {
      whenBack(this.#ctx, () => giveBack('stream', () => m_freem(m)));
    }
  }
  /** The thread leaves the machine: its memory must not be read into. */
  bury(): void {
    this.left();
    const m = this.#into;
    this.#into = NONE;
    if (m !== NONE) giveBack('stream', () => m_freem(m));
    this.end();
  }
}
/** A packet with bytes from `at` on: as many as there is memory for. NONE: not even a cluster. */
function packet(bytes: Uint8Array, at: number): mbuf_t {
  const left = bytes.length - at;
  for (let n = left; ; n = Math.ceil(n / 2)) {
    const m = n === left || mb_can_room(n) ? m_getroom(NOWAIT, n, true) : NONE;
    if (m !== NONE) return filled(m, bytes, at, n);
    if (n <= MCLBYTES) return NONE;
  }
}
function filled(m: mbuf_t, bytes: Uint8Array, at: number, n: number): mbuf_t {
  m_fill(m, bytes, at, at + n);
  mbuf.plen[m] = n;
  return m;
}

// --- sockets ---------------------------------------------------------------------------------

/**
 * A socket as a stream of chains in both directions (object mode).  Bytes and texts
 * may be written as well.  Errors of the socket come through; 'close' comes when
 * all it had is freed.
 */
export class ChainSocket extends Duplex {
  /** The socket underneath: addresses, timeouts, keep-alive. */
  readonly socket: Socket;
  readonly #intake: Intake;
  readonly #ctx: Context;
  readonly #place: string;
  readonly #unread = new Held(() => this.#leave());
  readonly #unsent = new Held(() => this.#leave());
  readonly #plan: WritePlan;
  /** The peer has ended. */
  #ended = false;

  /** Use connectChains() or wrapSocket(). */
  constructor(
    machine: Machine,
    socket: Socket,
    intake: Intake,
    options: Required<ChainSocketOptions>,
    onread: boolean,
  ) {
    const { highWaterMark, allowHalfOpen } = options;
    super({ objectMode: true, highWaterMark, allowHalfOpen });
    this.socket = socket;
    this.#plan = { target: socket, unsent: this.#unsent, copy: false, lend: false };
    this.#intake = intake;
    this.#ctx = machine.context;
    this.#place = callSite();
    intake.deliver = (m) => this.#deliver(m);
    intake.resumed = (error) => {
      if (error) this.destroy(error);
      else socket.resume();
    };
    intake.left = () => this.#leave();
    if (!onread) {
      socket.pause();
      socket.on('data', (bytes: Buffer) => {
        if (!intake.brought(bytes)) socket.pause();
      });
    }
    socket.on('end', () => this.#end());
    socket.on('error', (error) => this.destroy(error));
    socket.on('connect', () => this.emit('connect'));
    // After its end there may be chains that the reader has not got yet.
    socket.on('close', () => {
      if (!this.#ended) this.destroy();
    });
    if (socket.closed) process.nextTick(() => this.destroy());
    else if (socket.readableEnded) this.#end();
  }
  /** The thread leaves the machine: the socket reads and writes no more. */
  #leave(): void {
    this.#unread.leave();
    this.#unsent.leave();
    this.socket.destroy();
    this.destroy();
  }
  #end(): void {
    this.#ended = true;
    this.push(null);
  }
  #deliver(m: mbuf_t): boolean {
    const chain = Chain.of(this.#ctx, m, this.#place);
    if (this.destroyed) {
      chain.free();
      return false;
    }
    const before = this.readableLength;
    const more = this.push(chain);
    // Otherwise it went to a 'data' listener at once.
    if (this.readableLength > before) this.#unread.add(chain);
    return more;
  }
  override read(n?: number): Chain | null {
    const chain = super.read(n) as Chain | null;
    if (chain !== null) this.#unread.forget(chain);
    return chain;
  }
  override _read(): void {
    if (!this.#intake.stalled) this.socket.resume();
  }
  override write(chunk: unknown, ...rest: unknown[]): boolean {
    takeInto(this.#unsent, chunk, this);
    return super.write(chunk, ...(rest as [BufferEncoding, Done]));
  }
  override end(...args: unknown[]): this {
    takeInto(this.#unsent, args[0], this);
    return super.end(...(args as [unknown, BufferEncoding, () => void]));
  }
  override _write(chunk: Chain | string | Uint8Array, encoding: BufferEncoding, done: Done): void {
    writeChunk(this.#plan, chunk, encoding, done);
  }
  override _final(done: Done): void {
    if (this.socket.writableEnded || this.socket.destroyed) done();
    else this.socket.end(() => done());
  }
  override _destroy(error: Error | null, done: Done): void {
    const end = (): void => {
      this.#intake.end();
      this.#unread.freeAll();
      this.#unsent.freeAll();
      done(error);
    };
    if (this.socket.closed) return end();
    this.socket.once('close', end);
    // Both sides have ended: what was written leaves in peace.
    if (this.readableEnded && this.writableFinished) this.socket.destroySoon();
    else this.socket.destroy();
  }
}

/** The options, read once. Throws EINVAL. */
function socketOptionsOf(op: string, options: ChainSocketOptions): Required<ChainSocketOptions> {
  checkOptions(op, options, SOCKET_OPTIONS);
  const {
    readBytes = MJUMPAGESIZE,
    highWaterMark = HIGH_WATER_MARK,
    allowHalfOpen = false,
  } = options;
  if (!READ_SIZES.includes(readBytes)) {
    const text = `readBytes ${shown(readBytes)} is none of ${READ_SIZES.join(', ')}`;
    throw kmemError(EINVAL, op, text);
  }
  if (!whole(highWaterMark)) {
    const text = `highWaterMark ${shown(highWaterMark)} is no whole number of chains`;
    throw kmemError(EINVAL, op, text);
  }
  return { readBytes, highWaterMark, allowHalfOpen: booleanOf(op, 'allowHalfOpen', allowHalfOpen) };
}
/**
 * Connects to a server, as net.connect does; what comes is read straight into
 * clusters.  Never waits for them.  Throws ENOMEM if there is no cluster to begin
 * with, EINVAL for a bad option; connecting fails by 'error'.
 */
export function connectChains(
  machine: Machine,
  to: NetConnectOpts,
  options: ChainSocketOptions = {},
): ChainSocket {
  const wanted = socketOptionsOf('connectChains', options);
  if (typeof to !== 'object' || to === null) {
    throw kmemError(EINVAL, 'connectChains', `${shown(to)} is no object with host and port`);
  }
  const intake = new Intake(contextOf('connectChains', machine), wanted.readBytes);
  if (!intake.start()) {
    intake.end();
    throw chainFailure('connectChains', MCLBYTES);
  }
  const onread: OnReadOpts = { buffer: intake.buffer, callback: (n) => intake.received(n) };
  const made: SocketConstructorOpts & { onread: OnReadOpts } = {
    ...(to as SocketConstructorOpts),
    allowHalfOpen: true,
    onread,
  };
  let stream: ChainSocket | undefined;
  try {
    const socket = byHost('connectChains', () => new Socket(made));
    const made_stream = new ChainSocket(machine, socket, intake, wanted, true);
    stream = made_stream;
    byHost('connectChains', () => socket.connect(to));
    return made_stream;
  } catch (e) {
    if (stream) stream.destroy();
    else intake.end();
    throw e;
  }
}
const wrapped = new WeakSet<Socket>();
/**
 * A socket that is there already, such as one that a server accepted.  What it brings
 * is copied once: Node tells a socket where to read to (`onread`) only when it makes
 * it, and neither net.Server nor a public call makes one over an accepted connection.
 * Nobody else may read from it.  Throws EINVAL for a bad option, for a socket that has
 * an encoding, or that was wrapped before.  Over one that is closed already the
 * stream closes at once.
 */
export function wrapSocket(
  machine: Machine,
  socket: Socket,
  options: ChainSocketOptions = {},
): ChainSocket {
  const wanted = socketOptionsOf('wrapSocket', options);
  const no = (why: string): never => {
    throw kmemError(EINVAL, 'wrapSocket', why);
  };
  if (!(socket instanceof Socket)) return no(`${what(socket)} is no socket`);
  if (wrapped.has(socket)) return no('the socket was wrapped before');
  if (socket.readableEncoding !== null) return no('the socket has an encoding: it brings texts');
  const intake = new Intake(contextOf('wrapSocket', machine), wanted.readBytes);
  let stream: ChainSocket;
  try {
    stream = new ChainSocket(machine, socket, intake, wanted, false);
  } catch (e) {
    intake.end();
    throw e;
  }
  wrapped.add(socket);
  socket.allowHalfOpen = true; // when this side ends is for the stream to say
  return stream;
}

// --- other streams ---------------------------------------------------------------------------

export interface ChainWritableOptions {
  /**
   * Hands out views of shared memory instead of copies: for targets that are done
   * with a chunk when its write calls back, such as sockets and files.  Not for
   * those that pass chunks on (PassThrough, pipelines).  Default false.
   */
  readonly shared?: boolean;
}
class ChainWritable extends Writable {
  readonly #target: Writable;
  readonly #unsent = new Held(() => this.destroy());
  readonly #plan: WritePlan;

  constructor(target: Writable, shared: boolean) {
    super({ objectMode: true, highWaterMark: HIGH_WATER_MARK });
    this.#target = target;
    this.#plan = { target, unsent: this.#unsent, copy: !shared, lend: shared };
    target.on('error', (error) => this.destroy(error));
    target.on('close', () => this.destroy());
  }
  override write(chunk: unknown, ...rest: unknown[]): boolean {
    takeInto(this.#unsent, chunk, this);
    return super.write(chunk, ...(rest as [BufferEncoding, Done]));
  }
  override end(...args: unknown[]): this {
    takeInto(this.#unsent, args[0], this);
    return super.end(...(args as [unknown, BufferEncoding, () => void]));
  }
  override _write(chunk: Chain | string | Uint8Array, encoding: BufferEncoding, done: Done): void {
    writeChunk(this.#plan, chunk, encoding, done);
  }
  override _final(done: Done): void {
    this.#target.end(() => done());
  }
  override _destroy(error: Error | null, done: Done): void {
    // One that has ended may have more to say to its own reader.
    if (error || !this.writableFinished) this.#target.destroy();
    this.#unsent.freeAll();
    done(error);
  }
}
/**
 * A stream that takes chains (and bytes and texts) and writes them to any Node
 * stream: a file, a response, a compressor.  It ends and is destroyed with its
 * target, and frees what it took.
 */
export function chainWritable(target: Writable, options: ChainWritableOptions = {}): Writable {
  checkOptions('chainWritable', options, ['shared']);
  for (const call of ['write', 'end', 'on', 'destroy'] as const) {
    if (typeof target?.[call] === 'function') continue;
    throw kmemError(EINVAL, 'chainWritable', `${shown(target)} is no stream to write to`);
  }
  return new ChainWritable(target, booleanOf('chainWritable', 'shared', options.shared));
}
