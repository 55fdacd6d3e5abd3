/*
 * region_file.test.lib: threads that use one file in every way, and are killed at any moment of it.
 *
 * Each counts words of its own up in the pages of a file, and notes in memory how far it came:
 * whatever happened, the file has that, or one more where a thread died between the two.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { reap_all } from '../sys/machine/death.ts';
import { withMachine } from './index.ts';
import { kill_users, spaces_gone, vm_checks } from './space.test.lib.ts';

const FILE = new URL('./region_file.test.worker.ts', import.meta.url);
const PAGE = 4096;
export const PAGES = 24;
/** How long a slow read takes: longer than a fork waits for the answer of a thread. */
export const SLOW_MS = 2500;
export const DONE = { name: 'done', length: PAGES * PAGE } as const;

/** Kills threads that use a file, until `done` says so; afterwards everything is proved. */
export async function files_killed(
  memory: string,
  lanes: number,
  enough: (kills: number) => boolean,
): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'kmem-kills-'));
  const path = join(folder, 'file');
  for (const at of [path, `${path}.cut`]) writeFileSync(at, new Uint8Array(PAGES * PAGE));
  let kills = 0;
  await withMachine(
    { memory, cpus: lanes + 2, options: { INVARIANTS: true, WITNESS: true } },
    async (machine) => {
      const done = machine.space('done').mmap(DONE);
      kills = await kill_users(machine, FILE, lanes, enough, { job: 'mixed', path });
      reap_all();
      vm_checks();
      for (let id = 0; id < lanes; id++) machine.space(`own ${id}`).destroy();
      assert.equal(machine.sysctl('vm.vnodes'), 0);
      const words = new Uint32Array(Uint8Array.from(readFileSync(path)).buffer);
      for (let p = 0; p < PAGES; p++) {
        for (let id = 0; id < lanes; id++) {
          const [is, at_least] = [words[p * 1024 + id], done.getU32(p * PAGE + id * 4)];
          assert.ok(is === at_least || is === at_least + 1, `page ${p}, ${id}: ${is}, ${at_least}`);
        }
      }
      assert.ok(statSync(`${path}.cut`).size <= PAGES * PAGE);
      spaces_gone(machine);
    },
  );
  rmSync(folder, { recursive: true });
  return kills;
}
