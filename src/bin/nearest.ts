/*
 * nearest: which names somebody may have meant who misspelt one.
 *
 * Names that a few changes of a letter make of the word are near it, a third of its letters at
 * most; so is a name in which the word is, or which is in the word.  It knows nothing of what the
 * names are: commands (main.ts), terms (explain.ts).
 */

/** Changes of a character that make one word of the other; no more than `most` are counted. */
function distance(a: string, b: string, most: number): number {
  if (Math.abs(a.length - b.length) > most) return most + 1;
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(change, row[j] + 1, next[j - 1] + 1));
    }
    row = next;
  }
  return row[b.length];
}
const NEAREST = 5;
/** Of a word so short, two changed letters are no slip. */
const SHORT = 3;

/** Of the names those near to the word, likeliest first; `forms` are how a name may be written. */
export function nearest_of(
  wanted: string,
  names: readonly string[],
  forms: (name: string) => readonly string[] = (name) => [name],
): string[] {
  // With all its letters changed it would be like any word.
  const most = Math.min(
    wanted.length <= SHORT ? 1 : Math.max(2, Math.floor(wanted.length / 3)),
    wanted.length - 1,
  );
  const far = (name: string): number => {
    const [whole, ...parts] = forms(name);
    const least = Math.min(...[whole, ...parts].map((part) => distance(wanted, part, most)));
    // One in the other is like one that is nearly the same.
    const inside = wanted.length > 2 && (whole.includes(wanted) || wanted.includes(whole));
    return inside ? Math.min(least, 1 + Math.abs(whole.length - wanted.length) / 100) : least;
  };
  const near = new Map<string, number>();
  for (const name of names) {
    const d = far(name);
    if (d <= most) near.set(name, d);
  }
  const by_distance = [...near].sort(([a, m], [b, n]) => m - n || (a < b ? -1 : 1));
  return by_distance.slice(0, NEAREST).map(([name]) => name);
}
