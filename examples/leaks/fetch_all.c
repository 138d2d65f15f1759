/*
 * As many fetches at once as there are URLs, and a collector that may leave early.
 *
 * fetch_all() fetches every URL in a goroutine of its own. One of them is down. The collector returns that error at
 * once, and whoever is still fetching will find nobody to take the result. (As the article prints it, the collector
 * ranges over a channel that nobody closes, and so hangs even if all goes well. Ours counts.)
 */
#include "support/leaks.h"

#include <stdatomic.h>
#include <string.h>

#define URLS 100
#define LIMIT 10 /* fetches at once, in the forms that have a limit */
#define LATENCY (200 * WEIR_MILLISECOND / SCALE)

/* What a fetch brings: the size of the page stands for the page. */
struct result {
    size_t index, size;
    int err;
};
typedef WEIR_CHAN(struct result) result_chan;

static atomic_int fetching, most; /* fetches under way: just now, and at most */

static int fetch(const char *url, size_t *size) {
    if (strstr(url, "down")) return -EIO;
    int n = atomic_fetch_add(&fetching, 1) + 1;
    for (int seen = most; seen < n && !atomic_compare_exchange_weak(&most, &seen, n);) {}
    int err = weir_sleep(LATENCY);
    atomic_fetch_sub(&fetching, 1);
    if (!err) *size = strlen(url);
    return err;
}

static int fetch_and_send(const char *url, result_chan results) {
    struct result r = { 0, 0, 0 };
    r.err = fetch(url, &r.size);
    int err = weir_send(results, r); /* blocks for good if the receiver has stopped reading */
    weir_release(results);
    return err;
}

static int fetch_all_leaky(const char *const *urls, size_t n, size_t *all) {
    result_chan results = weir_make(result_chan, 0);
    int err = 0;
    size_t started = 0;
    for (; started < n; started++) {
        err = weir_go(fetch_and_send, urls[started], weir_retain(results));
        if (err) weir_release(results);
        if (err) break;
    }
    for (size_t i = 0; i < started && !err; i++) {
        struct result r;
        err = weir_recv(results, &r);
        if (!err) err = r.err; /* and the loop ends */
        if (!err) all[i] = r.size; /* in the order in which they came */
    }
    weir_release(results);
    return err;
}

/* `slots` is a semaphore: who gets an element in may fetch. In C a semaphore must outlive whoever waits for it, and
 * fetch_all does not wait for all; a channel is counted. */
static int fetch_in_slot(weir_ctx *ctx, const char *url, size_t index, weir_unit_chan slots, result_chan results) {
    struct result r = { index, 0, 0 };
    weir_with(ctx) {
        r.err = weir_send(slots, weir_unit_value);
        if (r.err) break;
        r.err = fetch(url, &r.size);
        int err = weir_try_recv(slots, NULL);
        if (!r.err) r.err = err;
    }
    int err = weir_send(results, r); /* there is room for every result */
    weir_release(results);
    weir_release(slots);
    weir_ctx_release(ctx);
    return err;
}

static int fetch_all(weir_ctx *ctx, const char *const *urls, size_t n, size_t *all) {
    result_chan results = weir_make(result_chan, n);
    weir_unit_chan slots = weir_make(weir_unit_chan, LIMIT);
    int first_err = 0;
    size_t started = 0;
    for (; started < n; started++) {
        first_err = weir_go(fetch_in_slot, weir_ctx_retain(ctx), urls[started], started, weir_retain(slots),
                            weir_retain(results));
        if (first_err) {
            weir_release(results);
            weir_release(slots);
            weir_ctx_release(ctx);
            break;
        }
    }
    for (size_t i = 0; i < started; i++) {
        struct result r;
        if (weir_select(weir_on_recv(results, &r), weir_on_done(ctx)) != 0) {
            first_err = weir_ctx_err(ctx);
            break;
        }
        if (r.err && !first_err) first_err = r.err;
        all[r.index] = r.size;
    }
    weir_release(slots);
    weir_release(results);
    return first_err;
}

/* The limit, the order of the results, the first error and the end of the others are the scope's business. */
static int fetch_all_scoped(const char *const *urls, size_t n, size_t *all) {
    int err = 0, refused = 0;
    weir_scoped(s, &err) {
        weir_scope_limit(&s, LIMIT);
        for (size_t i = 0; i < n && !refused; i++) refused = weir_scope_go(&s, fetch, urls[i], &all[i]);
    }
    return err ? err : refused;
}

static int fetch_all_ctx(const char *const *urls, size_t n, size_t *all) {
    WEIR_AUTO_CANCEL weir_ctx *ctx = weir_ctx_with_timeout(NULL, 10 * WEIR_SECOND);
    return fetch_all(ctx, urls, n, all);
}

static void run(int (*fetch_them)(const char *const *, size_t, size_t *)) {
    static char text[URLS][32];
    const char *urls[URLS];
    size_t all[URLS] = { 0 }, got = 0;
    for (int i = 0; i < URLS; i++) {
        snprintf(text[i], sizeof text[i], "http://%s.example/%d", i == URLS / 2 ? "down" : "up", i);
        urls[i] = text[i];
    }
    int err = fetch_them(urls, URLS, all);
    for (int i = 0; i < URLS; i++) got += all[i] != 0;
    say("    %zu of %d pages, error: %s\n", got, URLS, err ? strerror(-err) : "none");
}

static void tell(void) { say("    at most %d fetches at once\n", atomic_exchange(&most, 0)); }

static void leaky(void) { run(fetch_all_leaky); }
static void limited(void) { run(fetch_all_ctx); }
static void scoped(void) { run(fetch_all_scoped); }

int main(int argc, char **argv) {
    static const struct pattern pattern = {
        .name = "fetch_all",
        .title = "100 fetches at once, and a collector that returns at the first error",
        .forms = { { "leaky", LEAKY, leaky }, { "limited", FIXED, limited }, { "scoped", SCOPED, scoped } },
        .tell = tell,
    };
    return run_pattern(argc, argv, &pattern);
}
