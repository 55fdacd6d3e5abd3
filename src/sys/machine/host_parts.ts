/*
 * host_parts: files that are being written, under names that say by whom.
 *
 *      BEGIN PID-START-SPACE.WHO-TIME-N.part         numbers in base 36: names are short
 *
 * A file that is to be there whole or not at all is written beside its place, and gets its own name
 * at the end.  If its process or thread is killed meanwhile nobody removes it: so whoever writes
 * the next one there first removes those whose writers are proved to be gone.
 */
import { host_fs, host_gone, host_who } from './host.ts';
import { host_process, host_process_gone } from './host_process.ts';

interface FolderLike {
  readdirSync(path: string): string[];
  lstatSync(path: string): { uid: number; isFile(): boolean };
  unlinkSync(path: string): void;
}
const proc = (globalThis as { process?: { getuid?(): number } }).process;
const fs = host_fs as unknown as FolderLike | null;
const BASE = 36;
const PART = /^([0-9a-z]+)-([0-9a-z]+)-([0-9a-z]+)\.([0-9a-z]+)-[0-9a-z]+-[0-9a-z]+\.part$/;

let parts = 0;
/** A name that no other file has, behind `begin`: a path, or a folder and some letters. */
export function host_part(begin: string): string {
  const process = host_process().split('-').map(Number);
  const numbers = [...process, host_who(), Date.now(), ++parts].map((n) => n.toString(BASE));
  const [pid, start, space, who, time, n] = numbers;
  return `${begin}${pid}-${start}-${space}.${who}-${time}-${n}.part`;
}
/** Removes this user's files with such names behind `begin` whose writers are gone. */
export function host_parts_clear(begin: string): void {
  if (fs === null) return;
  const at = begin.lastIndexOf('/') + 1;
  const folder = begin.slice(0, at) || '.';
  try {
    for (const name of fs.readdirSync(folder)) {
      if (!name.startsWith(begin.slice(at)) || !left(name.slice(begin.length - at))) continue;
      const path = begin.slice(0, at) + name;
      const stat = fs.lstatSync(path);
      if (stat.isFile() && stat.uid === proc?.getuid?.()) fs.unlinkSync(path);
    }
  } catch {
    // The folder cannot be looked at, or another process was faster: the next one may do it.
  }
}
/** Whether the end of a name says that it was made by a process or thread that is gone. */
function left(name: string): boolean {
  const numbers = PART.exec(name)
    ?.slice(1)
    .map((n) => Number.parseInt(n, BASE));
  if (numbers === undefined) return false;
  const [pid, start, space, who] = numbers;
  const process = `${pid}-${start}-${space}`;
  return process === host_process() ? host_gone(who) : host_process_gone(process);
}
