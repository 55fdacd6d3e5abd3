/*
 * isa_dma (header): the channels of the ISA bus, each with its bounce buffer (kmem/isa_dma.ts).
 */
import { boot_alloc, M, machine, ROOT_DMA } from '../machine/header.ts';
import { elem, type Ptr, struct, words } from '../machine/struct.ts';

export const DMA_CHANNELS = 8;

export type isa_dma_t = Ptr<'isa_dma'>;
/*
 * Locks: (a) atomic: who takes a channel has what is said of it
 *        (-) of the CPU that has the channel in work
 */
export const isa_dma = struct<isa_dma_t>('isa_dma')({
  user: words('a', 'tid of the CPU that has the channel in work, 0: nobody', DMA_CHANNELS),
  buf: words('-', 'its buffer, a word address; 0: none', DMA_CHANNELS),
  bytes: words('-', 'bytes of that', DMA_CHANNELS),
  block: words('-', 'of a transfer by the buffer: the block that it is for; 0: none', DMA_CHANNELS),
  moved: words('-', 'of that: bytes', DMA_CHANNELS),
  read: words('-', 'of that: 1 if the device fills the buffer', DMA_CHANNELS),
});
/** The channels of this machine. */
export function isa_dma_root(): isa_dma_t {
  return machine.roots[elem(M, ROOT_DMA)] as isa_dma_t;
}
/** Lays the channels out, while boot_alloc still works. */
export function isa_dma_boot(): void {
  const r = boot_alloc(isa_dma.sizeof, 'the channels of the ISA bus', 16) as isa_dma_t;
  machine.roots[elem(M, ROOT_DMA)] = r;
}
