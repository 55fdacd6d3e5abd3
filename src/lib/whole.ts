/*
 * whole: the parts of the façade that `kmem` has and `kmem/core` has not (parts.ts says why).
 *
 * This file is imported for its effect, by index.ts alone.  A part that gets a line here is
 * one that a program may do without; what all programs want is imported where it is used.
 */
import { mbuf_sites } from '../sys/client/mbuf_leak.ts';
import '../sys/boot/whole.ts';
import { spaces_check } from '../sys/client/kern_space_check.ts';
import { Chain } from './chain.ts';
import { contiguous } from './contiguous.ts';
import { dump } from './dump.ts';
import { blockWindow, kva } from './kva.ts';
import { listen } from './listen.ts';
import { metrics, observeWith, prometheusText, wantsSysctls } from './metrics.ts';
import { partsAre } from './parts.ts';
import { Space } from './space.ts';
import { swapoff, swapon, swaps } from './swap.ts';
import { hearUncaught } from './uncaught.ts';
import { netstatText, procstatText, stats, vmstatText } from './stats.ts';

partsAre({
  chain: (ctx, source, options) => Chain.make(ctx, source, options),
  adoptChain: (ctx, released) => Chain.adopt(ctx, released),
  chainSites: mbuf_sites,
  contiguous,
  checkSpaces: spaces_check,
  space: (ctx, name, options) => Space.obtain(ctx, name, options),
  stats,
  vmstat: vmstatText,
  netstat: netstatText,
  procstat: procstatText,
  collect: (options) => {
    const all = wantsSysctls('collect', options);
    return () => prometheusText(all);
  },
  metrics: (options) => {
    const all = wantsSysctls('metrics', options);
    return () => metrics(all);
  },
  observe: (ctx, api, options) => observeWith(ctx, api, wantsSysctls('observe', options)),
  listen,
  swapon,
  swapoff,
  swaps,
  dump,
  hearUncaught,
  kva: () => kva,
  window: blockWindow,
});
