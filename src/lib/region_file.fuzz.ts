/*
 * Driver: a file mapped shared and private in several spaces, beside a plain array and the file.
 *
 * The model of the file is an array of bytes, that of a private mapping the pages of its own that
 * it has; where it has none it shows the file as it is.  Forks share the one and copy the other.
 * After each sync the file of the host has what the array has, to the byte; in between it is
 * written to, made shorter and longer from outside.  What lies behind the end is an error, and
 * nothing else is, but that a machine with less memory than the file may have none for a window.
 */
import {
  closeSync,
  linkSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { dice } from '../sys/machine/seed.test.lib.ts';
import { boot, KmemError, type Machine, type Region, type Space, type Window } from './index.ts';
import { spaces_gone, vm_checks } from './space.test.lib.ts';

const PAGE = 4096;
const SPACES = 4;
/** A file of more pages is larger than the memory of its machine. */
const ROOMY = 100;
/** Pages of their own that private mappings may have then. */
const OWN_PAGES = 40;

/** A space with a shared and a private mapping of the file. */
interface Mapped {
  readonly space: Space;
  shared: Region;
  readonly own: Region;
  /** Pages of its own that the private mapping has. */
  readonly pages: Map<number, Uint8Array>;
  /** Pages of the shared one that are locked. */
  readonly locked: Set<number>;
}
class Play {
  private file: Uint8Array;
  private all: Mapped[] = [];
  private window: { w: Window; first: number; end: number } | null = null;
  private names = 0;
  private readonly machine: Machine;
  private readonly paths: readonly string[];
  private readonly draw: (n: number) => number;
  private readonly most: number;

  constructor(
    machine: Machine,
    paths: readonly string[],
    draw: (n: number) => number,
    most: number,
  ) {
    this.machine = machine;
    this.paths = paths;
    this.draw = draw;
    this.most = most;
    this.file = new Uint8Array(most * PAGE).map(() => draw(256));
    writeFileSync(paths[0], this.file);
    this.all.push(this.mapped(machine.space('first')));
  }
  private path(): string {
    return this.paths[this.draw(this.paths.length)];
  }
  private map(space: Space, shared: boolean): Region {
    const name = shared ? 'shared' : 'own';
    return space.mmap({ file: this.path(), write: true, shared, name, length: this.most * PAGE });
  }
  private mapped(space: Space): Mapped {
    return {
      space,
      shared: this.map(space, true),
      own: this.map(space, false),
      pages: new Map(),
      locked: new Set(),
    };
  }
  private one(): Mapped {
    return this.all[this.draw(this.all.length)];
  }

  step(): void {
    const n = this.draw(100);
    if (n < 25) this.look();
    else if (n < 50) this.store();
    else if (n < 65) this.store_own();
    else if (n < 72) this.sync();
    else if (n < 78) this.cut();
    else if (n < 83) this.fork();
    else if (n < 87) this.drop();
    else if (n < 92) this.hold();
    else if (n < 95) this.outside();
    else if (n < 96) this.again();
    else if (n < 99) this.lock();
    else this.advise();
  }
  /** A place in the region, near an edge more often than not. */
  private at(): number {
    const page = this.draw(this.most) * PAGE;
    return page + [0, PAGE - 1, this.draw(PAGE)][this.draw(3)];
  }
  private look(): void {
    const s = this.one();
    const at = this.at();
    const page = Math.floor(at / PAGE);
    const gone = page * PAGE >= this.file.length;
    const own = s.pages.get(page);
    this.expect(s.shared, at, gone ? null : (this.file[at] ?? 0));
    const mine = own === undefined ? (gone ? null : (this.file[at] ?? 0)) : own[at % PAGE];
    this.expect(s.own, at, mine);
  }
  private expect(m: Region, at: number, want: number | null): void {
    const got = behind_end(() => m.getU8(at));
    if (got !== want) throw new Error(`${m.name} of ${m.space.name} at ${at}: ${got}, not ${want}`);
  }
  private store(): void {
    const at = this.at();
    if (at >= this.file.length) return;
    const value = this.draw(256);
    this.one().shared.setU8(at, value);
    this.file[at] = value;
  }
  private store_own(): void {
    const s = this.one();
    const at = this.at();
    const page = Math.floor(at / PAGE);
    const value = this.draw(256);
    const own = s.pages.get(page);
    const all = this.all.reduce((n, { pages }) => n + pages.size, 0);
    if (this.most > ROOMY && own === undefined && all >= OWN_PAGES) return;
    const done = behind_end(() => s.own.setU8(at, value));
    const gone = own === undefined && page * PAGE >= this.file.length;
    if (gone !== (done === null)) throw new Error(`own page ${page}: ${gone}, ${done}`);
    if (gone) return;
    const copy = own ?? new Uint8Array(PAGE);
    if (own === undefined) copy.set(this.file.subarray(page * PAGE, (page + 1) * PAGE));
    copy[at % PAGE] = value;
    s.pages.set(page, copy);
  }
  private sync(): void {
    this.one().shared.sync({ wait: this.draw(4) === 0, invalidate: this.draw(3) === 0 });
    this.same();
  }
  private same(): void {
    if (!readFileSync(this.paths[0]).equals(this.file)) throw new Error('the file is another one');
  }
  /** The file has so many bytes from here on. */
  private long(bytes: number): void {
    const next = new Uint8Array(bytes);
    next.set(this.file.subarray(0, bytes));
    this.file = next;
    for (const { locked } of this.all) {
      for (const i of locked) if (i * PAGE >= bytes) locked.delete(i); // unlocked, and gone
    }
  }
  private length(): number {
    const pages = this.draw(this.most + 1);
    return Math.max(pages * PAGE - (this.draw(2) === 0 ? 0 : this.draw(PAGE)), 0);
  }
  private cut(): void {
    const bytes = this.length();
    const busy =
      this.window !== null &&
      bytes < this.file.length &&
      this.window.end > Math.floor(bytes / PAGE);
    try {
      this.one().shared.truncate(bytes);
      if (busy) throw new Error('a truncation over a window');
      this.long(bytes);
    } catch (e) {
      if (!(busy && e instanceof KmemError && e.code === 'EBUSY')) throw e;
    }
  }
  private fork(): void {
    if (this.all.length >= (this.most > ROOMY ? 2 : SPACES)) return;
    const from = this.one();
    const space = from.space.fork(`copy ${this.names++}`);
    const pages = new Map([...from.pages].map(([i, bytes]) => [i, bytes.slice()]));
    this.all.push({
      space,
      shared: space.region('shared'),
      own: space.region('own'),
      pages,
      locked: new Set(),
    });
  }
  private drop(): void {
    if (this.all.length < 2 || this.window !== null) return;
    const [s] = this.all.splice(this.draw(this.all.length), 1);
    s.space.destroy();
  }
  /** Opens a window, stores through it, or closes it. */
  private hold(): void {
    if (this.window === null) {
      const first = this.draw(this.most);
      const end = Math.min(first + 1 + this.draw(4), this.most);
      if (end * PAGE > this.file.length) return;
      const w = this.opened(first * PAGE, (end - first) * PAGE);
      if (w !== null) this.window = { w, first, end };
    } else if (this.draw(3) === 0) {
      this.window.w.close();
      this.window = null;
    } else {
      const { w, first } = this.window;
      const at = this.draw(w.length);
      w.u8[at] = this.draw(256);
      this.file[first * PAGE + at] = w.u8[at];
    }
  }
  private opened(offset: number, n: number): Window | null {
    try {
      return this.one().shared.window(offset, n, { write: true });
    } catch (e) {
      if (!(e instanceof KmemError)) throw e;
      if (this.most > ROOMY && e.code === 'ENOMEM') return null;
      const locked = this.all.some((s) => s.locked.size > 0); // such pages cannot move
      if (locked && e.code === 'EBUSY') return null;
      throw e;
    }
  }
  /** Others write to the file, or change its length. */
  private outside(): void {
    if (this.window !== null) return;
    const { shared } = this.one();
    shared.sync();
    if (this.draw(2) === 0) {
      const bytes = this.length();
      truncateSync(this.paths[0], bytes);
      this.long(bytes);
      shared.sync();
    } else if (this.file.length > 0) {
      // What is locked is not read again.
      for (const s of this.all) {
        s.shared.unlock();
        s.locked.clear();
      }
      const at = this.draw(this.file.length);
      const fd = openSync(this.paths[0], 'r+');
      this.file[at] = this.draw(256);
      writeSync(fd, this.file, at, 1, at);
      closeSync(fd);
      shared.revalidate();
    }
    this.same();
  }
  /** Unmaps a shared mapping and maps it again. */
  private again(): void {
    if (this.window !== null) return;
    const s = this.one();
    s.shared.unmap();
    s.locked.clear();
    s.shared = this.map(s.space, true);
    if (this.file.length < this.most * PAGE) this.long(this.most * PAGE);
  }
  /** Locks pages of a shared mapping, or unlocks them. */
  private lock(): void {
    const s = this.one();
    const first = this.draw(this.most);
    const n = 1 + this.draw(Math.min(this.most - first, 6));
    const pages = Array.from({ length: n }, (_, k) => first + k);
    if (this.draw(3) === 0) {
      s.shared.unlock(first * PAGE, n * PAGE);
      for (const i of pages) s.locked.delete(i);
    } else if (behind_end(() => s.shared.lock(first * PAGE, n * PAGE)) !== null) {
      for (const i of pages) s.locked.add(i);
      if ((first + n - 1) * PAGE >= this.file.length) throw new Error('locked behind the end');
    }
  }
  private advise(): void {
    const how = (['willneed', 'random', 'sequential', 'normal'] as const)[this.draw(4)];
    this.one().shared.advise(how);
  }
  check(): void {
    for (const { space, locked } of this.all) {
      const pages = space.locked / PAGE;
      if (pages !== locked.size) throw new Error(`locked: ${pages} pages, not ${locked.size}`);
    }
    vm_checks();
  }
  end(): void {
    this.window?.w.close();
    this.window = null;
    for (const s of this.all) s.space.destroy();
    this.same();
    spaces_gone(this.machine);
  }
}
/** What a call returns; null: it would have been behind the end of the file. */
function behind_end<T>(call: () => T): T | null {
  try {
    return call();
  } catch (e) {
    if (e instanceof KmemError && e.reason === 'beyond-end-of-file') return null;
    throw e;
  }
}
/** The machine, and pages of the file. */
interface How {
  readonly memory?: string;
  readonly pages?: number;
  readonly INVARIANTS?: boolean;
  readonly checked?: boolean;
}
/** Plays `steps` operations; throws where memory, model and file differ. */
export function run(seed: number, steps: number, how: How = {}): void {
  const { memory = '8M', pages = 24, INVARIANTS = true, checked = false } = how;
  const folder = mkdtempSync(join(tmpdir(), 'kmem-fuzz-'));
  const paths = [join(folder, 'file'), join(folder, 'twin')];
  writeFileSync(paths[0], '');
  linkSync(paths[0], paths[1]);
  const machine = boot({ memory, options: { INVARIANTS }, checked, fresh: true });
  try {
    const play = new Play(machine, paths, dice(seed), pages);
    for (let i = 1; i <= steps; i++) {
      try {
        play.step();
        if (i % 500 === 0) play.check();
      } catch (e) {
        throw new Error(`seed ${seed}, step ${i}: ${(e as Error).message}`, { cause: e });
      }
    }
    play.end();
  } finally {
    machine.shutdown();
    rmSync(folder, { recursive: true });
  }
}
