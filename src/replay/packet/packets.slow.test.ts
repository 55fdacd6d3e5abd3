/*
 * Shown: every recorded capture goes through mbufs byte for byte, on one CPU, on two,
 * and with two senders over the same clusters; what the reader says of it is its
 * truth; afterwards every count is zero.
 * By what means: real machines and threads; the captures of ../shared/traces or
 * $KMEM_TRACES, besides the bundled one.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { plays_packets } from './packets.test.lib.ts';
import type { CaptureDocument } from '../read/pcap_stats.ts';
import { BUNDLED, SHARED } from '../read/traces.test.common.ts';

const folder = existsSync(join(SHARED, 'truth.json')) ? SHARED : BUNDLED;
const all: Record<string, Partial<CaptureDocument>> = JSON.parse(
  readFileSync(join(folder, 'truth.json'), 'utf8'),
);
const captures = Object.entries(all).filter(([name]) => name.endsWith('.pcap.gz'));
assert.ok(captures.length >= 1);
for (const [name, truth] of captures) {
  for (const cpus of [1, 2, 3]) {
    test(`${name} on ${cpus} CPUs`, async () => {
      await plays_packets(join(folder, name), cpus, truth);
    });
  }
}
