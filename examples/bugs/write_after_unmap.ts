/*
 * write_after_unmap: an index is unmapped when a store is closed; somebody has it still.
 */
import { boot } from '../../src/lib/index.ts';

const machine = boot({ memory: '8M' });
const space = machine.space('store');

function openIndex() {
  return space.mmap({ name: 'index', length: '1M' });
}
function closeStore(): void {
  space.region('index').unmap();
}
const index = openIndex();
function insert(key: number): void {
  index.setU32(key * 4, 1); // the fault: the store is closed
}
insert(1);
closeStore();
insert(2);
machine.shutdown();
