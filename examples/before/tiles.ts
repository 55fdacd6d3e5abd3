/*
 * tiles, with Buffers: a cache with a budget of bytes, kept by adding lengths.
 *
 * A Map in order of last use, and a sum.  The budget counts the tiles that the
 * cache refers to; those it dropped hold their memory until the collector finds
 * them, so that the process has more than the budget says.
 */
const STEPS = Number(process.argv[2] ?? 20_000);
const BUDGET = 8 * 1024 * 1024;

const tiles = new Map<string, Buffer>(); // in order of last use
const count = { hits: 0, misses: 0 };
let held = 0;

/** Memory for a tile, at the cost of the oldest ones. */
function make(size: number): Buffer {
  while (held + size > BUDGET) {
    const [key, oldest] = tiles.entries().next().value as [string, Buffer];
    tiles.delete(key);
    held -= oldest.length;
  }
  held += size;
  return Buffer.allocUnsafe(size);
}
function get(key: string, size: number, render: (bytes: Buffer) => void): Buffer {
  const found = tiles.get(key);
  if (found) {
    count.hits++;
    tiles.delete(key); // and to the end of the order
    tiles.set(key, found);
    return found;
  }
  count.misses++;
  const bytes = make(size);
  tiles.set(key, bytes);
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
