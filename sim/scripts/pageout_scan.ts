/*
 * pageout_scan: a CPU uses the pages of a space and reclaims for itself, while another one looks
 * through the queues, writes dirty pages and makes those that are not used as good as free or free.
 *
 * Whatever a page held it holds when it is used again, whoever dies where.  A store that meets the
 * look at its page in the middle is not lost: a page that was written to is never cached.
 */
import { active_scan, inactive_scan, scan_of } from '../../src/sys/map/vm_pageout_scan.ts';
import { pageout_pages } from '../../src/sys/map/vm_pageout.ts';
import type { SimScript } from '../script.ts';
import { COMMON, look, WRITER, write, written_script } from '../space_ops.ts';

/** A whole look, as the page daemon's: in earnest, for so many pages. */
const scan =
  (pages: number, pass = 2): (() => void) =>
  () => {
    const s = scan_of(pass, pages, pages);
    active_scan(s);
    inactive_scan(s);
  };
const reclaim = (): void => void pageout_pages(1);

export const script: SimScript = written_script(
  'the queues are looked through, and pages go, while they are read and written',
  (cpu) =>
    cpu === WRITER
      ? [write(COMMON, 0, WRITER), look(COMMON, 1), write(COMMON, 1, WRITER), reclaim]
      : [scan(1, 0), scan(2), look(COMMON, 1), scan(3)],
);
