/*
 * ddb: the kernel's debugger, whole.
 *
 *      ddb_run(db, 'show malloc')      one line of one session
 *
 * It looks at the memory to which this thread's views are bound, and runs wherever that is: in a
 * thread that panics (kern_kdb.ts), in a program that is asked over its control socket
 * (ddb_serve.ts), in a command that has opened a dump (bin/ddb.ts).
 *
 * Read in this order: ddb_session.ts, what a user has; ddb_command.ts, from a line to a command;
 * ddb_access.ts, how wrong memory is read; then the commands, by subject.
 */
import './ddb_cpu.ts';
import './ddb_examine.ts';
import './ddb_leaks.ts';
import './ddb_lock.ts';
import './ddb_map.ts';
import './ddb_mbuf.ts';
import './ddb_page.ts';
import './ddb_script.ts';
import './ddb_struct.ts';
import './ddb_uma.ts';
import './ddb_whatis.ts';
import { db_command } from './ddb_command.ts';

export { db_command as ddb_run };
