/*
 * Shows that stacks are read as V8, Bun, SpiderMonkey and JavaScriptCore write them, by a table of
 * samples; that what lies in no file is no frame; and that a thread sees its own stack, whatever
 * the program has done to Error.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  backtrace_frames,
  backtrace_text,
  frame_is_own,
  frame_text,
  frames_of,
} from './backtrace.ts';

/** A line as an engine writes it, and what it says; '' where it is no frame. */
const SAMPLES: readonly (readonly [engine: string, line: string, says: string])[] = [
  // V8
  ['v8', '    at connect (file:///app/pool.ts:12:9)', 'connect at /app/pool.ts:12:9'],
  ['v8', '    at /app/pool.js:12:9', '<anonymous> at /app/pool.js:12:9'],
  ['v8', '    at file:///app/pool.mjs:12:9', '<anonymous> at /app/pool.mjs:12:9'],
  ['v8', '    at async connect (file:///app/pool.ts:1:2)', 'connect at /app/pool.ts:1:2'],
  ['v8', '    at async file:///app/pool.ts:1:2', '<anonymous> at /app/pool.ts:1:2'],
  ['v8', '    at new Pool (/app/pool.js:3:4)', 'Pool at /app/pool.js:3:4'],
  ['v8', '    at Object.<anonymous> (/app/a.js:5:6)', 'Object.<anonymous> at /app/a.js:5:6'],
  ['v8', '    at Pool.get [as fetch] (/app/a.js:5:6)', 'Pool.get at /app/a.js:5:6'],
  ['v8', '    at get (/app (old)/a b.js:5:6)', 'get at /app (old)/a b.js:5:6'],
  ['v8', '    at file:///app%20(old)/a.js:5:6', '<anonymous> at /app (old)/a.js:5:6'],
  ['v8', '    at get (C:\\app\\a.js:5:6)', 'get at C:\\app\\a.js:5:6'],
  ['v8', '    at get (file:///C:/app/a.js:5:6)', 'get at C:/app/a.js:5:6'],
  ['v8', '    at get (https://x.org:8443/a.js:5:6)', 'get at https://x.org:8443/a.js:5:6'],
  [
    'v8',
    '    at eval (eval at run (file:///a.js:1:2), <anonymous>:3:4)',
    '<anonymous> at /a.js:1:2',
  ],
  [
    'v8',
    '    at f (eval at g (eval at run (/a (1)/b.js:7:8)), <anonymous>:3:4)',
    'f at /a (1)/b.js:7:8',
  ],
  ['v8', '    at Array.map (<anonymous>)', ''],
  ['v8', '    at async Promise.all (index 0)', ''],
  ['v8', '    at node:internal/modules/run_main:107:5', ''],
  ['v8', '    at Module._compile (node:internal/modules/cjs/loader:1:2)', ''],
  ['v8', '    at wasm://wasm/3f1a:wasm-function[4]:0x1a2', ''],
  ['v8', '    at get (native)', ''],
  // Bun: as V8, without file://
  ['bun', '    at connect (/app/pool.ts:12:9)', 'connect at /app/pool.ts:12:9'],
  ['bun', '    at <anonymous> (/app/pool.ts:12:9)', '<anonymous> at /app/pool.ts:12:9'],
  ['bun', '    at map (native:1:11)', ''],
  ['bun', '    at processTicksAndRejections (native:7:39)', ''],
  ['bun', '    at loadAndEvaluateModule (native)', ''],
  ['bun', '    at get (bun:main:3:4)', ''],
  // SpiderMonkey
  ['moz', 'connect@file:///app/pool.js:12:9', 'connect at /app/pool.js:12:9'],
  ['moz', '@https://x.org/a.js:1:2', '<anonymous> at https://x.org/a.js:1:2'],
  ['moz', 'get/<@https://x.org/a.js:1:2', 'get/< at https://x.org/a.js:1:2'],
  ['moz', 'async*get@https://x.org/a.js:1:2', 'get at https://x.org/a.js:1:2'],
  ['moz', 'promise callback*get@https://x.org/a.js:1:2', 'get at https://x.org/a.js:1:2'],
  ['moz', 'setTimeout handler*@https://x.org/a.js:1:2', '<anonymous> at https://x.org/a.js:1:2'],
  ['moz', 'get@https://x.org/@scope/a.js:1:2', 'get at https://x.org/@scope/a.js:1:2'],
  ['moz', 'f@https://x.org/a.js line 7 > eval:1:2', 'f at https://x.org/a.js:7'],
  ['moz', 'f@https://x.org/a.js line 7 > eval line 1 > Function:1:2', 'f at https://x.org/a.js:7'],
  ['moz', '@debugger eval code:1:1', ''],
  // JavaScriptCore
  ['jsc', 'connect@file:///app/pool.js:12:9', 'connect at /app/pool.js:12:9'],
  ['jsc', 'global code@https://x.org/a.js:1:2', '<anonymous> at https://x.org/a.js:1:2'],
  ['jsc', 'module code@https://x.org/a.js:1:2', '<anonymous> at https://x.org/a.js:1:2'],
  ['jsc', '@https://x.org/a.js:1:2', '<anonymous> at https://x.org/a.js:1:2'],
  ['jsc', 'map@[native code]', ''],
  ['jsc', '[native code]', ''],
  ['jsc', 'eval code@', ''],
  // what is no frame
  ['v8', 'Error: at /app/a.js:1:2', ''],
  ['any', '', ''],
  ['any', 'mail@example.org', ''],
];
test('each line is read as its engine means it', () => {
  for (const [engine, line, says] of SAMPLES) {
    assert.equal(frames_of(line).map(frame_text).join(), says, `${engine}: ${line}`);
  }
});
test('a stack is its lines, innermost first; our own at the top are left out', () => {
  const own = import.meta.filename.replace('backtrace.test.ts', 'parts.ts');
  const at = (fn: string, file: string): string => `    at ${fn} (${file}:1:1)`;
  const lines = ['Error', at('a', own), at('b', '/app/x.js'), at('c', own), at('d', '/app/x.js')];
  const text = lines.join('\n');
  const names = (depth: number): string =>
    backtrace_frames(text, depth)
      .map((f) => f.fn)
      .join('');
  assert.equal(names(9), 'bcd');
  assert.equal(names(2), 'bc');
  const alone = lines.slice(0, 2).join('\n');
  assert.equal(backtrace_frames(alone, 9)[0].fn, 'a', 'unless there are no others');
  assert.ok(frame_is_own(own));
  assert.ok(!frame_is_own(import.meta.filename), 'a test is a program');
});
test('a thread sees its own stack, also where the program has its own way with Error', () => {
  function inner(): string {
    return backtrace_frames(backtrace_text(5), 5)
      .slice(0, 2)
      .map((f) => `${f.fn} ${f.file === import.meta.filename} ${f.line > 0 && f.column > 0}`)
      .join();
  }
  const outer = (): string => inner();
  const wanted = 'inner true true,outer true true';
  assert.equal(outer(), wanted);
  const { stackTraceLimit, prepareStackTrace } = Error;
  try {
    Error.stackTraceLimit = 1;
    Error.prepareStackTrace = () => assert.fail('code of the program ran');
    assert.equal(outer(), wanted);
    assert.equal(Error.stackTraceLimit, 1);
    assert.equal(typeof Error.prepareStackTrace, 'function');
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
    Error.prepareStackTrace = prepareStackTrace;
  }
});
