/*
 * kern_mbstat: what netstat asks of mbufs besides their zones.
 *
 * kern.ipc.mbstat is a structure of 14 longs, little endian, as 64-bit kernels
 * lay it out.  Counts of mbufs and clusters stand in it for old tools only and
 * are 0: the zones have them (vm.zone_stats).  This kernel has no sendfile, so
 * that everything about its buffers is 0.
 */
import { counter_get } from '../machine/counter.ts';
import { CTLFLAG_RD, sysctl_int, sysctl_proc } from '../machine/sysctl_decl.ts';
import { MCLBYTES, MHLEN, MINCLSIZE, MLEN, MSIZE } from '../h/mbuf.ts';
import { mb_drains } from './kern_mbuf.ts';
import { m_mcfail, m_mpfail } from './uipc_mbuf.ts';

const MBSTAT_BYTES = 112;
/* Where each long lies; m_mbufs and m_mclusts, at 0 and 8, stay 0. */
const M_DRAIN = 16;
const M_MCFAIL = 24;
const M_MPFAIL = 32;
const SIZES = 40;

sysctl_proc(
  'kern.ipc.mbstat',
  { type: 'opaque', fmt: 'S,mbstat', help: 'Mbuf figures that no zone keeps, and sizes' },
  (req) => {
    const bytes = new Uint8Array(MBSTAT_BYTES);
    const v = new DataView(bytes.buffer);
    const put = (at: number, n: number): void => v.setBigInt64(at, BigInt(n), true);
    put(M_DRAIN, counter_get(mb_drains));
    put(M_MCFAIL, counter_get(m_mcfail));
    put(M_MPFAIL, counter_get(m_mpfail));
    for (const [i, n] of [MSIZE, MCLBYTES, MINCLSIZE, MLEN, MHLEN].entries()) put(SIZES + i * 8, n);
    return req.out(bytes);
  },
);

const none = (name: string, help: string): void => {
  sysctl_int(name, { value: 0, flags: CTLFLAG_RD, help });
};
none('kern.ipc.nsfbufs', 'Most sendfile buffers; this kernel has none');
none('kern.ipc.nsfbufsused', 'Sendfile buffers in use');
none('kern.ipc.nsfbufspeak', 'Most sendfile buffers ever in use');
