/*
 * Child processes.
 *
 * Starting. As posix_spawn does it: the child shares our memory until it runs the program (CLONE_VM), on a stack of its own, while the
 * calling thread sleeps (CLONE_VFORK); so it costs the same however large we are, and its error is simply a word in memory. Not posix_spawn
 * itself, which gives no pidfd before glibc 2.39: between its return and pidfd_open(2) somebody else may have waited for the child, and
 * the number may be another's. What runs in the child must take no lock and touch no memory that others use, so it makes bare system
 * calls; no sanitizer sees it. No signal gets in: handlers would run in our memory, too. All are blocked until the child has
 * no handlers any more.
 *
 * Waiting. A pidfd is readable when the process has ended, and names it for good, until the number is closed. lock_ guards what is
 * known of the child and its pidfd_: who has taken the status closes it under the lock, so who finds it there under the lock may use it. Who waits
 * holds the descriptor's entry (wr_io), so the number is not given away while it is about to.
 */
#include "io/io.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x1000
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
enum { BY_PIDFD = 3 }; /* P_PIDFD */

#if defined(__clang__)
#define IN_CHILD __attribute__((noinline, no_sanitize("address", "thread", "undefined")))
#else
#define IN_CHILD __attribute__((noinline, no_sanitize_address, no_sanitize_thread, no_sanitize_undefined))
#endif

bool wr_process_without_pidfd;

/* ---- In the child -------------------------------------------------------------------------------------- */

/* The child's; shared memory, for where it has a copy of ours: ThreadSanitizer knows of no thread that it runs on, and emulators fork. */
struct stack {
    int error; /* -errno: why it does not run the program */
    _Alignas(16) char bytes[64 << 10];
};

struct launch {
    const weir_command *command;
    const char *const *env;
    char *paths;             /* to try, one after the other; an empty one ends them */
    int fds[3];
    long most_fds;           /* numbers that may be open are below it */
    struct stack *stack;
    pid_t pid;
    int pidfd;
};

static IN_CHILD void default_signals(void) {
    for (int signo = 1; signo <= 64; signo++) {
        uintptr_t action[8] = { 0 }; /* the kernel's: the handler comes first */
        if (syscall(SYS_rt_sigaction, signo, NULL, action, (size_t)8) < 0) continue;
        if (action[0] == (uintptr_t)SIG_DFL || (action[0] == (uintptr_t)SIG_IGN && signo != SIGPIPE)) continue;
        for (int i = 0; i < 8; i++) action[i] = 0;
        syscall(SYS_rt_sigaction, signo, action, NULL, (size_t)8);
    }
    uint64_t none = 0;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, (size_t)8);
}

/* fds[i] becomes i, in the child. First all of them to numbers of which none is overwritten. */
static IN_CHILD int place_descriptors(struct launch *l) {
    for (int i = 0; i < 3; i++) {
        int fd = l->fds[i];
        if (fd == WEIR_INHERIT) continue;
        if (fd == WEIR_DEV_NULL) {
            fd = (int)syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC, 0);
        } else {
            long flags = syscall(SYS_fcntl, fd, F_GETFL, 0);
            if (flags < 0) return -errno;
            if (flags & O_NONBLOCK) syscall(SYS_fcntl, fd, F_SETFL, flags & ~O_NONBLOCK);
        }
        if (fd >= 0 && fd < 3 && fd != i) fd = (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 3);
        if (fd < 0) return -errno;
        l->fds[i] = fd;
    }
    for (int i = 0; i < 3; i++) {
        int fd = l->fds[i];
        if (fd == WEIR_INHERIT || fd == i) syscall(SYS_fcntl, i, F_SETFD, 0); /* fails if there is none: then it has none either */
        else if (syscall(SYS_dup3, fd, i, 0) < 0) return -errno;
    }
    if (syscall(SYS_close_range, 3u, ~0u, 0u) < 0)
        for (long fd = 3; fd < l->most_fds; fd++) syscall(SYS_close, fd);
    return 0;
}

/* Only if it succeeds it does not return. As execvp: what is not there, or not for us, leads on to the next directory. */
static IN_CHILD int exec_first(struct launch *l) {
    int error = -ENOENT;
    for (char *path = l->paths; *path; path++) {
        syscall(SYS_execve, path, l->command->argv, l->env);
        if (errno == EACCES) error = -EACCES;
        else if (errno != ENOENT && errno != ENOTDIR) return -errno;
        while (*path) path++;
    }
    return error;
}

static IN_CHILD int child(void *arg) {
    struct launch *l = arg;
    int error = 0;
    if ((l->command->flags & WEIR_PROCESS_GROUP) && syscall(SYS_setpgid, 0, 0) < 0) error = -errno;
    if (!error && l->command->dir && syscall(SYS_chdir, l->command->dir) < 0) error = -errno;
    if (!error) error = place_descriptors(l);
    if (!error) {
        default_signals();
        error = exec_first(l);
    }
    l->stack->error = error;
    syscall(SYS_exit_group, 127);
    return 127;
}

/* ---- Starting ------------------------------------------------------------------------------------------ */

/* The stack of the child is this launch's, so clone may be called from here; the thread goes on when the child runs its program or is gone. */
static int64_t launch(void *arg) {
    struct launch *l = arg;
    uint64_t all = ~(uint64_t)0, before; /* those of the C library's own too, which its functions leave out */
    int flags = CLONE_VFORK | SIGCHLD;
    char *top = l->stack->bytes + sizeof l->stack->bytes;
#ifndef WR_TSAN
    flags |= CLONE_VM;
#endif
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, (size_t)8);
    l->pid = wr_process_without_pidfd ? -1 : clone(child, top, flags | CLONE_PIDFD, l, &l->pidfd);
    if (l->pid < 0 && (wr_process_without_pidfd || errno == EINVAL)) l->pid = clone(child, top, flags, l);
    int error = l->pid < 0 ? -errno : l->stack->error;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, (size_t)8);
    if (l->pid > 0 && error) {
        while (waitpid(l->pid, NULL, 0) < 0 && errno == EINTR) {}
        if (l->pidfd >= 0) close(l->pidfd);
    }
    return error;
}

/* Where the program may be, one string after the other. NULL: no memory. */
static char *paths_of(const char *name) {
    const char *path = strchr(name, '/') || !*name ? "" : getenv("PATH");
    if (!path) path = "/bin:/usr/bin";
    size_t directories = 1;
    for (const char *c = path; *c; c++) directories += *c == ':';
    char *paths = malloc(strlen(path) + directories * (strlen(name) + 2) + 1), *to = paths;
    if (!paths) return NULL;
    for (size_t n; directories--; path += n + 1) {
        n = strcspn(path, ":");
        to = mempcpy(to, path, n);
        if (n) *to++ = '/'; /* an empty one is the current directory, as it always was */
        to = stpcpy(to, name) + 1;
    }
    *to = 0;
    return paths;
}

int weir_process_start(const weir_command *c, weir_process *p) {
    *p = (weir_process){ .pidfd_ = -1 };
    if (!c->argv || !c->argv[0] || (c->flags & ~(unsigned)WEIR_PROCESS_GROUP)) return -EINVAL;
    if (c->in < WEIR_DEV_NULL || c->out < WEIR_DEV_NULL || c->err < WEIR_DEV_NULL) return -EBADF;
    struct launch l = { .command = c, .env = c->env ? c->env : (const char *const *)environ, .fds = { c->in, c->out, c->err }, .pidfd = -1 };
    l.most_fds = sysconf(_SC_OPEN_MAX);
    for (int i = 0; i < 3; i++)
        if (l.fds[i] >= 0) wr_io_leave_alone(l.fds[i]);
    l.paths = paths_of(c->argv[0]);
    l.stack = mmap(NULL, sizeof *l.stack, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int error = l.paths && l.stack != MAP_FAILED ? (int)wr_io_blocking(launch, &l) : -ENOMEM;
    free(l.paths);
    if (l.stack != MAP_FAILED) munmap(l.stack, sizeof *l.stack);
    if (error) return error;
    p->group_ = c->flags & WEIR_PROCESS_GROUP;
    p->pid = l.pid;
    if (l.pidfd < 0) return 0;
    p->pidfd_ = wr_io_made(l.pidfd, false);
    if (p->pidfd_ >= 0) return 0;
    error = p->pidfd_; /* the pidfd is closed */
    kill(p->group_ ? -l.pid : l.pid, SIGKILL);
    while (waitpid(l.pid, NULL, 0) < 0 && errno == EINTR) {}
    *p = (weir_process){ .pidfd_ = -1 };
    return error;
}

/* ---- Waiting ------------------------------------------------------------------------------------------- */

static int wait_once(const weir_process *p, siginfo_t *info, int options) {
    int error;
    do {
        info->si_pid = 0;
        error = p->pidfd_ >= 0 ? waitid((idtype_t)BY_PIDFD, (id_t)p->pidfd_, info, options) : -1;
        if (error && (p->pidfd_ < 0 || errno == EINVAL)) error = waitid(P_PID, (id_t)p->pid, info, options); /* Linux 5.2, 5.3 */
    } while (error && errno == EINTR);
    return error ? -errno : info->si_pid ? 0 : -EAGAIN;
}

/* lock_ held. 0: it has ended, and what is to be known of it is. */
static int reap(weir_process *p, int options) {
    siginfo_t info;
    if (p->ended_) return 0;
    int error = wait_once(p, &info, WEXITED | options);
    if (error == -EAGAIN) return error;
    p->ended_ = true;
    p->lost_ = error;
    p->status_ = error ? error : info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
    if (p->pidfd_ >= 0) (void)weir_close_fd(p->pidfd_); /* wakes whoever waits besides us */
    p->pidfd_ = -1;
    return 0;
}

/* The number was the pidfd's when it was read; now that it is held, it still is, or the child has ended. */
static int64_t try_reap(int fd, void *arg) {
    (void)fd;
    weir_process *p = arg;
    weir_mutex_lock(&p->lock_);
    int error = reap(p, WNOHANG);
    weir_mutex_unlock(&p->lock_);
    return error;
}

static int nap(weir_duration *d) {
    if (*d < 50 * WEIR_MILLISECOND) *d *= 2;
    return wr_sched_running() ? weir_sleep(*d) : -EPERM;
}

/* Without a pidfd. */
static int look_now_and_then(weir_process *p) {
    int error = wr_io_ended();
    for (weir_duration pause = WEIR_MILLISECOND / 2; !error && try_reap(-1, p) == -EAGAIN;) error = nap(&pause);
    return error;
}

int weir_process_wait(weir_process *p, int *status) {
    if (p->pid <= 0) return -EINVAL;
    for (;;) {
        weir_mutex_lock(&p->lock_);
        bool ended = p->ended_;
        int fd = p->pidfd_;
        weir_mutex_unlock(&p->lock_);
        if (ended) break;
        int error = fd < 0 ? look_now_and_then(p) : (int)wr_io(fd, WR_READ, try_reap, p, 0);
        if (error && error != -EBADF) return error; /* that: another who waited has closed it, and said why */
    }
    if (p->lost_) return p->status_;
    if (status) *status = p->status_;
    return 0;
}

int weir_process_kill(weir_process *p, int signo) {
    if (p->pid <= 0) return -EINVAL;
    weir_mutex_lock(&p->lock_);
    int error = 0;
    /* Until somebody has taken the status its number is nobody else's, nor its group's. */
    if (p->ended_) error = -ESRCH;
    else if (p->pidfd_ >= 0 && syscall(SYS_pidfd_send_signal, p->pidfd_, p->group_ ? 0 : signo, NULL, 0u) < 0) error = -errno;
    if (!error && (p->group_ || p->pidfd_ < 0) && kill(p->group_ ? -p->pid : p->pid, signo) < 0) error = -errno;
    weir_mutex_unlock(&p->lock_);
    return error;
}

/* Until it has ended, or `until`; it stays to be waited for, so that its group is still its own. */
static void watch(weir_process *p, weir_time until) {
    struct pollfd fd = { .fd = p->pidfd_, .events = POLLIN };
    siginfo_t info;
    if (p->pidfd_ >= 0) {
        (void)wr_io_poll(&fd, 1, until);
        return;
    }
    for (weir_duration pause = WEIR_MILLISECOND; wr_now() < until && wait_once(p, &info, WEXITED | WNOHANG | WNOWAIT) == -EAGAIN;)
        (void)nap(&pause);
}

static int reap_killed(void *arg) { return reap(arg, 0); }

int weir_process_run(const weir_command *c, int *status) {
    weir_process p;
    if (!wr_sched_running()) return -EPERM;
    int error = weir_process_start(c, &p);
    if (error) return error;
    error = weir_process_wait(&p, status);
    if (p.ended_) return error;
    if (c->grace > 0 && weir_process_kill(&p, SIGTERM) == 0)
        weir_with(weir_ctx_background()) watch(&p, wr_after(c->grace));
    (void)weir_process_kill(&p, SIGKILL);
    (void)weir_blocking(reap_killed, &p); /* soon over, and needs neither memory nor the poller */
    if (status && !p.lost_) *status = p.status_;
    return error;
}
