/* Contexts: cancellation, deadlines and values, handed down a tree. Go: package context. */
#ifndef WEIR_CTX_H
#define WEIR_CTX_H

WEIR_BEGIN_

/*
 * Every goroutine has a current context: the background one for a goroutine started by weir_go, the
 * scope's for one started in a scope, another inside weir_with and its kin. Each blocking call observes it:
 * once it is cancelled, the call returns -ECANCELED (or -ETIMEDOUT, when a deadline did it), every
 * time, and the operation did not happen. Calls that need not block are never refused.
 * Not cancellable: weir_mutex_lock, weir_rwmutex_*lock, weir_once_do, weir_blocking, weir_scope_wait, weir_scope_close.
 *
 * A context is counted: a constructor gives its caller one count, and holds one on its parent. Where a
 * context is asked for, NULL means the current one. A constructor that runs out of memory returns a shared
 * context that is already cancelled, with cause -ENOMEM; never NULL. Nothing here blocks, unless it says so.
 */
typedef struct weir_ctx weir_ctx;

WEIR_API_ void weir_ctx_release(weir_ctx *ctx); /* one count less; does not cancel. NULL is fine */
WEIR_API_ weir_ctx *weir_ctx_retain(weir_ctx *ctx); /* one count more; returns ctx. NULL is fine */

WEIR_API_ weir_ctx *weir_ctx_background(void); /* borrowed; never ends */
WEIR_API_ weir_ctx *weir_ctx_current(void);    /* borrowed: the calling goroutine's */

/* Ends when cancelled, or when its parent ends. Go: context.WithCancelCause. */
WEIR_API_ WEIR_MUST_USE_ weir_ctx *weir_ctx_with_cancel(weir_ctx *parent);
/* The same, and ends with -ETIMEDOUT after d, or at the deadline; d ≤ 0 or a deadline in the past: has ended
 * already. The parent's deadline counts if it is earlier. Go: context.WithTimeout, WithDeadline. */
WEIR_API_ WEIR_MUST_USE_ weir_ctx *weir_ctx_with_timeout(weir_ctx *parent, weir_duration d);
WEIR_API_ WEIR_MUST_USE_ weir_ctx *weir_ctx_with_deadline(weir_ctx *parent, weir_time when);
/* Has the parent's values, but not its end. Go: context.WithoutCancel. */
WEIR_API_ WEIR_MUST_USE_ weir_ctx *weir_ctx_without_cancel(weir_ctx *parent);
/* Adds a value, found by the key's address; value NULL hides an outer one. The value stays the caller's. Go:
 * context.WithValue. */
WEIR_API_ WEIR_MUST_USE_ weir_ctx *weir_ctx_with_value(weir_ctx *parent, const void *key, void *value);

/* End ctx and every context below it, and wake whoever waits under them: when it returns that has happened, even if
 * another thread has begun it. The first end counts. `err` is the cause (negative errno; 0 means -ECANCELED);
 * weir_ctx_err is -ECANCELED either way. No effect on a context without an end of its own: background,
 * without_cancel, with_value. Does not park the goroutine. Go: the CancelFunc, the CancelCauseFunc. */
WEIR_API_ void weir_ctx_cancel(weir_ctx *ctx);
WEIR_API_ void weir_ctx_cancel_cause(weir_ctx *ctx, int err);

WEIR_API_ int weir_ctx_err(const weir_ctx *ctx);   /* 0 while it lives, then -ECANCELED or -ETIMEDOUT */
WEIR_API_ int weir_ctx_cause(const weir_ctx *ctx); /* 0 while it lives, then the cause of its end */
WEIR_API_ bool weir_ctx_deadline(const weir_ctx *ctx, weir_time *when /* or NULL */); /* has it a deadline? */
WEIR_API_ void *weir_ctx_value(const weir_ctx *ctx, const void *key);                 /* NULL: none */
/* Closed when ctx ends; nil if it never can, or when there was no memory for it. Borrowed: lives as long as ctx.
 * Go: ctx.Done(). */
WEIR_API_ weir_done_chan weir_ctx_done(weir_ctx *ctx);

/* weir_timer *weir_ctx_after_func(ctx, fn, arg): run fn(arg) in a goroutine of its own once ctx ends; at once if it
 * has. weir_timer_stop on the result says whether it kept fn from running; a reset does nothing (false). The caller
 * frees the result with weir_timer_free, at any time. NULL: out of memory. Go: context.AfterFunc. */
WEIR_API_ weir_timer *weir_ctx_after_func_(weir_ctx *ctx, void (*fn)(void *), void *arg, const weir_site_ *site);
#define weir_ctx_after_func(ctx, fn, arg)                                                           \
    __extension__({                                                                                 \
        WEIR_SITE_(fn);                                                                             \
        weir_ctx_after_func_((ctx), (fn), (arg), &weir_site);                                       \
    })

/* WEIR_AUTO_CANCEL weir_ctx *ctx = weir_ctx_with_timeout(parent, d);
 * cancelled and released at the end of the enclosing block, however it is left (not by weir_exit: use weir_timeout). */
#define WEIR_AUTO_CANCEL __attribute__((cleanup(weir_ctx_auto_cancel_)))
WEIR_API_ void weir_ctx_auto_cancel_(weir_ctx **ctx);

/*
 * Blocks. Each is a loop that runs once: `break` and `continue` in it leave just that block. However it
 * is left (return, goto, weir_exit), the goroutine's previous context is current again afterwards.
 *
 * weir_with(ctx) { … }       run the block under ctx (retained for as long)
 * weir_timeout(d) { … }      under a child of the current context with a deadline d from now
 * weir_shield(d) { … }       under a context that outlives a cancel of the current one, for at most d: for clean-up
 *
 * Out of memory: the block runs under a context that has ended already, with cause -ENOMEM.
 */
typedef struct weir_block_ {
    void (*leave_)(struct weir_block_ *); /* undoes the block; NULL once left */
    struct weir_block_ *outer_;           /* the next older one of this goroutine */
    void *a_, *b_, *c_;                   /* what leave_ needs */
} weir_block_;
WEIR_API_ weir_block_ *weir_with_enter_(weir_block_ *b, weir_ctx *ctx);
WEIR_API_ weir_block_ *weir_timeout_enter_(weir_block_ *b, weir_duration d);
WEIR_API_ weir_block_ *weir_shield_enter_(weir_block_ *b, weir_duration d);
WEIR_API_ void weir_block_leave_(weir_block_ *b);
#define WEIR_BLOCK_(enter, ...) WEIR_BLOCK2_(enter, __COUNTER__, __VA_ARGS__)
#define WEIR_BLOCK2_(enter, n, ...) WEIR_BLOCK3_(enter, WEIR_CAT_(weir_block, n), WEIR_CAT_(weir_once, n), __VA_ARGS__)
#define WEIR_BLOCK3_(enter, block, once, ...)                                                       \
    for (weir_block_ block __attribute__((cleanup(weir_block_leave_))), *once = enter(&block, __VA_ARGS__); once; \
         once = NULL)
#define weir_with(ctx) WEIR_BLOCK_(weir_with_enter_, (ctx))
#define weir_timeout(d) WEIR_BLOCK_(weir_timeout_enter_, (d))
#define weir_shield(d) WEIR_BLOCK_(weir_shield_enter_, (d))

WEIR_END_

#endif
