/*
 * lend: a server that answers with a file while it rewrites that file.
 *
 * The file is mapped. An answer is the pages themselves, lent to a chain and written to the socket
 * from there: nothing is copied, however many clients take it, and however slowly. What is
 * rewritten meanwhile goes to new pages, so that each answer is of one moment, from its first byte to
 * its checksum.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { boot } from '../src/lib/index.ts';
import { wrapSocket } from '../src/lib/streams.ts';

const CLIENTS = 3;
const SIZE = 6 * 2 ** 20;
const SUM = 32;
const folder = mkdtempSync(join(tmpdir(), 'kmem-lend-'));
const path = join(folder, 'page.bin');
writeFileSync(path, Buffer.alloc(SIZE));

const machine = boot({ memory: '96M', set: { 'vm.loan_max': 8192 } });
const file = machine.space('www').mmap({ file: path, write: true });
let edition = 0;
/** A new edition, in place of the one before. */
function rewrite(): void {
  edition++;
  const body = Buffer.alloc(SIZE - SUM, `edition ${edition} `);
  file.write(0, body);
  file.write(SIZE - SUM, createHash('sha256').update(body).digest());
}

const server = createServer((socket) => {
  const loan = file.lend();
  const answer = machine.chain().append(loan);
  loan.dispose(); // the chain has it as long as it needs it
  wrapSocket(machine, socket).end(answer);
});
server.listen(0, '127.0.0.1');
await once(server, 'listening');
const { port } = server.address() as AddressInfo;

/** Takes an answer slowly: which edition it is, if it is whole. */
async function ask(): Promise<number> {
  const socket = connect(port, '127.0.0.1');
  const pieces: Buffer[] = [];
  for await (const piece of socket) {
    pieces.push(piece as Buffer);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  const all = Buffer.concat(pieces);
  const body = all.subarray(0, SIZE - SUM);
  const sum = createHash('sha256').update(body).digest();
  return sum.equals(all.subarray(SIZE - SUM)) ? Number(/\d+/.exec(body.toString())?.[0]) : -1;
}
rewrite();
const editing = setInterval(rewrite, 20);
const editions: number[] = [];
await Promise.all(
  Array.from({ length: CLIENTS }, async (_, i) => {
    await new Promise((resolve) => setTimeout(resolve, i * 20));
    editions.push(await ask());
  }),
);
clearInterval(editing);
const whole = editions.filter((n) => n > 0);
console.log(`${whole.length} of ${CLIENTS} answers were whole`);
console.log(`of more than one edition: ${new Set(whole).size > 1}`);
const broken = Number(machine.sysctl('vm.stats.loan.broken'));
console.log(`pages were copied because they were lent: ${broken > 0}`);
server.close();
await once(server, 'close');
console.log(`loans that are left: ${machine.sysctl('vm.loans')}`);
file.sync();
machine.shutdown();
rmSync(folder, { recursive: true });
