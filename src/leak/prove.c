/*
 * The steps of a proof. The parent stops the world, forks, lets the world go on; the child judges the copy and sends its
 * answer. "Leaked" does not change any more once it is true, so the answer still holds when it arrives.
 *
 * fork() rather than a bare clone, since it takes malloc's locks first: so no thread was stopped in the middle of changing the heap.
 * But one may have been stopped with such a lock, and then fork() waits for it: the threads wait for `patience` only, then
 * go on, and the attempt is void; the next one has more patience, since fork() itself may take long.
 *
 * The child judges in the first of its fork handlers that we can have, before those of others, which tidy up what they
 * think is theirs: memory that the proof is to see as it was.
 */
#include "leak/child.h"
#include "sched/world.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define ATTEMPTS 8
#define PATIENCE (50 * WEIR_MILLISECOND)
#define PATIENCE_PER_GIB (160 * WEIR_MILLISECOND)
#define COPY_MAX ((size_t)64 << 20)
#define ANSWER_BY (10 * WEIR_MINUTE)

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
static int answer_pipe[2] = { -1, -1 }, go_pipe[2] = { -1, -1 };
static weir_duration long_enough;
static __thread bool forking __attribute__((tls_model("initial-exec"))); /* this thread, for a proof */

/* ---- The child ---------------------------------------------------------------------------------------------- */

static struct wr_answer answer;

static void send_all(const void *data, size_t n) {
    for (const char *at = data; n > 0;) {
        ssize_t sent = write(answer_pipe[1], at, n);
        if (sent < 0 && errno != EINTR) _exit(1);
        if (sent > 0) at += sent, n -= (size_t)sent;
    }
}

void wr_child_give_up(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    memset(&answer, 0, sizeof answer);
    answer.error = -EBUSY;
    vsnprintf(answer.why, sizeof answer.why, fmt, args);
    send_all(&answer, sizeof answer);
    _exit(1);
}

static void bad_memory(int signo, siginfo_t *info, void *context) {
    wr_child_give_up("memory at %p could not be read", info->si_addr);
}

/* The program's files: a connection that it closes meanwhile is to be closed. */
static void close_all_but(int a, int b) {
    unsigned low = (unsigned)(a < b ? a : b), high = (unsigned)(a < b ? b : a);
    if (low > 0) (void)syscall(SYS_close_range, 0u, low - 1, 0u);
    if (high > low + 1) (void)syscall(SYS_close_range, low + 1, high - 1, 0u);
    (void)syscall(SYS_close_range, high + 1, ~0u, 0u); /* Linux 5.9; before that they stay open until the answer is there */
}

static void in_child(void) {
    char go = 0;
    if (!forking) return;
    close_all_but(answer_pipe[1], go_pipe[0]);
    prctl(PR_SET_NAME, "weir leak proof", 0, 0, 0);
    sigset_t all;
    sigfillset(&all);
    sigdelset(&all, SIGSEGV), sigdelset(&all, SIGBUS);
    sigprocmask(SIG_SETMASK, &all, NULL);
    struct sigaction bad = { .sa_sigaction = bad_memory, .sa_flags = SA_SIGINFO };
    sigaction(SIGSEGV, &bad, NULL), sigaction(SIGBUS, &bad, NULL);
    if (read(go_pipe[0], &go, 1) != 1) _exit(0); /* the attempt was void */
    struct wr_verdict *verdicts = NULL;
    wr_judge(&answer, &verdicts, long_enough);
    send_all(&answer, sizeof answer);
    send_all(verdicts, answer.n * sizeof *verdicts);
    _exit(0);
}
__attribute__((constructor(101))) static void before_others(void) { pthread_atfork(NULL, NULL, in_child); }

/* ---- Memory that fork() does not copy ------------------------------------------------------------------------- */

/* Of mappings with MADV_DONTFORK or MADV_WIPEONFORK. They are copied by hand, into memory that is copied. */
static struct wr_leak_range uncopied[64];
static size_t n_uncopied, uncopied_bytes, resident;
static char *copies;

static void find_uncopied(void) {
    char line[512];
    uintptr_t lo = 0, hi = 0;
    bool private = false, there = false;
    FILE *f = fopen("/proc/self/smaps", "re");
    n_uncopied = uncopied_bytes = resident = 0;
    while (f && fgets(line, sizeof line, f)) {
        unsigned long long a, b, kib;
        char mode[8];
        if (sscanf(line, "%llx-%llx %7s", &a, &b, mode) == 3) {
            lo = a, hi = b, private = mode[3] == 'p', there = false;
        } else if (sscanf(line, "Rss: %llu", &kib) == 1) {
            resident += kib << 10;
            there |= kib > 0;
        } else if (sscanf(line, "Swap: %llu", &kib) == 1 || sscanf(line, "Private_Hugetlb: %llu", &kib) == 1) {
            there |= kib > 0;
        } else if (!strncmp(line, "VmFlags:", 8) && private && there && (strstr(line, " dc") || strstr(line, " wf"))) {
            if (n_uncopied < sizeof uncopied / sizeof uncopied[0]) uncopied[n_uncopied] = (struct wr_leak_range){ lo, hi };
            n_uncopied++, uncopied_bytes += hi - lo;
        }
    }
    if (f) fclose(f);
}
static bool copy_uncopied(void) {
    char *to = copies;
    for (size_t i = 0; i < n_uncopied; i++) {
        size_t size = uncopied[i].hi - uncopied[i].lo;
        struct iovec into = { to, size }, from = { (void *)uncopied[i].lo, size };
        if (process_vm_readv(getpid(), &into, 1, &from, 1, 0) != (ssize_t)size) return false;
        to += size;
    }
    return true;
}

/* ---- The parent ------------------------------------------------------------------------------------------------ */

static pid_t asked; /* the child */

/* The pipe may be open elsewhere too, in a child that the program has made meanwhile: so its end is not waited for. */
static bool child_has_ended(void) {
    siginfo_t info = { .si_pid = 0 };
    return waitid(P_PID, (id_t)asked, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid != 0;
}

static bool receive(void *data, size_t n, weir_time until) {
    for (char *at = data; n > 0;) {
        bool ended = child_has_ended(); /* asked before the poll: then all that it wrote is there */
        struct pollfd p = { .fd = answer_pipe[0], .events = POLLIN };
        int ready = wr_now() < until ? poll(&p, 1, ended ? 0 : 1000) : -1;
        if (ready < 0 && wr_now() < until && errno == EINTR) continue;
        if (ready == 0 && !ended) continue;
        ssize_t got = ready > 0 ? read(answer_pipe[0], at, n) : 0;
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        at += got, n -= (size_t)got;
    }
    return true;
}

static void inconclusive(struct wr_proof *p, int error, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void inconclusive(struct wr_proof *p, int error, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    p->error = error;
    vsnprintf(p->why, sizeof p->why, fmt, args);
    va_end(args);
}

static void take_answer(struct wr_proof *p) {
    struct wr_answer a;
    weir_time until = wr_now() + ANSWER_BY;
    if (!receive(&a, sizeof a, until)) {
        inconclusive(p, -EBUSY, wr_now() >= until ? "the child took more than ten minutes" : "the child ended without an answer");
        return;
    }
    p->error = a.error;
    memcpy(p->why, a.why, sizeof p->why);
    p->goroutines = a.goroutines, p->candidates = a.candidates;
    p->heap_bytes = a.heap_bytes, p->unknown_bytes = a.unknown_bytes, p->shared_bytes = a.shared_bytes;
    memcpy(p->bounds, a.bounds, sizeof p->bounds);
    if (a.error || a.n == 0) return;
    p->verdicts = malloc(a.n * sizeof *p->verdicts);
    if (!p->verdicts) inconclusive(p, -ENOMEM, "out of memory for %zu verdicts", a.n);
    else if (!receive(p->verdicts, a.n * sizeof *p->verdicts, until)) inconclusive(p, -EBUSY, "the child ended within its answer");
    else p->n = a.n, p->n_leaked = a.n_leaked;
}

/* True: it is settled, in one way or the other. */
static bool attempt(struct wr_proof *p, weir_duration patience, const void *frame) {
    int e = wr_world_prepare(p->why, sizeof p->why);
    if (e) {
        p->error = e == -ENOMEM ? e : -EBUSY;
        return true;
    }
    wr_lock(&wr_leak_registry.lock, WR_RANK_LEAF);
    p->registered = atomic_load(&wr_leak_registry.changes);
    weir_time start = wr_now();
    e = wr_world_stop(patience, frame, p->why, sizeof p->why);
    if (e) {
        wr_unlock(&wr_leak_registry.lock, WR_RANK_LEAF);
        wr_world_unprepare();
        p->error = -EBUSY;
        return e == -EBUSY && p->attempts >= 3; /* a thread that was just being made waits, deaf, for its maker, whom we had stopped */
    }
    bool copied = copy_uncopied();
    forking = copied;
    pid_t child = copied ? fork() : -1;
    int fork_errno = errno;
    forking = false;
    bool held = wr_world_resume();
    p->pause = wr_now() - start;
    wr_unlock(&wr_leak_registry.lock, WR_RANK_LEAF);
    wr_world_unprepare();
    if (child < 0) {
        if (copied) inconclusive(p, -EBUSY, "fork: %s", strerror(fork_errno));
        else inconclusive(p, -EBUSY, "memory with MADV_DONTFORK or MADV_WIPEONFORK could not be copied: %s", strerror(fork_errno));
        return copied || p->attempts >= 3;
    }
    if (held) {
        asked = child;
        (void)!write(go_pipe[1], "g", 1);
        close(answer_pipe[1]);
        answer_pipe[1] = -1;
        take_answer(p);
    } else {
        inconclusive(p, -EBUSY, "the threads did not stay stopped for %lld ms, the time that fork() wanted",
                     (long long)(patience / WEIR_MILLISECOND));
    }
    if (!held || p->error) kill(child, SIGKILL);
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR) {
    }
    return held && strncmp(p->why, "again", 5);
}

/* The pipes to and from the child, and room for what fork() would not copy. */
static void close_channel(void) {
    int *const ends[] = { &answer_pipe[0], &answer_pipe[1], &go_pipe[0], &go_pipe[1] };
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        if (*ends[i] >= 0) close(*ends[i]);
        *ends[i] = -1;
    }
    if (copies) munmap(copies, uncopied_bytes);
    copies = NULL;
}
static bool open_channel(void) {
    void *room = uncopied_bytes ? mmap(NULL, uncopied_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : NULL;
    if (room == MAP_FAILED) return false;
    copies = room;
    if (pipe2(answer_pipe, O_CLOEXEC) == 0 && pipe2(go_pipe, O_CLOEXEC) == 0) return true;
    int e = errno;
    close_channel();
    errno = e;
    return false;
}

struct job {
    struct wr_proof *proof;
    weir_duration long_blocked;
    const void *frame;
};

static int prove(void *arg) {
    const struct job *job = arg;
    struct wr_proof *p = job->proof;
    weir_time start = wr_now();
    pthread_mutex_lock(&one_at_a_time);
    weir_duration patience = 0;
    for (bool settled = false; !settled && p->attempts < ATTEMPTS;) {
        memset(p->why, 0, sizeof p->why);
        p->attempts++;
        p->error = 0;
        find_uncopied(); /* anew, for it may have changed */
        weir_duration least = PATIENCE + (weir_duration)(resident >> 20) * PATIENCE_PER_GIB / 1024;
        patience = patience ? patience + patience / 2 : least;
        if (uncopied_bytes > COPY_MAX || n_uncopied > sizeof uncopied / sizeof uncopied[0]) {
            inconclusive(p, -EBUSY, "%zu MiB of memory are not to be copied at a fork (MADV_DONTFORK, MADV_WIPEONFORK)",
                         uncopied_bytes >> 20);
            break;
        }
        if (!open_channel()) {
            inconclusive(p, -ENOMEM, "%s", strerror(errno));
            break;
        }
        long_enough = job->long_blocked;
        settled = attempt(p, patience, job->frame);
        close_channel();
    }
    pthread_mutex_unlock(&one_at_a_time);
    p->total = wr_now() - start;
    return 0;
}

/* The registers of the caller that survive calls are saved here, at the low end of what counts of its stack. */
__attribute__((noinline)) void wr_prove(struct wr_proof *proof, weir_duration long_blocked) {
    struct {
        uintptr_t saved[20];
        struct job job;
    } here;
    memset(&here, 0, sizeof here);
    memset(proof, 0, sizeof *proof);
#if defined(__x86_64__)
    __asm__ volatile("movq %%rbx, 0(%0)\n\tmovq %%rbp, 8(%0)\n\tmovq %%r12, 16(%0)\n\tmovq %%r13, 24(%0)\n\t"
                     "movq %%r14, 32(%0)\n\tmovq %%r15, 40(%0)" ::"r"(here.saved) : "memory");
#else
    __asm__ volatile("stp x19, x20, [%0]\n\tstp x21, x22, [%0, 16]\n\tstp x23, x24, [%0, 32]\n\t"
                     "stp x25, x26, [%0, 48]\n\tstp x27, x28, [%0, 64]\n\tstr x29, [%0, 80]\n\t"
                     "stp d8, d9, [%0, 88]\n\tstp d10, d11, [%0, 104]\n\tstp d12, d13, [%0, 120]\n\t"
                     "stp d14, d15, [%0, 136]" ::"r"(here.saved) : "memory");
#endif
    const void *frame;
#if defined(__x86_64__)
    __asm__ volatile("movq %%rsp, %0" : "=r"(frame));
#else
    __asm__ volatile("mov %0, sp" : "=r"(frame));
#endif
    here.job = (struct job){ proof, long_blocked, frame };
    (void)weir_blocking(prove, &here.job);
}

void wr_proof_free(struct wr_proof *proof) {
    free(proof->verdicts);
    memset(proof, 0, sizeof *proof);
}
