/*
 * isa_dma: bounce buffers, for devices that reach 16 MiB of memory and no more.
 *
 *      0 .. 16 MiB | . . | buffer | . . |  .. the rest of memory .. block of a driver ..
 *                        '- in one piece of 64 KiB (128 KiB for channels 4 to 7)
 *
 * Such a device counts its way through memory with 24 bits of address, the upper ones of which
 * stand still.  A block that lies too high, or across the edge of a piece, is copied by way of a
 * buffer that each channel has from isa_dma_init on: to it before the device reads
 * (isa_dmastart), from it after the device has written (isa_dmadone).
 *
 * The buffer is had when the driver comes up and memory is empty, because later there may be none;
 * M_WAITOK has pages moved and paged out for it.  A driver without its buffer does not work at all,
 * so that a failure is said on the console, whoever looks at the errno.
 *
 * A channel is in work by one CPU at a time.  What that leaves when it dies is whole: the buffer is
 * the channel's from the section on that counts it, and the next one goes on with it.
 */
import { atomic_cas, atomic_store } from '../machine/atomic.ts';
import { thr } from '../machine/cpu.ts';
import { tid_alive } from '../machine/death.ts';
import { EBUSY, EINVAL, ENOMEM } from '../machine/errno.ts';
import { kconsole } from '../machine/kconsole.ts';
import { bcopy } from '../machine/bytes.ts';
import { elem, field_word } from '../machine/struct.ts';
import { DMA_CHANNELS, isa_dma, isa_dma_root, type isa_dma_t } from '../h/isa_dma.ts';
import { M_WAITOK } from '../h/malloc_flags.ts';
import { contigmalloc } from './kern_contig.ts';
import { free_at } from './kern_malloc.ts';
import { M_DEVBUF } from './kern_malloc_type.ts';

const dma = isa_dma;

/** What a device reaches, and the pieces that it counts in. */
const REACH = 2 ** 24;
const PIECE = 2 ** 16;
const WIDE_CHANNEL = 4;

const piece_of = (chan: number): number => (chan >= WIDE_CHANNEL ? PIECE * 2 : PIECE);
function is_channel(chan: number): boolean {
  return Number.isInteger(chan) && chan >= 0 && chan < DMA_CHANNELS;
}
/** This CPU has the channel in work. False: a living one has. */
function taken(at: isa_dma_t): boolean {
  const w = field_word(dma.user, at);
  const was = atomic_cas(w, 0, thr.tid);
  return was === 0 || (!tid_alive(was) && atomic_cas(w, was, thr.tid) === was);
}
function given(at: isa_dma_t): void {
  atomic_store(field_word(dma.user, at), 0);
}
/** Whether a device cannot reach all of the `n` bytes at word p by that channel. */
export function isa_dmarangecheck(p: number, n: number, chan: number): boolean {
  const [first, last] = [p * 4, p * 4 + n - 1];
  const piece = piece_of(chan);
  return last >= REACH || Math.floor(first / piece) !== Math.floor(last / piece);
}
/**
 * A buffer of `bytes` for a channel that has none: 0; EINVAL no such channel, or more than a piece;
 * EBUSY it has one, or is in work; ENOMEM, which is said on the console.
 */
export function isa_dma_init(chan: number, bytes: number, flags: number): number {
  if (!is_channel(chan) || !(bytes > 0) || bytes > piece_of(chan)) return EINVAL;
  const at = elem(isa_dma_root(), chan);
  if (!taken(at)) return EBUSY;
  if (dma.buf[at] !== 0) {
    given(at);
    return EBUSY;
  }
  dma.bytes[at] = bytes;
  dma.block[at] = 0;
  const anchor = field_word(dma.buf, at);
  const piece = piece_of(chan);
  const p = contigmalloc(bytes, M_DEVBUF.t, flags, 0, REACH, 1, piece, false, anchor);
  if (p === 0) {
    const how = flags & M_WAITOK ? 'what is there cannot move' : 'and it may not wait for any';
    kconsole.print(
      `isa_dma_init: channel ${chan} has no buffer: no ${bytes} bytes side by side below 16 MiB, ` +
        `in one piece of ${piece / 1024} KiB: ${how}`,
    );
  }
  given(at);
  return p === 0 ? ENOMEM : 0;
}
/** The channel has no buffer any more. EBUSY: it is in work, or a transfer is under way. */
export function isa_dma_end(chan: number): number {
  if (!is_channel(chan)) return EINVAL;
  const at = elem(isa_dma_root(), chan);
  if (!taken(at)) return EBUSY;
  const idle = dma.block[at] === 0;
  if (idle) free_at(field_word(dma.buf, at), M_DEVBUF.t);
  given(at);
  return idle ? 0 : EBUSY;
}
/**
 * The word address by which the device of a channel transfers `n` bytes of the block at word p;
 * with `read` it fills them.  -EINVAL: more than the buffer has, or there is none; -EBUSY: a
 * transfer by the buffer is under way.
 */
export function isa_dmastart(chan: number, p: number, n: number, read: boolean): number {
  if (!is_channel(chan) || !(n > 0)) return -EINVAL;
  if (!isa_dmarangecheck(p, n, chan)) return p;
  const at = elem(isa_dma_root(), chan);
  if (!taken(at)) return -EBUSY;
  let to = -EINVAL;
  if (dma.block[at] !== 0) to = -EBUSY;
  else if (dma.buf[at] !== 0 && n <= dma.bytes[at]) {
    to = dma.buf[at];
    if (!read) bcopy(p * 4, to * 4, n);
    dma.read[at] = read ? 1 : 0;
    dma.moved[at] = n;
    dma.block[at] = p;
  }
  given(at);
  return to;
}
/** The transfer is over: what the device has filled is in the block. EINVAL: there was none. */
export function isa_dmadone(chan: number): number {
  if (!is_channel(chan)) return EINVAL;
  const at = elem(isa_dma_root(), chan);
  if (!taken(at)) return EBUSY;
  const to = dma.block[at];
  if (to !== 0 && dma.read[at] !== 0) bcopy(dma.buf[at] * 4, to * 4, dma.moved[at]);
  dma.block[at] = 0;
  given(at);
  return to === 0 ? EINVAL : 0;
}
