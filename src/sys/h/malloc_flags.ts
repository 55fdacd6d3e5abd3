/*
 * malloc flags (header): how a request for memory may behave.
 *
 * Exactly one of M_NOWAIT and M_WAITOK is given.  UMA, malloc and the clients
 * share them.
 */
/** Never sleep; may return NULL. */
export const M_NOWAIT = 0x0001;
/** May sleep. Fails only where waiting could never help. */
export const M_WAITOK = 0x0002;
/** The memory returned is zero. */
export const M_ZERO = 0x0100;
/** Do not ask the page floor (internal). */
export const M_NOVM = 0x0200;
/** With M_NOWAIT: take of the reserve. */
export const M_USE_RESERVE = 0x0400;
