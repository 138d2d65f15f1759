/*
 * The forgotten sender.
 *
 * search() takes 200 ms; process() prints what it finds, and wants to have failed after 100 ms. So it lets a
 * goroutine do the search, and stops waiting for it at the deadline. The goroutine does not know, finds the record,
 * and wants to hand it over.
 *
 * The spans of time are not scaled here. The calls are made at once.
 */
#include "support/leaks.h"

#define CALLS 1000
#define DEADLINE (100 * WEIR_MILLISECOND)
#define LATENCY (200 * WEIR_MILLISECOND)

/* What search returns, to travel in one piece. */
struct result {
    const char *record;
    int err;
};
typedef WEIR_CHAN(struct result) result_chan;

static int search(const char *term, const char **record) {
    (void)term;
    int err = weir_sleep(LATENCY);
    if (!err) *record = "some value";
    return err;
}

/* No goroutine, no leak, and no deadline. */
static int process_in_turn(const char *term) {
    const char *record;
    int err = search(term, &record);
    if (err) return err;
    say("    received: %s\n", record);
    return 0;
}

static int search_and_send(const char *term, result_chan ch) {
    struct result r = { NULL, 0 };
    r.err = search(term, &r.record);
    int err = weir_send(ch, r);
    weir_release(ch);
    return err;
}

/* Capacity 0 leaks in case 0 of the select. With capacity 1 the late result has somewhere to go: into a channel that
 * is freed with it, once the sender has released it too. */
static int process(const char *term, size_t capacity) {
    WEIR_AUTO_CANCEL weir_ctx *ctx = weir_ctx_with_timeout(NULL, DEADLINE);
    result_chan ch = weir_make(result_chan, capacity);
    struct result r = { NULL, 0 };
    r.err = weir_go(search_and_send, term, weir_retain(ch));
    if (r.err) {
        weir_release(ch); /* the sender's count */
    } else {
        switch (weir_select(weir_on_done(ctx), weir_on_recv(ch, &r))) {
        case 1:
            break;
        default:
            r.err = -ECANCELED;
        }
    }
    weir_release(ch);
    if (r.err) return r.err;
    say("    received: %s\n", r.record);
    return 0;
}

/* The same search() obeys the deadline now, since it runs under it. */
static int process_scoped(const char *term) {
    const char *record;
    int err = 0;
    weir_timeout(DEADLINE) weir_scoped(s, &err) {
        int failed = weir_scope_go(&s, search, term, &record);
        if (failed) return failed;
    }
    if (err) return err;
    say("    received: %s\n", record);
    return 0;
}

static void call_leaky(void) { process("term", 0); }
static void call_buffered(void) { process("term", 1); }
static void call_scoped(void) { process_scoped("term"); }

static void in_turn(void) { process_in_turn("term"); }
static void leaky(void) { at_once(CALLS, call_leaky); }
static void buffered(void) { at_once(CALLS, call_buffered); }
static void scoped(void) { at_once(CALLS, call_scoped); }

int main(int argc, char **argv) {
    static const struct pattern pattern = {
        .name = "forgotten_sender",
        .title = "a search that is given up before it has an answer, 1000 calls",
        .forms = { { "in_turn", FIXED, in_turn },
                   { "leaky", LEAKY, leaky },
                   { "buffered", FIXED, buffered },
                   { "scoped", SCOPED, scoped } },
    };
    return run_pattern(argc, argv, &pattern);
}
