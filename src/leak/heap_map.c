/*
 * In the child: the blocks that libweir-heapmap has written down. Regions are whole pages, those on which at least
 * one block in use lies: such a page is the allocator's for sure, while a page without may have been given back and
 * be anything by now. What lies between the blocks of a page is free, or slack, or the allocator's own, and not
 * looked at.
 *
 * The rest of what an allocator has mapped for itself is no root either, where the map has that (heapmap/mappings.c); but for
 * blocks that are no region, as something near them cannot be read.
 *
 * That holds only if no block comes from elsewhere. Where the allocator is the C library's own, it may use blocks
 * itself that the map does not know (musl's atexit does). There a region is a run of blocks without a gap, and gaps
 * are roots.
 */
#include "leak/heap.h"
#include "heapmap/heapmap.h"

#include <dlfcn.h>
#include <string.h>
#include <unistd.h>

/* Of gapless runs there may be as many as blocks. */
enum { MOST_RUNS = 1 << 20 };

static const struct weir_heapmap *map;

/* Looked up early: the child must not, as the dynamic linker has locks. */
__attribute__((constructor)) static void find_map(void) {
    map = dlsym(RTLD_DEFAULT, "weir_heapmap_");
    if (map && (map->version < 1 || map->version > HEAPMAP_VERSION || map->size != sizeof *map)) map = NULL;
}

/* ---- Reading the map ----------------------------------------------------------------------------------------- */

struct reader {
    void (*block)(uintptr_t lo, uintptr_t hi);
    uintptr_t first;            /* what the leaf at hand begins with */
    _Atomic uint8_t *leaf;
    uintptr_t done;             /* the end of the block before */
};

/* Blocks of up to 16 bytes that share 16 bytes are one. Whatever the map says, blocks come in order and do not
 * overlap. */
static void read_bytes(uintptr_t lo, uintptr_t hi, void *arg) {
    struct reader *r = arg;
    for (uintptr_t at = lo; at < hi; at++) {
        if (at % 8 == 0 && hi - at >= 8 && wr_word(at) == 0) {
            at += 7;
            continue;
        }
        _Atomic uint8_t *byte = (_Atomic uint8_t *)at;
        uint8_t code = *byte;
        if (code == 0) continue;
        uintptr_t block = r->first + (at - (uintptr_t)r->leaf) * 16;
        if (block < r->done) {
            /* Inside of the last one: go on behind it. */
            at += (r->done - block) / 16 - 1;
            continue;
        }
        size_t granules = code > HEAPMAP_MANY ? 1 : code;
        if (code == HEAPMAP_MANY) granules = *heapmap_count(byte) ? *heapmap_count(byte) : 1;
        if (granules > (UINTPTR_MAX - block) / 16) granules = 1;
        r->done = block + granules * 16;
        r->block(block, r->done);
        at += granules - 1;
        if (at >= hi - 1) return;
    }
}

static void each_block(void (*block)(uintptr_t lo, uintptr_t hi)) {
    struct reader r = { .block = block };
    for (size_t i = 0; i < HEAPMAP_LEAVES; i++) {
        r.leaf = map->leaves[i];
        r.first = (uintptr_t)i << HEAPMAP_LEAF_BITS;
        if (r.leaf) wr_pages_each((uintptr_t)r.leaf, (uintptr_t)r.leaf + HEAPMAP_LEAF_SIZE, read_bytes, &r);
    }
}

/* ---- Regions ------------------------------------------------------------------------------------------------- */

struct run {
    uintptr_t lo, hi;
    bool bad;                   /* something in it cannot be read: then all of it is a root */
};
static struct {
    struct run *runs;
    size_t n, capacity;
    uintptr_t page;             /* 1: without gaps */
    size_t glibc;               /* how many regions there were before; those know better */
    struct wr_region *at;       /* the region being filled */
    const struct wr_map *seen;  /* a mapping that can be read */
} make;

static bool is_glibc(uintptr_t lo, uintptr_t hi) {
    size_t i = wr_region_behind(lo);
    return i < wr_n_regions && wr_regions[i].lo < hi;
}

static bool readable(uintptr_t lo, uintptr_t hi) {
    if (make.seen && lo >= make.seen->lo && hi <= make.seen->hi) return true;
    if (!wr_heap_readable(lo, hi)) return false;
    make.seen = wr_map_of(lo);
    return true;
}

static void add_to_run(uintptr_t lo, uintptr_t hi) {
    if (make.glibc && is_glibc(lo, hi)) return;
    bool bad = !readable(lo, hi);
    lo &= ~(make.page - 1), hi = (hi + make.page - 1) & ~(make.page - 1);
    struct run *last = make.n ? &make.runs[make.n - 1] : NULL;
    if (last && lo <= last->hi) {
        if (hi > last->hi) last->hi = hi;
        last->bad |= bad;
        return;
    }
    if (make.page == 1 && make.n == MOST_RUNS) return;
    wr_grow(make.runs, make.n, make.capacity);
    make.runs[make.n++] = (struct run){ lo, hi, bad };
}

static void add_regions(void) {
    for (size_t i = 0; i < make.n; i++) make.runs[i].bad |= is_glibc(make.runs[i].lo, make.runs[i].hi);
    for (size_t i = 0; i < make.n; i++) {
        if (make.runs[i].bad) continue;
        struct wr_region *r = wr_region_add(make.runs[i].lo, make.runs[i].hi, 0, 0);
        wr_bit_set(r, bound, 0);
        r->spares = map->version >= HEAPMAP_SPARES;
    }
}

static void fill(uintptr_t lo, uintptr_t hi) {
    if (!make.at || lo >= make.at->hi || lo < make.at->lo) make.at = wr_region_of(lo);
    struct wr_region *r = make.at;
    if (!r || r->header || hi > r->hi) return; /* glibc's has a header */
    size_t i = (lo - r->lo) / 16, end = (hi - r->lo) / 16;
    wr_bit_set(r, bound, i);
    wr_bit_set(r, used, i);
    wr_bit_set(r, bound, end);
}

/* The blocks in it are regions, and else it is the allocator's own. */
static void set_aside(uintptr_t lo, uintptr_t hi) {
    for (size_t i = 0; i < make.n && lo < hi; i++) {
        const struct run *r = &make.runs[i];
        if (!r->bad || r->hi <= lo || r->lo >= hi) continue;
        if (r->lo > lo) wr_heap_private_add(lo, r->lo);
        lo = r->hi;
    }
    if (lo < hi) wr_heap_private_add(lo, hi);
}
static void set_mappings_aside(void) {
    uint32_t n = map->n_mappings < HEAPMAP_MAPPINGS ? map->n_mappings : HEAPMAP_MAPPINGS;
    if (!map->all) return;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t m = map->mappings[i];
        set_aside(heapmap_mapping_lo(m), heapmap_mapping_hi(m));
    }
}

void wr_heap_map(void) {
    if (!map) return;
    for (size_t i = 0; i < HEAPMAP_LEAVES; i++)
        if (map->leaves[i])
            wr_heap_private_add((uintptr_t)map->leaves[i], (uintptr_t)map->leaves[i] + HEAPMAP_LEAF_SIZE);
    /* At some bytes its entries look like addresses. */
    wr_heap_private_add((uintptr_t)map->mappings, (uintptr_t)(map->mappings + HEAPMAP_MAPPINGS));
    if (map->lost || map->moving) return;
    memset(&make, 0, sizeof make);
    make.page = map->all ? (uintptr_t)sysconf(_SC_PAGESIZE) : 1;
    make.glibc = wr_n_regions;
    each_block(add_to_run);
    add_regions();
    if (wr_n_regions == make.glibc) return;
    wr_regions_sort();
    each_block(fill);
    set_mappings_aside();
    wr_heap_told("libweir-heapmap");
}
