/*
 * How a context ends: by cancel, by its deadline, with its parent. One procedure for all three, wr_ctx_end.
 *
 * The order for one context: err and cause under its lock (from here on nothing can be linked to it); its timer
 * disarmed; the done channel closed; those asleep under it woken; the watches told; the children taken over into the
 * list of what is to be ended. That list is threaded through the contexts themselves (`next`, which belongs to him
 * who unlinked the context from its parent), so neither depth nor breadth costs stack or memory, and each context
 * costs a constant. No lock is held over more than a few list operations, and no two at once.
 *
 * What cancel() promises: when it returns, all below has ended, even if somebody else got there first and is not
 * through yet. So a context stays in its parent's list until all below it has ended, and who finds a context already
 * ended waits until it is settled, as one waits for a lock: for a thread that is at work and does not sleep. It waits
 * last, after it has done its own part, for contexts below those it ended only; so the waiting goes strictly down the
 * tree, and cannot go in circles.
 */
#include "ctx/ctx.h"

/* ---- Links -------------------------------------------------------------------------------------- */

bool wr_ending_attach(struct wr_ending *e, struct wr_ending *above) {
    wr_lock(&above->lock, WR_RANK_CTX);
    bool lives = atomic_load_explicit(&above->err, memory_order_relaxed) == 0;
    if (lives) wr_list_append(&above->children, &e->in_parent);
    wr_unlock(&above->lock, WR_RANK_CTX);
    /* Its deadline may have ended it just before: then the one who did came too early to unlink it. */
    if (lives && atomic_load_explicit(&e->err, memory_order_relaxed)) wr_ending_detach(e);
    return lives;
}

void wr_ending_detach(struct wr_ending *e) {
    if (!e->above) return;
    wr_lock(&e->above->lock, WR_RANK_CTX);
    if (wr_list_linked(&e->in_parent)) wr_list_remove(&e->in_parent);
    wr_unlock(&e->above->lock, WR_RANK_CTX);
}

bool wr_ctx_watch(struct wr_ending *e, struct wr_ctx_watch *w) {
    wr_lock(&e->lock, WR_RANK_CTX);
    bool lives = atomic_load_explicit(&e->err, memory_order_relaxed) == 0;
    if (lives) wr_list_append(&e->watches, &w->link);
    wr_unlock(&e->lock, WR_RANK_CTX);
    return lives;
}

bool wr_ctx_unwatch(struct wr_ending *e, struct wr_ctx_watch *w) {
    wr_lock(&e->lock, WR_RANK_CTX);
    bool linked = wr_list_linked(&w->link);
    if (linked) wr_list_remove(&w->link);
    wr_unlock(&e->lock, WR_RANK_CTX);
    return linked;
}

/* ---- Ending ------------------------------------------------------------------------------------- */

static void settle(struct wr_ending *e) {
    if (atomic_exchange_explicit(&e->settled, 1, memory_order_release) == 2) wr_futex_wake(&e->settled, INT32_MAX);
}

static void wait_settled(struct wr_ending *e) {
    for (int spin = 0; spin < 100; spin++) {
        if (atomic_load_explicit(&e->settled, memory_order_acquire) == 1) return;
        wr_pause();
    }
    for (uint32_t seen; (seen = atomic_load_explicit(&e->settled, memory_order_acquire)) != 1;)
        if (seen == 2 || atomic_compare_exchange_weak_explicit(&e->settled, &seen, 2, memory_order_relaxed,
                                                               memory_order_relaxed))
            wr_futex_wait(&e->settled, 2, WR_NEVER);
}

/* What one ending has taken over: contexts with a count of ours, in the order in which they were linked. */
struct taken {
    struct wr_ending *first, *last;
};

static void tell_watches(struct wr_ending *e) {
    for (;;) {
        wr_lock(&e->lock, WR_RANK_CTX);
        struct wr_list *link = wr_list_pop(&e->watches);
        wr_unlock(&e->lock, WR_RANK_CTX);
        if (!link) return;
        struct wr_ctx_watch *w = wr_container(link, struct wr_ctx_watch, link);
        w->ended(w);
    }
}

/* A child that cannot be retained is on its way out, waiting for this lock perhaps: it is as good as gone, but must
 * not be touched once the lock is free. */
static void take_children(struct wr_ending *e, struct taken *taken) {
    for (;;) {
        wr_lock(&e->lock, WR_RANK_CTX);
        struct wr_list *link = wr_list_pop(&e->children);
        struct wr_ending *child = link ? wr_container(link, struct wr_ending, in_parent) : NULL;
        bool alive = child && wr_ctx_try_retain(&child->ctx);
        wr_unlock(&e->lock, WR_RANK_CTX);
        if (!child) return;
        if (!alive) continue;
        child->next = NULL;
        if (taken->last)
            taken->last->next = child;
        else
            taken->first = child;
        taken->last = child;
    }
}

/* False: it had ended already. */
static bool end_one(struct wr_ending *e, int err, int cause, struct taken *taken) {
    wr_lock(&e->lock, WR_RANK_CTX);
    bool first = atomic_load_explicit(&e->err, memory_order_relaxed) == 0;
    weir_chan *done = atomic_load_explicit(&e->done, memory_order_relaxed);
    if (first) {
        atomic_store_explicit(&e->cause, cause, memory_order_relaxed);
        atomic_store_explicit(&e->err, err, memory_order_release);
    }
    wr_unlock(&e->lock, WR_RANK_CTX);
    if (!first) return false;

    if (e->timed && wr_timer_del(&e->timer)) wr_ending_drop(e);
    if (done) weir_chan_close(done); /* first: a select that also has the done arm prefers it to the error */
    wr_cancel_fire(&e->cancel, err);
    tell_watches(e);
    take_children(e, taken);
    return true;
}

void wr_ctx_end(struct wr_ending *e, int err, int cause) {
    struct taken taken = { NULL, NULL };
    if (!end_one(e, err, cause, &taken)) {
        wait_settled(e);
        return;
    }
    /* `late` are those that somebody else has ended; they leave the list of ours for one of their own. */
    struct wr_ending *ours = NULL, *late = NULL;
    while (taken.first) {
        struct wr_ending *child = taken.first, *last = taken.last;
        bool was_ours = end_one(child, err, cause, &taken), leaf = taken.last == last;
        if (!(taken.first = child->next)) taken.last = NULL;
        if (was_ours && leaf) { /* whoever it has woken may be waiting for that already */
            settle(child);
            weir_ctx_release(&child->ctx);
            continue;
        }
        struct wr_ending **list = was_ours ? &ours : &late;
        child->next = *list, *list = child;
    }
    for (struct wr_ending *child; (child = late);) {
        late = child->next;
        wait_settled(child);
        weir_ctx_release(&child->ctx);
    }
    for (struct wr_ending *child; (child = ours);) {
        ours = child->next;
        settle(child);
        weir_ctx_release(&child->ctx);
    }
    wr_ending_detach(e);
    settle(e);
}

void weir_ctx_cancel(weir_ctx *ctx) { weir_ctx_cancel_cause(ctx, 0); }

/* The count is for a context whose owner is woken by this very call, and releases it. */
void weir_ctx_cancel_cause(weir_ctx *ctx, int err) {
    ctx = wr_ctx_of(ctx);
    if (ctx->kind != WR_CTX_ENDS) return;
    weir_ctx_retain(ctx);
    wr_ctx_end(wr_ending_of(ctx), -ECANCELED, err ? err : -ECANCELED);
    weir_ctx_release(ctx);
}

/* Called without locks; the timer's hold keeps the memory. */
weir_time wr_ctx_deadline_fired(struct wr_timer *t, weir_time now) {
    struct wr_ending *e = wr_container(t, struct wr_ending, timer);
    (void)now;
    if (wr_ctx_try_retain(&e->ctx)) {
        wr_ctx_end(e, -ETIMEDOUT, -ETIMEDOUT);
        weir_ctx_release(&e->ctx);
    }
    wr_ending_drop(e);
    return 0;
}
