/* Conditions: who is woken, in which order, and what a cancelled wait leaves behind. */
#include "sync_test.h"

static weir_mutex m;
static weir_rwmutex rw;
static weir_cond c;
static _Atomic int done;
static int order[64];
static int n_order; /* guarded by m */

static void wait_and_note(int i) {
    CHECK_EQ(weir_mutex_lock(&m), 0);
    CHECK_EQ(weir_cond_wait(&c, &m), 0);
    order[n_order++] = i;
    CHECK_EQ(weir_mutex_unlock(&m), 0);
    done++;
}

static void start_waiters(int n) {
    for (int i = 0; i < n; i++) {
        GO(wait_and_note, i);
        test_until_n_parked((size_t)i + 1, "sync.Cond.Wait");
    }
}

TEST(a_signal_wakes_one_in_the_order_of_waiting) {
    start_waiters(10);
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(test_parked("sync.Cond.Wait"), 10 - (size_t)i);
        CHECK_EQ(weir_cond_signal(&c), 0);
        TEST_UNTIL(done == i + 1);
        CHECK_EQ(order[i], i);
    }
}

TEST(signals_in_a_row_wake_as_many) {
    start_waiters(10);
    CHECK_EQ(weir_mutex_lock(&m), 0);
    for (int i = 0; i < 7; i++) CHECK_EQ(weir_cond_signal(&c), 0);
    CHECK_EQ(weir_mutex_unlock(&m), 0);
    TEST_UNTIL(done == 7);
    CHECK_EQ(test_parked("sync.Cond.Wait"), 3);
    bool seen[10] = { false };
    for (int i = 0; i < 7; i++) seen[order[i]] = true;
    for (int i = 0; i < 7; i++) CHECK(seen[i]);
    CHECK_EQ(weir_cond_broadcast(&c), 0);
    TEST_UNTIL(done == 10);
}

TEST(a_broadcast_wakes_all_who_wait_and_nobody_later) {
    start_waiters(20);
    CHECK_EQ(weir_cond_broadcast(&c), 0);
    TEST_UNTIL(done == 20);
    GO(wait_and_note, 20);
    test_until_n_parked(1, "sync.Cond.Wait");
    for (int i = 0; i < 100; i++) weir_yield();
    CHECK_EQ(test_parked("sync.Cond.Wait"), 1);
    CHECK_EQ(weir_cond_broadcast(&c), 0);
    TEST_UNTIL(done == 21);
}

TEST(a_signal_that_nobody_waits_for_is_not_kept) {
    CHECK_EQ(weir_cond_signal(&c), 0);
    CHECK_EQ(weir_cond_broadcast(&c), 0);
    CHECK_EQ(weir_mutex_lock(&m), 0);
    weir_timeout(10 * WEIR_MILLISECOND) {
        CHECK_EQ(weir_cond_wait(&c, &m), -ETIMEDOUT);
    }
    CHECK_EQ(weir_mutex_unlock(&m), 0);
}

TEST(a_wait_says_what_it_waits_for) {
    start_waiters(1);
    CHECK_EQ(waiting_on("sync.Cond.Wait", &c), 1);
    CHECK_EQ(weir_cond_signal(&c), 0);
    TEST_UNTIL(done == 1);
}

TEST(a_wait_lets_go_of_the_mutex_and_has_it_again) {
    start_waiters(1);
    CHECK_EQ(weir_mutex_try_lock(&m), 0); /* it let go */
    CHECK_EQ(weir_cond_signal(&c), 0);
    test_until_n_parked(1, "sync.Mutex.Lock"); /* it is woken, and wants it back first */
    CHECK_EQ(done, 0);
    CHECK_EQ(weir_mutex_unlock(&m), 0);
    TEST_UNTIL(done == 1);
}

TEST(waiting_without_the_lock_is_refused) {
    CHECK_EQ(weir_cond_wait(&c, &m), -EPERM);
    CHECK_EQ(weir_cond_wait_rw(&c, &rw), -EPERM);
    CHECK_EQ(weir_rwmutex_rlock(&rw), 0);
    CHECK_EQ(weir_cond_wait_rw(&c, &rw), -EPERM); /* a reader's is not enough */
    CHECK_EQ(weir_rwmutex_runlock(&rw), 0);
    CHECK_EQ(c.q_.count_, 0);
}

static void wait_rw_and_note(void) {
    CHECK_EQ(weir_rwmutex_lock(&rw), 0);
    CHECK_EQ(weir_cond_wait_rw(&c, &rw), 0);
    CHECK_EQ(weir_rwmutex_try_rlock(&rw), -EAGAIN);
    CHECK_EQ(weir_rwmutex_unlock(&rw), 0);
    done++;
}

TEST(a_condition_works_with_a_write_locked_rwmutex) {
    GO(wait_rw_and_note);
    test_until_n_parked(1, "sync.Cond.Wait");
    CHECK_EQ(weir_rwmutex_rlock(&rw), 0);
    CHECK_EQ(weir_cond_signal(&c), 0);
    test_until_n_parked(1, "sync.RWMutex.Lock");
    CHECK_EQ(weir_rwmutex_runlock(&rw), 0);
    TEST_UNTIL(done == 1);
}

/* ---- Cancelled waits ---------------------------------------------------------------------------------- */

static void wait_under(weir_ctx *ctx, int expected) {
    weir_with(ctx) {
        CHECK_EQ(weir_mutex_lock(&m), 0);
        CHECK_EQ(weir_cond_wait(&c, &m), expected);
        CHECK_EQ(weir_mutex_try_lock(&m), -EAGAIN);
        n_order++; /* a race, did it not hold the mutex */
        CHECK_EQ(weir_mutex_unlock(&m), 0);
    }
    done++;
}

TEST(a_cancelled_wait_holds_the_mutex_again) {
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    GO(wait_under, ctx, -ECANCELED);
    test_until_n_parked(1, "sync.Cond.Wait");
    CHECK_EQ(weir_mutex_lock(&m), 0);
    weir_ctx_cancel(ctx);
    test_until_n_parked(1, "sync.Mutex.Lock");
    CHECK_EQ(c.q_.count_, 0);
    CHECK_EQ(weir_mutex_unlock(&m), 0);
    TEST_UNTIL(done == 1);
    weir_ctx_release(ctx);
}

TEST(a_wait_under_a_cancelled_context_does_not_begin) {
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    weir_ctx_cancel(ctx);
    weir_with(ctx) {
        CHECK_EQ(weir_mutex_lock(&m), 0);
        for (int i = 0; i < 3; i++) CHECK_EQ(weir_cond_wait(&c, &m), -ECANCELED);
        CHECK_EQ(weir_mutex_unlock(&m), 0);
        CHECK_EQ(weir_rwmutex_lock(&rw), 0);
        CHECK_EQ(weir_cond_wait_rw(&c, &rw), -ECANCELED);
        CHECK_EQ(weir_rwmutex_unlock(&rw), 0);
    }
    CHECK_EQ(c.q_.count_, 0);
    weir_ctx_release(ctx);
}

/* On one processor the cancelled goroutine has not run yet when the signal comes. */
TEST(a_signal_after_the_cancel_goes_to_the_next_waiter) {
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    weir_procs(1);
    GO(wait_under, ctx, -ECANCELED);
    test_until_n_parked(1, "sync.Cond.Wait");
    GO(wait_under, weir_ctx_background(), 0);
    test_until_n_parked(2, "sync.Cond.Wait");
    weir_ctx_cancel(ctx);
    CHECK_EQ(weir_cond_signal(&c), 0);
    TEST_UNTIL(done == 2);
    weir_ctx_release(ctx);
}

TEST(a_signal_before_the_cancel_counts) {
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    GO(wait_under, ctx, 0);
    test_until_n_parked(1, "sync.Cond.Wait");
    CHECK_EQ(weir_mutex_lock(&m), 0);
    CHECK_EQ(weir_cond_signal(&c), 0);
    weir_ctx_cancel(ctx);
    CHECK_EQ(weir_mutex_unlock(&m), 0);
    TEST_UNTIL(done == 1);
    weir_ctx_release(ctx);
}

static _Atomic int woken;

static void wait_either_way(weir_ctx *ctx) {
    weir_with(ctx) {
        CHECK_EQ(weir_mutex_lock(&m), 0);
        int e = weir_cond_wait(&c, &m);
        CHECK(e == 0 || e == -ECANCELED);
        if (e == 0) woken++;
        CHECK_EQ(weir_mutex_unlock(&m), 0);
    }
    done++;
}

static void cancel_it(weir_ctx *ctx) {
    weir_ctx_cancel(ctx);
    done++;
}

/* One signal for two, the first of which is being cancelled: it wakes exactly one, whoever wins. */
TEST(a_cancel_never_swallows_a_signal) {
    long n = TEST_SCALE(2000);
    weir_procs(4);
    for (long i = 0; i < n; i++) {
        weir_ctx *first = weir_ctx_with_cancel(NULL), *second = weir_ctx_with_cancel(NULL);
        done = woken = 0;
        GO(wait_either_way, first);
        TEST_UNTIL(__atomic_load_n(&c.q_.count_, __ATOMIC_RELAXED) == 1);
        GO(wait_either_way, second);
        TEST_UNTIL(__atomic_load_n(&c.q_.count_, __ATOMIC_RELAXED) == 2);
        GO(cancel_it, first);
        if (i % 2) weir_yield();
        CHECK_EQ(weir_cond_signal(&c), 0);
        TEST_UNTIL(woken == 1);
        weir_ctx_cancel(second);
        TEST_UNTIL(done == 3);
        CHECK_EQ(woken, 1);
        CHECK_EQ(c.q_.count_, 0);
        weir_ctx_release(first);
        weir_ctx_release(second);
    }
}

TEST(one_of_many_cancelled_leaves_the_order_of_the_others) {
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    GO(wait_and_note, 0);
    test_until_n_parked(1, "sync.Cond.Wait");
    GO(wait_under, ctx, -ECANCELED);
    test_until_n_parked(2, "sync.Cond.Wait");
    GO(wait_and_note, 1);
    test_until_n_parked(3, "sync.Cond.Wait");
    weir_ctx_cancel(ctx);
    TEST_UNTIL(done == 1);
    n_order = 0;
    CHECK_EQ(weir_cond_signal(&c), 0);
    TEST_UNTIL(done == 2);
    CHECK_EQ(weir_cond_signal(&c), 0);
    TEST_UNTIL(done == 3);
    CHECK_EQ(order[0], 0);
    CHECK_EQ(order[1], 1);
    weir_ctx_release(ctx);
}

/* ---- Under pressure ------------------------------------------------------------------------------------ */

static weir_cond not_full, not_empty;
static long buffer[4];
static unsigned head, fill; /* guarded by m */
static _Atomic long sum;

static void put_numbers(long from, long n) {
    for (long i = from; i < from + n; i++) {
        CHECK_EQ(weir_mutex_lock(&m), 0);
        while (fill == 4) CHECK_EQ(weir_cond_wait(&not_full, &m), 0);
        buffer[(head + fill++) % 4] = i;
        CHECK_EQ(weir_cond_signal(&not_empty), 0);
        CHECK_EQ(weir_mutex_unlock(&m), 0);
    }
    done++;
}

static void get_numbers(long n) {
    for (long i = 0; i < n; i++) {
        CHECK_EQ(weir_mutex_lock(&m), 0);
        while (fill == 0) CHECK_EQ(weir_cond_wait(&not_empty, &m), 0);
        long value = buffer[head];
        head = (head + 1) % 4, fill--;
        CHECK_EQ(weir_mutex_unlock(&m), 0);
        CHECK_EQ(weir_cond_signal(&not_full), 0); /* without the mutex is fine as well */
        sum += value;
    }
    done++;
}

TEST(a_bounded_buffer_loses_nothing) {
    long n = TEST_SCALE(10000);
    weir_procs(4);
    for (int i = 0; i < 4; i++) {
        GO(put_numbers, i * n, n);
        GO(get_numbers, n);
    }
    TEST_UNTIL(done == 8);
    CHECK_EQ(sum, 4 * n * (4 * n - 1) / 2);
}

static long turn; /* guarded by m */

static void wait_for_turn(long i, long n, long rounds) {
    CHECK_EQ(weir_mutex_lock(&m), 0);
    for (long r = 0; r < rounds; r++) {
        while (turn % n != i) CHECK_EQ(weir_cond_wait(&c, &m), 0);
        turn++;
        CHECK_EQ(weir_cond_broadcast(&c), 0);
    }
    CHECK_EQ(weir_mutex_unlock(&m), 0);
    done++;
}

TEST(broadcasts_carry_a_turn_around) {
    long rounds = TEST_SCALE(1000);
    for (long i = 0; i < 5; i++) GO(wait_for_turn, i, 5L, rounds);
    TEST_UNTIL(done == 5);
    CHECK_EQ(turn, 5 * rounds);
}
