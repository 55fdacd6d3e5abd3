/*
 * space_limit: two CPUs use the pages of a space, of which a few at a time have translations, while
 * its limit changes and one of them unmaps.  Whatever a page held it holds when it is used again.
 */
import { map_at } from '../../src/sys/map/vm_map.test.lib.ts';
import { vm_rss_limit } from '../../src/sys/map/vm_rss.ts';
import { COMMON, look, map, space_script, unmap, write } from '../space_ops.ts';

const limit = (pages: number) => (): void => vm_rss_limit(map_at(COMMON), pages);

export const script = space_script(
  'a space over its limit gives pages of its own up, while they are used',
  (cpu) =>
    cpu === 0
      ? [limit(1), write(COMMON, 2, 0), look(COMMON, 0), unmap(COMMON, 0, 1), look(COMMON, 2)]
      : [write(COMMON, 1, 1), look(COMMON, 2), limit(2), write(COMMON, 2, 1), map(COMMON, 0)],
);
