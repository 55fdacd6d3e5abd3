/*
 * packet_receiver: packets come out of the reader's ring into clusters.
 *
 *      ring ─► clusters ─► headers looked at ─► tag ─► a queue for each sender
 *
 * What a driver and the input routines do.  The bytes are copied once, into as
 * many clusters as it takes.  The headers are pulled up into an mbuf of their
 * own.  The link header is taken off and kept in a tag, with what the recorder
 * noted of the packet, so that the packet begins with its network header as
 * protocols want it; whoever sends it puts the link header on again.
 *
 * Several senders get the same packet by reference: a copy each, the last one
 * the original.
 *
 * When the machine has no memory for a packet, the receiver waits until senders
 * have given packets back, and tries again, so that nothing is lost; with `drop`
 * it does as a driver does, and drops the packet.  A sender with nothing to do
 * lets go of all that it holds, so the wait ends.  Alone on the CPU with the sender
 * there is nobody to wait for: the sender is told to let go.
 *
 * Requests are made with M_NOWAIT.  M_WAITOK would sleep inside one request while
 * this thread holds the first half of a packet; if the machine is too small for
 * all of it, nobody would ever wake it.  Out here it is seen that all packets are
 * given back and that this one still does not fit, and the replay ends (packet_needs).
 *
 * The ring's units are released after the packet was handed over: a packet that
 * was lost half-way, because m_pullup frees what it cannot serve, is received
 * again.
 */
import { away } from '../../sys/boot/whole.ts';
import { bcopy, bytes_in } from '../../sys/machine/bytes.ts';
import { mem } from '../../sys/machine/memory.ts';
import { opt } from '../../sys/machine/opt.ts';
import { panic } from '../../sys/machine/panic.ts';
import { NULL } from '../../sys/machine/struct.ts';
import { M_NOWAIT } from '../../sys/h/malloc_flags.ts';
import {
  M_FLOWID,
  M_PKTHDR,
  m_end,
  m_start,
  mbuf,
  type mbuf_t,
  MT_DATA,
  mtod,
} from '../../sys/h/mbuf.ts';
import { m_gethdr } from '../../sys/client/kern_mbuf.ts';
import { m_copypacket, m_freem, m_getm2, m_sanity } from '../../sys/client/uipc_mbuf.ts';
import { m_adj } from '../../sys/client/uipc_mbuf_shape.ts';
import { m_tag_alloc, m_tag_data, m_tag_prepend } from '../../sys/client/uipc_mbuf_tag.ts';
import { OP_END, OP_MASK } from '../ring/events.ts';
import {
  INTERFACE_SHIFT,
  OP_INTERFACE,
  OP_PACKET,
  OP_PAD,
  OP_PASS,
  OP_PIECE,
  PACKET_UNITS,
  packet_units,
  piece_units,
} from '../ring/packet_events.ts';
import { never_fits } from './packet_needs.ts';
import { HeaderParser } from '../read/packet_headers.ts';
import {
  CAPTURE_COOKIE,
  CAPTURE_ID,
  CAPTURE_WORDS,
  NO_PACKETS,
  type PacketLimits,
  type PacketTotals,
  TAG_DIGITS,
  TAG_HEADER,
  TAG_LINK,
  TAG_NSEC,
  TAG_SEC,
  TAG_SNAPLEN,
  TAG_WIRE,
} from './packet_task.ts';
import { RING_END, RING_FAILED, type RingReader } from '../ring/ring.ts';

/** Where packets go: queues to other CPUs, or a sender on this one. */
export interface Outlet {
  /** Senders that get each packet. */
  readonly ways: number;
  /** Whether all of them would take another packet at once. */
  has_room(): boolean;
  /** Hands a packet to one of them. */
  send(way: number, packet: mbuf_t): void;
  /** Shows senders all that was sent so far: before waiting for anything. */
  flush(): void;
  pass(): void;
  end(): void;
  /**
   * Calls `what` until it gives something; before each call packets were given back.
   * NULL: it gave nothing even when no packet was anywhere.
   */
  retry(what: () => mbuf_t): mbuf_t;
  /** Sleeps until so many milliseconds are over. */
  pause(ms: number): void;
}

export interface ReceiverOptions {
  rate: number;
  drop: boolean;
  limits: PacketLimits;
}
/** Packets may come so much too early, ms: sleeping costs more than this. */
const RATE_SLACK_MS = 2;

export class PacketReceiver {
  readonly totals: PacketTotals = { ...NO_PACKETS, protocols: {}, digests: [], complaints: [] };
  readonly #ring: RingReader;
  readonly #bytes: Uint8Array;
  readonly #out: Outlet;
  readonly #options: ReceiverOptions;
  readonly #headers = new HeaderParser();
  readonly #interfaces: { link: number; snaplen: number; digits: number }[] = [];
  /** The next packet, when it comes in pieces. */
  #large = new Uint8Array(0);
  #large_bytes = 0;
  #began = 0;

  constructor(ring: RingReader, out: Outlet, options: ReceiverOptions) {
    this.#ring = ring;
    this.#bytes = new Uint8Array(ring.words.buffer);
    this.#out = out;
    this.#options = options;
  }

  /** Receives to the end of the capture. */
  run(): PacketTotals {
    const ring = this.#ring;
    const { totals } = this;
    for (;;) {
      const n = away(() => ring.next_batch());
      if (n === RING_END || n === RING_FAILED) break; // why it failed, the reader tells
      const start = performance.now();
      this.#play(n);
      this.#out.flush();
      totals.play_seconds += (performance.now() - start) / 1000;
    }
    this.#out.end();
    ring.close();
    totals.protocols = this.#headers.counts;
    return totals;
  }

  #play(n: number): void {
    const ring = this.#ring;
    const { words } = ring;
    for (let left = n; left > 0; ) {
      const at = ring.word_of(0);
      const word0 = words[at];
      const op = word0 & OP_MASK;
      let units = 1;
      if (op === OP_PACKET) {
        units = words[at + 3] === 0 ? packet_units(words[at + 1]) : PACKET_UNITS;
        this.#packet(at, word0 >>> INTERFACE_SHIFT);
        this.#large_bytes = 0;
      } else if (op === OP_PIECE) {
        units = piece_units(words[at + 1]);
        this.#piece((at + 4) * 4, words[at + 1]);
      } else if (op === OP_PAD) units = words[at + 1];
      else if (op === OP_PASS) this.#pass();
      else if (op === OP_INTERFACE) {
        const note = { link: words[at + 1], snaplen: words[at + 2], digits: words[at + 3] };
        this.#interfaces[word0 >>> INTERFACE_SHIFT] = note;
      } else if (op === OP_END) units = left;
      ring.release(units);
      left -= units;
    }
  }
  #piece(from: number, bytes: number): void {
    const there = this.#large_bytes;
    if (there + bytes > this.#large.length) {
      const wide = new Uint8Array(2 * (there + bytes));
      wide.set(this.#large.subarray(0, there));
      this.#large = wide;
    }
    this.#large.set(this.#bytes.subarray(from, from + bytes), there);
    this.#large_bytes = there + bytes;
  }
  #pass(): void {
    this.totals.passes++;
    this.#out.pass();
  }

  // --- one packet --------------------------------------------------------------------------

  #packet(at: number, iface: number): void {
    const { totals } = this;
    const out = this.#out;
    if (this.#options.rate > 0) this.#pace();
    totals.received++;
    if (this.#options.drop && !out.has_room()) {
      totals.dropped_queue_full++;
      return;
    }
    const m = this.#receive_or_wait(at, iface);
    if (m === NULL) {
      totals.dropped_no_memory++;
      return;
    }
    totals.bytes += this.#ring.words[at + 1];
    if (this.#options.drop) return this.#send_or_drop(m);
    for (let way = 0; way < out.ways - 1; way++) out.send(way, this.#copy_or_wait(m));
    out.send(out.ways - 1, m);
  }
  /** All senders get the packet, or none. */
  #send_or_drop(m: mbuf_t): void {
    const out = this.#out;
    const copies: mbuf_t[] = [];
    while (copies.length < out.ways - 1) {
      const copy = m_copypacket(m, M_NOWAIT);
      if (copy === NULL) {
        for (const packet of [...copies, m]) m_freem(packet);
        this.totals.dropped_no_memory++;
        return;
      }
      copies.push(copy);
    }
    for (const [way, copy] of copies.entries()) out.send(way, copy);
    out.send(out.ways - 1, m);
  }
  /** Packet n of the run comes n / rate seconds after its beginning. */
  #pace(): void {
    if (this.totals.received === 0) this.#began = performance.now();
    const due = this.#began + (this.totals.received * 1000) / this.#options.rate;
    for (let early = due - performance.now(); early > RATE_SLACK_MS; ) {
      this.#out.flush();
      this.#out.pause(early);
      early = due - performance.now();
    }
  }
  #copy_or_wait(m: mbuf_t): mbuf_t {
    const copy = m_copypacket(m, M_NOWAIT);
    return copy !== NULL ? copy : this.#wait(mbuf.plen[m], () => m_copypacket(m, M_NOWAIT));
  }
  /** NULL only with `drop`: there is no memory now. */
  #receive_or_wait(at: number, iface: number): mbuf_t {
    const m = this.#receive(at, iface);
    if (m !== NULL || this.#options.drop) return m;
    return this.#wait(this.#ring.words[at + 1], () => this.#receive(at, iface));
  }
  #wait(bytes: number, what: () => mbuf_t): mbuf_t {
    const out = this.#out;
    const m = out.retry(what);
    if (m === NULL) throw never_fits(bytes, out.ways, this.#options.limits);
    return m;
  }

  /** The packet at word `at` of the ring, ready for the senders. NULL: no memory. */
  #receive(at: number, iface: number): mbuf_t {
    const { words } = this.#ring;
    const bytes = words[at + 1];
    const filled =
      words[at + 3] === 0
        ? this.#fill(this.#bytes, (at + PACKET_UNITS * 4) * 4, bytes)
        : this.#fill(this.#large, 0, bytes);
    if (filled === NULL) return filled;
    mbuf.rcvif[filled] = iface + 1;
    const headers = this.#headers;
    const m = headers.parse(filled, this.#interfaces[iface].link);
    if (m === NULL) return m;
    mbuf.flowid[m] = headers.flow;
    mbuf.flags[m] |= M_FLOWID;
    if (!this.#tag(m, at, iface)) {
      m_freem(m);
      return NULL as mbuf_t;
    }
    m_adj(m, headers.link_bytes);
    if (opt.INVARIANTS) {
      const wrong = m_sanity(m);
      if (wrong !== '') panic(`receive: ${wrong}`);
    }
    return m;
  }
  /** A chain of clusters with bytes of the ring, or of a packet that came in pieces. */
  #fill(source: Uint8Array, from: number, bytes: number): mbuf_t {
    const m =
      bytes === 0
        ? m_gethdr(M_NOWAIT, MT_DATA)
        : m_getm2(NULL as mbuf_t, bytes, M_NOWAIT, MT_DATA, M_PKTHDR);
    if (m === NULL) return m;
    mbuf.plen[m] = bytes;
    let at = from;
    let left = bytes;
    for (let n = m; left > 0; n = mbuf.next[n]) {
      const count = Math.min(left, m_end(n) - m_start(n));
      bytes_in(mtod(n), source, at, count);
      mbuf.len[n] = count;
      at += count;
      left -= count;
    }
    return m;
  }
  /** Notes the time, the length on the wire, and the link header. False: no memory. */
  #tag(m: mbuf_t, at: number, iface: number): boolean {
    const { words } = this.#ring;
    const { link: type, snaplen, digits } = this.#interfaces[iface];
    const link = this.#headers.link_bytes;
    const t = m_tag_alloc(CAPTURE_COOKIE, CAPTURE_ID, CAPTURE_WORDS * 4 + link, M_NOWAIT);
    if (t === NULL) return false;
    const to = m_tag_data(t);
    const w = to >> 2;
    mem.I32[w + TAG_SEC] = words[at + 4];
    mem.I32[w + TAG_NSEC] = words[at + 5];
    mem.I32[w + TAG_WIRE] = words[at + 2];
    mem.I32[w + TAG_LINK] = type;
    mem.I32[w + TAG_SNAPLEN] = snaplen;
    mem.I32[w + TAG_DIGITS] = digits;
    mem.I32[w + TAG_HEADER] = link;
    bcopy(mtod(m), to + CAPTURE_WORDS * 4, link);
    m_tag_prepend(m, t);
    return true;
  }
}
