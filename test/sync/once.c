/* Once: one call runs, the others wait for it. */
#include "sync_test.h"

static weir_once once;
static _Atomic int done, runs, started;
static _Atomic bool go_on;
static long written; /* by the one that runs */

static void count_run(void *arg) {
    CHECK_EQ(*(int *)arg, 5);
    runs++;
}

TEST(the_first_call_runs_and_no_other) {
    int five = 5;
    for (int i = 0; i < 10; i++) CHECK_EQ(weir_once_do(&once, count_run, &five), 0);
    CHECK_EQ(runs, 1);
}

static void count_other(void *arg) {
    (void)arg;
    FAIL("a second function ran");
}

TEST(once_means_once_for_whatever_function) {
    int five = 5;
    CHECK_EQ(weir_once_do(&once, count_run, &five), 0);
    CHECK_EQ(weir_once_do(&once, count_other, NULL), 0);
}

TEST(the_initialiser_and_zero_bytes_are_the_same) {
    weir_once a = WEIR_ONCE_INIT, b;
    memset(&b, 0, sizeof b);
    CHECK(memcmp(&a, &b, sizeof a) == 0);
}

/* With its lock taken, whoever touches the queue hangs. */
TEST(without_contention_the_queue_is_not_touched) {
    int five = 5;
    once.q_.lock_ = 1;
    for (int i = 0; i < 10; i++) CHECK_EQ(weir_once_do(&once, count_run, &five), 0);
    CHECK_EQ(runs, 1);
}

static void run_until_told(void *arg) {
    (void)arg;
    started++;
    TEST_UNTIL(go_on);
    written = 42;
    runs++;
}

static void do_it(void) {
    CHECK_EQ(weir_once_do(&once, run_until_told, NULL), 0);
    CHECK_EQ(runs, 1);
    CHECK_EQ(written, 42);
    done++;
}

TEST(later_callers_wait_for_the_first) {
    GO(do_it);
    TEST_UNTIL(started == 1);
    for (int i = 0; i < 10; i++) GO(do_it);
    test_until_n_parked(10, "sync.Once.Do");
    CHECK_EQ(waiting_on("sync.Once.Do", &once), 10);
    CHECK_EQ(done, 0);
    go_on = true;
    TEST_UNTIL(done == 11);
    CHECK_EQ(runs, 1);
}

static weir_once many[1000];

static void run_one(void *arg) {
    long *at = arg;
    weir_yield();
    ++*at;
}

static void do_many(long *counts, long n) {
    for (long i = 0; i < n; i++) {
        CHECK_EQ(weir_once_do(&many[i], run_one, &counts[i]), 0);
        CHECK_EQ(counts[i], 1);
    }
    done++;
}

TEST(what_the_one_call_wrote_all_see) {
    static long counts[1000];
    weir_procs(4);
    for (int i = 0; i < 16; i++) GO(do_many, counts, 1000L);
    TEST_UNTIL(done == 16);
    for (int i = 0; i < 1000; i++) {
        CHECK_EQ(counts[i], 1);
        CHECK(!many[i].q_.head_);
    }
}

static void exit_inside(void *arg) {
    (void)arg;
    started++;
    TEST_UNTIL(go_on);
    runs++;
    weir_exit();
}
static void note_exit(void *arg) {
    (void)arg;
    done += 100;
}

static void do_and_exit(void) {
    weir_defer(note_exit, NULL);
    CHECK_EQ(weir_once_do(&once, exit_inside, NULL), 0);
    FAIL("went on after weir_exit");
}
static void do_after(void) {
    CHECK_EQ(weir_once_do(&once, count_other, NULL), 0);
    done++;
}

TEST(a_call_that_ends_its_goroutine_counts_as_done) {
    GO(do_and_exit);
    TEST_UNTIL(started == 1);
    for (int i = 0; i < 5; i++) GO(do_after);
    test_until_n_parked(5, "sync.Once.Do");
    go_on = true;
    TEST_UNTIL(done == 105);
    CHECK_EQ(weir_once_do(&once, count_other, NULL), 0);
    CHECK_EQ(runs, 1);
}

static void do_under(weir_ctx *ctx) {
    weir_with(ctx) {
        CHECK_EQ(weir_once_do(&once, run_until_told, NULL), 0);
        CHECK_EQ(weir_ctx_err(NULL), -ECANCELED);
        CHECK_EQ(runs, 1);
    }
    done++;
}

TEST(waiting_for_the_first_is_not_cancellable) {
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    GO(do_it);
    TEST_UNTIL(started == 1);
    GO(do_under, ctx);
    test_until_n_parked(1, "sync.Once.Do");
    weir_ctx_cancel(ctx);
    GO(do_under, ctx);
    test_until_n_parked(2, "sync.Once.Do");
    for (int i = 0; i < 100; i++) weir_yield();
    CHECK_EQ(test_parked("sync.Once.Do"), 2);
    go_on = true;
    TEST_UNTIL(done == 3);
    weir_ctx_release(ctx);
}

static weir_once inner;

static void run_inner(void *arg) {
    int five = 5;
    (void)arg;
    CHECK_EQ(weir_once_do(&inner, count_run, &five), 0);
}

TEST(one_once_may_do_another) {
    CHECK_EQ(weir_once_do(&once, run_inner, NULL), 0);
    CHECK_EQ(runs, 1);
}

static void run_itself(void *arg) { (void)weir_once_do(&once, run_itself, arg); }

EXIT_TEST(a_once_that_does_itself_is_a_deadlock, 2, "all goroutines are asleep - deadlock!") { run_itself(NULL); }
