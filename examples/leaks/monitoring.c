/*
 * Two ways to notice that goroutines pile up.
 *
 * monitor_goroutines() looks at their number now and then, and raises an alert when it is above a threshold: for a
 * service that runs. test_no_goroutine_leak() compares their number before and after a scenario: for its tests.
 * Both count. Neither says who is stuck, and a few goroutines that leak slowly stay below any threshold.
 */
#include "support/leaks.h"

#define STARTED 100
#define THRESHOLD 50
#define PERIOD (10 * WEIR_MILLISECOND) /* a minute, in the article */
#define GRACE (1 * WEIR_SECOND)        /* for goroutines that are about to end; 100 ms in the article */

typedef WEIR_CHAN(size_t) alert_chan;

/* Runs until its context ends, and with it the ticker. */
static void monitor_goroutines(size_t threshold, alert_chan alerts) {
    weir_timer *ticker = weir_ticker_new(PERIOD);
    if (!ticker) return;
    while (weir_timer_wait(ticker, NULL) == 0) {
        size_t n = weir_count();
        if (n > threshold && weir_try_send(alerts, n) == 0)
            say("    ALERT: goroutine count: %zu (threshold: %zu)\n", n, threshold);
    }
    weir_timer_free(ticker);
}

/* A fixed pause, as in the article, is either too short or too long; so this one ends as soon as they have. And as
 * the count is exact, there is no need to let five of them pass. */
static bool test_no_goroutine_leak(void (*scenario)(void)) {
    size_t initial = weir_count();
    scenario();
    weir_time until = weir_now() + GRACE;
    while (weir_count() > initial && weir_now() < until) weir_sleep(WEIR_MILLISECOND);
    size_t final = weir_count();
    if (final > initial) say("    potential goroutine leak: %zu new goroutines\n", final - initial);
    return final <= initial;
}

static int receive(weir_unit_chan ch) {
    int err = weir_recv(ch, NULL);
    weir_release(ch);
    return err;
}

static void scenario_leaky(void) {
    weir_unit_chan ch = weir_make(weir_unit_chan, 0);
    for (int i = 0; i < STARTED; i++)
        if (weir_go(receive, weir_retain(ch)) != 0) weir_release(ch);
    weir_release(ch);
}

static void scenario_closed(void) {
    weir_unit_chan ch = weir_make(weir_unit_chan, 0);
    for (int i = 0; i < STARTED; i++)
        if (weir_go(receive, weir_retain(ch)) != 0) weir_release(ch);
    weir_close(ch);
    weir_release(ch);
}

static int receive_borrowed(weir_unit_chan ch) { return weir_recv(ch, NULL); }

static void scenario_scoped(void) {
    weir_unit_chan ch = weir_make(weir_unit_chan, 0);
    weir_scoped(s) {
        for (int i = 0; i < STARTED; i++) weir_scope_go(&s, receive_borrowed, ch);
        break;
    }
    weir_release(ch);
}

static void watch(void (*scenario)(void)) {
    alert_chan alerts = weir_make(alert_chan, 1); /* room for one: who is being alerted needs no second */
    weir_scoped(s) {
        if (weir_scope_go(&s, monitor_goroutines, (size_t)THRESHOLD, alerts) != 0) break;
        bool passed = test_no_goroutine_leak(scenario);
        bool alerted = !passed && weir_recv(alerts, NULL) == 0;
        say("    test_no_goroutine_leak: %s\n", passed ? "ok" : "FAIL");
        if (!alerted) say("    no alert\n");
        break;
    }
    weir_release(alerts);
}

static void leaky(void) { watch(scenario_leaky); }
static void closed(void) { watch(scenario_closed); }
static void scoped(void) { watch(scenario_scoped); }

int main(int argc, char **argv) {
    static const struct pattern pattern = {
        .name = "monitoring",
        .title = "an alert above 50 goroutines and a count before and after, 100 receives",
        .forms = { { "leaky", LEAKY, leaky }, { "closed", FIXED, closed }, { "scoped", SCOPED, scoped } },
    };
    return run_pattern(argc, argv, &pattern);
}
