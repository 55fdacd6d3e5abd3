/*
 * Shown: a comparison of several traces, of too little memory, and of the least memory.  --set
 * reaches every variable that is declared a tunable, and nothing else.
 * By what means: the command as a process of its own; each tunable set to another value, some
 * of them at a time, and read back from the machine that played.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { BUNDLED } from '../replay/read/traces.test.common.ts';
import { CTLFLAG_TUN, type SysctlDecl, sysctl_decls } from '../sys/machine/sysctl_decl.ts';
import '../sys/boot/whole.ts'; // where all of them are declared
import { GM, kmem_each, MAKE, refused, replay } from './replay.test.lib.ts';

const EDGES = join(BUNDLED, 'edges.mtrace.gz');

test('several traces, a table each; what played in too little memory says so', async () => {
  const { code, out } = await replay('--cpus', '1', '--compare', 'memory=2M,64M', GM, EDGES);
  assert.equal(code, 0);
  assert.deepEqual(
    [...out.matchAll(/^(\S+): mtrace/gm)].map((m) => m[1]),
    ['gm.mtrace.gz', 'edges.mtrace.gz'],
  );
  assert.match(out, /\n\nedges/, 'an empty line between');
  const [small, large] = /^ {4}failed +([\d,]+) +([\d,]+)$/m.exec(out)?.slice(1) ?? [];
  assert.ok(Number(small) > 0, out);
  assert.equal(large, '0');
  assert.doesNotMatch(out, /pages at the peak.*\*/, 'only one did the work');
});

test('--fit and --compare: the least memory under each value', async () => {
  const argv = ['--fit', '--compare', 'type-by=caller,none', '--cpus', '1', '--memory', '3M', MAKE];
  const { code, out, err } = await replay(...argv);
  assert.deepEqual([code, err], [0, '']);
  assert.match(out, /^ {2}least memory +\d\.\d\dM +\d\.\d\dM$/m);
});

/** Texts of which not each will do. */
const TEXTS: Record<string, string> = { 'vm.memguard.trap': 'report' };
/** Another value than the one it has: memory of a size that a small machine lives on. */
function other(d: SysctlDecl, text: string): number | string {
  if (d.bytes > 0) return TEXTS[d.name] ?? 'another';
  const value = Number(text);
  if (d.unit === 'bytes' && d.name.startsWith('vm.kmem_size')) return 24 * 2 ** 20;
  return value + 1 <= d.max ? value + 1 : value - 1;
}

const LINE = /^((?:debug|kern|security|vm)\.[\w.]*): (.*)$/gm;
/** How many are set in one run. */
const TOGETHER = 8;

test('--set reaches every tunable, and what is none is refused', async (t) => {
  const plain = ['replay', '--quiet', '--cpus', '1', '--memory', '64M'];
  const [listed] = await kmem_each(t, [[...plain, '--sysctl=-aT', EDGES]]);
  assert.equal(listed.code, 0);
  const values = new Map([...listed.out.matchAll(LINE)].map((m) => [m[1], m[2]]));
  const tunables = sysctl_decls.filter((d) => (d.flags & CTLFLAG_TUN) !== 0);
  assert.deepEqual([...values.keys()].sort(), tunables.map((d) => d.name).sort());
  const set = tunables.map((d) => [d.name, other(d, values.get(d.name) ?? '')] as const);
  // Neighbours by name go into different runs: some of them bound one another.
  const groups = Math.ceil(set.length / TOGETHER);
  const group = (i: number) => set.filter((_, n) => n % groups === i);
  const argvs = Array.from({ length: groups }, (_, i) => {
    const sets = group(i).flatMap(([name, value]) => ['--set', `${name}=${value}`]);
    return [...plain, ...sets, '--sysctl=-aT', EDGES];
  });
  const runs = await kmem_each(t, argvs);
  for (const [i, run] of runs.entries()) {
    // memguard says where its blocks will lie once it is told to guard some.
    const err = run.err.replace(/^\t?MEMGUARD .*\n/gm, '');
    assert.deepEqual([run.code, err], [0, ''], argvs[i].join(' '));
    for (const [name, value] of group(i)) {
      const line = `${name}: ${value}`;
      assert.ok(run.out.includes(`\n${line}\n`), `${line} of ${argvs[i].join(' ')}: ${run.out}`);
    }
  }
  const none = ['no.such', 'hw.physmem', 'kern.ostype', 'vm', 'vm.stats.vm.v_page_count'];
  const argvs_none = none.map((name) => [...plain, '--set', `${name}=1`, EDGES]);
  for (const [i, run] of (await kmem_each(t, argvs_none)).entries()) {
    refused(run, new RegExp(`set ${none[i].replaceAll('.', '\\.')}=1: (no such|not a) tunable`));
  }
});
