/*
 * Rows about time: what it costs to set, reset and stop a timer among N that are pending, to run N that are due at once, and how
 * late a sleep returns. The timers run a function: one that ticks need not be in anybody's heap in Go while nobody waits for it.
 */
#include "bench.h"

static void never(void *arg) { fail("a timer of an hour has run"); }

/* An hour and up to a second, so that a new one belongs anywhere among those there are. */
static weir_duration some_time(unsigned long *random) {
    return WEIR_HOUR + (weir_duration)(next_random(random) % WEIR_SECOND);
}

static weir_timer **set_all(long n, unsigned long *random) {
    weir_timer **timers = ARRAY(n, weir_timer *);
    for (long i = 0; i < n; i++)
        if (!(timers[i] = weir_after_func(some_time(random), never, NULL))) fail("no memory for %ld timers", n);
    return timers;
}

static void stop_all(const char *row, weir_timer **timers, long n) {
    long stopped = 0;
    for (long i = 0; i < n; i++) stopped += weir_timer_stop(timers[i]);
    expect(row, stopped, n);
}

static void free_all(weir_timer **timers, long n) {
    for (long i = 0; i < n; i++) weir_timer_free(timers[i]);
    free(timers);
}

static void timers_set(const char *row, long n) {
    unsigned long random = SEED;
    weir_time start = weir_now();
    weir_timer **timers = set_all(n, &random);
    weir_duration total = weir_now() - start;
    stop_all(row, timers, n);
    print_each(row, total, n);
    free_all(timers, n);
}

static void timers_reset(const char *row, long n) {
    unsigned long random = SEED;
    long pending = 0;
    weir_timer **timers = set_all(n, &random);
    weir_time start = weir_now();
    for (long i = 0; i < n; i++) pending += weir_timer_reset(timers[i], some_time(&random));
    weir_duration total = weir_now() - start;
    expect(row, pending, n);
    stop_all(row, timers, n);
    print_each(row, total, n);
    free_all(timers, n);
}

static void timers_stop(const char *row, long n) {
    unsigned long random = SEED;
    weir_timer **timers = set_all(n, &random);
    weir_time start = weir_now();
    stop_all(row, timers, n);
    weir_duration total = weir_now() - start;
    print_each(row, total, n);
    free_all(timers, n);
}

/* Set one and stop it, while no other is pending. */
static void timers_one(const char *row, long n) {
    long stopped = 0;
    weir_time start = weir_now();
    for (long i = 0; i < n; i++) {
        weir_timer *timer = weir_after_func(WEIR_HOUR, never, NULL);
        if (!timer) fail("no memory for a timer");
        stopped += weir_timer_stop(timer);
        weir_timer_free(timer);
    }
    weir_duration total = weir_now() - start;
    expect(row, stopped, n);
    print_each(row, total, n);
}

/* ---- Due at once: from that moment until the last of N has run ------------------------------------ */

static struct due {
    weir_wg done;
    atomic_long ran;
} due;

static void ran(void *arg) {
    atomic_fetch_add(&due.ran, 1);
    weir_wg_done(&due.done);
}

static void timers_due(const char *row, long n) {
    weir_timer **timers = ARRAY(n, weir_timer *);
    MUST(weir_wg_add(&due.done, n));
    /* So much time that all are set before the first is due, or the row would time the setting. */
    weir_time when = weir_now() + 200 * WEIR_MILLISECOND + n * WEIR_MICROSECOND;
    for (long i = 0; i < n; i++)
        if (!(timers[i] = weir_after_func(when - weir_now(), ran, NULL))) fail("no memory for %ld timers", n);
    if (weir_now() >= when) fail("%s: setting %ld timers took until they were due", row, n);
    MUST(weir_wg_wait(&due.done));
    weir_duration total = weir_now() - when;
    expect(row, atomic_load(&due.ran), n);
    print_each(row, total, n);
    free_all(timers, n);
}

/* ---- How much later than asked a sleep returns: of N, one after the other ------------------------ */

static void sleep_late(const char *row, long n, weir_duration nap) {
    weir_duration *late = ARRAY(n, weir_duration);
    for (long i = 0; i < n; i++) {
        weir_time start = weir_now();
        MUST(weir_sleep(nap));
        late[i] = weir_now() - start - nap;
        if (late[i] < 0) fail("%s: woke %ld ns early", row, (long)-late[i]);
    }
    print_percentiles(row, late, n);
    free(late);
}

static void sleep_50us(const char *row, long n) { sleep_late(row, n, 50 * WEIR_MICROSECOND); }
static void sleep_1ms(const char *row, long n) { sleep_late(row, n, WEIR_MILLISECOND); }

const struct row timer_rows[] = {
    { "timers-set", timers_set },
    { "timers-reset", timers_reset },
    { "timers-stop", timers_stop },
    { "timers-one", timers_one },
    { "timers-due", timers_due },
    { "sleep-50us", sleep_50us },
    { "sleep-1ms", sleep_1ms },
    { 0 },
};
