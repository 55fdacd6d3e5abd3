/*
 * memguard (fuzz): seeded operations on guarded blocks beside a model of bytes.
 *
 * Blocks of one type come, change their size and go, guarded or not, as the variables say at that
 * moment; bytes are stored and read by addresses and by views, and compared.  Pokes go where nobody
 * may: beside a block on its pages, on its guards, at what was freed.  Each must be seen, told with
 * the right block, and leave memory as it was; none within a block may be seen.
 *
 * Any number of threads may play at once: each has its own blocks.  Another thread's block comes to
 * lie at an address that was freed here only after the cursor began anew, which is counted, so a
 * poke there counts only if it did not.
 */
import { get64 } from '../machine/struct.ts';
import { mem, PAGE_SIZE } from '../machine/memory.ts';
import { dice } from '../machine/seed.test.lib.ts';
import type { malloc_type_t } from '../h/malloc.ts';
import { M_GUARDABLE, M_NOWAIT } from '../h/malloc_flags.ts';
import { guard_root, memguard_root } from '../h/memguard.ts';
import { UMA_ZFLAG_PROGRAM, type zone_t } from '../h/uma.ts';
import { MAP_ENTRY_GUARDED, MAP_ENTRY_ITEM } from '../h/vm_map.ts';
import { kernel_parts } from '../machine/parts.ts';
import { uma_zalloc, uma_zfree } from '../uma/uma_core.ts';
import { uma_each_zone, zone_name } from '../uma/uma_int.ts';
import { uma_zcreate } from '../uma/uma_zone.ts';
import { free, malloc, realloc } from './kern_malloc.ts';
import { malloc_type_attach, malloc_type_sums } from './kern_malloc_type.ts';
import { guard_down, guard_up, get, is_guarded, set } from './memguard.test.lib.ts';
import {
  GUARD_FREED,
  memguard_access,
  memguard_block,
  memguard_flat,
  memguard_free,
  memguard_realloc,
} from './memguard.ts';
import { memguard_no_block, memguard_trap } from './memguard_trap.ts';

interface Block {
  at: number;
  size: number;
  /** What its bytes hold: this number, and each next byte one more. */
  seed: number;
  /** It is an item of the zone. */
  item: boolean;
}
const ITEM_BYTES = 72;
/** A zone whose items are played with, too. */
export function play_zone(name: string): zone_t {
  const z = uma_zcreate(name, ITEM_BYTES, { flags: UMA_ZFLAG_PROGRAM });
  kernel_parts.memguard?.zone_made(z);
  return z;
}
function zone_named(name: string): zone_t {
  let found = 0 as zone_t;
  uma_each_zone((z) => {
    if (zone_name(z) === name) found = z;
  });
  return found;
}
const BLOCKS = 24;
/** A poke further away than this from its block may be nearer to a neighbour. */
const NEAR = PAGE_SIZE / 2 - 16;

function same(what: string, got: unknown, expected: unknown): void {
  if (got !== expected) throw new Error(`${what}: ${got}, the model says ${expected}`);
}
/** One thread's blocks of a type and items of a zone of the same name, and what it did. */
export class GuardPlay {
  readonly t: malloc_type_t;
  readonly z: zone_t;
  readonly draw: (n: number) => number;
  readonly blocks: Block[] = [];
  /** Stray accesses and second frees that were made, and seen. */
  traps = 0;
  guarded = 0;
  plain = 0;

  /** No other thread plays: what is told is about the blocks here. */
  readonly alone: boolean;

  constructor(seed: number, name: string, alone: boolean) {
    this.alone = alone;
    this.t = malloc_type_attach(name);
    this.z = zone_named(name);
    this.draw = dice(seed);
  }
  /** `traps`: pokes may be made, which trap. */
  step(traps = true): void {
    const { draw, blocks } = this;
    const what = draw(traps ? 12 : 8);
    if (blocks.length === 0 || (what < 3 && blocks.length < BLOCKS)) return this.alloc();
    const b = blocks[draw(blocks.length)];
    if (what < 4) return this.give(b, traps);
    if (what < 5) return this.resize(b, traps);
    if (what < 8) return this.use(b);
    this.poke(b);
  }
  size(): number {
    const { draw } = this;
    const kind = draw(20);
    if (kind === 0) return 0;
    if (kind === 1) return 1 + draw(3 * PAGE_SIZE);
    return 1 + draw(kind < 5 ? PAGE_SIZE : 200);
  }
  alloc(): void {
    const item = this.draw(4) === 0;
    const size = item ? ITEM_BYTES : this.size();
    const flags = M_NOWAIT | M_GUARDABLE;
    const at = (item ? uma_zalloc(this.z, flags) : malloc(size, this.t, flags)) * 4;
    if (at === 0) return;
    if (is_guarded(at)) this.guarded++;
    else this.plain++;
    const b = { at, size, seed: this.draw(256), item };
    this.blocks.push(b);
    this.fill(b, 0, size);
  }
  /** Calls `each` with the places of n bytes of a block from number `from` on. */
  bytes(b: Block, from: number, n: number, each: (at: number, i: number) => void): void {
    const pieces = (at: number, len: number, done: number): void => {
      for (let i = 0; i < len; i++) each(at + i, from + done + i);
    };
    if (!is_guarded(b.at)) return pieces(b.at + from, n, 0);
    if (this.draw(2) === 0) same('access', memguard_access(b.at + from, n, true, pieces), 0);
    else pieces(memguard_flat(b.at + from, n), n, 0);
  }
  fill(b: Block, from: number, n: number): void {
    this.bytes(b, from, n, (at, i) => {
      mem.U8[at] = b.seed + i;
    });
  }
  compare(b: Block, from: number, n: number): void {
    this.bytes(b, from, n, (at, i) => {
      if (mem.U8[at] !== ((b.seed + i) & 255)) same(`byte ${i}`, mem.U8[at], (b.seed + i) & 255);
    });
  }
  use(b: Block): void {
    const from = this.draw(b.size + 1);
    const n = this.draw(b.size - from + 1);
    this.compare(b, from, n);
    if (this.draw(4) > 0) return;
    this.compare(b, 0, b.size);
    b.seed = this.draw(256);
    this.fill(b, 0, b.size);
  }
  gone(b: Block): void {
    this.blocks.splice(this.blocks.indexOf(b), 1);
  }
  give(b: Block, traps: boolean): void {
    this.compare(b, 0, b.size);
    this.gone(b);
    if (!is_guarded(b.at)) {
      if (b.item) uma_zfree(this.z, b.at / 4);
      else free(b.at / 4, this.t);
      return;
    }
    const wraps = wrapped();
    same('free', this.guarded_free(b), GUARD_FREED);
    if (traps && this.draw(2) === 0) this.late(b, wraps);
  }
  guarded_free(b: Block): number {
    return memguard_free(b.at, b.item ? this.z : this.t, b.item ? MAP_ENTRY_ITEM : 0);
  }
  /** A use of a block that was freed: a load, or another free. */
  late(b: Block, wraps: number): void {
    const again = this.draw(3) === 0;
    const from = this.draw(b.size);
    const n = 1 + this.draw(b.size - from);
    const how = again ? this.guarded_free(b) : memguard_access(b.at + from, n, true, nop);
    if (wrapped() !== wraps) return; // somebody else may be there
    same('late use', how, again ? 2 : -1);
    const said = again ? memguard_no_block(b.at, 'f') : memguard_trap('op', b.at + from, n, 'f');
    this.traps++;
    if (wrapped() !== wraps) return;
    const hex = `0x${b.at.toString(16)}`;
    const known = new RegExp(`${called(b)} at ${hex} that was freed`);
    // The ring has some dozen records, which other threads may have written over meanwhile.
    if (this.alone && !known.test(said.text)) throw new Error(`told as: ${said.text}`);
  }
  resize(b: Block, traps: boolean): void {
    this.compare(b, 0, b.size);
    if (b.item) return;
    const size = this.size();
    const wraps = wrapped();
    const was = { ...b };
    const guarded = is_guarded(b.at);
    const q = guarded
      ? memguard_realloc(b.at, size, this.t, M_NOWAIT)
      : realloc(b.at / 4, size, this.t, M_NOWAIT | M_GUARDABLE) * 4;
    if (q === 0) return this.compare(b, 0, b.size);
    const kept = Math.min(size, b.size);
    b.at = q;
    b.size = size;
    this.compare(b, 0, kept);
    this.fill(b, kept, size - kept);
    if (guarded && traps) this.late(was, wraps);
  }
  /** A touch beside a block, on its pages or on a guard; or of one that runs over its end. */
  poke(b: Block): void {
    if (!is_guarded(b.at)) return;
    const known = memguard_block(b.at);
    if (known === null || known.at !== b.at || known.size !== b.size)
      same('block', known?.at, b.at);
    const around = ((known?.flags ?? 0) & MAP_ENTRY_GUARDED) !== 0;
    const room = PAGE_SIZE * 2;
    const behind = b.at + b.size;
    const first = Math.floor(b.at / PAGE_SIZE) * PAGE_SIZE - (around ? PAGE_SIZE : 0);
    const last = Math.ceil(behind / PAGE_SIZE) * PAGE_SIZE + (around ? PAGE_SIZE : 0);
    const how = this.draw(3);
    let at = behind - 1 - this.draw(Math.min(b.size, 8)); // runs over its end
    let n = behind - at + 1 + this.draw(8);
    if (how === 0) {
      at = behind + this.draw(Math.min(room, last - behind) || 1);
      n = 1;
      if (at >= last) return;
    } else if (how === 1) {
      at = b.at - 1 - this.draw(Math.min(room, b.at - first) || 1);
      n = 1;
      if (at < first) return;
    }
    let moved = 0;
    const count = (): void => void moved++;
    same(`a poke at ${at - b.at} of ${b.size}`, memguard_access(at, n, true, count), -1);
    same('bytes moved', moved, 0);
    same('a view', memguard_flat(at, n), 0);
    const { text } = memguard_trap('op', at, n, `${at}`);
    this.traps++;
    const near = at >= b.at && at < behind + NEAR;
    const mine = new RegExp(`${called(b)} at 0x${b.at.toString(16)}$`);
    if (around && near && !mine.test(text)) throw new Error(`told as: ${text}`);
  }
  /** All goes, and the type has nothing. */
  end(): void {
    for (const b of [...this.blocks]) this.give(b, false);
    if (this.alone) same('blocks of the type', malloc_type_sums(this.t).inuse, 0);
  }
}
/** What a block is told as. */
const called = ({ item, size }: Block): string =>
  `${item ? 'an item' : 'a block'} of ${size} bytes? of ${item ? 'zone' : 'type'} 'play'`;
const nop = (): void => {};
function wrapped(): number {
  return get64(memguard_root.wrapcnt, guard_root());
}
/** Changes what is guarded, at random. */
export function guard_turn(draw: (n: number) => number, name: string): void {
  const what = draw(6);
  if (what === 0) set('desc', draw(2) === 0 ? name : '');
  if (what === 1) set('frequency', draw(3) === 0 ? 50_000 : 0);
  if (what === 2) set('options', draw(4));
  if (what === 3) set('minsize', draw(3) * 40);
  if (what === 4) set('quarantine', draw(3) * 16 * PAGE_SIZE);
  if (what === 5) set('desc', name);
}
/** For npm run fuzz. */
export function run(seed: number, steps: number): void {
  guard_up({ desc: 'play', trap: 'report' }, { memory: '4M' });
  play_zone('play');
  const p = new GuardPlay(seed, 'play', true);
  const draw = dice(seed + 1);
  for (let i = 0; i < steps; i++) {
    if (i % 50 === 0) guard_turn(draw, 'play');
    p.step();
  }
  p.end();
  same('traps', get('traps'), p.traps);
  same('late stores', get('late'), 0);
  if (steps > 1000 && (p.guarded === 0 || p.plain === 0 || p.traps === 0)) {
    throw new Error(`${p.guarded} guarded, ${p.plain} not, ${p.traps} traps`);
  }
  guard_down();
}
