/* Signal handlers: one that blocks is told so; others, and the signals of ours, disturb nobody. */
#include "sched/inner.h"
#include "sched_test.h"

#include <errno.h>
#undef errno
#define errno (*weir_errno_())
#include <signal.h>
#include <sys/time.h>

static void handle(int signo, void (*handler)(int), int flags) {
    struct sigaction action = { .sa_handler = handler, .sa_flags = flags };
    CHECK_EQ(sigaction(signo, &action, NULL), 0);
}

/* ---- Handlers that block ------------------------------------------------------------------------------------------- */

static int_chan ch;
static void sleeps(int signo) { (void)weir_sleep(WEIR_MILLISECOND); }
static void receives(int signo) { (void)!weir_recv(ch, NULL); }
static void computes(void) {
    for (;;) weir_id();
}

#define IN_HANDLER "fatal error: a call that blocks was made in a signal handler"
EXIT_TEST(to_sleep_in_a_handler_ends_the_process, 2, IN_HANDLER) {
    handle(SIGUSR1, sleeps, SA_ONSTACK);
    pthread_kill(pthread_self(), SIGUSR1);
}
EXIT_TEST(to_receive_in_a_handler_ends_the_process, 2, IN_HANDLER) {
    ch = weir_make(int_chan, 0);
    handle(SIGUSR1, receives, SA_ONSTACK);
    raise(SIGUSR1);
}

static pthread_t main_thread;
static int signals_main_thread(void *arg) {
    handle(SIGUSR1, sleeps, 0);
    pthread_kill(main_thread, SIGUSR1);
    return weir_sleep(WEIR_HOUR);
}
EXIT_PLAIN_TEST(a_handler_on_the_thread_that_waits_for_main_ends_the_process, 2, "fatal error: a weir call was made in a signal handler") {
    main_thread = pthread_self();
    (void)weir_run(signals_main_thread, NULL);
}

static void asks(int signo) { (void)weir_id(); }
EXIT_TEST(a_handler_on_a_worker_that_runs_no_goroutine_ends_the_process, 2, "fatal error: a weir call was made in a signal handler") {
    handle(SIGUSR1, asks, SA_ONSTACK);
    weir_procs(2);
    TEST_GO(weir_yield); /* there is a second worker now; it has nothing to do, or soon will not */
    for (;;) {
        struct m *idle = NULL;
        wr_lock(&wr_sched.lock, WR_RANK_SCHED);
        if ((idle = wr_sched.idle_ms)) pthread_kill(idle->thread, SIGUSR1);
        wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
        if (!idle) TEST_GO(weir_yield);
        weir_yield();
    }
}

/* ---- Handlers that do not -------------------------------------------------------------------------------------------- */

static _Atomic int signals, running;
static void counts(int signo) {
    int saved = errno;
    signals++;
    errno = 999;
    (void)!close(-1);
    errno = saved;
}
static void talks(int_chan in, int_chan out, int n) {
    for (int i = 0, v = 0; i < n; i++) {
        errno = 77;
        CHECK_EQ(weir_send(out, i), 0);
        CHECK_EQ(weir_recv(in, &v), 0);
        CHECK_EQ(v, i);
        CHECK_EQ(errno, 77);
    }
    running--;
}
static void signals_storm(int flags) {
#ifdef TEST_TSAN
    SKIP("ThreadSanitizer hands signals on when it suits it, here sometimes never");
#endif
    int n = (int)TEST_SCALE(3000);
    int_chan a = weir_make(int_chan, 1), b = weir_make(int_chan, 1);
    struct itimerval every = { { 0, 500 }, { 0, 500 } }, never = { { 0, 0 }, { 0, 0 } };
    handle(SIGALRM, counts, flags);
    CHECK_EQ(setitimer(ITIMER_REAL, &every, NULL), 0);
    running = 2;
    TEST_GO(talks, a, b, n);
    TEST_GO(talks, b, a, n);
    for (int i = 0; i < 100 && running > 0; i++) CHECK_EQ(weir_sleep(100 * WEIR_MICROSECOND), 0);
    TEST_UNTIL(running == 0 && signals > 10);
    CHECK_EQ(setitimer(ITIMER_REAL, &never, NULL), 0);
    weir_release(a), weir_release(b);
}
TEST(handlers_on_their_own_stack_disturb_nobody) { signals_storm(SA_ONSTACK | SA_RESTART); }
TEST(handlers_that_interrupt_disturb_nobody) { signals_storm(SA_ONSTACK); }

/* ---- Our signal ------------------------------------------------------------------------------------------------------ */

TEST(the_signal_that_weir_uses_does_no_harm_when_it_comes_from_elsewhere) {
    for (int i = 0; i < 100; i++) {
        kill(getpid(), SIGURG);
        CHECK_EQ(weir_sleep(WEIR_MICROSECOND), 0);
    }
}

static int takes_signals(void *arg) {
    raise(SIGURG);
    TEST_UNTIL(signals > 0);
    return 0;
}
PLAIN_TEST(a_program_keeps_its_handler_of_that_signal) {
    struct sigaction now;
    handle(SIGURG, counts, 0);
    for (int i = 0; i < 2; i++) {
        signals = 0;
        CHECK_EQ(weir_run(takes_signals, NULL), 0);
        CHECK_EQ(sigaction(SIGURG, NULL, &now), 0);
        CHECK(now.sa_handler == counts);
    }
}

static int returns_zero(void *arg) { return 0; }
PLAIN_TEST(after_a_run_the_signals_are_as_before) {
    static const int used[] = { SIGURG, SIGQUIT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP };
    enum { N = sizeof used / sizeof used[0] };
    struct sigaction before[N], after;
    for (int i = 0; i < N; i++) CHECK_EQ(sigaction(used[i], NULL, &before[i]), 0);
    CHECK_EQ(weir_run(returns_zero, NULL), 0);
    for (int i = 0; i < N; i++) {
        CHECK_EQ(sigaction(used[i], NULL, &after), 0);
        CHECK(after.sa_handler == before[i].sa_handler);
    }
}

/* A goroutine that computes is stopped by a signal when main returns, unless that signal is the program's own. */
static int leaves_one_computing(void *arg) {
    TEST_GO(computes);
    return weir_sleep(5 * WEIR_MILLISECOND);
}
PLAIN_TEST(a_run_ends_though_the_signal_is_taken) {
    test_ignore_leaks();
    handle(SIGURG, counts, 0);
    CHECK_EQ(weir_run(leaves_one_computing, NULL), 0);
    CHECK_EQ(weir_run(returns_zero, NULL), 0);
}
