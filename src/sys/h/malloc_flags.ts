/*
 * malloc flags (header): how a request for memory may behave.
 *
 * Exactly one of M_NOWAIT and M_WAITOK is given.  UMA, malloc and the clients
 * share them.  When memory is short a request does
 *
 *      M_WAITOK      reclaims, waits for CPUs to hand their caches over, sleeps
 *      M_NOWAIT      reclaims what this CPU and parked ones cache, asks the others
 *                    and looks a bounded number of times whether they answered
 *      M_DRAIN       waits for those answers, and for nothing else
 *      M_NORECLAIM   only takes new pages: it touches no cache, reaps nobody
 *      M_NOVM        not even that
 *
 * A caller that holds a lock gives M_NOWAIT | M_NORECLAIM: to reclaim, and to settle
 * a dead thread, may take any lock of the kernel.
 */
/** Never sleep for memory, nor for other CPUs; may return NULL. */
export const M_NOWAIT = 0x0001;
/** May sleep. Fails only where waiting could never help. */
export const M_WAITOK = 0x0002;
/** The memory returned is zero. */
export const M_ZERO = 0x0100;
/** With M_NOWAIT: give other CPUs vm.drain_deadline to hand over what they cache. */
export const M_DRAIN = 0x1000;
/** With M_NOWAIT: take new pages, but reclaim none. For callers that hold locks. */
export const M_NORECLAIM = 0x0800;
/** Do not ask the page floor (internal). */
export const M_NOVM = 0x0200;
/** With M_NOWAIT: take of the reserve. */
export const M_USE_RESERVE = 0x0400;
/** A program asks: the block may have addresses beyond the memory, where memguard guards it. */
export const M_GUARDABLE = 0x2000;
