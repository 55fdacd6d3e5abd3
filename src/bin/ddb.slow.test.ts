/*
 * Shown: `kmem ddb` asks a program that runs in another process, shows what its own machine
 * says, holds its workers and lets them go; they go on when the command is killed, too.
 * Of a dump it shows the same.  Exit codes; and clients that send nonsense for the debugger.
 * By what means: a program of two workers that allocate, asked over its standard input.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import {
  endProgram,
  type Program,
  runtimeFolder,
  startProgram,
  TestClient,
} from '../lib/listen.test.lib.ts';
import { replyOf, requestFrame } from '../lib/wire.ts';
import { no_terminal, terminal_run } from '../sys/observe/ddb/tty.test.lib.ts';
import { until, within } from '../sys/machine/workers.test.lib.ts';
import { Connection, choose_machine } from './connect.ts';
import { DdbFront, live_target } from './ddb.ts';
import { COMMAND as KMEM } from './replay.test.lib.ts';

process.env.TMPDIR = runtimeFolder();
const MAX_MS = 240_000;
const TIMEOUT = 100;

let program: Program;
before(async () => {
  program = await startProgram();
});
after(() => endProgram(program));

function kmem(...args: string[]): { code: number | null; out: string; err: string } {
  const argv = [KMEM, 'ddb', ...args];
  const ran = spawnSync(process.execPath, argv, { encoding: 'utf8', timeout: MAX_MS });
  return { code: ran.status, out: ran.stdout, err: ran.stderr };
}
const live = (...args: string[]) => kmem('--timeout', String(TIMEOUT), ...args);
/** Requests of the workers' type so far. */
async function requests(): Promise<number> {
  return (await program.ask('figures')).load.requests;
}
async function go_on(): Promise<void> {
  const from = await requests();
  const end = performance.now() + MAX_MS;
  while ((await requests()) === from) assert.ok(performance.now() < end, 'they go on');
}

test('shows what the program says of itself; exit 1 where a command fails', async () => {
  await program.ask('pause');
  const { load } = await program.ask('figures');
  const { code, out, err } = live('-e', 'show malloc', '-e', 'show pageq');
  assert.deepEqual([code, err], [0, '']);
  const row = /^ +load +(\d+) +(\d+)K +(\d+)$/m.exec(out)?.slice(1).map(Number);
  assert.deepEqual(row, [load.inUse, Math.ceil(load.bytes / 1024), load.requests]);
  assert.match(out, /\nPQ_FREE: \d+\n/);
  const bad = live('-e', 'nobody', '-e', 'print 5');
  assert.deepEqual(
    [bad.code, bad.out],
    [1, 'No such command: nobody; help and show list them\n5\n'],
  );
  await program.ask('run');
});
test('the session goes with the lines: radix, dot, a blank line', () => {
  const { out, err } = live(
    '-e',
    'set $radix = 0t10',
    '-e',
    'x/bx 256,2',
    '-e',
    '',
    '-e',
    "print/d '",
  );
  assert.equal(err, '');
  assert.match(out, /^0x100:\t6d {2}65 {2}\n0x102:\t6d {2}\n256\n$/);
});
test('stop holds its workers, continue lets them go', async () => {
  const found = await choose_machine({ pid: program.pid, timeout: TIMEOUT });
  const to = new Connection(found, TIMEOUT);
  const front = new DdbFront(live_target(to));
  let held = 0;
  for (let round = 0; round < 10 && held < 3; round++) {
    // A worker that was about to stop when the time was over is only named.
    const said = await front.run('stop');
    assert.match(said?.text ?? '', /^(All CPUs have stopped|Still running: CPU \d)/);
    if (said?.failed) continue;
    held++;
    const before = await requests();
    for (let i = 0; i < 5; i++) assert.equal(await requests(), before, 'they stand still');
    assert.match((await front.run('trace'))?.text ?? '', /is held by the debugger/);
    assert.deepEqual((await front.run('continue'))?.failed, false);
    await go_on();
  }
  assert.equal(held, 3);
  assert.equal((await front.run('continue'))?.text, 'Nobody is held\n');
  front.close();
  await to.close();
});
test('they go on when the command that holds them is killed', async () => {
  const child = spawn(process.execPath, [KMEM, 'ddb', '--timeout', String(TIMEOUT)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let out = '';
  child.stdout.on('data', (text) => (out += text));
  child.stdin.write('stop\n');
  await until(() => out.includes('\n'), 'it has stopped them');
  const gone = once(child, 'exit');
  child.kill('SIGKILL');
  await within(gone, 'it is killed');
  await go_on();
});
test('nonsense for the debugger is answered; two hundred of them harm nobody', async () => {
  const ask = async (c: TestClient, text: string | Uint8Array): Promise<string> => {
    const value = typeof text === 'string' ? new TextEncoder().encode(text) : text;
    c.socket.write(requestFrame({ tag: 7, mib: [], room: 4096, value, ddb: true }));
    const body = await within(c.frame(), 'it answers');
    assert.ok(body, text.toString());
    return new TextDecoder().decode(replyOf(body).bytes);
  };
  const c = new TestClient(program.path);
  await c.frame();
  const none = '{"error":"no request of the debugger"}';
  for (const text of ['', '{', 'null', '[]', '{"line":5}', '{"hold":-1}', '{"hold":"x"}']) {
    assert.equal(await ask(c, text), none, text);
  }
  assert.equal(await ask(c, JSON.stringify({ line: 'x'.repeat(5000) })), none);
  assert.equal(await ask(c, Uint8Array.of(0xff, 0xfe)), none);
  const wild = {
    line: 'print/d $radix',
    state: { vars: { radix: -5, lines: 'x', nobody: 1 }, dot: Number.NaN, search: { size: 3 } },
  };
  assert.match(await ask(c, JSON.stringify(wild)), /^\{"text":"2\\n","failed":false,/);
  c.socket.destroy();
  const many = Array.from({ length: 200 }, () => new TestClient(program.path));
  const value = new TextEncoder().encode('{"line":"show malloc"}');
  const frame = requestFrame({ tag: 1, mib: [], room: 2 ** 20, value, ddb: true });
  for (const [i, client] of many.entries()) {
    client.socket.write(i % 2 === 0 ? frame.subarray(0, 30) : frame); // half of them half a command
  }
  const { code, out } = live('-e', 'print 5');
  assert.deepEqual([code, out], [0, '5\n']);
  for (const client of many) client.socket.destroy();
  await go_on();
});
test('a program whose event loop is stuck is looked at from outside', async () => {
  const index = new URL('../lib/index.ts', import.meta.url).href;
  const code = `const { boot } = await import(${JSON.stringify(index)});
    const machine = boot({ memory: '4M' });
    const type = machine.type('stuck');
    for (let i = 0; i < 7; i++) type.alloc(1000);
    console.log('up');
    for (;;);`;
  const argv = ['--input-type=module', '-e', code];
  const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit'] });
  await within(once(child.stdout, 'data'), 'it is up');
  const { code: exit, out, err } = kmem('-p', `${child.pid}`, '-e', 'show malloc', '-e', 'trace');
  child.kill('SIGKILL');
  if (exit !== 0)
    return assert.match(err, /^kmem ddb: no running machine.*; and its memory: .*\n$/);
  assert.match(err, /shown is its memory as it was just now\n$/);
  assert.match(out, /^ +stuck +7 +7K +7$/m);
  assert.match(out, /^Tracing CPU 0 .*: runs$/m);
});
test('on a terminal: a prompt, a history, a pager', { skip: no_terminal }, (t) => {
  const argv = [process.execPath, KMEM, 'ddb', '-p', `${program.pid}`, '--timeout', `${TIMEOUT}`];
  const up = '\x1b[A';
  // The editor of lines draws the prompt again as one types: it waits where the cursor is put.
  const prompt = 'db> \x1b[5G';
  const said = terminal_run(t, argv, ['print/d 5', up, 'show uma', 'q', 'quit'], prompt);
  const plain = said.replaceAll(/\x1b\[\d*[A-Za-z]|\r/g, '');
  assert.equal(plain.match(/^5$/gm)?.length, 2, 'once more, by the history');
  assert.match(plain, /Sleeps\n( .*\n){22}--More--/);
  assert.doesNotMatch(plain, /UMA Kegs/, 'a page, and no more');
});
test('wrong usage, and what is not there', () => {
  const cases: [number, RegExp, ...string[]][] = [
    [2, /^kmem ddb: -e: give a command\n$/, '-e'],
    [2, /^kmem ddb: x: no operand is taken here\n$/, 'x'],
    [2, /^kmem ddb: -M: a dump is read, no program is asked/, '-M', 'x', '-p', '5'],
    [1, /^kmem ddb: nowhere: ENOENT/, '-M', 'nowhere'],
  ];
  for (const [code, message, ...argv] of cases) {
    const ran = kmem(...argv);
    assert.equal(ran.code, code, ran.err);
    assert.match(ran.err, message);
  }
  assert.match(kmem('--help').out, /^usage: kmem ddb /);
});
