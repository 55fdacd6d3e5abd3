/*
 * foreign: files that people give, and that are no recordings kmem can play.
 *
 * A downloaded page in place of the file, the program in place of its trace, a
 * capture of another tool: each is called by its name, with what to do about it.
 * What is packed in a way kmem cannot unpack is found here, too; the lists go by
 * the first bytes, as everything that decides what a file is.
 */

/** Bytes of a file that decide. */
export const FOREIGN_BYTES = 300;

/** What a file is, and what to do with it; FILE stands for its name. */
export interface Foreign {
  what: string;
  advice: string;
}

const UNPACK = 'unpack it on the way: ';
const TO_PCAP = 'write it as pcap: editcap -F pcap FILE out.pcap (it comes with Wireshark)';
const A_RECORDING =
  'record one: heaptrack PROGRAM, or mtrace() and MALLOC_TRACE=out.mtrace PROGRAM';
const TRY_AGAIN = 'fetch the file itself (of a repository its raw form)';

/** By the bytes at the beginning, in hexadecimal. */
const PACKED: [what: string, tool: string, magic: string][] = [
  ['xz', 'xz -dc FILE', 'fd377a585a00'],
  ['lzma', 'xz -dc FILE', '5d00008000'],
  ['bzip2', 'bzip2 -dc FILE', '425a68'],
  ['lz4', 'lz4 -dc FILE', '04224d18'],
  ['lzip', 'lzip -dc FILE', '4c5a495001'],
  ['lzop', 'lzop -dc FILE', '894c5a4f000d0a1a0a'],
  ['compress', 'gzip -dc FILE', '1f9d'],
  ['zip', 'unzip -p FILE', '504b0304'],
  ['zip', 'unzip -p FILE', '504b0506'],
  ['zip', 'unzip -p FILE', '504b0708'],
  ['7z', '7z x -so FILE', '377abcaf271c'],
  ['rar', 'unrar p -inul FILE', '526172211a07'],
];
const CAPTURES: [what: string, magic: string][] = [
  ['a snoop capture', '736e6f6f70000000'],
  ['a capture of Microsoft Network Monitor', '474d4255'],
  ['a capture of Microsoft Network Monitor', '52545353'],
  ['a capture of Sniffer', '5452534e49464620646174612020202020'],
  ['a capture of NetXRay', '58435000'],
  ['a Bluetooth (btsnoop) capture', '6274736e6f6f7000'],
  ['an iptrace capture', '697074726163652032'],
  ['an iptrace capture', '697074726163652031'],
];
const OTHERS: [what: string, advice: string, magic: string][] = [
  ['a program or a core dump (ELF)', A_RECORDING, '7f454c46'],
  ['a program (Windows)', A_RECORDING, '4d5a9000'],
  ['a program (macOS)', A_RECORDING, 'cffaedfe'],
  ['a recording of perf', A_RECORDING, '50455246494c4532'],
  ['text in UTF-16', 'write it as UTF-8: iconv -f UTF-16 -t UTF-8 FILE | kmem replay -', 'fffe'],
  ['text in UTF-16', 'write it as UTF-8: iconv -f UTF-16 -t UTF-8 FILE | kmem replay -', 'feff'],
];
const PAGE = /^\s*<(!doctype|html|head|body|\?xml|!--|svg)/i;
const TEXTS: [what: string, advice: string, text: RegExp][] = [
  ['a web page (HTML or XML)', TRY_AGAIN, PAGE],
  ['a pointer of Git LFS', 'fetch the file itself: git lfs pull', /^version https:\/\/git-lfs\./],
  ['output of massif', A_RECORDING, /^desc: .*\ncmd: /],
  ['a heap profile', A_RECORDING, /^(heap profile: +\d|heap_v2\/)/],
  ['a script', `${A_RECORDING}, the script being the program`, /^#! ?\//],
];
/** What kmem unpacks, but once. */
const TWICE = ['1f8b', '28b52ffd'];
const AGAIN: Foreign = {
  what: 'packed again',
  advice: 'unpack it once on the way, such as: gzip -dc FILE | kmem replay -',
};
/** A tar archive has its mark behind the first member's name. */
const TAR_AT = 257;

function begins(head: Uint8Array, magic: string): boolean {
  const bytes = Buffer.from(magic, 'hex');
  return bytes.equals(head.subarray(0, bytes.length));
}
function text_of(head: Uint8Array, from: number, to: number): string {
  return Buffer.from(head.subarray(from, to)).toString('latin1');
}

/** What a file is packed with, when kmem cannot unpack that. */
export function foreign_packing(head: Uint8Array): Foreign | null {
  const packed = PACKED.find(([, , magic]) => begins(head, magic));
  if (packed === undefined) return null;
  const [name, tool] = packed;
  return {
    what: `packed with ${name}, which kmem does not read`,
    advice: `${UNPACK}${tool} | kmem replay -`,
  };
}
/** What a file, unpacked, is that is no recording at all, or none of a tool that kmem knows. */
export function foreign_file(head: Uint8Array): Foreign | null {
  const called = (what: string, advice: string): Foreign => ({
    what: `recognised as ${what}, which kmem does not replay`,
    advice,
  });
  const inner =
    foreign_packing(head) ?? (TWICE.some((magic) => begins(head, magic)) ? AGAIN : null);
  if (inner !== null)
    return { what: `packed twice: what is in it is ${inner.what}`, advice: AGAIN.advice };
  const capture = CAPTURES.find(([, magic]) => begins(head, magic));
  if (capture) return called(capture[0], TO_PCAP);
  const other = OTHERS.find(([, , magic]) => begins(head, magic));
  if (other) return called(other[0], other[1]);
  if (text_of(head, TAR_AT, TAR_AT + 5) === 'ustar') {
    return called('a tar archive', `${UNPACK}tar -xOf FILE MEMBER | kmem replay -`);
  }
  const start = head[0] === 0xef && head[1] === 0xbb && head[2] === 0xbf ? 3 : 0;
  const text = text_of(head, start, FOREIGN_BYTES);
  const found = TEXTS.find(([, , shape]) => shape.test(text));
  return found ? called(found[0], found[1]) : null;
}
