/* The clock, sleep, timers and tickers. Go: package time. */
#ifndef WEIR_TIME_H
#define WEIR_TIME_H

WEIR_BEGIN_

/* The monotonic clock, in nanoseconds from an unspecified start. Go: time.Now, but only to measure by. */
WEIR_API_ weir_time weir_now(void);

/* Sleep for d nanoseconds: at least d, on an idle machine usually less than 0.1 ms more. d ≤ 0: returns 0 at once;
 * d > 0 always parks. Blocks; cancellable: -ECANCELED, -ETIMEDOUT. -ENOMEM: no memory to arm the timer. Go:
 * time.Sleep. */
WEIR_API_ int weir_sleep(weir_duration d);

/*
 * A timer ticks once, after d; a ticker ticks every period, and drops ticks that nobody takes in time.
 * Go 1.23's rules: after a stop or reset no stale tick is ever received, so nothing needs draining.
 * A timer belongs to its maker; weir_timer_free stops and frees it, and must not race with another use of it.
 * Nothing here but weir_sleep and weir_timer_wait blocks.
 */
typedef struct weir_timer weir_timer;

/* Stop and free. NULL is fine. For an after-func timer safe at any time: a call that is queued or running is
 * unaffected. */
WEIR_API_ void weir_timer_free(weir_timer *t);

/* A timer that ticks once after d (d ≤ 0: at once). NULL: out of memory. Go: time.NewTimer. */
WEIR_API_ WEIR_CONSTRUCTOR_(weir_timer_free) weir_timer *weir_timer_new(weir_duration d);

/* A ticker. NULL: out of memory, or period ≤ 0. Go: time.NewTicker. */
WEIR_API_ WEIR_CONSTRUCTOR_(weir_timer_free) weir_timer *weir_ticker_new(weir_duration period);

/* Disarm. True if t was armed, or its tick not yet received (for an after-func: if its call was kept from
 * starting). Go: Timer.Stop. */
WEIR_API_ bool weir_timer_stop(weir_timer *t);

/* Arm anew, d from now; a ticker takes d as its new period (d ≤ 0: false, nothing changes). Result as stop. Out of
 * memory ends the process. Go: Timer.Reset. */
WEIR_API_ bool weir_timer_reset(weir_timer *t, weir_duration d);

/* Wait for the tick; *when (or NULL) gets the time for which it was due. Blocks; cancellable. On a timer that is not
 * armed: for ever. 0, -ECANCELED, -ETIMEDOUT; -EINVAL for an after-func; -EDEADLK: healed. Go: <-t.C, whose value
 * is the time at which the tick was sent. */
WEIR_API_ WEIR_MUST_USE_ int weir_timer_wait(weir_timer *t, weir_time *when);

/* weir_timer *weir_after_func(d, fn, arg): run fn(arg) in a goroutine of its own after d. NULL: out of
 * memory. d ≤ 0: at once. Go: time.AfterFunc. The caller frees the timer, at any time. */
WEIR_API_ weir_timer *weir_after_func_(weir_duration d, void (*fn)(void *), void *arg, const weir_site_ *site);
#define weir_after_func(d, fn, arg)                                                                 \
    __extension__({                                                                                 \
        WEIR_SITE_(fn);                                                                             \
        weir_after_func_((d), (fn), (arg), &weir_site);                                             \
    })

WEIR_END_

#endif
