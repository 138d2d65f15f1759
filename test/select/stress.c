/* Selects among crowds: four channels, both directions, and waiters that leave from the middle of queues. */
#include "test.h"

#include <stdatomic.h>
#include <stdlib.h>

typedef WEIR_CHAN(int) int_chan;
static const int_chan nil;

/* On each of four channels (two unbuffered, two not) n elements pass from a plain sender and n from a select, half of
 * them to a plain receiver, half to another select. */
static int_chan c[4];
static _Atomic long sent_sum, got_sum, got_count;
static _Atomic int running;

static void send_plain(int k, int n) {
    for (int i = 0; i < n; i++) {
        CHECK_EQ(weir_send(c[k], i), 0);
        sent_sum += i;
    }
    running--;
}
static void recv_plain(int k, int n) {
    for (int i = 0, v; i < n; i++) {
        CHECK_EQ(weir_recv(c[k], &v), 0);
        got_sum += v;
        got_count++;
    }
    running--;
}
static void send_by_select(int n) {
    int left[4] = { n, n, n, n };
    int_chan o[4] = { c[0], c[1], c[2], c[3] };
    for (int total = 4 * n; total > 0; total--) {
        int k = weir_select(weir_on_send(o[3], total), weir_on_send(o[2], total), weir_on_send(o[0], total),
                            weir_on_send(o[1], total));
        CHECK(k >= 0);
        k = (int[]){ 3, 2, 0, 1 }[k];
        sent_sum += total;
        if (--left[k] == 0) o[k] = nil;
    }
    running--;
}
static void recv_by_select(int n) {
    int left[4] = { n, n, n, n };
    int_chan o[4] = { c[0], c[1], c[2], c[3] };
    for (int total = 4 * n; total > 0; total--) {
        int v[4];
        int k = weir_select(weir_on_recv(o[0], &v[0]), weir_on_recv(o[1], &v[1]), weir_on_recv(o[2], &v[2]),
                            weir_on_recv(o[3], &v[3]));
        CHECK(k >= 0);
        got_sum += v[k];
        got_count++;
        if (--left[k] == 0) o[k] = nil;
    }
    running--;
}
static void four_channels(int procs) {
    int n = (int)TEST_SCALE(20000);
    weir_procs(procs);
    c[0] = weir_make(int_chan, 0), c[1] = weir_make(int_chan, 0);
    c[2] = weir_make(int_chan, 2), c[3] = weir_make(int_chan, 3);
    running = 10;
    for (int k = 0; k < 4; k++) {
        TEST_GO(send_plain, k, n);
        TEST_GO(recv_plain, k, n);
    }
    TEST_GO(send_by_select, n);
    TEST_GO(recv_by_select, n);
    TEST_UNTIL(running == 0);
    CHECK_EQ(got_count, 8l * n), CHECK_EQ(got_sum, sent_sum);
    for (int k = 0; k < 4; k++) {
        CHECK_EQ(weir_len(c[k]), 0);
        weir_release(c[k]);
    }
}
TEST(four_channels_both_directions) { four_channels(2); }
TEST(four_channels_both_directions_on_one_processor) { four_channels(1); }
TEST(four_channels_both_directions_on_eight_processors) { four_channels(8); }

/* ---- Leaving from the middle of a queue -------------------------------------------------------------------- */

static _Atomic int arm_fired = -1, received[3];
static void select_two(int_chan a, int_chan b) {
    arm_fired = weir_select(weir_on_recv(a, NULL), weir_on_recv(b, NULL));
}
static void recv_into(int_chan a, int slot) {
    int v = -1;
    CHECK_EQ(weir_recv(a, &v), 0);
    received[slot] = v;
}
TEST(a_select_that_leaves_does_not_disturb_its_neighbours) {
    int_chan a = weir_make(int_chan, 0), b = weir_make(int_chan, 0);
    TEST_GO(recv_into, a, 0);
    test_until_n_parked(1, NULL);
    TEST_GO(select_two, a, b);
    test_until_n_parked(2, NULL);
    TEST_GO(recv_into, a, 1);
    test_until_n_parked(3, NULL);
    CHECK_EQ(weir_send(b, 1), 0);
    TEST_UNTIL(arm_fired == 1);
    CHECK_EQ(weir_send(a, 100), 0), CHECK_EQ(weir_send(a, 101), 0);
    TEST_UNTIL(weir_count() == 1);
    CHECK_EQ(received[0], 100), CHECK_EQ(received[1], 101);
    weir_release(a), weir_release(b);
}

TEST(a_select_at_the_head_that_leaves_lets_the_next_one_be_served) {
    int_chan a = weir_make(int_chan, 0), b = weir_make(int_chan, 0);
    TEST_GO(select_two, a, b);
    test_until_n_parked(1, NULL);
    TEST_GO(recv_into, a, 0);
    test_until_n_parked(2, NULL);
    CHECK_EQ(weir_send(b, 1), 0);
    TEST_UNTIL(arm_fired == 1);
    CHECK_EQ(weir_try_send(a, 5), 0);
    TEST_UNTIL(weir_count() == 1);
    CHECK_EQ(received[0], 5);
    weir_release(a), weir_release(b);
}

/* Both channels become ready at the same moment, from two sides: one wins, the other's element stays. */
static _Atomic int sends_ok;
static void try_send_once(int_chan ch, _Atomic int *gate) {
    ++*gate;
    while (*gate < 2) weir_yield();
    if (weir_try_send(ch, 1) == 0) sends_ok++;
    running--;
}
TEST(a_sleeping_select_takes_one_of_two_that_come_at_once) {
    int_chan a = weir_make(int_chan, 0), b = weir_make(int_chan, 0);
    for (int i = 0; i < TEST_SCALE(5000); i++) {
        _Atomic int gate = 0;
        arm_fired = -1;
        sends_ok = 0;
        running = 2;
        TEST_GO(select_two, a, b);
        test_until_n_parked(1, "select");
        TEST_GO(try_send_once, a, &gate);
        TEST_GO(try_send_once, b, &gate);
        TEST_UNTIL(running == 0 && weir_count() == 1);
        CHECK_EQ(sends_ok, 1);
        CHECK(arm_fired == 0 || arm_fired == 1);
    }
    weir_release(a), weir_release(b);
}

/* Selects in opposite orders of the same channels: they lock them in one order, so they cannot block each other. */
static void opposite(int first, int n) {
    for (int i = 0; i < n; i++) {
        int v;
        int arm = first ? weir_select(weir_on_send(c[0], 1), weir_on_recv(c[1], &v), weir_on_send(c[2], 1),
                                      weir_on_recv(c[3], &v))
                        : weir_select(weir_on_recv(c[3], &v), weir_on_send(c[2], 1), weir_on_recv(c[1], &v),
                                      weir_on_send(c[0], 1));
        CHECK_GE(arm, 0);
        if (i % 16 == 0) weir_yield();
    }
    running--;
}
static void turn_around(void) { /* what was sent to 0 and 2 comes back by 1 and 3 */
    while (running > 0) {
        int arm = weir_select(weir_on_recv(c[2], NULL), weir_on_recv(c[0], NULL), weir_on_send(c[1], 1),
                              weir_on_send(c[3], 1), weir_on_default());
        if (arm == 4) weir_yield();
    }
}
TEST(selects_in_opposite_orders_do_not_block_each_other) {
    for (int k = 0; k < 4; k++) c[k] = weir_make(int_chan, (size_t)(k & 1));
    running = 4;
    for (int i = 0; i < 4; i++) TEST_GO(opposite, i & 1, (int)TEST_SCALE(5000));
    for (int i = 0; i < 2; i++) TEST_GO(turn_around);
    TEST_UNTIL(weir_count() == 1);
    for (int k = 0; k < 4; k++) weir_release(c[k]);
}

/* One channel given as several arms with others between, by many at once: each lock is taken once. */
static void tangled(int n) {
    for (int i = 0; i < n; i++) {
        int v;
        CHECK_GE(weir_select(weir_on_recv(c[0], &v), weir_on_send(c[1], 1), weir_on_recv(c[1], &v),
                             weir_on_send(c[0], 1), weir_on_recv(c[0], &v), weir_on_after(WEIR_MILLISECOND)), 0);
    }
    running--;
}
TEST(channels_in_several_arms_among_many_selects) {
    c[0] = weir_make(int_chan, 0), c[1] = weir_make(int_chan, 1);
    running = 6;
    for (int i = 0; i < 6; i++) TEST_GO(tangled, (int)TEST_SCALE(5000));
    TEST_UNTIL(weir_count() == 1);
    CHECK_EQ(running, 0);
    weir_release(c[0]), weir_release(c[1]);
}
