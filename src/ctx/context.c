/*
 * Contexts: making them, counting them, asking them. How they end is in cancel.c.
 *
 * What a context says about itself lies in the nearest one that can end (`end`), so every question but that for a
 * value takes one step, however deep the tree. Any thread may call; nothing here blocks.
 */
#include "chan/chan.h"
#include "ctx/ctx.h"

#include <stdlib.h>

struct weir_ctx wr_ctx_background = { .kind = WR_CTX_STATIC };

/* Shared by all who found no memory: nothing in it changes, but for the done channel that the first to ask makes. */
struct wr_ending wr_ctx_no_memory = {
    .ctx = { .kind = WR_CTX_STATIC, .end = &wr_ctx_no_memory },
    .err = -ECANCELED,
    .cause = -ENOMEM,
    .settled = 1,
    .cancel = { .err = -ECANCELED, .waits = { &wr_ctx_no_memory.cancel.waits, &wr_ctx_no_memory.cancel.waits } },
    .children = { &wr_ctx_no_memory.children, &wr_ctx_no_memory.children },
    .watches = { &wr_ctx_no_memory.watches, &wr_ctx_no_memory.watches },
    .deadline = WR_NEVER,
};

/* The done channel of contexts that have ended, where there is no memory for one of their own. Never freed. */
static struct weir_chan ended_chan = {
    .refs = 1,
    .closed = true,
    .receivers = { &ended_chan.receivers, &ended_chan.receivers },
    .senders = { &ended_chan.senders, &ended_chan.senders },
    .magic = WR_CHAN_MAGIC,
};

/* ---- Counting ----------------------------------------------------------------------------------- */

weir_ctx *weir_ctx_retain(weir_ctx *ctx) {
    if (ctx && ctx->kind != WR_CTX_STATIC) {
        uint32_t before = atomic_fetch_add_explicit(&ctx->refs, 1, memory_order_relaxed);
        wr_assert(before > 0);
        (void)before;
    }
    return ctx;
}

bool wr_ctx_try_retain(weir_ctx *ctx) {
    uint32_t refs = atomic_load_explicit(&ctx->refs, memory_order_relaxed);
    while (refs > 0)
        if (atomic_compare_exchange_weak_explicit(&ctx->refs, &refs, refs + 1, memory_order_acquire,
                                                  memory_order_relaxed))
            return true;
    return false;
}

void wr_ending_drop(struct wr_ending *e) {
    if (atomic_fetch_sub_explicit(&e->holds, 1, memory_order_acq_rel) > 1) return;
    wr_untag(&e->ctx.tag);
    free(e);
}

/* The last user of e has gone, so nothing can be linked below it or watch it any more. */
static void dispose(struct wr_ending *e) {
    wr_assert(wr_list_empty(&e->children) && wr_list_empty(&e->watches));
    if (e->timed && wr_timer_del(&e->timer)) wr_ending_drop(e);
    wr_ending_detach(e);
    weir_chan_release(atomic_load_explicit(&e->done, memory_order_relaxed));
    wr_ending_drop(e);
}

/* A context that goes takes its count on the parent along, which may be the last: a loop, for a chain may be long. */
void weir_ctx_release(weir_ctx *ctx) {
    while (ctx && ctx->kind != WR_CTX_STATIC) {
        uint32_t before = atomic_fetch_sub_explicit(&ctx->refs, 1, memory_order_acq_rel);
        wr_assert(before > 0);
        if (before > 1) return;
        weir_ctx *parent = ctx->parent;
        if (ctx->kind == WR_CTX_ENDS) {
            dispose(wr_ending_of(ctx));
        } else {
            wr_untag(&ctx->tag);
            free(ctx);
        }
        ctx = parent;
    }
}

/* A goroutine that ends gives up its count on its current context. */
static void drop(void *ctx) { weir_ctx_release(ctx); }
__attribute__((constructor)) static void set_hook(void) { wr_hook_ctx_drop = drop; }

void weir_ctx_auto_cancel_(weir_ctx **ctx) {
    if (!*ctx) return; /* NULL would mean the current one */
    weir_ctx_cancel(*ctx);
    weir_ctx_release(*ctx);
    *ctx = NULL;
}

/* ---- Making ------------------------------------------------------------------------------------- */

static void init(weir_ctx *ctx, enum wr_ctx_kind kind, weir_ctx *parent, struct wr_ending *end) {
    *ctx = (struct weir_ctx){ .tag = wr_tag(ctx, WR_TAG_CTX), .refs = 1, .kind = kind, .parent = weir_ctx_retain(parent), .end = end };
}

/* The timer is armed before anyone can see the context, so whoever ends it finds the timer as it will stay. It may fire
 * before the context is linked; attaching looks at that. */
weir_ctx *wr_ctx_make_ending(weir_ctx *parent, weir_time when, bool detached) {
    struct wr_ending *e = wr_zalloc(sizeof *e);
    if (!e) return &wr_ctx_no_memory.ctx;
    struct wr_ending *above = detached ? NULL : parent->end;
    weir_time inherited = above ? above->deadline : WR_NEVER;
    atomic_init(&e->holds, 1);
    wr_cancel_init(&e->cancel);
    wr_list_init(&e->children);
    wr_list_init(&e->watches);
    e->above = above;
    e->deadline = when < inherited ? when : inherited;
    init(&e->ctx, WR_CTX_ENDS, parent, e);

    int above_err = above ? atomic_load_explicit(&above->err, memory_order_acquire) : 0;
    bool passed = !above_err && when != WR_NEVER && when <= wr_now();
    if (!above_err && !passed && when < inherited) {
        e->timed = true;
        e->timer.fire = wr_ctx_deadline_fired;
        atomic_store_explicit(&e->holds, 2, memory_order_relaxed);
        if (wr_timer_add(&e->timer, when)) {
            wr_untag(&e->ctx.tag);
            free(e);
            weir_ctx_release(parent);
            return &wr_ctx_no_memory.ctx;
        }
    }
    if (above && !wr_ending_attach(e, above))
        wr_ctx_end(e, atomic_load_explicit(&above->err, memory_order_relaxed),
                   atomic_load_explicit(&above->cause, memory_order_relaxed));
    else if (passed)
        wr_ctx_end(e, -ETIMEDOUT, -ETIMEDOUT);
    return &e->ctx;
}

weir_ctx *weir_ctx_with_cancel(weir_ctx *parent) { return wr_ctx_make_ending(wr_ctx_of(parent), WR_NEVER, false); }

weir_ctx *weir_ctx_with_timeout(weir_ctx *parent, weir_duration d) {
    return wr_ctx_make_ending(wr_ctx_of(parent), wr_after(d), false);
}

weir_ctx *weir_ctx_with_deadline(weir_ctx *parent, weir_time when) {
    return wr_ctx_make_ending(wr_ctx_of(parent), when < WR_NEVER ? when : WR_NEVER - 1, false);
}

weir_ctx *weir_ctx_without_cancel(weir_ctx *parent) {
    weir_ctx *ctx = malloc(sizeof *ctx);
    if (!ctx) return &wr_ctx_no_memory.ctx;
    init(ctx, WR_CTX_DETACHED, wr_ctx_of(parent), NULL);
    return ctx;
}

weir_ctx *weir_ctx_with_value(weir_ctx *parent, const void *key, void *value) {
    struct wr_valued *v = malloc(sizeof *v);
    if (!v) return &wr_ctx_no_memory.ctx;
    parent = wr_ctx_of(parent);
    init(&v->ctx, WR_CTX_VALUE, parent, parent->end);
    v->key = key, v->value = value;
    return &v->ctx;
}

/* ---- Asking ------------------------------------------------------------------------------------- */

weir_ctx *weir_ctx_background(void) { return &wr_ctx_background; }

weir_ctx *weir_ctx_current(void) {
    weir_ctx *ctx = wr_self()->ctx;
    return ctx ? ctx : &wr_ctx_background;
}

int weir_ctx_err(const weir_ctx *ctx) {
    struct wr_ending *e = wr_ctx_of(ctx)->end;
    return e ? atomic_load_explicit(&e->err, memory_order_acquire) : 0;
}

int weir_ctx_cause(const weir_ctx *ctx) {
    struct wr_ending *e = wr_ctx_of(ctx)->end;
    if (!e || !atomic_load_explicit(&e->err, memory_order_acquire)) return 0;
    return atomic_load_explicit(&e->cause, memory_order_relaxed);
}

bool weir_ctx_deadline(const weir_ctx *ctx, weir_time *when) {
    struct wr_ending *e = wr_ctx_of(ctx)->end;
    if (!e || e->deadline == WR_NEVER) return false;
    if (when) *when = e->deadline;
    return true;
}

void *weir_ctx_value(const weir_ctx *ctx, const void *key) {
    for (weir_ctx *c = wr_ctx_of(ctx); c; c = c->parent)
        if (c->kind == WR_CTX_VALUE && wr_container(c, struct wr_valued, ctx)->key == key)
            return wr_container(c, struct wr_valued, ctx)->value;
    return NULL;
}

/*
 * Made when first asked for: few contexts are. Published under the lock under which err is set, so exactly one
 * of us two closes it: the one who ends the context if he finds it, else we.
 */
weir_done_chan weir_ctx_done(weir_ctx *ctx) {
    struct wr_ending *e = wr_ctx_of(ctx)->end;
    if (!e) return (weir_done_chan){ 0 };
    weir_chan *done = atomic_load_explicit(&e->done, memory_order_acquire);
    if (done) return (weir_done_chan){ done };

    weir_chan *fresh = weir_chan_make(0, 0);
    bool closed = atomic_load_explicit(&e->err, memory_order_acquire) != 0;
    if (!fresh) return (weir_done_chan){ closed ? &ended_chan : NULL };
    if (closed) weir_chan_close(fresh);
    wr_lock(&e->lock, WR_RANK_CTX);
    done = atomic_load_explicit(&e->done, memory_order_relaxed);
    if (!done) {
        if (!closed && atomic_load_explicit(&e->err, memory_order_relaxed)) weir_chan_close(fresh);
        atomic_store_explicit(&e->done, fresh, memory_order_release);
        done = fresh, fresh = NULL;
    }
    wr_unlock(&e->lock, WR_RANK_CTX);
    weir_chan_release(fresh);
    return (weir_done_chan){ done };
}
