/*
 * Counting: what the threads have tallied, added up; and who is where just now.
 *
 * A tally is made on every park, start and end, so it must cost nothing: each worker has its own (m->tallies), and adds to it by a load
 * and a store of its own cache line. Who asks takes the sum, under sched.lock, which guards the list of workers. A worker
 * that goes leaves its part in wr_sched.tallies, under the same lock; so no sum ever falls.
 *
 * Latency, from ready to running, is timed for a few goroutines only, as two readings of the clock cost 60 ns, and starting and ending a
 * goroutine costs 100. A worker counts down from a random number of 256 on average (a fixed one would see a program that wakes goroutines
 * in the same order again and again always at the same place), and stamps the one that it makes ready then. That adds a decrement to each
 * wake-up, and a quarter of a nanosecond for the clock. Go times each goroutine's every eighth. What yields is not timed: it has chosen to
 * wait.
 */
#include "sched/inner.h"
#include "sched/world.h"

#include <string.h>

/* ---- Latency ------------------------------------------------------------------------------------------------- */

/* A function of its own, so that no address of a thread-local is kept over a switch. */
static __attribute__((noinline)) bool due_outside(void) {
    static __thread uint32_t until __attribute__((tls_model("initial-exec")));
    if (until) until--;
    else until = wr_choose(2 * WR_LATENCY_EVERY);
    return until == 0;
}

__attribute__((noinline, cold)) void wr_time_ready(struct m *m, struct g *g) {
    if (m) m->until_timed = 1 + wr_random_below(&m->random, 2 * WR_LATENCY_EVERY - 1);
    else if (!due_outside()) return;
    g->ready_at = wr_now();
}

__attribute__((noinline, cold)) void wr_ready_runs(struct m *m, struct g *g) {
    weir_duration d = wr_now() - g->ready_at;
    g->ready_at = 0;
    if (d < 0) d = 0;
    uint64_t units = (uint64_t)d / WR_LATENCY_LEAST;
    int bucket = units ? 64 - __builtin_clzll(units) : 0;
    if (bucket >= WR_LATENCY_BUCKETS) bucket = WR_LATENCY_BUCKETS - 1;
    _Atomic uint64_t *n = &m->tallies.latency[bucket], *sum = &m->tallies.latency_ns;
    atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + 1, memory_order_relaxed);
    atomic_store_explicit(sum, atomic_load_explicit(sum, memory_order_relaxed) + (uint64_t)d, memory_order_relaxed);
}

/* ---- Totals ---------------------------------------------------------------------------------------------------- */

static uint64_t total(enum wr_tally what) {
    uint64_t n = atomic_load_explicit(&wr_sched.tallies.n[what], memory_order_acquire);
    for (struct m *m = wr_sched.all_ms; m; m = m->next_m) n += atomic_load_explicit(&m->tallies.n[what], memory_order_acquire);
    return n;
}

/*
 * Whoever has ended was tallied as started before it could run, so started, read after ended, is no less. What starts or ends meanwhile may
 * be counted or not; all that was so before the call, and no less, is.
 */
size_t wr_goroutines_locked(void) {
    uint64_t ended = total(WR_ENDED);
    return (size_t)(total(WR_STARTED) - ended);
}
size_t wr_goroutines(void) {
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    size_t n = wr_goroutines_locked();
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    return n;
}

static void add_latency(struct wr_counts *c, struct wr_tallies *t) {
    for (int i = 0; i < WR_LATENCY_BUCKETS; i++) c->latency[i] += atomic_load_explicit(&t->latency[i], memory_order_relaxed);
    c->latency_ns += atomic_load_explicit(&t->latency_ns, memory_order_relaxed);
}

void wr_count_totals(struct wr_counts *c) {
    memset(c, 0, sizeof *c);
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    c->ended = total(WR_ENDED);
    c->started = total(WR_STARTED); /* after it, as above */
    c->parks = total(WR_PARKS);
    c->steals = total(WR_STEALS);
    c->wakes = total(WR_WAKES);
    c->handoffs = total(WR_HANDOFFS);
    c->threads_started = total(WR_THREADS);
    add_latency(c, &wr_sched.tallies);
    for (struct m *m = wr_sched.all_ms; m; m = m->next_m) add_latency(c, &m->tallies);
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
}

/* With the runtime end all goroutines, those too that were left where they stood. */
void wr_tallies_keep(void) {
    struct wr_tallies *all = &wr_sched.tallies;
    for (struct m *m = wr_sched.all_ms; m; m = m->next_m) {
        for (int i = 0; i < WR_TALLIES; i++)
            atomic_fetch_add(&all->n[i], atomic_exchange(&m->tallies.n[i], 0));
        for (int i = 0; i < WR_LATENCY_BUCKETS; i++)
            atomic_fetch_add(&all->latency[i], atomic_exchange(&m->tallies.latency[i], 0));
        atomic_fetch_add(&all->latency_ns, atomic_exchange(&m->tallies.latency_ns, 0));
    }
    atomic_store(&all->n[WR_ENDED], atomic_load(&all->n[WR_STARTED]));
}

/* ---- This moment ------------------------------------------------------------------------------------------------- */

struct census {
    struct wr_counts *c;
    void (*visit)(const struct weir_site_ *site, void *arg);
    void *arg;
};

/*
 * Nobody is held, so each is seen as it is when it is looked at, and one that moves on meanwhile may be seen in a state with a
 * wait that is over: any reason is a valid one then. Control blocks and stacks stay mapped while the runtime runs.
 */
WR_RACY static void count_one(const struct census *census, struct g *g, size_t slot) {
    struct wr_counts *c = census->c;
    uint32_t state = atomic_load_explicit(&g->state, memory_order_acquire);
    if (state == WR_G_DEAD) return;
    c->stack_in_use += slot;
    if (state == WR_G_RUNNING) c->running++;
    else if (state == WR_G_RUNNABLE) c->runnable++;
    else if (state == WR_G_BLOCKING) c->blocking++;
    else {
        const struct wr_wait *w = atomic_load_explicit(&g->wait, memory_order_acquire);
        unsigned reason = w ? w->reason : WR_WAIT_NONE;
        c->waiting[reason < WR_REASONS ? reason : WR_WAIT_NONE]++;
    }
    if (census->visit) census->visit(g->site, census->arg);
}

static void count_slab(uintptr_t base, size_t slot, uint32_t used, uint32_t n, void *arg) {
    const struct census *census = arg;
    census->c->stack_mapped += slot * n;
    for (uint32_t i = 0; i < used; i++) count_one(census, wr_slot_g(base + i * slot, slot), slot);
}

static uint32_t timers_of(struct wr_timers *t) {
    wr_lock(&t->lock, WR_RANK_TIMERS);
    uint32_t n = t->n;
    wr_unlock(&t->lock, WR_RANK_TIMERS);
    return n;
}

void wr_count_now(struct wr_counts *c, void (*visit)(const struct weir_site_ *site, void *arg), void *arg) {
    c->timers = timers_of(&wr_sched.timers);
    for (int i = 0, n = atomic_load_explicit(&wr_sched.made_ps, memory_order_acquire); i < n; i++) {
        struct p *p = atomic_load_explicit(&wr_sched.ps[i], memory_order_relaxed);
        uint32_t queued = wr_ring_count(p);
        c->queued_local += (queued <= WR_RING ? queued : 0) + (atomic_load(&p->runnext) != NULL);
        c->timers += timers_of(&p->timers);
    }
    c->queued_global = atomic_load_explicit(&wr_sched.global_n, memory_order_relaxed);
    c->procs = (uint64_t)atomic_load_explicit(&wr_sched.procs, memory_order_relaxed);
    c->descriptors = atomic_load_explicit(&wr_sched.waiting, memory_order_relaxed);
    c->foreign = atomic_load_explicit(&wr_sched.foreign, memory_order_relaxed);
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    c->threads = wr_sched.n_ms;
    c->idle_procs = atomic_load_explicit(&wr_sched.n_idle_ps, memory_order_relaxed);
    for (struct m *m = wr_sched.all_ms; m; m = m->next_m) c->idle_threads += m->idle;
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);

    struct census census = { c, visit, arg };
    wr_slabs_each(count_slab, &census);
}
