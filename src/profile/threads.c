/*
 * CPU timers, one for each thread of the process, on that thread's CPU clock. Each signals its own thread: so a sample is of the
 * thread whose time it stands for, which one timer of the whole process does not promise.
 *
 * Workers get theirs when they begin; other threads when they are found in /proc/self/task, where sysmon looks ten times a second. The
 * timer of a thread that has ended never goes off again. Its number may by then be that of another thread, which would go without: but
 * the time that such a timer has left reads as 0, by which it is known.
 *
 * Nothing here is touched by the signal's handler.
 */
#include "profile/threads.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "sched/sched.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

char wr_cpu_timers_mark;

struct thread_timer {
    int tid;
    bool seen;     /* in the look in progress */
    timer_t timer;
};
static struct {
    struct thread_timer *all;
    size_t n, cap;
    size_t next;   /* where the next thread of the list is likely to be: it has the same order each time */
} timers;

/* The clock of the CPU time that a thread of this process has used. pthread_getcpuclockid has the same, but wants a pthread_t. */
static clockid_t clock_of(int tid) {
    enum { OF_THREAD = 4, SCHEDULED = 2 };
    return (clockid_t)((~(unsigned)tid << 3) | OF_THREAD | SCHEDULED);
}

/* The first sample comes at random, so that threads that begin together are not all looked at at once. */
static bool start(int tid, long period_ns, timer_t *timer) {
    struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGPROF,
                              .sigev_value.sival_ptr = &wr_cpu_timers_mark };
    event.sigev_notify_thread_id = tid;
    if (timer_create(clock_of(tid), &event, timer) != 0) return false;
    long first = 1 + (long)wr_choose((uint32_t)period_ns);
    struct itimerspec when = { .it_interval = { period_ns / WEIR_SECOND, period_ns % WEIR_SECOND },
                               .it_value = { first / WEIR_SECOND, first % WEIR_SECOND } };
    if (timer_settime(*timer, 0, &when, NULL) == 0) return true;
    timer_delete(*timer);
    return false;
}

static bool has_ended(timer_t timer) {
    struct itimerspec left;
    return timer_gettime(timer, &left) != 0 || (left.it_value.tv_sec == 0 && left.it_value.tv_nsec == 0);
}

static struct thread_timer *of(int tid) {
    for (size_t i = 0; i < timers.n; i++) {
        size_t at = (timers.next + i) % timers.n;
        if (timers.all[at].tid != tid) continue;
        timers.next = at + 1;
        return &timers.all[at];
    }
    return NULL;
}

void wr_cpu_timers_add(int tid, long period_ns) {
    struct thread_timer *t = of(tid);
    timer_t timer;
    if (t && !has_ended(t->timer)) {
        t->seen = true;
        return;
    }
    if (!start(tid, period_ns, &timer)) return; /* it may have ended by now */
    if (t) {
        timer_delete(t->timer);
    } else {
        if (timers.n == timers.cap) {
            size_t cap = timers.cap ? 2 * timers.cap : 64;
            struct thread_timer *larger = realloc(timers.all, cap * sizeof *larger);
            if (!larger) {
                timer_delete(timer);
                return;
            }
            timers.all = larger, timers.cap = cap;
        }
        t = &timers.all[timers.n++];
    }
    *t = (struct thread_timer){ tid, true, timer };
}

static bool add(int tid, void *period_ns) {
    wr_cpu_timers_add(tid, *(const long *)period_ns);
    return true;
}

size_t wr_cpu_timers_look(long period_ns) {
    int tasks = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (size_t i = 0; i < timers.n; i++) timers.all[i].seen = false;
    bool all = tasks >= 0 && wr_each_thread(tasks, add, &period_ns);
    if (tasks >= 0) close(tasks);
    for (size_t i = 0; all && i < timers.n;) {
        if (timers.all[i].seen) {
            i++;
            continue;
        }
        timer_delete(timers.all[i].timer);
        timers.all[i] = timers.all[--timers.n];
    }
    return timers.n;
}

void wr_cpu_timers_drop(void) {
    for (size_t i = 0; i < timers.n; i++) timer_delete(timers.all[i].timer);
    wr_cpu_timers_forget();
}

void wr_cpu_timers_forget(void) {
    free(timers.all);
    timers.all = NULL;
    timers.n = timers.cap = timers.next = 0;
}
