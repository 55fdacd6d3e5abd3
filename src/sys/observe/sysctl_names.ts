/*
 * sysctl_names: the numbers that history fixed, and what each group is for.
 *
 * Programs that were built long ago know kern.ostype as {1,1}.  A variable
 * with such a name gets its old number whoever declares it; all others are
 * numbered as they come, from 0x100, and found by name.
 *
 * A group (an inner node) has no declaration of its own: it exists because
 * something below it is declared.  Its description stands here.
 */

/** Historic numbers of the first level; FreeBSD's. */
const TOP: Readonly<Record<string, number>> = {
  sysctl: 0,
  kern: 1,
  vm: 2,
  vfs: 3,
  net: 4,
  debug: 5,
  hw: 6,
  machdep: 7,
  user: 8,
  p1003_1b: 9,
};

const KERN =
  'ostype osrelease osrevision version maxvnodes maxproc maxfiles argmax securelevel hostname ' +
  'hostid clockrate vnode proc file prof posix1version ngroups job_control saved_ids boottime ' +
  'nisdomainname update osreldate ntp_pll bootfile maxfilesperproc maxprocperuid dumpdev ipc ' +
  'dummy ps_strings usrstack logsigexit iov_max hostuuid arandom';
const VM =
  'vmtotal loadavg v_free_min v_free_target v_free_reserved v_inactive_target v_cache_min ' +
  'v_cache_max v_pageout_free_min pageout_algorithm swap_enabled';
const HW =
  'machine model ncpu byteorder physmem usermem pagesize disknames diskstats floatingpoint ' +
  'machine_arch realmem';

const fixed = new Map<string, number>(Object.entries(TOP));
for (const [top, names] of [
  ['kern', KERN],
  ['vm', VM],
  ['hw', HW],
] as const) {
  for (const [i, name] of names.split(' ').entries()) fixed.set(`${top}.${name}`, i + 1);
}

/** The number history gave to a name, null: none. */
export function fixed_number(name: string): number | null {
  return fixed.get(name) ?? null;
}

const groups: Readonly<Record<string, string>> = {
  sysctl: 'Questions about the tree itself: names, numbers, formats',
  kern: 'The kernel: who it is, what it limits, what it counts',
  'kern.features': 'Optional parts that this kernel was built with',
  'kern.ipc': 'Communication between processes: limits and network buffers',
  'kern.malloc': 'The malloc allocator: settings',
  'kern.proc': 'Processes',
  'kern.smp': 'Processors: threads of the program that share the memory',
  'kern.sched': 'How waiting threads are chosen',
  vm: 'Virtual memory: pages, zones, the kernel heap',
  'vm.domain': 'Memory domains, each with its own pages',
  'vm.kmem': 'Settings of the kernel heap',
  'vm.memguard': 'Guarded allocations that trap stray accesses',
  'vm.redzone': 'Guard bytes around allocations',
  'vm.malloc': 'The malloc allocator: what it did',
  'vm.pageout': 'The page daemon',
  'vm.phys': 'Physical pages: free runs and how they are split',
  'vm.reap': 'Threads that vanished and what was recovered from them',
  'vm.reserv': 'Reservations of whole runs of pages',
  'vm.stats': 'Event counters and levels',
  'vm.stats.malloc': 'Event counters of malloc',
  'vm.stats.misc': 'Event counters that belong nowhere else',
  'vm.stats.object': 'Event counters of memory objects',
  'vm.stats.pmap': 'Page tables',
  'vm.stats.tlb': 'Translations that were taken back from CPUs',
  'vm.stats.page': 'Event counters of the page floor',
  'vm.stats.sys': 'Event counters of the processors',
  'vm.stats.uma': 'Event counters of the zone allocator',
  'vm.stats.vm': 'Event counters and levels of virtual memory',
  'vm.uma': 'The zone allocator',
  vfs: 'File systems and the buffer cache',
  net: 'Networking',
  debug: 'Settings and reports for finding faults',
  'debug.deadlkres': 'How long a wait may last before it counts as a deadlock',
  'debug.fail_point': 'Failures made to order',
  'debug.kdb': 'Entering the kernel debugger',
  'debug.lock': 'How locks spin, wait and are watched',
  'debug.quarantine': 'Freed large blocks that wait before their pages serve again',
  'debug.malloc': 'Faults of malloc made to order',
  'debug.mutex': 'Mutexes',
  'debug.mutex.prof': 'Times of holding and waiting, by lock and place',
  'debug.sleepq': 'Sleep queues',
  'debug.uma': 'Checks of the zone allocator',
  'debug.vm': 'Checks of the page floor',
  'debug.witness': 'The order in which locks are taken',
  hw: 'The machine: memory and processors',
  machdep: 'What depends on the host',
  security: 'Restrictions that can only be tightened',
  user: 'Limits of the user-level library',
  p1003_1b: 'Limits of the POSIX real-time extensions',
  vendor: 'Nodes that programs make at run time',
};

/** Whether a group's description was written for it. */
export function group_described(name: string): boolean {
  return Object.hasOwn(groups, name);
}
/** The description of a group; never empty. */
export function group_help(name: string): string {
  return groups[name] ?? `Variables below ${name}`;
}
