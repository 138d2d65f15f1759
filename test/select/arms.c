/* The arms of a select one by one: which index comes back, what was transferred, what weir_select_error says. */
#include "test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

typedef WEIR_CHAN(int) int_chan;
static const int_chan nil;

/* ---- Receive --------------------------------------------------------------------------------------- */

TEST(the_index_of_the_ready_arm_comes_back) {
    int_chan c[3] = { weir_make(int_chan, 1), weir_make(int_chan, 1), weir_make(int_chan, 1) };
    for (int i = 0; i < 30; i++) {
        int v[3] = { -1, -1, -1 };
        CHECK_EQ(weir_send(c[i % 3], i), 0);
        CHECK_EQ(weir_select(weir_on_recv(c[0], &v[0]), weir_on_recv(c[1], &v[1]), weir_on_recv(c[2], &v[2])), i % 3);
        for (int k = 0; k < 3; k++) CHECK_EQ(v[k], k == i % 3 ? i : -1); /* the other places are left alone */
        CHECK_EQ(weir_select_error(), 0);
    }
    for (int k = 0; k < 3; k++) weir_release(c[k]);
}

static void send_one(int_chan ch, int v) {
    CHECK_EQ(weir_send(ch, v), 0);
    weir_release(ch);
}
TEST(a_sleeping_select_is_woken_by_a_send) {
    int_chan a = weir_make(int_chan, 0), b = weir_make(int_chan, 0);
    for (int i = 0; i < 20; i++) {
        int v = -1, w = -1;
        TEST_GO(send_one, weir_retain(i % 2 ? b : a), i);
        CHECK_EQ(weir_select(weir_on_recv(a, &v), weir_on_recv(b, &w)), i % 2);
        CHECK_EQ(i % 2 ? w : v, i);
        CHECK_EQ(i % 2 ? v : w, -1);
    }
    weir_release(a), weir_release(b);
}

static _Atomic int fired = -1, error = 1;
static void select_three(int_chan *c) {
    fired = weir_select(weir_on_recv(c[0], NULL), weir_on_recv(c[1], NULL), weir_on_recv(c[2], NULL));
    error = weir_select_error();
}
TEST(a_select_sleeps_until_an_arm_is_ready) {
    int_chan c[3] = { weir_make(int_chan, 0), weir_make(int_chan, 1), weir_make(int_chan, 0) };
    TEST_GO(select_three, c);
    test_until_n_parked(1, "select");
    CHECK_EQ(fired, -1);
    CHECK_EQ(weir_try_send(c[1], 5), 0);
    CHECK_EQ(weir_len(c[1]), 0); /* handed over, not buffered */
    TEST_UNTIL(weir_count() == 1);
    CHECK_EQ(fired, 1), CHECK_EQ(error, 0);
    /* and it waits nowhere any more */
    CHECK_EQ(weir_try_send(c[0], 1), -EAGAIN), CHECK_EQ(weir_try_send(c[2], 1), -EAGAIN);
    for (int k = 0; k < 3; k++) weir_release(c[k]);
}

TEST(a_receive_arm_may_discard) {
    int_chan ch = weir_make(int_chan, 1);
    CHECK_EQ(weir_send(ch, 1), 0);
    CHECK_EQ(weir_select(weir_on_recv(ch, NULL)), 0);
    CHECK_EQ(weir_len(ch), 0);
    weir_release(ch);
}

TEST(recv_ok_tells_an_element_from_a_close) {
    int_chan ch = weir_make(int_chan, 1);
    int v = 9;
    bool ok = false;
    CHECK_EQ(weir_send(ch, 0), 0);
    CHECK_EQ(weir_select(weir_on_recv_ok(ch, &v, &ok)), 0);
    CHECK(ok), CHECK_EQ(v, 0), CHECK_EQ(weir_select_error(), 0);
    weir_close(ch);
    v = 9;
    CHECK_EQ(weir_select(weir_on_recv_ok(ch, &v, &ok)), 0);
    CHECK(!ok), CHECK_EQ(v, 0), CHECK_EQ(weir_select_error(), -EPIPE);
    weir_release(ch);
}

static void recv_ok_asleep(int_chan ch) {
    int v = 9;
    bool ok = true;
    fired = weir_select(weir_on_recv(nil, NULL), weir_on_recv_ok(ch, &v, &ok));
    CHECK_EQ(v, 0), CHECK(!ok);
    error = weir_select_error();
    weir_release(ch);
}
TEST(a_sleeping_receive_arm_is_woken_by_a_close) {
    int_chan ch = weir_make(int_chan, 0);
    TEST_GO(recv_ok_asleep, weir_retain(ch));
    test_until_n_parked(1, "select");
    weir_close(ch);
    TEST_UNTIL(weir_count() == 1);
    CHECK_EQ(fired, 1), CHECK_EQ(error, -EPIPE);
    weir_release(ch);
}

/* ---- Send ------------------------------------------------------------------------------------------- */

TEST(a_send_arm_fills_the_buffer) {
    int_chan ch = weir_make(int_chan, 1);
    int v;
    CHECK_EQ(weir_select(weir_on_recv(nil, NULL), weir_on_send(ch, 7)), 1);
    CHECK_EQ(weir_select_error(), 0);
    CHECK_EQ(weir_select(weir_on_send(ch, 8), weir_on_default()), 1);
    CHECK_EQ(weir_recv(ch, &v), 0), CHECK_EQ(v, 7);
    weir_release(ch);
}

static void select_send(int_chan ch, int v) {
    fired = weir_select(weir_on_send(nil, 1), weir_on_send(ch, v));
    error = weir_select_error();
    weir_release(ch);
}
TEST(a_sleeping_send_arm_is_woken_by_a_receive) {
    int_chan ch = weir_make(int_chan, 0);
    int v = 0;
    TEST_GO(select_send, weir_retain(ch), 33);
    test_until_n_parked(1, "select");
    CHECK_EQ(weir_try_recv(ch, &v), 0), CHECK_EQ(v, 33);
    CHECK_EQ(weir_try_recv(ch, &v), -EAGAIN);
    TEST_UNTIL(weir_count() == 1);
    CHECK_EQ(fired, 1), CHECK_EQ(error, 0);
    weir_release(ch);
}

TEST(a_sleeping_send_arm_is_let_into_the_buffer) {
    int_chan ch = weir_make(int_chan, 1);
    int v = 0;
    CHECK_EQ(weir_send(ch, 1), 0);
    TEST_GO(select_send, weir_retain(ch), 2);
    test_until_n_parked(1, "select");
    CHECK_EQ(weir_recv(ch, &v), 0), CHECK_EQ(v, 1);
    TEST_UNTIL(weir_count() == 1);
    CHECK_EQ(weir_len(ch), 1);
    CHECK_EQ(weir_recv(ch, &v), 0), CHECK_EQ(v, 2);
    weir_release(ch);
}

TEST(a_send_arm_on_a_closed_channel_fires_with_an_error) {
    int_chan ch = weir_make(int_chan, 1), other = weir_make(int_chan, 1);
    weir_close(ch);
    CHECK_EQ(weir_select(weir_on_send(ch, 7)), 0);
    CHECK_EQ(weir_select_error(), -EPIPE);
    CHECK_EQ(weir_len(ch), 0);
    CHECK_EQ(weir_select(weir_on_send(other, 7)), 0);
    CHECK_EQ(weir_select_error(), 0); /* of the last select, not of an earlier one */
    weir_release(ch), weir_release(other);
}

TEST(a_sleeping_send_arm_is_woken_by_a_close) {
    int_chan ch = weir_make(int_chan, 0);
    TEST_GO(select_send, weir_retain(ch), 33);
    test_until_n_parked(1, "select");
    weir_close(ch);
    TEST_UNTIL(weir_count() == 1);
    CHECK_EQ(fired, 1), CHECK_EQ(error, -EPIPE);
    CHECK_EQ(weir_recv(ch, NULL), -EPIPE);
    weir_release(ch);
}

struct two {
    uint64_t a, b;
};
struct page {
    unsigned char bytes[4096];
};
typedef WEIR_CHAN(struct two) two_chan;
typedef WEIR_CHAN(struct page) page_chan;
typedef WEIR_CHAN(char) char_chan;
typedef WEIR_CHAN(double) double_chan;

TEST(send_arms_carry_values_of_up_to_16_bytes) {
    two_chan t = weir_make(two_chan, 1);
    char_chan c = weir_make(char_chan, 1);
    double_chan d = weir_make(double_chan, 1);
    weir_unit_chan u = weir_make(weir_unit_chan, 1);
    struct two two = { 0, 0 };
    char ch = 0;
    double x = 0;
    uint64_t n = 5;
    CHECK_EQ(weir_select(weir_on_send(t, (struct two){ n, ~n })), 0);
    CHECK_EQ(weir_select(weir_on_send(c, 'x')), 0);
    CHECK_EQ(weir_select(weir_on_send(d, 3)), 0); /* converts */
    CHECK_EQ(weir_select(weir_on_send(u, weir_unit_value)), 0);
    CHECK_EQ(weir_recv(t, &two), 0), CHECK(two.a == 5 && two.b == ~5ull);
    CHECK_EQ(weir_recv(c, &ch), 0), CHECK_EQ(ch, 'x');
    CHECK_EQ(weir_recv(d, &x), 0), CHECK(x == 3.0);
    CHECK_EQ(weir_recv(u, NULL), 0);
    weir_release(t), weir_release(c), weir_release(d), weir_release(u);
}

TEST(larger_values_go_by_pointer) {
    page_chan ch = weir_make(page_chan, 1);
    struct page *out = malloc(sizeof *out), *in = malloc(sizeof *in);
    memset(out, 0x5A, sizeof *out);
    CHECK_EQ(weir_select(weir_on_send_ptr(ch, out)), 0);
    CHECK_EQ(weir_select(weir_on_recv(ch, in)), 0);
    CHECK_EQ(memcmp(in, out, sizeof *in), 0);
    weir_release(ch);
    free(out), free(in);
}

static int late;
static void select_send_ptr(int_chan ch) {
    CHECK_EQ(weir_select(weir_on_send_ptr(ch, &late)), 0);
    weir_release(ch);
}
TEST(a_value_by_pointer_is_read_when_the_arm_fires) {
    int_chan ch = weir_make(int_chan, 0);
    int v = 0;
    late = 1;
    TEST_GO(select_send_ptr, weir_retain(ch));
    test_until_n_parked(1, "select");
    late = 2;
    CHECK_EQ(weir_recv(ch, &v), 0), CHECK_EQ(v, 2);
    weir_release(ch);
}

TEST(a_value_in_an_arm_is_copied_when_the_arm_is_made) {
    int_chan ch = weir_make(int_chan, 1);
    int v = 1;
    weir_arm arm = weir_on_send(ch, v);
    v = 2;
    CHECK_EQ(weir_selectv(&arm, 1), 0);
    CHECK_EQ(weir_recv(ch, &v), 0), CHECK_EQ(v, 1);
    weir_release(ch);
}

static void sleeping_page(page_chan ch) {
    struct page *p = malloc(sizeof *p);
    memset(p, 0x33, sizeof *p);
    CHECK_EQ(weir_select(weir_on_send_ptr(ch, p)), 0);
    free(p);
    weir_release(ch);
}
TEST(a_sleeping_arm_hands_over_a_large_value_whole) {
    page_chan ch = weir_make(page_chan, 0);
    struct page *in = calloc(1, sizeof *in);
    TEST_GO(sleeping_page, weir_retain(ch));
    test_until_n_parked(1, "select");
    CHECK_EQ(weir_recv(ch, in), 0);
    for (size_t i = 0; i < sizeof in->bytes; i++) CHECK_EQ(in->bytes[i], 0x33);
    free(in);
    weir_release(ch);
}

TEST(the_error_is_that_of_the_last_select) {
    int_chan closed = weir_make(int_chan, 0);
    weir_close(closed);
    CHECK_EQ(weir_select(weir_on_recv(closed, NULL)), 0), CHECK_EQ(weir_select_error(), -EPIPE);
    CHECK_EQ(weir_select(weir_on_recv(nil, NULL), weir_on_default()), 1), CHECK_EQ(weir_select_error(), 0);
    CHECK_EQ(weir_select(weir_on_recv(closed, NULL)), 0), CHECK_EQ(weir_select_error(), -EPIPE);
    weir_timeout(WEIR_MICROSECOND) { CHECK_EQ(weir_select(weir_on_recv(nil, NULL)), -ETIMEDOUT); }
    CHECK_EQ(weir_select_error(), 0);
    weir_release(closed);
}

/* ---- Default, nil, none --------------------------------------------------------------------------------- */

TEST(default_fires_when_nothing_else_is_ready) {
    int_chan ch = weir_make(int_chan, 1);
    CHECK_EQ(weir_select(weir_on_recv(ch, NULL), weir_on_default()), 1);
    CHECK_EQ(weir_select(weir_on_default(), weir_on_recv(ch, NULL)), 0);
    CHECK_EQ(weir_select(weir_on_default()), 0);
    for (int i = 0; i < 200; i++) { /* never when something is */
        CHECK_EQ(weir_select(weir_on_default(), weir_on_send(ch, 1)), 1);
        CHECK_EQ(weir_select(weir_on_recv(ch, NULL), weir_on_default()), 0);
    }
    weir_release(ch);
}

TEST(an_arm_on_a_nil_channel_never_fires) {
    int_chan ch = weir_make(int_chan, 1);
    CHECK_EQ(weir_select(weir_on_recv(nil, NULL), weir_on_send(nil, 1), weir_on_default()), 2);
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(weir_send(ch, i), 0);
        CHECK_EQ(weir_select(weir_on_recv(nil, NULL), weir_on_recv(ch, NULL), weir_on_send(nil, 1)), 1);
    }
    weir_release(ch);
}

static void only_nil(weir_ctx *ctx) {
    weir_with(ctx) { fired = weir_select(weir_on_recv(nil, NULL), weir_on_send(nil, 1)); }
}
static void nothing_at_all(weir_ctx *ctx) {
    weir_with(ctx) { fired = weir_select(); }
}
static void an_empty_array(weir_ctx *ctx) {
    weir_with(ctx) { fired = weir_selectv(NULL, 0); }
}
static void blocks(void (*fn)(weir_ctx *), const char *state) {
    WEIR_AUTO_CANCEL weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    TEST_GO(fn, ctx);
    test_until_n_parked(1, state);
    weir_ctx_cancel(ctx);
    TEST_UNTIL(weir_count() == 1);
    CHECK_EQ(fired, -ECANCELED);
}
TEST(a_select_on_nil_channels_only_blocks) { blocks(only_nil, NULL); }
TEST(an_empty_select_blocks) { blocks(nothing_at_all, "select (no cases)"); }
TEST(a_select_over_an_empty_array_blocks) { blocks(an_empty_array, "select (no cases)"); }

EXIT_TEST(main_in_an_empty_select_is_a_deadlock, 2, "[select (no cases)]:") { (void)!weir_select(); }
EXIT_TEST(main_in_a_select_that_nobody_can_serve_is_a_deadlock, 2, "all goroutines are asleep - deadlock!") {
    int_chan ch = weir_make(int_chan, 0);
    (void)!weir_select(weir_on_recv(ch, NULL), weir_on_send(ch, 1));
}

/* ---- One channel in several arms -------------------------------------------------------------------------- */

TEST(the_same_channel_in_two_receive_arms_gives_its_element_to_one) {
    int_chan ch = weir_make(int_chan, 1);
    for (int i = 0; i < 100; i++) {
        int v = -1, w = -1;
        if (i % 2)
            CHECK_EQ(weir_send(ch, i), 0);
        else
            TEST_GO(send_one, weir_retain(ch), i); /* it may find the select asleep */
        int arm = weir_select(weir_on_recv(ch, &v), weir_on_recv(ch, &w));
        CHECK(arm == 0 || arm == 1);
        CHECK_EQ(arm == 0 ? v : w, i);
        CHECK_EQ(arm == 0 ? w : v, -1);
        TEST_UNTIL(weir_count() == 1);
        CHECK_EQ(weir_len(ch), 0);
    }
    weir_release(ch);
}

static void select_same_twice(int_chan ch) {
    fired = weir_select(weir_on_send(ch, 10), weir_on_send(ch, 11));
    weir_release(ch);
}
TEST(the_same_channel_in_two_send_arms_sends_once) {
    int_chan ch = weir_make(int_chan, 0);
    for (int i = 0; i < 50; i++) {
        int v = 0;
        TEST_GO(select_same_twice, weir_retain(ch));
        test_until_n_parked(1, "select");
        CHECK_EQ(weir_recv(ch, &v), 0);
        CHECK_EQ(weir_try_recv(ch, NULL), -EAGAIN);
        TEST_UNTIL(weir_count() == 1);
        CHECK_EQ(v, 10 + fired);
    }
    weir_release(ch);
}

TEST(a_close_wakes_a_select_once_that_waits_on_it_twice) {
    int_chan c[3] = { weir_make(int_chan, 0) };
    c[1] = c[2] = c[0];
    TEST_GO(select_three, c);
    test_until_n_parked(1, "select");
    weir_close(c[0]);
    TEST_UNTIL(weir_count() == 1);
    CHECK_GE(fired, 0), CHECK_LE(fired, 2), CHECK_EQ(error, -EPIPE);
    weir_release(c[0]);
}

/* ---- A select does not meet itself ------------------------------------------------------------------------- */

TEST(send_and_receive_on_one_channel_do_not_pair_with_each_other) {
    int_chan ch = weir_make(int_chan, 0);
    int v = 9;
    CHECK_EQ(weir_select(weir_on_send(ch, 1), weir_on_recv(ch, &v), weir_on_default()), 2);
    weir_timeout(2 * WEIR_MILLISECOND) {
        CHECK_EQ(weir_select(weir_on_send(ch, 1), weir_on_recv(ch, &v)), -ETIMEDOUT);
        CHECK_EQ(v, 9);
    }
    weir_release(ch);
}

static _Atomic int exchanged;
static void exchange(int_chan ch, int me, int n, bool buffered) {
    for (int i = 0; i < n; i++) {
        int v = -1;
        int arm = i % 2 ? weir_select(weir_on_send(ch, me), weir_on_recv(ch, &v))
                        : 1 - weir_select(weir_on_recv(ch, &v), weir_on_send(ch, me));
        CHECK(arm == 0 || arm == 1);
        if (!buffered && arm == 1) CHECK_EQ(v, 1 - me); /* from the other one, never my own */
    }
    exchanged++;
    /* The other may have one more to go, and needs a partner for it. */
    while (exchanged < 2) {
        (void)!weir_select(weir_on_send(ch, me), weir_on_recv(ch, NULL), weir_on_default());
        weir_yield();
    }
}
static void self_select(size_t cap) {
    int_chan ch = weir_make(int_chan, cap);
    TEST_GO(exchange, ch, 0, (int)TEST_SCALE(20000), cap > 0);
    TEST_GO(exchange, ch, 1, (int)TEST_SCALE(20000), cap > 0);
    TEST_UNTIL(weir_count() == 1);
    weir_release(ch);
}
TEST(two_that_both_send_and_receive_meet_each_other) { self_select(0); }
TEST(two_that_both_send_and_receive_share_a_buffer) { self_select(10); }

/* ---- From a thread ------------------------------------------------------------------------------------------ */

static void *thread_select(void *arg) {
    int_chan *c = arg;
    for (int sum = 0, v; sum < 10; sum += v) {
        int arm = weir_select(weir_on_recv(c[0], &v), weir_on_recv(c[1], &v));
        CHECK(arm == 0 || arm == 1);
    }
    CHECK_EQ(weir_select(weir_on_recv(nil, NULL), weir_on_send(c[2], 77)), 1);
    return NULL;
}
TEST(a_thread_of_the_program_can_select) {
    int_chan c[3] = { weir_make(int_chan, 0), weir_make(int_chan, 0), weir_make(int_chan, 0) };
    int v = 0;
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, thread_select, c), 0);
    for (int i = 0; i < 10; i++) CHECK_EQ(weir_send(c[i % 2], 1), 0);
    CHECK_EQ(weir_recv(c[2], &v), 0), CHECK_EQ(v, 77);
    pthread_join(thread, NULL);
    for (int k = 0; k < 3; k++) weir_release(c[k]);
}
