/*
 * A completion that is never sent.
 *
 * process_batch() lets a goroutine validate the items and waits to hear how it went. The goroutine reports the first
 * error, or success after the last item. An empty batch has no last item: nothing is sent, and here it is the caller
 * that is stuck. (The article prints a version that sends its success after the loop, which does no harm to an empty
 * batch, and warns of this one.)
 */
#include "support/leaks.h"

#define BATCHES 1000

typedef WEIR_CHAN(int) done_chan;

static int validate(int item) { return item >= 0 ? 0 : -EINVAL; }

static int validate_all_leaky(const int *items, size_t n, done_chan done) {
    int err = 0;
    for (size_t i = 0; i < n; i++) {
        int invalid = validate(items[i]);
        if (!invalid && i + 1 < n) continue;
        err = weir_send(done, invalid);
        break;
    }
    weir_release(done);
    return err;
}

static int process_batch_leaky(const int *items, size_t n) {
    done_chan done = weir_make(done_chan, 1);
    int result = 0;
    int err = weir_go(validate_all_leaky, items, n, weir_retain(done));
    if (err)
        weir_release(done); /* the goroutine's count */
    else
        err = weir_recv(done, &result);
    weir_release(done);
    return err ? err : result;
}

static int validate_all(const int *items, size_t n) {
    int err = 0;
    for (size_t i = 0; i < n && !err; i++) err = validate(items[i]);
    return err;
}

/* Closes the channel whatever happens, so that whoever waits hears of it. */
static int validate_and_close(const int *items, size_t n, done_chan done) {
    int err = n == 0 ? 0 : weir_send(done, validate_all(items, n));
    weir_close(done);
    weir_release(done);
    return err;
}

/* As in the article, an empty batch has no result, and that is an error: -EPIPE, closed with nothing in it. */
static int process_batch(const int *items, size_t n) {
    done_chan done = weir_make(done_chan, 1);
    int result = 0;
    int err = weir_go(validate_and_close, items, n, weir_retain(done));
    if (err)
        weir_release(done);
    else
        err = weir_recv(done, &result);
    weir_release(done);
    return err ? err : result;
}

/* A function completes by returning, which cannot be forgotten. */
static int process_batch_scoped(const int *items, size_t n) {
    int err = 0;
    weir_scoped(s, &err) {
        int failed = weir_scope_go(&s, validate_all, items, n);
        if (failed) return failed;
    }
    return err;
}

/* The callers are goroutines as well, one for each batch, as in a server. */
static void handle_requests(int (*process)(const int *, size_t)) {
    static const int items[] = { 1, 2, 3 };
    say("    a batch of 3: %d\n", process(items, 3));
    for (int i = 0; i < BATCHES; i++)
        if (weir_go(process, NULL, (size_t)0) != 0) return;
}

static void leaky(void) { handle_requests(process_batch_leaky); }
static void closed(void) { handle_requests(process_batch); }
static void scoped(void) { handle_requests(process_batch_scoped); }

int main(int argc, char **argv) {
    static const struct pattern pattern = {
        .name = "unsent_completion",
        .title = "a batch whose completion is never sent, 1000 empty batches",
        .forms = { { "leaky", LEAKY, leaky }, { "closed", FIXED, closed }, { "scoped", SCOPED, scoped } },
    };
    return run_pattern(argc, argv, &pattern);
}
