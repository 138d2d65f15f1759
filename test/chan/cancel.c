/*
 * The current context and channels: a call that must block returns the context's error, every time, and has had no
 * effect. The storms at the end cancel amid traffic and then account for every single element: what a send
 * reported as sent was received exactly once, what it did not was never seen.
 */
#include "test.h"

#include <stdatomic.h>
#include <stdlib.h>

typedef WEIR_CHAN(int) int_chan;

static weir_ctx *cancelled(void) {
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    weir_ctx_cancel(ctx);
    return ctx;
}

TEST(every_blocking_call_under_a_cancelled_context_is_refused) {
    WEIR_AUTO_CANCEL weir_ctx *ctx = cancelled();
    int_chan ch = weir_make(int_chan, 0);
    int v = 9;
    weir_with(ctx) {
        for (int i = 0; i < 3; i++) {
            CHECK_EQ(weir_recv(ch, &v), -ECANCELED);
            CHECK_EQ(v, 9);
            CHECK_EQ(weir_send(ch, 1), -ECANCELED);
            CHECK_EQ(weir_wait_closed(ch), -ECANCELED);
        }
    }
    CHECK_EQ(weir_try_recv(ch, &v), -EAGAIN); /* nothing was sent */
    weir_release(ch);
}

TEST(a_call_that_need_not_block_is_not_refused) {
    WEIR_AUTO_CANCEL weir_ctx *ctx = cancelled();
    int_chan ch = weir_make(int_chan, 1);
    int v = 0;
    weir_with(ctx) {
        CHECK_EQ(weir_send(ch, 1), 0);
        CHECK_EQ(weir_send(ch, 2), -ECANCELED);
        CHECK_EQ(weir_recv(ch, &v), 0);
        CHECK_EQ(v, 1);
        CHECK_EQ(weir_recv(ch, &v), -ECANCELED);
        weir_close(ch);
        CHECK_EQ(weir_recv(ch, &v), -EPIPE);
        CHECK_EQ(weir_send(ch, 1), -EPIPE);
        CHECK_EQ(weir_wait_closed(ch), 0);
    }
    weir_release(ch);
}

static _Atomic int other;
static void send_seven(int_chan ch) {
    CHECK_EQ(weir_send(ch, 7), 0);
    other = 1;
    weir_release(ch);
}
TEST(a_waiting_partner_is_served_under_a_cancelled_context) {
    WEIR_AUTO_CANCEL weir_ctx *ctx = cancelled();
    int_chan ch = weir_make(int_chan, 0);
    int v = 0;
    TEST_GO(send_seven, weir_retain(ch));
    test_until_n_parked(1, "chan send");
    weir_with(ctx) { CHECK_EQ(weir_recv(ch, &v), 0); }
    CHECK_EQ(v, 7);
    TEST_UNTIL(other == 1);
    weir_release(ch);
}

static _Atomic int result, received;
static void recv_under(int_chan ch, weir_ctx *ctx) {
    int v = 9;
    weir_with(ctx) { result = weir_recv(ch, &v); }
    received = v;
    weir_release(ch);
}
static void send_under(int_chan ch, weir_ctx *ctx) {
    weir_with(ctx) { result = weir_send(ch, 1); }
    weir_release(ch);
}

TEST(cancel_ends_a_blocked_receive_which_took_nothing) {
    WEIR_AUTO_CANCEL weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    int_chan ch = weir_make(int_chan, 1);
    int v;
    TEST_GO(recv_under, weir_retain(ch), ctx);
    test_until_n_parked(1, "chan receive");
    weir_ctx_cancel(ctx);
    TEST_UNTIL(weir_count() == 1);
    CHECK_EQ(result, -ECANCELED), CHECK_EQ(received, 9);
    CHECK_EQ(weir_send(ch, 5), 0); /* goes to the buffer: nobody waits any more */
    CHECK_EQ(weir_len(ch), 1);
    CHECK_EQ(weir_recv(ch, &v), 0), CHECK_EQ(v, 5);
    weir_release(ch);
}

TEST(cancel_ends_a_blocked_send_which_sent_nothing) {
    WEIR_AUTO_CANCEL weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    int_chan ch = weir_make(int_chan, 0);
    TEST_GO(send_under, weir_retain(ch), ctx);
    test_until_n_parked(1, "chan send");
    weir_ctx_cancel(ctx);
    TEST_UNTIL(weir_count() == 1);
    CHECK_EQ(result, -ECANCELED);
    CHECK_EQ(weir_try_recv(ch, NULL), -EAGAIN);
    weir_release(ch);
}

TEST(cancel_takes_the_right_waiter_out_of_the_queue) {
    WEIR_AUTO_CANCEL weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    int_chan ch = weir_make(int_chan, 0);
    int v;
    TEST_GO(send_seven, weir_retain(ch));
    test_until_n_parked(1, "chan send");
    TEST_GO(send_under, weir_retain(ch), ctx);
    test_until_n_parked(2, "chan send");
    TEST_GO(send_seven, weir_retain(ch));
    test_until_n_parked(3, "chan send");
    weir_ctx_cancel(ctx);
    TEST_UNTIL(weir_count() == 3);
    CHECK_EQ(weir_recv(ch, &v), 0), CHECK_EQ(v, 7);
    CHECK_EQ(weir_recv(ch, &v), 0), CHECK_EQ(v, 7);
    CHECK_EQ(weir_try_recv(ch, &v), -EAGAIN);
    weir_release(ch);
}

TEST(a_deadline_ends_a_blocked_call_and_not_before) {
    int_chan ch = weir_make(int_chan, 0);
    weir_time before = weir_now();
    weir_timeout(20 * WEIR_MILLISECOND) {
        CHECK_EQ(weir_recv(ch, NULL), -ETIMEDOUT);
        CHECK_GE(weir_now() - before, 20 * WEIR_MILLISECOND);
        CHECK_EQ(weir_send(ch, 1), -ETIMEDOUT); /* and again, at once */
    }
    weir_release(ch);
}

TEST(a_wait_outside_the_block_is_unaffected) {
    WEIR_AUTO_CANCEL weir_ctx *ctx = cancelled();
    int_chan ch = weir_make(int_chan, 0);
    weir_with(ctx) { CHECK_EQ(weir_recv(ch, NULL), -ECANCELED); }
    TEST_GO(send_seven, weir_retain(ch));
    CHECK_EQ(weir_recv(ch, NULL), 0);
    weir_release(ch);
}

/* ---- Storms ---------------------------------------------------------------------------------------- */

enum { PER_SENDER = 4000, SENDERS = 4, IDS = PER_SENDER * SENDERS };
static _Atomic unsigned char sent[IDS], arrived[IDS];
static _Atomic int left;

struct storm {
    int_chan a, b;           /* b: nil but in the select storms */
    weir_ctx *senders, *receivers;
    weir_duration timeout;   /* > 0: instead of the contexts, one deadline a call */
    bool select;
};

/* One call under the storm's context, whichever kind it has. */
static int storm_send(struct storm *s, int id) {
    int arm;
    if (!s->select) return weir_send(s->a, id);
    arm = weir_select(weir_on_send(s->a, id), weir_on_send(s->b, id));
    return arm < 0 ? arm : weir_select_error();
}
static int storm_recv(struct storm *s, int *id) {
    int arm, from_b = -1;
    if (!s->select) return weir_recv(s->a, id);
    *id = -1;
    arm = weir_select(weir_on_recv(s->a, id), weir_on_recv(s->b, &from_b));
    if (arm == 1) *id = from_b;
    return arm < 0 ? arm : weir_select_error();
}

static void storm_sender(struct storm *s, int k) {
    for (int i = 0; i < PER_SENDER; i++) {
        int id = k * PER_SENDER + i, e = 0;
        if (s->timeout)
            weir_timeout(s->timeout) { e = storm_send(s, id); }
        else
            weir_with(s->senders) { e = storm_send(s, id); }
        if (e == 0) sent[id] = 1;
        if (e && !s->timeout) break;
    }
    left--;
}
static void storm_receiver(struct storm *s) {
    for (int e = 0; !e;) {
        int id = -1;
        if (s->timeout)
            weir_timeout(s->timeout) { e = storm_recv(s, &id); }
        else
            weir_with(s->receivers) { e = storm_recv(s, &id); }
        if (e == 0) arrived[id]++;
        if (s->timeout && e == -ETIMEDOUT) e = 0;
    }
    left--;
}

/* Everything that was accepted arrives; what is still buffered counts as well. */
static void account(struct storm *s) {
    int id;
    while (weir_try_recv(s->a, &id) == 0) arrived[id]++;
    while (weir_try_recv(s->b, &id) == 0) arrived[id]++;
    for (id = 0; id < IDS; id++)
        if (arrived[id] != sent[id])
            FAIL("element %d: sent %d times, received %d times", id, sent[id], arrived[id]);
}

/* The receivers (or the senders) are cancelled in the middle; those that remain are ended afterwards. */
static void storm(size_t cap, bool cancel_senders, bool cancel_receivers, bool select) {
    for (int round = 0; round < TEST_SCALE(150); round++) {
        struct storm s = { .a = weir_make(int_chan, cap), .select = select };
        if (select) s.b = weir_make(int_chan, cap);
        s.senders = weir_ctx_with_cancel(NULL), s.receivers = weir_ctx_with_cancel(NULL);
        for (int i = 0; i < IDS; i++) sent[i] = arrived[i] = 0;
        left = 2 * SENDERS;
        for (int k = 0; k < SENDERS; k++) {
            TEST_GO(storm_sender, &s, k);
            TEST_GO(storm_receiver, &s);
        }
        for (int i = 0; i < round % 50; i++) weir_yield();
        if (cancel_senders) weir_ctx_cancel(s.senders);
        if (cancel_receivers) weir_ctx_cancel(s.receivers);
        for (int i = 0; i < round % 5; i++) weir_yield();
        weir_ctx_cancel(s.senders), weir_ctx_cancel(s.receivers);
        TEST_UNTIL(left == 0);
        account(&s);
        weir_ctx_release(s.senders), weir_ctx_release(s.receivers);
        weir_release(s.a), weir_release(s.b);
    }
}
TEST(storm_of_cancelled_receivers_unbuffered) { storm(0, false, true, false); }
TEST(storm_of_cancelled_senders_unbuffered) { storm(0, true, false, false); }
TEST(storm_of_cancels_on_both_ends_of_one_slot) { storm(1, true, true, false); }
TEST(storm_of_cancelled_selects_unbuffered) { storm(0, true, true, true); }
TEST(storm_of_cancelled_selects_through_buffers) { storm(2, false, true, true); }

/* Deadlines in the order of a rendezvous: each call races with its own timer, and sends go on after they lost. */
static void storm_of_deadlines(size_t cap, bool select) {
    struct storm s = { .a = weir_make(int_chan, cap), .select = select, .timeout = 20 * WEIR_MICROSECOND };
    if (select) s.b = weir_make(int_chan, cap);
    left = 2 * SENDERS;
    for (int k = 0; k < SENDERS; k++) {
        TEST_GO(storm_sender, &s, k);
        TEST_GO(storm_receiver, &s);
    }
    TEST_UNTIL(left == SENDERS);
    weir_close(s.a);
    if (select) weir_close(s.b);
    TEST_UNTIL(left == 0);
    account(&s);
    weir_release(s.a), weir_release(s.b);
}
TEST(storm_of_deadlines_unbuffered) { storm_of_deadlines(0, false); }
TEST(storm_of_deadlines_through_a_buffer) { storm_of_deadlines(3, false); }
TEST(storm_of_deadlines_on_selects) { storm_of_deadlines(0, true); }
