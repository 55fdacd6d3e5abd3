/*
 * us_packets: packets through mbufs and two threads, as a competitor.
 *
 * The receiver and the sender of `kmem replay`: this thread receives into clusters,
 * looks at the headers and hands packets over; the other one sends them by
 * reference, keeps some, and takes the SHA-256 of every byte.  A sample is whole
 * passes of the capture; putting it into the reader's ring before each is not timed.
 */
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { CaptureReading } from '../src/replay/read/pcap_reading.ts';
import { play_packets } from '../src/replay/packet/packet_player.ts';
import { PacketQueue, pause, QUEUE_BYTES, retry_given } from '../src/replay/packet/packet_queue.ts';
import { type Outlet, PacketReceiver } from '../src/replay/packet/packet_receiver.ts';
import { live_limits } from '../src/replay/packet/packet_replay.ts';
import { type PacketTask, PLAIN_PACKETS } from '../src/replay/packet/packet_task.ts';
import { make_ring, type RingHandle, RingReader, RingWriter } from '../src/replay/ring/ring.ts';
import { attach, boot } from '../src/sys/boot/whole.ts';
import { M_WAITOK, M_ZERO } from '../src/sys/h/malloc_flags.ts';
import type { mbuf_t } from '../src/sys/h/mbuf.ts';
import { malloc } from '../src/sys/kmem/kern_malloc.ts';
import { M_TEMP } from '../src/sys/kmem/kern_malloc_type.ts';
import { now_ns, serve } from './child.ts';
import { capture_bytes, PASSES } from './packet_feed.ts';

const RING_EVENTS = 1 << 20;

/** Between two looks whether the last packet is through: a hundredth of what is timed. */
const WAIT_MS = 0.2;

/** The capture, PASSES times in a ring. */
function filled(file: Uint8Array): { ring: RingHandle; packets: number } {
  const ring = make_ring(1, RING_EVENTS);
  const writer = new RingWriter(ring);
  const reading = new CaptureReading(writer, false);
  for (let pass = 0; pass < PASSES; pass++) {
    reading.begin('the capture', 'pcap');
    reading.feed(file);
    reading.finish();
  }
  writer.end();
  return { ring, packets: reading.packets };
}

class Out implements Outlet {
  readonly ways = 1;
  readonly queue: PacketQueue;
  readonly #word: number;
  constructor(word: number) {
    this.#word = word;
    this.queue = new PacketQueue(word);
  }
  has_room = (): boolean => this.queue.has_room();
  send = (_way: number, packet: mbuf_t): void => this.queue.put(packet);
  flush = (): void => this.queue.flush();
  pass(): void {}
  end(): void {}
  retry = (what: () => mbuf_t): mbuf_t => retry_given([this.queue], what);
  pause = (ms: number): void => pause(this.#word, ms);
}

async function main(): Promise<void> {
  const file = capture_bytes();
  const { handle } = boot({ memory: '64M', cpus: 3 });
  const word = malloc(QUEUE_BYTES, M_TEMP.t, M_WAITOK | M_ZERO);
  const limits = live_limits();
  const worker = new Worker(new URL(import.meta.url), { workerData: { handle, word, limits } });
  await new Promise((up) => worker.once('message', up));
  const out = new Out(word);
  const packets = async (ops: number): Promise<number> => {
    let ns = 0;
    let done = 0;
    while (done < ops) {
      const feed = filled(file);
      const start = now_ns();
      const options = { rate: 0, drop: false, limits };
      new PacketReceiver(new RingReader(feed.ring, 0), out, options).run();
      while (out.queue.in_flight() > 0) out.pause(WAIT_MS);
      ns += now_ns() - start;
      done += feed.packets;
    }
    return (ns / done) * ops;
  };
  await serve({ packets }, `kmem on Node ${process.version}`);
  process.exit(0);
}

if (isMainThread) await main();
else {
  const { handle, word, limits } = workerData;
  attach(handle);
  parentPort?.postMessage('up');
  const task = { index: 1, senders: 1, queues: [word], verify: false, limits, seed: 1 };
  play_packets({ ...task, packets: PLAIN_PACKETS, ring: make_ring(1) } satisfies PacketTask);
}
