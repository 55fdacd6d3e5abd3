/*
 * kern_stack_vars: what every thread has of stacks, whatever it has loaded.
 *
 * The record that anchors them is laid out at boot; zones are made when somebody keeps the first
 * stack (kern_stack.ts).
 */
import { counter_u64 } from '../machine/counter.ts';
import { boot_alloc, M, machine, ROOT_STACK } from '../machine/header.ts';
import { ENAMETOOLONG, EOPNOTSUPP } from '../machine/errno.ts';
import { kernel_parts } from '../machine/parts.ts';
import { elem, get_string } from '../machine/struct.ts';
import {
  CTLFLAG_RW,
  CTLFLAG_RWTUN,
  sysctl_get,
  sysctl_proc,
  sysctl_uint,
  sysctl_value,
} from '../machine/sysctl_decl.ts';
import { AUDIT_DEPTH_MAX, AUDIT_ZONES_WORDS, stack_root, type stack_root_t } from '../h/stack.ts';
import { mtx_init } from '../sync/kern_mutex.ts';
import { LC_STACKS } from '../sync/lock_order.ts';

export const stack_max = sysctl_uint('vm.stack.max', {
  value: 4096,
  max: 2 ** 20,
  flags: CTLFLAG_RWTUN,
  unit: 'stacks',
  help: 'Distinct stacks that are kept at most; each is there until the machine ends',
});
sysctl_value(
  'vm.stack.count',
  { type: 'uint', unit: 'stacks', help: 'Distinct stacks that are kept' },
  () => stack_root.stacks[stack_anchor()],
);
export const v_stack_full = counter_u64(
  'vm.stack.full',
  'Stacks that were not kept, because of vm.stack.max or for want of memory',
);

export const v_sample_lost = counter_u64(
  'vm.stack.lost',
  'Requests that were to be noted, and were not for want of memory',
);
const enable = sysctl_uint('vm.stack.enable', {
  value: 0,
  max: 1,
  flags: CTLFLAG_RWTUN,
  help: 'Notes some requests of malloc and of zones of the program with their stack',
  check: (on) => {
    if (kernel_parts.stack_switch) kernel_parts.stack_switch(on !== 0);
    else if (on !== 0) return EOPNOTSUPP;
    return 0;
  },
});
export const stack_interval = sysctl_uint('vm.stack.interval', {
  value: 2 ** 19,
  min: 1,
  max: 2 ** 30,
  flags: CTLFLAG_RWTUN,
  unit: 'bytes',
  help: 'Bytes that are asked for between two requests that are noted, on average; 1: each is',
  check: () => {
    kernel_parts.stack_redraw?.();
    return 0;
  },
});
sysctl_value(
  'vm.stack.samples',
  { type: 'uint', help: 'Blocks and items in use that are noted with their stack' },
  () => stack_root.samples[stack_anchor()],
);
sysctl_proc(
  'kern.stackprof',
  { type: 'opaque', fmt: 'S,stackprof', help: 'By stack: bytes and objects in use, and in all' },
  (req) => kernel_parts.stackprof_report?.(req) ?? EOPNOTSUPP,
);

export const audit_depth = sysctl_uint('vm.audit.depth', {
  value: 2,
  min: 1,
  max: AUDIT_DEPTH_MAX,
  flags: CTLFLAG_RWTUN,
  unit: 'operations',
  help: 'Operations that are kept of each item of vm.audit.zones',
});
export const audit_max = sysctl_uint('vm.audit.max', {
  value: 2 ** 16,
  max: 2 ** 24,
  flags: CTLFLAG_RWTUN,
  unit: 'items',
  help: 'Items whose last operations are kept at most',
});
export const v_audit_lost = counter_u64(
  'vm.audit.lost',
  'Operations that were not kept, because of vm.audit.max or for want of memory',
);
sysctl_value(
  'vm.audit.items',
  { type: 'uint', unit: 'items', help: 'Items whose last operations are kept' },
  () => stack_root.audited[stack_anchor()],
);
const encoder = new TextEncoder();
const decoder = new TextDecoder();
sysctl_proc(
  'vm.audit.zones',
  {
    type: 'string',
    fmt: 'A',
    flags: CTLFLAG_RW,
    help: 'Types and zones whose last operations are kept: names with commas between, * for all',
  },
  (req) => {
    const old = get_string(stack_root.audit_zones, stack_anchor(), AUDIT_ZONES_WORDS);
    const error = req.out(encoder.encode(`${old}\0`));
    if (error !== 0 || req.new_bytes === null) return error;
    const names = decoder.decode(req.new_bytes).replace(/\0.*$/s, '');
    if (encoder.encode(names).length >= AUDIT_ZONES_WORDS * 4) return ENAMETOOLONG;
    if (!kernel_parts.audit_switch) return names === '' ? 0 : EOPNOTSUPP;
    kernel_parts.audit_switch(names);
    return 0;
  },
);

/** The record that anchors the stacks. */
export function stack_anchor(): stack_root_t {
  return machine.roots[elem(M, ROOT_STACK)] as stack_root_t;
}
/** Lays it out, while boot_alloc still works. */
export function stack_boot(): void {
  const r = boot_alloc(stack_root.sizeof, 'stacks', 32) as stack_root_t;
  machine.roots[elem(M, ROOT_STACK)] = r;
  mtx_init(stack_root.lock, r, LC_STACKS);
}
/** Sampling begins with the machine, if its tunable says so. */
export function stack_startup(): void {
  if (sysctl_get(enable) !== 0) kernel_parts.stack_switch?.(true);
}
