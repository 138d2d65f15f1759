/*
 * Rows about select: of 2, 8, 64 and more channels, of which one, all or none are ready; and with a timeout.
 *
 * A select of 2 or 8 is written out, as a program would have it; more go by weir_selectv, whose array of arms is made once, as a
 * program with so many would have that. (Go's twins are all written out: a select whose number of arms is known only at run time
 * is reflect.Select there, and slower.)
 */
#include "bench.h"

enum { MOST = 1024 };

struct channels {
    int n;
    long_chan ch[MOST];      /* of one slot each */
    weir_arm arms[MOST + 1]; /* receives into v; the last is the default arm. Unused by selects of 2 and 8 */
    long v;
};

static struct channels *channels(int n) {
    struct channels *c = ARRAY(1, struct channels);
    c->n = n;
    for (int i = 0; i < n; i++) {
        c->ch[i] = weir_make(long_chan, 1);
        c->arms[i] = weir_on_recv(c->ch[i], &c->v);
    }
    c->arms[n] = weir_on_default();
    return c;
}

static void release(struct channels *c) {
    for (int i = 0; i < c->n; i++) weir_release(c->ch[i]);
    free(c);
}

#define ARM(i) weir_on_recv(c->ch[i], &c->v)

/* Receive from one of them; which. */
static inline int choose(struct channels *c) {
    switch (c->n) {
    case 2: return weir_select(ARM(0), ARM(1));
    case 8: return weir_select(ARM(0), ARM(1), ARM(2), ARM(3), ARM(4), ARM(5), ARM(6), ARM(7));
    default: return weir_selectv(c->arms, (size_t)c->n);
    }
}

/* The same, but n when none is ready. */
static inline int poll_all(struct channels *c) {
    switch (c->n) {
    case 2: return weir_select(ARM(0), ARM(1), weir_on_default());
    case 8:
        return weir_select(ARM(0), ARM(1), ARM(2), ARM(3), ARM(4), ARM(5), ARM(6), ARM(7), weir_on_default());
    default: return weir_selectv(c->arms, (size_t)c->n + 1);
    }
}

/* A send makes one of them ready, in turn, and the select takes it out again. */
static void one_ready(const char *row, long n, int arms) {
    struct channels *c = channels(arms);
    long sum = 0;
    weir_time start = weir_now();
    for (long i = 0; i < n; i++) {
        int ready = (int)i & (arms - 1);
        MUST(weir_send(c->ch[ready], i));
        int arm = choose(c);
        if (arm != ready) fail("%s: arm %d at %ld", row, arm, i);
        sum += c->v;
    }
    weir_duration total = weir_now() - start;
    expect(row, sum, triangle(n - 1));
    print_each(row, total, n);
    release(c);
}

/* All are ready; what the select takes out is put back. */
static void all_ready(const char *row, long n, int arms) {
    struct channels *c = channels(arms);
    long sum = 0, want = 0;
    for (int i = 0; i < arms; i++) MUST(weir_send(c->ch[i], i));
    weir_time start = weir_now();
    for (long i = 0; i < n; i++) {
        int arm = choose(c);
        if (arm < 0 || c->v != arm) fail("%s: arm %d gave %ld at %ld", row, arm, c->v, i);
        MUST(weir_send(c->ch[arm], c->v));
    }
    weir_duration total = weir_now() - start;
    for (long i = 0, v; i < arms; i++, sum += v) {
        MUST(weir_recv(c->ch[i], &v));
        want += i;
    }
    expect(row, sum, want);
    print_each(row, total, n);
    release(c);
}

static void none_ready(const char *row, long n, int arms) {
    struct channels *c = channels(arms);
    weir_time start = weir_now();
    for (long i = 0; i < n; i++) {
        int arm = poll_all(c);
        if (arm != arms) fail("%s: arm %d at %ld", row, arm, i);
    }
    weir_duration total = weir_now() - start;
    print_each(row, total, n);
    release(c);
}

static void one_of_2(const char *row, long n) { one_ready(row, n, 2); }
static void one_of_8(const char *row, long n) { one_ready(row, n, 8); }
static void one_of_64(const char *row, long n) { one_ready(row, n, 64); }
static void one_of_256(const char *row, long n) { one_ready(row, n, 256); }
static void one_of_1024(const char *row, long n) { one_ready(row, n, 1024); }
static void all_of_2(const char *row, long n) { all_ready(row, n, 2); }
static void all_of_8(const char *row, long n) { all_ready(row, n, 8); }
static void all_of_64(const char *row, long n) { all_ready(row, n, 64); }
static void none_of_2(const char *row, long n) { none_ready(row, n, 2); }
static void none_of_8(const char *row, long n) { none_ready(row, n, 8); }
static void none_of_64(const char *row, long n) { none_ready(row, n, 64); }

/* One channel that is ready, and a timeout that never comes. */
static void timeout_ready(const char *row, long n) {
    long_chan ch = weir_make(long_chan, 1);
    long sum = 0;
    weir_time start = weir_now();
    for (long i = 0, v; i < n; i++) {
        MUST(weir_send(ch, i));
        int arm = weir_select(weir_on_recv(ch, &v), weir_on_after(WEIR_MINUTE));
        if (arm != 0) fail("%s: arm %d at %ld", row, arm, i);
        sum += v;
    }
    weir_duration total = weir_now() - start;
    expect(row, sum, triangle(n - 1));
    print_each(row, total, n);
    weir_release(ch);
}

static void answer(long_chan in, long_chan out) {
    for (long v; weir_recv(in, &v) == 0;) MUST(weir_send(out, v + 1));
    weir_close(out);
}

/* A ping-pong whose answer is waited for with a timeout that never comes: the timer is armed and taken back. */
static void timeout_wait(const char *row, long n) {
    long_chan there = weir_make(long_chan, 0), back = weir_make(long_chan, 0);
    long sum = 0;
    MUST(weir_go(answer, there, back));
    weir_time start = weir_now();
    for (long i = 0, v; i < n; i++) {
        MUST(weir_send(there, i));
        int arm = weir_select(weir_on_recv(back, &v), weir_on_after(WEIR_MINUTE));
        if (arm != 0) fail("%s: arm %d at %ld", row, arm, i);
        sum += v;
    }
    weir_duration total = weir_now() - start;
    expect(row, sum, triangle(n));
    print_each(row, total, n);
    weir_close(there);
}

const struct row select_rows[] = {
    { "select-2-one", one_of_2 },
    { "select-8-one", one_of_8 },
    { "select-64-one", one_of_64 },
    { "select-256-one", one_of_256 },
    { "select-1024-one", one_of_1024 },
    { "select-2-all", all_of_2 },
    { "select-8-all", all_of_8 },
    { "select-64-all", all_of_64 },
    { "select-2-none", none_of_2 },
    { "select-8-none", none_of_8 },
    { "select-64-none", none_of_64 },
    { "select-timeout-ready", timeout_ready },
    { "select-timeout-wait", timeout_wait },
    { 0 },
};
