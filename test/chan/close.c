/* Close: what is buffered still comes, then zeroes and -EPIPE; everybody who waits is woken, none is served twice. */
#include "test.h"

#include <stdatomic.h>

typedef WEIR_CHAN(int) int_chan;
struct pair {
    long a, b;
};
typedef WEIR_CHAN(struct pair) pair_chan;

static _Atomic int woken;

TEST(a_closed_channel_drains_then_gives_zeroes) {
    int_chan ch = weir_make(int_chan, 3);
    int v;
    for (int i = 1; i <= 3; i++) CHECK_EQ(weir_send(ch, i), 0);
    CHECK_EQ(weir_close(ch), 0);
    CHECK_EQ(weir_len(ch), 3);
    for (int i = 1; i <= 3; i++) {
        CHECK_EQ(weir_recv(ch, &v), 0);
        CHECK_EQ(v, i);
    }
    for (int i = 0; i < 3; i++) {
        v = 99;
        CHECK_EQ(weir_recv(ch, &v), -EPIPE);
        CHECK_EQ(v, 0);
        v = 99;
        CHECK_EQ(weir_try_recv(ch, &v), -EPIPE);
        CHECK_EQ(v, 0);
    }
    CHECK_EQ(weir_recv(ch, NULL), -EPIPE);
    weir_release(ch);
}

TEST(the_whole_element_is_zeroed) {
    pair_chan ch = weir_make(pair_chan, 0);
    struct pair p = { 5, 6 };
    weir_close(ch);
    CHECK_EQ(weir_recv(ch, &p), -EPIPE);
    CHECK(p.a == 0 && p.b == 0);
    weir_release(ch);
}

TEST(the_range_loop_ends_with_the_channel) {
    int_chan ch = weir_make(int_chan, 5);
    int sum = 0, v;
    for (int i = 1; i <= 5; i++) CHECK_EQ(weir_send(ch, i), 0);
    weir_close(ch);
    while (weir_recv(ch, &v) == 0) sum += v;
    CHECK_EQ(sum, 15);
    weir_release(ch);
}

TEST(send_on_a_closed_channel_is_refused) {
    int_chan none = weir_make(int_chan, 0), ch = weir_make(int_chan, 2);
    CHECK_EQ(weir_send(ch, 1), 0);
    weir_close(none), weir_close(ch);
    CHECK_EQ(weir_send(none, 1), -EPIPE), CHECK_EQ(weir_try_send(none, 1), -EPIPE);
    CHECK_EQ(weir_send(ch, 2), -EPIPE), CHECK_EQ(weir_try_send(ch, 2), -EPIPE);
    CHECK_EQ(weir_len(ch), 1);
    weir_release(none), weir_release(ch);
}

TEST(send_on_a_closed_full_channel_is_refused_at_once) {
    int_chan ch = weir_make(int_chan, 1);
    CHECK_EQ(weir_send(ch, 1), 0);
    weir_close(ch);
    CHECK_EQ(weir_send(ch, 2), -EPIPE), CHECK_EQ(weir_try_send(ch, 2), -EPIPE);
    weir_release(ch);
}

TEST(closing_twice_is_an_error) {
    int_chan ch = weir_make(int_chan, 0);
    CHECK_EQ(weir_close(ch), 0);
    CHECK_EQ(weir_close(ch), -EPIPE), CHECK_EQ(weir_close(ch), -EPIPE);
    weir_release(ch);
}

TEST(closing_nil_is_an_error) {
    int_chan nil = { 0 };
    CHECK_EQ(weir_close(nil), -EINVAL);
    CHECK_EQ(weir_chan_close(NULL), -EINVAL);
}

static void expect_closed(int_chan ch) {
    int v = 99;
    CHECK_EQ(weir_recv(ch, &v), -EPIPE);
    CHECK_EQ(v, 0);
    woken++;
    weir_release(ch);
}
static void receivers_wake(size_t cap) {
    int n = (int)TEST_SCALE(200);
    int_chan ch = weir_make(int_chan, cap);
    for (int i = 0; i < n; i++) TEST_GO(expect_closed, weir_retain(ch));
    test_until_n_parked((size_t)n, "chan receive");
    CHECK_EQ(woken, 0);
    CHECK_EQ(weir_close(ch), 0);
    TEST_UNTIL(woken == n);
    weir_release(ch);
}
TEST(close_wakes_every_receiver) { receivers_wake(0); }
TEST(close_wakes_every_receiver_of_a_buffer) { receivers_wake(4); }

static void expect_refused(int_chan ch, int v) {
    CHECK_EQ(weir_send(ch, v), -EPIPE);
    woken++;
    weir_release(ch);
}
static void senders_wake(int cap) {
    int n = (int)TEST_SCALE(200), v;
    int_chan ch = weir_make(int_chan, (size_t)cap);
    for (int i = 0; i < cap; i++) CHECK_EQ(weir_send(ch, i), 0);
    for (int i = 0; i < n; i++) TEST_GO(expect_refused, weir_retain(ch), 1000 + i);
    test_until_n_parked((size_t)n, "chan send");
    CHECK_EQ(weir_close(ch), 0);
    TEST_UNTIL(woken == n);
    /* What was in the buffer comes; what its senders were told was refused does not. */
    CHECK_EQ(weir_len(ch), cap);
    for (int i = 0; i < cap; i++) {
        CHECK_EQ(weir_recv(ch, &v), 0);
        CHECK_EQ(v, i);
    }
    CHECK_EQ(weir_recv(ch, &v), -EPIPE);
    weir_release(ch);
}
TEST(close_wakes_every_sender) { senders_wake(0); }
TEST(close_wakes_every_sender_behind_a_full_buffer) { senders_wake(2); }

static _Atomic int closers, first_closers;
static void close_it(int_chan ch) {
    int e = weir_close(ch);
    CHECK(e == 0 || e == -EPIPE);
    if (e == 0) first_closers++;
    closers++;
    weir_release(ch);
}
TEST(of_many_closers_exactly_one_succeeds) {
    for (int round = 1; round <= TEST_SCALE(200); round++) {
        int_chan ch = weir_make(int_chan, 0);
        for (int i = 0; i < 8; i++) TEST_GO(close_it, weir_retain(ch));
        TEST_UNTIL(closers == 8 * round);
        CHECK_EQ(first_closers, round);
        weir_release(ch);
    }
}

/* Senders and receivers are busy when it closes: what was accepted is received, once. */
static _Atomic long accepted, arrived, ended;
static void send_until_closed(int_chan ch, int from) {
    for (int i = from; weir_send(ch, i) == 0; i++) accepted += i;
    ended++;
    weir_release(ch);
}
static void recv_until_closed(int_chan ch) {
    for (int v; weir_recv(ch, &v) == 0;) arrived += v;
    ended++;
    weir_release(ch);
}
static void close_under_way(size_t cap) {
    for (int round = 0; round < TEST_SCALE(100); round++) {
        int_chan ch = weir_make(int_chan, cap);
        accepted = arrived = ended = 0;
        for (int i = 0; i < 4; i++) {
            TEST_GO(send_until_closed, weir_retain(ch), 1 + 1000000 * i);
            TEST_GO(recv_until_closed, weir_retain(ch));
        }
        TEST_UNTIL(accepted > 0);
        for (int i = 0; i < round % 7; i++) weir_yield();
        CHECK_EQ(weir_close(ch), 0);
        TEST_UNTIL(ended == 8);
        CHECK_EQ(accepted, arrived);
        weir_release(ch);
    }
}
TEST(close_amid_traffic_loses_nothing_unbuffered) { close_under_way(0); }
TEST(close_amid_traffic_loses_nothing_through_one_slot) { close_under_way(1); }
TEST(close_amid_traffic_loses_nothing_through_a_buffer) { close_under_way(10); }

/* ---- weir_wait_closed ------------------------------------------------------------------------------ */

TEST(wait_closed_returns_at_once_when_closed_and_drained) {
    int_chan ch = weir_make(int_chan, 0);
    weir_close(ch);
    CHECK_EQ(weir_wait_closed(ch), 0), CHECK_EQ(weir_wait_closed(ch), 0);
    weir_release(ch);
}

TEST(wait_closed_drains_what_is_left) {
    int_chan ch = weir_make(int_chan, 3);
    for (int i = 0; i < 3; i++) CHECK_EQ(weir_send(ch, i), 0);
    weir_close(ch);
    CHECK_EQ(weir_wait_closed(ch), 0);
    CHECK_EQ(weir_len(ch), 0), CHECK_EQ(weir_recv(ch, NULL), -EPIPE);
    weir_release(ch);
}

static _Atomic int sent;
static void send_and_close(int_chan ch, int n) {
    for (int i = 0; i < n; i++) {
        CHECK_EQ(weir_send(ch, i), 0);
        sent++;
    }
    weir_close(ch);
    weir_release(ch);
}
TEST(wait_closed_discards_what_comes_until_then) {
    int_chan ch = weir_make(int_chan, 0);
    TEST_GO(send_and_close, weir_retain(ch), 50);
    CHECK_EQ(weir_wait_closed(ch), 0);
    CHECK_EQ(sent, 50);
    weir_release(ch);
}

static void wait_closed(int_chan ch) {
    CHECK_EQ(weir_wait_closed(ch), 0);
    woken++;
    weir_release(ch);
}
TEST(wait_closed_blocks_until_the_close) {
    int_chan ch = weir_make(int_chan, 2);
    for (int i = 0; i < 3; i++) TEST_GO(wait_closed, weir_retain(ch));
    test_until_n_parked(3, "chan receive");
    CHECK_EQ(weir_send(ch, 1), 0);
    test_until_n_parked(3, "chan receive");
    CHECK_EQ(woken, 0);
    weir_close(ch);
    TEST_UNTIL(woken == 3);
    weir_release(ch);
}

TEST(wait_closed_obeys_the_context) {
    int_chan ch = weir_make(int_chan, 0), nil = { 0 };
    weir_timeout(5 * WEIR_MILLISECOND) { CHECK_EQ(weir_wait_closed(ch), -ETIMEDOUT); }
    weir_timeout(5 * WEIR_MILLISECOND) { CHECK_EQ(weir_wait_closed(nil), -ETIMEDOUT); }
    weir_release(ch);
}
