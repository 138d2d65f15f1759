/* weir_scoped: the ways out of the block, and what has become of the children then. */
#include "test.h"

#include <stdatomic.h>

typedef WEIR_CHAN(int) int_chan;

/* Counts itself as alive; ends well when left alone, with -ECANCELED when cancelled while it sleeps. */
struct kids {
    _Atomic int alive, cancelled, finished;
};
static int work(struct kids *k) {
    atomic_fetch_add(&k->alive, 1);
    for (int i = 0; i < 10; i++) weir_yield();
    atomic_fetch_add(&k->finished, 1);
    atomic_fetch_sub(&k->alive, 1);
    return 0;
}
static int linger(struct kids *k) {
    atomic_fetch_add(&k->alive, 1);
    int e = weir_sleep(WEIR_HOUR);
    if (e == -ECANCELED) atomic_fetch_add(&k->cancelled, 1);
    for (int i = 0; i < 10; i++) weir_yield(); /* takes its time to clean up */
    atomic_fetch_sub(&k->alive, 1);
    return e;
}
static int give(int result) { return result; }

TEST(the_end_of_the_block_waits_for_the_children) {
    struct kids k = { 0, 0, 0 };
    int err = -1;
    weir_scoped(s, &err) {
        for (int i = 0; i < 20; i++) CHECK_EQ(weir_scope_go(&s, work, &k), 0);
    }
    CHECK_EQ(err, 0);
    CHECK_EQ(atomic_load(&k.finished), 20);
    CHECK_EQ(atomic_load(&k.cancelled), 0);
}

TEST(continue_reaches_the_end_of_the_block) {
    struct kids k = { 0, 0, 0 };
    int err = -1;
    weir_scoped(s, &err) {
        CHECK_EQ(weir_scope_go(&s, work, &k), 0);
        if (err) continue;
        FAIL("continue did not leave the block");
    }
    CHECK_EQ(err, 0);
    CHECK_EQ(atomic_load(&k.finished), 1);
}

TEST(the_block_runs_under_the_scopes_context_and_the_old_one_is_back_after) {
    weir_ctx *outer = weir_ctx_with_cancel(NULL);
    weir_with(outer) {
        weir_scoped(s) {
            CHECK(weir_ctx_current() == weir_scope_ctx(&s));
            CHECK(weir_ctx_current() != outer);
            weir_scope_cancel(&s);
            CHECK_EQ(weir_sleep(WEIR_HOUR), -ECANCELED);
        }
        CHECK(weir_ctx_current() == outer);
        CHECK_EQ(weir_ctx_err(NULL), 0);
    }
    weir_ctx_release(outer);
}

TEST(the_end_of_the_block_ends_the_scopes_context) {
    weir_ctx *own = NULL, *below = NULL;
    weir_scoped(s) {
        own = weir_ctx_retain(weir_scope_ctx(&s));
        below = weir_ctx_with_cancel(NULL);
    }
    CHECK_EQ(weir_ctx_err(own), -ECANCELED);
    CHECK_EQ(weir_ctx_err(below), -ECANCELED);
    weir_ctx_release(below), weir_ctx_release(own);
}

TEST(the_second_argument_gets_the_failure) {
    int err = 0;
    weir_scoped(s, &err) {
        CHECK_EQ(weir_scope_go(&s, give, -EIO), 0);
        CHECK_EQ(weir_sleep(WEIR_HOUR), -ECANCELED); /* the failure ends the block's own waits, too */
    }
    CHECK_EQ(err, -EIO);
}

static int leave_by(int how, struct kids *k, int *err) {
    weir_scoped(s, err) {
        for (int i = 0; i < 3; i++) CHECK_EQ(weir_scope_go(&s, linger, k), 0);
        test_until_n_parked(3, "sleep");
        if (how == 0) return weir_ctx_current() == weir_scope_ctx(&s) ? 42 : 0;
        if (how == 1) break;
        if (how == 2) goto out;
        FAIL("no such way out");
    }
    CHECK_EQ(how, 1);
    CHECK_EQ(atomic_load(&k->alive), 0);
    return 42;
out:
    CHECK_EQ(how, 2);
    CHECK_EQ(atomic_load(&k->alive), 0);
    return 42;
}

static void check_left(int how) {
    struct kids k = { 0, 0, 0 };
    int err = 0;
    CHECK_EQ(leave_by(how, &k, &err), 42);
    CHECK_EQ(atomic_load(&k.alive), 0);
    CHECK_EQ(atomic_load(&k.cancelled), 3);
    CHECK_EQ(err, -ECANCELED);
    CHECK(weir_ctx_current() == weir_ctx_background());
}
TEST(return_cancels_the_children_then_waits) { check_left(0); }
TEST(break_cancels_the_children_then_waits) { check_left(1); }
TEST(goto_cancels_the_children_then_waits) { check_left(2); }

static void exit_from_scope(struct kids *k, int *err) {
    weir_scoped(s, err) {
        weir_scoped(inner) {
            for (int i = 0; i < 3; i++) CHECK_EQ(weir_scope_go(&s, linger, k), 0);
            for (int i = 0; i < 3; i++) CHECK_EQ(weir_scope_go(&inner, linger, k), 0);
            test_until_n_parked(6, "sleep");
            weir_exit();
        }
    }
}
TEST(weir_exit_cancels_the_children_then_waits) {
    struct kids k = { 0, 0, 0 };
    static int err;
    weir_scope outer;
    CHECK_EQ(weir_scope_open(&outer, NULL), 0);
    CHECK_EQ(weir_scope_go(&outer, exit_from_scope, &k, &err), 0);
    CHECK_EQ(weir_scope_wait(&outer), 0);
    CHECK_EQ(atomic_load(&k.alive), 0);
    CHECK_EQ(atomic_load(&k.cancelled), 6);
    CHECK_EQ(err, -ECANCELED);
    CHECK_EQ(weir_scope_close(&outer), 0);
}

static weir_scope *deferred_sees;
static int deferred_result;
static void close_again(void *arg) {
    (void)arg;
    deferred_result = weir_scope_close(deferred_sees);
}
static void exit_with_open_scope(struct kids *k) {
    weir_scope s;
    deferred_sees = &s;
    weir_defer(close_again, NULL);
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    for (int i = 0; i < 3; i++) CHECK_EQ(weir_scope_go(&s, linger, k), 0);
    test_until_n_parked(3, "sleep");
    weir_exit();
}
TEST(weir_exit_closes_an_open_scope) {
    struct kids k = { 0, 0, 0 };
    TEST_GO(exit_with_open_scope, &k);
    TEST_UNTIL(weir_count() == 1);
    CHECK_EQ(atomic_load(&k.alive), 0);
    CHECK_EQ(atomic_load(&k.cancelled), 3);
    CHECK_EQ(deferred_result, -ECANCELED); /* closed by then, and harmless to close again */
}

static int fail_twice(struct kids *k) {
    int outer = 0, inner = 0;
    weir_scoped(a, &outer) {
        CHECK_EQ(weir_scope_go(&a, linger, k), 0);
        weir_scoped(b, &inner) {
            CHECK_EQ(weir_scope_go(&b, linger, k), 0);
            CHECK_EQ(weir_scope_go(&b, give, -EIO), 0);
        }
        CHECK_EQ(inner, -EIO);
        CHECK_EQ(weir_ctx_err(NULL), 0); /* the failure stays in the inner scope */
        test_until_n_parked(1, "sleep");
        weir_scope_cancel(&a);
    }
    CHECK_EQ(outer, -ECANCELED);
    return 0;
}
TEST(scopes_nest_and_a_failure_stays_inside) {
    struct kids k = { 0, 0, 0 };
    CHECK_EQ(fail_twice(&k), 0);
    CHECK_EQ(atomic_load(&k.cancelled), 2);
}

static int nested(struct kids *k, int depth) {
    int err = 0;
    if (depth == 0) return linger(k);
    weir_scoped(s, &err) {
        CHECK_EQ(weir_scope_go(&s, nested, k, depth - 1), 0);
        CHECK_EQ(weir_scope_go(&s, nested, k, depth - 1), 0);
    }
    return err;
}
TEST(a_cancel_reaches_scopes_within_scopes) {
    struct kids k = { 0, 0, 0 };
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    CHECK_EQ(weir_scope_go(&s, nested, &k, 5), 0);
    test_until_n_parked(32, "sleep");
    CHECK_EQ(weir_scope_close(&s), -ECANCELED);
    CHECK_EQ(atomic_load(&k.alive), 0);
    CHECK_EQ(atomic_load(&k.cancelled), 32);
}

TEST(a_scope_that_was_closed_in_its_block_is_left_like_any_other) {
    struct kids k = { 0, 0, 0 };
    int err = 0;
    weir_scoped(s, &err) {
        CHECK_EQ(weir_scope_go(&s, linger, &k), 0);
        test_until_n_parked(1, "sleep");
        CHECK_EQ(weir_scope_close(&s), -ECANCELED);
        CHECK_EQ(weir_scope_go(&s, work, &k), -EINVAL);
        CHECK_EQ(weir_sleep(WEIR_HOUR), -ECANCELED); /* its context is still the current one, and has ended */
    }
    CHECK_EQ(err, -ECANCELED);
    CHECK(weir_ctx_current() == weir_ctx_background());
}

TEST(a_wait_in_the_block_leaves_the_scope_usable) {
    struct kids k = { 0, 0, 0 };
    int err = -1;
    weir_scoped(s, &err) {
        CHECK_EQ(weir_scope_go(&s, work, &k), 0);
        CHECK_EQ(weir_scope_wait(&s), 0);
        CHECK_EQ(atomic_load(&k.finished), 1);
        CHECK_EQ(weir_scope_go(&s, work, &k), 0);
    }
    CHECK_EQ(err, 0);
    CHECK_EQ(atomic_load(&k.finished), 2);
}

static int sum_of(const int *v, int n, _Atomic long *sum) {
    if (n <= 4) {
        for (int i = 0; i < n; i++) atomic_fetch_add(sum, v[i]);
        return 0;
    }
    int err = 0;
    weir_scoped(s, &err) {
        CHECK_EQ(weir_scope_go(&s, sum_of, v, n / 2, sum), 0);
        CHECK_EQ(weir_scope_go(&s, sum_of, v + n / 2, n - n / 2, sum), 0);
    }
    return err;
}
TEST(divide_and_conquer_with_the_data_on_the_parents_stack) {
    int v[1000];
    _Atomic long sum = 0;
    for (int i = 0; i < 1000; i++) v[i] = i;
    CHECK_EQ(sum_of(v, 1000, &sum), 0);
    CHECK_EQ(atomic_load(&sum), 499500);
}

/* Every frame is reused by the next turn, so a child that outlived its scope would write into it. */
static void scribble(char *frame, size_t n) {
    weir_yield();
    memset(frame, 7, n);
}
static int use_frame(int turn) {
    char frame[256] = { 0 };
    weir_scoped(s) {
        CHECK_EQ(weir_scope_go(&s, scribble, frame, sizeof frame), 0);
        if (turn % 3 == 0) return 1;
        if (turn % 3 == 1) break;
    }
    for (size_t i = 0; i < sizeof frame; i++) CHECK_EQ(frame[i], 7);
    return 0;
}
TEST(no_child_touches_a_frame_that_has_been_left) {
    int turns = (int)TEST_SCALE(3000);
    for (int turn = 0; turn < turns; turn++) {
        use_frame(turn);
        char other[512] = { 0 };
        __asm__ volatile("" : : "r"(other) : "memory");
        for (size_t i = 0; i < sizeof other; i++) CHECK_EQ(other[i], 0);
    }
}
