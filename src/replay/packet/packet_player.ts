/*
 * packet_player: the part of one thread in a packet replay.
 *
 *      CPU 1            CPU 2 …
 *      receiver ──────► sender        two CPUs or more: a queue to each sender
 *
 *      CPU 1
 *      receiver + sender              one CPU: a packet is sent as it comes
 *
 * Every sender gets every packet: each its own chain, all of them over the same
 * clusters.
 */
import type { mbuf_t } from '../../sys/h/mbuf.ts';
import { pause, PacketQueue, QUEUE_END, QUEUE_PASS, retry_given } from './packet_queue.ts';
import { type Outlet, PacketReceiver } from './packet_receiver.ts';
import { PacketSender } from './packet_sender.ts';
import type { PacketTask, PacketTotals } from './packet_task.ts';
import { PacketWriter } from './packet_writer.ts';
import { RingReader } from '../ring/ring.ts';

/** Plays this thread's part to the end of the capture. */
export function play_packets(task: PacketTask): PacketTotals {
  const { queues, senders, index, packets, limits } = task;
  if (index > 0) return send_all(task, queues[index - 1]);
  const out = senders === 0 ? new OwnOutlet(task) : new QueueOutlet(queues);
  const options = { rate: packets.rate, drop: packets.drop, limits };
  const totals = new PacketReceiver(new RingReader(task.ring, 0), out, options).run();
  return out instanceof OwnOutlet ? out.joined(totals) : totals;
}

/** A sender; the first one writes the file. */
function sender_of(task: PacketTask, freed: () => void): PacketSender {
  const { write } = task.packets;
  const writer = write !== '' && task.index <= 1 ? new PacketWriter(write) : null;
  return new PacketSender(task.verify, task.seed + task.index, writer, freed);
}

/** A thread that sends. */
function send_all(task: PacketTask, word: number): PacketTotals {
  const queue = new PacketQueue(word);
  const sender = sender_of(task, () => queue.done());
  const began = performance.now();
  let idle_ms = 0;
  for (;;) {
    if (!queue.has_packet()) {
      sender.let_go(); // nothing to do: whoever waits for memory gets it
      const from = performance.now();
      queue.wait();
      idle_ms += performance.now() - from;
    }
    const packet = queue.take();
    if (packet > 0) {
      sender.send(packet as mbuf_t);
      continue;
    }
    queue.done();
    if (packet === QUEUE_PASS) sender.pass();
    if (packet !== QUEUE_END) continue;
    const totals = sender.end();
    totals.play_seconds = (performance.now() - began - idle_ms) / 1000;
    return totals;
  }
}

/** Sends on the CPU that receives. */
class OwnOutlet implements Outlet {
  readonly ways = 1;
  readonly #sender: PacketSender;
  readonly #word: number;

  constructor(task: PacketTask) {
    this.#sender = sender_of(task, () => {});
    this.#word = task.queues[0];
  }
  has_room(): boolean {
    return true;
  }
  send(_way: number, packet: mbuf_t): void {
    this.#sender.send(packet);
  }
  flush(): void {}
  pass(): void {
    this.#sender.pass();
  }
  end(): void {
    this.#sender.end();
  }
  retry(what: () => mbuf_t): mbuf_t {
    this.#sender.let_go();
    return what();
  }
  pause(ms: number): void {
    pause(this.#word, ms);
  }
  /** The totals of both parts. */
  joined(received: PacketTotals): PacketTotals {
    const { sent, sent_bytes, uncopied, most_held, digests } = this.#sender.totals;
    const { verify_errors, complaints } = this.#sender.totals;
    const out = { sent, sent_bytes, uncopied, most_held, digests, verify_errors, complaints };
    return { ...received, ...out };
  }
}

/** Hands packets to senders on other CPUs. */
class QueueOutlet implements Outlet {
  readonly ways: number;
  readonly #queues: PacketQueue[];

  constructor(words: readonly number[]) {
    this.#queues = words.map((w) => new PacketQueue(w));
    this.ways = words.length;
  }
  has_room(): boolean {
    return this.#queues.every((q) => q.has_room());
  }
  send(way: number, packet: mbuf_t): void {
    this.#queues[way].put(packet);
  }
  flush(): void {
    for (const q of this.#queues) q.flush();
  }
  pass(): void {
    for (const q of this.#queues) q.put(QUEUE_PASS);
  }
  end(): void {
    for (const q of this.#queues) q.put(QUEUE_END);
    this.flush();
  }
  retry(what: () => mbuf_t): mbuf_t {
    return retry_given(this.#queues, what);
  }
  pause(ms: number): void {
    this.#queues[0].pause(ms);
  }
}
