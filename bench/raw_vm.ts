/*
 * raw_vm: a plain typed array over shared memory, as what loads and windows of an address space
 * are held against (vm_loops.ts).
 */
import { serve } from './child.ts';
import { BYTES, PLACES, shortest, summed, total, WINDOW_BYTES } from './vm_loops.ts';

const buffer = new SharedArrayBuffer(BYTES);
const u32 = new Uint32Array(buffer);
for (let i = 0; i < u32.length; i++) u32[i] = i * 4;
const part = new Uint32Array(buffer, 0, WINDOW_BYTES / 4);

function ascending(from: number): number {
  let sum = 0;
  const first = from * 4;
  for (let at = first; at < first + WINDOW_BYTES; at += 4) sum = (sum + u32[at >> 2]) | 0;
  return sum;
}
function random(from: number): number {
  let sum = 0;
  for (let i = from; i < from + WINDOW_BYTES / 4; i++) sum = (sum + u32[PLACES[i] >> 2]) | 0;
  return sum;
}
await serve(
  {
    load: (ops) => shortest('load', ops, ascending),
    'load-random': (ops) => shortest('load random', ops, random),
    window: (ops) => shortest('window', ops, () => total(part)),
    'window-open': (ops) => shortest('window open', ops, () => total(part)),
  },
  'raw',
);
process.exit(summed() === 0.5 ? 1 : 0);
