/* What the tests of locks share. */
#ifndef SYNC_TEST_H
#define SYNC_TEST_H

#include "test.h"
#include "threads.h"

#include <pthread.h>
#include <stdatomic.h>

#include "sched/sched.h"
#undef errno
#define errno (*weir_errno_())

#define GO(...) CHECK_EQ(weir_go(__VA_ARGS__), 0)

struct waiting_on_ {
    const char *state;
    const void *object;
    size_t n;
};
static inline void waiting_on_visit_(struct g *g, bool held, void *arg) {
    struct waiting_on_ *on = arg;
    if (!held || atomic_load(&g->state) != WR_G_WAITING) return;
    struct wr_wait *w = atomic_load(&g->wait);
    if (!w || atomic_load(&w->decided)) return;
    if (!strcmp(wr_reason_text[w->reason], on->state) && w->object == on->object) on->n++;
}
/* How many goroutines are parked in that state, on that object, says their wait record. */
static inline size_t waiting_on(const char *state, const void *object) {
    struct waiting_on_ on = { state, object, 0 };
    wr_each_goroutine(waiting_on_visit_, &on);
    return on.n;
}

/* Keep the processor for about that long, without the scheduler's help. */
static inline void compute(weir_duration d) {
    weir_time until = weir_now() + d;
    while (weir_now() < until) {
    }
}

static inline bool all_bytes_are(const void *memory, size_t n, unsigned char byte) {
    const unsigned char *bytes = memory;
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != byte) return false;
    return true;
}

#endif
