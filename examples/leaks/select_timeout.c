/*
 * A select with a timeout protects the reader. It does nothing for the writer.
 *
 * get() starts a producer and waits for its value or for the timeout, whichever comes first. If it gives up, the
 * producer is about to send to a channel from which nobody will ever receive, and stays there.
 *
 * The calls are made at once. One after another, as an article would write them, they would take CALLS × TIMEOUT; what
 * each of them leaves behind is the same.
 */
#include "support/leaks.h"

#define CALLS 1000
#define TIMEOUT (500 * WEIR_MILLISECOND / SCALE)
#define SLOW (2 * WEIR_SECOND / SCALE)

typedef WEIR_CHAN(int) int_chan;

static int slow_value(int *value) {
    int err = weir_sleep(SLOW);
    if (err) return err;
    *value = 42;
    return 0;
}

/* Go writes it in place: go func() { ch <- slowValue() }() */
static int produce(int_chan ch) {
    int value;
    int err = slow_value(&value);
    if (!err) err = weir_send(ch, value);
    weir_release(ch);
    return err;
}

/* With capacity 0 the send blocks until someone receives: the leak. With capacity 1 there is always room, and the
 * producer can end. It still works to the end for a value that nobody wants. */
static int get(size_t capacity, int *value) {
    int_chan ch = weir_make(int_chan, capacity);
    int err = weir_go(produce, weir_retain(ch));
    if (err)
        weir_release(ch); /* the producer's count */
    else if (weir_select(weir_on_recv(ch, value), weir_on_after(TIMEOUT)) != 0)
        err = -ETIMEDOUT;
    weir_release(ch);
    return err;
}

/* The producer learns by the context that the reader has gone, and stops working. */
static int slow_value_ctx(weir_ctx *ctx, int *value) {
    if (weir_select(weir_on_after(SLOW), weir_on_done(ctx)) != 0) return weir_ctx_err(ctx);
    *value = 42;
    return 0;
}

static int produce_ctx(weir_ctx *ctx, int_chan ch) {
    int value;
    int err = slow_value_ctx(ctx, &value);
    if (!err) err = weir_send(ch, value); /* capacity 1: never blocks */
    weir_release(ch);
    weir_ctx_release(ctx);
    return err;
}

static int get_ctx(int *value) {
    WEIR_AUTO_CANCEL weir_ctx *ctx = weir_ctx_with_timeout(NULL, TIMEOUT);
    int_chan ch = weir_make(int_chan, 1);
    int err = weir_go(produce_ctx, weir_ctx_retain(ctx), weir_retain(ch));
    if (err) {
        weir_ctx_release(ctx);
        weir_release(ch);
    } else if (weir_select(weir_on_recv(ch, value), weir_on_done(ctx)) != 0) {
        err = weir_ctx_err(ctx);
    }
    weir_release(ch);
    return err;
}

/* Nothing is left to get right: the sleep in slow_value obeys the deadline, and the scope waits until slow_value has
 * returned. No channel either: the value can go straight to where it belongs. */
static int get_scoped(int *value) {
    int err = 0;
    weir_timeout(TIMEOUT) weir_scoped(s, &err) {
        int failed = weir_scope_go(&s, slow_value, value);
        if (failed) return failed;
    }
    return err;
}

static void call_leaky(void) {
    int value;
    get(0, &value);
}
static void call_buffered(void) {
    int value;
    get(1, &value);
}
static void call_ctx(void) {
    int value;
    get_ctx(&value);
}
static void call_scoped(void) {
    int value;
    get_scoped(&value);
}

static void leaky(void) { at_once(CALLS, call_leaky); }
static void buffered(void) { at_once(CALLS, call_buffered); }
static void context(void) { at_once(CALLS, call_ctx); }
static void scoped(void) { at_once(CALLS, call_scoped); }

int main(int argc, char **argv) {
    static const struct pattern pattern = {
        .name = "select_timeout",
        .title = "select with a timeout on an unbuffered channel, 1000 calls",
        .forms = { { "leaky", LEAKY, leaky },
                   { "buffered", FIXED, buffered },
                   { "context", FIXED, context },
                   { "scoped", SCOPED, scoped } },
    };
    return run_pattern(argc, argv, &pattern);
}
