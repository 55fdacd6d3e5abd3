/*
 * Workers that make and end records, zones, queues and mutexes are killed at any
 * moment, 1000 times or for KMEM_STRESS_SECONDS, with and without INVARIANTS,
 * page daemon and a second memory domain.  After each turn every name is let go
 * of, and there must be nothing that nobody answers for: no page, no item, no
 * zone.  Waiting workers of one turn are the attackers of the next.
 */
import assert from 'node:assert/strict';
import { boot } from './index.ts';
import { kill_makers, KINDS, lost, zones_now } from './making.test.lib.ts';

const KILLS = Number(process.env.KMEM_STRESS_KILLS ?? 1000);
const seconds = process.env.KMEM_STRESS_SECONDS;
const end = seconds === undefined ? Number.POSITIVE_INFINITY : Date.now() + Number(seconds) * 1000;
const TURNS = [
  { INVARIANTS: false, pagedaemon: false, domains: 1 },
  { INVARIANTS: true, pagedaemon: false, domains: 1 },
  { INVARIANTS: false, pagedaemon: true, domains: 2 },
  { INVARIANTS: true, pagedaemon: true, domains: 2 },
];
const total = { kills: 0, recovered: 0, items_lost: 0, pages_lost: 0 };
for (const [i, { INVARIANTS, ...how }] of TURNS.entries()) {
  const machine = boot({ memory: '64M', cpus: 8, options: { INVARIANTS }, ...how });
  const zones = zones_now();
  const share = Math.ceil(KILLS / TURNS.length);
  const turn_end = Date.now() + (end - Date.now()) / (TURNS.length - i);
  const lanes = [...KINDS.slice(0, 2), 'mixed'] as const;
  const kills = await kill_makers(machine, lanes, (n) => n >= share || Date.now() > turn_end);
  const left = lost(machine, zones);
  total.kills += kills;
  total.recovered += Number(machine.sysctl('vm.reap.pages'));
  total.items_lost += Number(machine.sysctl('vm.reap.items_lost'));
  total.pages_lost += left.pages;
  const what = JSON.stringify({ INVARIANTS, ...how });
  console.log(`${what}: ${kills} kills, ${JSON.stringify(left)}`);
  assert.deepEqual(left, { pages: 0, items: '' });
  await machine[Symbol.asyncDispose]();
}
const { kills, recovered, items_lost, pages_lost } = total;
const pages = `${recovered} pages recovered, ${pages_lost} lost`;
console.log(`${kills} kills, ${pages}, ${items_lost} items lost, 0 panics`);
process.exit(0);
