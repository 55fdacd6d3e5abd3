/*
 * The thread that has a browser's files open, in store_post.test.ts: Node has no such files, so
 * they lie in a folder, where each may be open once, as in a browser, and every answer takes a
 * turn of the event loop.  A file whose name says so is slow, full, or cannot be opened.
 */
import {
  closeSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';
import { abandon, attach } from '../boot/whole.ts';
import { host_sleep } from '../machine/host.ts';
import type { OpfsFolder, OpfsHandle } from '../machine/store_opfs.ts';
import { opfs_serve } from './store_post.ts';

function failing(name: string): Error {
  return Object.assign(new Error(name), { name });
}
/** A folder of the host's as a browser shows its own. */
function folder_of(path: string): OpfsFolder {
  const open = new Set<string>();
  return {
    async open(name, create) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      if (name.includes('/')) throw new TypeError('a name');
      if (name.includes('denied')) throw failing('NotAllowedError');
      if (open.has(name)) throw failing('NoModificationAllowedError');
      open.add(name);
      try {
        return handle_of(openSync(join(path, name), create ? 'a+' : 'r+'), name, path, () =>
          open.delete(name),
        );
      } catch (e) {
        open.delete(name);
        throw (e as { code?: string }).code === 'ENOENT' ? failing('NotFoundError') : e;
      }
    },
    async remove(name) {
      if (open.has(name)) throw failing('NoModificationAllowedError');
      rmSync(join(path, name));
    },
  };
}
function handle_of(first: number, name: string, path: string, closed: () => void): OpfsHandle {
  closeSync(first); // it was for the making alone: writes go anywhere
  const fd = openSync(join(path, name), 'r+');
  return {
    read(into, { at }) {
      if (name.includes('slow')) host_sleep(150);
      return readSync(fd, into, 0, into.length, at);
    },
    write(from, { at }) {
      if (name.includes('full') && at + from.length > 8192) throw failing('QuotaExceededError');
      return writeSync(fd, from, 0, from.length, at);
    },
    truncate: (size) => ftruncateSync(fd, size),
    getSize: () => fstatSync(fd).size,
    flush: () => fsyncSync(fd),
    close() {
      closeSync(fd);
      closed();
    },
  };
}

const { handle, folder } = workerData as { handle: Parameters<typeof attach>[0]; folder: string };
const port = parentPort;
port?.on('message', () => {}); // a pending wait of the event loop keeps no thread alive
const cpu = attach(handle);
const ended = opfs_serve(folder_of(folder));
port?.postMessage(cpu);
ended.then(
  (error) => port?.postMessage(error),
  (e) => {
    port?.postMessage((e as { code?: string }).code ?? String(e));
    abandon();
    port?.close();
  },
);
