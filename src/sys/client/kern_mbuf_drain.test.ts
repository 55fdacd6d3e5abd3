/*
 * Shown: an mbuf goes back whole while another CPU asks for this CPU's caches.
 * By what means: the request is set before each mbuf with a tag is freed.  Freeing
 * the tag takes malloc's slow path now and then, which hands the caches over; the
 * cache that had room a moment ago is gone then.  The walker of the zones, and the
 * bucket that stands for none, tell whether the mbuf went there all the same.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { boot, shutdown } from '../boot/whole.ts';
import { M_NOWAIT } from '../h/malloc_flags.ts';
import { M_PKTHDR, type mbuf_t, MT_DATA } from '../h/mbuf.ts';
import { uma_bucket } from '../h/uma.ts';
import { atomic_or } from '../machine/atomic.ts';
import { CPU_REQ_DRAIN, cpu_state_word, thr } from '../machine/cpu.ts';
import { uma_check } from '../uma/uma_check.ts';
import { uma, uma_root } from '../uma/uma_int.ts';
import { m_getcl, m_gethdr } from './kern_mbuf.ts';
import { m_freem } from './uipc_mbuf.ts';
import { m_tag_get, m_tag_prepend } from './uipc_mbuf_tag.ts';

const MBUFS = 2000;

test('a cache that is handed over while the tags go takes no mbuf', () => {
  boot({ memory: '32M', cpus: 2 });
  try {
    const get: (() => mbuf_t)[] = [
      () => m_gethdr(M_NOWAIT, MT_DATA),
      () => m_getcl(M_NOWAIT, MT_DATA, M_PKTHDR),
    ];
    for (const one of get) {
      const all = Array.from({ length: MBUFS }, () => {
        const m = one();
        m_tag_prepend(m, m_tag_get(1, 8, M_NOWAIT));
        return m;
      });
      for (const m of all) {
        atomic_or(cpu_state_word(thr.cpu), CPU_REQ_DRAIN);
        m_freem(m);
        assert.equal(uma_bucket.cnt[uma_root.null_bucket[uma()]], 0, 'the bucket that is none');
      }
      uma_check();
    }
  } finally {
    shutdown();
  }
});
