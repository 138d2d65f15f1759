/*
 * The CPU profile: each thread is interrupted by SIGPROF after so much CPU time (threads.c), and the handler counts its stack, with the
 * labels of the goroutine that it runs.
 *
 * The handler may interrupt anything, malloc and our own locks too. So it takes no lock, allocates nothing, and calls only what may be
 * called there: the unwinder (arch.h), an addition to the table (stacks.c), and a walk over the labels of its own thread's
 * goroutine, which change only in ways that a handler may see (goroutine.c).
 *
 * Its coming and going: `on` says whether to count, `inside` how many handlers are at work.
 *
 *   handler:  inside + 1;  on?  … count …;  inside - 1
 *   stop:     on = 0;  no more timers;  the signal is ignored, which drops those that are pending, and only then has its old
 *             disposition again, by which a late one would end the process;  wait until inside is 0;  read, and drop the table
 *
 * All of that is sequentially consistent, so a handler either finds `on` 0 and touches nothing, or is waited for. It is never for long:
 * a handler waits for nobody.
 *
 * A forked child has no timers, and no thread to come back from a handler; it is known by its pid, and forgets the profile of its parent.
 * lock guards start, stop and the timers; not the handler. While the result is being read it is free.
 */
#include "profile/stacks.h"
#include "profile/threads.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

enum { CELLS = 1 << 14, WORDS = 24 * CELLS, LABELS = 64 /* looked at */ };
#define LOOK_EVERY (100 * WEIR_MILLISECOND)

static struct {
    pthread_mutex_t lock;
    enum { IDLE, TAKING, ENDING } state;
    _Atomic pid_t process;      /* that is profiled */
    long period;                /* nanoseconds */
    struct sigaction before;    /* SIGPROF's */
    struct wr_stack_table stacks;
    _Atomic uint32_t on, inside;
    weir_time looked;           /* when threads were looked for */
} cpu = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* ---- The handler ------------------------------------------------------------------------------------------------ */

/* key 0 value 0 key 0 value 0 …, newest first: put into words later. */
struct labels {
    size_t n;
    char text[WR_LABELS_TEXT];
};
static void add_label(const char *key, const char *value, void *arg) {
    struct labels *l = arg;
    size_t k = strlen(key) + 1, v = strlen(value) + 1;
    if (k > sizeof l->text || v > sizeof l->text || l->n + k + v > sizeof l->text) return;
    memcpy(l->text + l->n, key, k);
    memcpy(l->text + l->n + k, value, v);
    l->n += k + v;
}

static void count(const void *context, int samples) {
    uintptr_t pcs[WR_LONGEST_STACK];
    struct labels labels = { .n = 0 };
    struct g *g = wr_self_or_null();
    size_t n = wr_signal_stack(context, pcs, sizeof pcs / sizeof pcs[0]);
    if (n > 0) pcs[0]++;
    if (g) (void)wr_labels_newest(g, LABELS, add_label, &labels);
    wr_stack_table_add(&cpu.stacks, pcs, n, labels.text, labels.n, (uint64_t)samples * WR_COUNT_ONE, (uint64_t)samples * (uint64_t)cpu.period);
}

static void on_sigprof(int signo, siginfo_t *info, void *context) {
    int saved_errno = errno;
    (void)signo;
    atomic_fetch_add(&cpu.inside, 1);
    if (atomic_load(&cpu.on) && info->si_code == SI_TIMER && info->si_value.sival_ptr == &wr_cpu_timers_mark)
        count(context, 1 + (info->si_overrun > 0 ? info->si_overrun : 0));
    atomic_fetch_sub(&cpu.inside, 1);
    errno = saved_errno;
}

/* ---- Threads that begin meanwhile --------------------------------------------------------------------------------- */

static bool is_ours(void) { return atomic_load(&cpu.process) == getpid(); }

static void on_thread(int tid) {
    if (!is_ours()) return; /* a child's; the lock may be held for ever in there */
    pthread_mutex_lock(&cpu.lock);
    if (cpu.state == TAKING) wr_cpu_timers_add(tid, cpu.period);
    pthread_mutex_unlock(&cpu.lock);
}

static void on_tick(weir_time now) {
    if (!is_ours() || pthread_mutex_trylock(&cpu.lock)) return;
    if (cpu.state == TAKING && now - cpu.looked >= LOOK_EVERY) {
        (void)wr_cpu_timers_look(cpu.period);
        cpu.looked = now;
    }
    pthread_mutex_unlock(&cpu.lock);
}

/* ---- Start ---------------------------------------------------------------------------------------------------------- */

/* In a child. Its parent's profile may have been in any state. The handler stays, and does nothing. */
static void forget_parent(void) {
    if (!atomic_load(&cpu.process) || is_ours()) return;
    pthread_mutex_init(&cpu.lock, NULL);
    atomic_store(&cpu.on, 0), atomic_store(&cpu.inside, 0);
    atomic_store(&wr_hook_thread, NULL);
    wr_sysmon_tick(NULL);
    wr_cpu_timers_forget();
    wr_stack_table_drop(&cpu.stacks);
    cpu.state = IDLE;
    atomic_store(&cpu.process, 0);
}

static bool is_our_handler(const struct sigaction *a) { return (a->sa_flags & SA_SIGINFO) && a->sa_sigaction == on_sigprof; }

/* All signals wait until the handler is done, so that none that stops this thread does so in there; but for crashes. */
static int install(void) {
    struct sigaction now = { .sa_sigaction = on_sigprof, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK }, there;
    sigfillset(&now.sa_mask);
    wr_let_faults_in(&now.sa_mask);
    if (sigaction(SIGPROF, NULL, &there) != 0) return -errno;
    if (is_our_handler(&there)) return 0; /* the parent's, of a child: and `before` is its */
    if ((there.sa_flags & SA_SIGINFO) || (there.sa_handler != SIG_DFL && there.sa_handler != SIG_IGN)) return -EBUSY;
    cpu.before = there;
    return sigaction(SIGPROF, &now, NULL) == 0 ? 0 : -errno;
}

/* Not if the program has installed another one meanwhile. */
static void uninstall(void) {
    struct sigaction there, ignore = { .sa_handler = SIG_IGN };
    if (sigaction(SIGPROF, NULL, &there) != 0 || !is_our_handler(&there)) return;
    sigaction(SIGPROF, &ignore, NULL);
    sigaction(SIGPROF, &cpu.before, NULL);
}

static void end_sampling(void) {
    atomic_store(&cpu.on, 0);
    atomic_store(&wr_hook_thread, NULL);
    wr_sysmon_tick(NULL);
    wr_cpu_timers_drop();
    uninstall();
    while (atomic_load(&cpu.inside)) sched_yield();
}

static int begin_sampling(int hz) {
    int e = wr_stack_table_make(&cpu.stacks, CELLS, WORDS);
    if (!e) e = install();
    if (e) {
        wr_stack_table_drop(&cpu.stacks);
        return e;
    }
    uintptr_t pc;
    (void)wr_unwind_here(&pc, 1, 0); /* what the unwinder does once it is to have done before a signal comes in the middle of it */
    cpu.period = WEIR_SECOND / hz;
    cpu.looked = wr_now();
    atomic_store(&cpu.process, getpid());
    atomic_store(&cpu.on, 1);
    atomic_store(&wr_hook_thread, on_thread); /* first: who begins after the look finds it, and waits for the lock */
    if (wr_cpu_timers_look(cpu.period) == 0) {
        end_sampling();
        wr_stack_table_drop(&cpu.stacks);
        return -EAGAIN;
    }
    wr_sysmon_tick(on_tick);
    return 0;
}

int wr_cpu_profile_start(int hz) {
    if (hz < 1 || hz > 1000) return -EINVAL;
    int saved_errno = errno;
    forget_parent();
    pthread_mutex_lock(&cpu.lock);
    int e = cpu.state == IDLE ? begin_sampling(hz) : -EBUSY;
    if (!e) cpu.state = TAKING;
    pthread_mutex_unlock(&cpu.lock);
    errno = saved_errno;
    return e;
}

/* ---- Stop ----------------------------------------------------------------------------------------------------------- */

struct reader {
    void (*visit)(const uintptr_t *pcs, size_t n, uint64_t samples, uint64_t nanoseconds, const char *labels, void *arg);
    void *arg;
};

static void tell(struct wr_stack_cell *c, const uintptr_t *pcs, const char *text, uint64_t samples, uint64_t nanoseconds, void *arg) {
    const struct reader *r = arg;
    struct wr_pairs pairs = { .n = 0 };
    char labels[WR_LABELS_TEXT];
    for (const char *at = text, *end = text + c->n_text; at < end;) {
        const char *value = at + strlen(at) + 1;
        wr_pairs_add(at, value, &pairs);
        at = value + strlen(value) + 1;
    }
    wr_pairs_text(&pairs, labels);
    r->visit(pcs, c->n, samples / WR_COUNT_ONE, nanoseconds, labels, r->arg);
}

int wr_cpu_profile_stop(void (*visit)(const uintptr_t *pcs, size_t n, uint64_t samples, uint64_t nanoseconds, const char *labels,
                                      void *arg),
                        void *arg) {
    int saved_errno = errno;
    forget_parent();
    pthread_mutex_lock(&cpu.lock);
    bool ours = cpu.state == TAKING;
    if (ours) {
        end_sampling();
        cpu.state = ENDING;
    }
    pthread_mutex_unlock(&cpu.lock);
    errno = saved_errno;
    if (!ours) return -EINVAL;

    struct reader reader = { visit, arg };
    uint64_t rest = atomic_load(&cpu.stacks.rest);
    if (visit) (void)wr_stack_table_each(&cpu.stacks, tell, &reader);
    if (visit && rest)
        visit(wr_full_stack, 1, rest / WR_COUNT_ONE, atomic_load(&cpu.stacks.rest_nanoseconds), "", arg);

    pthread_mutex_lock(&cpu.lock);
    wr_stack_table_drop(&cpu.stacks);
    cpu.state = IDLE;
    pthread_mutex_unlock(&cpu.lock);
    errno = saved_errno;
    return 0;
}

void wr_cpu_memory_each(void (*visit)(uintptr_t lo, uintptr_t hi)) { wr_stack_table_memory(&cpu.stacks, visit); }
