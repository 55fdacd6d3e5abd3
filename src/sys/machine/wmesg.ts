/*
 * wmesg: why a thread sleeps, in a word each.
 *
 *      msleep(k, keg.lock, k, W_KEGLIMIT, ms)
 *
 * As in BSD a sleep carries a short text (the wait message).  WITNESS and panics name it,
 * and sleepq_list() gives it for each sleeper.  Each is declared here with a phrase, which
 * `kmem explain` tells; where more than one place waits for the same thing, all use one.
 *
 * Nothing of it lies in the memory of a machine but the text in a sleeper's record.
 */

export interface WmesgDecl {
  readonly name: string;
  readonly help: string;
}
export const wmesgs: WmesgDecl[] = [];

function wmesg(name: string, help: string): string {
  wmesgs.push({ name, help });
  return name;
}

export const W_VMWAIT = wmesg('vmwait', 'Sleeps until pages are free: the memory is short.');
export const W_KEGLIMIT = wmesg(
  'keglimit',
  'Sleeps until an item of a zone is free: the zone is at its limit, or the pool of mbufs is.',
);
export const W_ZONELIMIT = wmesg(
  'zonelimit',
  'Sleeps until an item of a zone over several kegs is free: all of them are at their limits.',
);
export const W_QPOP = wmesg('qpop', 'Waits until something is in a queue: popAsync() found none.');
export const W_QPUSH = wmesg(
  'qpush',
  'Waits until a place in a queue is free: pushAsync() found it full.',
);
export const W_CV = wmesg('cv', 'Waits for a condition of the program: wait() or waitAsync().');
export const W_VMPBUSY = wmesg(
  'vmpbusy',
  'Waits for a page of a memory object that another CPU has in work.',
);
export const W_OBJPIP = wmesg(
  'objpip',
  'Waits until nobody uses pages of a memory object that is to end.',
);
export const W_VNTRUNC = wmesg(
  'vntrunc',
  'Waits until another thread has made a file longer or shorter.',
);
export const W_VMMAP = wmesg(
  'vmmapw',
  'Waits until another thread is through with a part of an address space.',
);
export const W_PSLEEP = wmesg('psleep', 'The page daemon, asleep until memory is short.');
export const W_PSTILL = wmesg(
  'pstill',
  'The page daemon, while another thread proves the structures; or that one, until it may.',
);
export const W_PAGEOUT = wmesg(
  'pageout',
  'Needs pages, and waits for another thread that gets some back.',
);
export const W_OIDRM = wmesg(
  'oidrm',
  'Waits until no thread runs the handler of a variable that is to be removed.',
);
export const W_SWAPMK = wmesg(
  'swapmk',
  'Waits until another thread has made the swap file: pages are written out for the first time.',
);
export const W_SWAPOFF = wmesg(
  'swapoff',
  'Waits until pages that another thread has in work have left a swap area that is to go.',
);
