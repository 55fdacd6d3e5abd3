/*
 * chain: buffers made of pieces that chains and threads share.
 *
 *      const packet = machine.chain(header).append(body);   copied into clusters
 *      const again = packet.clone();                        shares them, copies nothing
 *      const rest = packet.split(20);                       the bytes behind the first 20
 *      for (const view of rest) socket.write(view);         views of shared memory
 *      queue.push(packet.release());                        a number; another thread:
 *      machine.adoptChain(n)                                its chain now
 *
 *      chain -> [ 60 bytes ] -> [ cluster 2048 ] -> [ cluster 2048, 300 used ]
 *                                   ^ counted: a clone refers to it as well
 *
 * Pieces are the kernel's mbufs: pooled, of fixed sizes, with limits over all
 * threads (kern.ipc.nmbclusters and its sisters).  Slicing, cloning and splitting
 * share clusters and copy only the few bytes that lie in an mbuf itself.  Nobody
 * sees another's writes: what is shared is copied before it is written.
 *
 * A chain belongs to one thread at a time, and to one owner: who passes it to
 * concat() or a stream gives it away.  Every call is refused once it is freed.  A
 * chain is freed by free() or `using`; the garbage collector only reports what was
 * lost (chain_leak.ts).
 *
 * No call waits unless `wait` is given.  When memory or a limit runs out, ENOMEM
 * is thrown and the chain is as it was.
 *
 * Views.  views(), view() and iteration give Uint8Arrays over shared memory; they
 * hold good until the chain is freed or changed.  Node's fs, net, zlib, crypto
 * hashes and Blob take such views, TextDecoder only in Node; crypto.subtle and
 * BYOB readers refuse them, and new Response(view) sends wrong bytes without a
 * word: for these use toUint8Array(), a copy.
 */
import { atomic_cas, atomic_store } from '../sys/machine/atomic.ts';
import { bytes_in } from '../sys/machine/bytes.ts';
import { EINVAL } from '../sys/machine/errno.ts';
import { mem } from '../sys/machine/memory.ts';
import { panic } from '../sys/machine/panic.ts';
import { field_word, NULL } from '../sys/machine/struct.ts';
import { kernel_enter_proved, kernel_leave, kernel_probe } from '../sys/sync/subr_trap.ts';
import { vector } from '../sys/machine/vectors.ts';
import type { malloc_type_t } from '../sys/h/malloc.ts';
import { M_DRAIN, M_NOWAIT } from '../sys/h/malloc_flags.ts';
import {
  EXT_MOD_TYPE,
  M_EXT,
  M_PKTHDR,
  mbuf as mbuf_,
  type mbuf_t,
  MT_DATA,
  mtod,
} from '../sys/h/mbuf.ts';
import { free } from '../sys/kmem/kern_malloc.ts';
import { malloc_type_find_or_make } from '../sys/kmem/kern_malloc_type.ts';
import { m_get, m_gethdr } from '../sys/client/kern_mbuf.ts';
import { mb_can_mbufs, mb_can_piece, mb_can_room } from '../sys/client/kern_mbuf_supply.ts';
import {
  m_copydata,
  m_copypacket,
  m_demote,
  m_extadd,
  m_freem,
  m_sanity,
} from '../sys/client/uipc_mbuf.ts';
import { m_adj, m_cat, m_split } from '../sys/client/uipc_mbuf_shape.ts';
import {
  M_PIECE_MAX,
  m_adj_head,
  m_append_keep,
  m_fill,
  m_find,
  m_getroom,
  m_lacking,
  m_last,
  m_makewritable,
  m_move_header,
  m_pieces,
  m_prepend_keep,
  m_pullup_keep,
  m_share,
  m_shared_bytes,
  m_valid,
  m_writable,
} from '../sys/client/uipc_mbuf_keep.ts';
import { booleanOf, checkOptions, isBytes, shown, waitOf, what, whole } from './args.ts';
import {
  ADOPT,
  type Adopted,
  type AdoptOptions,
  type ChainOptions,
  type ChainSource,
  compareBytes,
  type HostBuffer,
  isLent,
  LENT,
  type Lent,
  sourceBytes,
} from './chain_args.ts';
import { ChainNumbers } from './chain_numbers.ts';
import {
  type Can,
  chainFailure,
  chainMemory,
  type ChainWant,
  checkPossible,
  sleepForChains,
} from './chain_wait.ts';
import { type Context, enter, failed, giveBack, inKernel, letGo, whenBack } from './context.ts';
import { kmemError } from './errors.ts';
import {
  type Note,
  noteAdopted,
  noted,
  noteFreed,
  noteMade,
  noteReleased,
  noteTouched,
} from './chain_leak.ts';
import { type Address, bytesAt, textOf } from './memory.ts';
import { MallocType } from './type.ts';
import { type AsyncOptions, type Wait, waitFor } from './wait.ts';

// A local name: V8 takes it for a constant, an imported one it does not.
const mbuf = mbuf_;
const NONE = NULL as mbuf_t;
/** Chains do not wait for memory; what others cache is given the time to come. */
const NOWAIT = M_NOWAIT | M_DRAIN;

/** Marks the packet header of a chain that release() sent off. */
const RELEASED = 0x43484e31;
const BLOCK_FREE = vector('chain_block_free', (p: number, t: number) =>
  free(p, t as malloc_type_t),
);

export class Chain
  extends ChainNumbers
  implements Disposable, Iterable<Uint8Array>, AsyncIterable<Uint8Array>
{
  readonly #ctx: Context;
  /** First mbuf; NONE: no bytes. */
  #m: mbuf_t;
  /** Last one; NONE: not known. */
  #last: mbuf_t = NONE;
  /** What became of it; '' while it may be used. */
  #ended = '';
  readonly #note: Note | null;

  /** `place`: who is to be named as its maker; the number of one that is noted already. */
  private constructor(ctx: Context, m: mbuf_t, place?: string | number) {
    super();
    this.#ctx = ctx;
    this.#m = m;
    if (typeof place === 'number') this.#note = noteAdopted(this, ctx, place);
    else this.#note = noted() ? noteMade(this, ctx, place) : null;
  }
  /** Use machine.chain(). */
  static make(ctx: Context, source?: ChainSource, options?: ChainOptions): Chain {
    const wait = waitOf('chain', options);
    const bytes = source === undefined ? undefined : sourceBytes('append', source);
    ctx.enter('chain');
    const chain = new Chain(ctx, NONE);
    if (bytes === undefined) return chain;
    try {
      return chain.#appendOrWait(bytes, wait);
    } catch (e) {
      chain.free();
      throw e;
    }
  }
  /** A chain over a packet that the façade built. `place`: who is to be named as its maker. */
  static of(ctx: Context, m: number, place?: string): Chain {
    return new Chain(ctx, m as mbuf_t, place);
  }
  /** Use machine.adoptChain(). */
  static adopt(ctx: Context, number: number): Chain {
    ctx.enter('adoptChain');
    const known = m_valid(number);
    const m = (known ? number / 4 : 0) as mbuf_t;
    const header = known ? field_word(mbuf.header, m) : 0;
    // Plain looks first: the exchange must not touch what is no released chain's first mbuf.
    const right =
      header !== 0 &&
      (mbuf.flags[m] & M_PKTHDR) !== 0 &&
      mbuf.header[m] === RELEASED &&
      atomic_cas(header, RELEASED, 0) === RELEASED;
    if (!right) {
      const text = `${shown(number)} is no chain that release() gave, or it was adopted already`;
      throw kmemError(EINVAL, 'adoptChain', text);
    }
    const site = mbuf.site[m];
    mbuf.site[m] = 0;
    return new Chain(ctx, m, site === 0 ? undefined : site);
  }

  // --- for streams, which take what is written to them ---------------------------------------

  /** Takes the chain from its owner, whose calls are refused from now on. False: it has ended. */
  static take(chain: Chain): boolean {
    if (chain.freed) return false;
    chain.#ctx.enter('write');
    chain.#ended = 'given to a stream';
    return true;
  }
  /** The pieces of a chain that was taken. */
  static taken(chain: Chain): Uint8Array[] {
    return chain.#ctx.up ? chain.#views() : [];
  }
  /**
   * Frees a chain that was taken, or that nobody had read; also while the thread
   * leaves the machine.  The second time does nothing.
   */
  static drop(chain: Chain, leaving = false): void {
    const m = chain.#m;
    if (m === NONE && chain.#ended !== 'given to a stream' && chain.#ended !== '') return;
    if (!leaving && !chain.#ctx.up) return chain.#finish('freed');
    kernel_probe();
    chain.#finish('freed');
    whenBack(chain.#ctx, () => giveBack('free', () => m_freem(m)));
  }
  /** What a chain has of its thread. */
  static context(chain: Chain): Context {
    return chain.#ctx;
  }

  // --- what it is --------------------------------------------------------------------------

  /** Bytes in the chain. */
  get length(): number {
    this.#live('length');
    return this.#length();
  }
  /** Pieces that hold them: what a writer has to pass on. */
  get pieces(): number {
    this.#live('pieces');
    let n = 0;
    for (let m = this.#m; m !== NONE; m = mbuf.next[m]) if (mbuf.len[m] > 0) n++;
    return n;
  }
  /** Whether every byte may be written without copying: no other chain refers to it. */
  get writable(): boolean {
    this.#live('writable');
    return m_writable(this.#m, 0, this.#length());
  }
  /** Whether it was freed, released, or given away. */
  get freed(): boolean {
    return this.#ended !== '' || !this.#ctx.up;
  }

  // --- bytes in ----------------------------------------------------------------------------

  /**
   * Copies bytes, or the UTF-8 of a text, behind the end: into the room of the last
   * piece, then into new ones.  Does not wait unless `wait` is given.  Throws ENOMEM
   * with reason 'limit', 'full', 'fragmented' or 'too large', and the chain is as it
   * was; EINVAL for what is no bytes; with `wait` also EDEADLK, ETIMEDOUT, EOPNOTSUPP.
   * A loan is not copied: the chain has it until it is freed, and never waits for it.
   */
  append(source: ChainSource | Lent, options?: ChainOptions): this {
    const wait = waitOf('append', options);
    if (isLent(source)) return this.#hang(source);
    const bytes = sourceBytes('append', source);
    this.#live('append');
    return this.#appendOrWait(bytes, wait);
  }
  #hang(source: Lent): this {
    this.#live('append');
    return this.concat(source[LENT]('append'));
  }
  #appendOrWait(bytes: Uint8Array, wait: Wait): this {
    if (!this.#append(bytes)) {
      this.#again('append', bytes.length, wait, this.#want('append', bytes).can, () =>
        this.#append(bytes),
      );
    }
    return this;
  }
  /**
   * append that waits in the event loop while a limit or memory is in the way.
   * Rejects with the signal's reason, ETIMEDOUT after `timeout` ms, ENOMEM for more
   * than all limits allow, EINVAL if the chain is freed meanwhile, or the source changes
   * its length: its bytes are copied when there is memory.
   */
  async appendAsync(source: ChainSource, options?: AsyncOptions): Promise<this> {
    this.#live('appendAsync');
    const bytes = sourceBytes('appendAsync', source);
    checkPossible('appendAsync', bytes.length);
    const { length } = bytes;
    return chainMemory(this.#ctx, this.#want('appendAsync', bytes), options, () => {
      this.#live('appendAsync');
      if (bytes.length !== length) {
        const text = `the source had ${length} bytes, and ${bytes.length} when there was memory`;
        throw kmemError(EINVAL, 'appendAsync', text);
      }
      return this.#append(bytes) ? this : undefined;
    });
  }
  /**
   * Copies bytes in front: into free room before the first piece, else into a new
   * one.  Waits and throws as append does.
   */
  prepend(source: ChainSource, options?: ChainOptions): this {
    const wait = waitOf('prepend', options);
    const bytes = sourceBytes('prepend', source);
    this.#live('prepend');
    if (bytes.length === 0) return this;
    const attempt = (): boolean =>
      this.#m === NONE
        ? this.#append(bytes)
        : inKernel('prepend', () => this.#take(m_prepend_keep(this.#m, bytes, NOWAIT)));
    if (!attempt()) {
      const can: Can = (pages) => mb_can_room(bytes.length, pages);
      this.#again('prepend', bytes.length, wait, can, attempt);
    }
    return this;
  }
  /**
   * Makes a block of a malloc type part of the chain, without a copy: `n` bytes
   * from its `offset` on.  The block is the chain's from now on; it is freed when
   * the last chain that refers to it is.  Never waits.  Throws ENOMEM, and the block
   * is still the caller's; EFAULT, EINVAL if the block has fewer bytes.
   */
  adopt(type: MallocType, address: Address, n: number, options?: AdoptOptions): this {
    checkOptions('adopt', options, ADOPT);
    const { offset = 0, front: given } = options ?? {};
    const front = booleanOf('adopt', 'front', given);
    if (!(type instanceof MallocType)) {
      throw kmemError(EINVAL, 'adopt', `${what(type)} is no type of this machine`);
    }
    this.#live('adopt');
    const size = type.usableSize(address);
    if (!whole(n) || !whole(offset) || offset + n > size) {
      const text = `${shown(n)} bytes from ${shown(offset)} on are not in a block of ${size}`;
      throw kmemError(EINVAL, 'adopt', text, { address, type: type.name });
    }
    inKernel('adopt', () => this.#adopt({ type, address, size, n, offset, front }));
    return this;
  }
  #adopt({ type, address, size, n, offset, front }: Adopted): void {
    const header = front || this.#m === NONE;
    const m = header ? m_gethdr(NOWAIT, MT_DATA) : m_get(NOWAIT, MT_DATA);
    if (m === NONE) throw chainFailure('adopt', n);
    const p = address / 4;
    m_extadd(m, p, size, BLOCK_FREE, p, malloc_type_find_or_make(type.name), 0, EXT_MOD_TYPE);
    if ((mbuf.flags[m] & M_EXT) === 0) {
      m_freem(m);
      throw chainFailure('adopt', n);
    }
    mbuf.off[m] = offset;
    mbuf.len[m] = n;
    const total = this.#length() + n;
    if (header) {
      if (this.#m !== NONE) m_move_header(m, this.#m);
      else this.#last = m;
      mbuf.next[m] = this.#m;
      this.#m = m;
    } else {
      mbuf.next[this.#end()] = m;
      this.#last = m;
    }
    mbuf.plen[this.#m] = total;
  }
  /**
   * Hangs the bytes of other chains behind the end.  They are given away: their
   * objects cannot be used any more.  Takes no memory, never waits.
   */
  concat(...others: Chain[]): this {
    this.#live('concat');
    for (const other of others) checkChain('concat', other);
    if (new Set([this, ...others]).size <= others.length) {
      throw kmemError(EINVAL, 'concat', 'a chain cannot be given twice, or to itself');
    }
    for (const other of others) other.#live('concat');
    inKernel('concat', () => this.#concat(others));
    return this;
  }
  #concat(others: readonly Chain[]): void {
    for (const other of others) {
      const m = other.#m;
      const n = other.#length();
      other.#finish('given to another chain');
      if (m === NONE) continue;
      if (this.#m === NONE) this.#m = m;
      else {
        const total = this.#length() + n;
        const last = this.#end();
        m_demote(m, true);
        m_cat(last, m);
        mbuf.plen[this.#m] = total;
        this.#last = m_last(last);
      }
    }
  }
  /**
   * Writes bytes over those from `at` on; pieces that other chains refer to are
   * copied first.  The chain does not grow.  Waits and throws as append does; EINVAL
   * if they do not lie in the chain.
   */
  write(at: number, source: ChainSource, options?: ChainOptions): this {
    const wait = waitOf('write', options);
    const given = sourceBytes('write', source);
    // A view of the chain itself would change while it is read.
    const bytes = given.buffer === mem.U8.buffer ? given.slice() : given;
    this.#place('write', at, bytes.length);
    this.#ownOrWait('write', at, at + bytes.length, wait);
    this.scatter(at, bytes.length, bytes);
    return this;
  }
  /** Copies whatever other chains refer to, so that every byte is this chain's own. */
  unshare(options?: ChainOptions): this {
    const wait = waitOf('unshare', options);
    this.#live('unshare');
    this.#ownOrWait('unshare', 0, this.#length(), wait);
    return this;
  }

  // --- shapes ------------------------------------------------------------------------------

  /**
   * A chain of the bytes from `from` up to `to`, by reference.  Waits and throws as
   * append does; EINVAL if the bytes are not in the chain.
   */
  slice(from = 0, to?: number, options?: ChainOptions): Chain {
    const wait = waitOf('slice', options);
    const end = this.#range('slice', from, to);
    if (end === from) return Chain.of(this.#ctx, NONE);
    const n = end - from;
    let m = NONE;
    const refer = (): boolean =>
      inKernel('slice', () => (m = m_share(this.#m, from, n, NOWAIT))) !== NONE;
    if (!refer()) this.#again('slice', n, wait, this.#canRefer(from, end), refer);
    return Chain.of(this.#ctx, m);
  }
  /** A chain of the same bytes, by reference. Waits and throws as append does. */
  clone(options?: ChainOptions): Chain {
    const wait = waitOf('clone', options);
    this.#live('clone');
    if (this.#m === NONE) return Chain.of(this.#ctx, NONE);
    let m = this.#copy();
    if (m === NONE) {
      const n = this.#length();
      this.#again('clone', n, wait, this.#canRefer(0, n), () => (m = this.#copy()) !== NONE);
    }
    return Chain.of(this.#ctx, m);
  }
  /** A packet that shares all pieces; NONE: no memory. */
  #copy(): mbuf_t {
    const outer = kernel_enter_proved();
    let m = NONE;
    try {
      m = m_copypacket(this.#m, NOWAIT);
    } catch (e) {
      failed(e, outer, 'clone');
    }
    kernel_leave(outer);
    return m;
  }
  /**
   * Cuts the chain after `at` bytes; returns the rest.  The piece at the cut is
   * shared.  Waits and throws as append does; EINVAL if `at` is not in the chain.
   */
  split(at: number, options?: ChainOptions): Chain {
    const wait = waitOf('split', options);
    const end = this.#range('split', at);
    if (at === end) return Chain.of(this.#ctx, NONE);
    let rest = this.#m;
    if (at === 0) this.#m = NONE;
    else {
      const cut = (): boolean =>
        inKernel('split', () => (rest = m_split(this.#m, at, NOWAIT))) !== NONE;
      if (!cut()) this.#again('split', end - at, wait, (pages) => mb_can_mbufs(1, pages), cut);
    }
    this.#last = NONE;
    return Chain.of(this.#ctx, rest);
  }
  /**
   * Brings the first `n` bytes, at most 16384, into one piece: then view(n) is all
   * of them.  Waits and throws as append does; EINVAL if the chain is shorter.
   */
  pullup(n: number, options?: ChainOptions): this {
    const wait = waitOf('pullup', options);
    this.#range('pullup', n);
    if (n > M_PIECE_MAX) {
      const text = `${n} bytes are more than a piece holds (${M_PIECE_MAX}): use toUint8Array`;
      throw kmemError(EINVAL, 'pullup', text);
    }
    if (n === 0) return this;
    const attempt = (): boolean =>
      inKernel('pullup', () => this.#take(m_pullup_keep(this.#m, n, NOWAIT)));
    if (!attempt()) this.#again('pullup', n, wait, (pages) => mb_can_piece(n, pages), attempt);
    return this;
  }
  /** Takes the first `n` bytes off and frees what held them. Never waits. Throws EINVAL. */
  discard(n: number): this {
    const length = this.#range('discard', n);
    if (n === length) this.#clear();
    else if (n > 0) inKernel('discard', () => this.#take(m_adj_head(this.#m, n)));
    return this;
  }
  /** Takes all but the first `n` bytes off. Never waits. Throws EINVAL if there are fewer. */
  truncate(n: number): this {
    const length = this.#range('truncate', n);
    if (n === 0) this.#clear();
    else if (n < length) {
      inKernel('truncate', () => m_adj(this.#m, n - length));
      this.#last = NONE;
    }
    return this;
  }

  // --- bytes out ---------------------------------------------------------------------------

  /** A view of each piece, in order: shared memory, no copy. See above for who takes them. */
  views(): Uint8Array[] {
    this.#live('views');
    return this.#views();
  }
  #views(): Uint8Array[] {
    const all: Uint8Array[] = [];
    for (let m = this.#m; m !== NONE; m = mbuf.next[m]) {
      if (mbuf.len[m] > 0) all.push(bytesAt(mtod(m), mbuf.len[m]));
    }
    return all;
  }
  /**
   * A view of the first `n` bytes, which must lie in one piece (pullup); without
   * `n`, of the first piece.  Throws EINVAL.
   */
  view(n?: number): Uint8Array {
    if (n !== undefined) this.#range('view', 0, n);
    this.#live('view');
    let m = this.#m;
    while (m !== NONE && mbuf.len[m] === 0) m = mbuf.next[m];
    const have = m === NONE ? 0 : mbuf.len[m];
    if (n !== undefined && n > have) {
      const text = `only ${have} of ${n} bytes are in the first piece: pullup(${n}) first`;
      throw kmemError(EINVAL, 'view', text);
    }
    return m === NONE ? new Uint8Array(0) : bytesAt(mtod(m), n ?? have);
  }
  /** The views, one by one. */
  [Symbol.iterator](): Iterator<Uint8Array> {
    return this.views()[Symbol.iterator]();
  }
  /** The views, one by one, for what reads asynchronously; the chain is not freed at the end. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, undefined> {
    for (const view of this.views()) {
      yield view;
      this.#live('next');
    }
  }
  /** A copy of the bytes from `from` up to `to`, in memory that nobody shares. Throws EINVAL. */
  toUint8Array(from = 0, to?: number): Uint8Array<ArrayBuffer> {
    const end = this.#range('toUint8Array', from, to);
    const copy = new Uint8Array(end - from);
    this.gather(from, end - from, copy);
    return copy;
  }
  /** The same as a Buffer, where the host has them. Throws EINVAL. */
  toBuffer(from = 0, to?: number): HostBuffer {
    const end = this.#range('toBuffer', from, to);
    const { Buffer: host } = globalThis as { Buffer?: { allocUnsafe(n: number): Uint8Array } };
    const copy = host ? host.allocUnsafe(end - from) : new Uint8Array(end - from);
    this.gather(from, end - from, copy);
    return copy as HostBuffer;
  }
  /** The bytes from `from` up to `to` as UTF-8. Throws EINVAL. */
  text(from = 0, to?: number): string {
    return textOf(this.toUint8Array(from, to));
  }
  /** Copies bytes from `from` on into `target`; returns how many. Throws EINVAL. */
  copyTo(target: Uint8Array, from = 0): number {
    if (!isBytes(target)) {
      throw kmemError(EINVAL, 'copyTo', `${what(target)} is no Uint8Array`);
    }
    const end = this.#range('copyTo', from);
    const n = Math.min(end - from, target.length);
    this.gather(from, n, target);
    return n;
  }

  // --- looking for bytes -------------------------------------------------------------------

  /** -1, 0 or 1: how these bytes sort before, with or behind those of another. */
  compare(other: Chain | ChainSource): -1 | 0 | 1 {
    this.#live('compare');
    if (other instanceof Chain) other.#live('compare');
    const a = this.views();
    const b = other instanceof Chain ? other.views() : [sourceBytes('compare', other)];
    return compareBytes(a, b);
  }
  /** Whether another chain, or bytes, are the same. */
  equals(other: Chain | ChainSource): boolean {
    return this.compare(other) === 0;
  }
  /** Where a byte, bytes or a text first stand from `from` on, over all borders; -1: nowhere. */
  indexOf(what: number | ChainSource, from = 0): number {
    const end = this.#range('indexOf', from);
    if (typeof what === 'number' && (!whole(what) || what > 255)) {
      throw kmemError(EINVAL, 'indexOf', `${shown(what)} is no byte`);
    }
    const needle = typeof what === 'number' ? Uint8Array.of(what) : sourceBytes('indexOf', what);
    return needle.length === 0 ? from : m_find(this.#m, from, end, needle);
  }

  // --- its end -----------------------------------------------------------------------------

  /** Gives the bytes back. The second time does nothing; other chains keep what they share. */
  free(): void {
    if (this.#ended !== '') return;
    const { up } = this.#ctx;
    if (up) enter('free');
    const m = this.#m;
    this.#finish('freed');
    if (!up) return;
    const outer = kernel_enter_proved();
    try {
      m_freem(m);
    } catch (e) {
      failed(e, outer, 'free');
    }
    kernel_leave(outer);
  }
  [Symbol.dispose](): void {
    letGo(() => this.free());
  }
  /**
   * Lets go of the chain and returns it as a number, for a queue, a root or a
   * message: one thread, this or another, makes it a chain again by
   * machine.adoptChain.  Throws ENOMEM for a chain without bytes, if there is not
   * even memory for its header.
   */
  release(): number {
    this.#live('release');
    let m = this.#m;
    if (m === NONE) {
      m = m_gethdr(NOWAIT, MT_DATA);
      if (m === NONE) throw chainFailure('release', 0);
    }
    const note = this.#note;
    this.#ended = 'released';
    this.#m = NONE;
    mbuf.site[m] = note === null ? 0 : noteReleased(note);
    atomic_store(field_word(mbuf.header, m), RELEASED);
    return m * 4;
  }
  /** Proves the chain: data inside its storage, lengths right. Throws KernelPanic. */
  check(): void {
    this.#live('check');
    const wrong = this.#m === NONE ? '' : m_sanity(this.#m);
    if (wrong !== '') panic(`chain: ${wrong}`);
    if (this.#last !== NONE && this.#last !== m_last(this.#m)) panic('chain: last mbuf');
  }

  // --- inside ------------------------------------------------------------------------------

  protected override piece(op: string, at: number, n: number, write: boolean): number {
    this.#live(op);
    let m = this.#m;
    if (!whole(at) || at + n > this.#length()) this.#place(op, at, n);
    if (write && !this.#own(at, at + n)) throw chainFailure(op, n);
    if (write) m = this.#m;
    let off = at;
    while (off >= mbuf.len[m]) {
      off -= mbuf.len[m];
      m = mbuf.next[m];
    }
    return off + n <= mbuf.len[m] ? mtod(m) + off : -1;
  }
  protected override gather(at: number, n: number, to: Uint8Array): void {
    if (n > 0) m_copydata(this.#m, at, n, to, 0);
  }
  protected override scatter(at: number, n: number, from: Uint8Array): void {
    let m = this.#m;
    let off = at;
    for (let done = 0; done < n; m = mbuf.next[m]) {
      const count = Math.min(mbuf.len[m] - off, n - done);
      if (count > 0) {
        bytes_in(mtod(m) + off, from, done, count);
        done += count;
      }
      off = Math.max(0, off - mbuf.len[m]);
    }
  }
  #live(op: string): void {
    if (this.#ended !== '') throw kmemError(EINVAL, op, `the chain was ${this.#ended}`);
    this.#ctx.enter(op);
    if (this.#note !== null) noteTouched(this.#note);
  }
  #length(): number {
    return this.#m === NONE ? 0 : mbuf.plen[this.#m];
  }
  /** The end of a range that must lie in the chain. */
  #range(op: string, from: number, to?: number): number {
    this.#live(op);
    const length = this.#length();
    const end = to === undefined ? length : to;
    if (whole(from) && whole(end) && from <= end && end <= length) return end;
    const bytes =
      to === undefined ? `from ${shown(from)} on` : `from ${shown(from)} to ${shown(to)}`;
    throw kmemError(EINVAL, op, `bytes ${bytes} are not in the chain of ${length}`);
  }
  /** Throws EINVAL unless `n` bytes at `at` lie in the chain. */
  #place(op: string, at: number, n: number): void {
    if (whole(at)) return void this.#range(op, at, at + n);
    this.#live(op);
    throw kmemError(EINVAL, op, `${shown(at)} is no place in a chain of ${this.#length()} bytes`);
  }
  #end(): mbuf_t {
    if (this.#last === NONE) this.#last = m_last(this.#m);
    return this.#last;
  }
  #append(bytes: Uint8Array): boolean {
    if (bytes.length === 0) return true;
    const outer = kernel_enter_proved();
    let done = false;
    try {
      done = this.#appendIn(bytes);
    } catch (e) {
      failed(e, outer, 'append');
    }
    kernel_leave(outer);
    return done;
  }
  #appendIn(bytes: Uint8Array): boolean {
    const n = bytes.length;
    if (this.#m === NONE) {
      const m = m_getroom(NOWAIT, n, true);
      if (m === NONE) return false;
      this.#last = m_fill(m, bytes, 0, n);
      mbuf.plen[m] = n;
      this.#m = m;
      return true;
    }
    const last = m_append_keep(this.#end(), bytes, NOWAIT);
    if (last === NONE) return false;
    this.#last = last;
    mbuf.plen[this.#m] += n;
    return true;
  }
  #own(from: number, to: number): boolean {
    return (
      this.#m === NONE ||
      inKernel('write', () => this.#take(m_makewritable(this.#m, from, to, NOWAIT)))
    );
  }
  /** The chain begins at `m` now, and may end elsewhere. False: there was no memory. */
  #take(m: mbuf_t): boolean {
    if (m === NONE) return false;
    this.#m = m;
    this.#last = NONE;
    return true;
  }
  #clear(): void {
    const m = this.#m;
    this.#m = NONE;
    this.#last = NONE;
    giveBack('discard', () => m_freem(m));
  }
  #finish(how: string): void {
    this.#ended = how;
    this.#m = NONE;
    if (this.#note !== null) noteFreed(this.#note);
  }
  /** A request failed: waits and makes it again, or throws. */
  #again(op: string, n: number, wait: Wait, can: Can, attempt: () => boolean): void {
    if (!wait) throw chainFailure(op, n);
    checkPossible(op, n);
    waitFor({
      op,
      name: 'a chain',
      instead: 'appendAsync',
      wait,
      attempt: () => (attempt() ? 1 : 0),
      sleep: (ms) => sleepForChains(ms, can),
    });
  }
  /** Memory for what does not fit behind the end. */
  #want(op: string, bytes: Uint8Array): ChainWant {
    const lacks = (): number => m_lacking(this.#m === NONE ? NONE : this.#end(), bytes.length);
    const over = (): boolean => this.#ended !== ''; // asked once more, it says so
    const can: Can = (pages) => over() || lacks() === 0 || mb_can_room(lacks(), pages);
    return { op, key: `${lacks()}`, can, over };
  }
  /** Whether there may be an mbuf for each piece that has bytes from `from` to `to`. */
  #canRefer(from: number, to: number): Can {
    return (pages) => mb_can_mbufs(m_pieces(this.#m, from, to), pages);
  }
  /** Makes the bytes from `from` to `to` the chain's own, waiting as told. */
  #ownOrWait(op: string, from: number, to: number, wait: Wait): void {
    const attempt = (): boolean => this.#own(from, to);
    if (attempt()) return;
    const can: Can = (pages) => mb_can_room(m_shared_bytes(this.#m, from, to), pages);
    this.#again(op, to - from, wait, can, attempt);
  }
}

function checkChain(op: string, value: unknown): void {
  if (value instanceof Chain) return;
  throw kmemError(EINVAL, op, `${what(value)} is no chain`);
}
