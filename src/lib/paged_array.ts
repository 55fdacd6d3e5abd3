/*
 * paged_array: values of one kind, by number, in a region.
 *
 *      const a = m.array('f64', 0, 1e8);
 *      a.set(i, 1.5);  a.get(i);
 *
 * Like a typed array, but no page of it is looked at before it is used, and each access is
 * translated and checked.
 */
import { EINVAL } from '../sys/machine/errno.ts';
import { shown, whole } from './args.ts';
import { kmemError } from './errors.ts';
import type { Region } from './region.ts';

/** The kinds of value. */
export type ArrayKind = 'u8' | 'i8' | 'u16' | 'i16' | 'u32' | 'i32' | 'f32' | 'f64';
const WIDTH: Readonly<Record<ArrayKind, number>> = {
  u8: 1,
  i8: 1,
  u16: 2,
  i16: 2,
  u32: 4,
  i32: 4,
  f32: 4,
  f64: 8,
};

/** Numbered values in a region. Made by region.array(). */
export class PagedArray {
  /** What its values are. */
  declare readonly kind: ArrayKind;
  /** How many there are. */
  declare readonly length: number;
  /** Bytes of one. */
  declare readonly width: number;
  /** Where the first one is, bytes from the start of the region. */
  declare readonly offset: number;
  /** The region that they are in. */
  declare readonly region: Region;

  /** Use region.array(). */
  constructor(region: Region, kind: ArrayKind, offset: number, length: number | undefined) {
    const bad = (why: string): never => {
      throw kmemError(EINVAL, 'array', why);
    };
    if (typeof kind !== 'string' || !Object.hasOwn(WIDTH, kind)) {
      bad(`${shown(kind)} is no kind of value: ${Object.keys(WIDTH).join(', ')}`);
    }
    const width = WIDTH[kind];
    if (!whole(offset) || offset % width !== 0)
      bad(`offset ${shown(offset)}: give a multiple of ${width}`);
    const most = Math.floor((region.length - offset) / width);
    if (length !== undefined && !whole(length)) bad(`length ${shown(length)} is no whole number`);
    if (most < 0 || (length ?? 0) > most) {
      const why = `${shown(length)} values of ${width} bytes from ${offset} on`;
      region.outside('array', offset, `${why} are more than its ${region.length} bytes`);
    }
    this.region = region;
    this.kind = kind;
    this.offset = offset;
    this.width = width;
    this.length = length ?? most;
  }
  /** Value i. Throws EFAULT, EINVAL for an i that is none, ENOMEM, EIO, ESTALE. */
  get(i: number): number {
    if (typeof i !== 'number' || !(i >= 0 && i < this.length)) this.#none('get', i);
    const { region } = this;
    switch (this.kind) {
      case 'f64':
        return region.getF64(this.offset + i * 8);
      case 'u32':
        return region.getU32(this.offset + i * 4);
      case 'i32':
        return region.getI32(this.offset + i * 4);
      case 'f32':
        return region.getF32(this.offset + i * 4);
      case 'u8':
        return region.getU8(this.offset + i);
      case 'i8':
        return region.getI8(this.offset + i);
      case 'u16':
        return region.getU16(this.offset + i * 2);
      case 'i16':
        return region.getI16(this.offset + i * 2);
    }
  }
  /** Stores value i. Throws as get does. */
  set(i: number, value: number): void {
    if (typeof i !== 'number' || !(i >= 0 && i < this.length)) this.#none('set', i);
    const { region } = this;
    switch (this.kind) {
      case 'f64':
        return region.setF64(this.offset + i * 8, value);
      case 'u32':
        return region.setU32(this.offset + i * 4, value);
      case 'i32':
        return region.setI32(this.offset + i * 4, value);
      case 'f32':
        return region.setF32(this.offset + i * 4, value);
      case 'u8':
        return region.setU8(this.offset + i, value);
      case 'i8':
        return region.setI8(this.offset + i, value);
      case 'u16':
        return region.setU16(this.offset + i * 2, value);
      case 'i16':
        return region.setI16(this.offset + i * 2, value);
    }
  }
  #none(op: string, i: unknown): never {
    const why = `${shown(i)} is no number of a value: there are ${this.length}`;
    if (!whole(i)) throw kmemError(EINVAL, op, why);
    this.region.outside(op, this.offset + i * this.width, why);
  }
}
