/*
 * swap_info: what there is of swap areas, for programs, variables and `kmem swapctl`.
 *
 *      vm.swap_info.N     version, device, flags, blocks, used: BSD's struct xswdev, 20 bytes
 *      vm.swap_list       the same of all areas, with what BSD's has no room for
 *
 * An area has no device number; its own stands there, which is what N is.  Blocks are of a
 * page.  All are samples.
 */
import { EINVAL, ENOENT } from '../machine/errno.ts';
import { PAGE_SIZE } from '../machine/memory.ts';
import { CTLFLAG_RD, CTLFLAG_SKIP, sysctl_proc, sysctl_value } from '../machine/sysctl_decl.ts';
import { SWAP_CLOSING, SWAP_DEFAULT, SWAP_LABEL, swap_area, type swap_area_t } from '../h/swap.ts';
import { store_files } from '../machine/store.ts';
import { opfs_folder } from '../machine/store_opfs.ts';
import { opfs_there } from '../object/store_post.ts';
import { swap_area_free, swap_areas, swap_full, swap_wanted } from '../object/swap_area.ts';
import { swap_default_possible } from '../object/swap_on.ts';
import { type Column, columns_text } from './columns.ts';
import { vm_store_path } from '../object/vm_store.ts';

const area = swap_area;

/** An area as it is at one moment. */
export interface SwapInfo {
  /** Of its file, from the root on; '' if it lies in memory. */
  readonly path: string;
  /** Bytes that can be used of it. */
  readonly size: number;
  /** Bytes that pages have there. */
  readonly used: number;
  /** Bytes that are free. */
  readonly free: number;
  /** Bytes on which a write has failed, or for which the disk had no room. */
  readonly bad: number;
  /** The area with the lowest number is used first. */
  readonly priority: number;
  /** swapoff() takes it out of use. */
  readonly closing: boolean;
  /** It was made because there was none, and goes with the machine. */
  readonly made: boolean;
}
function info_of(a: swap_area_t): SwapInfo {
  return {
    path: vm_store_path(area.store[a]),
    size: (area.end[a] - area.first[a] - SWAP_LABEL) * PAGE_SIZE,
    used: area.used[a] * PAGE_SIZE,
    free: swap_area_free(a) * PAGE_SIZE,
    bad: (area.bad[a] + area.lost[a]) * PAGE_SIZE,
    priority: area.priority[a],
    closing: area.state[a] === SWAP_CLOSING,
    made: (area.flags[a] & SWAP_DEFAULT) !== 0,
  };
}
/** All areas. */
export function swap_infos(): SwapInfo[] {
  return swap_areas().map(info_of);
}

/** How memory can be larger than the machine's. */
export interface SwapKind {
  /** By files, by those of a browser's private file system, or not at all. */
  readonly kind: 'file' | 'opfs' | 'none';
  /** Which; or why not, and what to do. */
  readonly reason: string;
}
/** How it can be now. */
export function swap_kind(): SwapKind {
  const all = swap_infos().filter((a) => !a.closing);
  if (all.length > 0) {
    const [size, free] = [all.reduce((n, a) => n + a.size, 0), all.reduce((n, a) => n + a.free, 0)];
    const reason = `${all.length} swap areas of ${size} bytes, ${free} of them free`;
    return { kind: store_files() ? 'file' : 'opfs', reason };
  }
  if (store_files()) {
    if (!swap_default_possible())
      return none('vm.swap_default is 0: machine.swapon(path, { size })');
    if (swap_wanted())
      return { kind: 'file', reason: 'a file is made at first need: vm.swap_default' };
    return none('no file could be made, or the last area was taken out of use: machine.swapon()');
  }
  if (opfs_there()) return none('there is no area: machine.swapon(name, { size }) in a worker');
  if (opfs_folder() === null) return none('this host has no files');
  return none('boot({ opfs: true }), then machine.swapon(name, { size }) in a worker');
}
function none(reason: string): SwapKind {
  return { kind: 'none', reason };
}

// --- variables ----------------------------------------------------------------------------------

const XSWDEV_VERSION = 1;
const XSWDEV_BYTES = 20;
const SW_CLOSING = 4;
function xswdev(a: swap_area_t, i: number): Uint8Array {
  const bytes = new Uint8Array(XSWDEV_BYTES);
  const view = new DataView(bytes.buffer);
  const flags = area.state[a] === SWAP_CLOSING ? SW_CLOSING : 0;
  const fields = [XSWDEV_VERSION, i, flags, area.end[a] - area.first[a] - SWAP_LABEL, area.used[a]];
  for (const [k, v] of fields.entries()) view.setInt32(k * 4, v, true);
  return bytes;
}
sysctl_proc(
  'vm.swap_info',
  {
    type: 'node',
    fmt: 'S,xswdev',
    flags: CTLFLAG_RD | CTLFLAG_SKIP,
    help: 'Swap area N, with N behind the name: flags, pages, pages in use',
  },
  (req) => {
    if (req.rest.length !== 1) return EINVAL;
    const a = swap_areas()[req.rest[0]];
    return a === undefined ? ENOENT : req.out(xswdev(a, req.rest[0]));
  },
);
/** All areas as text, as of a dump, too. */
export function swap_list(): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(swap_infos())}\0`);
}
sysctl_proc(
  'vm.swap_list',
  { type: 'string', fmt: 'A', flags: CTLFLAG_RD | CTLFLAG_SKIP, help: 'Swap areas, as JSON' },
  (req) => req.out(swap_list()),
);
sysctl_value('vm.nswapdev', { type: 'int', help: 'Swap areas' }, () => swap_areas().length);
const sum = (what: 'size' | 'used' | 'free') => (): number =>
  swap_infos().reduce((n, a) => n + a[what], 0);
sysctl_value(
  'vm.swap_total',
  { type: 'u64', unit: 'bytes', help: 'Bytes of swap areas' },
  sum('size'),
);
sysctl_value(
  'vm.swap_used',
  { type: 'u64', unit: 'bytes', help: 'Bytes in use there' },
  sum('used'),
);
sysctl_value(
  'vm.swap_full',
  { type: 'int', help: 'How full they are: 0 there is room, 1 almost full, 2 full or none' },
  swap_full,
);

// --- text ---------------------------------------------------------------------------------------

const HUNDRED = 100;
/** Blocks in which swapctl counts. */
export interface SwapUnit {
  readonly bytes: number;
  readonly name: string;
}
type Sums = Pick<SwapInfo, 'size' | 'used' | 'free'>;
interface Row extends Sums {
  readonly device: string;
  readonly priority: string;
}
/** The columns of `swapctl -l`. */
export function swapctl_columns({ bytes, name }: SwapUnit): readonly Column<Row>[] {
  const blocks = (n: number): string => String(Math.floor(n / bytes));
  const right = { width: 8, gap: ' ' };
  return [
    {
      title: 'Device',
      help: 'The file of the area; `memory` if it lies in the memory of the machine.',
      width: -11,
      gap: '',
      text: (a) => a.device,
    },
    {
      title: name,
      help: 'What can be used of it, in blocks of so many bytes.',
      width: Math.max(right.width, name.length),
      gap: ' ',
      text: (a) => blocks(a.size),
    },
    { title: 'Used', help: 'What pages have there.', ...right, text: (a) => blocks(a.used) },
    { title: 'Avail', help: 'What is free there.', ...right, text: (a) => blocks(a.free) },
    {
      title: 'Capacity',
      help: 'How much of it is used, in percent.',
      ...right,
      text: (a) => `${a.size === 0 ? 0 : Math.round((a.used * HUNDRED) / a.size)}%`,
    },
    {
      title: 'Priority',
      help: 'The area with the lowest number is used first, areas of equal ones in turn.',
      ...right,
      text: (a) => a.priority,
    },
  ];
}
function sums(areas: readonly SwapInfo[]): Sums {
  const sum = (what: keyof Sums): number => areas.reduce((n, a) => n + a[what], 0);
  return { size: sum('size'), used: sum('used'), free: sum('free') };
}
const NONE = 'no swap devices configured\n';
/** The table of `swapctl -l`. */
export function swapctl_text(areas: readonly SwapInfo[], unit: SwapUnit): string {
  if (areas.length === 0) return NONE;
  const rows: Row[] = areas.map((a) => {
    const device = (a.path || 'memory').replace(/\p{C}/gu, '?');
    return { ...a, device, priority: String(a.priority) };
  });
  if (areas.length > 1) rows.push({ ...sums(areas), device: 'Total', priority: '' });
  const { titles, lines } = columns_text(swapctl_columns(unit), rows);
  return [titles, ...lines].map((line) => `${line.trimEnd()}\n`).join('');
}
/** The line of `swapctl -s`. */
export function swapctl_sum_text(areas: readonly SwapInfo[], { bytes, name }: SwapUnit): string {
  if (areas.length === 0) return NONE;
  const all = sums(areas);
  const blocks = (n: number): string => `${Math.floor(n / bytes)} ${name}`;
  const [size, used, free] = [blocks(all.size), blocks(all.used), blocks(all.free)];
  return `total: ${size} allocated, ${used} used, ${free} available\n`;
}
