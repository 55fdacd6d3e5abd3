/*
 * competitors: who takes part in the bench `alloc`, and in which patterns.
 *
 *      the kernel         us_alloc.ts, us_replay.ts      on each Node
 *      heaps JavaScript   peers/heap_js.ts               on each Node
 *      calls                (wasm.ts builds some of them)
 *      JavaScript's own   peers/alloc_js.ts              on each Node
 *      native             peers/alloc.c, peers/replay.c  once (native.ts builds them)
 *
 * One competitor name may be several processes: patterns that would spoil each
 * other's figures are asked of different ones.  glibc's malloc takes locks from
 * the first pthread_create on, a kernel with a second CPU attached is another
 * machine, and a replayed heap leaves its own fragments behind.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { type EventFile, replay_pattern } from './event_file.ts';
import type { Competitor } from './harness.ts';
import { build_native } from './native.ts';
import { type BuiltWasm, build_wasm } from './wasm.ts';

export const BASE = ['a', 'b', 'c', 'd'];
export const ZONE = ['za', 'zb', 'zc'];
export const TWO = ['a2', 'b2', 'x', 'xb'];

export const US = 'kmem';
/* Two processes that differ in the re-boot alone: the main one has seen more patterns. */
export const US_BOOTED = 'kmem, booted once';
export const US_REBOOTED = 'kmem, re-booted';
export const OURS = [US, US_BOOTED, US_REBOOTED];

/** What stands behind a name for a process that plays one part only. */
const ROLES = [', two threads', ', replay'];
const [TWO_ROLE, REPLAY_ROLE] = ROLES;

export interface Node {
  binary: string;
  version: string;
}

const file = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

/** This Node, then those of KMEM_BENCH_NODES that can run TypeScript; the others are reported. */
export function find_nodes(say: (line: string) => void): Node[] {
  const nodes: Node[] = [{ binary: process.execPath, version: process.version }];
  for (const binary of (process.env['KMEM_BENCH_NODES'] ?? '').split(':')) {
    if (binary === '') continue;
    const script = 'console.log(process.version, process.features.typescript ?? "")';
    const asked = spawnSync(binary, ['-e', script], { encoding: 'utf8' });
    const [version = '', typescript = ''] = (asked.stdout ?? '').trim().split(' ');
    if (asked.status !== 0) {
      say(`${binary}: skipped: does not run (KMEM_BENCH_NODES)`);
    } else if (typescript !== 'strip' && typescript !== 'transform') {
      say(`${binary}: skipped: Node ${version} does not run TypeScript: needs 22.18 or later`);
    } else if (!nodes.some((node) => node.version === version)) {
      nodes.push({ binary, version });
    }
  }
  return nodes;
}

/** The competitor's name, when a process of this name belongs to the Node's figures. */
export function name_for(process_name: string, node: Node): string | undefined {
  const suffix = ` @${node.version}`;
  if (process_name.includes(' @') && !process_name.endsWith(suffix)) return undefined;
  const name = process_name.replace(suffix, '');
  const role = ROLES.find((of) => name.endsWith(of));
  return role === undefined ? name : name.slice(0, -role.length);
}

/** JavaScript's own objects: name and what peers/alloc_js.ts calls it. */
const JS_OBJECTS: readonly [string, string][] = [
  ['Buffer.allocUnsafe', 'buffer'],
  ['new Uint8Array', 'uint8array'],
  ['object literal', 'object'],
];
/** Baselines and packages that heap_js.ts plays without a file. */
const JS_HEAPS: readonly [string, string, string[]][] = [
  ['@thi.ng/malloc', 'thing', BASE],
  ['one lock, Atomics', 'lock', [...BASE, ...TWO]],
  ['one lock, wasm helper', 'wlock', [...BASE, ...TWO]],
];

interface Built {
  wasm: readonly BuiltWasm[];
  traces: readonly EventFile[];
}

function wasm_competitors(command: string, tag: string, { wasm, traces }: Built): Competitor[] {
  const script = file('./peers/heap_js.ts');
  return wasm.flatMap(({ name, kind, file: built }): Competitor[] => {
    if (built === undefined) return [];
    const args = ['--no-warnings', script, kind, built];
    if (kind === 'shared') {
      return [{ name: name + tag, command, args, patterns: [...BASE, ...TWO] }];
    }
    const one = { name: name + tag, command, args, patterns: BASE };
    return [one, ...replayer(name, tag, command, args, traces)];
  });
}

/** The process that replays the traces, when there are any. */
function replayer(
  name: string,
  tag: string,
  command: string,
  args: readonly string[],
  traces: readonly EventFile[],
): Competitor[] {
  if (traces.length === 0) return [];
  const given = traces.map((trace) => `${trace.name}=${trace.file}`);
  const patterns = traces.map((trace) => replay_pattern(trace.name));
  return [{ name: name + REPLAY_ROLE + tag, command, args: [...args, ...given], patterns }];
}

function js_competitors(node: Node, built: Built): Competitor[] {
  const command = node.binary;
  const tag = ` @${node.version}`;
  const us = file('./us_alloc.ts');
  const first = [us, 'first'];
  const heap_js = ['--no-warnings', file('./peers/heap_js.ts')];
  const objects = JS_OBJECTS.map(([name, kind]): Competitor => {
    const args = ['--expose-gc', file('./peers/alloc_js.ts'), kind];
    return { name: name + tag, command, args, patterns: BASE };
  });
  const heaps = JS_HEAPS.map(([name, kind, patterns]): Competitor => {
    return { name: name + tag, command, args: [...heap_js, kind], patterns };
  });
  return [
    { name: US + tag, command, args: first, patterns: [...BASE, ...ZONE] },
    { name: US + TWO_ROLE + tag, command, args: first, patterns: TWO },
    ...replayer(US, tag, command, [file('./us_replay.ts')], built.traces),
    { name: US_BOOTED + tag, command, args: first, patterns: ['a'] },
    { name: US_REBOOTED + tag, command, args: [us, 'rebooted'], patterns: ['a'] },
    ...wasm_competitors(command, tag, built),
    ...heaps,
    ...objects,
  ];
}

function native_competitors(
  folder: string,
  traces: readonly EventFile[],
  say: (line: string) => void,
): Competitor[] {
  const replays = build_native('replay', folder);
  return build_native('alloc', folder).flatMap(({ name, program, problem, expect }, i) => {
    const replay = replays[i].program;
    if (program === undefined || replay === undefined) {
      say(`${name}: ${problem ?? replays[i].problem}`);
      return [];
    }
    const one = { name, command: program, args: [], patterns: BASE, expect };
    const two = { ...one, name: name + TWO_ROLE, patterns: TWO };
    const played = replayer(name, '', replay, [], traces).map((of) => ({ ...of, expect }));
    return [one, two, ...played];
  });
}

/** Builds what has to be built into `folder`; says what is skipped and why. */
export async function find_competitors(
  nodes: readonly Node[],
  folder: string,
  traces: readonly EventFile[],
  say: (line: string) => void,
): Promise<Competitor[]> {
  const wasm = await build_wasm(folder);
  for (const { name, problem } of wasm) if (problem !== undefined) say(`${name}: ${problem}`);
  const scripts = nodes.flatMap((node) => js_competitors(node, { wasm, traces }));
  return [...scripts, ...native_competitors(folder, traces, say)];
}
