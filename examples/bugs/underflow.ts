/*
 * underflow: of two stacks in memory the second one is popped once too often, and what it clears
 * then is the neighbour's.
 */
import { boot } from '../../src/lib/index.ts';

const machine = boot({ memory: '8M' });
const stacks = machine.type('stacks');
const DEPTH = 16;

class Stack {
  readonly at = stacks.alloc(DEPTH * 4, { zero: true });
  top = 0;
  push(value: number): void {
    machine.store32(this.at + 4 * this.top++, value);
  }
  pop(): void {
    machine.store32(this.at + 4 * --this.top, 0); // the fault: it may be empty
  }
}
const [second, first] = [new Stack(), new Stack()];
for (let i = 1; i <= DEPTH; i++) first.push(i);
second.push(1);
second.pop();
second.pop();
console.log(`the last of the first stack is ${machine.load32(first.at + 4 * (DEPTH - 1))}`);
for (const stack of [first, second]) stacks.free(stack.at);
machine.shutdown();
