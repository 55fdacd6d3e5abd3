/*
 * type_names: call sites become malloc types.
 *
 * A type's name has 31 characters; a call site such as
 * `/lib/x86_64-linux-gnu/libc.so.6:(__strdup+1a)[0x9e9aa]` has more.  What tells
 * sites apart stands at the end, so these are left out in turn until it is short
 * enough: the folder, and the brackets around a symbol; the version of a library;
 * the library's name, if a symbol is known; what a language adds to a function's
 * name.  What is still too long loses its beginning.  Two sites that would come
 * out the same get a number behind.
 *
 *   /lib/libc.so.6:(__strdup+1a)[0x9e9aa]      mtrace     libc.so.6:__strdup+1a
 *   std::vector<int>::push(int&&) (/app/x)     heaptrack  x:std::vector::push
 *
 * All players see the sites in the same order and so find the same names.
 * After TYPES_MAX types, or without memory for one more, further sites are
 * counted under `other`.
 */
import { ENOMEM, KmemError } from '../../sys/machine/errno.ts';
import type { malloc_type_t } from '../../sys/kmem/kern_malloc.ts';

export const TYPES_MAX = 1000;
export const OTHER = 'other';
const NAME_MAX = 31;

/** The short name of a call site, before it is made unique. */
export function short_site(name: string): string {
  const m = /^(.*?):?(\(([^()]*)\))?\[(0x[0-9a-f]+)\]$/i.exec(name);
  const named = m === null ? /^(.+?) \((\/.*|[^()]*)\)$/.exec(name) : null;
  const object = (m?.[1] || named?.[2] || name).split('/').pop() || name;
  const library = object.replace(/\.so(\.\d+)*$/, '');
  const symbol = named?.[1] ?? m?.[3];
  const place = named?.[1] ?? (m?.[1] ? (m[3] ?? m[4]) : '');
  const bare = named ? bare_function(named[1]) : '';
  const forms = [
    place ? `${object}:${place}` : object,
    place ? `${library}:${place}` : object,
    symbol ?? name,
    ...(bare ? [`${library}:${bare}`, bare] : []),
  ].map((form) => form.replace(/[^\x21-\x7e]/g, '_'));
  const whole = forms.find((form) => form.length <= NAME_MAX);
  return whole ?? forms[symbol ? forms.length - 1 : 0].slice(-NAME_MAX);
}

/** A function's name without return type, arguments, template arguments and Rust's hash. */
function bare_function(name: string): string {
  const call = '\0'; // operator() keeps its brackets
  let text = name.replace(/\(anonymous namespace\)::/g, '').replace('operator()', call);
  text = text.replace(/::h[0-9a-f]{16}$/, '').replace(/ \[[^[]*\]$/, '');
  for (let longer = ''; longer !== text; ) {
    longer = text;
    text = text.replace(/^<([^<>]+) as [^<>]+>/, '$1').replace(/<[^<>]*>|\([^()]*\)/g, '');
  }
  text = text.replace(/ const$/, '').replace(call, 'operator()');
  return (/[^ ]*operator.*$|[^ ]+$/.exec(text) ?? [name])[0];
}

export class TypeNames {
  readonly #taken = new Map<string, string>();

  /** A name of at most 31 characters that no other site has. */
  name(site_name: string): string {
    const base = short_site(site_name) || OTHER;
    let name = base;
    for (let n = 2; this.#taken.has(name) && this.#taken.get(name) !== site_name; n++) {
      const tail = `~${n}`;
      name = base.slice(0, NAME_MAX - tail.length) + tail;
    }
    this.#taken.set(name, site_name);
    return name;
  }

  /** The type for a site, made by `make`; `other` beyond the limit or without memory. */
  type(site_name: string, make: (name: string) => malloc_type_t): malloc_type_t {
    const t = this.#taken.size < TYPES_MAX ? make(this.name(site_name)) : (0 as malloc_type_t);
    if (t !== 0) return t;
    const other = make(OTHER);
    if (other === 0) {
      const text = 'no memory for a single malloc type: give more with --memory';
      throw new KmemError(ENOMEM, 'replay', text);
    }
    return other;
  }
}
