/*
 * A program for the damaged dumps (dump_damage.test.lib.ts): makes so many of a good one, each
 * drawn from the seed and its number, and has vmstat -mzs and netstat -m read it.
 *
 *      cut        the file ends too early
 *      flip       bits of what is not zero are others
 *      cycle      a word that leads to a place in the memory leads to another one, or to itself
 *      bound      a word is as large, or as small, as can be
 *      notes      bits of the headers
 *      packed     a compressed one is cut, or a byte of it is another
 *
 * Of each it says what was wrong with the reading: more than a line, an exit code that does
 * not fit, an exception, too much time of the processor.  At the end it says how much memory it
 * had.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { zstdCompressSync } from 'node:zlib';
import { dump_context } from '../bin/dump_context.ts';
import { netstat_main } from '../bin/netstat.ts';
import { vmstat_main } from '../bin/vmstat.ts';
import { dice } from '../sys/machine/seed.test.lib.ts';
import { DUMP_LOAD } from '../sys/observe/dump_elf.ts';

/** Most time of the processor for a dump, ms. */
const CASE_MS = 10_000;

const [, , good, seed, first, count] = process.argv;
const whole = readFileSync(good);
const packed = zstdCompressSync(whole);
const used: number[] = [];
const links: number[] = [];
for (let at = DUMP_LOAD; at < whole.length; at += 4) {
  const word = whole.readInt32LE(at);
  if (word === 0) continue;
  used.push(at);
  // As word addresses of records look: even, and in the memory.
  if (word > 256 && word < (whole.length - DUMP_LOAD) / 4 && word % 2 === 0) links.push(at);
}
const { gc: collect } = globalThis;
const KINDS = ['cut', 'flip', 'cycle', 'bound', 'notes', 'packed'] as const;

/** The n-th damaged file: its bytes, and what was done. */
function damaged(n: number): { bytes: Uint8Array; kind: string } {
  const draw = dice(Number(seed) + n);
  const kind = KINDS[n % KINDS.length];
  if (kind === 'packed') {
    const bytes = Buffer.from(packed);
    if (draw(2) === 0) return { bytes: bytes.subarray(0, draw(bytes.length)), kind };
    bytes[draw(bytes.length)] ^= 1 << draw(8);
    return { bytes, kind };
  }
  const bytes = Buffer.from(whole);
  if (kind === 'cut') {
    const near = draw(3) === 0 ? draw(1000) : draw(bytes.length);
    return { bytes: bytes.subarray(0, near), kind };
  }
  if (kind === 'notes') {
    for (let i = 1 + draw(8); i > 0; i--) bytes[draw(1024)] ^= 1 << draw(8);
    return { bytes, kind };
  }
  for (let i = 1 + draw(kind === 'flip' ? 200 : 20); i > 0; i--) {
    const at = (kind === 'cycle' ? links : used)[
      draw(kind === 'cycle' ? links.length : used.length)
    ];
    if (kind === 'flip') bytes[at + draw(4)] ^= 1 << draw(8);
    else if (kind === 'bound') bytes.writeInt32LE([-1, 2 ** 31 - 1, -(2 ** 31)][draw(3)], at);
    else {
      const other = links[draw(links.length)];
      const own = (at - DUMP_LOAD) / 4;
      bytes.writeInt32LE(draw(3) === 0 ? own - (own % 2) : whole.readInt32LE(other), at);
    }
  }
  return { bytes, kind };
}
/** What is wrong with how a file was read; '' if nothing. */
async function read(path: string): Promise<string> {
  let out = '';
  let err = '';
  const say = (text: string): void => {
    err += text;
  };
  const ctx = await dump_context({ path }, 'vmstat', (text) => (out += text), say);
  const code = ctx ? await vmstat_main(['-mzs'], ctx) : 1;
  const lines = err.split('\n').length - 1;
  if (code !== 0 && code !== 1) return `exit code ${code}`;
  if (lines !== code || (code === 1 && !/^vmstat: [^\n]+\n$/.test(err))) return `${code}: ${err}`;
  if (!ctx) return '';
  if (!/Requests[\s\S]*ITEM/.test(out) && code === 0) return 'no tables, and no reason';
  err = '';
  const net = netstat_main(['-m'], ctx);
  return (net === 0) === (err === '') && err.split('\n').length <= 2
    ? ''
    : `netstat ${net}: ${err}`;
}

const path = `${good}.damaged.${first}`;
let worst = 0;
for (let n = Number(first); n < Number(first) + Number(count); n++) {
  const { bytes, kind } = damaged(n);
  writeFileSync(path, bytes);
  const before = process.cpuUsage();
  let wrong: string;
  try {
    wrong = await read(path);
  } catch (e) {
    wrong = (e as Error).stack ?? String(e);
  }
  const { user, system } = process.cpuUsage(before);
  const ms = Math.round((user + system) / 1000);
  worst = Math.max(worst, ms);
  if (ms > CASE_MS) wrong ||= `${ms} ms`;
  process.stdout.write(`${JSON.stringify({ n, kind, wrong })}\n`);
  collect?.(); // what one reader needs is asked for, not what all of them have left
}
const mb = Math.round(process.resourceUsage().maxRSS / 1024);
process.stdout.write(`${JSON.stringify({ worst, mb })}\n`);
