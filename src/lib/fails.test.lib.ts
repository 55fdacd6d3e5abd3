/*
 * fails: what tests of the façade say of a call that must be refused.
 */
import assert from 'node:assert/strict';
import { KmemError } from './index.ts';

/** Runs `fn`, which must throw a KmemError with that code; returns it. */
export function fails(code: string, fn: () => unknown): KmemError {
  try {
    fn();
  } catch (e) {
    assert.ok(e instanceof KmemError, `a KmemError, not ${e}`);
    assert.equal(e.code, code, e.message);
    return e;
  }
  return assert.fail(`${code} was expected, nothing was thrown`);
}
/** The same of a promise, which must reject. */
export async function failsAsync(code: string, promise: Promise<unknown>): Promise<KmemError> {
  const e = await promise.then(
    () => assert.fail(`${code} was expected, nothing was thrown`),
    (error: unknown) => error,
  );
  assert.ok(e instanceof KmemError, `a KmemError, not ${e}`);
  assert.equal(e.code, code, e.message);
  return e;
}
