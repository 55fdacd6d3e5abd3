/*
 * pages_compare: what a comparison of references to pages has to show (heap/compare.ts).
 *
 *      resident               16          64         256
 *      misses          1,201,310     128,002      20,140
 *        exact LRU     1,155,165     123,738      19,201
 *        ratio              1.04        1.03        1.05
 */
import type { Kind } from '../heap/compare.ts';
import { count, cpu_list } from '../heap/verdict.ts';
import type { PagesDocument } from '../read/read_trace.ts';
import type { PagesOutcome } from './pages_replay.ts';
import { pages_title } from './pages_verdict.ts';

/** More memory is less work. */
const MEMORY = ['resident', 'memory'];
const ratio = (n: number): string => n.toFixed(3);

export const PAGES: Kind<PagesOutcome> = {
  rows: [
    { key: 'seconds', label: 'seconds', text: (n) => n.toFixed(2), best: 'least', of_work: MEMORY },
    { key: 'references_per_second', label: 'references/s', text: count, best: 'most' },
    { key: 'misses', label: 'misses', text: count, best: 'least', of_work: MEMORY },
    { key: 'lru_misses', label: '  exact LRU', text: count, best: null },
    { key: 'lru_ratio', label: '  ratio', text: ratio, best: 'least' },
    { key: 'zero_fills', label: 'zero fills', text: count, best: null },
    { key: 'faults_hard', label: 'page-ins', text: count, best: null },
    { key: 'faults_soft', label: 'soft faults', text: count, best: null },
    { key: 'pageins', label: 'pages in', text: count, best: null },
    { key: 'pageouts', label: 'pages out', text: count, best: 'least', of_work: MEMORY },
    { key: 'failed', label: 'failed', text: count, best: null },
    { key: 'verify_errors', label: 'wrong contents', text: count, best: null },
    { key: 'pages_left', label: 'pages left', text: count, best: null },
  ],
  figures: ({ vm, time, memory, verified }) => ({
    seconds: time.seconds,
    references_per_second: time.references_per_second,
    misses: vm.misses,
    lru_misses: vm.lru_misses,
    lru_ratio: vm.lru_ratio,
    zero_fills: vm.zero_fills,
    faults_hard: vm.faults_hard,
    faults_soft: vm.faults_soft,
    pageins: vm.pageins,
    pageouts: vm.pageouts,
    failed: vm.no_memory + vm.failed,
    verify_errors: verified ? vm.verify_errors : null,
    pages_left: memory.pages_left,
  }),
  damage: ({ vm, memory }) => vm.verify_errors + vm.failed + memory.pages_left,
  title: (file, trace, played) => {
    const what = pages_title(file, trace as PagesDocument);
    return played === null ? what : `${what}, on ${cpu_list(played.cpus)}`;
  },
};
