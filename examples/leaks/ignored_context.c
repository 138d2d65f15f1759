/*
 * The worker that ignores its context.
 *
 * start_worker() starts a goroutine that processes what comes over a channel. It was given a context, and never looks
 * at it: cancelling does nothing, and once nobody sends any more the worker sleeps for good.
 */
#include "support/leaks.h"

#include <stdatomic.h>

#define WORKERS 1000
#define ITEMS 3 /* for each worker; they are in its queue when it is told to stop */

typedef WEIR_CHAN(int) data_chan;

static atomic_int processed;

static void process(int data) {
    (void)data;
    atomic_fetch_add(&processed, 1);
}

static void work_leaky(weir_ctx *ctx, data_chan queue) {
    for (int data; weir_recv(queue, &data) == 0;) process(data);
    weir_release(queue);
    weir_ctx_release(ctx);
}

/* It looks, and processes what is in the queue already before it leaves. */
static void work(weir_ctx *ctx, data_chan queue) {
    int data;
    while (weir_select(weir_on_recv(queue, &data), weir_on_done(ctx)) == 0) process(data);
    while (weir_try_recv(queue, &data) == 0) process(data);
    weir_release(queue);
    weir_ctx_release(ctx);
}

static int start_worker(void (*worker)(weir_ctx *, data_chan), weir_ctx *ctx, data_chan queue) {
    int err = weir_go(worker, weir_ctx_retain(ctx), weir_retain(queue));
    if (err) {
        weir_release(queue);
        weir_ctx_release(ctx);
    }
    return err;
}

/* It cannot help looking: a receive that would have to wait is refused once the scope's context has ended. One that
 * need not wait never is, so that this one line empties the queue too. */
static void work_scoped(data_chan queue) {
    for (int data; weir_recv(queue, &data) == 0;) process(data);
}

static data_chan filled_queue(void) {
    data_chan queue = weir_make(data_chan, ITEMS);
    for (int i = 0; i < ITEMS; i++)
        if (weir_try_send(queue, i) != 0) say("    the queue is full\n");
    return queue;
}

static void tell(void) { say("    %d of %d items processed\n", atomic_exchange(&processed, 0), WORKERS * ITEMS); }

static void run(void (*worker)(weir_ctx *, data_chan)) {
    WEIR_AUTO_CANCEL weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    for (int i = 0; i < WORKERS; i++) {
        data_chan queue = filled_queue();
        int err = start_worker(worker, ctx, queue);
        weir_release(queue);
        if (err) return;
    }
} /* the context ends here */

static void leaky(void) { run(work_leaky); }
static void drained(void) { run(work); }

static void scoped(void) {
    data_chan queue[WORKERS];
    int n = 0;
    weir_scoped(s) {
        for (; n < WORKERS; n++) {
            queue[n] = filled_queue();
            if (weir_scope_go(&s, work_scoped, queue[n]) != 0) break;
        }
        break; /* leaving the block early cancels the workers, and waits */
    }
    for (int i = 0; i < n; i++) weir_release(queue[i]);
}

int main(int argc, char **argv) {
    static const struct pattern pattern = {
        .name = "ignored_context",
        .title = "a worker that does not look at its context, 1000 workers",
        .forms = { { "leaky", LEAKY, leaky }, { "drained", FIXED, drained }, { "scoped", SCOPED, scoped } },
        .tell = tell,
    };
    return run_pattern(argc, argv, &pattern);
}
