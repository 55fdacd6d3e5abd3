/*
 * malloc_types: types are made, used and undone while others make the same.
 *
 * Two CPUs ask for a type by name at once: both must get one and the same.
 * Another type is made, used and undone by its own CPU, and zones come and go
 * beside it.
 */
import { i32, type Ptr, struct } from '../../src/sys/machine/struct.ts';
import { type malloc_type_t, malloc_type } from '../../src/sys/h/malloc.ts';
import { free, M_NOWAIT, malloc, malloc_type_attach } from '../../src/sys/kmem/kern_malloc.ts';
import {
  malloc_desc2type,
  malloc_init,
  malloc_type_create,
  malloc_type_list,
  malloc_type_name,
  malloc_uninit,
} from '../../src/sys/kmem/kern_malloc_type.ts';
import { field_word } from '../../src/sys/machine/struct.ts';
import { atomic_cas, atomic_load } from '../../src/sys/machine/atomic.ts';
import { uma_zalloc, uma_zfree } from '../../src/sys/uma/uma_core.ts';
import { uma_zcreate_nowait, uma_zdestroy } from '../../src/sys/uma/uma_zone.ts';
import { check_account } from '../account.ts';
import { type SimScript, scratch } from '../script.ts';

type rec_t = Ptr<'sim_malloc_types'>;
/* Locks: (a) atomic */
const rec = struct<rec_t>('sim_malloc_types')({
  found: i32('a', 'the type that the first CPU got'),
});

function attach(): void {
  const t = malloc_type_attach('shared by name');
  const w = field_word(rec.found, scratch<rec_t>());
  if (atomic_cas(w, 0, t) !== 0 && atomic_load(w) !== t) throw new Error('two types of one name');
  free(malloc(50, t, M_NOWAIT), t);
}
const own = (name: string) => (): void => {
  const t = malloc_type_create(name);
  if (t === 0) return;
  malloc_init(t);
  const p = malloc(200, t, M_NOWAIT);
  if (malloc_desc2type(name) !== t) throw new Error('the type is not found by its name');
  free(p, t);
  malloc_uninit(t);
};
function zone(): void {
  const z = uma_zcreate_nowait('short-lived', 300);
  if (z === 0) return;
  uma_zfree(z, uma_zalloc(z, M_NOWAIT));
  uma_zdestroy(z);
}

export const script: SimScript = {
  help: 'malloc: types made, found and undone by several CPUs at once',
  victim: 1,
  kill_seeds: 1,
  setup() {},
  ops: (cpu) => (cpu === 0 ? [attach, own('of cpu 0'), attach] : [own('of cpu 1'), attach, zone]),
  check() {
    const names: string[] = [];
    malloc_type_list((t: malloc_type_t) => {
      if (malloc_type.registered[t] !== 1) names.push('unregistered');
      names.push(malloc_type_name(t));
    });
    if (new Set(names).size !== names.length) return `a name twice: ${names.join(', ')}`;
    return check_account();
  },
};
