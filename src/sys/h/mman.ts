/*
 * mman (header): numbers of the system calls of address spaces, as <sys/mman.h> has them.
 *
 * What the kernel itself works with (VM_INHERIT_*, MADV_*) is in vm_map.ts; these are the
 * numbers that only callers from outside use.
 */

/* Protection: VM_PROT_*, and above that what it may become; 0 there: anything. */
export const PROT_MAX_SHIFT = 16;

/* mmap. */
export const MAP_SHARED = 0x0001;
export const MAP_PRIVATE = 0x0002;
/** There, in place of what is there. */
export const MAP_FIXED = 0x0010;
/** No effect. */
export const MAP_RENAME = 0x0020;
/** No effect. */
export const MAP_NORESERVE = 0x0040;
/** No effect. */
export const MAP_HASSEMAPHORE = 0x0200;
/** Grows down when it is used. */
export const MAP_STACK = 0x0400;
/** Is not written back before it has to be. */
export const MAP_NOSYNC = 0x0800;
export const MAP_ANON = 0x1000;
/** Nothing is there, nor may anything else be put there without MAP_FIXED. */
export const MAP_GUARD = 0x2000;
/** With MAP_FIXED: only if nothing is there. */
export const MAP_EXCL = 0x4000;
/** No part of dumps. */
export const MAP_NOCORE = 0x20000;
/** Translations to all pages that are there. */
export const MAP_PREFAULT_READ = 0x40000;
/** It ends below 2 GB. */
export const MAP_32BIT = 0x80000;
export const MAP_ALIGNMENT_SHIFT = 24;
/** An alignment that suits large pages, if there is such a place. */
export const MAP_ALIGNED_SUPER = 1 << MAP_ALIGNMENT_SHIFT;
/** Begins at a multiple of 2^n bytes. */
export function MAP_ALIGNED(n: number): number {
  return n << MAP_ALIGNMENT_SHIFT;
}

/* madvise, beside MADV_* of vm_map.ts. */
/** The process is not to be killed when memory is short. */
export const MADV_PROTECT = 10;

/* msync. */
/** What is to be written need not be kept yet. */
export const MS_ASYNC = 1;
/** Pages go once they are written. */
export const MS_INVALIDATE = 2;

/* mlockall. */
/** What is mapped now is locked. */
export const MCL_CURRENT = 1;
/** And what will be mapped. */
export const MCL_FUTURE = 2;

/* mincore: a byte for each page. */
export const MINCORE_INCORE = 0x01;
/** It was used, by this space. */
export const MINCORE_REFERENCED = 0x02;
/** It was written to, by this space. */
export const MINCORE_MODIFIED = 0x04;
/** It was used, by whomever. */
export const MINCORE_REFERENCED_OTHER = 0x08;
/** It was written to, by whomever. */
export const MINCORE_MODIFIED_OTHER = 0x10;
/** It is part of a superpage. */
export const MINCORE_SUPER = 0x20;
