/* Handles are counted; the last one frees the channel and hands what is left in it to on_drop. */
#include "test.h"

#include <stdatomic.h>
#include <stdlib.h>

typedef WEIR_CHAN(int) int_chan;
typedef WEIR_CHAN(char *) text_chan;

static _Atomic int dropped, dropped_in_order = 1, last_dropped = -1;
static void count_drop(void *elem) {
    int v = *(int *)elem;
    if (v <= last_dropped) dropped_in_order = 0;
    last_dropped = v;
    dropped++;
}

TEST(the_last_release_drops_what_is_left_in_order) {
    int_chan ch = weir_make(int_chan, 5);
    weir_chan_on_drop(ch, count_drop);
    for (int i = 0; i < 5; i++) CHECK_EQ(weir_send(ch, i), 0);
    CHECK_EQ(weir_recv(ch, NULL), 0), CHECK_EQ(weir_recv(ch, NULL), 0);
    CHECK_EQ(weir_send(ch, 5), 0); /* the ring has wrapped around */
    CHECK_EQ(dropped, 0);
    weir_release(ch);
    CHECK_EQ(dropped, 4), CHECK_EQ(last_dropped, 5), CHECK(dropped_in_order);
}

TEST(a_drained_channel_drops_nothing) {
    int_chan ch = weir_make(int_chan, 3);
    weir_chan_on_drop(ch, count_drop);
    CHECK_EQ(weir_send(ch, 1), 0), CHECK_EQ(weir_recv(ch, NULL), 0);
    weir_release(ch);
    CHECK_EQ(dropped, 0);
}

TEST(a_closed_channel_drops_what_nobody_took) {
    int_chan ch = weir_make(int_chan, 3);
    weir_chan_on_drop(ch, count_drop);
    CHECK_EQ(weir_send(ch, 1), 0), CHECK_EQ(weir_send(ch, 2), 0);
    weir_close(ch);
    weir_release(ch);
    CHECK_EQ(dropped, 2);
}

static void free_text(void *elem) {
    free(*(char **)elem);
    dropped++;
}
TEST(on_drop_can_free_what_elements_own) {
    text_chan ch = weir_make(text_chan, 8);
    weir_chan_on_drop(ch, free_text);
    for (int i = 0; i < 8; i++) CHECK_EQ(weir_send(ch, strdup("owned")), 0);
    char *one;
    CHECK_EQ(weir_recv(ch, &one), 0);
    CHECK_STR(one, "owned");
    free(one);
    weir_release(ch);
    CHECK_EQ(dropped, 7);
}

static void drop_unit(void *elem) {
    (void)elem;
    dropped++;
}
TEST(units_are_dropped_one_by_one) {
    weir_unit_chan ch = weir_make(weir_unit_chan, 4);
    weir_chan_on_drop(ch, drop_unit);
    for (int i = 0; i < 3; i++) CHECK_EQ(weir_send(ch, weir_unit_value), 0);
    weir_release(ch);
    CHECK_EQ(dropped, 3);
}

TEST(every_retain_needs_a_release) {
    int_chan ch = weir_make(int_chan, 1);
    weir_chan_on_drop(ch, count_drop);
    int_chan same = weir_retain(ch);
    CHECK(weir_chan_of(same) == weir_chan_of(ch));
    CHECK_EQ(weir_send(ch, 1), 0);
    weir_release(ch);
    CHECK_EQ(dropped, 0);
    CHECK_EQ(weir_len(same), 1); /* still alive */
    weir_release(same);
    CHECK_EQ(dropped, 1);
}

static _Atomic int ended;
static void hold(int_chan ch) {
    for (int i = 0; i < 100; i++) weir_release(weir_retain(ch));
    weir_release(ch);
    ended++;
}
TEST(counting_is_exact_when_many_count) {
    int_chan ch = weir_make(int_chan, 1);
    weir_chan_on_drop(ch, count_drop);
    CHECK_EQ(weir_send(ch, 1), 0);
    for (int i = 0; i < 20; i++) TEST_GO(hold, weir_retain(ch));
    TEST_UNTIL(ended == 20);
    CHECK_EQ(dropped, 0);
    weir_release(ch);
    CHECK_EQ(dropped, 1);
}

TEST(whoever_releases_last_drops) {
    int_chan ch = weir_make(int_chan, 1);
    weir_chan_on_drop(ch, count_drop);
    CHECK_EQ(weir_send(ch, 1), 0);
    TEST_GO(hold, ch); /* the only count goes along */
    TEST_UNTIL(ended == 1);
    CHECK_EQ(dropped, 1);
}

/* ---- A blocked call keeps its channel alive ------------------------------------------------------------ */

static _Atomic int result = 1;
static void recv_borrowed(int_chan ch, weir_ctx *ctx) {
    weir_with(ctx) { result = weir_recv(ch, NULL); }
}
static void send_borrowed(int_chan ch, weir_ctx *ctx) {
    weir_with(ctx) { result = weir_send(ch, 100); }
}
static void select_borrowed(int_chan ch, weir_ctx *ctx) {
    weir_with(ctx) { result = weir_select(weir_on_recv(ch, NULL)); }
}
static void wait_closed_borrowed(int_chan ch, weir_ctx *ctx) {
    weir_with(ctx) { result = weir_wait_closed(ch); }
}

static void released_while_blocked(void (*fn)(int_chan, weir_ctx *), const char *state, int elements) {
    WEIR_AUTO_CANCEL weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    int_chan ch = weir_make(int_chan, (size_t)elements);
    weir_chan_on_drop(ch, count_drop);
    for (int i = 0; i < elements; i++) CHECK_EQ(weir_send(ch, i), 0);
    TEST_GO(fn, ch, ctx);
    test_until_n_parked(1, state);
    weir_release(ch); /* the last handle; the call still uses the channel */
    CHECK_EQ(dropped, 0);
    weir_ctx_cancel(ctx);
    TEST_UNTIL(weir_count() == 1);
    CHECK_EQ(result, -ECANCELED);
    CHECK_EQ(dropped, elements); /* the call was the last to hold it */
}
TEST(release_while_a_receiver_is_blocked) { released_while_blocked(recv_borrowed, "chan receive", 0); }
TEST(release_while_a_sender_is_blocked) { released_while_blocked(send_borrowed, "chan send", 0); }
TEST(release_while_a_sender_is_blocked_behind_a_buffer) { released_while_blocked(send_borrowed, "chan send", 3); }
TEST(release_while_a_select_is_blocked) { released_while_blocked(select_borrowed, "select", 0); }
TEST(release_while_a_waiter_for_close_is_blocked) { released_while_blocked(wait_closed_borrowed, "chan receive", 0); }

/* Cancelled, but not yet gone when somebody else passes it by and then lets go of the channel. */
static void released_while_leaving(void (*fn)(int_chan, weir_ctx *), const char *state) {
    weir_procs(1);
    for (int i = 1; i <= TEST_SCALE(100); i++) {
        WEIR_AUTO_CANCEL weir_ctx *ctx = weir_ctx_with_cancel(NULL);
        int_chan ch = weir_make(int_chan, 1);
        weir_chan_on_drop(ch, drop_unit);
        TEST_GO(fn, ch, ctx);
        test_until_n_parked(1, state);
        weir_ctx_cancel(ctx);
        CHECK_EQ(weir_try_send(ch, 1), 0);
        weir_release(ch);
        TEST_UNTIL(weir_count() == 1);
        CHECK_EQ(dropped, i); /* once */
    }
}
TEST(release_while_a_cancelled_receiver_is_leaving) { released_while_leaving(recv_borrowed, "chan receive"); }
TEST(release_while_a_cancelled_waiter_for_close_is_leaving) {
    released_while_leaving(wait_closed_borrowed, "chan receive");
}

static void send_and_release_last(int_chan ch) {
    CHECK_EQ(weir_send(ch, 1), 0);
    weir_release(ch);
}
TEST(a_waiter_for_close_keeps_the_channel_between_two_elements) {
    for (int i = 0; i < TEST_SCALE(200); i++) {
        WEIR_AUTO_CANCEL weir_ctx *ctx = weir_ctx_with_cancel(NULL);
        int_chan ch = weir_make(int_chan, 0);
        TEST_GO(wait_closed_borrowed, ch, ctx);
        test_until_n_parked(1, "chan receive");
        TEST_GO(send_and_release_last, ch);
        TEST_UNTIL(weir_count() == 2);
        weir_ctx_cancel(ctx);
        TEST_UNTIL(weir_count() == 1);
        CHECK_EQ(result, -ECANCELED);
    }
}

/* Sender and receiver meet, and both let go at once: whoever is last frees. */
static void send_and_let_go(int_chan ch) {
    CHECK_EQ(weir_send(ch, 1), 0);
    weir_release(ch);
}
TEST(both_ends_may_let_go_right_after_they_met) {
    for (int i = 0; i < TEST_SCALE(3000); i++) {
        int_chan ch = weir_make(int_chan, 0);
        TEST_GO(send_and_let_go, weir_retain(ch));
        CHECK_EQ(weir_recv(ch, NULL), 0);
        weir_release(ch);
    }
}

static void let_go_of_closed(int_chan ch) {
    CHECK_EQ(weir_recv(ch, NULL), -EPIPE);
    weir_release(ch);
}
TEST(a_closer_may_let_go_while_the_woken_still_return) {
    for (int i = 0; i < TEST_SCALE(1000); i++) {
        int_chan ch = weir_make(int_chan, 0);
        for (int k = 0; k < 3; k++) TEST_GO(let_go_of_closed, weir_retain(ch));
        weir_yield();
        weir_close(ch);
        weir_release(ch);
    }
    TEST_UNTIL(weir_count() == 1);
}

/* on_drop runs without the channel's lock: it may use other channels. */
static int_chan graveyard;
static void bury(void *elem) { CHECK_EQ(weir_send(graveyard, *(int *)elem), 0); }
TEST(on_drop_may_use_other_channels) {
    int v;
    graveyard = weir_make(int_chan, 2);
    int_chan ch = weir_make(int_chan, 2);
    weir_chan_on_drop(ch, bury);
    CHECK_EQ(weir_send(ch, 1), 0), CHECK_EQ(weir_send(ch, 2), 0);
    weir_release(ch);
    CHECK_EQ(weir_recv(graveyard, &v), 0), CHECK_EQ(v, 1);
    CHECK_EQ(weir_recv(graveyard, &v), 0), CHECK_EQ(v, 2);
    weir_release(graveyard);
}

typedef WEIR_CHAN(int_chan) chan_chan;
static void release_inner(void *elem) { weir_release(*(int_chan *)elem); }
TEST(a_dropped_channel_can_release_the_channels_in_it) {
    chan_chan outer = weir_make(chan_chan, 2);
    weir_chan_on_drop(outer, release_inner);
    for (int i = 0; i < 2; i++) {
        int_chan inner = weir_make(int_chan, 1);
        weir_chan_on_drop(inner, count_drop);
        CHECK_EQ(weir_send(inner, i), 0);
        CHECK_EQ(weir_send(outer, inner), 0);
    }
    weir_release(outer);
    CHECK_EQ(dropped, 2);
}
