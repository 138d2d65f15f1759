/* Scopes: structured concurrency. A goroutine started in a scope cannot outlive it, so it cannot leak. */
#ifndef WEIR_SCOPE_H
#define WEIR_SCOPE_H

WEIR_BEGIN_

/*
 * A scope never returns control while a child lives. Its children run under its context, may start
 * siblings in it, and end it for all when one fails: the first non-zero result of a child cancels the
 * others and is what wait and close return. A goroutine that must go on needs weir_go instead.
 * Go: golang.org/x/sync/errgroup, with the way out closed.
 */
typedef struct weir_scope {
    weir_block_ block_;       /* so that weir_exit closes the scope */
    struct weir_scope_ *in_;  /* the scope itself, counted by its children; NULL: closed */
    int *err_;                /* weir_scoped's second argument */
    int result_;              /* of a closed scope */
    uint32_t pad_;
} weir_scope;

/* Open a scope whose context is a child of ctx (NULL: the current one). Close it before its record goes: debug
 * builds end the process where a function returns with an open scope. 0; -ENOMEM. Does not block. */
WEIR_API_ int weir_scope_open(weir_scope *s, weir_ctx *ctx);

/* At most n children run at once; the next go waits for one to end. n ≤ 0: no limit. -EBUSY while children live;
 * -EINVAL: closed. Go: Group.SetLimit. */
WEIR_API_ int weir_scope_limit(weir_scope *s, int n);

/* int weir_scope_go(&s, fn, ...): start fn(...) in the scope, as weir_go; fn returns int (non-zero is a failure) or
 * void. At the limit it blocks (cancellable, by the caller's context and the scope's). Into a cancelled scope: the
 * context's error, and nothing is started. 0, -ECANCELED, -ETIMEDOUT, -ENOMEM; -EINVAL: closed; -EPERM: the runtime
 * is not running; -EDEADLK: healed. Go: Group.Go. */
#define weir_scope_go(s, fn, ...) WEIR_GO_(fn, weir_scope_launch_, 0, (s) __VA_OPT__(, ) __VA_ARGS__)
WEIR_API_ int weir_scope_launch_(void (*fn)(void), const weir_site_ *site, size_t stack, bool returns_int, void *scope);
WEIR_API_ int weir_scope_try_launch_(void (*fn)(void), const weir_site_ *site, size_t stack, bool returns_int,
                                     void *scope);
/* The same, but -EAGAIN at the limit. Go: Group.TryGo. */
#define weir_scope_try_go(s, fn, ...) WEIR_GO_(fn, weir_scope_try_launch_, 0, (s) __VA_OPT__(, ) __VA_ARGS__)

/* Wait until every child has ended; returns the first failure, else 0. When the caller's own context
 * ends, the scope is cancelled, and still waited for. The scope may be used again after, unless it was cancelled.
 * -EINVAL: closed. Blocks, not cancellable. A child that lives WEIR_SCOPE_GRACE (10 s; e.g. "500ms", "2m") after a
 * cancel is reported on standard error with its stack, again and again. Go: Group.Wait. */
WEIR_API_ int weir_scope_wait(weir_scope *s);

/* Cancel the scope's context. Does not wait. No effect on a closed scope. */
WEIR_API_ void weir_scope_cancel(weir_scope *s);

/* Cancel, wait for every child, free. Result as wait. Closing again is harmless and returns the same. Blocks, not
 * cancellable. */
WEIR_API_ int weir_scope_close(weir_scope *s);

/* From now on a child's failure leaves its siblings alone; wait still returns the first. 0; -EINVAL: closed. */
WEIR_API_ int weir_scope_supervise(weir_scope *s);

/* The scope's context, borrowed: valid until the scope is closed; NULL after. */
WEIR_API_ weir_ctx *weir_scope_ctx(weir_scope *s);

/*
 * weir_scoped(s) { … }          declares `weir_scope s`, opens it, and runs the block under its context.
 * weir_scoped(s, &err) { … }    err gets what wait returned.
 *
 * Reaching the end of the block (or `continue`) waits for the children; leaving it by return, break, goto or weir_exit
 * cancels them, then waits. Out of memory: the block does not run, and err is -ENOMEM; without an err argument the
 * process ends.
 */
WEIR_API_ weir_scope *weir_scoped_enter_(weir_scope *s, int *err);
WEIR_API_ weir_scope *weir_scoped_end_(weir_scope *s); /* waits; NULL */
WEIR_API_ void weir_scoped_leave_(weir_scope *s);
#define weir_scoped(s, ...) WEIR_SCOPED_(s, WEIR_CAT_(weir_once, __COUNTER__), WEIR_OPT_(__VA_ARGS__))
#define WEIR_SCOPED_(s, once, err)                                                                  \
    for (weir_scope s __attribute__((cleanup(weir_scoped_leave_))), *once = weir_scoped_enter_(&s, err); once; \
         once = weir_scoped_end_(&s))

WEIR_END_

#endif
