/*
 * Scopes: opening, waiting, closing. Starting children is in scope_go.c; the grace report and the
 * debug checks are in scope_watch.c.
 *
 * The user's weir_scope holds little: what matters lies in a weir_scope_ on the heap, which children, waiters and the
 * watch on its context count, so that whoever comes last, and from whichever thread, finds it. The record in the
 * user's frame is read and written by its own functions alone; children use it too (to start siblings), and
 * may, because no call that would let its frame go returns before they have ended.
 *
 * How control is kept: `live` counts the children, from before each is started until its goroutine is through with
 * all but its last instructions. Waiting sleeps until live is 0. It cannot be cancelled; what a cancelled waiter does
 * instead is to cancel the scope, so that the children have reason to hurry, and wait on.
 */
#include "ctx/ctx.h"

#include <stdlib.h>

void wr_scope_retain(struct weir_scope_ *in) { atomic_fetch_add_explicit(&in->refs, 1, memory_order_relaxed); }

void wr_scope_release(struct weir_scope_ *in) {
    if (atomic_fetch_sub_explicit(&in->refs, 1, memory_order_acq_rel) > 1) return;
    wr_assert(in->live == 0 && !in->reporting);
    weir_ctx_release(in->ctx);
    wr_untag(&in->tag);
    free(in);
}

/* ---- Opening ------------------------------------------------------------------------------------ */

/* Scopes of this goroutine that another one has closed could not be taken out of its list then. */
static void prune(struct g *g) {
    for (weir_block_ *b; (b = g->blocks) && b->leave_ == wr_scope_block_left;) {
        struct weir_scope_ *in = wr_scope_of_block(b);
        if (!atomic_load_explicit(&in->closed, memory_order_acquire)) return;
        wr_block_pop(b);
        wr_scope_release(in);
    }
}

static int open_scope(weir_scope *s, weir_ctx *parent, uintptr_t where) {
    wr_scope_check_frames(wr_self(), s);
    *s = (weir_scope){ .in_ = NULL };
    struct weir_scope_ *in = wr_zalloc(sizeof *in);
    if (!in) return -ENOMEM;
    in->ctx = wr_ctx_make_ending(wr_ctx_of(parent), WR_NEVER, false);
    if (in->ctx == &wr_ctx_no_memory.ctx) {
        free(in);
        return -ENOMEM;
    }
    in->tag = wr_tag(in, WR_TAG_SCOPE);
    wr_list_init(&in->slots);
    wr_list_init(&in->waiters);
    in->opened_at = where;
    in->record = s;
    in->watch.ended = wr_scope_ended;
    atomic_init(&in->refs, 2);
    if (!wr_ctx_watch(in->ctx->end, &in->watch)) wr_scope_ended(&in->watch);
    s->in_ = in;
    return 0;
}

int weir_scope_open(weir_scope *s, weir_ctx *ctx) {
    int e = open_scope(s, ctx, (uintptr_t)__builtin_return_address(0));
    if (e) return e;
    struct weir_scope_ *in = s->in_;
    prune(wr_self());
    wr_scope_retain(in);
    atomic_store_explicit(&in->opener, wr_self(), memory_order_relaxed);
    wr_block_push(&in->block, wr_scope_block_left);
    return 0;
}

/* ---- Waiting ------------------------------------------------------------------------------------ */

static int wait_all(struct weir_scope_ *in, bool cancellable) {
    wr_scope_retain(in);
    wr_lock(&in->lock, WR_RANK_SCOPE);
    while (in->live > 0) {
        struct wr_wait w;
        struct wr_node node = { .wait = &w, .code = 1 };
        wr_wait_init(&w, WR_WAIT_SCOPE, in);
        w.cancellable = cancellable;
        wr_list_append(&in->waiters, &node.link);
        wr_unlock(&in->lock, WR_RANK_SCOPE);
        int why = wr_park(&w);
        if (why < 0) {
            /* Our context has ended, or a healer found us. We stay; the children must go. */
            cancellable = false;
            int cause = weir_ctx_cause(NULL);
            weir_ctx_cancel_cause(in->ctx, cause ? cause : why);
        }
        wr_lock(&in->lock, WR_RANK_SCOPE);
        if (wr_list_linked(&node.link)) wr_list_remove(&node.link);
    }
    int result = in->first;
    wr_unlock(&in->lock, WR_RANK_SCOPE);
    wr_scope_release(in);
    return result;
}

int weir_scope_wait(weir_scope *s) {
    wr_scope_check_frames(wr_self(), NULL);
    return s->in_ ? wait_all(s->in_, true) : -EINVAL;
}

/* ---- Closing ------------------------------------------------------------------------------------ */

/* Wait, and let go of it. The first to get past the wait does the letting go. A context made below the scope's, and
 * handed out, ends with the scope in any case. */
static int finish(weir_scope *s, struct weir_scope_ *in, bool cancel) {
    wr_scope_retain(in);
    if (cancel) weir_ctx_cancel(in->ctx);
    int result = wait_all(in, !cancel);
    s->in_ = NULL;
    s->result_ = result;
    if (!atomic_exchange_explicit(&in->closed, true, memory_order_acq_rel)) {
        if (wr_ctx_unwatch(in->ctx->end, &in->watch)) wr_scope_release(in);
        weir_ctx_cancel(in->ctx);
        if (atomic_load_explicit(&in->opener, memory_order_relaxed) == wr_self()) {
            atomic_store_explicit(&in->opener, NULL, memory_order_relaxed);
            wr_block_pop(&in->block);
            wr_scope_release(in);
        }
        wr_scope_release(in); /* the record's */
    }
    wr_scope_release(in);
    return result;
}

int weir_scope_close(weir_scope *s) {
    wr_scope_check_frames(wr_self(), NULL);
    return s->in_ ? finish(s, s->in_, true) : s->result_;
}

/* The record may be in a frame that has gone, and something else in its place. */
__attribute__((no_sanitize("address", "thread")))
bool wr_scope_has_record(const struct weir_scope_ *in) { return in->record->in_ == in; }

/* The opener ends, and has not closed the scope. After weir_exit that is in order. A goroutine that simply returned has
 * left the record in a frame that is gone: touch it only if it looks as if it were still there. */
void wr_scope_block_left(weir_block_ *b) {
    struct weir_scope_ *in = wr_scope_of_block(b);
    atomic_store_explicit(&in->opener, NULL, memory_order_relaxed);
    if (!atomic_load_explicit(&in->closed, memory_order_acquire)) {
#ifdef WEIR_DEBUG
        if (!wr_self()->exiting) {
            char text[256];
            wr_scope_describe(in, text, sizeof text);
            wr_fatal("a goroutine has ended with an open scope: %s", text);
        }
#endif
        weir_scope gone;
        finish(wr_scope_has_record(in) ? in->record : &gone, in, true);
    }
    wr_scope_release(in);
}

/* ---- weir_scoped -------------------------------------------------------------------------------- */

/* block_.a_: the context to go back to, with its count. It is the current one again while the scope is waited for. */
static void scoped_undo(weir_scope *s, bool cancel) {
    weir_ctx_release(wr_ctx_swap(s->block_.a_));
    int result = s->in_ ? finish(s, s->in_, cancel) : s->result_;
    if (s->err_) *s->err_ = result;
}

static void scoped_exit(weir_block_ *b) { scoped_undo(wr_container(b, weir_scope, block_), true); }

weir_scope *weir_scoped_enter_(weir_scope *s, int *err) {
    int e = open_scope(s, NULL, (uintptr_t)__builtin_return_address(0));
    if (e) {
        if (!err) wr_fatal("weir_scoped: out of memory");
        *err = e;
        return NULL;
    }
    s->err_ = err;
    s->block_.a_ = wr_ctx_swap(weir_ctx_retain(s->in_->ctx));
    wr_block_push(&s->block_, scoped_exit);
    return s;
}

weir_scope *weir_scoped_end_(weir_scope *s) {
    wr_block_pop(&s->block_);
    scoped_undo(s, false);
    return NULL;
}

void weir_scoped_leave_(weir_scope *s) {
    if (!s->block_.leave_) return;
    wr_block_pop(&s->block_);
    scoped_undo(s, true);
}

/* ---- The rest ----------------------------------------------------------------------------------- */

void weir_scope_cancel(weir_scope *s) {
    if (s->in_) weir_ctx_cancel(s->in_->ctx);
}

weir_ctx *weir_scope_ctx(weir_scope *s) { return s->in_ ? s->in_->ctx : NULL; }

int weir_scope_limit(weir_scope *s, int n) {
    struct weir_scope_ *in = s->in_;
    if (!in) return -EINVAL;
    wr_lock(&in->lock, WR_RANK_SCOPE);
    bool busy = in->live > 0;
    if (!busy) in->limit = n > 0 ? (uint32_t)n : 0;
    wr_unlock(&in->lock, WR_RANK_SCOPE);
    return busy ? -EBUSY : 0;
}

int weir_scope_supervise(weir_scope *s) {
    struct weir_scope_ *in = s->in_;
    if (!in) return -EINVAL;
    wr_lock(&in->lock, WR_RANK_SCOPE);
    in->supervised = true;
    wr_unlock(&in->lock, WR_RANK_SCOPE);
    return 0;
}
