/*
 * Every recording of the full set, read and played in every way: the tests that draw some of
 * them, without drawing (KMEM_RECORDINGS=all).
 */
import { join } from 'node:path';
import { play_whole } from '../../tools/whole.ts';

const files = [
  'heap/replay.slow.test.ts',
  'packet/packets.slow.test.ts',
  'read/pages.slow.test.ts',
  'read/readers.slow.test.ts',
  'read/strace.slow.test.ts',
  'vm/pages_player.slow.test.ts',
  'vm/vm_player.slow.test.ts',
];
play_whole(
  files.map((file) => join(import.meta.dirname, file)),
  'KMEM_RECORDINGS',
  /^# (pass \d+)$/gm,
);
