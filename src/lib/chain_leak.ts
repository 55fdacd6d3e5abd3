/*
 * chain_leak: chains that nobody freed, and where they came from.
 *
 *      boot({ set: { 'kern.ipc.mbuf_leak': 2 } })     or machine.sysctl(…, 2) at any time
 *
 *      0 off        nothing is noted; a chain's making looks at one word
 *      1 simple     one chain of kern.ipc.mbuf_leak_sample notes where it was made
 *      2 advanced   every chain does
 *      3 paranoid   and each call notes where the chain was last touched
 *
 * A note counts the chain at its place (file:line of the caller) in shared memory,
 * so that machine.chainSites() and the leak checks tell about the chains of all
 * threads.  When the garbage collector finds a chain that was noted and not freed,
 * it is reported: on the channel kmem:leak and on the console.  Reported only: its
 * memory stays taken, because other threads may hold what it shares.
 */
import {
  LEAK_PARANOID,
  LEAK_SIMPLE,
  mbuf_leak_level,
  mbuf_leak_sample,
  mbuf_site,
  mbuf_site_drop,
  mbuf_site_take,
  mbuf_site_text,
} from '../sys/client/mbuf_leak.ts';
import { channels } from './channels.ts';
import type { Context } from './context.ts';
import { callSite } from './site.ts';

/** What is known about one chain. */
export interface Note {
  readonly ctx: Context;
  /** Number of the place in shared memory; 0: there was no memory to note it. */
  readonly site: number;
  readonly made: string;
  /** Where a call last touched it; '' below level 3. */
  touched: string;
}

const lost = new FinalizationRegistry<Note>((note) => {
  if (!note.ctx.up) return; // the machine went first: its end told about what was left
  const touched = note.touched === '' ? '' : `, last touched at ${note.touched}`;
  if (channels.leak.hasSubscribers) {
    const { made: name, touched: last } = note;
    channels.leak.publish({ kind: 'chain', name, count: 1, bytes: 0, touched: last });
  }
  console.error(`kmem: a chain made at ${note.made} was lost without free()${touched}`);
});

let made = 0;
/** Whether the chain that is being made is noted: one load when it is off. */
export function noted(): boolean {
  const level = mbuf_leak_level();
  if (level === 0) return false;
  return level !== LEAK_SIMPLE || made++ % mbuf_leak_sample() === 0;
}
/** Notes a chain that is being made. `place`: who made it, if known. */
export function noteMade(chain: object, ctx: Context, place?: string): Note {
  const at = place ?? callSite();
  const site = mbuf_site(at);
  mbuf_site_take(site);
  return watch(chain, { ctx, site, made: at, touched: '' });
}
/** Notes a chain that came from another thread with a place. */
export function noteAdopted(chain: object, ctx: Context, site: number): Note {
  return watch(chain, { ctx, site, made: mbuf_site_text(site), touched: '' });
}
function watch(chain: object, note: Note): Note {
  lost.register(chain, note, note);
  return note;
}
/** A call touches a chain that is noted. */
export function noteTouched(note: Note): void {
  if (mbuf_leak_level() === LEAK_PARANOID) note.touched = callSite();
}
/** The chain is freed. */
export function noteFreed(note: Note): void {
  lost.unregister(note);
  mbuf_site_drop(note.site);
}
/** The chain is on its way to another thread: its place goes with it. Returns the place. */
export function noteReleased(note: Note): number {
  lost.unregister(note);
  return note.site;
}
