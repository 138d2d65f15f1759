/* Reports that nobody called for: deadlock, SIGQUIT, a scope whose children do not end. */
#include "trace_test.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

static NOT_INLINED void receive_for_ever(int_chan ch) {
    int v;
    (void)!weir_recv(ch, &v);
    STAY();
}

/* ---- Deadlock ------------------------------------------------------------------------------------------ */

#ifdef TEST_TSAN
#define NEEDS_TO_BE_ALONE() SKIP("after two forks ThreadSanitizer has a thread too many, which might call in")
#else
#define NEEDS_TO_BE_ALONE() (void)0
#endif

static void fall_asleep(void) {
    int_chan ch = weir_make(int_chan, 0);
    TEST_GO(receive_for_ever, ch);
    receive_for_ever(ch);
    STAY();
}

PLAIN_TEST(a_deadlock_says_gos_sentence_and_all_stacks_and_exits_2) {
    NEEDS_TO_BE_ALONE();
    int status;
    char *text = run_child(fall_asleep, &status);
    static const char sentence[] = "fatal error: all goroutines are asleep - deadlock!\n\n";
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 2);
    CHECK(strncmp(text, sentence, strlen(sentence)) == 0);
    CHECK_EQ(check_level2(text + strlen(sentence)), 2);
    CHECK_EQ(count_of(text, " [chan receive]:\n"), 2);
    CHECK_CONTAINS(text, "\n\ngoroutine 1 [chan receive]:\n");
    NEEDS_LINES();
    CHECK_EQ(count_of(text, "\nreceive_for_ever(...)\n"), 2);
    CHECK_CONTAINS(text, "\nfall_asleep(...)\n");
    free(text);
}

PLAIN_TEST(when_main_has_exited_and_nobody_is_left_that_is_said) {
    NEEDS_TO_BE_ALONE();
    int status;
    char *text = run_child(weir_exit, &status);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 2);
    CHECK_STR(text, "fatal error: no goroutines (main called weir_exit) - deadlock!\n\n");
    free(text);
}

static void exit_and_leave_one_asleep(void) {
    TEST_GO(receive_for_ever, weir_make(int_chan, 0));
    weir_exit();
}

PLAIN_TEST(main_may_be_gone_when_the_others_deadlock) {
    NEEDS_TO_BE_ALONE();
    int status;
    char *text = run_child(exit_and_leave_one_asleep, &status);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 2);
    CHECK(strncmp(text, "fatal error: all goroutines are asleep - deadlock!\n\ngoroutine ", 62) == 0);
    CHECK_EQ(count_of(text, "\ngoroutine "), 1);
    free(text);
}

/* ---- SIGQUIT --------------------------------------------------------------------------------------------- */

/* ThreadSanitizer may keep a signal to the process from whichever thread it has chosen. */
static void send_quit(void) {
#ifdef TEST_TSAN
    CHECK_EQ(raise(SIGQUIT), 0);
#else
    CHECK_EQ(kill(getpid(), SIGQUIT), 0);
#endif
}

/* Until the text in the descriptor holds `needle`; returns it all. */
static char *wait_for_text(int fd, const char *needle) {
    for (;;) {
        char *text = read_back(dup(fd));
        if (strstr(text, needle)) return text;
        free(text);
        test_pause();
    }
}

static int stderr_to_memory(void) {
    int fd = memfd_create("stderr", MFD_CLOEXEC);
    CHECK_GE(fd, 0);
    fcntl(fd, F_SETFL, O_APPEND);
    CHECK_EQ(dup2(fd, STDERR_FILENO), STDERR_FILENO);
    return fd;
}

static int quit_and_go_on(void *arg) {
    int saved = dup(STDERR_FILENO), fd = stderr_to_memory();
    int_chan ch = weir_make(int_chan, 0);
    TEST_GO(receive_for_ever, ch);
    test_until_n_parked(1, "chan receive");
    send_quit();
    char *text = wait_for_text(fd, "created by quit_and_go_on in goroutine 1\n");
    dup2(saved, STDERR_FILENO);
    CHECK_CONTAINS(text, "[chan receive]:\n");
    CHECK_CONTAINS(text, "goroutine 1 [");
    free(text);
    return 7;
}

PLAIN_TEST(sigquit_writes_all_stacks_and_the_program_goes_on) {
    test_ignore_leaks();
    signal(SIGQUIT, SIG_DFL);
    CHECK_EQ(weir_run(quit_and_go_on, NULL), 7);
}

/* Two that come too close together are one to the kernel, so it takes more than two tries. */
static void quit_again_and_again(void) {
    for (;;) {
        send_quit();
        weir_sleep(WEIR_MILLISECOND);
    }
}

PLAIN_TEST(a_second_sigquit_within_a_second_ends_the_process) {
    int status;
    char *text = run_child(quit_again_and_again, &status);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 2);
    free(text);
}

/* The clock that tells one from two is the runtime's. */
static _Atomic weir_duration ahead;
static weir_time (*true_clock)(void);
static weir_time later_clock(void) { return true_clock() + atomic_load(&ahead); }

static int quit_with_a_pause(void *arg) {
    int saved = dup(STDERR_FILENO), fd = stderr_to_memory();
    for (size_t i = 1; i <= 3; i++) {
        send_quit();
        for (size_t seen = 0; seen < i;) {
            char *text = wait_for_text(fd, "goroutine 1 [");
            seen = count_of(text, "goroutine 1 [");
            free(text);
        }
        atomic_fetch_add(&ahead, 1001 * WEIR_MILLISECOND);
    }
    dup2(saved, STDERR_FILENO);
    return 8;
}

PLAIN_TEST(a_second_sigquit_later_is_a_first_one_again) {
    signal(SIGQUIT, SIG_DFL);
    true_clock = wr_clock;
    wr_clock = later_clock;
    CHECK_EQ(weir_run(quit_with_a_pause, NULL), 8);
}

static _Atomic int own_quits;
static void own_quit(int signo) { atomic_fetch_add(&own_quits, 1); }
static int quit_thrice(void *arg) {
    for (int i = 1; i <= 3; i++) {
        send_quit();
        TEST_UNTIL(atomic_load(&own_quits) == i);
    }
    return 9;
}

PLAIN_TEST(the_programs_own_sigquit_handler_is_kept) {
    signal(SIGQUIT, own_quit);
    CHECK_EQ(weir_run(quit_thrice, NULL), 9);
    struct sigaction now;
    sigaction(SIGQUIT, NULL, &now);
    CHECK(now.sa_handler == own_quit);
}

static int quit_ignored(void *arg) {
    for (int i = 0; i < 3; i++) send_quit();
    return 10;
}

PLAIN_TEST(an_ignored_sigquit_stays_ignored) {
    signal(SIGQUIT, SIG_IGN);
    CHECK_EQ(weir_run(quit_ignored, NULL), 10);
    struct sigaction now;
    sigaction(SIGQUIT, NULL, &now);
    CHECK(now.sa_handler == SIG_IGN);
}

/* Nobody reads the report: the runtime, its time slicing included, goes on, and ends when it is to. */
static int quit_with_nobody_reading(void *arg) {
    int pipes[2], saved = dup(STDERR_FILENO);
    int_chan ch = weir_make(int_chan, 0);
    for (int i = 0; i < 200; i++) TEST_GO(receive_for_ever, ch);
    test_until_n_parked(200, "chan receive");
    CHECK_EQ(pipe(pipes), 0);
    fcntl(pipes[1], F_SETPIPE_SZ, 4096);
    dup2(pipes[1], STDERR_FILENO);
    send_quit();
    struct pollfd p = { .fd = pipes[1], .events = POLLOUT };
    TEST_UNTIL(poll(&p, 1, 0) == 0);
    weir_time start = weir_now();
    CHECK_EQ(weir_sleep(20 * WEIR_MILLISECOND), 0);
    CHECK_GE(weir_now() - start, 20 * WEIR_MILLISECOND);
    dup2(saved, STDERR_FILENO);
    return 6;
}

PLAIN_TEST(a_report_that_nobody_reads_holds_nobody_up) {
    test_ignore_leaks();
    signal(SIGQUIT, SIG_DFL);
    CHECK_EQ(weir_run(quit_with_nobody_reading, NULL), 6);
}

/* ---- Scopes ------------------------------------------------------------------------------------------------ */

static weir_mutex stuck = WEIR_MUTEX_INIT;
static NOT_INLINED void cannot_be_cancelled(void) {
    weir_mutex_lock(&stuck);
    STAY();
    weir_mutex_unlock(&stuck);
}

static void close_a_scope(_Atomic int *closed) {
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    CHECK_EQ(weir_scope_go(&s, cannot_be_cancelled), 0);
    weir_scope_close(&s);
    atomic_store(closed, 1);
}

TEST(a_child_that_outlives_its_scope_is_shown_with_its_stack) {
    static _Atomic int closed;
    setenv("WEIR_SCOPE_GRACE", "20ms", 1);
    int saved = dup(STDERR_FILENO), fd = stderr_to_memory();
    weir_mutex_lock(&stuck);
    TEST_GO(close_a_scope, &closed);
    char *text = NULL;
    do { /* it is told again and again; at first the child may have been on its way there */
        free(text);
        text = wait_for_text(fd, "[sync.Mutex.Lock]:\n");
    } while (!strstr(strstr(text, "[sync.Mutex.Lock]:\n"), "created by close_a_scope in goroutine "));
    weir_mutex_unlock(&stuck);
    TEST_UNTIL(atomic_load(&closed));
    dup2(saved, STDERR_FILENO);
    CHECK_CONTAINS(text, "[sync.Mutex.Lock]:\n");
    NEEDS_LINES();
    CHECK_CONTAINS(text, "\nweir_mutex_lock(...)\n");
    CHECK_CONTAINS(text, "\ncannot_be_cancelled(...)\n");
    CHECK_CONTAINS(text, "close_a_scope ");
    free(text);
}
