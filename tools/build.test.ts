/*
 * Shows that what is published is broken into lines without a change: a statement, and a member of
 * a class, begins one; texts that have several lines, or look like code, stay as they are.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { in_lines } from './build.ts';

test('each statement and each member of a class begins a line', () => {
  const code =
    'import{a}from"./a.js";const t=`}function x(){\n}`;function f(){return t}' +
    'var C=class C{#n=1;get n(){return this.#n}static m(){throw Error()}};' +
    'class D extends C{static{a()}}export{f,C,D};';
  const lines = in_lines('x.js', code);
  assert.deepEqual(lines.split('\n'), [
    'import{a}from"./a.js";',
    'const t=`}function x(){',
    '}`;',
    'function f(){return t}',
    'var C=class C{',
    '#n=1;',
    'get n(){return this.#n}',
    'static m(){throw Error()}};',
    'class D extends C{',
    'static{a()}}',
    'export{f,C,D};',
    '',
  ]);
});
test('what is empty stays so; what is no module is refused', () => {
  assert.equal(in_lines('x.js', ''), '');
  assert.throws(() => in_lines('x.js', 'const ='), /^Error: x\.js: /);
});
