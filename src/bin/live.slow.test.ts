/*
 * Shown: the commands find a program that runs in another process, and print what
 * its own machine says, while its two workers allocate and pass chains; a variable
 * set from outside is seen inside; and whatever is wrong (no program, several, one
 * that does not answer, ends, or was killed) is one clear line and an exit code.
 * By what means: the command of the package is run as a user runs it, on one of both Nodes,
 * which is drawn; on both by compiled.stress.ts (KMEM_COMPILED=all).
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { NODE_MAJORS, NODES } from '../../tests/package/pack.ts';
import { some_of } from '../sys/machine/seed.test.lib.ts';
import { endProgram, type Program, runtimeFolder, startProgram } from '../lib/listen.test.lib.ts';
import { COMMAND as KMEM } from './replay.test.lib.ts';

const runtime = runtimeFolder();
const folder = join(runtime, 'kmem');
process.env.TMPDIR = runtime; // no socket of anybody else is found
const MAX_MS = 240_000;

interface Ran {
  code: number | null;
  out: string;
  err: string;
}
/** Nothing that a test waits for may be too late only because the host is busy. */
function patient(args: readonly string[]): string[] {
  const given = args.includes('--timeout') || args.includes('help') || args.includes('--help');
  return given ? [...args] : [...args, '--timeout', '100'];
}
function kmem_on(node: string, args: readonly string[]): Ran {
  const ran = spawnSync(node, [KMEM, ...patient(args)], { encoding: 'utf8', timeout: MAX_MS });
  return { code: ran.status, out: ran.stdout, err: ran.stderr };
}
const kmem = (...args: string[]): Ran => kmem_on(process.execPath, args);
/** Runs a command that has to succeed, and says nothing else. */
function kmem_ok(...args: string[]): string {
  const { code, out, err } = kmem(...args);
  assert.deepEqual([code, err], [0, ''], args.join(' '));
  return out;
}
function refused(code: number, message: RegExp, ...args: string[]): string {
  const ran = kmem(...args);
  assert.equal(ran.code, code, ran.err);
  assert.match(ran.err.split('\n')[0], message);
  assert.equal(ran.out, '');
  return ran.err;
}

/** A program that listens, and whose workers stand still: the tools have the processors. */
async function startStill(): Promise<Program> {
  const program = await startProgram();
  await program.ask('pause');
  return program;
}

interface Figures {
  memory: { size: number; free: number };
  load: { inUse: number; bytes: number; requests: number; sizes: number[] };
  zones: { name: string; size: number; limit: number; used: number; requests: number }[];
}

const most = process.env.KMEM_COMPILED === 'all' ? NODE_MAJORS.length : 1;
for (const major of some_of(NODE_MAJORS, most)) {
  describe(`a running program, Node ${major}`, () => {
    let program: Program;
    const run = (...args: string[]): string => {
      const { code, out, err } = kmem_on(NODES[major], args);
      assert.deepEqual([code, err], [0, ''], args.join(' '));
      return out;
    };
    before(async () => {
      program = await startProgram(NODES[major]);
    });
    after(() => endProgram(program));

    test('is read while it works', () => {
      const tables = run('vmstat', '-mz', '-w', '0.01', '-c', '20');
      assert.equal(tables.match(/^ +load +\d+ +\d+K/gm)?.length, 20);
      assert.equal(tables.match(/^mbuf_cluster: +2048, /gm)?.length, 20);
      assert.match(run('netstat', '-m'), /^\d+\/\d+\/\d+ mbufs in use/);
      assert.match(run('sysctl', 'vm.zone_count'), /^vm\.zone_count: \d+$/m);
    });
    test('the figures are those of its own machine.stats()', async () => {
      await program.ask('pause');
      const { memory, load, zones }: Figures = await program.ask('figures');
      const said = JSON.parse(run('vmstat', '-msz', '--json'));
      const row = said['malloc-statistics'].memory.find((t: { type: string }) => t.type === 'load');
      assert.deepEqual(
        [row['in-use'], row['memory-use-bytes'], row.requests, row.size],
        [load.inUse, load.bytes, load.requests, load.sizes],
      );
      assert.ok(load.inUse > 0);
      const own = ['mbuf', 'mbuf_packet', 'mbuf_cluster'];
      const of = (rows: Figures['zones']) =>
        rows
          .filter((z) => own.includes(z.name))
          .map(({ name, size, limit, used, requests }) => [name, size, limit, used, requests]);
      assert.deepEqual(of(said['memory-zone-statistics'].zone), of(zones));
      const used = (name: string): number => zones.find((z) => z.name === name)?.used ?? 0;
      const net = JSON.parse(run('netstat', '-m', '--json'))['mbuf-statistics'];
      assert.equal(net.mbufs.current, used('mbuf') + used('mbuf_packet'));
      assert.ok(net.mbufs.current > 0);
      const free = Number(run('sysctl', '-n', 'vm.stats.vm.v_free_count'));
      assert.equal(said['summary-statistics']['free-pages'], free);
      assert.equal(free * 4096, memory.free);
      const page = run('systat', '-mbufs', '-c', '1');
      assert.match(
        page,
        new RegExp(`^Mbufs +X+ ?${net.mbufs.current > 60 ? net.mbufs.current : ''}$`, 'm'),
      );
      await program.ask('run');
    });
    test('what is mapped, and its objects', async () => {
      const { procstat, objects } = await program.ask('space');
      const [, first] = procstat.split('\n');
      assert.match(first, / rw- +2 +2 +1 +0 ----- df store\/index$/);
      const space = Number.parseInt(first, 10);
      for (const which of [[], ['store'], [`${space}`]]) {
        assert.equal(run('procstat', '-v', ...which), procstat);
      }
      assert.equal(run('procstat', '-avh'), procstat.split('\n').slice(1).join('\n'));
      assert.equal(run('vmstat', '-o'), objects);
      const { vm } = JSON.parse(run('procstat', '-v', '--json')).procstat;
      assert.deepEqual(Object.keys(vm), [`${space}`]);
      const [entry] = vm[space].vm;
      assert.deepEqual(
        [entry.kve_protection.write, entry.kve_resident, entry.kve_path],
        [true, 2, 'store/index'],
      );
      assert.equal(Number(entry.kve_end) - Number(entry.kve_start), 4 * 4096);
      const rows = JSON.parse(run('vmstat', '-o', '--json')).object;
      assert.ok(rows.some((o: { resident: number; type: string }) => o.resident === 2));
      const sums = JSON.parse(run('vmstat', '-s', '--json'))['summary-statistics'];
      assert.deepEqual([sums['total-faults'], sums['zero-fill-pages']], [2, 2]);
      const total = run('sysctl', 'vm.vmtotal');
      assert.match(total, /^Virtual Memory:\t\t\(Total: 16K Active: 16K\)$/m);
      assert.match(total, /^Real Memory:\t\t\(Total: 8K Active: 8K\)$/m);
      for (const [which, more] of [
        [`${space + 1}`, ''],
        ['stor', ', or nothing is mapped there'],
      ]) {
        const none = kmem_on(NODES[major], ['procstat', '-v', which]);
        assert.deepEqual([none.code, none.out], [1, '']);
        assert.equal(none.err, `kmem procstat: ${which}: no such address space${more}\n`);
      }
    });
    test('a variable that is set from outside is seen inside', async () => {
      const before = await program.ask('get vm.lowmem_period');
      assert.equal(
        run('sysctl', `vm.lowmem_period=${before + 3}`),
        `vm.lowmem_period: ${before} -> ${before + 3}\n`,
      );
      assert.equal(await program.ask('get vm.lowmem_period'), before + 3);
      assert.equal(run('sysctl', 'kern.hostname=named from outside').split(' -> ').length, 2);
      assert.equal(await program.ask('get kern.hostname'), 'named from outside');
    });
  });
}

describe('rounds, flags and pipes', () => {
  let program: Program;
  before(async () => {
    program = await startProgram();
  });
  after(() => endProgram(program));

  test('-w and -c repeat; -p and --socket choose; flags cluster', () => {
    const rows = kmem_ok('vmstat', '-mw0.05', '-c', '3');
    assert.equal(rows.match(/^ +Type InUse/gm)?.length, 3);
    const lines = kmem_ok('vmstat', '-c2', '-w', '.05', '--json', '-zp', `${program.pid}`);
    const documents = lines.trimEnd().split('\n');
    assert.equal(documents.length, 2);
    for (const line of documents) assert.ok(JSON.parse(line)['memory-zone-statistics']);
    const pages = kmem_ok('systat', '-mbufs', '0.05', '-c', '2', `--socket=${program.path}`);
    assert.equal(pages.match(/^ +\/0 +\/5/gm)?.length, 2);
    assert.equal(kmem_ok('systat', '-mbufs', '-c1', '--json').split('\n').length, 2);
    assert.match(kmem_ok('vmstat', '-s'), /^ +4096 bytes per page$/m);
  });
  test('on a terminal a line says which program is shown', (t) => {
    if (!existsSync('/usr/bin/script')) return t.skip('needs script (util-linux)');
    const command = `exec '${process.execPath}' '${KMEM}' vmstat -m -p ${program.pid}`;
    const env = { ...process.env, SHELL: '/bin/sh' }; // what `script` runs the command with
    const { stdout } = spawnSync('/usr/bin/script', ['-qefc', command, '/dev/null'], { env });
    const which = `pid ${program.pid}, 32M, booted at listen\\.test\\.program\\.ts:\\d+`;
    assert.match(stdout.toString(), new RegExp(`^${which}\r?\n +Type InUse`));
    assert.match(kmem_ok('vmstat', '-m'), /^ +Type InUse/, 'and nowhere else');
  });
  test('of one that stands still, too', async () => {
    await program.ask('pause');
    const [first, second] = kmem_ok('vmstat', '-mw0.05', '-c2').split(/^(?= +Type)/m);
    const load = /^ +load .*$/m;
    assert.match(first, load);
    assert.equal(load.exec(first)?.[0], load.exec(second)?.[0]);
  });
  test('sysctl has all its flags', () => {
    assert.equal(kmem_ok('sysctl', '-n', 'kern.ostype'), 'kmem\n');
    assert.equal(kmem_ok('sysctl', '-eN', 'kern.ostype'), 'kern.ostype\n');
    assert.equal(kmem_ok('sysctl', '-i', 'no.such.name'), '');
    const names = kmem_ok('sysctl', '-aN').trimEnd().split('\n');
    assert.ok(names.length > 40 && names.includes('kern.ostype'));
    assert.equal(JSON.parse(kmem_ok('sysctl', '-a', '--json'))['kern.ostype'], 'kmem');
    const raw = spawnSync(process.execPath, [KMEM, 'sysctl', '-b', 'vm.zone_stats']);
    assert.equal(raw.stdout.readUInt32LE(0), 1, 'the stream as it is');
    refused(1, /^kmem sysctl: unknown oid 'no\.such'$/, 'sysctl', 'no.such');
    refused(1, /^kmem sysctl: oid 'kern\.ostype' is read only$/, 'sysctl', 'kern.ostype=x');
  });
  for (const args of [
    ['vmstat', '-mw', '0.05'],
    ['sysctl', '-a'],
    ['systat', '-mbufs', '0.05'],
  ]) {
    test(`kmem ${args.join(' ')} | head -1 ends quietly`, async () => {
      const child = spawn(process.execPath, [KMEM, ...patient(args)], {
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      let err = '';
      child.stderr.on('data', (chunk) => {
        err += chunk;
      });
      const exit = once(child, 'exit');
      await once(child.stdout, 'data');
      child.stdout.destroy();
      assert.deepEqual([await exit, err], [[0, null], '']);
    });
  }
  test('wrong usage is one line and exit code 2; --help is on standard output', () => {
    refused(2, /^kmem vmstat: -Q: no such option; usage: vmstat \[-mosz\]/, 'vmstat', '-mQ');
    refused(2, /^kmem netstat: say what to show/, 'netstat');
    refused(2, /^kmem vmstat: -p x: give the number/, 'vmstat', '-m', '-p', 'x');
    assert.equal(kmem_ok('systat', '--help'), kmem_ok('help', 'systat'));
    const all = kmem_ok('help');
    for (const command of ['vmstat', 'netstat', 'procstat', 'systat', 'sysctl']) {
      assert.match(all, new RegExp(`^ {2}${command} `, 'm'));
    }
  });
});

describe('finding a program', () => {
  const none = /^kmem vmstat: no running machine is found: its program must call machine\.listen/;

  test('none; one; two; one process with two machines', async () => {
    refused(1, none, 'vmstat', '-m');
    refused(1, /no running machine of pid 1 is found/, 'vmstat', '-m', '-p', '1');
    refused(
      1,
      /absent: there is no such file$/,
      'vmstat',
      '-m',
      '--socket',
      join(runtime, 'absent'),
    );
    refused(1, /: is no socket$|: no program listens there$/, 'vmstat', '-m', '--socket', KMEM);
    const one = await startStill();
    kmem_ok('vmstat', '-m');
    const two = await startStill();
    const list = refused(2, /2 machines are running: choose one by -p PID, or/, 'vmstat', '-m');
    for (const { pid, path } of [one, two]) {
      const row = new RegExp(`^ +${pid} +32M +listen\\.test\\.program\\.ts:\\d+ +${path}$`, 'm');
      assert.match(list, row);
    }
    kmem_ok('vmstat', '-m', '-p', String(one.pid));
    for (const { pid, path } of [one, two]) {
      const { program } = JSON.parse(kmem_ok('vmstat', '-m', '--json', '--socket', path));
      assert.deepEqual([program.pid, program.memory], [pid, 32 << 20]);
      assert.match(program.booted_at, /^listen\.test\.program\.ts:\d+$/);
    }
    await endProgram(two);
    const thread = await one.ask('thread');
    await one.ask(`second ${join(runtime, 'again.sock')}`);
    const mine = ['-m', '-p', String(one.pid)];
    refused(
      2,
      /2 machines of pid \d+ are running: choose one by --socket PATH$/,
      'vmstat',
      ...mine,
    );
    assert.equal(kmem_ok('sysctl', '-n', 'hw.physmem', '--socket', thread), `${8 << 20}\n`);
    assert.equal(kmem_ok('sysctl', '-n', 'hw.physmem', '--socket', one.path), `${32 << 20}\n`);
    await endProgram(one);
  });
  test('one that was killed is removed, silently', async () => {
    const killed = await startStill();
    const alive = await startStill();
    killed.child.kill('SIGKILL');
    await once(killed.child, 'exit');
    assert.ok(existsSync(killed.path));
    kmem_ok('vmstat', '-m');
    assert.deepEqual(readdirSync(folder), [alive.path.slice(folder.length + 1)]);
    await endProgram(alive);
    refused(1, none, 'vmstat', '-m');
  });
  test('one that does not answer, and one that ends meanwhile', async () => {
    const program = await startStill();
    program.child.kill('SIGSTOP'); // as good as an event loop that computes, and of known length
    const limit = ['--timeout', '0.3'];
    const busy = new RegExp(`pid ${program.pid} does not answer \\(0\\.3 s\\): its event loop`);
    refused(1, busy, 'vmstat', '-m', ...limit);
    refused(1, /no answer \(0\.3 s\)/, 'vmstat', '-m', ...limit, '--socket', program.path);
    program.child.kill('SIGCONT');
    const tool = (...args: string[]) => {
      const child = spawn(process.execPath, [KMEM, 'vmstat', '-mw', '0.02', ...patient(args)]);
      let err = '';
      child.stderr.on('data', (chunk) => {
        err += chunk;
      });
      const ended = once(child, 'close').then(([code]) => ({ code, err }));
      const data = once(child.stdout, 'data').then(() => child.stdout.resume());
      return { begun: Promise.race([data, ended]), ended };
    };
    const waits = tool('--timeout', '1');
    await waits.begun;
    program.child.kill('SIGSTOP');
    const stopped = await waits.ended;
    assert.deepEqual([stopped.code, stopped.err.split('\n').length], [1, 2], stopped.err);
    assert.match(stopped.err, new RegExp(`pid ${program.pid} does not answer \\(1 s\\)`));
    program.child.kill('SIGCONT');
    const looks = tool();
    await looks.begun;
    await endProgram(program);
    const { code, err } = await looks.ended;
    assert.equal(code, 1);
    assert.match(
      err,
      new RegExp(`^kmem vmstat: pid ${program.pid}: it closed the connection: [^\n]*\n$`),
    );
  });
  test("a folder that is not the user's own is not looked into", async () => {
    const program = await startStill();
    chmodSync(folder, 0o755);
    refused(1, /no running machine .*mode 755\): chmod 700\)$/, 'vmstat', '-m');
    chmodSync(folder, 0o700);
    kmem_ok('vmstat', '-m');
    await endProgram(program);
  });
});
