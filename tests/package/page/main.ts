/*
 * main: the page.  What follows the # in its address says what it runs.
 *
 * A run returns a report, which goes into the page: for people a summary, the
 * tables of vmstat and the list of variables; for the test that opened the page
 * the whole of it as JSON.
 */
import { aloneInThePage } from './alone.ts';
import { blockingCalls } from './blocking.ts';
import { pageDaemon, workerThatDies } from './threads.ts';
import { twoCpus } from './two_cpus.ts';

export interface Report {
  readonly summary: string;
  readonly vmstat?: string;
  readonly sysctls?: readonly { readonly name: string; readonly description: string }[];
}
const runs: Record<string, () => Promise<Report>> = {
  '': twoCpus,
  alone: aloneInThePage,
  blocking: blockingCalls,
  daemon: pageDaemon,
  dies: workerThatDies,
};

function put(id: string, text: string): void {
  const element = document.getElementById(id);
  if (element) element.textContent = text;
}
function show(report: Report): void {
  put('summary', report.summary);
  put('vmstat', report.vmstat ?? '');
  const table = document.getElementById('sysctls') as HTMLTableElement;
  for (const { name, description } of report.sysctls ?? []) {
    const row = table.insertRow();
    row.insertCell().textContent = name;
    row.insertCell().textContent = description;
  }
  put('report', JSON.stringify(report));
  document.body.dataset.state = 'done';
}
function fail(error: unknown): void {
  put('summary', error instanceof Error ? `${error}\n${error.stack}` : String(error));
  document.body.dataset.state = 'failed';
}
// A machine is one to a thread: another run is another page.
window.addEventListener('hashchange', () => location.reload());
runs[location.hash.slice(1)]().then(show, fail);
