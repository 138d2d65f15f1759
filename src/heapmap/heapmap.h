/*
 * heapmap: what libweir-heapmap has written down, for weir's leak proof to read (leak/heap_map.c). Since version 2 one
 * past the end of what a program has is still inside of its block: where a block begins, no other one ends.
 *
 * A byte for each 16 bytes of address space, in leaves of 1 GiB of addresses, which exist where malloc has given
 * memory:
 *
 *   0                        no block begins here
 *   1 … HEAPMAP_MANY - 1     a block begins here, and has so many times 16 bytes
 *   HEAPMAP_MANY             so does a larger one; how many times is in heapmap_count, 0 while it is made or freed
 *   HEAPMAP_HALVES | 1, | 2  blocks of up to 8 bytes, in the lower half, in the upper half
 *
 * The bytes that belong to the inside of a block mean nothing, so to enter a block or to take it out again is to
 * store one byte, which belongs to nobody else: no lock, no atomic instruction but for halves.
 */
#ifndef WEIR_HEAPMAP_H
#define WEIR_HEAPMAP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HEAPMAP_LEAF_BITS 30
#define HEAPMAP_LEAVES ((size_t)1 << (48 - HEAPMAP_LEAF_BITS))
#define HEAPMAP_LEAF_SIZE ((size_t)1 << (HEAPMAP_LEAF_BITS - 4))

enum { HEAPMAP_VERSION = 2, HEAPMAP_MANY = 0xf0, HEAPMAP_HALVES = 0xf4 };
enum { HEAPMAP_SPARES = 2 }; /* the version since which one past the end is inside */

/* A mapping that the allocator has made for itself: where it begins, in units of 4 KiB, and how many; 0: none. */
enum { HEAPMAP_MAPPINGS = 8192, HEAPMAP_UNIT = 4096, HEAPMAP_COUNT_BITS = 28 };
#define HEAPMAP_MOST_UNITS (((uint64_t)1 << HEAPMAP_COUNT_BITS) - 1)
static inline uintptr_t heapmap_mapping_lo(uint64_t m) { return (uintptr_t)(m >> HEAPMAP_COUNT_BITS) * HEAPMAP_UNIT; }
static inline uintptr_t heapmap_mapping_hi(uint64_t m) {
    return heapmap_mapping_lo(m) + (uintptr_t)(m & HEAPMAP_MOST_UNITS) * HEAPMAP_UNIT;
}

struct weir_heapmap {
    uint32_t version, size;              /* of this struct */
    _Atomic(_Atomic uint8_t *) *leaves;  /* HEAPMAP_LEAVES */
    _Atomic uint32_t moving;             /* blocks that are being resized: in none of the bytes, yet full of data */
    _Atomic uint32_t lost;               /* something could not be written down: believe nothing */
    _Atomic uint32_t all;                /* who calls malloc comes by here: memory between blocks is nobody's */
    _Atomic uint32_t n_mappings;         /* how many entries of `mappings` may be other than 0 */
    _Atomic uint64_t *mappings;          /* HEAPMAP_MAPPINGS; at each moment they are the allocator's (mappings.c) */
};

/* A large block has more than 16 bytes of the map. */
static inline _Atomic uint64_t *heapmap_count(_Atomic uint8_t *first) {
    return (_Atomic uint64_t *)(((uintptr_t)first + 8) & ~(uintptr_t)7);
}

#endif
