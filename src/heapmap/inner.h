/* What the two files of libweir-heapmap share. */
#ifndef WEIR_HEAPMAP_INNER_H
#define WEIR_HEAPMAP_INNER_H

#include "heapmap/heapmap.h"

#define PUBLIC __attribute__((visibility("default")))
#define unlikely(x) __builtin_expect(!!(x), 0)

/* A block that the allocator has given; NULL is none. */
void wr_heapmap_enter(void *p, size_t n);
/* Before the allocator gets it back. */
void wr_heapmap_take_out(void *p);
/* The function that is found behind us. */
void *wr_heapmap_next(const char *name);

#endif
