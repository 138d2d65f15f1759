/*
 * The ticker that nobody stops.
 *
 * start_monitor() starts a goroutine that checks the health of the service at each tick. Nobody can stop it. A service
 * that starts its monitor anew each time its configuration is read has one more of them, with its ticker, after each.
 */
#include "support/leaks.h"

#include <stdatomic.h>

#define MONITORS 100
#define PERIOD (100 * WEIR_MILLISECOND) /* five minutes, in the article */

static atomic_int checks;

static void check_health(void) { atomic_fetch_add(&checks, 1); }

static void monitor_leaky(weir_timer *ticker) {
    while (weir_timer_wait(ticker, NULL) == 0) check_health();
    weir_timer_free(ticker); /* never reached: it waits under the background context, which does not end */
}

static int start_monitor_leaky(void) {
    weir_timer *ticker = weir_ticker_new(PERIOD);
    if (!ticker) return -ENOMEM;
    int err = weir_go(monitor_leaky, ticker);
    if (err) weir_timer_free(ticker);
    return err;
}

static void monitor(weir_ctx *ctx, weir_timer *ticker) {
    while (weir_select(weir_on_timer(ticker), weir_on_done(ctx)) == 0) check_health();
    weir_timer_free(ticker);
    weir_ctx_release(ctx);
}

static int start_monitor(weir_ctx *ctx) {
    weir_timer *ticker = weir_ticker_new(PERIOD);
    if (!ticker) return -ENOMEM;
    int err = weir_go(monitor, weir_ctx_retain(ctx), ticker);
    if (err) {
        weir_timer_free(ticker);
        weir_ctx_release(ctx);
    }
    return err;
}

/* In a scope a sleep will do, and there is no ticker to stop: once the scope ends, so does the sleep. */
static void monitor_scoped(void) {
    while (weir_sleep(PERIOD) == 0) check_health();
}

static void let_them_tick(void) {
    weir_sleep(3 * PERIOD);
    say("    %d checks so far\n", checks);
}

static void leaky(void) {
    checks = 0;
    for (int i = 0; i < MONITORS; i++)
        if (start_monitor_leaky() != 0) return;
    let_them_tick();
}

static void stopped(void) {
    WEIR_AUTO_CANCEL weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    checks = 0;
    for (int i = 0; i < MONITORS; i++)
        if (start_monitor(ctx) != 0) return;
    let_them_tick();
}

static void scoped(void) {
    checks = 0;
    weir_scoped(s) {
        for (int i = 0; i < MONITORS; i++)
            if (weir_scope_go(&s, monitor_scoped) != 0) return;
        let_them_tick();
        break; /* leaving the block early cancels the monitors, and waits */
    }
}

int main(int argc, char **argv) {
    static const struct pattern pattern = {
        .name = "unstopped_ticker",
        .title = "a monitor with a ticker, started 100 times",
        .forms = { { "leaky", LEAKY, leaky }, { "stopped", FIXED, stopped }, { "scoped", SCOPED, scoped } },
        .note = "not stuck: woken at each tick, for ever",
    };
    return run_pattern(argc, argv, &pattern);
}
