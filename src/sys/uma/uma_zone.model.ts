/*
 * uma_zone (model): what a program knows of its items, and nothing else.
 *
 * A Map of the live items, and a Set of every word that belongs to one of them.
 * Always true of a right allocator: no word is given out twice, contents stay
 * as the program left them, limits hold, and as many items are in use as the
 * program holds.
 */
import { mem } from '../machine/memory.ts';

interface Live {
  readonly zone: number;
  readonly words: number;
  readonly pattern: number;
}

export class ZoneModel {
  readonly live = new Map<number, Live>();
  private readonly words = new Set<number>();
  private next = 1;

  /** The item was given out. Fills it with a pattern of its own. */
  take(zone: number, item: number, bytes: number): void {
    const words = bytes >> 2;
    for (let w = item; w < item + words; w++) {
      if (this.words.has(w)) throw new Error(`word ${w} of item ${item} is in use`);
      this.words.add(w);
    }
    const pattern = Math.imul(this.next++, 0x9e3779b1);
    mem.I32.fill(pattern, item, item + words);
    this.live.set(item, { zone, words, pattern });
  }
  /** The program is about to free the item: its contents must be what it wrote. */
  give(item: number): void {
    const { words, pattern } = this.live.get(item) as Live;
    for (let w = item; w < item + words; w++) {
      if (mem.I32[w] !== pattern) throw new Error(`word ${w} of item ${item} was overwritten`);
      this.words.delete(w);
    }
    this.live.delete(item);
  }
  of(zone: number): number[] {
    return [...this.live].filter(([, live]) => live.zone === zone).map(([item]) => item);
  }
}
