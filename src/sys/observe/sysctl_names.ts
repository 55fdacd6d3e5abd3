/*
 * sysctl_names: the numbers that history fixed, and what each group is for.
 *
 * Programs that were built long ago know kern.ostype as {1,1}.  A variable
 * with such a name gets its old number whoever declares it; all others are
 * numbered as they come, from 0x100, and found by name.
 *
 * A group (an inner node) has no declaration of its own: it exists because
 * something below it is declared.  Its description stands in boot/help.ts.
 */
import { help_texts } from '../machine/sysctl_decl.ts';

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

/** Whether a group's description was written for it. */
export function group_described(name: string): boolean {
  return help_texts.has(name);
}
/** The description of a group; never empty, and general where the texts are not loaded. */
export function group_help(name: string): string {
  return help_texts.get(name) ?? `Variables below ${name}`;
}
