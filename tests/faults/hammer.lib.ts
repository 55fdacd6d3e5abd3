/*
 * Workers that allocate, free and free each other's blocks while the boot
 * thread reads the streams: nothing may be negative on the way, few sums clamped, and
 * everything must add up at the end.
 */
import assert from 'node:assert/strict';
import { sysctl_read } from '../../src/sys/observe/kern_sysctl.ts';
import { counters, counter_get } from '../../src/sys/machine/counter.ts';
import { malloc_type_attach } from '../../src/sys/kmem/kern_malloc.ts';
import { malloc_type_sums } from '../../src/sys/kmem/kern_malloc_type.ts';
import { sleep, within } from '../../src/sys/machine/workers.test.lib.ts';
import { witness_console } from '../../src/sys/sync/witness.ts';
import { ground, type GroundOptions, leave, prove, start, stop, TYPES } from './kill.lib.ts';

/** Reads both streams from their bytes; returns how many types and zones they held. */
function read_streams(): void {
  const read = (name: string): DataView => {
    const raw = sysctl_read(name) as Uint8Array;
    return new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  };
  const sum = (v: DataView, at: number, cpus: number, field: number): bigint => {
    let n = 0n;
    for (let c = 0; c < cpus; c++) n += v.getBigUint64(at + c * 64 + field * 8, true);
    return n;
  };
  const m = read('kern.malloc_stats');
  const cpus = m.getUint32(4, true);
  for (let i = 0; i < m.getUint32(8, true); i++) {
    const at = 16 + i * (32 + cpus * 64) + 32;
    const inuse = sum(m, at, cpus, 2) - sum(m, at, cpus, 3);
    const bytes = sum(m, at, cpus, 0) - sum(m, at, cpus, 1);
    assert.ok(inuse >= 0n && bytes >= 0n, `type ${i}: ${inuse} in use, ${bytes} bytes`);
  }
  const z = read('vm.zone_stats');
  for (let i = 0; i < z.getUint32(8, true); i++) {
    const at = 16 + i * (120 + cpus * 64);
    const [allocs, frees] = [z.getBigUint64(at + 72, true), z.getBigUint64(at + 80, true)];
    assert.ok(allocs + sum(z, at + 120, cpus, 0) >= 0n && frees >= 0n);
  }
}

/** Sums that had to be brought back into what is possible. */
function clamped(): number {
  const c = counters.find((of) => of.name === 'debug.stats_clamped');
  assert.ok(c);
  return counter_get(c);
}

/** Hammers for `ms`; a line of numbers. */
export async function hammer(ms: number, seed: number, o: GroundOptions): Promise<string> {
  const g = ground(o);
  const said: string[] = [];
  witness_console((text) => said.push(text));
  const jobs = [0, 1].map((i) => start(g, i, seed + i * 7919, { reclaim: 2000 }));
  await within(Promise.all(jobs.map((j) => j.up)), 'start');
  let reads = 0;
  for (const end = performance.now() + ms; performance.now() < end; reads++) {
    read_streams();
    await sleep(1);
  }
  const done = await stop(g, jobs);
  const total = { mallocs: 0, frees: 0, failed: 0 };
  for (const d of done) {
    total.mallocs += d.mallocs;
    total.frees += d.frees;
    total.failed += d.failed;
  }
  const sums = TYPES.map((name) => malloc_type_sums(malloc_type_attach(name)));
  const add = (f: 'inuse' | 'bytes' | 'requests'): number => sums.reduce((n, s) => n + s[f], 0);
  assert.equal(add('inuse'), 0, `seed ${seed}`);
  assert.equal(add('bytes'), 0, `seed ${seed}`);
  assert.equal(add('requests'), total.mallocs, `seed ${seed}`);
  assert.equal(total.mallocs, total.frees, `seed ${seed}`);
  assert.equal(prove(0, `seed ${seed}`), 0);
  assert.deepEqual(said, [], 'WITNESS has nothing to say');
  const running = clamped();
  // A worker that loses its processor between giving a page back and counting the
  // free makes a sum impossible for a while; at rest there is no such moment.
  assert.ok(running <= reads * 2, `seed ${seed}: ${running} sums clamped in ${reads} readings`);
  read_streams();
  assert.equal(clamped(), running, `seed ${seed}: no sum has to be clamped at rest`);
  witness_console(null);
  leave();
  return `${total.mallocs} allocations, ${total.failed} failed, ${reads} readings of the streams`;
}
