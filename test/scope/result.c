/* What wait and close return, and what a failure does to the siblings. */
#include "test.h"

#include <stdatomic.h>

#include "ctx/ctx.h"

typedef WEIR_CHAN(int) int_chan;

static int give(int result) { return result; }
static void nothing(void) {}
static void add(_Atomic int *count, int n) { atomic_fetch_add(count, n); }

/* Sleeps until cancelled, and says how that went. */
static int hang(void) { return weir_sleep(WEIR_HOUR); }
static int hang_and_note(_Atomic int *cancelled) {
    int e = weir_sleep(WEIR_HOUR);
    if (e == -ECANCELED) atomic_fetch_add(cancelled, 1);
    return e;
}

TEST(wait_returns_when_every_child_has_ended) {
    _Atomic int sum = 0;
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    for (int i = 1; i <= 100; i++) CHECK_EQ(weir_scope_go(&s, add, &sum, i), 0);
    CHECK_EQ(weir_scope_wait(&s), 0);
    CHECK_EQ(atomic_load(&sum), 5050);
    CHECK_EQ(weir_scope_close(&s), 0);
}

TEST(an_empty_scope_does_not_wait) {
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    CHECK_EQ(weir_scope_wait(&s), 0);
    CHECK_EQ(weir_scope_close(&s), 0);
}

TEST(wait_returns_the_failure) {
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    CHECK_EQ(weir_scope_go(&s, give, 0), 0);
    CHECK_EQ(weir_scope_go(&s, give, -EIO), 0);
    CHECK_EQ(weir_scope_wait(&s), -EIO);
    CHECK_EQ(weir_scope_wait(&s), -EIO);
    CHECK_EQ(weir_scope_close(&s), -EIO);
}

TEST(a_positive_result_is_a_failure_too) {
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    CHECK_EQ(weir_scope_go(&s, give, 3), 0);
    CHECK_EQ(weir_scope_wait(&s), 3);
    CHECK_EQ(weir_ctx_err(weir_scope_ctx(&s)), -ECANCELED);
    CHECK_EQ(weir_ctx_cause(weir_scope_ctx(&s)), -ECANCELED);
    CHECK_EQ(weir_scope_close(&s), 3);
}

static void return_garbage_in_the_result_register(void) {
    static int (*volatile fn)(int) = give;
    fn(-EIO);
}
TEST(a_child_that_returns_void_never_fails) {
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    CHECK_EQ(weir_scope_go(&s, return_garbage_in_the_result_register), 0);
    CHECK_EQ(weir_scope_wait(&s), 0);
    CHECK_EQ(weir_ctx_err(weir_scope_ctx(&s)), 0);
    CHECK_EQ(weir_scope_close(&s), 0);
}

TEST(the_first_failure_cancels_the_others_and_wins) {
    _Atomic int cancelled = 0;
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    for (int i = 0; i < 10; i++) CHECK_EQ(weir_scope_go(&s, hang_and_note, &cancelled), 0);
    test_until_n_parked(10, "sleep");
    CHECK_EQ(weir_scope_go(&s, give, -EIO), 0);
    CHECK_EQ(weir_scope_wait(&s), -EIO);
    CHECK_EQ(atomic_load(&cancelled), 10);
    CHECK_EQ(weir_ctx_cause(weir_scope_ctx(&s)), -EIO);
    CHECK_EQ(weir_scope_close(&s), -EIO);
}

static int fail_after(weir_unit_chan go, int result, _Atomic int *left) {
    weir_shield(WEIR_HOUR) CHECK_EQ(weir_recv(go, NULL), 0);
    atomic_fetch_sub(left, 1);
    return result;
}
TEST(of_several_failures_the_first_in_time_is_returned) {
    weir_unit_chan a = weir_make(weir_unit_chan, 0), b = weir_make(weir_unit_chan, 0);
    _Atomic int left = 2;
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    CHECK_EQ(weir_scope_go(&s, fail_after, a, -EIO, &left), 0);
    CHECK_EQ(weir_scope_go(&s, fail_after, b, -EPIPE, &left), 0);
    CHECK_EQ(weir_send(b, weir_unit_value), 0);
    TEST_UNTIL(weir_ctx_err(weir_scope_ctx(&s)));
    CHECK_EQ(weir_send(a, weir_unit_value), 0);
    CHECK_EQ(weir_scope_wait(&s), -EPIPE);
    CHECK_EQ(atomic_load(&left), 0);
    CHECK_EQ(weir_scope_close(&s), -EPIPE);
    weir_release(a), weir_release(b);
}

TEST(under_supervision_a_failure_leaves_the_siblings_alone) {
    weir_unit_chan a = weir_make(weir_unit_chan, 0), b = weir_make(weir_unit_chan, 0);
    _Atomic int left = 2;
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    CHECK_EQ(weir_scope_supervise(&s), 0);
    CHECK_EQ(weir_scope_go(&s, fail_after, a, 0, &left), 0);
    CHECK_EQ(weir_scope_go(&s, fail_after, b, -EPIPE, &left), 0);
    CHECK_EQ(weir_send(b, weir_unit_value), 0);
    TEST_UNTIL(weir_count() == 2);
    CHECK_EQ(weir_ctx_err(weir_scope_ctx(&s)), 0);
    CHECK_EQ(weir_scope_go(&s, give, -EIO), 0); /* still open for more */
    CHECK_EQ(weir_send(a, weir_unit_value), 0);
    CHECK_EQ(weir_scope_wait(&s), -EPIPE);
    CHECK_EQ(weir_ctx_err(weir_scope_ctx(&s)), 0);
    CHECK_EQ(weir_scope_close(&s), -EPIPE);
    weir_release(a), weir_release(b);
}

TEST(cancel_reaches_every_child_and_does_not_wait) {
    _Atomic int cancelled = 0;
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    for (int i = 0; i < 5; i++) CHECK_EQ(weir_scope_go(&s, hang_and_note, &cancelled), 0);
    test_until_n_parked(5, "sleep");
    weir_scope_cancel(&s);
    weir_scope_cancel(&s);
    CHECK_EQ(weir_ctx_err(weir_scope_ctx(&s)), -ECANCELED);
    CHECK_EQ(weir_scope_wait(&s), -ECANCELED); /* what the children returned */
    CHECK_EQ(atomic_load(&cancelled), 5);
    CHECK_EQ(weir_scope_close(&s), -ECANCELED);
}

TEST(a_cancelled_scope_whose_children_end_well_has_not_failed) {
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    CHECK_EQ(weir_scope_go(&s, weir_yield), 0);
    weir_scope_cancel(&s);
    CHECK_EQ(weir_scope_wait(&s), 0);
    CHECK_EQ(weir_scope_close(&s), 0);
}

TEST(nothing_is_started_in_a_cancelled_scope) {
    _Atomic int ran = 0;
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    weir_scope_cancel(&s);
    CHECK_EQ(weir_scope_go(&s, add, &ran, 1), -ECANCELED);
    CHECK_EQ(weir_scope_try_go(&s, add, &ran, 1), -ECANCELED);
    CHECK_EQ(weir_scope_wait(&s), 0);
    CHECK_EQ(weir_scope_close(&s), 0);
    CHECK_EQ(weir_count(), 1);
    CHECK_EQ(atomic_load(&ran), 0);
}

TEST(a_scope_under_an_ended_context_starts_nothing) {
    weir_ctx *late = weir_ctx_with_timeout(NULL, 0);
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, late), 0);
    CHECK_EQ(weir_scope_go(&s, nothing), -ETIMEDOUT);
    CHECK_EQ(weir_scope_close(&s), 0);
    weir_ctx_release(late);
}

TEST(the_end_of_its_context_ends_the_scope) {
    weir_ctx *ctx = weir_ctx_with_timeout(NULL, WEIR_HOUR);
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, ctx), 0);
    CHECK_EQ(weir_scope_go(&s, hang), 0);
    wr_ctx_end(wr_ending_of(ctx), -ETIMEDOUT, -ETIMEDOUT); /* as its deadline would */
    CHECK_EQ(weir_scope_wait(&s), -ETIMEDOUT);
    CHECK_EQ(weir_scope_go(&s, nothing), -ETIMEDOUT);
    CHECK_EQ(weir_scope_close(&s), -ETIMEDOUT);
    weir_ctx_release(ctx);
}

static int look_at_context(weir_ctx *expected) { return weir_ctx_current() == expected ? 0 : -EINVAL; }
TEST(children_run_under_the_scopes_context) {
    static char key;
    weir_ctx *value = weir_ctx_with_value(NULL, &key, &key), *timed = weir_ctx_with_timeout(value, WEIR_HOUR);
    weir_scope s;
    weir_time when = 0;
    CHECK_EQ(weir_scope_open(&s, timed), 0);
    CHECK(weir_ctx_value(weir_scope_ctx(&s), &key) == &key);
    CHECK(weir_ctx_deadline(weir_scope_ctx(&s), &when));
    CHECK_EQ(weir_scope_go(&s, look_at_context, weir_scope_ctx(&s)), 0);
    CHECK_EQ(weir_scope_wait(&s), 0);
    CHECK(weir_ctx_current() == weir_ctx_background()); /* open leaves the opener's alone */
    CHECK_EQ(weir_scope_close(&s), 0);
    weir_ctx_release(timed), weir_ctx_release(value);
}

TEST(a_scope_may_be_used_again_after_wait) {
    _Atomic int sum = 0;
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    for (int round = 1; round <= 50; round++) {
        for (int i = 0; i < 4; i++) CHECK_EQ(weir_scope_go(&s, add, &sum, 1), 0);
        CHECK_EQ(weir_scope_wait(&s), 0);
        CHECK_EQ(atomic_load(&sum), 4 * round);
    }
    CHECK_EQ(weir_scope_close(&s), 0);
}

TEST(close_cancels_waits_and_may_be_called_again) {
    _Atomic int cancelled = 0;
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    for (int i = 0; i < 5; i++) CHECK_EQ(weir_scope_go(&s, hang_and_note, &cancelled), 0);
    test_until_n_parked(5, "sleep");
    CHECK_EQ(weir_scope_close(&s), -ECANCELED);
    CHECK_EQ(atomic_load(&cancelled), 5);
    CHECK_EQ(weir_scope_close(&s), -ECANCELED);
    CHECK_EQ(weir_scope_close(&s), -ECANCELED);
}

TEST(a_closed_scope_refuses_everything) {
    weir_scope s, never = { .in_ = NULL };
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    CHECK_EQ(weir_scope_close(&s), 0);
    CHECK_EQ(weir_scope_go(&s, nothing), -EINVAL);
    CHECK_EQ(weir_scope_try_go(&s, nothing), -EINVAL);
    CHECK_EQ(weir_scope_limit(&s, 1), -EINVAL);
    CHECK_EQ(weir_scope_supervise(&s), -EINVAL);
    CHECK_EQ(weir_scope_wait(&s), -EINVAL);
    weir_scope_cancel(&s);
    CHECK_EQ(weir_scope_wait(&never), -EINVAL);
    CHECK_EQ(weir_scope_close(&never), 0);
}

TEST(a_closed_scope_may_be_opened_again) {
    _Atomic int sum = 0;
    weir_scope s;
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(weir_scope_open(&s, NULL), 0);
        CHECK_EQ(weir_scope_go(&s, add, &sum, 1), 0);
        CHECK_EQ(weir_scope_wait(&s), 0);
        CHECK_EQ(weir_scope_close(&s), 0);
    }
    CHECK_EQ(atomic_load(&sum), 3);
}

TEST(closing_ends_what_was_made_below_the_scopes_context) {
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    weir_ctx *below = weir_ctx_with_cancel(weir_scope_ctx(&s));
    CHECK_EQ(weir_scope_wait(&s), 0);
    CHECK_EQ(weir_ctx_err(below), 0);
    CHECK_EQ(weir_scope_close(&s), 0);
    CHECK_EQ(weir_ctx_err(below), -ECANCELED);
    weir_ctx_release(below);
}

static int exit_early(_Atomic int *count) {
    weir_defer((void (*)(void *))(void *)nothing, NULL);
    atomic_fetch_add(count, 1);
    weir_exit();
    return -EIO;
}
TEST(a_child_that_ends_by_weir_exit_has_not_failed) {
    _Atomic int count = 0;
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    for (int i = 0; i < 5; i++) CHECK_EQ(weir_scope_go(&s, exit_early, &count), 0);
    CHECK_EQ(weir_scope_wait(&s), 0);
    CHECK_EQ(atomic_load(&count), 5);
    CHECK_EQ(weir_scope_close(&s), 0);
}

static void note_late(void *arg) {
    weir_yield();
    atomic_store((_Atomic int *)arg, 1);
}
static void defer_something(_Atomic int *flag) { weir_defer(note_late, flag); }
TEST(what_a_child_has_deferred_is_done_before_wait_returns) {
    for (int i = 0; i < 100; i++) {
        _Atomic int flag = 0;
        weir_scope s;
        CHECK_EQ(weir_scope_open(&s, NULL), 0);
        CHECK_EQ(weir_scope_go(&s, defer_something, &flag), 0);
        CHECK_EQ(weir_scope_wait(&s), 0);
        CHECK_EQ(atomic_load(&flag), 1);
        CHECK_EQ(weir_scope_close(&s), 0);
    }
}

static int six(int a, double b, const char *c, long d, float e, char f) {
    return a == 1 && b == 2.5 && strcmp(c, "three") == 0 && d == 4 && e == 5.5f && f == 'f' ? 0 : -EINVAL;
}
static void hold(weir_unit_chan until) { CHECK_EQ(weir_recv(until, NULL), 0); }
static void let_go_when_one_waits(weir_unit_chan until) {
    test_until_n_parked(1, "weir.Scope.Go");
    CHECK_EQ(weir_send(until, weir_unit_value), 0);
}
TEST(arguments_arrive_also_when_the_start_had_to_wait) {
    weir_unit_chan until = weir_make(weir_unit_chan, 0);
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    CHECK_EQ(weir_scope_go(&s, six, 1, 2.5, "three", 4, 5.5f, 'f'), 0);
    CHECK_EQ(weir_scope_wait(&s), 0);
    CHECK_EQ(weir_scope_limit(&s, 1), 0);
    CHECK_EQ(weir_scope_go(&s, hold, until), 0);
    TEST_GO(let_go_when_one_waits, until);
    CHECK_EQ(weir_scope_go(&s, six, 1, 2.5, "three", 4, 5.5f, 'f'), 0);
    CHECK_EQ(weir_scope_close(&s), 0);
    weir_release(until);
}

static void start_sibling(weir_scope *s, _Atomic int *count, int depth) {
    atomic_fetch_add(count, 1);
    if (depth > 0) {
        CHECK_EQ(weir_scope_go(s, start_sibling, s, count, depth - 1), 0);
        CHECK_EQ(weir_scope_go(s, start_sibling, s, count, depth - 1), 0);
    }
}
TEST(children_may_start_siblings_and_all_are_waited_for) {
    _Atomic int count = 0;
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    CHECK_EQ(weir_scope_go(&s, start_sibling, &s, &count, 8), 0);
    CHECK_EQ(weir_scope_wait(&s), 0);
    CHECK_EQ(atomic_load(&count), (1 << 9) - 1);
    CHECK_EQ(weir_scope_close(&s), 0);
}

static int start_when_cancelled(weir_scope *s, _Atomic int *count) {
    CHECK_EQ(weir_sleep(WEIR_HOUR), -ECANCELED);
    CHECK_EQ(weir_scope_go(s, start_sibling, s, count, 0), -ECANCELED);
    return 0;
}
TEST(children_of_a_cancelled_scope_start_no_siblings) {
    _Atomic int count = 0;
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    CHECK_EQ(weir_scope_go(&s, start_when_cancelled, &s, &count), 0);
    CHECK_EQ(weir_scope_close(&s), 0);
    CHECK_EQ(atomic_load(&count), 0);
}
