/*
 * strace_args: the arguments of a call, as strace writes them.
 *
 *      3</data/io.db>, ""..., 4096, 839680                    pread64, with -y
 *      NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0
 *      {flags=CLONE_VM|CLONE_VFORK, exit_signal=SIGCHLD, stack=0x7f36140d7000}, 88
 *
 * An argument ends at a comma that stands in no string, no bracket and no name of a
 * file.  Numbers are decimal or hexadecimal; flags are names, or numbers where strace
 * knows no name or was told so (-X raw; with -X verbose the names stand behind them, as a
 * comment).  Names of files hold their odd bytes as escapes, as strings do.
 */

const COMMENT = / ?\/\*[^*]*\*\//g;
const NUMBER = /^(?:-?\d+|0x[0-9a-f]+)$/i;
const SHIFTED = /^(\d+)<<([A-Z][A-Z0-9_]*)$/;
const FLAG_NAME = /^[A-Z][A-Z0-9_]*(?:\([^)]*\))?$/;

const QUOTE = 34;
const COMMA = 44;
const MINUS = 45;
const SLASH = 47;
const LESS = 60;
const GREATER = 62;
const BACKSLASH = 92;
const OPENING = '([{';
const CLOSING = ')]}';

/** Cuts arguments at their commas. */
export function split_args(text: string): string[] {
  const args: string[] = [];
  let from = 0;
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    const c = text.charCodeAt(at);
    if (c === QUOTE) at = string_end(text, at);
    else if (c === LESS) at = file_end(text, at);
    else if (c === SLASH && text.startsWith('/*', at)) {
      const end = text.indexOf('*/', at + 2);
      at = end < 0 ? text.length : end + 1;
    } else if (c === COMMA && depth === 0) {
      args.push(text.slice(from, at).trim());
      from = at + 1;
    } else if (OPENING.includes(text[at])) depth++;
    else if (CLOSING.includes(text[at])) depth--;
  }
  const last = text.slice(from).trim();
  if (last !== '' || args.length > 0) args.push(last);
  return args;
}
/* Where the string that begins at `at` has its closing quote. */
function string_end(text: string, at: number): number {
  for (let i = at + 1; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === BACKSLASH) i++;
    else if (c === QUOTE) return i;
  }
  return text.length;
}
/* Where the name of a file ends that begins at `at`: `<…>`, one within another, `->` in it. */
function file_end(text: string, at: number): number {
  if (text.charCodeAt(at + 1) === LESS) return at + 1; // a shift
  let depth = 0;
  for (let i = at; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === LESS) depth++;
    else if (c === GREATER && text.charCodeAt(i - 1) !== MINUS && --depth === 0) return i;
  }
  return at;
}

/** A number or pointer; NaN: it is none. */
export function number_of(text: string | undefined): number {
  if (text === undefined) return Number.NaN;
  const plain = text.includes('/*') ? text.replace(COMMENT, '').trim() : text;
  if (plain === 'NULL') return 0;
  return NUMBER.test(plain) ? Number(plain) : Number.NaN;
}

/** A descriptor and, with -y, its file; null: it is none. */
export function descriptor_of(text: string): { fd: number; file: string } | null {
  const at = text.indexOf('<');
  const fd = number_of(at < 0 ? text : text.slice(0, at));
  if (Number.isNaN(fd)) return null;
  // -1, as a word of 32 or of 64 bits.
  const signed = fd >= 0xffffffff ? -1 : fd;
  return { fd: signed, file: at < 0 ? '' : unescaped(text.slice(at + 1, file_end(text, at))) };
}

/**
 * The bits of flags; null: this is none of it.  A name that is not in the table counts in
 * `unknown` and has no bit.
 */
export function flags_of(
  text: string | undefined,
  table: ReadonlyMap<string, number>,
  unknown: (name: string) => void,
): number | null {
  if (text === undefined || text === '') return null;
  const plain = text.includes('/*') ? text.replace(COMMENT, '').trim() : text;
  let bits = 0;
  for (const part of plain.split('|')) {
    const known = table.get(part);
    if (known !== undefined) bits |= known;
    else if (NUMBER.test(part)) bits |= Number(part);
    else if (SHIFTED.test(part))
      continue; // the size of huge pages
    else if (FLAG_NAME.test(part)) unknown(part);
    else return null;
  }
  return bits;
}

const ESCAPES: Record<string, string> = { n: '\n', t: '\t', r: '\r', f: '\f', v: '\v' };
/** Text with its escapes (`\n`, `\303`, `\x3e`) taken back. */
export function unescaped(text: string): string {
  if (!text.includes('\\')) return text;
  const bytes = text.replace(/\\(x[0-9a-f]{2}|[0-7]{1,3}|.)/gis, (_, what: string) => {
    if (/^[0-7]/.test(what)) return String.fromCharCode(Number.parseInt(what, 8) & 0xff);
    if (/^x./i.test(what)) return String.fromCharCode(Number.parseInt(what.slice(1), 16));
    return ESCAPES[what] ?? what;
  });
  return Buffer.from(bytes, 'latin1').toString('utf8');
}
