/* Crashes: what is said, and that the process still ends as it would have. Each happens in a child of the
 * test's process. */
#include "trace_test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>

#if defined(TEST_ASAN) || defined(TEST_TSAN)
#define NEEDS_OWN_SIGNALS() SKIP("the sanitizer has the crash signals")
#else
#define NEEDS_OWN_SIGNALS() (void)0
#endif

static void check_killed_by(int status, int signo, const char *text) {
    if (WIFSIGNALED(status) && WTERMSIG(status) == signo) return;
    fprintf(stderr, "%s\n", text);
    FAIL("ended with wait status %#x, not by signal %d", (unsigned)status, signo);
}

/* Main starts the culprit and waits for ever. */
static void wait_for_the_end(void) {
    int_chan never = weir_make(int_chan, 0);
    int v;
    (void)!weir_recv(never, &v);
    STAY();
}

/* What a report looks like from the header on: one goroutine. */
static void check_trace(const char *text) {
    const char *at = strstr(text, "\ngoroutine ");
    CHECK(at != NULL);
    CHECK_EQ(check_level2(at + 1), 1);
}

/* ---- Bad memory -------------------------------------------------------------------------------------- */

static NOT_INLINED void write_to(volatile int *where) {
    *where = 1;
    STAY();
}
static NOT_INLINED void write_to_null(void) {
    write_to((volatile int *)24);
    STAY();
}
static void crash_in_a_goroutine(void) {
    TEST_GO(write_to_null);
    wait_for_the_end();
}

PLAIN_TEST(a_bad_pointer_shows_the_goroutine_and_its_functions) {
    NEEDS_OWN_SIGNALS();
    int status;
    char *text = run_child(crash_in_a_goroutine, &status);
    check_killed_by(status, SIGSEGV, text);
    CHECK_CONTAINS(text, "fatal error: SIGSEGV at address 0x18\n[signal SIGSEGV: code=1 addr=0x18 pc=0x");
    CHECK_MATCHES(text, "^goroutine [2-9] \\[running\\]:$");
    check_trace(text);
    CHECK_CONTAINS(text, "created by crash_in_a_goroutine in goroutine 1\n\t");
    CHECK_EQ(count_of(text, "goroutine 1 ["), 0);
    NEEDS_LINES();
    CHECK_CONTAINS(text, "[running]:\nwrite_to(...)\n\t/");
    CHECK_CONTAINS(text, "\nwrite_to_null(...)\n\t/");
    free(text);
}

static void crash_in_main(void) { write_to_null(); }

PLAIN_TEST(main_is_goroutine_1) {
    NEEDS_OWN_SIGNALS();
    int status;
    char *text = run_child(crash_in_main, &status);
    check_killed_by(status, SIGSEGV, text);
    CHECK_CONTAINS(text, "\ngoroutine 1 [running]:\n");
    CHECK_EQ(count_of(text, "created by"), 0);
    free(text);
}

static NOT_INLINED void call_nowhere(void) {
    ((void (*)(void))(uintptr_t)16)();
    STAY();
}
static void jump_in_a_goroutine(void) {
    TEST_GO(call_nowhere);
    wait_for_the_end();
}

PLAIN_TEST(a_call_through_a_wild_pointer_shows_the_caller) {
    NEEDS_OWN_SIGNALS();
    int status;
    char *text = run_child(jump_in_a_goroutine, &status);
    check_killed_by(status, SIGSEGV, text);
    CHECK_CONTAINS(text, "pc=0x10]");
    check_trace(text);
    NEEDS_LINES();
    CHECK_CONTAINS(text, "\ncall_nowhere(...)\n");
    free(text);
}

static void bus_error(void) {
    int fd = memfd_create("short", MFD_CLOEXEC);
    volatile char *beyond = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    beyond[0] = 1;
}
static void bus_error_in_a_goroutine(void) {
    TEST_GO(bus_error);
    wait_for_the_end();
}

PLAIN_TEST(a_bus_error_is_reported) {
    NEEDS_OWN_SIGNALS();
    int status;
    char *text = run_child(bus_error_in_a_goroutine, &status);
    check_killed_by(status, SIGBUS, text);
    CHECK_CONTAINS(text, "fatal error: SIGBUS at address 0x");
    check_trace(text);
    free(text);
}

/* ---- The stack runs full -------------------------------------------------------------------------------- */

static volatile int without_end = 1;
static NOT_INLINED int recurse(int n) {
    volatile char frame[200];
    frame[0] = (char)n;
    int deeper = without_end ? recurse(n + 1) : 0;
    return deeper + frame[0];
}
static NOT_INLINED void begin_to_recurse(void) {
    recurse(0);
    STAY();
}
static void overflow(void) {
    TEST_GO(begin_to_recurse);
    wait_for_the_end();
}
static void overflow_a_large_stack(void) {
    CHECK_EQ(weir_go_stack(2 << 20, begin_to_recurse), 0);
    wait_for_the_end();
}

static void needs_guards(void) {
    const char *guard = getenv("WEIR_STACK_GUARD");
    if (guard && !strcmp(guard, "none")) SKIP("stacks are not guarded here");
}

PLAIN_TEST(a_stack_overflow_is_called_that) {
    needs_guards();
    int status;
    char *text = run_child(overflow, &status);
#if !defined(TEST_ASAN) && !defined(TEST_TSAN)
    check_killed_by(status, SIGSEGV, text);
#endif
    CHECK(strncmp(text, "fatal error: stack overflow\nweir: the stack of goroutine ", 56) == 0);
    CHECK_CONTAINS(text, ", 256 KiB, is full; weir_go_stack(");
    CHECK_CONTAINS(text, "WEIR_STACK");
    CHECK_MATCHES(text, "^goroutine [2-9] \\[running\\]:$");
#if !defined(TEST_ASAN) && !defined(TEST_TSAN)
    check_trace(text);
    NEEDS_LINES();
    /* both ends of it, 50 frames each */
    CHECK_CONTAINS(text, "[running]:\nrecurse(...)\n");
    CHECK_CONTAINS(text, "\n...additional frames elided...(...)\n");
    CHECK_CONTAINS(text, "\nbegin_to_recurse(...)\n");
    CHECK_CONTAINS(text, "\ncreated by overflow in goroutine 1\n");
    CHECK_EQ(count_of(text, "(...)\n"), 101);
    CHECK_EQ(count_of(text, "\nrecurse(...)\n"), 99);
#endif
    free(text);
}

PLAIN_TEST(a_stack_overflow_names_the_size_of_that_stack) {
    needs_guards();
    NEEDS_OWN_SIGNALS();
    int status;
    char *text = run_child(overflow_a_large_stack, &status);
    check_killed_by(status, SIGSEGV, text);
    CHECK_CONTAINS(text, ", 2048 KiB, is full");
    free(text);
}

/* ---- Other signals ---------------------------------------------------------------------------------------- */

static volatile int zero;
static NOT_INLINED void divide(void) {
    zero = 1000 / zero;
    STAY();
}
static void divide_in_a_goroutine(void) {
    TEST_GO(divide);
    wait_for_the_end();
}

PLAIN_TEST(a_division_by_zero_is_called_that) {
#if !defined(__x86_64__)
    SKIP("this processor does not trap");
#endif
    NEEDS_OWN_SIGNALS();
    int status;
    char *text = run_child(divide_in_a_goroutine, &status);
    check_killed_by(status, SIGFPE, text);
    CHECK_CONTAINS(text, "fatal error: SIGFPE: integer division by zero\n");
    check_trace(text);
    NEEDS_LINES();
    CHECK_CONTAINS(text, "[running]:\ndivide(...)\n");
    free(text);
}

static NOT_INLINED void give_up(void) {
    abort();
}
static void abort_in_a_goroutine(void) {
    TEST_GO(give_up);
    wait_for_the_end();
}

PLAIN_TEST(an_abort_shows_who_called_it) {
    NEEDS_OWN_SIGNALS();
    int status;
    char *text = run_child(abort_in_a_goroutine, &status);
    check_killed_by(status, SIGABRT, text);
    CHECK(strncmp(text, "fatal error: SIGABRT\n", 21) == 0);
    check_trace(text);
    CHECK_EQ(count_of(text, "fatal error"), 1);
    NEEDS_LINES();
    CHECK_CONTAINS(text, "\ngive_up(...)\n");
    free(text);
}

static void trap(void) { __builtin_trap(); }
static void trap_in_a_goroutine(void) {
    TEST_GO(trap);
    wait_for_the_end();
}

PLAIN_TEST(a_trap_is_reported) {
    NEEDS_OWN_SIGNALS();
    int status;
    char *text = run_child(trap_in_a_goroutine, &status);
    CHECK(WIFSIGNALED(status) && (WTERMSIG(status) == SIGILL || WTERMSIG(status) == SIGTRAP));
    check_trace(text);
    NEEDS_LINES();
    CHECK_CONTAINS(text, "[running]:\ntrap(...)\n");
    free(text);
}

/* ---- When little works any more ----------------------------------------------------------------------------- */

static void crash_without_a_child(void) {
    wr_crash_without_child = 1;
    crash_in_a_goroutine();
}

PLAIN_TEST(without_a_child_there_are_addresses) {
    NEEDS_OWN_SIGNALS();
    int status;
    char *text = run_child(crash_without_a_child, &status);
    check_killed_by(status, SIGSEGV, text);
    CHECK_CONTAINS(text, "fatal error: SIGSEGV at address 0x18\n");
    check_trace(text);
    CHECK_MATCHES(text, "^[^ ()]+\\+0x[0-9a-f]+\\(\\.\\.\\.\\)$");
    CHECK_GE(count_of(text, "(...)\n"), 2);
    CHECK_CONTAINS(text, "created by crash_in_a_goroutine in goroutine 1\n");
    free(text);
}

static void crash_with_stderr_closed(void) {
    close(STDERR_FILENO);
    crash_in_a_goroutine();
}

PLAIN_TEST(nobody_to_tell_does_not_keep_it_alive) {
    NEEDS_OWN_SIGNALS();
    int status;
    char *text = run_child(crash_with_stderr_closed, &status);
    check_killed_by(status, SIGSEGV, text);
    free(text);
}

static void crash_twice_at_once(void) {
    weir_procs(4);
    for (int i = 0; i < 8; i++) TEST_GO(write_to_null);
    wait_for_the_end();
}

PLAIN_TEST(crashes_at_the_same_time_give_one_report) {
    NEEDS_OWN_SIGNALS();
    int status;
    char *text = run_child(crash_twice_at_once, &status);
    check_killed_by(status, SIGSEGV, text);
    CHECK_EQ(count_of(text, "fatal error"), 1);
    check_trace(text);
    free(text);
}

static void child_ended(int signo) { (void)!write(STDERR_FILENO, "SIGCHLD\n", 8); }
static void crash_with_a_sigchld_handler(void) {
    signal(SIGCHLD, child_ended);
    crash_in_a_goroutine();
}

PLAIN_TEST(the_program_does_not_hear_of_the_reports_child) {
    NEEDS_OWN_SIGNALS();
    if (test_slowness() > 1) SKIP("an emulator may know only forks that send the signal");
    int status;
    char *text = run_child(crash_with_a_sigchld_handler, &status);
    check_killed_by(status, SIGSEGV, text);
    CHECK_EQ(count_of(text, "SIGCHLD"), 0);
    free(text);
}

/* ---- Handlers that are not ours --------------------------------------------------------------------------------- */

static void own_handler(int signo) {
    (void)!write(STDERR_FILENO, "own handler\n", 12);
    _exit(33);
}

PLAIN_TEST(a_handler_that_was_there_first_is_left_alone) {
    int status = 0, fd = memfd_create("stderr", 0);
    pid_t pid = fork();
    CHECK_GE(pid, 0);
    if (pid == 0) {
        struct child_call call = { crash_in_a_goroutine };
        dup2(fd, STDERR_FILENO);
        signal(SIGSEGV, own_handler);
        (void)!weir_run(call_body, &call);
        _exit(1);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    char *text = read_back(fd);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 33);
    CHECK_STR(text, "own handler\n");
    free(text);
}

static void replace_handler_and_crash(void) {
    signal(SIGSEGV, own_handler);
    crash_in_a_goroutine();
}

PLAIN_TEST(a_handler_that_came_later_is_in_charge) {
    int status;
    char *text = run_child(replace_handler_and_crash, &status);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 33);
    CHECK_STR(text, "own handler\n");
    free(text);
}

static int nothing(void *arg) { return 0; }
static int with_own_handler(void *arg) {
    signal(SIGFPE, own_handler);
    return 0;
}

PLAIN_TEST(handlers_are_put_back_when_the_runtime_ends) {
    struct sigaction now;
    static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGQUIT };
    void (*before[7])(int);
    signal(SIGQUIT, SIG_DFL);
    for (int i = 0; i < 7; i++) {
        sigaction(signals[i], NULL, &now);
        before[i] = now.sa_handler;
    }
    CHECK_EQ(weir_run(nothing, NULL), 0);
    for (int i = 0; i < 7; i++) {
        sigaction(signals[i], NULL, &now);
        CHECK(now.sa_handler == before[i]);
    }
    CHECK_EQ(weir_run(with_own_handler, NULL), 0);
    sigaction(SIGFPE, NULL, &now);
    CHECK(now.sa_handler == own_handler);
}

static void *crash_on_a_thread(void *arg) {
    write_to_null();
    return NULL;
}
static void crash_elsewhere(void) {
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, crash_on_a_thread, NULL), 0);
    wait_for_the_end();
}

PLAIN_TEST(a_crash_on_another_thread_is_none_of_ours) {
    NEEDS_OWN_SIGNALS();
    int status;
    char *text = run_child(crash_elsewhere, &status);
    check_killed_by(status, SIGSEGV, text);
    CHECK_STR(text, "");
    free(text);
}

static void crash_long_after(void) {
    for (int i = 0; i < 10; i++) weir_yield();
    struct rlimit none = { 0, 0 };
    setrlimit(RLIMIT_CORE, &none);
    kill(getpid(), SIGKILL);
}

PLAIN_TEST(other_signals_do_what_they_always_do) {
    int status;
    char *text = run_child(crash_long_after, &status);
    check_killed_by(status, SIGKILL, text);
    CHECK_STR(text, "");
    free(text);
}
