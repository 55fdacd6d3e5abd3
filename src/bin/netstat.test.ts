/*
 * Shown: netstat -m prints BSD's lines, and the figures in them are those of the
 * machine: every line against a count by hand while mbufs, clusters, packets, jumbo
 * clusters and tags are held, shared and refused; then that all of them come back.
 * The figures are those that vmstat -z shows of the zones.
 * By what means: a live machine, read through the statistics streams as any tool
 * reads them; the layout against a stream put together by hand.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { live_types } from '../replay/heap/heap_figures.ts';
import { boot, shutdown } from '../sys/boot/whole.ts';
import { m_clget, m_get, m_getcl, m_gethdr, m_getjcl } from '../sys/client/kern_mbuf.ts';
import { m_copypacket, m_freem } from '../sys/client/uipc_mbuf.ts';
import { m_pullup } from '../sys/client/uipc_mbuf_shape.ts';
import { m_tag_get, m_tag_prepend } from '../sys/client/uipc_mbuf_tag.ts';
import { M_NOWAIT } from '../sys/h/malloc_flags.ts';
import { M_PKTHDR, type mbuf_t, MT_DATA } from '../sys/h/mbuf.ts';
import { ENOENT } from '../sys/machine/errno.ts';
import { type MbufFigures, netstat_mbuf_text } from '../sys/observe/netstat_text.ts';
import { vmstat_zone_text } from '../sys/observe/vmstat_text.ts';
import { netstat_main } from './netstat.ts';
import { tool_context } from './tool.ts';

const kind = (n: number) => ({
  current: n,
  cache: n + 1,
  total: 2 * n + 1,
  max: n + 3,
  denied: n + 4,
  delayed: n + 5,
});
const FIGURES: MbufFigures = {
  mbufs: kind(100),
  clusters: kind(200),
  packets: kind(300),
  jumbo_page: kind(400),
  jumbo_9k: kind(500),
  jumbo_16k: kind(600),
  tags: { current: 1, bytes: 32 },
  bytes: { current: 3071, cache: 1025, total: 4096 },
  sfbufs: { current: 1, peak: 2, max: 3 },
  sfbufs_denied: 4,
  sfbufs_delayed: 5,
  sendfile_io: 6,
  drains: 7,
  copies_failed: 8,
  pullups_failed: 9,
};

test('every line, word for word', () => {
  assert.equal(
    netstat_mbuf_text(FIGURES),
    [
      '100/101/201 mbufs in use (current/cache/total)',
      '200/201/401/203 mbuf clusters in use (current/cache/total/max)',
      '300/301 mbuf+clusters out of packet secondary zone in use (current/cache)',
      '400/401/801/403 4k (page size) jumbo clusters in use (current/cache/total/max)',
      '500/501/1001/503 9k jumbo clusters in use (current/cache/total/max)',
      '600/601/1201/603 16k jumbo clusters in use (current/cache/total/max)',
      '2K/1K/4K bytes allocated to network (current/cache/total)',
      '104/204/304 requests for mbufs denied (mbufs/clusters/mbuf+clusters)',
      '105/205/305 requests for mbufs delayed (mbufs/clusters/mbuf+clusters)',
      '405/505/605 requests for jumbo clusters delayed (4k/9k/16k)',
      '404/504/604 requests for jumbo clusters denied (4k/9k/16k)',
      '1/2/3 sfbufs in use (current/peak/max)',
      '4 requests for sfbufs denied',
      '5 requests for sfbufs delayed',
      '6 requests for I/O initiated by sendfile',
      '7 calls to protocol drain routines',
      '',
    ].join('\n'),
  );
  const without = netstat_mbuf_text({ ...FIGURES, sfbufs: null });
  assert.ok(!without.includes('sfbufs in use'));
});

/** netstat's answers on the machine of this thread. */
function netstat(...argv: string[]): { code: number; out: string; err: string } {
  const said = { out: '', err: '' };
  const ctx = tool_context(
    (text) => void (said.out += text),
    (text) => void (said.err += text),
  );
  const code = netstat_main(argv, ctx);
  return { code, ...said };
}
function figures(): MbufFigures {
  const { code, out, err } = netstat('-m', '--json');
  assert.deepEqual([code, err], [0, '']);
  return JSON.parse(out)['mbuf-statistics'];
}
const current = (f: MbufFigures) => [
  f.mbufs.current,
  f.clusters.current,
  f.packets.current,
  f.jumbo_page.current,
  f.jumbo_9k.current,
  f.jumbo_16k.current,
  f.tags.current,
];

test('counts by hand while packets are held', () => {
  boot({
    memory: '32M',
    cpus: 2,
    options: { INVARIANTS: true },
    set: { 'kern.ipc.nmbclusters': 64, 'kern.ipc.nmbjumbo9': 8 },
  });
  try {
    assert.deepEqual(current(figures()), [0, 0, 0, 0, 0, 0, 0]);
    const held: mbuf_t[] = [];
    const hold = (m: mbuf_t): mbuf_t => {
      assert.notEqual(m, 0);
      held.push(m);
      return m;
    };
    for (let i = 0; i < 5; i++) hold(m_get(M_NOWAIT, MT_DATA));
    const header = hold(m_gethdr(M_NOWAIT, MT_DATA));
    for (let i = 0; i < 3; i++) m_tag_prepend(header, m_tag_get(i, 40, M_NOWAIT));
    for (let i = 0; i < 7; i++) hold(m_getcl(M_NOWAIT, MT_DATA, M_PKTHDR));
    const own = hold(m_get(M_NOWAIT, MT_DATA));
    m_clget(own, M_NOWAIT);
    for (let i = 0; i < 2; i++) hold(m_getjcl(M_NOWAIT, MT_DATA, 0, 4096));
    hold(m_getjcl(M_NOWAIT, MT_DATA, 0, 9216));
    for (let i = 0; i < 3; i++) hold(m_getjcl(M_NOWAIT, MT_DATA, 0, 16384));
    hold(m_copypacket(held[6], M_NOWAIT)); // another mbuf over a packet's cluster
    // 5 + 1 + 1 + 2 + 1 + 3 + 1 plain mbufs and 7 packets; 7 + 1 clusters.
    const f = figures();
    assert.deepEqual(current(f), [21, 8, 7, 2, 1, 3, 3]);
    const bytes = 21 * 256 + 8 * 2048 + 2 * 4096 + 9216 + 3 * 16384 + 3 * 64;
    assert.equal(f.bytes.current, bytes);
    const jumbo = f.jumbo_page.cache * 4096 + f.jumbo_9k.cache * 9216 + f.jumbo_16k.cache * 16384;
    const idle = f.mbufs.cache * 256 + f.clusters.cache * 2048 + jumbo;
    assert.deepEqual([f.bytes.cache, f.bytes.total], [idle, bytes + idle]);
    assert.deepEqual([f.clusters.max, f.jumbo_9k.max], [64, 8]);
    const lines = netstat('-m').out.split('\n');
    assert.equal(
      lines[0],
      `21/${f.mbufs.cache}/${f.mbufs.total} mbufs in use (current/cache/total)`,
    );
    assert.match(lines[1], /^8\/\d+\/\d+\/64 mbuf clusters in use \(current\/cache\/total\/max\)$/);
    assert.equal(lines.length, 17);
    // The limit of the clusters is hit: requests are refused, and said to be.
    for (let m = m_getcl(M_NOWAIT, MT_DATA, 0); m !== 0; m = m_getcl(M_NOWAIT, MT_DATA, 0)) hold(m);
    const full = figures();
    assert.equal(full.clusters.current, 64);
    assert.equal(full.packets.denied, 1);
    assert.ok(full.clusters.denied >= 1);
    assert.equal(m_pullup(held.shift() as mbuf_t, 100), 0, 'a chain too short is freed');
    assert.equal(figures().pullups_failed, 1);
    for (const m of held) m_freem(m);
    assert.deepEqual(current(figures()), [0, 0, 0, 0, 0, 0, 0]);
  } finally {
    shutdown();
  }
});

/** The rows of vmstat -z by their names: size, limit, used, free, requests, failures, sleeps. */
function vmstat_z(): Record<string, number[]> {
  const table = vmstat_zone_text(live_types().zones);
  const rows = [...table.matchAll(/^(\S.*?): +(\d.*)$/gm)];
  return Object.fromEntries(rows.map(([, name, row]) => [name, row.split(',').map(Number)]));
}

test('the lines are arithmetic on the rows of vmstat -z', () => {
  const set = { 'kern.ipc.nmbclusters': 40, 'kern.ipc.nmbjumbop': 6, 'kern.ipc.nmbjumbo16': 3 };
  boot({ memory: '32M', cpus: 2, options: { INVARIANTS: true }, set });
  try {
    const held: mbuf_t[] = [];
    const take = (get: () => mbuf_t, most: number): void => {
      for (let i = 0, m = get(); i < most && m !== 0; i++, m = get()) held.push(m);
    };
    take(() => m_get(M_NOWAIT, MT_DATA), 11);
    for (const size of [4096, 9216, 16384]) take(() => m_getjcl(M_NOWAIT, MT_DATA, 0, size), 7);
    take(() => m_getcl(M_NOWAIT, MT_DATA, M_PKTHDR), 100);
    for (const m of held.splice(5, 9)) m_freem(m);
    const z = vmstat_z();
    const names = ['mbuf', 'mbuf_cluster', 'mbuf_packet', 'mbuf_jumbo_page'];
    const zones = [...names, 'mbuf_jumbo_9k', 'mbuf_jumbo_16k'].map((name) => z[name]);
    const [used, free] = [2, 3].map((column) => zones.map((row) => row[column]));
    const [limit, failed, slept] = [1, 5, 6].map((column) => zones.map((row) => row[column]));
    const three = (a: number, b: number): string => `${a}/${b}/${a + b}`;
    const jumbo = (i: number): string => `${three(used[i], free[i])}/${limit[i]}`;
    const lines = netstat('-m').out.split('\n');
    const figures = lines.map((line) => line.split(' ')[0]);
    assert.equal(figures[0], three(used[0] + used[2], free[0] + free[2]));
    assert.equal(figures[1], `${three(used[1] - free[2], free[1] + free[2])}/${limit[1]}`);
    assert.equal(figures[2], `${used[2]}/${free[2]}`);
    assert.deepEqual(figures.slice(3, 6), [3, 4, 5].map(jumbo));
    assert.deepEqual(figures.slice(7, 9), [
      failed.slice(0, 3).join('/'),
      slept.slice(0, 3).join('/'),
    ]);
    assert.deepEqual(figures.slice(9, 11), [slept.slice(3).join('/'), failed.slice(3).join('/')]);
    const bytes = zones.map(([size]) => size);
    const sum = (n: number[]): number => n.reduce((all, count, i) => all + count * bytes[i], 0);
    // A packet is an mbuf of 256 bytes; the cluster in it counts among the clusters.
    const in_use = sum(used) - free[2] * bytes[1];
    const cached = sum(free) + free[2] * bytes[1];
    const kilo = [in_use, cached, in_use + cached].map((n) => `${Math.floor(n / 1024)}K`);
    assert.equal(figures[6], kilo.join('/'));
    assert.ok(failed[1] > 0 && failed[2] > 0 && failed[3] > 0, 'limits were felt');
    for (const m of held) m_freem(m);
  } finally {
    shutdown();
  }
});

test('what it refuses, and a machine that does not answer', () => {
  boot({ memory: '8M', cpus: 2 });
  try {
    for (const argv of [[], ['-x'], ['-m', 'lo0'], ['--jso']]) {
      const { code, out, err } = netstat(...argv);
      assert.deepEqual([code, out], [2, ''], argv.join(' '));
      assert.match(err, /^netstat: .*usage: netstat -m \[-M FILE\] \[--json\]\n$/);
    }
    const err: string[] = [];
    const ctx = tool_context(
      () => assert.fail('nothing is printed'),
      (text) => err.push(text),
    );
    for (const gone of ['vm.zone_stats', 'kern.ipc.mbstat']) {
      const fetch = (name: string, max: number) => (name === gone ? ENOENT : ctx.fetch(name, max));
      assert.equal(netstat_main(['-m'], { ...ctx, fetch }), 1);
    }
    assert.deepEqual(err, [
      'netstat: memstat_sysctl_all: Version mismatch\n',
      'netstat: kern.ipc.mbstat\n',
    ]);
  } finally {
    shutdown();
  }
});
