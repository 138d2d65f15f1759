/*
 * sched: the goroutine, the record of what it waits for, and the two verbs by which every other room
 * talks to the scheduler: park and ready. Timers too. What is inside (processors, workers, queues) is
 * in sched/inner.h and nobody else's business.
 *
 * How a room blocks a goroutine
 *
 *     struct wr_wait w;
 *     wr_wait_init(&w, WR_WAIT_CHAN_RECV, ch);          // who waits, for what
 *     … under the object's lock: look once more, then link a node that points to w; unlock …
 *     int why = wr_park(&w);                            // sleeps until somebody decides
 *     if (why < 0) … lock, unlink the node if it is still linked, unlock; return why …
 *
 * and how another wakes it: under the object's lock,
 *
 *     if (wr_claim(&w, code)) { unlink the node; hand over what there is to hand over; … unlock; wr_ready(w.g); }
 *
 * The claim, one compare-and-swap of w.decided, settles who ends the wait: a partner, the context, a
 * timer, a healer. Exactly one wins, and exactly the winner calls wr_ready. Who loses the claim has had no effect
 * and must look for another waiter. A wait lives on its goroutine's stack: after wr_ready it may be
 * gone, so touch neither it nor its nodes any more; a waker that lost the claim touches it only under the object's lock, which the
 * waiter takes too before it leaves (or the node is unlinked by then). model/wait.pml checks this.
 *
 * wr_ready may come before the goroutine has left its stack, or even before it calls wr_park. That is
 * fine: g->on_cpu is 1 until it has, and whoever resumes it waits for that. model/on_cpu.pml checks this.
 */
#ifndef WR_SCHED_H
#define WR_SCHED_H

#include "base/base.h"
#include "base/list.h"
#include "base/lock.h"
#include "arch/arch.h"

#include <pthread.h>
#include <signal.h>

#pragma GCC visibility push(hidden)

/* Why a goroutine sleeps; wr_reason_text has Go's words. */
enum wr_reason {
    WR_WAIT_NONE,
    WR_WAIT_CHAN_SEND, WR_WAIT_CHAN_RECV, WR_WAIT_CHAN_SEND_NIL, WR_WAIT_CHAN_RECV_NIL,
    WR_WAIT_SELECT, WR_WAIT_SELECT_NONE, WR_WAIT_SLEEP, WR_WAIT_IO,
    WR_WAIT_MUTEX, WR_WAIT_RLOCK, WR_WAIT_LOCK, WR_WAIT_COND, WR_WAIT_WG, WR_WAIT_ONCE, WR_WAIT_SEMACQUIRE,
    WR_WAIT_SCOPE, WR_WAIT_SCOPE_GO,
    WR_REASONS
};
extern const char *const wr_reason_text[WR_REASONS];

/* ---- Timers ------------------------------------------------------------------------------------ */

struct wr_timers; /* a heap: one for each processor, one for threads without */

/*
 * A timer is embedded in what waits for it; all fields are the heap's. fire() is called once `when` has
 * passed, on a worker, on no goroutine:
 * - in_lock: with the heap's lock held (rank TIMERS), so wr_timer_del knows exactly whether it ran; it may claim,
 *   send to channels, spawn and ready, but must not add, move or delete timers. A result > 0 re-arms the timer for that time.
 * - else: without locks, after the timer has left the heap; the result is ignored. Whoever embeds it sees to its lifetime.
 */
struct wr_timer {
    weir_time when;
    weir_time (*fire)(struct wr_timer *t, weir_time now);
    _Atomic(struct wr_timers *) heap; /* where it is armed; NULL: it is not */
    uint32_t index;                   /* its place in the heap */
    bool in_lock;
};
/* Arm; must not be armed already. Never fails to allocate in a way that matters: 0 or -ENOMEM. */
int wr_timer_add(struct wr_timer *t, weir_time when);
/* Disarm; true if it was armed, so that fire did not and will not run. */
bool wr_timer_del(struct wr_timer *t);
/* Due at `when` instead, earlier or later; false if it was not armed, and nothing is done. */
bool wr_timer_move(struct wr_timer *t, weir_time when);
bool wr_timer_armed(struct wr_timer *t);

/* ---- The wait record ---------------------------------------------------------------------------- */

struct g;

/* A waiter's place in the queue of one object. Lives on the waiter's stack, or in its select arm. */
struct wr_node {
    struct wr_list link;   /* in the object's queue, guarded by the object's lock */
    struct wr_wait *wait;
    void *elem;            /* room's own: where an element goes or comes from, a weight, … */
    int32_t code;          /* what the claim writes when this node wins; > 0 */
    int32_t extra;         /* room's own: closed, … */
};
_Static_assert(sizeof(struct wr_node) <= 5 * sizeof(void *), "fits into weir_arm.wait_");

/* What a goroutine waits for. Everything that dumps, cancels or proves leaks reads this and nothing else. */
struct wr_wait {
    _Atomic int32_t decided;   /* 0: open. > 0: a node's code. < 0: -errno */
    uint8_t reason;            /* enum wr_reason */
    bool cancellable;          /* by the current context, and by healing; wr_wait_init says true */
    bool published;            /* by wr_wait_publish */
    bool cancelled;            /* wr_cancel_fire has decided it, and taken it out of the list */
    struct g *g;
    uint32_t n_objects;        /* 0 or 1; in a select: the number of arms */
    const void *object;        /* the thing waited on; NULL for nil channels and sleep; in a select: the array of weir_arm */
    weir_time since;           /* coarse, 10 ms */
    weir_time contended;       /* the sync room's: since when, exactly; 0: nobody wants to know */
    struct wr_list in_cancel;  /* among the waiters of its context; guarded by that context's wr_cancel.lock */
    struct wr_timer timer;     /* armed by wr_park_until */
};
void wr_wait_init(struct wr_wait *w, enum wr_reason reason, const void *object);
/* For a room that knows, before anybody can see the wait, that it will park: says so now with plain stores, where wr_park would need
 * a compare-and-swap against a waker that came first. */
static inline void wr_wait_publish(struct wr_wait *w);

/* Settle the wait; false: somebody else did. */
static inline bool wr_claim(struct wr_wait *w, int32_t code) {
    int32_t open = 0;
    return atomic_compare_exchange_strong_explicit(&w->decided, &open, code, memory_order_acq_rel,
                                                   memory_order_acquire);
}

/* Sleep until the wait is decided; returns how. If it is cancellable and the current context has ended or ends, that
 * decides: -ECANCELED or -ETIMEDOUT. errno is kept. Works on foreign threads too, which sleep on a futex. No short lock may be held. */
int wr_park(struct wr_wait *w);
/* The same, and at `when` the timer decides: returns WR_TIMED. WR_NEVER: no timer. when ≤ now: still parks. */
#define WR_TIMED INT32_MAX
int wr_park_until(struct wr_wait *w, weir_time when);

/* Make the goroutine whose wait the caller has claimed run again, soon, on this processor if it can (it takes the runnext slot). Any
 * thread; short locks of rank below SCHED may be held. */
void wr_ready(struct g *g);
/* The same for many: collected here, linked through g->next, and made ready together. Until then they are the collector's. */
struct wr_batch {
    struct g *first, *last;
    uint32_t n;
};
static inline void wr_batch_add(struct wr_batch *b, struct g *g);
void wr_ready_all(const struct wr_batch *b);
/* Add, where there may be very many: when so many have come together they are made ready, while they are in the cache; the caller then
 * begins anew. What is left is for wr_ready_all. Short locks of rank below SCHED may be held, in things that those who wake do not free. */
#define WR_BATCH 128
static inline void wr_batch_wake(struct wr_batch *b, struct g *g) {
    wr_batch_add(b, g);
    if (b->n < WR_BATCH) return;
    wr_ready_all(b);
    *b = (struct wr_batch){ 0 };
}

/* ---- Cancelling --------------------------------------------------------------------------------- */

/* What waits under one context. Embedded in each context that can end. */
struct wr_cancel {
    struct wr_lock lock;      /* rank CANCEL */
    _Atomic int err;          /* 0, or how the context ended: found by wr_park without the lock */
    struct wr_list waits;     /* wr_wait.in_cancel */
};
void wr_cancel_init(struct wr_cancel *c);
/* End it: from now on parks under it return err; those asleep are woken with it. false: had ended already. */
bool wr_cancel_fire(struct wr_cancel *c, int err);

/* ---- Goroutines ---------------------------------------------------------------------------------- */

enum wr_gstate { WR_G_DEAD, WR_G_RUNNABLE, WR_G_RUNNING, WR_G_WAITING, WR_G_BLOCKING };

struct wr_labels; /* counted, in goroutine.c */

/* The control block: at the top of the goroutine's own stack, so that a parked goroutine costs one page. A foreign
 * thread that calls in has one from malloc. */
struct g {
    void *sp;                       /* saved stack pointer while it does not run */
    _Atomic uint32_t on_cpu;        /* 1 from before it is resumed until it has left its stack */
    _Atomic uint32_t held;          /* a walker has it: it is not resumed. wr_hold */
    _Atomic uint32_t state;         /* enum wr_gstate */
    struct g *next;                 /* in a batch */
    struct m *m;                    /* the thread it runs on, while it does */
    struct m *locked_m;             /* weir_lock_thread */
    int lock_depth;
    uint32_t depth;                 /* how many ancestors it has */
    bool fresh;                     /* has not run yet */
    _Atomic bool leaked;            /* proven, and in the same wait since; set by the leak room while it is held */
    _Atomic(struct wr_wait *) wait; /* what it waits for; NULL: nothing. Stable while it is held and the state is WAITING */
    weir_time ready_at;             /* when it was made ready, if this is one of the times that are measured (count.c); else 0 */
    uint64_t id;
    uint64_t creator;               /* id of who started it; 0: the runtime */
    const struct weir_site_ *site;  /* where; NULL: main or foreign */
    void (*fn)(void);               /* with what */
    void *ctx;                      /* the ctx room's: current weir_ctx, NULL = background; retained there */
    struct wr_cancel *cancel;       /* what ends its waits: the nearest context that can; NULL: none */
    struct weir_block_ *blocks;     /* what weir_exit undoes: blocks, scopes, deferred calls; innermost first */
    void (*on_end)(struct g *g, int result); /* scope, wg: called on the goroutine after all else, before it is gone */
    void *owner;                    /* on_end's */
    struct wr_labels *labels;
    char *name;                     /* malloc'ed; weir_name */
    char *stack_lo, *stack_hi;      /* usable bounds; stack_lo's page below is the guard */
    int select_error;               /* of the last select */
    bool returns_int, foreign, exiting, main;
    _Atomic uint32_t futex;         /* foreign threads sleep here */
    void *tsan, *asan;              /* fibers of the sanitizers */
    unsigned valgrind;
    struct wr_list in_foreign;      /* foreign threads: in sched's list */
    pthread_t thread;               /* and themselves */
};

/* Visit the labels, newest first; returns how many. On a held goroutine, or one's own; async-signal-safe if visit is. */
size_t wr_labels_each(const struct g *g, void (*visit)(const char *key, const char *value, void *arg), void *arg);
/* The same for who has no time to lose: of the `most` that were set last, those that hold. */
size_t wr_labels_newest(const struct g *g, size_t most, void (*visit)(const char *key, const char *value, void *arg), void *arg);

static inline void wr_batch_add(struct wr_batch *b, struct g *g) {
    g->next = NULL;
    if (b->last) b->last->next = g;
    else b->first = g;
    b->last = g;
    b->n++;
}

static inline void wr_wait_publish(struct wr_wait *w) {
    w->published = true;
    atomic_store_explicit(&w->g->wait, w, memory_order_relaxed);
    atomic_store_explicit(&w->g->state, WR_G_WAITING, memory_order_release);
}

/* The calling goroutine; a foreign thread gets its own on first use. It stays the same, while the thread that it runs on, and its m, may be
 * others after each park. */
struct g *wr_self(void);

struct wr_spawn {
    void (*fn)(void);
    const struct weir_site_ *site;
    const struct wr_args *args;     /* copied */
    size_t stack;                   /* 0: default */
    void *ctx;                      /* the child takes over the caller's count */
    struct wr_cancel *cancel;
    void (*on_end)(struct g *, int result);
    void *owner;
    bool returns_int, main;
};
/* A random number below n, for choices that must be fair, not secret. */
uint32_t wr_choose(uint32_t n);

/* Start a goroutine. 0, -ENOMEM, -EAGAIN, -EPERM, -EINVAL. Any thread, a timer's fire too. */
int wr_spawn(const struct wr_spawn *s);
/* A spawn of fn(arg) from inside the runtime (timers). */
int wr_spawn1(void (*fn)(void *), void *arg, const struct weir_site_ *site);

/* Link b as the calling goroutine's innermost block; leave(b) undoes it (weir_exit calls it for each, innermost first). */
void wr_block_push(weir_block_ *b, void (*leave)(weir_block_ *));
/* Unlink b, which must be the innermost one, without calling leave. */
void wr_block_pop(weir_block_ *b);

/* The ctx room's clean-up when a goroutine ends: releases g->ctx. Set by that room before it first sets a g->ctx. */
extern void (*wr_hook_ctx_drop)(void *ctx);

/* Between the two goroutines can be held: not one is resumed that is. Nests, and others may do it too; costs some microseconds. */
void wr_walk_begin(void);
void wr_walk_end(void);
/* Keep it where it is; false: it is on a stack, or somebody else holds it. Not a foreign one. */
bool wr_hold(struct g *g);
void wr_let_go(struct g *g);

/* Call visit for each goroutine that is not dead, foreign ones too, held if it does not run (`held`); `running`
 * ones are shown as they are. The world goes on meanwhile. visit must not park. Returns how many. */
size_t wr_each_goroutine(void (*visit)(struct g *g, bool held, void *arg), void *arg);

/*
 * The same in instalments, for whoever has work to do that must not be done while a goroutine is held. Goes on from the cursor (all zeroes:
 * at the start) until visit returns false, after that goroutine, or all have been visited. True: there may be more.
 * Goroutines started meanwhile may be left out; largest stacks come first, so main does.
 */
struct wr_cursor {
    size_t classes;      /* stack classes that are done */
    const void *slab;    /* in the next one; NULL: at its start */
    uint32_t slot;
    uint64_t foreign;    /* foreign threads up to this id are done */
    bool (*want)(const struct g *g, const void *arg); /* not NULL: those it refuses are passed by, without holding them, so what it
                                                         reads of them may be changing */
};
bool wr_next_goroutines(struct wr_cursor *at, bool (*visit)(struct g *g, bool held, void *arg), void *arg);

/* Return addresses of a goroutine that runs on another thread right now, by asking that thread with a signal; 0: it did not answer
 * in 100 ms. */
size_t wr_running_stack(struct g *g, uintptr_t *pcs, size_t max);

/* The addresses of what a signal has interrupted, for its handler: as wr_unwind_signal has them. */
size_t wr_signal_stack(const void *context, uintptr_t *pcs, size_t max);
/* Take out of the mask the signals of a crash, which must be reported wherever it happens. */
void wr_let_faults_in(sigset_t *mask);
/* Does the return address lie in a function of the public interface? */
bool wr_in_public_function(uintptr_t pc);
/* Call visit for each thread of the process, without allocating, until it returns false; tasks: /proc/self/task, opened. False: not
 * all of them. */
bool wr_each_thread(int tasks, bool (*visit)(int tid, void *arg), void *arg);

/* All ids given out so far are smaller. */
uint64_t wr_ids_end(void);
/* When the earliest of all timers is due; WR_NEVER: there is none. */
weir_time wr_next_timer(void);

/*
 * A thread of weir's own beside the workers, such as the leak room's watch. It calls joins first and leaves last.
 * Between rests (as after joins) and works it must only sleep: then it is none of those that may yet wake somebody when
 * a deadlock is looked for. rests also forgets what the thread had as a caller of weir.
 */
void wr_helper_joins(void);
void wr_helper_works(void);
void wr_helper_rests(void);
void wr_helper_leaves(void);
/* pthread_join, and wait until the kernel has let go of the thread, a moment later: who counts threads before, in search of a deadlock or
 * at the start of the next run, takes it for one of the program's. *tid: what the thread has written there, before it ended. */
void wr_thread_join(pthread_t thread, const int *tid);
/* Make one, detached, with a stack of that size, all signals blocked but those that weir needs: it joins, calls fn(arg) and leaves. Returns when it
 * has joined. 0, -EAGAIN, -ENOMEM. Before the runtime starts, too. */
int wr_helper_thread(size_t stack, void (*fn)(void *), void *arg);

/* The runtime's threads by the function that they run: visit (or NULL) gets its address and how many. Returns how many in all. */
size_t wr_threads_each(void (*visit)(uintptr_t start, size_t n, void *arg), void *arg);
/* Goroutines, and threads that have called in; the caller need not be one. */
size_t wr_live(void);

/*
 * For the profile room. They come and go while the program runs, and are NULL while nobody profiles.
 * block: the calling goroutine, or foreign thread, has slept for that long in that wait; called by itself when the wait is over, without
 * locks; must not park. thread: called on a new worker, before it runs anything. tick: called by sysmon every 4 to 8 ms; wr_sysmon_tick sets
 * it, and keeps sysmon from resting.
 */
extern void (*_Atomic wr_hook_block)(enum wr_reason reason, weir_duration slept);
extern void (*_Atomic wr_hook_thread)(int tid);
void wr_sysmon_tick(void (*tick)(weir_time now));

/* Reports that the trace room gives (sched only decides that one is due). Set before start. */
extern void (*wr_hook_deadlock)(const char *sentence);   /* prints sentence and stacks; sched then exits with 2 */
extern void (*wr_hook_quit)(void);                       /* SIGQUIT came; called on sysmon's thread */
/* Signal handlers run on these; the trace room installs the handlers. */
bool wr_stack_guard_hit(const void *address, struct g **out); /* does the address lie in the guard of the calling goroutine? */
struct g *wr_self_or_null(void);                              /* async-signal-safe */
void wr_sysmon_poke(void);                                    /* async-signal-safe: makes sysmon call wr_hook_quit */

/* ---- Counters (count.c) ----------------------------------------------------------------------------- */

/*
 * Latencies are those of a sample: of WR_LATENCY_EVERY goroutines that are woken or started, one is timed, on average. Bucket i
 * counts those below WR_LATENCY_LEAST << i nanoseconds that no lower one counts; the last, all others.
 */
enum { WR_LATENCY_EVERY = 256, WR_LATENCY_BUCKETS = 28, WR_LATENCY_LEAST = 256 };
struct wr_counts {
    /* Of this moment. Goroutines that live, but for foreign threads: */
    uint64_t running, runnable;
    uint64_t blocking;               /* in weir_blocking: the state "syscall" of dumps */
    uint64_t waiting[WR_REASONS];    /* by enum wr_reason */
    uint64_t foreign;                /* threads of the program's that have called in and still live */
    uint64_t threads, idle_threads;  /* workers */
    uint64_t procs, idle_procs;
    uint64_t queued_local, queued_global;
    uint64_t timers;                 /* armed */
    uint64_t descriptors;            /* waits for one */
    uint64_t stack_mapped;           /* bytes of address space; what was touched of it is much less */
    uint64_t stack_in_use;           /* of these, the stacks of goroutines that live */
    /* In total: */
    uint64_t started, ended;         /* goroutines */
    uint64_t parks;                  /* a goroutine, or foreign thread, went to sleep */
    uint64_t steals;                 /* a processor took goroutines from another's queue */
    uint64_t wakes;                  /* a sleeping thread was woken */
    uint64_t handoffs;               /* a processor was taken from a thread that was busy elsewhere, and given on */
    uint64_t threads_started;
    uint64_t latency[WR_LATENCY_BUCKETS];  /* from ready to running */
    uint64_t latency_ns;             /* their sum */
};
/* Fill in what is "in total", and clear the rest. Any thread, any time. */
void wr_count_totals(struct wr_counts *c);
/* Fill in what is of this moment, and call visit with the place where each goroutine was started. The runtime must not be stopped meanwhile:
 * within wr_dump_enter. */
void wr_count_now(struct wr_counts *c, void (*visit)(const struct weir_site_ *site, void *arg), void *arg);

/* ---- Start and stop (for the start room) ---------------------------------------------------------- */
enum wr_mode { WR_MODE_MAIN, WR_MODE_EMBED };
int wr_sched_start(enum wr_mode mode);
int wr_sched_main(int (*fn)(void *), void *arg);         /* run the main goroutine, wait, return its result */
int wr_sched_stop(void);                                 /* no goroutine runs any more; frees everything that can be freed */
bool wr_sched_wait_idle(weir_time until);                /* until no goroutine but foreign ones is left */
bool wr_sched_running(void);

#pragma GCC visibility pop
#endif
