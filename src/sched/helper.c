/*
 * Threads of weir's own that are no workers: the scheduler must know of them, since one thread too many looks like
 * one of the program's, that may call in and wake somebody, and then no deadlock is ever found. And some questions of
 * other rooms.
 *
 * A helper may be there before the runtime starts and after it has stopped. So `helpers` counts them beside extra_threads, which
 * wr_sched_start sets anew: it holds `counting` while it counts threads, and so does who makes a helper until that has joined.
 */
#include "sched/inner.h"

static pthread_mutex_t counting = PTHREAD_MUTEX_INITIALIZER;
static _Atomic int helpers;

uint64_t wr_ids_end(void) { return atomic_load_explicit(&wr_sched.next_id, memory_order_acquire); }

weir_time wr_next_timer(void) { return wr_timers_first(); }

int wr_helpers_hold(void) {
    pthread_mutex_lock(&counting);
    return atomic_load(&helpers);
}
void wr_helpers_release(void) { pthread_mutex_unlock(&counting); }

/* Called once the thread is there: counted before that, it would hide one of the program's. */
static void count(int threads) {
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    wr_sched.extra_threads += threads;
    atomic_fetch_add(&helpers, threads);
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
}

/* A forked child has none of them, nor of those that a run has left behind. */
static void in_forked_child(void) {
    pthread_mutex_init(&counting, NULL);
    atomic_store(&helpers, 0);
    wr_sched.left_threads = 0;
}
__attribute__((constructor)) static void watch_forks(void) { pthread_atfork(NULL, NULL, in_forked_child); }

void wr_helper_works(void) { wr_outside_begin(); }

void wr_helper_rests(void) {
    wr_foreign_drop_self();
    wr_outside_end();
}

void wr_helper_joins(void) {
    wr_signal_unblock(NULL);
    wr_outside_begin();
    count(1);
    wr_outside_end(); /* a deadlock may have been passed over on our account */
}

void wr_helper_leaves(void) {
    wr_foreign_drop_self();
    count(-1);
}

/* ---- One that is made here ---------------------------------------------------------------------------------- */

struct birth {
    void (*fn)(void *);
    void *arg;
    _Atomic uint32_t joined; /* futex */
};

static void *helper_main(void *arg) {
    struct birth *birth = arg;
    void (*fn)(void *) = birth->fn;
    void *fn_arg = birth->arg;
    wr_helper_joins();
    atomic_store(&birth->joined, 1); /* the last access, but for the address: it may be gone by then, and waking nobody does no harm */
    wr_futex_wake(&birth->joined, 1);
    fn(fn_arg);
    wr_helper_leaves();
    return NULL;
}

int wr_helper_thread(size_t stack, void (*fn)(void *), void *arg) {
    struct birth birth = { fn, arg, 0 };
    pthread_t thread;
    pthread_attr_t attr;
    sigset_t all, before;
    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, stack);
    pthread_mutex_lock(&counting);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int e = pthread_create(&thread, &attr, helper_main, &birth);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    while (!e && !atomic_load(&birth.joined)) wr_futex_wait(&birth.joined, 0, WR_NEVER);
    pthread_mutex_unlock(&counting);
    pthread_attr_destroy(&attr);
    return -e;
}

size_t wr_threads_each(void (*visit)(uintptr_t start, size_t n, void *arg), void *arg) {
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    size_t workers = wr_sched.n_ms, sysmons = wr_sched.sysmon_made;
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    int n = atomic_load(&helpers);
    size_t beside = n > 0 ? (size_t)n : 0;
    if (visit && workers) visit((uintptr_t)wr_m_main, workers, arg);
    if (visit && sysmons) visit((uintptr_t)wr_sysmon_main, sysmons, arg);
    if (visit && beside) visit((uintptr_t)helper_main, beside, arg);
    return workers + sysmons + beside;
}
