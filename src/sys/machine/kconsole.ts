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
 *
 * Whatever that function is, the message buffer of the machine has the lines, too (kdb.ts), so
 * that they are found in a dump.
 */
import { msgbuf_add } from './kdb.ts';

type Print = (text: string) => void;
/** Functions that put what they print into the message buffer. */
const logged = new WeakSet<Print>();
function with_log(print: Print): Print {
  if (logged.has(print)) return print;
  const both: Print = (text) => {
    msgbuf_add(text);
    print(text);
  };
  logged.add(both);
  return both;
}
let print: Print = with_log((text) => console.error(text));
export const kconsole = {
  get print(): Print {
    return print;
  },
  set print(to: Print) {
    print = with_log(to);
  },
};
