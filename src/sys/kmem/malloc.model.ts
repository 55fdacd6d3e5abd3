/*
 * malloc against a model: a ledger in plain JavaScript.
 *
 * The model knows each live block's size, type and pattern, and per type the
 * requests, blocks and bytes that must have been counted.  After every command
 * the kernel's numbers must equal the ledger; blocks must not overlap, must
 * keep their bytes, and must be zero where that was asked for.
 */
import assert from 'node:assert/strict';
import { mem } from '../machine/memory.ts';
import { uma_reclaim } from '../uma/uma_drain.ts';
import {
  free,
  M_NOWAIT,
  M_ZERO,
  malloc,
  malloc_type_attach,
  type malloc_type_t,
  malloc_usable_size,
  realloc,
  reallocf,
} from './kern_malloc.ts';
import { malloc_type_sums, malloc_uninit } from './kern_malloc_type.ts';

const PAGE = 4096;
export type Command =
  | { readonly do: 'malloc'; readonly size: number; readonly type: number; readonly zero: boolean }
  | { readonly do: 'free'; readonly which: number }
  | {
      readonly do: 'realloc';
      readonly which: number;
      readonly size: number;
      readonly drop: boolean;
    }
  | { readonly do: 'reclaim' };

interface Block {
  readonly p: number;
  readonly size: number;
  readonly type: number;
  readonly pattern: number;
}
interface Row {
  requests: number;
  inuse: number;
  bytes: number;
  failed: number;
}
/** Bytes that a request of `size` takes. */
function taken(size: number): number {
  if (size > PAGE) return Math.ceil(size / PAGE) * PAGE;
  let b = 16;
  while (b < size) b *= 2;
  return b;
}

export class MallocModel {
  readonly types: malloc_type_t[];
  readonly rows: Row[];
  readonly live: Block[] = [];
  private serial = 0;

  constructor(types: number) {
    this.types = Array.from({ length: types }, (_, i) => malloc_type_attach(`model ${i}`));
    this.rows = this.types.map(() => ({ requests: 0, inuse: 0, bytes: 0, failed: 0 }));
  }
  private bytes(b: Block, n: number): Uint8Array {
    return mem.U8.subarray(b.p * 4, b.p * 4 + n);
  }
  private add(p: number, size: number, type: number): void {
    const b = { p, size, type, pattern: (this.serial++ * 37 + 1) & 0xff };
    assert.equal(malloc_usable_size(p), taken(size));
    for (const other of this.live) {
      const apart = other.p + taken(other.size) / 4 <= p || p + taken(size) / 4 <= other.p;
      assert.ok(apart, `block ${p} of ${size} overlaps ${other.p} of ${other.size}`);
    }
    this.bytes(b, size).fill(b.pattern);
    this.live.push(b);
  }
  private check_bytes(b: Block, n: number): void {
    const at = this.bytes(b, n).findIndex((v) => v !== b.pattern);
    assert.equal(at, -1, `block ${b.p} of ${b.size}: byte ${at} is not what was written`);
  }
  private pick(which: number): Block | undefined {
    if (this.live.length === 0) return undefined;
    return this.live.splice(which % this.live.length, 1)[0];
  }

  run(c: Command): void {
    if (c.do === 'malloc') this.malloc(c.size, c.type % this.types.length, c.zero);
    else if (c.do === 'free') this.free(c.which);
    else if (c.do === 'realloc') this.realloc(c.which, c.size, c.drop);
    else uma_reclaim();
    this.check();
  }
  private malloc(size: number, type: number, zero: boolean): void {
    const p = malloc(size, this.types[type], M_NOWAIT | (zero ? M_ZERO : 0));
    const row = this.rows[type];
    if (p === 0) {
      row.failed++;
      return;
    }
    row.requests++;
    row.inuse++;
    row.bytes += taken(size);
    if (zero) {
      const at = mem.U8.subarray(p * 4, p * 4 + size).findIndex((v) => v !== 0);
      assert.equal(at, -1, `M_ZERO: byte ${at} of ${size}`);
    }
    this.add(p, size, type);
  }
  private free(which: number): void {
    const b = this.pick(which);
    if (!b) return;
    this.check_bytes(b, b.size);
    free(b.p, this.types[b.type]);
    this.gone(b);
  }
  private gone(b: Block): void {
    this.rows[b.type].inuse--;
    this.rows[b.type].bytes -= taken(b.size);
  }
  private realloc(which: number, size: number, drop: boolean): void {
    const b = this.pick(which);
    if (!b) return;
    const row = this.rows[b.type];
    const old = taken(b.size);
    const stays = size <= old && (size > old / 2 || old === 16);
    const q = (drop ? reallocf : realloc)(b.p, size, this.types[b.type], M_NOWAIT);
    if (q === 0) {
      assert.ok(!stays, 'a block that fits was refused');
      row.failed++;
      if (drop) this.gone(b);
      else {
        this.check_bytes(b, b.size);
        this.live.push(b);
      }
      return;
    }
    assert.equal(q === b.p, stays, `${b.size} to ${size}`);
    this.check_bytes({ ...b, p: q }, Math.min(b.size, size));
    if (stays) {
      // The block keeps the size it was made with; its bytes beyond `size` are the caller's.
      this.bytes(b, b.size).fill(b.pattern);
      this.live.push(b);
      return;
    }
    row.requests++;
    row.bytes += taken(size) - old;
    this.add(q, size, b.type);
  }
  /** The kernel's counts are the ledger's. */
  check(): void {
    for (const [i, t] of this.types.entries()) assert.deepEqual(malloc_type_sums(t), this.rows[i]);
  }
  /** Frees all and undoes the types. */
  end(): void {
    while (this.live.length > 0) this.free(0);
    this.check();
    for (const t of this.types) malloc_uninit(t);
  }
}
