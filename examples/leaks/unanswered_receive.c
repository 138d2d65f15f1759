/*
 * A receive that nobody will ever answer: the leak in its smallest form.
 *
 * leak() makes a channel and starts a goroutine that receives from it. Then it returns, and with it goes the last way
 * to send on that channel, or to close it.
 */
#include "support/leaks.h"

#define CALLS 1000

typedef WEIR_CHAN(int) int_chan;

static int receive(int_chan ch) {
    int value;
    int err = weir_recv(ch, &value);
    if (!err) say("    we received a value: %d\n", value);
    return err;
}

static int receive_and_release(int_chan ch) {
    int err = receive(ch);
    weir_release(ch);
    return err;
}

static int leak(void) {
    int_chan ch = weir_make(int_chan, 0);
    int err = weir_go(receive_and_release, ch); /* hands over the only handle */
    if (err) weir_release(ch);
    return err;
}

/* Who makes a channel closes it when there is nothing more to come. The receiver gets -EPIPE, and ends. */
static int no_leak(void) {
    int_chan ch = weir_make(int_chan, 0);
    int err = weir_go(receive_and_release, weir_retain(ch));
    if (err) weir_release(ch);
    weir_close(ch);
    weir_release(ch);
    return err;
}

/* A scope does not let the mistake pass: at the end of its block it would wait for the receiver, here, where one looks
 * for it. Leaving the block early cancels the receiver. */
static int leak_scoped(void) {
    int err = 0;
    int_chan ch = weir_make(int_chan, 0);
    weir_scoped(s) {
        err = weir_scope_go(&s, receive, ch);
        break;
    }
    weir_release(ch);
    return err;
}

static void leaky(void) {
    for (int i = 0; i < CALLS; i++)
        if (leak() != 0) return;
}
static void closed(void) {
    for (int i = 0; i < CALLS; i++)
        if (no_leak() != 0) return;
}
static void scoped(void) {
    for (int i = 0; i < CALLS; i++)
        if (leak_scoped() != 0) return;
}

int main(int argc, char **argv) {
    static const struct pattern pattern = {
        .name = "unanswered_receive",
        .title = "a receive from a channel that nobody else knows, 1000 calls",
        .forms = { { "leaky", LEAKY, leaky }, { "closed", FIXED, closed }, { "scoped", SCOPED, scoped } },
    };
    return run_pattern(argc, argv, &pattern);
}
