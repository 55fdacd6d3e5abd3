/*
 * Workers that make and end named objects, and are killed at any point of it.
 *
 * A lane starts a worker, lets it work for some milliseconds, and terminates it,
 * again and again; several lanes work on names of their own and on shared ones.
 * What must hold afterwards is exact: once the names that are left have been let
 * go of, nothing is in use that was not in use before, and every item and page
 * is accounted for.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Worker } from 'node:worker_threads';
import type { Machine } from './index.ts';
import { registry_name } from '../sys/client/kern_registry.ts';
import { eachEntry } from './registry.ts';
import { reap_all } from '../sys/machine/death.ts';
import { PK_WIRED } from '../sys/h/vm_page.ts';
import { account, account_text } from '../sys/kmem/kmem.test.lib.ts';
import { vm_page_census } from '../sys/page/vm_page.ts';
import { uma_reclaim } from '../sys/uma/uma_drain.ts';
import { uma, uma_root } from '../sys/uma/uma_int.ts';

export const FILE = new URL('./making.test.worker.ts', import.meta.url);
export const KINDS = ['records', 'zone', 'queue', 'mutex', 'mixed'] as const;
export type MakingKind = (typeof KINDS)[number];

/** Makes and ends an object of a kind. The shapes are the same in all threads. */
export function make_and_end(machine: Machine, kind: MakingKind, name: string): void {
  switch (kind) {
    case 'records':
      machine.records(name, { a: 'u8', b: 'f64' }, { capacity: 3000 }).dispose();
      break;
    case 'zone':
      machine.zone(name, { size: 300, limit: 100 }).dispose();
      break;
    case 'queue':
      machine.queue(name, { capacity: 1000 }).dispose();
      break;
    case 'mutex':
      machine.mutex(name).dispose();
      break;
    default:
      for (const k of KINDS) if (k !== 'mixed') make_and_end(machine, k, name);
  }
}

/** Starts workers that make things and kills them, until `done` says so. Returns the kills. */
export async function kill_makers(
  machine: Machine,
  lanes: readonly MakingKind[],
  done: (kills: number) => boolean,
): Promise<number> {
  let kills = 0;
  const failed: Error[] = [];
  const lane = async (kind: MakingKind, id: number): Promise<void> => {
    while (!done(kills) && failed.length === 0) {
      const worker = machine.worker<Worker>(FILE, { workerData: { job: 'make', kind, id } });
      worker.on('error', (e: Error) => failed.push(e));
      await once(worker, 'message');
      await new Promise((r) => setTimeout(r, 1 + ((kills * 7 + id * 3) % 13)));
      await worker.terminate();
      kills++;
    }
  };
  await Promise.all(lanes.map((kind, id) => lane(kind, id)));
  if (failed.length > 0) throw failed[0];
  return kills;
}

/** Pages that nobody answers for, and the items, once every name has been let go of. */
export function lost(machine: Machine, zones: number): { pages: number; items: string } {
  reap_all();
  for (const [kind, name] of left()) make_and_end(machine, kind, name);
  uma_reclaim();
  machine.check();
  assert.deepEqual(left(), []);
  assert.equal(uma_root.nzones[uma()], zones);
  const a = account();
  return { pages: a.pages_leaked + vm_page_census()[PK_WIRED], items: account_text(a) };
}
function left(): [MakingKind, string][] {
  const found: [MakingKind, string][] = [];
  eachEntry((e, kind) => found.push([kind as MakingKind, registry_name(e)]));
  return found;
}
/** Zones of the machine now. */
export function zones_now(): number {
  return uma_root.nzones[uma()];
}
