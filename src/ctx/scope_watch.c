/*
 * What is kept an eye on: the end of a scope's context, children that outlive it, and, in debug builds, scopes that
 * were left open in a function that has returned.
 *
 * The grace report runs in a timer's fire, on a worker, with no lock held; it looks at the children as a dump does,
 * while they go on.
 */
#include "ctx/ctx.h"

#include <inttypes.h>
#include <stdlib.h>

void (*wr_hook_scope_report)(struct g *g, bool held);
bool (*wr_hook_place)(uintptr_t pc, char *text, size_t size);

void wr_scope_describe(const struct weir_scope_ *in, char *text, size_t size) {
    char place[200];
    if (!wr_hook_place || !wr_hook_place(in->opened_at, place, sizeof place))
        snprintf(place, sizeof place, "%#" PRIxPTR, in->opened_at);
    snprintf(text, size, "scope opened at %s", place);
}

/* ---- The grace report --------------------------------------------------------------------------- */

#define DEFAULT_GRACE (10 * WEIR_SECOND)

/* Read once: getenv is no call for a busy program. 0: not yet read. */
static _Atomic weir_duration known_grace;

static weir_duration grace(void) {
    weir_duration d = atomic_load_explicit(&known_grace, memory_order_relaxed);
    if (d) return d;
    const char *text = getenv("WEIR_SCOPE_GRACE");
    if (!text || !*text) {
        d = DEFAULT_GRACE;
    } else if (!wr_parse_duration(text, &d)) {
        wr_warn("WEIR_SCOPE_GRACE=%s is no duration, such as 500ms, 10s or 2m; 10s is used", text);
        d = DEFAULT_GRACE;
    }
    if (d < WEIR_MILLISECOND) d = WEIR_MILLISECOND;
    atomic_store_explicit(&known_grace, d, memory_order_relaxed);
    return d;
}

/* "250ms", "10s", "1m30s". */
static void duration_text(weir_duration d, char *text, size_t size) {
    if (d < WEIR_SECOND)
        snprintf(text, size, "%" PRId64 "ms", d / WEIR_MILLISECOND);
    else if (d < WEIR_MINUTE)
        snprintf(text, size, "%" PRId64 "s", d / WEIR_SECOND);
    else
        snprintf(text, size, "%" PRId64 "m%" PRId64 "s", d / WEIR_MINUTE, d % WEIR_MINUTE / WEIR_SECOND);
}

/* Without the trace room: which goroutine, what it waits for, where it was started. */
static void show_plainly(struct g *g, bool held) {
    const char *state = "running";
    struct wr_wait *w = atomic_load_explicit(&g->wait, memory_order_acquire);
    if (held && w && atomic_load_explicit(&g->state, memory_order_acquire) == WR_G_WAITING)
        state = wr_reason_text[w->reason];
    if (g->site)
        wr_warn("goroutine %" PRIu64 " [%s]: %s, started at %s:%d", g->id, state, g->site->function, g->site->file,
                g->site->line);
    else
        wr_warn("goroutine %" PRIu64 " [%s]", g->id, state);
}

static void show_child(struct g *g, bool held, void *scope) {
    if (__atomic_load_n(&g->owner, __ATOMIC_RELAXED) != scope) return;
    if (wr_hook_scope_report)
        wr_hook_scope_report(g, held);
    else
        show_plainly(g, held);
}

static void report(struct weir_scope_ *in, uint32_t alive, weir_duration ago) {
    char scope[256], since[32];
    wr_scope_describe(in, scope, sizeof scope);
    duration_text(ago, since, sizeof since);
    wr_warn("%s cancelled %s ago, %" PRIu32 " goroutine%s still alive:", scope, since, alive, alive == 1 ? "" : "s");
    wr_each_goroutine(show_child, in);
}

/* The lock is held. The timer brings a count, which reporting stands for. */
static void arm(struct weir_scope_ *in) { in->reporting = wr_timer_add(&in->timer, wr_after(grace())) == 0; }

static weir_time grace_over(struct wr_timer *t, weir_time now) {
    struct weir_scope_ *in = wr_container(t, struct weir_scope_, timer);
    wr_lock(&in->lock, WR_RANK_SCOPE);
    uint32_t alive = in->live;
    weir_duration ago = now - in->ended_at;
    wr_unlock(&in->lock, WR_RANK_SCOPE);
    if (alive) report(in, alive, ago);

    wr_lock(&in->lock, WR_RANK_SCOPE);
    in->reporting = false;
    if (in->live > 0) arm(in);
    bool again = in->reporting;
    wr_unlock(&in->lock, WR_RANK_SCOPE);
    if (!again) wr_scope_release(in);
    return 0;
}

/* If the timer cannot be taken out any more, it fires, finds no child alive, and drops its count itself. */
bool wr_scope_stop_reports(struct weir_scope_ *in) {
    if (!in->reporting || !wr_timer_del(&in->timer)) return false;
    in->reporting = false;
    return true;
}

/* Nothing is started from here on: take_slot looks at the context under the lock. */
void wr_scope_ended(struct wr_ctx_watch *w) {
    struct weir_scope_ *in = wr_container(w, struct weir_scope_, watch);
    wr_lock(&in->lock, WR_RANK_SCOPE);
    wr_scope_refuse_slots(in, weir_ctx_err(in->ctx));
    in->ended_at = wr_now();
    if (in->live > 0) {
        in->timer.fire = grace_over;
        arm(in);
        if (in->reporting) wr_scope_retain(in);
    }
    wr_unlock(&in->lock, WR_RANK_SCOPE);
    wr_scope_release(in);
}

/* ---- Scopes left open --------------------------------------------------------------------------- */

#ifdef WEIR_DEBUG
/*
 * Live frames lie above this function's. A record below it is in none of them. One above may have been built over
 * since: then it does not hold what it should.
 */
__attribute__((noinline)) void wr_scope_check_frames(struct g *g, const weir_scope *opening) {
    const char *frame = __builtin_frame_address(0);
    for (weir_block_ *b = g->blocks; b; b = b->outer_) {
        if (b->leave_ != wr_scope_block_left) continue;
        struct weir_scope_ *in = wr_scope_of_block(b);
        if (atomic_load_explicit(&in->closed, memory_order_acquire)) continue;
        const char *record = (const char *)in->record;
        bool on_stack = record >= g->stack_lo && record < g->stack_hi;
        bool gone = on_stack && (record < frame || !wr_scope_has_record(in));
        if (!gone && in->record != opening) continue;
        char text[256];
        wr_scope_describe(in, text, sizeof text);
        if (gone) wr_fatal("%s was not closed, and the function that opened it has returned", text);
        wr_fatal("%s was not closed, and is opened again", text);
    }
}
#endif
