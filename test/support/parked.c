/*
 * Waiting until goroutines are parked: looks at the wait records, so that no test has to sleep and hope. Any
 * goroutine or thread may call it.
 */
#include "test.h"

#include <sched.h>
#include <stdatomic.h>
#include <time.h>

#include "sched/sched.h"

struct look {
    uint64_t self, id;     /* who asks; of whom, 0: of all others */
    const char *state;     /* NULL: any */
    size_t seen, parked;   /* that id lives; that many are parked so */
};

/* One that is not held may be ending, or starting anew. */
WR_RACY static void look_at(struct g *g, bool held, void *arg) {
    struct look *look = arg;
    if (g->id == look->self || (look->id && g->id != look->id)) return;
    look->seen++;
    if (!held || atomic_load(&g->state) != WR_G_WAITING) return;
    struct wr_wait *w = atomic_load(&g->wait);
    if (!w || atomic_load(&w->decided)) return;
    if (!look->state || strcmp(wr_reason_text[w->reason], look->state) == 0) look->parked++;
}

static struct look look(uint64_t id, const char *state) {
    struct look l = { weir_id(), id, state, 0, 0 };
    wr_each_goroutine(look_at, &l);
    return l;
}

/* Yielding alone would keep a processor from a thread that needs it, so now and then the thread pauses too. */
void test_pause(void) {
    static _Atomic unsigned turns;
    if (!wr_sched_running()) {
        sched_yield();
        return;
    }
    weir_yield();
    if (atomic_fetch_add_explicit(&turns, 1, memory_order_relaxed) % 64 == 63)
        nanosleep(&(struct timespec){ .tv_nsec = 50000 }, NULL);
}

void test_until_parked(uint64_t id, const char *state) {
    for (;;) {
        struct look l = look(id, state);
        if (l.parked) return;
        if (!l.seen)
            FAIL("goroutine %llu is gone, and was to park in: %s", (unsigned long long)id, state ? state : "any");
        test_pause();
    }
}

size_t test_parked(const char *state) { return look(0, state).parked; }

void test_until_n_parked(size_t n, const char *state) { TEST_UNTIL(test_parked(state) >= n); }
