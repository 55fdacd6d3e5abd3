/*
 * Shown: the control socket belongs to its user alone, comes and goes with the
 * machine, and keeps nothing alive; what it says is what the machine says, to a
 * client that was written from the table in wire.ts and nothing else, while two
 * threads allocate; and no client disturbs the program, whatever it sends, leaves
 * out, or does not read.  Sockets, processes and signals are real.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { isMainThread, threadId } from 'node:worker_threads';
import { dice, SEED } from '../sys/machine/seed.test.lib.ts';
import { within } from '../sys/machine/workers.test.lib.ts';
import { type KmemError, type Listener, testMachine } from './index.ts';
import { endProgram, refused, runtimeFolder, startProgram, TestClient } from './listen.test.lib.ts';
import { requestFrame } from './wire.ts';

const runtime = runtimeFolder();
const folder = join(runtime, 'kmem');
const mode = (path: string): number => lstatSync(path).mode & 0o777;

describe('the socket', () => {
  test('is where the tools look, and nobody else may use it', async (t) => {
    const machine = testMachine(t);
    const listener = await machine.listen();
    assert.equal(listener.path, join(folder, `${process.pid}-${threadId}.sock`));
    assert.ok(lstatSync(listener.path).isSocket());
    assert.deepEqual([mode(folder), mode(listener.path)], [0o700, 0o600]);
    assert.deepEqual(readdirSync(folder).length, 1, 'no trace of how it was made');
    const client = new TestClient(listener.path);
    const hello = await client.hello();
    assert.equal(hello?.pid, process.pid);
    assert.equal(hello?.thread, threadId);
    assert.equal(hello?.memory, machine.memory().size);
    assert.match(hello?.bootedAt ?? '', /^listen\.test\.[jt]s:\d+$/);
    await Promise.all([listener.close(), listener.close(), client.end()]);
    assert.ok(!existsSync(listener.path));
    const again = await machine.listen({ path: join(runtime, 'mine.sock') });
    assert.deepEqual([again.path, mode(again.path)], [join(runtime, 'mine.sock'), 0o600]);
    await again[Symbol.asyncDispose]();
    assert.deepEqual(readdirSync(runtime), ['kmem']);
  });
  test('lies in the temporary folder where there is no other', async (t) => {
    const machine = testMachine(t);
    const { XDG_RUNTIME_DIR, TMPDIR } = process.env;
    for (const place of [undefined, 'relative', join(runtime, 'absent')]) {
      if (place === undefined) delete process.env.XDG_RUNTIME_DIR;
      else process.env.XDG_RUNTIME_DIR = place;
      process.env.TMPDIR = runtime;
      try {
        const listener = await machine.listen();
        assert.equal(dirname(listener.path), join(runtime, `kmem-${process.getuid?.()}`));
        assert.equal(mode(dirname(listener.path)), 0o700);
        await listener.close();
      } finally {
        process.env.XDG_RUNTIME_DIR = XDG_RUNTIME_DIR;
        process.env.TMPDIR = TMPDIR ?? '/tmp';
      }
    }
  });
  test('ends with the machine, however that ends', async (t) => {
    const machine = testMachine(t);
    const listener = await machine.listen();
    const client = new TestClient(listener.path);
    await client.hello();
    machine.shutdown();
    assert.ok(!existsSync(listener.path), 'at once');
    await client.end();
    await listener.close();
    await refused('ESHUTDOWN', machine);
  });
  const index = JSON.stringify(new URL('./index.ts', import.meta.url).href);
  /** Runs the text of a program in a process of its own; returns what it prints. */
  function ran(program: string): string {
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      ['--input-type=module', '-e', program],
      { encoding: 'utf8', timeout: 480_000 },
    );
    assert.equal(status, 0, stderr);
    return stdout;
  }
  test('keeps no process alive, with a client connected', () => {
    const path = ran(`
      import { connect } from 'node:net';
      import { boot } from ${index};
      const machine = boot({ memory: '8M', cpus: 1 });
      const { path } = await machine.listen();
      const client = connect(path);
      await new Promise((resolve) => client.once('data', resolve));
      client.unref();
      console.log(path);`);
    assert.ok(path.startsWith(folder), path);
    assert.ok(!existsSync(path.trim()), 'removed when the process ended');
  });
  test('a request that runs into a panic closes it, and nothing else', () => {
    // A parked thread looks for a stop when it comes back to serve.
    const panic = JSON.stringify(new URL('../sys/machine/panic.ts', import.meta.url).href);
    const { href } = new URL('./listen.test.lib.ts', import.meta.url);
    const said = ran(`
      import { once } from 'node:events';
      import { existsSync } from 'node:fs';
      import { Worker } from 'node:worker_threads';
      import { boot } from ${index};
      import { TestClient } from ${JSON.stringify(href)};
      const machine = boot({ memory: '8M', cpus: 2 });
      const { path } = await machine.listen();
      const client = new TestClient(path);
      await client.hello();
      machine.park();
      const code = \`
        import(${index}).then(async ({ attach }) => {
          attach(process.getBuiltinModule('node:worker_threads').workerData);
          const { panic } = await import(${panic});
          try { panic('on purpose'); } catch {}
          process.exit();
        });\`;
      await once(new Worker(code, { eval: true, workerData: machine.handle }), 'exit');
      console.log(await client.request([1, 1], 100), existsSync(path));`);
    assert.equal(said, 'null false\n');
  });
  test('what cannot be is refused in one line', async (t) => {
    const machine = testMachine(t);
    const long = join(runtime, 'x'.repeat(120));
    assert.match(await refused('ENAMETOOLONG', machine, long), / bytes, a Unix socket takes 10/);
    await refused('ENOENT', machine, join(runtime, 'absent', 'a.sock'));
    await refused('EINVAL', machine, '');
    await refused('EINVAL', machine, 'a\0b');
    const file = join(runtime, 'file');
    writeFileSync(file, 'text');
    assert.match(await refused('EADDRINUSE', machine, file), /no socket/);
    await refused('ENOTDIR', machine, join(file, 'a.sock'));
    rmSync(file);
    await assert.rejects(machine.listen({ timeout: Number.NaN }), /EINVAL.*milliseconds/);
    const path = join(runtime, 'taken.sock');
    const other = createServer().listen(path);
    await once(other, 'listening');
    assert.match(await refused('EADDRINUSE', machine, path), /listens there/);
    await new Promise((resolve) => other.close(resolve));
    await machine.listen();
    await refused('EADDRINUSE', machine);
    assert.equal(readdirSync(folder).length, 1, 'nothing is left of what failed');
  });
  test("a folder that is not the user's own is not used", async (t) => {
    const machine = testMachine(t);
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder);
    chmodSync(folder, 0o750);
    assert.match(await refused('EACCES', machine), /mode 750/);
    rmSync(folder, { recursive: true });
    mkdirSync(join(runtime, 'real'), { mode: 0o700 });
    symlinkSync('real', folder);
    assert.match(await refused('EACCES', machine), /symbolic link/);
    rmSync(folder);
    writeFileSync(folder, '');
    assert.match(await refused('EACCES', machine), /no folder/);
    rmSync(folder);
    const { getuid } = process;
    process.getuid = () => 4242; // the folder is another user's, seen from there
    try {
      mkdirSync(folder, { mode: 0o700 });
      assert.match(await refused('EACCES', machine), /belongs to another user/);
      process.getuid = undefined;
      assert.match(await refused('EOPNOTSUPP', machine), /no Unix sockets/);
    } finally {
      process.getuid = getuid;
    }
  });
});

/*
 * Written from the table at the top of wire.ts: connects, reads the greeting,
 * resolves a name, reads vm.zone_stats and prints what is in its header and rows.
 */
const PYTHON = `
import json, socket, struct, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
def exactly(n):
    data = b''
    while len(data) < n:
        more = s.recv(n - len(data))
        if not more: raise SystemExit('the connection is closed')
        data += more
    return data
def frame():
    return exactly(struct.unpack('<I', exactly(4))[0])
hello = frame()
magic, version, pid, thread, machine, memory, n = struct.unpack_from('<8sIIIIQI', hello)
site = hello[36:36 + n].decode()
def sysctl(name, room=None, new=None):
    flags = (room is not None) + 2 * (new is not None)
    body = struct.pack('<4I', 99, flags, room or 0, len(name))
    body += struct.pack('<%di' % len(name), *name) + (new or b'')
    s.sendall(struct.pack('<I', len(body)) + body)
    reply = frame()
    tag, error, oldlen = struct.unpack_from('<3I', reply)
    assert tag == 99
    return error, oldlen, reply[12:]
def lookup(name):
    error, n, numbers = sysctl([0, 3], 96, name.encode())
    return struct.unpack('<%di' % (n // 4), numbers) if error == 0 else error
stats = lookup('vm.zone_stats')
needed = sysctl(stats)
error, n, old = sysctl(stats, 1 << 20)
version2, cpus, count, _ = struct.unpack_from('<4I', old)
short = sysctl(stats, 100)
zones = {}
for i in range(count):
    at = 16 + i * (120 + 64 * cpus)
    zones[old[at:at + 32].rstrip(b'\\0').decode()] = struct.unpack_from('<I', old, at + 36)[0]
print(json.dumps(dict(magic=magic.decode(), version=version, pid=pid, memory=memory, site=site,
    error=error, n=n, got=len(old), needed=needed[:2], version2=version2, cpus=cpus, count=count,
    zones=zones, short=[short[0], short[1], len(short[2])], absent=lookup('no.such'))))
`;

describe('what it says', () => {
  test('a client in Python, written from the table alone, while two threads work', async () => {
    const program = await startProgram();
    const run = spawnSync('python3', ['-c', PYTHON, program.path], { encoding: 'utf8' });
    assert.equal(run.status, 0, run.stderr);
    const said = JSON.parse(run.stdout);
    const { memory, zones } = await program.ask('figures');
    assert.deepEqual(
      [said.magic, said.version, said.pid, said.memory],
      ['kmemctl\0', 1, program.pid, memory.size],
    );
    assert.match(said.site, /^listen\.test\.program\.[jt]s:\d+$/);
    assert.deepEqual([said.error, said.version2, said.cpus], [0, 1, 4]);
    assert.equal(said.n, 16 + said.count * (120 + 64 * said.cpus));
    assert.equal(said.got, said.n);
    assert.equal(said.needed[0], 0);
    assert.deepEqual(said.short, [12, 100, 100], 'ENOMEM, and the beginning');
    assert.equal(said.absent, 2, 'ENOENT');
    assert.deepEqual(
      Object.entries(said.zones).sort(),
      zones.map((z: { name: string; size: number }) => [z.name, z.size]).sort(),
    );
    await endProgram(program);
  });
  test('setting and reading; more than is there; a thread that is parked', async (t) => {
    const machine = testMachine(t);
    const listener = await machine.listen();
    const client = new TestClient(listener.path);
    await client.hello();
    const period = await client.mib('vm.lowmem_period');
    const seven = new Uint8Array(Int32Array.of(7).buffer);
    assert.deepEqual(await client.request(period, 4, seven), {
      tag: 1,
      error: 0,
      oldlen: 4,
      bytes: new Uint8Array([10, 0, 0, 0]),
    });
    assert.equal(machine.sysctl('vm.lowmem_period'), 7);
    const no = await client.request(period, null, new Uint8Array(4).fill(0xff));
    assert.equal(no?.error, 22);
    const stats = await client.mib('vm.zone_stats');
    const largest = await client.request(stats, 2 ** 32 - 1);
    assert.deepEqual(largest?.bytes, (await client.request(stats, 2 ** 15))?.bytes);
    const error = (await client.request([1], 100))?.error;
    assert.equal(error, 22, 'one number is no name');
    assert.equal((await client.request([9999, 1], 100))?.error, 2);
    const parked = machine.park();
    const while_parked = await client.request(stats, 2 ** 15);
    parked[Symbol.dispose]();
    assert.equal(while_parked?.oldlen, largest?.oldlen);
    // All requests first, then no more to say: each is still answered, in order.
    for (let i = 0; i < 10; i++) client.send(period, 4);
    client.socket.end();
    await once(client.socket, 'close');
    assert.equal(client.bodies.length, 10);
  });
  test('why a value is refused: to a client, to the tool, to the program', async (t) => {
    const machine = testMachine(t, { memory: '32M' });
    const listener = await machine.listen();
    const client = new TestClient(listener.path);
    await client.hello();
    const limits = ['nmbclusters', 'nmbjumbop', 'nmbjumbo9', 'nmbjumbo16'].map((name) =>
      Number(machine.sysctl(`kern.ipc.${name}`)),
    );
    const nmbufs = Number(machine.sysctl('kern.ipc.nmbufs'));
    const least = limits.reduce((a, b) => a + b, 0) + 50_000 - limits[0];
    const why =
      `kern.ipc.nmbufs must grow first, from ${nmbufs} to ${least}: ` +
      'each cluster needs an mbuf';
    const mib = await client.mib('kern.ipc.nmbclusters');
    const value = new Uint8Array(Int32Array.of(50_000).buffer);
    const refusal = await client.request(mib, 200, value);
    assert.deepEqual([refusal?.error, new TextDecoder().decode(refusal?.bytes)], [22, why]);
    assert.deepEqual((await client.request(mib, null, value))?.bytes.length, 0);
    assert.throws(
      () => machine.sysctl('kern.ipc.nmbclusters', 50_000),
      (e: KmemError) => e.code === 'EINVAL' && e.message.endsWith(`nmbclusters: ${why}`),
    );
    const main = fileURLToPath(new URL('../../bin/kmem.js', import.meta.url));
    const args = ['sysctl', '--socket', listener.path, 'kern.ipc.nmbclusters=50000'];
    const tool = spawn(process.execPath, [main, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    const said = (await within(tool.stderr.toArray(), 'the tool')).join('');
    assert.ok(said.endsWith(`kern.ipc.nmbclusters: Invalid argument: ${why}\n`), said);
    // It is as it says: one less does not do.
    machine.sysctl('kern.ipc.nmbufs', least - 1);
    assert.throws(() => machine.sysctl('kern.ipc.nmbclusters', 50_000), /must grow first/);
    machine.sysctl('kern.ipc.nmbufs', least);
    assert.equal((await client.request(mib, 200, value))?.error, 0);
    assert.throws(
      () => machine.sysctl('kern.ipc.nmbclusters', 49_999),
      /is 50000 and may only grow/,
    );
    client.socket.destroy();
  });
  test('what the kernel prints for a client goes to the client', async (t) => {
    const machine = testMachine(t);
    const listener = await machine.listen();
    const client = new TestClient(listener.path);
    await client.hello();
    const shout = console.error;
    const printed: unknown[] = [];
    console.error = (line) => printed.push(line);
    t.after(() => {
      console.error = shout;
    });
    const tree = await client.request([0, 0], 2 ** 20);
    assert.equal(tree?.error, 0);
    const text = new TextDecoder().decode(tree?.bytes);
    assert.match(text, /^0 sysctl Node\n {2}0 debug Node handler\n/);
    assert.match(text, /\d+ zone_stats /);
    assert.ok(text.endsWith('\n\0'));
    assert.equal((await client.request([0, 0], null))?.oldlen, tree?.oldlen);
    const cut = await client.request([0, 0], 100);
    assert.deepEqual([cut?.error, cut?.oldlen], [12, 100], 'ENOMEM, and the beginning');
    assert.deepEqual(cut?.bytes, tree?.bytes.subarray(0, 100));
    assert.deepEqual(printed, []);
    client.socket.destroy();
  });
  test('two machines in one process, and two sockets of one machine', async () => {
    const program = await startProgram();
    const paths = [
      program.path,
      await program.ask('thread'),
      await program.ask(`second ${join(runtime, 'second.sock')}`),
    ];
    const clients = paths.map((path) => new TestClient(path));
    const [one, other, same] = await Promise.all(clients.map((c) => c.hello()));
    assert.deepEqual([one?.pid, other?.pid], [program.pid, program.pid]);
    assert.deepEqual([one?.thread, same?.thread], [0, 0]);
    assert.notEqual(other?.thread, 0);
    assert.equal(one?.machine, same?.machine);
    assert.notEqual(one?.machine, other?.machine);
    assert.deepEqual([one?.memory, other?.memory], [32 << 20, 8 << 20]);
    await endProgram(program);
    for (const c of clients) await c.end();
    assert.deepEqual([existsSync(paths[0]), existsSync(paths[2])], [false, false]);
  });
  test('a program that was killed leaves a socket that the next listener removes', async (t) => {
    const program = await startProgram();
    program.child.kill('SIGKILL');
    await once(program.child, 'exit');
    assert.ok(existsSync(program.path), 'stale');
    const machine = testMachine(t);
    const over = await machine.listen({ path: program.path });
    const client = new TestClient(over.path);
    assert.equal((await client.hello())?.pid, process.pid, 'its path can be taken');
    client.socket.destroy();
    await over.close();

    const second = await startProgram();
    second.child.kill('SIGKILL');
    await once(second.child, 'exit');
    const own = await machine.listen();
    assert.deepEqual(readdirSync(folder), [own.path.slice(folder.length + 1)]);
  });
});

/**
 * Runs a program on a terminal of its own and sends it a signal.  Says whether lines are
 * edited and echoed: before, when the program has spoken, at its end; and whether it was the
 * signal that ended it.
 */
const TERMINAL = `
import os, signal, subprocess, sys, termios
number = getattr(signal, sys.argv[1])
ours, theirs = os.openpty()
both = termios.ECHO | termios.ICANON
edited = lambda: termios.tcgetattr(theirs)[3] & both == both
before = edited()
command = [sys.argv[2], '--input-type=module', '-e', sys.argv[3]]
child = subprocess.Popen(command, stdin=theirs, stdout=subprocess.PIPE)
child.stdout.readline()
raw = edited()
child.send_signal(number)
child.wait()
print(before, raw, edited(), child.returncode == -number)
`;

describe('a signal', () => {
  /** Runs a program that listens and then does as `more` says; sends it the signal. */
  async function killed(signal: NodeJS.Signals, more = ''): Promise<unknown[]> {
    const program = `
      import { boot } from ${JSON.stringify(new URL('./index.ts', import.meta.url).href)};
      const machine = boot({ memory: '8M', cpus: 1 });
      const { path } = await machine.listen();
      setInterval(() => {}, 1000);
      ${more}
      console.log(path);`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const said: string[] = [];
    const lines = createInterface(child.stdout);
    lines.on('line', (line) => said.push(line));
    await once(lines, 'line');
    const [path] = said;
    assert.ok(existsSync(path));
    child.kill(signal);
    const exit = await within(once(child, 'exit'), `the end by ${signal}`);
    return [...exit, existsSync(path), ...said.slice(1)];
  }
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
    test(`${signal} kills the program as ever, and its socket goes`, async () => {
      assert.deepEqual(await killed(signal), [null, signal, false]);
    });
  }
  test('the terminal that a program reads raw is given back before it dies', () => {
    const program = `
      import { boot } from ${JSON.stringify(new URL('./index.ts', import.meta.url).href)};
      const machine = boot({ memory: '8M', cpus: 1 });
      await machine.listen();
      process.stdin.setRawMode(true);
      process.stdin.resume();
      console.log('raw');`;
    for (const signal of ['SIGTERM', 'SIGINT']) {
      const args = ['-c', TERMINAL, signal, process.execPath, program];
      const run = spawnSync('python3', args, { encoding: 'utf8' });
      assert.equal(run.stderr, '');
      assert.equal(run.stdout, 'True False True True\n', signal);
    }
  });
  test("the program's own handler decides, and the socket stays as long as it runs", async () => {
    const own = `
      const { existsSync } = await import('node:fs');
      process.on('SIGTERM', async () => {
        await new Promise((resolve) => setTimeout(resolve, 20));
        console.log(existsSync(path), process.listenerCount('SIGTERM'));
        process.exit(7);
      });`;
    assert.deepEqual(await killed('SIGTERM', own), [7, null, false, 'true 1']);
    const again = `
      process.once('SIGINT', async () => {
        await new Promise((resolve) => setTimeout(resolve, 20));
        console.log('cleaned up');
        process.kill(process.pid, 'SIGINT');
      });`;
    assert.deepEqual(await killed('SIGINT', again), [null, 'SIGINT', false, 'cleaned up']);
  });
  test('a library that counts handlers finds its own only', async () => {
    const counts = `
      const hear = () => {
        if (process.listeners('SIGTERM').length !== 1) return console.log('somebody else hears');
        process.off('SIGTERM', hear);
        process.kill(process.pid, 'SIGTERM');
      };
      process.on('SIGTERM', hear);`;
    assert.deepEqual(await killed('SIGTERM', counts), [null, 'SIGTERM', false]);
  });
  test('no handler of ours is left when the socket is closed, or not wanted', async (t) => {
    const count = (): number[] =>
      ['SIGINT', 'SIGTERM', 'SIGHUP', 'newListener', 'removeListener'].map((name) =>
        process.listenerCount(name),
      );
    const before = count();
    const machine = testMachine(t);
    const off = await machine.listen({ signals: false });
    assert.deepEqual(count(), before);
    const listeners = [];
    // More of them than the host lets somebody have handlers without a warning.
    const exits = process.listenerCount('exit');
    for (let i = 0; i < 12; i++) {
      listeners.push(await machine.listen({ path: join(runtime, `s${i}`) }));
    }
    assert.ok(process.listenerCount('exit') <= exits + 1);
    if (isMainThread) assert.notDeepEqual(count(), before);
    for (const listener of [off, ...listeners]) await listener.close();
    assert.deepEqual(count(), before);
    const e = await machine.listen({ signals: 'yes' as never }).catch((x) => x);
    assert.equal(e.code, 'EINVAL');
  });
});

describe('clients that misbehave', () => {
  /** A client that behaves is answered: nobody else was disturbed. */
  async function wellServed(listener: Listener): Promise<void> {
    const client = new TestClient(listener.path);
    await client.hello();
    const reply = await client.request(await client.mib('vm.zone_count'), 4);
    assert.deepEqual([reply?.error, reply?.oldlen], [0, 4]);
    client.socket.destroy();
  }
  function words(...values: number[]): Uint8Array {
    return new Uint8Array(Uint32Array.from(values).buffer);
  }
  const WRONG: Record<string, Uint8Array> = {
    'a frame over 1 MiB': words(2 ** 20 + 1),
    'a frame of 4 GiB': words(2 ** 32 - 1),
    'an empty frame': words(0),
    'a request without its fields': words(12, 1, 1, 4),
    'a name of 25 numbers': words(16 + 100, 1, 1, 4, 25, ...Array<number>(25).fill(1)),
    'a name of 4 billion numbers': words(16, 1, 1, 4, 2 ** 32 - 1),
    'a name that is cut short': words(20, 1, 1, 4, 2, 1),
    'a new value without its flag': words(28, 1, 1, 4, 2, 1, 1, 5),
    'an unknown flag': words(24, 1, 9, 4, 2, 1, 1),
    'another protocol': new TextEncoder().encode('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'),
  };
  for (const [what, bytes] of Object.entries(WRONG)) {
    test(`${what} ends the connection`, async (t) => {
      const machine = testMachine(t);
      const listener = await machine.listen();
      const client = new TestClient(listener.path);
      await client.hello();
      client.socket.write(bytes);
      await client.end();
      await wellServed(listener);
    });
  }
  test(`garbage, and requests in pieces, seed ${SEED}`, async (t) => {
    const next = dice(SEED);
    const machine = testMachine(t);
    const listener = await machine.listen();
    for (let round = 0; round < 60; round++) {
      const client = new TestClient(listener.path);
      await client.hello();
      const mib = await client.mib('vm.stats.vm.v_free_count');
      const frame = requestFrame({ tag: 5, mib, room: 4, value: null });
      for (let at = 0, n = 0; at < frame.length; at += n) {
        n = 1 + next(8);
        client.socket.write(frame.subarray(at, at + n));
        if (next(3) === 0) await new Promise((resolve) => setTimeout(resolve, 1));
      }
      assert.equal((await client.frame())?.length, 16);
      const garbage = Uint8Array.from({ length: 1 + next(3000) }, () => next(256));
      garbage[0] = 24;
      garbage.fill(0, 1, 4);
      // Some of it may be a request, and be answered; the socket must outlive it all.
      client.socket.end(garbage);
      await client.end();
    }
    await wellServed(listener);
    assert.ok(machine.up);
  });
  test('who stalls is cut off; who is only silent is not', async (t) => {
    const machine = testMachine(t);
    const listener = await machine.listen({ timeout: 50 });
    const silent = new TestClient(listener.path);
    await silent.hello();
    const half = new TestClient(listener.path);
    await half.hello();
    half.socket.write(words(24, 1, 1));
    const gone = new TestClient(listener.path);
    await gone.hello();
    gone.send([0, 3], 96);
    gone.socket.destroy();
    await half.end();
    await wellServed(listener);
    const reply = await silent.request(await silent.mib('vm.zone_count'), 4);
    assert.equal(reply?.error, 0);
    silent.socket.destroy();
  });
  test('who sends a byte now and then is cut off; who sends whole requests is not', async (t) => {
    const machine = testMachine(t);
    const timeout = 500;
    const listener = await machine.listen({ timeout });
    const busy = new TestClient(listener.path);
    await busy.hello();
    const mib = await busy.mib('vm.zone_count');
    const slow = new TestClient(listener.path);
    await slow.hello();
    // Each byte is a sign of life, and a request of 1 MiB would take hours.
    slow.socket.write(words(2 ** 20));
    const frame = requestFrame({ tag: 1, mib, room: 4, value: null });
    const half = frame.length >> 1;
    busy.socket.write(frame.subarray(0, half)); // half of the next request is always there
    let pause = 0;
    while (!slow.closed) {
      const from = performance.now();
      slow.socket.write(Uint8Array.of(1));
      busy.socket.write(frame.subarray(half));
      busy.socket.write(frame.subarray(0, half));
      await new Promise((resolve) => setTimeout(resolve, 20));
      pause = Math.max(pause, performance.now() - from);
    }
    // This process stood still for so long that half a request was due.
    if (pause < timeout / 2) assert.equal(busy.closed, false);
    await wellServed(listener);
    busy.socket.destroy();
  });
  test('idle clients make room, those that were idle for longest first', async (t) => {
    const machine = testMachine(t);
    const listener = await machine.listen();
    const idle: TestClient[] = [];
    for (let i = 0; i < 256; i++) {
      idle.push(new TestClient(listener.path));
      await idle[i].hello();
    }
    const mib = await idle[0].mib('vm.zone_count'); // the first is the last that was served
    for (let i = 0; i < 20; i++) await wellServed(listener);
    await idle[1].end();
    const shut = idle.map(({ closed }, i) => (closed ? i : -1)).filter((i) => i >= 0);
    assert.deepEqual(
      shut,
      shut.map((_, i) => 1 + i),
    );
    const more = Array.from({ length: 10 }, () => new TestClient(listener.path));
    for (const client of more) assert.equal((await client.hello())?.pid, process.pid);
    for (const client of idle.slice(2, 11)) await client.end();
    assert.equal((await idle[0].request(mib, 4))?.error, 0);
    assert.equal((await idle[255].request(mib, 4))?.error, 0);
    // None is idle: who leaves a request unfinished makes room too.
    for (const client of [...idle, ...more]) if (!client.closed) client.socket.write(words(24));
    await new Promise((resolve) => setTimeout(resolve, 20));
    await wellServed(listener);
    for (const client of [...idle, ...more]) client.socket.destroy();
  });
  test('who never reads: what is held for it is bounded, then it is cut off', async (t) => {
    const machine = testMachine(t);
    const listener = await machine.listen({ timeout: 300 });
    const client = new TestClient(listener.path);
    await client.hello();
    const mib = await client.mib('vm.zone_stats');
    const size = (await client.request(mib, null))?.oldlen ?? 0;
    const requests = 20_000;
    assert.ok(size * requests > 2 ** 27, `${size} bytes each`);
    client.socket.pause();
    let most = 0;
    const before = process.memoryUsage().arrayBuffers;
    const frame = requestFrame({ tag: 1, mib, room: 2 ** 15, value: null });
    for (let i = 0; i < requests; i++) client.socket.write(frame);
    // The end is seen by who writes: a paused socket does not look.
    for (let look = 1; !client.closed; look++) {
      if (look % 100 === 0) client.socket.write(frame);
      most = Math.max(most, process.memoryUsage().arrayBuffers - before);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    assert.ok(most < 2 ** 26, `${most} bytes were held`);
    await wellServed(listener);
  });
  test('100 clients at once, 20 requests each, all answered', async (t) => {
    const machine = testMachine(t);
    const listener = await machine.listen();
    const clients = Array.from({ length: 100 }, () => new TestClient(listener.path));
    const mib = await clients[0].hello().then(() => clients[0].mib('vm.zone_stats'));
    let answered = 0;
    await Promise.all(
      clients.map(async (client, i) => {
        if (i > 0) await client.hello();
        for (let k = 0; k < 20; k++) client.send(mib, 2 ** 15);
        for (let k = 0; k < 20; k++) if ((await client.frame()) !== null) answered++;
        client.socket.destroy();
      }),
    );
    assert.equal(answered, 2000);
  });
  test('a flood leaves the event loop to the program', async (t) => {
    const machine = testMachine(t);
    const listener = await machine.listen();
    const client = new TestClient(listener.path);
    await client.hello();
    const mib = await client.mib('vm.zone_stats');
    for (let i = 0; i < 3000; i++) client.send(mib, 2 ** 15);
    let turns = 0;
    for (let answered = 0; answered < 3000; turns++) {
      await new Promise((resolve) => setImmediate(resolve));
      answered += client.bodies.splice(0).length;
    }
    assert.ok(turns > 10, `${turns} turns of the event loop`);
  });
});
