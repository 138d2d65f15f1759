/* Tickers: regular, in phase, and dropping what nobody takes in time. */
#include "test.h"

#include <stdatomic.h>

#define PERIOD (2 * WEIR_MILLISECOND)
static _Atomic int running;

static bool ticked(weir_timer *t) { return weir_select(weir_on_timer(t), weir_on_default()) == 0; }
static void until(weir_time when) {
    while (weir_now() < when) CHECK_EQ(weir_sleep(when - weir_now()), 0);
}

TEST(a_ticker_ticks_every_period) {
    weir_time start = weir_now(), when;
    weir_timer *t = weir_ticker_new(PERIOD);
    for (int i = 1; i <= 10; i++) {
        CHECK_EQ(weir_timer_wait(t, &when), 0);
        CHECK_GE(when - start, i * PERIOD);
        CHECK_GE(weir_now(), when);
    }
    weir_timer_free(t);
}

TEST(a_ticker_keeps_its_phase) {
    weir_time first, when;
    weir_timer *t = weir_ticker_new(PERIOD);
    CHECK_EQ(weir_timer_wait(t, &first), 0);
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(weir_timer_wait(t, &when), 0);
        CHECK_GE(when - first, PERIOD);
        CHECK_EQ((when - first) % PERIOD, 0);
        if (i % 4 == 0) until(weir_now() + PERIOD * 3 / 2); /* late, which moves nothing */
    }
    weir_timer_free(t);
}

TEST(a_slow_receiver_loses_ticks) {
    weir_procs(1); /* one heap: what is due before main is to wake has fired before it wakes */
    weir_timer *t = weir_ticker_new(PERIOD);
    weir_time when, next, late = weir_now() + 10 * PERIOD;
    until(late);
    CHECK_EQ(weir_timer_wait(t, &when), 0); /* one has waited */
    CHECK_EQ(weir_timer_wait(t, &next), 0);
    CHECK_GE(next - when, 5 * PERIOD); /* the first; those after it are lost */
    CHECK_GE(next, late);
    weir_timer_free(t);
}

TEST(no_period_is_no_ticker) {
    CHECK(weir_ticker_new(0) == NULL);
    CHECK(weir_ticker_new(-1) == NULL);
    CHECK(weir_ticker_new(INT64_MIN) == NULL);
}
TEST(no_period_is_no_reset) {
    weir_timer *t = weir_ticker_new(PERIOD);
    CHECK(!weir_timer_reset(t, 0));
    CHECK(!weir_timer_reset(t, -PERIOD));
    for (int i = 0; i < 3; i++) CHECK_EQ(weir_timer_wait(t, NULL), 0); /* it goes on as before */
    weir_timer_free(t);
}

TEST(a_reset_ticker_has_the_new_period) {
    weir_time before, when = 0, last;
    weir_timer *t = weir_ticker_new(WEIR_HOUR);
    before = weir_now();
    CHECK(weir_timer_reset(t, PERIOD));
    for (int i = 0; i < 5; i++) {
        last = when;
        CHECK_EQ(weir_timer_wait(t, &when), 0);
        CHECK_GE(when - before, PERIOD);
        if (i) CHECK_EQ((when - last) % PERIOD, 0);
    }
    CHECK(weir_timer_reset(t, WEIR_HOUR));
    weir_timeout(3 * PERIOD) CHECK_EQ(weir_timer_wait(t, NULL), -ETIMEDOUT);
    weir_timer_free(t);
}
TEST(reset_takes_back_a_tick_that_was_not_received) {
    weir_timer *t = weir_ticker_new(PERIOD);
    weir_time when;
    for (int i = 0; i < 5; i++) {
        until(weir_now() + 2 * PERIOD);
        weir_time before = weir_now();
        CHECK(weir_timer_reset(t, 3 * PERIOD));
        CHECK_EQ(weir_timer_wait(t, &when), 0);
        CHECK_GE(when - before, 3 * PERIOD);
    }
    weir_timer_free(t);
}

TEST(a_stopped_ticker_does_not_tick_until_it_is_reset) {
    weir_timer *t = weir_ticker_new(PERIOD);
    until(weir_now() + 2 * PERIOD);
    CHECK(weir_timer_stop(t));
    CHECK(!ticked(t));
    weir_timeout(3 * PERIOD) CHECK_EQ(weir_timer_wait(t, NULL), -ETIMEDOUT);
    CHECK(!weir_timer_stop(t));
    CHECK(!weir_timer_reset(t, PERIOD));
    for (int i = 0; i < 3; i++) CHECK_EQ(weir_timer_wait(t, NULL), 0);
    CHECK(weir_timer_stop(t)); /* a ticker is armed for as long as it is not stopped */
    weir_timer_free(t);
}

TEST(a_period_may_be_longer_than_time_is) {
    weir_timer *t = weir_ticker_new(INT64_MAX);
    weir_timeout(PERIOD) CHECK_EQ(weir_timer_wait(t, NULL), -ETIMEDOUT);
    CHECK(weir_timer_reset(t, INT64_MAX - 1));
    CHECK(!ticked(t));
    CHECK(weir_timer_stop(t));
    weir_timer_free(t);
}

static void counts(int *turns) {
    for (int i = 0; i < 1000; i++) {
        ++*turns;
        if (i % 10) weir_yield();
        else CHECK_EQ(weir_sleep(WEIR_MICROSECOND), 0);
    }
    running--;
}
TEST(the_shortest_period_keeps_nobody_else_from_running) {
    int turns = 0;
    weir_procs(1);
    weir_timer *t = weir_ticker_new(1);
    running = 1;
    TEST_GO(counts, &turns);
    weir_time last = 0, when;
    for (int i = 0; i < 1000; i++) {
        CHECK_EQ(weir_timer_wait(t, &when), 0);
        CHECK_GE(when, last + 1);
        last = when;
    }
    TEST_UNTIL(running == 0);
    CHECK_EQ(turns, 1000);
    weir_timer_free(t);
}

TEST(a_cancelled_wait_leaves_the_tick) {
    weir_timer *t = weir_ticker_new(WEIR_HOUR);
    weir_timeout(PERIOD) CHECK_EQ(weir_timer_wait(t, NULL), -ETIMEDOUT);
    CHECK(weir_timer_reset(t, PERIOD)); /* it was armed yet */
    CHECK_EQ(weir_timer_wait(t, NULL), 0);
    weir_timer_free(t);
}

TEST(a_select_in_a_loop_takes_every_tick) {
    weir_timer *fast = weir_ticker_new(PERIOD), *slow = weir_ticker_new(3 * PERIOD);
    int fast_ticks = 0, slow_ticks = 0;
    while (fast_ticks < 6 || slow_ticks < 2) {
        int arm = weir_select(weir_on_timer(fast), weir_on_timer(slow), weir_on_after(WEIR_MINUTE));
        CHECK(arm == 0 || arm == 1);
        if (arm == 0) fast_ticks++;
        else slow_ticks++;
    }
    weir_timer_free(fast), weir_timer_free(slow);
}

static _Atomic long ticks;
static void takes_ticks(weir_timer *t) {
    while (weir_timer_wait(t, NULL) == 0) ticks++;
    running--;
}
TEST(many_may_wait_for_one_ticker) {
    weir_time start = weir_now(); /* before the ticker's own beginning: it may have ticked once before the next line */
    weir_timer *t = weir_ticker_new(200 * WEIR_MICROSECOND);
    running = 5;
    weir_scoped(s) {
        for (int i = 0; i < 5; i++) CHECK_EQ(weir_scope_go(&s, takes_ticks, t), 0);
        TEST_UNTIL(ticks >= 20);
        weir_scope_cancel(&s);
    }
    CHECK_EQ(running, 0);
    CHECK_LE(ticks, (weir_now() - start) / (200 * WEIR_MICROSECOND)); /* nobody got one that was not */
    weir_timer_free(t);
}

TEST(many_tickers_at_once) {
    enum { N = 500 };
    static weir_timer *all[N];
    int n = (int)TEST_SCALE(N);
    weir_procs(2);
    for (int i = 0; i < n; i++) all[i] = weir_ticker_new((1 + i % 5) * WEIR_MILLISECOND);
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < n; i++) CHECK_EQ(weir_timer_wait(all[i], NULL), 0);
    for (int i = 0; i < n; i++) weir_timer_free(all[i]);
}

/* Freed while it fires on another processor. */
static void makes_and_frees(int n) {
    for (int i = 0; i < n; i++) {
        weir_timer *t = weir_ticker_new(1 + i % 3000);
        if (i % 3) weir_yield();
        weir_timer_free(t);
    }
    running--;
}
TEST(tickers_that_come_and_go) {
    weir_procs(4);
    running = 4;
    for (int i = 0; i < 4; i++) TEST_GO(makes_and_frees, (int)TEST_SCALE(5000));
    TEST_UNTIL(running == 0);
}
