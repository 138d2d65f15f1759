/*
 * The cost of a channel's queues is linear: n waiters cost n times one, wherever in the queue they leave. Each test
 * does the same work for n and for 8n waiters and compares processor time, which a loaded machine does not
 * stretch: 8 times is linear, 64 would be quadratic; up to 32 passes, since n waiters fit into a cache and 8n do
 * not. Left out where sanitizers distort it.
 */
#include "test.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

typedef WEIR_CHAN(int) int_chan;

static double processor_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Each goroutine and its memory exist before the clock starts; the best of three says what the work costs. */
static double cost(double (*work)(int n), int n) {
    double best = 1e9;
    for (int i = 0; i < 3; i++) {
        double t = work(n);
        if (t < best) best = t;
    }
    return best;
}
static void is_linear(double (*work)(int n), int n) {
    if (test_slowness() > 1) SKIP("timing says nothing here");
    weir_procs(1);
    work(8 * n); /* stacks and buffers are made */
    double one = cost(work, n), eight = cost(work, 8 * n);
    if (eight > 32 * one)
        FAIL("%d waiters cost %.6f s, %d cost %.6f s: %.1f times as much", n, one, 8 * n, eight, eight / one);
}

static int_chan a, b;

static void recv_a(void) { CHECK_EQ(weir_recv(a, NULL), 0); }
static double receivers(int n) {
    a = weir_make(int_chan, 0);
    for (int i = 0; i < n; i++) TEST_GO(recv_a);
    test_until_n_parked((size_t)n, "chan receive");
    double start = processor_seconds();
    for (int i = 0; i < n; i++) CHECK_EQ(weir_send(a, i), 0);
    double t = processor_seconds() - start;
    TEST_UNTIL(weir_count() == 1);
    weir_release(a);
    return t;
}
TEST(waking_receivers_is_linear) { is_linear(receivers, 2000); }

static void select_a_b(void) { CHECK_GE(weir_select(weir_on_recv(a, NULL), weir_on_recv(b, NULL)), 0); }
static double selects(int n) {
    a = weir_make(int_chan, 0), b = weir_make(int_chan, 0);
    for (int i = 0; i < n; i++) TEST_GO(select_a_b);
    test_until_n_parked((size_t)n, "select");
    double start = processor_seconds();
    for (int i = 0; i < n; i++) CHECK_EQ(i % 2 ? weir_send(a, i) : weir_send(b, i), 0);
    TEST_UNTIL(weir_count() == 1);
    double t = processor_seconds() - start;
    weir_release(a), weir_release(b);
    return t;
}
TEST(waking_selects_that_wait_on_the_same_channels_is_linear) { is_linear(selects, 2000); }

/* They leave the queue of `a` one after the other from its end: the worst place for a list that is searched. */
static void select_a_own(int_chan own) {
    CHECK_EQ(weir_select(weir_on_recv(a, NULL), weir_on_recv(own, NULL)), 1);
    weir_release(own);
}
static double leaving_backwards(int n) {
    int_chan *own = malloc((size_t)n * sizeof *own);
    a = weir_make(int_chan, 0);
    for (int i = 0; i < n; i++) {
        own[i] = weir_make(int_chan, 0);
        TEST_GO(select_a_own, weir_retain(own[i]));
    }
    test_until_n_parked((size_t)n, "select");
    double start = processor_seconds();
    for (int i = n - 1; i >= 0; i--) CHECK_EQ(weir_send(own[i], 1), 0);
    TEST_UNTIL(weir_count() == 1);
    double t = processor_seconds() - start;
    for (int i = 0; i < n; i++) weir_release(own[i]);
    weir_release(a);
    free(own);
    return t;
}
TEST(leaving_a_queue_from_its_end_is_linear) { is_linear(leaving_backwards, 2000); }

static void cancelled_recv(weir_ctx *ctx) {
    weir_with(ctx) { CHECK_EQ(weir_recv(a, NULL), -ECANCELED); }
    weir_ctx_release(ctx);
}
static double cancelling(int n) {
    a = weir_make(int_chan, 0);
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    for (int i = 0; i < n; i++) TEST_GO(cancelled_recv, weir_ctx_retain(ctx));
    test_until_n_parked((size_t)n, "chan receive");
    double start = processor_seconds();
    weir_ctx_cancel(ctx);
    TEST_UNTIL(weir_count() == 1);
    double t = processor_seconds() - start;
    weir_ctx_release(ctx);
    weir_release(a);
    return t;
}
TEST(cancelling_waiters_is_linear) { is_linear(cancelling, 2000); }

static void closed_recv(void) { CHECK_EQ(weir_recv(a, NULL), -EPIPE); }
static double closing(int n) {
    a = weir_make(int_chan, 0);
    for (int i = 0; i < n; i++) TEST_GO(closed_recv);
    test_until_n_parked((size_t)n, "chan receive");
    double start = processor_seconds();
    weir_close(a);
    TEST_UNTIL(weir_count() == 1);
    double t = processor_seconds() - start;
    weir_release(a);
    return t;
}
TEST(closing_on_many_waiters_is_linear) { is_linear(closing, 2000); }

/* One select over n channels, of which the last becomes ready: sorting is allowed, quadratic is not. */
static double wide_select(int n) {
    int_chan *c = malloc((size_t)n * sizeof *c);
    weir_arm *arms = malloc((size_t)n * sizeof *arms);
    for (int i = 0; i < n; i++) {
        c[i] = weir_make(int_chan, 1);
        arms[i] = weir_on_recv(c[i], NULL);
    }
    double start = processor_seconds();
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(weir_send(c[n - 1 - i], 1), 0);
        CHECK_EQ(weir_selectv(arms, (size_t)n), n - 1 - i);
        weir_timeout(WEIR_NANOSECOND) { CHECK_EQ(weir_selectv(arms, (size_t)n), -ETIMEDOUT); }
    }
    double t = processor_seconds() - start;
    for (int i = 0; i < n; i++) weir_release(c[i]);
    free(c), free(arms);
    return t;
}
TEST(a_wide_select_is_no_worse_than_sorting) { is_linear(wide_select, 2000); }

static double same_channel(int n) {
    weir_arm *arms = malloc((size_t)n * sizeof *arms);
    a = weir_make(int_chan, 0);
    for (int i = 0; i < n; i++) arms[i] = weir_on_recv(a, NULL);
    double start = processor_seconds();
    for (int i = 0; i < 4; i++)
        weir_timeout(WEIR_NANOSECOND) { CHECK_EQ(weir_selectv(arms, (size_t)n), -ETIMEDOUT); }
    double t = processor_seconds() - start;
    weir_release(a);
    free(arms);
    return t;
}
TEST(a_wide_select_on_one_channel_is_no_worse_than_sorting) { is_linear(same_channel, 2000); }
