/*
 * vm_map (model): an address space as an array of pages.
 *
 * What each page holds, and what may be done with it.  A page of a shared object says which; what
 * that holds stands in an array of its own.  Everything is looked for page by page.
 */
import {
  KERN_INVALID_ADDRESS,
  KERN_NO_SPACE,
  KERN_PROTECTION_FAILURE,
  KERN_SUCCESS,
  VM_INHERIT_COPY,
  VM_INHERIT_NONE,
  VM_INHERIT_SHARE,
  VM_INHERIT_ZERO,
} from '../h/vm_map.ts';

/** What is seen at a page, by one address space or, after a fork, by several. */
interface Contents {
  /** What it holds; undefined: what page `of` of the shared object holds. */
  value: number | undefined;
  /** Page of the shared object, -1: none. */
  readonly of: number;
  /** It is a copy of that page from the first write on. */
  readonly private: boolean;
  /** Several address spaces see it, and what each writes. */
  joint: boolean;
}
export interface Cell {
  contents: Contents;
  protection: number;
  max: number;
  inherit: number;
  /** Behaviour and the like: what advice changes. */
  flags: number;
  /** A program has locked it. */
  locked: boolean;
}
/** What is mapped. */
export interface How {
  readonly protection: number;
  readonly max: number;
  /** Page of the shared object, -1: memory that is zero at first. */
  readonly of: number;
  readonly private: boolean;
}
export class MapModel {
  readonly min: number;
  readonly max: number;
  readonly cells: (Cell | null)[];
  readonly shared: number[];

  constructor(min: number, max: number, shared: number[]) {
    this.min = min;
    this.max = max;
    this.cells = new Array(max).fill(null);
    this.shared = shared;
  }
  /** What a fork makes. Of what several see already there is no copy. */
  fork(): MapModel {
    const m = new MapModel(this.min, this.max, this.shared);
    this.each(this.min, this.max, (c, i) => {
      if (c.inherit === VM_INHERIT_NONE) return;
      if (c.inherit === VM_INHERIT_SHARE) c.contents.joint = true;
      else if (c.inherit === VM_INHERIT_COPY && c.contents.joint) throw new Error('no such copy');
      const fresh = { value: 0, of: -1, private: false, joint: false };
      const contents =
        c.inherit === VM_INHERIT_SHARE
          ? c.contents
          : c.inherit === VM_INHERIT_ZERO
            ? fresh
            : { ...c.contents };
      m.cells[i] = { ...c, contents, locked: false };
    });
    return m;
  }
  /** Whether several see what is at a page. */
  joint(i: number): boolean {
    return this.cells[i]?.contents.joint ?? false;
  }
  free(start: number, end: number): boolean {
    for (let i = start; i < end; i++) if (this.cells[i] !== null) return false;
    return true;
  }
  size(): number {
    return this.cells.reduce((n, c) => n + (c === null ? 0 : 1), 0);
  }
  /** The lowest place from `from` on that ends at `high` at the latest, -1: none. */
  lowest(from: number, n: number, high: number, align: number, phase: number): number {
    for (let at = Math.max(from, this.min); at + n <= Math.min(high, this.max); at++) {
      if ((at - phase) % align === 0 && this.free(at, at + n)) return at;
    }
    return -1;
  }
  highest(high: number, n: number, align: number, phase: number): number {
    for (let at = Math.min(high, this.max) - n; at >= this.min; at--) {
      if ((at - phase) % align === 0 && this.free(at, at + n)) return at;
    }
    return -1;
  }
  /** The code of an insertion that replaces nothing. */
  insertable(start: number, end: number): number {
    if (start < this.min || end > this.max || start >= end) return KERN_INVALID_ADDRESS;
    return this.free(start, end) ? KERN_SUCCESS : KERN_NO_SPACE;
  }
  insert(start: number, end: number, how: How): void {
    for (let i = start; i < end; i++) {
      this.cells[i] = {
        contents: {
          value: how.of < 0 ? 0 : undefined,
          of: how.of < 0 ? -1 : how.of + i - start,
          private: how.private,
          joint: how.of >= 0 && !how.private,
        },
        protection: how.protection,
        max: how.max,
        inherit: VM_INHERIT_COPY,
        flags: 0,
        locked: false,
      };
    }
  }
  remove(start: number, end: number): void {
    for (let i = Math.max(start, 0); i < Math.min(end, this.max); i++) this.cells[i] = null;
  }
  /** Calls `set` with every mapped page of a range. */
  each(start: number, end: number, set: (c: Cell, i: number) => void): void {
    for (let i = Math.max(start, this.min); i < Math.min(end, this.max); i++) {
      const c = this.cells[i];
      if (c !== null) set(c, i);
    }
  }
  protect(start: number, end: number, prot: number, set_max: boolean): number {
    let bad = false;
    this.each(start, end, (c) => {
      if ((prot & ~c.max) !== 0) bad = true;
    });
    if (bad) return KERN_PROTECTION_FAILURE;
    this.each(start, end, (c) => {
      c.protection = set_max ? c.protection & prot : prot;
      if (set_max) c.max = prot;
    });
    return KERN_SUCCESS;
  }
  check_protection(start: number, end: number, prot: number): boolean {
    for (let i = start; i < end; i++) {
      const c = this.cells[i] ?? null;
      if (c === null || (c.protection & prot) !== prot) return false;
    }
    return true;
  }
  /** A private page is a copy from here on. */
  own(i: number): void {
    const c = (this.cells[i] as Cell).contents;
    if (c.private) c.value ??= this.shared[c.of];
  }
  /** Whether a page of a range would become a copy of its own if it were locked. */
  copies(start: number, end: number): boolean {
    let some = false;
    this.each(start, end, (c) => {
      if (c.contents.private && c.contents.value === undefined) some = true;
    });
    return some;
  }
  /** What locking a range, or with `on` false unlocking it, answers. */
  lock(start: number, end: number, on: boolean, holes: boolean): number {
    for (let i = start; i < end && !holes; i++) {
      const c = this.cells[i] ?? null;
      const none = on && c !== null && (c.protection & 3) === 0 && !c.locked;
      if (i < this.min || c === null || none) return KERN_INVALID_ADDRESS;
    }
    return KERN_SUCCESS;
  }
  /** What that does. */
  locked(start: number, end: number, on: boolean): void {
    this.each(start, end, (c, i) => {
      if (!on) c.locked = false;
      else if ((c.protection & 3) !== 0 && !c.locked) {
        c.locked = true;
        this.own(i);
      }
    });
  }
  read(i: number): number {
    const { value, of } = (this.cells[i] as Cell).contents;
    return value ?? this.shared[of];
  }
  write(i: number, value: number): void {
    const c = (this.cells[i] as Cell).contents;
    if (c.of >= 0 && !c.private) this.shared[c.of] = value;
    else c.value = value;
  }
}
