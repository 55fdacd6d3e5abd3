/*
 * known: a program whose heap is known exactly, to be recorded with heaptrack.
 *
 * Every request and release goes through took() and gave(), which count; the
 * last thing it does is to print what is true of it as JSON.  It provokes what
 * a reader has to cope with: C and C++ ways of asking, an inlined caller, a
 * request made deep inside a library (strdup), size 0, reallocs that grow and
 * shrink, blocks of one size and site released in any order, and leaks.
 *
 *   g++ -O1 -g -o known known.cpp
 *   heaptrack -o known.heaptrack ./known | grep '^{' > known.json
 *   heaptrack --raw -o known ./known                        # known.raw.heaptrack.zst
 *
 * The C++ library gets one block of its own (72704 bytes) before main() and
 * gives it back at the end; it is not in the JSON.
 */
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <unistd.h>

static struct {
  unsigned long acquisitions, releases, bytes, live_bytes, live_blocks;
  unsigned long peak_bytes, peak_blocks, zero_size;
} now;

static void took(size_t size) {
  now.acquisitions++;
  now.zero_size += size == 0;
  now.bytes += size;
  now.live_bytes += size;
  now.live_blocks++;
  if (now.live_bytes > now.peak_bytes) now.peak_bytes = now.live_bytes;
  if (now.live_blocks > now.peak_blocks) now.peak_blocks = now.live_blocks;
}
static void gave(size_t size) {
  now.releases++;
  now.live_bytes -= size;
  now.live_blocks--;
}

struct Node {
  Node *next;
  char body[40];
};

namespace shapes {
template <typename T> struct Tree {
  T *__attribute__((noinline)) grow(int n) {
    T *t = new T[n];
    took(n * sizeof(T));
    return t;
  }
};
} // namespace shapes

static inline __attribute__((always_inline)) void *inlined(size_t size) {
  void *p = malloc(size);
  took(size);
  return p;
}

static void __attribute__((noinline)) chain() {
  Node *kept[50];
  for (int i = 0; i < 50; i++) {
    kept[i] = (Node *)inlined(sizeof(Node));
    memset(kept[i], i, sizeof(Node));
  }
  /* Oldest first, then every third stays for ever. */
  for (int i = 0; i < 50; i++) {
    if (i % 3 == 0) continue;
    free(kept[i]);
    gave(sizeof(Node));
  }
}

static void __attribute__((noinline)) resize() {
  size_t size = 9 * 7;
  char *p = (char *)calloc(9, 7);
  took(size);
  const size_t sizes[] = {1000, 200000, 300, 5000};
  for (size_t next : sizes) {
    p = (char *)realloc(p, next);
    gave(size);
    took(next);
    size = next;
  }
  free(p);
  gave(size);
}

static void __attribute__((noinline)) odd() {
  void *aligned = nullptr;
  if (posix_memalign(&aligned, 256, 700) != 0) abort();
  took(700);
  void *volatile empty = malloc(0); /* volatile, or the compiler leaves both calls out */
  took(0);
  free(empty);
  gave(0);
  char *copy = strdup("inside the C library");
  took(21);
  copy[0] = 'I';
  free(aligned);
  gave(700);
}

int main() {
  shapes::Tree<int> ints;
  shapes::Tree<Node> nodes;
  int *a = ints.grow(100);
  Node *b = nodes.grow(10);
  chain();
  resize();
  odd();
  for (int round = 0; round < 2000; round++) {
    size_t size = 16 + round % 5 * 32;
    char *volatile p = new char[size];
    took(size);
    delete[] p;
    gave(size);
  }
  delete[] a;
  gave(100 * sizeof(int));
  b[0].next = b;
  char text[512];
  int n = snprintf(text, sizeof text,
                   "{\"acquisitions\":%lu,\"releases\":%lu,\"requested_bytes_total\":%lu,"
                   "\"peak_live_bytes\":%lu,\"peak_live_blocks\":%lu,\"zero_size\":%lu,"
                   "\"never_freed_blocks\":%lu,\"never_freed_bytes\":%lu}\n",
                   now.acquisitions, now.releases, now.bytes, now.peak_bytes, now.peak_blocks,
                   now.zero_size, now.live_blocks, now.live_bytes);
  return write(1, text, n) == n ? 0 : 1;
}
