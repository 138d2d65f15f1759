/* What the tests of profiles share: taking one, and asking which function is on its stacks. */
#ifndef PROFILE_TEST_H
#define PROFILE_TEST_H

#include "test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unwind.h>

#include "profile/profile.h"
#undef errno
#define errno (*weir_errno_())

typedef WEIR_CHAN(int) int_chan;

/* Keeps a call from becoming a jump, and a function from having no place of its own. */
#define STAY() __extension__({ __asm__ volatile("" ::: "memory"); })
#ifdef __clang__
#define NOT_INLINED __attribute__((noinline, unused))
#else
#define NOT_INLINED __attribute__((noinline, noclone, unused))
#endif

typedef void function(void);
#define FUNCTION(fn) ((function *)(void *)(fn))

enum { MOST_STACKS = 16384, DEEPEST = 128 };
struct stack {
    uint64_t count, ns;
    size_t n;
    uintptr_t pcs[DEEPEST];
    char labels[256];
};
struct profile {
    size_t n;
    uint64_t count, ns; /* of all */
    struct stack *stacks;
};

static inline void add_stack(const uintptr_t *pcs, size_t n, uint64_t count, uint64_t ns, void *arg) {
    struct profile *p = (struct profile *)arg;
    if (!p->stacks) CHECK(p->stacks = (struct stack *)calloc(MOST_STACKS, sizeof *p->stacks));
    CHECK(p->n < MOST_STACKS && n <= DEEPEST);
    struct stack *s = &p->stacks[p->n++];
    s->count = count, s->ns = ns, s->n = n;
    memcpy(s->pcs, pcs, n * sizeof *pcs);
    p->count += count, p->ns += ns;
}
static inline void add_labelled(const uintptr_t *pcs, size_t n, uint64_t count, uint64_t ns, const char *labels, void *arg) {
    struct profile *p = (struct profile *)arg;
    add_stack(pcs, n, count, ns, arg);
    CHECK(strlen(labels) < sizeof p->stacks->labels);
    strcpy(p->stacks[p->n - 1].labels, labels);
}

static inline struct profile take_profile(enum wr_profile which) {
    struct profile p = { .n = 0 };
    size_t n = wr_profile_each(which, add_stack, &p);
    CHECK_EQ(n, p.n);
    return p;
}
static inline void drop_profile(struct profile *p) {
    free(p->stacks);
    memset(p, 0, sizeof *p);
}

/* By the unwind tables, which are there even where no names are. It looks one byte before pc. */
static inline bool is_in(uintptr_t pc, function *fn) { return _Unwind_FindEnclosingFunction((void *)pc) == (void *)fn; }
/* A call of the public function fn. Optimised at link time, a part of it may be a function of its own. */
static inline bool is_call(uintptr_t pc, function *fn) { return is_in(pc, fn) || wr_in_public_function(pc); }
static inline bool on_stack(const struct stack *s, function *fn) {
    for (size_t i = 0; i < s->n; i++)
        if (is_in(s->pcs[i], fn)) return true;
    return false;
}

/* Sums over the stacks that have the function, or those with the labels too. */
static inline struct stack sum_of(const struct profile *p, function *fn, const char *labels) {
    struct stack sum = { .count = 0 };
    for (size_t i = 0; i < p->n; i++)
        if (on_stack(&p->stacks[i], fn) && (!labels || !strcmp(labels, p->stacks[i].labels))) {
            if (!sum.n) sum = p->stacks[i];
            else sum.count += p->stacks[i].count, sum.ns += p->stacks[i].ns;
        }
    return sum;
}
/* How often anybody has gone to sleep so far: a foreign thread does so once it has been counted. */
static inline uint64_t parks_so_far(void) {
    struct wr_counts c;
    wr_count_totals(&c);
    return c.parks;
}

static inline struct stack sum_now(enum wr_profile which, function *fn) {
    struct profile p = take_profile(which);
    struct stack sum = sum_of(&p, fn, NULL);
    drop_profile(&p);
    return sum;
}

#endif
