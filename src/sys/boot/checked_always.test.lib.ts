/*
 * Imported before a test file (node --import), this makes every machine that
 * the file boots a checked one: its tests then show too that the code they call
 * keeps the rules of the lock letters.  A file that boots no machine fails.
 * checked_suite.slow.test.ts uses it.
 */
import { isMainThread } from 'node:worker_threads';
import { memory_state } from '../machine/memory.ts';
import { opt_always } from '../machine/opt.ts';

opt_always.CHECKED = true;

process.on('exit', () => {
  if (memory_state.checked || !isMainThread) return;
  console.error('no checked machine was booted');
  process.exitCode = 1;
});
