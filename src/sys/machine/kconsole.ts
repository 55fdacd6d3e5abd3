/*
 * kconsole: where the kernel's messages go.
 *
 * Whatever the kernel has to say goes through here, a line or a few at a time: a type
 * that holds memory at its end, a report of WITNESS, where the dump of a panic is.  It
 * is standard error, of the thread that has something to say; a thread that wants its
 * messages elsewhere puts another function there.
 *
 *      kconsole.print('m_clget: ...')
 *      kconsole.print = (text) => lines.push(text);
 */
export const kconsole: { print: (text: string) => void } = {
  print: (text) => console.error(text),
};
