/*
 * main: `npm run sim`, the seeded scheduler from the command line.
 *
 *      npm run sim                        every script, 200 seeds by the baton
 *      npm run sim NAME                   one script
 *      npm run sim NAME SEED              replays one seed, twice, and shows where it ends
 *      npm run sim NAME#sound             the sound twin of a planted script
 *        --seeds N     how many seeds (nested: ten times as many)
 *        --by baton | nested              one scheduler only
 *        --kill        only the killing, for scripts that name a victim
 *
 * Exit codes: 0 all as it should be (planted faults found, the others clean),
 * 1 something failed, 2 usage.
 */
import { readdirSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { baton_session } from './baton.ts';
import { kill_everywhere, kill_line } from './kill.ts';
import { nested_session } from './nested.ts';
import { type SimResult, type SimScript, script_load } from './script.ts';

/** Seeds of each script, by the baton; nested, so many times as many. */
export const SEEDS = 200;
export const NESTED_FACTOR = 10;

class Usage extends Error {}

/** All scripts there are: every file of the two folders. */
export function script_urls(): URL[] {
  return ['scripts', 'planted'].flatMap((folder) =>
    readdirSync(new URL(`./${folder}`, import.meta.url))
      .filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts'))
      .sort()
      .map((file) => new URL(`./${folder}/${file}`, import.meta.url)),
  );
}
function script_name(url: URL): string {
  return (url.pathname.split('/').pop() ?? '').replace(/\.ts$/, '') + url.hash;
}
function find(name: string): URL {
  const [file, hash] = name.split('#');
  const url = script_urls().find((u) => script_name(u) === file);
  if (!url) {
    const names = script_urls().map(script_name).join(' ');
    throw new Usage(`no script '${name}': choose one of ${names}`);
  }
  return new URL(hash ? `#${hash}` : '', url);
}
function whole(text: string | undefined, what: string): number {
  const n = Number(text);
  if (Number.isInteger(n) && n >= 0) return n;
  throw new Usage(`${what} '${text}' is not a whole number`);
}

function line(by: string, name: string, runs: number, ms: number, said: string): void {
  const rate = Math.round((runs / ms) * 1000);
  console.log(`${by.padEnd(7)}${name.padEnd(22)}${`${runs} runs, ${rate}/s`.padEnd(24)}${said}`);
}
/** Whether the result is as it should be, and the words for it. */
function verdict(script: SimScript, seed: number, r: SimResult): [boolean, string] {
  if (r.ok)
    return script.planted ? [false, 'FAIL  the planted fault was not found'] : [true, 'clean'];
  if (script.planted) return [true, `found by seed ${seed}: ${r.failure?.split('\n')[0]}`];
  return [false, `FAIL  seed ${seed}: ${r.failure}`];
}

async function by_baton(url: URL, script: SimScript, seeds: number): Promise<boolean> {
  const session = await baton_session({ script: url });
  try {
    const t0 = performance.now();
    const found = await session.run(1, seeds);
    const [good, said] = verdict(script, found.seed, found.result);
    line('baton', script_name(url), found.runs, performance.now() - t0, said);
    return good;
  } finally {
    await session.close();
  }
}
function by_nested(url: URL, script: SimScript, seeds: number): boolean {
  const session = nested_session(script);
  try {
    const t0 = performance.now();
    let seed = 0;
    let unclear = 0;
    let r: SimResult;
    do {
      const one = session.run(++seed);
      if (one.inconclusive) unclear++;
      r = one;
    } while (r.ok && seed < seeds);
    let [good, said] = verdict(script, seed, r);
    // What needs two operations half-way is out of this scheduler's reach.
    if (script.planted && r.ok) [good, said] = [true, 'not found: needs the baton'];
    if (unclear > 0) said += `, ${unclear} inconclusive`;
    line('nested', script_name(url), seed, performance.now() - t0, said);
    return good;
  } finally {
    session.close();
  }
}
async function replay(url: URL, seed: number): Promise<boolean> {
  const session = await baton_session({ script: url });
  try {
    const one = (await session.run(seed)).result;
    const two = (await session.run(seed)).result;
    const same = one.steps === two.steps && one.hash === two.hash;
    console.log(
      `seed ${seed}: ${one.steps} steps, hash ${one.hash}; again: ${same ? 'same' : 'DIFFERS'}`,
    );
    console.log(one.failure ?? 'clean');
    return same && one.ok;
  } finally {
    await session.close();
  }
}
async function killing(url: URL): Promise<boolean> {
  let good = true;
  for (const by of ['nested', 'baton'] as const) {
    const count = by === 'baton' ? 4 : 40;
    const seeds = Array.from({ length: count }, (_, i) => i + 1);
    const tally = await kill_everywhere({ script: url, seeds, by });
    console.log(`${by.padEnd(7)}${kill_line(script_name(url), tally)}`);
    const bad = tally.first_bad;
    if (bad) console.log(`FAIL  seed ${bad.seed}, point ${bad.at}: ${bad.failure}`);
    if (bad) good = false;
  }
  return good;
}

/** What the command line asks for; the exit code. */
export async function main(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { seeds: { type: 'string' }, by: { type: 'string' }, kill: { type: 'boolean' } },
  });
  const [name, seed] = positionals;
  if (positionals.length > 2)
    throw new Usage('too many names: npm run sim [NAME] [SEED] [--seeds N]');
  if (values.by !== undefined && values.by !== 'baton' && values.by !== 'nested') {
    throw new Usage(`--by '${values.by}': use baton or nested`);
  }
  const seeds = values.seeds === undefined ? SEEDS : whole(values.seeds, '--seeds');
  if (name !== undefined && seed !== undefined) {
    return (await replay(find(name), whole(seed, 'SEED'))) ? 0 : 1;
  }
  let good = true;
  for (const url of name === undefined ? script_urls() : [find(name)]) {
    const script = await script_load(url);
    if (!values.kill) {
      if (values.by !== 'nested') good = (await by_baton(url, script, seeds)) && good;
      if (values.by !== 'baton') good = by_nested(url, script, seeds * NESTED_FACTOR) && good;
    }
    if (script.victim !== undefined) good = (await killing(url)) && good;
  }
  return good ? 0 : 1;
}

if (import.meta.main) {
  try {
    process.exitCode = await main(process.argv.slice(2));
  } catch (e) {
    const usage = e instanceof Usage || (e as { code?: string }).code?.startsWith('ERR_PARSE_ARGS');
    if (!usage) throw e;
    console.error(`sim: ${(e as Error).message}`);
    process.exitCode = 2;
  }
}
