/* The try_ calls: they never block, and they never miss a partner that was ready all the while. */
#include "test.h"

#include <stdatomic.h>

typedef WEIR_CHAN(int) int_chan;

static _Atomic int done;
static _Atomic int got;

static void recv_one(int_chan ch) {
    int v = -1;
    CHECK_EQ(weir_recv(ch, &v), 0);
    got = v;
    weir_release(ch);
}
static void send_one(int_chan ch, int v) {
    CHECK_EQ(weir_send(ch, v), 0);
    done++;
    weir_release(ch);
}

static void send_or_leave(int_chan ch) {
    (void)!weir_send(ch, 2);
    weir_release(ch);
}

TEST(try_send_needs_a_waiting_receiver) {
    int_chan ch = weir_make(int_chan, 0);
    CHECK_EQ(weir_try_send(ch, 1), -EAGAIN);
    TEST_GO(recv_one, weir_retain(ch));
    test_until_n_parked(1, "chan receive");
    CHECK_EQ(weir_try_send(ch, 5), 0);
    CHECK_EQ(weir_try_send(ch, 6), -EAGAIN);
    TEST_UNTIL(got == 5);
    weir_release(ch);
}

TEST(try_receive_needs_a_waiting_sender) {
    int_chan ch = weir_make(int_chan, 0);
    int v = 9;
    CHECK_EQ(weir_try_recv(ch, &v), -EAGAIN);
    CHECK_EQ(v, 9);
    TEST_GO(send_one, weir_retain(ch), 5);
    test_until_n_parked(1, "chan send");
    CHECK_EQ(weir_try_recv(ch, &v), 0);
    CHECK_EQ(v, 5);
    CHECK_EQ(weir_try_recv(ch, &v), -EAGAIN);
    TEST_UNTIL(done == 1);
    weir_release(ch);
}

TEST(try_calls_see_the_buffer) {
    int_chan ch = weir_make(int_chan, 2);
    int v;
    CHECK_EQ(weir_try_recv(ch, &v), -EAGAIN);
    CHECK_EQ(weir_try_send(ch, 1), 0), CHECK_EQ(weir_try_send(ch, 2), 0), CHECK_EQ(weir_try_send(ch, 3), -EAGAIN);
    CHECK_EQ(weir_try_recv(ch, &v), 0), CHECK_EQ(v, 1);
    CHECK_EQ(weir_try_send(ch, 3), 0);
    CHECK_EQ(weir_try_recv(ch, &v), 0), CHECK_EQ(v, 2);
    CHECK_EQ(weir_try_recv(ch, &v), 0), CHECK_EQ(v, 3);
    CHECK_EQ(weir_try_recv(ch, &v), -EAGAIN);
    weir_release(ch);
}

TEST(try_receive_lets_a_blocked_sender_into_the_buffer) {
    int_chan ch = weir_make(int_chan, 1);
    int v;
    CHECK_EQ(weir_send(ch, 1), 0);
    TEST_GO(send_one, weir_retain(ch), 2);
    test_until_n_parked(1, "chan send");
    CHECK_EQ(weir_try_recv(ch, &v), 0), CHECK_EQ(v, 1);
    CHECK_EQ(weir_try_recv(ch, &v), 0), CHECK_EQ(v, 2);
    TEST_UNTIL(done == 1);
    weir_release(ch);
}

TEST(try_calls_are_never_refused_by_a_context) {
    int_chan ch = weir_make(int_chan, 1);
    int v = 0;
    WEIR_AUTO_CANCEL weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    weir_ctx_cancel(ctx);
    weir_with(ctx) {
        CHECK_EQ(weir_try_recv(ch, &v), -EAGAIN);
        CHECK_EQ(weir_try_send(ch, 3), 0);
        CHECK_EQ(weir_try_send(ch, 4), -EAGAIN);
        CHECK_EQ(weir_try_recv(ch, &v), 0);
        CHECK_EQ(v, 3);
        weir_close(ch);
        CHECK_EQ(weir_try_recv(ch, &v), -EPIPE);
    }
    weir_release(ch);
}

/* ---- A ready partner is never missed ------------------------------------------------------------------
 * In each race there is at every moment an element, a sender, or a closed channel, so that -EAGAIN would be a lie. */

static void must_be_ready(int_chan ch) {
    int e = weir_try_recv(ch, NULL);
    if (e != 0 && e != -EPIPE) FAIL("try_recv missed what was there at every moment: %d", e);
    done++;
    weir_release(ch);
}
TEST(try_receive_sees_a_channel_that_is_full_until_it_is_closed) {
    for (int i = 1; i <= TEST_SCALE(20000); i++) {
        int_chan ch = weir_make(int_chan, 1);
        CHECK_EQ(weir_send(ch, 1), 0);
        TEST_GO(must_be_ready, weir_retain(ch));
        if (i % 3 == 0) weir_yield();
        weir_close(ch);
        (void)!weir_try_recv(ch, NULL);
        TEST_UNTIL(done == i);
        weir_release(ch);
    }
}

static void race_with(size_t cap, int (*partner)(int_chan)) {
    int rounds = (int)TEST_SCALE(5000);
    for (int i = 1; i <= rounds; i++) {
        int_chan ch = weir_make(int_chan, cap);
        for (size_t k = 0; k < cap; k++) CHECK_EQ(weir_send(ch, 1), 0);
        TEST_GO(send_or_leave, weir_retain(ch));
        test_until_n_parked(1, "chan send");
        TEST_GO(must_be_ready, weir_retain(ch));
        if (i % 3 == 0) weir_yield();
        CHECK_EQ(partner(ch), 0);
        TEST_UNTIL(done == i);
        weir_close(ch);
        TEST_UNTIL(weir_count() == 1);
        weir_release(ch);
    }
}
static int closes(int_chan ch) { return weir_close(ch); }
static int takes(int_chan ch) { return weir_recv(ch, NULL); }
TEST(try_receive_sees_a_sender_that_waits_until_the_close) { race_with(0, closes); }
TEST(try_receive_sees_what_a_waiting_sender_puts_in_the_place_of_what_is_taken) { race_with(1, takes); }

static void one_is_ready(int_chan a, int_chan b) {
    if (weir_select(weir_on_recv(a, NULL), weir_on_recv(b, NULL), weir_on_default()) == 2)
        FAIL("select took its default arm although one of the channels was ready at every moment");
    done++;
    weir_release(a), weir_release(b);
}
TEST(a_select_with_default_sees_an_element_that_appears_elsewhere_before_it_goes_here) {
    for (int i = 1; i <= TEST_SCALE(20000); i++) {
        int_chan a = weir_make(int_chan, 1), b = weir_make(int_chan, 1);
        CHECK_EQ(weir_send(a, 1), 0);
        TEST_GO(one_is_ready, weir_retain(a), weir_retain(b));
        if (i % 3 == 0) weir_yield();
        CHECK_EQ(weir_send(b, 1), 0);
        (void)!weir_try_recv(a, NULL);
        TEST_UNTIL(done == i);
        weir_release(a), weir_release(b);
    }
}
TEST(a_select_with_default_sees_a_close_that_comes_before_the_element_goes) {
    for (int i = 1; i <= TEST_SCALE(20000); i++) {
        int_chan a = weir_make(int_chan, 1), b = weir_make(int_chan, 0);
        CHECK_EQ(weir_send(a, 1), 0);
        TEST_GO(one_is_ready, weir_retain(a), weir_retain(b));
        if (i % 3 == 0) weir_yield();
        weir_close(b);
        (void)!weir_try_recv(a, NULL);
        TEST_UNTIL(done == i);
        weir_release(a), weir_release(b);
    }
}

/* A receiver that is parked stays ready until it is served: of n try_sends to n parked receivers none may fail. */
TEST(try_send_finds_each_of_many_parked_receivers) {
    int n = (int)TEST_SCALE(200);
    int_chan ch = weir_make(int_chan, 0);
    for (int i = 0; i < n; i++) TEST_GO(recv_one, weir_retain(ch));
    test_until_n_parked((size_t)n, "chan receive");
    for (int i = 0; i < n; i++) CHECK_EQ(weir_try_send(ch, i), 0);
    CHECK_EQ(weir_try_send(ch, 0), -EAGAIN);
    TEST_UNTIL(weir_count() == 1);
    weir_release(ch);
}

static _Atomic long taken, taken_sum;
static void take_what_is_there(int_chan ch) {
    for (int v; weir_try_recv(ch, &v) == 0;) {
        taken++;
        taken_sum += v;
    }
    done++;
    weir_release(ch);
}
TEST(what_many_try_to_take_is_taken_once) {
    for (int round = 1; round <= TEST_SCALE(50); round++) {
        int_chan ch = weir_make(int_chan, 200);
        taken = taken_sum = 0;
        for (int i = 0; i < 200; i++) CHECK_EQ(weir_send(ch, i), 0);
        for (int i = 0; i < 8; i++) TEST_GO(take_what_is_there, weir_retain(ch));
        TEST_UNTIL(done == 8 * round);
        CHECK_EQ(taken, 200), CHECK_EQ(taken_sum, 199 * 200 / 2);
        weir_release(ch);
    }
}

static _Atomic int given;
static void give_what_fits(int_chan ch) {
    while (weir_try_send(ch, 1) == 0) given++;
    done++;
    weir_release(ch);
}
TEST(a_buffer_takes_no_more_than_it_holds_from_many) {
    for (int round = 1; round <= TEST_SCALE(50); round++) {
        int_chan ch = weir_make(int_chan, 100);
        given = 0;
        for (int i = 0; i < 8; i++) TEST_GO(give_what_fits, weir_retain(ch));
        TEST_UNTIL(done == 8 * round);
        CHECK_EQ(given, 100), CHECK_EQ(weir_len(ch), 100);
        weir_release(ch);
    }
}
