/*
 * Shows: a bounce buffer lies where its device reaches, in one piece; blocks that the device
 * reaches go by themselves, others by the buffer, in both directions; a channel has one buffer,
 * and one transfer by it, at a time; when there is no buffer to be had the console says so, with
 * M_WAITOK and with M_NOWAIT, and no page is lost.  With M_WAITOK pages of a space move for it.
 * By what means: blocks below and above 16 MiB of a machine of 32; low memory that is full of the
 * kernel's blocks, or of a space's pages.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { abandon, boot, shutdown } from '../boot/whole.ts';
import { EBUSY, EINVAL, ENOMEM } from '../machine/errno.ts';
import { kconsole } from '../machine/kconsole.ts';
import { mem } from '../machine/memory.ts';
import { elem } from '../machine/struct.ts';
import { isa_dma, isa_dma_root } from '../h/isa_dma.ts';
import { VM_ALLOC_NORMAL } from '../h/vm_page.ts';
import { fuword, suword } from '../map/vm_copy.ts';
import { vm_map_fixed } from '../map/vm_map_insert.ts';
import { ANON, map_at, maps_make } from '../map/vm_map.test.lib.ts';
import { space_make, spaces_end } from '../map/vm_space.test.lib.ts';
import { vm_page_alloc_run, vm_page_check, vm_page_wire } from '../page/vm_page.ts';
import { uma_check } from '../uma/uma_check.ts';
import {
  isa_dma_end,
  isa_dma_init,
  isa_dmadone,
  isa_dmarangecheck,
  isa_dmastart,
} from './isa_dma.ts';
import { contigmalloc } from './kern_contig.ts';
import { M_NOWAIT, M_WAITOK } from './kern_malloc.ts';
import { M_DEVBUF } from './kern_malloc_type.ts';

const MIB16 = 2 ** 24;
const { print } = kconsole;
let said: string[] = [];
beforeEach(() => {
  boot({ memory: '32M', cpus: 1, fresh: true, options: { INVARIANTS: true } });
  said = [];
  kconsole.print = (text) => void said.push(text);
});
afterEach(() => {
  kconsole.print = print;
  try {
    uma_check();
    vm_page_check();
    shutdown();
  } catch (e) {
    abandon();
    throw e;
  }
});
const buffer = (chan: number): number => isa_dma.buf[elem(isa_dma_root(), chan)];
/** A block of a driver, between two places. */
const block = (low: number, high: number): number => {
  const p = contigmalloc(8192, M_DEVBUF.t, M_WAITOK, low, high, 1, 0);
  assert.ok(p !== 0);
  mem.I32.fill(1, p, p + 2048);
  return p;
};
/** The kernel has all memory below 16 MiB. */
const low_full = (): void => {
  for (let n = 2048; n > 0; ) {
    const m = vm_page_alloc_run(n, VM_ALLOC_NORMAL, {
      low: 0,
      high: MIB16 / 4096,
      align: 1,
      boundary: 0,
    });
    if (m === 0) n >>= 1;
    else vm_page_wire(m, n);
  }
};

test('each channel has a buffer that its device reaches, in one piece', () => {
  for (const [chan, bytes, piece] of [
    [0, 65_536, 65_536],
    [3, 5000, 65_536],
    [5, 131_072, 131_072],
  ]) {
    assert.equal(isa_dma_init(chan, bytes, M_WAITOK), 0);
    const at = buffer(chan) * 4;
    assert.ok(at > 0 && at + bytes <= MIB16);
    assert.equal(Math.floor(at / piece), Math.floor((at + bytes - 1) / piece));
    assert.equal(isa_dmarangecheck(at / 4, bytes, chan), false);
    assert.equal(isa_dma_init(chan, 4096, M_WAITOK), EBUSY, 'it has one');
    assert.equal(isa_dma_end(chan), 0);
    assert.equal(buffer(chan), 0);
  }
  assert.deepEqual(
    [isa_dma_init(8, 4096, M_WAITOK), isa_dma_init(1, 0, M_WAITOK)],
    [EINVAL, EINVAL],
  );
  assert.equal(isa_dma_init(1, 65_537, M_WAITOK), EINVAL);
  assert.deepEqual(said, []);
});

test('what the device does not reach goes by the buffer, both ways', () => {
  assert.equal(isa_dma_init(2, 8192, M_NOWAIT), 0);
  const [low, high] = [block(0, MIB16), block(MIB16, 2 ** 33)];
  assert.equal(isa_dmastart(2, low, 4096, false), low, 'a page of it is in one piece');
  assert.equal(isa_dmastart(2, high, 8192, false), buffer(2), 'the device reads');
  assert.ok(mem.I32.subarray(buffer(2), buffer(2) + 2048).every((v) => v === 1));
  assert.equal(isa_dmastart(2, high, 8192, false), -EBUSY);
  assert.equal(isa_dma_end(2), EBUSY);
  mem.I32.fill(5, buffer(2), buffer(2) + 2048);
  assert.equal(isa_dmadone(2), 0);
  assert.equal(mem.I32[high], 1, 'it has only read');
  assert.equal(isa_dmastart(2, high, 8192, true), buffer(2), 'the device writes');
  mem.I32.fill(6, buffer(2), buffer(2) + 2048);
  assert.equal(isa_dmadone(2), 0);
  assert.ok(mem.I32.subarray(high, high + 2048).every((v) => v === 6));
  assert.equal(isa_dmadone(2), EINVAL, 'there is none');
  assert.equal(isa_dmastart(2, high, 8193, true), -EINVAL, 'more than the buffer has');
  assert.equal(isa_dma_end(2), 0);
  assert.equal(isa_dmastart(2, high, 4096, true), -EINVAL, 'it has none');
});

test('without a buffer the console says so, whether it might wait or not', () => {
  low_full();
  assert.equal(isa_dma_init(1, 65_536, M_NOWAIT), ENOMEM);
  assert.equal(isa_dma_init(6, 65_536, M_WAITOK), ENOMEM);
  assert.equal(said.length, 2);
  assert.match(said[0], /channel 1 has no buffer: no 65536 bytes .* below 16 MiB.*may not wait/);
  assert.match(said[1], /channel 6 has no buffer: no 65536 bytes .*128 KiB: .*cannot move/);
  assert.deepEqual([buffer(1), buffer(6)], [0, 0]);
});

test("a space's pages make room for it", () => {
  maps_make();
  assert.ok(space_make(0));
  const [first, n] = [4096, 4400]; // more than lie below 16 MiB
  const how = { ...ANON, protection: 3 };
  assert.equal(vm_map_fixed(map_at(0), first, first + n, how), 0);
  for (let i = 0; i < n; i++) assert.equal(suword(map_at(0), (first + i) * 4096, i + 1), 0);
  assert.equal(
    vm_page_alloc_run(16, VM_ALLOC_NORMAL, { low: 0, high: 4096, align: 16, boundary: 16 }),
    0,
  );
  assert.equal(isa_dma_init(1, 65_536, M_WAITOK), 0);
  mem.I32.fill(-1, buffer(1), buffer(1) + 16_384);
  for (let i = 0; i < n; i++) assert.equal(fuword(map_at(0), (first + i) * 4096), i + 1);
  assert.equal(isa_dma_end(1), 0);
  spaces_end();
});
