/*
 * packets_js: packets through two threads, as one writes it with Buffers and postMessage.
 *
 *      node packets_js.ts clone       a message for each packet, its bytes copied
 *      node packets_js.ts transfer    a message for each packet, its memory moved
 *      node packets_js.ts batch       64 packets a message, their memory moved
 *
 * The program of us_packets.ts: a copy of each packet as it is received, its headers
 * looked at, handed to the other thread; that one sends by reference (subarray),
 * keeps 256 and lets go of one drawn at random, and takes the SHA-256 of every byte.
 */
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { Digest } from '../../src/replay/read/pcap_stats.ts';
import { now_ns, SEED, serve, xorshift } from '../child.ts';
import { capture_packets, PASSES } from '../packet_feed.ts';

const BATCH = 64;
const HELD_MAX = 256;
/** Packets under way at most, as many as our queue holds. */
const WINDOW = 512;

const counts: Record<string, number> = {};
function count(name: string): void {
  counts[name] = (counts[name] ?? 0) + 1;
}
/** What a packet is, and a number for its connection. */
function headers(p: Buffer): number {
  if (p.length < 34) return 0;
  const type = p.readUInt16BE(12);
  if (type !== 0x800) {
    count('other');
    return 0;
  }
  count('ipv4');
  const length = (p[14] & 15) * 4;
  let sum = 0;
  for (let i = 14; i < 14 + length; i += 2) sum += p.readUInt16BE(i);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  if (sum !== 0xffff) count('bad checksum');
  const proto = p[23];
  count(proto === 6 ? 'tcp' : proto === 17 ? 'udp' : 'else');
  let flow = proto;
  for (let i = 26; i < 38 && i < p.length; i++) flow = Math.imul(flow ^ p[i], 0x01000193);
  return flow;
}

type Message = Uint8Array[] | 'end';
async function receive(kind: string): Promise<void> {
  const once = capture_packets();
  const all = Array.from({ length: PASSES }, () => once).flat();
  const worker = new Worker(new URL(import.meta.url), { workerData: 'sender' });
  let done = 0;
  let wake: () => void = () => {};
  worker.on('message', (n: number) => {
    done += n;
    wake();
  });
  const until = async (ready: () => boolean): Promise<void> => {
    while (!ready()) {
      await new Promise<void>((go) => {
        wake = go;
      });
    }
  };
  const size = kind === 'batch' ? BATCH : 1;
  let sent = 0;
  const pass = async (): Promise<void> => {
    for (let at = 0; at < all.length; at += size) {
      if (sent - done >= WINDOW) await until(() => sent - done < WINDOW / 2);
      const some: Uint8Array[] = [];
      for (const p of all.slice(at, at + size)) {
        const mine = new Uint8Array(p.length); // pooled memory cannot be moved
        mine.set(p);
        headers(Buffer.from(mine.buffer));
        some.push(mine);
      }
      const moved = kind === 'clone' ? [] : some.map((p) => p.buffer as ArrayBuffer);
      worker.postMessage(some satisfies Message, moved);
      sent += some.length;
    }
    worker.postMessage('end' satisfies Message);
    await until(() => done === sent);
  };
  const packets = async (ops: number): Promise<number> => {
    const start = now_ns();
    let n = 0;
    for (; n < ops; n += all.length) await pass();
    return ((now_ns() - start) / n) * ops;
  };
  await serve({ packets }, `${kind} on Node ${process.version}`);
  process.exit(0);
}

function send(): void {
  const digest = new Digest();
  let held: Uint8Array[] = [];
  let random = SEED;
  let done = 0;
  const tell = (): void => {
    parentPort?.postMessage(done);
    done = 0;
  };
  parentPort?.on('message', (m: Message) => {
    if (m === 'end') {
      held = []; // nothing to do: let go
      tell();
      return;
    }
    for (const p of m) {
      digest.update(p.subarray());
      random = xorshift(random);
      if (held.length === HELD_MAX) held[(random >>> 1) % HELD_MAX] = p;
      else held.push(p);
    }
    done += m.length;
    if (done >= BATCH) tell();
  });
}

if (isMainThread) await receive(process.argv[2]);
else if (workerData === 'sender') send();
