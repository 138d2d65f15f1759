/*
 * In the child: glibc's arenas, chunk by chunk. As glibc 2.31 to 2.41 lays them out on 64 bits:
 *
 *   chunk   two words, the size of the chunk before (if that is free) and its own with three flags, then the user's
 *           memory, which includes the next chunk's first word. The next chunk's flag says whether this one is in use.
 *   arena   lists of free chunks, and `top`, the chunk that ends it. The main one is in libc's data, and its memory is
 *           what sbrk gave. The others lie at the begin of their first heap; heaps are aligned to HEAP_MAX bytes. A
 *           ring links all.
 *   caches  a thread's tcache, a chunk itself, and the arenas' fast bins: lists of free chunks that look used.
 *
 * Nothing tells where the main arena is; it is recognised by its 127 lists, each of which leads back to itself. What is
 * laid out differently (another glibc, for instance) is not recognised, and remains a root.
 *
 * fork() has held the arenas' locks, so they are whole. A tcache has no lock: a thread may have been stopped in
 * between changing a list and its count.
 */
#include "leak/heap.h"

#if !defined(__GLIBC__) || defined(WR_ASAN) || defined(WR_TSAN)

/* Sanitizers bring a malloc of their own. */
void wr_heap_glibc(void) {}

#else

#include <gnu/libc-version.h>
#include <stdlib.h>
#include <string.h>

enum { PREV_IN_USE = 1, MAPPED = 2, NOT_MAIN = 4, FLAGS = 7 };
enum { HEADER = 16, LEAST = 32, FENCE = 16, N_FAST = 10, N_BINS = 127, NONCONTIGUOUS = 2 };
#define HEAP_MAX ((uintptr_t)64 << 20)

struct arena {
    int lock, flags, any_fast, unused;
    uintptr_t fast[N_FAST];
    uintptr_t top, remainder;
    uintptr_t bins[2 * N_BINS];          /* first and last of each list */
    unsigned bin_map[4];
    uintptr_t next, next_free;
    size_t threads, bytes, max_bytes;
};

/* At a heap's begin. Newer glibcs have a word more, so an arena in it begins at 32 or at 48. */
struct heap {
    uintptr_t arena, prev;
    size_t bytes, max_bytes;
};

#define TCACHE_BINS 64
struct tcache {
    uint16_t counts[TCACHE_BINS];
    uintptr_t entries[TCACHE_BINS];      /* the user's part of free chunks */
};
#define TCACHE_CHUNK ((sizeof(struct tcache) + 8 + 15) / 16 * 16)

static struct {
    const struct arena **arenas;
    size_t n_arenas, arenas_capacity;
    uintptr_t *tcaches;                  /* chunks of that size */
    size_t n_tcaches, tcaches_capacity;
    size_t n_mmapped, mmapped_bytes;     /* as malloc counts them */
    int minor;                           /* glibc 2.minor */
} found;

static size_t size_of(uintptr_t chunk) { return wr_word(chunk + 8) & ~(size_t)FLAGS; }

/* ---- Walking ----------------------------------------------------------------------------------------------- */

/* Where the arena has got more memory elsewhere it has left fence posts: one of 16 bytes, and another of 16 (the
 * main arena) or none. */
static bool is_fence(const struct wr_region *r, uintptr_t at, bool main) {
    if (size_of(at) != FENCE || r->hi - at < 2 * HEADER) return false;
    return main ? size_of(at + FENCE) == FENCE : size_of(at + FENCE) == 0 && at + 2 * HEADER == r->hi;
}

/* From the region's begin to `top`, which must end with it, or to a fence. */
static bool walk(struct wr_region *r, uintptr_t top, bool main) {
    uintptr_t at = r->lo;
    if (!(wr_word(at + 8) & PREV_IN_USE)) return false;
    for (;;) {
        size_t head = wr_word(at + 8), size = head & ~(size_t)FLAGS, i = (at - r->lo) / 16;
        /* Each step waits for the last one's memory: the processor does not run far enough ahead by itself (25 ns
         * a chunk, not 7). */
        __builtin_prefetch((const void *)(at + 1024));
        wr_bit_set(r, bound, i);
        if (at == top) return size == r->hi - at;
        if (is_fence(r, at, main)) {
            if (main) r->hi = at + 2 * HEADER;
            return main || !top;
        }
        if (size < LEAST || size % 16 || size >= r->hi - at || head & MAPPED) return false;
        uintptr_t next = at + size;
        size_t next_head = wr_word(next + 8);
        if (next_head & PREV_IN_USE) {
            bool old_top = !main && next + HEADER == r->hi && (next_head & ~(size_t)FLAGS) == 0;
            if (!!(head & NOT_MAIN) == main && !old_top) return false;
            if (old_top) return !top;
            wr_bit_set(r, used, i);
            if (size == TCACHE_CHUNK) {
                wr_grow(found.tcaches, found.n_tcaches, found.tcaches_capacity);
                found.tcaches[found.n_tcaches++] = at;
            }
        } else if (wr_word(next) != size) {
            return false;
        }
        at = next;
    }
}

static void add_walked(uintptr_t lo, uintptr_t hi, uintptr_t top, bool main) {
    if (lo % 16 || hi % 16 || hi - lo < LEAST) return;
    size_t tcaches = found.n_tcaches;
    if (walk(wr_region_add(lo, hi, HEADER, 8), top, main)) {
        wr_heap_told("glibc malloc");
        return;
    }
    wr_region_drop();
    found.n_tcaches = tcaches;
}

/* ---- Arenas ------------------------------------------------------------------------------------------------ */

static bool readable_chunk(uintptr_t chunk) { return chunk % 16 == 0 && wr_heap_readable(chunk, chunk + LEAST); }

/* The memory is there; is it an arena? */
static bool plausible(const struct arena *a) {
    if (a->top == 0 || a->top % 16 || a->next == 0 || a->next % 8 || a->bytes > a->max_bytes) return false;
    for (int i = 0; i < N_BINS; i++) {
        uintptr_t head = (uintptr_t)&a->bins[2 * i] - HEADER, first = a->bins[2 * i], last = a->bins[2 * i + 1];
        if (first == head && last == head) continue;
        if (first == head || last == head || !readable_chunk(first) || !readable_chunk(last)) return false;
        if (wr_word(first + HEADER + 8) != head || wr_word(last + HEADER) != head) return false;
    }
    return true;
}

static void note_arena(const struct arena *a) {
    wr_grow(found.arenas, found.n_arenas, found.arenas_capacity);
    found.arenas[found.n_arenas++] = a;
}

/* With all its heaps, newest first; false: it is none. */
static bool thread_arena(const struct arena *a) {
    uintptr_t first = (uintptr_t)a & ~(HEAP_MAX - 1), header = (uintptr_t)a - first;
    if ((header != 32 && header != 48) || !wr_heap_readable(first, (uintptr_t)(a + 1)) || !plausible(a)) return false;
    note_arena(a);
    uintptr_t newest = a->top & ~(HEAP_MAX - 1), at = newest;
    for (size_t left = a->bytes / 4096 + 1; left > 0; left--) { /* each has a page at least */
        if (!wr_heap_readable(at, at + header)) return true;
        const struct heap *h = (const struct heap *)at;
        if (h->arena != (uintptr_t)a || h->bytes > HEAP_MAX || h->bytes % 4096) return true;
        uintptr_t lo = at == first ? ((uintptr_t)(a + 1) + 15) & ~(uintptr_t)15 : at + header, hi = at + h->bytes;
        if (hi < lo || !wr_heap_readable(at, hi)) return true;
        wr_heap_private_add(at, lo);
        add_walked(lo, hi, at == newest ? a->top : 0, false);
        if (at == first) return true;
        at = h->prev;
    }
    return true;
}

/* What malloc counts of chunks with a mapping of their own lies in libc's data too, in front of the word that says
 * where the main arena's memory begins; newer glibcs have it moved by an int. */
struct search {
    uintptr_t begin;
    bool found;
};
static void find_counts(uintptr_t lo, uintptr_t hi, void *arg) {
    struct search *s = arg;
    for (uintptr_t at = lo + 64; at + 8 <= hi && !s->found; at += 8) {
        size_t bytes = wr_word(at - 16), max_bytes = wr_word(at - 8);
        if (wr_word(at) != s->begin || bytes > max_bytes || bytes % 4096) continue;
        for (int moved = 32; moved <= 36 && !s->found; moved += 4) {
            /* How many there are, may be, have been at once; is the limit fixed. */
            const int *n = (const int *)(at - (uintptr_t)moved);
            if (n[0] < 0 || n[0] > n[2] || n[2] > n[1] || (n[3] != 0 && n[3] != 1) || !n[0] != !bytes) continue;
            s->found = true;
            found.n_mmapped += (size_t)n[0], found.mmapped_bytes += bytes;
        }
    }
}

static void main_arena(const struct arena *a) {
    note_arena(a);
    wr_heap_private_add((uintptr_t)a, (uintptr_t)(a + 1));
    const struct arena *b = (const struct arena *)a->next;
    for (int left = 1 << 20; left > 0 && b != a && thread_arena(b); left--) b = (const struct arena *)b->next;
    /* sbrk's memory ends with the top, and the arena knows how much it is. That others have used sbrk is counted in. */
    if (a->flags & NONCONTIGUOUS || !readable_chunk(a->top)) return;
    uintptr_t hi = a->top + size_of(a->top), begin = hi - a->bytes, lo = (begin + 15) & ~(uintptr_t)15;
    if (hi <= a->top || begin > a->top || !wr_heap_readable(lo, hi)) return;
    add_walked(lo, hi, a->top, true);
    struct search counts = { begin, false };
    const struct wr_map *m = wr_map_of((uintptr_t)a);
    wr_pages_each(m->lo, m->hi, find_counts, &counts);
}

/* Only pages that have been changed are visited; a main arena in use has been, all of it. */
static void find_main_arena(uintptr_t lo, uintptr_t hi, void *arg) {
    for (uintptr_t at = (lo + 7) & ~(uintptr_t)7; hi - at >= sizeof(struct arena) && at < hi;) {
        const struct arena *a = (const struct arena *)at;
        bool is_one = plausible(a);
        if (is_one) main_arena(a);
        at += is_one ? sizeof *a : 8;
    }
}

static void search_data(bool libc) {
    for (size_t i = 0; i < wr_n_maps; i++) {
        const struct wr_map *m = &wr_maps[i];
        if (!m->file || !m->readable || !m->writable || m->shared) continue;
        if ((strncmp(m->name, "libc.", 5) == 0 || strncmp(m->name, "libc-", 5) == 0) == libc)
            wr_pages_each(m->lo, m->hi, find_main_arena, NULL);
    }
}

/* ---- Caches ------------------------------------------------------------------------------------------------ */

/* A link that lies at `at`, from glibc 2.32 on mixed with its own address. */
static uintptr_t link_at(uintptr_t at) { return found.minor >= 32 ? wr_word(at) ^ at >> 12 : wr_word(at); }

/* A chunk of that size that looks used; in memory that did not walk there is no telling. */
static bool cached_chunk(uintptr_t chunk, size_t size, struct wr_region **region) {
    if (chunk % 16) return false;
    *region = wr_region_of(chunk);
    if (!*region) return readable_chunk(chunk) && size_of(chunk) == size;
    size_t i = (chunk - (*region)->lo) / 16;
    return wr_bit((*region), bound, i) && wr_bit((*region), used, i) && size_of(chunk) == size;
}

static void set_free(uintptr_t chunk, struct wr_region *r) {
    if (r) wr_bit_clear(r, used, (chunk - r->lo) / 16);
}

static void fast_bins(const struct arena *a) {
    for (int i = 0; i < N_FAST; i++) {
        struct wr_region *r;
        uintptr_t chunk = a->fast[i];
        /* A chunk that is set free is not met twice, so this ends. */
        while (chunk && cached_chunk(chunk, (size_t)(i + 2) * 16, &r) && r) {
            set_free(chunk, r);
            chunk = link_at(chunk + HEADER);
        }
    }
}

/* How many are in the list; SIZE_MAX: it is none. The second word of each is a key: the tcache's address, from
 * 2.34 on a number. */
static size_t list_length(const struct tcache *t, int bin, uintptr_t *key) {
    size_t n = 0;
    for (uintptr_t at = t->entries[bin]; at; n++) {
        struct wr_region *r;
        if (n > (size_t)t->counts[bin] + 1 || !cached_chunk(at - HEADER, (size_t)(bin + 2) * 16, &r)) return SIZE_MAX;
        if (!*key) *key = wr_word(at + 8);
        if (!*key || wr_word(at + 8) != *key) return SIZE_MAX;
        at = link_at(at);
    }
    return n;
}

/* An empty one leads nowhere, so it may as well be a block of the user's. */
static bool is_tcache(const struct tcache *t) {
    size_t all = 0;
    uintptr_t key = found.minor >= 34 ? 0 : (uintptr_t)t;
    for (int i = 0; i < TCACHE_BINS; i++)
        if (!t->entries[i] && t->counts[i] > 1) return false; /* before anything is followed */
    for (int i = 0; i < TCACHE_BINS; i++) {
        size_t n = list_length(t, i, &key), count = t->counts[i];
        if (n == SIZE_MAX || n > count + 1 || count > n + 1) return false;
        all += n;
    }
    return all > 0;
}

static void tcache(uintptr_t chunk) {
    const struct tcache *t = (const struct tcache *)(chunk + HEADER);
    if (!is_tcache(t)) return;
    for (int i = 0; i < TCACHE_BINS; i++) {
        struct wr_region *r;
        size_t left = t->counts[i] + (size_t)1;
        for (uintptr_t at = t->entries[i]; at && left > 0; at = link_at(at), left--)
            if (cached_chunk(at - HEADER, (size_t)(i + 2) * 16, &r)) set_free(at - HEADER, r);
    }
    set_free(chunk, wr_region_of(chunk));
}

void wr_heap_glibc(void) {
    memset(&found, 0, sizeof found);
    const char *version = gnu_get_libc_version();
    if (strncmp(version, "2.", 2) != 0) return;
    found.minor = atoi(version + 2);
    search_data(true);
    if (!found.n_arenas) search_data(false); /* a static program */
    wr_regions_sort();
    for (size_t i = 0; i < found.n_arenas; i++) fast_bins(found.arenas[i]);
    for (size_t i = 0; i < found.n_tcaches; i++) tcache(found.tcaches[i]);
    wr_heap_mmapped(found.n_mmapped, found.mmapped_bytes);
    wr_regions_sort();
}

#endif
