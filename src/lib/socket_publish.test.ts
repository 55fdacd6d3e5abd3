/*
 * Shown: of several that want one path exactly one gets it, what is no stale socket stays, and
 * what programs left that were killed while they made a socket goes, and nothing else; how
 * long a path may be.  Sockets and processes are real.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import fs, {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { type KmemError, type Listener, type Machine, testMachine } from './index.ts';
import { endProgram, refused, runtimeFolder, startProgram, TestClient } from './listen.test.lib.ts';
import { socketHost } from './socket_folder.ts';
import { type Connects, hide, probe, publish } from './socket_publish.ts';

const runtime = runtimeFolder();
const folder = join(runtime, 'kmem');

describe('several that want one path', () => {
  async function tries(machine: Machine, path: string): Promise<Listener[]> {
    const all = await Promise.allSettled([1, 2, 3].map(() => machine.listen({ path })));
    const open = all.flatMap((r) => (r.status === 'fulfilled' ? [r.value] : []));
    for (const r of all) {
      if (r.status === 'rejected') assert.equal((r.reason as KmemError).code, 'EADDRINUSE');
    }
    return open;
  }
  test('exactly one succeeds: on a free path, on a stale one, in several processes', async (t) => {
    const machine = testMachine(t);
    const program = await startProgram();
    const others = [await startProgram(), await startProgram()];
    program.child.kill('SIGKILL');
    await once(program.child, 'exit');
    for (let round = 0; round < 10; round++) {
      const path = round % 2 === 0 ? join(runtime, `free-${round}.sock`) : program.path;
      // Stale: its inode stays when the listener is gone.
      const stale = createServer().listen(join(runtime, 'bound'));
      await once(stale, 'listening');
      rmSync(path, { force: true });
      if (round % 2 === 1) linkSync(join(runtime, 'bound'), path);
      await new Promise((resolve) => stale.close(resolve));
      const theirs = others.map((other) => other.ask(`try ${path}`));
      const mine = await tries(machine, path);
      const answers = await Promise.all(theirs);
      const won = [...mine.map(() => 'listens'), ...answers.filter((a) => a !== 'EADDRINUSE')];
      assert.deepEqual(won, ['listens'], `${round}: ${answers}`);
      const client = new TestClient(path);
      const { pid } = (await client.hello()) ?? {};
      assert.equal(pid, [process.pid, ...others.map((o) => o.pid)][1 + answers.indexOf('listens')]);
      client.socket.destroy();
      for (const listener of mine) await listener.close();
      for (const other of others) await other.ask('close');
      assert.ok(!existsSync(path));
    }
    for (const other of others) await endProgram(other);
    assert.deepEqual(
      readdirSync(runtime).filter((name) => name.startsWith('.')),
      [],
      'no trace of how it was made',
    );
  });
  test('what is no stale socket stays, on a file system without links too', async (t) => {
    const machine = testMachine(t);
    const { linkSync: link } = fs;
    const path = join(runtime, 'there');
    t.after(() => {
      fs.linkSync = link;
    });
    for (const links of [true, false]) {
      if (!links) {
        fs.linkSync = () => {
          throw Object.assign(new Error('no links here'), { code: 'EPERM' });
        };
      }
      writeFileSync(path, 'text');
      await refused('EADDRINUSE', machine, path);
      assert.equal(readFileSync(path, 'utf8'), 'text');
      rmSync(path);
      const [listener, ...more] = await tries(machine, path);
      assert.deepEqual(more, []);
      const client = new TestClient(path);
      assert.equal((await client.hello())?.pid, process.pid);
      await listener.close();
      assert.ok(!existsSync(path));
    }
  });
  test('a socket with the inode of the stale one is another', async (t) => {
    const path = join(runtime, 'reused.sock');
    const left = createServer().listen(join(runtime, 'bound'));
    await once(left, 'listening');
    linkSync(join(runtime, 'bound'), path);
    await new Promise((resolve) => left.close(resolve));
    utimesSync(path, 1, 1); // bound long ago
    const { ino } = lstatSync(path);
    const servers: Server[] = [];
    t.after(() => Promise.all(servers.map((s) => new Promise((resolve) => s.close(resolve)))));
    /** Another program takes the place of the stale socket; false: its inode is another. */
    const replace = (): boolean => {
      rmSync(path);
      for (let i = 0; i < 50; i++) {
        const at = join(runtime, `reused ${i}`);
        servers.push(createServer().listen(at)); // it is bound when listen returns
        if (lstatSync(at).ino !== ino) continue;
        fs.renameSync(at, path);
        return true;
      }
      return false;
    };
    let reused: boolean | null = null;
    // It is replaced when it was found stale, and before that is heard.
    const net: Connects = {
      connect(to) {
        const real = connect(to);
        return {
          on(event: 'connect' | 'error', hear: (e: Error) => void) {
            real.on(event, (e: Error) => {
              if (event === 'error') reused ??= replace();
              hear(e);
            });
          },
          destroy: () => void real.destroy(),
        };
      },
    };
    const host = socketHost();
    assert.ok(host !== null);
    const { hidden, own } = hide(host, runtime);
    servers.push(createServer().listen(own));
    const end = await publish(host, net, hidden, path).catch((e: KmemError) => e.code);
    if (reused === false) return t.skip('needs a file system that uses inodes again');
    assert.equal(end, 'EADDRINUSE');
    assert.equal(lstatSync(path).ino, ino);
    assert.equal(await probe({ connect }, path), 'live');
  });
  test('a claim that a killed program left is taken away', async (t) => {
    const machine = testMachine(t);
    const program = await startProgram();
    program.child.kill('SIGKILL');
    await once(program.child, 'exit');
    const name = program.path.slice(folder.length + 1);
    const claim = join(folder, `.${name}.claim`);
    mkdirSync(claim);
    utimesSync(claim, 1, 1);
    const listener = await machine.listen({ path: program.path });
    await listener.close();
    assert.deepEqual(readdirSync(folder), []);
  });
});

describe('what killed programs left', () => {
  /** A folder as listen() makes one, with sockets in it. Its age is `s`. */
  async function leave(name: string, sockets: string[], live: boolean, s = 60) {
    const path = join(runtime, name);
    mkdirSync(path, { mode: 0o700, recursive: true });
    const servers = sockets.map((socket) => createServer().listen(join(path, socket)));
    await Promise.all(servers.map((server) => once(server, 'listening')));
    if (!live) {
      // A server takes its socket along; a second name for it stays.
      for (const socket of sockets) linkSync(join(path, socket), join(path, `${socket}2`));
      for (const server of servers) await new Promise((resolve) => server.close(resolve));
      for (const socket of sockets) fs.renameSync(join(path, `${socket}2`), join(path, socket));
    }
    const then = Date.now() / 1000 - s;
    utimesSync(path, then, then);
    return { path, close: () => live && servers.map((server) => server.close()) };
  }
  test('goes when the next one listens there; what is in use, or another, stays', async (t) => {
    const machine = testMachine(t);
    mkdirSync(folder, { mode: 0o700, recursive: true });
    for (const where of ['kmem', 'elsewhere']) {
      const at = (name: string): string => join(where, name);
      const gone = [
        await leave(at('.kAbc123'), ['s'], false),
        await leave(at('.kAbc124'), ['s', 'old'], false),
      ];
      const kept = [
        await leave(at('.kAbc125'), ['s'], false, 0), // just being made
        await leave(at('.kAbc126'), ['s'], true),
        await leave(at('.kAbc127'), ['old'], true),
        await leave(at('.kAbc128'), ['s', 'of_others'], false),
        await leave(at('.kother'), [], false),
        await leave(at('.git'), [], false),
      ];
      const empty = [
        await leave(at('.kAbc129'), [], false),
        await leave(at('.a.claim'), [], false),
      ];
      (where === 'kmem' ? gone : kept).push(...empty);
      const listener = await machine.listen(
        where === 'kmem' ? {} : { path: join(runtime, where, 'x.sock') },
      );
      for (const { path } of gone) assert.ok(!existsSync(path), path);
      for (const { path } of kept) assert.ok(existsSync(path), path);
      await listener.close();
      for (const { close } of kept) close();
    }
  });
});

describe('the path', () => {
  test('may have 107 bytes, and its folder 96, as it says', async (t) => {
    const machine = testMachine(t);
    const [most, room] = process.platform === 'linux' ? [107, 96] : [103, 92];
    const deep = join(runtime, 'd'.repeat(room - runtime.length - 1));
    mkdirSync(deep);
    assert.equal(deep.length, room);
    const path = join(deep, 's'.repeat(most - room - 1));
    const listener = await machine.listen({ path });
    const client = new TestClient(path);
    assert.equal((await client.hello())?.pid, process.pid);
    client.socket.destroy();
    await listener.close();
    assert.deepEqual(readdirSync(deep), []);
    assert.match(
      await refused('ENAMETOOLONG', machine, `${path}s`),
      new RegExp(`${most + 1} bytes, a Unix socket takes ${most}: give`),
    );
    mkdirSync(`${deep}d`);
    assert.match(
      await refused('ENAMETOOLONG', machine, join(`${deep}d`, 's')),
      new RegExp(`${room + 1} bytes, its folder may have ${room}`),
    );
    assert.deepEqual(readdirSync(`${deep}d`), []);
  });
});
