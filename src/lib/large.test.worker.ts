/*
 * The other thread of large.test.ts: looks at a block of the first one through
 * each way to touch memory, frees it, and sends back a block and a small one.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { type Address, attach, type Machine } from './index.ts';

/** Bytes of the block that goes over; with a mark at its start and at its end. */
export const LARGE = 2 ** 20;
export const SMALL = 48;
export const TEXT = 'beyond 2 GiB: höher';

/** Writes marks at both ends of a block, a different one by each way to write. */
export function mark(machine: Machine, at: Address, size: number): void {
  const end = at + size;
  machine.store8(at, 0xa5);
  machine.store16(at + 2, 0xbeef);
  machine.store32(at + 4, 0xdeadbeef);
  machine.store64f(at + 8, Math.PI);
  machine.u32[machine.index(end - 8, 4)] = 0x12345678;
  machine.bytes(end - 4, 4).set([1, 2, 3, 4]);
}
/** What of mark() is not there. */
export function unmarked(machine: Machine, at: Address, size: number): string[] {
  const end = at + size;
  const views = {
    u8: machine.u8[machine.index(at, 1)] === 0xa5,
    u16: machine.u16[machine.index(at + 2, 2)] === 0xbeef,
    u32: machine.u32[machine.index(at + 4, 4)] === 0xdeadbeef,
    f64: machine.f64[machine.index(at + 8, 8)] === Math.PI,
    load8: machine.load8(end - 1) === 4,
    load16: machine.load16(end - 4) === 0x0201,
    load32: machine.load32(end - 8) === 0x12345678,
    load64f: machine.load64f(at + 8) === Math.PI,
    bytes: machine.bytes(at, 4)[3] === 0xbe,
    copyOut: machine.copyOut(end - 4, 4).join() === '1,2,3,4',
  };
  return Object.entries(views).flatMap(([name, right]) => (right ? [] : [name]));
}

if (parentPort) {
  const machine = attach(workerData as Parameters<typeof attach>[0]);
  const type = machine.type('large');
  const queue = machine.queue('back', { of: type, capacity: 2 });
  const at = machine.roots.get<Address>('there');
  if (at === undefined) throw new Error('no root');
  const wrong = unmarked(machine, at, LARGE);
  const text = machine.readText(at + 16, Buffer.byteLength(TEXT));
  type.free(at);
  for (const size of [LARGE, SMALL]) {
    const mine = type.alloc(size);
    mark(machine, mine, size);
    queue.push(mine);
  }
  machine.detach();
  parentPort.postMessage({ wrong, text });
}
