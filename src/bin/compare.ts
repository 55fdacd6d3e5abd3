/*
 * kmem replay --compare NAME=A,B[,C…]: reads what is to be varied.
 *
 * NAME is a tunable, as with --set, or one of the options that say how a trace is
 * played: memory, cpus, programs, type-by, verify, resident, readahead.  All that can
 * be wrong with the values is found before the first run.  Two values that mean the
 * same (64M and 65536K) are one value given twice.
 */
import { KmemError } from '../sys/machine/errno.ts';
import { kenv_tunables } from '../sys/machine/kenv.ts';
import { memory_size } from '../sys/machine/memory.ts';
import type { Setting } from '../replay/heap/compare.ts';
import type { ReplayOptions } from '../replay/heap/replay.ts';
import type { TypeBy } from '../replay/read/sites.ts';
import { PAGES_MAX } from '../replay/ring/page_events.ts';
import type { PageOptions } from '../replay/vm/pages_replay.ts';
import { UsageError } from './usage.ts';

const FORM = 'NAME=A,B is wanted, with two values or more';
const CPUS_MAX = 63;
const TYPES_BY = ['caller', 'module', 'none'];

function usage(text: string): never {
  throw new UsageError(`${text} (kmem replay --help)`, 'replay');
}

/** What an option's value means, and how a replay takes it; a string says what is wanted. */
type Meaning = { key: unknown; options: (o: ReplayOptions) => Partial<ReplayOptions> } | string;

/** Bytes of a machine as the command line writes them; a string says what is wrong. */
export function memory_option(text: string): number | string {
  try {
    return memory_size(text);
  } catch (e) {
    if (e instanceof KmemError) return e.message.replace(/^.*?: boot: memory: /, '');
    throw e;
  }
}
export function cpus_option(text: string): number | null {
  const cpus = Number(text);
  return /^\d+$/.test(text) && cpus >= 1 && cpus <= CPUS_MAX ? cpus : null;
}
export const CPUS_WANTED = `a whole number from 1 to ${CPUS_MAX} is wanted`;
export function type_by_option(text: string): TypeBy | null {
  return TYPES_BY.includes(text) ? (text as TypeBy) : null;
}
export function resident_option(text: string): number | null {
  const pages = Number(text);
  return /^\d+$/.test(text) && pages >= 1 && pages <= PAGES_MAX ? pages : null;
}
export const RESIDENT_WANTED = `a whole number of pages from 1 to ${PAGES_MAX} is wanted`;
/** References to pages as they play where nothing is said. */
export const NO_LIMIT: PageOptions = { resident: 0, readahead: false };
const YES_OR_NO = 'yes or no is wanted';
function yes_or_no(text: string): boolean | null {
  return text === 'yes' || text === 'no' ? text === 'yes' : null;
}
export const TYPE_BY_WANTED = `one of ${TYPES_BY.join(', ')} is wanted`;

const OPTIONS: Record<string, (text: string) => Meaning> = {
  memory: (text) => {
    const bytes = memory_option(text);
    return typeof bytes === 'string' ? bytes : { key: bytes, options: () => ({ memory: bytes }) };
  },
  cpus: (text) => {
    const cpus = cpus_option(text);
    if (cpus === null) return CPUS_WANTED;
    return { key: cpus, options: () => ({ cpus, asked_cpus: cpus }) };
  },
  programs: (text) => {
    const programs = cpus_option(text);
    if (programs === null) return CPUS_WANTED;
    return { key: programs, options: () => ({ programs, cpus: programs }) };
  },
  'type-by': (text) => {
    const type_by = type_by_option(text);
    return type_by === null ? TYPE_BY_WANTED : { key: type_by, options: () => ({ type_by }) };
  },
  verify: (text) => {
    const yes = yes_or_no(text);
    return yes === null ? YES_OR_NO : { key: text, options: () => ({ verify: yes }) };
  },
  resident: (text) => {
    const resident = resident_option(text);
    if (resident === null) return RESIDENT_WANTED;
    return {
      key: resident,
      options: ({ pages }) => ({ pages: { ...NO_LIMIT, ...pages, resident } }),
    };
  },
  readahead: (text) => {
    const readahead = yes_or_no(text);
    if (readahead === null) return YES_OR_NO;
    return { key: text, options: ({ pages }) => ({ pages: { ...NO_LIMIT, ...pages, readahead } }) };
  },
};

const NO_TUNABLE = 'no such tunable';
/** The value of a tunable; a string says what is wrong with it. */
function tunable(name: string, text: string): number | string {
  try {
    return kenv_tunables({ [name]: text }).get(name) ?? NO_TUNABLE;
  } catch (e) {
    if (e instanceof KmemError) return e.message.replace(/^.*?: boot: set [^=]*=[^:]*: /, '');
    throw e;
  }
}

/** What `--compare` names, checked.  Throws a UsageError of one line. */
export function compared_setting(text: string): Setting {
  const at = text.indexOf('=');
  if (at <= 0) usage(`--compare ${text}: ${FORM}`);
  const name = text.slice(0, at);
  const values = text.slice(at + 1).split(',');
  if (values.length < 2 || values.includes('')) usage(`--compare ${text}: ${FORM}`);
  const seen = new Map<unknown, string>();
  const setting: Setting = { name, values: [] };
  for (const value of values) {
    const { key, options } = meaning(name, value);
    const before = seen.get(key);
    if (before !== undefined) {
      const same = before === value ? 'is given twice' : `is the same as ${before}`;
      usage(`--compare ${name}: ${value} ${same}`);
    }
    seen.set(key, value);
    setting.values.push({ text: value, options });
  }
  return setting;
}

function meaning(name: string, value: string): { key: unknown; options: OptionChange } {
  const option = Object.hasOwn(OPTIONS, name) ? OPTIONS[name](value) : undefined;
  if (typeof option === 'string') return usage(`--compare ${name}=${value}: ${option}`);
  if (option) return { key: option.key, options: (o) => ({ ...o, ...option.options(o) }) };
  const number = tunable(name, value);
  if (typeof number === 'string') {
    const none = number.startsWith(NO_TUNABLE);
    const others = `${NO_TUNABLE} (nor ${Object.keys(OPTIONS).join(', ')}): see --sysctl=-aT`;
    return usage(`--compare ${name}=${value}: ${none ? others : number}`);
  }
  return { key: number, options: (o) => ({ ...o, set: { ...o.set, [name]: value } }) };
}
type OptionChange = Setting['values'][number]['options'];
