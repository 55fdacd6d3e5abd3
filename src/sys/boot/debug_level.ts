/*
 * debug_level: how much is found out about who did what, in one word.
 *
 *      off         nothing
 *      simple      stacks of some requests: who has the memory
 *      advanced    more of them, and bytes before and behind each block that nobody may touch
 *      paranoid    a stack for every operation, and some blocks in pages of their own
 *
 * A level is a table of variables and their values, and setting it is setting these: each can
 * be set by itself afterwards.  A variable that this kernel does not have is passed over.  So is,
 * at boot, one that `set` gives: boot({ debug: 'simple', set: { 'vm.stack.interval': 1 } }).
 *
 * boot({ debug: true }) is `advanced`, with what only a boot can set besides (main.ts).
 */
import { ENOENT, EOPNOTSUPP, EINVAL, KmemError } from '../machine/errno.ts';
import { atomic_store } from '../machine/atomic.ts';
import { kernel_parts } from '../machine/parts.ts';
import { CTLFLAG_RW, sysctl_decls, sysctl_number, sysctl_proc } from '../machine/sysctl_decl.ts';
import { field_word } from '../machine/struct.ts';
import { stack_root } from '../h/stack.ts';
import { stack_anchor } from '../kmem/kern_stack_vars.ts';
import { kernel_sysctlbyname } from '../observe/kern_sysctl.ts';

export const DEBUG_LEVELS = ['off', 'simple', 'advanced', 'paranoid'] as const;
export type DebugLevel = (typeof DEBUG_LEVELS)[number];

/** Variables that levels set, with their values at each level, in the order of DEBUG_LEVELS. */
const VARIABLES: Readonly<Record<string, readonly (number | string)[]>> = {
  'vm.stack.interval': [2 ** 19, 2 ** 19, 2 ** 13, 1],
  'vm.stack.enable': [0, 1, 1, 1],
  'vm.audit.zones': ['', '', '', '*'],
  'vm.redzone.stacks': [-1, -1, -1, 1], // -1: of each request, if vm.redzone.types names types
  'vm.redzone.enable': [0, 0, 1, 1],
  'vm.memguard.frequency': [0, 0, 0, 1000],
};

/** Whether a word is the name of a level. */
export function debug_is_level(word: unknown): word is DebugLevel {
  return DEBUG_LEVELS.includes(word as DebugLevel);
}
/** The error for a word that is none. */
export function debug_no_level(op: string, word: string): KmemError {
  return new KmemError(EINVAL, op, `debug: ${word} is no level: give ${DEBUG_LEVELS.join(', ')}`);
}
/** The level that was set last. */
export function debug_level(): DebugLevel {
  return DEBUG_LEVELS[stack_root.level[stack_anchor()]];
}
/**
 * Sets all variables of a level.  0, or an errno: EOPNOTSUPP in a thread that has the core alone.
 * A variable that cannot be set leaves those before it as they are set.  `given` are variables
 * that a program sets by itself: they stay.
 */
export function debug_level_set(
  level: DebugLevel,
  given: ReadonlyMap<string, unknown> = new Map(),
): number {
  if (level !== 'off' && !kernel_parts.stack_switch) return EOPNOTSUPP;
  const n = DEBUG_LEVELS.indexOf(level);
  for (const [name, values] of Object.entries(VARIABLES)) {
    if (given.has(name)) continue;
    const { error } = kernel_sysctlbyname(name, null, bytes_of(name, values[n]));
    if (error !== 0 && error !== ENOENT) return error;
  }
  atomic_store(field_word(stack_root.level, stack_anchor()), n);
  return 0;
}
function bytes_of(name: string, value: number | string): Uint8Array {
  if (typeof value === 'string') return encoder.encode(value);
  return sysctl_number(sysctl_decls.find((d) => d.name === name)?.type ?? 'uint', value);
}
const encoder = new TextEncoder();
const decoder = new TextDecoder();

sysctl_proc(
  'debug.level',
  {
    type: 'string',
    fmt: 'A',
    flags: CTLFLAG_RW,
    help: 'How much is found out about who did what: off, simple, advanced, paranoid',
  },
  (req) => {
    const error = req.out(encoder.encode(`${debug_level()}\0`));
    if (error !== 0 || req.new_bytes === null) return error;
    const word = decoder.decode(req.new_bytes).replace(/\0.*$/s, '');
    return debug_is_level(word) ? debug_level_set(word) : EINVAL;
  },
);
