/* Weighted semaphores: amounts, order, cancelled requests. */
#include "sync_test.h"

static weir_sem s;
static _Atomic int done;
static _Atomic int64_t held;

TEST(units_are_taken_and_given_back) {
    CHECK_EQ(weir_sem_init(&s, 10), 0);
    CHECK_EQ(weir_sem_acquire(&s, 4), 0);
    CHECK_EQ(weir_sem_try_acquire(&s, 7), -EAGAIN);
    CHECK_EQ(weir_sem_try_acquire(&s, 6), 0);
    CHECK_EQ(weir_sem_try_acquire(&s, 1), -EAGAIN);
    CHECK_EQ(weir_sem_release(&s, 10), 0);
    CHECK_EQ(weir_sem_try_acquire(&s, 10), 0);
    CHECK_EQ(weir_sem_release(&s, 10), 0);
}

TEST(impossible_amounts_are_refused_and_change_nothing) {
    CHECK_EQ(weir_sem_init(&s, -1), -EINVAL);
    CHECK_EQ(weir_sem_init(&s, 5), 0);
    CHECK_EQ(weir_sem_acquire(&s, 6), -EINVAL);
    CHECK_EQ(weir_sem_acquire(&s, -1), -EINVAL);
    CHECK_EQ(weir_sem_acquire(&s, INT64_MAX), -EINVAL);
    CHECK_EQ(weir_sem_try_acquire(&s, 6), -EINVAL);
    CHECK_EQ(weir_sem_try_acquire(&s, -1), -EINVAL);
    CHECK_EQ(weir_sem_release(&s, 1), -EINVAL);
    CHECK_EQ(weir_sem_release(&s, -1), -EINVAL);
    CHECK_EQ(weir_sem_acquire(&s, 3), 0);
    CHECK_EQ(weir_sem_release(&s, 4), -EINVAL);
    CHECK_EQ(weir_sem_release(&s, INT64_MAX), -EINVAL);
    CHECK_EQ(weir_sem_try_acquire(&s, 3), -EAGAIN);
    CHECK_EQ(weir_sem_try_acquire(&s, 2), 0);
    CHECK_EQ(weir_sem_release(&s, 5), 0);
}

TEST(the_largest_amounts_do_not_overflow) {
    CHECK_EQ(weir_sem_init(&s, INT64_MAX), 0);
    CHECK_EQ(weir_sem_acquire(&s, INT64_MAX), 0);
    CHECK_EQ(weir_sem_try_acquire(&s, 1), -EAGAIN);
    CHECK_EQ(weir_sem_try_acquire(&s, INT64_MAX), -EAGAIN);
    CHECK_EQ(weir_sem_release(&s, INT64_MAX), 0);
    CHECK_EQ(weir_sem_release(&s, 1), -EINVAL);
}

TEST(nothing_is_always_to_be_had) {
    CHECK_EQ(weir_sem_init(&s, 0), 0);
    CHECK_EQ(weir_sem_acquire(&s, 0), 0);
    CHECK_EQ(weir_sem_try_acquire(&s, 0), 0);
    CHECK_EQ(weir_sem_release(&s, 0), 0);
    CHECK_EQ(weir_sem_acquire(&s, 1), -EINVAL);
    memset(&s, 0, sizeof s);
    CHECK_EQ(weir_sem_acquire(&s, 0), 0); /* zero bytes are a semaphore of nothing */
    CHECK_EQ(weir_sem_try_acquire(&s, 1), -EINVAL);
}

static int order[32];
static _Atomic int n_order;

static void acquire_and_note(int i, int64_t n) {
    CHECK_EQ(weir_sem_acquire(&s, n), 0);
    held += n;
    order[n_order++] = i;
    done++;
}

static void start_waiter(int i, int64_t n, size_t waiting) {
    GO(acquire_and_note, i, n);
    test_until_n_parked(waiting, "semacquire");
}

TEST(a_blocked_acquire_says_what_it_waits_for) {
    CHECK_EQ(weir_sem_init(&s, 1), 0);
    CHECK_EQ(weir_sem_acquire(&s, 1), 0);
    start_waiter(0, 1, 1);
    CHECK_EQ(waiting_on("semacquire", &s), 1);
    CHECK_EQ(weir_sem_release(&s, 1), 0);
    TEST_UNTIL(done == 1);
}

TEST(requests_are_served_in_the_order_of_coming) {
    CHECK_EQ(weir_sem_init(&s, 3), 0);
    CHECK_EQ(weir_sem_acquire(&s, 3), 0);
    for (int i = 0; i < 20; i++) start_waiter(i, 1 + i % 3, (size_t)i + 1);
    CHECK_EQ(weir_sem_release(&s, 3), 0);
    for (int i = 0; i < 20; i++) {
        TEST_UNTIL(done > i);
        CHECK_LE(held, 3);
        if (i % 3 == 2 || i == 19) { /* 1, 2 | 3 | 1, 2 | 3 … */
            bool seen[20] = { false };
            for (int k = 0; k <= i; k++) seen[order[k]] = true;
            for (int k = 0; k <= i; k++) CHECK(seen[k]);
        }
        held -= 1 + i % 3;
        CHECK_EQ(weir_sem_release(&s, 1 + i % 3), 0);
    }
}

TEST(a_large_request_is_not_starved_by_small_ones) {
    CHECK_EQ(weir_sem_init(&s, 10), 0);
    CHECK_EQ(weir_sem_acquire(&s, 5), 0);
    start_waiter(0, 8, 1);
    CHECK_EQ(weir_sem_try_acquire(&s, 1), -EAGAIN); /* 5 are free, but others were first */
    start_waiter(1, 1, 2);
    CHECK_EQ(weir_sem_release(&s, 1), 0);
    CHECK_EQ(weir_sem_release(&s, 1), 0);
    for (int i = 0; i < 100; i++) weir_yield();
    CHECK_EQ(test_parked("semacquire"), 2);
    CHECK_EQ(weir_sem_release(&s, 1), 0);
    TEST_UNTIL(done == 1);
    CHECK_EQ(order[0], 0);
    CHECK_EQ(test_parked("semacquire"), 1); /* none is left for the small one */
    CHECK_EQ(weir_sem_release(&s, 1), 0);
    TEST_UNTIL(done == 2);
}

TEST(one_release_serves_all_that_fit) {
    CHECK_EQ(weir_sem_init(&s, 10), 0);
    CHECK_EQ(weir_sem_acquire(&s, 10), 0);
    for (int i = 0; i < 12; i++) start_waiter(i, 1, (size_t)i + 1);
    CHECK_EQ(weir_sem_release(&s, 10), 0);
    TEST_UNTIL(done == 10);
    CHECK_EQ(test_parked("semacquire"), 2);
    CHECK_EQ(weir_sem_release(&s, 2), 0);
    TEST_UNTIL(done == 12);
}

/* ---- Cancelled requests -------------------------------------------------------------------------------- */

static void acquire_under(weir_ctx *ctx, int64_t n, int expected) {
    weir_with(ctx) {
        CHECK_EQ(weir_sem_acquire(&s, n), expected);
    }
    done++;
}

TEST(a_cancelled_request_takes_nothing) {
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    CHECK_EQ(weir_sem_init(&s, 4), 0);
    CHECK_EQ(weir_sem_acquire(&s, 1), 0);
    GO(acquire_under, ctx, (int64_t)4, -ECANCELED);
    test_until_n_parked(1, "semacquire");
    weir_ctx_cancel(ctx);
    TEST_UNTIL(done == 1);
    CHECK_EQ(weir_sem_try_acquire(&s, 3), 0);
    CHECK_EQ(weir_sem_release(&s, 4), 0);
    CHECK_EQ(weir_sem_release(&s, 1), -EINVAL);
    CHECK(!s.q_.head_ && !s.q_.tail_);
    weir_ctx_release(ctx);
}

TEST(a_cancelled_request_lets_those_behind_it_in) {
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    CHECK_EQ(weir_sem_init(&s, 4), 0);
    CHECK_EQ(weir_sem_acquire(&s, 1), 0);
    GO(acquire_under, ctx, (int64_t)4, -ECANCELED);
    test_until_n_parked(1, "semacquire");
    start_waiter(0, 1, 2);
    start_waiter(1, 2, 3);
    start_waiter(2, 1, 4);
    weir_ctx_cancel(ctx);
    TEST_UNTIL(done == 3); /* it, and those of 1 and 2 */
    CHECK_EQ(test_parked("semacquire"), 1);
    CHECK_EQ(weir_sem_release(&s, 1), 0);
    TEST_UNTIL(done == 4);
    weir_ctx_release(ctx);
}

/* On one processor the cancelled goroutine has not run yet when the units come: it must not be given any. */
TEST(a_release_passes_a_cancelled_request_by) {
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    weir_procs(1);
    CHECK_EQ(weir_sem_init(&s, 1), 0);
    CHECK_EQ(weir_sem_acquire(&s, 1), 0);
    GO(acquire_under, ctx, (int64_t)1, -ECANCELED);
    test_until_n_parked(1, "semacquire");
    start_waiter(0, 1, 2);
    weir_ctx_cancel(ctx);
    CHECK_EQ(weir_sem_release(&s, 1), 0);
    TEST_UNTIL(done == 2);
    CHECK_EQ(held, 1);
    CHECK_EQ(weir_sem_release(&s, 1), 0);
    CHECK_EQ(weir_sem_release(&s, 1), -EINVAL);
    weir_ctx_release(ctx);
}

TEST(one_cancelled_in_the_middle_leaves_the_order) {
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    CHECK_EQ(weir_sem_init(&s, 1), 0);
    CHECK_EQ(weir_sem_acquire(&s, 1), 0);
    start_waiter(0, 1, 1);
    GO(acquire_under, ctx, (int64_t)1, -ECANCELED);
    test_until_n_parked(2, "semacquire");
    start_waiter(1, 1, 3);
    weir_ctx_cancel(ctx);
    TEST_UNTIL(done == 1);
    CHECK_EQ(test_parked("semacquire"), 2);
    CHECK_EQ(weir_sem_release(&s, 1), 0);
    TEST_UNTIL(done == 2);
    CHECK_EQ(weir_sem_release(&s, 1), 0);
    TEST_UNTIL(done == 3);
    CHECK_EQ(order[0], 0);
    CHECK_EQ(order[1], 1);
    weir_ctx_release(ctx);
}

TEST(a_request_that_times_out_takes_nothing) {
    CHECK_EQ(weir_sem_init(&s, 1), 0);
    CHECK_EQ(weir_sem_acquire(&s, 1), 0);
    weir_timeout(5 * WEIR_MILLISECOND) {
        CHECK_EQ(weir_sem_acquire(&s, 1), -ETIMEDOUT);
        CHECK_EQ(weir_sem_acquire(&s, 1), -ETIMEDOUT); /* and again */
    }
    CHECK_EQ(weir_sem_release(&s, 1), 0);
    CHECK_EQ(weir_sem_try_acquire(&s, 1), 0);
}

TEST(a_request_that_need_not_block_is_not_refused) {
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    weir_ctx_cancel(ctx);
    CHECK_EQ(weir_sem_init(&s, 1), 0);
    weir_with(ctx) {
        CHECK_EQ(weir_sem_acquire(&s, 1), 0);
        CHECK_EQ(weir_sem_acquire(&s, 1), -ECANCELED);
    }
    weir_ctx_release(ctx);
}

static _Atomic int64_t acquired;

static void acquire_either_way(weir_ctx *ctx, int64_t n) {
    weir_with(ctx) {
        int e = weir_sem_acquire(&s, n);
        CHECK(e == 0 || e == -ECANCELED);
        if (e == 0) acquired += n;
    }
    done++;
}
static void cancel_it(weir_ctx *ctx) {
    weir_ctx_cancel(ctx);
    done++;
}

TEST(a_cancel_and_a_release_may_come_together) {
    long n = TEST_SCALE(3000);
    weir_procs(4);
    CHECK_EQ(weir_sem_init(&s, 2), 0);
    for (long i = 0; i < n; i++) {
        weir_ctx *ctx = weir_ctx_with_cancel(NULL);
        done = 0;
        acquired = 0;
        CHECK_EQ(weir_sem_acquire(&s, 2), 0);
        GO(acquire_either_way, ctx, (int64_t)2);
        TEST_UNTIL(__atomic_load_n(&s.q_.count_, __ATOMIC_RELAXED) == 1);
        GO(acquire_either_way, weir_ctx_background(), (int64_t)1);
        TEST_UNTIL(__atomic_load_n(&s.q_.count_, __ATOMIC_RELAXED) == 2);
        GO(cancel_it, ctx);
        if (i % 2) weir_yield();
        CHECK_EQ(weir_sem_release(&s, 2), 0);
        TEST_UNTIL(done >= 2);
        if (acquired >= 2) CHECK_EQ(weir_sem_release(&s, 2), 0);
        TEST_UNTIL(done == 3);
        int64_t got = acquired >= 2 ? acquired - 2 : acquired;
        CHECK_EQ(got, 1);
        CHECK_EQ(weir_sem_release(&s, 1), 0);
        CHECK_EQ(s.used_, 0);
        CHECK(!s.q_.head_);
        weir_ctx_release(ctx);
    }
}

/* ---- Under pressure ------------------------------------------------------------------------------------ */

static void use_some(int64_t n, long times) {
    for (long i = 0; i < times; i++) {
        if (i % 4 || weir_sem_try_acquire(&s, n)) CHECK_EQ(weir_sem_acquire(&s, n), 0);
        CHECK_LE(atomic_fetch_add(&held, n) + n, 7);
        if (i % 8 == 0) weir_yield();
        atomic_fetch_sub(&held, n);
        CHECK_EQ(weir_sem_release(&s, n), 0);
    }
    done++;
}

TEST(never_more_is_taken_than_there_is) {
    long times = TEST_SCALE(4000);
    weir_procs(4);
    CHECK_EQ(weir_sem_init(&s, 7), 0);
    for (int i = 0; i < 14; i++) GO(use_some, (int64_t)(1 + i % 7), times);
    TEST_UNTIL(done == 14);
    CHECK_EQ(s.used_, 0);
    CHECK(!s.q_.head_ && !s.q_.tail_);
}
