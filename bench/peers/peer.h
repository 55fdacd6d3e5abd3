/*
 * peer: what the native peers share: the clock, and how they answer the harness.
 *
 * The protocol is that of child.ts: "ready FILE" once, FILE being the file that
 * malloc comes from, then for each line "PATTERN OPS" the ns per operation or
 * "error: TEXT".  Included once by each program, after _GNU_SOURCE.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define MAX_OPS 2000000000u

/* ns per operation of one sample; negative: there is no such pattern. */
typedef double sample_fn(const char *name, uint32_t ops);

static double
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ((double)ts.tv_sec * 1e9 + (double)ts.tv_nsec);
}

static void __attribute__((noinline, cold, noreturn))
out_of_memory(void)
{
	fprintf(stderr, "bench: malloc returned NULL: give the machine more memory\n");
	exit(1);
}

static const char *
malloc_comes_from(void)
{
	Dl_info info;
	void *fn = dlsym(RTLD_DEFAULT, "malloc");

	if (fn == NULL || dladdr(fn, &info) == 0 || info.dli_fname == NULL)
		return ("unknown");
	return (info.dli_fname);
}

static int
serve(sample_fn *sample)
{
	char line[128], name[32];
	unsigned ops;

	printf("ready %s\n", malloc_comes_from());
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin) != NULL) {
		double ns = -1;

		if (sscanf(line, "%31s %u", name, &ops) == 2 && ops > 0 && ops <= MAX_OPS)
			ns = sample(name, ops);
		if (ns < 0)
			printf("error: want PATTERN OPS (1 to %u), got %s", MAX_OPS, line);
		else
			printf("%.4f\n", ns);
		fflush(stdout);
	}
	return (0);
}
