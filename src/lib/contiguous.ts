/*
 * contiguous: a block that lies where the program wants it.
 *
 *      using b = machine.contiguous('1M', { align: '1M', high: '64M' });
 *      b.bytes                                          zeros, one view, shared by all threads
 *
 * A block of a type is contiguous, too, and costs less: it takes a run of pages that is free, and
 * when memory is fragmented there may be none.  This call makes one: pages of address spaces move
 * out of the way, or go to where their pagers keep them.  The block counts under its type and is
 * freed as any other.
 */
import { EINVAL } from '../sys/machine/errno.ts';
import { memory_state, PAGE_SIZE } from '../sys/machine/memory.ts';
import { M_DRAIN, M_NOWAIT, M_WAITOK, M_ZERO } from '../sys/h/malloc_flags.ts';
import { malloc_type_find_or_make } from '../sys/kmem/kern_malloc_type.ts';
import { contigmalloc } from '../sys/kmem/kern_contig.ts';
import { booleanOf, checkOptions, type Known, shown, whole } from './args.ts';
import { checkName, type Context, inKernel, mayBlock } from './context.ts';
import { kmemError } from './errors.ts';
import type { Address } from './memory.ts';
import { type ContiguousOptions, type Size, sizeOf } from './space_args.ts';
import { type Block, MallocType, memoryFailure, ownedBlock } from './type.ts';

const OPTIONS: Known = ['type', 'align', 'boundary', 'low', 'high', 'guard'];
const OP = 'contiguous';
const TYPE = 'contiguous';

/** A place in memory, or a distance there: 0 is one, too. */
function placeOf(what: string, at: Size | undefined, otherwise: number): number {
  if (at === undefined) return otherwise;
  return whole(at) && at === 0 ? 0 : sizeOf(OP, what, at);
}
function powerOf(what: string, given: Size | undefined, otherwise: number): number {
  const n = placeOf(what, given, otherwise);
  if (n === otherwise || (n > 0 && Number.isInteger(Math.log2(n)))) return n;
  throw kmemError(EINVAL, OP, `${what} ${shown(given)} is no power of two`);
}
/** machine.contiguous. */
export function contiguous(ctx: Context, bytes: Size, options?: ContiguousOptions): Block {
  checkOptions(OP, options, OPTIONS);
  const { type: name = TYPE, align, boundary, low, high } = options ?? {};
  checkName('type', name);
  const size = sizeOf(OP, 'bytes', bytes);
  const alignment = powerOf('align', align, PAGE_SIZE);
  const edge = powerOf('boundary', boundary, 0);
  const from = placeOf('low', low, 0);
  const to = Math.min(placeOf('high', high, memory_state.size), memory_state.size);
  const guard = booleanOf(OP, 'guard', options?.guard);
  if (guard && (alignment > PAGE_SIZE || edge !== 0)) {
    throw kmemError(EINVAL, OP, 'guard: a block with guards has no boundary, and align 4096');
  }
  const pages = Math.ceil(size / PAGE_SIZE) * PAGE_SIZE;
  if (edge !== 0 && pages > edge) {
    const text = `boundary ${edge}: a block of ${pages} bytes lies across one wherever it is`;
    throw kmemError(EINVAL, OP, text);
  }
  if (to - from < pages && (low !== undefined || high !== undefined)) {
    throw kmemError(EINVAL, OP, `no ${pages} bytes lie between low ${from} and high ${to}`);
  }
  ctx.enter(OP);
  const type = ctx.once('type', name, () => new MallocType(ctx, name));
  const flags = M_ZERO | (mayBlock() ? M_WAITOK : M_NOWAIT | M_DRAIN);
  const p = inKernel(OP, () => {
    const t = malloc_type_find_or_make(name);
    return t === 0 ? 0 : contigmalloc(size, t, flags, from, to, alignment, edge, guard);
  });
  if (p === 0) throw memoryFailure(OP, size, { type: name }, true);
  return ownedBlock(ctx, type, (p * 4) as Address, size);
}
