/* Wait groups: counting, waiting, misuse, use again, cancelled waits, weir_wg_go. */
#include "sync_test.h"

static weir_wg wg;
static _Atomic int done;
static _Atomic bool go_on;

TEST(waiting_for_nobody_returns_at_once) {
    CHECK_EQ(weir_wg_wait(&wg), 0);
    CHECK_EQ(weir_wg_add(&wg, 0), 0);
    CHECK_EQ(weir_wg_wait(&wg), 0);
    CHECK_EQ(weir_wg_add(&wg, 2), 0);
    CHECK_EQ(weir_wg_done(&wg), 0);
    CHECK_EQ(weir_wg_done(&wg), 0);
    CHECK_EQ(weir_wg_wait(&wg), 0);
}

TEST(the_initialiser_and_zero_bytes_are_the_same) {
    weir_wg a = WEIR_WG_INIT, b;
    memset(&b, 0, sizeof b);
    CHECK(memcmp(&a, &b, sizeof a) == 0);
}

/* With its lock taken, whoever touches the queue hangs. */
TEST(while_nobody_waits_the_queue_is_not_touched) {
    wg.q_.lock_ = 1;
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(weir_wg_add(&wg, 3), 0);
        CHECK_EQ(weir_wg_add(&wg, -2), 0);
        CHECK_EQ(weir_wg_done(&wg), 0);
        CHECK_EQ(weir_wg_wait(&wg), 0);
    }
}

static void wait_for_it(void) {
    CHECK_EQ(weir_wg_wait(&wg), 0);
    done++;
}

TEST(wait_returns_when_the_count_comes_to_zero) {
    CHECK_EQ(weir_wg_add(&wg, 3), 0);
    GO(wait_for_it);
    test_until_n_parked(1, "sync.WaitGroup.Wait");
    CHECK_EQ(waiting_on("sync.WaitGroup.Wait", &wg), 1);
    CHECK_EQ(weir_wg_done(&wg), 0);
    CHECK_EQ(weir_wg_done(&wg), 0);
    for (int i = 0; i < 100; i++) weir_yield();
    CHECK_EQ(test_parked("sync.WaitGroup.Wait"), 1);
    CHECK_EQ(weir_wg_done(&wg), 0);
    TEST_UNTIL(done == 1);
    CHECK_EQ(wg.state_, 0);
}

TEST(many_may_wait) {
    CHECK_EQ(weir_wg_add(&wg, 2), 0);
    for (int i = 0; i < 50; i++) GO(wait_for_it);
    test_until_n_parked(50, "sync.WaitGroup.Wait");
    CHECK_EQ(weir_wg_add(&wg, 1), 0); /* with waiters there already */
    CHECK_EQ(weir_wg_add(&wg, -3), 0);
    TEST_UNTIL(done == 50);
    CHECK_EQ(wg.state_, 0);
    CHECK(!wg.q_.head_ && !wg.q_.tail_);
}

TEST(a_negative_count_is_refused_and_changes_nothing) {
    CHECK_EQ(weir_wg_done(&wg), -EINVAL);
    CHECK_EQ(weir_wg_add(&wg, -1), -EINVAL);
    CHECK_EQ(weir_wg_add(&wg, INT64_MIN), -EINVAL);
    CHECK_EQ(weir_wg_wait(&wg), 0);
    CHECK_EQ(weir_wg_add(&wg, 2), 0);
    GO(wait_for_it);
    test_until_n_parked(1, "sync.WaitGroup.Wait");
    CHECK_EQ(weir_wg_add(&wg, -3), -EINVAL);
    CHECK_EQ(weir_wg_add(&wg, INT64_MIN), -EINVAL);
    for (int i = 0; i < 100; i++) weir_yield();
    CHECK_EQ(test_parked("sync.WaitGroup.Wait"), 1);
    CHECK_EQ(weir_wg_add(&wg, -2), 0);
    TEST_UNTIL(done == 1);
}

TEST(a_count_beyond_the_largest_is_refused_and_changes_nothing) {
    CHECK_EQ(weir_wg_add(&wg, INT64_MAX), 0);
    CHECK_EQ(weir_wg_add(&wg, 1), -EINVAL);
    CHECK_EQ(weir_wg_add(&wg, INT64_MAX), -EINVAL);
    GO(wait_for_it);
    test_until_n_parked(1, "sync.WaitGroup.Wait");
    CHECK_EQ(weir_wg_add(&wg, 1), -EINVAL);
    CHECK_EQ(weir_wg_add(&wg, -INT64_MAX), 0);
    TEST_UNTIL(done == 1);
}

static long plain[8];

static void write_and_finish(int i, long value) {
    plain[i] = value;
    CHECK_EQ(weir_wg_done(&wg), 0);
}

TEST(what_was_done_before_is_seen_and_the_group_may_be_used_again) {
    long rounds = TEST_SCALE(2000);
    weir_procs(4);
    for (long r = 1; r <= rounds; r++) {
        CHECK_EQ(weir_wg_add(&wg, 8), 0);
        for (int i = 0; i < 8; i++) GO(write_and_finish, i, r);
        if (r % 3 == 0) weir_yield();
        CHECK_EQ(weir_wg_wait(&wg), 0);
        for (int i = 0; i < 8; i++) CHECK_EQ(plain[i], r);
    }
}

/* Rounds by barriers: in each, all arrive, then all leave; the group of the round before is free again by then. */
static weir_wg barrier[3];
static _Atomic long arrived;

static void march(long rounds) {
    for (long r = 0; r < rounds; r++) {
        arrived++;
        CHECK_EQ(weir_wg_done(&barrier[r % 3]), 0);
        CHECK_EQ(weir_wg_wait(&barrier[r % 3]), 0);
        CHECK_GE(arrived, 4 * (r + 1));
        /* Everybody has left round r - 1, or it could not have arrived in round r. Its group serves round r + 2. */
        if (r > 0) CHECK_EQ(weir_wg_add(&barrier[(r + 2) % 3], 1), 0);
    }
    done++;
}

TEST(groups_serve_as_a_barrier_round_after_round) {
    long rounds = TEST_SCALE(5000);
    weir_procs(4);
    for (int i = 0; i < 3; i++) CHECK_EQ(weir_wg_add(&barrier[i], 4), 0);
    for (int i = 0; i < 4; i++) GO(march, rounds);
    TEST_UNTIL(done == 4);
    CHECK_EQ(arrived, 4 * rounds);
}

/* ---- Cancelled waits ---------------------------------------------------------------------------------- */

static void wait_under(weir_ctx *ctx, int expected) {
    weir_with(ctx) {
        CHECK_EQ(weir_wg_wait(&wg), expected);
    }
    done++;
}

TEST(a_cancelled_wait_leaves_the_others_waiting) {
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    CHECK_EQ(weir_wg_add(&wg, 1), 0);
    for (int i = 0; i < 3; i++) {
        GO(wait_under, ctx, -ECANCELED);
        GO(wait_for_it);
    }
    test_until_n_parked(6, "sync.WaitGroup.Wait");
    weir_ctx_cancel(ctx);
    TEST_UNTIL(done == 3);
    CHECK_EQ(test_parked("sync.WaitGroup.Wait"), 3);
    CHECK_EQ(weir_wg_done(&wg), 0);
    TEST_UNTIL(done == 6);
    weir_ctx_release(ctx);
}

TEST(a_wait_that_times_out_changes_nothing) {
    CHECK_EQ(weir_wg_add(&wg, 1), 0);
    weir_timeout(5 * WEIR_MILLISECOND) {
        CHECK_EQ(weir_wg_wait(&wg), -ETIMEDOUT);
        CHECK_EQ(weir_wg_wait(&wg), -ETIMEDOUT); /* and again */
    }
    CHECK(!wg.q_.head_);
    CHECK_EQ(wg.state_, 1);
    GO(wait_for_it);
    test_until_n_parked(1, "sync.WaitGroup.Wait");
    CHECK_EQ(weir_wg_done(&wg), 0);
    TEST_UNTIL(done == 1);
}

TEST(a_wait_that_need_not_block_is_not_refused) {
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    weir_ctx_cancel(ctx);
    weir_with(ctx) {
        CHECK_EQ(weir_wg_wait(&wg), 0);
    }
    weir_ctx_release(ctx);
}

static void wait_either_way(weir_ctx *ctx) {
    weir_with(ctx) {
        int e = weir_wg_wait(&wg);
        CHECK(e == 0 || e == -ECANCELED);
    }
    done++;
}
static void finish_one(void) {
    CHECK_EQ(weir_wg_done(&wg), 0);
    done++;
}
static void cancel_it(weir_ctx *ctx) {
    weir_ctx_cancel(ctx);
    done++;
}

TEST(a_cancel_and_the_last_done_may_come_together) {
    long n = TEST_SCALE(3000);
    weir_procs(4);
    for (long i = 0; i < n; i++) {
        weir_ctx *ctx = weir_ctx_with_cancel(NULL);
        done = 0;
        CHECK_EQ(weir_wg_add(&wg, 1), 0);
        GO(wait_either_way, ctx);
        GO(wait_either_way, ctx);
        TEST_UNTIL(i % 3 == 0 || __atomic_load_n(&wg.q_.count_, __ATOMIC_RELAXED) == 2);
        GO(cancel_it, ctx);
        GO(finish_one);
        CHECK_EQ(weir_wg_wait(&wg), 0);
        TEST_UNTIL(done == 4);
        CHECK_EQ(wg.state_, 0);
        CHECK(!wg.q_.head_);
        weir_ctx_release(ctx);
    }
}

/* ---- weir_wg_go ---------------------------------------------------------------------------------------- */

static void take_arguments(int a, double b, const char *c) {
    CHECK_EQ(a, 3);
    CHECK(b == 0.5);
    CHECK_STR(c, "text");
    TEST_UNTIL(go_on);
    done++;
}

TEST(wg_go_counts_until_the_goroutine_has_ended) {
    CHECK_EQ(weir_wg_go(&wg, take_arguments, 3, 0.5, "text"), 0);
    CHECK_EQ(weir_wg_go(&wg, take_arguments, 3, 0.5, "text"), 0);
    weir_timeout(5 * WEIR_MILLISECOND) {
        CHECK_EQ(weir_wg_wait(&wg), -ETIMEDOUT);
    }
    go_on = true;
    CHECK_EQ(weir_wg_wait(&wg), 0);
    CHECK_EQ(done, 2);
}

static void note(void *arg) {
    (void)arg;
    done++;
}
static void exit_early(void) {
    weir_defer(note, NULL);
    weir_exit();
}

TEST(wg_go_counts_a_goroutine_that_exits) {
    for (int i = 0; i < 10; i++) CHECK_EQ(weir_wg_go(&wg, exit_early), 0);
    CHECK_EQ(weir_wg_wait(&wg), 0);
    CHECK_EQ(done, 10); /* what was deferred came before */
}

static int any_result(void) {
    done++;
    return 17;
}

TEST(wg_go_takes_a_function_of_any_result) {
    CHECK_EQ(weir_wg_go(&wg, any_result), 0);
    CHECK_EQ(weir_wg_wait(&wg), 0);
    CHECK_EQ(done, 1);
}

static void branch(int depth) {
    if (depth > 0)
        for (int i = 0; i < 2; i++) CHECK_EQ(weir_wg_go(&wg, branch, depth - 1), 0);
    done++;
}

TEST(goroutines_of_a_group_may_start_more) {
    CHECK_EQ(weir_wg_go(&wg, branch, 8), 0);
    CHECK_EQ(weir_wg_wait(&wg), 0);
    CHECK_EQ(done, 511);
}

static void nothing(void) {}

TEST(a_goroutine_that_could_not_be_started_is_not_counted) {
    static const weir_site_ site = { "file.c", "here", "nothing", 1 };
    weir_go_capture_();
    CHECK_EQ(weir_wg_launch_(nothing, &site, (size_t)2 << 30, false, &wg), -EINVAL);
    CHECK_EQ(weir_wg_wait(&wg), 0);
    CHECK_EQ(weir_wg_add(&wg, INT64_MAX), 0);
    CHECK_EQ(weir_wg_go(&wg, nothing), -EINVAL);
    CHECK_EQ(weir_wg_add(&wg, -INT64_MAX), 0);
}

static void wait_for_itself(void) { CHECK_EQ(weir_wg_wait(&wg), 0); }

EXIT_TEST(waiting_for_oneself_is_a_deadlock, 2, "all goroutines are asleep - deadlock!") {
    CHECK_EQ(weir_wg_go(&wg, wait_for_itself), 0);
    CHECK_EQ(weir_wg_wait(&wg), 0);
}
