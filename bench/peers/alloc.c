/*
 * alloc: the measuring loops of the native peers.
 *
 * One program, linked once against each library whose malloc is measured, so
 * that every library runs exactly the same machine code around its own calls.
 * The loops are those of us_loops.ts, statement for statement: the same sizes,
 * the same generator, the same order of calls.
 *
 *      a    64 bytes, allocated and freed at once
 *      b    64 allocations, then 64 frees, last first
 *      c    1000 live objects, the oldest replaced
 *      d    10 000 live objects of 16..2048 bytes, a random one replaced
 *      a2   pattern a in two threads at once; the slower thread counts
 *      b2   pattern b in two threads at once; the slower thread counts
 *      x    one thread allocates, another frees; one flag for each object
 *      xb   the same, handed over 64 at a time
 *
 * One operation is one malloc and one free; the first word of each object is
 * written.  Filling and emptying the live sets of c and d is outside the time.
 *
 *      alloc PATTERN OPS [SAMPLES]   prints ns per operation, one line a sample
 *      alloc                         says "ready FILE" (the file malloc comes
 *                                    from), then answers each line
 *                                    "PATTERN OPS" with ns per operation
 *
 * The compiler may drop a malloc whose block is only freed again.  It must not
 * here: build with -fno-builtin, which makes both of them ordinary calls.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include "peer.h"

#define SMALL_BYTES 64
#define BATCH 64
#define FIFO_LIVE 1000
#define RANDOM_LIVE 10000
#define RING_SLOTS 1024
#define RING_BATCHES 16
#define SPINS_BEFORE_YIELD 4096

static inline void *
get(size_t size, uint32_t mark)
{
	void *p = malloc(size);

	if (p == NULL)
		out_of_memory();
	*(uint32_t *)p = mark;
	return (p);
}

static inline uint32_t
xorshift(uint32_t x)
{
	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return (x);
}

/* The low half of a random word gives a size from 16 to 2048, the high half a victim. */
static inline size_t
random_size(uint32_t x)
{
	return (16 + (((x & 0xffff) * 2033) >> 16));
}

static inline uint32_t
random_victim(uint32_t x)
{
	return (((x >> 16) * RANDOM_LIVE) >> 16);
}

/* ---- one thread: each returns the nanoseconds the operations took ---- */

static double
pattern_a(uint32_t ops)
{
	double start = now_ns();

	for (uint32_t i = 0; i < ops; i++)
		free(get(SMALL_BYTES, i));
	return (now_ns() - start);
}

static double
pattern_b(uint32_t ops)
{
	void *held[BATCH];
	double start = now_ns();

	for (uint32_t done = 0; done < ops; done += BATCH) {
		for (int i = 0; i < BATCH; i++)
			held[i] = get(SMALL_BYTES, (uint32_t)i);
		for (int i = BATCH - 1; i >= 0; i--)
			free(held[i]);
	}
	return (now_ns() - start);
}

static double
pattern_c(uint32_t ops)
{
	static void *live[FIFO_LIVE];
	uint32_t at = 0;
	double start, spent;

	for (int i = 0; i < FIFO_LIVE; i++)
		live[i] = get(SMALL_BYTES, (uint32_t)i);
	start = now_ns();
	for (uint32_t i = 0; i < ops; i++) {
		free(live[at]);
		live[at] = get(SMALL_BYTES, i);
		if (++at == FIFO_LIVE)
			at = 0;
	}
	spent = now_ns() - start;
	for (int i = 0; i < FIFO_LIVE; i++)
		free(live[i]);
	return (spent);
}

static double
pattern_d(uint32_t ops)
{
	static void *live[RANDOM_LIVE];
	uint32_t x = 0x2545f491;
	double start, spent;

	for (int i = 0; i < RANDOM_LIVE; i++) {
		x = xorshift(x);
		live[i] = get(random_size(x), (uint32_t)i);
	}
	start = now_ns();
	for (uint32_t i = 0; i < ops; i++) {
		uint32_t at;

		x = xorshift(x);
		at = random_victim(x);
		free(live[at]);
		live[at] = get(random_size(x), i);
	}
	spent = now_ns() - start;
	for (int i = 0; i < RANDOM_LIVE; i++)
		free(live[i]);
	return (spent);
}

/* ---- two threads ---- */

static _Alignas(128) _Atomic int arrived;
static _Alignas(128) _Atomic(void *) ring[RING_SLOTS];
static _Alignas(128) void *batch[RING_BATCHES][BATCH];
static _Alignas(128) struct {
	_Atomic int full;
	char own_lines[124];
} batch_flag[RING_BATCHES];

static inline void
spin(uint32_t *spins)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#endif
	if (++*spins >= SPINS_BEFORE_YIELD) {
		*spins = 0;
		sched_yield();
	}
}

/* Both threads leave together, so that neither is timed while alone. */
static void
meet(void)
{
	uint32_t spins = 0;

	atomic_fetch_add(&arrived, 1);
	while (atomic_load(&arrived) < 2)
		spin(&spins);
}

struct job {
	double (*fn)(uint32_t);
	uint32_t ops;
	double spent;
};

static void *
run_job(void *arg)
{
	struct job *job = arg;

	meet();
	job->spent = job->fn(job->ops);
	return (NULL);
}

/* Runs one function here and one in a new thread; returns the longer of the two times. */
static double
together(double (*here)(uint32_t), double (*there)(uint32_t), uint32_t ops)
{
	struct job mine = { here, ops, 0 }, theirs = { there, ops, 0 };
	pthread_t thread;

	atomic_store(&arrived, 0);
	if (pthread_create(&thread, NULL, run_job, &theirs) != 0) {
		fprintf(stderr, "alloc: cannot start a second thread\n");
		exit(1);
	}
	run_job(&mine);
	pthread_join(thread, NULL);
	return (mine.spent > theirs.spent ? mine.spent : theirs.spent);
}

static double
produce(uint32_t ops)
{
	uint32_t spins = 0;
	double start = now_ns();

	for (uint32_t i = 0; i < ops; i++) {
		_Atomic(void *) *slot = &ring[i % RING_SLOTS];
		void *p = get(SMALL_BYTES, i);

		while (atomic_load_explicit(slot, memory_order_acquire) != NULL)
			spin(&spins);
		atomic_store_explicit(slot, p, memory_order_release);
	}
	return (now_ns() - start);
}

static double
consume(uint32_t ops)
{
	uint32_t spins = 0;
	double start = now_ns();

	for (uint32_t i = 0; i < ops; i++) {
		_Atomic(void *) *slot = &ring[i % RING_SLOTS];
		void *p;

		while ((p = atomic_load_explicit(slot, memory_order_acquire)) == NULL)
			spin(&spins);
		atomic_store_explicit(slot, NULL, memory_order_release);
		free(p);
	}
	return (now_ns() - start);
}

static double
produce_batches(uint32_t ops)
{
	uint32_t spins = 0, b = 0;
	double start = now_ns();

	for (uint32_t done = 0; done < ops; done += BATCH) {
		while (atomic_load_explicit(&batch_flag[b].full, memory_order_acquire))
			spin(&spins);
		for (int i = 0; i < BATCH; i++)
			batch[b][i] = get(SMALL_BYTES, (uint32_t)i);
		atomic_store_explicit(&batch_flag[b].full, 1, memory_order_release);
		b = (b + 1) % RING_BATCHES;
	}
	return (now_ns() - start);
}

static double
consume_batches(uint32_t ops)
{
	uint32_t spins = 0, b = 0;
	double start = now_ns();

	for (uint32_t done = 0; done < ops; done += BATCH) {
		while (!atomic_load_explicit(&batch_flag[b].full, memory_order_acquire))
			spin(&spins);
		for (int i = 0; i < BATCH; i++)
			free(batch[b][i]);
		atomic_store_explicit(&batch_flag[b].full, 0, memory_order_release);
		b = (b + 1) % RING_BATCHES;
	}
	return (now_ns() - start);
}

/* ---- the two ways to be asked ---- */

static const struct pattern {
	const char *name;
	double (*here)(uint32_t);
	double (*there)(uint32_t);	/* NULL: one thread */
} patterns[] = {
	{ "a", pattern_a, NULL },
	{ "b", pattern_b, NULL },
	{ "c", pattern_c, NULL },
	{ "d", pattern_d, NULL },
	{ "a2", pattern_a, pattern_a },
	{ "b2", pattern_b, pattern_b },
	{ "x", produce, consume },
	{ "xb", produce_batches, consume_batches },
};

/* ns per operation, or a negative number when there is no such pattern. */
static double
sample(const char *name, uint32_t ops)
{
	/* Whole batches only, so that the operations done are the operations counted. */
	ops = (ops + BATCH - 1) / BATCH * BATCH;
	for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
		const struct pattern *p = &patterns[i];

		if (strcmp(p->name, name) != 0)
			continue;
		if (p->there == NULL)
			return (p->here(ops) / ops);
		return (together(p->here, p->there, ops) / ops);
	}
	return (-1);
}

int
main(int argc, char **argv)
{
	long ops, samples;

	if (argc == 1)
		return (serve(sample));
	ops = argc > 2 ? strtol(argv[2], NULL, 10) : 0;
	samples = argc > 3 ? strtol(argv[3], NULL, 10) : 1;
	if (argc > 4 || ops < 1 || ops > 2000000000L || samples < 1 || sample(argv[1], BATCH) < 0) {
		fprintf(stderr, "usage: alloc [a|b|c|d|a2|b2|x|xb OPS [SAMPLES]]\n");
		return (2);
	}
	while (samples-- > 0)
		printf("%.4f\n", sample(argv[1], (uint32_t)ops));
	return (0);
}
