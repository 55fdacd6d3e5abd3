/*
 * checked_letters: which locks the letters of the higher floors name.
 *
 * A checked boot tests every access of a field against its letter
 * (sync/checked.ts).  Letters that mean a lock of another record are explained
 * here, in one place, because only boot may know all floors:
 *
 *      k   the keg's lock; of a slab, the lock of its keg
 *      z   the lock of the zone's first keg
 *      u   the UMA lock
 *      f   the free lock
 *      l   the malloc lock
 *      g   the registry's lock
 *      h   beside another letter: a hint, which anybody may read without the
 *          lock and looks at again under it before acting; it has no rule
 */
import { mem } from '../machine/memory.ts';
import { M, machine, ROOT_LIB, ROOT_MALLOC, ROOT_UMA } from '../machine/header.ts';
import { elem, field_word } from '../machine/struct.ts';
import { reg_root } from '../h/registry.ts';
import { malloc_root, type malloc_root_t } from '../h/malloc.ts';
import { type slab_t, uma_keg, uma_slab, uma_zone, type zone_t } from '../h/uma.ts';
import { vm_phys } from '../page/vm_phys.ts';
import { checked_letter } from '../sync/checked.ts';
import { uma_root, type uma_root_t } from '../uma/uma_int.ts';

/** Explains the letters to this thread. For boot and for each attach, after checked_boot. */
export function checked_letters(): void {
  // Around the guards: a check that went through them would check itself.
  const uma = mem.I32[field_word(machine.roots, elem(M, ROOT_UMA))] as uma_root_t;
  const malloc = mem.I32[field_word(machine.roots, elem(M, ROOT_MALLOC))] as malloc_root_t;
  const keg_of_zone = field_word(uma_zone.keg, 0 as zone_t);
  const keg_of_slab = field_word(uma_slab.keg, 0 as slab_t);
  const lock_of = (keg: number): number => (keg > 0 ? keg + uma_keg.lock : 0);
  const the_uma_lock = (): number => uma + uma_root.lock;

  checked_letter('uma_keg', 'k', (k) => k + uma_keg.lock);
  checked_letter('uma_slab', 'k', (s) => lock_of(mem.I32[s + keg_of_slab]));
  checked_letter('uma_zone', 'z', (z) => lock_of(mem.I32[z + keg_of_zone]));
  for (const name of ['uma_keg', 'uma_zone', 'uma_root']) {
    checked_letter(name, 'u', the_uma_lock);
  }
  checked_letter('vm_phys', 'f', (ph) => ph + vm_phys.lock);
  const registry = mem.I32[field_word(machine.roots, elem(M, ROOT_LIB))];
  for (const name of ['reg_root', 'reg_entry']) {
    checked_letter(name, 'g', () => registry + reg_root.lock);
  }
  for (const name of ['malloc_type', 'malloc_root']) {
    checked_letter(name, 'l', () => malloc + malloc_root.lock);
  }
}
