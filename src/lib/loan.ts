/*
 * loan: pages of a region as they are now, to be read where they lie while others go on writing.
 *
 *      using loan = m.lend(off, 65536);
 *      for (const view of loan) socket.write(view);      views of shared memory, nothing is copied
 *
 *      chain.append(m.lend(off, n));                     part of a chain, whoever frees that
 *      other.mmap({ loan });                             memory of a space, copied by a store
 *
 * What a loan shows stays as it was when it was made.  The first store of anybody to a page that is
 * lent gives the region a copy of it; so does unmapping, truncating or destroying what it was lent
 * from change nothing for the borrower.  Where pages lie side by side one view shows several.
 *
 * Views may be read only.  Nothing keeps a program from storing through one; but it would
 * store to the region too, or to what other loans show.
 *
 * A loan is this thread's until it is given back, by dispose() or `using`; it goes back when the
 * thread leaves or dies.  A chain to which it was appended has it besides, as long as it needs it.
 */
import { EINVAL } from '../sys/machine/errno.ts';
import { mem, PAGE_SIZE, page_word } from '../sys/machine/memory.ts';
import { elem, NULL } from '../sys/machine/struct.ts';
import { M_DRAIN, M_NOWAIT } from '../sys/h/malloc_flags.ts';
import { EXT_MOD_TYPE, M_EXT, M_RDONLY, mbuf, type mbuf_t, MT_DATA } from '../sys/h/mbuf.ts';
import { vm_loan, type vm_loan_t } from '../sys/h/vm_loan.ts';
import { m_get, m_gethdr } from '../sys/client/kern_mbuf.ts';
import {
  SPACE_LOAN_FREE,
  space_loan_copied,
  space_loan_drop,
  space_loan_refer,
  space_unloan,
} from '../sys/client/kern_space.ts';
import { m_extadd, m_freem } from '../sys/client/uipc_mbuf.ts';
import { Chain } from './chain.ts';
import { LENT, type Lent } from './chain_args.ts';
import { chainFailure } from './chain_wait.ts';
import { type Context, enter, gone, inKernel, letGo } from './context.ts';
import { kmemError } from './errors.ts';
import { showsItself } from './inspect.ts';

/** What of a loan a mapping is to show. */
export const SHOWN: unique symbol = Symbol('shown');
/** Pages side by side that a loan shows. */
interface Piece {
  readonly loan: vm_loan_t;
  /** First byte of the first page, in the memory. */
  readonly at: number;
  /** Bytes of the pages. */
  size: number;
}
/** Bytes of a region that stay as they were. Made by region.lend(). */
export class Loan implements Disposable, Iterable<Uint8Array>, Lent {
  /** Bytes. */
  readonly length: number;
  readonly #ctx: Context;
  /** None: it was given back. */
  #loans: readonly vm_loan_t[];
  /** Byte of the first page at which it begins. */
  readonly #skip: number;
  static {
    showsItself(Loan.prototype, 'Loan', ({ length, ended }) => ({ length, ended }));
  }

  /** Use region.lend(). */
  constructor(ctx: Context, loans: readonly vm_loan_t[], offset: number, length: number) {
    this.#ctx = ctx;
    this.#loans = loans;
    this.#skip = offset % PAGE_SIZE;
    this.length = length;
  }
  /** Whether it was given back, or this thread has left the machine. */
  get ended(): boolean {
    return this.#loans.length === 0 || !this.#ctx.up;
  }
  /** Whether some of it was copied, because a thread did not answer in time. Throws EINVAL. */
  get copied(): boolean {
    this.#live('copied');
    return this.#loans.some(space_loan_copied);
  }
  /** The bytes, in as few views as their pages allow: to be read only. Throws EINVAL, ESHUTDOWN. */
  views(): Uint8Array[] {
    this.#live('views');
    return this.#each((_piece, at, n) => new Uint8Array(mem.U8.buffer, at, n));
  }
  [Symbol.iterator](): Iterator<Uint8Array> {
    return this.views()[Symbol.iterator]();
  }
  /** Gives it back: its views may be anybody's memory. Chains keep what they have of it. */
  dispose(): void {
    const loans = this.#loans;
    if (loans.length === 0) return;
    this.#loans = [];
    if (!this.#ctx.up) return;
    letGo(() => {
      enter('dispose');
      inKernel('dispose', () => {
        for (const l of loans) space_unloan(l);
      });
    });
  }
  /** dispose() at the end of a `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  // --- inside ------------------------------------------------------------------------------------

  /** What a mapping is to show. Throws EINVAL. @internal */
  [SHOWN](op: string): readonly vm_loan_t[] {
    this.#live(op);
    if (this.#skip === 0) return this.#loans;
    const why = `the loan begins ${this.#skip} bytes inside a page: lend from its beginning`;
    throw kmemError(EINVAL, op, why);
  }
  #live(op: string): void {
    if (!this.#ctx.up) gone(op, this.#ctx);
    if (this.#loans.length === 0) throw kmemError(EINVAL, op, 'the loan was given back');
  }
  #pieces(): Piece[] {
    const pieces: Piece[] = [];
    for (const l of this.#loans) {
      for (let k = 0; k < vm_loan.pages[l]; k++) {
        const at = page_word(vm_loan.frames[elem(l, k)]) * 4;
        const last = pieces.at(-1);
        if (last?.loan === l && last.at + last.size === at) last.size += PAGE_SIZE;
        else pieces.push({ loan: l, at, size: PAGE_SIZE });
      }
    }
    return pieces;
  }
  /** Calls `make` for each piece with the place and number of its bytes that are lent. */
  #each<T>(make: (piece: Piece, at: number, n: number) => T): T[] {
    let skip = this.#skip;
    let left = this.length;
    return this.#pieces().map((piece) => {
      const n = Math.min(piece.size - skip, left);
      const made = make(piece, piece.at + skip, n);
      skip = 0;
      left -= n;
      return made;
    });
  }
  /** A chain of storage that is this loan: for chain.append(). Throws ENOMEM, EINVAL. */
  [LENT](op: string): Chain {
    this.#live(op);
    return inKernel(op, () => {
      let first = NULL as mbuf_t;
      let last = first;
      const hung = this.#each(({ loan, at, size }, from, n) => {
        const m = first === NULL ? m_gethdr(NOWAIT, MT_DATA) : m_get(NOWAIT, MT_DATA);
        if (m === NULL) return false;
        if (first === NULL) first = m;
        else mbuf.next[last] = m;
        last = m;
        return storage(m, loan, at, size, from, n);
      });
      if (hung.includes(false)) {
        if (first !== NULL) m_freem(first);
        throw chainFailure(op, this.length);
      }
      mbuf.plen[first] = this.length;
      return Chain.of(this.#ctx, first);
    });
  }
}
const NOWAIT = M_NOWAIT | M_DRAIN;
/** Pages of a loan become the storage of an mbuf, of which it has n bytes. False: no memory. */
function storage(
  m: mbuf_t,
  l: vm_loan_t,
  at: number,
  size: number,
  from: number,
  n: number,
): boolean {
  space_loan_refer(l);
  m_extadd(m, at / 4, size, SPACE_LOAN_FREE, l, 0, M_RDONLY, EXT_MOD_TYPE);
  if ((mbuf.flags[m] & M_EXT) === 0) {
    space_loan_drop(l);
    return false;
  }
  mbuf.off[m] = from - at;
  mbuf.len[m] = n;
  return true;
}
