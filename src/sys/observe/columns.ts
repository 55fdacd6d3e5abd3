/*
 * columns: tables of the tools, declared column by column.
 *
 * A column says its title, what it means, and how a row shows it.  The printer lays
 * rows out as BSD does; `kmem explain` tells what a title means.  There is no second
 * list of either.
 *
 * Widths are the least ones, and a title may be longer than its column.  BSD lets a
 * longer text push the rest of its row to the right; here it widens its column in all
 * rows, so that figures stay below one another.
 */

export interface Column<Row> {
  readonly title: string;
  /** What it means, in sentences. */
  readonly help: string;
  /** Least characters; negative: the text stands to the left. */
  readonly width: number;
  /** Between this and the column before it; in the line of titles, if it differs there. */
  readonly gap: string;
  readonly title_gap?: string;
  text(row: Row): string;
}

function padded(text: string, width: number): string {
  return width < 0 ? text.padEnd(-width) : text.padStart(width);
}
/** The line of titles, and a line for each row. */
export function columns_text<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
): { titles: string; lines: string[] } {
  const cells = rows.map((row) => columns.map((c) => c.text(row)));
  const widths = columns.map((c, i) => {
    // Nothing stands behind the last column, and what is to the left there needs no room.
    if (i === columns.length - 1 && c.width <= 0) return 0;
    const most = Math.max(Math.abs(c.width), ...cells.map((row) => row[i].length));
    return c.width < 0 ? -most : most;
  });
  const titles = columns.map((c, i) => (c.title_gap ?? c.gap) + padded(c.title, widths[i]));
  const lines = cells.map((row) =>
    row.map((text, i) => columns[i].gap + padded(text, widths[i])).join(''),
  );
  return { titles: titles.join(''), lines };
}
