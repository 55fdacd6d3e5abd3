/*
 * socket_publish: how a socket that listens already gets its path.
 *
 *      FOLDER/.kXXXXXX/s     where it was bound: nobody else may enter
 *      FOLDER/.NAME.claim    there while somebody puts a socket in the place of another
 *      FOLDER/NAME           its path
 *
 * Where nothing is, it is linked to its path, which fails if something is there by then.
 * Only a stale socket of this user gives way: one that nobody listens at any more.  Of
 * several that want its place one has the claim at a time, and looks again whether the
 * very socket is there that it found stale; so exactly one of them succeeds, and the
 * others find that one listening.  The old socket is moved away, looked at once more, and put
 * back if it is another: nothing that is not stale is ever lost.
 *
 * A claim lasts for a few calls that do not wait.  One that is old was left by a program that was
 * killed between them, and so was a folder in which nobody listens: sweep() removes it when
 * the next program listens beside it.
 */
import { EADDRINUSE } from '../sys/machine/errno.ts';
import { kmemError } from './errors.ts';
import type { Host, Stat } from './socket_folder.ts';

/** Name of the socket in the folder where it is bound, and of one that was moved there. */
const OWN = 's';
const OLD = 'old';
const HIDDEN = /^\.k[A-Za-z0-9]{6}$/;
const CLAIM = /^\..+\.claim$/;
/** A claim, or a folder where nobody listens, that lasts so long is nobody's, ms. */
const CLAIM_MS = 5000;
/** How often others may be in the way, and how long to wait for them, ms. */
const TRIES = 100;
const AGAIN_MS = 10;

interface Connection {
  on(event: 'connect', hear: () => void): void;
  on(event: 'error', hear: (e: Error) => void): void;
  destroy(): void;
}
/** Of the host's sockets, as much as is used here. */
export interface Connects {
  connect(path: string): Connection;
}

/** Whether somebody listens at a socket; gone: there is none. */
export function probe(net: Connects, path: string): Promise<'live' | 'stale' | 'gone'> {
  return new Promise((resolve) => {
    const socket = net.connect(path);
    const is = (what: 'live' | 'stale' | 'gone'): void => {
      socket.destroy();
      resolve(what);
    };
    socket.on('connect', () => is('live'));
    socket.on('error', (e) => {
      const { code } = e as { code?: string };
      is(code === 'ECONNREFUSED' ? 'stale' : code === 'ENOENT' ? 'gone' : 'live');
    });
  });
}
/** Removes a file that may be gone already. */
export function unlinked(host: Host, path: string): void {
  try {
    host.fs.unlinkSync(path);
  } catch {
    // Somebody else was faster.
  }
}
function codeOf(e: unknown): string {
  return (e as { code?: string }).code ?? '';
}
/** What is at a path; null: nothing. */
function statOf(host: Host, path: string): Stat | null {
  try {
    return host.fs.lstatSync(path);
  } catch (e) {
    if (codeOf(e) === 'ENOENT') return null;
    throw e;
  }
}
/**
 * Whether both are one socket.  The number of an inode that was freed goes to the next file
 * that is made, often at once; a socket's time is when it was bound, and stays when it is moved.
 */
export function same(a: Stat | null, b: Stat | null): boolean {
  if (a === null || b === null) return a === b;
  return a.ino === b.ino && a.dev === b.dev && a.mtimeMs === b.mtimeMs;
}

/** Makes a folder beside a path that nobody else may enter; also the path of the socket in it. */
export function hide(host: Host, folder: string): { hidden: string; own: string } {
  const hidden = host.fs.mkdtempSync(`${folder}/.k`);
  return { hidden, own: `${hidden}/${OWN}` };
}
/** By how much the path of the socket in that folder is longer than the folder's beside it. */
export const HIDDEN_BYTES = `/.kXXXXXX/${OWN}`.length;

/**
 * Removes what killed programs of this user left in a folder while they made a socket.  In one
 * that is `ours` nobody else makes anything, so there an empty folder is such a thing, too.
 */
export async function sweep(
  host: Host,
  net: Connects,
  folder: string,
  names: readonly string[],
  ours: boolean,
): Promise<void> {
  for (const name of names) {
    const path = `${folder}/${name}`;
    const claim = ours && CLAIM.test(name);
    if ((claim || HIDDEN.test(name)) && isOld(host, path)) await sweepOne(host, net, path, ours);
  }
}
function isOld(host: Host, path: string): boolean {
  const stat = statOf(host, path);
  if (!stat?.isDirectory() || stat.uid !== host.uid) return false;
  return Date.now() - stat.mtimeMs > CLAIM_MS;
}
async function sweepOne(host: Host, net: Connects, path: string, ours: boolean): Promise<void> {
  let names: string[];
  try {
    names = host.fs.readdirSync(path);
  } catch {
    return; // Somebody else was faster, or it is not ours to look into.
  }
  if (names.length === 0 && !ours) return;
  for (const name of names) {
    const socket = `${path}/${name}`;
    if ((name !== OWN && name !== OLD) || !statOf(host, socket)?.isSocket()) return;
    if ((await probe(net, socket)) === 'live') return;
  }
  for (const name of names) unlinked(host, `${path}/${name}`);
  removed(host, path);
}

/**
 * Gives the socket in the folder `hidden` its path.  Throws EADDRINUSE if something is
 * there that is no stale socket of this user, and what the host says.
 */
export async function publish(
  host: Host,
  net: Connects,
  hidden: string,
  path: string,
): Promise<void> {
  const taken = (what: string): never => {
    throw kmemError(EADDRINUSE, 'listen', `${path}: ${what}`);
  };
  for (let tries = 0; tries < TRIES; tries++) {
    const there = statOf(host, path);
    if (there !== null) {
      if (!there.isSocket()) taken('a file that is no socket is there');
      if (there.uid !== host.uid) taken(`a socket of another user (${there.uid}) is there`);
      const found = await probe(net, path);
      if (found === 'gone') continue;
      if (found === 'live') taken('a program listens there already');
    }
    if (there === null ? linked(host, hidden, path) : replaced(host, hidden, path, there)) return;
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
  }
  taken('other programs are about to listen there');
}
/** False: something is there by now. */
function linked(host: Host, hidden: string, path: string): boolean {
  try {
    host.fs.linkSync(`${hidden}/${OWN}`, path);
    return true;
  } catch (e) {
    if (codeOf(e) === 'EEXIST') return false;
    // A file system without links: the name is taken under the claim instead.
    return claimed(host, path, () => {
      if (statOf(host, path) !== null) return false;
      host.fs.renameSync(`${hidden}/${OWN}`, path);
      return true;
    });
  }
}
/** Puts the socket in the place of a stale one. False: others are faster. */
function replaced(host: Host, hidden: string, path: string, stale: Stat): boolean {
  return (
    claimed(host, path, () => {
      if (!same(statOf(host, path), stale)) return false;
      const old = `${hidden}/${OLD}`;
      host.fs.renameSync(path, old);
      if (same(statOf(host, old), stale)) {
        unlinked(host, old);
        return true;
      }
      try {
        host.fs.linkSync(old, path); // it came in between: it goes back
        unlinked(host, old);
      } catch (e) {
        if (codeOf(e) === 'EEXIST') unlinked(host, old);
        else host.fs.renameSync(old, path);
      }
      return false;
    }) && linked(host, hidden, path)
  );
}
/** Runs `fn` with the claim of a path. False: somebody else has it. */
function claimed(host: Host, path: string, fn: () => boolean): boolean {
  const at = path.lastIndexOf('/') + 1;
  const claim = `${path.slice(0, at)}.${path.slice(at)}.claim`;
  try {
    host.fs.mkdirSync(claim, { mode: 0o700 });
  } catch (e) {
    if (codeOf(e) !== 'EEXIST') throw e;
    const left = statOf(host, claim);
    if (left !== null && Date.now() - left.mtimeMs > CLAIM_MS) removed(host, claim);
    return false;
  }
  try {
    return fn();
  } finally {
    removed(host, claim);
  }
}
function removed(host: Host, folder: string): void {
  try {
    host.fs.rmdirSync(folder);
  } catch {
    // Somebody else was faster.
  }
}
