/*
 * kern_stackprof: what the samples say, by stack.
 *
 *      stack_leaks()       for people: what is in use, by who asked, whose it is and since when
 *      kern.stackprof      for programs: the same and what was asked for in all, as bytes
 *
 * The stream, all numbers little-endian:
 *
 *      header    u32 version 1, u32 records, u32 bytes of the header (32), u32 0,
 *                u64 vm.stack.interval, u64 time, ms since the epoch
 *      record    u32 bytes of the record, a multiple of 8; u32 number of the stack, 0: not known;
 *                u32 frames; u32 bytes of the text; u64 bytes in use; u64 objects in use;
 *                u64 bytes in all; u64 objects in all; u64 samples in use; u64 when the oldest of
 *                them was asked for, ms since the epoch, 0: there is none;
 *                the text: a line for each frame, innermost first, then zeros
 *
 * Bytes and objects are what the samples stand for (kern_stack_sample.ts).  A reader goes by the
 * length of header and record, so that later versions may have more in them.
 */
import { now_ms } from '../machine/clock.ts';
import { sbuf_bcat, sbuf_report } from '../machine/sbuf.ts';
import { get64 } from '../machine/struct.ts';
import { type SysctlHandler, sysctl_get } from '../machine/sysctl_decl.ts';
import { SK_TYPE, stack, type stack_t } from '../h/stack.ts';
import type { zone_t } from '../h/uma.ts';
import { uma, uma_each_zone, uma_root, zone_name } from '../uma/uma_int.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { stack_depot_list, stack_depot_text } from './kern_stack.ts';
import { stack_interval } from './kern_stack_vars.ts';
import { malloc_type_name_of } from './kern_malloc_type.ts';
import { type Sample, samples_list } from './kern_stack_sample.ts';

/** What the requests of one stack have in use. */
export interface StackLeak {
  /** Number of the stack, 0: not known. */
  readonly stack: number;
  /** Bytes and objects that the samples stand for. */
  bytes: number;
  objects: number;
  samples: number;
  /** When the oldest and the newest of them was asked for, ms since the epoch. */
  oldest: number;
  newest: number;
  /** Types and zones, with their bytes, the largest first. */
  owners: [name: string, bytes: number][];
}
/** What is in use for `age_ms` at least, by stack, most bytes first. Takes locks. */
export function stack_leaks(age_ms = 0): StackLeak[] {
  return leaks_of(samples_list(), now_ms() - age_ms, zone_names());
}
/** The same of samples that were made until `until`; `zones`: names of those that there are. */
export function leaks_of(
  samples: readonly Sample[],
  until: number,
  zones: ReadonlyMap<number, string>,
): StackLeak[] {
  const rows = new Map<number, StackLeak & { of: Map<string, number> }>();
  for (const s of samples) {
    if (s.time > until) continue;
    const bytes = s.objects * s.size;
    const name =
      s.kind === SK_TYPE
        ? `type '${malloc_type_name_of(s.owner)}'`
        : `zone '${zones.get(s.owner) ?? '?'}'`;
    let row = rows.get(s.stack);
    if (row === undefined) {
      const first = { oldest: s.time, newest: s.time, owners: [], of: new Map() };
      row = { stack: s.stack, bytes: 0, objects: 0, samples: 0, ...first };
      rows.set(s.stack, row);
    }
    row.bytes += bytes;
    row.objects += s.objects;
    row.samples++;
    row.oldest = Math.min(row.oldest, s.time);
    row.newest = Math.max(row.newest, s.time);
    row.of.set(name, (row.of.get(name) ?? 0) + bytes);
  }
  const all = [...rows.values()].map(({ of, ...row }) => ({
    ...row,
    owners: [...of].sort((a, b) => b[1] - a[1]),
  }));
  return all.sort((a, b) => b.bytes - a.bytes);
}
/** The names of all zones by their records. Takes the UMA lock. */
function zone_names(): Map<number, string> {
  const names = new Map<zone_t, string>();
  mtx_lock(uma_root.lock, uma());
  uma_each_zone((z) => names.set(z, zone_name(z)));
  mtx_unlock(uma_root.lock, uma());
  return names;
}

// --- the stream --------------------------------------------------------------------------------

const VERSION = 1;
const HEADER_BYTES = 32;
const RECORD_BYTES = 64;
const encoder = new TextEncoder();
/** Numbers of 64 bits, one behind the other. */
function put64(v: DataView, at: number, ...values: number[]): void {
  for (const [i, n] of values.entries()) v.setBigUint64(at + i * 8, BigInt(Math.round(n)), true);
}
function put32(v: DataView, at: number, ...values: number[]): void {
  for (const [i, n] of values.entries()) v.setUint32(at + i * 4, n, true);
}
function header(records: number): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES);
  const v = new DataView(bytes.buffer);
  put32(v, 0, VERSION, records, HEADER_BYTES, 0);
  put64(v, 16, sysctl_get(stack_interval), now_ms());
  return bytes;
}
function record(id: number, live: StackLeak | undefined): Uint8Array {
  const lines = stack_depot_text(id);
  const text = encoder.encode(lines.join('\n'));
  const length = RECORD_BYTES + Math.ceil(text.length / 8) * 8;
  const bytes = new Uint8Array(length);
  const v = new DataView(bytes.buffer);
  const [in_bytes, in_objects] =
    id === 0
      ? [live?.bytes ?? 0, live?.objects ?? 0] // of what is not known nothing is summed up
      : [get64(stack.total_bytes, id as stack_t), get64(stack.total_objects, id as stack_t)];
  put32(v, 0, length, id, lines.length, text.length);
  put64(v, 16, live?.bytes ?? 0, live?.objects ?? 0, in_bytes, in_objects);
  put64(v, 48, live?.samples ?? 0, live?.oldest ?? 0);
  bytes.set(text, RECORD_BYTES);
  return bytes;
}
/** The handler of kern.stackprof. */
export const stackprof_report: SysctlHandler = (req) => {
  const live = new Map(stack_leaks().map((row) => [row.stack, row]));
  const used = stack_depot_list().filter((id) => get64(stack.total_objects, id as stack_t) > 0);
  const ids = live.has(0) ? [0, ...used] : used;
  return sbuf_report(req, (s) => {
    sbuf_bcat(s, header(ids.length));
    for (const id of ids) sbuf_bcat(s, record(id, live.get(id)));
  });
};
