/*
 * native: the C peers, built for this run.
 *
 * peers/alloc.c and peers/replay.c are compiled once for each library, peers/vm.c once, into a
 * folder of the run's own that disappears with it.  What is not installed is not an error: the
 * library is reported as skipped, with what it needs.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface Built {
  name: string;
  /** The program, or why there is none. */
  program: string | undefined;
  problem: string | undefined;
  /** Part of the name of the file that malloc must come from. */
  expect: string;
}

interface Library {
  name: string;
  expect: string;
  /** Ways to link it, tried in order: the development file, then the shared object itself. */
  links: string[][];
  needs: string;
}

const LIBRARIES: readonly Library[] = [
  { name: 'glibc', expect: 'libc.', links: [[]], needs: 'a working gcc and the C library headers' },
  {
    name: 'jemalloc',
    expect: 'libjemalloc',
    links: [['-ljemalloc'], ['-l:libjemalloc.so.2']],
    needs: 'libjemalloc (Debian: libjemalloc-dev)',
  },
  {
    name: 'mimalloc',
    expect: 'libmimalloc',
    links: [['-lmimalloc'], ['-l:libmimalloc.so.2']],
    needs: 'libmimalloc (Debian: libmimalloc-dev)',
  },
];

const FLAGS = ['-O2', '-fno-builtin', '-pthread'];

/** Links against `library`; --no-as-needed, because the program names none of its symbols. */
function build(library: Library, source: string, folder: string): Built {
  const program = join(folder, `${library.name}-${source.replace(/^.*[/\\]|\.c$/g, '')}`);
  const built = { name: library.name, expect: library.expect };
  for (const link of library.links) {
    const args = [...FLAGS, '-o', program, source, '-Wl,--no-as-needed', ...link, '-ldl'];
    if (spawnSync('gcc', args, { stdio: 'ignore' }).status === 0) {
      return { ...built, program, problem: undefined };
    }
  }
  return { ...built, program: undefined, problem: `skipped: needs ${library.needs}` };
}

/** Builds peers/NAME.c once per library, into `folder`. */
export function build_native(name: string, folder: string): Built[] {
  return build_with(LIBRARIES, name, folder);
}
/** Builds peers/NAME.c with the C library alone: one that asks the system, not malloc. */
export function build_plain(name: string, folder: string): Built {
  return build_with(LIBRARIES.slice(0, 1), name, folder)[0];
}
function build_with(libraries: readonly Library[], name: string, folder: string): Built[] {
  if (spawnSync('gcc', ['--version'], { stdio: 'ignore' }).status !== 0) {
    const none = { program: undefined, problem: 'skipped: needs gcc' };
    return libraries.map((library) => ({ name: library.name, expect: library.expect, ...none }));
  }
  const source = fileURLToPath(new URL(`./peers/${name}.c`, import.meta.url));
  return libraries.map((library) => build(library, source, folder));
}
