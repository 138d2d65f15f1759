/*
 * The harness's inside. The parent never touches the runtime: it forks a child for each test, waits for it with a
 * time limit, and judges by three things: how the child ended, what it wrote, and the page they share, in which the
 * body says that it came to its end and a failed check says why. Single-threaded, no locks.
 */
#include "test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { STATUS_FAILED = 97, STATUS_SKIPPED = 98 };

/* Shared by parent and child. */
struct shared {
    _Atomic int said;          /* 0, 1: somebody writes reason, 2: written */
    _Atomic int finished;      /* the body returned */
    _Atomic int skipped;
    char reason[1024];         /* of the first failed check, or of the skip */
};

static struct test_case *first_test, **last_test = &first_test;
static struct shared *shared;
static bool no_leak_check = true; /* the parent has nothing to look for */
static bool ignore_leaks;

void test_register(struct test_case *t) {
    *last_test = t;
    last_test = &t->next;
}

/* LeakSanitizer asks before it looks: goroutines that outlive their test own memory which it cannot see from
 * anywhere, so only a test that leaves none behind is held to account. */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void) { return no_leak_check || ignore_leaks; }
void test_ignore_leaks(void) { ignore_leaks = true; }

/* ThreadSanitizer waits a second for late reports when a process ends with threads running, as many of these do. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) { return "atexit_sleep_ms=0"; }

/* ---- In the child ---------------------------------------------------------------------------------- */

static void say_why(const char *reason) {
    int nobody = 0;
    if (!shared || !atomic_compare_exchange_strong(&shared->said, &nobody, 1)) return;
    snprintf(shared->reason, sizeof shared->reason, "%s", reason);
    atomic_store(&shared->said, 2);
}

static void write_out(const char *text) {
    for (size_t n = strlen(text); n > 0;) {
        ssize_t wrote = write(STDERR_FILENO, text, n);
        if (wrote <= 0) return;
        text += wrote, n -= (size_t)wrote;
    }
}

void test_fail_(const char *file, int line, const char *fmt, ...) {
    char text[1024];
    const char *slash = strrchr(file, '/');
    int n = snprintf(text, sizeof text, "%s:%d: ", slash ? slash + 1 : file, line);
    va_list args;
    va_start(args, fmt);
    vsnprintf(text + n, sizeof text - (size_t)n, fmt, args);
    va_end(args);
    say_why(text);
    write_out(text);
    write_out("\n");
    _exit(STATUS_FAILED);
}

void test_skip_(const char *fmt, ...) {
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    say_why(text);
    if (shared) atomic_store(&shared->skipped, 1);
    _exit(STATUS_SKIPPED);
}

/* " (Broken pipe)" after what looks like a negative errno value. */
static const char *meaning(long long v, char *room, size_t size) {
    if (v < 0 && v > -200)
        snprintf(room, size, " (%s)", strerror((int)-v));
    else
        *room = 0;
    return room;
}

void test_compare_(const char *file, int line, const char *a_text, const char *op, const char *b_text, long long a,
                   long long b) {
    char mean_a[64], mean_b[64];
    if (op[0] == '=' ? a == b : op[0] == '!' ? a != b : op[0] == '<' ? a <= b : a >= b) return;
    test_fail_(file, line, "%s %s %s does not hold: %lld%s, %lld%s", a_text, op, b_text, a,
               meaning(a, mean_a, sizeof mean_a), b, meaning(b, mean_b, sizeof mean_b));
}

void test_strings_(const char *file, int line, const char *a_text, const char *b_text, const char *a, const char *b) {
    if (a && b ? strcmp(a, b) == 0 : a == b) return;
    test_fail_(file, line, "%s == %s does not hold: \"%s\", \"%s\"", a_text, b_text, a ? a : "(NULL)",
               b ? b : "(NULL)");
}

void test_contains_(const char *file, int line, const char *text, const char *hay, const char *needle) {
    if (hay && strstr(hay, needle)) return;
    write_out(hay ? hay : "(NULL)");
    write_out("\n");
    test_fail_(file, line, "%s does not contain \"%s\"", text, needle);
}

static int run_body(void *arg) {
    struct test_case *t = arg;
    t->body();
    no_leak_check = t->end != TEST_RETURNS || weir_count() > 1;
    if (shared) atomic_store(&shared->finished, 1);
    return 0;
}

__attribute__((noreturn)) static void run_here(struct test_case *t) {
    if (t->in_weir) {
        int e = weir_run(run_body, t);
        if (e) test_fail_(t->file, 0, "weir_run: %d (%s)", e, strerror(-e));
    } else {
        t->body();
        no_leak_check = t->end != TEST_RETURNS;
        if (shared) atomic_store(&shared->finished, 1);
    }
    exit(0);
}

/* ---- In the parent --------------------------------------------------------------------------------- */

static double timeout_scale(void) {
    const char *text = getenv("WEIR_TEST_TIMEOUT_SCALE");
    double scale = text ? strtod(text, NULL) : 1;
    return scale > 0 ? scale : 1;
}

long test_slowness(void) {
    long slow = (long)timeout_scale();
#ifdef TEST_TSAN
    if (slow < 10) slow = 10;
#endif
#ifdef TEST_ASAN
    if (slow < 4) slow = 4;
#endif
    return slow > 1 ? slow : 1;
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* A file without a name, to which every write appends. */
static int capture_file(void) {
    int fd = memfd_create("test", MFD_CLOEXEC);
    if (fd < 0) {
        perror("memfd_create");
        exit(1);
    }
    fcntl(fd, F_SETFL, O_APPEND);
    return fd;
}

static char *read_all(int fd, size_t *size) {
    off_t end = lseek(fd, 0, SEEK_END);
    char *text = malloc((size_t)end + 1);
    if (!text) abort();
    ssize_t n = pread(fd, text, (size_t)end, 0);
    *size = n > 0 ? (size_t)n : 0;
    text[*size] = 0;
    close(fd);
    return text;
}

/* The first and last part of what a child wrote, indented. */
static void show(const char *title, const char *text, size_t size) {
    enum { PART = 24 << 10 };
    if (!size) return;
    printf("    --- %s\n", title);
    for (size_t i = 0, bol = 1; i < size; i++) {
        if (bol) printf("    ");
        putchar(text[i]);
        bol = text[i] == '\n';
        if (bol && i > PART && size - i > PART) {
            printf("    …\n");
            i = size - PART;
        }
    }
    if (text[size - 1] != '\n') putchar('\n');
}

/* Signals by which the parent is told things; blocked in it, taken by sigtimedwait. */
static sigset_t parent_signals(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD), sigaddset(&set, SIGQUIT), sigaddset(&set, SIGINT), sigaddset(&set, SIGTERM);
    return set;
}

/* Wait for the child until that time. 1: it has ended. 0: it has not. A signal number: we are to end. */
static int wait_for(pid_t child, int *status, double until) {
    sigset_t set = parent_signals();
    for (;;) {
        if (waitpid(child, status, WNOHANG) == child) return 1;
        double left = until - seconds();
        if (left <= 0) return 0;
        struct timespec t = { (time_t)left, (long)((left - (double)(time_t)left) * 1e9) };
        int got = sigtimedwait(&set, NULL, &t);
        if (got > 0 && got != SIGCHLD) return got;
    }
}

static pid_t start_child(struct test_case *t, int out, int err, const sigset_t *old_mask) {
    fflush(NULL);
    pid_t child = fork();
    if (child) return child;
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
    sigprocmask(SIG_SETMASK, old_mask, NULL);
    dup2(out, STDOUT_FILENO), dup2(err, STDERR_FILENO);
    run_here(t);
}

/* Why the test failed, into `why`; false: it passed. */
static bool judge(struct test_case *t, int status, bool timed_out, const char *err, char *why, size_t size) {
    int exited = WIFEXITED(status) ? WEXITSTATUS(status) : -1, killed = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    if (atomic_load(&shared->said) == 2 && !atomic_load(&shared->skipped))
        snprintf(why, size, "%s", shared->reason);
    else if (timed_out)
        snprintf(why, size, "still running after %g s", 60 * timeout_scale());
    else if (t->end == TEST_SIGNALLED && killed != t->value)
        snprintf(why, size, "ended with status %d, signal %d, not by signal %d", exited, killed, t->value);
    else if (t->end != TEST_SIGNALLED && killed)
        snprintf(why, size, "killed by signal %d (%s)", killed, strsignal(killed));
    else if (t->end == TEST_EXITS && atomic_load(&shared->finished))
        snprintf(why, size, "the body returned, and was to end the process");
    else if (t->end != TEST_SIGNALLED && exited != t->value)
        snprintf(why, size, "exit status %d, not %d", exited, t->value);
    else if (t->end == TEST_RETURNS && !atomic_load(&shared->finished))
        snprintf(why, size, "the process ended before the body did");
    else if (t->text && !strstr(err, t->text))
        snprintf(why, size, "standard error lacks \"%s\"", t->text);
    else
        return false;
    return true;
}

enum outcome { PASSED, FAILED, SKIPPED };

static enum outcome run_forked(struct test_case *t, const sigset_t *old_mask) {
    memset(shared, 0, sizeof *shared);
    int out = capture_file(), err = capture_file(), status = 0;
    double start = seconds();
    pid_t child = start_child(t, out, err, old_mask);
    if (child < 0) {
        perror("fork");
        exit(1);
    }
    int ended = wait_for(child, &status, start + 60 * timeout_scale());
    if (ended != 1) {
        kill(child, SIGQUIT);
        if (wait_for(child, &status, seconds() + 2 * timeout_scale()) != 1) {
            kill(-child, SIGKILL);
            waitpid(child, &status, 0);
        }
    }
    kill(-child, SIGKILL); /* what the child forked itself */

    size_t out_size, err_size;
    char *out_text = read_all(out, &out_size), *err_text = read_all(err, &err_size), why[1200];
    enum outcome outcome = PASSED;
    if (WIFEXITED(status) && WEXITSTATUS(status) == STATUS_SKIPPED && atomic_load(&shared->skipped)) {
        outcome = SKIPPED;
        printf("skip %s: %s\n", t->name, shared->reason);
    } else if (judge(t, status, ended != 1, err_text, why, sizeof why)) {
        outcome = FAILED;
        for (char *c = why; *c; c++)
            if (*c == '\n') *c = ' ';
        printf("FAIL %s: %s\n", t->name, why);
        show("standard error", err_text, err_size);
        show("standard output", out_text, out_size);
    } else {
        printf("ok %s\n", t->name);
    }
    fflush(stdout);
    free(out_text), free(err_text);
    if (ended > 1) {
        printf("ended by signal %d (%s)\n", ended, strsignal(ended));
        exit(1);
    }
    return outcome;
}

static bool chosen(const struct test_case *t, char **names, int n) {
    for (int i = 0; i < n; i++)
        if (strstr(t->name, names[i])) return true;
    return n == 0;
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (struct test_case *t = first_test; t; t = t->next) puts(t->name);
        return 0;
    }
    if (argc == 3 && strcmp(argv[1], "--no-fork") == 0) {
        for (struct test_case *t = first_test; t; t = t->next)
            if (strcmp(t->name, argv[2]) == 0) run_here(t);
        fprintf(stderr, "no test is named %s\n", argv[2]);
        return 1;
    }
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        perror("mmap");
        return 1;
    }
    sigset_t set = parent_signals(), old_mask;
    sigprocmask(SIG_BLOCK, &set, &old_mask);

    int count[3] = { 0, 0, 0 };
    for (struct test_case *t = first_test; t; t = t->next)
        if (chosen(t, argv + 1, argc - 1)) count[run_forked(t, &old_mask)]++;
    printf("%d passed, %d failed\n", count[PASSED], count[FAILED]);
    bool ran = count[PASSED] + count[FAILED] + count[SKIPPED] > 0;
    /* Whoever asks many programs for one test expects most of them not to have it. */
    return count[FAILED] > 0 || (!ran && argc == 1);
}
