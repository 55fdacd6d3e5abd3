/*
 * debug_words: the means by which a program's faults are found, each with what it finds.
 *
 *      leak            assertNoLeaks, findleaks          who holds what was never freed
 *      overrun         redzone, memguard                 at the free; at the access
 *      use after free  INVARIANTS, QUARANTINE, memguard  at the next request; at the access
 *      deadlock        WITNESS, ddb                      before it happens; where it stands
 *
 * It is data for people: `kmem explain` prints it.
 */

/** What somebody may ask who has a fault to find. */
export const DEBUG_WORDS = {
  debug:
    'How much a machine finds out about faults of the program. boot({ debug: true }) has ' +
    'INVARIANTS, QUARANTINE, several zones for each size, and the level advanced. The levels, ' +
    'for boot({ debug }), machine.debug(), the variable debug.level and KMEM_DEBUG in the ' +
    'environment: off; simple, stacks of some requests; advanced, those of more, and redzones; ' +
    'paranoid, a stack and the last operations of every block, and some blocks guarded.',
  leak:
    'A block that nobody frees. In a test assertNoLeaks(machine), testMachine() and ' +
    'withMachine() name types and zones that still hold something. In a program that runs, or a ' +
    'dump, findleaks of kmem ddb names the stacks that asked, as far as vm.stack.enable had them ' +
    'noted (any level of debugging does).',
  overrun:
    'A store behind the end of a block, or before its beginning. A redzone tells of it when the ' +
    'block is freed, memguard at the access; kmem narrow finds out which type does it.',
  'use after free':
    'An access to a block that was freed. INVARIANTS and QUARANTINE tell of stores when the ' +
    'memory is given out again, memguard of any access, with the stacks of request and free.',
  redzone:
    'A pattern on each side of a block of malloc, looked at when it is freed: vm.redzone.enable, ' +
    'for the types in vm.redzone.types. Items of zones have none. Damage is told on the ' +
    'console, with the stack of the free and, by vm.redzone.stacks, that of the request; with ' +
    'vm.redzone.panic the machine stops.',
  memguard:
    'Blocks of one type, or items of one zone, on pages of their own: vm.memguard.desc names it. ' +
    'Calls of the machine that touch what is not in a block, or was freed, are found at once; ' +
    'vm.memguard.trap says whether the machine stops (panic), or the call is EFAULT (report). ' +
    'Stores through a view are found when the block is freed.',
  invariants:
    'A kernel option, boot({ options: { INVARIANTS: true } }): every double free, stores after ' +
    'free and damaged records of the kernel are found. boot({ debug: true }) and testMachine() ' +
    'have it.',
  quarantine:
    'A kernel option: freed blocks of pages wait, poisoned, before their pages serve again, so a ' +
    'store after free is found when they leave. boot({ debug: true }) has it.',
  witness:
    'A kernel option: the order in which locks are taken is watched, and one that may end in a ' +
    'deadlock is told with both stacks, before it does. debug.witness.* shows what was seen.',
  ddb:
    "The kernel's debugger, kmem ddb: looks at the memory of a running program, or of a dump, " +
    'without a lock. help and show list its commands. debug.debugger_on_panic and ' +
    'debug.kdb.enter have the program enter it on its own terminal.',
  dump:
    'The whole memory of a machine in a file: machine.dump(path), kmem dump PID from outside, ' +
    'boot({ dump: folder }) at a panic, vm.dump_on_nomem when memory is out. kmem vmstat -M and ' +
    'kmem ddb -M read it. It has every secret that the program keeps there.',
  narrow:
    'Runs a program that damages memory several times, kmem narrow -- COMMAND, with the malloc ' +
    'types dealt out among zones otherwise each time, and says which type did it.',
} as const;
