/*
 * Shown: the debugger reads its lines as BSD's does; every command shows of a machine
 * with two more threads what it shows of its dump, character by character; the layouts are
 * those of the manual; and of a memory in which bytes were changed at random each command
 * still ends, and says in a line what is wrong.
 * By what means: two workers that allocate, one asleep on a condition with a mutex in its hand,
 * the other waiting for that mutex; a dump of it all, read by a thread that is no CPU.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { boot, type Machine } from '../../../lib/index.ts';
import { SEED } from '../../machine/seed.test.lib.ts';
import { until, within } from '../../machine/workers.test.lib.ts';
import { kconsole } from '../../machine/kconsole.ts';
import { ddb_run } from './ddb.ts';
import { DdbTable, db_cmds, DB_COMMAND, db_show_cmds } from './ddb_command.ts';
import { type Ddb, ddb_session } from './ddb_session.ts';

const file = new URL('./ddb.test.worker.ts', import.meta.url);
const folder = mkdtempSync(join(tmpdir(), 'kmem-ddb-'));
after(() => rmSync(folder, { recursive: true, force: true }));

/** The time of all sessions here, ms since the epoch: ages are the same in each. */
const LATER = Math.ceil(Date.now() / 1000) * 1000 + 3_600_000;
/** A session whose text is kept. */
function session(): { db: Ddb; run: (line: string) => string } {
  let text = '';
  const db = ddb_session({ print: (more) => void (text += more) });
  db.now = () => LATER;
  const run = (line: string): string => {
    text = '';
    ddb_run(db, line);
    return text;
  };
  return { db, run };
}
/** What a worker of this file says first. */
function asked(workerData: object): Promise<string[]> {
  const worker = new Worker(file, { workerData });
  return within(
    new Promise<string[]>((resolve, reject) =>
      worker.once('message', resolve).once('error', reject),
    ),
    'the worker answers',
  );
}

describe('lines', () => {
  const machine = boot({ memory: '2M' });
  after(() => machine.shutdown());

  test('numbers, radix and expressions', () => {
    const { run } = session();
    const cases: [string, string][] = [
      ['print 10', '10\n'],
      ['print/d 10', '16\n'],
      ['print/d 0t10 + 0x10 * 0o10', '138\n'],
      ['print/d (1 + 2) * 3', '9\n'],
      ['print/d 7 / 2', '3\n'],
      ['print/d -1 & 0xff', '255\n'],
      ['print -1', 'ffffffffffffffff\n'],
      ['print/c 0t65', 'A\n'],
      ['print/z -5', '-5\n'],
      ['print/o 8', '10\n'],
      ['print/d 1 << 4 | 1', '17\n'],
      ['print/d 0t13 # 8', '16\n'],
      ['x -1', 'No memory at 0x10000000000000000\n'],
      ['print/d 5 / 0', "Divide by 0 in '/'\n"],
      ['print/d 12g', 'Bad number: 12g, in radix 0t16\n'],
      ['print/d 0o8', 'Bad number: 0o8, in radix 0t8\n'],
      ['print/d (1', 'Unmatched ()s\n'],
      ['print/d 1 +', "Expression syntax error after '+'\n"],
      ['print/d nobody', 'Symbol not found: nobody\n'],
      ['print/d $nobody', 'Unknown variable: $nobody\n'],
      ['print/y 1', "Bad format 'y': one of x u d o z r c a\n"],
      ['print/d 1 2', "'2' is not expected here\n"],
      ['print/d 1 @', 'Bad character: "@"\n'],
      [`print/d ${'('.repeat(500)}1`, 'Expression too deep\n'],
      ['set $radix = 0t10', ''],
      ['print/d 10', '10\n'],
      ['set $radix = 0t17', '$radix: 0t2 to 0t16, not 0t17\n'],
      ['set $work3 = 5', ''],
      ['print/d $work3 + 1', '6\n'],
    ];
    for (const [line, text] of cases) assert.equal(run(line), text, line);
  });
  test('dot, next, the line before, the last address', () => {
    const { db, run } = session();
    assert.match(run('x/lx 100,2'), /^0x100:\t6b6d656d +[0-9a-f]+ +\n$/);
    assert.deepEqual([db.state.dot, db.state.next, db.state.last], [0x100, 0x108, 0x100]);
    assert.match(run(''), /^0x108:\t/, 'a blank line goes on');
    assert.match(run(''), /^0x10c:\t/);
    assert.equal(run("print '"), '100\n');
    assert.match(run('x +'), /^0x[0-9a-f]+:\t/);
    assert.match(run('x/bx 101'), /^0x101:\t65 +\n$/, 'any alignment');
    assert.match(run('x/m 100'), /^0x100:\t 6d 65 6d 6b.*\|memk.*\|\n$/);
    assert.match(run('x/s 100'), /^0x100:\tmemk/);
    assert.equal(run('x 0xffffffff'), 'No memory at 0xffffffff: there is 0x200000 of it\n');
    assert.equal(run('x/q 100'), "Bad format 'q': sizes are b h l g, formats xudozrcsmawf\n");
    assert.equal(run('search 100 0x6b6d656d').split(':')[0], '0x100');
    assert.match(run(''), /Not found|0x[0-9a-f]+:/, 'and goes on');
  });
  test('names: a whole one, a beginning, none', () => {
    const { run } = session();
    assert.equal(run('nobody'), 'No such command: nobody; help and show list them\n');
    assert.equal(run('s'), 'Ambiguous: script, scripts, search, set, show, stop\n');
    assert.equal(run('show page/'), 'Bad modifier\n');
    assert.match(run('sho page'), /^cnt\.v_free_count: \d+\n/);
    assert.match(run('show pa'), /^Ambiguous: page, pageq\n/);
    assert.equal(run('!f(1)'), 'Functions cannot be called here\n');
    assert.equal(run('5'), 'A command begins with its name: see help\n');
    const listed = run('show');
    assert.equal(listed, run('help show').split('\n').slice(1).join('\n'));
    for (const line of listed.split('\n')) assert.ok(line.length <= 80, line);
    assert.equal(listed.indexOf('allchains'), 12, 'columns of 12');
    for (const c of db_show_cmds.all) assert.ok(listed.includes(c.name), c.name);
  });
  test('tables are sorted, and refuse a second command of a name', () => {
    const names = db_cmds.all.map((c) => c.name);
    assert.deepEqual(names, [...names].sort());
    assert.throws(() => DB_COMMAND('show', 'again', () => {}), /the command show is there/);
    assert.throws(() => DB_COMMAND('later', '', () => {}), /no description/);
    assert.deepEqual(new DdbTable().all, []);
  });
  test('scripts, and their limits', () => {
    const { db, run } = session();
    assert.equal(run('script a=print 1; print 2'), '');
    assert.equal(run('run a'), 'db:0:a>  print 1\n1\ndb:0:a>  print 2\n2\n');
    assert.equal(run('scripts'), 'a=print 1; print 2\n');
    assert.equal(run('script b'), 'There is no script b\n');
    run('script loop=run loop');
    assert.match(run('run loop'), /Scripts are 3 inside one another\n$/);
    assert.equal(db.depth, 0);
    assert.equal(run(`script long=${'x'.repeat(129)}`), 'A script has at most 128 characters\n');
    for (let i = 0; i < 6; i++) run(`script s${i}=print ${i}`);
    assert.equal(run('script more=print'), 'There are 8 scripts already\n');
    assert.equal(run('unscript a'), '');
    assert.equal(run('run a'), 'There is no script a\n');
  });
  test('a pager, and a command that is cut', () => {
    let text = '';
    let asks = 0;
    const db = ddb_session({
      print: (more) => void (text += more),
      more: () => (++asks === 1 ? 'page' : asks === 2 ? 'line' : 'quit'),
    });
    db.state.vars.lines = 5;
    ddb_run(db, 'show uma');
    assert.equal(text.split('\n').length - 1, 4 + 4 + 1);
    text = '';
    db.state.vars.lines = 0;
    db.room = 100;
    ddb_run(db, 'show uma');
    assert.match(text, /\n--- the command has printed all that it may: the rest is left out\n$/);
    text = '';
    db.until = 0;
    ddb_run(db, 'search 100 0xfeedbeef');
    assert.match(text, /the command has had its time/);
  });
  test('the message buffer has what was printed, oldest first', () => {
    const { print } = kconsole;
    kconsole.print = () => {};
    for (let i = 0; i < 300; i++) kconsole.print(`line ${i} of a test`);
    kconsole.print = print;
    const { run } = session();
    const lines = run('show msgbuf').split('\n').slice(1, -1);
    assert.equal(lines.at(-1), 'line 299 of a test');
    assert.ok(lines.length > 100 && lines.length < 300);
    for (const [i, line] of lines.entries()) {
      assert.equal(line, `line ${300 - lines.length + i} of a test`);
    }
  });
});

/** Every command with what it needs of the machine below. */
function commands(at: Record<string, number>): string[] {
  const hex = (name: string): string => `0x${at[name].toString(16)}`;
  return [
    'help',
    'show',
    'show all',
    'show malloc',
    'show malloc/i',
    'show uma',
    'show zone conn',
    'show keg conn',
    'show keg "1024"',
    `show slab ${hex('block')}`,
    'show multizone_matches "work 1"',
    'show page',
    'show pageq',
    'show freepages',
    `show pginfo/p ${hex('block')}`,
    'show pginfo 1',
    'show map',
    'show object',
    'show vmochk',
    'show pcpu 1',
    'show pcpu 2',
    'show alllocks',
    'show all locks',
    'show witness',
    'show lockchain 2',
    'show sleepchain 1',
    'show allchains',
    'show sleepq',
    `show mbuf ${hex('chain')}`,
    `show chain ${hex('chain')}`,
    'show msgbuf',
    'show struct uma_zone conn',
    'show struct uma_keg',
    'show struct vm_page 0t300',
    'show structs',
    `whatis ${hex('block')}`,
    'whatis conn',
    'whatis 0',
    'findleaks',
    'x/lx conn,8',
    '',
    'x/m conn,4',
    'search/l 100 0x6b6d656d',
    'vars',
    'scripts',
  ];
}

/** What is behind the first line. */
const body = (text: string): string => text.slice(text.indexOf('\n') + 1);
describe('a machine with two workers, and its dump', () => {
  let machine: Machine;
  let path: string;
  let lines: string[];
  const workers: Worker[] = [];
  before(async () => {
    machine = boot({ memory: '16M', cpus: 3, options: { WITNESS: true } });
    for (const id of [0, 1]) {
      workers.push(machine.worker<Worker>(file, { workerData: { job: 'work', id } }));
      await until(() => machine.roots.get(`up ${id}`) === 1, 'it is up');
    }
    const { run } = session();
    await until(() => / blocked on lock /.test(run('show lockchain 2')), 'the second one waits');
    await until(() => / sleeping on /.test(run('show sleepchain 1')), 'the first one sleeps');
    const space = machine.space('space');
    const region = space.mmap({ length: 65536 });
    region.fill(0, 10_000, 7);
    machine.sysctl('vm.stack.interval', 1);
    machine.sysctl('vm.stack.enable', 1);
    const at = {
      block: machine.type('mine').alloc(100),
      chain: machine.chain(new Uint8Array(5000)).release() * 4,
    };
    lines = commands(at);
    path = join(folder, 'core');
    assert.equal(machine.dump(path).quiet, true);
  });
  after(async () => {
    machine.roots.set('over', 1);
    const gate = machine.mutex('gate');
    gate.run(() => machine.condition('over').broadcast());
    await until(() => machine.memory().cpus === 1, 'the workers leave');
    machine.shutdown();
  });

  test('every command shows the same of both', async () => {
    const { run } = session();
    const live = lines.map(run);
    const dumped = await asked({ job: 'read', path, commands: lines, later: LATER });
    for (const [i, line] of lines.entries()) {
      // The one that sleeps looks now and then whether it is over: it has a lock then, and WITNESS
      // says once more how it sleeps.
      let now = live[i];
      for (let tries = 0; now !== dumped[i] && line.startsWith('show ') && tries < 500; tries++) {
        await sleep(5);
        now = session().run(line);
        if (line === 'show msgbuf' && body(now).startsWith(body(dumped[i]))) now = dumped[i];
      }
      assert.equal(dumped[i], now, line);
    }
    for (const [i, text] of live.entries()) {
      const said = lines[i] === 'show vmochk' || lines[i] === 'scripts';
      assert.ok(text.length > 0 || said, `${lines[i]} prints nothing`);
      assert.doesNotMatch(text, /memory is wrong|undefined|NaN|object Object/, lines[i]);
    }
  });
  test('layouts', () => {
    const { run } = session();
    const hex = '0x[0-9a-f]+';
    const layouts: [string, RegExp][] = [
      ['show malloc', /^ {14}Type {8}InUse {8}MemUse {5}Requests\n(.{18} .{12} .{12}K .{12}\n)+$/],
      ['show uma', /^ {14}Zone {5}Size {5}Used {5}Free {5}Requests {3}Sleeps\n( *.+\n)+$/],
      ['show pageq', /^PQ_FREE: \d+\nPQ_CACHE: \d+\nPQ_ACTIVE: \d+, PQ_INACTIVE: \d+\n$/],
      ['show freepages', /^FREE LIST 0:\n\n {2}ORDER \(SIZE\) {2}\| {2}NUMBER\n/],
      ['show freepages', /\n {2}10 \(004096K\) {2}\| {2}\d{6} {2}\| {2}\d{6}\n/],
      ['show pginfo 1', /^page 0x1 obj 0x0 pidx 0x0 phys 0x1000 q 0 hold 0 wire 0\n {2}af 0x/],
      ['show pginfo', /^show pginfo addr\n$/],
      ['show map', new RegExp(`^Task map ${hex}: pmap=${hex}, nentries=\\d+, version=\\d+\\n`)],
      ['show object', new RegExp(`^Object ${hex}: type=0, size=0x10, res=\\d+, ref=1, flags=`)],
      ['show object', /^ sref=0, backing_object\(0\)=\(0x0\)\+0x0\n/m],
      ['show zone conn', new RegExp(`^zone: conn\\(${hex}\\) size 96 flags 0x800000<PROGRAM>\\n`)],
      ['show zone conn', new RegExp(`\\nslab: keg ${hex}, data ${hex}, freecount \\d+, firstfree`)],
      [
        'show zone conn',
        new RegExp(`CPU 1 Cache:\\nalloc: ${hex}\\(\\d+\\), free: ${hex}\\(\\d+\\)`),
      ],
      [
        'show witness',
        /^Sleep locks:\n(.|\n)*\nSpin locks:\n(.|\n)*never acquired with another:\n/,
      ],
      ['show witness', /^ +UMA zone \(type: mtx, depth: \d, active refs: \d+\) -- /m],
      ['show alllocks', /^CPU 1 \(thread \d+, tid \d+\)\nexclusive mtx mutex 'm0' r = 0 \(0x/m],
      ['show lockchain 2', /blocked on lock 0x[0-9a-f]+ \(mtx\) "mutex 'm0'"\n CPU 1 \(/],
      ['show allchains', /sleeping on 0x[0-9a-f]+ "cv"/],
      ['show sleepq', /^Wait channel: 0x[0-9a-f]+ \(.*\)\n {2}CPU 1 \(.*\) "cv"\n/],
      ['show pcpu 1', /^cpuid {8}= 1\ndynamic pcpu = 0x[0-9a-f]+\ncurthread {4}= thread \d+/],
      ['trace', /^Tracing CPU 0 .*: runs\n(.*\n)*Tracing CPU 2 .*: blocked on lock 0x/],
      ['show multizone_matches', /^Usage: show multizone_matches <malloc type addr>\n$/],
    ];
    for (const [line, layout] of layouts) assert.match(run(line), layout, line);
  });
  test('a lock that is held: its state, its owner', () => {
    const { run } = session();
    const at = /mutex 'm0' r = 0 \((0x[0-9a-f]+)\)/.exec(run('show alllocks'))?.[1];
    assert.match(
      run(`show lock ${at}`),
      /^ class: user mtx \(mtx\)\n name: mutex 'm0'\n flags: \{DUPOK\}\n state: OWNED<WAITERS/,
    );
    assert.match(run(`show lock ${at}`), /\n owner: CPU 1 \(thread \d+, tid \d+\)\n$/);
  });
  test('show malloc and show uma have the figures of vmstat', () => {
    const { run } = session();
    const rows = run('show malloc').split('\n').slice(1, -1);
    const of = (text: string) => text.split('\n').map((line) => line.trim().split(/ {2,}/));
    for (const t of machine.stats().types) {
      const row = rows.find((line) => line.slice(0, 18).trim() === t.name);
      assert.ok(row, t.name);
      const [inuse, kb, requests] = row.slice(18).trim().split(/\s+/);
      const said = [inuse, kb, requests];
      assert.deepEqual(said, [`${t.inUse}`, `${Math.ceil(t.bytes / 1024)}K`, `${t.requests}`]);
    }
    assert.ok(of(run('show uma')).some(([name]) => name === 'conn'));
  });
  test('whatis: in use, then in a bucket; by its address and from the middle', () => {
    const { run } = session();
    const zone = machine.zone('conn', { size: 96 });
    const item = zone.alloc();
    const at = `0x${(item + 8).toString(16)}`;
    assert.match(run(`whatis ${at}`), /8 bytes into an item of zone 'conn'\n/);
    assert.match(run(`whatis ${at}`), /\n {2}in use\n {2}before it .*\n {2}behind it .*\n/);
    zone.free(item);
    assert.match(run(`whatis ${at}`), /\n {2}free, in a bucket of CPU 0\n/);
    assert.equal(run('whatis 0xffffffff'), '0xffffffff: no memory of this machine\n');
  });
  test('findleaks and whatis name who asked, if that was noted', () => {
    const { run } = session();
    const all = run('findleaks -t 60');
    assert.match(all, /^ {7}Bytes {8}InUse {2}What Name\n( .*\n)+\n {7}Bytes {6}Objects {4}Noted/);
    assert.match(all, /^ +100 +1 +1 +\d+s type 'mine'\n {4}#0 .*ddb\.test\.[jt]s:\d+/m);
    assert.match(run('findleaks -t 9000'), /Nothing that was noted is 9000 s old\n$/);
    assert.equal(run('findleaks -x'), 'Usage: findleaks [-t SECONDS]\n');
    const at = /whatis (0x[0-9a-f]+)/.exec(lines.join('\n'))?.[1];
    assert.match(
      run(`whatis ${at}`),
      /\n {2}100 bytes, asked for \d+ s ago by\n {4}#0 .*ddb\.test/,
    );
  });
  test('addresses of nothing are refused in a line', () => {
    const { run } = session();
    for (const line of ['show zone 4000', 'show keg 4000', 'show map 4000', 'show object 4000']) {
      assert.match(run(line), /^0x4000: .*\n$/, line);
    }
    for (const line of ['show mbuf 4000', 'show chain 4000', 'show slab 4000', 'show lock 4000']) {
      assert.match(run(line), /^0x4000: .*\n$/, line);
    }
    assert.match(run('show pcpu 99'), /^There is no CPU \d+: there are 5 slots, from 0 on\n$/);
    assert.match(run('show zone nobody'), /^Symbol not found: nobody\n$/);
    assert.match(run('show struct nobody'), /^No structure is called nobody\n$/);
    assert.match(run('show struct vm_map_en'), /near it: vm_map_entry\n$/);
  });
  test('of a damaged memory every command ends, with a line at most', async () => {
    const seeds = Array.from({ length: 12 }, (_, i) => SEED + i);
    assert.deepEqual(await asked({ job: 'damage', path, commands: lines, seeds }), []);
  });
});
