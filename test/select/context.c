/* Contexts and select: done arms, the current context, and that a cancelled select has had no effect. */
#include "test.h"

#include <stdatomic.h>
#include <stdlib.h>

typedef WEIR_CHAN(int) int_chan;
static const int_chan nil;

static weir_ctx *cancelled(void) {
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    weir_ctx_cancel(ctx);
    return ctx;
}

/* ---- Done arms ----------------------------------------------------------------------------------------- */

TEST(the_done_arm_of_an_ended_context_is_ready) {
    WEIR_AUTO_CANCEL weir_ctx *ctx = cancelled();
    CHECK_EQ(weir_select(weir_on_recv(nil, NULL), weir_on_done(ctx)), 1);
    CHECK_EQ(weir_select(weir_on_done(ctx), weir_on_default()), 0);
    CHECK_EQ(weir_select_error(), 0);
}

TEST(the_done_arm_of_a_living_context_is_not) {
    WEIR_AUTO_CANCEL weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    CHECK_EQ(weir_select(weir_on_done(ctx), weir_on_default()), 1);
    CHECK_EQ(weir_select(weir_on_done(weir_ctx_background()), weir_on_default()), 1);
    CHECK_EQ(weir_select(weir_on_done(NULL), weir_on_default()), 1);
}

static _Atomic int fired = -1;
static void wait_done(weir_ctx *ctx) { fired = weir_select(weir_on_recv(nil, NULL), weir_on_done(ctx)); }
TEST(a_cancel_wakes_a_done_arm) {
    WEIR_AUTO_CANCEL weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    TEST_GO(wait_done, ctx);
    test_until_n_parked(1, "select");
    weir_ctx_cancel(ctx);
    TEST_UNTIL(weir_count() == 1);
    CHECK_EQ(fired, 1);
}

TEST(the_end_of_a_parent_wakes_a_done_arm) {
    WEIR_AUTO_CANCEL weir_ctx *parent = weir_ctx_with_cancel(NULL);
    WEIR_AUTO_CANCEL weir_ctx *child = weir_ctx_with_cancel(parent);
    TEST_GO(wait_done, child);
    test_until_n_parked(1, "select");
    weir_ctx_cancel(parent);
    TEST_UNTIL(weir_count() == 1);
    CHECK_EQ(fired, 1);
}

TEST(a_deadline_fires_a_done_arm) {
    weir_time before = weir_now();
    WEIR_AUTO_CANCEL weir_ctx *ctx = weir_ctx_with_timeout(NULL, 5 * WEIR_MILLISECOND);
    CHECK_EQ(weir_select(weir_on_recv(nil, NULL), weir_on_done(ctx)), 1);
    CHECK_GE(weir_now() - before, 5 * WEIR_MILLISECOND);
    CHECK_EQ(weir_ctx_err(ctx), -ETIMEDOUT);
}

TEST(a_done_arm_on_the_background_never_fires) {
    weir_timeout(2 * WEIR_MILLISECOND) { CHECK_EQ(weir_select(weir_on_done(weir_ctx_background())), -ETIMEDOUT); }
}

/* The end of the current context is reported by its arm, if there is one, rather than as an error. */
static void wait_done_current(weir_ctx *ctx, bool by_name) {
    weir_with(ctx) { fired = weir_select(weir_on_recv(nil, NULL), weir_on_done(by_name ? ctx : NULL)); }
}
TEST(a_done_arm_on_the_current_context_is_preferred_to_its_error) {
    for (int i = 0; i < TEST_SCALE(200); i++) {
        WEIR_AUTO_CANCEL weir_ctx *ctx = weir_ctx_with_cancel(NULL);
        TEST_GO(wait_done_current, ctx, i % 2);
        if (i % 4 < 3) test_until_n_parked(1, "select");
        weir_ctx_cancel(ctx);
        TEST_UNTIL(weir_count() == 1);
        CHECK_EQ(fired, 1);
    }
}

TEST(a_done_arm_watches_its_context_in_that_select_only) {
    WEIR_AUTO_CANCEL weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    int_chan ch = weir_make(int_chan, 1);
    CHECK_EQ(weir_send(ch, 1), 0);
    CHECK_EQ(weir_select(weir_on_recv(ch, NULL), weir_on_done(ctx)), 0);
    weir_ctx_cancel(ctx);
    CHECK_EQ(weir_sleep(WEIR_MILLISECOND), 0);
    CHECK_EQ(weir_select(weir_on_recv(ch, NULL), weir_on_after(WEIR_MILLISECOND)), 1);
    weir_release(ch);
}

TEST(the_done_channel_of_a_context_can_be_an_arm) {
    WEIR_AUTO_CANCEL weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    weir_done_chan done = weir_ctx_done(ctx);
    CHECK_EQ(weir_select(weir_on_recv(done, NULL), weir_on_default()), 1);
    weir_ctx_cancel(ctx);
    CHECK_EQ(weir_select(weir_on_recv(done, NULL), weir_on_default()), 0);
}

TEST(two_contexts_in_one_select) {
    WEIR_AUTO_CANCEL weir_ctx *a = weir_ctx_with_cancel(NULL);
    WEIR_AUTO_CANCEL weir_ctx *b = weir_ctx_with_timeout(NULL, 3 * WEIR_MILLISECOND);
    CHECK_EQ(weir_select(weir_on_done(a), weir_on_done(b)), 1);
    weir_ctx_cancel(a);
    int arm = weir_select(weir_on_done(a), weir_on_done(b));
    CHECK(arm == 0 || arm == 1);
}

/* ---- The current context -------------------------------------------------------------------------------- */

TEST(a_ready_arm_is_preferred_to_the_end_of_the_context) {
    WEIR_AUTO_CANCEL weir_ctx *ctx = cancelled();
    int_chan ch = weir_make(int_chan, 1);
    int v = 0;
    weir_with(ctx) {
        for (int i = 0; i < 50; i++) {
            CHECK_EQ(weir_select(weir_on_send(ch, i)), 0);
            CHECK_EQ(weir_select(weir_on_recv(nil, NULL), weir_on_recv(ch, &v)), 1);
            CHECK_EQ(v, i);
            CHECK_EQ(weir_select(weir_on_recv(ch, &v), weir_on_default()), 1);
            CHECK_EQ(weir_select(weir_on_recv(ch, &v), weir_on_after(0)), 1);
        }
    }
    weir_release(ch);
}

TEST(a_select_that_must_block_under_an_ended_context_is_refused) {
    WEIR_AUTO_CANCEL weir_ctx *ctx = cancelled();
    int_chan ch = weir_make(int_chan, 0);
    weir_with(ctx) {
        for (int i = 0; i < 3; i++) {
            CHECK_EQ(weir_select(weir_on_recv(ch, NULL), weir_on_send(ch, 1)), -ECANCELED);
            CHECK_EQ(weir_select(weir_on_after(WEIR_HOUR)), -ECANCELED);
            CHECK_EQ(weir_select(), -ECANCELED);
        }
    }
    CHECK_EQ(weir_try_recv(ch, NULL), -EAGAIN);
    weir_release(ch);
}

static void select_under(int_chan a, int_chan b, weir_ctx *ctx) {
    int v = 9;
    weir_with(ctx) { fired = weir_select(weir_on_recv(a, &v), weir_on_send(b, 5)); }
    CHECK_EQ(v, 9);
}
TEST(a_cancelled_select_leaves_all_its_channels) {
    WEIR_AUTO_CANCEL weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    int_chan a = weir_make(int_chan, 0), b = weir_make(int_chan, 0);
    TEST_GO(select_under, a, b, ctx);
    test_until_n_parked(1, "select");
    weir_ctx_cancel(ctx);
    TEST_UNTIL(weir_count() == 1);
    CHECK_EQ(fired, -ECANCELED);
    CHECK_EQ(weir_try_send(a, 1), -EAGAIN), CHECK_EQ(weir_try_recv(b, NULL), -EAGAIN);
    weir_release(a), weir_release(b);
}

TEST(a_deadline_ends_a_select_and_not_before) {
    weir_time before = weir_now();
    weir_timeout(10 * WEIR_MILLISECOND) {
        CHECK_EQ(weir_select(weir_on_recv(nil, NULL), weir_on_after(WEIR_HOUR)), -ETIMEDOUT);
        CHECK_GE(weir_now() - before, 10 * WEIR_MILLISECOND);
    }
}

/* ---- A storm: selects that both send and receive, cancelled at random; every token is accounted for ---------- */

enum { RING = 6 };
static _Atomic int tokens_held, ended;
/* Each has at most one token and hands it on: whoever is cancelled with one in hand says so. */
static void juggle(int_chan in, int_chan out, weir_ctx *ctx) {
    bool have = false;
    weir_with(ctx) {
        for (;;) {
            int v = 1, arm = weir_select(weir_on_recv(have ? nil : in, &v), weir_on_send(have ? out : nil, v));
            if (arm < 0) break;
            have = arm == 0;
        }
    }
    if (have) tokens_held++;
    ended++;
}
static void tokens(size_t cap) {
    for (int round = 0; round < TEST_SCALE(300); round++) {
        int_chan ring[RING];
        weir_ctx *ctx[RING];
        int put = 0, left = 0;
        tokens_held = ended = 0;
        for (int i = 0; i < RING; i++) {
            ring[i] = weir_make(int_chan, cap);
            ctx[i] = weir_ctx_with_cancel(NULL);
        }
        for (int i = 0; i < RING; i++) TEST_GO(juggle, ring[i], ring[(i + 1) % RING], ctx[i]);
        for (int i = 0; i < 4; i++) {
            CHECK_EQ(weir_send(ring[i], 1), 0);
            put++;
        }
        for (int i = 0; i < round % 9; i++) weir_yield();
        for (int i = 0; i < RING; i++) {
            weir_ctx_cancel(ctx[i * 5 % RING]);
            if (round & 1) weir_yield();
        }
        TEST_UNTIL(ended == RING);
        for (int i = 0; i < RING; i++) {
            while (weir_try_recv(ring[i], NULL) == 0) left++;
            weir_release(ring[i]), weir_ctx_release(ctx[i]);
        }
        CHECK_EQ(tokens_held + left, put);
    }
}
TEST(no_token_is_lost_when_selects_are_cancelled) { tokens(0); }
TEST(no_token_is_lost_when_selects_on_buffers_are_cancelled) { tokens(1); }
