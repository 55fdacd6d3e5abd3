/*
 * The faulty programs of bugs/ are found out as their page says: its commands are run, and what
 * they print is compared with the page, line by line.  What differs from run to run (addresses,
 * times, numbers of processes) is left out of the comparison, and so is what `…` stands for.
 *
 * Of each program a line of the source says that it is `the fault`.  That very line is named while
 * the program runs, or by what it prints at its end, and again from a dump.  Of the last two, whose
 * threads or event loop do not answer, everything comes from their memory in /proc.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

const HERE = join(import.meta.dirname, 'bugs');
const ROOT = join(import.meta.dirname, '..');
const MAX_MS = 120_000;
const TRIES = 5;
const LINES_MAX = 40;
const page = readFileSync(join(HERE, 'README.md'), 'utf8');
const files = readdirSync(HERE).filter((file) => file.endsWith('.ts'));

interface Command {
  readonly line: string;
  readonly shown: readonly string[];
}
/** The commands that the page has under a program's name, with what they print. */
function commands(file: string): Command[] {
  const section = page.split(/^## /m).find((text) => text.startsWith(`${file}\n`)) ?? '';
  const blocks = [...section.matchAll(/^```\n([\s\S]*?)^```$/gm)].map(([, text]) => text);
  return blocks.flatMap((block) =>
    block
      .split(/^\$ /m)
      .slice(1)
      .map((text) => {
        const [line, ...shown] = text.trimEnd().split('\n');
        return { line, shown };
      }),
  );
}
/** What is the same in each run. */
function same(text: string): string[] {
  return text
    .replaceAll(`file://${ROOT}/`, '')
    .replaceAll(`${ROOT}/`, '')
    .replaceAll(/[^\s']*\/app\.core/g, 'dumps/app.core')
    .replaceAll(/[^\s']*\/kmem-[^/\s]+\.core/g, 'dumps/kmem-N.core')
    .replaceAll(/0x[\da-f]+/g, '0xN')
    .replaceAll(/\bmachine [\da-f]+/g, 'machine N')
    .replaceAll(/^msgbufp: \d+/gm, 'msgbufp: N')
    .replaceAll(/\d+(\.\d+)? ms\b/g, 'N ms')
    .replaceAll(/\b\d+s\b/g, 'Ns')
    .replaceAll(/\b(thread|tid|process|pid) \d+/g, '$1 N')
    .replaceAll(/\b\d{4,}\b/g, 'N')
    .replaceAll('; threads ran while it was written', '') // or did not, just then
    .replaceAll(/^kmem ddb: \S+: threads ran while it was written$/gm, '')
    .replaceAll(/ +/g, ' ')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
}
/** Whether these lines are there in that order: one behind the other, but for `…` between them. */
function shows(all: readonly string[], shown: readonly string[]): boolean {
  const parts: string[][] = [[]];
  for (const line of shown) {
    if (line === '…') parts.push([]);
    else parts.at(-1)?.push(line);
  }
  let from = 0;
  return parts.every((part, i) => {
    const at = all.findIndex((_, n) => n >= from && part.every((line, k) => all[n + k] === line));
    if (part.length === 0) return true;
    from = at + part.length;
    return at >= 0 && (i > 0 || at === 0) && (i < parts.length - 1 || from === all.length);
  });
}

/** A folder for dumps and sockets, the program that runs in the background, and what was said. */
class Run {
  readonly folder = mkdtempSync(join(tmpdir(), 'kmem-bugs-'));
  readonly said: { line: string; text: string }[] = [];
  child: ChildProcess | undefined;

  end(): void {
    this.child?.kill('SIGKILL');
    rmSync(this.folder, { recursive: true, force: true });
  }
  /** Runs a command of the page until it prints what the page shows. */
  async run({ line, shown }: Command): Promise<void> {
    const wanted = same(shown.join('\n'));
    let text = '';
    for (let i = 0; i < (line.startsWith('kmem ddb -p') ? TRIES : 1); i++) {
      if (i > 0) await sleep(1000); // its threads are on their way
      const begins = line.endsWith(' &');
      text = begins ? await this.#start(line.slice(0, -2), wanted) : await this.#do(line);
      if (shows(same(text), wanted)) {
        this.said.push({ line, text });
        return;
      }
    }
    assert.deepEqual(same(text), wanted, line);
  }
  #parse(line: string): { args: string[]; env: NodeJS.ProcessEnv } {
    const dump = readdirSync(this.folder).find((name) => name.endsWith('.core')) ?? 'none';
    const words = [...line.matchAll(/(?:[^\s']|'[^']*')+/g)].map(([word]) =>
      word.replaceAll("'", ''),
    );
    const env: NodeJS.ProcessEnv = { ...process.env, XDG_RUNTIME_DIR: this.folder };
    const first = words.findIndex((word) => !/^[A-Z_]+=/.test(word));
    for (const word of words.slice(0, first)) {
      const at = word.indexOf('=');
      env[word.slice(0, at)] = word.slice(at + 1).replace(/^dumps$/, this.folder);
    }
    const [command, ...rest] = words.slice(first);
    assert.ok(command === 'node' || command === 'kmem', line);
    const args = rest.map((word) => {
      if (word === 'PID') return String(this.child?.pid);
      if (word === 'dumps/app.core') return join(this.folder, 'app.core');
      return word.startsWith('dumps/kmem-') ? join(this.folder, dump) : word;
    });
    if (command === 'kmem') args.unshift('bin/kmem.js');
    return { args, env };
  }
  #do(line: string): Promise<string> {
    const { args, env } = this.#parse(line);
    return new Promise((resolve) => {
      const options = { cwd: ROOT, env, timeout: MAX_MS, killSignal: 'SIGKILL' } as const;
      execFile(process.execPath, args, options, (_, out, err) => resolve(err + out));
    });
  }
  /** Starts a program, and waits for what the page shows of it: its last line is on stdout. */
  async #start(line: string, wanted: readonly string[]): Promise<string> {
    this.child?.kill('SIGKILL');
    const { args, env } = this.#parse(line);
    const child = spawn(process.execPath, args, { cwd: ROOT, env });
    this.child = child;
    let [out, err] = ['', ''];
    child.stderr.on('data', (text) => (err += text));
    child.stdout.on('data', (text) => (out += text));
    const gone = once(child, 'exit');
    while (!out.includes('\n')) {
      const over = await Promise.race([once(child.stdout, 'data'), gone]);
      if (child.exitCode !== null) assert.fail(`${line}: it ended: ${err} ${over}`);
    }
    for (let i = 0; i < 50 && !shows(same(err + out), wanted); i++) await sleep(100); // two pipes
    return err + out;
  }
}

test('the page has each program, and no others', () => {
  const shown = [...page.matchAll(/^## (\S+\.ts)$/gm)].map(([, name]) => name);
  assert.deepEqual(shown.sort(), files.sort());
  assert.equal(files.length, 13);
});
for (const file of files) {
  test(`${file}: the line is named, by the program itself or live, and from a dump`, async (t) => {
    const lines = readFileSync(join(HERE, file), 'utf8').split('\n');
    assert.ok(lines.length <= LINES_MAX, `${lines.length} lines: read in a minute`);
    const fault = lines.findIndex((line) => line.includes('// the fault')) + 1;
    assert.ok(fault > 0);
    const todo = commands(file);
    const stuck = file === 'deadlock.ts' || file === 'stuck.ts';
    if (stuck && process.platform !== 'linux') return t.skip('skipped: needs /proc');
    const run = new Run();
    t.after(() => run.end());
    for (const command of todo) await run.run(command);
    const named = run.said.filter(({ text }) =>
      new RegExp(`\\b${file.replace('.', '\\.')}:${fault}\\b`).test(text),
    );
    const of_dump = named.filter(({ line }) => / -M /.test(line));
    assert.ok(of_dump.length > 0, 'from the dump');
    assert.ok(named.length > of_dump.length, 'live');
    if (stuck) assert.ok(run.said.some(({ line }) => line.startsWith('kmem ddb -p PID')));
  });
}
