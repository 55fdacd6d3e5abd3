/*
 * Shows that the last operations of blocks and items are kept, with who did them: of the types and
 * zones that are named, also of one that comes later, on two threads at a time; that they survive
 * the free, and are in the message of whatever is found wrong; and that emptied, all is forgotten.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { counter_get } from '../machine/counter.ts';
import { thr } from '../machine/cpu.ts';
import type { Handle } from '../machine/machdep.ts';
import { mem } from '../machine/memory.ts';
import { KernelPanic } from '../machine/panic.ts';
import { sysctl_number } from '../machine/sysctl_decl.ts';
import { Crew, within } from '../machine/workers.test.lib.ts';
import { M_WAITOK } from '../h/malloc_flags.ts';
import type { malloc_type_t } from '../h/malloc.ts';
import { stack_root } from '../h/stack.ts';
import { UMA_ZFLAG_PROGRAM } from '../h/uma.ts';
import { kernel_sysctlbyname } from '../observe/kern_sysctl.ts';
import { uma_zalloc, uma_zfree } from '../uma/uma_core.ts';
import { down, up } from '../uma/uma.test.lib.ts';
import { uma_zcreate } from '../uma/uma_zone.ts';
import { audit_check, audit_ops, type AuditOp } from './kern_audit.ts';
import { free, malloc, realloc } from './kern_malloc.ts';
import { malloc_type_attach } from './kern_malloc_type.ts';
import { stack_depot_check, stack_depot_text } from './kern_stack.ts';
import { stack_anchor, v_audit_lost } from './kern_stack_vars.ts';
import { item_history } from './kern_note.ts';

const text = new TextEncoder();
const set = (name: string, value: number | string): number =>
  kernel_sysctlbyname(
    name,
    null,
    typeof value === 'string' ? text.encode(value) : sysctl_number('uint', value),
  ).error;
let handle: Handle;
let t: malloc_type_t;
const crew = new Crew<{ bytes: number; blocks: number }>(
  new URL('./kern_stack_sample.test.worker.ts', import.meta.url),
);
beforeEach(() => {
  handle = up({ memory: '8M' });
  t = malloc_type_attach('noted');
});
afterEach(async () => {
  try {
    audit_check();
    stack_depot_check();
  } finally {
    await crew.end();
    await down();
  }
});
const whats = (p: number): string =>
  audit_ops(p)
    .map((o) => o.what)
    .join();
const by = (o: AuditOp): string => stack_depot_text(o.stack)[0]?.split(' at ')[0];

test('of a named type the last operations are kept, also when the block is free', () => {
  const other = malloc_type_attach('other');
  assert.equal(set('vm.audit.zones', 'noted'), 0);
  function connect(): number {
    return malloc(100, t, M_WAITOK);
  }
  function close(p: number): void {
    free(p, t);
  }
  const before = Date.now();
  const p = connect();
  const plain = malloc(100, other, M_WAITOK);
  assert.deepEqual([whats(p), whats(p + 10), whats(plain)], ['alloc', 'alloc', '']);
  close(p);
  const [freed, got] = audit_ops(p);
  assert.deepEqual(
    [freed.what, got.what, by(freed), by(got)],
    ['free', 'alloc', 'close', 'connect'],
  );
  assert.ok(freed.cpu === thr.cpu && freed.owner === t && freed.time >= before);
  free(plain, other);
  assert.equal(whats(plain), '');
});
test('depth: two by default, up to eight; realloc; large blocks', () => {
  set('vm.audit.zones', ' other , noted');
  let p = malloc(20_000, t, M_WAITOK);
  for (let i = 0; i < 4; i++) {
    free(p, t);
    const again = malloc(20_000, t, M_WAITOK);
    assert.equal(again, p, 'the same pages');
    p = again;
  }
  assert.equal(whats(p + 2000), 'alloc,free');
  assert.equal(set('vm.audit.depth', 8), 0);
  assert.equal(whats(p), 'alloc,free,alloc,free,alloc,free,alloc,free');
  assert.notEqual(set('vm.audit.depth', 9), 0);
  const q = realloc(p, 100, t, M_WAITOK);
  assert.equal(whats(q), 'realloc');
  free(q, t);
});
test('names of zones: of a size, of a program; * is all; one that comes later', () => {
  set('vm.audit.zones', '128 conn');
  const z = uma_zcreate('conn', 200, { flags: UMA_ZFLAG_PROGRAM });
  const item = uma_zalloc(z, M_WAITOK);
  uma_zfree(z, item);
  assert.equal(whats(item), 'free,alloc');
  assert.deepEqual(
    audit_ops(item).map((o) => o.owner),
    [z, z],
  );
  const [small, large] = [malloc(128, t, M_WAITOK), malloc(200, t, M_WAITOK)];
  assert.deepEqual([whats(small), whats(large)], ['alloc', '']);
  set('vm.audit.zones', '*');
  free(small, t);
  free(large, t);
  assert.equal(whats(small), 'free,alloc');
  const late = malloc_type_attach('late');
  const p = malloc(3000, late, M_WAITOK);
  assert.equal(whats(p), 'alloc');
  free(p, late);
});
test('emptied, all is forgotten; what was allocated before is freed as ever', () => {
  set('vm.audit.zones', '*');
  const blocks = Array.from({ length: 300 }, (_, i) => malloc(i * 7, t, M_WAITOK));
  assert.equal(stack_root.audited[stack_anchor()], 300);
  assert.equal(set('vm.audit.zones', ''), 0);
  assert.equal(stack_root.audited[stack_anchor()], 0);
  for (const p of blocks) free(p, t);
  assert.deepEqual(audit_ops(blocks[7]), []);
});
test('full: what finds no room is counted, and a long list of names is refused', () => {
  set('vm.audit.max', 3);
  set('vm.audit.zones', '*');
  const blocks = Array.from({ length: 5 }, () => malloc(100, t, M_WAITOK));
  assert.equal(counter_get(v_audit_lost), 2);
  assert.deepEqual(blocks.map(whats), ['alloc', 'alloc', 'alloc', '', '']);
  assert.notEqual(set('vm.audit.zones', 'x'.repeat(256)), 0);
  for (const p of blocks) free(p, t);
});
test('whatever is found wrong is told with who did what', () => {
  set('vm.audit.zones', '*');
  function close(p: number): void {
    free(p, t);
  }
  const p = malloc(100, t, M_WAITOK);
  close(p);
  const said = /free by cpu0 [\d.]+ ms ago:\n {4}#0 close at .*\n(?: {4}#.*\n)*? {2}alloc by cpu0/;
  assert.match(item_history(p).join('\n'), said);
  assert.throws(
    () => free(p, t),
    (e) => e instanceof KernelPanic && said.test(e.message),
  );
});
test('a write after the free, and a free under a wrong type, likewise', async () => {
  set('vm.audit.zones', 'noted,wrong');
  const wrong = malloc_type_attach('wrong');
  function connect(): number {
    return malloc(100, t, M_WAITOK);
  }
  const p = connect();
  assert.throws(() => free(p, wrong), /is freed as wrong: \n {2}.*free by.*connect at/s);
  await down();
  handle = up({ memory: '8M' });
  t = malloc_type_attach('noted');
  set('vm.audit.zones', '*');
  const q = connect();
  free(q, t);
  mem.I32[q + 3] = 1;
  assert.throws(() => connect(), /modified after free.*free by.*alloc by.*connect at/s);
});
test('two threads: each operation is told with its CPU', async () => {
  set('vm.audit.zones', 'noted');
  const jobs = [1, 2].map((seed) => crew.start(handle, 'churn', { seed, turns: 1500 }));
  await within(Promise.all(jobs.map((j) => j.done)), 'both churn');
  audit_check();
  assert.ok(stack_root.audited[stack_anchor()] > 0);
  set('vm.audit.zones', '');
  assert.equal(stack_root.audited[stack_anchor()], 0);
});
