/*
 * lock_order: two accounts are locked in the order in which they are named.  Two transfers at a
 * time, in opposite directions, would wait for each other for ever; today nothing happens.
 */
import { boot, type Mutex } from '../../src/lib/index.ts';

const machine = boot({ memory: '8M' });
const [ada, grace] = [machine.mutex('ada'), machine.mutex('grace')];

function transfer(from: Mutex, to: Mutex): void {
  from.lock();
  to.lock(); // the fault: accounts are locked in any order
  to.unlock();
  from.unlock();
}
transfer(ada, grace);
transfer(grace, ada);
await machine.listen();
console.log('both transfers are done by process', process.pid);
setTimeout(() => machine.shutdown(), 60_000);
