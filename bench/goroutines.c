/* Rows about goroutines themselves: to give way, to start and join, to be parked by the million. */
#include "bench.h"

/* ---- Yield: N in all, shared by so many goroutines, which are started and waiting when the clock starts ---- */

struct yielders {
    weir_wg ready, done;
    long_chan gate;
    long each;
    atomic_long sum;
};

static void yielder(struct yielders *y) {
    weir_wg_done(&y->ready);
    if (weir_recv(y->gate, NULL) != -EPIPE) fail("the gate did not close");
    for (long i = 0; i < y->each; i++) weir_yield();
    atomic_fetch_add(&y->sum, y->each);
    weir_wg_done(&y->done);
}

static void yield_among(const char *row, long n, long goroutines) {
    struct yielders y = { .gate = weir_make(long_chan, 0), .each = n / goroutines };
    if (y.each == 0) fail("%s: fewer yields than goroutines", row);
    MUST(weir_wg_add(&y.ready, goroutines));
    MUST(weir_wg_add(&y.done, goroutines));
    for (long i = 0; i < goroutines; i++) MUST(weir_go(yielder, &y));
    MUST(weir_wg_wait(&y.ready));
    weir_time start = weir_now();
    weir_close(y.gate);
    MUST(weir_wg_wait(&y.done));
    weir_duration total = weir_now() - start;
    expect(row, atomic_load(&y.sum), y.each * goroutines);
    print_each(row, total, y.each * goroutines);
    weir_release(y.gate);
}

static void yield_1(const char *row, long n) { yield_among(row, n, 1); }
static void yield_2(const char *row, long n) { yield_among(row, n, 2); }
static void yield_10(const char *row, long n) { yield_among(row, n, 10); }
static void yield_100(const char *row, long n) { yield_among(row, n, 100); }
static void yield_1k(const char *row, long n) { yield_among(row, n, 1000); }
static void yield_10k(const char *row, long n) { yield_among(row, n, 10000); }
static void yield_100k(const char *row, long n) { yield_among(row, n, 100000); }
static void yield_1m(const char *row, long n) { yield_among(row, n, 1000000); }

/* ---- Start goroutines that do nothing much, and wait for them: a batch at a time ------------- */

enum { BATCH = 100 };

static void spawned(weir_wg *wg, atomic_long *sum) {
    atomic_fetch_add(sum, 1);
    weir_wg_done(wg);
}

static void spawn_in(const char *row, long n, long batch) {
    weir_wg wg = WEIR_WG_INIT;
    atomic_long sum = 0;
    n -= n % batch;
    weir_time start = weir_now();
    for (long started = 0; started < n; started += batch) {
        MUST(weir_wg_add(&wg, batch));
        for (long i = 0; i < batch; i++) MUST(weir_go(spawned, &wg, &sum));
        MUST(weir_wg_wait(&wg));
    }
    weir_duration total = weir_now() - start;
    expect(row, atomic_load(&sum), n);
    print_each(row, total, n);
}

static void spawn_batch(const char *row, long n) { spawn_in(row, n, BATCH); }
static void spawn_one(const char *row, long n) { spawn_in(row, n, 1); }

/* ---- Parked: N goroutines that wait on one channel ------------------------------------------- */

static void parker(struct parkers *p) {
    weir_wg_done(&p->ready);
    if (weir_recv(p->ch, NULL) != -EPIPE) fail("the channel did not close");
    atomic_fetch_add(&p->woken, 1);
    weir_wg_done(&p->done);
}

void park_all(struct parkers *p, long n) {
    MUST(weir_wg_add(&p->ready, n));
    MUST(weir_wg_add(&p->done, n));
    for (long i = 0; i < n; i++) MUST(weir_go(parker, p));
    MUST(weir_wg_wait(&p->ready));
}

void wake_all(struct parkers *p) {
    weir_close(p->ch);
    MUST(weir_wg_wait(&p->done));
}

static void parked(const char *row, long n) {
    struct parkers p = { .ch = weir_make(long_chan, 0) };
    long before = memory();
    weir_time start = weir_now();
    park_all(&p, n);
    weir_duration created = weir_now() - start;
    long after = memory();
    start = weir_now();
    wake_all(&p);
    weir_duration woken = weir_now() - start;
    expect(row, atomic_load(&p.woken), n);
    print_each("parked-create", created, n);
    printf("parked-bytes %.0f bytes\n", (double)(after - before) / (double)n);
    print_each("parked-wake", woken, n);
}

const struct row goroutine_rows[] = {
    { "yield-1", yield_1 },
    { "yield-2", yield_2 },
    { "yield-10", yield_10 },
    { "yield-100", yield_100 },
    { "yield-1k", yield_1k },
    { "yield-10k", yield_10k },
    { "yield-100k", yield_100k },
    { "yield-1m", yield_1m },
    { "spawn-batch", spawn_batch },
    { "spawn-one", spawn_one },
    { "parked", parked },
    { 0 },
};
