/* Contexts with a deadline: when they end, how, and what becomes of the timer. */
#include "test.h"

#include "ctx/ctx.h"

TEST(a_timeout_ends_the_context_and_not_before_its_time) {
    weir_time start = weir_now();
    weir_ctx *ctx = weir_ctx_with_timeout(NULL, 20 * WEIR_MILLISECOND);
    if (weir_ctx_err(ctx)) CHECK_GE(weir_now() - start, 20 * WEIR_MILLISECOND);
    CHECK_EQ(weir_recv(weir_ctx_done(ctx), NULL), -EPIPE);
    CHECK_GE(weir_now() - start, 20 * WEIR_MILLISECOND);
    CHECK_EQ(weir_ctx_err(ctx), -ETIMEDOUT);
    CHECK_EQ(weir_ctx_cause(ctx), -ETIMEDOUT);
    weir_ctx_release(ctx);
}

TEST(a_deadline_is_what_it_was_set_to) {
    weir_time when = weir_now() + WEIR_HOUR, got = 0;
    weir_ctx *ctx = weir_ctx_with_deadline(NULL, when);
    CHECK(weir_ctx_deadline(ctx, &got));
    CHECK_EQ(got, when);
    CHECK(weir_ctx_deadline(ctx, NULL));
    weir_ctx_release(ctx);
}

TEST(a_timeout_gives_a_deadline_that_far_away) {
    weir_time before = weir_now(), got = 0;
    weir_ctx *ctx = weir_ctx_with_timeout(NULL, WEIR_MINUTE);
    CHECK(weir_ctx_deadline(ctx, &got));
    CHECK_GE(got, before + WEIR_MINUTE);
    CHECK_LE(got, weir_now() + WEIR_MINUTE);
    weir_ctx_release(ctx);
}

TEST(a_context_without_a_deadline_says_so) {
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    weir_time got = 7;
    CHECK(!weir_ctx_deadline(ctx, &got));
    weir_ctx_release(ctx);
}

TEST(a_timeout_of_zero_or_less_has_ended_already) {
    const weir_duration spans[] = { 0, -1, -WEIR_HOUR, INT64_MIN };
    for (size_t i = 0; i < sizeof spans / sizeof spans[0]; i++) {
        weir_ctx *ctx = weir_ctx_with_timeout(NULL, spans[i]);
        CHECK_EQ(weir_ctx_err(ctx), -ETIMEDOUT);
        CHECK_EQ(weir_ctx_cause(ctx), -ETIMEDOUT);
        CHECK_EQ(weir_try_recv(weir_ctx_done(ctx), NULL), -EPIPE);
        weir_ctx_release(ctx);
    }
}

TEST(a_deadline_that_has_passed_has_ended_already) {
    const weir_time times[] = { weir_now() - 1, 0, -5, INT64_MIN };
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        weir_ctx *ctx = weir_ctx_with_deadline(NULL, times[i]);
        CHECK_EQ(weir_ctx_err(ctx), -ETIMEDOUT);
        weir_ctx_release(ctx);
    }
}

TEST(a_far_future_does_not_overflow) {
    weir_ctx *a = weir_ctx_with_timeout(NULL, INT64_MAX), *b = weir_ctx_with_deadline(NULL, INT64_MAX);
    weir_time when = 0;
    CHECK(weir_ctx_deadline(a, &when));
    CHECK_GE(when, weir_now() + 1000 * WEIR_HOUR);
    CHECK(weir_ctx_deadline(b, &when));
    CHECK_GE(when, weir_now() + 1000 * WEIR_HOUR);
    CHECK_EQ(weir_sleep(2 * WEIR_MILLISECOND), 0);
    CHECK_EQ(weir_ctx_err(a), 0);
    CHECK_EQ(weir_ctx_err(b), 0);
    weir_ctx_release(a), weir_ctx_release(b);
}

TEST(an_earlier_deadline_ends_the_child_alone) {
    weir_ctx *parent = weir_ctx_with_timeout(NULL, WEIR_HOUR), *child = weir_ctx_with_timeout(parent, WEIR_MILLISECOND);
    CHECK_EQ(weir_recv(weir_ctx_done(child), NULL), -EPIPE);
    CHECK_EQ(weir_ctx_err(child), -ETIMEDOUT);
    CHECK_EQ(weir_ctx_err(parent), 0);
    weir_ctx_release(child), weir_ctx_release(parent);
}

TEST(a_later_deadline_is_cut_to_the_parents) {
    weir_ctx *parent = weir_ctx_with_timeout(NULL, 10 * WEIR_MILLISECOND);
    weir_ctx *child = weir_ctx_with_timeout(parent, WEIR_HOUR);
    weir_time of_parent = 0, of_child = 0;
    CHECK(weir_ctx_deadline(parent, &of_parent));
    CHECK(weir_ctx_deadline(child, &of_child));
    CHECK_EQ(of_child, of_parent);
    CHECK(!wr_timer_armed(&wr_ending_of(child)->timer));
    CHECK_EQ(weir_recv(weir_ctx_done(child), NULL), -EPIPE);
    CHECK_EQ(weir_ctx_err(child), -ETIMEDOUT);
    CHECK_EQ(weir_ctx_cause(child), -ETIMEDOUT);
    weir_ctx_release(child), weir_ctx_release(parent);
}

TEST(children_and_values_have_the_parents_deadline) {
    weir_ctx *parent = weir_ctx_with_timeout(NULL, WEIR_HOUR), *value = weir_ctx_with_value(parent, &parent, NULL);
    weir_ctx *child = weir_ctx_with_cancel(value);
    weir_time a = 0, b = 1, c = 2;
    CHECK(weir_ctx_deadline(parent, &a) && weir_ctx_deadline(value, &b) && weir_ctx_deadline(child, &c));
    CHECK_EQ(a, b);
    CHECK_EQ(a, c);
    weir_ctx_release(child), weir_ctx_release(value), weir_ctx_release(parent);
}

TEST(a_cancel_before_the_deadline_wins_and_disarms_it) {
    weir_ctx *ctx = weir_ctx_with_timeout(NULL, WEIR_HOUR);
    CHECK(wr_timer_armed(&wr_ending_of(ctx)->timer));
    weir_ctx_cancel_cause(ctx, -EIO);
    CHECK_EQ(weir_ctx_err(ctx), -ECANCELED);
    CHECK_EQ(weir_ctx_cause(ctx), -EIO);
    CHECK(!wr_timer_armed(&wr_ending_of(ctx)->timer));
    weir_ctx_release(ctx);
}

TEST(a_cancel_after_the_deadline_changes_nothing) {
    weir_ctx *ctx = weir_ctx_with_timeout(NULL, WEIR_MILLISECOND);
    CHECK_EQ(weir_recv(weir_ctx_done(ctx), NULL), -EPIPE);
    weir_ctx_cancel_cause(ctx, -EIO);
    CHECK_EQ(weir_ctx_err(ctx), -ETIMEDOUT);
    CHECK_EQ(weir_ctx_cause(ctx), -ETIMEDOUT);
    weir_ctx_release(ctx);
}

TEST(the_last_release_disarms_the_timer) {
    weir_ctx *ctx = weir_ctx_with_timeout(NULL, WEIR_HOUR);
    struct wr_ending *e = wr_ending_of(ctx);
    atomic_fetch_add(&e->holds, 1); /* so that we can look at it afterwards */
    weir_ctx_release(ctx);
    CHECK(!wr_timer_armed(&e->timer));
    CHECK_EQ(atomic_load(&e->holds), 1);
    wr_ending_drop(e);
}

TEST(a_parent_without_other_users_still_times_its_child_out) {
    weir_ctx *parent = weir_ctx_with_timeout(NULL, 5 * WEIR_MILLISECOND), *child = weir_ctx_with_cancel(parent);
    weir_ctx_release(parent);
    CHECK_EQ(weir_recv(weir_ctx_done(child), NULL), -EPIPE);
    CHECK_EQ(weir_ctx_err(child), -ETIMEDOUT);
    weir_ctx_release(child);
}

TEST(an_ended_parent_is_told_apart_from_a_passed_deadline) {
    weir_ctx *parent = weir_ctx_with_cancel(NULL);
    weir_ctx_cancel_cause(parent, -EIO);
    weir_ctx *child = weir_ctx_with_timeout(parent, -1);
    CHECK_EQ(weir_ctx_err(child), -ECANCELED);
    CHECK_EQ(weir_ctx_cause(child), -EIO);
    weir_ctx_release(child), weir_ctx_release(parent);
}

/* Each deadline races with the release of its context: whoever loses must find nothing to hurt. */
TEST(releasing_at_the_very_deadline_is_safe) {
    int n = (int)TEST_SCALE(3000);
    for (int i = 0; i < n; i++) {
        weir_duration d = (i % 40) * 2 * WEIR_MICROSECOND;
        weir_ctx *ctx = weir_ctx_with_timeout(NULL, 40 * WEIR_MICROSECOND), *child = weir_ctx_with_cancel(ctx);
        for (weir_time until = weir_now() + d; weir_now() < until;) continue;
        weir_ctx_release(ctx);
        weir_ctx_release(child);
    }
    CHECK_EQ(weir_sleep(WEIR_MILLISECOND), 0);
}

TEST(cancelling_at_the_very_deadline_ends_it_one_way_or_the_other) {
    int n = (int)TEST_SCALE(3000);
    for (int i = 0; i < n; i++) {
        weir_ctx *ctx = weir_ctx_with_timeout(NULL, 40 * WEIR_MICROSECOND), *child = weir_ctx_with_cancel(ctx);
        for (weir_time until = weir_now() + (i % 40) * 2 * WEIR_MICROSECOND; weir_now() < until;) continue;
        weir_ctx_cancel_cause(ctx, -EIO);
        int err = weir_ctx_err(ctx), cause = weir_ctx_cause(ctx);
        CHECK((err == -ETIMEDOUT && cause == -ETIMEDOUT) || (err == -ECANCELED && cause == -EIO));
        CHECK_EQ(weir_ctx_err(child), err);
        CHECK_EQ(weir_ctx_cause(child), cause);
        weir_ctx_release(child), weir_ctx_release(ctx);
    }
}

TEST(a_thousand_deadlines_all_come) {
    enum { N = 1000 };
    static weir_ctx *all[N];
    for (int i = 0; i < N; i++) all[i] = weir_ctx_with_timeout(NULL, (i * 7 % 20) * WEIR_MILLISECOND);
    for (int i = 0; i < N; i++) {
        CHECK_EQ(weir_recv(weir_ctx_done(all[i]), NULL), -EPIPE);
        CHECK_EQ(weir_ctx_err(all[i]), -ETIMEDOUT);
        weir_ctx_release(all[i]);
    }
}

static weir_ctx *kept;
static int keep_one(void *arg) {
    (void)arg;
    kept = weir_ctx_with_timeout(NULL, WEIR_HOUR);
    return weir_ctx_err(kept);
}

PLAIN_TEST(a_context_may_be_released_after_the_runtime_has_stopped) {
    CHECK_EQ(weir_run(keep_one, NULL), 0);
    weir_ctx_cancel(kept);
    CHECK_EQ(weir_ctx_err(kept), -ECANCELED);
    weir_ctx_release(kept);
}
