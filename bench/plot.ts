/*
 * plot: a bar chart of the geometric means of a to d, as an SVG document.
 *
 * A bar for each competitor, sorted, ours in its own colour; the number stands
 * at the bar's end.  The scale is linear up to a limit, and bars that go beyond
 * it are broken, so that one slow peer does not flatten the others.  Colours
 * follow the reader's light or dark setting by a style of the document itself,
 * and are readable on either ground without it.
 */
import type { Row } from './harness.ts';
import { machine_line } from './markdown.ts';

const WIDTH = 760;
const LEFT = 190;
const RIGHT = 90;
const TOP = 64;
const BAR = 18;
const STEP = 26;
const GROUP_GAP = 34;
const FOOT = 40;
/** Bars longer than this many times ours are broken. */
const LIMIT_TIMES = 12;

interface Bar {
  name: string;
  ns: number;
  us: boolean;
}

const STYLE = `
  text { font: 13px system-ui, sans-serif; fill: #24292f; }
  .title { font-size: 16px; font-weight: 600; }
  .small { font-size: 11px; fill: #57606a; }
  .peer { fill: #8c959f; }
  .us { fill: #0969da; }
  .cut { stroke: #ffffff; stroke-width: 3; }
  .ground { fill: #ffffff; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .small { fill: #9198a1; }
    .peer { fill: #6e7681; }
    .us { fill: #58a6ff; }
    .cut { stroke: #0d1117; }
    .ground { fill: #0d1117; }
  }
`;

function xml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}

function label(x: number, y: number, text: string, more = ''): string {
  return `<text x="${x}" y="${y}"${more}>${xml(text)}</text>`;
}

function bars_of(row: Row): Bar[] {
  const peers = Object.entries(row.peers).map(([name, ns]) => ({ name, ns, us: false }));
  const all = row.us === null ? peers : [...peers, { name: 'kmem', ns: row.us, us: true }];
  return all.toSorted((x, y) => x.ns - y.ns);
}

function draw(bar: Bar, y: number, limit: number): string[] {
  const room = WIDTH - LEFT - RIGHT;
  const cut = bar.ns > limit;
  const length = Math.max(1, Math.round((Math.min(bar.ns, limit) / limit) * room));
  const kind = bar.us ? 'us' : 'peer';
  const middle = y + BAR - 5;
  const ns = `${bar.ns.toFixed(bar.ns < 100 ? 1 : 0)} ns`;
  const at = LEFT + length - 24;
  return [
    label(LEFT - 8, middle, bar.name, ' text-anchor="end"'),
    `<rect class="${kind}" x="${LEFT}" y="${y}" width="${length}" height="${BAR}" rx="2"/>`,
    ...(cut ? [`<path class="cut" fill="none" d="M${at} ${y + BAR + 2}l8 -${BAR + 4}"/>`] : []),
    label(LEFT + length + 6, middle, ns),
  ];
}

/** The document; null when the run has no means. */
export function plot(rows: readonly Row[], versions: readonly string[]): string | null {
  const means = versions.flatMap((version, i) => {
    const row = rows.find(
      ({ pattern }) => pattern === (i === 0 ? 'geomean' : `geomean@${version}`),
    );
    return row === undefined || row.us === null
      ? []
      : [{ version, bars: bars_of(row), us: row.us }];
  });
  if (means.length === 0) return null;
  const limit = Math.max(...means.map(({ us }) => us)) * LIMIT_TIMES;
  const parts: string[] = [];
  let y = TOP;
  for (const { version, bars } of means) {
    parts.push(label(LEFT, y - 6, `Node ${version}`, ' class="small"'));
    for (const bar of bars) {
      parts.push(...draw(bar, y, limit));
      y += STEP;
    }
    y += GROUP_GAP;
  }
  const height = y - GROUP_GAP + FOOT;
  const title = 'One allocation and one free, geometric mean of four patterns';
  const foot = `Shorter is better. Minimum of interleaved rounds; ${machine_line()}.`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img"` +
      ` width="${WIDTH}" height="${height}" aria-label="${title}">`,
    `<style>${STYLE}</style>`,
    `<rect class="ground" width="${WIDTH}" height="${height}" rx="6"/>`,
    label(16, 28, title, ' class="title"'),
    ...parts,
    label(16, height - 14, foot, ' class="small"'),
    '</svg>',
    '',
  ].join('\n');
}
