/*
 * vm: the virtual memory of the system that the bench runs on, by the calls that programs use.
 *
 * The patterns, their sizes and their order are those of us_vm.ts.  An operation is the first
 * write to a page, a fork up to its return in the parent, an mprotect of one page, an mlock and
 * munlock of 1000, or an mmap of four pages that are written to and unmapped (what kmem_alloc and
 * kmem_free do there).  The answer is the shortest batch of a sample.  Pages are small ones, as
 * ours are.
 *
 *      zero-fill-pre-zeroed    as zero-fill-ascending: the system zeroes when a page is wanted
 *      copy-on-write           a child writes, its parent waits
 *      fork-10000              the child waits until the parent has looked at the clock
 */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "peer.h"

#define REGION_PAGES 20000
#define ENTRIES 10000
#define SPLITS 5000
#define LOCKED 1000
#define BATCH 50
#define KERNEL_PAGES 4
#define LONG 64
#define PAGE 4096UL
#define NEVER 1e300

static int order[ENTRIES];

static void
failed(const char *call)
{
	perror(call);
	exit(1);
}

static char *
reserve(size_t pages, int prot)
{
	char *p = mmap(NULL, pages * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		failed("mmap");
	madvise(p, pages * PAGE, MADV_NOHUGEPAGE);
	return (p);
}

static char *
region(void)
{
	return (reserve(REGION_PAGES, PROT_READ | PROT_WRITE));
}

/* Every second page may be used: so many mappings, and what lies between. */
static char *
entries(void)
{
	char *p = reserve(2 * ENTRIES, PROT_NONE);

	for (size_t i = 0; i < ENTRIES; i++)
		if (mprotect(p + 2 * i * PAGE, PAGE, PROT_READ | PROT_WRITE) != 0)
			failed("mprotect");
	return (p);
}

static void
unmap(char *p, size_t pages)
{
	if (munmap(p, pages * PAGE) != 0)
		failed("munmap");
}

static void
shorter(double *best, double ns)
{
	if (ns < *best)
		*best = ns;
}

/* First writes to n pages, `stride` pages apart, in `turn` if there is one. */
static double
touches(char *p, int n, size_t stride, const int *turn)
{
	double best = NEVER;

	for (int i = 0; i < n; i += BATCH) {
		double start = now_ns();

		for (int j = i; j < i + BATCH; j++)
			p[stride * (size_t)(turn != NULL ? turn[j] : j) * PAGE] = 1;
		shorter(&best, (now_ns() - start) / BATCH);
	}
	return (best);
}

static double
zero_fill(uint32_t ops)
{
	double best = NEVER;

	for (int64_t left = ops; left > 0; left -= REGION_PAGES) {
		char *p = region();

		shorter(&best, touches(p, REGION_PAGES, 1, NULL));
		unmap(p, REGION_PAGES);
	}
	return (best);
}

static double
zero_fill_random(uint32_t ops)
{
	double best = NEVER;

	for (int64_t left = ops; left > 0; left -= ENTRIES) {
		char *p = entries();

		shorter(&best, touches(p, ENTRIES, 2, order));
		unmap(p, 2 * ENTRIES);
	}
	return (best);
}

/* A child's answer to its parent. */
static double
asked_of_child(char *p, int n, size_t stride)
{
	double best = NEVER;
	int fd[2];
	pid_t child;

	if (pipe(fd) != 0 || (child = fork()) < 0)
		failed("fork");
	if (child == 0) {
		best = touches(p, n, stride, NULL);
		_exit(write(fd[1], &best, sizeof(best)) == sizeof(best) ? 0 : 1);
	}
	close(fd[1]);
	if (read(fd[0], &best, sizeof(best)) != sizeof(best))
		failed("read");
	close(fd[0]);
	waitpid(child, NULL, 0);
	return (best);
}

static double
copy_on_write(uint32_t ops, char *p, int n, size_t stride)
{
	double best = NEVER;

	touches(p, n, stride, NULL);
	for (int64_t left = ops; left > 0; left -= n)
		shorter(&best, asked_of_child(p, n, stride));
	unmap(p, (size_t)n * stride);
	return (best);
}

static double
copy_on_write_one(uint32_t ops)
{
	return (copy_on_write(ops, region(), REGION_PAGES, 1));
}

static double
copy_on_write_many(uint32_t ops)
{
	return (copy_on_write(ops, entries(), ENTRIES, 2));
}

static double
fork_many(uint32_t ops)
{
	double best = NEVER;
	char *p = entries();

	for (int64_t left = ops; left > 0; left -= LONG) {
		int fd[2];
		double start;
		pid_t child;

		if (pipe(fd) != 0)
			failed("pipe");
		touches(p, ENTRIES, 2, NULL);
		start = now_ns();
		if ((child = fork()) < 0)
			failed("fork");
		if (child == 0) {
			char c;

			close(fd[1]);
			_exit(read(fd[0], &c, 1) == 0 ? 0 : 1);
		}
		shorter(&best, now_ns() - start);
		close(fd[0]);
		close(fd[1]);
		waitpid(child, NULL, 0);
	}
	unmap(p, 2 * ENTRIES);
	return (best);
}

/* Four pages are mapped, written to and unmapped. */
static double
pages_pair(uint32_t ops)
{
	double best = NEVER;

	for (int64_t left = ops; left > 0; left -= BATCH) {
		double start = now_ns();

		for (int j = 0; j < BATCH; j++) {
			char *p = mmap(NULL, KERNEL_PAGES * PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

			if (p == MAP_FAILED)
				failed("mmap");
			for (int k = 0; k < KERNEL_PAGES; k++)
				p[k * PAGE] = 1;
			unmap(p, KERNEL_PAGES);
		}
		shorter(&best, (now_ns() - start) / BATCH);
	}
	return (best);
}

static double
protect(uint32_t ops)
{
	double best = NEVER;

	for (int64_t left = ops; left > 0; left -= SPLITS) {
		char *p = region();

		touches(p, REGION_PAGES, 1, NULL);
		for (size_t i = 0; i < SPLITS; i += BATCH) {
			double start = now_ns();

			for (size_t j = i; j < i + BATCH; j++)
				if (mprotect(p + (2 + 3 * j) * PAGE, PAGE, PROT_READ) != 0)
					failed("mprotect");
			shorter(&best, (now_ns() - start) / BATCH);
		}
		unmap(p, REGION_PAGES);
	}
	return (best);
}

static double
lock(uint32_t ops)
{
	double best = NEVER;
	char *p = region();

	touches(p, LOCKED, 1, NULL);
	for (int64_t left = ops; left > 0; left--) {
		double start = now_ns();

		if (mlock(p, LOCKED * PAGE) != 0)
			failed("mlock");
		if (munlock(p, LOCKED * PAGE) != 0)
			failed("munlock");
		shorter(&best, now_ns() - start);
	}
	unmap(p, REGION_PAGES);
	return (best);
}

static const struct pattern {
	const char *name;
	double (*run)(uint32_t);
} patterns[] = {
	{ "zero-fill-ascending", zero_fill },
	{ "zero-fill-random", zero_fill_random },
	{ "zero-fill-pre-zeroed", zero_fill },
	{ "copy-on-write", copy_on_write_one },
	{ "copy-on-write-10000", copy_on_write_many },
	{ "fork-10000", fork_many },
	{ "protect-split", protect },
	{ "lock-1000", lock },
	{ "kernel-pages", pages_pair },
};

/* ns per operation, or a negative number when there is no such pattern. */
static double
sample(const char *name, uint32_t ops)
{
	for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++)
		if (strcmp(patterns[i].name, name) == 0)
			return (patterns[i].run(ops));
	return (-1);
}

int
main(void)
{
	uint32_t x = 1;

	for (int i = 0; i < ENTRIES; i++)
		order[i] = i;
	for (int i = ENTRIES - 1; i > 0; i--) {
		int j, t;

		x = x * 1664525 + 1013904223;
		j = (int)((x >> 8) % (uint32_t)(i + 1));
		t = order[i];
		order[i] = order[j];
		order[j] = t;
	}
	return (serve(sample));
}
