/*
 * Shows: what swapctl -l and -s print, against layouts written out in full; each message and exit
 * code; that the variables and the table say the same of a live machine.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { boot, type Machine } from '../lib/index.ts';
import { type SwapInfo, swapctl_sum_text, swapctl_text } from '../sys/observe/swap_info.ts';
import { swapctl_main } from './swapctl.ts';
import { sysctl_main } from './sysctl.ts';
import { type ToolContext, tool_context } from './tool.ts';

const MEG = 2 ** 20;
const out: string[] = [];
const err: string[] = [];
let machine: Machine;
let ctx: ToolContext;
let folder = '';
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'kmem-swapctl-'));
  machine = boot({ memory: '8M', cpus: 2 });
  ctx = tool_context(
    (data) => out.push(String(data)),
    (text) => err.push(text),
  );
});
beforeEach(() => {
  out.length = 0;
  err.length = 0;
});
after(() => {
  machine.shutdown();
  rmSync(folder, { recursive: true });
});
const K512 = { bytes: 512, name: '512-blocks' };
const M1 = { bytes: MEG, name: '1M-blocks' };
const area = (o: Partial<SwapInfo>): SwapInfo => ({
  path: '/var/swap',
  size: 64 * MEG,
  used: 0,
  free: 64 * MEG,
  bad: 0,
  priority: 0,
  closing: false,
  made: false,
  ...o,
});

test('-l: none, one, several', () => {
  assert.equal(swapctl_text([], K512), 'no swap devices configured\n');
  assert.equal(
    swapctl_text([area({ used: 16 * MEG, free: 48 * MEG })], K512),
    'Device      512-blocks     Used    Avail Capacity Priority\n' +
      '/var/swap       131072    32768    98304      25%        0\n',
  );
  const several = [
    area({ path: '/var/tmp/a.swap', used: 64 * MEG, free: 0, priority: 3 }),
    area({ path: '', size: MEG, free: MEG }),
    area({ path: '/with a\nline' }),
  ];
  assert.equal(
    swapctl_text(several, M1),
    'Device          1M-blocks     Used    Avail Capacity Priority\n' +
      '/var/tmp/a.swap        64       64        0     100%        3\n' +
      'memory                  1        0        1       0%        0\n' +
      '/with a?line           64        0       64       0%        0\n' +
      'Total                 129       64       65      50%\n',
  );
});
test('-s: the sums', () => {
  assert.equal(swapctl_sum_text([], M1), 'no swap devices configured\n');
  assert.equal(
    swapctl_sum_text([area({ used: MEG, free: 63 * MEG }), area({})], M1),
    'total: 128 1M-blocks allocated, 1 1M-blocks used, 127 1M-blocks available\n',
  );
});
test('of a live machine', async () => {
  assert.equal(await swapctl_main(['-l'], ctx), 0);
  assert.deepEqual(out.splice(0), ['no swap devices configured\n']);
  machine.swapon(join(folder, 'a'), { size: MEG, priority: 7 });
  assert.equal(await swapctl_main(['-lk'], ctx), 0);
  const [titles, row] = out.splice(0).join('').split('\n');
  assert.match(titles, /^Device +1K-blocks +Used +Avail Capacity Priority$/);
  assert.match(row, /\/a +1016 +0 +1016 +0% +7$/);
  assert.equal(await swapctl_main(['-s', '--json'], ctx), 0);
  assert.deepEqual(JSON.parse(out.splice(0).join('')), { swapctl: machine.swaps() });
  assert.equal(sysctl_main(['vm.nswapdev'], ctx), 0);
  assert.deepEqual(out.splice(0).join(''), 'vm.nswapdev: 1\n');
  const bytes = ctx.fetch('vm.swap_total', 100);
  assert.deepEqual(bytes, new Uint8Array(BigInt64Array.of(BigInt(MEG - 8192)).buffer));
});
test('a dump says what the machine said', async () => {
  await swapctl_main(['-l'], ctx);
  const live = out.splice(0).join('');
  const path = join(folder, 'core');
  machine.dump(path);
  const kmem = join(import.meta.dirname, '../../bin/kmem.js');
  const said = spawnSync(process.execPath, [kmem, 'swapctl', '-l', '-M', path], {
    encoding: 'utf8',
  });
  assert.deepEqual([said.stdout, said.stderr, said.status], [live, '', 0]);
});
test('vm.swap_info.N is a struct xswdev; behind the last one is ENOENT', () => {
  const name = new TextEncoder().encode('vm.swap_info');
  const mib = new Uint8Array(96);
  const { oldlen } = ctx.sysctl([0, 3], mib, name);
  const numbers = [...new Int32Array(mib.buffer, 0, oldlen / 4)];
  const found = new Uint8Array(20);
  assert.equal(ctx.sysctl([...numbers, 0], found, null).error, 0);
  assert.deepEqual([...new Int32Array(found.buffer)], [1, 0, 0, (MEG - 8192) / 4096, 0]);
  assert.equal(ctx.sysctl([...numbers, 1], found, null).error, 2);
  assert.equal(ctx.sysctl(numbers, found, null).error, 22);
});
for (const [argv, message] of [
  [[], /say what to show/],
  [['-l', '-s'], /say what to show/],
  [['-l', '-k', '-m'], /one of them/],
  [['-l', 'more'], /more: nothing else/],
  [['-l', '-w', 'x'], /x/],
  [['-q'], /q/],
] as const) {
  test(`wrong usage: swapctl ${argv.join(' ')}`, async () => {
    assert.equal(await swapctl_main(argv, ctx), 2);
    assert.equal(out.length, 0);
    assert.match(err.join(''), message);
    assert.match(err.join(''), /usage: swapctl -l\|-s/);
  });
}
