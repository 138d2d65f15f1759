/*
 * Healing: a healer is one more who may end a wait, and settles it by the same claim as a partner or a context. The
 * mark on a goroutine says that it is still in the wait that was proven, so it is all there is to look at.
 *
 * The goroutine is claimed while it is held and made ready when it is not: in between nobody else can resume it, since
 * that takes the claim.
 */
#include "leak/report.h"

#include <stdlib.h>

#include "trace/trace.h"

struct healing {
    weir_leak_report *r;
    struct wr_batch healed;
};

static int by_id(const void *id, const void *leak) {
    uint64_t a = *(const uint64_t *)id, b = ((const weir_leak *)leak)->id;
    return a < b ? -1 : a > b;
}

static void heal_one(struct g *g, bool held, void *arg) {
    struct healing *h = arg;
    if (!held || !atomic_load_explicit(&g->leaked, memory_order_relaxed)) return;
    if (atomic_load_explicit(&g->state, memory_order_acquire) != WR_G_WAITING) return;
    uint64_t id = g->id;
    if (!bsearch(&id, h->r->leaks, h->r->n, sizeof *h->r->leaks, by_id)) return;
    struct wr_wait *w = atomic_load_explicit(&g->wait, memory_order_acquire);
    if (!w || !w->cancellable || !wr_claim(w, -EDEADLK)) return;
    wr_batch_add(&h->healed, g);
}

int weir_leak_heal(weir_leak_report *r) {
    struct healing h = { .r = r };
    if (!r || !r->n || !wr_dump_enter()) return 0;
    wr_each_goroutine(heal_one, &h);
    wr_ready_all(&h.healed);
    wr_dump_leave();
    return (int)h.healed.n;
}
