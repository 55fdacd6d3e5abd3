/*
 * whole: the life of the system (main.ts), with all parts of the kernel in it.
 *
 * main.ts and the variables call for WITNESS, the profiler, the guards of a checked boot, the
 * writer of dumps, the lists of address spaces, paging out and the detectors of malloc through a
 * table (machine/parts.ts), which a page that counts bytes leaves empty.  This file fills it, once,
 * when it is loaded, and says what variables and counters mean (help.ts): commands, players, tests
 * and the entry `kmem` import the system from here.
 */
import { detect_alloc, detect_free, detect_size, detect_what } from '../kmem/kern_detect_chain.ts';
import {
  memguard_copy,
  memguard_empty,
  memguard_update,
  memguard_zalloc,
  memguard_zone_made,
} from '../kmem/memguard.ts';
import { memguard_check } from '../kmem/memguard_check.ts';
import { item_history, note_zalloc, note_zfree } from '../kmem/kern_note.ts';
import { audit_switch } from '../kmem/kern_audit.ts';
import { sample_none, sample_redraw, sample_switch } from '../kmem/kern_stack_sample.ts';
import { stackprof_report } from '../kmem/kern_stackprof.ts';
import { parts_begin } from '../machine/parts.ts';
import { help_texts } from '../machine/sysctl_decl.ts';
import { contig_run } from '../map/vm_contig_alloc.ts';
import { kmem_reap } from '../map/vm_kern.ts';
import { kernel_fault } from '../map/vm_kern_fault.ts';
import { pageout_free } from '../map/vm_pageout.ts';
import { kdb_enter, kdb_panic } from '../observe/ddb/kern_kdb.ts';
import { dump_request, nomem_dump, panic_dump } from '../observe/kern_dump.ts';
import { objects_report, vmmap_report } from '../observe/procstat_vm.ts';
import { vmtotal_report } from '../observe/vm_meter.ts';
import { lock_parts } from '../sync/lock_parts.ts';
import { checked_letters } from './checked_letters.ts';
import { HELP } from './help.ts';

for (const [name, text] of Object.entries(HELP)) help_texts.set(name, text);
const lists = { objects_report, vmmap_report, vmtotal_report };
const memory = { pageout_free, contig_run, kernel_fault, kmem_reap };
const memguard = {
  update: memguard_update,
  zone_made: memguard_zone_made,
  zalloc: memguard_zalloc,
  copy: memguard_copy,
  empty: memguard_empty,
  check: memguard_check,
};
const detect = {
  alloc: detect_alloc,
  free: detect_free,
  size: detect_size,
  what: detect_what,
};
const debug = { kdb_enter, kdb_panic, panic_dump, nomem_dump, dump_request };
const note = { zalloc: note_zalloc, zfree: note_zfree, quiet: sample_none };
const stack_parts = {
  detect,
  memguard,
  note,
  stack_switch: sample_switch,
  stack_redraw: sample_redraw,
  stackprof_report,
  audit_switch,
  item_history,
};
parts_begin({ ...lock_parts, ...lists, ...memory, ...debug, ...stack_parts, checked_letters });

export * from './main.ts';
