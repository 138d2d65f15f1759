/* Waiting for a scope when the waiter is cancelled, from elsewhere, from several places; threads of one's own. */
#include "test.h"

#include <pthread.h>
#include <stdatomic.h>

typedef WEIR_CHAN(int) int_chan;

struct slow {
    _Atomic int cancelled, ended;
    weir_unit_chan until; /* it ends only when this lets it */
};
static int end_slowly(struct slow *c) {
    int e = weir_sleep(WEIR_HOUR);
    if (e < 0) atomic_fetch_add(&c->cancelled, 1);
    weir_shield(WEIR_HOUR) CHECK_EQ(weir_recv(c->until, NULL), 0);
    atomic_fetch_add(&c->ended, 1);
    return e;
}
static void wait_under(weir_ctx *ctx, struct slow *c, int_chan out) {
    int result = 1;
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, weir_ctx_background()), 0); /* not below the waiter's context */
    CHECK_EQ(weir_scope_go(&s, end_slowly, c), 0);
    weir_with(ctx) result = weir_scope_wait(&s);
    CHECK_EQ(atomic_load(&c->ended), 1);
    CHECK_EQ(weir_scope_close(&s), result);
    CHECK_EQ(weir_send(out, result), 0);
}

TEST(a_cancelled_waiter_cancels_the_scope_and_waits_on) {
    struct slow c = { .until = weir_make(weir_unit_chan, 0) };
    int_chan out = weir_make(int_chan, 0);
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    int result;
    TEST_GO(wait_under, ctx, &c, out);
    test_until_n_parked(1, "weir.Scope.Wait");
    test_until_n_parked(1, "sleep");
    weir_ctx_cancel_cause(ctx, -EIO);
    test_until_n_parked(1, "chan receive"); /* the child is cancelled, and cleans up … */
    CHECK_EQ(atomic_load(&c.cancelled), 1);
    test_until_n_parked(1, "weir.Scope.Wait"); /* … and is waited for */
    CHECK_EQ(atomic_load(&c.ended), 0);
    CHECK_EQ(weir_send(c.until, weir_unit_value), 0);
    CHECK_EQ(weir_recv(out, &result), 0);
    CHECK_EQ(result, -ECANCELED);
    weir_ctx_release(ctx);
    weir_release(c.until), weir_release(out);
}

TEST(a_waiter_whose_context_has_ended_before_cancels_the_scope_too) {
    struct slow c = { .until = weir_make(weir_unit_chan, 1) };
    int_chan out = weir_make(int_chan, 0);
    weir_ctx *ctx = weir_ctx_with_timeout(NULL, 0);
    int result;
    CHECK_EQ(weir_send(c.until, weir_unit_value), 0);
    TEST_GO(wait_under, ctx, &c, out);
    CHECK_EQ(weir_recv(out, &result), 0);
    CHECK_EQ(result, -ECANCELED); /* the child was cancelled, not timed out */
    weir_ctx_release(ctx);
    weir_release(c.until), weir_release(out);
}

TEST(a_wait_that_has_nothing_to_wait_for_cancels_nothing) {
    weir_ctx *ctx = weir_ctx_with_timeout(NULL, 0);
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, weir_ctx_background()), 0);
    weir_with(ctx) CHECK_EQ(weir_scope_wait(&s), 0);
    CHECK_EQ(weir_ctx_err(weir_scope_ctx(&s)), 0);
    CHECK_EQ(weir_scope_close(&s), 0);
    weir_ctx_release(ctx);
}

static void wait_too(weir_scope *s, weir_unit_chan out) {
    CHECK_EQ(weir_scope_wait(s), 0);
    CHECK_EQ(weir_send(out, weir_unit_value), 0);
}
static void hold(weir_unit_chan until) { CHECK_EQ(weir_recv(until, NULL), 0); }

TEST(several_may_wait_for_one_scope) {
    weir_unit_chan until = weir_make(weir_unit_chan, 0), out = weir_make(weir_unit_chan, 0);
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    CHECK_EQ(weir_scope_go(&s, hold, until), 0);
    for (int i = 0; i < 5; i++) TEST_GO(wait_too, &s, out);
    test_until_n_parked(5, "weir.Scope.Wait");
    CHECK_EQ(weir_send(until, weir_unit_value), 0);
    for (int i = 0; i < 5; i++) CHECK_EQ(weir_recv(out, NULL), 0);
    CHECK_EQ(weir_scope_close(&s), 0);
    weir_release(until), weir_release(out);
}

/* ---- Opened here, closed there ---------------------------------------------------------------------- */

static void close_it(weir_scope *s, int_chan out) { CHECK_EQ(weir_send(out, weir_scope_close(s)), 0); }
static int hang(void) { return weir_sleep(WEIR_HOUR); }

TEST(another_goroutine_may_close_a_scope) {
    int_chan out = weir_make(int_chan, 0);
    for (int i = 0; i < 10; i++) {
        static weir_scope s;
        int result;
        CHECK_EQ(weir_scope_open(&s, NULL), 0);
        CHECK_EQ(weir_scope_go(&s, hang), 0);
        test_until_n_parked(1, "sleep");
        TEST_GO(close_it, &s, out);
        CHECK_EQ(weir_recv(out, &result), 0);
        CHECK_EQ(result, -ECANCELED);
    }
    weir_release(out);
    TEST_UNTIL(weir_count() == 1);
}

TEST(scopes_may_be_closed_in_any_order) {
    weir_scope a, b, c;
    CHECK_EQ(weir_scope_open(&a, NULL), 0);
    CHECK_EQ(weir_scope_open(&b, NULL), 0);
    weir_timeout(WEIR_HOUR) {
        CHECK_EQ(weir_scope_open(&c, NULL), 0);
        CHECK_EQ(weir_scope_go(&a, hang), 0);
        CHECK_EQ(weir_scope_close(&a), -ECANCELED);
    }
    CHECK_EQ(weir_ctx_err(weir_scope_ctx(&c)), -ECANCELED); /* it was below the block's context */
    CHECK_EQ(weir_scope_close(&b), 0);
    CHECK_EQ(weir_scope_close(&c), 0);
}

/* ---- Threads ---------------------------------------------------------------------------------------- */

static void count_up(_Atomic int *n) {
    weir_yield();
    atomic_fetch_add(n, 1);
}
static void *scope_in_thread(void *arg) {
    int err = -1;
    for (int i = 0; i < 20; i++) {
        weir_scoped(s, &err) for (int k = 0; k < 10; k++) CHECK_EQ(weir_scope_go(&s, count_up, (_Atomic int *)arg), 0);
        CHECK_EQ(err, 0);
    }
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    CHECK_EQ(weir_scope_go(&s, hang), 0);
    CHECK_EQ(weir_scope_close(&s), -ECANCELED);
    return NULL;
}
TEST(a_thread_of_ones_own_may_open_a_scope) {
    enum { N = 3 };
    _Atomic int n = 0;
    pthread_t threads[N];
    for (int i = 0; i < N; i++) CHECK_EQ(pthread_create(&threads[i], NULL, scope_in_thread, &n), 0);
    for (int i = 0; i < N; i++) pthread_join(threads[i], NULL);
    CHECK_EQ(atomic_load(&n), N * 200);
}

static void *exit_in_thread(void *arg) {
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    CHECK_EQ(weir_scope_go(&s, hang), 0);
    atomic_store((_Atomic int *)arg, 1);
    weir_exit();
}
TEST(weir_exit_in_a_thread_closes_its_scope) {
    _Atomic int n = 0;
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, exit_in_thread, &n), 0);
    pthread_join(thread, NULL);
    CHECK_EQ(atomic_load(&n), 1);
    TEST_UNTIL(weir_count() == 1);
}

/* ---- Many ------------------------------------------------------------------------------------------- */

static int fail_now(int e) {
    if (e % 2) weir_yield();
    return e;
}
TEST(many_children_fail_at_once_and_one_result_comes_out) {
    int rounds = (int)TEST_SCALE(300);
    for (int round = 0; round < rounds; round++) {
        int err = 0;
        weir_scoped(s, &err) {
            for (int i = 1; i <= 8; i++)
                if (weir_scope_go(&s, fail_now, -i)) break;
        }
        CHECK(err < 0 && err >= -8);
    }
}

static void quick(void) {}
TEST(a_scope_may_go_the_moment_its_last_child_is_through) {
    int rounds = (int)TEST_SCALE(5000);
    for (int round = 0; round < rounds; round++) {
        weir_scope s;
        CHECK_EQ(weir_scope_open(&s, NULL), 0);
        CHECK_EQ(weir_scope_go(&s, quick), 0);
        CHECK_EQ(weir_scope_go(&s, quick), 0);
        CHECK_EQ(weir_scope_close(&s), 0);
        memset(&s, 0xaa, sizeof s);
    }
}
