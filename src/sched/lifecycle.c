/*
 * Start and stop of the scheduler. The thread that calls wr_sched_main waits; the main goroutine runs on a worker
 * like any other.
 */
#include "sched/inner.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

__thread bool wr_in_run __attribute__((tls_model("initial-exec")));

#define MAIN_STACK ((size_t)8 << 20)

/* Its number of links has the count in it. Reading the folder would not do: the list ends early where a thread ends meanwhile. */
int wr_threads_now(void) {
    struct stat task;
    return stat("/proc/self/task", &task) == 0 && task.st_nlink > 2 ? (int)task.st_nlink - 2 : 1;
}

/* A debugger can keep one for long. */
void wr_thread_join(pthread_t thread, const int *tid) {
    pthread_join(thread, NULL);
    weir_time most = wr_after(WEIR_SECOND);
    while (syscall(SYS_tgkill, getpid(), *tid, 0) == 0 && wr_now() < most) sched_yield();
}

bool wr_each_thread(int tasks, bool (*visit)(int tid, void *arg), void *arg) {
    struct entry {
        uint64_t ino;
        int64_t off;
        unsigned short length;
        unsigned char type;
        char name[];
    };
    _Alignas(8) char buffer[4096];
    if (lseek(tasks, 0, SEEK_SET) != 0) return false;
    for (long n; (n = syscall(SYS_getdents64, tasks, buffer, sizeof buffer)) > 0;)
        for (long at = 0; at < n;) {
            const struct entry *e = (const struct entry *)(const void *)(buffer + at);
            at += e->length;
            int tid = 0;
            for (const char *c = e->name; *c >= '0' && *c <= '9'; c++) tid = tid * 10 + (*c - '0');
            if (tid && !visit(tid, arg)) return false;
        }
    return true;
}

static size_t stack_from_environment(void) {
    const char *env = getenv("WEIR_STACK");
    if (!env || !*env) return (size_t)256 << 10;
    char *end;
    unsigned long long n = strtoull(env, &end, 10);
    if (*end == 'k' || *end == 'K') n <<= 10, end++;
    else if (*end == 'm' || *end == 'M') n <<= 20, end++;
    if (*end || n < 16 << 10 || n > 1ULL << 30) {
        wr_warn("WEIR_STACK=%s: not a size from 16K to 1024M; ignored", env);
        return (size_t)256 << 10;
    }
    size_t size = 16 << 10;
    while (size < n) size <<= 1;
    return size;
}

/* Threads that the program is born with: one, and those of an emulator. What it has started since may call in any time. */
static int threads_at_birth;
static pid_t born_as;
__attribute__((constructor)) static void count_threads_at_birth(void) {
    threads_at_birth = wr_threads_now();
    born_as = getpid();
}

int wr_sched_start(enum wr_mode mode) {
    uint32_t off = 0;
    if (!atomic_compare_exchange_strong(&wr_sched.running, &off, 2)) return -EBUSY; /* 2: starting */
    int helpers = wr_helpers_hold(), others = wr_threads_now() - threads_at_birth - wr_sched.left_threads - helpers;
#ifdef WR_TSAN
    if (getpid() != born_as) others--; /* the sanitizer's own, which a forked child has from the start */
    if (helpers) others--;             /* and the one that came with the first thread made */
#endif
    if (mode == WR_MODE_MAIN) wr_foreign_drop_self(); /* it will wait, not call */
    wr_sched.mode = mode;
    wr_sched.default_stack = stack_from_environment();
    wr_stacks_init();
    wr_poll_choose();
    atomic_store(&wr_sched.stopping, 0);
    atomic_store(&wr_sched.main_done, 0);
    wr_sched.main_exited = false;
    atomic_store(&wr_sched.coarse, wr_now());
    int n = wr_default_procs(), e = 0;
    for (int i = atomic_load(&wr_sched.made_ps); i < n && !e; i++)
        if (!wr_p_make(i)) e = i ? 0 : -ENOMEM, n = i ? i : n;
    if (!e) {
        atomic_store(&wr_sched.procs, n);
        wr_lock(&wr_sched.lock, WR_RANK_SCHED);
        wr_sched.idle_ps = NULL;
        atomic_store(&wr_sched.n_idle_ps, 0);
        for (int i = n; i-- > 0;) wr_put_idle_p(wr_sched.ps[i]);
        for (int i = n; i < atomic_load(&wr_sched.made_ps); i++) wr_sched.ps[i]->retired = true;
        wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
        wr_signal_setup();
        e = wr_sysmon_start();
    }
    if (!e) {
        if (mode == WR_MODE_MAIN) wr_outside_begin(); /* until there is a main goroutine */
        /* One worker now, so that having no thread at all is an error here and not later. */
        wr_lock(&wr_sched.lock, WR_RANK_SCHED);
        if (!wr_start_m(wr_take_idle_p(), false)) e = -EAGAIN;
        /* Counted now, since a sanitizer starts a thread of its own with the program's first. */
        wr_sched.extra_threads = wr_threads_now() - (int)wr_sched.n_ms - 1 - (others > 0 ? others : 0);
        int surely = threads_at_birth + wr_sched.left_threads + helpers; /* one of the others may have ended since they were counted */
        if (wr_sched.extra_threads < surely) wr_sched.extra_threads = surely;
        wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
        if (e && mode == WR_MODE_MAIN) wr_outside_end();
    }
    wr_helpers_release();
    atomic_store(&wr_sched.running, 1);
    if (e) wr_sched_stop();
    return e;
}

void wr_thread_stack(uintptr_t *lo, uintptr_t *hi) {
    pthread_attr_t attr;
    void *at;
    size_t size;
    *lo = *hi = 0;
    if (getpid() == (int)syscall(SYS_gettid)) return; /* main's grows */
    if (pthread_getattr_np(pthread_self(), &attr)) return;
    if (pthread_attr_getstack(&attr, &at, &size) == 0) *lo = (uintptr_t)at, *hi = *lo + size;
    pthread_attr_destroy(&attr);
}

bool wr_sched_running(void) { return atomic_load(&wr_sched.running) == 1; }

static void main_ended(struct g *g, int result) {
    if (g->exiting) {
        wr_sched.main_exited = true;
        return;
    }
    wr_sched.main_result = result;
}

/* Not before it has left its stack: a leak proof at the end would find there what it had in hand last. */
void wr_main_gone(void) {
    atomic_store(&wr_sched.main_done, 1);
    wr_futex_wake(&wr_sched.main_done, INT32_MAX);
}

int wr_sched_main(int (*fn)(void *), void *arg) {
    struct wr_args args;
    memset(&args, 0, sizeof args);
    args.integer[0] = (uint64_t)(uintptr_t)arg;
    struct wr_spawn s = { .fn = (void (*)(void))fn, .args = &args, .stack = MAIN_STACK, .on_end = main_ended,
                          .returns_int = true, .main = true };
    wr_in_run = true; /* before there is a goroutine that could raise a signal here */
    int e = wr_spawn(&s);
    wr_outside_end();
    if (e) wr_in_run = false;
    if (e) return e;
    while (!atomic_load(&wr_sched.main_done)) wr_futex_wait(&wr_sched.main_done, 0, WR_NEVER);
    wr_in_run = false;
    return wr_sched.main_result;
}

/* idle_waiters + 1; fence for all; how many are there? The other side, `finish` in goroutine.c: one less; light fence; idle_waiters? The
 * last one sees that somebody waits, or is not counted any more. */
bool wr_sched_wait_idle(weir_time until) {
    atomic_fetch_add(&wr_sched.idle_waiters, 1);
    wr_fence_all();
    bool idle;
    for (;;) {
        uint32_t seen = atomic_load(&wr_sched.idle_word);
        idle = wr_goroutines() == 0;
        if (idle || wr_now() >= until) break;
        wr_futex_wait(&wr_sched.idle_word, seen, until);
    }
    atomic_fetch_sub(&wr_sched.idle_waiters, 1);
    return idle;
}

static void abandon(struct g *g, bool held, void *n) {
    struct wr_wait *w = atomic_load(&g->wait);
    if (g->foreign) return;
    ++*(size_t *)n;
    if (w && w->reason == WR_WAIT_IO) wr_poll_end(); /* it never comes back to do that */
    /* Nobody can wake it any more: a partner loses the claim and passes it by. */
    if (held && w && atomic_load(&g->state) == WR_G_WAITING) (void)wr_claim(w, -ECANCELED);
    if (held) atomic_store(&g->state, WR_G_DEAD); /* it is no goroutine of a later run, and not to be seen there */
}

/*
 * A thread that is inside the runtime is always waited for: it is about to leave, and must not do so in the middle of the next
 * run. One whose goroutine makes one call after the other is tried for longer, since it can be stopped only between two; and so is
 * one that has not answered yet, since on a busy machine it may not get a processor for long.
 */
static void let_threads_end(void) {
    weir_time patience = wr_now() + 20 * WEIR_MILLISECOND, end = patience + 200 * WEIR_MILLISECOND;
    for (struct m *m = wr_sched.all_ms; m; m = m->next_m) atomic_store(&m->in_weir, wr_signal_ours()); /* until it says otherwise */
    for (struct m *last;;) {
        weir_time now = wr_now();
        last = NULL;
        for (struct m *m = wr_sched.all_ms; m; m = m->next_m) {
            if (atomic_load_explicit(&m->gone, memory_order_acquire) || atomic_load(&m->frozen) == 2) continue;
            wr_wake_m(m);
            bool inside = atomic_load(&m->busy);
            if (atomic_load(&m->blocking)) atomic_store(&m->frozen, 1);
            else if (inside || now < (atomic_load(&m->in_weir) ? end + 2 * WEIR_SECOND : end)) last = m;
            if (last == m && !inside && now >= patience) wr_signal_freeze(m);
        }
        if (!last) return;
        if (now < patience || atomic_load(&last->busy)) wr_futex_wait(&last->gone, 0, now + WEIR_MILLISECOND);
    }
}

/*
 * Workers end when they come to the scheduler. A thread that does not, since its goroutine computes, is stopped by a signal
 * where it stands, but neither inside the C library, whose locks the rest of the program needs, nor inside weir, whose locks it
 * needs as well: so a callback of weir_once_do that never ends does not stop either. What is in weir_blocking stops
 * when it comes back. Stacks of goroutines that have not ended stay mapped: others may hold pointers into them.
 */
int wr_sched_stop(void) {
    wr_lock(&wr_sched.lock, WR_RANK_SCHED); /* who made a thread before is done with it, and nobody does after */
    atomic_store(&wr_sched.stopping, 1);
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    wr_sysmon_stop();
    let_threads_end();
    bool all_gone = true;
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    for (struct m *m = wr_sched.all_ms; m; m = m->next_m)
        if (!atomic_load(&m->gone)) { /* if it is not frozen yet, then when it comes to the scheduler */
            uint32_t running = 0;
            atomic_compare_exchange_strong(&m->frozen, &running, 1);
            atomic_store(&m->p, NULL);
            all_gone = false;
            wr_sched.left_threads++;
            /* What it calls may wake somebody of the next run yet. It tells when it has returned: it sees `frozen` after it has
             * taken `blocking` back, and so either we see that here, or it waits for this lock and sees left_blocking. */
            if (atomic_load(&m->blocking)) m->left_blocking = true, wr_sched.n_outside++, wr_sched.n_running++;
        }
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    wr_signal_restore();
    static size_t left; /* of earlier runs too */
    wr_each_goroutine(abandon, &left);
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    wr_tallies_keep();
    struct m *ms = wr_sched.all_ms;
    wr_sched.all_ms = NULL;
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    for (struct m *m = ms, *next; m; m = next) {
        next = m->next_m;
        if (!atomic_load(&m->gone)) continue; /* stopped where it stood; its memory is still looked at */
        wr_thread_join(m->thread, &m->tid);
        free(m);
    }
    bool timers = wr_timers_first() != WR_NEVER; /* the program may yet stop them */
    for (int i = 0; i < atomic_load(&wr_sched.made_ps); i++) {
        struct p *p = wr_sched.ps[i];
        wr_stack_flush(p);
        atomic_store(&p->head, 0), atomic_store(&p->tail, 0), atomic_store(&p->runnext, NULL);
        p->retired = false;
        if (left == 0 && all_gone && !timers) {
            free(p->timers.heap);
            free(p);
        }
    }
    if (left == 0 && all_gone) {
        wr_stacks_free_all();
        if (!timers) atomic_store(&wr_sched.made_ps, 0);
    }
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    wr_sched.idle_ms = NULL, wr_sched.n_ms = 0;
    wr_sched.n_running = wr_sched.n_outside; /* a helper may be at work, and takes itself off */
    wr_global_forget();
    wr_tallies_keep(); /* a thread of the program's may have started one since */
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    atomic_store(&wr_sched.spinning, 0);
    atomic_store(&wr_sched.running, 0);
    return 0;
}
