/*
 * page_evict: a CPU uses the pages of a space while another one frees them for a run of pages,
 * wherever they lie and however they were used; dirty ones are written first.
 *
 * Whatever a page held it holds when it is used again, whoever dies where.
 */
import { vm_contig_free } from '../../src/sys/map/vm_contig.ts';
import { page_evict } from '../../src/sys/map/vm_pageout_scan.ts';
import { phys_root, vm_phys } from '../../src/sys/page/vm_phys.ts';
import type { SimScript } from '../script.ts';
import { COMMON, look, WRITER, write, written_script } from '../space_ops.ts';

/** Every page that an object has. */
const evict = (): void => {
  const ph = phys_root();
  for (let m = vm_phys.low[ph]; m < vm_phys.high[ph]; m++) page_evict(m);
};
const contig = (): void => void vm_contig_free(2, []);

export const script: SimScript = written_script(
  'pages are freed for a run of them, while they are read and written',
  (cpu) =>
    cpu === WRITER
      ? [write(COMMON, 0, WRITER), look(COMMON, 1), write(COMMON, 1, WRITER), evict]
      : [evict, look(COMMON, 1), contig, look(COMMON, 0), evict],
);
