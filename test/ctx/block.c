/* weir_with, weir_timeout, weir_shield: the current context inside, and after, however the block is left. */
#include "test.h"

#include <stdatomic.h>

#include "ctx/ctx.h"

static char key;

TEST(a_block_runs_under_its_context_and_the_previous_one_is_back_after) {
    weir_ctx *a = weir_ctx_with_cancel(NULL), *b = weir_ctx_with_cancel(NULL);
    int inside = 0;
    weir_with(a) {
        CHECK(weir_ctx_current() == a);
        weir_with(b) {
            CHECK(weir_ctx_current() == b);
            weir_with(weir_ctx_background()) CHECK(weir_ctx_current() == weir_ctx_background());
            CHECK(weir_ctx_current() == b);
            inside++;
        }
        CHECK(weir_ctx_current() == a);
    }
    CHECK(weir_ctx_current() == weir_ctx_background());
    CHECK_EQ(inside, 1);
    weir_ctx_release(a), weir_ctx_release(b);
}

TEST(a_block_keeps_its_context_alive) {
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    weir_with(ctx) {
        weir_ctx_release(ctx);
        CHECK_EQ(weir_ctx_err(NULL), 0);
        weir_ctx_cancel(NULL);
        CHECK_EQ(weir_sleep(WEIR_HOUR), -ECANCELED);
    }
}

static weir_ctx *make_counted(int *calls) {
    ++*calls;
    return weir_ctx_background();
}
TEST(what_a_block_is_given_is_evaluated_once) {
    int calls = 0;
    weir_with(make_counted(&calls)) continue;
    CHECK_EQ(calls, 1);
}

static int leave_by(int how, weir_ctx *ctx) {
    weir_with(ctx) {
        if (how == 0) return weir_ctx_current() == ctx;
        if (how == 1) break;
        if (how == 2) continue;
        if (how == 3) goto out;
        weir_timeout(WEIR_HOUR) {
            weir_shield(WEIR_HOUR) {
                if (how == 4) return weir_ctx_current() != ctx;
                if (how == 5) goto out;
            }
        }
    }
out:
    return weir_ctx_current() == weir_ctx_background();
}

TEST(return_break_continue_and_goto_restore_the_context) {
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    for (int how = 0; how <= 6; how++) {
        CHECK(leave_by(how, ctx));
        CHECK(weir_ctx_current() == weir_ctx_background());
    }
    CHECK_EQ(weir_ctx_err(ctx), 0);
    CHECK_EQ(atomic_load(&ctx->refs), 1);
    weir_ctx_release(ctx);
}

TEST(break_leaves_just_the_block) {
    int turns = 0;
    for (int i = 0; i < 3; i++) {
        weir_timeout(WEIR_HOUR) {
            if (i == 1) break;
            turns += 10;
        }
        turns++;
    }
    CHECK_EQ(turns, 23);
}

/* ---- weir_exit ------------------------------------------------------------------------------------ */

static weir_ctx *seen_outside, *seen_inside;
static void see_outside(void *arg) {
    (void)arg;
    seen_outside = weir_ctx_current();
}
static void see_inside(void *arg) {
    (void)arg;
    seen_inside = weir_ctx_current();
}
static void exit_from_block(weir_ctx *ctx) {
    weir_defer(see_outside, NULL);
    weir_with(ctx) {
        weir_defer(see_inside, NULL);
        weir_timeout(WEIR_HOUR) weir_exit();
    }
}

TEST(weir_exit_leaves_the_blocks_innermost_first) {
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    TEST_GO(exit_from_block, ctx);
    TEST_UNTIL(weir_count() == 1);
    CHECK(seen_inside == ctx);
    CHECK(seen_outside == weir_ctx_background());
    CHECK_EQ(atomic_load(&ctx->refs), 1);
    weir_ctx_release(ctx);
}

static void defer_in_block(weir_ctx *ctx) {
    weir_with(ctx) weir_defer(see_outside, NULL);
    weir_with(ctx) weir_timeout(WEIR_HOUR) weir_defer(see_inside, NULL);
}

TEST(a_call_deferred_in_a_block_runs_at_the_goroutines_end) {
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    seen_outside = seen_inside = NULL;
    TEST_GO(defer_in_block, ctx);
    TEST_UNTIL(weir_count() == 1);
    CHECK(seen_outside == weir_ctx_background());
    CHECK(seen_inside == weir_ctx_background());
    CHECK_EQ(atomic_load(&ctx->refs), 1);
    weir_ctx_release(ctx);
}

static void exit_in_shield(weir_ctx **out) {
    weir_shield(WEIR_HOUR) {
        *out = weir_ctx_retain(weir_ctx_current());
        weir_exit();
    }
}

TEST(weir_exit_ends_the_context_of_a_block) {
    weir_ctx *own = NULL;
    TEST_GO(exit_in_shield, &own);
    TEST_UNTIL(weir_count() == 1);
    CHECK_EQ(weir_ctx_err(own), -ECANCELED);
    CHECK_EQ(atomic_load(&own->refs), 1);
    weir_ctx_release(own);
}

/* ---- weir_timeout --------------------------------------------------------------------------------- */

TEST(a_timeout_block_has_a_deadline) {
    weir_time before = weir_now(), when = 0;
    weir_timeout(WEIR_MINUTE) {
        CHECK(weir_ctx_deadline(NULL, &when));
        CHECK_GE(when, before + WEIR_MINUTE);
    }
    CHECK(!weir_ctx_deadline(NULL, NULL));
}

TEST(the_earliest_of_nested_timeouts_counts) {
    weir_timeout(2 * WEIR_MILLISECOND) {
        weir_timeout(WEIR_HOUR) CHECK_EQ(weir_sleep(WEIR_HOUR), -ETIMEDOUT);
        CHECK_EQ(weir_ctx_err(NULL), -ETIMEDOUT);
    }
    weir_timeout(WEIR_HOUR) {
        weir_timeout(2 * WEIR_MILLISECOND) CHECK_EQ(weir_sleep(WEIR_HOUR), -ETIMEDOUT);
        CHECK_EQ(weir_ctx_err(NULL), 0);
        CHECK_EQ(weir_sleep(WEIR_MICROSECOND), 0);
    }
}

TEST(leaving_a_timeout_block_ends_its_context) {
    weir_ctx *own = NULL, *child = NULL;
    weir_timeout(WEIR_HOUR) {
        own = weir_ctx_retain(weir_ctx_current());
        child = weir_ctx_with_cancel(NULL);
        CHECK_EQ(weir_ctx_err(child), 0);
    }
    CHECK_EQ(weir_ctx_err(own), -ECANCELED);
    CHECK_EQ(weir_ctx_err(child), -ECANCELED);
    weir_ctx_release(own), weir_ctx_release(child);
}

/* ---- weir_shield ---------------------------------------------------------------------------------- */

TEST(a_shield_outlives_a_cancel) {
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    int cleaned = 0;
    weir_with(ctx) {
        weir_ctx_cancel(ctx);
        CHECK_EQ(weir_sleep(WEIR_HOUR), -ECANCELED);
        weir_shield(WEIR_MINUTE) {
            CHECK_EQ(weir_ctx_err(NULL), 0);
            CHECK_EQ(weir_sleep(WEIR_MICROSECOND), 0);
            cleaned = 1;
        }
        CHECK_EQ(weir_sleep(WEIR_HOUR), -ECANCELED);
    }
    CHECK_EQ(cleaned, 1);
    weir_ctx_release(ctx);
}

static void shielded(weir_ctx *ctx, weir_unit_chan hold, weir_unit_chan done) {
    weir_with(ctx) {
        weir_shield(WEIR_MINUTE) CHECK_EQ(weir_recv(hold, NULL), 0);
        CHECK_EQ(weir_recv(hold, NULL), -ECANCELED);
    }
    CHECK_EQ(weir_send(done, weir_unit_value), 0);
}

TEST(a_cancel_that_comes_during_a_shield_waits_for_its_end) {
    weir_unit_chan hold = weir_make(weir_unit_chan, 0), done = weir_make(weir_unit_chan, 0);
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    TEST_GO(shielded, ctx, hold, done);
    test_until_n_parked(1, "chan receive");
    weir_ctx_cancel(ctx);
    CHECK_EQ(weir_send(hold, weir_unit_value), 0);
    CHECK_EQ(weir_recv(done, NULL), 0);
    weir_ctx_release(ctx);
    weir_release(hold), weir_release(done);
}

TEST(a_shield_lasts_for_its_time_at_most) {
    weir_time start = weir_now();
    weir_ctx *ctx = weir_ctx_with_timeout(NULL, 0);
    weir_with(ctx) weir_shield(5 * WEIR_MILLISECOND) {
        CHECK_EQ(weir_sleep(WEIR_HOUR), -ETIMEDOUT);
        CHECK_GE(weir_now() - start, 5 * WEIR_MILLISECOND);
    }
    weir_shield(0) CHECK_EQ(weir_sleep(WEIR_HOUR), -ETIMEDOUT);
    weir_ctx_release(ctx);
}

TEST(a_shield_has_its_own_deadline_and_the_values_of_the_outside) {
    weir_ctx *value = weir_ctx_with_value(NULL, &key, &key);
    weir_ctx *timed = weir_ctx_with_timeout(value, WEIR_MINUTE);
    weir_time outer = 0, inner = 0;
    weir_with(timed) {
        CHECK(weir_ctx_deadline(NULL, &outer));
        weir_shield(WEIR_HOUR) {
            CHECK(weir_ctx_deadline(NULL, &inner));
            CHECK_GE(inner, outer + WEIR_MINUTE);
            CHECK(weir_ctx_value(NULL, &key) == &key);
        }
    }
    weir_ctx_release(timed), weir_ctx_release(value);
}

/* ---- WEIR_AUTO_CANCEL ------------------------------------------------------------------------------ */

static int use_auto_cancel(weir_ctx **out) {
    WEIR_AUTO_CANCEL weir_ctx *ctx = weir_ctx_with_timeout(NULL, WEIR_HOUR);
    *out = weir_ctx_retain(ctx);
    return weir_ctx_err(ctx);
}

TEST(auto_cancel_ends_and_releases_at_the_end_of_the_block) {
    weir_ctx *kept = NULL;
    CHECK_EQ(use_auto_cancel(&kept), 0);
    CHECK_EQ(weir_ctx_err(kept), -ECANCELED);
    CHECK_EQ(atomic_load(&kept->refs), 1);
    weir_ctx_release(kept);
    {
        WEIR_AUTO_CANCEL weir_ctx *none = NULL; /* must not cancel the current one */
        (void)none;
    }
    CHECK_EQ(weir_ctx_err(NULL), 0);
}

TEST(a_goroutine_that_ends_gives_its_context_back) {
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, ctx), 0);
    weir_ctx *inner = weir_ctx_retain(weir_scope_ctx(&s));
    CHECK_EQ(weir_scope_go(&s, weir_yield), 0);
    CHECK_EQ(weir_scope_wait(&s), 0);
    CHECK_EQ(weir_scope_close(&s), 0);
    TEST_UNTIL(weir_count() == 1);
    CHECK_EQ(atomic_load(&inner->refs), 1);
    weir_ctx_release(inner), weir_ctx_release(ctx);
}
