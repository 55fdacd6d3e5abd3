/*
 * sysctl_value: a variable's bytes as people and programs read them.
 *
 * The type says how wide numbers are, the format string says what they mean:
 * IK is a temperature, S,timeval a time.  A structure that nobody here knows is
 * opaque: its first bytes are shown in hex, on request.
 */
import { kprintf } from '../sys/machine/subr_prf.ts';

export type Value =
  | { form: 'string'; text: string }
  | { form: 'numbers'; numbers: bigint[]; bytes: number; kelvin: number; signed: boolean }
  | { form: 'struct'; text: string; fields: Record<string, unknown> }
  | { form: 'opaque'; fmt: string; data: Uint8Array };

export interface Show {
  hex: boolean;
  human: boolean;
}

const STRING = 3;
const OPAQUE = 5;
const NODE = 1;
/** Bytes and sign of the number types. */
const NUMBER: Record<number, [number, boolean]> = {
  2: [4, true],
  4: [8, true],
  6: [4, false],
  7: [8, true],
  8: [8, false],
  9: [8, false],
};
const DUMP_BYTES = 16;

/** Takes a value's bytes apart. */
export function value_decode(type: number, fmt: string, bytes: Uint8Array): Value {
  if (type === STRING) {
    return {
      form: 'string',
      text: new TextDecoder('utf-8', { ignoreBOM: true })
        .decode(bytes.slice())
        .replaceAll('\0', ''),
    };
  }
  const v = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const number = NUMBER[type];
  if (number) {
    const [size, signed] = number;
    const numbers: bigint[] = [];
    for (let at = 0; at + size <= bytes.length; at += size) {
      if (size === 4) numbers.push(BigInt(signed ? v.getInt32(at, true) : v.getUint32(at, true)));
      else numbers.push(signed ? v.getBigInt64(at, true) : v.getBigUint64(at, true));
    }
    const k = /^IK(\d*)$/.exec(fmt);
    return { form: 'numbers', numbers, bytes: size, signed, kelvin: k ? Number(k[1] || 1) : -1 };
  }
  const known = type === OPAQUE || type === NODE ? STRUCTS[fmt] : undefined;
  if (known && bytes.length === known.bytes) return { form: 'struct', ...known.read(v) };
  return { form: 'opaque', fmt, data: bytes };
}

interface Known {
  bytes: number;
  read: (v: DataView) => { text: string; fields: Record<string, unknown> };
}
const STRUCTS: Record<string, Known> = {
  'S,clockinfo': {
    bytes: 20,
    read: (v) => {
      const [hz, tick, spare, stathz, profhz] = [0, 4, 8, 12, 16].map((o) => v.getInt32(o, true));
      const text = kprintf(
        '{ hz = %d, tick = %d, profhz = %d, stathz = %d }',
        hz,
        tick,
        profhz,
        stathz,
      );
      return { text, fields: { hz, tick, spare, stathz, profhz } };
    },
  },
  'S,loadavg': {
    bytes: 24,
    read: (v) => {
      const scale = Number(v.getBigInt64(16, true)) || 1;
      const load = [0, 4, 8].map((o) => v.getUint32(o, true) / scale);
      return { text: kprintf('{ %.2f %.2f %.2f }', ...load), fields: { load } };
    },
  },
  'S,timeval': {
    bytes: 16,
    read: (v) => {
      const sec = Number(v.getBigInt64(0, true));
      const usec = Number(v.getBigInt64(8, true));
      const text = kprintf('{ sec = %jd, usec = %ld } %s', sec, usec, ctime(sec));
      return { text, fields: { sec, usec } };
    },
  },
  'S,vmtotal': { bytes: 48, read: read_vmtotal },
};

const VMTOTAL_TITLE = 'System wide totals computed every five seconds: (values in kilobytes)';
function read_vmtotal(v: DataView): { text: string; fields: Record<string, unknown> } {
  const [rq, dw, pw, sl, sw] = [0, 2, 4, 6, 8].map((o) => v.getInt16(o, true));
  const pages = [12, 16, 20, 24, 28, 32, 36, 40, 44].map((o) => v.getInt32(o, true));
  const [vm, avm, rm, arm, vmshr, avmshr, rmshr, armshr, free] = pages.map((n) => n * 4);
  const pair = '(Total: %dK Active: %dK)\n';
  const text =
    `\n${VMTOTAL_TITLE}\n${'='.repeat(47)}\n` +
    kprintf(
      'Processes:\t\t(RUNQ: %hd Disk Wait: %hd Page Wait: %hd Sleep: %hd)\n',
      rq,
      dw,
      pw,
      sl,
    ) +
    kprintf(`Virtual Memory:\t\t${pair}`, vm, avm) +
    kprintf(`Real Memory:\t\t${pair}`, rm, arm) +
    kprintf(`Shared Virtual Memory:\t${pair}`, vmshr, avmshr) +
    kprintf(`Shared Real Memory:\t${pair}`, rmshr, armshr) +
    kprintf('Free Memory:\t%dK', free);
  const fields = { rq, dw, pw, sl, sw, vm, avm, rm, arm, vmshr, avmshr, rmshr, armshr, free };
  return { text, fields };
}

const DAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];
const MONTHS = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ');
/** A time as ctime writes it, in the local zone, without its line end. */
function ctime(sec: number): string {
  const d = new Date(sec * 1000);
  return kprintf(
    '%s %s %2d %02d:%02d:%02d %d',
    DAYS[d.getDay()],
    MONTHS[d.getMonth()],
    d.getDate(),
    d.getHours(),
    d.getMinutes(),
    d.getSeconds(),
    d.getFullYear(),
  );
}

/** A value as the command prints it. */
export function value_text(v: Value, show: Show): string {
  switch (v.form) {
    case 'string':
      return v.text;
    case 'struct':
      return v.text;
    case 'opaque':
      return opaque_text(v.fmt, v.data, show.hex);
    default:
      return v.numbers.map((n) => number_text(v, n, show)).join(' ');
  }
}
function number_text(v: Value & { form: 'numbers' }, n: bigint, show: Show): string {
  if (show.hex) return kprintf('%#0*x', 2 + 2 * v.bytes, BigInt.asUintN(v.bytes * 8, n));
  if (v.kelvin >= 0) {
    const scale = 10 ** v.kelvin;
    const celsius = (Number(n) - (v.kelvin === 1 ? 2732 : 273.15 * scale)) / scale;
    return kprintf('%.*fC', v.kelvin, celsius);
  }
  return show.human ? n.toString().replace(/\B(?=(\d{3})+$)/g, ',') : n.toString();
}
function opaque_text(fmt: string, data: Uint8Array, whole: boolean): string {
  const shown = whole ? data : data.subarray(0, DUMP_BYTES);
  const hex = Array.from(shown, (b) => b.toString(16).padStart(2, '0')).join('');
  const more = shown.length < data.length ? '...' : '';
  return `${kprintf('Format:%s Length:%zu Dump:0x', fmt, data.length)}${hex}${more}`;
}

/** A value for a program. Integers that a double would change become strings. */
export function value_json(v: Value): unknown {
  switch (v.form) {
    case 'string':
      return v.text;
    case 'struct':
      return v.fields;
    case 'opaque':
      return { format: v.fmt, length: v.data.length, hex: Buffer.from(v.data).toString('hex') };
    default: {
      const all = v.numbers.map((n) => (Number.isSafeInteger(Number(n)) ? Number(n) : `${n}`));
      return all.length === 1 ? all[0] : all;
    }
  }
}
