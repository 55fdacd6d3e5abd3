/*
 * tiles: an image-tile cache that lives in a fixed amount of memory.
 *
 * Tiles have all sizes.  The cache keeps as many as fit into the machine; when
 * there is no memory for a new one, the tiles that were used longest ago make
 * room, until the allocator has a run of pages that is long enough.
 */
import { type Address, boot } from '../src/lib/index.ts';

const STEPS = Number(process.argv[2] ?? 20_000);
const machine = boot({ memory: '8M', cpus: 2 });
const type = machine.type('tiles');
/** Room is made for several tiles at once: before tryAlloc gives up, it looks everywhere. */
const ROOM = 512 * 1024;

interface Tile {
  readonly address: Address;
  readonly size: number;
}
const tiles = new Map<string, Tile>(); // in order of last use
const count = { hits: 0, misses: 0, evicted: 0 };

/** Memory for a tile, at the cost of the oldest ones. */
function make(size: number): Address {
  let at = type.tryAlloc(size);
  while (at === undefined && tiles.size > 0) {
    let freed = 0;
    for (const [key, oldest] of tiles) {
      type.free(oldest.address);
      tiles.delete(key);
      count.evicted++;
      freed += oldest.size;
      if (freed >= ROOM) break;
    }
    at = type.tryAlloc(size);
  }
  return at ?? type.alloc(size); // nothing is left to go: its error says why
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
const picture = new Uint8Array(256 * 1024).map((_, i) => i >> 6);
let seed = 1;
const random = (n: number): number => {
  seed = (Math.imul(seed, 48271) >>> 0) % 2147483647;
  return seed % n;
};
let at = 1000;
let sum = 0;
for (let step = 0; step < STEPS; step++) {
  at = (at + random(41) - 20 + 2000) % 2000;
  const size = 4096 + ((at * 7919) % 98304);
  const tile = get(`tile ${at}`, size, (b) => b.set(picture.subarray(at * 64, at * 64 + size)));
  sum = (sum * 31 + tile[0] * 256 + tile[size - 1] + tile.length) % 1_000_003;
}
console.log(`${STEPS} tiles served, checksum ${sum}`);
console.log(`${Math.round((100 * count.hits) / STEPS)} % hits in 8M`);
const asMany = type.stats.inUse === tiles.size ? 'as many' : 'not equal';
console.log(`tiles in the map and blocks in use: ${asMany}; evictions: ${count.evicted > 0}`);
for (const { address } of tiles.values()) type.free(address);
console.log(`${type.stats.inUse} blocks at the end`);
machine.shutdown();
