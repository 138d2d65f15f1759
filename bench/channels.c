/* Rows about channels: there and back, one producer and one consumer, many of both. */
#include "bench.h"

/* ---- Ping-pong: there and back over two unbuffered channels, between two goroutines -------------- */

static void echo(long_chan in, long_chan out, bool tied) {
    if (tied) weir_lock_thread();
    for (long v; weir_recv(in, &v) == 0;) MUST(weir_send(out, v + 1));
    weir_close(out);
}

static void there_and_back(const char *row, long n, bool tied) {
    long_chan there = weir_make(long_chan, 0), back = weir_make(long_chan, 0);
    long sum = 0;
    if (tied) weir_lock_thread();
    MUST(weir_go(echo, there, back, tied));
    weir_time start = weir_now();
    for (long i = 0, v; i < n; i++) {
        MUST(weir_send(there, i));
        MUST(weir_recv(back, &v));
        sum += v;
    }
    weir_duration total = weir_now() - start;
    expect(row, sum, triangle(n));
    print_each(row, total, n);
    weir_close(there);
}

static void pingpong(const char *row, long n) { there_and_back(row, n, false); }

/* Each tied to a thread of its own: one thread wakes the other, and sleeps. */
static void pingpong_tied(const char *row, long n) { there_and_back(row, n, true); }

/* ---- One producer, one consumer: N elements -------------------------------------------------------- */

static void produce(long_chan out, long n) {
    for (long i = 1; i <= n; i++) MUST(weir_send(out, i));
    weir_close(out);
}

static void spsc(const char *row, long n, size_t capacity) {
    long_chan ch = weir_make(long_chan, capacity);
    long sum = 0;
    weir_time start = weir_now();
    MUST(weir_go(produce, ch, n));
    for (long v; weir_recv(ch, &v) == 0;) sum += v;
    weir_duration total = weir_now() - start;
    expect(row, sum, triangle(n));
    print_each(row, total, n);
}

static void spsc_0(const char *row, long n) { spsc(row, n, 0); }
static void spsc_1(const char *row, long n) { spsc(row, n, 1); }
static void spsc_128(const char *row, long n) { spsc(row, n, 128); }
static void spsc_1024(const char *row, long n) { spsc(row, n, 1024); }

/* The same with elements of 64 bytes. All of each is written and read. */

struct line {
    long word[8];
};
typedef WEIR_CHAN(struct line) line_chan;

static void produce_lines(line_chan out, long n) {
    for (long i = 1; i <= n; i++) {
        struct line line;
        for (int w = 0; w < 8; w++) line.word[w] = i + w;
        MUST(weir_send(out, line));
    }
    weir_close(out);
}

static void spsc_lines(const char *row, long n, size_t capacity) {
    line_chan ch = weir_make(line_chan, capacity);
    long sum = 0;
    weir_time start = weir_now();
    MUST(weir_go(produce_lines, ch, n));
    for (struct line line; weir_recv(ch, &line) == 0;)
        for (int w = 0; w < 8; w++) sum += line.word[w];
    weir_duration total = weir_now() - start;
    expect(row, sum, 8 * triangle(n) + 28 * n);
    print_each(row, total, n);
}

static void spsc_0_lines(const char *row, long n) { spsc_lines(row, n, 0); }
static void spsc_128_lines(const char *row, long n) { spsc_lines(row, n, 128); }

/* ---- So many producers, as many consumers, one channel: N elements in all -------------------------- */

struct mpmc {
    weir_wg producers, consumers;
    long_chan ch;
    long each; /* elements of one producer: 1, 2, … */
    atomic_long sum;
};

static void producer(struct mpmc *m) {
    for (long i = 1; i <= m->each; i++) MUST(weir_send(m->ch, i));
    weir_wg_done(&m->producers);
}

static void consumer(struct mpmc *m) {
    long sum = 0;
    for (long v; weir_recv(m->ch, &v) == 0;) sum += v;
    atomic_fetch_add(&m->sum, sum);
    weir_wg_done(&m->consumers);
}

static void mpmc(const char *row, long n, long sides, size_t capacity) {
    struct mpmc m = { .ch = weir_make(long_chan, capacity), .each = n / sides };
    if (m.each == 0) fail("%s: fewer elements than producers", row);
    MUST(weir_wg_add(&m.producers, sides));
    MUST(weir_wg_add(&m.consumers, sides));
    weir_time start = weir_now();
    for (long i = 0; i < sides; i++) {
        MUST(weir_go(producer, &m));
        MUST(weir_go(consumer, &m));
    }
    MUST(weir_wg_wait(&m.producers));
    weir_close(m.ch);
    MUST(weir_wg_wait(&m.consumers));
    weir_duration total = weir_now() - start;
    expect(row, atomic_load(&m.sum), sides * triangle(m.each));
    print_each(row, total, m.each * sides);
    weir_release(m.ch);
}

static void mpmc_2_0(const char *row, long n) { mpmc(row, n, 2, 0); }
static void mpmc_4_0(const char *row, long n) { mpmc(row, n, 4, 0); }
static void mpmc_16_0(const char *row, long n) { mpmc(row, n, 16, 0); }
static void mpmc_2_128(const char *row, long n) { mpmc(row, n, 2, 128); }
static void mpmc_4_128(const char *row, long n) { mpmc(row, n, 4, 128); }
static void mpmc_16_128(const char *row, long n) { mpmc(row, n, 16, 128); }

/* ---- Waiters: N goroutines that wait on one channel, which then gets an element for each ------------
 * For the curve of costs against the number: the elements go in one by one. */

struct waiters {
    weir_wg ready, done;
    long_chan ch;
    atomic_long sum;
};

static void waiter(struct waiters *w) {
    long v;
    weir_wg_done(&w->ready);
    MUST(weir_recv(w->ch, &v));
    atomic_fetch_add(&w->sum, v);
    weir_wg_done(&w->done);
}

static void chan_waiters(const char *row, long n) {
    struct waiters w = { .ch = weir_make(long_chan, 0) };
    MUST(weir_wg_add(&w.ready, n));
    MUST(weir_wg_add(&w.done, n));
    for (long i = 0; i < n; i++) MUST(weir_go(waiter, &w));
    MUST(weir_wg_wait(&w.ready));
    weir_time start = weir_now();
    for (long i = 1; i <= n; i++) MUST(weir_send(w.ch, i));
    MUST(weir_wg_wait(&w.done));
    weir_duration total = weir_now() - start;
    expect(row, atomic_load(&w.sum), triangle(n));
    print_each(row, total, n);
    weir_release(w.ch);
}

const struct row channel_rows[] = {
    { "pingpong", pingpong },
    { "pingpong-tied", pingpong_tied },
    { "spsc-0", spsc_0 },
    { "spsc-1", spsc_1 },
    { "spsc-128", spsc_128 },
    { "spsc-1024", spsc_1024 },
    { "spsc-0-64b", spsc_0_lines },
    { "spsc-128-64b", spsc_128_lines },
    { "mpmc-2x2-0", mpmc_2_0 },
    { "mpmc-4x4-0", mpmc_4_0 },
    { "mpmc-16x16-0", mpmc_16_0 },
    { "mpmc-2x2-128", mpmc_2_128 },
    { "mpmc-4x4-128", mpmc_4_128 },
    { "mpmc-16x16-128", mpmc_16_128 },
    { "chan-waiters", chan_waiters },
    { 0 },
};
