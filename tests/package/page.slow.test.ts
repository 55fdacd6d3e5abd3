/*
 * What is shown: a page that uses the installed package is built by vite, with its
 * workers, and does in a real browser what it does in Node: two CPUs on one heap
 * where the page is isolated, one CPU on plain memory where it is not, and no call
 * that blocks the page.  By what means: page/ is built as a user would build it,
 * and opened in Chromium, Firefox and WebKit; each part of its address is one run,
 * whose report is looked at here.
 */
import assert from 'node:assert/strict';
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type Browser, type BrowserKind, BROWSERS } from './browsers.ts';
import { install, NODES, pack, run_ok, scratch, tool } from './pack.ts';
import { type Served, serve } from './serve.ts';

const folder = scratch();
const project = join(folder, 'page');
const built = join(project, 'dist');
const PLAIN = ['--outDir', 'plain'];

before(() => {
  install(project, pack(folder));
  cpSync(join(import.meta.dirname, 'page'), project, { recursive: true });
  run_ok(tool('vite'), ['build', '--logLevel', 'warn'], project);
});

interface Variable {
  readonly name: string;
}
/** What a machine of the same package lists in Node, where nothing is bundled. */
function unbundled(): Variable[] {
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

interface Opened {
  /** What the run reported. */
  // biome-ignore lint/suspicious/noExplicitAny: each run reports what it likes
  readonly report: any;
  /** What the console was told. */
  readonly said: readonly string[];
}
for (const kind of BROWSERS) {
  const skip = kind.missing === '' ? false : `needs ${kind.missing}`;
  describe(kind.name, { skip }, () => in_browser(kind));
}
function in_browser(kind: BrowserKind): void {
  /** Who says that it has one CPU: the page, and the worker that boots its own machine. */
  const LINES = kind.script === undefined ? 2 : 1;
  let browser: Browser;
  let isolated: Served;
  let plain: Served;

  before(async () => {
    isolated = await serve(built, true, kind.script);
    plain = await serve(built, false, kind.script);
    browser = await kind.start();
  });
  after(async () => {
    await browser?.close();
    await isolated?.close();
    await plain?.close();
  });

  async function open(from: Served, what: string): Promise<Opened> {
    const { state, summary, report, said } = await browser.open(`${from.url}#${what}`);
    assert.equal(state, 'done', `${kind.name} #${what}: ${summary}\n${said.join('\n')}`);
    return { report: JSON.parse(report), said };
  }

  /** The run of one CPU, in a browser that shares nothing where it can be told so. */
  async function alone(from: Served): Promise<Opened> {
    if (!kind.start_unshared) return open(from, 'alone');
    const shared = browser;
    browser = await kind.start_unshared();
    try {
      return await open(from, 'alone');
    } finally {
      await browser.close();
      browser = shared;
    }
  }

  test('isolated: page and worker allocate, each frees what the other sent', async () => {
    const { report, said } = await open(isolated, '');
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
    const { report, said } = await open(isolated, 'blocking');
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
    const { report, said } = await open(isolated, 'daemon');
    assert.deepEqual(said, []);
    assert.ok(report.wakeups > 0);
  });
  test('isolated: a worker that ends without a word gives back its slot', async () => {
    const { report, said } = await open(isolated, 'dies');
    assert.deepEqual(said, []);
    assert.deepEqual(report.attached, [2, 2, 2]);
    assert.deepEqual([report.settled, report.used, report.lost], [3, 3, 0]);
  });
  test('not isolated: one CPU on plain memory, and it says so', async () => {
    const { report, said } = await alone(plain);
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
  if (kind.start_unshared)
    test('isolated, but without SharedArrayBuffer: one CPU, and it says why', async () => {
      const { report, said } = await alone(isolated);
      assert.equal(said.length, LINES, said.join('\n'));
      for (const line of said) assert.match(line, /^kmem: .*offers no SharedArrayBuffer.*only CPU/);
      assert.deepEqual([report.isolated, report.shared, report.cpus], [true, false, 1]);
      assert.deepEqual([report.wrong, report.requests, report.inUse], [0, 5000, 0]);
      assert.equal(report.codes.blocking, 'EOPNOTSUPP');
    });
}
