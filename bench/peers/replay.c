/*
 * replay: recorded heaps played on a native allocator.
 *
 *      replay NAME=FILE ...     answers "replay:NAME OPS" as peer.h tells
 *
 * FILE is an event file (event_file.ts).  It is read into memory first; the
 * time is that of looking at each event, calling the library, writing the first
 * word of a new or moved block and noting its address: the loop of
 * us_replay.ts.  Whole passes are played, as many as come nearest to OPS
 * events, and each ends with nothing alive.
 *
 * Build with -fno-builtin, as alloc.c.
 */
#define _GNU_SOURCE
#include <string.h>

#include "peer.h"

#define MAGIC 0x6b6d6576u
#define VERSION 1u
#define HEAD_WORDS 8
#define PLAY_WORDS 3
#define MAX_TRACES 16

#define OP_ALLOC 1
#define OP_FREE 2
#define OP_REALLOC 3
#define OP_ALIGNED 7
#define OP_MASK 0xff
#define ALIGN_SHIFT 24

static struct trace {
	const char *name;
	uint32_t *events;	/* PLAY_WORDS words each */
	uint32_t n;
	void **at;		/* address of each id */
} traces[MAX_TRACES];
static int ntraces;

static void __attribute__((noreturn))
bad(const char *file, const char *why)
{
	fprintf(stderr, "replay: %s: %s: run the bench again\n", file, why);
	exit(2);
}

/* The tables are got by the library under test too, but before any time is taken. */
static void *
table(size_t n, size_t size)
{
	void *p = calloc(n > 0 ? n : 1, size);

	if (p == NULL)
		out_of_memory();
	return (p);
}

static void
load(struct trace *t, char *arg)
{
	char *equals = strchr(arg, '=');
	uint32_t head[HEAD_WORDS];
	FILE *f;

	if (equals == NULL)
		bad(arg, "want NAME=FILE");
	*equals = '\0';
	t->name = arg;
	f = fopen(equals + 1, "rb");
	if (f == NULL)
		bad(equals + 1, "cannot open");
	if (fread(head, sizeof(head), 1, f) != 1 || head[0] != MAGIC || head[1] != VERSION)
		bad(equals + 1, "not an event file");
	t->n = head[2];
	t->at = table(head[3], sizeof(*t->at));
	t->events = table((size_t)t->n * PLAY_WORDS, sizeof(*t->events));
	if (fread(t->events, PLAY_WORDS * sizeof(*t->events), t->n, f) != t->n)
		bad(equals + 1, "shorter than its head says");
	fclose(f);
}

static void
play(const struct trace *t)
{
	void **at = t->at;

	for (uint32_t i = 0; i < t->n * PLAY_WORDS; i += PLAY_WORDS) {
		const uint32_t *e = &t->events[i];
		uint32_t op = e[0] & OP_MASK, id = e[1];
		size_t bytes = e[2];
		void *p;

		if (op == OP_FREE) {
			free(at[id]);
			continue;
		}
		if (op == OP_REALLOC)
			p = realloc(at[id], bytes > 0 ? bytes : 1);
		else if (op == OP_ALIGNED)
			p = aligned_alloc((size_t)1 << (e[0] >> ALIGN_SHIFT), bytes);
		else
			p = malloc(bytes > 0 ? bytes : 1);
		if (p == NULL)
			out_of_memory();
		*(uint32_t *)p = i;
		at[id] = p;
	}
}

static double
sample(const char *name, uint32_t ops)
{
	for (int i = 0; i < ntraces; i++) {
		const struct trace *t = &traces[i];
		uint32_t passes;
		double start;

		if (strncmp(name, "replay:", 7) != 0 || strcmp(name + 7, t->name) != 0)
			continue;
		passes = (ops + t->n / 2) / t->n;
		if (passes == 0)
			passes = 1;
		start = now_ns();
		for (uint32_t pass = 0; pass < passes; pass++)
			play(t);
		return ((now_ns() - start) / passes / t->n);
	}
	return (-1);
}

int
main(int argc, char **argv)
{
	if (argc < 2 || argc - 1 > MAX_TRACES) {
		fprintf(stderr, "usage: replay NAME=FILE ...\n");
		return (2);
	}
	for (ntraces = 0; ntraces < argc - 1; ntraces++)
		load(&traces[ntraces], argv[ntraces + 1]);
	return (serve(sample));
}
