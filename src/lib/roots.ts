/*
 * roots: named words that every thread finds.
 *
 *      machine.roots.set('index', address);          in one thread
 *      machine.roots.get('index')                    in another
 *
 * A root is a number: usually the address or the item where a program's own
 * structure begins.  It changes as a whole, under the registry's lock: a reader
 * never sees half of it.  What a root points at is not freed with it.
 */
import { get64, NULL, set64 } from '../sys/machine/struct.ts';
import { EINVAL } from '../sys/machine/errno.ts';
import { type reg_entry_t, reg_value } from '../sys/h/registry.ts';
import { shown } from './args.ts';
import type { ItemHandle } from './records.ts';
import { checkName, type Context } from './context.ts';
import { kmemError } from './errors.ts';
import { registry_end, registry_name } from '../sys/client/kern_registry.ts';
import { addEntry, eachEntry, withEntry } from './registry.ts';

/** What a root is: a number, as addresses and items are, or a checked handle. */
export type RootValue = number | ItemHandle;

/** Named numbers that every thread finds. At machine.roots. */
export class Roots {
  readonly #ctx: Context;

  /** Use machine.roots. */
  constructor(ctx: Context) {
    this.#ctx = ctx;
  }
  /** The value of a name; undefined if there is none. Throws EINVAL, ENAMETOOLONG. */
  get<T extends RootValue = number>(name: string): T | undefined {
    this.#check('roots.get', name);
    return withEntry('root', name, (e) =>
      e === NULL ? undefined : (get64(reg_value.value, e) as T),
    );
  }
  /** Gives a name a value, making it if need be. Throws ENOMEM, EINVAL, ENAMETOOLONG. */
  set(name: string, value: RootValue): void {
    this.#check('roots.set', name);
    checkValue('roots.set', name, value);
    withEntry('root', name, (e) => store(name, e, value));
  }
  /** Takes a name away; false if there was none. */
  delete(name: string): boolean {
    this.#check('roots.delete', name);
    return withEntry('root', name, (e) => {
      if (e !== NULL) registry_end(e);
      return e !== NULL;
    });
  }
  /**
   * Gives a name the value `next` if it has the value `expected` now; undefined
   * stands for no such name, on either side.  Returns what it had: the swap was
   * done if that is `expected`.  Throws ENOMEM, EINVAL.
   */
  compareAndSwap<T extends RootValue = number>(
    name: string,
    expected: T | undefined,
    next: T | undefined,
  ): T | undefined {
    this.#check('roots.compareAndSwap', name);
    if (next !== undefined) checkValue('roots.compareAndSwap', name, next);
    if (expected !== undefined) checkValue('roots.compareAndSwap', name, expected);
    return withEntry('root', name, (e) => {
      const had = e === NULL ? undefined : (get64(reg_value.value, e) as T);
      if (!Object.is(had, expected)) return had;
      if (next !== undefined) store(name, e, next);
      else if (e !== NULL) registry_end(e);
      return had;
    });
  }
  /** All names, sorted. */
  names(): string[] {
    this.#check('roots.names', 'x');
    const names: string[] = [];
    eachEntry((e, kind) => {
      if (kind === 'root') names.push(registry_name(e));
    });
    return names.sort();
  }
  #check(op: string, name: string): void {
    checkName(op, name);
    this.#ctx.enter(op);
  }
}
function checkValue(op: string, name: string, value: RootValue): void {
  if (typeof value === 'number' && !Number.isNaN(value)) return;
  throw kmemError(EINVAL, op, `'${name}': ${shown(value)} is not a number`);
}
function store(name: string, e: reg_entry_t, given: RootValue): void {
  const value = given as number;
  if (e !== NULL) set64(reg_value.value, e, value);
  else addEntry('root', name, (made) => set64(reg_value.value, made, value));
}
