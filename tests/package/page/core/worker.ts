/*
 * worker: receives parcels, looks at what is in them and frees them; it loads the core alone.
 */
import { attach, type Handle } from 'kmem/core';
import { type Answer, PARCELS, parcels } from './parcels.ts';

function receive(handle: Handle): Answer {
  const machine = attach(handle);
  const { type, queue, zone, numbers, mutex } = parcels(machine);
  let received = 0;
  let wrong = 0;
  while (received < PARCELS) {
    const at = queue.pop();
    if (at === undefined) break; // the queue is closed
    const seen = zone.alloc();
    const number = numbers.alloc();
    mutex.run(() => {
      numbers.value[number] = machine.load32(at);
    });
    if (numbers.value[number] !== received++) wrong++;
    numbers.free(number);
    zone.free(seen);
    type.free(at);
  }
  machine.detach();
  return { received, wrong };
}
self.onmessage = (e: MessageEvent<Handle>) => {
  try {
    self.postMessage(receive(e.data));
  } catch (error) {
    self.postMessage(`${error}`);
  }
};
