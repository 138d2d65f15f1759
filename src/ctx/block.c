/*
 * The current context of a goroutine, and the blocks that change it for a while: weir_with, weir_timeout,
 * weir_shield. A block lies in the frame that it is written in, and in its goroutine's list of blocks, innermost
 * first; both belong to that goroutine, so there are no locks here.
 *
 * A block is left once: by the cleanup of its variable, or before that by weir_exit, which unlinks it and calls its
 * leave.
 */
#include "ctx/ctx.h"

weir_ctx *wr_ctx_swap(weir_ctx *ctx) {
    struct g *g = wr_self();
    weir_ctx *previous = g->ctx;
    g->ctx = ctx;
    g->cancel = ctx ? wr_ctx_cancel_of(ctx) : NULL;
    return previous;
}

/* a_: the context to go back to, with its count. */
static void leave(weir_block_ *b) { weir_ctx_release(wr_ctx_swap(b->a_)); }

/* The context was made for the block: what was started under it is not to go on. Where the block's is the only count there is nobody who
 * could notice, nor can anybody come: those who get a count from the side only end it. */
static void leave_own(weir_block_ *b) {
    weir_ctx *own = wr_ctx_swap(b->a_);
    if (atomic_load_explicit(&own->refs, memory_order_acquire) > 1) weir_ctx_cancel(own);
    weir_ctx_release(own);
}

static weir_block_ *enter(weir_block_ *b, weir_ctx *ctx, void (*leave_it)(weir_block_ *)) {
    wr_scope_check_frames(wr_self(), NULL);
    *b = (weir_block_){ .a_ = wr_ctx_swap(ctx) };
    wr_block_push(b, leave_it);
    return b;
}

weir_block_ *weir_with_enter_(weir_block_ *b, weir_ctx *ctx) {
    return enter(b, weir_ctx_retain(wr_ctx_of(ctx)), leave);
}

weir_block_ *weir_timeout_enter_(weir_block_ *b, weir_duration d) {
    return enter(b, wr_ctx_make_ending(weir_ctx_current(), wr_after(d), false), leave_own);
}

weir_block_ *weir_shield_enter_(weir_block_ *b, weir_duration d) {
    return enter(b, wr_ctx_make_ending(weir_ctx_current(), wr_after(d), true), leave_own);
}

/*
 * Deferred calls and open scopes may lie before b in the list: they are the goroutine's, not the block's, come from
 * malloc, and stay. Another block of this stack before it is in a frame that longjmp has left.
 */
static void check_innermost(struct g *g, weir_block_ *b) {
    for (weir_block_ *x = g->blocks; x && x != b; x = x->outer_)
        if ((char *)x >= g->stack_lo && (char *)x < g->stack_hi)
            wr_fatal("a block was left before a block inside it");
}

void weir_block_leave_(weir_block_ *b) {
    void (*undo)(weir_block_ *) = b->leave_;
    if (!undo) return;
#ifdef WEIR_DEBUG
    check_innermost(wr_self(), b);
#else
    (void)check_innermost;
#endif
    wr_block_pop(b);
    undo(b);
}
