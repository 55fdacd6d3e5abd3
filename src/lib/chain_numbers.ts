/*
 * chain_numbers: integers and floats in a chain, wherever its pieces end.
 *
 *      chain.getUint16(12)             big endian, as networks write
 *      chain.getUint32(0, true)        little endian
 *      chain.setBigUint64(8, 1n)       a shared piece is copied first
 *
 * Names and order of arguments are those of DataView; offsets are bytes from the
 * start of the chain.  A number in one piece is read where it lies; one that
 * crosses a border goes through eight bytes of this thread.
 */
import { EINVAL } from '../sys/machine/errno.ts';
import { mem } from '../sys/machine/memory.ts';
import { shown } from './args.ts';
import { kmemError } from './errors.ts';

let memory: DataView = new DataView(new ArrayBuffer(0));
/** A view of the whole memory. */
function memoryView(): DataView {
  if (memory.buffer !== mem.U8.buffer) memory = new DataView(mem.U8.buffer);
  return memory;
}
const SCRATCH = new Uint8Array(8);
const scratch = new DataView(SCRATCH.buffer);

/** Stores a value in a view. */
type Put = (view: DataView, at: number) => void;
function noValue(op: string, value: unknown, kind: string): never {
  throw kmemError(EINVAL, op, `${shown(value)} is no ${kind}`);
}

export abstract class ChainNumbers {
  /**
   * The byte address of `n` bytes at `at` if they lie in one piece, else -1.
   * `write`: they are made the chain's own first.  Throws EINVAL beyond the end.
   */
  protected abstract piece(op: string, at: number, n: number, write: boolean): number;
  /** Copies bytes out of the chain. */
  protected abstract gather(at: number, n: number, to: Uint8Array): void;
  /** Copies bytes over those of the chain, which are its own. */
  protected abstract scatter(at: number, n: number, from: Uint8Array): void;

  /** The place in the view that #look and #open returned. */
  #pos = 0;
  #look(op: string, at: number, n: number): DataView {
    const address = this.piece(op, at, n, false);
    this.#pos = address;
    if (address >= 0) return memoryView();
    this.gather(at, n, SCRATCH);
    this.#pos = 0;
    return scratch;
  }
  /** A value is looked at, not converted: no code of the program runs in the middle. */
  #store(op: string, at: number, n: number, value: number, put: Put): this {
    if (typeof value !== 'number') noValue(op, value, 'number');
    return this.#put(op, at, n, put);
  }
  #storeBig(op: string, at: number, value: bigint, put: Put): this {
    if (typeof value !== 'bigint') noValue(op, value, 'bigint');
    return this.#put(op, at, 8, put);
  }
  #put(op: string, at: number, n: number, put: Put): this {
    const address = this.piece(op, at, n, true);
    if (address >= 0) put(memoryView(), address);
    else {
      put(scratch, 0);
      this.scatter(at, n, SCRATCH);
    }
    return this;
  }

  /** The unsigned byte at `at`. Throws EINVAL when it is not in the chain, as all of these do. */
  getUint8(at: number): number {
    return this.#look('getUint8', at, 1).getUint8(this.#pos);
  }
  getInt8(at: number): number {
    return this.#look('getInt8', at, 1).getInt8(this.#pos);
  }
  getUint16(at: number, littleEndian = false): number {
    return this.#look('getUint16', at, 2).getUint16(this.#pos, littleEndian);
  }
  getInt16(at: number, littleEndian = false): number {
    return this.#look('getInt16', at, 2).getInt16(this.#pos, littleEndian);
  }
  getUint32(at: number, littleEndian = false): number {
    return this.#look('getUint32', at, 4).getUint32(this.#pos, littleEndian);
  }
  getInt32(at: number, littleEndian = false): number {
    return this.#look('getInt32', at, 4).getInt32(this.#pos, littleEndian);
  }
  getBigUint64(at: number, littleEndian = false): bigint {
    return this.#look('getBigUint64', at, 8).getBigUint64(this.#pos, littleEndian);
  }
  getBigInt64(at: number, littleEndian = false): bigint {
    return this.#look('getBigInt64', at, 8).getBigInt64(this.#pos, littleEndian);
  }
  getFloat32(at: number, littleEndian = false): number {
    return this.#look('getFloat32', at, 4).getFloat32(this.#pos, littleEndian);
  }
  getFloat64(at: number, littleEndian = false): number {
    return this.#look('getFloat64', at, 8).getFloat64(this.#pos, littleEndian);
  }

  /**
   * Stores a byte.  All of these throw EINVAL beyond the end of the chain, which
   * does not grow by them, and ENOMEM when a shared piece cannot be copied.
   */
  setUint8(at: number, value: number): this {
    return this.#store('setUint8', at, 1, value, (v, p) => v.setUint8(p, value));
  }
  setInt8(at: number, value: number): this {
    return this.#store('setInt8', at, 1, value, (v, p) => v.setInt8(p, value));
  }
  setUint16(at: number, value: number, littleEndian = false): this {
    return this.#store('setUint16', at, 2, value, (v, p) => v.setUint16(p, value, littleEndian));
  }
  setInt16(at: number, value: number, littleEndian = false): this {
    return this.#store('setInt16', at, 2, value, (v, p) => v.setInt16(p, value, littleEndian));
  }
  setUint32(at: number, value: number, littleEndian = false): this {
    return this.#store('setUint32', at, 4, value, (v, p) => v.setUint32(p, value, littleEndian));
  }
  setInt32(at: number, value: number, littleEndian = false): this {
    return this.#store('setInt32', at, 4, value, (v, p) => v.setInt32(p, value, littleEndian));
  }
  setBigUint64(at: number, value: bigint, littleEndian = false): this {
    return this.#storeBig('setBigUint64', at, value, (v, p) =>
      v.setBigUint64(p, value, littleEndian),
    );
  }
  setBigInt64(at: number, value: bigint, littleEndian = false): this {
    return this.#storeBig('setBigInt64', at, value, (v, p) =>
      v.setBigInt64(p, value, littleEndian),
    );
  }
  setFloat32(at: number, value: number, littleEndian = false): this {
    return this.#store('setFloat32', at, 4, value, (v, p) => v.setFloat32(p, value, littleEndian));
  }
  setFloat64(at: number, value: number, littleEndian = false): this {
    return this.#store('setFloat64', at, 8, value, (v, p) => v.setFloat64(p, value, littleEndian));
  }
}
