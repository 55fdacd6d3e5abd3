/*
 * fuzz: plays one seeded random driver.
 *
 * A driver is a file NAME.fuzz.ts that exports
 *
 *      run(seed: number, steps: number): void | Promise<void>
 *
 * and throws when the structure and its model disagree.  Everything random in
 * it comes from the seed, so a failure is replayed by the line printed here.
 * The seed is printed before the driver starts: a driver that hangs or takes
 * the process down has left it behind all the same.
 *
 * Usage: node tools/fuzz.ts                       lists the drivers
 *        node tools/fuzz.ts NAME [SEED] [STEPS]   plays one; without a seed draws one
 */
import { randomInt } from 'node:crypto';
import { basename, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { walk } from './source.ts';

const ROOT = join(import.meta.dirname, '..');
const DEFAULT_STEPS = 20_000;
const SEED_LIMIT = 2 ** 31;

type Driver = { run(seed: number, steps: number): void | Promise<void> };

function drivers(): Map<string, string> {
  const files = ['src', 'fuzz', 'tests']
    .flatMap((folder) => walk(ROOT, folder))
    .filter((path) => path.endsWith('.fuzz.ts'));
  return new Map(files.map((path) => [basename(path, '.fuzz.ts'), path]));
}

function usage(message: string): number {
  console.error(`fuzz: ${message}; \`npm run fuzz\` alone lists the drivers`);
  return 2;
}

/** A whole number from the command line; NaN if it is none. */
function whole(text: string): number {
  return /^\d+$/.test(text) ? Number(text) : Number.NaN;
}

async function play(name: string, path: string, seed: number, steps: number): Promise<number> {
  const replay = `npm run fuzz ${name} ${seed}${steps === DEFAULT_STEPS ? '' : ` ${steps}`}`;
  console.log(`${name}: seed ${seed}, ${steps} steps`);
  const fail = (error: unknown): number => {
    console.error(error instanceof Error ? (error.stack ?? error.message) : String(error));
    console.error(`FAIL ${name}: seed ${seed}; replay with: ${replay}`);
    return 1;
  };
  process.on('uncaughtException', (error) => process.exit(fail(error)));
  process.on('unhandledRejection', (error) => process.exit(fail(error)));
  try {
    const driver = (await import(pathToFileURL(join(ROOT, path)).href)) as Partial<Driver>;
    if (typeof driver.run !== 'function') return usage(`${path} exports no run(seed, steps)`);
    const start = performance.now();
    await driver.run(seed, steps);
    console.log(`ok   ${name}: ${((performance.now() - start) / 1000).toFixed(1)} s`);
    return 0;
  } catch (error) {
    return fail(error);
  }
}

async function main(args: string[]): Promise<number> {
  const known = drivers();
  const [name, seed_text, steps_text] = args;
  if (name === undefined) {
    for (const [driver, path] of known) console.log(`${driver.padEnd(24)} ${path}`);
    return 0;
  }
  const path = known.get(name);
  if (path === undefined) return usage(`no driver is called ${name}`);
  const seed = seed_text === undefined ? randomInt(SEED_LIMIT) : whole(seed_text);
  if (Number.isNaN(seed)) return usage(`the seed ${seed_text} is not a whole number`);
  const steps = steps_text === undefined ? DEFAULT_STEPS : whole(steps_text);
  if (Number.isNaN(steps)) return usage(`the number of steps ${steps_text} is not a whole number`);
  return play(name, path, seed, steps);
}

process.exitCode = await main(process.argv.slice(2));
