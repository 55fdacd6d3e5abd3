/*
 * wild_free: a reader moves on behind the length at the beginning of a line, and frees what it has
 * moved on to.
 */
import { type Address, boot } from '../../src/lib/index.ts';

const machine = boot({ memory: '8M' });
const lines = machine.type('lines');

function receive(text: string): Address {
  const line = lines.alloc(4 + text.length);
  machine.store32(line, machine.writeText(line + 4, text, text.length));
  return line;
}
function print(line: Address): void {
  const text = (line + 4) as Address;
  console.log(machine.readText(text, machine.load32(line)));
  lines.free(text); // the fault: the block begins 4 bytes before
}
print(receive('one line'));
machine.shutdown();
