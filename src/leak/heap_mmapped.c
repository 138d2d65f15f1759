/*
 * In the child: glibc's chunks that have a mapping of their own. Nothing lists them. Each begins with a page: a word
 * that is 0 and one that says how many pages, with a flag. The kernel merges neighbouring mappings, so they are
 * looked for at the pages of all anonymous memory; and as other memory may look alike, what is found counts only if
 * it is, to the byte, as many and as much as malloc has counted itself.
 *
 * So they are roots where that count is being changed by a thread that was stopped, or where a block from memalign has
 * been resized in place, which leaves a wrong header behind.
 */
#include "leak/heap.h"

#include <string.h>
#include <unistd.h>

enum { HEADER = 16, MAPPED = 2, FLAGS = 7 };

struct piece {
    uintptr_t lo, hi;
    bool sure;                        /* begins where a mapping begins, or another piece ends */
};

WR_PRIVATE static struct {
    struct piece *pieces;
    size_t n, capacity;
    uintptr_t page, ours_lo, ours_hi; /* the child's memory, which may have merged with a neighbour */
    uintptr_t fresh;                  /* a piece that begins here is sure */
    uintptr_t done;                   /* looked at so far */
} search;

static void look(uintptr_t lo, uintptr_t hi, void *arg) {
    if (lo < search.done) lo = search.done;
    for (uintptr_t at = (lo + search.page - 1) & ~(search.page - 1); at < hi;) {
        size_t head = wr_word(at + 8), size = head & ~(size_t)FLAGS;
        bool is_one = wr_word(at) == 0 && (head & FLAGS) == MAPPED && size && size % search.page == 0 &&
                      size < UINTPTR_MAX - at && wr_heap_readable(at, at + size);
        if (!is_one) {
            at += search.page;
            continue;
        }
        wr_grow(search.pieces, search.n, search.capacity);
        search.pieces[search.n++] = (struct piece){ at, at + size, at == search.fresh };
        search.done = search.fresh = at = at + size;
    }
}

/* Goroutines' stacks are no place to look, and there may be a million pages of them. */
static void look_beside_stacks(uintptr_t lo, uintptr_t hi) {
    for (size_t i = 0; i < wr_n_slabs && lo < hi; i++) {
        const struct wr_slab *s = &wr_slabs[i];
        if (s->hi <= lo) continue;
        if (s->lo >= hi) break;
        if (lo < s->lo) wr_pages_each(lo, s->lo, look, NULL);
        lo = s->hi;
    }
    if (lo < hi) wr_pages_each(lo, hi, look, NULL);
}

/* Between what is known already. */
static void look_between(uintptr_t lo, uintptr_t hi) {
    search.fresh = lo;
    while (lo < hi) {
        size_t i = wr_region_behind(lo);
        uintptr_t end = i < wr_n_regions && wr_regions[i].lo < hi ? wr_regions[i].lo : hi;
        if (lo < end) look_beside_stacks(lo, end);
        lo = end < hi ? wr_regions[i].hi : hi;
    }
}

static void look_everywhere(void) {
    for (size_t i = 0; i < wr_n_maps; i++) {
        const struct wr_map *m = &wr_maps[i];
        if (m->file || m->shared || !m->readable || !m->writable || strcmp(m->name, "[stack]") == 0) continue;
        if (m->lo < search.ours_hi && m->hi > search.ours_lo) {
            if (m->lo < search.ours_lo) look_between(m->lo, search.ours_lo);
            if (m->hi > search.ours_hi) look_between(search.ours_hi, m->hi);
        } else {
            look_between(m->lo, m->hi);
        }
    }
}

/* The pieces, or the sure ones alone, are what malloc has counted. */
static bool adds_up(bool sure, size_t n, size_t bytes) {
    for (size_t i = 0; i < search.n; i++) {
        if (sure && !search.pieces[i].sure) continue;
        /* Too many wrap around, and so are not 0. */
        n--, bytes -= search.pieces[i].hi - search.pieces[i].lo;
    }
    return n == 0 && bytes == 0;
}

/* Neighbours are one region: there may be tens of thousands. */
static void add_regions(bool sure) {
    for (size_t i = 0, next; i < search.n; i = next) {
        next = i + 1;
        if (sure && !search.pieces[i].sure) continue;
        while (next < search.n && search.pieces[next].lo == search.pieces[next - 1].hi &&
               (!sure || search.pieces[next].sure)) next++;
        struct wr_region *r = wr_region_add(search.pieces[i].lo, search.pieces[next - 1].hi, HEADER, 0);
        for (size_t k = i; k < next; k++) {
            wr_bit_set(r, bound, (search.pieces[k].lo - r->lo) / 16);
            wr_bit_set(r, used, (search.pieces[k].lo - r->lo) / 16);
        }
    }
}

void wr_heap_mmapped(size_t n, size_t bytes) {
    memset(&search, 0, sizeof search);
    if (!n) return;
    search.page = (uintptr_t)sysconf(_SC_PAGESIZE);
    wr_child_memory(&search.ours_lo, &search.ours_hi);
    wr_slabs_find();
    look_everywhere();
    bool all = adds_up(false, n, bytes);
    if (all || adds_up(true, n, bytes)) add_regions(!all);
}
