/*
 * region_access: typed loads and stores in a region, at the speed of a compare.
 *
 *      offset ──> page number ──> this CPU's tag of it ──> frame ──> typed array
 *
 * A CPU translates the pages that it used last by tags in its own memory (h/pmap.ts,
 * pmap_tlb.ts): where the tag is there, an access is two compares and three loads.  Where it is
 * not, or somebody asks something of this CPU, the access goes the long way (`frame`), which
 * says what is wrong with it, faults the page in and fills the tag.
 *
 * `near` is the last offset that may go the short way: beyond 2^31 bytes none does, and none at
 * all while this CPU has no tags for the space.
 *
 * Fields are declared and not defined: one that is undefined first, as the language has it, may be
 * anything for ever, and V8 looks at each view again at every access (twice the time).
 *
 * Each of the sixteen is written out: V8 compiles what it knows of one typed array, and what they
 * would share would serve eight of them.
 */
import { TLB_ENTRIES as TLB_ENTRIES_, TLB_STORES as TLB_STORES_ } from '../sys/h/pmap.ts';
import { PAGE_SIZE } from '../sys/machine/memory.ts';
import type { Views } from './memory.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const MASK = TLB_ENTRIES_ - 1;
const TLB_STORES = TLB_STORES_;
const PAGE_SHIFT = 12;
const INSIDE = PAGE_SIZE - 1;

/** Loads and stores of all widths; offsets are bytes from the start of the region. */
export abstract class RegionAccess {
  declare protected readonly u8: Uint8Array;
  declare protected readonly i8: Int8Array;
  declare protected readonly u16: Uint16Array;
  declare protected readonly i16: Int16Array;
  declare protected readonly u32: Uint32Array;
  declare protected readonly i32: Int32Array;
  declare protected readonly f32: Float32Array;
  declare protected readonly f64: Float64Array;
  /** Word of this CPU's state: 0 while nobody asks anything of it. */
  declare protected readonly state: number;
  /** Its first page number in the map. @internal */
  declare readonly first: number;
  /** First word of this CPU's tags. */
  declare protected tlb: number;
  /** The last offset that goes the short way; -1: none does. */
  declare protected near: number;

  constructor(views: Views, state: number, first: number) {
    this.u8 = views.u8;
    this.i8 = views.i8;
    this.u16 = views.u16;
    this.i16 = views.i16;
    this.u32 = views.u32;
    this.i32 = views.i32;
    this.f32 = views.f32;
    this.f64 = views.f64;
    this.state = state;
    this.first = first;
    this.tlb = 0;
    this.near = -1;
  }
  /**
   * First word of the page at an offset, for one access of `width` bytes that follows at once.
   * Throws if there can be none.
   */
  protected abstract frame(op: string, offset: number, width: number, write: boolean): number;
  /** Throws EINVAL: the value is no number. */
  protected abstract noNumber(op: string, value: unknown): never;

  /** The unsigned byte at an offset. Throws as Region.read does. */
  getU8(offset: number): number {
    const { i32 } = this;
    if (
      typeof offset === 'number' &&
      (offset | 0) === offset &&
      offset >= 0 &&
      offset <= this.near
    ) {
      const at = this.first + (offset >> PAGE_SHIFT);
      const tag = this.tlb + ((at & MASK) << 1);
      if (i32[tag] === at && i32[this.state] === 0) {
        return this.u8[i32[tag + 1] * 4 + (offset & INSIDE)];
      }
    }
    const frame = this.frame('getU8', offset, 1, false);
    return this.u8[frame * 4 + (offset & INSIDE)];
  }
  /** Stores an unsigned byte. Throws as getU8 does. */
  setU8(offset: number, value: number): void {
    const { i32 } = this;
    if (typeof value !== 'number') this.noNumber('setU8', value);
    if (
      typeof offset === 'number' &&
      (offset | 0) === offset &&
      offset >= 0 &&
      offset <= this.near
    ) {
      const at = this.first + (offset >> PAGE_SHIFT);
      const tag = this.tlb + ((at & MASK) << 1) + TLB_STORES;
      if (i32[tag] === at && i32[this.state] === 0) {
        this.u8[i32[tag + 1] * 4 + (offset & INSIDE)] = value;
        return;
      }
    }
    const frame = this.frame('setU8', offset, 1, true);
    this.u8[frame * 4 + (offset & INSIDE)] = value;
  }
  /** The signed byte at an offset. Throws as Region.read does. */
  getI8(offset: number): number {
    const { i32 } = this;
    if (
      typeof offset === 'number' &&
      (offset | 0) === offset &&
      offset >= 0 &&
      offset <= this.near
    ) {
      const at = this.first + (offset >> PAGE_SHIFT);
      const tag = this.tlb + ((at & MASK) << 1);
      if (i32[tag] === at && i32[this.state] === 0) {
        return this.i8[i32[tag + 1] * 4 + (offset & INSIDE)];
      }
    }
    const frame = this.frame('getI8', offset, 1, false);
    return this.i8[frame * 4 + (offset & INSIDE)];
  }
  /** Stores a signed byte. Throws as getI8 does. */
  setI8(offset: number, value: number): void {
    const { i32 } = this;
    if (typeof value !== 'number') this.noNumber('setI8', value);
    if (
      typeof offset === 'number' &&
      (offset | 0) === offset &&
      offset >= 0 &&
      offset <= this.near
    ) {
      const at = this.first + (offset >> PAGE_SHIFT);
      const tag = this.tlb + ((at & MASK) << 1) + TLB_STORES;
      if (i32[tag] === at && i32[this.state] === 0) {
        this.i8[i32[tag + 1] * 4 + (offset & INSIDE)] = value;
        return;
      }
    }
    const frame = this.frame('setI8', offset, 1, true);
    this.i8[frame * 4 + (offset & INSIDE)] = value;
  }
  /** The unsigned 16 bits at an offset, a multiple of 2. Throws as Region.read does. */
  getU16(offset: number): number {
    const { i32 } = this;
    if (
      typeof offset === 'number' &&
      (offset | 0) === offset &&
      (offset & 1) === 0 &&
      offset >= 0 &&
      offset <= this.near - 1
    ) {
      const at = this.first + (offset >> PAGE_SHIFT);
      const tag = this.tlb + ((at & MASK) << 1);
      if (i32[tag] === at && i32[this.state] === 0) {
        return this.u16[i32[tag + 1] * 2 + ((offset & INSIDE) >> 1)];
      }
    }
    const frame = this.frame('getU16', offset, 2, false);
    return this.u16[frame * 2 + ((offset & INSIDE) >> 1)];
  }
  /** Stores unsigned 16 bits at a multiple of 2. Throws as getU16 does. */
  setU16(offset: number, value: number): void {
    const { i32 } = this;
    if (typeof value !== 'number') this.noNumber('setU16', value);
    if (
      typeof offset === 'number' &&
      (offset | 0) === offset &&
      (offset & 1) === 0 &&
      offset >= 0 &&
      offset <= this.near - 1
    ) {
      const at = this.first + (offset >> PAGE_SHIFT);
      const tag = this.tlb + ((at & MASK) << 1) + TLB_STORES;
      if (i32[tag] === at && i32[this.state] === 0) {
        this.u16[i32[tag + 1] * 2 + ((offset & INSIDE) >> 1)] = value;
        return;
      }
    }
    const frame = this.frame('setU16', offset, 2, true);
    this.u16[frame * 2 + ((offset & INSIDE) >> 1)] = value;
  }
  /** The signed 16 bits at an offset, a multiple of 2. Throws as Region.read does. */
  getI16(offset: number): number {
    const { i32 } = this;
    if (
      typeof offset === 'number' &&
      (offset | 0) === offset &&
      (offset & 1) === 0 &&
      offset >= 0 &&
      offset <= this.near - 1
    ) {
      const at = this.first + (offset >> PAGE_SHIFT);
      const tag = this.tlb + ((at & MASK) << 1);
      if (i32[tag] === at && i32[this.state] === 0) {
        return this.i16[i32[tag + 1] * 2 + ((offset & INSIDE) >> 1)];
      }
    }
    const frame = this.frame('getI16', offset, 2, false);
    return this.i16[frame * 2 + ((offset & INSIDE) >> 1)];
  }
  /** Stores signed 16 bits at a multiple of 2. Throws as getI16 does. */
  setI16(offset: number, value: number): void {
    const { i32 } = this;
    if (typeof value !== 'number') this.noNumber('setI16', value);
    if (
      typeof offset === 'number' &&
      (offset | 0) === offset &&
      (offset & 1) === 0 &&
      offset >= 0 &&
      offset <= this.near - 1
    ) {
      const at = this.first + (offset >> PAGE_SHIFT);
      const tag = this.tlb + ((at & MASK) << 1) + TLB_STORES;
      if (i32[tag] === at && i32[this.state] === 0) {
        this.i16[i32[tag + 1] * 2 + ((offset & INSIDE) >> 1)] = value;
        return;
      }
    }
    const frame = this.frame('setI16', offset, 2, true);
    this.i16[frame * 2 + ((offset & INSIDE) >> 1)] = value;
  }
  /** The unsigned 32 bits at an offset, a multiple of 4. Throws as Region.read does. */
  getU32(offset: number): number {
    const { i32 } = this;
    if (
      typeof offset === 'number' &&
      (offset | 0) === offset &&
      (offset & 3) === 0 &&
      offset >= 0 &&
      offset <= this.near - 3
    ) {
      const at = this.first + (offset >> PAGE_SHIFT);
      const tag = this.tlb + ((at & MASK) << 1);
      if (i32[tag] === at && i32[this.state] === 0) {
        return this.u32[i32[tag + 1] + ((offset & INSIDE) >> 2)];
      }
    }
    const frame = this.frame('getU32', offset, 4, false);
    return this.u32[frame + ((offset & INSIDE) >> 2)];
  }
  /** Stores unsigned 32 bits at a multiple of 4. Throws as getU32 does. */
  setU32(offset: number, value: number): void {
    const { i32 } = this;
    if (typeof value !== 'number') this.noNumber('setU32', value);
    if (
      typeof offset === 'number' &&
      (offset | 0) === offset &&
      (offset & 3) === 0 &&
      offset >= 0 &&
      offset <= this.near - 3
    ) {
      const at = this.first + (offset >> PAGE_SHIFT);
      const tag = this.tlb + ((at & MASK) << 1) + TLB_STORES;
      if (i32[tag] === at && i32[this.state] === 0) {
        this.u32[i32[tag + 1] + ((offset & INSIDE) >> 2)] = value;
        return;
      }
    }
    const frame = this.frame('setU32', offset, 4, true);
    this.u32[frame + ((offset & INSIDE) >> 2)] = value;
  }
  /** The signed 32 bits at an offset, a multiple of 4. Throws as Region.read does. */
  getI32(offset: number): number {
    const { i32 } = this;
    if (
      typeof offset === 'number' &&
      (offset | 0) === offset &&
      (offset & 3) === 0 &&
      offset >= 0 &&
      offset <= this.near - 3
    ) {
      const at = this.first + (offset >> PAGE_SHIFT);
      const tag = this.tlb + ((at & MASK) << 1);
      if (i32[tag] === at && i32[this.state] === 0) {
        return this.i32[i32[tag + 1] + ((offset & INSIDE) >> 2)];
      }
    }
    const frame = this.frame('getI32', offset, 4, false);
    return this.i32[frame + ((offset & INSIDE) >> 2)];
  }
  /** Stores signed 32 bits at a multiple of 4. Throws as getI32 does. */
  setI32(offset: number, value: number): void {
    const { i32 } = this;
    if (typeof value !== 'number') this.noNumber('setI32', value);
    if (
      typeof offset === 'number' &&
      (offset | 0) === offset &&
      (offset & 3) === 0 &&
      offset >= 0 &&
      offset <= this.near - 3
    ) {
      const at = this.first + (offset >> PAGE_SHIFT);
      const tag = this.tlb + ((at & MASK) << 1) + TLB_STORES;
      if (i32[tag] === at && i32[this.state] === 0) {
        this.i32[i32[tag + 1] + ((offset & INSIDE) >> 2)] = value;
        return;
      }
    }
    const frame = this.frame('setI32', offset, 4, true);
    this.i32[frame + ((offset & INSIDE) >> 2)] = value;
  }
  /** The 32-bit float at an offset, a multiple of 4. Throws as Region.read does. */
  getF32(offset: number): number {
    const { i32 } = this;
    if (
      typeof offset === 'number' &&
      (offset | 0) === offset &&
      (offset & 3) === 0 &&
      offset >= 0 &&
      offset <= this.near - 3
    ) {
      const at = this.first + (offset >> PAGE_SHIFT);
      const tag = this.tlb + ((at & MASK) << 1);
      if (i32[tag] === at && i32[this.state] === 0) {
        return this.f32[i32[tag + 1] + ((offset & INSIDE) >> 2)];
      }
    }
    const frame = this.frame('getF32', offset, 4, false);
    return this.f32[frame + ((offset & INSIDE) >> 2)];
  }
  /** Stores a 32-bit float at a multiple of 4. Throws as getF32 does. */
  setF32(offset: number, value: number): void {
    const { i32 } = this;
    if (typeof value !== 'number') this.noNumber('setF32', value);
    if (
      typeof offset === 'number' &&
      (offset | 0) === offset &&
      (offset & 3) === 0 &&
      offset >= 0 &&
      offset <= this.near - 3
    ) {
      const at = this.first + (offset >> PAGE_SHIFT);
      const tag = this.tlb + ((at & MASK) << 1) + TLB_STORES;
      if (i32[tag] === at && i32[this.state] === 0) {
        this.f32[i32[tag + 1] + ((offset & INSIDE) >> 2)] = value;
        return;
      }
    }
    const frame = this.frame('setF32', offset, 4, true);
    this.f32[frame + ((offset & INSIDE) >> 2)] = value;
  }
  /** The 64-bit float at an offset, a multiple of 8. Throws as Region.read does. */
  getF64(offset: number): number {
    const { i32 } = this;
    if (
      typeof offset === 'number' &&
      (offset | 0) === offset &&
      (offset & 7) === 0 &&
      offset >= 0 &&
      offset <= this.near - 7
    ) {
      const at = this.first + (offset >> PAGE_SHIFT);
      const tag = this.tlb + ((at & MASK) << 1);
      if (i32[tag] === at && i32[this.state] === 0) {
        return this.f64[(i32[tag + 1] >>> 1) + ((offset & INSIDE) >> 3)];
      }
    }
    const frame = this.frame('getF64', offset, 8, false);
    return this.f64[(frame >>> 1) + ((offset & INSIDE) >> 3)];
  }
  /** Stores a 64-bit float at a multiple of 8. Throws as getF64 does. */
  setF64(offset: number, value: number): void {
    const { i32 } = this;
    if (typeof value !== 'number') this.noNumber('setF64', value);
    if (
      typeof offset === 'number' &&
      (offset | 0) === offset &&
      (offset & 7) === 0 &&
      offset >= 0 &&
      offset <= this.near - 7
    ) {
      const at = this.first + (offset >> PAGE_SHIFT);
      const tag = this.tlb + ((at & MASK) << 1) + TLB_STORES;
      if (i32[tag] === at && i32[this.state] === 0) {
        this.f64[(i32[tag + 1] >>> 1) + ((offset & INSIDE) >> 3)] = value;
        return;
      }
    }
    const frame = this.frame('setF64', offset, 8, true);
    this.f64[(frame >>> 1) + ((offset & INSIDE) >> 3)] = value;
  }
}
