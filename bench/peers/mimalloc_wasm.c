/*
 * mimalloc_wasm: mimalloc, compiled to WebAssembly from its own source, for callers in JavaScript.
 *
 * Built together with the library's src/static.c.  Its requests for memory go
 * to memory.grow; what else it asks of the system is WASI, which Node has.
 */
#include <mimalloc.h>

#define EXPORT(name) __attribute__((export_name(name)))

EXPORT("get") void *
get(size_t size)
{
	return (mi_malloc(size));
}

EXPORT("give") void
give(void *p)
{
	mi_free(p);
}

EXPORT("resize") void *
resize(void *p, size_t size)
{
	return (mi_realloc(p, size));
}
