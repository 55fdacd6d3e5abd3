/*
 * overflow: recursions of a program that run out of stack in the middle of its calls.
 *
 * Each recursion goes down until there is no stack, and on its way up makes a call at
 * each depth: some fail for want of stack, from some depth on all succeed.  So every
 * call is tried with every amount of stack.  How deep the frames lie differs from one
 * recursion to the next (padding), and thereby where in a call the stack ends.
 *
 * Afterwards nothing may be left: no open section, every item that was handed out in
 * the program's hands, the checkers silent.
 */
import { pcpu, thr } from '../sys/machine/cpu.ts';
import {
  type Address,
  type Chain,
  type Item,
  type ItemHandle,
  KmemError,
  type Machine,
  type Window,
} from './index.ts';

/** Frames below the deepest at which calls are made: more than the probe asks for. */
const TRIED = 1800;

export interface Overflowed {
  /** Calls that were refused for want of stack, and calls that were done. */
  refused: number;
  done: number;
  /** Undo sections that a refused call left open. */
  open: number;
  /** The first error that was something else. */
  wrong: string;
}

/** A call that is tried at each depth, and what gives back all it has taken. */
interface Tried {
  run(i: number): void;
  end(): void;
}
type Make = (machine: Machine, id: string) => Tried;

/** Every kind of call that takes a lock or moves memory. */
export const TRIED_CALLS: Readonly<Record<string, Make>> = {
  type(machine) {
    const t = machine.type('overflow');
    const live: Address[] = [];
    return {
      run(i) {
        const size = 16 + ((i * 37) % 9000);
        const at = i % 3 === 0 ? t.alloc(size, { zero: true }) : t.alloc(size);
        live.push(at);
        if (live.length < 40) return;
        t.free(live[0]);
        live.shift();
      },
      end: () => {
        for (const at of live.splice(0)) t.free(at);
      },
    };
  },
  realloc(machine) {
    const t = machine.type('overflow');
    let at = t.alloc(100);
    return {
      run(i) {
        at = t.realloc(at, 16 + ((i * 517) % 12000));
      },
      end: () => t.free(at),
    };
  },
  zone(machine) {
    const z = machine.zone('overflow', { size: 200, limit: 5000 });
    const live: Item<'overflow'>[] = [];
    return {
      run(i) {
        live.push(i % 2 ? z.alloc() : z.alloc({ zero: true }));
        if (live.length < 300) return;
        // One by one: a free that is refused leaves its item here.
        for (const keep = i % 5 ? 299 : 0; live.length > keep; live.length--) {
          z.free(live[live.length - 1]);
        }
      },
      end: () => {
        for (const item of live.splice(0)) z.free(item);
      },
    };
  },
  records(machine, id) {
    const shape = { x: 'f64' } as const;
    const R = machine.records(`R${id}`, shape, { capacity: 3000, generations: true });
    const live: ItemHandle[] = [];
    return {
      run(i) {
        live.push(i % 4 ? R.alloc() : R.alloc({ zero: true }));
        if (live.length < 500) return;
        R.free(live[0] as never);
        live.shift();
      },
      end: () => {
        // Whatever is in use is in the program's hands.
        if (R.count !== live.length) throw new Error(`records: ${R.count}, ${live.length}`);
        for (const item of live.splice(0)) R.free(item as never);
        R.dispose();
      },
    };
  },
  queue(machine, id) {
    const q = machine.queue(`q${id}`, { capacity: 8 });
    let first = 0;
    let next = 0;
    return {
      run() {
        if (q.length < 5) {
          q.push(next);
          next++;
        } else {
          if (q.pop() !== first) throw new Error('queue: order');
          first++;
        }
      },
      end: () => {
        while (q.length > 0) if (q.pop() !== first++) throw new Error('queue: order at the end');
        q.dispose();
      },
    };
  },
  mutex(machine) {
    const lock = machine.mutex('overflow');
    let mine = false;
    return {
      run() {
        if (mine) lock.unlock();
        else lock.lock();
        mine = !mine;
      },
      end: () => mine && lock.unlock(),
    };
  },
  rwlock(machine) {
    const lock = machine.rwlock('overflow');
    let mine = false;
    return {
      run() {
        if (mine) lock.unlockRead();
        else lock.lockRead();
        mine = !mine;
      },
      end: () => mine && lock.unlockRead(),
    };
  },
  chain(machine) {
    const bytes = new Uint8Array(5000).fill(7);
    const live: Chain[] = [];
    return {
      run(i) {
        if (live.length < 4) live.push(machine.chain(bytes));
        const c = live[0];
        const step = i % 6;
        if (step === 0) c.append(bytes);
        else if (step === 1) live.push(c.clone());
        else if (step === 2) live.push(c.split(c.length >> 1));
        else if (step === 3) c.write(0, bytes.subarray(0, Math.min(100, c.length)));
        else if (step === 4) c.prepend(bytes.subarray(0, 50));
        else c.discard(Math.min(c.length, 700));
        if (live.length < 30) return;
        live[0].free();
        live.shift();
      },
      end: () => {
        for (const c of live) {
          c.check();
          c.free();
        }
      },
    };
  },
  space(machine, id) {
    const s = machine.space(`s${id}`);
    const m = s.mmap({ name: 'm', length: 32_768 });
    const bytes = new Uint8Array(9000).fill(7);
    const windows: Window[] = [];
    const steps: ((i: number) => void)[] = [
      (i) => m.setU32((i % 8) * 4096, i),
      () => windows.length < 3 && windows.push(m.window(8192, 9000, { write: true })),
      () => m.write(100, bytes),
      () => s.region('m').read(100, bytes),
      () => windows[0]?.close(),
      () => m.indexOf('none'),
      (i) => m.protect(i % 2 ? 'rw' : 'rwx'),
      () => m.inherit('copy'),
      () => m.advise('willneed'),
      () => s.load32(m.address),
      () => s.mmap({ name: 'other', length: 8192 }).setU8(0, 1),
      () => s.mmap({ name: 'other', length: 8192 }).unmap(),
      () => machine.space(`f${id}`).destroy(),
      () => s.fork(`f${id}`, { protect: 'r' }).region('m').getU32(0),
      () => machine.space(`t${id}`).dispose(),
    ];
    return {
      run(i) {
        while (windows[0]?.closed) windows.shift();
        try {
          steps[i % steps.length](i);
        } catch (e) {
          // The fork before was not destroyed for want of stack.
          if (!(e instanceof KmemError && e.code === 'EEXIST')) throw e;
        }
      },
      end: () => {
        if (m.getU8(5000) !== 7) throw new Error('space: contents');
        for (const w of windows.splice(0)) w.close();
        for (const name of ['f', 's', 't']) machine.space(`${name}${id}`).destroy();
      },
    };
  },
  names(machine, id) {
    return {
      run(i) {
        const name = `n${id}.${i % 50}`;
        if (i % 2) machine.roots.set(name, i);
        else machine.roots.delete(name);
        if (i % 40 === 0) machine.zone(`z${id}`, { size: 64 + 8 * (i % 5) }).dispose();
      },
      end: () => {
        for (let i = 0; i < 50; i++) machine.roots.delete(`n${id}.${i}`);
      },
    };
  },
  looking(machine) {
    return {
      run(i) {
        if (i % 7 === 0) machine.vmstat(i % 2 ? 'm' : 'z');
        else if (i % 11 === 0) machine.stats();
        else if (i % 13 === 0) machine.netstat();
        else machine.sysctl('vm.lowmem_period', 10 + (i % 3));
      },
      end: () => {},
    };
  },
};

/** A function that calls `f` from a frame with n words more. */
function padded(n: number): (f: () => void) => void {
  const names = Array.from({ length: n }, (_, i) => `a${i}`).join(',');
  return new Function('f', n === 0 ? 'f()' : `let ${names}; f(); return [${names}]`) as never;
}

/** Lets a recursion overflow in calls of that kind, `rounds` times. */
export function overflow(machine: Machine, kind: string, id: string, rounds: number): Overflowed {
  const seen: Overflowed = { refused: 0, done: 0, open: 0, wrong: '' };
  const { run, end } = TRIED_CALLS[kind](machine, id);
  let tried = 0;
  let calls = 0;
  const call = (): void => {
    try {
      calls++;
      run(calls);
      seen.done++;
    } catch (e) {
      if (e instanceof RangeError) seen.refused++;
      else seen.wrong ||= String(e);
    }
    if (pcpu.undo_depth[thr.pc] !== 0) seen.open++;
  };
  const down = (): void => {
    try {
      down();
    } catch (e) {
      if (!(e instanceof RangeError)) throw e;
    }
    if (tried < TRIED && seen.wrong === '') {
      tried++;
      call();
    }
  };
  for (let round = 0; round < rounds && seen.wrong === ''; round++) {
    tried = 0;
    padded(round % 23)(down);
  }
  end();
  return seen;
}
