/*
 * kern_mprof: which sizes a program asks for (option MALLOC_PROFILE).
 *
 * One count per 16-byte step up to the largest small size.  The report
 * kern.mprof lists requests per step with the size of the block they get, the
 * memory they used in all and how much of it the rounding wasted.
 */
import { atomic_add } from '../machine/atomic.ts';
import { boot_alloc } from '../machine/header.ts';
import { mem } from '../machine/memory.ts';
import { opt } from '../machine/opt.ts';
import { type sbuf, sbuf_cat, sbuf_printf, sbuf_report } from '../machine/sbuf.ts';
import { sysctl_proc } from '../machine/sysctl_decl.ts';
import { KMEM_ZMAX, malloc_root } from '../h/malloc.ts';
import { malloc_anchor } from './kern_malloc_type.ts';

const STEP = 16;
const STEPS = KMEM_ZMAX / STEP + 1;

/** Lays the counts out, if the option is on, while boot_alloc still works. */
export function mprof_boot(): void {
  if (opt.MALLOC_PROFILE) {
    malloc_root.profile[malloc_anchor()] = boot_alloc(STEPS, 'kern.mprof');
  }
}
/** Counts a request. */
export function mprof_count(size: number): void {
  if (size <= KMEM_ZMAX)
    atomic_add(malloc_root.profile[malloc_anchor()] + Math.ceil(size / STEP), 1);
}

function mprof_write(s: sbuf): void {
  const base = malloc_root.profile[malloc_anchor()];
  let used = 0;
  let wasted = 0;
  sbuf_cat(s, '\n  Size                    Requests  Real Size\n');
  for (let i = 0; i < STEPS; i++) {
    const size = i * STEP;
    const requests = mem.U32[base + i];
    let real = STEP;
    while (real < size) real *= 2;
    sbuf_printf(s, '%6d%28u%11d\n', size, requests, real);
    used += real * requests;
    wasted += (real - size) * requests;
  }
  sbuf_printf(s, '\nTotal memory used:\t%30u\nTotal Memory wasted:\t%30u\n', used, wasted);
}

sysctl_proc(
  'kern.mprof',
  { type: 'string', fmt: 'A', help: 'Requests per 16-byte step (option MALLOC_PROFILE)' },
  (req) => sbuf_report(req, opt.MALLOC_PROFILE ? mprof_write : () => {}),
);
