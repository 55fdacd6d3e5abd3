/*
 * vm_events (model): operations on address spaces, played the simple way.
 *
 * A space is a Map from page to protection, nothing shared, a fork copies all of it.
 * What the operations promise (vm_events.ts) is looked at on the way: spaces and
 * processes are there when they are named, and new when they are said to be.
 *
 * What a program is made of at execve (its image, the stack, the loader) is not in a
 * recording.  So pages that nothing mapped nor unmapped in a space may be of it: such
 * hits are counted apart from those of pages that an operation took away.
 */
import assert from 'node:assert/strict';
import * as V from '../ring/vm_events.ts';

const PAGE = 4096;
/** Ranges of more pages are left out: no program's, but a damaged recording may have some. */
const MOST_PAGES = 2 ** 20;

export class ModelSpace {
  /** Page to protection. */
  readonly pages = new Map<number, number>();
  /** Pages that were mapped once and are not now. */
  readonly taken = new Set<number>();
  users = 0;
}

/** A row as its columns. */
interface Row {
  op: number;
  pid: number;
  space: number;
  address: number;
  length: number;
  prot: number;
  flags: number;
  to: number;
  to_length: number;
}
function row_of(rows: Float64Array, at: number): Row {
  return {
    op: rows[at + V.V_OP],
    pid: rows[at + V.V_PID],
    space: rows[at + V.V_SPACE],
    address: rows[at + V.V_ADDRESS],
    length: rows[at + V.V_LENGTH],
    prot: rows[at + V.V_PROT],
    flags: rows[at + V.V_FLAGS],
    to: rows[at + V.V_TO],
    to_length: rows[at + V.V_TO_LENGTH],
  };
}
function page_range(address: number, length: number): [first: number, end: number] {
  const first = Math.floor(address / PAGE);
  const end = Math.ceil((address + length) / PAGE);
  return end - first > MOST_PAGES ? [first, first] : [first, end];
}

export class VmModel {
  readonly spaces = new Map<number, ModelSpace>();
  readonly processes = new Map<number, number>();
  /** Numbers of the operations so far. */
  readonly counts = new Map<number, number>();
  /** Pages mapped now, in all spaces, and the most there were at once. */
  mapped = 0;
  most_mapped = 0;
  /** Pages that munmap, mprotect and the like hit: mapped ones, and those of an image. */
  hits = 0;
  image_hits = 0;
  /** Hits of pages that an operation had taken away before. */
  readonly wrong: string[] = [];
  #highest = 0;

  play(rows: Float64Array, count: number): void {
    for (let i = 0; i < count; i++) this.#play(row_of(rows, i * V.VM_COLUMNS));
  }

  #play(row: Row): void {
    const { op, pid } = row;
    this.counts.set(op, (this.counts.get(op) ?? 0) + 1);
    switch (op) {
      case V.VM_START:
        this.#new_process(pid, this.#new_space(row.space, null), row.space);
        break;
      case V.VM_FORK:
        this.#fork(row);
        break;
      case V.VM_EXEC:
        this.#exec(row);
        break;
      case V.VM_EXIT:
        this.#has(row).users--;
        this.processes.delete(pid);
        break;
      case V.VM_FREE:
        this.#free(row.space);
        break;
      default:
        this.#memory(row);
    }
    this.most_mapped = Math.max(this.most_mapped, this.mapped);
  }
  #fork(row: Row): void {
    const from = this.#has(row);
    assert.ok(row.to !== row.pid);
    const shared = row.to_length === row.space;
    const space = shared ? from : this.#new_space(row.to_length, from);
    this.#new_process(row.to, space, row.to_length);
  }
  #exec(row: Row): void {
    const old = this.processes.get(row.pid);
    assert.ok(old !== undefined, `execve of no process ${row.pid}`);
    this.processes.delete(row.pid);
    const before = this.spaces.get(old);
    if (before !== undefined) before.users--;
    this.#new_process(row.pid, this.#new_space(row.space, null), row.space);
  }
  #new_space(number: number, from: ModelSpace | null): ModelSpace {
    assert.ok(number > this.#highest, `space ${number} is not new`);
    this.#highest = number;
    const space = new ModelSpace();
    for (const [page, prot] of from?.pages ?? []) space.pages.set(page, prot);
    for (const page of from?.taken ?? []) space.taken.add(page);
    this.mapped += space.pages.size;
    this.spaces.set(number, space);
    return space;
  }
  #new_process(pid: number, space: ModelSpace, number: number): void {
    assert.ok(!this.processes.has(pid), `process ${pid} is there`);
    this.processes.set(pid, number);
    space.users++;
  }
  /* The space of an operation, which is that of its process. */
  #has(row: Row): ModelSpace {
    assert.equal(this.processes.get(row.pid), row.space, `space of process ${row.pid}`);
    const space = this.spaces.get(row.space);
    assert.ok(space !== undefined, `space ${row.space}`);
    return space;
  }
  #free(number: number): void {
    const space = this.spaces.get(number);
    assert.ok(space !== undefined, `space ${number} is there`);
    // execve says what it frees before it says what it makes.
    const users = [...this.processes.values()].filter((n) => n === number).length;
    assert.ok(users <= 1, `space ${number} has users`);
    this.mapped -= space.pages.size;
    this.spaces.delete(number);
  }

  #memory(row: Row): void {
    const space = this.#has(row);
    switch (row.op) {
      case V.VM_MMAP:
        this.#map(space, row.address, row.length, row.prot);
        break;
      case V.VM_MUNMAP:
        this.#hit(space, row);
        this.#unmap(space, row.address, row.length);
        break;
      case V.VM_MPROTECT:
        this.#hit(space, row);
        this.#protect(space, row);
        break;
      case V.VM_MREMAP:
        this.#remap(space, row);
        break;
      case V.VM_BRK:
        if (row.address > row.length) {
          const first = Math.ceil(row.length / PAGE) * PAGE;
          if (row.address > first) this.#map(space, first, row.address - first, 3);
        } else this.#unmap(space, Math.ceil(row.address / PAGE) * PAGE, row.length - row.address);
        break;
      case V.VM_MADVISE:
      case V.VM_MLOCK:
      case V.VM_MUNLOCK:
      case V.VM_MINCORE:
      case V.VM_MSYNC:
        this.#hit(space, row);
    }
  }
  #map(space: ModelSpace, address: number, length: number, prot: number): void {
    const [first, end] = page_range(address, length);
    const before = space.pages.size;
    for (let page = first; page < end; page++) {
      space.pages.set(page, prot);
      space.taken.delete(page);
    }
    this.mapped += space.pages.size - before;
  }
  #unmap(space: ModelSpace, address: number, length: number): void {
    const [first, end] = page_range(address, length);
    for (let page = first; page < end; page++) {
      if (space.pages.delete(page)) this.mapped--;
      space.taken.add(page);
    }
  }
  #protect(space: ModelSpace, { address, length, prot }: Row): void {
    const [first, end] = page_range(address, length);
    for (let page = first; page < end; page++) {
      if (space.pages.has(page)) space.pages.set(page, prot);
    }
  }
  #remap(space: ModelSpace, row: Row): void {
    this.#hit(space, row);
    const prot = space.pages.get(Math.floor(row.address / PAGE)) ?? 3;
    if ((row.flags & V.VM_KEEP) === 0) this.#unmap(space, row.address, row.length);
    this.#map(space, row.to, row.to_length, prot);
  }
  #hit(space: ModelSpace, { op, address, length, pid }: Row): void {
    const [first, end] = page_range(address, length);
    for (let page = first; page < end; page++) {
      if (space.pages.has(page)) this.hits++;
      else if (!space.taken.has(page)) this.image_hits++;
      else {
        this.wrong.push(`op ${op} of ${pid} at page ${page.toString(16)}`);
        return;
      }
    }
  }
}
