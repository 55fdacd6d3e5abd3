/*
 * calls: one call of each kind that the façade offers, for tests that say what all of
 * them do: refuse a parked thread, refuse after a panic.
 *
 * The objects are made while all is well; the calls are made when it is not.
 */
import { type Address, type Machine, readableChains, writableChains } from './index.ts';

export interface Call {
  readonly name: string;
  /** Makes the call; a promise if it is asynchronous. */
  run(): unknown;
}

/** One object of each kind, with something in it. */
function objects(machine: Machine) {
  const type = machine.type('calls');
  const zone = machine.zone('calls', { size: 64 });
  const built = machine.zone('built', { size: 64, ctor: () => {} });
  const records = machine.records('calls', { x: 'f64' }, { capacity: 100, generations: true });
  const queue = machine.queue('calls', { capacity: 4 });
  const mutex = machine.mutex('calls');
  const rwlock = machine.rwlock('calls');
  const condition = machine.condition('calls');
  const chain = machine.chain(new Uint8Array(3000));
  const other = machine.chain('other');
  const block = type.alloc(100);
  const item = zone.alloc();
  const record = records.alloc();
  type.free(type.alloc(100)); // the caches have items now: the fast paths would serve
  zone.free(zone.alloc());
  records.free(records.alloc());
  queue.push(1);
  machine.roots.set('calls', 1);
  const space = machine.space('calls');
  const region = space.mmap({ name: 'calls', length: 8192 });
  region.setU32(0, 1);
  const number = machine.chain('released').release();
  const bytes = new Uint8Array(10);
  return {
    machine,
    type,
    zone,
    built,
    records,
    queue,
    mutex,
    rwlock,
    condition,
    chain,
    other,
    space,
    region,
    block,
    item,
    record,
    number,
    bytes,
  };
}
type Objects = ReturnType<typeof objects>;
type Named = [name: string, run: () => unknown];

function machineCalls({ machine, number }: Objects): Named[] {
  return [
    ['machine.type', () => machine.type('calls')],
    ['machine.type, a new one', () => machine.type('new type')],
    ['machine.zone', () => machine.zone('calls', { size: 64 })],
    ['machine.zone, a new one', () => machine.zone('new zone', { size: 8 })],
    ['machine.records', () => machine.records('new records', { x: 'f64' }, { capacity: 5 })],
    ['machine.queue', () => machine.queue('new queue')],
    ['machine.mutex', () => machine.mutex('new mutex')],
    ['machine.rwlock', () => machine.rwlock('new rwlock')],
    ['machine.condition', () => machine.condition('new condition')],
    ['machine.chain', () => machine.chain('text')],
    ['machine.chain, empty', () => machine.chain()],
    ['machine.adoptChain', () => machine.adoptChain(number)],
    ['machine.chainSites', () => machine.chainSites()],
    ['machine.stats', () => machine.stats()],
    ['machine.memory', () => machine.memory()],
    ['machine.vmstat m', () => machine.vmstat('m')],
    ['machine.vmstat z', () => machine.vmstat('z')],
    ['machine.vmstat o', () => machine.vmstat('o')],
    ['machine.vmstat s', () => machine.vmstat('s')],
    ['machine.netstat', () => machine.netstat()],
    ['machine.procstat', () => machine.procstat()],
    ['machine.swapon', () => machine.swapon('/none/kmem.swap')],
    ['machine.swapoff', () => machine.swapoff('/none/kmem.swap')],
    ['machine.swaps', () => machine.swaps()],
    ['machine.sysctl', () => machine.sysctl('vm.lowmem_period')],
    ['machine.sysctl, set', () => machine.sysctl('vm.lowmem_period', 11)],
    ['machine.sysctlBytes', () => machine.sysctlBytes('kern.ostype')],
    ['machine.sysctls', () => machine.sysctls()],
    ['machine.collect', () => machine.collect()],
    ['machine.metrics', () => machine.metrics()],
    ['machine.trace', () => machine.trace(false)],
    ['machine.listen', () => machine.listen()],
    ['machine.check', () => machine.check()],
    ['machine.away', () => machine.away(() => {})],
    ['machine.park', () => machine.park()],
    ['roots.get', () => machine.roots.get('calls')],
    ['roots.set', () => machine.roots.set('calls', 2)],
    ['roots.delete', () => machine.roots.delete('calls')],
    ['roots.compareAndSwap', () => machine.roots.compareAndSwap('calls', 1, 2)],
    ['roots.names', () => machine.roots.names()],
  ];
}
function itemCalls({ type, zone, built, records, block, item, record }: Objects): Named[] {
  return [
    ['type.alloc', () => type.alloc(100)],
    ['type.alloc, zero', () => type.alloc(100, { zero: true })],
    ['type.alloc, wait', () => type.alloc(100, { wait: 5 })],
    ['type.alloc, large', () => type.alloc(100_000)],
    ['type.tryAlloc', () => type.tryAlloc(100)],
    ['type.allocAsync', () => type.allocAsync(100)],
    ['type.allocText', () => type.allocText('text')],
    ['type.block', () => type.block(100)],
    ['type.realloc', () => type.realloc(block, 5000)],
    ['type.usableSize', () => type.usableSize(block)],
    ['type.free', () => type.free(block)],
    ['type.stats', () => type.stats],
    ['zone.alloc', () => zone.alloc()],
    ['zone.alloc, zero', () => zone.alloc({ zero: true })],
    ['zone.alloc, ctor', () => built.alloc()],
    ['zone.tryAlloc', () => zone.tryAlloc()],
    ['zone.allocAsync', () => zone.allocAsync()],
    ['zone.free', () => zone.free(item)],
    ['zone.used', () => zone.used],
    ['zone.stats', () => zone.stats],
    ['zone.shape', () => zone.shape],
    ['zone.dispose', () => zone.dispose()],
    ['records.alloc', () => records.alloc()],
    ['records.alloc, wait', () => records.alloc({ wait: 5 })],
    ['records.tryAlloc', () => records.tryAlloc()],
    ['records.allocAsync', () => records.allocAsync()],
    ['records.free', () => records.free(record)],
    ['records.has', () => records.has(record)],
    ['records.index', () => records.index(record)],
    ['records.count', () => records.count],
    ['records.forEach', () => records.forEach(() => {})],
    ['records.iteration', () => [...records]],
    ['records.get', () => records.get(record)],
    ['records.set', () => records.set(record, { x: 1 })],
    ['records.dispose', () => records.dispose()],
  ];
}
function lockCalls({ queue, mutex, rwlock, condition }: Objects): Named[] {
  return [
    ['queue.push', () => queue.push(1)],
    ['queue.tryPush', () => queue.tryPush(1)],
    ['queue.pushAsync', () => queue.pushAsync(1)],
    ['queue.pop', () => queue.pop()],
    ['queue.tryPop', () => queue.tryPop()],
    ['queue.popAsync', () => queue.popAsync()],
    ['queue.length', () => queue.length],
    ['queue.close', () => queue.close()],
    ['queue.dispose', () => queue.dispose()],
    ['mutex.lock', () => mutex.lock()],
    ['mutex.tryLock', () => mutex.tryLock()],
    ['mutex.lockAsync', () => mutex.lockAsync()],
    ['mutex.run', () => mutex.run(() => {})],
    ['mutex.runAsync', () => mutex.runAsync(() => {})],
    ['mutex.unlock', () => mutex.unlock()],
    ['mutex.dispose', () => mutex.dispose()],
    ['rwlock.lockRead', () => rwlock.lockRead()],
    ['rwlock.lockWrite', () => rwlock.lockWrite()],
    ['rwlock.tryLockRead', () => rwlock.tryLockRead()],
    ['rwlock.tryLockWrite', () => rwlock.tryLockWrite()],
    ['rwlock.read', () => rwlock.read(() => {})],
    ['rwlock.write', () => rwlock.write(() => {})],
    ['condition.signal', () => condition.signal()],
    ['condition.broadcast', () => condition.broadcast()],
    ['condition.wait', () => condition.wait(mutex, { timeout: 1 })],
  ];
}
function chainCalls({ machine, type, block, chain, other, bytes }: Objects): Named[] {
  return [
    ['chain.length', () => chain.length],
    ['chain.append', () => chain.append(bytes)],
    ['chain.appendAsync', () => chain.appendAsync(bytes)],
    ['chain.prepend', () => chain.prepend(bytes)],
    ['chain.adopt', () => chain.adopt(type, block, 10)],
    ['chain.concat', () => chain.concat(other)],
    ['chain.write', () => chain.write(0, bytes)],
    ['chain.unshare', () => chain.unshare()],
    ['chain.slice', () => chain.slice(0, 5)],
    ['chain.clone', () => chain.clone()],
    ['chain.split', () => chain.split(5)],
    ['chain.pullup', () => chain.pullup(5)],
    ['chain.discard', () => chain.discard(1)],
    ['chain.truncate', () => chain.truncate(10)],
    ['chain.views', () => chain.views()],
    ['chain.toUint8Array', () => chain.toUint8Array()],
    ['chain.getUint8', () => chain.getUint8(0)],
    ['chain.setUint32', () => chain.setUint32(0, 1)],
    ['chain.release', () => chain.release()],
    [
      'readableChains',
      () =>
        readableChains(machine, new Blob(['x']).stream())
          .getReader()
          .read(),
    ],
    [
      'writableChains',
      () => writableChains(machine, new WritableStream()).getWriter().write(chain),
    ],
  ];
}
function spaceCalls({ machine, space, region, bytes }: Objects): Named[] {
  return [
    ['machine.space', () => machine.space('calls')],
    ['machine.space, a new one', () => machine.space('new space').destroy()],
    ['space.mmap', () => space.mmap({ length: 4096 })],
    ['space.region', () => space.region('calls')],
    ['space.regions', () => space.regions()],
    ['space.resident', () => space.resident],
    ['space.swap', () => space.swap],
    ['space.limits', () => space.limits()],
    ['space.load32', () => space.load32(region.address)],
    ['space.store64f', () => space.store64f(region.address, 1)],
    ['space.fork', () => space.fork('forked').destroy()],
    ['region.getU32', () => region.getU32(0)],
    ['region.setF64', () => region.setF64(0, 1)],
    ['region.read', () => region.read(0, bytes)],
    ['region.write', () => region.write(0, bytes)],
    ['region.fill', () => region.fill(0, 10)],
    ['region.indexOf', () => region.indexOf('x')],
    ['region.ready', () => region.ready()],
    ['region.array', () => region.array('f64').get(0)],
    ['region.window', () => region.window().close()],
    ['region.windowAsync', async () => (await region.windowAsync()).close()],
    ['region.protect', () => region.protect('rw')],
    ['region.advise', () => region.advise('normal')],
    ['region.unmap', () => region.unmap()],
    ['space.destroy', () => space.destroy()],
  ];
}
/** All calls of a machine and of one object of each kind; `end` gives back what they hold. */
export function allCalls(machine: Machine): { calls: Call[]; end(): void } {
  const all = objects(machine);
  const named = [machineCalls, itemCalls, lockCalls, chainCalls, spaceCalls].flatMap((part) =>
    part(all),
  );
  const end = (): void => {
    all.type.free(all.block);
    all.zone.free(all.item);
    all.records.free(all.record);
    all.queue.pop();
    machine.adoptChain(all.number).free();
    all.chain.free();
    all.other.free();
    if (!all.space.gone) all.space.destroy();
  };
  return { calls: named.map(([name, run]) => ({ name, run })), end };
}
/** Calls that only touch memory: allowed to a parked thread. */
export function touchingCalls(machine: Machine, at: Address): Call[] {
  const bytes = new Uint8Array(10);
  const calls: [string, () => unknown][] = [
    ['machine.load8', () => machine.load8(at)],
    ['machine.load32', () => machine.load32(at)],
    ['machine.store32', () => machine.store32(at, 1)],
    ['machine.load64f', () => machine.load64f(at)],
    ['machine.bytes', () => machine.bytes(at, 10)],
    ['machine.index', () => machine.index(at, 4)],
    ['machine.fill', () => machine.fill(at, 10)],
    ['machine.copy', () => machine.copy(at, at, 10)],
    ['machine.copyIn', () => machine.copyIn(at, bytes)],
    ['machine.copyOut', () => machine.copyOut(at, 10)],
    ['machine.writeText', () => machine.writeText(at, 'x', 10)],
    ['machine.readText', () => machine.readText(at, 10)],
  ];
  return calls.map(([name, run]) => ({ name, run }));
}
/** What a call throws, or rejects with; null: it did what it was asked. */
export async function thrown(call: Call): Promise<unknown> {
  try {
    await call.run();
    return null;
  } catch (e) {
    return e;
  }
}
