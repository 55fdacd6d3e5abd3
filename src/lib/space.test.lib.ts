/* space.test.lib: the walkers of virtual memory for machines of the façade; errors by text. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Worker } from 'node:worker_threads';
import { reap_all } from '../sys/machine/death.ts';
import { checked_quiet } from '../sys/machine/parts.ts';
import type { KmemError } from './errors.ts';
import type { Machine } from './machine.ts';
import type { Region } from './region.ts';
import { fails as fails_ } from './fails.test.lib.ts';
import {
  registry_each,
  registry_lock,
  registry_name,
  registry_unlock,
} from '../sys/client/kern_registry.ts';
import { spaces_check as vm_checks } from '../sys/client/kern_space_check.ts';
import { maps_all } from '../sys/map/vm_map_check.ts';
import { PK_OBJECT, PK_TABLE } from '../sys/h/vm_page.ts';
import { vm_page_census } from '../sys/page/vm_page.ts';
import { vm_page_limbo_free } from '../sys/page/vm_page_limbo.ts';

export { vm_checks };

/** The region that threads of space_threads.test.ts share, and places in it on different pages. */
export const PAGES = 40;
export const REGION = { name: 'm', length: PAGES * 4096 } as const;
/** One that is larger than the memory of its machine. */
export const LARGE = { name: 'large', length: 2560 * 4096 } as const;
export const LITMUS = { x: 0, y: 5 * 4096 } as const;

/** Throws unless a copy shows a thread of the job `rounds` between two of its stores. */
export function between_stores(copy: Region, id: number): void {
  const seen = Array.from({ length: PAGES }, (_, p) => copy.getU32(p * 4096 + id * 4));
  const from = seen.findIndex((v) => v !== seen[0]);
  const rest = from < 0 ? [] : seen.slice(from);
  assert.ok(
    rest.every((v) => v === seen[0] - 1),
    `thread ${id}: ${seen.join(' ')}`,
  );
}
/** Ends all spaces; afterwards no page has an owner, and every item is accounted for. */
export function spaces_gone(machine: Machine): void {
  reap_all();
  vm_checks();
  for (const name of space_names()) machine.space(name).destroy();
  vm_page_limbo_free();
  checked_quiet(true);
  assert.deepEqual(maps_all(), []);
  checked_quiet(false);
  const census = vm_page_census();
  assert.deepEqual([census[PK_OBJECT], census[PK_TABLE]], [0, 0], 'pages have owners');
  machine.check();
}
function space_names(): string[] {
  const names: string[] = [];
  registry_lock();
  registry_each((e, kind) => {
    if (kind === 'space') names.push(registry_name(e));
  });
  registry_unlock();
  return names;
}
/** Starts workers that do a job on spaces, kills them until `done` says so; returns the kills. */
export async function kill_users(
  machine: Machine,
  file: URL,
  lanes: number,
  done: (kills: number) => boolean,
  job: object = { job: 'all' },
): Promise<number> {
  let kills = 0;
  const failed: Error[] = [];
  const lane = async (id: number): Promise<void> => {
    while (!done(kills) && failed.length === 0) {
      const worker = machine.worker<Worker>(file, { workerData: { ...job, id } });
      worker.on('error', (e: Error) => failed.push(e));
      await once(worker, 'message');
      await new Promise((r) => setTimeout(r, 1 + ((kills * 7 + id * 3) % 29)));
      await worker.terminate();
      kills++;
    }
  };
  await Promise.all(Array.from({ length: lanes }, (_, id) => lane(id)));
  if (failed.length > 0) throw failed[0];
  return kills;
}
/** The error of a call, which must have that code, and a text like that. */
export function fails(call: () => unknown, code: string, text = /./): KmemError {
  const e = fails_(code, call);
  assert.match(e.message, text);
  return e;
}
