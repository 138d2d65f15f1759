/*
 * The inside of sched: processors (P), threads (M), run queues, the one struct of scheduler state. For the
 * files of this room only.
 *
 * Go's shape. A P is the right to run goroutines: a run queue, timers, a cache of stacks. An M is a
 * thread; it runs goroutines while it owns a P. There are weir_procs() Ps in use, and as many Ms as
 * it takes so that each P has one that is not stuck in user code.
 *
 * Who owns a P. m->p names the P that thread m owns, or NULL. The owner uses it without locks, but sysmon takes a P away
 * from a thread whose goroutine has computed, or sat in a system call, for too long. The two sides:
 *
 *   the thread, entering the runtime (wr_enter):  m->busy = 1;  fence;  p = m->p;  … use p …;  m->busy = 0
 *   sysmon (retake), under sched.lock:            p = swap(m->p, NULL);  fence;  if (m->busy) m->p = p again
 *
 * In any order of the two stores and the two loads at least one side sees the other: the thread finds NULL, or sysmon
 * finds busy and gives the P back. The thread's fence is on the hot path, sysmon's is not; so where the kernel has
 * membarrier(2), sysmon runs one on behalf of all threads and the thread's fence is for the compiler only. A
 * thread that finds NULL goes on without a P: what it makes ready goes to the global queue, and when it next
 * parks it must find a P first. All of that is under sched.lock, so it cannot meet a half-done retake. model/retake.pml checks this.
 */
#ifndef WR_SCHED_INNER_H
#define WR_SCHED_INNER_H

#include "sched/poll.h"
#include "sched/sched.h"

#include <pthread.h>
#include <signal.h>

#pragma GCC visibility push(hidden)

#define WR_MAX_PROCS 1024
#define WR_RING 256          /* run queue slots, a power of two */
#define WR_STACK_CACHE 64    /* default-sized stacks that a P keeps */
#define WR_NEXT_CAP 64       /* hand-offs through runnext in a row before the ring gets a turn */

struct wr_due {
    weir_time when;
    struct wr_timer *timer;
};
struct wr_timers {
    struct wr_lock lock;         /* rank TIMERS */
    _Atomic weir_time first;     /* when the earliest is due, WR_NEVER if none: read without the lock */
    struct wr_due *heap;         /* 4-ary */
    uint32_t n, cap;
};

struct p {
    /* the run queue: the owner pushes at tail, the owner and thieves take at head, the owner now and then at tail. runq.c */
    _Atomic uint64_t head;       /* the lower half. The upper: how often the newest has been taken */
    _Atomic uint32_t tail;
    _Atomic(struct g *) runnext; /* runs before the ring; the owner sets it, thieves take it last */
    uint32_t tick;               /* scheduling decisions: every 61st looks at the global queue first */
    uint32_t handoffs;           /* runnext taken in a row */
    uint32_t newest_taken;       /* as in head; and when … */
    weir_time old_went;          /* … the oldest last went before it all the same */
    _Atomic uint32_t switches;   /* goroutines started or resumed: sysmon sees a stuck one by it */
    uint64_t random;
    int id;
    uint32_t n_cached;
    struct g *cached[WR_STACK_CACHE]; /* dead goroutines with their stacks */
    struct p *next_idle;
    bool retired;                /* beyond the number in use, and owned by nobody; guarded by sched.lock */
    uint32_t seen_switches;      /* sysmon's */
    weir_time seen_since;        /* sysmon's */
    _Alignas(WR_CACHE_LINE) struct wr_timers timers;
    _Alignas(WR_CACHE_LINE) _Atomic(struct g *) ring[WR_RING];
    struct wr_queued {           /* of what is in the ring at the same place */
        _Atomic weir_time since; /* coarse */
        _Atomic uint32_t depth;  /* 1 more than the goroutine's; 0: it has run before */
    } queued[WR_RING];
};

/* What is counted, by each thread for itself: nobody else writes there, so an increment is a load and a store. count.c adds it up. */
enum wr_tally { WR_STARTED, WR_ENDED, WR_PARKS, WR_STEALS, WR_WAKES, WR_HANDOFFS, WR_THREADS, WR_TALLIES };
struct wr_tallies {
    _Atomic uint64_t n[WR_TALLIES];
    _Atomic uint64_t latency[WR_LATENCY_BUCKETS], latency_ns;
};

struct m {
    _Atomic(struct p *) p;       /* the P it owns; see above */
    _Atomic uint32_t busy;       /* inside the runtime */
    uint32_t until_timed;        /* how many more it makes ready until one is timed: count.c */
    struct g *g;                 /* the goroutine it runs; NULL while in the scheduler */
    void *sp;                    /* its own stack, while a goroutine runs */
    struct g *_Atomic next;      /* a locked goroutine that was handed to it, or that it is to hand on */
    struct g *locked_g;          /* the goroutine tied to it */
    bool spinning;               /* looks for work; counted in sched.spinning */
    uint32_t polled_in_vain;     /* how often lately it has asked the poller, and nothing had come */
    weir_time idle_at, gap;      /* since when, 0: it does not; and for how long it did so the last times, an average */
    bool idle;                   /* in sched.idle_ms; guarded by sched.lock */
    _Atomic bool blocking;       /* in weir_blocking */
    bool left_blocking;          /* and was when the runtime stopped: counted in n_outside; guarded by sched.lock */
    _Atomic uint32_t wake;       /* futex: 1 = wake up */
    _Atomic weir_time idle_since; /* in wr_idle, by the coarse clock; 0: it is not */
    weir_time sleeps_until;      /* while idle: WR_NEVER, or the timer it waits for; guarded by sched.lock */
    struct m *next_idle;
    struct m *next_m;            /* all of them */
    pthread_t thread;
    int tid;
    uint64_t random;
    sigset_t mask;               /* of its maker: it starts with all signals blocked */
    char *signal_stack;
    uintptr_t stack_lo, stack_base, stack_hi; /* its own: the frames of weir end at base, thread-locals are above */
    bool firing;                 /* runs a timer's fire without locks, which the timer has left the heap for */
    void *tsan, *asan;           /* its own stack's fiber, fake stack */
    const void *asan_lo;
    size_t asan_size;
    _Atomic uint32_t frozen;     /* by wr_sched_stop. 1: is to stop for good. 2: has */
    _Atomic uint32_t answers;    /* futex: signals of wr_signal_freeze that it has obeyed or refused */
    _Atomic bool in_weir;        /* why it refused the last one: it was in a call of ours, which it will leave; or it has not answered yet */
    _Atomic uint32_t gone;       /* left its main loop */
    weir_time new_timer;         /* set while parking, and nobody told yet; 0: none */
    struct wr_tallies tallies;
};

/* A part of the queue of all: g[first … end) are in it. */
struct wr_crate {
    struct wr_crate *next;
    uint32_t first, end;
    struct g *g[126];
};

struct sched {
    struct wr_lock lock;         /* rank SCHED; guards what follows, where nothing else is said */
    struct wr_crate *global_head, *global_tail; /* the queue of all. runq.c */
    struct wr_batch global_rest; /* and behind it */
    struct wr_crate *spare_crates;
    uint32_t n_spare_crates;
    _Atomic uint32_t global_n;   /* how many goroutines the queue has, with the rest */
    struct p *idle_ps;
    _Atomic uint32_t n_idle_ps;
    struct m *idle_ms;
    uint32_t n_ms;               /* threads made */
    uint32_t n_running;          /* threads that are not idle: 0 = nobody will make work */
    uint32_t n_outside;          /* those of them that are no workers: between wr_outside_begin and wr_outside_end; or an earlier run's */
    struct m *all_ms;
    _Atomic(struct m *) poller;  /* the idle thread that sleeps in the poller; set under the lock */
    _Atomic uint32_t spinning;   /* threads that look for work */
    _Atomic int procs;           /* Ps in use */
    _Atomic int made_ps;         /* entries of ps */
    _Atomic(struct p *) ps[WR_MAX_PROCS];
    struct wr_timers timers;     /* of threads without a P */
    _Atomic uint32_t timers_fired; /* times that any were */
    _Atomic uint32_t stopping;
    _Atomic uint32_t running;    /* the runtime is up */
    enum wr_mode mode;
    _Atomic uint32_t foreign;    /* foreign threads inside */
    struct wr_list foreigns;
    _Atomic weir_time coarse;    /* the time, about 10 ms old at most */
    bool membarrier;
    _Atomic uint32_t walks;      /* wr_walk_begin, less wr_walk_end */
    struct g *main_g;
    _Atomic uint32_t main_done;  /* futex: the main goroutine has returned, and left its stack */
    int main_result;
    bool main_exited;            /* by weir_exit */
    pthread_t sysmon;
    bool sysmon_made;
    int sysmon_tid;
    uintptr_t sysmon_stack_lo, sysmon_stack_base;
    bool sysmon_firing;           /* as in m */
    _Atomic uint32_t sysmon_wake; /* futex */
    _Atomic uint32_t sysmon_idle; /* it sleeps until woken */
    _Atomic uint32_t quit;        /* SIGQUITs not yet reported */
    _Atomic uint32_t idle_word;   /* futex: changes when the number of goroutines falls to 0, and there are … */
    _Atomic uint32_t idle_waiters; /* … who wait for that */
    size_t default_stack;
    int extra_threads;            /* threads of the process besides ours when we started */
    int left_threads;             /* of ours, which wr_sched_stop could not end */
    const struct wr_gdb_number *const *gdb; /* weir_gdb_, for its sake */
    struct wr_tallies tallies;    /* of threads that are no workers, and of workers that have ended; added to atomically */

    /* Written to all the time, in lines that have nothing else, which all read. */
    _Alignas(WR_CACHE_LINE) _Atomic uint64_t next_id; /* by who starts a goroutine */
    _Alignas(WR_CACHE_LINE) _Atomic uint32_t waiting; /* between wr_poll_begin and wr_poll_end: somebody is to ask the poller */
    _Atomic uint32_t polls;      /* times it has been asked: sysmon sees by it that nobody does */
};
extern struct sched wr_sched;

/* The calling thread's M, NULL on a foreign thread. Never inlined and never remembered: after a
 * switch the goroutine may be on another thread. */
struct m *wr_m(void);
void wr_set_m(struct m *m);

/*
 * One side of a store, a fence and a load, where the other side is rare: it has this thread's fence made for it by wr_fence_all, if the
 * kernel has membarrier(2).
 */
static inline void wr_fence_light(void) {
    if (wr_likely(wr_sched.membarrier))
        atomic_signal_fence(memory_order_seq_cst);
    else
        wr_fence();
}
void wr_fence_all(void);                   /* sysmon.c */

/* Enter the runtime: the P stays with this thread until wr_leave. NULL: it has none. Nests. At every
 * switch of stacks busy is exactly 1: who leaves entered, and who arrives leaves. */
static inline struct p *wr_enter(struct m *m) {
    uint32_t busy = atomic_load_explicit(&m->busy, memory_order_relaxed);
    atomic_store_explicit(&m->busy, busy + 1, memory_order_relaxed);
    wr_fence_light();
    return atomic_load_explicit(&m->p, memory_order_acquire);
}
static inline void wr_leave(struct m *m) {
    atomic_store_explicit(&m->busy, atomic_load_explicit(&m->busy, memory_order_relaxed) - 1, memory_order_release);
}

/* runq.c */
void wr_global_push(const struct wr_batch *b);                    /* sched.lock held */
void wr_global_push_one(struct g *g);
void wr_global_forget(void);                                      /* sched.lock held: all that is in it */
struct g *wr_global_pop(struct p *p);                             /* the owner's, or NULL; moves a share to p's ring */
void wr_ring_push(struct p *p, struct g *g);
struct g *wr_ring_pop(struct p *p);
void wr_next_push(struct p *p, struct g *g);
void wr_ring_push_all(struct p *p, const struct wr_batch *b);     /* the owner's, who runs the first of them next */
void wr_push_ready(struct p *p, struct g *g);                     /* runnext, or without a P the global queue */
void wr_push_new(struct p *p, struct g *g);                       /* the same for one that has not run yet */
/* head first: others than the owner may see a tail that is one short, while it tries to take the newest, but no emptier a ring than that. */
static inline uint32_t wr_ring_count(struct p *p) {
    uint32_t head = (uint32_t)atomic_load(&p->head);
    return atomic_load(&p->tail) - head;
}
bool wr_queue_empty(struct p *p);
struct g *wr_steal(struct p *thief, struct p *victim, bool also_next);

/* timer.c */
weir_time wr_timers_first(void);                             /* the earliest of all heaps */
void wr_timers_run_all(weir_time now, int most);             /* fire what is due */

int wr_timer_add_parking(struct wr_timer *t, weir_time when);     /* the caller parks at once: nobody else is woken for it */

/* idle.c */
void wr_wake_worker(void);                 /* there is work: start somebody if somebody is idle */
void wr_wake_for_timer(weir_time when);    /* a timer was set: see that somebody wakes in time */
void wr_hand_off(struct p *p);             /* sched.lock held: give an ownerless P to a thread, or to the idle ones */
struct p *wr_take_idle_p(void);            /* sched.lock held; NULL: none */
void wr_put_idle_p(struct p *p);           /* sched.lock held */
bool wr_start_m(struct p *p, bool spinning); /* sched.lock held; false: no thread could be made, p is idle */
bool wr_any_queue(void);                   /* is anything in any run queue? */
void wr_wake_m(struct m *m);
void wr_see_to_poller(void);               /* sched.lock held: if somebody waits for the poller, let an idle thread sleep there */
void wr_idle(struct m *m);                 /* sleep without a P */
void wr_idle_locked(struct m *m);          /* a thread that is tied to a goroutine sleeps until that runs */

/* park.c */
/* Takes `most` off b at most, and leaves the rest there: runnable from now on, but in no queue yet. */
struct wr_batch wr_batch_mark(struct wr_batch *b, uint32_t most);

/* poll.c */
#define WR_EVENTS 128 /* told by one call, at most */
/* The poller: sleep until something is ready, or until then. 0: anybody: only look. Tells of `events` at most. */
void wr_poll(weir_time until, int events, struct wr_batch *ready);
void wr_poll_interrupt(void);              /* wake the poller, which then looks at m->wake */
void wr_poll_choose(void);                 /* as WEIR_POLLER says, at the first start */

/* poll_uring.c */
const char *wr_uring_open(void);           /* NULL; or why there can be no ring */
int wr_uring_fd(void);                     /* readable when there are completions */
int wr_uring_ask(int fd, enum wr_asked what, struct wr_source *s, uint16_t turn);
int wr_uring_reap(int max, struct wr_batch *ready);

/* worker.c */
void *wr_m_main(void *arg);
void *wr_sysmon_main(void *arg);
void wr_freeze_if_left(struct m *m);       /* stop for good if the runtime has stopped without this thread */
void wr_after_switch(void *previous);
void wr_schedule_away(struct g *g);        /* entered; leave g's stack; returns, still entered, when g runs again */
void wr_requeue_away(struct g *g);         /* entered, without a P: into the global queue, and away */
void wr_main_gone(void);                   /* the main goroutine has returned, and left its stack */
void wr_outside_begin(void);               /* something else than a worker is about to make work … */
void wr_outside_end(void);                 /* … and has */
int wr_helpers_hold(void);                 /* how many there are; none is made until … */
void wr_helpers_release(void);
struct p *wr_p_make(int id);

/* stack.c */
struct g *wr_stack_new(struct p *p, size_t size);  /* a fresh control block on its stack; NULL: no memory */
void wr_stack_free(struct p *p, struct g *g);      /* p may be NULL */
void wr_stack_flush(struct p *p);                  /* p's cache to the shared pool */
void wr_stacks_trim(void);                         /* give pages of idle stacks back; called now and then */
void wr_stacks_free_all(void);
void wr_stacks_each(void (*visit)(struct g *, void *), void *arg); /* every control block that was ever used */
bool wr_stacks_from(struct wr_cursor *at, bool (*visit)(struct g *, void *), void *arg); /* until visit says false: true */
void wr_stacks_init(void);

/* goroutine.c */
void wr_g_init(struct g *g);
void wr_g_drop(struct g *g);               /* name, labels, ctx */
void wr_foreign_drop_self(void);           /* the calling thread's own control block, if it has one */
struct g *wr_foreign_self(bool make);

/* sysmon.c */
int wr_sysmon_start(void);
void wr_sysmon_stop(void);
void wr_sysmon_nudge(void);                /* a thread got work: sysmon must watch */

/* count.c */
static inline void wr_tally(struct m *m, enum wr_tally what) {
    atomic_store_explicit(&m->tallies.n[what], atomic_load_explicit(&m->tallies.n[what], memory_order_relaxed) + 1,
                          memory_order_release);
}
/* For who has no M, and for what is so slow that one more locked instruction does not matter. */
static inline void wr_tally_shared(enum wr_tally what) {
    atomic_fetch_add_explicit(&wr_sched.tallies.n[what], 1, memory_order_relaxed);
}
size_t wr_goroutines(void);                /* those that have not ended; foreign threads are none */
size_t wr_goroutines_locked(void);         /* sched.lock held */
void wr_time_ready(struct m *m, struct g *g);
/* g is about to be put into a queue: time it, now and then, until it runs. m: the calling thread's. */
static inline void wr_made_ready(struct m *m, struct g *g) {
    if (wr_unlikely(!m || --m->until_timed == 0)) wr_time_ready(m, g);
}
void wr_ready_runs(struct m *m, struct g *g); /* it was timed, and runs now */
void wr_tallies_keep(void);                /* sched.lock held: the workers are about to go */

/* held.c */
#if defined(WEIR_DEBUG) && !defined(WR_TSAN)
void wr_check_held(struct g *g);           /* fatal if the goroutine, about to leave its thread, holds a pthread mutex */
#else
static inline void wr_check_held(struct g *g) { (void)g; }
#endif

/* signal.c */
/* The linker's names for where the public functions lie. */
extern const char __start_weir_api[], __stop_weir_api[];
void wr_signal_setup(void);
void wr_signal_restore(void);
bool wr_signal_ours(void);                 /* SIGURG comes to us, not to a handler of the program's */
void wr_signal_unblock(const sigset_t *mask); /* on a new thread of ours: this mask, less what it must hear. NULL: its own */
bool wr_signal_freeze(struct m *m);        /* stop that thread for good, at a place where it holds no lock of libc's; false: try later */
_Noreturn void wr_freeze(void);            /* the calling thread stops for good */
_Noreturn void wr_blocking_left(struct m *m); /* the same, back from a call that began in a run that has ended */

/* world.c */
bool wr_world_signalled(const void *context); /* in the handler; true: the signal was to stop the world, which goes on again */

/* lifecycle.c */
int wr_threads_now(void);                  /* threads of this process */
void wr_thread_stack(uintptr_t *lo, uintptr_t *hi); /* of the calling thread; zeroes: main's, or not known */
extern __thread bool wr_in_run;            /* this thread waits in weir_run: only a signal handler can call weir on it */

/* procs.c */
int wr_default_procs(void);

/* gdb.c: what a debugger's script looks up by name; a table ends with an empty one. Exported is the list of the tables, to its NULL. */
struct wr_gdb_number {
    char name[24];
    uintptr_t value;
};
extern const struct wr_gdb_number wr_stack_numbers[]; /* in stack.c, whose structs nobody else knows */
__attribute__((visibility("default"))) extern const struct wr_gdb_number *const weir_gdb_[];

#pragma GCC visibility pop

#ifdef WR_TSAN
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void *fiber);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
#endif
#ifdef WR_ASAN
void __sanitizer_start_switch_fiber(void **fake_stack_save, const void *bottom, size_t size);
void __sanitizer_finish_switch_fiber(void *fake_stack_save, const void **bottom_old, size_t *size_old);
#endif

#endif
