/*
 * In the child: where malloc's blocks begin and end; here the lists of what has been found. Two ways to know:
 *
 *   heap_glibc.c, heap_mmapped.c   glibc's malloc keeps its sizes between the blocks, and they can be walked
 *   heap_map.c                     for others: libweir-heapmap, which has stood in front of them and written it down
 *
 * Both reading of a foreign structure and its being what we think it is are taken for granted nowhere: an address is
 * looked up in wr_maps before it is followed, and a heap that does not add up to the byte is no region.
 */
#include "leak/heap.h"

#include <string.h>

struct wr_region *wr_regions;
size_t wr_n_regions;
char wr_heap_bounds[64];
struct wr_leak_range *wr_heap_private;
size_t wr_n_heap_private;

static size_t region_capacity, private_capacity;

/* ---- Lists ------------------------------------------------------------------------------------------------- */

struct wr_region *wr_region_add(uintptr_t lo, uintptr_t hi, uint32_t header, uint32_t tail) {
    wr_grow(wr_regions, wr_n_regions, region_capacity);
    struct wr_granules *map = wr_child_alloc(((hi - lo) / 1024 + 2) * sizeof *map);
    wr_regions[wr_n_regions] = (struct wr_region){ lo, hi, header, tail, map, false };
    return &wr_regions[wr_n_regions++];
}

void wr_region_drop(void) { wr_n_regions--; }

/* Shell's sort: needs no memory, and hardly any time if little is out of place. */
void wr_regions_sort(void) {
    size_t gap = 1;
    while (gap < wr_n_regions / 3) gap = 3 * gap + 1;
    for (; gap > 0; gap /= 3)
        for (size_t i = gap; i < wr_n_regions; i++) {
            struct wr_region r = wr_regions[i];
            size_t k = i;
            for (; k >= gap && wr_regions[k - gap].lo > r.lo; k -= gap) wr_regions[k] = wr_regions[k - gap];
            wr_regions[k] = r;
        }
}

size_t wr_region_behind(uintptr_t address) {
    size_t lo = 0, hi = wr_n_regions;
    while (lo < hi) {
        size_t middle = (lo + hi) / 2;
        if (wr_regions[middle].hi <= address) lo = middle + 1;
        else hi = middle;
    }
    return lo;
}

struct wr_region *wr_region_of(uintptr_t address) {
    size_t i = wr_region_behind(address);
    return i < wr_n_regions && wr_regions[i].lo <= address ? &wr_regions[i] : NULL;
}

void wr_heap_private_add(uintptr_t lo, uintptr_t hi) {
    wr_grow(wr_heap_private, wr_n_heap_private, private_capacity);
    wr_heap_private[wr_n_heap_private++] = (struct wr_leak_range){ lo, hi };
}

void wr_heap_told(const char *who) {
    if (strstr(wr_heap_bounds, who)) return;
    if (wr_heap_bounds[0]) strcat(wr_heap_bounds, ", ");
    strcat(wr_heap_bounds, who);
}

bool wr_heap_readable(uintptr_t lo, uintptr_t hi) {
    if (lo >= hi) return false;
    while (lo < hi) {
        const struct wr_map *m = wr_map_of(lo);
        if (!m || !m->readable || m->shared) return false;
        lo = m->hi;
    }
    return true;
}

/* ---- All of it --------------------------------------------------------------------------------------------- */

void wr_heap_find(void) {
    wr_regions = NULL, wr_n_regions = region_capacity = 0;
    wr_heap_private = NULL, wr_n_heap_private = private_capacity = 0;
    wr_heap_bounds[0] = 0;
    wr_heap_glibc();
    wr_heap_map();
}
