/*
 * weir_ctx_after_func: a watch on a context that, told of its end, starts fn in a goroutine of its own.
 *
 * The object is a weir_timer, so it is stopped and freed as one. It has two counts: the user's, and the watch's, which
 * whoever unlinks the watch takes over: stop, or the end of the context, which keeps it until fn is
 * started. After that nothing of the object is needed, so it may be freed while fn is queued or runs.
 */
#include "chan/timer.h"
#include "ctx/ctx.h"

#include <sched.h>
#include <stdlib.h>

struct after {
    struct weir_timer head;
    _Atomic uint32_t refs;
    _Atomic bool waiting;       /* not stopped, not started: whoever clears it decides which */
    weir_ctx *ctx;              /* counted */
    struct wr_ctx_watch watch;
    struct wr_timer retry;      /* while no goroutine can be made */
    void (*fn)(void *);
    void *arg;
    const weir_site_ *site;
};

static void drop(struct after *a) {
    if (atomic_fetch_sub_explicit(&a->refs, 1, memory_order_acq_rel) > 1) return;
    weir_ctx_release(a->ctx);
    free(a);
}

/* Start fn; without memory for a goroutine, try again in a millisecond, for the caller was promised that fn runs. (If
 * the timer finds no memory either, it is as if that millisecond had passed.) -EPERM: the runtime has stopped, and
 * nothing runs any more. */
static void start(struct after *a) {
    for (;;) {
        int e = wr_spawn1(a->fn, a->arg, a->site);
        if (e != -ENOMEM && e != -EAGAIN) break;
        if (wr_timer_add(&a->retry, wr_after(WEIR_MILLISECOND)) == 0) return;
        sched_yield();
    }
    drop(a);
}

static weir_time try_again(struct wr_timer *t, weir_time now) {
    (void)now;
    start(wr_container(t, struct after, retry));
    return 0;
}

static void ended(struct wr_ctx_watch *w) {
    struct after *a = wr_container(w, struct after, watch);
    if (atomic_exchange_explicit(&a->waiting, false, memory_order_relaxed))
        start(a);
    else
        drop(a);
}

static bool stop(weir_timer *t) {
    struct after *a = wr_container(t, struct after, head);
    bool stopped = atomic_exchange_explicit(&a->waiting, false, memory_order_relaxed);
    if (stopped && a->ctx->end && wr_ctx_unwatch(a->ctx->end, &a->watch)) drop(a);
    return stopped;
}

/* It has no time to be set to. */
static bool reset(weir_timer *t, weir_duration d) {
    (void)t, (void)d;
    return false;
}

static void release(weir_timer *t) {
    stop(t);
    drop(wr_container(t, struct after, head));
}

static const struct wr_timer_ops after_ops = { .stop = stop, .reset = reset, .free = release };

weir_timer *weir_ctx_after_func_(weir_ctx *ctx, void (*fn)(void *), void *arg, const weir_site_ *site) {
    struct after *a = wr_zalloc(sizeof *a);
    if (!a) return NULL;
    a->head.ops = &after_ops;
    a->ctx = weir_ctx_retain(wr_ctx_of(ctx));
    a->watch.ended = ended;
    a->retry.fire = try_again;
    a->fn = fn, a->arg = arg, a->site = site;
    bool ends = a->ctx->end != NULL;
    atomic_init(&a->waiting, true);
    atomic_init(&a->refs, ends ? 2 : 1);
    if (ends && !wr_ctx_watch(a->ctx->end, &a->watch)) ended(&a->watch);
    return &a->head;
}
