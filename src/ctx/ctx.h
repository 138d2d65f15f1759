/*
 * ctx: what its files share — the context, the end of a context, those who watch for it, and the scope
 * behind a weir_scope. Other rooms need of it: wr_ctx_cancel_of, wr_ctx_enter and wr_ctx_leave, and, to report or
 * to prove, the structs and the hooks at the end.
 *
 * A tree with two kinds of edges. Every context counts its parent, for values and deadlines are looked up there. A
 * context that can end is also linked into the list `children` of the nearest one above it that can end;
 * that link counts nothing, so the end of a child, or its last release, takes it out again.
 *
 * Two counts on a context that can end. `refs` are the users: whoever was given it, its children, its after-funcs,
 * the goroutines under it. When they reach 0 nobody can see it any more; it leaves its parent and its timer is
 * disarmed. `holds` keep the memory: one for all the users together, one for the armed timer. Who comes from the side
 * (a parent that ends, under its lock; a timer that fires, by its hold) must first get a user count, and finds out
 * there that it came too late: wr_ctx_try_retain.
 */
#ifndef WR_CTX_H
#define WR_CTX_H

#include "base/base.h"
#include "base/list.h"
#include "base/lock.h"
#include "sched/sched.h"

#pragma GCC visibility push(hidden)

enum wr_ctx_kind {
    WR_CTX_STATIC,   /* the background, and the one for out of memory: never counted */
    WR_CTX_ENDS,     /* with_cancel, with_timeout, with_deadline, shields, scopes: a struct wr_ending */
    WR_CTX_DETACHED, /* without_cancel */
    WR_CTX_VALUE     /* a struct wr_valued */
};

struct weir_ctx {
    uintptr_t tag;          /* WR_TAG_CTX */
    _Atomic uint32_t refs;
    enum wr_ctx_kind kind;
    weir_ctx *parent;       /* counted; NULL: none */
    struct wr_ending *end;  /* itself, or the nearest ancestor that can end (kept by the counts above). NULL: none */
};

struct wr_valued {
    weir_ctx ctx;
    const void *key;
    void *value;
};

/* A context that can end. */
struct wr_ending {
    weir_ctx ctx;
    _Atomic uint32_t holds;
    struct wr_lock lock;            /* rank CTX, never two at once; guards what follows, where nothing else is said */
    _Atomic int err;                /* 0, or how it ended; set once, under the lock, after cause */
    _Atomic int cause;
    _Atomic uint32_t settled;       /* futex: 0 until all below it have ended too; 1 then; 2: somebody waits for that */
    struct wr_cancel cancel;        /* who waits under it; has a lock of its own */
    _Atomic(weir_chan *) done;      /* made when asked for; published once, under the lock */
    struct wr_list children;        /* wr_ending.in_parent */
    struct wr_list watches;         /* wr_ctx_watch.link */
    struct wr_list in_parent;       /* guarded by the lock of the ending above */
    struct wr_ending *above;        /* in whose children it is or was; NULL: none. Constant */
    struct wr_ending *next;         /* of him who took it out of its parent's children: the list of what he ends */
    weir_time deadline;             /* WR_NEVER: none; the earliest of its own and those above. Constant */
    struct wr_timer timer;          /* for a deadline of its own */
    bool timed;                     /* the timer was armed. Constant once others see the context */
};

/* Told, once, when a context ends. Embedded in what wants to know; while linked it holds a count on that, which goes to
 * him who unlinks it: to ended(), or to the caller of wr_ctx_unwatch. */
struct wr_ctx_watch {
    struct wr_list link;            /* guarded by the context's lock */
    void (*ended)(struct wr_ctx_watch *w); /* called by whoever ends the context, without locks; must not block */
};

static inline struct wr_ending *wr_ending_of(weir_ctx *ctx) { return wr_container(ctx, struct wr_ending, ctx); }

/* context.c */
extern struct weir_ctx wr_ctx_background;
extern struct wr_ending wr_ctx_no_memory;        /* what constructors return when there is none: ended already */
static inline weir_ctx *wr_ctx_of(const weir_ctx *ctx) { return ctx ? (weir_ctx *)(uintptr_t)ctx : weir_ctx_current(); }
/* What can end a wait under ctx; NULL: nothing. */
static inline struct wr_cancel *wr_ctx_cancel_of(weir_ctx *ctx) { return ctx->end ? &ctx->end->cancel : NULL; }
/* A context that can end, with the values of parent; under its end, unless detached. `when`: WR_NEVER = no deadline. */
weir_ctx *wr_ctx_make_ending(weir_ctx *parent, weir_time when, bool detached);
bool wr_ctx_try_retain(weir_ctx *ctx);           /* false: the last user has gone, or is going */
void wr_ending_drop(struct wr_ending *e);        /* one hold less */

/* cancel.c */
/* End e, all below it, and tell those who watch. When it returns that has happened, whoever did it. err: -ECANCELED
 * or -ETIMEDOUT. The caller has a count. */
void wr_ctx_end(struct wr_ending *e, int err, int cause);
weir_time wr_ctx_deadline_fired(struct wr_timer *t, weir_time now);
/* Link a new e below `above`; false: that has ended. */
bool wr_ending_attach(struct wr_ending *e, struct wr_ending *above);
void wr_ending_detach(struct wr_ending *e);
/* Watch e; false: it has ended, w is not linked and its count stays with the caller. */
bool wr_ctx_watch(struct wr_ending *e, struct wr_ctx_watch *w);
/* No more; true: ended() has not been called and will not be. */
bool wr_ctx_unwatch(struct wr_ending *e, struct wr_ctx_watch *w);

/* block.c */
/* Make ctx, whose count the goroutine takes over, the caller's current context; returns the previous one with its
 * count (NULL: background). */
weir_ctx *wr_ctx_swap(weir_ctx *ctx);

/* ---- Scopes ---------------------------------------------------------------------------------------- */

/*
 * What is behind a weir_scope. It outlives that record: counted by the record until it is closed, by
 * each child until it is through, by the opener's list of blocks, by the watch on its context, by its timer, and by
 * each call that sleeps on it.
 */
struct weir_scope_ {
    uintptr_t tag;                  /* WR_TAG_SCOPE */
    _Atomic uint32_t refs;
    struct wr_lock lock;            /* rank SCOPE; guards what follows, where nothing else is said */
    weir_ctx *ctx;                  /* counted; ends when the scope is cancelled. Constant */
    uint32_t live;                  /* children that run, or are about to be started */
    uint32_t limit;                 /* of live; 0: none */
    int first;                      /* the first non-zero result of a child */
    bool supervised;                /* a failure leaves the siblings alone */
    bool reporting;                 /* the timer for the grace report is armed, or fires just now */
    struct wr_list slots;           /* who waits to start a child, first come first served: wr_node.link */
    struct wr_list waiters;         /* who waits for the children to end: wr_node.link */
    struct wr_ctx_watch watch;      /* on ctx */
    struct wr_timer timer;          /* the grace report, once ctx has ended with children alive */
    weir_time ended_at;             /* when it had */
    uintptr_t opened_at;            /* return address of the call that opened it. Constant */
    weir_scope *record;             /* the user's; of a frame that is gone if record->in_ is not this. Constant */
    weir_block_ block;              /* in the opener's g->blocks, so that weir_exit closes the scope. (weir_scoped has
                                     * a block in its record instead: it is never left without that.) */
    _Atomic(struct g *) opener;     /* the goroutine with `block` in its list; NULL: none has. Its own to change */
    _Atomic bool closed;
};

static inline struct weir_scope_ *wr_scope_of_block(weir_block_ *b) {
    return wr_container(b, struct weir_scope_, block);
}

/* scope.c */
void wr_scope_retain(struct weir_scope_ *in);
void wr_scope_release(struct weir_scope_ *in);
void wr_scope_block_left(weir_block_ *b);        /* the leave of weir_scope_.block: tells that b is one */
bool wr_scope_has_record(const struct weir_scope_ *in); /* does in->record still look like what it was? */

/* scope_go.c */
void wr_scope_child_ended(struct g *g, int result); /* g->on_end of every child; g->owner is the scope */
/* The scope has ended, its lock is held: who waits to start a child goes empty. */
void wr_scope_refuse_slots(struct weir_scope_ *in, int err);

/* scope_watch.c */
void wr_scope_ended(struct wr_ctx_watch *w);     /* the scope's context has ended */
/* No child lives, the lock is held. True: the timer's count is the caller's to drop. */
bool wr_scope_stop_reports(struct weir_scope_ *in);
/*
 * Debug builds: is a scope still open whose record lay in a frame of this goroutine, the caller, that has returned? Or
 * is it about to be opened again, at `opening` (or NULL)? Then the process ends with a message.
 */
#ifdef WEIR_DEBUG
void wr_scope_check_frames(struct g *g, const weir_scope *opening);
#else
static inline void wr_scope_check_frames(struct g *g, const weir_scope *opening) { (void)g, (void)opening; }
#endif

/* What the trace room adds to the messages about scopes; set before start. Without it they show addresses and ids. */
/* Print g, a child that has outlived the grace of its scope, with its stack, to standard error; called as
 * wr_each_goroutine calls. */
extern void (*wr_hook_scope_report)(struct g *g, bool held);
/* Write "file:line" or the like of the call that returns to pc; false: not known. */
extern bool (*wr_hook_place)(uintptr_t pc, char *text, size_t size);
/* "scope opened at …" */
void wr_scope_describe(const struct weir_scope_ *in, char *text, size_t size);

#pragma GCC visibility pop
#endif
