/*
 * systat: a page that is drawn again and again.
 *
 * On a terminal the page is overwritten in place; a file or pipe gets it once a
 * second, one below the other.
 */
const SECOND_MS = 1000;

/** Shows pages on a stream. */
export function systat_page(to: NodeJS.WriteStream): (text: string) => void {
  let drawn = 0;
  let next = 0;
  return (text) => {
    if (to.isTTY) {
      const lines = text.trimEnd().split('\n');
      const up = drawn > 0 ? `\x1b[${drawn}A` : '';
      to.write(`${up}\r${lines.map((line) => `${line}\x1b[K\n`).join('')}\x1b[J`);
      drawn = lines.length;
      return;
    }
    const now = performance.now();
    if (now < next) return;
    next = now + SECOND_MS;
    to.write(`${text}\n`);
  };
}
