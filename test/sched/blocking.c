/* weir_blocking: a call that blocks its thread keeps nobody else waiting. */
#include "sched/inner.h"
#include "sched_test.h"

#include <errno.h>
#undef errno
#define errno (*weir_errno_())

static _Atomic int running;

static int returns_it(void *arg) { return (int)(intptr_t)arg; }
TEST(the_result_comes_back) {
    CHECK_EQ(weir_blocking(returns_it, (void *)7), 7);
    CHECK_EQ(weir_blocking(returns_it, (void *)-7), -7);
    CHECK_EQ(weir_blocking(returns_it, NULL), 0);
}

static int fails(void *arg) { return close(-1); }
static int leaves_errno(void *arg) {
    errno = 1234;
    return 0;
}
TEST(errno_is_as_the_call_left_it) {
    for (int i = 0; i < 100; i++) {
        errno = 0;
        CHECK_EQ(weir_blocking(fails, NULL), -1);
        CHECK_EQ(errno, EBADF);
        CHECK_EQ(weir_blocking(leaves_errno, NULL), 0);
        CHECK_EQ(errno, 1234);
        CHECK_EQ(weir_blocking(returns_it, NULL), 0);
        CHECK_EQ(errno, 1234);
    }
}

static int is_near(void *there) {
    intptr_t distance = (char *)there - (char *)__builtin_frame_address(0);
    return distance > -65536 && distance < 65536;
}
TEST(the_call_runs_on_the_stack_of_its_goroutine) {
    CHECK_EQ(weir_blocking(is_near, __builtin_frame_address(0)), 1);
}

/* ---- The time is kept ------------------------------------------------------------------------------------- */

static bool somebody_keeps_the_time(void) {
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    bool keeper = false;
    for (struct m *m = wr_sched.idle_ms; m; m = m->next_idle) keeper |= m->sleeps_until != WR_NEVER;
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    return keeper;
}
static int waits_for_a_keeper(void *arg) {
    TEST_UNTIL(somebody_keeps_the_time());
    return 0;
}
static int sleeps_long(void) { return weir_sleep(WEIR_HOUR); }
static int blocks_beside_a_sleeper(void *arg) {
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    CHECK_EQ(weir_scope_go(&s, sleeps_long), 0);
    weir_yield();
    CHECK_EQ(weir_blocking(waits_for_a_keeper, NULL), 0);
    weir_scope_cancel(&s);
    return weir_scope_close(&s);
}
static int adds_a_timer(void *arg) {
    weir_timer *t = weir_timer_new(WEIR_HOUR);
    TEST_UNTIL(somebody_keeps_the_time());
    weir_timer_free(t);
    return 0;
}
static int blocks_and_adds_a_timer(void *arg) { return weir_blocking(adds_a_timer, NULL); }
/* sysmon would see to the sleeper too, but late. One processor from the start, or there is an idle thread already. */
PLAIN_TEST(a_thread_is_made_that_keeps_the_time_of_sleepers) {
    setenv("WEIR_PROCS", "1", 1);
    CHECK_EQ(weir_run(blocks_beside_a_sleeper, NULL), -ECANCELED);
}
PLAIN_TEST(a_thread_is_made_that_keeps_the_time_of_a_timer_set_meanwhile) {
    setenv("WEIR_PROCS", "1", 1);
    CHECK_EQ(weir_run(blocks_and_adds_a_timer, NULL), 0);
}

/* ---- Others go on ---------------------------------------------------------------------------------------- */

static int fds[2];
static int reads_one(void *arg) {
    char c;
    return (int)read(fds[0], &c, 1);
}
static void writes_one(void) { CHECK_EQ(write(fds[1], "x", 1), 1); }

/* Only the others can end the call, and they have its processor at once: a thread that did not say so would lose it
 * after 8 ms at the earliest. */
TEST(others_run_at_once_on_one_processor) {
    CHECK_EQ(pipe(fds), 0);
    weir_procs(1);
    weir_duration best = WEIR_HOUR;
    for (int i = 0; i < 100; i++) {
        weir_time start = weir_now();
        TEST_GO(writes_one);
        CHECK_EQ(weir_blocking(reads_one, NULL), 1);
        weir_duration d = weir_now() - start;
        if (d < best) best = d;
    }
    CHECK_LE(best, 4 * WEIR_MILLISECOND * test_slowness());
    close(fds[0]), close(fds[1]);
}

static _Atomic bool stop;
static _Atomic weir_duration longest;
static void takes_turns(void) {
    for (weir_time last = weir_now(), now; !stop; last = now) {
        weir_yield();
        now = weir_now();
        if (now - last > longest) longest = now - last;
    }
    running--;
}
static int sleeps(void *arg) {
    thread_sleep(100 * WEIR_MILLISECOND);
    return 0;
}
TEST(others_wait_less_than_20_ms_for_it) {
    weir_procs(1);
    running = 1;
    TEST_GO(takes_turns);
    weir_duration best = WEIR_HOUR;
    for (int i = 0; i < 10 && best > 20 * WEIR_MILLISECOND * test_slowness(); i++) {
        longest = 0;
        CHECK_EQ(weir_blocking(sleeps, NULL), 0);
        if (longest < best) best = longest;
    }
    stop = true;
    TEST_UNTIL(running == 0);
    CHECK_LE(best, 20 * WEIR_MILLISECOND * test_slowness());
}

static pthread_barrier_t barrier;
static int waits_at_barrier(void *arg) { return pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD; }
static _Atomic int last_ones;
static void meets(void) {
    last_ones += weir_blocking(waits_at_barrier, NULL);
    running--;
}
/* They all get on only when all are in their call at the same time. */
TEST(many_may_block_at_once) {
    int n = (int)TEST_SCALE(200);
    weir_procs(2);
    CHECK_EQ(pthread_barrier_init(&barrier, NULL, (unsigned)n), 0);
    for (int round = 1; round <= 3; round++) {
        running = n;
        for (int i = 0; i < n; i++) TEST_GO(meets);
        TEST_UNTIL(running == 0);
        CHECK_EQ(last_ones, round);
    }
    /* The threads that this took are used again. */
    CHECK_LE(threads_there_are(), n + 2 + 10);
}

/* ---- What the call may do --------------------------------------------------------------------------------- */

static int_chan ch;
static int receives(void *arg) {
    int v;
    CHECK_EQ(weir_recv(ch, &v), 0);
    CHECK_EQ(weir_sleep(WEIR_MICROSECOND), 0);
    weir_yield();
    return v;
}
static void sends(int n) {
    for (int i = 0; i < n; i++) CHECK_EQ(weir_send(ch, i), 0);
}
TEST(the_call_may_park) {
    int n = (int)TEST_SCALE(1000);
    for (int procs = 1; procs <= 4; procs *= 4) {
        weir_procs(procs);
        ch = weir_make(int_chan, 0);
        TEST_GO(sends, n);
        for (int i = 0; i < n; i++) CHECK_EQ(weir_blocking(receives, NULL), i);
        weir_release(ch);
    }
}

static int receives_and_blocks(void *arg) { return receives(NULL) + weir_blocking(receives, NULL); }
TEST(blocking_calls_nest) {
    ch = weir_make(int_chan, 0);
    TEST_GO(sends, 200);
    for (int i = 0; i < 200; i += 2) CHECK_EQ(weir_blocking(receives_and_blocks, NULL), i + i + 1);
    weir_release(ch);
}

static int exits(void *arg) { weir_exit(); }
static void blocks_and_exits(void) {
    (void)weir_blocking(exits, NULL);
    FAIL("came back");
}
TEST(the_call_may_end_its_goroutine) {
    for (int i = 0; i < 100; i++) {
        TEST_GO(blocks_and_exits);
        TEST_UNTIL(weir_count() == 1);
    }
}

static int starts_one(void *arg) {
    TEST_GO(meets);
    return waits_at_barrier(NULL);
}
TEST(the_call_may_start_goroutines) {
    weir_procs(1);
    CHECK_EQ(pthread_barrier_init(&barrier, NULL, 2), 0);
    running = 1;
    last_ones += weir_blocking(starts_one, NULL);
    TEST_UNTIL(running == 0);
    CHECK_EQ(last_ones, 1);
}

TEST(a_cancelled_context_does_not_keep_the_call_from_being_made) {
    weir_timeout(0) CHECK_EQ(weir_blocking(returns_it, (void *)3), 3);
}

static void *blocks_on_a_thread(void *arg) { return (void *)(intptr_t)weir_blocking(returns_it, (void *)11); }
static int joins(void *thread) {
    void *result;
    CHECK_EQ(pthread_join(*(pthread_t *)thread, &result), 0);
    return (int)(intptr_t)result;
}
TEST(a_foreign_thread_just_makes_the_call) {
    pthread_t thread = thread_start(blocks_on_a_thread, NULL);
    CHECK_EQ(weir_blocking(joins, &thread), 11);
}

/* ---- And then it ends --------------------------------------------------------------------------------------- */

static _Atomic long counter;
static int receives_then_waits_for_ever(void *arg) {
    (void)receives(NULL); /* on whichever thread it is now */
    running++;
    (void)!weir_recv((int_chan){ 0 }, NULL);
    return 0;
}
static void blocks_and_parks(void) { (void)weir_blocking(receives_then_waits_for_ever, NULL); }
static void counts(void) {
    for (;;) counter++;
}
/* Others run now on the threads that these calls began on. */
static int leaves_parked_calls_and_counters(void *arg) {
    weir_procs(3);
    ch = weir_make(int_chan, 0);
    for (int i = 0; i < 4; i++) TEST_GO(blocks_and_parks);
    test_until_n_parked(4, "chan receive");
    sends(4);
    TEST_UNTIL(running == 4);
    test_until_n_parked(4, "chan receive (nil chan)");
    TEST_GO(counts);
    TEST_GO(counts);
    TEST_UNTIL(counter > 1000);
    return 0;
}
PLAIN_TEST(a_call_that_parked_does_not_keep_others_from_being_stopped) {
    test_ignore_leaks();
    CHECK_EQ(weir_run(leaves_parked_calls_and_counters, NULL), 0);
    long now = counter;
    thread_sleep(20 * WEIR_MILLISECOND);
    CHECK_EQ(counter, now);
}
