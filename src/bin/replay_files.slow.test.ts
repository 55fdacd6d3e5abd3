/*
 * Shown: what `kmem replay` says of recordings that are cut, damaged, old, odd or
 * packed in parts is what independent programs found in them.
 * By what means: the files of tests/readers/files, and of the folder that
 * KMEM_FILES names, played by the command on two CPUs and compared with truth.json: of each
 * folder twelve that are drawn, and all by recordings.stress.ts.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { drawn } from '../replay/read/traces.test.common.ts';
import { kmem_each } from './replay.test.lib.ts';

const FILES = join(import.meta.dirname, '..', '..', 'tests', 'readers', 'files');
/** What the truth says besides figures of the document. */
const REMARKS = new Set(['source', 'note', 'fault', 'packets_wanted']);

type Figures = Record<string, unknown>;
interface Row {
  link_type: number;
}
/** A figure under the name that the truth gives it. */
function figure(trace: Figures, name: string): unknown {
  const rows = (trace.interfaces ?? [trace]) as Row[];
  switch (name) {
    case 'link_types':
      return [...new Set(rows.map((row) => row.link_type))].sort((a, b) => a - b);
    case 'capinfos_duration':
      return trace.duration_seconds;
    case 'peak_live_bytes_printed':
      return printed(trace.peak_live_bytes as number);
    default:
      return trace[name];
  }
}
/** As heaptrack_print writes bytes. */
function printed(bytes: number): string {
  let [n, unit] = [bytes, 0];
  for (; n >= 1000 && unit < 3; unit++) n /= 1000;
  return unit === 0 ? `${n}B` : `${n.toFixed(2)}${'BKMG'[unit]}`;
}

const folders = [FILES, ...(process.env.KMEM_FILES ? [process.env.KMEM_FILES] : [])];
for (const folder of folders) {
  const truth = JSON.parse(readFileSync(join(folder, 'truth.json'), 'utf8'));
  const names = drawn(Object.keys(truth), 12);
  test(`files of ${folder} are read as they are`, async (t) => {
    assert.ok(names.length > 0);
    const argvs = names.map((name) => ['replay', '--json', '--cpus', '2', join(folder, name)]);
    const runs = await kmem_each(t, argvs);
    for (const [i, name] of names.entries()) {
      const { code, out, err } = runs[i];
      assert.deepEqual([code, err], [0, ''], name);
      const { trace, verdict, heap } = JSON.parse(out);
      for (const [key, wanted] of Object.entries(truth[name] as Figures)) {
        if (REMARKS.has(key)) continue;
        assert.deepEqual(figure(trace, key), wanted, `${name}: ${key}`);
      }
      if (verdict) assert.ok(verdict.good, name);
      else assert.equal(heap.verify_errors, 0, name);
    }
  });
}
