/* Rows about contexts: how long until the last of many has heard of a cancel and has ended; and one with a timeout, alone. */
#include "bench.h"

struct waiting {
    weir_wg ready, done;
    weir_ctx *ctx;
    long_chan never; /* gets no element */
    atomic_long cancelled;
};

static void ended(struct waiting *w) {
    atomic_fetch_add(&w->cancelled, 1);
    weir_wg_done(&w->done);
}

/* Start n of them, cancel once all have come as far as their wait, and time until the last has ended. */
static void cancel(const char *row, long n, int (*start_one)(struct waiting *w)) {
    struct waiting w = { .ctx = weir_ctx_with_cancel(NULL), .never = weir_make(long_chan, 0) };
    MUST(weir_wg_add(&w.ready, n));
    MUST(weir_wg_add(&w.done, n));
    for (long i = 0; i < n; i++) MUST(start_one(&w));
    MUST(weir_wg_wait(&w.ready));
    weir_time start = weir_now();
    weir_ctx_cancel(w.ctx);
    MUST(weir_wg_wait(&w.done));
    weir_duration total = weir_now() - start;
    expect(row, atomic_load(&w.cancelled), n);
    print_each(row, total, n);
    weir_ctx_release(w.ctx);
    weir_release(w.never);
}

/* N goroutines receive from the channel that the context closes when it ends. */
static void await_end(struct waiting *w) {
    weir_wg_done(&w->ready);
    if (weir_recv(weir_ctx_done(w->ctx), NULL) != -EPIPE) fail("the context has not ended");
    ended(w);
}
static int start_waiter(struct waiting *w) { return weir_go(await_end, w); }
static void cancel_waiters(const char *row, long n) { cancel(row, n, start_waiter); }

/* N goroutines receive from a channel, under the context; in Go, a select of both. */
static void receive_under(struct waiting *w) {
    weir_wg_done(&w->ready);
    weir_with(w->ctx) if (weir_recv(w->never, NULL) != -ECANCELED) fail("the context has not ended");
    ended(w);
}
static int start_receiver(struct waiting *w) { return weir_go(receive_under, w); }
static void cancel_receivers(const char *row, long n) { cancel(row, n, start_receiver); }

/* N child contexts, each with a goroutine that waits for its end. */
static void await_child(struct waiting *w, weir_ctx *child) {
    weir_wg_done(&w->ready);
    if (weir_recv(weir_ctx_done(child), NULL) != -EPIPE) fail("the child has not ended");
    weir_ctx_cancel(child);
    weir_ctx_release(child);
    ended(w);
}
static int start_child(struct waiting *w) { return weir_go(await_child, w, weir_ctx_with_cancel(w->ctx)); }
static void cancel_children(const char *row, long n) { cancel(row, n, start_child); }

/* Make a context with a timeout of a minute, and end it: what guards a call that is over at once. */
static void context_timeout(const char *row, long n) {
    long cancelled = 0;
    weir_time start = weir_now();
    for (long i = 0; i < n; i++) {
        weir_ctx *ctx = weir_ctx_with_timeout(NULL, WEIR_MINUTE);
        weir_ctx_cancel(ctx);
        cancelled += weir_ctx_err(ctx) == -ECANCELED;
        weir_ctx_release(ctx);
    }
    weir_duration total = weir_now() - start;
    expect(row, cancelled, n);
    print_each(row, total, n);
}

const struct row context_rows[] = {
    { "cancel-waiters", cancel_waiters },
    { "cancel-receivers", cancel_receivers },
    { "cancel-children", cancel_children },
    { "context-timeout", context_timeout },
    { 0 },
};
