/*
 * wasm: the peers that are compiled to WebAssembly, built for this run.
 *
 *      dlmalloc           wasi-libc's malloc         clang, lld, wasi-libc
 *      dlmalloc, shared   the same behind one lock   the same
 *      mimalloc           from its own source        the same, and KMEM_BENCH_MIMALLOC
 *      AssemblyScript     its runtime's TLSF         the package assemblyscript
 *
 * As with the native peers, what is not installed is not an error: it is
 * reported as skipped, with what it needs.  mimalloc's source is not in any
 * package of Debian's that is installed; its source package is
 * `apt-get source mimalloc`, and KMEM_BENCH_MIMALLOC names the unpacked folder.
 *
 * emmalloc is absent: it exists in the package emscripten alone, which takes
 * 900 MB.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Bytes each of these heaps may use; dlmalloc and TLSF get them at once. */
const HEAP_BYTES = 256 * 2 ** 20;
const PAGE = 65536;

export interface BuiltWasm {
  name: string;
  /** What peers/heap_js.ts is told to play. */
  kind: string;
  file: string | undefined;
  problem: string | undefined;
}

const peer = (name: string): string => fileURLToPath(new URL(`./peers/${name}`, import.meta.url));

const CLANG = ['--target=wasm32-wasi', '-O2', '-DNDEBUG', '-w', '-mexec-model=reactor'];
const NEEDS_CLANG =
  'needs clang, lld and wasi-libc (Debian: clang lld wasi-libc libclang-rt-dev-wasm32)';

function linked(flags: readonly string[]): string[] {
  return flags.map((flag) => `-Wl,${flag}`);
}

function clang(file: string, args: readonly string[]): boolean {
  const ran = spawnSync('clang', [...CLANG, ...args, '-o', file], { stdio: 'ignore' });
  return ran.status === 0 && existsSync(file);
}

function dlmalloc(folder: string): BuiltWasm {
  const file = join(folder, 'dlmalloc.wasm');
  const memory = linked([`--initial-memory=${HEAP_BYTES}`, `--max-memory=${HEAP_BYTES}`]);
  const done = clang(file, [peer('dlmalloc.c'), ...memory]);
  return { name: 'wasm dlmalloc', kind: 'wasm', ...outcome(done, file, NEEDS_CLANG) };
}

/*
 * The C library's objects are not marked as fit for shared memory, because
 * nothing in it locks; here everything that runs is behind our lock.
 */
function dlmalloc_shared(folder: string): BuiltWasm {
  const file = join(folder, 'dlmalloc-shared.wasm');
  const flags = linked([
    ...['--shared-memory', '--import-memory', '--no-check-features', '--export=__stack_pointer'],
    ...[`--initial-memory=${HEAP_BYTES}`, `--max-memory=${HEAP_BYTES}`],
  ]);
  const threads = ['-DSHARED', '-matomics', '-mbulk-memory'];
  const done = clang(file, [peer('dlmalloc.c'), ...threads, ...flags]);
  return { name: 'wasm dlmalloc, one lock', kind: 'shared', ...outcome(done, file, NEEDS_CLANG) };
}

function mimalloc(folder: string): BuiltWasm {
  const name = 'wasm mimalloc';
  const source = process.env['KMEM_BENCH_MIMALLOC'] ?? '';
  if (source === '') {
    const needs = 'needs KMEM_BENCH_MIMALLOC=FOLDER, its source (Debian: apt-get source mimalloc)';
    return { name, kind: 'wasm', ...outcome(false, '', needs) };
  }
  const unit = join(source, 'src', 'static.c');
  if (!existsSync(unit)) {
    const needs = `KMEM_BENCH_MIMALLOC: no src/static.c in ${source}`;
    return { name, kind: 'wasm', ...outcome(false, '', needs) };
  }
  const file = join(folder, 'mimalloc.wasm');
  const memory = linked([`--max-memory=${HEAP_BYTES}`]);
  const include = `-I${join(source, 'include')}`;
  const done = clang(file, [peer('mimalloc_wasm.c'), unit, include, ...memory]);
  return { name, kind: 'wasm', ...outcome(done, file, `${NEEDS_CLANG}, and a source that builds`) };
}

const TLSF = `
export function get(bytes: usize): usize { return heap.alloc(bytes); }
export function give(p: usize): void { heap.free(p); }
export function resize(p: usize, bytes: usize): usize { return heap.realloc(p, bytes); }
`;

/* By a variable, because the package's types declare a `console` and more for everybody. */
const ASC: string = 'assemblyscript/asc';

interface Asc {
  main(
    args: string[],
    host: {
      readFile(name: string): string | null;
      writeFile(name: string, content: Uint8Array): void;
    },
  ): Promise<{ error: Error | null }>;
}

async function assembly_script(folder: string): Promise<BuiltWasm> {
  const name = 'AssemblyScript TLSF';
  const file = join(folder, 'tlsf.wasm');
  let asc: Asc;
  try {
    asc = ((await import(ASC)) as { default: Asc }).default;
  } catch {
    return { name, kind: 'wasm', ...outcome(false, '', 'needs the package assemblyscript') };
  }
  const pages = String(HEAP_BYTES / PAGE);
  const memory = ['--initialMemory', pages, '--maximumMemory', pages];
  const optimised = ['-O3', '--noAssert', '--runtime', 'minimal', '--use', 'abort='];
  const { error } = await asc.main(['tlsf.ts', '-o', 'tlsf.wasm', ...optimised, ...memory], {
    readFile: (wanted) => (wanted === 'tlsf.ts' ? TLSF : null),
    writeFile: (wanted, content) => {
      if (wanted === 'tlsf.wasm') writeFileSync(file, content);
    },
  });
  const needs = `needs a compiler that works: ${error?.message ?? ''}`;
  return { name, kind: 'wasm', ...outcome(error === null && existsSync(file), file, needs) };
}

function outcome(done: boolean, file: string, needs: string): Pick<BuiltWasm, 'file' | 'problem'> {
  if (done) return { file, problem: undefined };
  return { file: undefined, problem: `skipped: ${needs}` };
}

/** Builds them all into `folder`. */
export async function build_wasm(folder: string): Promise<BuiltWasm[]> {
  return [
    dlmalloc(folder),
    dlmalloc_shared(folder),
    mimalloc(folder),
    await assembly_script(folder),
  ];
}
