/*
 * In the child: memory as things that reach each other. Conservative: every word, at whatever address, that could be a pointer
 * into a thing, to its begin, its inside or its end, is taken for one. Each thing is scanned once, so the whole is linear in the
 * memory looked at.
 *
 * What that costs is waiting for memory. So a word that points somewhere is first put aside, and its place in the map asked for;
 * and so is a block before it is scanned. By the time they are looked at they are there.
 */
#include "leak/heap.h"
#include "sched/world.h"

#include <string.h>

struct wr_slab *wr_slabs;
size_t wr_n_slabs;
WR_PRIVATE static uintptr_t least = UINTPTR_MAX, greatest; /* no thing lies outside */

/* Regions and slabs together, sorted: one search tells what an address is of. */
static struct range {
    uintptr_t lo, hi;
    struct wr_region *region; /* or: */
    struct wr_slab *slab;
} *ranges;
static size_t n_ranges;

static struct summary {
    uint64_t *words;          /* a bit for each 64 granules of the region: there are bounds among them */
    uint64_t *words_of_words; /* the same of `words` */
} *summaries;

typedef uint8_t __attribute__((vector_size(16), may_alias, aligned(1))) any_bytes;
typedef uint8_t __attribute__((vector_size(16))) bytes;
typedef uint64_t __attribute__((vector_size(16))) pair;
static const bytes no_bytes;
static bytes low_fifth, high_fifth;             /* the fifth bytes of `least` and `greatest`, counted from 0 */

/* What is to be scanned: the key of a block; of a stack, | ITS_STACK; of a goroutine that has come alive, | ALIVE. */
enum { ITS_STACK = 1, ALIVE = 2 };
static uintptr_t *todo;
static size_t n_todo;
WR_PRIVATE struct wr_origin wr_origin;

static void summarize(const struct wr_region *r, struct summary *s);

/* ---- Tables ------------------------------------------------------------------------------------------------ */

static void count_slab(uintptr_t base, size_t slot, uint32_t used, uint32_t n, void *arg) { wr_n_slabs++; }
static void add_slab(uintptr_t base, size_t slot, uint32_t used, uint32_t n, void *arg) {
    size_t i = wr_n_slabs++;
    for (; i > 0 && wr_slabs[i - 1].lo > base; i--) wr_slabs[i] = wr_slabs[i - 1]; /* newest first, mostly below the last: few moves */
    wr_slabs[i] = (struct wr_slab){ base, base + slot * n, slot, used, NULL };
}
void wr_slabs_find(void) {
    if (wr_slabs) return;
    wr_slabs_each(count_slab, NULL);
    wr_slabs = wr_child_alloc((wr_n_slabs + 1) * sizeof *wr_slabs);
    wr_n_slabs = 0;
    wr_slabs_each(add_slab, NULL);
}

void wr_mark_init(void) {
    size_t granules = 0, goroutines = 0;
    wr_slabs_find();
    ranges = wr_child_alloc((wr_n_slabs + wr_n_regions + 1) * sizeof *ranges);
    summaries = wr_child_alloc((wr_n_regions + 1) * sizeof *summaries);
    for (size_t i = 0, k = 0; i < wr_n_slabs || k < wr_n_regions;) {
        struct wr_slab *s = i < wr_n_slabs ? &wr_slabs[i] : NULL;
        struct wr_region *r = k < wr_n_regions ? &wr_regions[k] : NULL;
        if (s && !(r && r->lo < s->lo)) {
            s->seen = wr_child_alloc((s->used + 1) * sizeof *s->seen);
            goroutines += s->used;
            ranges[n_ranges++] = (struct range){ s->lo, s->hi, NULL, s };
            i++;
        } else if (r) {
            summarize(r, &summaries[k]);
            granules += (r->hi - r->lo) / 16;
            ranges[n_ranges++] = (struct range){ r->lo, r->hi, r, NULL };
            k++;
        }
    }
    if (n_ranges) least = ranges[0].lo, greatest = ranges[n_ranges - 1].hi;
    memset(&low_fifth, (int)(least >> 40 & 255), sizeof low_fifth);
    memset(&high_fifth, (int)(greatest >> 40 & 255), sizeof high_fifth);
    todo = wr_child_alloc((granules + 2 * goroutines + 16) * sizeof *todo); /* each at most once; only what is used becomes real */
}

/* The first that ends behind it; n_ranges: none. */
static size_t range_behind(uintptr_t address) {
    size_t lo = 0, hi = n_ranges;
    while (lo < hi) {
        size_t middle = (lo + hi) / 2;
        if (ranges[middle].hi <= address) lo = middle + 1;
        else hi = middle;
    }
    return lo;
}

/* NULL: it is of none. The last answer for the neighbourhood is mostly the next one too. */
static inline struct range *range_at(uintptr_t address) {
    static struct range *near[256];
    struct range **at = &near[address >> 21 & 255];
    if (wr_likely(*at && address >= (*at)->lo && address < (*at)->hi)) return *at;
    size_t i = range_behind(address);
    return i < n_ranges && ranges[i].lo <= address ? *at = &ranges[i] : NULL;
}
static struct wr_slab *slab_at(uintptr_t address) {
    struct range *r = range_at(address);
    return r ? r->slab : NULL;
}
static struct wr_region *region_at(uintptr_t address) {
    struct range *r = range_at(address);
    return r ? r->region : NULL;
}

static struct g *g_in(const struct wr_slab *s, uintptr_t address) {
    size_t i = (address - s->lo) / s->slot;
    return i < s->used ? wr_slot_g(s->lo + i * s->slot, s->slot) : NULL;
}
struct g *wr_g_at(uintptr_t address) {
    const struct wr_slab *s = slab_at(address);
    return s ? g_in(s, address) : NULL;
}

struct wr_seen *wr_seen_of(struct g *g) {
    const struct wr_slab *s = slab_at((uintptr_t)g);
    if (!s) wr_child_give_up("goroutine %p is in no slab", (void *)g);
    return &s->seen[((uintptr_t)g - s->lo) / s->slot];
}

void wr_seen_each(void (*visit)(struct g *g, struct wr_seen *s)) {
    enum { AHEAD_OF = 8 }; /* control blocks lie on a page each */
    for (size_t i = 0; i < wr_n_slabs; i++)
        for (uint32_t k = 0; k < wr_slabs[i].used; k++) {
            __builtin_prefetch(wr_slot_g(wr_slabs[i].lo + (k + AHEAD_OF) * wr_slabs[i].slot, wr_slabs[i].slot));
            visit(wr_slot_g(wr_slabs[i].lo + k * wr_slabs[i].slot, wr_slabs[i].slot), &wr_slabs[i].seen[k]);
        }
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

/* The bound at granule i or before it; SIZE_MAX: none. A block may be a GiB long, and have many pointers into it: so the summary has a
 * bit for each 64 granules with one, and another for each word of these. */
static size_t bound_before(const struct wr_region *r, size_t i) {
    uint64_t word = r->map[i / 64].bound & (~(uint64_t)0 >> (63 - i % 64));
    if (wr_likely(word != 0)) return i / 64 * 64 + 63 - (size_t)__builtin_clzll(word);
    const struct summary *s = &summaries[r - wr_regions];
    size_t k = i / 64;
    for (size_t back = 0; back < 8; back++) { /* mostly near */
        if (k == 0) return SIZE_MAX;
        if (r->map[--k].bound) return k * 64 + 63 - (size_t)__builtin_clzll(r->map[k].bound);
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
    return k * 64 + 63 - (size_t)__builtin_clzll(r->map[k].bound);
}

static void summarize(const struct wr_region *r, struct summary *s) {
    size_t n = ((r->hi - r->lo) / 16 + 63) / 64;
    s->words = wr_child_alloc((n / 64 + 1) * sizeof *s->words);
    s->words_of_words = wr_child_alloc((n / 4096 + 1) * sizeof *s->words_of_words);
    for (size_t k = 0; k < n; k++)
        if (r->map[k].bound) {
            s->words[k / 64] |= (uint64_t)1 << (k % 64);
            s->words_of_words[k / 4096] |= (uint64_t)1 << (k / 64 % 64);
        }
}
static size_t bound_after(const struct wr_region *r, size_t i) {
    size_t n = (r->hi - r->lo) / 16, k = ++i / 64;
    if (i >= n) return n;
    uint64_t word = r->map[k].bound & (~(uint64_t)0 << (i % 64));
    while (!word) {
        if (++k * 64 >= n) return n;
        word = r->map[k].bound;
    }
    i = k * 64 + (size_t)__builtin_ctzll(word);
    return i < n ? i : n;
}

/* The granule where the block in use begins that has the address; SIZE_MAX: none has. */
static size_t block_at(const struct wr_region *r, uintptr_t address) {
    size_t i = (address - r->lo) / 16;
    if (address % 16 < r->tail && wr_bit(r, bound, i)) { /* the end of the one before */
        if (i == 0) return SIZE_MAX;
        i--;
    }
    size_t begin = bound_before(r, i);
    if (begin == SIZE_MAX || !wr_bit(r, used, begin)) return SIZE_MAX;
    return address >= r->lo + begin * 16 + r->header ? begin : SIZE_MAX;
}

static size_t size_in(const struct wr_region *r, uintptr_t key) {
    size_t begin = (key - r->lo) / 16;
    return (bound_after(r, begin) - begin) * 16 - r->header + r->tail;
}
size_t wr_block_size(uintptr_t key) {
    const struct wr_region *r = region_at(key);
    return r ? size_in(r, key) : 0;
}

void wr_block_opaque(uintptr_t address) {
    struct wr_region *r = region_at(address);
    size_t begin = r ? block_at(r, address) : SIZE_MAX;
    if (begin != SIZE_MAX) wr_bit_clear(r, used, begin);
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

void wr_thing_wakes(uintptr_t key) {
    struct wr_region *r = region_at(key);
    if (r) wr_bit_set(r, wakes, (key - r->lo) / 16);
}

/* ---- Reaching ---------------------------------------------------------------------------------------------- */

static void reach_block(struct wr_region *r, size_t begin) {
    if (wr_bit(r, mark, begin)) return;
    wr_bit_set(r, mark, begin);
    todo[n_todo++] = r->lo + begin * 16;
    if (wr_unlikely(wr_bit(r, wakes, begin))) wr_reached(r->lo + begin * 16);
}

static void reach_stack(const struct wr_slab *slab, uintptr_t word) {
    struct g *g = g_in(slab, word);
    struct wr_seen *s = g ? &slab->seen[(word - slab->lo) / slab->slot] : NULL;
    if (!s || s->reached || !in_stack(word, g, s)) return;
    s->reached = true;
    todo[n_todo++] = (uintptr_t)g | ITS_STACK;
    wr_reached((uintptr_t)g);
}

/*
 * A loop may keep nothing but the end of what it goes through, or the address in front of it: so the block that ends where the word
 * points counts too, and that in whose header it points. No object of the program's ends where a stack does, and there lies
 * the control block, which many point to. Where blocks have spare bytes behind them one past the end is inside, and nothing of the
 * program's ends where a block does.
 */
static void reach_end(struct wr_region *r, uintptr_t word) {
    size_t begin = r->spares ? SIZE_MAX : block_at(r, word - 1);
    if (begin != SIZE_MAX) reach_block(r, begin);
}
static void reach_into(struct wr_region *r, uintptr_t word) {
    size_t begin = block_at(r, word), i = (word - r->lo) / 16;
    if (begin != SIZE_MAX) {
        reach_block(r, begin);
        uintptr_t first = r->lo + begin * 16 + r->header;
        if (word > first ? !wr_bit(r, bound, i) : r->header) return; /* as mostly: nothing else is near */
    }
    if (word > r->lo) reach_end(r, word);
    if (wr_bit(r, bound, i) && (begin = block_at(r, r->lo + (i + 1) * 16)) != SIZE_MAX) reach_block(r, begin);
}

/* ---- Seeing: words that lie within a range, put aside until their part of the map is there ----------------- */

enum { AHEAD = 32 };
WR_PRIVATE static struct sight {
    uintptr_t word;
    struct range *in;  /* it points there; or to the end of it */
    uintptr_t holder;  /* the block in which it was seen */
    uintptr_t at;      /* and its place */
} sights[AHEAD];
static size_t n_sights;
WR_PRIVATE static uintptr_t holder;
static bool in_roots;

static void look_up(const struct sight *s) {
    wr_origin.holder = s->holder;
    if (s->in->slab) {
        if (s->word < s->in->hi) reach_stack(s->in->slab, s->word);
    } else if (s->word == s->in->hi) {
        reach_end(s->in->region, s->word);
    } else {
        reach_into(s->in->region, s->word);
    }
}

/* What a word of a root reaches is followed to its end before the next one's turn comes: so each thing knows its root. */
static void flush(void) {
    if (!in_roots) {
        for (size_t i = 0; i < n_sights; i++) look_up(&sights[i]);
        n_sights = 0;
        return;
    }
    struct sight batch[AHEAD];
    size_t n = n_sights;
    memcpy(batch, sights, n * sizeof *batch);
    n_sights = 0;
    in_roots = false;
    for (size_t i = 0; i < n; i++) {
        wr_origin.root = batch[i].at;
        look_up(&batch[i]);
        if (n_todo) wr_mark_drain();
    }
    in_roots = true;
}

static inline void put_aside(uintptr_t word, struct range *in, uintptr_t at) {
    if (in->region) __builtin_prefetch(&in->region->map[(word - in->lo) / 1024], 1);
    if (n_sights == AHEAD) flush();
    sights[n_sights++] = (struct sight){ word, in, holder, at };
}

static inline void see(uintptr_t word, uintptr_t at) {
    if (word - least > greatest - least) return;
    struct range *in = range_at(word);
    if (in) put_aside(word, in, at);
    if (wr_likely(in && word != in->lo)) return;
    struct range *before = in ? in - 1 : &ranges[range_behind(word)] - 1;
    if (before >= ranges && before->hi == word) put_aside(word, before, at);
}

void wr_mark_word(uintptr_t word) { see(word, 0); }

void wr_mark_alive(struct g *g) {
    struct wr_seen *s = wr_seen_of(g);
    if (s->queued) return;
    s->queued = true;
    todo[n_todo++] = (uintptr_t)g | ALIVE;
}

/* ---- Scanning ---------------------------------------------------------------------------------------------- */

/* Words are read as they lie there, by whatever type. */
typedef uintptr_t __attribute__((may_alias, aligned(1))) any_word;

/* Of the sixteen addresses from `at` on, those (0xff) at which a word begins whose six low bytes may be an address that counts
 * and whose two high ones are 0. */
static inline __attribute__((no_sanitize("address"), always_inline)) pair may_be_addresses(uintptr_t at) {
    bytes fifth = *(const any_bytes *)(at + 5), high = *(const any_bytes *)(at + 6) | *(const any_bytes *)(at + 7);
    bytes found = (bytes)((fifth >= low_fifth) & (fifth <= high_fifth) & (high == no_bytes));
    if (!low_fifth[0]) { /* not small numbers */
        bytes middle = *(const any_bytes *)(at + 2) | *(const any_bytes *)(at + 3) | *(const any_bytes *)(at + 4);
        found &= (bytes)((middle | fifth) != no_bytes);
    }
    return (pair)found;
}

static __attribute__((no_sanitize("address"))) void scan_run(uintptr_t lo, uintptr_t hi) {
    uintptr_t at = lo;
    if (greatest >> 48 == 0)
        for (; hi - at >= 16 + 7 && at < hi; at += 16) {
            pair found = may_be_addresses(at);
            for (int half = 0; half < 2; half++)
                for (uint64_t bits = found[half]; bits;) {
                    unsigned k = (unsigned)__builtin_ctzll(bits);
                    uintptr_t place = at + (uintptr_t)half * 8 + k / 8;
                    bits &= ~((uint64_t)0xff << k);
                    see(*(const any_word *)place, place);
                }
        }
    for (; at + 8 <= hi; at++) see(*(const any_word *)at, at);
}
static void scan_page_run(uintptr_t lo, uintptr_t hi, void *arg) {
    (void)arg;
    scan_run(lo, hi);
}

/* Of a large piece only the pages that are there: looking at the others would be slow, and some cannot be. */
static void scan(uintptr_t lo, uintptr_t hi) {
    if (hi - lo > 1 << 16) wr_pages_each(lo, hi, scan_page_run, NULL);
    else scan_run(lo, hi);
}

static void scan_stack(struct g *g, const struct wr_seen *s) { scan(s->sp, (uintptr_t)g->stack_hi); }

static void scan_alive(struct g *g) {
    struct wr_seen *s = wr_seen_of(g);
    if (!s->reached) {
        s->reached = true;
        wr_origin.holder = 0;
        wr_reached((uintptr_t)g);
        scan_stack(g, s);
    }
    wr_alive(g);
}

static void scan_block(const struct wr_region *r, uintptr_t key) {
    uintptr_t lo = key + r->header, hi = lo + size_in(r, key);
    holder = lo;
    if (!wr_scan_specially(lo, hi)) scan(lo, hi);
    holder = 0;
}

/* Blocks wait in a short queue for their memory, behind the stack of all that is to be done. */
void wr_mark_drain(void) {
    enum { QUEUE = 8 };
    WR_PRIVATE static struct {
        const struct wr_region *region;
        uintptr_t key;
    } queue[QUEUE];
    for (unsigned first = 0, last = 0;;) {
        while (n_todo && last - first < QUEUE) {
            uintptr_t next = todo[--n_todo];
            struct g *g = (struct g *)(next & ~(uintptr_t)15);
            if (next & ALIVE) {
                scan_alive(g);
            } else if (next & ITS_STACK) {
                scan_stack(g, wr_seen_of(g));
            } else {
                const struct wr_region *r = region_at(next);
                if (!r) wr_child_give_up("block %#zx is in no heap", (size_t)next);
                __builtin_prefetch((const void *)(next + r->header));
                __builtin_prefetch((const void *)(next + r->header + 64));
                __builtin_prefetch(&r->map[(next - r->lo) / 1024]);
                queue[last % QUEUE].region = r, queue[last++ % QUEUE].key = next;
            }
        }
        if (first != last) {
            scan_block(queue[first % QUEUE].region, queue[first % QUEUE].key);
            first++;
        } else if (n_sights) {
            flush();
        } else if (!n_todo) {
            return;
        }
    }
}

/* A word of root memory: what it reaches is followed at once. */
static void scan_roots(uintptr_t lo, uintptr_t hi, void *arg) {
    (void)arg;
    in_roots = true;
    scan_run(lo, hi);
    flush();
    in_roots = false;
}
void wr_mark_all(uintptr_t lo, uintptr_t hi) { scan_roots(lo, hi, NULL); }
void wr_mark_range(uintptr_t lo, uintptr_t hi) { wr_pages_each(lo, hi, scan_roots, NULL); }
