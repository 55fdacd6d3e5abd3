/*
 * What is shown: a page that uses the installed package is built by vite, with its
 * workers, and does in a real browser what it does in Node: two CPUs on one heap
 * where the page is isolated, one CPU on plain memory where it is not, and no call
 * that blocks the page.  By what means: page/ is built as a user would build it,
 * and opened in Chromium, Firefox and WebKit; each part of its address is one run,
 * whose report is looked at here.  page/core is another page, which loads kmem/core, and the rest
 * of the package when it wants it.
 */
import assert from 'node:assert/strict';
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { type Browser, type BrowserKind, BROWSERS } from './browsers.ts';
import { install, NODES, pack, run_ok, scratch, tool } from './pack.ts';
import { type Served, serve } from './serve.ts';

const folder = scratch();
const project = join(folder, 'page');
const built = join(project, 'dist');
const core_built = join(folder, 'core');
const PLAIN = ['--outDir', 'plain'];

before(() => {
  install(project, pack(folder));
  cpSync(join(import.meta.dirname, 'page'), project, { recursive: true });
  run_ok(tool('vite'), ['build', '--logLevel', 'warn'], project);
  const core = ['build', 'core', '--config', 'vite.config.js', '--outDir', core_built];
  run_ok(tool('vite'), [...core, '--logLevel', 'warn'], project);
});

interface Variable {
  readonly name: string;
  readonly description: string;
}
let listed: Variable[] | null = null;
/** What a machine of the same package lists in Node, where nothing is bundled. */
function unbundled(): Variable[] {
  listed ??= list();
  return listed;
}
function list(): Variable[] {
  const program = `import { boot } from 'kmem';
    console.log(JSON.stringify(boot({ memory: '8M' }).sysctls()));`;
  writeFileSync(join(project, 'sysctls.mjs'), program);
  return JSON.parse(run_ok(NODES[26], ['sysctls.mjs'], project));
}

describe('the build', () => {
  test('the page compiles against the declarations', () => {
    assert.equal(run_ok(tool('tsc'), ['-p', project], project), '');
  });
  test("each worker became a file of its own, the library's too", () => {
    const files = readdirSync(join(built, 'assets')).sort();
    const kinds = files.map((name) => /^(\w+?)-[\w-]+\.js$/.exec(name)?.[1]);
    assert.deepEqual(kinds, ['index', 'pagedaemon_worker', 'worker'], `${files}`);
    for (const file of files) {
      const code = readFileSync(join(built, 'assets', file), 'utf8');
      assert.doesNotMatch(
        code,
        /\bfrom ?["']node:|\bimport\(["']node:/,
        `${file} imports from Node`,
      );
    }
  });
  test('the constants of the kernel stay constants, as page/vite.config.js asks for', () => {
    run_ok(tool('vite'), ['build', '--logLevel', 'warn', '--minify', 'false', ...PLAIN], project);
    for (const file of readdirSync(join(project, 'plain/assets'))) {
      const code = readFileSync(join(project, 'plain/assets', file), 'utf8');
      const declared = [...code.matchAll(/^\s*(\w+) (?:thr|mem|hw)(?:\$\d+)? = \{/gm)];
      assert.deepEqual(
        declared.map(([, word]) => word),
        ['const', 'const', 'const'],
        file,
      );
    }
  });
});

/** Bytes of a built file and of all that it imports at once, as a server sends them. */
function weight(assets: string, file: string, seen = new Set<string>()): number {
  if (seen.has(file)) return 0;
  seen.add(file);
  const code = readFileSync(join(assets, file), 'utf8');
  const imported = [...code.matchAll(/(?:^|[;}])(?:import|export)\b[^()]*?["']\.\/([^"']+)["']/g)];
  const others = imported.reduce((sum, [, path]) => sum + weight(assets, path, seen), 0);
  return gzipSync(code, { level: 9 }).length + others;
}
/** Bytes, gzipped, of a page or a worker that loads kmem/core: kernel, façade, and its own. */
const CORE_MAX = 146_000;

describe('the core', () => {
  const assets = join(core_built, 'assets');
  const file = (kind: string): string =>
    readdirSync(assets).find((name) => name.startsWith(`${kind}-`) && name.endsWith('.js')) ?? '';
  test('a page that loads it alone is light, and so is its worker', () => {
    const html = readFileSync(join(core_built, 'index.html'), 'utf8');
    const main = /<script[^>]* src="\/assets\/([^"]+)"/.exec(html)?.[1] ?? '';
    const [page, worker] = [weight(assets, main), weight(assets, file('worker'))];
    assert.ok(page > 10_000 && page < CORE_MAX, `the page loads ${page} bytes`);
    assert.ok(worker > 10_000 && worker < CORE_MAX, `the worker loads ${worker} bytes`);
  });
  for (const kind of BROWSERS) {
    const skip = kind.missing === '' ? false : `needs ${kind.missing}`;
    test(`${kind.name}: the rest comes when it is asked for`, { skip }, async (t) => {
      const served = await serve(core_built, true, kind.script);
      t.after(() => served.close());
      const browser = await kind.start();
      t.after(() => browser.close());
      const seen = await browser.open(served.url);
      assert.equal(seen.state, 'done', `${seen.summary}\n${seen.said.join('\n')}`);
      const report = JSON.parse(seen.report);
      assert.match(report.early, /^EOPNOTSUPP .*boot: the option WITNESS, CHECKED needs/);
      for (const [call, said] of Object.entries<string>(report.calls)) {
        assert.match(said, new RegExp(`^EOPNOTSUPP .*${call}: .*await import\\('kmem'\\)`), call);
      }
      assert.deepEqual(Object.keys(report.calls), ['chain', 'vmstat', 'stats', 'collect', 'dump']);
      assert.deepEqual(report.before, { received: 2000, wrong: 0 });
      assert.deepEqual(report.after, { received: 2000, wrong: 0 });
      assert.equal(report.text, 'all there');
      assert.match(report.vmstat, /^ *parcel +0 /m);
      // The same variables before and after; what they mean comes with the rest.
      const names = (all: Variable[]) => all.map(({ name }) => name);
      assert.deepEqual(names(report.early_sysctls), names(unbundled()));
      assert.ok(report.early_sysctls.some((v: Variable) => v.description === ''));
      assert.deepEqual(report.sysctls, unbundled());
    });
  }
});

interface Opened {
  /** What the run reported. */
  // biome-ignore lint/suspicious/noExplicitAny: each run reports what it likes
  readonly report: any;
  /** What the console was told. */
  readonly said: readonly string[];
}
/** A browser, and the page served to it with and without the headers that isolate it. */
class Pages {
  readonly kind: BrowserKind;
  #browser: Browser | null = null;
  #isolated: Served | null = null;
  #plain: Served | null = null;

  constructor(kind: BrowserKind) {
    this.kind = kind;
  }
  async begin(): Promise<void> {
    this.#isolated = await serve(built, true, this.kind.script);
    this.#plain = await serve(built, false, this.kind.script);
    this.#browser = await this.kind.start();
  }
  async end(): Promise<void> {
    await this.#browser?.close();
    await this.#isolated?.close();
    await this.#plain?.close();
  }
  open(what: string): Promise<Opened> {
    return this.#open(this.#browser, this.#isolated, what);
  }
  /** The run of one CPU, in a browser that shares nothing where it can be told so. */
  async alone(isolated: boolean): Promise<Opened> {
    const from = isolated ? this.#isolated : this.#plain;
    const other = (await this.kind.start_unshared?.()) ?? null;
    try {
      return await this.#open(other ?? this.#browser, from, 'alone');
    } finally {
      await other?.close();
    }
  }
  async #open(browser: Browser | null, from: Served | null, what: string): Promise<Opened> {
    assert.ok(browser !== null && from !== null, 'it has begun');
    const { state, summary, report, said } = await browser.open(`${from.url}#${what}`);
    assert.equal(state, 'done', `${this.kind.name} #${what}: ${summary}\n${said.join('\n')}`);
    return { report: JSON.parse(report), said };
  }
}
for (const kind of BROWSERS) {
  const skip = kind.missing === '' ? false : `needs ${kind.missing}`;
  describe(kind.name, { skip }, () => {
    const pages = new Pages(kind);
    before(() => pages.begin());
    after(() => pages.end());
    shared_runs(pages);
    lone_runs(pages);
  });
}
function shared_runs(pages: Pages): void {
  test('isolated: page and worker allocate, each frees what the other sent', async () => {
    const { report, said } = await pages.open('');
    const { sent } = report;
    assert.deepEqual(said, []);
    assert.deepEqual([report.isolated, report.shared, report.cpus], [true, true, 2]);
    assert.deepEqual(report.here, { cpu: 0, received: sent, wrong: 0 });
    assert.deepEqual(report.there, { cpu: 1, received: sent, wrong: 0 });
    assert.deepEqual(report.types, { inUse: 0, requests: 2 * sent, failed: 0 });
    assert.match(report.vmstat, new RegExp(`^ *parcel +0 +0K +- +${2 * sent} `, 'm'));
    assert.ok(
      report.prometheus.includes(`kmem_malloc_requests_total{type="parcel"} ${2 * sent}\n`),
    );
    assert.equal(report.up, false);
    assert.deepEqual(report.sysctls, unbundled());
  });
  test('isolated: no call blocks the page; each that would says what to call', async () => {
    const { report, said } = await pages.open('blocking');
    assert.deepEqual(said, []);
    const instead = {
      'mutex.lock': 'lockAsync',
      'mutex.run': 'lockAsync',
      'rwlock.lockRead': 'tryLockRead',
      'rwlock.write': 'tryLockWrite',
      'condition.wait': 'waitAsync',
      'queue.pop': 'popAsync',
      'queue.push': 'pushAsync',
      'zone.alloc': 'allocAsync',
      'records.alloc': 'allocAsync',
      'type.alloc': 'allocAsync',
    };
    assert.deepEqual(Object.keys(report.refused), Object.keys(instead));
    for (const [call, better] of Object.entries(instead)) {
      const pattern = new RegExp(
        `^EOPNOTSUPP .*a browser's main thread may not wait: use .*${better}`,
      );
      assert.match(report.refused[call], pattern, call);
    }
    const waits = ['condition.waitAsync', 'mutex.runAsync', 'queue.popAsync', 'queue.pushAsync'];
    const allocs = ['records.allocAsync', 'type.allocAsync', 'zone.allocAsync'];
    assert.deepEqual(report.waited, [...waits, ...allocs]);
    assert.equal(report.answer, 'all given back, 1,2 received');
  });
  test("isolated: the page daemon, the library's own worker, is woken", async () => {
    const { report, said } = await pages.open('daemon');
    assert.deepEqual(said, []);
    assert.ok(report.wakeups > 0);
  });
  test('isolated: a worker that ends without a word gives back its slot', async () => {
    const { report, said } = await pages.open('dies');
    assert.deepEqual(said, []);
    assert.deepEqual(report.attached, [2, 2, 2]);
    assert.deepEqual([report.settled, report.used, report.lost], [3, 3, 0]);
  });
}
function lone_runs(pages: Pages): void {
  /** Who says that it has one CPU: the page, and the worker that boots its own machine. */
  const LINES = pages.kind.script === undefined ? 2 : 1;
  test('not isolated: one CPU on plain memory, and it says so', async () => {
    const { report, said } = await pages.alone(false);
    assert.equal(said.length, LINES, said.join('\n'));
    for (const line of said) assert.match(line, /^kmem: .*not cross-origin isolated.*only CPU/);
    assert.deepEqual([report.isolated, report.shared, report.cpus], [false, false, 1]);
    assert.equal(report.handleMemory, null, 'a message does not copy the memory');
    assert.deepEqual([report.wrong, report.requests, report.inUse], [0, 5000, 0]);
    assert.deepEqual(report.codes, {
      blocking: 'EOPNOTSUPP',
      async: 'ETIMEDOUT',
      attach: 'EBUSY',
      listen: 'EOPNOTSUPP',
    });
    assert.match(
      report.attached,
      /^EOPNOTSUPP .*attach: the machine has one CPU, .*not cross-origin/,
    );
    assert.deepEqual(report.ownMachine, { shared: false, code: 'EDEADLK' });
    assert.deepEqual(report.sysctls, unbundled());
  });
  if (pages.kind.start_unshared)
    test('isolated, but without SharedArrayBuffer: one CPU, and it says why', async () => {
      const { report, said } = await pages.alone(true);
      assert.equal(said.length, LINES, said.join('\n'));
      for (const line of said) assert.match(line, /^kmem: .*offers no SharedArrayBuffer.*only CPU/);
      assert.deepEqual([report.isolated, report.shared, report.cpus], [true, false, 1]);
      assert.deepEqual([report.wrong, report.requests, report.inUse], [0, 5000, 0]);
      assert.equal(report.codes.blocking, 'EOPNOTSUPP');
    });
}
