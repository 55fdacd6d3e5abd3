/*
 * space_lists: two CPUs list address spaces and memory objects while both make, write to and end
 * them; no record says what could not be, whoever dies in the middle.
 */
import { procstat_vm, vm_objects } from '../../src/sys/observe/procstat_vm.ts';
import { vmtotal } from '../../src/sys/observe/vm_meter.ts';
import { COMMON, drop, fork, mine, space_script, write } from '../space_ops.ts';

const PAGE_BYTES = 4096;
function wrong(what: unknown): never {
  throw new Error(JSON.stringify(what));
}
function entries(): void {
  for (const e of procstat_vm()) {
    const pages = (e.end - e.start) / PAGE_BYTES;
    if (pages < 1 || e.resident > pages || e.private_resident > e.resident) wrong(e);
    if (e.type !== 0 && e.refs < 1) wrong(e);
  }
}
function objects(): void {
  const all = vm_objects();
  for (const o of all) if (o.refs < 1 || o.active + o.inactive > o.resident) wrong(o);
  if (new Set(all.map((o) => o.me)).size !== all.length) wrong(all);
}
function totals(): void {
  const t = vmtotal();
  if (t.avm > t.vm || t.arm > t.rm || t.rmshr > t.rm) wrong(t);
}

export const script = space_script(
  'lists of spaces and objects, while two CPUs make and end them',
  (cpu) =>
    cpu === 0
      ? [fork(COMMON, mine(0)), entries, write(mine(0), 0, 0), drop(mine(0)), objects]
      : [objects, fork(COMMON, mine(1)), totals, write(mine(1), 1, 1), drop(mine(1)), entries],
);
