/*
 * rows: the words of a replay's verdict, each with what it means.
 *
 *      never freed   172,865 bytes in 1,889 blocks
 *      └ label       └ text, of heap/verdict.ts, packet/packet_verdict.ts or vm/vm_verdict.ts
 *
 * A verdict is rows of a label and a text.  A label is declared here, with its meaning,
 * before a verdict can use it: row() takes no other one, and `kmem explain` tells the
 * meaning.  WORDS are those inside the texts that a reader may not know.
 */

/** Width of a row's label. */
const LABEL = 14;

/** What stands to the left, by label. */
export const ROWS = {
  CPUs: 'How many of the CPUs that were asked for have something to play.',
  requests:
    'In the first part: blocks that the recorded program asked for, refused ones included, ' +
    'the bytes of those it got, and the number of call sites. In the second: requests that ' +
    'the machine served.',
  peak:
    'The most bytes that the recorded program had in use at a time, as it asked for them, in ' +
    'how many blocks, and when that was.',
  temporary:
    'Blocks that were freed, or moved by a realloc, before anything else was obtained or ' +
    'freed: work for the allocator that a local variable or a buffer used again would save.',
  'never freed':
    'What the recorded program had in use when the recording ended: what leaked, and what is ' +
    'kept until the end on purpose.',
  'most of it by': 'The call sites of what was never freed, most bytes first.',
  'peak held by': 'The call sites of what was in use at the peak, most bytes first.',
  'most calls by': 'The call sites that asked most often, with the sum of bytes.',
  recording:
    'What is unusual about the recording: where it is damaged or cut, lines that make no ' +
    'sense, blocks that were freed without having been obtained.',
  memory:
    'Pages that the machine took at the peak, of all that it has; of blocks also the part of ' +
    'these pages that the program had not asked for: rounding to size classes, free blocks, ' +
    'headers; of address spaces also the process that had most pages mapped.',
  fit: 'The smallest memory with which the recording plays without a failure (--fit).',
  'in use': 'Blocks that are in use when the replay ends, in bytes of size classes.',
  'too small':
    'Requests failed: about how much memory would have been enough. Of system calls: what ' +
    'found no memory.',
  contents:
    'Whether what was written into the blocks or packets was still in them when they were ' +
    'freed or sent, and in the private pages of address spaces whenever they were used.',
  time: 'How long the replay took; reading and unpacking the file are part of it.',
  capture: 'The link types of a capture of packets, its bytes, and how long it was recorded.',
  protocols: 'Packets of a capture by protocol.',
  processes:
    'Of a recording of system calls: processes that fork, vfork and clone made, and threads; ' +
    'how many ended by themselves or were killed; signals that they got.',
  calls:
    'Of a recording of system calls: those that ended, and the errors of those that failed ' +
    'when they were recorded.',
  mapped:
    'Bytes that the recorded programs asked mmap for, and those that they gave back by ' +
    'munmap, as they asked for them; what ended with its process is not in the second.',
  moved: 'Bytes that the calls read and write of the recorded programs moved.',
  blocks:
    'Of a recording with the names of files (strace -y): different blocks of 4096 bytes that ' +
    'pread64 and pwrite64 touched, and how often a cache of so many blocks would have had to ' +
    'fetch one that it had not, always forgetting the one not used for longest.',
  references:
    'References to pages by what they do: reads and writes, or fetches of instructions, loads, ' +
    'stores, and those that load and store.',
  written: 'Pages that a recording of references to pages wrote to, of all that it used.',
  LRU:
    'References whose page would not have been in a memory of so many pages that always ' +
    'forgets the page not used for longest; the first use of each page is among them.',
  enough:
    'Memories, in pages, that do well by exact LRU: one that misses few references, and one ' +
    'that misses nothing but the first use of each page.',
  resident:
    'Pages of the program that may be in memory at a time (--resident); those of the kernel ' +
    'are not among them.',
  misses:
    'References that found their page not in memory, the first use of each page included, and ' +
    'how many times more these are than exact LRU would have missed in as many pages.',
  paged: 'Pages that were brought in from where they had been put, and that were written there.',
  'not played':
    'Calls that changed nothing on this machine; the table below has them by name. A call ' +
    'that failed when it was recorded is not among them if it is of a kind that is played.',
  spaces:
    'Address spaces that a recording of system calls made: one for each process that was there ' +
    'first, was forked or began a program; and how many there were at a time at most.',
  answers:
    'Calls on memory that were made here and answered as they did when they were recorded, by ' +
    'address or success; otherwise with the errno they had here, the first ones by line.',
  faults:
    'Accesses that found no translation: pages that were brought in, pages that were filled ' +
    'with zeros, pages that writing to shared memory gave a process for itself, and how often ' +
    'another CPU was told to forget translations. A soft fault is one whose page was in memory. ' +
    'Which memory a program uses is not in a recording of system calls, but taken by a rule: new ' +
    'memory, what it read, what it wrote, what it works with when it forks.',
  forks:
    'What copy-on-write saved: pages that the forked spaces had, and those of them that were ' +
    'copied since, or moved because nobody else could see them any more.',
  'pages left': 'Pages of address spaces, objects and page tables when all processes have ended.',
  mbufs: 'Whether all mbufs, clusters and tags were given back when the packets had been sent.',
} as const;

/** What stands inside a verdict, by word. */
export const WORDS = {
  'call site':
    'A place in the recorded program that asks for memory: module, function and offset, or ' +
    'module and address where the name is not known. vmstat -m has a malloc type for each, ' +
    'and a block that realloc grows stays with the type, and so with the call site, that ' +
    'obtained it first; the rows of call sites name the realloc.',
  'size class':
    'A size that malloc rounds requests up to: 16, 32 … 4096 bytes; above, whole pages. ' +
    'vmstat -z has a zone for each.',
  'malformed line':
    'A line of the recording that does not follow the format. It is left out; the last line ' +
    'of a file that was cut is one, as a rule.',
  'zero fill':
    'A page that an access made, filled with zeros, because nothing had been stored there yet.',
  'copy-on-write':
    'After a fork both spaces have the same pages. Whoever writes to one first gets a page of ' +
    'his own: a copy, or the page itself if nobody else can come to see it any more.',
  'shoot-down':
    'A CPU that takes translations back asks another one, which may still use them, to stop ' +
    'doing so.',
} as const;

/** A row: what it is, and what there is to say. A row without a label continues the one above. */
export function row(label: keyof typeof ROWS | '', text: string): string {
  return `  ${label.padEnd(LABEL)}${text}\n`;
}
