/*
 * Talking to another thread by signal: "what is your stack?" and "stop for good". SIGURG, as Go's runtime
 * uses it: ignored by default, so one that arrives late harms nobody. A program that has a handler of its own for SIGURG keeps
 * it, and does without the stacks of running goroutines in dumps.
 */
#include "sched/inner.h"

#include <dlfcn.h>
#include <link.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

enum { IDLE, ASKED, ANSWERING, ANSWERED };

WR_PRIVATE static struct {
    pthread_mutex_t one;       /* one question at a time */
    _Atomic uint32_t state;    /* futex: IDLE -> ASKED -> ANSWERING -> ANSWERED -> IDLE */
    struct g *_Atomic g;       /* atomic, as a signal that comes late looks at the next question */
    struct m *_Atomic m;       /* its thread when it was asked; NULL: a foreign one */
    size_t n;
    uintptr_t pcs[128];
} ask = { .one = PTHREAD_MUTEX_INITIALIZER };

static struct sigaction before;
static bool ours;
static struct {
    uintptr_t lo, hi;
} libc_code[8]; /* where malloc, stdio and the loader may hold locks */
static int n_libc_code;

static int note_libc(struct dl_phdr_info *info, size_t size, void *arg) {
    (void)size, (void)arg;
    const char *name = strrchr(info->dlpi_name, '/');
    name = name ? name + 1 : info->dlpi_name;
    if (strncmp(name, "libc.", 5) && strncmp(name, "libc-", 5) && strncmp(name, "ld-", 3)) return 0;
    for (int i = 0; i < info->dlpi_phnum && n_libc_code < 8; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD && (info->dlpi_phdr[i].p_flags & PF_X)) {
            libc_code[n_libc_code].lo = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
            libc_code[n_libc_code].hi = libc_code[n_libc_code].lo + info->dlpi_phdr[i].p_memsz;
            n_libc_code++;
        }
    return 0;
}

/*
 * Where the C library only waits and holds no lock. A signal ends these waits even where its handler asks for a restart, so a
 * goroutine that was not stopped here would see its sleep end early, and go on.
 */
static struct {
    uintptr_t lo, hi;
} waiting_code[8];
static int n_waiting_code;

static void note_waiting(void *function) {
#ifdef __GLIBC__
    Dl_info info;
    ElfW(Sym) *symbol = NULL;
    if (!dladdr1(function, &info, (void **)&symbol, RTLD_DL_SYMENT) || !symbol || !info.dli_saddr) return;
    waiting_code[n_waiting_code].lo = (uintptr_t)info.dli_saddr;
    waiting_code[n_waiting_code++].hi = (uintptr_t)info.dli_saddr + symbol->st_size;
#else
    (void)function;
#endif
}

/* Once: a thread that an earlier run has left behind may be in on_signal, and look at them. */
static void note_places(void) {
    static bool noted;
    if (noted) return;
    noted = true;
    dl_iterate_phdr(note_libc, NULL);
    void *const waiting[] = { (void *)clock_nanosleep, (void *)poll, (void *)ppoll, (void *)select, (void *)pselect,
                              (void *)epoll_wait, (void *)epoll_pwait };
    for (size_t i = 0; i < sizeof waiting / sizeof waiting[0]; i++) note_waiting(waiting[i]);
}

static bool in_libc(const void *context) {
#if defined(__x86_64__)
    uintptr_t pc = (uintptr_t)((const ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
#else
    uintptr_t pc = (uintptr_t)((const ucontext_t *)context)->uc_mcontext.pc;
#endif
    for (int i = 0; i < n_libc_code; i++)
        if (pc >= libc_code[i].lo && pc < libc_code[i].hi) return true;
    return false;
}

_Noreturn void wr_freeze(void) {
    sigset_t all;
    atomic_store(&wr_m()->frozen, 2);
    sigfillset(&all);
    sigdelset(&all, SIGURG); /* whoever stops the world must hear from us, too */
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    for (;;) pause();
}

/* ThreadSanitizer calls handlers late, with the context of the time when the signal came; the frames of then are gone. */
size_t wr_signal_stack(const void *context, uintptr_t *pcs, size_t max) {
#ifdef WR_TSAN
    (void)context;
    return wr_unwind_here(pcs, max, 0);
#else
    return wr_unwind_signal(context, pcs, max);
#endif
}

static bool waits_in_libc(const void *context) {
    uintptr_t pcs[3]; /* newer ones make the system call in a function below */
    size_t n = wr_signal_stack(context, pcs, sizeof pcs / sizeof pcs[0]);
    for (size_t i = 0; i < n; i++)
        for (int j = 0; j < n_waiting_code; j++)
            if (pcs[i] >= waiting_code[j].lo && pcs[i] < waiting_code[j].hi) return true;
    return false;
}

bool wr_in_public_function(uintptr_t pc) { return pc >= (uintptr_t)__start_weir_api && pc <= (uintptr_t)__stop_weir_api; }

/* Inside a function of weir's that user code has called? It may hold a short lock, of a channel for one, which others need yet. */
static bool in_weir(const void *context) {
    uintptr_t pcs[16];
    size_t n = wr_signal_stack(context, pcs, sizeof pcs / sizeof pcs[0]);
    for (size_t i = 0; i < n; i++)
        if (wr_in_public_function(pcs[i])) return true;
    return false;
}

static void on_signal(int signo, siginfo_t *info, void *context) {
    (void)signo, (void)info;
    int saved_errno = errno;
    struct m *m = wr_m();
    if (wr_world_signalled(context)) {
        errno = saved_errno;
        return;
    }
    if (m && atomic_load(&m->frozen) == 1) {
        bool ours_now = atomic_load(&m->busy) || in_weir(context);
        bool now = !ours_now && (!in_libc(context) || waits_in_libc(context));
        atomic_store(&m->in_weir, ours_now);
        if (now) atomic_store(&m->frozen, 2);
        atomic_fetch_add(&m->answers, 1);
        wr_futex_wake(&m->answers, 1);
        if (now) wr_freeze();
    }
    uint32_t asked = ASKED;
    if (atomic_load(&ask.state) == ASKED && (wr_self_or_null() == ask.g || (m && m == ask.m)) &&
        atomic_compare_exchange_strong(&ask.state, &asked, ANSWERING)) {
        /* Asked anew only now: until the answer the question stays. A goroutine that has moved on is none here. */
        ask.n = wr_self_or_null() == ask.g ? wr_signal_stack(context, ask.pcs, sizeof ask.pcs / sizeof ask.pcs[0]) : 0;
        atomic_store(&ask.state, ANSWERED);
        wr_futex_wake(&ask.state, 1);
    }
    errno = saved_errno;
}

bool wr_signal_ours(void) { return ours; }

size_t wr_running_stack(struct g *g, uintptr_t *pcs, size_t max) {
    if (!ours) return 0;
    size_t n = 0;
    pthread_mutex_lock(&ask.one);
    struct m *m = g->foreign ? NULL : __atomic_load_n(&g->m, __ATOMIC_RELAXED);
    ask.g = g;
    ask.m = m;
    atomic_store(&ask.state, ASKED);
    if (g->foreign ? pthread_kill(g->thread, SIGURG) == 0 : m && pthread_kill(m->thread, SIGURG) == 0) {
        weir_time until = wr_now() + 100 * WEIR_MILLISECOND;
        for (uint32_t state; (state = atomic_load(&ask.state)) != ANSWERED;) {
            if (wr_now() >= until && state == ASKED && atomic_compare_exchange_strong(&ask.state, &state, IDLE)) break;
            wr_futex_wait(&ask.state, state, state == ASKED ? until : wr_now() + WEIR_MILLISECOND);
        }
        if (atomic_load(&ask.state) == ANSWERED) {
            n = ask.n < max ? ask.n : max;
            memcpy(pcs, ask.pcs, n * sizeof *pcs);
        }
    }
    atomic_store(&ask.state, IDLE);
    pthread_mutex_unlock(&ask.one);
    return n;
}

bool wr_signal_freeze(struct m *m) {
    if (!ours) {
        wr_futex_wait(&m->gone, 0, wr_now() + WEIR_MILLISECOND);
        return false;
    }
    uint32_t running = 0, answers = atomic_load(&m->answers);
    atomic_compare_exchange_strong(&m->frozen, &running, 1);
    if (running == 2) return true;
    pthread_kill(m->thread, SIGURG);
    wr_futex_wait(&m->answers, answers, wr_now() + WEIR_MILLISECOND);
    return atomic_load(&m->frozen) == 2;
}

void wr_let_faults_in(sigset_t *mask) {
    static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP };
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) sigdelset(mask, faults[i]);
}

void wr_signal_setup(void) {
    struct sigaction now = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK };
    sigfillset(&now.sa_mask); /* the program's handlers wait meanwhile: who is stopped is to do nothing */
    wr_let_faults_in(&now.sa_mask);
    note_places();
    if (sigaction(SIGURG, NULL, &before) == 0 && (before.sa_handler == SIG_DFL || before.sa_handler == SIG_IGN))
        ours = sigaction(SIGURG, &now, NULL) == 0;
}

void wr_signal_unblock(const sigset_t *mask) {
    sigset_t set;
    if (mask) set = *mask;
    else pthread_sigmask(SIG_SETMASK, NULL, &set);
    wr_let_faults_in(&set);
    sigdelset(&set, SIGURG);
    pthread_sigmask(SIG_SETMASK, &set, NULL);
}

void wr_signal_restore(void) {
    if (ours) sigaction(SIGURG, &before, NULL);
    ours = false;
}
