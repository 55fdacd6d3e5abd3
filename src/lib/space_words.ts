/*
 * space_words: the words of address spaces, each with what it means.
 *
 *      EBUSY: unmap: space 's': this thread has a window on 8192 bytes at 4096
 *                    └ space                      └ window
 *
 * They are names of calls, and stand in the texts of errors.  It is data for people: `kmem explain`
 * prints it.  What an error's `reason` says is in error_table.ts.
 */

/** What somebody may ask who meets the word first. */
export const SPACE_WORDS = {
  space:
    'An address space: 8 TiB of addresses by name, the same in every thread. It has what regions ' +
    'map in it, and lives until destroy(); machine.space() makes or finds it.',
  region:
    'A part of an address space that threads find by its name, or by an address in it; ' +
    'space.mmap() makes it. It takes memory page by page, when a page is first used.',
  mmap:
    'Maps a region: pages that are zero and take no memory before they are used, or with `file` ' +
    'those of a file. One that has the name already is the answer, if its length, or its file, ' +
    'is the same.',
  file:
    'A region may show a file: space.mmap({ file, write }). Its pages come when they are used, ' +
    'and go when others need their memory. All threads, and all regions that show it, see the ' +
    'same pages. Stores reach it at sync(), and at the latest when nobody maps it any more; with ' +
    'shared: false they go to copies of its pages, and never to it.',
  sync:
    'Writes what was stored in a region to its file. It throws what the host says of the first ' +
    'page that it did not take, EIO or ENOSPC say; that page is kept, and written at the next ' +
    'one. { wait: false } does not wait for the disk, { invalidate: true } lets the pages go.',
  revalidate:
    'What others, outside the machine, wrote to the file of a region is seen from then on.',
  truncate:
    'Makes the file of a region shorter or longer. The region stays as long as it is: what lies ' +
    "behind the end of the file is EFAULT, reason 'beyond-end-of-file'.",
  advise:
    "How a region will be used: 'sequential', 'random', 'willneed', 'dontneed', 'free', 'normal'.",
  swap:
    'Files for pages whose memory is needed for something else; they come back when they are ' +
    'used. machine.swapon() gives one. Where there is none the machine makes one at first need, ' +
    'of at most vm.swap_default pages, and removes it at the end. When all are full, and memory ' +
    'is, too, a store is ENOMEM. machine.swaps() and kmem swapctl -l show how full they are, ' +
    "space.swap whether there can be any. A browser's main thread cannot wait for one: " +
    'await region.ready() first.',
  swapon:
    'Makes a file a swap area, machine.swapon(path, { size, priority }): written to its end at ' +
    'once; the one with the lowest priority is used first. The file stays when the area goes, ' +
    "with pages of the program's memory in it.",
  swapoff:
    'Takes a swap area out of use, machine.swapoff(path). Its pages come into memory, or go to ' +
    'other areas, first: ENOMEM if they find no room there.',
  window:
    "A part of a region as flat memory: typed arrays, with the region's pages held in place side " +
    'by side until it is closed. While it is open what would take its pages away is EBUSY: ' +
    'unmap, destroy, less rights, a window that overlaps it in part. vm.window_max limits each, ' +
    'vm.max_wired all of them; vm.windows counts those that are open.',
  fork:
    'A copy of an address space as it is at one moment, while other threads go on writing. Each ' +
    'thread that uses the space has to answer first: ETIMEDOUT if one is silent, computing ' +
    'without a call of the library and not in machine.away(). Pages are copied when either side ' +
    'writes to them, those under windows that may be written to at once.',
  save:
    'Writes a space, as it is at one moment, to a file, while other threads go on. The file ' +
    'takes the place of an old one when all of it is on the disk; whatever fails, the old one is ' +
    'there still. It has what a fork would have. kmem saved shows what is in one.',
  load:
    'Maps all regions of a saved file in an empty space: for all threads at once, when the whole ' +
    'file was read and every checksum was right; else nothing. loadAsync lets the event loop run ' +
    'meanwhile. Regions that show files are saved as what is in them, and are memory when loaded.',
  'copy-on-write':
    'Two spaces show the same page until one writes to it: that one gets a copy. No memory for ' +
    'the copy is ENOMEM at the write.',
  protect:
    'Says what all threads may do with a region: none, r, w, rw, rx, rwx. Taking the right to ' +
    'write away waits for the answers of all threads, as a fork does.',
  inherit:
    'What a fork makes of a region: share, the same memory for both; copy, the default; zero; ' +
    'none, a hole.',
  lock:
    'Keeps pages in memory, m.lock() and space.lockAll(): they come in, and stay until unlock(), ' +
    'or until they are unmapped, whichever thread locked them. Locks do not nest. A space may ' +
    'lock limits({ memlock }) bytes, all of them vm.max_wired pages beside those under windows.',
  lend:
    'Gives bytes of a region as they are now, m.lend(): a loan, whose views are read where the ' +
    'pages lie, while others store to the region. dispose() gives it back; chain.append(loan) ' +
    'and space.mmap({ loan }) go on with its pages. vm.loan_max says how many pages are lent at ' +
    'once. Pages that are locked, or under a window, are EBUSY.',
  superpage:
    "4 MiB of a region that are one translation: space.mmap({ align: 'super' }). They are where " +
    'all of their pages lie side by side and are used; `super` in space.regions() says how many ' +
    'bytes. A part of one that is lent, or copied on write, makes single pages of it again.',
  contiguous:
    'A block whose pages lie side by side, and where it is wanted: machine.contiguous(). Pages ' +
    'of spaces move out of its way. kmem bench contig shows how often there is room.',
  limits:
    'How many bytes of a space are in use at a time, space.limits({ resident }): an access to ' +
    'one more page takes others of the space out of use, which are the first to leave the memory ' +
    'when that is short. vm.v_resident_max is one for all spaces: its pages leave at once.',
  resident:
    'Bytes of a space whose pages are in memory and that it translates; `mapped` are all that ' +
    'regions have, in memory or not. Region.resident() has a byte for each page: 1 it is in ' +
    'memory, and with it 2 it was used, 4 it was written to.',
} as const;
