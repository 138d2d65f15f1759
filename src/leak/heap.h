/* What the files that find malloc's blocks share: heap.c keeps the lists, the others fill them. Only in the child. */
#ifndef WR_LEAK_HEAP_H
#define WR_LEAK_HEAP_H

#include "leak/child.h"

#pragma GCC visibility push(hidden)

/* Of the child's memory; the one before it, if it was not kept, is lost. */
struct wr_region *wr_region_add(uintptr_t lo, uintptr_t hi, uint32_t header, uint32_t tail);
void wr_region_drop(void); /* the one added last */
void wr_regions_sort(void);
/* After wr_regions_sort. NULL: in none. */
struct wr_region *wr_region_of(uintptr_t address);
/* The first that ends behind it; wr_n_regions: none. */
size_t wr_region_behind(uintptr_t address);

void wr_heap_private_add(uintptr_t lo, uintptr_t hi);
void wr_heap_told(const char *who);

/* All of it is private and can be read. */
bool wr_heap_readable(uintptr_t lo, uintptr_t hi);

static inline uintptr_t wr_word(uintptr_t at) {
    typedef uintptr_t __attribute__((may_alias)) any_word;
    return *(const any_word *)at;
}

/* Double an array of the child's memory once it is full. */
#define wr_grow(array, n, capacity)                                                                 \
    do {                                                                                            \
        if ((n) == (capacity)) {                                                                    \
            size_t more_ = (capacity) ? 2 * (capacity) : 64;                                        \
            void *larger_ = wr_child_alloc(more_ * sizeof *(array));                                \
            if (n) memcpy(larger_, (array), (n) * sizeof *(array));                                 \
            (array) = larger_, (capacity) = more_;                                                  \
        }                                                                                           \
    } while (0)

/* heap_glibc.c. The chunks in the arenas; wants nothing in the lists, leaves them sorted. */
void wr_heap_glibc(void);
/* heap_mmapped.c: the chunks that have a mapping each. glibc counts them: so many, of so many bytes. After
 * wr_heap_glibc. */
void wr_heap_mmapped(size_t n, size_t bytes);
/* heap_map.c: what libweir-heapmap knows, as far as glibc's heaps are not it. The lists are sorted, and are so
 * after it. */
void wr_heap_map(void);

#pragma GCC visibility pop
#endif
