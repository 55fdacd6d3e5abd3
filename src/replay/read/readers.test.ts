/*
 * Shown: what the readers say about each recorded heap equals the truth that another program
 * worked out, and the events that players get add up to the same.
 * By what means: every trace of the repository, read in the reader's own thread with two players
 * that rebuild the heap from the events.  Those of ../shared/traces or $KMEM_TRACES follow in
 * readers.slow.test.ts.
 */

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gunzipSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { type TypeBy, type_name } from './sites.ts';
import {
  BUNDLED,
  equal_to_truth,
  heap_truth,
  play,
  temporary_folder,
} from './traces.test.common.ts';

const bundled = heap_truth(BUNDLED) ?? {};
assert.ok(Object.keys(bundled).length > 0, `${BUNDLED}/truth.json is missing`);
for (const [name, truth] of Object.entries(bundled)) {
  test(`${name} equals the truth`, () => equal_to_truth(join(BUNDLED, name), truth));
}

test('packing, parts and how lines end change nothing but the byte counts', async (t) => {
  const folder = temporary_folder(t);
  const text = gunzipSync(readFileSync(join(BUNDLED, 'make.mtrace.gz')));
  const cut = text.indexOf(10, 100_000) + 1;
  const put = (name: string, bytes: Uint8Array): string => {
    writeFileSync(join(folder, name), bytes);
    return join(folder, name);
  };
  const variants = [
    [put('plain.gz', text)],
    [put('zstd', zstdCompressSync(text))],
    [
      put(
        'members',
        Buffer.concat([gzipSync(text.subarray(0, cut)), gzipSync(text.subarray(cut))]),
      ),
    ],
    [put('one', gzipSync(text.subarray(0, cut))), put('two', text.subarray(cut))],
    [put('crlf', Buffer.from(text.toString('latin1').replaceAll('\n', '\r\n'), 'latin1'))],
  ];
  const { uncompressed_bytes, compressed_bytes, sha256, ...truth } = bundled['make.mtrace.gz'];
  for (const files of variants) {
    const { outcome } = await play({ files, cpus: 1 });
    assert.ok(outcome.result, outcome.error?.message ?? 'no result');
    const trace = outcome.result.trace as unknown as Record<string, unknown>;
    for (const [name, value] of Object.entries(truth)) assert.deepEqual(trace[name], value, name);
  }
  assert.ok(uncompressed_bytes && compressed_bytes && sha256);
});

test('type_by decides which sites players see, and nothing else', async () => {
  const file = join(BUNDLED, 'gm.mtrace.gz');
  const seen = new Map<TypeBy, number>();
  for (const type_by of ['caller', 'module', 'none'] as const) {
    const { outcome, players } = await play({ files: [file], cpus: 1, type_by });
    assert.equal(outcome.result?.trace.call_sites, bundled['gm.mtrace.gz'].call_sites);
    assert.equal(new Set(players[0].sites).size, players[0].sites.length);
    seen.set(type_by, players[0].sites.length);
    if (type_by === 'none') assert.deepEqual(players[0].sites, ['all']);
  }
  assert.equal(seen.get('caller'), bundled['gm.mtrace.gz'].call_sites);
  assert.ok((seen.get('module') ?? 0) > 1 && (seen.get('module') ?? 0) < (seen.get('caller') ?? 0));
});

test('a module is what stands before the last :( or :[', () => {
  const module = (caller: string): string => type_name(caller, 'module');
  assert.equal(module('redis-server *:7001:(zmalloc_usable+3f)[0x5a]'), 'redis-server *:7001');
  assert.equal(module('/lib/libc.so.6:[0x7e32d]'), '/lib/libc.so.6');
  assert.equal(module('a:[b] + c:(d+1)[0x2]'), 'a:[b] + c');
  assert.equal(module('[0x7f0959ab8006]'), '[0x7f0959ab8006]');
  assert.equal(module('nonsense'), 'nonsense');
});
