/*
 * Of several ready arms each is chosen equally often: over n selects an arm of k gets n/k within ten standard
 * deviations, which chance alone misses less than once in 10^22 runs.
 */
#include "test.h"

#include <stdatomic.h>
#include <stdlib.h>

typedef WEIR_CHAN(int) int_chan;
enum { N = 10000, MOST = 64 };

static long root(long x) {
    long r = 0;
    while ((r + 1) * (r + 1) <= x) r++;
    return r;
}
static void is_fair(const int *count, int arms, long n) {
    /* 10 σ = 10 √(n/k (1 - 1/k)) */
    long mean = n / arms, bound = 10 * root(n * (arms - 1)) / arms + 10;
    for (int i = 0; i < arms; i++)
        if (labs(count[i] - mean) > bound)
            FAIL("arm %d of %d fired %d times in %ld, expected %ld ± %ld", i, arms, count[i], n, mean, bound);
}

static void closed_arms(int arms) {
    int count[MOST] = { 0 };
    weir_arm a[MOST];
    int_chan c[MOST];
    for (int i = 0; i < arms; i++) {
        c[i] = weir_make(int_chan, 0);
        weir_close(c[i]);
        a[i] = weir_on_recv(c[i], NULL);
    }
    for (int i = 0; i < N; i++) {
        int k = weir_selectv(a, (size_t)arms);
        CHECK(k >= 0 && k < arms);
        count[k]++;
    }
    is_fair(count, arms, N);
    for (int i = 0; i < arms; i++) weir_release(c[i]);
}
TEST(two_ready_receives_are_chosen_equally) { closed_arms(2); }
TEST(three_ready_receives_are_chosen_equally) { closed_arms(3); }
TEST(sixty_four_ready_receives_are_chosen_equally) { closed_arms(64); }

TEST(ready_sends_are_chosen_equally) {
    int_chan c[4];
    int count[4] = { 0 };
    for (int i = 0; i < 4; i++) c[i] = weir_make(int_chan, 1);
    for (int i = 0; i < N; i++) {
        int k = weir_select(weir_on_send(c[0], 1), weir_on_send(c[1], 1), weir_on_send(c[2], 1), weir_on_send(c[3], 1));
        CHECK(k >= 0 && k < 4);
        count[k]++;
        CHECK_EQ(weir_recv(c[k], NULL), 0);
    }
    is_fair(count, 4, N);
    for (int i = 0; i < 4; i++) weir_release(c[i]);
}

TEST(arms_of_different_kinds_are_chosen_equally) {
    int_chan in = weir_make(int_chan, 0), out = weir_make(int_chan, 1);
    WEIR_AUTO_CANCEL weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    int count[4] = { 0 };
    weir_close(in);
    weir_ctx_cancel(ctx);
    for (int i = 0; i < N; i++) {
        int k = weir_select(weir_on_recv(in, NULL), weir_on_send(out, 1), weir_on_done(ctx), weir_on_after(0));
        CHECK(k >= 0 && k < 4);
        count[k]++;
        if (k == 1) CHECK_EQ(weir_recv(out, NULL), 0);
    }
    is_fair(count, 4, N);
    weir_release(in), weir_release(out);
}

TEST(arms_that_are_not_ready_take_no_share) {
    int_chan c[6];
    int count[2] = { 0 };
    for (int i = 0; i < 6; i++) c[i] = weir_make(int_chan, 0);
    weir_close(c[1]), weir_close(c[4]);
    for (int i = 0; i < N; i++) {
        int k = weir_select(weir_on_recv(c[0], NULL), weir_on_recv(c[1], NULL), weir_on_recv(c[2], NULL),
                            weir_on_recv(c[3], NULL), weir_on_recv(c[4], NULL), weir_on_recv(c[5], NULL));
        CHECK(k == 1 || k == 4);
        count[k == 4]++;
    }
    is_fair(count, 2, N);
    for (int i = 0; i < 6; i++) weir_release(c[i]);
}

TEST(the_same_channel_in_two_arms_is_chosen_equally) {
    int_chan ch = weir_make(int_chan, 1);
    int count[2] = { 0 };
    for (int i = 0; i < N; i++) {
        CHECK_EQ(weir_send(ch, i), 0);
        int k = weir_select(weir_on_recv(ch, NULL), weir_on_recv(ch, NULL));
        CHECK(k == 0 || k == 1);
        count[k]++;
    }
    is_fair(count, 2, N);
    weir_release(ch);
}

static void feed(int_chan ch) {
    for (int i = 0; weir_send(ch, i) == 0; i++) {}
    weir_release(ch);
}
/* Each channel has a feeder that keeps its buffer filled. */
TEST(two_feeders_get_equal_shares) {
    int_chan a = weir_make(int_chan, 100), b = weir_make(int_chan, 100);
    int count[2] = { 0 }, both_ready = 0;
    TEST_GO(feed, weir_retain(a)), TEST_GO(feed, weir_retain(b));
    while (both_ready < N) {
        /* Only selects that had a choice count. */
        if (weir_len(a) == 0 || weir_len(b) == 0) {
            weir_yield();
            continue;
        }
        int k = weir_select(weir_on_recv(a, NULL), weir_on_recv(b, NULL));
        CHECK(k == 0 || k == 1);
        both_ready++, count[k]++;
    }
    is_fair(count, 2, N);
    weir_close(a), weir_close(b);
    TEST_UNTIL(weir_count() == 1);
    weir_release(a), weir_release(b);
}

/* A goroutine that chooses at random between sending a 0 and a 1. */
static void random_bits(int_chan ch, int n) {
    for (int i = 0; i < n; i++) CHECK_GE(weir_select(weir_on_send(ch, 0), weir_on_send(ch, 1)), 0);
    weir_close(ch);
    weir_release(ch);
}
static void bits(size_t cap, bool to_ready_receiver) {
    int_chan ch = weir_make(int_chan, cap);
    int count[2] = { 0 };
    if (!to_ready_receiver) {
        /* The buffer is never full: every select has both arms ready. */
        TEST_GO(random_bits, weir_retain(ch), N);
        TEST_UNTIL(weir_count() == 1);
    } else {
        TEST_GO(random_bits, weir_retain(ch), N);
    }
    for (int v; weir_recv(ch, &v) == 0;) count[v]++;
    CHECK_EQ(count[0] + count[1], N);
    if (to_ready_receiver) {
        /* Whom a sleeping select is woken by is up to the queue; but neither value may be starved. */
        CHECK_GE(count[0], N / 10), CHECK_GE(count[1], N / 10);
    } else {
        is_fair(count, 2, N);
    }
    weir_release(ch);
}
TEST(sends_of_two_values_come_in_random_order_through_a_buffer) { bits(N, false); }
TEST(sends_of_two_values_come_in_random_order_unbuffered) { bits(0, true); }

/* The generator is not the same for all: two goroutines' choices differ. */
static uint64_t choices[2];
static _Atomic int chosen;
static void choose(int_chan closed, int slot) {
    uint64_t bits = 0;
    for (int i = 0; i < 64; i++) {
        int arm = weir_select(weir_on_recv(closed, NULL), weir_on_recv(closed, NULL));
        bits = bits << 1 | (unsigned)arm;
    }
    choices[slot] = bits;
    chosen++;
}
TEST(two_goroutines_choose_differently) {
    int_chan closed = weir_make(int_chan, 0);
    weir_close(closed);
    TEST_GO(choose, closed, 0), TEST_GO(choose, closed, 1);
    TEST_UNTIL(chosen == 2);
    CHECK(choices[0] != choices[1]);
    weir_release(closed);
}
