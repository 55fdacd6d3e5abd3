/*
 * page_kinds (model): who has each page, as one name a page.
 *
 * Queues, caches, hands and owners of the page floor are here a single answer to a
 * single question.  Whatever the driver was given is under the name of whom it gave it
 * to, and all other pages are free, the kernel's own, or the zones'.
 */

/** Who has a page that the driver took. */
export type Holder = 'wired' | 'large' | 'busy' | 'object';

export class KindsModel {
  private readonly holders = new Map<number, Holder>();
  private readonly counts = new Map<Holder, number>();

  /** The driver was given page m. Throws if it has it already. */
  take(m: number, by: Holder): void {
    const has = this.holders.get(m);
    if (has !== undefined) throw new Error(`page ${m} was given out twice: it is ${has}`);
    this.holders.set(m, by);
    this.change(by, 1);
  }
  /** Page m goes from one holder to another, or to nobody. */
  move(m: number, from: Holder, to: Holder | null): void {
    const has = this.holders.get(m);
    if (has !== from) throw new Error(`page ${m} is ${has}, not ${from}`);
    this.change(from, -1);
    if (to === null) this.holders.delete(m);
    else {
      this.holders.set(m, to);
      this.change(to, 1);
    }
  }
  count(by: Holder): number {
    return this.counts.get(by) ?? 0;
  }
  /** The pages that the driver has. */
  each(fn: (m: number, by: Holder) => void): void {
    for (const [m, by] of this.holders) fn(m, by);
  }
  private change(by: Holder, n: number): void {
    this.counts.set(by, this.count(by) + n);
  }
}
