/*
 * tiles: an image-tile cache that lives in a fixed amount of memory.
 *
 * Tiles have all sizes.  The cache keeps as many as fit into the machine; when
 * there is no memory for a new one, the tiles that were used longest ago make
 * room, until the allocator has a run of pages that is long enough.
 */
import { type Address, boot, KmemError } from '../src/lib/index.ts';

const machine = boot({ memory: '8M', cpus: 2 });
const type = machine.type('tiles');

interface Tile {
  readonly address: Address;
  readonly size: number;
}
const tiles = new Map<string, Tile>(); // in order of last use
const count = { hits: 0, misses: 0, evicted: 0 };

/** Memory for a tile, at the cost of the oldest ones. */
function make(size: number): Address {
  for (;;) {
    try {
      return type.alloc(size);
    } catch (e) {
      if (!(e instanceof KmemError && e.code === 'ENOMEM') || tiles.size === 0) throw e;
      const [key, oldest] = tiles.entries().next().value as [string, Tile];
      type.free(oldest.address);
      tiles.delete(key);
      count.evicted++;
    }
  }
}
function get(key: string, size: number, render: (bytes: Uint8Array) => void): Uint8Array {
  const found = tiles.get(key);
  if (found) {
    count.hits++;
    tiles.delete(key); // and to the end of the order
    tiles.set(key, found);
    return machine.bytes(found.address, found.size);
  }
  count.misses++;
  const tile = { address: make(size), size };
  tiles.set(key, tile);
  const bytes = machine.bytes(tile.address, size);
  render(bytes);
  return bytes;
}

// A walk over a map of 2000 tiles of 4 to 100 kilobytes, turning back now and then.
let seed = 1;
const random = (n: number): number => {
  seed = (Math.imul(seed, 48271) >>> 0) % 2147483647;
  return seed % n;
};
let at = 1000;
for (let step = 0; step < 20_000; step++) {
  at = (at + random(41) - 20 + 2000) % 2000;
  const bytes = get(`tile ${at}`, 4096 + ((at * 7919) % 98304), (b) => b.fill(at));
  if (bytes[0] !== (at & 255) || bytes[bytes.length - 1] !== (at & 255)) {
    throw new Error(`tile ${at} was overwritten`);
  }
}
const { inUse } = type.stats;
console.log(
  `${Math.round(count.hits / 200)} % hits in 8M, ${count.evicted > 0 ? 'with' : 'no'} evictions`,
);
console.log(
  `tiles in the map and blocks in use: ${inUse === tiles.size ? 'as many' : 'not equal'}`,
);
for (const { address } of tiles.values()) type.free(address);
console.log(`${type.stats.inUse} blocks at the end`);
machine.shutdown();
