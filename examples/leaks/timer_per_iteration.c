/*
 * A timer for each turn of a loop.
 *
 * poll() handles what comes over a channel until its context ends, and complains when nothing has come for IDLE. If
 * it makes a new timer for each turn, a busy channel leaves one live timer behind for each element. Go collects such a
 * timer once it has fired, IDLE later (or, from 1.23 on, earlier); C, which collects nothing, never does. No goroutine
 * leaks here, so this program counts timers.
 *
 * IDLE is long, and the values come without a pause: the timers never fire.
 */
#include "support/leaks.h"

#define VALUES 1000
#define IDLE (30 * WEIR_SECOND / SCALE)

typedef WEIR_CHAN(int) int_chan;

static size_t live; /* timers made and not freed; only the polling goroutine counts, and main once that has ended */
static int handled;

/* Asked before a form and after it; each begins to count anew. */
static size_t live_timers(void) {
    size_t n = live;
    live = 0;
    return n;
}

static weir_timer *new_timer(weir_duration d) {
    weir_timer *t = weir_timer_new(d);
    live += t != NULL;
    return t;
}

static void free_timer(weir_timer *t) {
    live -= t != NULL;
    weir_timer_free(t);
}

static void handle(int value) {
    (void)value;
    handled++;
}

static void poll_leaky(int_chan ch) {
    for (int value;;) {
        weir_timer *t = new_timer(IDLE);
        if (!t) return;
        switch (weir_select(weir_on_recv(ch, &value), weir_on_timer(t), weir_on_done(NULL))) {
        case 0:
            handle(value);
            break; /* and t is forgotten */
        case 1:
            say("    no data for a while\n");
            free_timer(t);
            break;
        default:
            free_timer(t);
            return;
        }
    }
}

/* One timer for the life of the loop, set anew at each turn. Nothing needs draining: after a reset, no stale tick is
 * ever received. */
static void poll_owned(int_chan ch) {
    weir_timer *t = new_timer(IDLE);
    if (!t) return;
    for (int value;;) {
        switch (weir_select(weir_on_recv(ch, &value), weir_on_timer(t), weir_on_done(NULL))) {
        case 0:
            handle(value);
            break;
        case 1:
            say("    no data for a while\n");
            break;
        default:
            free_timer(t);
            return;
        }
        weir_timer_reset(t, IDLE);
    }
}

/* Nothing to own: the timer of weir_on_after is part of the select, and gone when that returns. The end of the current
 * context needs no arm either. */
static void poll_scoped(int_chan ch) {
    for (int value;;) {
        switch (weir_select(weir_on_recv(ch, &value), weir_on_after(IDLE))) {
        case 0:
            handle(value);
            break;
        case 1:
            say("    no data for a while\n");
            break;
        default:
            return;
        }
    }
}

static void feed(int_chan ch) {
    for (int i = 0; i < VALUES; i++)
        if (weir_send(ch, i) != 0) return;
}

static void run(void (*poll)(int_chan)) {
    int_chan ch = weir_make(int_chan, 0);
    handled = 0;
    weir_scoped(s) {
        int err = weir_scope_go(&s, poll, ch);
        if (!err) feed(ch);
        break; /* leaving the block early cancels who is in it, and waits */
    }
    weir_release(ch);
    say("    %d values handled\n", handled);
}

static void leaky(void) { run(poll_leaky); }
static void owned(void) { run(poll_owned); }
static void scoped(void) { run(poll_scoped); }

int main(int argc, char **argv) {
    static const struct pattern pattern = {
        .name = "timer_per_iteration",
        .title = "a new timer for each turn of a polling loop, 1000 values",
        .forms = { { "leaky", LEAKY, leaky }, { "owned", FIXED, owned }, { "scoped", SCOPED, scoped } },
        .count = live_timers,
        .unit = "timers",
        .note = "armed, and forgotten by poll_leaky",
    };
    return run_pattern(argc, argv, &pattern);
}
