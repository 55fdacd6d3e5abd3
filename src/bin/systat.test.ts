/*
 * Shown: the page of systat -mbufs has a row for what is in use, most first, with
 * bars that are cut where BSD cuts them; on a terminal it is drawn over the last
 * one, elsewhere it comes once a second; and a replay shows it while packets play.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { MbufFigures, MbufKind } from '../sys/observe/netstat_text.ts';
import { systat_mbufs_text } from '../sys/observe/systat_mbufs.ts';
import { systat_page } from './systat.ts';

const kind = (current: number): MbufKind => ({
  current,
  cache: 0,
  total: current,
  max: 0,
  denied: 0,
  delayed: 0,
});
const FIGURES: MbufFigures = {
  mbufs: kind(75),
  clusters: kind(72),
  packets: kind(60),
  jumbo_page: kind(0),
  jumbo_9k: kind(2),
  jumbo_16k: kind(61),
  tags: { current: 0, bytes: 0 },
  bytes: { current: 0, cache: 0, total: 0 },
  sfbufs: null,
  sfbufs_denied: 0,
  sfbufs_delayed: 0,
  sendfile_io: 0,
  drains: 0,
  copies_failed: 0,
  pullups_failed: 0,
};

test('the page, letter by letter', () => {
  const full = 'X'.repeat(60);
  assert.equal(
    systat_mbufs_text(FIGURES),
    [
      '          /0   /5   /10  /15  /20  /25  /30  /35  /40  /45  /50  /55  /60',
      `clusters  ${full} 72`,
      `jumbo 16k ${full} 61`,
      `packets   ${full}`,
      'mbufs     XXXXXXXXXXXXXXX',
      'jumbo 9k  XX',
      `Mbufs     ${full} 75`,
      '',
    ].join('\n'),
  );
  const none = { ...FIGURES };
  for (const key of ['mbufs', 'clusters', 'packets', 'jumbo_9k', 'jumbo_16k'] as const) {
    none[key] = kind(0);
  }
  assert.equal(systat_mbufs_text(none).split('\n').slice(1).join('|'), 'Mbufs|');
});

test('on a terminal a page is drawn over the one before', () => {
  const said: string[] = [];
  const to = { isTTY: true, write: (text: string) => said.push(text) };
  const show = systat_page(to as unknown as NodeJS.WriteStream);
  show('a\nb\nc\n');
  show('d\n');
  assert.deepEqual(said, ['\ra\x1b[K\nb\x1b[K\nc\x1b[K\n\x1b[J', '\x1b[3A\rd\x1b[K\n\x1b[J']);
});

test('a replay shows it while the packets play', () => {
  const file = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
  const args = ['replay', '--systat', '--rate', '1000', file('../../traces/http2.pcap.gz')];
  const ran = spawnSync(process.execPath, [file('../../bin/kmem.js'), ...args], {
    encoding: 'utf8',
  });
  assert.equal(ran.status, 0, ran.stderr);
  assert.match(ran.stderr, /^ {10}\/0 {3}\/5 {3}\/10 .*\n(?:.{10}X*(?: \d+)?\n)*Mbufs *X*/m);
  assert.match(ran.stdout, /every byte came out as it was recorded/);
});
