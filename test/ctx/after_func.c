/* weir_ctx_after_func. */
#include "test.h"

#include <stdatomic.h>

#include "ctx/ctx.h"

struct ran {
    _Atomic int times;
    uint64_t id;
    weir_ctx *under;
    int err;
    weir_unit_chan hold; /* nil: does not wait */
    weir_unit_chan done;
};

static void run(void *arg) {
    struct ran *r = arg;
    r->id = weir_id(), r->under = weir_ctx_current(), r->err = weir_ctx_err(NULL);
    if (weir_chan_of(r->hold)) CHECK_EQ(weir_recv(r->hold, NULL), 0);
    atomic_fetch_add(&r->times, 1);
    CHECK_EQ(weir_send(r->done, weir_unit_value), 0);
}

TEST(it_runs_once_in_a_goroutine_of_its_own_when_the_context_ends) {
    struct ran r = { .done = weir_make(weir_unit_chan, 0) };
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    weir_timer *t = weir_ctx_after_func(ctx, run, &r);
    CHECK(t);
    CHECK_EQ(weir_count(), 1); /* nothing runs yet */
    weir_ctx_cancel(ctx);
    weir_ctx_cancel(ctx);
    CHECK_EQ(weir_recv(r.done, NULL), 0);
    CHECK_NE(r.id, weir_id());
    CHECK(!weir_timer_stop(t));
    weir_timer_free(t);
    weir_ctx_release(ctx);
    TEST_UNTIL(weir_count() == 1);
    CHECK_EQ(atomic_load(&r.times), 1);
    weir_release(r.done);
}

TEST(it_runs_at_once_if_the_context_has_ended) {
    struct ran r = { .done = weir_make(weir_unit_chan, 0) };
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    weir_ctx_cancel(ctx);
    weir_timer *t = weir_ctx_after_func(ctx, run, &r);
    CHECK_EQ(weir_recv(r.done, NULL), 0);
    CHECK(!weir_timer_stop(t));
    weir_timer_free(t);
    weir_ctx_release(ctx);
    weir_release(r.done);
}

TEST(it_runs_under_the_background_context) {
    struct ran r = { .done = weir_make(weir_unit_chan, 0) };
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    weir_timer *t = weir_ctx_after_func(ctx, run, &r);
    weir_ctx_cancel(ctx);
    CHECK_EQ(weir_recv(r.done, NULL), 0); /* so its send was not refused */
    CHECK(r.under == weir_ctx_background());
    CHECK_EQ(r.err, 0);
    weir_timer_free(t);
    weir_ctx_release(ctx);
    weir_release(r.done);
}

TEST(it_runs_after_a_deadline) {
    struct ran r = { .done = weir_make(weir_unit_chan, 0) };
    weir_ctx *ctx = weir_ctx_with_timeout(NULL, 2 * WEIR_MILLISECOND);
    weir_timer *t = weir_ctx_after_func(ctx, run, &r);
    CHECK_EQ(weir_recv(r.done, NULL), 0);
    CHECK_EQ(weir_ctx_err(ctx), -ETIMEDOUT);
    weir_timer_free(t);
    weir_ctx_release(ctx);
    weir_release(r.done);
}

TEST(it_runs_when_an_ancestor_ends) {
    struct ran r = { .done = weir_make(weir_unit_chan, 0) };
    weir_ctx *root = weir_ctx_with_cancel(NULL), *child = weir_ctx_with_cancel(root);
    weir_ctx *value = weir_ctx_with_value(child, &r, NULL);
    weir_timer *t = weir_ctx_after_func(value, run, &r);
    weir_ctx_cancel(root);
    CHECK_EQ(weir_recv(r.done, NULL), 0);
    weir_timer_free(t);
    weir_ctx_release(value), weir_ctx_release(child), weir_ctx_release(root);
    weir_release(r.done);
}

TEST(a_stopped_one_never_runs) {
    struct ran r = { .done = weir_make(weir_unit_chan, 0) };
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    weir_timer *t = weir_ctx_after_func(ctx, run, &r);
    CHECK(weir_timer_stop(t));
    CHECK(!weir_timer_stop(t)); /* the second time there is nothing to stop */
    CHECK(wr_list_empty(&wr_ending_of(ctx)->watches));
    weir_ctx_cancel(ctx);
    CHECK_EQ(weir_count(), 1);
    CHECK(!weir_timer_stop(t));
    weir_timer_free(t);
    weir_ctx_release(ctx);
    CHECK_EQ(atomic_load(&r.times), 0);
    weir_release(r.done);
}

TEST(freeing_it_stops_it) {
    struct ran r = { .done = weir_make(weir_unit_chan, 0) };
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    weir_timer_free(weir_ctx_after_func(ctx, run, &r));
    weir_ctx_cancel(ctx);
    CHECK_EQ(weir_count(), 1);
    weir_ctx_release(ctx);
    weir_release(r.done);
}

TEST(it_may_be_freed_while_it_runs) {
    struct ran r = { .hold = weir_make(weir_unit_chan, 0), .done = weir_make(weir_unit_chan, 0) };
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    weir_timer *t = weir_ctx_after_func(ctx, run, &r);
    weir_ctx_cancel(ctx);
    test_until_n_parked(1, "chan receive");
    weir_timer_free(t);
    weir_ctx_release(ctx);
    CHECK_EQ(weir_send(r.hold, weir_unit_value), 0);
    CHECK_EQ(weir_recv(r.done, NULL), 0);
    CHECK_EQ(atomic_load(&r.times), 1);
    weir_release(r.hold), weir_release(r.done);
}

TEST(on_a_context_that_never_ends_it_can_be_stopped_once) {
    struct ran r = { .done = weir_make(weir_unit_chan, 0) };
    weir_timer *t = weir_ctx_after_func(weir_ctx_background(), run, &r);
    CHECK(weir_timer_stop(t));
    CHECK(!weir_timer_stop(t));
    weir_timer_free(t);
    CHECK_EQ(weir_count(), 1);
    weir_release(r.done);
}

TEST(it_cannot_be_waited_for_or_reset) {
    struct ran r = { .done = weir_make(weir_unit_chan, 0) };
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    weir_timer *t = weir_ctx_after_func(ctx, run, &r);
    CHECK_EQ(weir_timer_wait(t, NULL), -EINVAL);
    CHECK(!weir_timer_reset(t, WEIR_SECOND));
    CHECK(weir_timer_stop(t));
    weir_timer_free(t);
    weir_ctx_release(ctx);
    weir_release(r.done);
}

TEST(it_keeps_its_context_until_the_deadline_comes) {
    struct ran r = { .done = weir_make(weir_unit_chan, 0) };
    weir_ctx *ctx = weir_ctx_with_timeout(NULL, 2 * WEIR_MILLISECOND);
    weir_timer *t = weir_ctx_after_func(ctx, run, &r);
    weir_ctx_release(ctx);
    CHECK_EQ(weir_recv(r.done, NULL), 0);
    weir_timer_free(t);
    weir_release(r.done);
}

static void count(void *arg) { atomic_fetch_add((_Atomic int *)arg, 1); }

TEST(many_on_one_context_all_run) {
    enum { N = 500 };
    _Atomic int ran = 0;
    weir_timer *timers[N];
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    for (int i = 0; i < N; i++) timers[i] = weir_ctx_after_func(ctx, count, &ran);
    weir_ctx_cancel(ctx);
    TEST_UNTIL(weir_count() == 1);
    CHECK_EQ(atomic_load(&ran), N);
    for (int i = 0; i < N; i++) weir_timer_free(timers[i]);
    weir_ctx_release(ctx);
}

static void cancel_later(weir_ctx *ctx, weir_unit_chan go) {
    CHECK_EQ(weir_recv(go, NULL), 0);
    weir_ctx_cancel(ctx);
    weir_ctx_release(ctx);
}

/* stop says whether it kept fn from running: exactly one of the two happens. */
TEST(stop_and_the_end_race_and_exactly_one_wins) {
    weir_unit_chan go = weir_make(weir_unit_chan, 0);
    _Atomic int ran = 0;
    int stopped = 0, n = (int)TEST_SCALE(2000);
    for (int i = 0; i < n; i++) {
        weir_ctx *ctx = weir_ctx_with_cancel(NULL);
        weir_timer *t = weir_ctx_after_func(ctx, count, &ran);
        TEST_GO(cancel_later, weir_ctx_retain(ctx), go);
        CHECK_EQ(weir_send(go, weir_unit_value), 0);
        if (i % 2) weir_yield();
        stopped += weir_timer_stop(t);
        weir_timer_free(t);
        weir_ctx_release(ctx);
    }
    TEST_UNTIL(weir_count() == 1);
    CHECK_EQ(atomic_load(&ran) + stopped, n);
    weir_release(go);
}
