/*
 * What is shown: every field of the kernel has a rule for its lock letter, or says
 * why it has none; a letter that nobody explains is refused by the checked boot.
 * By what means: the table of tools/letters.ts, and a structure that is planted.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { abandon, boot } from '../src/sys/boot/whole.ts';
import { i32, type Ptr, struct, struct_layouts, unchecked } from '../src/sys/machine/struct.ts';
import { letter_rows, letters_missing } from './letters.ts';

test('every field has a rule, or says why it has none', () => {
  const rows = letter_rows();
  assert.ok(rows.length > 300, `${rows.length} fields`);
  assert.deepEqual(letters_missing(rows), []);
  for (const name of ['vm_page[].info', 'vm_phys_node[].max', 'uma_keg.domain', 'mbuf.site']) {
    assert.ok(rows.find((row) => row.field === name)?.rule, name);
  }
  const reasons = rows.filter((row) => row.unchecked !== '');
  for (const row of reasons) assert.ok(row.unchecked.split(' ').length > 2, row.field);
  assert.ok(reasons.length < rows.length / 100, 'a reason is the exception');
});

test('a letter that nobody explains, and a hint of nothing, are refused at boot', () => {
  for (const [lock, shown] of [
    ['j', 'letters_test.field (j)'],
    ['h', 'letters_test.field (h): a hint of what?'],
  ]) {
    const other = i32(unchecked('it is only a test'), 'another');
    const fields = { field: i32(lock, 'a field'), other };
    struct<Ptr<'letters_test'>>('letters_test')(fields);
    assert.throws(
      () => boot({ memory: '4M', cpus: 2, checked: true }),
      (e) => String(e).endsWith(`letters without a rule: ${shown}`),
    );
    abandon(); // it came up as far as its rules
    struct_layouts.pop();
  }
});
