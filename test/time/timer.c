/* Timers that tick once, by the rules of Go 1.23: after a stop or reset no stale tick is received. */
#include "test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

static _Atomic int running;

static bool ticked(weir_timer *t) { return weir_select(weir_on_timer(t), weir_on_default()) == 0; }
/* It has fired, and its tick waits to be received. Does not take it. */
static void until_due(weir_time when) {
    while (weir_now() < when + WEIR_MILLISECOND) CHECK_EQ(weir_sleep(WEIR_MILLISECOND), 0);
}

/* ---- The tick ------------------------------------------------------------------------------------------------------ */

TEST(a_timer_ticks_once) {
    weir_timer *t = weir_timer_new(WEIR_MILLISECOND);
    CHECK_EQ(weir_timer_wait(t, NULL), 0);
    weir_timeout(3 * WEIR_MILLISECOND) CHECK_EQ(weir_timer_wait(t, NULL), -ETIMEDOUT);
    CHECK(!ticked(t));
    weir_timer_free(t);
}
TEST(the_tick_says_when_it_was_due) {
    for (weir_duration d = 0; d <= 5 * WEIR_MILLISECOND; d += WEIR_MILLISECOND) {
        weir_time before = weir_now(), when = 0;
        weir_timer *t = weir_timer_new(d);
        weir_time after = weir_now();
        CHECK_EQ(weir_timer_wait(t, &when), 0);
        CHECK_GE(weir_now(), before + d);
        CHECK_GE(when, before + d), CHECK_LE(when, after + d);
        weir_timer_free(t);
    }
}
TEST(the_tick_says_when_it_was_due_though_it_is_received_late) {
    weir_time before = weir_now(), when = 0;
    weir_timer *t = weir_timer_new(WEIR_MILLISECOND);
    weir_time after = weir_now();
    until_due(after + 5 * WEIR_MILLISECOND);
    CHECK_EQ(weir_timer_wait(t, &when), 0);
    CHECK_GE(when, before + WEIR_MILLISECOND), CHECK_LE(when, after + WEIR_MILLISECOND);
    weir_timer_free(t);
}
TEST(no_time_and_less_are_due_at_once) {
    static const weir_duration none[] = { 0, -1, -WEIR_HOUR, INT64_MIN };
    for (int i = 0; i < 4; i++) {
        weir_time when, before = weir_now();
        weir_timer *t = weir_timer_new(none[i]);
        CHECK_EQ(weir_timer_wait(t, &when), 0);
        CHECK_GE(when, before), CHECK_LE(when, weir_now());
        weir_timer_reset(t, none[i]);
        CHECK_EQ(weir_timer_wait(t, NULL), 0);
        weir_timer_free(t);
    }
}
TEST(a_timer_may_be_set_beyond_the_end_of_time) {
    static const weir_duration ever[] = { INT64_MAX, INT64_MAX - 1, INT64_MAX / 2 };
    for (int i = 0; i < 3; i++) {
        weir_timer *t = weir_timer_new(ever[i]);
        weir_timeout(2 * WEIR_MILLISECOND) CHECK_EQ(weir_timer_wait(t, NULL), -ETIMEDOUT);
        CHECK(weir_timer_stop(t));
        CHECK(!weir_timer_reset(t, ever[i]));
        CHECK(!ticked(t));
        CHECK(weir_timer_reset(t, 1));
        CHECK_EQ(weir_timer_wait(t, NULL), 0);
        weir_timer_free(t);
    }
}

/* ---- Stop and reset, in each state ------------------------------------------------------------------------------------ */

TEST(stop_of_an_armed_timer_is_true_once) {
    weir_timer *t = weir_timer_new(WEIR_HOUR);
    CHECK(weir_timer_stop(t));
    CHECK(!weir_timer_stop(t));
    CHECK(!ticked(t));
    weir_timer_free(t);
}
TEST(stop_takes_back_a_tick_that_was_not_received) {
    weir_timer *t = weir_timer_new(0);
    until_due(weir_now());
    CHECK(weir_timer_stop(t));
    CHECK(!ticked(t));
    CHECK(!weir_timer_stop(t));
    weir_timer_free(t);
}
TEST(stop_after_the_tick_is_false) {
    weir_timer *t = weir_timer_new(0);
    CHECK_EQ(weir_timer_wait(t, NULL), 0);
    CHECK(!weir_timer_stop(t));
    weir_timer_free(t);
}
TEST(a_stopped_timer_does_not_tick) {
    weir_timer *t = weir_timer_new(2 * WEIR_MILLISECOND);
    CHECK(weir_timer_stop(t));
    weir_timeout(6 * WEIR_MILLISECOND) CHECK_EQ(weir_timer_wait(t, NULL), -ETIMEDOUT);
    weir_timer_free(t);
}
TEST(reset_of_an_armed_timer_is_true) {
    weir_timer *t = weir_timer_new(WEIR_HOUR);
    CHECK(weir_timer_reset(t, WEIR_MILLISECOND));
    CHECK_EQ(weir_timer_wait(t, NULL), 0);
    weir_timer_free(t);
}
TEST(reset_takes_back_a_tick_that_was_not_received) {
    weir_timer *t = weir_timer_new(0);
    until_due(weir_now());
    weir_time when, before = weir_now();
    CHECK(weir_timer_reset(t, 2 * WEIR_MILLISECOND));
    CHECK_EQ(weir_timer_wait(t, &when), 0);
    CHECK_GE(when, before + 2 * WEIR_MILLISECOND);
    CHECK(!ticked(t));
    weir_timer_free(t);
}
TEST(reset_after_the_tick_or_a_stop_is_false_and_arms) {
    weir_timer *t = weir_timer_new(0);
    CHECK_EQ(weir_timer_wait(t, NULL), 0);
    CHECK(!weir_timer_reset(t, WEIR_MILLISECOND));
    CHECK_EQ(weir_timer_wait(t, NULL), 0);
    CHECK(!weir_timer_reset(t, WEIR_HOUR));
    CHECK(weir_timer_stop(t));
    CHECK(!weir_timer_reset(t, WEIR_MILLISECOND));
    CHECK_EQ(weir_timer_wait(t, NULL), 0);
    weir_timer_free(t);
}
TEST(an_earlier_reset_moves_the_tick_up) {
    weir_timer *late = weir_timer_new(WEIR_HOUR), *t = weir_timer_new(WEIR_HOUR);
    CHECK_EQ(weir_sleep(WEIR_MILLISECOND), 0); /* idle workers sleep for as long as that by now */
    weir_time before = weir_now(), when;
    CHECK(weir_timer_reset(t, 3 * WEIR_MILLISECOND));
    CHECK_EQ(weir_timer_wait(t, &when), 0);
    CHECK_GE(when, before + 3 * WEIR_MILLISECOND);
    CHECK(weir_timer_stop(late));
    weir_timer_free(t), weir_timer_free(late);
}
static void resets(weir_timer *t) { CHECK(weir_timer_reset(t, WEIR_MILLISECOND)); }
TEST(an_earlier_reset_moves_the_tick_up_for_who_waits_already) {
    weir_timer *t = weir_timer_new(WEIR_HOUR);
    TEST_GO(resets, t);
    CHECK_EQ(weir_timer_wait(t, NULL), 0);
    weir_timer_free(t);
}
TEST(a_later_reset_moves_the_tick_back) {
    weir_timer *t = weir_timer_new(2 * WEIR_MILLISECOND);
    weir_time before = weir_now(), when;
    for (int i = 0; i < 10; i++) CHECK(weir_timer_reset(t, 10 * WEIR_MILLISECOND));
    CHECK_EQ(weir_timer_wait(t, &when), 0);
    CHECK_GE(when, before + 10 * WEIR_MILLISECOND);
    weir_timer_free(t);
}

/* ---- Waiting ------------------------------------------------------------------------------------------------------------ */

TEST(a_cancelled_wait_leaves_the_tick) {
    weir_timer *t = weir_timer_new(WEIR_HOUR);
    weir_timeout(WEIR_MILLISECOND) CHECK_EQ(weir_timer_wait(t, NULL), -ETIMEDOUT);
    CHECK(weir_timer_reset(t, 0));
    CHECK_EQ(weir_timer_wait(t, NULL), 0);
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    weir_ctx_cancel(ctx);
    weir_timer_reset(t, WEIR_HOUR);
    weir_with(ctx) CHECK_EQ(weir_timer_wait(t, NULL), -ECANCELED);
    CHECK(weir_timer_reset(t, 0));
    until_due(weir_now() + WEIR_MILLISECOND);
    weir_with(ctx) CHECK_EQ(weir_timer_wait(t, NULL), 0); /* need not wait, so is not refused */
    weir_ctx_release(ctx);
    weir_timer_free(t);
}

static _Atomic int got;
static void waits(weir_timer *t) {
    if (weir_timer_wait(t, NULL) == 0) got++;
    running--;
}
TEST(of_several_who_wait_one_gets_the_tick) {
    weir_timer *t = weir_timer_new(WEIR_HOUR);
    running = 3;
    for (int i = 0; i < 3; i++) TEST_GO(waits, t);
    test_until_n_parked(3, "chan receive");
    for (int i = 1; i <= 3; i++) {
        CHECK_EQ(weir_timer_reset(t, 0), i == 1);
        TEST_UNTIL(got == i);
        CHECK_EQ(weir_sleep(WEIR_MILLISECOND), 0);
        TEST_UNTIL(running == 3 - i);
        CHECK_EQ(got, i);
    }
    TEST_UNTIL(weir_count() == 1);
    weir_timer_free(t);
}

TEST(a_select_takes_the_tick_once) {
    weir_timer *t = weir_timer_new(WEIR_MILLISECOND), *never = weir_timer_new(WEIR_HOUR);
    CHECK_EQ(weir_select(weir_on_timer(never), weir_on_timer(t)), 1);
    CHECK_EQ(weir_select(weir_on_timer(never), weir_on_timer(t), weir_on_after(3 * WEIR_MILLISECOND)), 2);
    CHECK(weir_timer_stop(never));
    weir_timer_free(t), weir_timer_free(never);
}
TEST(a_select_that_goes_elsewhere_leaves_the_tick) {
    weir_timer *t = weir_timer_new(WEIR_HOUR);
    CHECK_EQ(weir_select(weir_on_timer(t), weir_on_after(0)), 1);
    CHECK(weir_timer_reset(t, 2 * WEIR_MILLISECOND)); /* it was armed yet */
    CHECK_EQ(weir_timer_wait(t, NULL), 0);
    weir_timer_free(t);
}

TEST(a_timer_may_be_freed_in_every_state) {
    weir_timer_free(NULL);
    weir_timer *armed = weir_timer_new(WEIR_HOUR), *fired = weir_timer_new(0), *stopped = weir_timer_new(WEIR_HOUR),
               *received = weir_timer_new(0), *soon = weir_timer_new(WEIR_MILLISECOND);
    until_due(weir_now());
    weir_timer_stop(stopped);
    CHECK_EQ(weir_timer_wait(received, NULL), 0);
    weir_timer_free(armed), weir_timer_free(fired), weir_timer_free(stopped), weir_timer_free(received), weir_timer_free(soon);
    for (int i = 0; i < 1000; i++) weir_timer_free(weir_timer_new(i % 3 * WEIR_MICROSECOND));
    CHECK_EQ(weir_sleep(WEIR_MILLISECOND), 0);
}

/* ---- Storms ------------------------------------------------------------------------------------------------------------- */

static void fires_stops_and_resets(unsigned seed, int n) {
    weir_timer *t = weir_timer_new(0);
    bool armed = true;
    weir_time not_before = 0;
    for (int i = 0; i < n; i++) {
        seed = seed * 1103515245u + 12345u;
        weir_duration d = (seed >> 10) % 40 * WEIR_MICROSECOND;
        weir_time when;
        switch (seed >> 24 & 3) {
        case 0:
            CHECK_EQ(weir_timer_stop(t), armed);
            armed = false;
            CHECK(!ticked(t));
            break;
        case 1:
            not_before = weir_now() + d;
            CHECK_EQ(weir_timer_reset(t, d), armed);
            armed = true;
            break;
        case 2:
            if (!armed) break;
            CHECK_EQ(weir_timer_wait(t, &when), 0);
            CHECK_GE(when, not_before); /* else it is the tick of a time before the reset */
            armed = false;
            break;
        case 3:
            if (weir_select(weir_on_timer(t), weir_on_default()) == 0) {
                CHECK(armed);
                armed = false;
            } else if (seed >> 23 & 1) {
                weir_yield();
            }
            break;
        }
    }
    weir_timer_free(t);
    running--;
}
/* What stop and reset say is always what is: nobody but the owner receives. */
TEST(no_stale_tick_in_a_storm_of_stops_and_resets) {
    for (int procs = 1; procs <= 4; procs *= 2) {
        weir_procs(procs);
        running = 10;
        for (unsigned i = 0; i < 10; i++) TEST_GO(fires_stops_and_resets, i, (int)TEST_SCALE(5000));
        TEST_UNTIL(running == 0);
    }
}

static _Atomic long ticks, stopped;
static void receives_until_it_is_cancelled(weir_timer *t) {
    while (weir_timer_wait(t, NULL) == 0) ticks++;
    running--;
}
/* Every time it was armed it either ticked or was stopped. */
TEST(a_tick_is_received_or_taken_back_and_never_both) {
    long armed = 0;
    weir_timer *t = weir_timer_new(0);
    armed++;
    running = 2;
    weir_scoped(s) {
        for (int i = 0; i < 2; i++) CHECK_EQ(weir_scope_go(&s, receives_until_it_is_cancelled, t), 0);
        for (int i = 0; i < TEST_SCALE(20000); i++) {
            if (weir_timer_reset(t, i % 7 * WEIR_MICROSECOND)) stopped++;
            armed++;
            if (i % 16 == 0) weir_yield();
        }
        if (weir_timer_stop(t)) stopped++;
        weir_scope_cancel(&s);
    }
    CHECK_EQ(running, 0);
    CHECK_EQ(ticks + stopped, armed);
    weir_timer_free(t);
}

static void *fires_on_a_thread(void *arg) {
    fires_stops_and_resets((unsigned)(uintptr_t)arg, (int)TEST_SCALE(1000));
    return NULL;
}
static int join(void *thread) { return pthread_join(*(pthread_t *)thread, NULL); }
TEST(threads_stop_and_reset_timers_too) {
    pthread_t threads[3];
    running = 6;
    for (uintptr_t i = 0; i < 3; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, fires_on_a_thread, (void *)i), 0);
        TEST_GO(fires_stops_and_resets, (unsigned)i + 3, (int)TEST_SCALE(1000));
    }
    for (int i = 0; i < 3; i++) CHECK_EQ(weir_blocking(join, &threads[i]), 0);
    TEST_UNTIL(running == 0);
}

/* ---- Fairness ------------------------------------------------------------------------------------------------------ */

enum { TICKERS = 8 };
static weir_timer *tickers[TICKERS];
static void *makes_tickers(void *arg) {
    for (int i = 0; i < TICKERS; i++) tickers[i] = weir_ticker_new(20 * WEIR_MICROSECOND);
    return arg;
}
static _Atomic bool done;
static _Atomic int sleeps;
static void sleeps_again_and_again(void) {
    for (; !done; sleeps++) CHECK_EQ(weir_sleep(WEIR_MILLISECOND), 0);
    running--;
}
static void takes_its_time(void) {
    while (!done) {
        for (weir_time until = weir_now() + 3 * WEIR_MICROSECOND; weir_now() < until;) {}
        weir_yield();
    }
    running--;
}
/* They are in another heap, as a thread has made them, and some are due at each look; and few are fired where many goroutines are ready. */
static int sleeps_beside_tickers(void *arg) {
    enum { SLEEPERS = 10, OTHERS = 240 };
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, makes_tickers, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    running = SLEEPERS + OTHERS;
    for (int i = 0; i < SLEEPERS; i++) TEST_GO(sleeps_again_and_again);
    for (int i = 0; i < OTHERS; i++) TEST_GO(takes_its_time);
    int turns = 0;
    for (; sleeps < 10 * SLEEPERS && turns < 1000; turns++) weir_yield();
    CHECK_GE(sleeps, 10 * SLEEPERS);
    done = true;
    TEST_UNTIL(running == 0);
    for (int i = 0; i < TICKERS; i++) weir_timer_free(tickers[i]);
    return arg != NULL;
}
PLAIN_TEST(timers_that_are_due_all_the_time_do_not_keep_others_waiting) {
    setenv("WEIR_PROCS", "1", 1); /* not by weir_procs: there would be an idle worker then, which fires what is late */
    CHECK_EQ(weir_run(sleeps_beside_tickers, NULL), 0);
}

/* No processor is idle, but a thread is, which is to wake when it is due. */
static int sleeps_briefly(void *arg) {
    (void)arg;
    return usleep(1000);
}
static void sleeps_for_ever(weir_ctx *ctx) {
    weir_with(ctx) CHECK_EQ(weir_sleep(INT64_MAX), -ECANCELED);
    running--;
}
TEST(the_end_of_time_is_not_overflowed) {
    CHECK_GE(weir_procs(1), 1);
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    for (int i = 0; i < 3; i++) CHECK_EQ(weir_blocking(sleeps_briefly, NULL), 0);
    running = 1;
    TEST_GO(sleeps_for_ever, weir_ctx_retain(ctx));
    weir_yield();
    usleep(1000);
    weir_yield();
    weir_ctx_cancel(ctx);
    TEST_UNTIL(running == 0);
    weir_ctx_release(ctx), weir_ctx_release(ctx);
}

TEST(thousands_of_timers_at_once) {
    enum { N = 5000 };
    static weir_timer *all[N];
    int n = (int)TEST_SCALE(N);
    weir_procs(2);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < n; i++) all[i] = weir_timer_new(round == 0 ? WEIR_MILLISECOND : i % 50 * 100 * WEIR_MICROSECOND);
        for (int i = 0; i < n; i += 2) CHECK_EQ(weir_timer_wait(all[i], NULL), 0);
        for (int i = 1; i < n; i += 2) CHECK(weir_timer_stop(all[i]));
        for (int i = 0; i < n; i++) CHECK(!ticked(all[i]));
        for (int i = 0; i < n; i++) weir_timer_free(all[i]);
    }
}
