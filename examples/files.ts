/*
 * files: two threads search a file that is larger than their machine's memory, and edit it where
 * they find something.
 *
 * Each maps the whole file and works on a half of it.  Pages come in as they are looked at, and go
 * when others need their memory; those that were written to go to the file.  The same is done
 * by plain calls of the host, in a loop over blocks, and both results are compared.
 *
 *      node examples/files.ts 4096 64      4 GB of file in 64 MB of memory
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isMainThread, parentPort, type Worker, workerData } from 'node:worker_threads';
import { attach, boot } from '../src/lib/index.ts';

const MB = 2 ** 20;
const WORD = 'needle';
const EDIT = 'NEEDLE';
const [size = 64, memory = 8] = process.argv.slice(2).map(Number);

if (isMainThread) {
  const folder = mkdtempSync(join(tmpdir(), 'kmem-example-'));
  const path = join(folder, 'haystack');
  const plain = createHash('sha256');
  const fd = openSync(path, 'w+');
  const block = Buffer.alloc(MB, 'hay ');
  let words = 0;
  for (let i = 0; i < size; i++) {
    block.fill('hay ');
    // Some lie across the edge of two pages.
    for (let at = 4093 + i * 16; at < MB - WORD.length; at += 40_960) {
      words++;
      block.write(WORD, at);
    }
    writeSync(fd, block);
    plain.update(block.toString('latin1').replaceAll(WORD, EDIT), 'latin1');
  }
  console.log(`${size} MB of file, ${memory} MB of memory, ${words} words to find`);
  const machine = boot({ memory: `${memory}M`, cpus: 4 });
  const workers = [0, 1].map((id) =>
    machine.worker<Worker>(import.meta.filename, { workerData: { path, id } }),
  );
  const found = await Promise.all(workers.map(async (w) => (await once(w, 'message'))[0]));
  console.log(`found and edited: ${found[0] + found[1]}`);
  await machine.endWorkers();
  const file = machine.space('main').mmap({ file: path, write: true });
  file.sync();
  const edited = createHash('sha256');
  for (let at = 0; at < size * MB; at += MB) {
    readSync(fd, block, 0, MB, at);
    edited.update(block);
  }
  const same = edited.digest('hex') === plain.digest('hex');
  console.log(same ? 'the file is as plain calls make it' : 'the file is another one');
  machine.shutdown();
  closeSync(fd);
  rmSync(folder, { recursive: true });
} else {
  const machine = attach(workerData);
  const { path, id } = workerData;
  const m = machine.space(`thread ${id}`).mmap({ file: path, write: true });
  m.advise('sequential');
  const half = m.length / 2;
  const end = half * (id + 1);
  let found = 0;
  for (let at = m.indexOf(WORD, half * id); at >= 0 && at < end; at = m.indexOf(WORD, at + 1)) {
    m.write(at, Buffer.from(EDIT));
    found++;
  }
  parentPort?.postMessage(found);
  machine.detach();
}
