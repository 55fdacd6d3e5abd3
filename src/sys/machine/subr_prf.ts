/*
 * subr_prf: printf, as kernels and their tools write it.
 *
 *      kprintf('%-20s %6u, %8u', 'mbuf:', 256, 12)
 *
 * Flags - 0 + # and blank, a width and a precision (both may be *), the sizes
 * h l ll j z q t (ignored: a number is a number), and d i u x X o c s f p %.
 * Column layouts of the tools are kept as format strings, so that they can be
 * compared with the manual character by character.
 */
export type PrintfArg = number | bigint | string;

const DIRECTIVE = /%([-0+# ]*)(\*|\d+)?(?:\.(\*|\d+)?)?(?:hh|h|ll|l|j|z|q|t|L)?([diuxXocsfp%])/g;

interface Spec {
  flags: string;
  width: number;
  /** -1: none given. */
  precision: number;
}

/** The text that `format` makes of its arguments. Throws TypeError where one is missing. */
export function kprintf(format: string, ...args: readonly PrintfArg[]): string {
  let at = 0;
  const take = (): PrintfArg => {
    if (at >= args.length) throw new TypeError(`kprintf: '${format}' wants more arguments`);
    return args[at++];
  };
  const text = format.replace(DIRECTIVE, (whole, flags, width, precision, kind) => {
    if (kind === '%') return '%';
    const spec: Spec = { flags, width: 0, precision: -1 };
    spec.width = width === '*' ? Number(take()) : Number(width ?? 0);
    if (spec.width < 0) {
      spec.flags += '-';
      spec.width = -spec.width;
    }
    const has_precision = /\.(\*|\d+)?(?:hh|h|ll|l|j|z|q|t|L)?[a-zA-Z]$/.test(whole);
    if (has_precision) spec.precision = precision === '*' ? Number(take()) : Number(precision ?? 0);
    return convert(kind, spec, take());
  });
  if (at < args.length) throw new TypeError(`kprintf: '${format}' has arguments left over`);
  return text;
}

function convert(kind: string, spec: Spec, value: PrintfArg): string {
  if (kind === 's') {
    const s = String(value);
    return pad(spec.precision >= 0 ? s.slice(0, spec.precision) : s, '', spec, false);
  }
  if (kind === 'c') {
    return pad(
      typeof value === 'string' ? value : String.fromCharCode(Number(value)),
      '',
      spec,
      false,
    );
  }
  if (kind === 'f') {
    const n = Number(value);
    const digits = Math.abs(n).toFixed(spec.precision < 0 ? 6 : spec.precision);
    return pad(digits, sign_of(n < 0, spec), spec, true);
  }
  return integer(kind, spec, value);
}

function integer(kind: string, spec: Spec, value: PrintfArg): string {
  const n = typeof value === 'bigint' ? value : BigInt(Math.trunc(Number(value)));
  const signed = kind === 'd' || kind === 'i';
  const magnitude = n < 0n ? (signed ? -n : BigInt.asUintN(64, n)) : n;
  const base = kind === 'o' ? 8 : kind === 'x' || kind === 'X' || kind === 'p' ? 16 : 10;
  let digits = magnitude.toString(base);
  if (kind === 'X') digits = digits.toUpperCase();
  if (spec.precision > digits.length) digits = digits.padStart(spec.precision, '0');
  let prefix = signed ? sign_of(n < 0n, spec) : '';
  if (spec.flags.includes('#') && magnitude !== 0n) {
    if (base === 16) prefix = kind === 'X' ? '0X' : '0x';
    else if (base === 8 && !digits.startsWith('0')) digits = `0${digits}`;
  } else if (kind === 'p') prefix = '0x';
  return pad(digits, prefix, spec, spec.precision < 0);
}
function sign_of(negative: boolean, spec: Spec): string {
  if (negative) return '-';
  return spec.flags.includes('+') ? '+' : spec.flags.includes(' ') ? ' ' : '';
}

/** Brings prefix and digits to the width; zeros go between the two. */
function pad(body: string, prefix: string, spec: Spec, zeros: boolean): string {
  const missing = spec.width - body.length - prefix.length;
  if (missing <= 0) return prefix + body;
  if (spec.flags.includes('-')) return prefix + body + ' '.repeat(missing);
  if (zeros && spec.flags.includes('0')) return prefix + '0'.repeat(missing) + body;
  return ' '.repeat(missing) + prefix + body;
}
