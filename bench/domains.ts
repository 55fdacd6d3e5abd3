/*
 * domains: how local memory is on a machine with several memory domains.
 *
 *      npm run bench -- domains
 *
 * A machine of several domains has a thread on a CPU of each.  One zone stands on a
 * keg in every domain (uma_zsecond_add): a CPU that needs a slab asks its own domain
 * first, and another one once that is used up.  All threads take items until each has a
 * part of its domain, then give them back; the kernel counts which slabs came from the
 * domain of the CPU that asked (vm.uma.domain_local, vm.uma.domain_remote).
 *
 * What is shown is a share, not a time: it is the same on every host.
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { boot, shutdown } from '../src/sys/boot/whole.ts';
import { UMA_ZONE_VTOSLAB, type zone_t } from '../src/sys/h/uma.ts';
import { kernel_sysctlbyname } from '../src/sys/observe/kern_sysctl.ts';
import { vm_page_count } from '../src/sys/page/vm_page.ts';
import { uma_check } from '../src/sys/uma/uma_check.ts';
import { uma_reclaim } from '../src/sys/uma/uma_drain.ts';
import {
  uma_zcreate,
  uma_zdestroy,
  uma_zone_set_domain,
  uma_zsecond_add,
  uma_zsecond_create,
} from '../src/sys/uma/uma_zone.ts';
import type { Result } from './alloc.ts';
import type { DomainTask } from './domains_worker.ts';
import type { Plan } from './harness.ts';

const MEMORY = '16M';
const ITEM_BYTES = 512;
const ITEMS_PER_PAGE = 4096 / ITEM_BYTES;
/** Parts of its domain that each CPU takes, percent. */
const PARTS = [25, 50, 75, 120];

export interface Locality {
  readonly part: number;
  readonly local: number;
  readonly remote: number;
}

function count(name: string): number {
  const old = new Uint8Array(4);
  const { error } = kernel_sysctlbyname(`vm.uma.${name}`, old, null);
  if (error !== 0) throw new Error(`vm.uma.${name}: errno ${error}`);
  return new DataView(old.buffer).getUint32(0, true);
}
/** A zone with a keg in each domain; the zones that the kegs came with, too. */
function zone_of(domains: number): { z: zone_t; masters: zone_t[] } {
  const masters = Array.from({ length: domains }, (_, d) => {
    const m = uma_zcreate(`domain ${d}`, ITEM_BYTES, { flags: UMA_ZONE_VTOSLAB });
    uma_zone_set_domain(m, d);
    return m;
  });
  const z = uma_zsecond_create('everywhere', 0, 0, 0, 0, masters[0]);
  for (const m of masters.slice(1)) {
    const error = uma_zsecond_add(z, m);
    if (error !== 0) throw new Error(`uma_zsecond_add: errno ${error}`);
  }
  return { z, masters };
}
/** One round on a fresh machine: a thread for each domain takes `part` percent of one. */
async function round(domains: number, part: number): Promise<Locality> {
  const { handle } = boot({ memory: MEMORY, cpus: domains + 1, domains });
  const { z, masters } = zone_of(domains);
  const items = Math.floor((vm_page_count() / domains) * ITEMS_PER_PAGE * (part / 100));
  const task: DomainTask = { machine: handle, z, items };
  const workers = Array.from(
    { length: domains },
    () => new Worker(new URL('./domains_worker.ts', import.meta.url), { workerData: task }),
  );
  const told = async (what: string): Promise<void> => {
    await Promise.all(workers.map((w) => once(w, 'message')));
    for (const w of workers) w.postMessage(what);
  };
  await told('take');
  await told('give');
  await Promise.all(workers.map((w) => once(w, 'exit')));
  const seen = { part, local: count('domain_local'), remote: count('domain_remote') };
  uma_reclaim();
  uma_check();
  for (const zone of [z, ...masters]) uma_zdestroy(zone);
  shutdown();
  return seen;
}
/** Every part in turn. */
export async function locality(domains: number, parts = PARTS): Promise<Locality[]> {
  const all: Locality[] = [];
  for (const part of parts) all.push(await round(domains, part));
  return all;
}

/** The share of slabs that were local, percent. */
export function local_percent({ local, remote }: Locality): number {
  return (local / (local + remote)) * 100;
}
/** Prints the table; there are no figures to compare. */
export async function bench_domains(_plan: Plan, say: (line: string) => void): Promise<Result> {
  for (const domains of [2, 4]) {
    say(`\n${domains} domains in ${MEMORY}, a CPU in each; slabs of a zone with a keg in each`);
    say('each CPU takes      local  remote  local share');
    for (const row of await locality(domains)) {
      const share = `${local_percent(row).toFixed(1)} %`;
      const part = `${row.part} % of a domain`;
      say(
        part.padEnd(18) +
          String(row.local).padStart(7) +
          String(row.remote).padStart(8) +
          share.padStart(13),
      );
    }
  }
  return { rows: [], versions: [] };
}
