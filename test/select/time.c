/* Arms that wait for time: after, timers, tickers. */
#include "test.h"

#include <stdatomic.h>

typedef WEIR_CHAN(int) int_chan;
static const int_chan nil;

TEST(after_fires_when_the_time_has_passed_and_not_before) {
    int_chan ch = weir_make(int_chan, 0);
    for (weir_duration d = WEIR_MILLISECOND; d <= 16 * WEIR_MILLISECOND; d *= 2) {
        weir_time before = weir_now();
        CHECK_EQ(weir_select(weir_on_recv(ch, NULL), weir_on_after(d)), 1);
        CHECK_GE(weir_now() - before, d);
        CHECK_EQ(weir_select_error(), 0);
    }
    CHECK_EQ(weir_try_send(ch, 1), -EAGAIN); /* no waiter is left behind */
    weir_release(ch);
}

TEST(after_zero_or_less_is_ready_at_once) {
    CHECK_EQ(weir_select(weir_on_after(0)), 0);
    CHECK_EQ(weir_select(weir_on_recv(nil, NULL), weir_on_after(-WEIR_HOUR)), 1);
    CHECK_EQ(weir_select(weir_on_recv(nil, NULL), weir_on_after(0), weir_on_default()), 1);
    CHECK_EQ(weir_select(weir_on_after(INT64_MIN), weir_on_default()), 0);
}

TEST(after_is_not_ready_before_its_time) {
    CHECK_EQ(weir_select(weir_on_after(WEIR_HOUR), weir_on_default()), 1);
    CHECK_EQ(weir_select(weir_on_after(INT64_MAX), weir_on_default()), 1);
}

TEST(the_earliest_of_several_afters_fires) {
    weir_time before = weir_now();
    CHECK_EQ(weir_select(weir_on_after(WEIR_HOUR), weir_on_after(5 * WEIR_MILLISECOND), weir_on_after(INT64_MAX)), 1);
    CHECK_GE(weir_now() - before, 5 * WEIR_MILLISECOND);
}

TEST(an_element_comes_before_the_time) {
    int_chan ch = weir_make(int_chan, 1);
    for (int i = 0; i < TEST_SCALE(10000); i++) { /* and the timers are gone: a heap of them would grow */
        CHECK_EQ(weir_send(ch, i), 0);
        CHECK_EQ(weir_select(weir_on_recv(ch, NULL), weir_on_after(WEIR_HOUR)), 0);
    }
    weir_release(ch);
}

static void send_one(int_chan ch) {
    CHECK_EQ(weir_send(ch, 1), 0);
    weir_release(ch);
}
TEST(a_sleeping_select_with_after_is_woken_by_a_send) {
    int_chan ch = weir_make(int_chan, 0);
    for (int i = 0; i < TEST_SCALE(1000); i++) {
        TEST_GO(send_one, weir_retain(ch));
        CHECK_EQ(weir_select(weir_on_after(WEIR_HOUR), weir_on_recv(ch, NULL)), 1);
    }
    weir_release(ch);
}

/* Element and time race: whichever wins, no element may be lost. */
static _Atomic int got_by_select, sends_done;
static void send_many(int_chan ch, int n) {
    for (int i = 0; i < n; i++) CHECK_EQ(weir_send(ch, 1), 0);
    sends_done = 1;
    weir_release(ch);
}
TEST(no_element_is_lost_between_a_send_and_the_time) {
    int n = (int)TEST_SCALE(500);
    int_chan ch = weir_make(int_chan, 0);
    TEST_GO(send_many, weir_retain(ch), n);
    while (!sends_done) {
        int arm = weir_select(weir_on_recv(ch, NULL), weir_on_after(got_by_select % 3 * WEIR_MICROSECOND));
        CHECK(arm == 0 || arm == 1);
        if (arm == 0) got_by_select++;
    }
    CHECK_EQ(got_by_select, n);
    weir_release(ch);
}

TEST(a_timer_arm_takes_the_tick) {
    weir_time before = weir_now();
    weir_timer *t = weir_timer_new(2 * WEIR_MILLISECOND);
    CHECK_EQ(weir_select(weir_on_recv(nil, NULL), weir_on_timer(t)), 1);
    CHECK_GE(weir_now() - before, 2 * WEIR_MILLISECOND);
    CHECK_EQ(weir_select(weir_on_timer(t), weir_on_default()), 1); /* one tick, once */
    CHECK(!weir_timer_reset(t, WEIR_MILLISECOND));
    CHECK_EQ(weir_select(weir_on_timer(t)), 0);
    weir_timer_free(t);
}

TEST(a_tick_that_has_come_makes_the_arm_ready) {
    weir_timer *t = weir_timer_new(WEIR_MICROSECOND);
    CHECK_EQ(weir_sleep(5 * WEIR_MILLISECOND), 0); /* it has long been due, though nobody looked */
    CHECK_EQ(weir_select(weir_on_default(), weir_on_timer(t)), 1);
    weir_timer_free(t);
}

TEST(a_stopped_timer_does_not_fire_its_arm) {
    weir_timer *t = weir_timer_new(WEIR_MICROSECOND);
    CHECK_EQ(weir_sleep(2 * WEIR_MILLISECOND), 0);
    CHECK(weir_timer_stop(t)); /* its tick was not received yet */
    CHECK_EQ(weir_select(weir_on_timer(t), weir_on_default()), 1);
    weir_timer_free(t);
}

TEST(a_ticker_arm_fires_again_and_again) {
    weir_time before = weir_now();
    weir_timer *t = weir_ticker_new(WEIR_MILLISECOND);
    for (int i = 0; i < 5; i++) CHECK_EQ(weir_select(weir_on_recv(nil, NULL), weir_on_timer(t)), 1);
    CHECK_GE(weir_now() - before, 5 * WEIR_MILLISECOND);
    weir_timer_free(t);
}

TEST(a_timer_arm_that_loses_leaves_the_tick) {
    int_chan ch = weir_make(int_chan, 1);
    weir_timer *t = weir_timer_new(0);
    for (int lost = 0; lost < 20;) {
        while (weir_select(weir_on_timer(t), weir_on_default()) == 1) weir_yield();
        CHECK(!weir_timer_reset(t, 0)); /* both arms are ready, or soon */
        CHECK_EQ(weir_try_send(ch, 1), 0);
        if (weir_select(weir_on_timer(t), weir_on_recv(ch, NULL)) == 1) {
            lost++;
        } else {
            CHECK(!weir_timer_reset(t, 0)); /* the tick was taken, so the element was not */
            CHECK_EQ(weir_try_recv(ch, NULL), 0);
        }
        CHECK_EQ(weir_len(ch), 0);
    }
    weir_timer_free(t);
    weir_release(ch);
}
