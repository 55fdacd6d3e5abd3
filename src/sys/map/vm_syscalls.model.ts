/*
 * vm_syscalls (model): address spaces as sets of pages of bytes, without any sharing of work.
 *
 * A page of a space is a cell: its protection, what a fork makes of it, and the node whose bytes it
 * shows.  A node is a page of an object: its own bytes, or none yet, and then those of the node
 * below it.  A cell that copies gets a node of its own, above the one that it shows, before it
 * is written to.
 */
import { EFAULT } from '../machine/errno.ts';
import { PAGE_SIZE } from '../machine/memory.ts';
import {
  VM_INHERIT_COPY,
  VM_INHERIT_NONE,
  VM_INHERIT_SHARE,
  VM_INHERIT_ZERO,
} from '../h/vm_map.ts';
import { VM_PROT_ALL, VM_PROT_READ, VM_PROT_WRITE } from '../h/vm_prot.ts';

export interface Node {
  bytes: Uint8Array | null;
  /** Somebody wrote to it: zeros that were only read may be in one object or in another. */
  stored: boolean;
  readonly below: Node | null;
}
export interface Cell {
  node: Node;
  copy: boolean;
  prot: number;
  max: number;
  inherit: number;
  locked?: boolean;
}
export const node = (below: Node | null = null): Node => ({ bytes: null, stored: false, below });
/** What a new mapping is: memory of its own. */
export function cell(prot: number, o: Partial<Cell> = {}): Cell {
  return { node: node(), copy: false, prot, max: VM_PROT_ALL, inherit: VM_INHERIT_COPY, ...o };
}
/** The bytes that a node shows, null: nobody has touched it. */
function shown(n: Node): Uint8Array | null {
  for (let at: Node | null = n; at !== null; at = at.below) if (at.bytes !== null) return at.bytes;
  return null;
}
/** Whether what a node shows was written by somebody. */
export function stored(n: Node): boolean {
  for (let at: Node | null = n; at !== null; at = at.below) if (at.bytes !== null) return at.stored;
  return false;
}

/** A space: its cells by page number. */
export class SpaceModel {
  readonly cells = new Map<number, Cell>();

  /** The bytes of a page for a load; null: it may not be read. */
  load(vpn: number): Uint8Array | null {
    const c = this.cells.get(vpn);
    if (c === undefined || (c.prot & VM_PROT_READ) === 0) return null;
    return shown(c.node) ?? (c.node.bytes = new Uint8Array(PAGE_SIZE));
  }
  /** The bytes of a page for a store; null: it may not be written to. */
  store(vpn: number): Uint8Array | null {
    const c = this.cells.get(vpn);
    if (c === undefined || (c.prot & VM_PROT_WRITE) === 0) return null;
    if (c.copy) {
      c.node = node(c.node);
      c.copy = false;
    }
    const seen = shown(c.node);
    c.node.stored = true;
    return (c.node.bytes ??= seen === null ? new Uint8Array(PAGE_SIZE) : seen.slice());
  }
  /** Does `each` to the pieces of a range; returns the errno and how far it came. */
  access(
    address: number,
    length: number,
    write: boolean,
    each: (bytes: Uint8Array, done: number) => void,
  ): { error: number; done: number } {
    for (let done = 0; done < length; ) {
      const at = (address + done) % PAGE_SIZE;
      const vpn = Math.floor((address + done) / PAGE_SIZE);
      const n = Math.min(length - done, PAGE_SIZE - at);
      const bytes = write ? this.store(vpn) : this.load(vpn);
      if (bytes === null) return { error: EFAULT, done };
      each(bytes.subarray(at, at + n), done);
      done += n;
    }
    return { error: 0, done: length };
  }
  /** The cells of a range that are there. */
  range(first: number, n: number): Cell[] {
    const all = Array.from({ length: n }, (_, i) => this.cells.get(first + i));
    return all.filter((c) => c !== undefined);
  }
  map(first: number, n: number, make: (i: number) => Cell): void {
    for (let i = 0; i < n; i++) this.cells.set(first + i, make(i));
  }
  unmap(first: number, n: number): void {
    for (let i = 0; i < n; i++) this.cells.delete(first + i);
  }
  /** Whether all of a range may be locked. */
  lockable(first: number, n: number): boolean {
    const cells = this.range(first, n);
    return cells.length === n && cells.every((c) => c.locked || c.prot !== 0);
  }
  /** A page that copies has its copy from here on. */
  lock(c: Cell): void {
    c.locked = true;
    if (!c.copy) return;
    const bytes = shown(c.node);
    c.node = Object.assign(node(c.node), { bytes: bytes?.slice() ?? null, stored: stored(c.node) });
    c.copy = false;
    c.node.bytes ??= new Uint8Array(PAGE_SIZE);
  }
  fork(): SpaceModel {
    const child = new SpaceModel();
    for (const [vpn, c] of this.cells) {
      if (c.inherit === VM_INHERIT_NONE) continue;
      if (c.inherit === VM_INHERIT_SHARE && c.copy) {
        c.node = node(c.node);
        c.copy = false;
      }
      if (c.inherit === VM_INHERIT_COPY) c.copy = true;
      const zero = c.inherit === VM_INHERIT_ZERO;
      const fresh = zero ? { node: node(), copy: false } : {};
      child.cells.set(vpn, { ...c, locked: false, ...fresh });
    }
    return child;
  }
}
