/*
 * chain_held: chains that a stream has taken, until it is done with them.
 *
 *      write(chain) -> held -> views go to the target -> its callback: freed
 *                        |
 *                        +-- the stream fails, or the thread leaves: freed
 *
 * A chain that is written belongs to the stream from then on: its writer cannot
 * touch it any more.  When the thread leaves the machine, what its streams hold is
 * given back first, because afterwards nobody could.  One kind is not: a chain whose
 * bytes the target reads where they lie may still be read by a thread of the host
 * (a file is), so that it stays in use until the machine is shut down.
 */
import { Chain } from './chain.ts';
import { letGo, type Mortal } from './context.ts';

export class Held implements Mortal {
  readonly #chains = new Set<Chain>();
  readonly #ends: () => void;
  /** What the target may be reading still when the thread leaves. */
  #lent: Chain | null = null;

  /** `ends`: ends the stream, because the thread leaves the machine. */
  constructor(ends: () => void) {
    this.#ends = ends;
  }
  add(chain: Chain): void {
    if (this.#chains.size === 0) Chain.context(chain).waits.add(this);
    this.#chains.add(chain);
  }
  /** What is written is the stream's; a chain that can go nowhere any more is freed at once. */
  take(chunk: unknown, stream: { destroyed: boolean; writableEnded: boolean }): void {
    if (!(chunk instanceof Chain) || this.#chains.has(chunk)) return;
    if (stream.destroyed || stream.writableEnded) letGo(() => chunk.free());
    else if (Chain.take(chunk)) this.add(chunk);
  }
  has(chain: Chain): boolean {
    return this.#chains.has(chain);
  }
  /** The target reads it where it lies, and nobody can tell until when. */
  lend(chain: Chain): void {
    this.#lent = chain;
  }
  /** It belongs to somebody else now. */
  forget(chain: Chain): void {
    this.#chains.delete(chain);
    if (this.#lent === chain) this.#lent = null;
    if (this.#chains.size === 0) Chain.context(chain).waits.delete(this);
  }
  free(chain: Chain): void {
    if (!this.#chains.has(chain)) return;
    this.forget(chain);
    Chain.drop(chain);
  }
  /** Frees all, or all but what the target is reading. */
  freeAll(lent = true): void {
    for (const chain of this.#chains) if (lent || chain !== this.#lent) this.free(chain);
  }
  /** The thread leaves the machine: what it gave back later would be lost. */
  bury(): void {
    this.leave();
    this.#ends();
  }
  /** Gives everything back while that can be done. */
  leave(): void {
    const chains = [...this.#chains].filter((chain) => chain !== this.#lent);
    this.#chains.clear();
    for (const chain of chains) Chain.drop(chain, true);
  }
}
