/*
 * Shown: recorded captures go through mbufs byte for byte, on one CPU, on two, and with two
 * senders over the same clusters; what the reader says of one is its truth; afterwards every
 * count is zero.
 * By what means: real machines and threads; of the captures of ../shared/traces or $KMEM_TRACES
 * two that are drawn, on two of these (all by recordings.stress.ts).  The bundled one is in
 * packets_play.slow.test.ts.
 */
import { join } from 'node:path';
import { test } from 'node:test';
import { captures_truth, plays_packets } from './packets.test.lib.ts';
import { beside, drawn, SHARED } from '../read/traces.test.common.ts';

for (const [name, truth] of drawn(beside(captures_truth), 2)) {
  for (const cpus of drawn([1, 2, 3], 2)) {
    test(`${name} on ${cpus} CPUs`, async () => {
      await plays_packets(join(SHARED, name), cpus, truth);
    });
  }
}
