/*
 * vm_contig_vars: variables and counters of requests for contiguous memory.
 *
 * They stand apart because every thread of a machine declares them, also one that has not loaded
 * what makes such a run (vm_contig_alloc.ts).
 */
import { counter_u64 } from '../machine/counter.ts';
import { CTLFLAG_RWTUN, sysctl_int } from '../machine/sysctl_decl.ts';

export const old_contigmalloc = sysctl_int('vm.old_contigmalloc', {
  value: 0,
  min: 0,
  max: 1,
  flags: CTLFLAG_RWTUN,
  help: 'contigmalloc looks for a place as it did before 2004: it launders everything',
});
export const contig_relocate = sysctl_int('vm.contig_relocate', {
  value: 1,
  min: 0,
  max: 1,
  flags: CTLFLAG_RWTUN,
  help: 'Requests for contiguous memory move pages out of the way before they free any',
});
export const v_contig_requests = counter_u64('vm.contig.requests', 'Requests for contiguous pages');
export const v_contig_failed = counter_u64('vm.contig.failed', 'Of them those that got none');
export const v_contig_moved = counter_u64(
  'vm.contig.moved',
  'Pages that moved to make room for a run of pages',
);
export const v_contig_freed = counter_u64(
  'vm.contig.freed',
  'Pages that were freed to make room for a run of pages',
);
export const v_contig_written = counter_u64(
  'vm.contig.written',
  'Clusters of pages that were written to make room for a run of pages',
);
export const v_contig_abandoned = counter_u64(
  'vm.contig.abandoned',
  'Places for a run of pages that were given up half-way, because a page there could not go',
);
export const v_contig_silent = counter_u64(
  'vm.contig.silent',
  'Of them those that were given up because a CPU did not answer',
);
