/*
 * Rows about channels: pingpong, spsc-…, mpmc-….
 *
 * An element is copied by its size, which the channel knows only at run time.
 */
#include "bench.h"

static long receive(struct channel *ch) {
    long v;
    if (!channel_receive(ch, &v)) fail("the channel is closed");
    return v;
}

/* ---- There and back over two channels without a buffer ---- */

struct pair {
    struct channel there, back;
};

static void *echo(void *arg) {
    struct pair *p = arg;
    for (long v; channel_receive(&p->there, &v);) {
        v++;
        channel_send(&p->back, &v);
    }
    return NULL;
}

static void pingpong(const char *row, long n) {
    struct pair p;
    long sum = 0;
    channel_init(&p.there, sizeof(long), 0, 1);
    channel_init(&p.back, sizeof(long), 0, 1);
    start(echo, &p);
    duration begin = now();
    for (long i = 0; i < n; i++) {
        channel_send(&p.there, &i);
        sum += receive(&p.back);
    }
    duration total = now() - begin;
    expect(row, sum, triangle(n));
    print_each(row, total, n);
}

/* ---- One producer, one consumer; all words of an element are written and read ---- */

enum { MOST_WORDS = 8 };

struct stream {
    struct channel ch;
    long n;
    int words;
};

static void *produce(void *arg) {
    struct stream *s = arg;
    for (long i = 1; i <= s->n; i++) {
        long element[MOST_WORDS];
        for (int w = 0; w < s->words; w++) element[w] = i + w;
        channel_send(&s->ch, element);
    }
    channel_close(&s->ch);
    return NULL;
}

static void spsc_of(const char *row, long n, long capacity, int words) {
    struct stream s = { .n = n, .words = words };
    long element[MOST_WORDS], sum = 0;
    channel_init(&s.ch, (size_t)words * sizeof(long), capacity, 1);
    duration begin = now();
    start(produce, &s);
    while (channel_receive(&s.ch, element))
        for (int w = 0; w < words; w++) sum += element[w];
    duration total = now() - begin;
    expect(row, sum, words * triangle(n) + triangle(words - 1) * n);
    print_each(row, total, n);
}

static void spsc_0(const char *row, long n) { spsc_of(row, n, 0, 1); }
static void spsc_1(const char *row, long n) { spsc_of(row, n, 1, 1); }
static void spsc_128(const char *row, long n) { spsc_of(row, n, 128, 1); }
static void spsc_1024(const char *row, long n) { spsc_of(row, n, 1024, 1); }
static void spsc_0_64b(const char *row, long n) { spsc_of(row, n, 0, 8); }
static void spsc_128_64b(const char *row, long n) { spsc_of(row, n, 128, 8); }

/* ---- So many producers, as many consumers, N elements in all ---- */

struct many {
    struct channel ch;
    struct wait_group producers, consumers;
    long each, sum;
};

static void *producer(void *arg) {
    struct many *m = arg;
    for (long v = 1; v <= m->each; v++) channel_send(&m->ch, &v);
    wait_group_done(&m->producers);
    return NULL;
}

static void *consumer(void *arg) {
    struct many *m = arg;
    long sum = 0;
    for (long v; channel_receive(&m->ch, &v);) sum += v;
    m->sum += sum;
    wait_group_done(&m->consumers);
    return NULL;
}

static void mpmc(const char *row, long n, long sides, long capacity) {
    struct many m = { .each = n / sides };
    if (m.each == 0) fail("%s: fewer elements than producers", row);
    channel_init(&m.ch, sizeof(long), capacity, sides);
    wait_group_add(&m.producers, sides);
    wait_group_add(&m.consumers, sides);
    duration begin = now();
    for (long i = 0; i < sides; i++) {
        start(producer, &m);
        start(consumer, &m);
    }
    wait_group_wait(&m.producers);
    channel_close(&m.ch);
    wait_group_wait(&m.consumers);
    duration total = now() - begin;
    expect(row, m.sum, sides * triangle(m.each));
    print_each(row, total, m.each * sides);
}

static void mpmc_2_0(const char *row, long n) { mpmc(row, n, 2, 0); }
static void mpmc_4_0(const char *row, long n) { mpmc(row, n, 4, 0); }
static void mpmc_16_0(const char *row, long n) { mpmc(row, n, 16, 0); }
static void mpmc_2_128(const char *row, long n) { mpmc(row, n, 2, 128); }
static void mpmc_4_128(const char *row, long n) { mpmc(row, n, 4, 128); }
static void mpmc_16_128(const char *row, long n) { mpmc(row, n, 16, 128); }

const struct row channel_rows[] = {
    { "pingpong", pingpong },
    { "spsc-0", spsc_0 },
    { "spsc-1", spsc_1 },
    { "spsc-128", spsc_128 },
    { "spsc-1024", spsc_1024 },
    { "spsc-0-64b", spsc_0_64b },
    { "spsc-128-64b", spsc_128_64b },
    { "mpmc-2x2-0", mpmc_2_0 },
    { "mpmc-4x4-0", mpmc_4_0 },
    { "mpmc-16x16-0", mpmc_16_0 },
    { "mpmc-2x2-128", mpmc_2_128 },
    { "mpmc-4x4-128", mpmc_4_128 },
    { "mpmc-16x16-128", mpmc_16_128 },
    { 0 },
};
