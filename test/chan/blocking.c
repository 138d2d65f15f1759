/* When send and receive block, who wakes them, and in which order the blocked are served. */
#include "test.h"

#include <stdatomic.h>

typedef WEIR_CHAN(int) int_chan;

static _Atomic int passed;     /* goroutines that got past their call */
static _Atomic int received[64];

static void send_one(int_chan ch, int v) {
    CHECK_EQ(weir_send(ch, v), 0);
    passed++;
    weir_release(ch);
}
static void recv_one(int_chan ch, int slot) {
    int v = -1;
    CHECK_EQ(weir_recv(ch, &v), 0);
    received[slot] = v;
    passed++;
    weir_release(ch);
}

static void receiver_waits(size_t cap) {
    int_chan ch = weir_make(int_chan, cap);
    TEST_GO(recv_one, weir_retain(ch), 0);
    test_until_n_parked(1, "chan receive");
    CHECK_EQ(passed, 0);
    CHECK_EQ(weir_send(ch, 42), 0);
    TEST_UNTIL(passed == 1);
    CHECK_EQ(received[0], 42);
    weir_release(ch);
}
TEST(receive_blocks_until_a_send_without_a_buffer) { receiver_waits(0); }
TEST(receive_blocks_until_a_send_on_an_empty_buffer) { receiver_waits(10); }

TEST(send_blocks_until_a_receive_without_a_buffer) {
    int_chan ch = weir_make(int_chan, 0);
    int v = 0;
    TEST_GO(send_one, weir_retain(ch), 42);
    test_until_n_parked(1, "chan send");
    CHECK_EQ(passed, 0);
    CHECK_EQ(weir_len(ch), 0);
    CHECK_EQ(weir_recv(ch, &v), 0);
    CHECK_EQ(v, 42);
    TEST_UNTIL(passed == 1);
    weir_release(ch);
}

static void full_buffer(int cap) {
    int_chan ch = weir_make(int_chan, (size_t)cap);
    int v = 0;
    for (int i = 0; i < cap; i++) CHECK_EQ(weir_send(ch, i), 0);
    TEST_GO(send_one, weir_retain(ch), cap);
    test_until_n_parked(1, "chan send");
    CHECK_EQ(passed, 0);
    CHECK_EQ(weir_len(ch), cap);
    /* Room for one: the blocked element moves up, behind the others. */
    CHECK_EQ(weir_recv(ch, &v), 0);
    CHECK_EQ(v, 0);
    TEST_UNTIL(passed == 1);
    CHECK_EQ(weir_len(ch), cap);
    for (int i = 1; i <= cap; i++) {
        CHECK_EQ(weir_recv(ch, &v), 0);
        CHECK_EQ(v, i);
    }
    weir_release(ch);
}
TEST(send_blocks_only_once_a_buffer_of_one_is_full) { full_buffer(1); }
TEST(send_blocks_only_once_a_buffer_of_ten_is_full) { full_buffer(10); }

TEST(blocked_senders_are_served_first_come_first_served) {
    int_chan ch = weir_make(int_chan, 0);
    int v;
    for (int i = 0; i < 8; i++) {
        TEST_GO(send_one, weir_retain(ch), i);
        test_until_n_parked((size_t)i + 1, "chan send");
    }
    for (int i = 0; i < 8; i++) {
        CHECK_EQ(weir_recv(ch, &v), 0);
        CHECK_EQ(v, i);
    }
    weir_release(ch);
}

TEST(blocked_senders_enter_the_buffer_in_order) {
    int_chan ch = weir_make(int_chan, 2);
    int v;
    CHECK_EQ(weir_send(ch, 0), 0), CHECK_EQ(weir_send(ch, 1), 0);
    for (int i = 2; i < 8; i++) {
        TEST_GO(send_one, weir_retain(ch), i);
        test_until_n_parked((size_t)i - 1, "chan send");
    }
    for (int i = 0; i < 8; i++) {
        CHECK_EQ(weir_recv(ch, &v), 0);
        CHECK_EQ(v, i);
    }
    weir_release(ch);
}

TEST(blocked_receivers_are_served_first_come_first_served) {
    int_chan ch = weir_make(int_chan, 0);
    for (int i = 0; i < 8; i++) {
        TEST_GO(recv_one, weir_retain(ch), i);
        test_until_n_parked((size_t)i + 1, "chan receive");
    }
    for (int i = 0; i < 8; i++) CHECK_EQ(weir_send(ch, 100 + i), 0);
    TEST_UNTIL(passed == 8);
    for (int i = 0; i < 8; i++) CHECK_EQ(received[i], 100 + i);
    weir_release(ch);
}

TEST(an_element_goes_straight_to_a_waiting_receiver) {
    int_chan ch = weir_make(int_chan, 5);
    TEST_GO(recv_one, weir_retain(ch), 0);
    test_until_n_parked(1, "chan receive");
    CHECK_EQ(weir_send(ch, 9), 0);
    CHECK_EQ(weir_len(ch), 0); /* not by way of the buffer, where another could take it */
    CHECK_EQ(weir_try_recv(ch, NULL), -EAGAIN);
    TEST_UNTIL(passed == 1);
    CHECK_EQ(received[0], 9);
    weir_release(ch);
}

TEST(one_send_wakes_one_receiver) {
    int_chan ch = weir_make(int_chan, 0);
    for (int i = 0; i < 3; i++) TEST_GO(recv_one, weir_retain(ch), i);
    test_until_n_parked(3, "chan receive");
    CHECK_EQ(weir_send(ch, 1), 0);
    TEST_UNTIL(passed == 1);
    CHECK_EQ(test_parked("chan receive"), 2);
    CHECK_EQ(weir_send(ch, 1), 0), CHECK_EQ(weir_send(ch, 1), 0);
    TEST_UNTIL(passed == 3);
    weir_release(ch);
}

TEST(one_receive_wakes_one_sender) {
    int_chan ch = weir_make(int_chan, 0);
    for (int i = 0; i < 3; i++) TEST_GO(send_one, weir_retain(ch), i);
    test_until_n_parked(3, "chan send");
    CHECK_EQ(weir_recv(ch, NULL), 0);
    TEST_UNTIL(passed == 1);
    CHECK_EQ(test_parked("chan send"), 2);
    CHECK_EQ(weir_recv(ch, NULL), 0), CHECK_EQ(weir_recv(ch, NULL), 0);
    TEST_UNTIL(passed == 3);
    weir_release(ch);
}

TEST(len_and_cap_follow_the_buffer) {
    int_chan ch = weir_make(int_chan, 3), none = weir_make(int_chan, 0);
    CHECK_EQ(weir_cap(ch), 3), CHECK_EQ(weir_cap(none), 0), CHECK_EQ(weir_len(none), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(weir_len(ch), i);
        CHECK_EQ(weir_send(ch, i), 0);
    }
    CHECK_EQ(weir_len(ch), 3);
    for (int i = 3; i > 0; i--) {
        CHECK_EQ(weir_len(ch), i);
        CHECK_EQ(weir_recv(ch, NULL), 0);
    }
    CHECK_EQ(weir_len(ch), 0), CHECK_EQ(weir_cap(ch), 3);
    weir_release(ch), weir_release(none);
}

/* Send on an unbuffered channel returns only once the receiver has the element. */
static int shared_word;
static void write_then_send(int_chan ch) {
    shared_word = 77; /* plain: the channel orders it */
    CHECK_EQ(weir_send(ch, 0), 0);
    weir_release(ch);
}
TEST(what_was_written_before_a_send_is_seen_after_its_receive) {
    for (int i = 0; i < TEST_SCALE(300); i++) {
        int_chan ch = weir_make(int_chan, (size_t)i % 2);
        shared_word = 0;
        TEST_GO(write_then_send, weir_retain(ch));
        CHECK_EQ(weir_recv(ch, NULL), 0);
        CHECK_EQ(shared_word, 77);
        weir_release(ch);
    }
}

static void ping(int_chan in, int_chan out, int n) {
    for (int i = 0, v; i < n; i++) {
        CHECK_EQ(weir_recv(in, &v), 0);
        CHECK_EQ(weir_send(out, v + 1), 0);
    }
    weir_release(in), weir_release(out);
}
static void play(int procs) {
    int n = (int)TEST_SCALE(20000), v = 0;
    weir_procs(procs);
    int_chan to = weir_make(int_chan, 0), from = weir_make(int_chan, 0);
    TEST_GO(ping, weir_retain(to), weir_retain(from), n);
    for (int i = 0; i < n; i++) {
        CHECK_EQ(weir_send(to, v), 0);
        CHECK_EQ(weir_recv(from, &v), 0);
        CHECK_EQ(v, i + 1);
    }
    weir_release(to), weir_release(from);
}
TEST(ping_pong_on_one_processor) { play(1); }
TEST(ping_pong_on_two_processors) { play(2); }

EXIT_TEST(a_send_that_nobody_can_receive_is_a_deadlock, 2, "all goroutines are asleep - deadlock!") {
    int_chan ch = weir_make(int_chan, 0);
    (void)!weir_send(ch, 1);
}
EXIT_TEST(a_receive_that_nobody_can_serve_is_a_deadlock, 2, "[chan receive]:") {
    int_chan ch = weir_make(int_chan, 3);
    (void)!weir_recv(ch, NULL);
}
