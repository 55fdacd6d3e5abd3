/*
 * Shown: the words of each command's line that choose a program, its flags and its
 * rounds; what is wrong with them is one line that names them; --help of each has
 * examples; and the lines of vmstat -s.  Nothing is asked of a machine here.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type LiveCommand, live_help, split_choice } from './live.ts';
import { netstat_main } from './netstat.ts';
import { procstat_main } from './procstat.ts';
import { sysctl_main } from './sysctl.ts';
import { systat_main } from './systat.ts';
import { type ToolContext, tool_context, tool_flags, tool_rounds } from './tool.ts';
import { vmstat_main } from './vmstat.ts';
import { vmstat_sums, vmstat_sums_text } from '../sys/observe/vmstat_sums.ts';

describe('command lines', () => {
  test('what chooses the program is taken off the command line', () => {
    const split = (...argv: string[]) => split_choice(argv, 'vmstat');
    const cases: [string[], object, string[]][] = [
      [['-m'], { pid: undefined, socket: undefined, timeout: 5 }, ['-m']],
      [['-mp', '12', '-z'], { pid: 12, socket: undefined, timeout: 5 }, ['-m', '-z']],
      [['-p12'], { pid: 12, socket: undefined, timeout: 5 }, []],
      [['--socket=a=b', 'x'], { pid: undefined, socket: 'a=b', timeout: 5 }, ['x']],
      [
        ['--timeout', '.5', '--', '-p'],
        { pid: undefined, socket: undefined, timeout: 0.5 },
        ['--', '-p'],
      ],
    ];
    for (const [argv, options, rest] of cases) {
      const choice = { options, rest, help: false, dump: null };
      assert.deepEqual(split(...argv), choice, argv.join(' '));
    }
    const core = split('-mM', 'a.core', '--machine=2f');
    assert.deepEqual(core.dump, { path: 'a.core', machine: '2f' });
    assert.throws(() => split('-m', '--machine', '2f'), /a core file, with -M/);
    assert.equal(split('--help').help, true);
    for (const argv of [['-p'], ['-p', '0'], ['--socket='], ['--timeout', '1e9']]) {
      assert.throws(() => split(...argv), { name: 'Error', command: 'vmstat' }, argv.join(' '));
    }
  });
  test('wrong usage is one line and exit code 2', async () => {
    const wrong: [RegExp, typeof vmstat_main | typeof netstat_main, ...string[]][] = [
      [/^vmstat: -Q: no such option; usage/, vmstat_main, '-mQ'],
      [/^vmstat: -w: give a value; usage/, vmstat_main, '-mw'],
      [/^vmstat: -w: give a value; usage/, vmstat_main, '-w', '-m'],
      [/^vmstat: -w 0: give seconds/, vmstat_main, '-mw', '0'],
      [/^vmstat: -c 1\.5: give a whole number/, vmstat_main, '-m', '-c', '1.5'],
      [/^vmstat: da0: no operand/, vmstat_main, '-m', 'da0'],
      [/^netstat: say what to show/, netstat_main],
      [/^procstat: say what to show: -v .*; usage: procstat -v/, procstat_main],
      [/^procstat: -a: all spaces are shown/, procstat_main, '-va', '1'],
      [/^procstat: -w 0: give seconds/, procstat_main, '-vw', '0'],
      [/^procstat: -Q: no such option; usage/, procstat_main, '-Q'],
      [/^systat: say what to show: -mbufs/, systat_main, '2'],
      [/^systat: -vmstat: no such display/, systat_main, '-vmstat'],
      [/^systat: x: give seconds/, systat_main, '-mbufs', 'x'],
      [/^systat: 2: one number of seconds/, systat_main, '-mbufs', '1', '2'],
      [/^sysctl: no name given/, sysctl_main],
    ];
    for (const [message, run, ...argv] of wrong) {
      let said = '';
      const never = () => assert.fail('the machine was asked');
      const ctx: ToolContext = {
        sysctl: never,
        fetch: never,
        out: never,
        err: (text) => (said += text),
      };
      assert.equal(await run(argv, ctx), 2, said);
      assert.match(said, message);
      assert.equal(said.split('\n').length, 2, said);
    }
  });
  test('--help of each command: usage, options, examples', async () => {
    for (const command of [
      'vmstat',
      'netstat',
      'procstat',
      'systat',
      'sysctl',
    ] satisfies LiveCommand[]) {
      const help = await live_help(command);
      assert.match(help, new RegExp(`^usage: kmem ${command} `));
      assert.match(help, new RegExp(`^examples:\n {2}kmem ${command} `, 'm'));
      assert.match(help, /-p PID[\s\S]*--socket PATH[\s\S]*--timeout/);
      for (const line of help.split('\n')) assert.ok(line.length <= 84, line);
    }
  });
  test('how often: as in BSD', () => {
    assert.deepEqual(tool_rounds(undefined, undefined), { wait: 1, count: 1 });
    assert.deepEqual(tool_rounds('2.5', undefined), { wait: 2.5, count: Number.POSITIVE_INFINITY });
    assert.deepEqual(tool_rounds(undefined, '3'), { wait: 1, count: 3 });
    for (const [w, c] of [['-1'], ['1e3'], [''], ['99999999'], ['1', '0'], ['1', 'x']]) {
      assert.equal(typeof tool_rounds(w, c), 'string', `${w} ${c}`);
    }
  });
  test('flags that take values', () => {
    let said = '';
    const ctx = tool_context(
      () => {},
      (text) => (said += text),
    );
    const flags = tool_flags(['-mw5', '-c', '2', 'x', '--json'], 'mw:c:', 'u [-m]', ctx);
    assert.deepEqual(flags?.on, new Set(['m', 'w', 'c', 'json']));
    assert.deepEqual(
      [...(flags?.values ?? [])],
      [
        ['w', '5'],
        ['c', '2'],
      ],
    );
    assert.deepEqual(flags?.operands, ['x']);
    assert.equal(tool_flags(['--json=1'], 'm', 'u [-m]', ctx), null);
    assert.equal(said, 'u: --json: takes no value; usage: u [-m]\n');
  });
  test('vmstat -s: lines of what there is, in order', () => {
    const long = new Uint8Array(8);
    new DataView(long.buffer).setBigUint64(0, 5_000_000_000n, true);
    const values: Record<string, Uint8Array> = {
      'vm.stats.vm.v_page_size': new Uint8Array(Uint32Array.of(4096).buffer),
      'vm.stats.vm.v_forks': new Uint8Array(Uint32Array.of(7).buffer),
      'vm.stats.vm.v_tfree': long,
    };
    const sums = vmstat_sums((name) => values[name] ?? 2);
    assert.equal(
      vmstat_sums_text(sums),
      '        7  fork() calls\n5000000000 pages freed\n     4096 bytes per page\n',
    );
    assert.deepEqual(
      sums.map(({ key }) => key),
      ['forks', 'pages-freed', 'bytes-per-page'],
    );
  });
});
