/*
 * Damaged dumps: a good one with something of everything in it, and a process that reads what was
 * made of it (dump_damage.test.program.ts).  The process is watched: one that says nothing for
 * long reads for ever, and is ended.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { WAIT_MS } from '../sys/machine/workers.test.lib.ts';
import { boot } from './index.ts';

/** Most memory of the process that reads, MB. */
export const READER_MB = 256;

/** Writes a dump of a machine with types, zones, chains, spaces and locks in it. */
export function good_dump(path: string): void {
  const machine = boot({ memory: '2M', cpus: 3 });
  for (let i = 0; i < 30; i++) machine.type(`type ${i}`).alloc(1 + i * 90);
  const zones = Array.from({ length: 10 }, (_, i) =>
    machine.zone(`zone ${i}`, { size: 32 + i * 8 }),
  );
  for (const zone of zones) for (let i = 0; i < 40; i++) zone.alloc();
  machine.chain(new Uint8Array(20_000));
  machine
    .space('space')
    .mmap({ name: 'region', length: 16 * 4096 })
    .setU8(5000, 1);
  machine.mutex('mutex');
  machine.queue('queue', { capacity: 16 }).tryPush(7);
  machine.dump(path);
  machine.check();
  machine.shutdown();
}
interface Case {
  readonly n: number;
  readonly kind: string;
  readonly wrong: string;
}
export interface Damage {
  /** Dumps that were read, by what was done to them. */
  readonly read: ReadonlyMap<string, number>;
  /** What was read wrongly, a line each. */
  readonly wrong: readonly string[];
  /** Longest that one took, ms of the processor. */
  readonly worst: number;
  /** Most memory that the reader had, MB. */
  readonly mb: number;
}
/** Has damaged dumps number `first` to `first + count - 1` of a good one read. */
export async function read_damaged(
  good: string,
  seed: number,
  first: number,
  count: number,
): Promise<Damage> {
  const file = fileURLToPath(new URL('./dump_damage.test.program.ts', import.meta.url));
  const args = ['--expose-gc', file, good, String(seed), String(first), String(count)];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const exit = once(child, 'close');
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const read = new Map<string, number>();
  const wrong: string[] = [];
  let last = first - 1;
  let end = { worst: 0, mb: Number.POSITIVE_INFINITY };
  let timer = setTimeout(() => child.kill('SIGKILL'), WAIT_MS);
  for await (const line of createInterface(child.stdout)) {
    clearTimeout(timer);
    timer = setTimeout(() => child.kill('SIGKILL'), WAIT_MS);
    const one = JSON.parse(line) as Case | typeof end;
    if ('mb' in one) end = one;
    else {
      last = one.n;
      read.set(one.kind, (read.get(one.kind) ?? 0) + 1);
      if (one.wrong !== '') wrong.push(`seed ${seed}, dump ${one.n} (${one.kind}): ${one.wrong}`);
    }
  }
  clearTimeout(timer);
  const [code, signal] = await exit;
  if (code !== 0) wrong.push(`seed ${seed}, dump ${last + 1}: ${signal ?? code} ${said}`);
  return { read, wrong, ...end };
}
