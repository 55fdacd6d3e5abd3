/*
 * The worker of vm_kern_parts.test.ts: it starts a program, as soon as there is a place for its
 * arguments.
 */
import { attach, detach } from '../boot/whole.ts';
import { run_job } from '../machine/workers.test.lib.ts';
import { exec_args, exec_args_free } from './vm_kern_parts.ts';

function exec(): number {
  const at = exec_args(['two', 'three']);
  exec_args_free(at);
  return at;
}
run_job<object>(() => ({ at: exec() }), { join: attach, leave: () => void detach() });
