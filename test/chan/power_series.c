/*
 * Power series as processes, after McIlroy's "Squinting at Power Series": a series is a stream of rational
 * coefficients that a goroutine computes on demand. Everything is built from goroutines and two channels a
 * stream: a request goes up, a coefficient comes down. Whoever is done with a stream closes its request
 * channel, which ends the goroutine behind it, and so on up to the sources: at the end none is left.
 */
#include "test.h"

#include <stdlib.h>

struct rat {
    int64_t num, den;
};
typedef WEIR_CHAN(struct rat) rat_chan;
struct series {
    weir_unit_chan request;
    rat_chan data;
};

static int64_t gcd(int64_t a, int64_t b) { return b ? gcd(b, a % b) : a < 0 ? -a : a; }
static struct rat rat(int64_t num, int64_t den) {
    int64_t g = gcd(num, den);
    if (den < 0) g = -g;
    return (struct rat){ num / g, den / g };
}
static struct rat rat_add(struct rat a, struct rat b) {
    int64_t g = gcd(a.den, b.den);
    return rat(a.num * (b.den / g) + b.num * (a.den / g), a.den / g * b.den);
}
static struct rat rat_mul(struct rat a, struct rat b) {
    struct rat x = rat(a.num, b.den), y = rat(b.num, a.den);
    return (struct rat){ x.num * y.num, x.den * y.den };
}

/* ---- Streams ---------------------------------------------------------------------------------------- */

static struct series stream(void) {
    return (struct series){ weir_make(weir_unit_chan, 0), weir_make(rat_chan, 0) };
}
/* The goroutine that serves a stream has counts of its own. */
static struct series served(struct series s) {
    weir_retain(s.request);
    weir_retain(s.data);
    return s;
}
static void let_go(struct series s) { weir_release(s.request), weir_release(s.data); }

static struct rat get(struct series s) {
    struct rat r;
    CHECK_EQ(weir_send(s.request, weir_unit_value), 0);
    CHECK_EQ(weir_recv(s.data, &r), 0);
    return r;
}
/* No more is wanted from s. */
static void done(struct series s) {
    CHECK_EQ(weir_close(s.request), 0);
    let_go(s);
}
static bool asked(struct series s) { return weir_recv(s.request, NULL) == 0; }
static void answer(struct series s, struct rat r) { CHECK_EQ(weir_send(s.data, r), 0); }

/* What an operation's goroutine gets. */
struct job {
    struct series out, f, g;
    struct rat c;
    int n;
};
static struct series start(void (*fn)(struct job *), struct job job) {
    struct job *own = malloc(sizeof *own);
    struct series s = stream();
    *own = job;
    own->out = served(s);
    TEST_GO(fn, own);
    return s;
}
static void finish(struct job *j) {
    let_go(j->out);
    free(j);
}

/* ---- Two readers of one stream: each coefficient is fetched once, and kept for the slower --------------- */

struct kept {
    struct rat value;
    struct kept *next;
};
struct split_job {
    struct series in, out[2];
};
static void split_serve(struct split_job *s) {
    struct kept *head[2] = { NULL, NULL }, **tail[2] = { &head[0], &head[1] };
    bool open[2] = { true, true };
    while (open[0] || open[1]) {
        weir_unit_chan nobody = { 0 };
        int k = weir_select(weir_on_recv(open[0] ? s->out[0].request : nobody, NULL),
                            weir_on_recv(open[1] ? s->out[1].request : nobody, NULL));
        CHECK_GE(k, 0);
        if (weir_select_error() == -EPIPE) {
            open[k] = false;
            continue;
        }
        if (!head[k]) {
            struct rat r = get(s->in);
            for (int i = 0; i < 2; i++) {
                struct kept *e = malloc(sizeof *e);
                *e = (struct kept){ r, NULL };
                *tail[i] = e, tail[i] = &e->next;
            }
        }
        struct kept *first = head[k];
        head[k] = first->next;
        if (!head[k]) tail[k] = &head[k];
        answer(s->out[k], first->value);
        free(first);
    }
    for (int i = 0; i < 2; i++) {
        for (struct kept *next; head[i]; head[i] = next) {
            next = head[i]->next;
            free(head[i]);
        }
        let_go(s->out[i]);
    }
    done(s->in);
    free(s);
}
static void split(struct series in, struct series out[2]) {
    struct split_job *s = malloc(sizeof *s);
    out[0] = stream(), out[1] = stream();
    *s = (struct split_job){ in, { served(out[0]), served(out[1]) } };
    TEST_GO(split_serve, s);
}

/* ---- Operations --------------------------------------------------------------------------------------- */

/* c, c, c, …: c / (1 - x) */
static void constant_serve(struct job *j) {
    while (asked(j->out)) answer(j->out, j->c);
    finish(j);
}
static struct series all(int64_t c) { return start(constant_serve, (struct job){ .c = rat(c, 1) }); }

static void add_serve(struct job *j) {
    while (asked(j->out)) answer(j->out, rat_add(get(j->f), get(j->g)));
    done(j->f), done(j->g);
    finish(j);
}
static struct series add(struct series f, struct series g) { return start(add_serve, (struct job){ .f = f, .g = g }); }

static void scale_serve(struct job *j) {
    while (asked(j->out)) answer(j->out, rat_mul(j->c, get(j->f)));
    done(j->f);
    finish(j);
}
static struct series scale(struct rat c, struct series f) { return start(scale_serve, (struct job){ .f = f, .c = c }); }

/* x·f */
static void shift_serve(struct job *j) {
    if (asked(j->out)) {
        answer(j->out, rat(0, 1));
        while (asked(j->out)) answer(j->out, get(j->f));
    }
    done(j->f);
    finish(j);
}
static struct series shift(struct series f) { return start(shift_serve, (struct job){ .f = f }); }

/* f·g = f0·g0 + x·(f0·G + g0·F) + x²·F·G, where f = f0 + x·F: recursive, one product behind the other. */
static struct series mul(struct series f, struct series g);
static void mul_serve(struct job *j) {
    if (!asked(j->out)) {
        done(j->f), done(j->g);
        finish(j);
        return;
    }
    struct rat f0 = get(j->f), g0 = get(j->g);
    answer(j->out, rat_mul(f0, g0));
    struct series f[2], g[2];
    split(j->f, f), split(j->g, g);
    struct series rest = add(add(scale(f0, g[0]), scale(g0, f[0])), shift(mul(f[1], g[1])));
    while (asked(j->out)) answer(j->out, get(rest));
    done(rest);
    finish(j);
}
static struct series mul(struct series f, struct series g) { return start(mul_serve, (struct job){ .f = f, .g = g }); }

static void derive_serve(struct job *j) {
    bool more = asked(j->out);
    if (more) get(j->f);
    for (int64_t n = 1; more; n++, more = asked(j->out)) answer(j->out, rat_mul(rat(n, 1), get(j->f)));
    done(j->f);
    finish(j);
}
static struct series derive(struct series f) { return start(derive_serve, (struct job){ .f = f }); }

/* c + ∫f. The constant is served before anything is asked of f, so that f may depend on the integral. */
static void integrate_serve(struct job *j) {
    if (asked(j->out)) {
        answer(j->out, j->c);
        for (int64_t n = 1; asked(j->out); n++) answer(j->out, rat_mul(rat(1, n), get(j->f)));
    }
    done(j->f);
    finish(j);
}
static struct series integrate(struct rat c, struct series f) {
    return start(integrate_serve, (struct job){ .f = f, .c = c });
}

/* The first n coefficients, then no more is wanted. */
static void expect(struct series s, const struct rat *want, int n) {
    for (int i = 0; i < n; i++) {
        struct rat r = get(s);
        if (r.num != want[i].num || r.den != want[i].den)
            FAIL("coefficient %d is %lld/%lld, not %lld/%lld", i, (long long)r.num, (long long)r.den,
                 (long long)want[i].num, (long long)want[i].den);
    }
    done(s);
    TEST_UNTIL(weir_count() == 1); /* every goroutine behind it has ended */
}

/* e^x = Σ xⁿ/n! */
static void exp_serve(struct job *j) {
    struct rat c = rat(1, 1);
    for (int64_t n = 1; asked(j->out); n++) {
        answer(j->out, c);
        c = rat_mul(c, rat(1, n));
    }
    finish(j);
}
static struct series exponential(void) { return start(exp_serve, (struct job){ .n = 0 }); }

/* ---- Tests ---------------------------------------------------------------------------------------------- */

TEST(power_series_add) {
    struct rat want[8];
    for (int i = 0; i < 8; i++) want[i] = rat(5, 1);
    expect(add(all(2), all(3)), want, 8);
}

TEST(power_series_derive_and_integrate) {
    struct rat want[8];
    for (int i = 0; i < 8; i++) want[i] = rat(i + 1, 1);
    expect(derive(all(1)), want, 8);
    for (int i = 0; i < 8; i++) want[i] = i ? rat(1, i) : rat(7, 1);
    expect(integrate(rat(7, 1), all(1)), want, 8);
    for (int i = 0; i < 8; i++) want[i] = rat(1, 1);
    expect(derive(integrate(rat(7, 1), all(1))), want, 8);
}

TEST(power_series_split) {
    struct series two[2];
    split(derive(all(1)), two);
    for (int i = 0; i < 5; i++) CHECK_EQ(get(two[0]).num, i + 1);
    for (int i = 0; i < 9; i++) CHECK_EQ(get(two[1]).num, i + 1);
    for (int i = 5; i < 9; i++) CHECK_EQ(get(two[0]).num, i + 1);
    done(two[0]);
    CHECK_EQ(get(two[1]).num, 10);
    done(two[1]);
    TEST_UNTIL(weir_count() == 1);
}

TEST(power_series_multiply) {
    struct rat want[10];
    for (int i = 0; i < 10; i++) want[i] = rat(i + 1, 1); /* 1/(1-x)² */
    expect(mul(all(1), all(1)), want, 10);
}

TEST(power_series_of_the_exponential) {
    struct rat want[9] = { { 1, 1 } };
    int64_t factorial = 1;
    /* (e^x)² = e^2x */
    for (int i = 1; i < 9; i++) factorial *= i, want[i] = rat(1 << i, factorial);
    expect(mul(exponential(), exponential()), want, 9);
    /* and it is its own derivative */
    factorial = 1;
    for (int i = 0; i < 9; i++) want[i] = rat(1, factorial), factorial *= i + 1;
    expect(derive(exponential()), want, 9);
}

TEST(power_series_on_one_processor) {
    struct rat want[10];
    weir_procs(1);
    for (int i = 0; i < 10; i++) want[i] = rat((i + 1) * (i + 2) / 2, 1); /* 1/(1-x)³ */
    expect(mul(mul(all(1), all(1)), all(1)), want, 10);
}
