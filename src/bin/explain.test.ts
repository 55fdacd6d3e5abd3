/*
 * Shown: every word that the tools' screens show, and every name of the kernel's, can be explained:
 * titles as the tables print them, lines of netstat -m and systat, rows of a replay, each zone and
 * type and variable of a machine that runs, each figure that it collects, each errno; what is
 * misspelt is named with what is near it.
 * By what means: the words are taken from the screens of a real machine, not from the declarations;
 * the command's text, exit code and JSON.
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { metrics } from '../lib/metrics.ts';
import { Region } from '../lib/region.ts';
import { Space } from '../lib/space.ts';
import { live_types } from '../replay/heap/heap_figures.ts';
import { boot, shutdown } from '../sys/boot/whole.ts';
import { errno_name, errnos } from '../sys/machine/errno.ts';
import { mbuf_figures, netstat_mbuf_text } from '../sys/observe/netstat_text.ts';
import { memstat_fetch_live } from '../sys/observe/memstat_sysctl.ts';
import { procstat_vm_text, vmstat_object_text } from '../sys/observe/procstat_text.ts';
import { wmesgs } from '../sys/machine/wmesg.ts';
import { vmstat_malloc_text, vmstat_zone_text } from '../sys/observe/vmstat_text.ts';
import { EXPLAIN_HELP, explain_main, explained, nearest, type Term, terms } from './explain.ts';
import { main } from './main.ts';
import { HTTP2, kmem, MAKE } from './replay.test.lib.ts';
import { sysctl_main } from './sysctl.ts';
import { tool_context } from './tool.ts';
import { vmstat_titles } from '../sys/observe/vmstat_rates.ts';
import { vmstat_sums, vmstat_sums_text } from '../sys/observe/vmstat_sums.ts';

let all: Term[] = [];
before(() => {
  boot({ memory: '8M', cpus: 2 });
  all = terms();
});
after(shutdown);

/** Collects what is written to a stream instead of showing it; call it to have the stream back. */
function listen(to: NodeJS.WriteStream): () => string {
  let text = '';
  const { write } = to;
  to.write = (more: string | Uint8Array) => {
    text += more;
    return true;
  };
  return () => {
    to.write = write;
    return text;
  };
}
/** What a word means, by kind. */
function kinds(word: string): string[] {
  return explained(word, all).map((t) => t.kind.replace(/ \(.*|\d+ /g, ''));
}
function said(run: () => number): { code: number; out: string } {
  const heard = listen(process.stdout);
  const code = run();
  return { code, out: heard() };
}

describe('every word of a screen', () => {
  test('titles of vmstat -m and -z', () => {
    const { types, zones } = live_types();
    const titles = (text: string): string[] => text.split('\n')[0].trim().split(/ +/);
    const plain = titles(vmstat_malloc_text(types));
    const more = titles(vmstat_malloc_text(types, { before: [] }));
    assert.ok(plain.length === 6 && more.length === 9, `${more}`);
    for (const title of more) assert.ok(kinds(title).includes('a column of vmstat -m'), title);
    for (const title of titles(vmstat_zone_text(zones))) {
      assert.ok(kinds(title).includes('a column of vmstat -z'), title);
    }
  });
  test('titles of vmstat, vmstat -o and procstat -v', () => {
    const titles = (text: string): string[] => text.trim().split(/ +/);
    for (const title of titles(vmstat_titles().split('\n')[1])) {
      assert.ok(kinds(title).includes('a column of vmstat'), title);
    }
    for (const title of titles(vmstat_object_text([]))) {
      assert.ok(kinds(title).includes('a column of vmstat -o'), title);
    }
    const mapped = titles(procstat_vm_text([]));
    assert.ok(mapped.length === 11, `${mapped}`);
    for (const title of mapped) assert.ok(kinds(title).includes('a column of procstat -v'), title);
  });
  test('zones, types, variables, lines of vmstat -s', () => {
    const { types, zones } = live_types();
    assert.ok(zones.length > 20);
    for (const { name } of zones) assert.ok(kinds(name).includes('a zone'), name);
    for (const { name } of types)
      assert.ok(kinds(name).includes('a malloc type of the kernel'), name);
    let names = '';
    const ctx = tool_context(
      (text) => void (names += text),
      () => {},
    );
    assert.equal(sysctl_main(['-AN'], ctx), 0);
    const variables = names.trim().split('\n');
    assert.ok(variables.length > 100);
    for (const name of variables) {
      const kind = kinds(name);
      assert.ok(kind.some((k) => k.includes(' of sysctl')) || name.startsWith('sysctl.'), name);
    }
    const sums = vmstat_sums(memstat_fetch_live());
    for (const line of vmstat_sums_text(sums).trimEnd().split('\n')) {
      const words = line.trim().replace(/^\d+ /, '');
      assert.deepEqual(kinds(words), ['a line of vmstat -s'], words);
    }
  });
  test('lines of netstat -m, and the figures in them', () => {
    const figures = mbuf_figures(memstat_fetch_live());
    assert.ok(typeof figures !== 'string');
    const lines = netstat_mbuf_text(figures).trimEnd().split('\n');
    assert.equal(lines.length, 16);
    for (const line of lines) {
      const words = line.replace(/^[\dK/]+ /, '');
      assert.ok(kinds(words).includes('a line of netstat -m'), words);
      const [, keys = ''] = /\(([^()]*\/[^()]*)\)$/.exec(words) ?? [];
      for (const key of keys.split('/').filter(Boolean)) {
        assert.match(kinds(key).join('\n'), /^a figure in (a line|lines) of netstat -m$/m, key);
      }
    }
  });
  test('rows of what replay says, as it is printed', async () => {
    const { out } = await kmem(['replay', '--quiet', MAKE, HTTP2]);
    const rows = [...out.matchAll(/^ {2}(?=\S)(.{13}) /gm)].map(([, label]) => label.trimEnd());
    assert.ok(
      rows.length > 12 && rows.includes('never freed') && rows.includes('mbufs'),
      `${rows}`,
    );
    for (const label of rows) {
      assert.ok(kinds(label).includes('a row of what replay says'), label);
    }
  });
  test('figures for Prometheus', () => {
    const figures = metrics(false).filter((m) => m.name !== 'kmem_build_info');
    assert.ok(figures.length > 40);
    for (const { name, kind } of figures) {
      assert.deepEqual(kinds(name), [`a ${kind} of machine.collect(), for Prometheus`], name);
    }
  });
  test('calls of address spaces, and reasons of errors', () => {
    for (const call of ['mmap', 'region', 'fork', 'window', 'protect', 'inherit', 'lend', 'lock']) {
      assert.ok(call in Space.prototype || call in Region.prototype, call);
      assert.ok(kinds(call).includes('a word of address spaces'), call);
    }
    // What the sources give as one.
    const lib = new URL('../lib/', import.meta.url);
    const sources = readdirSync(lib).filter((f) => /^[a-z_]+\.ts$/.test(f));
    const texts = sources.map((file) => readFileSync(new URL(file, lib), 'utf8')).join('\n');
    const given = texts.matchAll(/\b(?:reason: |details\()'([a-z ]+)'/g);
    const reasons = new Set([...given].map(([, reason]) => reason));
    assert.ok(reasons.has('unmapped') && reasons.has('fragmented'), [...reasons].join());
    for (const reason of reasons)
      assert.ok(kinds(reason).includes('the reason of an error'), reason);
  });
  test('ways to find faults: what their texts name is there', () => {
    for (const word of ['ddb', 'Redzone', 'memguard', 'INVARIANTS', 'leak', 'use after free']) {
      assert.ok(kinds(word).includes('a way to find faults'), word);
    }
    const said = all.filter((t) => t.kind === 'a way to find faults').map((t) => t.text);
    const variables = said.join(' ').matchAll(/\b(?:vm|debug)\.[a-z_]+(?:\.[a-z_]+)*/g);
    const names = [...variables].map(([name]) => name);
    assert.ok(names.length > 8);
    for (const name of names) assert.ok(explained(name, all).length > 0, name);
  });
  test('errnos, by name, by number, and in the text of an error', () => {
    for (const errno of errnos()) {
      const name = errno_name(errno);
      assert.deepEqual(
        explained(name, all).map((t) => [t.name, t.kind]),
        [[name, `errno ${errno}`]],
      );
      assert.ok(
        explained(String(errno), all).some((t) => t.name === name),
        name,
      );
    }
    const texts = [
      'ENOMEM: alloc: the limit is reached',
      'sysctl: x: Cannot allocate memory',
      '12',
    ];
    for (const text of texts) assert.deepEqual(explained(text, all)[0]?.name, 'ENOMEM', text);
    const [denied] = explained('vmstat: kern.malloc_stats: Permission denied', all);
    assert.equal(denied.name, 'EACCES');
  });
});

test('each reason to sleep, and no sleep has another', async () => {
  assert.ok(wmesgs.length > 0);
  for (const { name } of wmesgs) assert.ok(kinds(name).includes('why a thread sleeps'), name);
  const root = new URL('..', import.meta.url); // the sources
  for (const file of readdirSync(root, { recursive: true, encoding: 'utf8' })) {
    if (!/^(lib|sys)\/.*[^.]+\.ts$/.test(file) || /\.(test|fuzz|stress)\b/.test(file)) continue;
    const text = readFileSync(new URL(file, root), 'utf8');
    const sleeps = /(?:\b(?:msleep|tsleep|cv_\w+|sleepq_async_add)\([^;{}]*|wmesg: )'\w+'/.exec(
      text,
    );
    assert.equal(sleeps, null, `${file}: declare it in sys/machine/wmesg.ts`);
  }
});

test('each term says something, in whole sentences, and no term twice', () => {
  const seen = new Set<string>();
  for (const { name, kind, text } of all) {
    assert.match(text, /^[^a-z].*[.?!]$/s, `${name}: ${text}`);
    const key = `${name}, ${kind}`;
    assert.ok(!seen.has(key), key);
    seen.add(key);
  }
});

test('capitals, brackets and colons do not matter; of a variable the last part will do', () => {
  for (const word of ['InUse', 'inuse', 'INUSE:', ' inuse ']) {
    assert.deepEqual(kinds(word), ['a column of vmstat -m'], word);
  }
  assert.deepEqual(
    explained('lowmem_period', all).map((t) => t.name),
    ['vm.lowmem_period'],
  );
  assert.match(explained('vm.stats', all)[0].kind, /^a group of \d+ variables of sysctl$/);
  assert.deepEqual(explained('no such thing', all), []);
});

test('what is misspelt', async () => {
  assert.equal(nearest('HihgUse', all)[0], 'HighUse');
  assert.equal(nearest('vm.lowmem_perid', all)[0], 'vm.lowmem_period');
  assert.ok(nearest('nmbcluster', all).includes('kern.ipc.nmbclusters'));
  assert.deepEqual(nearest('qqqqqqqqqqqqqqqqqqqqqqqqqqqq', all), []);
  assert.deepEqual(nearest('foo', all), [], 'two letters of three are no slip');
  for (const odd of ['[', '.*', '\u{1f984}']) assert.deepEqual(nearest(odd, all), []);
  const failed = async (...argv: string[]): Promise<[number, string]> => {
    const heard = listen(process.stderr);
    const code = await main(['explain', ...argv]);
    return [code, heard()];
  };
  const near = 'kmem explain: HihgUse: no such term; near it: HighUse\n';
  assert.deepEqual(await failed('HihgUse'), [1, near]);
  assert.deepEqual((await failed())[0], 2);
  assert.match((await failed('--foo', 'InUse'))[1], /^kmem explain: --foo: no such option/);
});

test('a command that is misspelt', async () => {
  const errors = async (...argv: string[]): Promise<string> => {
    const heard = listen(process.stderr);
    const code = await main(argv);
    const text = heard();
    assert.equal(code, 2);
    return text;
  };
  const near = (name: string): string => `; near it: ${name} (kmem help lists them)\n`;
  assert.equal(await errors('repaly'), `kmem: repaly: no such command${near('replay')}`);
  assert.equal(await errors('help', 'Stats'), `kmem: Stats: no such command${near('start')}`);
  assert.equal(
    await errors('frobnicate'),
    'kmem: frobnicate: no such command (kmem help lists them)\n',
  );
});

test('the command: a paragraph each, or JSON', () => {
  const { code, out } = said(() => explain_main(['requests', 'for', 'mbufs', 'denied']));
  assert.equal(code, 0);
  assert.match(out, /^requests for mbufs denied, a line of netstat -m\. /);
  for (const line of out.split('\n')) assert.ok(line.length <= 80, line);
  const two = said(() => explain_main(['16'])).out;
  assert.match(two, /^16, a zone\. .*\n\nEBUSY, errno 16\. /s);
  const json = JSON.parse(said(() => explain_main(['--json', 'HighUse'])).out);
  assert.deepEqual(json, explained('HighUse', all));
  assert.deepEqual(
    said(() => explain_main(['--help'])),
    { code: 0, out: EXPLAIN_HELP },
  );
  for (const line of EXPLAIN_HELP.split('\n')) assert.ok(line.length <= 84, line);
});
