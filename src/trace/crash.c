/*
 * Crash signals: says what happened, on which goroutine and where, then lets the process die of the signal as
 * it would have, so that core dumps, exit statuses and other handlers keep their meaning.
 *
 * The process is in no state to look up names: the crash may have come inside malloc. So a forked child does
 * that, from its copy of the memory: it walks the stack into pages that both share, finds the names, and only
 * then writes. A child that fails, or does not get on, is killed, and the addresses that it has found are
 * written plainly. The handlers run on the workers' alternate stacks; nothing here allocates or takes a lock,
 * but in the child.
 *
 * A program's own handlers are left alone: ours are put only where there is none. The sanitizers install
 * theirs; there we take SIGSEGV and SIGBUS first, report stack overflows, which they cannot tell, and pass
 * everything on.
 */
#include "trace/trace.h"

#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(WR_ASAN) || defined(WR_TSAN)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

static struct {
    int signo;
    const char *name;
    bool shared;             /* with a sanitizer, which has a handler there */
    bool installed;
    struct sigaction before;
} signals[] = {
    { .signo = SIGSEGV, .name = "SIGSEGV", .shared = SANITIZED },
    { .signo = SIGBUS, .name = "SIGBUS", .shared = SANITIZED },
    { .signo = SIGFPE, .name = "SIGFPE" },
    { .signo = SIGILL, .name = "SIGILL" },
    { .signo = SIGABRT, .name = "SIGABRT" },
    { .signo = SIGTRAP, .name = "SIGTRAP" },
};
enum { N_SIGNALS = sizeof signals / sizeof signals[0] };

/* The thread whose crash is being reported; others wait for the end. */
static _Atomic int reporter;

/* ---- What the child and its parent share ------------------------------------------------------------ */

enum { MAX_PCS = 1 << 20, TOP = 50, BOTTOM = 50 };
enum stage { FORKED, WALKED, ALLOCATES, WRITES };

struct shared {
    _Atomic int stage;
    uintptr_t pcs[MAX_PCS];   /* only touched pages are real */
};

struct crash {
    struct g *g;
    const void *context;
    struct shared *shared;
};

/* Tests set it; and ThreadSanitizer complains of everything that the child does. */
#ifdef WR_TSAN
int wr_crash_without_child = 1;
#else
int wr_crash_without_child;
#endif

/* ---- The trace --------------------------------------------------------------------------------------- */

/* complete: nothing further out is missing. */
static void frames_put(struct wr_text *t, const struct wr_snapshot *s, size_t from, size_t to, bool complete,
                       bool names) {
    if (to - from <= TOP + BOTTOM && complete) {
        wr_frames_put(t, s, from, to, names);
        return;
    }
    wr_frames_put(t, s, from, from + TOP, names);
    wr_elided_put(t);
    if (complete) wr_frames_put(t, s, to - BOTTOM, to, names);
}

/* exact: pcs[0] has been made look like a return address. */
static void trace_put(struct wr_text *t, struct g *g, const uintptr_t *pcs, size_t n, bool exact, bool names) {
    struct wr_snapshot s;
    size_t from = 0, to = n;
    wr_snapshot_crashed(g, &s, pcs, n);
    s.exact = exact;
    if (names) wr_snapshot_shown(&s, &from, &to);
    wr_header_put(t, &s);
    frames_put(t, &s, from, to, n < MAX_PCS, names);
    wr_creator_put(t, &s);
}

static void in_child(void *arg) {
    struct crash *c = arg;
    struct shared *shared = c->shared;
    size_t n = wr_unwind_signal(c->context, shared->pcs, MAX_PCS);
    shared->pcs[0]++;
    atomic_store(&shared->stage, WALKED);
    free(malloc(2000)); /* larger than what a thread may have at hand, so that it takes the lock */
    free(malloc(100000));
    atomic_store(&shared->stage, ALLOCATES);
    wr_symbol_after_fork();
    wr_symbol_refresh();
    for (size_t i = 0; i < n; i++)
        if (i < TOP + BOTTOM || n - i <= TOP + BOTTOM) (void)wr_symbol_class(shared->pcs[i]);
    atomic_store(&shared->stage, WRITES);
    struct wr_text t;
    wr_text_open(&t, STDERR_FILENO);
    trace_put(&t, c->g, shared->pcs, n, true, true);
    (void)wr_text_close(&t);
    _exit(0);
}

/* A child that dies is to leave no core, and not to come back here. */
static _Noreturn void child(struct crash *c) {
    struct sigaction standard = { .sa_handler = SIG_DFL };
    struct rlimit none = { 0, 0 };
    sigset_t timer;
    for (int i = 0; i < N_SIGNALS; i++) sigaction(signals[i].signo, &standard, NULL);
    sigaction(SIGALRM, &standard, NULL);
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    sigemptyset(&timer);
    sigaddset(&timer, SIGALRM);
    sigprocmask(SIG_UNBLOCK, &timer, NULL);
    alarm(10); /* should the parent be killed */
    wr_on_large_stack(in_child, c);
    _exit(1);
}

/* No handlers of fork run, and no SIGCHLD is sent, unless an emulator knows no other way. */
static pid_t fork_raw(void) {
    long pid = syscall(SYS_clone, 0, NULL, NULL, NULL, NULL);
    if (pid < 0) pid = syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
    return (pid_t)pid;
}

static weir_time clock_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * WEIR_SECOND + now.tv_nsec;
}

/* True: the child has written. */
static bool let_child_write(struct crash *c) {
    pid_t pid = fork_raw();
    if (pid == 0) child(c);
    if (pid < 0) return false;
    weir_time start = clock_now(), walked = WR_NEVER;
    int status;
    for (;;) {
        pid_t ended = waitpid(pid, &status, WNOHANG | __WALL);
        if (ended == pid) break;
        if (ended < 0 && errno != EINTR) break; /* somebody else has waited for it */
        weir_time now = clock_now();
        int stage = atomic_load(&c->shared->stage);
        if (stage >= WALKED && walked == WR_NEVER) walked = now;
        if (now - start > 5 * WEIR_SECOND || (stage == WALKED && now - walked > WEIR_SECOND)) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, __WALL);
            break;
        }
        poll(NULL, 0, 1);
    }
    return atomic_load(&c->shared->stage) == WRITES;
}

/* ---- The report -------------------------------------------------------------------------------------- */

static uintptr_t pc_of(const ucontext_t *context) {
#if defined(__x86_64__)
    return (uintptr_t)context->uc_mcontext.gregs[REG_RIP];
#else
    return (uintptr_t)context->uc_mcontext.pc;
#endif
}

static const char *arithmetic_text(int code) {
    switch (code) {
    case FPE_INTDIV: return ": integer division by zero";
    case FPE_INTOVF: return ": integer overflow";
    case FPE_FLTDIV: return ": division by zero";
    case FPE_FLTOVF: return ": overflow";
    case FPE_FLTUND: return ": underflow";
    case FPE_FLTRES: return ": inexact result";
    case FPE_FLTINV: return ": invalid operation";
    default: return "";
    }
}

/* full: whose stack is; NULL: nobody's. */
static void sentence_put(struct wr_text *t, const char *name, const siginfo_t *info, const void *context,
                         const struct g *full) {
    uintptr_t address = (uintptr_t)info->si_addr;
    bool sent = info->si_code <= 0;
    if (full) {
        size_t size = 1 << 14, used = (size_t)(full->stack_hi - full->stack_lo);
        while (size < used) size <<= 1;
        wr_text_put(t, "fatal error: stack overflow\nweir: the stack of goroutine %" PRIu64 ", %zu KiB, is full; "
                    "weir_go_stack(bytes, fn, ...) gives one goroutine more, WEIR_STACK=1M all that do not ask\n",
                    full->id, size >> 10);
    } else if (sent && info->si_signo != SIGABRT && info->si_signo != SIGTRAP) {
        wr_text_put(t, "fatal error: %s sent by process %d\n", name, (int)info->si_pid);
    } else if (info->si_signo == SIGSEGV || info->si_signo == SIGBUS) {
        wr_text_put(t, "fatal error: %s at address 0x%" PRIxPTR "\n", name, address);
    } else {
        wr_text_put(t, "fatal error: %s%s\n", name, info->si_signo == SIGFPE ? arithmetic_text(info->si_code) : "");
    }
    wr_text_put(t, "[signal %s: code=%d addr=0x%" PRIxPTR " pc=0x%" PRIxPTR "]\n\n", name, info->si_code,
                sent ? 0 : address, pc_of(context));
}

/* What there is without a child's help. */
static void write_plainly(struct wr_text *t, struct crash *c) {
    uintptr_t few[TOP];
    const uintptr_t *pcs = few;
    size_t n = 0;
    bool exact = false;
    if (c->shared) {
        pcs = c->shared->pcs;
        while (n < MAX_PCS && pcs[n]) n++;
        exact = atomic_load(&c->shared->stage) >= WALKED;
    }
    if (n == 0) {
        pcs = few;
        n = wr_unwind_signal(c->context, few, TOP);
    }
    trace_put(t, c->g, pcs, n, exact, false);
}

static void report(const char *name, const siginfo_t *info, const void *context, struct g *g, bool overflow) {
    struct wr_text t;
    struct crash c = { .g = g, .context = context };
    wr_text_open(&t, STDERR_FILENO);
    sentence_put(&t, name, info, context, overflow ? g : NULL);
    wr_text_flush(&t);
    if (!wr_crash_without_child) {
        c.shared = mmap(NULL, sizeof *c.shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE,
                        -1, 0);
        if (c.shared == MAP_FAILED) c.shared = NULL;
    }
    if (!c.shared || !let_child_write(&c)) write_plainly(&t, &c);
    (void)wr_text_close(&t);
}

/* Is the crash one of ours to report? Another thread's is between the program and its own means. */
static bool ours(int i, const siginfo_t *info, struct g *g, bool *overflow) {
    struct g *hit = NULL;
    int signo = signals[i].signo;
    *overflow = (signo == SIGSEGV || signo == SIGBUS) && info->si_code > 0 && wr_stack_guard_hit(info->si_addr, &hit);
    return *overflow || (!signals[i].shared && g && !g->foreign);
}

void wr_crash_wait(void) {
    for (int n = 0; n < 100 && atomic_load(&reporter); n++) poll(NULL, 0, 100);
}

static void on_crash(int signo, siginfo_t *info, void *context) {
    int i = 0, nobody = 0, saved_errno = errno, me = (int)syscall(SYS_gettid);
    bool overflow;
    struct g *g = wr_self_or_null();
    while (signals[i].signo != signo) i++;
    if (ours(i, info, g, &overflow)) {
        if (atomic_compare_exchange_strong(&reporter, &nobody, me)) report(signals[i].name, info, context, g, overflow);
        else if (nobody != me) wr_crash_wait();
    }
    sigaction(signo, &signals[i].before, NULL);
    /* A fault happens again as soon as we return. What was sent, or does not come again by itself, we send. */
    if (info->si_code <= 0 || signo == SIGTRAP) syscall(SYS_tgkill, getpid(), me, signo);
    errno = saved_errno;
}

void wr_crash_start(void) {
    atomic_store(&reporter, 0);
    for (int i = 0; i < N_SIGNALS; i++)
        signals[i].installed = wr_signal_install(signals[i].signo, on_crash, &signals[i].before, signals[i].shared);
}

void wr_crash_stop(void) {
    for (int i = 0; i < N_SIGNALS; i++)
        if (signals[i].installed) wr_signal_uninstall(signals[i].signo, on_crash, &signals[i].before);
}
