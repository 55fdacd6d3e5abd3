/*
 * vm_vars: variables and counters of forks and of mmap.
 *
 * What is declared must be the same in every thread of a machine: its place in the memory follows
 * from all names.  A small program has no address spaces, and does without the code of forks and
 * system calls; so what that code declares stands here, where every program has it.
 */
import { counter_u64 } from '../machine/counter.ts';
import { CTLFLAG_RWTUN, sysctl_uint } from '../machine/sysctl_decl.ts';

export const fork_cut = sysctl_uint('vm.fork_cut', {
  value: 50,
  min: 1,
  unit: 'ms',
  help: 'How long a fork waits, with the address space locked, for the answer of every CPU',
});
export const v_forks = counter_u64(
  'vm.stats.vm.v_forks',
  'Copies of address spaces that were made',
);
export const v_forkpages = counter_u64(
  'vm.stats.vm.v_forkpages',
  'Pages of data and stack that the spaces had that were copied',
);

export const map_at_zero = sysctl_uint('security.bsd.map_at_zero', {
  value: 0,
  max: 1,
  flags: CTLFLAG_RWTUN,
  help: 'Whether an address space that is made may have something mapped at address 0',
});
export const max_proc_mmap = sysctl_uint('vm.max_proc_mmap', {
  value: 0,
  flags: CTLFLAG_RWTUN,
  help: 'The most entries of an address space for each reference to it; 0: any number',
});
export const unprivileged_mlock = sysctl_uint('security.bsd.unprivileged_mlock', {
  value: 1,
  max: 1,
  flags: CTLFLAG_RWTUN,
  help: 'Whether programs may lock memory: mlock and mlockall',
});
