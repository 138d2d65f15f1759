/*
 * In the child: memory as things that reach each other. Conservative: every aligned word that could be a pointer into a
 * thing, to its begin or its inside, is taken for one. Each thing is scanned once, so the whole is linear in the memory looked at.
 */
#include "leak/heap.h"
#include "sched/world.h"

#include <string.h>

struct wr_slab *wr_slabs;
size_t wr_n_slabs;
static uintptr_t least = UINTPTR_MAX, greatest; /* no thing lies outside */

static struct summary {
    uint64_t *words;          /* a bit for each word of the region's bounds: there are some in it */
    uint64_t *words_of_words; /* the same of `words` */
} *summaries;

/* What is to be scanned: the key of a block; of a stack, | ITS_STACK; of a goroutine that has come alive, | ALIVE. */
enum { ITS_STACK = 1, ALIVE = 2 };
static uintptr_t *todo;
static size_t n_todo;
static bool closely;
WR_PRIVATE struct wr_origin wr_origin;

static void summarize(const struct wr_region *r, struct summary *s);

/* ---- Tables ------------------------------------------------------------------------------------------------ */

static void count_slab(uintptr_t base, size_t slot, uint32_t used, uint32_t n) { wr_n_slabs++; }
static void add_slab(uintptr_t base, size_t slot, uint32_t used, uint32_t n) {
    size_t i = wr_n_slabs++;
    for (; i > 0 && wr_slabs[i - 1].lo > base; i--) wr_slabs[i] = wr_slabs[i - 1]; /* newest first, mostly below the last: few moves */
    wr_slabs[i] = (struct wr_slab){ base, base + slot * n, slot, used, NULL };
}
void wr_slabs_find(void) {
    if (wr_slabs) return;
    wr_slabs_each(count_slab);
    wr_slabs = wr_child_alloc((wr_n_slabs + 1) * sizeof *wr_slabs);
    wr_n_slabs = 0;
    wr_slabs_each(add_slab);
}

void wr_mark_init(void) {
    size_t granules = 0, goroutines = 0;
    wr_slabs_find();
    for (size_t i = 0; i < wr_n_slabs; i++) {
        wr_slabs[i].seen = wr_child_alloc((wr_slabs[i].used + 1) * sizeof *wr_slabs[i].seen);
        goroutines += wr_slabs[i].used;
        if (wr_slabs[i].lo < least) least = wr_slabs[i].lo;
        if (wr_slabs[i].hi > greatest) greatest = wr_slabs[i].hi;
    }
    summaries = wr_child_alloc((wr_n_regions + 1) * sizeof *summaries);
    for (size_t i = 0; i < wr_n_regions; i++) {
        summarize(&wr_regions[i], &summaries[i]);
        granules += (wr_regions[i].hi - wr_regions[i].lo) / 16;
        if (wr_regions[i].lo < least) least = wr_regions[i].lo;
        if (wr_regions[i].hi > greatest) greatest = wr_regions[i].hi;
    }
    todo = wr_child_alloc((granules + 2 * goroutines + 16) * sizeof *todo); /* each at most once; only what is used becomes real */
}

static struct wr_slab *slab_at(uintptr_t address) {
    static struct wr_slab *last;
    if (last && address >= last->lo && address < last->hi) return last;
    size_t lo = 0, hi = wr_n_slabs;
    while (lo < hi) {
        size_t middle = (lo + hi) / 2;
        if (wr_slabs[middle].hi <= address) lo = middle + 1;
        else hi = middle;
    }
    return lo < wr_n_slabs && wr_slabs[lo].lo <= address ? last = &wr_slabs[lo] : NULL;
}

static struct wr_region *region_at(uintptr_t address) {
    static struct wr_region *last;
    if (last && address >= last->lo && address < last->hi) return last;
    struct wr_region *r = wr_region_of(address);
    return r ? last = r : NULL;
}

struct g *wr_g_at(uintptr_t address) {
    struct wr_slab *s = slab_at(address);
    if (!s) return NULL;
    size_t i = (address - s->lo) / s->slot;
    return i < s->used ? wr_slot_g(s->lo + i * s->slot, s->slot) : NULL;
}

struct wr_seen *wr_seen_of(struct g *g) {
    struct wr_slab *s = slab_at((uintptr_t)g);
    return &s->seen[((uintptr_t)g - s->lo) / s->slot];
}

void wr_seen_each(void (*visit)(struct g *g, struct wr_seen *s)) {
    for (size_t i = 0; i < wr_n_slabs; i++)
        for (uint32_t k = 0; k < wr_slabs[i].used; k++)
            visit(wr_slot_g(wr_slabs[i].lo + k * wr_slabs[i].slot, wr_slabs[i].slot), &wr_slabs[i].seen[k]);
}

/* ---- Blocks ------------------------------------------------------------------------------------------------ */

/* The last bit at i or before it; SIZE_MAX: none. */
static size_t bit_before(const uint64_t *bits, size_t i) {
    size_t k = i / 64;
    uint64_t word = bits[k] & (~(uint64_t)0 >> (63 - i % 64));
    while (!word) {
        if (k == 0) return SIZE_MAX;
        word = bits[--k];
    }
    return k * 64 + 63 - (size_t)__builtin_clzll(word);
}

/* The bound at granule i or before it; SIZE_MAX: none. A block may be a GiB long, and have many pointers into it: so there is a bit for
 * each word of bounds that has one, and another for each word of these. */
static size_t bound_before(const struct wr_region *r, size_t i) {
    uint64_t word = r->bound[i / 64] & (~(uint64_t)0 >> (63 - i % 64));
    if (wr_likely(word != 0)) return i / 64 * 64 + 63 - (size_t)__builtin_clzll(word);
    const struct summary *s = &summaries[r - wr_regions];
    size_t k = i / 64;
    for (size_t back = 0; back < 8; back++) { /* mostly near */
        if (k == 0) return SIZE_MAX;
        if (r->bound[--k]) return k * 64 + 63 - (size_t)__builtin_clzll(r->bound[k]);
    }
    if (k == 0) return SIZE_MAX;
    k--;
    uint64_t near = s->words[k / 64] & (~(uint64_t)0 >> (63 - k % 64));
    if (!near) {
        size_t far = k / 64 ? bit_before(s->words_of_words, k / 64 - 1) : SIZE_MAX;
        if (far == SIZE_MAX) return SIZE_MAX;
        k = far * 64 + 63;
        near = s->words[far];
    }
    k = k / 64 * 64 + 63 - (size_t)__builtin_clzll(near);
    return k * 64 + 63 - (size_t)__builtin_clzll(r->bound[k]);
}

static void summarize(const struct wr_region *r, struct summary *s) {
    size_t n = ((r->hi - r->lo) / 16 + 63) / 64;
    s->words = wr_child_alloc((n / 64 + 1) * sizeof *s->words);
    s->words_of_words = wr_child_alloc((n / 4096 + 1) * sizeof *s->words_of_words);
    for (size_t k = 0; k < n; k++)
        if (r->bound[k]) wr_bit_set(s->words, k), wr_bit_set(s->words_of_words, k / 64);
}
static size_t bound_after(const struct wr_region *r, size_t i) {
    size_t n = (r->hi - r->lo) / 16, k = ++i / 64;
    if (i >= n) return n;
    uint64_t word = r->bound[k] & (~(uint64_t)0 << (i % 64));
    while (!word) {
        if (++k * 64 >= n) return n;
        word = r->bound[k];
    }
    i = k * 64 + (size_t)__builtin_ctzll(word);
    return i < n ? i : n;
}

/* The granule where the block in use begins that has the address; SIZE_MAX: none has. */
static size_t block_at(const struct wr_region *r, uintptr_t address) {
    size_t i = (address - r->lo) / 16;
    if (address % 16 < r->tail && wr_bit(r->bound, i)) { /* the end of the one before */
        if (i == 0) return SIZE_MAX;
        i--;
    }
    size_t begin = bound_before(r, i);
    if (begin == SIZE_MAX || !wr_bit(r->used, begin)) return SIZE_MAX;
    return address >= r->lo + begin * 16 + r->header ? begin : SIZE_MAX;
}

size_t wr_block_size(uintptr_t key) {
    const struct wr_region *r = region_at(key);
    if (!r) return 0;
    size_t begin = (key - r->lo) / 16;
    return (bound_after(r, begin) - begin) * 16 - r->header + r->tail;
}

void wr_block_opaque(uintptr_t address) {
    struct wr_region *r = region_at(address);
    size_t begin = r ? block_at(r, address) : SIZE_MAX;
    if (begin != SIZE_MAX) wr_bit_clear(r->used, begin);
}

static bool in_stack(uintptr_t address, struct g *g, const struct wr_seen *s) {
    return s->sp && address >= s->sp && address < (uintptr_t)g->stack_hi;
}

uintptr_t wr_thing_at(uintptr_t address) {
    struct g *g = wr_g_at(address);
    if (g) return in_stack(address, g, wr_seen_of(g)) ? (uintptr_t)g : 0;
    struct wr_region *r = region_at(address);
    size_t begin = r ? block_at(r, address) : SIZE_MAX;
    return begin == SIZE_MAX ? 0 : r->lo + begin * 16;
}

/* ---- Marking ----------------------------------------------------------------------------------------------- */

static void mark(uintptr_t address) {
    if (slab_at(address)) {
        struct g *g = wr_g_at(address);
        struct wr_seen *s = g ? wr_seen_of(g) : NULL;
        if (!s || s->reached || !in_stack(address, g, s)) return;
        s->reached = true;
        todo[n_todo++] = (uintptr_t)g | ITS_STACK;
        wr_reached((uintptr_t)g);
        return;
    }
    struct wr_region *r = region_at(address);
    size_t begin = r ? block_at(r, address) : SIZE_MAX;
    if (begin == SIZE_MAX || wr_bit(r->mark, begin)) return;
    wr_bit_set(r->mark, begin);
    todo[n_todo++] = r->lo + begin * 16;
    wr_reached(r->lo + begin * 16);
}

/* A loop may keep nothing but the address in front of an array, from which it counts: a block's own header is taken for that. */
static void mark_behind(uintptr_t word) {
    const struct wr_region *r = region_at(word);
    if (r && wr_bit(r->bound, (word - r->lo) / 16)) mark((word & ~(uintptr_t)15) + 16);
}

/* No object of the program's ends where a stack does, and there lies the control block, which many point to. */
static void mark_past_end(uintptr_t word) {
    if (slab_at(word - 1)) return;
    mark(word - 1);
    mark_behind(word);
}

void wr_mark_word(uintptr_t word) {
    if (word - least <= greatest - least) {
        mark(word);
        if (closely) mark_past_end(word);
    }
}

void wr_mark_alive(struct g *g) {
    struct wr_seen *s = wr_seen_of(g);
    if (s->queued) return;
    s->queued = true;
    todo[n_todo++] = (uintptr_t)g | ALIVE;
}

/* Words are read as they lie there, by whatever type. */
typedef uintptr_t __attribute__((may_alias)) any_word;
typedef uintptr_t __attribute__((may_alias, aligned(1))) any_word_anywhere;

__attribute__((no_sanitize("address"))) static void scan_page_run(uintptr_t lo, uintptr_t hi, void *roots) {
    uintptr_t span = greatest - least;
    bool draining = roots != NULL;
    lo = (lo + 7) & ~(uintptr_t)7;
    if (closely) {
        for (uintptr_t at = lo; at + 8 <= hi; at++) {
            uintptr_t word = *(const any_word_anywhere *)at;
            if (word - least > span) continue;
            if (draining) wr_origin.root = at;
            mark(word), mark_past_end(word);
            if (draining) wr_mark_drain();
        }
        return;
    }
    for (uintptr_t at = lo; at + 8 <= hi; at += 8) {
        uintptr_t word = *(const any_word *)at;
        if (word - least > span) continue;
        if (draining) wr_origin.root = at;
        mark(word);
        if (draining) wr_mark_drain();
    }
}

/* Of a large piece only the pages that are there: looking at the others would be slow, and some cannot be. */
static void scan(uintptr_t lo, uintptr_t hi) {
    if (hi - lo > 1 << 16) wr_pages_each(lo, hi, scan_page_run, NULL);
    else scan_page_run(lo, hi, NULL);
}

static void scan_block(uintptr_t key) {
    const struct wr_region *r = region_at(key);
    if (!r) return;
    uintptr_t lo = key + r->header, hi = key + r->header + wr_block_size(key);
    wr_origin.holder = lo;
    if (!wr_scan_specially(lo, hi)) scan(lo, hi);
    wr_origin.holder = 0;
}

void wr_mark_drain(void) {
    while (n_todo) {
        uintptr_t next = todo[--n_todo];
        struct g *g = (struct g *)(next & ~(uintptr_t)15);
        if (next & ALIVE) {
            struct wr_seen *s = wr_seen_of(g);
            if (!s->reached) {
                s->reached = true;
                wr_reached((uintptr_t)g);
                scan(s->sp, (uintptr_t)g->stack_hi);
            }
            wr_alive(g);
        } else if (next & ITS_STACK) {
            scan(wr_seen_of(g)->sp, (uintptr_t)g->stack_hi);
        } else {
            scan_block(next);
        }
    }
}

void wr_mark_all(uintptr_t lo, uintptr_t hi) {
    static bool roots;
    scan_page_run(lo, hi, &roots);
}
void wr_mark_range(uintptr_t lo, uintptr_t hi) {
    static bool roots;
    wr_pages_each(lo, hi, scan_page_run, &roots);
}

/* ---- The second look --------------------------------------------------------------------------------------- */

void wr_mark_closely(void) { closely = true; }

static void scan_seen(struct g *g, struct wr_seen *s) {
    if (!s->reached || !s->sp) return;
    wr_origin = (struct wr_origin){ .by = WR_REACH_GOROUTINE, .owner = g->id };
    scan(s->sp, (uintptr_t)g->stack_hi);
    wr_mark_drain();
}

void wr_mark_again(void) {
    wr_seen_each(scan_seen);
    for (size_t i = 0; i < wr_n_regions; i++) {
        struct wr_region *r = &wr_regions[i];
        size_t words = ((r->hi - r->lo) / 16 + 63) / 64;
        for (size_t k = 0; k < words; k++)
            for (uint64_t word = r->mark[k]; word; word &= word - 1) {
                scan_block(r->lo + (k * 64 + (size_t)__builtin_ctzll(word)) * 16);
                wr_mark_drain();
            }
    }
}
