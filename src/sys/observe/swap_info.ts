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
import { swap_area_free, swap_areas, swap_full } from '../object/swap_area.ts';
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

const WIDTH = 8;
const DEVICE = 11;
const HUNDRED = 100;
const right = (v: number | string): string => String(v).padStart(WIDTH);
/** The table of `swapctl -l`; `block` is the bytes of a block, `name` what these are called. */
export function swapctl_text(areas: readonly SwapInfo[], block: number, name: string): string {
  if (areas.length === 0) return 'no swap devices configured\n';
  const device = (a: SwapInfo): string => (a.path || 'memory').replace(/\p{C}/gu, '?');
  const width = Math.max(DEVICE, ...areas.map((a) => device(a).length));
  const blocks = (bytes: number): number => Math.floor(bytes / block);
  const column = Math.max(name.length, WIDTH);
  const row = (of: string, size: number, used: number, free: number, priority: string): string => {
    const capacity = size === 0 ? 0 : Math.round((used * HUNDRED) / size);
    const first = `${of.padEnd(width)} ${String(blocks(size)).padStart(column)}`;
    const rest = [right(blocks(used)), right(blocks(free)), `${`${capacity}%`.padStart(WIDTH)}`];
    return `${[first, ...rest].join(' ')}${priority === '' ? '' : ` ${right(priority)}`}\n`;
  };
  const titles = ['Used', 'Avail', 'Capacity', 'Priority'].map(right).join(' ');
  const total = (what: 'size' | 'used' | 'free'): number => areas.reduce((n, a) => n + a[what], 0);
  const last =
    areas.length > 1 ? row('Total', total('size'), total('used'), total('free'), '') : '';
  return (
    `${'Device'.padEnd(width)} ${name.padStart(column)} ${titles}\n` +
    areas.map((a) => row(device(a), a.size, a.used, a.free, String(a.priority))).join('') +
    last
  );
}
/** The line of `swapctl -s`. */
export function swapctl_sum_text(areas: readonly SwapInfo[], block: number, name: string): string {
  if (areas.length === 0) return 'no swap devices configured\n';
  const n = (what: 'size' | 'used' | 'free'): string =>
    `${Math.floor(areas.reduce((s, a) => s + a[what], 0) / block)} ${name}`;
  return `total: ${n('size')} allocated, ${n('used')} used, ${n('free')} available\n`;
}
