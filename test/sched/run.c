/* weir_run, weir_start, weir_stop: what starts, what is left afterwards, and doing it again. */
#include "sched/inner.h"
#undef errno
#define errno (*weir_errno_())
#include "sched_test.h"

#include <poll.h>
#include <sys/ioctl.h>

static _Atomic long counter;
static _Atomic int running;

/* ThreadSanitizer hands signals on when it suits it, and so nobody can be stopped where he stands. */
#ifdef TEST_TSAN
#define NEEDS_SIGNALS SKIP("ThreadSanitizer delays signals")
#else
#define NEEDS_SIGNALS ((void)0)
#endif

/* Long enough for anybody who still runs to be seen. Nothing else could show that nobody does. */
static void expect_that_nobody_counts(void) {
    long now = counter;
    thread_sleep(30 * WEIR_MILLISECOND);
    CHECK_EQ(counter, now);
}

/* ---- weir_run --------------------------------------------------------------------------------------------- */

static int returns_it(void *arg) { return (int)(intptr_t)arg; }
PLAIN_TEST(the_value_of_main_comes_back) {
    CHECK_EQ(weir_run(returns_it, (void *)0), 0);
    CHECK_EQ(weir_run(returns_it, (void *)77), 77);
    CHECK_EQ(weir_run(returns_it, (void *)-3), -3);
}

static int knows_itself(void *arg) {
    CHECK_EQ(weir_id(), 1);
    CHECK_EQ(weir_count(), 1);
    return 0;
}
PLAIN_TEST(main_is_number_one_in_every_run) {
    for (int i = 0; i < 3; i++) CHECK_EQ(weir_run(knows_itself, NULL), 0);
}

PLAIN_TEST(no_function_is_an_error) { CHECK_EQ(weir_run(NULL, NULL), -EINVAL); }

static void *runs_too(void *arg) { return (void *)(intptr_t)weir_run(returns_it, arg); }
static int joins(void *thread) {
    void *result;
    CHECK_EQ(pthread_join(*(pthread_t *)thread, &result), 0);
    return (int)(intptr_t)result;
}
TEST(to_start_twice_is_refused) {
    CHECK_EQ(weir_run(returns_it, NULL), -EBUSY);
    CHECK_EQ(weir_start(), -EBUSY);
    CHECK_EQ(weir_stop(0), -EPERM);
    pthread_t thread = thread_start(runs_too, NULL);
    CHECK_EQ(weir_blocking(joins, &thread), -EBUSY);
}

static _Atomic int began, refused;
static int waits_for_refusals(void *arg) {
    began++;
    TEST_UNTIL(refused == 3);
    return 0;
}
static void *runs_or_is_refused(void *arg) {
    int e = weir_run(waits_for_refusals, NULL);
    if (e) CHECK_EQ(e, -EBUSY), refused++;
    return arg;
}
PLAIN_TEST(of_several_that_start_it_one_does) {
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) threads[i] = thread_start(runs_or_is_refused, NULL);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    CHECK_EQ(began, 1);
}

static void does_nothing(void) {}
PLAIN_TEST(nothing_can_be_started_before_or_after) {
    CHECK_EQ(weir_go(does_nothing), -EPERM);
    CHECK_EQ(weir_run(returns_it, NULL), 0);
    CHECK_EQ(weir_go(does_nothing), -EPERM);
    weir_timer *t = weir_after_func(0, (void (*)(void *))does_nothing, NULL);
    weir_timer_free(t);
}

/* ---- Others run no more -------------------------------------------------------------------------------------- */

static void counts(void) {
    for (;;) counter++;
}
static void counts_and_yields(void) {
    for (;; counter++) weir_yield();
}
static void counts_and_sleeps(void) {
    for (;; counter++) (void)weir_sleep(10 * WEIR_MICROSECOND);
}
static void counts_starts(void) {
    counter++;
    TEST_GO(counts_starts);
}
static void counts_and_calls(void) {
    for (;; counter++) (void)weir_id();
}
#ifdef __GLIBC__ /* which lets be seen where it sleeps */
static void counts_and_rests(void) {
    for (;; counter++) usleep(100);
}
#endif
static void (*const counters[])(void) = { counts, counts_and_yields, counts_and_sleeps, counts_starts, counts_and_calls,
#ifdef __GLIBC__
                                          counts_and_rests
#endif
};
enum { COUNTERS = sizeof counters / sizeof counters[0] };
static int leaves_running(void *fn) {
    weir_procs(2);
    for (int i = 0; i < 3; i++) TEST_GO((void (*)(void))fn);
    for (long from = counter; counter < from + 100;) weir_yield();
    return 0;
}
PLAIN_TEST(who_still_runs_is_stopped) {
    NEEDS_SIGNALS;
    test_ignore_leaks();
    for (int i = 0; i < COUNTERS; i++) {
        CHECK_EQ(weir_run(leaves_running, (void *)counters[i]), 0);
        expect_that_nobody_counts();
    }
}

static int sleeps_in_libc(void *arg) {
    return arg ? poll(NULL, 0, 3600000) : (int)sleep(3600);
}
static void sleeps_then_counts(int with_poll) {
    running++;
    (void)sleeps_in_libc(with_poll ? &running : NULL);
    counter++;
}
static int leaves_asleep(void *arg) {
    TEST_GO(sleeps_then_counts, 0);
    TEST_GO(sleeps_then_counts, 1);
    TEST_UNTIL(running == 2);
    return 0;
}
PLAIN_TEST(who_sleeps_in_the_c_library_is_not_woken) {
    if (SANITIZED) SKIP("what sleeps is the sanitizer");
#ifndef __GLIBC__
    SKIP("this C library does not let be seen where it sleeps");
#endif
    test_ignore_leaks();
    CHECK_EQ(weir_run(leaves_asleep, NULL), 0);
    expect_that_nobody_counts();
    CHECK_EQ(counter, 0);
}

/* Where a signal can stop it: a stress build spends nearly all of its time inside weir otherwise. */
#ifdef WEIR_STRESS
enum { PAUSE = 100000 };
#else
enum { PAUSE = 1000 };
#endif
static int_chan used;
static void uses_the_channel(void) {
    for (int v;; counter++) {
        (void)!weir_try_send(used, 1);
        (void)!weir_try_recv(used, &v);
        for (volatile int pause = 0; pause < PAUSE;) pause++;
    }
}
/* They are stopped anywhere, but not where they hold a lock that is needed yet. */
PLAIN_TEST(what_they_used_can_still_be_used) {
    NEEDS_SIGNALS;
    test_ignore_leaks();
    used = weir_make(int_chan, 1);
    for (int i = 0; i < 30; i++) {
        CHECK_EQ(weir_run(leaves_running, (void *)uses_the_channel), 0);
        (void)!weir_try_recv(used, NULL);
        CHECK_EQ(weir_try_send(used, 1), 0);
        CHECK_EQ(weir_len(used), 1);
    }
    expect_that_nobody_counts();
}

static int_chan ch;
static void waits_then_counts(void) {
    (void)!weir_recv(ch, NULL);
    counter++;
}
static int leaves_parked(void *arg) {
    ch = weir_make(int_chan, 0);
    for (int i = 0; i < 3; i++) TEST_GO(waits_then_counts);
    test_until_n_parked(3, "chan receive");
    return 0;
}
static int sends_to_nobody(void *arg) {
    CHECK_EQ(weir_count(), 1);
    CHECK_EQ(weir_try_send(ch, 1), -EAGAIN); /* those of the run before are no partners */
    weir_timeout(WEIR_MILLISECOND) CHECK_EQ(weir_send(ch, 1), -ETIMEDOUT);
    weir_close(ch);
    CHECK_EQ(weir_sleep(WEIR_MILLISECOND), 0);
    return 0;
}
PLAIN_TEST(who_was_parked_does_not_go_on) {
    test_ignore_leaks();
    CHECK_EQ(weir_run(leaves_parked, NULL), 0);
    CHECK_EQ(weir_run(sends_to_nobody, NULL), 0);
    expect_that_nobody_counts();
    CHECK_EQ(counter, 0);
}

static int fds[2];
static int reads_one(void *arg) {
    char c;
    running++;
    return (int)read(fds[0], &c, 1);
}
static void reads_then_counts(void) {
    CHECK_EQ(weir_blocking(reads_one, NULL), 1);
    counter++;
}
static int leaves_blocked(void *arg) {
    running = 0;
    TEST_GO(reads_then_counts);
    TEST_GO(reads_then_counts);
    TEST_UNTIL(running == 2);
    return 0;
}
PLAIN_TEST(who_was_in_a_blocking_call_does_not_go_on_after_it) {
    test_ignore_leaks();
    CHECK_EQ(pipe(fds), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(weir_run(leaves_blocked, NULL), 0);
        CHECK_EQ(write(fds[1], "xy", 2), 2);
        for (int left = 1; left > 0;) CHECK_EQ(ioctl(fds[0], FIONREAD, &left), 0);
        expect_that_nobody_counts();
        CHECK_EQ(counter, 0);
    }
}

/* ---- What is left ---------------------------------------------------------------------------------------------- */

static void worker(int_chan in, int_chan out) {
    int v;
    while (weir_recv(in, &v) == 0) CHECK_EQ(weir_send(out, v + 1), 0);
}
static int works(void *arg) {
    int v;
    int_chan in = weir_make(int_chan, 0), out = weir_make(int_chan, 0);
    weir_procs(1 + (int)(intptr_t)arg % 4);
    for (int i = 0; i < 4; i++) TEST_GO(worker, in, out);
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(weir_send(in, i), 0);
        CHECK_EQ(weir_recv(out, &v), 0);
        CHECK_EQ(v, i + 1);
    }
    CHECK_EQ(weir_sleep(WEIR_MICROSECOND), 0);
    weir_close(in);
    TEST_UNTIL(weir_count() == 1);
    weir_release(in), weir_release(out);
    return 5;
}
PLAIN_TEST(a_run_can_follow_a_run) {
    CHECK_EQ(weir_run(works, NULL), 5);
    int threads = threads_there_are(); /* 1, or what a sanitizer and an emulator add */
    for (int i = 0; i < TEST_SCALE(200); i++) CHECK_EQ(weir_run(works, (void *)(intptr_t)i), 5);
    TEST_UNTIL(threads_there_are() <= threads); /* one that has been joined may still be listed for a moment */
}

/* Else the next run takes them for threads of the program's, and never finds a deadlock. */
PLAIN_TEST(the_threads_of_a_run_are_gone_after_it) {
    (void)weir_run(returns_it, NULL); /* a sanitizer may start a thread with it, which stays */
    int before = wr_threads_now();
    for (int i = 0; i < TEST_SCALE(300); i++) {
        CHECK_EQ(weir_run(returns_it, NULL), 0);
        CHECK_EQ(wr_threads_now(), before);
    }
}

static void *stays_until(void *arg) {
    while (!*(_Atomic bool *)arg) {}
    return NULL;
}
/* The kernel lists threads in the order of their birth, and stops at one that is just ending. */
PLAIN_TEST(a_thread_that_ends_hides_none_that_is_younger) {
    for (int i = 0; i < TEST_SCALE(2000); i++) {
        _Atomic bool first = false, second = false;
        pthread_t older = thread_start(stays_until, (void *)&first), younger = thread_start(stays_until, (void *)&second);
        first = true;
        for (int looks = 0; looks < 20; looks++) CHECK_GE(wr_threads_now(), 2);
        second = true;
        CHECK_EQ(pthread_join(older, NULL), 0);
        CHECK_EQ(pthread_join(younger, NULL), 0);
    }
}

/* works() waits until it is alone, so the others must be none of its run. */
PLAIN_TEST(a_run_can_follow_one_that_left_goroutines_behind) {
    test_ignore_leaks();
    ch = weir_make(int_chan, 0);
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(weir_run(leaves_running, (void *)counters[i % COUNTERS]), 0);
        CHECK_EQ(weir_run(works, (void *)(intptr_t)i), 5);
    }
}

static weir_timer *t;
static int leaves_a_timer(void *arg) {
    t = weir_timer_new(WEIR_HOUR);
    return 0;
}
static int uses_the_timer(void *arg) {
    CHECK(weir_timer_reset(t, WEIR_MICROSECOND));
    CHECK_EQ(weir_timer_wait(t, NULL), 0);
    return 0;
}
PLAIN_TEST(a_timer_may_outlive_a_run) {
    CHECK_EQ(weir_run(leaves_a_timer, NULL), 0);
    CHECK_EQ(weir_run(uses_the_timer, NULL), 0);
    weir_timer_free(t);
    CHECK_EQ(weir_run(leaves_a_timer, NULL), 0);
    CHECK(weir_timer_stop(t));
    weir_timer_free(t);
}

/* ---- weir_start, weir_stop ------------------------------------------------------------------------------------- */

static void adds_one(int_chan from, int_chan to) {
    int v;
    CHECK_EQ(weir_recv(from, &v), 0);
    CHECK_EQ(weir_send(to, v + 1), 0);
}
PLAIN_TEST(workers_beside_a_program) {
    for (int i = 0, v; i < 5; i++) {
        CHECK_EQ(weir_start(), 0);
        CHECK_EQ(weir_start(), -EBUSY);
        CHECK_EQ(weir_run(returns_it, NULL), -EBUSY);
        int_chan to = weir_make(int_chan, 0), from = weir_make(int_chan, 0);
        TEST_GO(adds_one, to, from);
        CHECK_EQ(weir_send(to, 41), 0);
        CHECK_EQ(weir_recv(from, &v), 0);
        CHECK_EQ(v, 42);
        CHECK_EQ(weir_stop(WEIR_MINUTE), 0);
        CHECK_EQ(weir_stop(0), -EPERM);
        weir_release(to), weir_release(from);
    }
    CHECK_EQ(weir_run(works, NULL), 5);
}

PLAIN_TEST(stop_without_start_is_refused) { CHECK_EQ(weir_stop(0), -EPERM); }

static int stop_result;
static void stops(weir_unit_chan done) {
    stop_result = weir_stop(0);
    CHECK_EQ(weir_close(done), 0);
}
PLAIN_TEST(a_goroutine_cannot_stop_the_runtime) {
    CHECK_EQ(weir_start(), 0);
    weir_unit_chan done = weir_make(weir_unit_chan, 0);
    TEST_GO(stops, done);
    CHECK_EQ(weir_recv(done, NULL), -EPIPE);
    CHECK_EQ(stop_result, -EPERM);
    CHECK_EQ(weir_stop(WEIR_MINUTE), 0);
    weir_release(done);
}

static void sleeps_a_little(void) {
    CHECK_EQ(weir_sleep(20 * WEIR_MILLISECOND), 0);
    counter++;
}
PLAIN_TEST(stop_waits_for_goroutines_that_end) {
    CHECK_EQ(weir_start(), 0);
    for (int i = 0; i < 10; i++) TEST_GO(sleeps_a_little);
    CHECK_EQ(weir_stop(WEIR_MINUTE), 0);
    CHECK_EQ(counter, 10);
}

PLAIN_TEST(stop_does_not_wait_longer_than_it_is_told) {
    NEEDS_SIGNALS;
    test_ignore_leaks();
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(weir_start(), 0);
        ch = weir_make(int_chan, 0);
        TEST_GO(waits_then_counts);
        TEST_GO(counts_and_sleeps);
        TEST_GO(counts);
        TEST_UNTIL(counter > 1000);
        weir_time start = weir_now();
        CHECK_EQ(weir_stop(i * 10 * WEIR_MILLISECOND), -ETIMEDOUT);
        CHECK_GE(weir_now() - start, i * 10 * WEIR_MILLISECOND);
        expect_that_nobody_counts();
    }
}

static int wakes[2];
static _Atomic int reader;
static _Atomic bool started_one;
static void started(void) { started_one = true; }
static void reads_then_starts_one(void) {
    reader = gettid();
    CHECK_EQ(read(wakes[0], &(char){ 0 }, 1), 1); /* in the C library, where it is not stopped */
    TEST_GO(started);
    for (;;) pause();
}
/* Its thread is none of this run, but what it starts is counted as all others. */
PLAIN_TEST(who_was_left_behind_may_start_one_in_the_next_run) {
    NEEDS_SIGNALS;
    test_ignore_leaks();
    CHECK_EQ(pipe(wakes), 0);
    CHECK_EQ(weir_start(), 0);
    TEST_GO(reads_then_starts_one);
    TEST_UNTIL(reader && thread_sleeps(reader));
    CHECK_EQ(weir_stop(0), -ETIMEDOUT);
    CHECK_EQ(weir_start(), 0);
    CHECK_EQ(write(wakes[1], "x", 1), 1);
    TEST_UNTIL(started_one);
    CHECK_EQ(weir_stop(5 * WEIR_SECOND), 0);
}

PLAIN_TEST(stop_with_nothing_running_returns_at_once) {
    CHECK_EQ(weir_start(), 0);
    weir_time start = weir_now();
    CHECK_EQ(weir_stop(WEIR_HOUR), 0);
    CHECK_LE(weir_now() - start, 30 * WEIR_SECOND);
}

static void receives_one(void) { (void)!weir_recv(ch, NULL); }
PLAIN_TEST(no_deadlock_is_reported_beside_a_program) {
    CHECK_EQ(weir_start(), 0);
    ch = weir_make(int_chan, 0);
    TEST_GO(receives_one);
    test_until_n_parked(1, "chan receive");
    thread_sleep(20 * WEIR_MILLISECOND);
    CHECK_EQ(weir_send(ch, 1), 0);
    CHECK_EQ(weir_stop(WEIR_MINUTE), 0);
    weir_release(ch);
}

static int runs_in_run(void *arg) {
    CHECK_EQ(weir_run(returns_it, NULL), -EBUSY);
    return works(NULL);
}
PLAIN_TEST(a_refused_start_disturbs_nothing) { CHECK_EQ(weir_run(runs_in_run, NULL), 5); }
