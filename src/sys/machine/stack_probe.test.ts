/*
 * What the probe proves, measured: a program that counts how many of its own frames
 * fit between the depth at which the probe first lets it through and the end of the
 * stack.  In the interpreter and in each of V8's compilers, because each has its own
 * way to look at the stack.  And what the proof is for: whenever the probe lets
 * through, a function that V8 has yet to compile can be called beneath frames as deep
 * as the kernel's deepest path.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, test } from 'node:test';
import { PROBE_WORDS } from './stack_probe.ts';

const FILE = new URL('./stack_probe.ts', import.meta.url).href;
/** Frames of the kernel's deepest path, bytes, with room (stack_probe.ts tells the measurement). */
const PATH_BYTES = 7000;
const FRESH = 3000;

const PROGRAM = `
import { stack_probe } from ${JSON.stringify(FILE)};
for (let i = 0; i < Number(process.argv[1]); i++) stack_probe();
// Functions that nobody has called yet: V8 compiles each at its first call.
let text = 'export const all = [';
for (let i = 0; i < ${FRESH}; i++) text += '(a) => { const c = a * 2; return c + 1; },\\n';
const { all } = await import('data:text/javascript,' + encodeURIComponent(text + '];'));
let bottom = 0, passed = 0, first = -1, broken = 0, at = 0;
const words = (n) => (n > 0 ? words(n - 1) + 1 : all[at++ % ${FRESH}](n));
const down = (depth) => {
  try { down(depth + 1); } catch (e) { if (bottom === 0) bottom = depth; }
  if (at >= ${FRESH} - 1 || bottom - depth > 4000) return;
  let let_through = false;
  try { stack_probe(); let_through = true; } catch {}
  if (!let_through) return;
  passed++;
  if (first < 0) first = depth;
  try { words(${Math.floor(PATH_BYTES / 100)}); } catch { broken++; }
};
down(0);
const frame = (Number(process.argv[2]) * 1024) / bottom;
console.log(JSON.stringify({ bytes: Math.round((bottom - first) * frame), passed, broken }));
`;

interface Measured {
  /** Bytes of stack below the first frame that the probe lets through. */
  readonly bytes: number;
  readonly passed: number;
  /** Calls that failed although the probe had let through. */
  readonly broken: number;
}
function measured(flags: readonly string[], warm: number, kilobytes = 984): Measured {
  const args = [`--stack-size=${kilobytes}`, ...flags, '--input-type=module', '-e', PROGRAM];
  const run = spawnSync(process.execPath, [...args, `${warm}`, `${kilobytes}`], {
    encoding: 'utf8',
  });
  assert.equal(run.status, 0, run.stderr);
  return JSON.parse(run.stdout) as Measured;
}

describe('the stack probe', () => {
  for (const [how, flags, warm] of [
    ['interpreted', ['--no-opt', '--no-maglev', '--no-sparkplug'], 0],
    ['compiled plainly', ['--always-sparkplug', '--no-opt', '--no-maglev'], 1000],
    ['by the middle compiler', ['--maglev', '--no-turbofan'], 400_000],
    ['optimised', ['--no-maglev'], 400_000],
    ['as it comes', [], 400_000],
  ] as const) {
    test(`${how}: proves what it says, and that is enough`, () => {
      const { bytes, passed, broken } = measured(flags, warm);
      // A frame more or less: the count is in whole frames of some 100 bytes.
      assert.ok(bytes >= PROBE_WORDS * 8 - 300, `${bytes} bytes`);
      assert.ok(bytes <= PROBE_WORDS * 8 * 2 + 4000, `${bytes} bytes: more than is needed`);
      assert.ok(passed > 100, `let through ${passed} times`);
      assert.equal(broken, 0);
    });
  }
  test('on a small stack', () => {
    const { passed, broken } = measured([], 0, 300);
    assert.ok(passed > 100, `let through ${passed} times`);
    assert.equal(broken, 0);
  });
});
