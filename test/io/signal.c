/* Signals to channels: who gets them, who does not, and what is as before when nobody wants them any more. */
#include "test.h"
#include "threads.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "leak/report.h"
#include "../leak/allocator.h"
#include "sched/inner.h"
#undef errno
#define errno (*weir_errno_())

typedef WEIR_CHAN(int) int_chan;

static void receive(int_chan ch, int signo) {
    int got = 0;
    CHECK_EQ(weir_recv(ch, &got), 0);
    CHECK_EQ(got, signo);
}
/* To any thread. ThreadSanitizer keeps it until that thread calls a function which it knows, and one that sleeps may never do so. */
static void send_self(int signo) {
#ifdef TEST_TSAN
    CHECK_EQ(raise(signo), 0);
#else
    CHECK_EQ(kill(getpid(), signo), 0);
#endif
}

static struct sigaction disposition(int signo) {
    struct sigaction now;
    CHECK_EQ(sigaction(signo, NULL, &now), 0);
    return now;
}

/* ---- Who gets them ----------------------------------------------------------------------------------------- */

TEST(a_signal_arrives_as_its_number) {
    int_chan ch = weir_make(int_chan, 1);
    size_t count = weir_count();
    CHECK_EQ(weir_signal_notify(ch, SIGUSR1, SIGTERM), 0);
    CHECK_EQ(weir_count(), count); /* no goroutine for it */
    send_self(SIGUSR1);
    receive(ch, SIGUSR1);
    send_self(SIGTERM);
    receive(ch, SIGTERM);
    CHECK_EQ(weir_signal_notify(ch, SIGRTMIN), 0); /* one more */
    send_self(SIGRTMIN);
    receive(ch, SIGRTMIN);
    send_self(SIGUSR1);
    receive(ch, SIGUSR1);
    weir_signal_stop(ch);
    weir_release(ch);
}

TEST(everyone_who_wants_a_signal_gets_it) {
    int_chan a = weir_make(int_chan, 1), b = weir_make(int_chan, 1), c = weir_make(int_chan, 1);
    CHECK_EQ(weir_signal_notify(a, SIGUSR1), 0);
    CHECK_EQ(weir_signal_notify(b, SIGUSR1, SIGUSR2), 0);
    CHECK_EQ(weir_signal_notify(c, SIGUSR2), 0);
    send_self(SIGUSR1);
    receive(a, SIGUSR1);
    receive(b, SIGUSR1);
    CHECK_EQ(weir_len(c), 0);
    weir_signal_stop(a);
    send_self(SIGUSR1);
    receive(b, SIGUSR1);
    CHECK_EQ(weir_len(a), 0);
    send_self(SIGUSR2);
    receive(b, SIGUSR2);
    receive(c, SIGUSR2);
    weir_signal_stop(b);
    weir_signal_stop(c);
    weir_release(a);
    weir_release(b);
    weir_release(c);
}

TEST(what_finds_no_room_is_dropped) {
    int_chan full = weir_make(int_chan, 1), other = weir_make(int_chan, 1), nobody = weir_make(int_chan, 0);
    CHECK_EQ(weir_signal_notify(other, SIGUSR1, SIGUSR2), 0); /* served last: registrations go newest first */
    CHECK_EQ(weir_signal_notify(full, SIGUSR1, SIGUSR2), 0);
    CHECK_EQ(weir_signal_notify(nobody, SIGUSR1, SIGUSR2), 0);
    send_self(SIGUSR1);
    receive(other, SIGUSR1);
    send_self(SIGUSR2);
    receive(other, SIGUSR2);
    receive(full, SIGUSR1);
    CHECK_EQ(weir_try_recv(full, NULL), -EAGAIN);
    CHECK_EQ(weir_try_recv(nobody, NULL), -EAGAIN);
    CHECK_EQ(weir_close(full), 0);
    send_self(SIGUSR1); /* a closed one harms nobody */
    receive(other, SIGUSR1);
    weir_signal_stop(full);
    weir_signal_stop(nobody);
    weir_signal_stop(other);
    weir_release(full);
    weir_release(nobody);
    weir_release(other);
}

TEST(a_select_waits_for_a_signal_too) {
    int_chan ch = weir_make(int_chan, 0);
    weir_unit_chan never = weir_make(weir_unit_chan, 0);
    int signo = 0, arm = 2;
    CHECK(signal(SIGUSR1, SIG_IGN) != SIG_ERR); /* for one more that the kernel still has at the end */
    CHECK_EQ(weir_signal_notify(ch, SIGUSR1), 0);
    while (arm == 2) { /* it came before we waited, and was dropped */
        TEST_GO(send_self, SIGUSR1);
        arm = weir_select(weir_on_recv(never, NULL), weir_on_recv(ch, &signo), weir_on_after(20 * WEIR_MILLISECOND));
    }
    CHECK_EQ(arm, 1);
    CHECK_EQ(signo, SIGUSR1);
    TEST_UNTIL(weir_count() == 1);
    weir_signal_stop(ch);
    weir_release(ch);
    weir_release(never);
}

TEST(the_table_keeps_the_channel) {
    int_chan ch = weir_make(int_chan, 1);
    CHECK_EQ(weir_signal_notify(ch, SIGUSR1), 0);
    weir_release(ch);
    send_self(SIGUSR1);
    receive(ch, SIGUSR1);
    weir_signal_stop(ch); /* now it is gone: the address sanitizer would say so if not */
}

TEST(not_every_signal_can_be_had) {
    static const int refused[] = { SIGKILL, SIGSTOP, SIGURG, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, 0, -1, 32, 65, 1000 };
    int_chan ch = weir_make(int_chan, 1), nil = { 0 };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        CHECK_EQ(weir_signal_notify(ch, refused[i]), -EINVAL);
        CHECK_EQ(weir_signal_notify(ch, SIGUSR1, refused[i]), -EINVAL);
    }
    CHECK(disposition(SIGUSR1).sa_handler == SIG_DFL); /* nothing has changed */
    CHECK_EQ(weir_signal_notify(nil, SIGUSR1), -EINVAL);
    weir_chan *wide = weir_chan_make(8, 1);
    CHECK_EQ(weir_signal_notify_(wide, (const int[]){ SIGUSR1 }, 1), -EINVAL);
    CHECK_EQ(weir_signal_notify_(weir_chan_of(ch), NULL, 0), -EINVAL);
    weir_signal_stop(nil);
    weir_signal_stop(ch); /* never was */
    weir_chan_release(wide);
    weir_release(ch);
}

PLAIN_TEST(without_a_runtime_there_are_none) {
    int_chan ch = weir_make(int_chan, 1);
    CHECK_EQ(weir_signal_notify(ch, SIGUSR1), -EPERM);
    CHECK(disposition(SIGUSR1).sa_handler == SIG_DFL);
    weir_release(ch);
}

/* ---- What was before ----------------------------------------------------------------------------------------- */

static volatile sig_atomic_t handled;
static void handler(int signo) { handled = signo; }

TEST(a_handler_of_the_programs_comes_back) {
    int_chan a = weir_make(int_chan, 1), b = weir_make(int_chan, 1);
    CHECK(signal(SIGUSR1, handler) != SIG_ERR);
    CHECK_EQ(weir_signal_notify(a, SIGUSR1), 0);
    CHECK_EQ(weir_signal_notify(b, SIGUSR1), 0);
    send_self(SIGUSR1);
    receive(a, SIGUSR1);
    receive(b, SIGUSR1);
    CHECK_EQ(handled, 0);
    weir_signal_stop(a);
    CHECK(disposition(SIGUSR1).sa_handler != handler); /* somebody is left */
    weir_signal_stop(b);
    CHECK(disposition(SIGUSR1).sa_handler == handler);
    CHECK_EQ(raise(SIGUSR1), 0);
    CHECK_EQ(handled, SIGUSR1);
    CHECK_EQ(weir_len(a), 0);
    CHECK_EQ(weir_len(b), 0);
    weir_release(a);
    weir_release(b);
}

TEST(an_ignored_signal_is_ignored_again) {
    int_chan ch = weir_make(int_chan, 1);
    CHECK(signal(SIGHUP, SIG_IGN) != SIG_ERR);
    CHECK_EQ(weir_signal_notify(ch, SIGHUP), 0);
    send_self(SIGHUP);
    receive(ch, SIGHUP);
    weir_signal_stop(ch);
    CHECK(disposition(SIGHUP).sa_handler == SIG_IGN);
    weir_release(ch);
}

SIGNAL_TEST(the_default_kills_again, SIGTERM, NULL) {
    int_chan ch = weir_make(int_chan, 1);
    CHECK_EQ(weir_signal_notify(ch, SIGTERM), 0);
    send_self(SIGTERM);
    receive(ch, SIGTERM);
    weir_signal_stop(ch);
    send_self(SIGTERM);
    for (;;) test_pause();
}

static int notify_and_leave(void *arg) {
    CHECK_EQ(weir_signal_notify(*(int_chan *)arg, SIGUSR1, SIGQUIT), 0);
    return 0;
}

PLAIN_TEST(the_end_of_the_runtime_is_the_end_of_notifying) {
    int_chan ch = weir_make(int_chan, 1);
    CHECK(signal(SIGUSR1, handler) != SIG_ERR);
    CHECK(signal(SIGQUIT, SIG_DFL) != SIG_ERR); /* who runs the tests in the background may ignore it */
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(weir_run(notify_and_leave, &ch), 0);
        CHECK(disposition(SIGUSR1).sa_handler == handler);
        CHECK(disposition(SIGQUIT).sa_handler == SIG_DFL);
        CHECK_EQ(wr_sched.waiting, 0);
    }
    CHECK_EQ(weir_start(), 0);
    CHECK_EQ(weir_signal_notify(ch, SIGUSR1), 0);
    send_self(SIGUSR1);
    receive(ch, SIGUSR1);
    CHECK_EQ(weir_stop(0), 0);
    CHECK(disposition(SIGUSR1).sa_handler == handler);
    weir_release(ch);
}

/* A channel instead of the dump, and after that the dump again. */
TEST(sigquit_can_be_had) {
    int_chan ch = weir_make(int_chan, 1);
    void (*dump)(int) = disposition(SIGQUIT).sa_handler;
    CHECK_EQ(weir_signal_notify(ch, SIGQUIT), 0);
    send_self(SIGQUIT);
    receive(ch, SIGQUIT);
    send_self(SIGQUIT);
    receive(ch, SIGQUIT);
    weir_signal_stop(ch);
    CHECK(disposition(SIGQUIT).sa_handler == dump);
    weir_release(ch);
}

/* What a fork without exec makes dies of the signal, and its parent hears nothing of it. */
TEST(a_forked_child_has_no_part_in_it) {
#ifdef TEST_TSAN
    SKIP("the sanitizer does not run handlers in a child of several threads");
#endif
    int_chan ch = weir_make(int_chan, 1);
    CHECK_EQ(weir_signal_notify(ch, SIGTERM), 0);
    pid_t pid = fork();
    CHECK_GE(pid, 0);
    if (pid == 0)
        for (;;) raise(SIGTERM);
    int status;
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    CHECK_EQ(weir_len(ch), 0);
    send_self(SIGTERM);
    receive(ch, SIGTERM);
    weir_signal_stop(ch);
    weir_release(ch);
}

/* ---- Waiting for the outside world ------------------------------------------------------------------------------ */

TEST(who_waits_for_a_signal_is_not_deadlocked) {
#ifdef TEST_TSAN
    SKIP("the sanitizer does not let a signal in to who sleeps");
#endif
    int_chan ch = weir_make(int_chan, 0);
    CHECK(signal(SIGUSR1, SIG_IGN) != SIG_ERR);
    pid_t pid = fork(); /* no thread of ours, which would itself keep the program from being deadlocked */
    CHECK_GE(pid, 0);
    if (pid == 0) {
        while (kill(getppid(), SIGUSR1) == 0) usleep(1000);
        _exit(0);
    }
    CHECK_EQ(weir_signal_notify(ch, SIGUSR1), 0);
    receive(ch, SIGUSR1);
    CHECK_EQ(kill(pid, SIGKILL), 0);
    CHECK_EQ(waitpid(pid, NULL, 0), pid);
    weir_signal_stop(ch);
    weir_release(ch);
}

EXIT_TEST(without_it_the_same_is_a_deadlock, 2, "all goroutines are asleep - deadlock!") {
    int_chan ch = weir_make(int_chan, 0);
    CHECK_EQ(weir_signal_notify(ch, SIGUSR1), 0);
    weir_signal_stop(ch);
    receive(ch, SIGUSR1);
}

/* Another thread has gone to sleep in the poller meanwhile, most likely. */
EXIT_TEST(a_deadlock_is_found_though_somebody_sleeps_in_the_poller, 2, "all goroutines are asleep - deadlock!") {
    int_chan ch = weir_make(int_chan, 0);
    CHECK_EQ(weir_signal_notify(ch, SIGUSR1), 0);
    for (weir_time end = weir_now() + 50 * WEIR_MILLISECOND; weir_now() < end;) {}
    weir_signal_stop(ch);
    receive(ch, SIGUSR1);
}

static int_chan leaking;
static __attribute__((noinline)) void wipe_below(void) {
    volatile char deep[16384];
    for (size_t i = 0; i < sizeof deep; i++) deep[i] = 0;
}
static __attribute__((noinline)) void start_waiting(void) {
    int_chan ch = weir_make(int_chan, 0);
    CHECK_EQ(weir_signal_notify(ch, SIGUSR1, SIGUSR2), 0);
    TEST_GO(receive, ch, SIGUSR1);
    leaking.chan_ = (weir_chan *)~(uintptr_t)ch.chan_; /* no word that a scan takes for it */
    weir_release(ch);
}
static __attribute__((noinline)) void stop_them(void) {
    int_chan ch = { (weir_chan *)~(uintptr_t)leaking.chan_ };
    weir_signal_stop(ch);
}
static __attribute__((noinline)) int leaked(void) {
    int n = -EBUSY;
    for (int i = 0; i < 20 && n == -EBUSY; i++) {
        weir_leak_report *r = NULL;
        n = weir_leaks(&r);
        weir_leak_report_free(r);
    }
    return n;
}

/* No goroutine has the channel but the one that waits on it. */
TEST(who_waits_for_a_signal_is_not_leaked_until_it_is_stopped) {
    PROOF_WANTS_SIGNALS();
    test_ignore_leaks();
    start_waiting();
    wipe_below();
    test_until_n_parked(1, "chan receive");
    int n = leaked();
    if (n == -EBUSY) SKIP("every proof is inconclusive: under an emulator a thread does not answer");
    CHECK_EQ(n, 0);
    stop_them();
    wipe_below();
    CHECK_EQ(leaked(), HEAP_IS_KNOWN);
}

static void *raise_here(void *arg) {
    (void)arg;
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, SIGUSR1);
    CHECK_EQ(pthread_sigmask(SIG_UNBLOCK, &one, NULL), 0);
    CHECK_EQ(raise(SIGUSR1), 0);
    send_self(SIGUSR1); /* no other thread lets it in */
    return NULL;
}

static int wait_with_signals_blocked(void *arg) {
    (void)arg;
    int_chan ch = weir_make(int_chan, 1);
    CHECK_EQ(weir_signal_notify(ch, SIGUSR1), 0);
    thread_end(thread_start(raise_here, NULL));
    receive(ch, SIGUSR1);
    weir_signal_stop(ch);
    weir_release(ch);
    return 0;
}

PLAIN_TEST(it_is_enough_that_one_thread_lets_the_signal_in) {
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, SIGUSR1);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, &one, NULL), 0);
    CHECK_EQ(weir_run(wait_with_signals_blocked, NULL), 0);
}

static _Atomic bool enough;
static void compute(void) {
    while (!enough) {}
}

/* Nobody comes to the scheduler by itself. */
TEST(who_computes_does_not_keep_a_signal_from_coming) {
    int_chan ch = weir_make(int_chan, 1);
    CHECK_EQ(weir_signal_notify(ch, SIGUSR1), 0);
    for (int i = 0; i < weir_procs(0); i++) TEST_GO(compute);
    send_self(SIGUSR1);
    receive(ch, SIGUSR1);
    enough = true;
    weir_signal_stop(ch);
    weir_release(ch);
}

/* ---- Storms --------------------------------------------------------------------------------------------------------- */

static _Atomic long got;
static void count(int_chan ch) {
    int signo;
    while (weir_recv(ch, &signo) == 0 && signo == SIGUSR1) got++;
}

TEST(of_many_signals_some_arrive_and_none_twice) {
    long sent = TEST_SCALE(5000);
    int_chan ch = weir_make(int_chan, 16);
    CHECK(signal(SIGUSR1, SIG_IGN) != SIG_ERR); /* for those that the kernel still has at the end */
    CHECK_EQ(weir_signal_notify(ch, SIGUSR1), 0);
    weir_scoped(s) {
        CHECK_EQ(weir_scope_go(&s, count, ch), 0);
        for (long i = 0; i < sent; i++) {
            send_self(SIGUSR1);
            if (i % 7 == 0) weir_yield();
        }
        TEST_UNTIL(got > 0);
        weir_signal_stop(ch);
        CHECK_EQ(weir_close(ch), 0);
    }
    CHECK_GE(got, 1);
    CHECK_LE(got, sent);
    weir_release(ch);
}

/* Who sleeps in the poller has the goroutine that the signal wakes in its hands, while everybody else goes to sleep. */
static void receive_one(int_chan ch) { CHECK_EQ(weir_recv(ch, NULL), 0); }
TEST(a_signal_on_its_way_is_no_deadlock) {
    int_chan ch = weir_make(int_chan, 1);
    for (long i = 0, rounds = TEST_SCALE(2000); i < rounds; i++) {
        CHECK_EQ(weir_signal_notify(ch, SIGUSR1), 0);
        weir_scoped(s) {
            CHECK_EQ(weir_scope_go(&s, receive_one, ch), 0);
            test_until_n_parked(1, "chan receive");
            CHECK_EQ(raise(SIGUSR1), 0);
            for (long j = 0; j < i % 50 * 200; j++) __asm__ volatile("");
            weir_signal_stop(ch);
        }
    }
    weir_release(ch);
}

/* However stop and a signal meet: it is sent, or handled as before. */
static volatile sig_atomic_t handled_by_program;
static void count_handled(int signo) { (void)signo, handled_by_program++; }

static void *send_one(void *arg) {
    (void)arg;
    CHECK_EQ(raise(SIGUSR1), 0);
    return NULL;
}

TEST(a_signal_that_meets_a_stop_is_not_lost) {
    CHECK(signal(SIGUSR1, count_handled) != SIG_ERR);
    int_chan ch = weir_make(int_chan, 1);
    long rounds = TEST_SCALE(2000), sent = 0;
    for (long i = 0; i < rounds; i++) {
        CHECK_EQ(weir_signal_notify(ch, SIGUSR1), 0);
        pthread_t t = thread_start(send_one, NULL);
        if (i % 10 == 0) thread_end(t); /* or stop might always be first */
        for (long j = 0; j < i % 50 * 200; j++) __asm__ volatile("");
        weir_signal_stop(ch);
        if (i % 10) thread_end(t);
        while (weir_try_recv(ch, NULL) == 0) sent++;
        CHECK_EQ(sent + handled_by_program, i + 1);
    }
    CHECK_GE(sent, 1);
    weir_release(ch);
}
