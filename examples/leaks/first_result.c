/*
 * The first of several results, and what becomes of the losers.
 *
 * first() asks every mirror for the same page and takes the answer that comes first. Unless somebody tells the others
 * to stop, each of them goes on to the end, and then sends to a first() that has long returned.
 *
 * fetch() is a sleep that obeys the current context, as a request over the network would.
 */
#include "support/leaks.h"

#define CALLS 100
#define MIRRORS 10
#define TIMEOUT (500 * WEIR_MILLISECOND / SCALE)

typedef WEIR_CHAN(const char *) page_chan;

struct mirror {
    const char *url, *page;
    weir_duration latency;
};

static const struct mirror mirrors[MIRRORS] = {
    { "http://a.example/", "from a", 190 * WEIR_MILLISECOND },
    { "http://b.example/", "from b", 120 * WEIR_MILLISECOND },
    { "http://c.example/", "from c", 10 * WEIR_MILLISECOND },
    { "http://d.example/", "from d", 170 * WEIR_MILLISECOND },
    { "http://e.example/", "from e", 150 * WEIR_MILLISECOND },
    { "http://f.example/", "from f", 130 * WEIR_MILLISECOND },
    { "http://g.example/", "from g", 180 * WEIR_MILLISECOND },
    { "http://h.example/", "from h", 140 * WEIR_MILLISECOND },
    { "http://i.example/", "from i", 160 * WEIR_MILLISECOND },
    { "http://j.example/", "from j", 110 * WEIR_MILLISECOND },
};

static int fetch(const struct mirror *m, const char **page) {
    int err = weir_sleep(m->latency);
    if (!err) *page = m->page;
    return err;
}

static int fetch_and_send(const struct mirror *m, page_chan results) {
    const char *page;
    int err = fetch(m, &page);
    return err ? err : weir_send(results, page);
}

static int fetch_leaky(const struct mirror *m, page_chan results) {
    int err = fetch_and_send(m, results);
    weir_release(results);
    return err;
}

static int first_leaky(const char **page) {
    page_chan results = weir_make(page_chan, 0); /* room for nobody, and nobody is told to stop */
    for (int i = 0; i < MIRRORS; i++)
        if (weir_go(fetch_leaky, &mirrors[i], weir_retain(results))) weir_release(results);
    int err = weir_select(weir_on_recv(results, page), weir_on_after(TIMEOUT)) == 0 ? 0 : -ETIMEDOUT;
    weir_release(results);
    return err;
}

/* Two nets: room for every result, so that no send blocks, and a context that ends with first(), so that the losers
 * stop fetching. The select, with a buffer that large, is there for the day when somebody makes it smaller. */
static int fetch_ctx(weir_ctx *ctx, const struct mirror *m, page_chan results) {
    int err = 0;
    weir_with(ctx) {
        const char *page;
        err = fetch(m, &page);
        if (!err && weir_select(weir_on_send(results, page), weir_on_done(ctx)) != 0) err = weir_ctx_err(ctx);
    }
    weir_release(results);
    weir_ctx_release(ctx);
    return err;
}

static int first_fixed(const char **page) {
    WEIR_AUTO_CANCEL weir_ctx *ctx = weir_ctx_with_timeout(NULL, TIMEOUT); /* cancelled when first() returns */
    page_chan results = weir_make(page_chan, MIRRORS);
    for (int i = 0; i < MIRRORS; i++) {
        if (weir_go(fetch_ctx, weir_ctx_retain(ctx), &mirrors[i], weir_retain(results))) {
            weir_ctx_release(ctx);
            weir_release(results);
        }
    }
    int err = weir_select(weir_on_recv(results, page), weir_on_done(ctx)) == 0 ? 0 : weir_ctx_err(ctx);
    weir_release(results);
    return err;
}

/* The first answer ends the block, which cancels the losers, in their sleep or in their send, and waits for them: so
 * they may borrow the channel, and it needs no buffer. */
static int first_scoped(const char **page) {
    page_chan results = weir_make(page_chan, 0);
    int err = 0;
    weir_timeout(TIMEOUT) weir_scoped(s) {
        weir_scope_supervise(&s); /* one mirror that is down is no reason to stop the others */
        for (int i = 0; i < MIRRORS; i++) weir_scope_go(&s, fetch_and_send, &mirrors[i], results);
        err = weir_recv(results, page);
        break;
    }
    weir_release(results);
    return err;
}

static void call_leaky(void) {
    const char *page;
    first_leaky(&page);
}
static void call_fixed(void) {
    const char *page;
    first_fixed(&page);
}
static void call_scoped(void) {
    const char *page;
    first_scoped(&page);
}

static void leaky(void) { at_once(CALLS, call_leaky); }
static void fixed(void) { at_once(CALLS, call_fixed); }
static void scoped(void) { at_once(CALLS, call_scoped); }

int main(int argc, char **argv) {
    static const struct pattern pattern = {
        .name = "first_result",
        .title = "the first of 10 results wins and the losers are forgotten, 100 calls",
        .forms = { { "leaky", LEAKY, leaky }, { "fixed", FIXED, fixed }, { "scoped", SCOPED, scoped } },
    };
    return run_pattern(argc, argv, &pattern);
}
