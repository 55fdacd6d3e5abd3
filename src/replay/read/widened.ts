/*
 * widened: an array with room for twice as much, and the same at its beginning.
 */
type Numbers = Float64Array<ArrayBuffer> | Int32Array<ArrayBuffer> | Uint8Array<ArrayBuffer>;

export function widened<T extends Numbers>(array: T): T {
  const wide = new (array.constructor as new (length: number) => T)(array.length * 2);
  wide.set(array);
  return wide;
}
