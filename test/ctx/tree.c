/* The tree of contexts: how an end travels down, what stays linked, counts, causes, done channels. */
#include "test.h"

#include <stdlib.h>

#include "ctx/ctx.h"


TEST(a_context_lives_until_it_is_cancelled) {
    weir_ctx *ctx = weir_ctx_with_cancel(weir_ctx_background());
    CHECK_EQ(weir_ctx_err(ctx), 0);
    CHECK_EQ(weir_ctx_cause(ctx), 0);
    weir_ctx_cancel(ctx);
    CHECK_EQ(weir_ctx_err(ctx), -ECANCELED);
    CHECK_EQ(weir_ctx_cause(ctx), -ECANCELED);
    weir_ctx_release(ctx);
}

TEST(the_background_never_ends) {
    weir_ctx *bg = weir_ctx_background();
    weir_ctx_cancel(bg);
    CHECK_EQ(weir_ctx_err(bg), 0);
    CHECK_EQ(weir_ctx_cause(bg), 0);
    CHECK(!weir_ctx_deadline(bg, NULL));
    CHECK(!weir_chan_of(weir_ctx_done(bg)));
    for (int i = 0; i < 3; i++) weir_ctx_release(weir_ctx_background()); /* neither counted nor freed */
    CHECK(weir_ctx_retain(bg) == bg);
    CHECK(weir_ctx_current() == weir_ctx_background());
}

TEST(cancel_has_ended_the_whole_tree_when_it_returns) {
    enum { N = 1 + 3 + 9 + 27 + 81 };
    weir_ctx *all[N];
    all[0] = weir_ctx_with_cancel(NULL);
    for (int i = 1; i < N; i++) {
        weir_ctx *parent = all[(i - 1) / 3];
        all[i] = i % 3 == 0   ? weir_ctx_with_cancel(parent)
                 : i % 3 == 1 ? weir_ctx_with_timeout(parent, WEIR_HOUR)
                              : weir_ctx_with_value(parent, &all[i], NULL);
    }
    for (int i = 0; i < N; i++) CHECK_EQ(weir_ctx_err(all[i]), 0);
    weir_ctx_cancel(all[0]);
    for (int i = 0; i < N; i++) CHECK_EQ(weir_ctx_err(all[i]), -ECANCELED);
    for (int i = 0; i < N; i++) weir_ctx_release(all[i]);
}

TEST(a_child_ends_without_its_parent_or_siblings) {
    weir_ctx *parent = weir_ctx_with_cancel(NULL), *child = weir_ctx_with_cancel(parent);
    weir_ctx *sibling = weir_ctx_with_cancel(parent);
    weir_ctx_cancel(child);
    CHECK_EQ(weir_ctx_err(child), -ECANCELED);
    CHECK_EQ(weir_ctx_err(parent), 0);
    CHECK_EQ(weir_ctx_err(sibling), 0);
    weir_ctx_cancel(parent);
    CHECK_EQ(weir_ctx_err(sibling), -ECANCELED);
    weir_ctx_release(child), weir_ctx_release(sibling), weir_ctx_release(parent);
}

TEST(an_ended_child_leaves_its_parents_list) {
    weir_ctx *parent = weir_ctx_with_cancel(NULL), *child = weir_ctx_with_cancel(parent);
    CHECK(!wr_list_empty(&wr_ending_of(parent)->children));
    weir_ctx_cancel(child);
    CHECK(wr_list_empty(&wr_ending_of(parent)->children));
    weir_ctx_release(child), weir_ctx_release(parent);
}

TEST(a_child_whose_deadline_has_passed_leaves_its_parents_list) {
    weir_ctx *parent = weir_ctx_with_cancel(NULL), *child = weir_ctx_with_timeout(parent, WEIR_MILLISECOND);
    TEST_UNTIL(weir_ctx_err(child) != 0);
    weir_ctx_cancel(child); /* returns only once that end is through */
    CHECK(wr_list_empty(&wr_ending_of(parent)->children));
    weir_ctx_release(child), weir_ctx_release(parent);
}

/* A deadline may come before the new context is linked, when there is nothing to unlink yet. */
TEST(a_context_that_ended_before_it_was_linked_does_not_stay_linked) {
    weir_ctx *parent = weir_ctx_with_cancel(NULL), *child = weir_ctx_with_cancel(weir_ctx_background());
    weir_ctx_cancel(child);
    wr_ending_of(child)->above = wr_ending_of(parent);
    CHECK(wr_ending_attach(wr_ending_of(child), wr_ending_of(parent)));
    CHECK(wr_list_empty(&wr_ending_of(parent)->children));
    weir_ctx_release(child), weir_ctx_release(parent);
}

TEST(a_released_child_leaves_its_parents_list) {
    weir_ctx *parent = weir_ctx_with_cancel(NULL);
    weir_ctx_release(weir_ctx_with_cancel(parent));
    weir_ctx_release(weir_ctx_with_timeout(parent, WEIR_HOUR));
    weir_ctx *value = weir_ctx_with_value(parent, &parent, NULL), *below = weir_ctx_with_cancel(value);
    weir_ctx_release(value);
    CHECK(!wr_list_empty(&wr_ending_of(parent)->children));
    weir_ctx_release(below);
    CHECK(wr_list_empty(&wr_ending_of(parent)->children));
    CHECK_EQ(weir_ctx_err(parent), 0);
    weir_ctx_cancel(parent);
    weir_ctx_release(parent);
}

TEST(release_does_not_cancel) {
    weir_ctx *parent = weir_ctx_with_cancel(NULL), *child = weir_ctx_with_cancel(parent);
    weir_ctx_release(parent);
    CHECK_EQ(weir_ctx_err(child), 0);
    CHECK_EQ(weir_sleep(WEIR_MILLISECOND), 0);
    CHECK_EQ(weir_ctx_err(child), 0);
    weir_ctx_release(child);
}

TEST(a_parent_without_other_users_still_ends_its_child) {
    weir_ctx *root = weir_ctx_with_cancel(NULL), *middle = weir_ctx_with_cancel(root);
    weir_ctx *value = weir_ctx_with_value(middle, &root, NULL), *child = weir_ctx_with_cancel(value);
    weir_ctx_release(middle), weir_ctx_release(value);
    weir_ctx_cancel(root);
    CHECK_EQ(weir_ctx_err(child), -ECANCELED);
    weir_ctx_release(root), weir_ctx_release(child);
}

TEST(a_child_of_an_ended_parent_is_born_ended) {
    weir_ctx *parent = weir_ctx_with_cancel(NULL);
    weir_ctx_cancel_cause(parent, -EPIPE);
    weir_ctx *child = weir_ctx_with_cancel(parent), *timed = weir_ctx_with_timeout(child, WEIR_HOUR);
    weir_ctx *value = weir_ctx_with_value(timed, &parent, &child);
    CHECK_EQ(weir_ctx_err(child), -ECANCELED);
    CHECK_EQ(weir_ctx_cause(child), -EPIPE);
    CHECK_EQ(weir_ctx_err(timed), -ECANCELED);
    CHECK_EQ(weir_ctx_cause(timed), -EPIPE);
    CHECK_EQ(weir_ctx_err(value), -ECANCELED);
    CHECK(wr_list_empty(&wr_ending_of(parent)->children));
    CHECK(!wr_timer_armed(&wr_ending_of(timed)->timer));
    weir_ctx_release(value), weir_ctx_release(timed), weir_ctx_release(child), weir_ctx_release(parent);
}

TEST(the_first_end_counts) {
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    weir_ctx_cancel_cause(ctx, -EPIPE);
    weir_ctx_cancel_cause(ctx, -EIO);
    weir_ctx_cancel(ctx);
    CHECK_EQ(weir_ctx_err(ctx), -ECANCELED);
    CHECK_EQ(weir_ctx_cause(ctx), -EPIPE);
    weir_ctx_release(ctx);
}

TEST(a_cause_of_zero_means_cancelled) {
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    weir_ctx_cancel_cause(ctx, 0);
    CHECK_EQ(weir_ctx_cause(ctx), -ECANCELED);
    weir_ctx_release(ctx);
}

TEST(the_cause_goes_to_the_children_but_not_over_their_own) {
    weir_ctx *parent = weir_ctx_with_cancel(NULL);
    weir_ctx *early = weir_ctx_with_cancel(parent), *late = weir_ctx_with_cancel(parent);
    weir_ctx_cancel_cause(early, -ENOENT);
    weir_ctx_cancel_cause(parent, -EIO);
    CHECK_EQ(weir_ctx_cause(early), -ENOENT);
    CHECK_EQ(weir_ctx_cause(late), -EIO);
    CHECK_EQ(weir_ctx_err(late), -ECANCELED);
    weir_ctx_release(early), weir_ctx_release(late), weir_ctx_release(parent);
}

TEST(without_cancel_keeps_values_but_neither_end_nor_deadline) {
    int key;
    weir_ctx *root = weir_ctx_with_timeout(NULL, WEIR_HOUR), *value = weir_ctx_with_value(root, &key, &key);
    weir_ctx *free_one = weir_ctx_without_cancel(value), *below = weir_ctx_with_cancel(free_one);
    weir_ctx_cancel(root);
    CHECK_EQ(weir_ctx_err(value), -ECANCELED);
    CHECK_EQ(weir_ctx_err(free_one), 0);
    CHECK_EQ(weir_ctx_cause(free_one), 0);
    CHECK_EQ(weir_ctx_err(below), 0);
    CHECK(!weir_ctx_deadline(free_one, NULL));
    CHECK(!weir_ctx_deadline(below, NULL));
    CHECK(!weir_chan_of(weir_ctx_done(free_one)));
    CHECK(weir_ctx_value(below, &key) == &key);
    weir_ctx_cancel(free_one); /* has no end of its own */
    CHECK_EQ(weir_ctx_err(free_one), 0);
    weir_ctx_cancel(below);
    CHECK_EQ(weir_ctx_err(below), -ECANCELED);
    weir_ctx_release(below), weir_ctx_release(free_one), weir_ctx_release(value), weir_ctx_release(root);
}

TEST(cancelling_a_value_context_has_no_effect) {
    weir_ctx *root = weir_ctx_with_cancel(NULL), *value = weir_ctx_with_value(root, &root, NULL);
    weir_ctx_cancel_cause(value, -EIO);
    CHECK_EQ(weir_ctx_err(value), 0);
    CHECK_EQ(weir_ctx_err(root), 0);
    weir_ctx_release(value), weir_ctx_release(root);
}

TEST(null_means_the_current_context) {
    weir_ctx *ctx = weir_ctx_with_timeout(NULL, WEIR_HOUR), *child = NULL;
    weir_with(ctx) {
        weir_time when = 0;
        CHECK(weir_ctx_current() == ctx);
        CHECK(weir_ctx_deadline(NULL, &when));
        CHECK(weir_chan_of(weir_ctx_done(NULL)) == weir_chan_of(weir_ctx_done(ctx)));
        child = weir_ctx_with_cancel(NULL);
        weir_ctx_cancel(NULL);
        CHECK_EQ(weir_ctx_err(NULL), -ECANCELED);
        CHECK_EQ(weir_ctx_cause(NULL), -ECANCELED);
    }
    CHECK_EQ(weir_ctx_err(NULL), 0);
    CHECK_EQ(weir_ctx_err(ctx), -ECANCELED);
    CHECK_EQ(weir_ctx_err(child), -ECANCELED);
    weir_ctx_release(child), weir_ctx_release(ctx);
}

/* ---- The done channel ----------------------------------------------------------------------------- */

TEST(the_done_channel_is_closed_by_the_end) {
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    weir_done_chan done = weir_ctx_done(ctx);
    CHECK(weir_chan_of(done));
    CHECK(weir_chan_of(done) == weir_chan_of(weir_ctx_done(ctx)));
    CHECK_EQ(weir_try_recv(done, NULL), -EAGAIN);
    weir_ctx_cancel(ctx);
    CHECK_EQ(weir_recv(done, NULL), -EPIPE);
    CHECK_EQ(weir_recv(done, NULL), -EPIPE);
    weir_ctx_release(ctx);
}

TEST(the_done_channel_of_an_ended_context_is_closed) {
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    weir_ctx_cancel(ctx);
    CHECK_EQ(weir_try_recv(weir_ctx_done(ctx), NULL), -EPIPE);
    weir_ctx_release(ctx);
}

TEST(a_value_context_has_its_ancestors_done_channel) {
    weir_ctx *ctx = weir_ctx_with_cancel(NULL), *value = weir_ctx_with_value(ctx, &ctx, NULL);
    CHECK(weir_chan_of(weir_ctx_done(value)) == weir_chan_of(weir_ctx_done(ctx)));
    weir_ctx_release(value), weir_ctx_release(ctx);
}

static void wait_done(weir_ctx *ctx, weir_unit_chan out) {
    if (weir_recv(weir_ctx_done(ctx), NULL) != -EPIPE) FAIL("the done channel gave something else");
    CHECK_EQ(weir_ctx_err(ctx), -ECANCELED); /* the error is there before the channel closes */
    weir_ctx_release(ctx);
    CHECK_EQ(weir_send(out, weir_unit_value), 0);
}

TEST(the_end_wakes_everyone_at_the_done_channel) {
    weir_unit_chan out = weir_make(weir_unit_chan, 0);
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    for (int i = 0; i < 20; i++) TEST_GO(wait_done, weir_ctx_retain(ctx), out);
    test_until_n_parked(20, "chan receive");
    weir_ctx_cancel(ctx);
    for (int i = 0; i < 20; i++) CHECK_EQ(weir_recv(out, NULL), 0);
    weir_ctx_release(ctx);
    weir_release(out);
}

TEST(the_done_channel_of_a_child_closes_when_the_parent_ends) {
    weir_ctx *parent = weir_ctx_with_cancel(NULL), *child = weir_ctx_with_cancel(parent);
    weir_done_chan done = weir_ctx_done(child);
    weir_ctx_cancel(parent);
    CHECK_EQ(weir_try_recv(done, NULL), -EPIPE);
    weir_ctx_release(child), weir_ctx_release(parent);
}

/* ---- Size ------------------------------------------------------------------------------------------- */

static void build_and_cancel_chain(long n, weir_unit_chan out) {
    weir_ctx *root = weir_ctx_with_cancel(NULL), *last = weir_ctx_retain(root);
    for (long i = 1; i < n; i++) {
        weir_ctx *next = i % 3 == 2 ? weir_ctx_with_value(last, &n, NULL) : weir_ctx_with_cancel(last);
        weir_ctx_release(last);
        last = next;
    }
    weir_ctx_cancel(root);
    CHECK_EQ(weir_ctx_err(last), -ECANCELED);
    weir_ctx_release(root);
    weir_ctx_release(last); /* takes the whole chain along */
    CHECK_EQ(weir_send(out, weir_unit_value), 0);
}

TEST(a_chain_of_100000_contexts_ends_on_a_small_stack) {
    weir_unit_chan out = weir_make(weir_unit_chan, 0);
    CHECK_EQ(weir_go_stack(32 << 10, build_and_cancel_chain, 100000L, out), 0);
    CHECK_EQ(weir_recv(out, NULL), 0);
    weir_release(out);
}

static void release_chain(weir_unit_chan out) {
    weir_ctx *last = weir_ctx_with_cancel(NULL);
    for (int i = 1; i < 100000; i++) {
        weir_ctx *next = weir_ctx_with_cancel(last);
        weir_ctx_release(last);
        last = next;
    }
    weir_ctx_release(last);
    CHECK_EQ(weir_send(out, weir_unit_value), 0);
}

TEST(a_chain_of_100000_contexts_is_released_on_a_small_stack) {
    weir_unit_chan out = weir_make(weir_unit_chan, 0);
    CHECK_EQ(weir_go_stack(32 << 10, release_chain, out), 0);
    CHECK_EQ(weir_recv(out, NULL), 0);
    weir_release(out);
}

static int64_t cpu_time(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * WEIR_SECOND + t.tv_nsec;
}

/* What it costs this thread to cancel n children. (The goroutine does not park, so it stays on its thread.) */
static int64_t cost_of_children(int n) {
    weir_ctx **all = malloc((size_t)n * sizeof(weir_ctx *));
    CHECK(all);
    weir_ctx *root = weir_ctx_with_cancel(NULL);
    for (int i = 0; i < n; i++) all[i] = weir_ctx_with_cancel(root);
    int64_t before = cpu_time();
    weir_ctx_cancel(root);
    int64_t cost = cpu_time() - before;
    for (int i = 0; i < n; i++) {
        CHECK_EQ(weir_ctx_err(all[i]), -ECANCELED);
        weir_ctx_release(all[i]);
    }
    weir_ctx_release(root);
    free(all);
    return cost;
}

TEST(cancelling_200000_children_takes_linear_time) {
    int64_t few = INT64_MAX, many = INT64_MAX;
    for (int i = 0; i < 5; i++) {
        int64_t cost = cost_of_children(12500);
        if (cost < few) few = cost;
        cost = cost_of_children(200000);
        if (cost < many) many = cost;
    }
    /* 16 times the work; quadratic would be 256 times. Caches take their share. */
    if (many > 100 * few) FAIL("12500 children: %lld ns, 200000: %lld ns", (long long)few, (long long)many);
}
