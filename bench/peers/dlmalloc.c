/*
 * dlmalloc: the C library's allocator, compiled to WebAssembly for callers in JavaScript.
 *
 * The library is wasi-libc, whose malloc is dlmalloc.  Built plainly it serves
 * one thread.  Built with -DSHARED it serves several over a shared memory, all
 * calls behind one lock: that is how dlmalloc is made thread-safe everywhere.
 * The lock is a futex: 0 free, 1 taken, 2 taken and somebody sleeps on it.
 */
#include <stdlib.h>

#define EXPORT(name) __attribute__((export_name(name)))

#ifdef SHARED
/* Looks before sleeping: only a lock whose holder lost its CPU is slept on. */
#define SPINS 10000

static _Alignas(128) int lock;

static int
cas(int from, int to)
{
	__atomic_compare_exchange_n(&lock, &from, to, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
	return (from);
}

static void __attribute__((noinline))
enter_slowly(void)
{
	for (int i = 0; i < SPINS; i++)
		if (__atomic_load_n(&lock, __ATOMIC_RELAXED) == 0 && cas(0, 1) == 0)
			return;
	while (__atomic_exchange_n(&lock, 2, __ATOMIC_ACQUIRE) != 0)
		__builtin_wasm_memory_atomic_wait32(&lock, 2, -1);
}

static void
enter(void)
{
	if (cas(0, 1) != 0)
		enter_slowly();
}

static void
leave(void)
{
	if (__atomic_exchange_n(&lock, 0, __ATOMIC_RELEASE) == 2)
		__builtin_wasm_memory_atomic_notify(&lock, 1);
}
#else
#define enter()
#define leave()
#endif

EXPORT("get") void *
get(size_t size)
{
	void *p;

	enter();
	p = malloc(size);
	leave();
	return (p);
}

EXPORT("give") void
give(void *p)
{
	enter();
	free(p);
	leave();
}

EXPORT("resize") void *
resize(void *p, size_t size)
{
	void *q;

	enter();
	q = realloc(p, size);
	leave();
	return (q);
}
