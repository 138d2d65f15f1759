/*
 * Counting by stack, in a table of fixed size, without a lock: signal handlers add to it, and a forked child may find it in any state.
 *
 * A cell is found by the hash of its stack and text, in one of the next PROBES places. It goes through three states, and never back:
 *
 *   hash 0            free
 *   hash, not ready   one thread has won it by a compare-and-swap, and fills it in
 *   ready             what is in it stays; only the sums change, by atomic additions
 *
 * Who wants to add to a stack looks for a ready cell that has it, or wins a free one. A cell that is just being filled, with the
 * same hash perhaps, is passed by, since its owner may be stopped, or be in another process: so a stack may come to have two cells,
 * and who reads adds those up. The owner's stores come before `ready` (release), and who finds `ready` (acquire) sees them.
 * Nothing is waited for, no cell is ever given up, so an addition ends after PROBES steps.
 *
 * Where the table or its words are used up, or a stack has no free place left, the event goes into `rest`: it is counted, though not
 * known by its stack. A fork can leave a cell that is never ready; that is one cell less in the child.
 */
#include "profile/stacks.h"

#include <string.h>
#include <sys/mman.h>

#define PROBES 32
enum { WORD = sizeof(uintptr_t) };

void wr_profile_table_is_full(void) { __asm__ volatile(""); }
const uintptr_t wr_full_stack[1] = { (uintptr_t)wr_profile_table_is_full + 1 };

/* The cells are followed by the words, in one mapping. */
int wr_stack_table_make(struct wr_stack_table *s, uint32_t n_cells, size_t n_words) {
    size_t bytes = n_cells * sizeof(struct wr_stack_cell) + n_words * WORD;
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return -ENOMEM;
    s->n_cells = n_cells, s->n_words = n_words, s->bytes = bytes;
    s->words = (uintptr_t *)(void *)((struct wr_stack_cell *)at + n_cells);
    atomic_store_explicit(&s->used_words, 0, memory_order_relaxed);
    atomic_store_explicit(&s->cells, at, memory_order_release);
    return 0;
}

void wr_stack_table_drop(struct wr_stack_table *s) {
    struct wr_stack_cell *cells = atomic_exchange(&s->cells, NULL);
    if (cells) munmap(cells, s->bytes);
    atomic_store(&s->rest, 0), atomic_store(&s->rest_nanoseconds, 0);
}

static uint64_t hash_of(const uintptr_t *pcs, size_t n, const char *text, size_t n_text) {
    uint64_t hash = 0xcbf29ce484222325ULL;
    for (size_t i = 0; i < n; i++) hash = (hash ^ pcs[i]) * 0x9e3779b97f4a7c15ULL, hash ^= hash >> 29;
    for (size_t i = 0; i < n_text; i++) hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3ULL;
    hash ^= hash >> 32;
    return hash ? hash : 1;
}

static bool is_ready(struct wr_stack_cell *c) { return atomic_load_explicit(&c->ready, memory_order_acquire) != 0; }

static const char *text_of(const struct wr_stack_table *s, const struct wr_stack_cell *c) {
    return (const char *)(s->words + c->at + c->n);
}

static bool holds(const struct wr_stack_table *s, struct wr_stack_cell *c, const uintptr_t *pcs, size_t n, const char *text,
                  size_t n_text) {
    return is_ready(c) && c->n == n && c->n_text == n_text && !memcmp(s->words + c->at, pcs, n * WORD) &&
           !memcmp(text_of(s, c), text, n_text);
}

/* The cell is ours. False: there are no words left, by now; it stays as it is. */
static bool fill(struct wr_stack_table *s, struct wr_stack_cell *c, const uintptr_t *pcs, size_t n, const char *text, size_t n_text) {
    size_t want = n + (n_text + WORD - 1) / WORD, at = atomic_fetch_add_explicit(&s->used_words, want, memory_order_relaxed);
    if (at + want > s->n_words) return false;
    memcpy(s->words + at, pcs, n * WORD);
    memcpy(s->words + at + n, text, n_text);
    c->at = (uint32_t)at, c->n = (uint16_t)n, c->n_text = (uint16_t)n_text;
    atomic_store_explicit(&c->ready, 1, memory_order_release);
    return true;
}

/* NULL: there is no room. */
static struct wr_stack_cell *find(struct wr_stack_table *s, const uintptr_t *pcs, size_t n, const char *text, size_t n_text) {
    struct wr_stack_cell *cells = atomic_load_explicit(&s->cells, memory_order_acquire);
    uint64_t hash = hash_of(pcs, n, text, n_text);
    for (uint32_t i = 0; cells && i < PROBES; i++) {
        struct wr_stack_cell *c = &cells[(hash + i) & (s->n_cells - 1)];
        uint64_t there = atomic_load_explicit(&c->hash, memory_order_relaxed);
        if (there == hash && holds(s, c, pcs, n, text, n_text)) return c;
        if (there) continue;
        if (atomic_load_explicit(&s->used_words, memory_order_relaxed) + n + n_text / WORD + 1 > s->n_words) return NULL;
        if (atomic_compare_exchange_strong_explicit(&c->hash, &there, hash, memory_order_relaxed, memory_order_relaxed))
            return fill(s, c, pcs, n, text, n_text) ? c : NULL;
        if (there == hash && holds(s, c, pcs, n, text, n_text)) return c;
    }
    return NULL;
}

void wr_stack_table_add(struct wr_stack_table *s, const uintptr_t *pcs, size_t n, const char *text, size_t n_text, uint64_t count,
                   uint64_t nanoseconds) {
    struct wr_stack_cell *c = find(s, pcs, n, text, n_text);
    atomic_fetch_add_explicit(c ? &c->count : &s->rest, count, memory_order_relaxed);
    atomic_fetch_add_explicit(c ? &c->nanoseconds : &s->rest_nanoseconds, nanoseconds, memory_order_relaxed);
}

void wr_stack_table_memory(struct wr_stack_table *s, void (*visit)(uintptr_t lo, uintptr_t hi)) {
    uintptr_t at = (uintptr_t)atomic_load(&s->cells);
    if (at) visit(at, at + s->bytes);
}

/* ---- Reading --------------------------------------------------------------------------------------------------- */

static bool same(const struct wr_stack_table *s, struct wr_stack_cell *a, struct wr_stack_cell *b) {
    return atomic_load_explicit(&a->hash, memory_order_relaxed) == atomic_load_explicit(&b->hash, memory_order_relaxed) &&
           is_ready(a) && holds(s, b, s->words + a->at, a->n, text_of(s, a), a->n_text);
}

size_t wr_stack_table_each(struct wr_stack_table *s, wr_stack_visitor *visit, void *arg) {
    struct wr_stack_cell *cells = atomic_load_explicit(&s->cells, memory_order_acquire);
    size_t seen = 0;
    for (uint32_t i = 0; cells && i < s->n_cells; i++) {
        struct wr_stack_cell *c = &cells[i];
        if (!is_ready(c)) continue;
        uint32_t home = (uint32_t)atomic_load_explicit(&c->hash, memory_order_relaxed) & (s->n_cells - 1);
        uint64_t count = 0, nanoseconds = 0;
        struct wr_stack_cell *first = NULL; /* of those with this stack: it speaks for all */
        for (uint32_t j = 0; j < PROBES && (!first || first == c); j++) {
            struct wr_stack_cell *other = &cells[(home + j) & (s->n_cells - 1)];
            if (other != c && !same(s, c, other)) continue;
            if (!first) first = other;
            count += atomic_load_explicit(&other->count, memory_order_relaxed);
            nanoseconds += atomic_load_explicit(&other->nanoseconds, memory_order_relaxed);
        }
        if (first != c) continue;
        visit(c, s->words + c->at, text_of(s, c), count, nanoseconds, arg);
        seen++;
    }
    return seen;
}
