/* What the two files of libweir-heapmap share. */
#ifndef WEIR_HEAPMAP_INNER_H
#define WEIR_HEAPMAP_INNER_H

#include "heapmap/heapmap.h"

#define PUBLIC __attribute__((visibility("default")))
#define unlikely(x) __builtin_expect(!!(x), 0)

/*
 * What to ask the allocator for when a program asks for n. A block is written down in units of 16 bytes (of 8 up to
 * 8), and the next one may begin where it ends. Then the address one past the end, which a loop may keep when it has
 * lost all others, would be the next one's begin, and every pointer to a block would count for the one before it, too.
 * So where n fills its units there is a byte more, which is nobody's. No size overflows.
 */
static inline size_t with_spare(size_t n) { return n + (n % 16 == 0 || n == 8); }

/* A block that the allocator has given, of so many bytes with the spare one; NULL is none. */
void wr_heapmap_enter(void *p, size_t n);
/* Before the allocator gets it back. False: it does not, as it has not given it. */
bool wr_heapmap_take_out(void *p);
/* The function that is found behind us. */
void *wr_heapmap_next(const char *name);
/* Is it in the allocator itself, rather than in a library that calls malloc in turn? */
bool wr_heapmap_is_allocators(const void *function);
/* See that the allocator behind has been looked for. */
void wr_heapmap_look_up(void);
/* The program can do from now on what the map would not tell of: believe nothing. */
void wr_heapmap_lose(void);

/* mappings.c: the allocator's malloc has been found; NULL: it is the C library's own. */
void wr_heapmap_mappings_of(const void *allocators_malloc);
extern _Atomic uint64_t wr_heapmap_mappings[HEAPMAP_MAPPINGS];

#endif
