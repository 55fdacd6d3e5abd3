/*
 * sbuf: strings that are built piece by piece, safely.
 *
 * A report is written into a buffer with append calls that never overrun it.
 * What happens when it is full is chosen when it is made:
 *
 *      fixed length     the piece is refused and the error latched
 *      SBUF_AUTOEXTEND  the buffer grows
 *      with a drain     the buffer is emptied into a function and filled again
 *
 * An error is latched: later appends return -1 and do nothing, so that a
 * handler needs to look once, at sbuf_finish.  With a drain a report of any
 * size passes through a small buffer, and nothing has to guess its length.
 *
 *      new -> append ... -> finish -> data, len -> delete
 *
 * A buffer of N bytes holds N - 1 and the terminating NUL.  Growing buffers
 * take powers of two from 16 while below a page, then multiples of pages.
 *
 * The kernel's reports are written that way (sbuf_report): a floor says what it has,
 * under its own locks, and the request takes it a page at a time.
 *
 * A report belongs to the thread that writes it, so the buffer is the thread's
 * own and not part of the machine's memory; no lock is needed.
 */
import { EDEADLK, EFAULT, EINVAL, ENOMEM } from './errno.ts';
import { mem, memory_state, PAGE_SIZE } from './memory.ts';
import { panic } from './panic.ts';
import { kprintf, type PrintfArg } from './subr_prf.ts';
import { type SysctlRequest, sysctl_wire_old_buffer } from './sysctl_decl.ts';

export const SBUF_FIXEDLEN = 0;
export const SBUF_AUTOEXTEND = 1;
/** Counts the terminating NUL as part of the text that finish drains. */
export const SBUF_INCLUDENUL = 2;
const SBUF_USRMASK = 0xffff;
const SBUF_DYNAMIC = 0x10000;
const SBUF_FINISHED = 0x20000;
const SBUF_INSECTION = 0x100000;
const SBUF_MINEXTEND = 16;
/** Longest buffer that may grow: what one typed array is sure to hold, bytes. */
const SBUF_MAXSIZE = 2 ** 31 - 1;

/**
 * Takes `len` bytes of `data`, or fewer.  Returns how many, at least 1, or a
 * negative errno.
 */
export type sbuf_drain = (data: Uint8Array, len: number) => number;

export interface sbuf {
  buf: Uint8Array;
  drain: sbuf_drain | null;
  error: number;
  len: number;
  flags: number;
  /** Bytes since the section began, drained ones included. */
  sect_len: number;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

function extended_size(size: number): number {
  let n = SBUF_MINEXTEND;
  if (size < PAGE_SIZE) {
    while (n < size) n *= 2;
    return n;
  }
  return Math.ceil(size / PAGE_SIZE) * PAGE_SIZE;
}

/**
 * Makes an sbuf over `buf`, or over a buffer of its own of at least `length`
 * bytes.  Null: the length is below 2, or there is no memory.
 */
export function sbuf_new(buf: Uint8Array | null, length: number, flags: number): sbuf | null {
  if ((flags & ~SBUF_USRMASK) !== 0) panic('sbuf_new: unknown flags', flags);
  const size = buf ? Math.min(length, buf.length) : length;
  if (!(size >= 2) || size > SBUF_MAXSIZE) return null;
  const own = buf === null;
  const made = own ? sbuf_memory(flags & SBUF_AUTOEXTEND ? extended_size(size) : size) : buf;
  if (!made) return null;
  return {
    buf: own ? made : made.subarray(0, size),
    drain: null,
    error: 0,
    len: 0,
    flags: flags | (own ? SBUF_DYNAMIC : 0),
    sect_len: 0,
  };
}
/** An sbuf that grows as needed. */
export function sbuf_new_auto(): sbuf {
  return sbuf_new(null, SBUF_MINEXTEND, SBUF_AUTOEXTEND) as sbuf;
}
function sbuf_memory(size: number): Uint8Array | null {
  try {
    return new Uint8Array(size);
  } catch {
    return null; // the host has no memory left: an ordinary failure
  }
}
/** A finished sbuf with the bytes of several pieces. Null: they do not fit in `length`. */
export function sbuf_uionew(pieces: readonly Uint8Array[], length: number): sbuf | null {
  const s = sbuf_new(null, length, SBUF_FIXEDLEN);
  if (!s) return null;
  for (const p of pieces) sbuf_bcat(s, p);
  return sbuf_finish(s) === 0 ? s : null;
}
/** Gives the buffer back; the sbuf is not to be used again. */
export function sbuf_delete(s: sbuf): void {
  s.buf = new Uint8Array(0);
  s.len = 0;
  s.drain = null;
  s.error = EINVAL;
}

function assert_open(s: sbuf, what: string): void {
  if (s.flags & SBUF_FINISHED) panic(`${what}: the sbuf is finished`);
}
function assert_no_drain(s: sbuf, what: string): void {
  if (s.drain) panic(`${what}: the sbuf has a drain`);
}

/** Empties the sbuf and clears its error: a fresh start. */
export function sbuf_clear(s: sbuf): void {
  s.flags &= ~(SBUF_FINISHED | SBUF_INSECTION);
  s.error = 0;
  s.len = 0;
  s.sect_len = 0;
}
/** Cuts the text at `pos`. -1: the text is shorter than that. */
export function sbuf_setpos(s: sbuf, pos: number): number {
  assert_open(s, 'sbuf_setpos');
  if (s.flags & SBUF_INSECTION) panic('sbuf_setpos: inside a section');
  if (pos < 0 || pos > s.len) return -1;
  s.len = pos;
  return 0;
}
/** Hands full buffers to `drain` from now on. Only an empty sbuf may change its drain. */
export function sbuf_set_drain(s: sbuf, drain: sbuf_drain | null): void {
  assert_open(s, 'sbuf_set_drain');
  if (s.drain !== drain && s.len !== 0) panic('sbuf_set_drain: the sbuf is not empty', s.len);
  s.drain = drain;
}

function room(s: sbuf): number {
  return s.buf.length - 1 - s.len;
}
/** Makes room for more: drains, or grows. Latches the error where it cannot. */
function make_room(s: sbuf, wanted: number): boolean {
  if (s.drain) return drain_once(s);
  if (s.flags & SBUF_AUTOEXTEND) {
    const size = extended_size(s.len + wanted + 1);
    const bigger = size > SBUF_MAXSIZE ? null : sbuf_memory(size);
    if (bigger) {
      bigger.set(s.buf.subarray(0, s.len));
      s.buf = bigger;
      s.flags |= SBUF_DYNAMIC;
      return true;
    }
  }
  s.error = ENOMEM;
  return false;
}
function drain_once(s: sbuf): boolean {
  const taken = (s.drain as sbuf_drain)(s.buf.subarray(0, s.len), s.len);
  if (taken < 0 || taken > s.len || !Number.isInteger(taken)) {
    s.error = taken < 0 ? -taken : EINVAL;
    return false;
  }
  if (taken === 0) {
    s.error = EDEADLK; // it would be asked for ever
    return false;
  }
  s.buf.copyWithin(0, taken, s.len);
  s.len -= taken;
  return true;
}

/** Appends bytes. -1: an error is latched. */
export function sbuf_bcat(s: sbuf, bytes: Uint8Array): number {
  assert_open(s, 'sbuf_bcat');
  if (s.error !== 0) return -1;
  let at = 0;
  while (at < bytes.length) {
    const left = bytes.length - at;
    // Without a drain a piece goes in whole or not at all, save what still fits.
    if (room(s) < left && !(s.drain && room(s) > 0) && !make_room(s, left)) {
      return put_part(s, bytes.subarray(at));
    }
    const n = Math.min(left, room(s));
    s.buf.set(bytes.subarray(at, at + n), s.len);
    s.len += n;
    s.sect_len += s.flags & SBUF_INSECTION ? n : 0;
    at += n;
  }
  return 0;
}
/** A fixed buffer keeps the part that fits; the latched error says that it is cut. */
function put_part(s: sbuf, bytes: Uint8Array): number {
  const n = s.drain ? 0 : Math.min(bytes.length, room(s));
  s.buf.set(bytes.subarray(0, n), s.len);
  s.len += n;
  s.sect_len += s.flags & SBUF_INSECTION ? n : 0;
  return -1;
}
/** Replaces the contents by bytes. */
export function sbuf_bcpy(s: sbuf, bytes: Uint8Array): number {
  assert_open(s, 'sbuf_bcpy');
  sbuf_clear(s);
  return sbuf_bcat(s, bytes);
}
/** Appends text. */
export function sbuf_cat(s: sbuf, text: string): number {
  return sbuf_bcat(s, encoder.encode(text));
}
/** Replaces the contents by text. */
export function sbuf_cpy(s: sbuf, text: string): number {
  return sbuf_bcpy(s, encoder.encode(text));
}
/** Appends one byte; the only text call that may store a NUL. */
export function sbuf_putc(s: sbuf, c: number): number {
  return sbuf_bcat(s, Uint8Array.of(c));
}
/** Appends formatted text. */
export function sbuf_printf(s: sbuf, format: string, ...args: readonly PrintfArg[]): number {
  return sbuf_vprintf(s, format, args);
}
export function sbuf_vprintf(s: sbuf, format: string, args: readonly PrintfArg[]): number {
  assert_open(s, 'sbuf_printf');
  if (s.error !== 0) return -1;
  return sbuf_cat(s, kprintf(format, ...args).replaceAll('\0', ''));
}
/** Appends `len` bytes found at byte address `at` of the machine's memory. */
export function sbuf_bcopyin(s: sbuf, at: number, len: number): number {
  assert_open(s, 'sbuf_bcopyin');
  assert_no_drain(s, 'sbuf_bcopyin');
  if (s.error !== 0) return -1;
  if (!(at >= 4 && len >= 0 && at + len <= memory_state.size)) {
    s.error = EFAULT;
    return -1;
  }
  return sbuf_bcat(s, mem.U8.slice(at, at + len));
}
/** Appends the string at byte address `at` of the memory, at most `len` bytes with its NUL. */
export function sbuf_copyin(s: sbuf, at: number, len: number): number {
  assert_open(s, 'sbuf_copyin');
  assert_no_drain(s, 'sbuf_copyin');
  if (s.error !== 0) return -1;
  if (!(at >= 4 && at < memory_state.size)) {
    s.error = EFAULT;
    return -1;
  }
  const limit = Math.min(at + (len > 0 ? len - 1 : room(s)), memory_state.size);
  let end = at;
  while (end < limit && mem.U8[end] !== 0) end++;
  return sbuf_bcat(s, mem.U8.slice(at, end));
}
/** Removes white space at the end. */
export function sbuf_trim(s: sbuf): number {
  assert_open(s, 'sbuf_trim');
  assert_no_drain(s, 'sbuf_trim');
  if (s.error !== 0) return -1;
  while (s.len > 0 && is_space(s.buf[s.len - 1])) {
    s.len--;
    if (s.flags & SBUF_INSECTION) s.sect_len--;
  }
  return 0;
}
function is_space(c: number): boolean {
  return c === 32 || (c >= 9 && c <= 13);
}
/** The latched error, 0: none. */
export function sbuf_error(s: sbuf): number {
  return s.error;
}
/** Ends the writing: drains what is left, terminates the text. Returns the latched error. */
export function sbuf_finish(s: sbuf): number {
  assert_open(s, 'sbuf_finish');
  if (s.flags & SBUF_INSECTION) panic('sbuf_finish: inside a section');
  if (s.drain) {
    if (s.flags & SBUF_INCLUDENUL && s.error === 0) sbuf_putc(s, 0);
    while (s.len > 0 && s.error === 0) drain_once(s);
  }
  s.buf[s.len] = 0;
  s.flags |= SBUF_FINISHED;
  return s.error;
}
/** The bytes of a finished sbuf, without the NUL. */
export function sbuf_data(s: sbuf): Uint8Array {
  assert_no_drain(s, 'sbuf_data');
  if (!(s.flags & SBUF_FINISHED)) panic('sbuf_data: the sbuf is not finished');
  return s.buf.subarray(0, s.len);
}
/** The text of a finished sbuf. */
export function sbuf_text(s: sbuf): string {
  return decoder.decode(sbuf_data(s));
}
/** Bytes written so far; -1 with a latched error. */
export function sbuf_len(s: sbuf): number {
  assert_no_drain(s, 'sbuf_len');
  return s.error !== 0 ? -1 : s.len;
}
export function sbuf_done(s: sbuf): boolean {
  return (s.flags & SBUF_FINISHED) !== 0;
}

/** Begins a section; sections nest.  Returns what end_section wants back, -1 for the outermost. */
export function sbuf_start_section(s: sbuf): number {
  assert_open(s, 'sbuf_start_section');
  const outer = s.flags & SBUF_INSECTION ? s.sect_len : -1;
  s.flags |= SBUF_INSECTION;
  s.sect_len = 0;
  return outer;
}
/** Ends a section, padded with `c` to a multiple of `pad`. Returns its length; -1: error. */
export function sbuf_end_section(s: sbuf, outer: number, pad: number, c: number): number {
  assert_open(s, 'sbuf_end_section');
  if (!(s.flags & SBUF_INSECTION)) panic('sbuf_end_section: no section is open');
  if (pad > 1) {
    const missing = (pad - (s.sect_len % pad)) % pad;
    for (let i = 0; i < missing && s.error === 0; i++) sbuf_putc(s, c);
  }
  const length = s.sect_len;
  if (outer === -1) {
    s.flags &= ~SBUF_INSECTION;
    s.sect_len = 0;
  } else s.sect_len += outer;
  return s.error !== 0 ? -1 : length;
}

/**
 * An sbuf whose drain is the old buffer of a sysctl request.  The request is
 * wired first by a caller that holds a lock; the result of sbuf_finish is the
 * handler's result.
 */
export function sbuf_new_for_sysctl(
  buf: Uint8Array | null,
  length: number,
  req: SysctlRequest,
  flags = SBUF_FIXEDLEN,
): sbuf | null {
  const s = sbuf_new(buf, length, flags);
  if (!s) return null;
  sbuf_set_drain(s, (data, len) => {
    const error = req.out(data);
    return error !== 0 ? -error : len;
  });
  return s;
}

/** What passes to the request at a time, bytes: however long the report is, it takes no more. */
export const SBUF_REPORT_BYTES = 4096;
/**
 * Answers a request with what `write` appends, in pieces of SBUF_REPORT_BYTES at most.
 * The caller's buffer is wired first, so that `write` may hold locks.  With
 * SBUF_INCLUDENUL the report ends with a NUL.  The result is the handler's.
 */
export function sbuf_report(
  req: SysctlRequest,
  write: (s: sbuf) => void,
  flags = SBUF_FIXEDLEN,
): number {
  const refused = sysctl_wire_old_buffer(req, 0);
  if (refused !== 0) return refused;
  const s = sbuf_new_for_sysctl(null, SBUF_REPORT_BYTES + 1, req, flags);
  if (!s) return ENOMEM;
  write(s);
  const error = sbuf_finish(s);
  sbuf_delete(s);
  return error;
}
/** The same for a text, which ends with a NUL. */
export function sbuf_text_report(req: SysctlRequest, write: (s: sbuf) => void): number {
  return sbuf_report(req, write, SBUF_INCLUDENUL);
}
