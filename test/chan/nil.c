/* The nil channel: blocks for ever, is never ready, has no length. */
#include "test.h"

#include <stdatomic.h>

typedef WEIR_CHAN(int) int_chan;
static const int_chan nil; /* {0} */

static _Atomic int result = 1;
static void send_nil(weir_ctx *ctx) {
    weir_with(ctx) { result = weir_send(nil, 1); }
}
static void recv_nil(weir_ctx *ctx) {
    weir_with(ctx) { result = weir_recv(nil, NULL); }
}
static void send_raw_nil(weir_ctx *ctx) {
    int v = 1;
    weir_with(ctx) { result = weir_chan_send(NULL, &v); }
}
static void recv_raw_nil(weir_ctx *ctx) {
    int v;
    weir_with(ctx) { result = weir_chan_recv(NULL, &v); }
}

static void blocks(void (*fn)(weir_ctx *), const char *state) {
    WEIR_AUTO_CANCEL weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    TEST_GO(fn, ctx);
    test_until_n_parked(1, state);
    CHECK_EQ(result, 1);
    weir_ctx_cancel(ctx);
    TEST_UNTIL(result != 1);
    CHECK_EQ(result, -ECANCELED);
    TEST_UNTIL(weir_count() == 1);
}
TEST(send_on_nil_blocks_until_cancelled) { blocks(send_nil, "chan send (nil chan)"); }
TEST(receive_on_nil_blocks_until_cancelled) { blocks(recv_nil, "chan receive (nil chan)"); }
TEST(untyped_send_on_null_blocks) { blocks(send_raw_nil, "chan send (nil chan)"); }
TEST(untyped_receive_on_null_blocks) { blocks(recv_raw_nil, "chan receive (nil chan)"); }

TEST(try_calls_on_nil_would_block) {
    int v = 9;
    CHECK_EQ(weir_try_send(nil, 1), -EAGAIN);
    CHECK_EQ(weir_try_recv(nil, &v), -EAGAIN);
    CHECK_EQ(v, 9);
    CHECK_EQ(weir_chan_try_send(NULL, &v), -EAGAIN), CHECK_EQ(weir_chan_try_recv(NULL, &v), -EAGAIN);
}

TEST(nil_has_neither_length_nor_capacity) {
    CHECK_EQ(weir_len(nil), 0), CHECK_EQ(weir_cap(nil), 0);
    CHECK_EQ(weir_chan_len(NULL), 0), CHECK_EQ(weir_chan_cap(NULL), 0);
}

TEST(nil_can_be_retained_and_released) {
    int_chan same = weir_retain(nil);
    CHECK(weir_chan_of(same) == NULL);
    weir_release(same), weir_chan_release(NULL);
    CHECK(weir_chan_retain(NULL) == NULL);
}

TEST(a_deadline_ends_a_wait_on_nil) {
    weir_time before = weir_now();
    weir_timeout(10 * WEIR_MILLISECOND) { CHECK_EQ(weir_recv(nil, NULL), -ETIMEDOUT); }
    CHECK_GE(weir_now() - before, 10 * WEIR_MILLISECOND);
}

EXIT_TEST(main_on_a_nil_channel_is_a_deadlock, 2, "[chan receive (nil chan)]:") { (void)!weir_recv(nil, NULL); }
EXIT_TEST(main_sending_to_nil_is_a_deadlock, 2, "[chan send (nil chan)]:") { (void)!weir_send(nil, 1); }
