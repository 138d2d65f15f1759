/*
 * weir_leak_watch, weir_watch_count, and the watch of WEIR_LEAK: three duties of one thread. It sleeps until the next
 * of them is due. The scheduler knows it as a helper, so it counts neither as a goroutine nor as a thread that may
 * wake somebody, but for the time that it is at work.
 *
 * state.lock guards what is below it, and is not held while anybody's function is called or a proof is made.
 * `generation` names the thread in charge: one that is left in a callback when the runtime stops finds, when that
 * returns, that it is not in charge any more, and ends.
 */
#include "leak/watch.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "profile/profile.h"

enum { WATCH, ENVIRONMENT, COUNT, DUTIES };

struct duty {
    weir_duration every;     /* 0: there is none */
    weir_time due;
    void (*report)(const weir_leak_report *, void *);
    void (*count)(size_t, void *);
    void *arg;
    size_t threshold;
    bool heal;
    struct wr_growth *growth;
    uint64_t version;        /* changes whenever it is set anew */
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;  /* duties, the generation, at_work */
    bool made;               /* changed is, by the monotonic clock */
    bool runs;               /* the runtime does */
    unsigned generation;     /* of the thread in charge */
    bool there;              /* that there is one */
    pthread_t thread;
    int tid;                 /* of that; it tells itself */
    int at_work;             /* the duty that it does just now; -1: none */
    bool calling;            /* and is in the user's function */
    unsigned calls;          /* that have returned */
    struct duty duties[DUTIES];
} state = { .lock = PTHREAD_MUTEX_INITIALIZER, .at_work = -1 };

static void lock(void) {
    pthread_mutex_lock(&state.lock);
    if (state.made) return;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&state.changed, &attr);
    pthread_condattr_destroy(&attr);
    state.made = true;
}
static void unlock(void) { pthread_mutex_unlock(&state.lock); }

/* ---- One duty ----------------------------------------------------------------------------------------------- */

/* The lock is held before and after; false: the thread is not in charge any more, or the duty is not what it was. */
static bool still(unsigned generation, int which, uint64_t version) {
    return generation == state.generation && state.duties[which].version == version;
}

static void called(unsigned generation) {
    if (generation == state.generation) state.calling = false;
    state.calls++;
    pthread_cond_broadcast(&state.changed);
}

static void print_found(const weir_leak_report *r, void *arg) {
    (void)arg;
    if (r->error || r->n || r->growth) weir_leak_report_print(r, stderr);
}

static void prove_and_tell(unsigned generation, int which) {
    struct duty duty = state.duties[which];
    struct wr_growth *growth = duty.growth;
    weir_leak_report *r;
    state.duties[which].growth = NULL; /* ours meanwhile */
    unlock();
    (void)wr_leaks(&r);
    if (r) wr_growth_sample(&growth, r);
    lock();
    bool tell = r && still(generation, which, duty.version);
    if (tell) {
        state.calling = true;
        pthread_cond_broadcast(&state.changed);
        unlock();
        duty.report(r, duty.arg);
        if (duty.heal) (void)weir_leak_heal(r);
        lock();
        called(generation);
    }
    if (still(generation, which, duty.version)) state.duties[which].growth = growth;
    else wr_growth_free(growth);
    weir_leak_report_free(r);
}

static void count_and_tell(unsigned generation) {
    struct duty duty = state.duties[COUNT];
    unlock();
    size_t n = weir_count() - 1; /* this thread, which is counted because it asks */
    lock();
    if (n <= duty.threshold || !still(generation, COUNT, duty.version)) return;
    wr_metrics_exceeded();
    state.calling = true;
    pthread_cond_broadcast(&state.changed);
    unlock();
    duty.count(n, duty.arg);
    lock();
    called(generation);
}

/* ---- The thread --------------------------------------------------------------------------------------------- */

/* The duty that is due first; -1: there are none. */
static int next_duty(void) {
    int first = -1;
    for (int i = 0; i < DUTIES; i++)
        if (state.duties[i].every && (first < 0 || state.duties[i].due < state.duties[first].due)) first = i;
    return first;
}

/* The lock is held. Misses are not made up for. */
static void perform(unsigned generation, int which) {
    uint64_t version = state.duties[which].version;
    state.at_work = which;
    unlock();
    wr_helper_works();
    lock();
    if (still(generation, which, version)) {
        if (which == COUNT) count_and_tell(generation);
        else prove_and_tell(generation, which);
    }
    unlock();
    wr_helper_rests();
    lock();
    if (still(generation, which, version)) state.duties[which].due = wr_after(state.duties[which].every);
    if (generation == state.generation) state.at_work = -1;
    pthread_cond_broadcast(&state.changed);
}

static void *watch_main(void *arg) {
    unsigned generation = (unsigned)(uintptr_t)arg;
    prctl(PR_SET_NAME, "weir watch", 0, 0, 0);
    wr_helper_joins();
    lock();
    state.tid = (int)syscall(SYS_gettid);
    while (generation == state.generation) {
        int which = next_duty();
        weir_time due = which < 0 ? WR_NEVER : state.duties[which].due;
        if (which < 0) {
            pthread_cond_wait(&state.changed, &state.lock);
        } else if (due > wr_now()) {
            struct timespec until = { due / WEIR_SECOND, due % WEIR_SECOND };
            pthread_cond_timedwait(&state.changed, &state.lock, &until);
        } else {
            perform(generation, which);
        }
    }
    unlock();
    wr_helper_leaves();
    return NULL;
}

/* The lock is held. Signals are for the program's own threads; wr_helper_joins lets in what weir needs. */
static void start_thread(void) {
    pthread_attr_t attr;
    sigset_t all, before;
    if (state.there || !state.runs || next_duty() < 0) return;
    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, (size_t)512 << 10);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    state.at_work = -1, state.calling = false;
    int e = pthread_create(&state.thread, &attr, watch_main, (void *)(uintptr_t)state.generation);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    state.there = e == 0;
    if (e) wr_warn("nothing is watched: no thread can be made");
}

void wr_watch_start(void) {
    lock();
    state.runs = true;
    for (int i = 0; i < DUTIES; i++) state.duties[i].due = wr_after(state.duties[i].every);
    start_thread();
    unlock();
}

void wr_watch_stop(void) {
    lock();
    state.runs = false;
    pthread_t thread = state.thread;
    bool there = state.there;
    while (there && state.at_work >= 0 && !state.calling) pthread_cond_wait(&state.changed, &state.lock);
    bool calling = state.calling;
    state.generation++;
    state.there = state.calling = false;
    state.at_work = -1;
    pthread_cond_broadcast(&state.changed);
    unlock();
    if (!there) return;
    if (calling) pthread_detach(thread);
    else wr_thread_join(thread, &state.tid);
}

/* ---- The calls ---------------------------------------------------------------------------------------------- */

/* Blocks the thread while the old function is being called, unless that is who asks. */
static void set(int which, struct duty duty) {
    lock();
    struct duty *now = &state.duties[which];
    bool self = state.there && pthread_equal(state.thread, pthread_self());
    duty.version = now->version + 1;
    struct wr_growth *growth = now->growth;
    if (duty.every) duty.due = wr_after(duty.every);
    *now = duty;
    start_thread();
    pthread_cond_broadcast(&state.changed);
    unsigned calls = state.calls;
    while (!self && state.there && state.at_work == which && state.calling && state.calls == calls)
        pthread_cond_wait(&state.changed, &state.lock);
    unlock();
    wr_growth_free(growth);
}

void weir_leak_watch(weir_duration every, void (*fn)(const weir_leak_report *report, void *arg), void *arg) {
    struct duty duty = { .every = every, .report = fn, .arg = arg };
    set(WATCH, fn && every > 0 ? duty : (struct duty){ 0 });
}

void weir_watch_count(size_t threshold, weir_duration every, void (*fn)(size_t count, void *arg), void *arg) {
    struct duty duty = { .every = every, .count = fn, .arg = arg, .threshold = threshold };
    bool watches = fn && every > 0;
    set(COUNT, watches ? duty : (struct duty){ 0 });
    wr_metrics_watch(watches, threshold);
}

void wr_watch_environment(weir_duration every, bool heal) {
    struct duty duty = { .every = every, .report = print_found, .heal = heal };
    set(ENVIRONMENT, every > 0 ? duty : (struct duty){ 0 });
}
