/*
 * The block and mutex profiles. sched and sync call us through hooks, which are set only while a profile is on; so what is off costs
 * them a load and a branch where they park, or wake somebody, anyway.
 *
 * Sampling. Of waits of duration d < rate, one is taken with probability d / rate, and counts as rate / d waits and rate
 * nanoseconds: what is expected of it is one wait, and d. Longer ones are always taken. So the sums are right on average at each
 * stack, whatever mixture of durations there is. Of the mutex's events one in n is taken, and counts for n.
 *
 * An event is recorded by the goroutine that it happened to, on its own stack, when it holds no lock; the table (stacks.c) needs none.
 * What lies inside of the public call is cut off by its address, since names cannot be looked up then; what
 * lies further out of weir's is left out when somebody reads.
 */
#include "profile/stacks.h"

#include "sync/sync.h"

enum { CELLS = 4096, WORDS = 24 * CELLS, INSIDE = 12 /* frames of ours below the public call, at most */ };

static struct {
    struct wr_stack_table stacks;
    _Atomic bool made;
} profiles[2];                        /* by enum wr_profile */

static struct wr_lock setting;        /* rank LEAF: rates and hooks change together */
static _Atomic weir_duration rate;    /* of the block profile; 0: off */
static _Atomic int fraction;          /* of the mutex profile; 0: off */

/* ---- Recording ------------------------------------------------------------------------------------------------- */

/* A function of its own, so that no address of a thread-local is kept over a switch. */
static __attribute__((noinline)) uint64_t random_below(uint64_t n) {
    static __thread uint64_t state __attribute__((tls_model("initial-exec")));
    if (!state) state = (uint64_t)wr_now() ^ (uint64_t)(uintptr_t)&state;
    return (uint64_t)(((unsigned __int128)wr_random(&state) * n) >> 64);
}

static __attribute__((noinline)) void record(enum wr_profile which, double count, double nanoseconds) {
    uintptr_t pcs[INSIDE + WR_LONGEST_STACK];
    int saved_errno = errno;
    size_t n = wr_unwind_here(pcs, sizeof pcs / sizeof pcs[0], 0), from = 0;
    while (from < n && from < INSIDE && !wr_in_public_function(pcs[from])) from++;
    if (from == n || from == INSIDE) from = 0;
    n -= from;
    if (n > WR_LONGEST_STACK) n = WR_LONGEST_STACK;
    const double most = (double)(INT64_MAX / 2);
    count *= WR_COUNT_ONE;
    wr_stack_table_add(&profiles[which].stacks, pcs + from, n, "", 0, count < most ? (uint64_t)(count + 0.5) : INT64_MAX / 2,
                  nanoseconds < most ? (uint64_t)nanoseconds : INT64_MAX / 2);
    errno = saved_errno;
}

/* As in Go, neither sleeping nor waiting for a descriptor is blocking. */
static void on_block(enum wr_reason reason, weir_duration slept) {
    weir_duration every = atomic_load_explicit(&rate, memory_order_relaxed);
    if (reason == WR_WAIT_NONE || reason == WR_WAIT_SLEEP || reason == WR_WAIT_IO || every <= 0) return;
    if (slept <= 0) slept = 1; /* shorter than the clock can tell */
    if (slept >= every) record(WR_PROFILE_BLOCK, 1, (double)slept);
    else if (random_below((uint64_t)every) < (uint64_t)slept)
        record(WR_PROFILE_BLOCK, (double)every / (double)slept, (double)every);
}

static void on_contended(uint64_t waiters, weir_duration waited) {
    int n = atomic_load_explicit(&fraction, memory_order_relaxed);
    if (n <= 0 || (n > 1 && random_below((uint64_t)n) != 0)) return;
    record(WR_PROFILE_MUTEX, (double)n * (double)waiters, (double)n * (double)waited);
}

/* ---- Switching on and off -------------------------------------------------------------------------------------- */

/* Kept for good, as others may be adding. While one makes it, what another records goes to `rest`. */
static void make_table(enum wr_profile which) {
    if (atomic_exchange(&profiles[which].made, true)) return;
    if (wr_stack_table_make(&profiles[which].stacks, CELLS, WORDS)) atomic_store(&profiles[which].made, false);
}

void weir_block_profile_rate(weir_duration ns) {
    int saved_errno = errno;
    if (ns > 0) make_table(WR_PROFILE_BLOCK);
    wr_lock(&setting, WR_RANK_LEAF);
    atomic_store(&rate, ns > 0 ? ns : 0);
    atomic_store(&wr_hook_block, ns > 0 ? on_block : NULL);
    wr_unlock(&setting, WR_RANK_LEAF);
    errno = saved_errno;
}

int weir_mutex_profile_fraction(int n) {
    int saved_errno = errno;
    if (n < 0) return atomic_load(&fraction);
    if (n > 0) make_table(WR_PROFILE_MUTEX);
    wr_lock(&setting, WR_RANK_LEAF);
    int before = atomic_exchange(&fraction, n);
    atomic_store(&wr_hook_contended, n > 0 ? on_contended : NULL);
    wr_unlock(&setting, WR_RANK_LEAF);
    errno = saved_errno;
    return before;
}

/* ---- Reading --------------------------------------------------------------------------------------------------- */

#define SHOWN (1u << 16)

/* Which part of the stack a dump would show. Found by names, so not when it was recorded. Whoever finds it finds the same. */
static void look_up(struct wr_stack_cell *c, const uintptr_t *pcs, const char *text, uint64_t count, uint64_t nanoseconds, void *arg) {
    struct wr_snapshot s = { .n = c->n, .pcs = pcs };
    size_t from = 0, to = c->n;
    (void)text, (void)count, (void)nanoseconds, (void)arg;
    if (atomic_load_explicit(&c->shown, memory_order_relaxed)) return;
    if (c->n > 0) wr_snapshot_shown(&s, &from, &to);
    atomic_store_explicit(&c->shown, SHOWN | (uint32_t)to << 8 | (uint32_t)from, memory_order_relaxed);
}

static void look_all_up(void *stacks) {
    wr_symbol_refresh();
    (void)wr_stack_table_each(stacks, look_up, NULL);
}

struct reader {
    void (*visit)(const uintptr_t *pcs, size_t n, uint64_t count, uint64_t nanoseconds, void *arg);
    void *arg;
};

static uint64_t whole(uint64_t count) { return (count + WR_COUNT_ONE / 2) / WR_COUNT_ONE; }

static void tell(struct wr_stack_cell *c, const uintptr_t *pcs, const char *text, uint64_t count, uint64_t nanoseconds, void *arg) {
    const struct reader *r = arg;
    uint32_t shown = atomic_load_explicit(&c->shown, memory_order_relaxed), from = shown & 0xff, to = shown >> 8 & 0xff;
    (void)text;
    if (!(shown & SHOWN)) from = 0, to = c->n; /* recorded since the names were looked up */
    r->visit(pcs + from, to - from, whole(count), nanoseconds, r->arg);
}

size_t wr_profile_each(enum wr_profile which,
                       void (*visit)(const uintptr_t *pcs, size_t n, uint64_t count, uint64_t nanoseconds, void *arg), void *arg) {
    struct wr_stack_table *stacks = &profiles[which].stacks;
    struct reader reader = { visit, arg };
    int saved_errno = errno;
    (void)wr_on_large_stack(look_all_up, stacks); /* without memory for it all is shown */
    size_t n = wr_stack_table_each(stacks, tell, &reader);
    uint64_t rest = atomic_load(&stacks->rest);
    if (rest) {
        visit(wr_full_stack, 1, whole(rest), atomic_load(&stacks->rest_nanoseconds), arg);
        n++;
    }
    errno = saved_errno;
    return n;
}

void wr_contention_memory_each(void (*visit)(uintptr_t lo, uintptr_t hi)) {
    for (int i = 0; i < 2; i++) wr_stack_table_memory(&profiles[i].stacks, visit);
}
