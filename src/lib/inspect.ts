/*
 * inspect: what console.log, an assertion or a logger shows of an object of the library.
 *
 *      console.log(machine)             Machine { cpu: 0, shared: true, bytes: 16777216 }
 *      JSON.stringify({ machine })      {"machine":{"cpu":0,"shared":true,"bytes":16777216}}
 *
 * An object of the library has views of the whole memory, and fields for its fast path.
 * Printed as any object is, a machine is some hundred lines of the program's bytes; a
 * logger that writes JSON would write all of them, secrets included, or fail because the
 * text is too long.  So a class with such fields says which facts stand for it.
 *
 * The methods belong to the prototype, so that no object has a field more.  They look at
 * plain fields only, and so may be called on anything and at any time: on the prototype
 * itself, on an object that has left its machine, in the middle of an error.
 */

/** What Node, Bun and Deno ask an object for; browsers show objects by themselves. */
const INSPECT = Symbol.for('nodejs.util.inspect.custom');
type Inspect = (value: unknown, options: unknown) => string;

/** Objects with this prototype are shown by their `facts`, under that name. */
export function showsItself<T extends object>(
  prototype: T,
  name: string,
  facts: (self: T) => object,
): void {
  const method = (key: string | symbol, value: unknown): void => {
    Object.defineProperty(prototype, key, { value, configurable: true, writable: true });
  };
  method(INSPECT, function (this: T, _depth: number, options: unknown, inspect: Inspect) {
    return `${name} ${inspect(facts(this), options)}`;
  });
  method('toJSON', function (this: T) {
    return facts(this);
  });
}
