/*
 * store_opfs: files of a browser's private file system, in the one thread that may have them open.
 *
 * A browser gives a page's origin a file system of its own (OPFS).  Synchronous calls on a file
 * need its access handle, which only a dedicated worker gets, one at a time, and by a promise.
 * So one thread has all files open, and does for the others what they ask (object/store_post.ts).
 * This file is what that thread knows: its handles, by numbers that it is given, and the errno
 * for what a browser throws.
 *
 *      const files = new OpfsFiles(opfs_folder())
 *      await files.open(7, 'swap', STORE_NEW)        0, or an errno
 *      files.read(7, 4096, views)                    bytes read, or the errno, negated
 *
 * Views may lie over shared memory.  Reading and writing are whole or an errno, as of any store.
 */
import {
  EACCES,
  EBADF,
  EBUSY,
  EEXIST,
  EINVAL,
  EIO,
  EISDIR,
  ENOENT,
  ENOSPC,
  errno_of_code,
} from './errno.ts';
import { STORE_CREATE, STORE_NEW } from './store.ts';
import { answered } from './store_fault.ts';

/** What a browser calls a FileSystemSyncAccessHandle. */
export interface OpfsHandle {
  read(into: Uint8Array, options: { at: number }): number;
  write(from: Uint8Array, options: { at: number }): number;
  truncate(size: number): void;
  getSize(): number;
  flush(): void;
  close(): void;
}
/** A folder of such files. */
export interface OpfsFolder {
  /** Opens a file, made if it is not there and `create` says so. */
  open(name: string, create: boolean): Promise<OpfsHandle>;
  remove(name: string): Promise<void>;
}
interface FileHandleLike {
  createSyncAccessHandle?(): Promise<OpfsHandle>;
}
interface DirectoryLike {
  getFileHandle(name: string, options: { create: boolean }): Promise<FileHandleLike>;
  removeEntry(name: string): Promise<void>;
}
interface StorageLike {
  getDirectory?(): Promise<DirectoryLike>;
}

/** The root of this origin's file system; null where there is none, as in Node. */
export function opfs_folder(): OpfsFolder | null {
  const { navigator } = globalThis as { navigator?: { storage?: StorageLike } };
  const storage = navigator?.storage;
  if (typeof storage?.getDirectory !== 'function') return null;
  const directory = (): Promise<DirectoryLike> => (storage as Required<StorageLike>).getDirectory();
  return {
    async open(name, create) {
      const file = await (await directory()).getFileHandle(name, { create });
      if (!file.createSyncAccessHandle) throw named('NotAllowedError');
      return await file.createSyncAccessHandle();
    },
    remove: async (name) => (await directory()).removeEntry(name),
  };
}
function named(name: string): Error {
  return Object.assign(new Error(name), { name });
}

/** By the name of what a browser throws. */
const ERRNOS: Readonly<Record<string, number>> = {
  QuotaExceededError: ENOSPC,
  NotFoundError: ENOENT,
  NoModificationAllowedError: EBUSY,
  TypeMismatchError: EISDIR,
  InvalidStateError: EBADF,
  NotAllowedError: EACCES,
  SecurityError: EACCES,
  TypeError: EINVAL,
};
function errno_of(e: unknown): number {
  const { name, code } = e as { name?: string; code?: unknown };
  const by_code = typeof code === 'string' ? errno_of_code(code) : 0;
  return by_code || (ERRNOS[name ?? ''] ?? EIO);
}
/** A call of the browser; its answer, or the errno, negated. */
function answer(call: () => number): number {
  try {
    return call();
  } catch (e) {
    return -errno_of(e);
  }
}

/** The files that this thread has open, by number. */
export class OpfsFiles {
  readonly #folder: OpfsFolder;
  readonly #open = new Map<number, OpfsHandle>();

  constructor(folder: OpfsFolder) {
    this.#folder = folder;
  }
  has(id: number): boolean {
    return this.#open.has(id);
  }
  ids(): number[] {
    return [...this.#open.keys()];
  }
  /** Opens a file under a number, as store_open does (STORE_*). 0, or an errno. */
  async open(id: number, name: string, how: number): Promise<number> {
    try {
      if (how === STORE_NEW && (await this.#there(name))) return EEXIST;
      const handle = await this.#folder.open(name, how >= STORE_CREATE);
      if (how >= STORE_CREATE) handle.truncate(0);
      this.#open.set(id, handle);
      return 0;
    } catch (e) {
      return errno_of(e);
    }
  }
  /** Whether a file is there, which one that is open elsewhere is, too. */
  async #there(name: string): Promise<boolean> {
    try {
      (await this.#folder.open(name, false)).close();
      return true;
    } catch (e) {
      const error = errno_of(e);
      if (error === ENOENT) return false;
      if (error === EBUSY) return true;
      throw e;
    }
  }
  /** Closes a file: its number is no more. */
  close(id: number): void {
    const handle = this.#open.get(id);
    this.#open.delete(id);
    answer(() => answered(() => handle?.close())); // errno: what was written was told
  }
  /** Closes a file, if it is open, and removes it. 0, or an errno. */
  async remove(id: number, name: string): Promise<number> {
    this.close(id);
    try {
      await this.#folder.remove(name);
      return 0;
    } catch (e) {
      return errno_of(e);
    }
  }
  /** Reads from byte `at` on: the bytes read, fewer at the end, or the errno, negated. */
  read(id: number, at: number, into: readonly Uint8Array[]): number {
    return this.#with(id, (handle) => {
      let done = 0;
      for (const view of into) {
        const n = handle.read(view, { at: at + done });
        done += n;
        if (n < view.length) break;
      }
      return done;
    });
  }
  /** Writes all from byte `at` on. 0, or the errno, negated. */
  write_at(id: number, at: number, from: readonly Uint8Array[]): number {
    return this.#with(id, (handle) => {
      let done = 0;
      for (const view of from) {
        if (handle.write(view, { at: at + done }) !== view.length) return -ENOSPC;
        done += view.length;
      }
      return 0;
    });
  }
  /** Bytes of a file, or the errno, negated. */
  size(id: number): number {
    return this.#with(id, (handle) => handle.getSize());
  }
  /** Makes a file so long. 0, or the errno, negated. */
  truncate(id: number, size: number): number {
    return this.#with(id, (handle) => answered(() => handle.truncate(size)));
  }
  /** All that was written stays. 0, or the errno, negated. */
  sync(id: number): number {
    return this.#with(id, (handle) => answered(() => handle.flush()));
  }
  #with(id: number, use: (handle: OpfsHandle) => number): number {
    const handle = this.#open.get(id);
    return handle === undefined ? -EBADF : answer(() => use(handle));
  }
}
