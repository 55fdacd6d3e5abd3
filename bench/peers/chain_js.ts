/*
 * chain_js: what Node programs use for buffer chains: Buffer, and the package bl.
 *
 *      node chain_js.ts buffer | slow | duplicate | slice
 *
 * `buffer` is the pooled Buffer.allocUnsafe, `slow` the one without a pool.  bl
 * has two calls that copy a list by reference, duplicate() and shallowSlice(); a
 * process plays one.  A list is built of fresh copies, because a program that
 * receives into one buffer again and again has to copy.  Freeing is dropping the
 * last reference; the collector's work falls inside the time.
 */
import BufferList from 'bl';
import { PIECE_BYTES, PIECES, type Pattern, serve, timed } from '../child.ts';

const source = Buffer.alloc(PIECE_BYTES, 'kmem');
/** The caller sees every object: V8 would leave out what nobody can see. */
const kept: { it: unknown } = { it: null };

function pairs_of(make: (size: number) => Buffer): Record<string, Pattern> {
  const pair = (ops: number): void => {
    for (let i = 0; i < ops; i++) {
      const b = make(2048);
      b[0] = i;
      kept.it = b;
    }
  };
  return { pair: (ops) => timed(ops, pair) };
}
function build(): BufferList {
  const list = new BufferList();
  for (let i = 0; i < PIECES; i++) list.append(Buffer.from(source));
  return list;
}
function lists_of(copy: (list: BufferList) => unknown): Record<string, Pattern> {
  const list = build();
  const share = (ops: number): void => {
    for (let i = 0; i < ops; i++) kept.it = copy(list);
  };
  const built = (ops: number): void => {
    for (let i = 0; i < ops; i++) kept.it = build();
  };
  return { share: (ops) => timed(ops, share), build: (ops) => timed(ops, built) };
}

const KINDS: Record<string, () => Record<string, Pattern>> = {
  buffer: () => pairs_of((size) => Buffer.allocUnsafe(size)),
  slow: () => pairs_of((size) => Buffer.allocUnsafeSlow(size)),
  duplicate: () => lists_of((list) => list.duplicate()),
  slice: () => lists_of((list) => list.shallowSlice(0)),
};
const kind = process.argv[2] ?? '';
if (!Object.hasOwn(KINDS, kind)) throw new Error(`one of ${Object.keys(KINDS).join(', ')}`);
await serve(KINDS[kind](), kind);
