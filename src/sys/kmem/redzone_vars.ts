/*
 * redzone_vars: what redzones are set by, and what lies before a block that has them.
 *
 * Every thread has these declarations, also one that has loaded the core alone: the layout of
 * the memory is the same in all.  What fills and looks at redzones is in redzone.ts.
 *
 * Which types get redzones is a text, and to compare names costs more than to allocate.  So each
 * type has a word with what was chosen for it, and the number of the settings by which it was:
 *
 *      malloc_root.redzone        5
 *      malloc_type.redzone      | 5 | RT_STACKS | RT_WANTED |     chosen by these settings
 *                               | 4 | ...                   |     by older ones: chosen anew
 *
 * The number goes up after a setting has changed.  A type whose word was made while the text was
 * being changed has the number of before, and is looked at once more.
 */
import { atomic_add, atomic_store } from '../machine/atomic.ts';
import { counter_u64 } from '../machine/counter.ts';
import { field_word, i32, type Ptr, struct, u32, words } from '../machine/struct.ts';
import {
  CTLFLAG_RWTUN,
  sysctl_get,
  sysctl_get_string,
  sysctl_int,
  sysctl_string,
} from '../machine/sysctl_decl.ts';
import {
  MD_REDZONE,
  malloc_root,
  malloc_type,
  type malloc_type_t,
  RT_SHIFT,
  RT_STACKS,
  RT_WANTED,
} from '../h/malloc.ts';
import { detect_set } from './kern_detect.ts';
import { malloc_anchor, malloc_type_name } from './kern_malloc_type.ts';

const mt = malloc_type;

/** Bytes before a block: where BSD has the frames of its allocation, its size, the pattern. */
export const REDZONE_HSIZE = 176;
/** Bytes of the pattern on each side. */
export const REDZONE_CHSIZE = 16;
export const REDZONE_CFSIZE = 16;
/** The byte of the pattern, and four of them. */
export const REDZONE_BYTE = 0x42;
export const REDZONE_WORD = 0x42424242;

export type redzone_t = Ptr<'redzone'>;
/*
 * Locks: (-) whoever has the block
 *
 * BSD keeps 18 frames in the first 152 bytes; ours are in the depot of stacks.
 */
export const redzone = struct<redzone_t>('redzone')({
  magic: i32('-', 'the block is in use, or was freed: by its address and size'),
  size: u32('-', 'bytes that were asked for'),
  type: u32('-', 'the type that it was allocated with'),
  stack: words('-', 'stacks of its request and its free, 0: not known; room for frames', 35),
  nsize: words('-', 'the size once more, where BSD has it', 2),
  pattern: words('-', 'REDZONE_BYTE, up to the block', REDZONE_CHSIZE / 4),
});

export const v_extra = counter_u64(
  'vm.redzone.extra_mem',
  'Bytes that blocks in use take more because they have redzones',
);
export const v_found = counter_u64(
  'vm.redzone.found',
  'Redzones in which something was written, each side by itself',
);
const TYPES_BYTES = 512;
/** Every type. */
const ALL = '*';
/** vm.redzone.stacks: as vm.redzone.types says. */
const BY_TYPES = -1;

const enable = sysctl_int('vm.redzone.enable', {
  value: 0,
  min: 0,
  max: 1,
  flags: CTLFLAG_RWTUN,
  changed: redzone_switch,
  help: 'Blocks of malloc get a pattern before and behind, which is looked at when they are freed',
});
const types = sysctl_string('vm.redzone.types', {
  value: ALL,
  bytes: TYPES_BYTES,
  flags: CTLFLAG_RWTUN,
  changed: settings_changed,
  help: 'Types whose blocks get redzones: names with commas between them, or * for all',
});
const stacks = sysctl_int('vm.redzone.stacks', {
  value: BY_TYPES,
  min: BY_TYPES,
  max: 1,
  flags: CTLFLAG_RWTUN,
  changed: settings_changed,
  help:
    'Whether the stack of each request is kept for the report: 1 of all, 0 of those that are ' +
    'sampled, -1 of all where vm.redzone.types names types, which is not *',
});
export const redzone_panic = sysctl_int('vm.redzone.panic', {
  value: 0,
  min: 0,
  max: 1,
  flags: CTLFLAG_RWTUN,
  help: 'The machine stops when something was written into a redzone',
});

/** Redzones as the settings say: at boot, and when they are turned on and off. */
export function redzone_switch(): void {
  let on: boolean;
  do {
    on = sysctl_get(enable) !== 0;
    detect_set(MD_REDZONE, on);
  } while (on !== (sysctl_get(enable) !== 0)); // another thread was here, too
}
/** Redzones as the boot was told. */
export function redzone_boot(): void {
  atomic_store(field_word(malloc_root.redzone, malloc_anchor()), 1); // types begin with 0
  if (sysctl_get(enable) !== 0) redzone_switch();
}
function settings_changed(): void {
  atomic_add(field_word(malloc_root.redzone, malloc_anchor()), 1);
}

/** What the settings choose for type t: RT_*. */
export function redzone_type(t: malloc_type_t): number {
  const now = malloc_root.redzone[malloc_anchor()] & (-1 >>> RT_SHIFT);
  const known = mt.redzone[t];
  return known >>> RT_SHIFT === now ? known : type_choose(t, now);
}
function type_choose(t: malloc_type_t, now: number): number {
  const text = sysctl_get_string(types).trim();
  const all = text === ALL;
  const wanted =
    all ||
    text
      .split(',')
      .map((name) => name.trim())
      .includes(malloc_type_name(t));
  const each = sysctl_get(stacks);
  let chosen = now << RT_SHIFT;
  if (wanted) chosen |= RT_WANTED;
  if (each === 1 || (each === BY_TYPES && !all)) chosen |= RT_STACKS;
  atomic_store(field_word(mt.redzone, t), chosen);
  return chosen;
}
