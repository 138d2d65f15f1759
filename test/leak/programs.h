/*
 * Small programs without a leak, at any moment: the articles' programs as they should be, and the usual ways of using channels, locks,
 * contexts and threads. Each runs for some milliseconds, and leaves no goroutine behind. While they run, correct.c and the soak
 * of test/long prove again and again that nobody has leaked. Those that pass handles on through memory are in passing.h.
 */
#ifndef LEAK_PROGRAMS_H
#define LEAK_PROGRAMS_H

#include "proof_test.h"

struct program {
    const char *name;
    void (*run)(void);
};

/* A while, differently long; each caller has its own dice. */
static NOINLINE unsigned dice(unsigned n) {
    static _Atomic uint64_t seed = 88172645463325252u;
    uint64_t x = atomic_fetch_add(&seed, 0x9e3779b97f4a7c15u);
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return (unsigned)((x ^ x >> 31) % n);
}
static NOINLINE void dally(void) {
    unsigned r = dice(16);
    if (r < 6) weir_yield();
    else if (r < 9) (void)!weir_sleep(1 + dice(200) * WEIR_MICROSECOND); /* some are cancelled */
}
static void until_alone_but(size_t others) { TEST_UNTIL(weir_count() <= 1 + others); }

/* ---- The articles' programs, fixed ----------------------------------------------------------------------------- */

static int work_a_while(int *value) {
    int e = weir_sleep(1 + dice(3000) * WEIR_MICROSECOND);
    *value = 42;
    return e;
}
static void produce_buffered(int_chan ch) {
    int v;
    if (work_a_while(&v) == 0) CHECK_EQ(weir_send(ch, v), 0);
    weir_release(ch);
}
/* Forgotten sender, select with a timeout: room for the late result. */
static void late_results_have_room(void) {
    for (int i = 0; i < 5; i++) {
        int_chan ch = weir_make(int_chan, 1);
        TEST_GO(produce_buffered, weir_retain(ch));
        (void)!weir_select(weir_on_recv(ch, NULL), weir_on_after(dice(2000) * WEIR_MICROSECOND));
        weir_release(ch);
    }
}
static void produce_under(weir_ctx *ctx, int_chan ch) {
    int v;
    weir_with(ctx) if (work_a_while(&v) == 0 && weir_select(weir_on_send(ch, v), weir_on_done(ctx)) < 0) FAIL("select");
    weir_release(ch), weir_ctx_release(ctx);
}
static void late_results_are_cancelled(void) {
    for (int i = 0; i < 5; i++) {
        WEIR_AUTO_CANCEL weir_ctx *ctx = weir_ctx_with_timeout(NULL, 1 + dice(2000) * WEIR_MICROSECOND);
        int_chan ch = weir_make(int_chan, 0);
        TEST_GO(produce_under, weir_ctx_retain(ctx), weir_retain(ch));
        (void)!weir_select(weir_on_recv(ch, NULL), weir_on_done(ctx));
        weir_release(ch);
    }
}
static int produce_in_scope(int_chan ch) {
    int v;
    return work_a_while(&v) == 0 ? weir_send(ch, v) : 0;
}
static void late_results_in_a_scope(void) {
    int_chan ch = weir_make(int_chan, 0);
    weir_timeout(1 + dice(4000) * WEIR_MICROSECOND) weir_scoped(s) {
        for (int i = 0; i < 5; i++) (void)weir_scope_go(&s, produce_in_scope, ch);
        (void)!weir_recv(ch, NULL);
        break; /* the first wins, the losers are cancelled */
    }
    weir_release(ch);
}
static void receive_until_closed(int_chan ch) {
    while (weir_recv(ch, NULL) == 0) {
    }
    weir_release(ch);
}
static void closed_for_its_receivers(void) {
    int_chan ch = weir_make(int_chan, 0);
    for (int i = 0; i < 5; i++) TEST_GO(receive_until_closed, weir_retain(ch));
    for (int i = 0; i < 5; i++) dally(), CHECK_EQ(weir_send(ch, i), 0);
    weir_close(ch);
    weir_release(ch);
}
static void drain_until_done(weir_ctx *ctx, int_chan queue) {
    while (weir_select(weir_on_recv(queue, NULL), weir_on_done(ctx)) == 0) {
    }
    while (weir_try_recv(queue, NULL) == 0) {
    }
    weir_release(queue), weir_ctx_release(ctx);
}
static void workers_that_look_at_their_context(void) {
    WEIR_AUTO_CANCEL weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    for (int i = 0; i < 5; i++) {
        int_chan queue = weir_make(int_chan, 3);
        for (int k = 0; k < 3; k++) CHECK_EQ(weir_try_send(queue, k), 0);
        TEST_GO(drain_until_done, weir_ctx_retain(ctx), weir_retain(queue));
        weir_release(queue);
        dally();
    }
}
static void fetch_in_slot(weir_ctx *ctx, int i, int_chan slots, int_chan results) {
    int v = -1;
    weir_with(ctx) {
        if (weir_send(slots, i) != 0) break;
        (void)work_a_while(&v);
        CHECK_EQ(weir_try_recv(slots, NULL), 0);
    }
    CHECK_EQ(weir_try_send(results, v), 0); /* there is room for every result */
    weir_release(results), weir_release(slots), weir_ctx_release(ctx);
}
static void fetches_with_a_limit(void) {
    enum { N = 12 };
    WEIR_AUTO_CANCEL weir_ctx *ctx = weir_ctx_with_timeout(NULL, 5 * WEIR_MILLISECOND);
    int_chan slots = weir_make(int_chan, 3), results = weir_make(int_chan, N);
    for (int i = 0; i < N; i++) TEST_GO(fetch_in_slot, weir_ctx_retain(ctx), i, weir_retain(slots), weir_retain(results));
    for (int i = 0; i < N; i++)
        if (weir_select(weir_on_recv(results, NULL), weir_on_done(ctx)) != 0) break;
    weir_release(slots), weir_release(results);
}
static int fetch_or_fail(int i) {
    int v, e = work_a_while(&v);
    return i == 7 ? -EIO : e;
}
static void fetches_in_a_scope_up_to_the_first_failure(void) {
    int e = 0;
    weir_scoped(s, &e) {
        weir_scope_limit(&s, 3);
        for (int i = 0; i < 12; i++)
            if (weir_scope_go(&s, fetch_or_fail, i) != 0) break;
    }
    CHECK_EQ(e, -EIO);
}
static void tick(weir_ctx *ctx, weir_timer *ticker) {
    while (weir_select(weir_on_timer(ticker), weir_on_done(ctx)) == 0) {
    }
    weir_timer_free(ticker), weir_ctx_release(ctx);
}
static void tickers_that_are_stopped(void) {
    WEIR_AUTO_CANCEL weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    for (int i = 0; i < 5; i++) TEST_GO(tick, weir_ctx_retain(ctx), weir_ticker_new(300 * WEIR_MICROSECOND));
    CHECK_EQ(weir_sleep(2 * WEIR_MILLISECOND), 0);
}
static void validate_and_close(int n, int_chan done) {
    for (int i = 0; i < n; i++) dally();
    if (n > 0) CHECK_EQ(weir_send(done, 0), 0);
    weir_close(done);
    weir_release(done);
}
static void completions_always_come(void) {
    for (int n = 0; n < 5; n++) {
        int_chan done = weir_make(int_chan, 0);
        TEST_GO(validate_and_close, n, weir_retain(done));
        (void)!weir_recv(done, NULL);
        weir_release(done);
    }
}

/* A pool of workers who are their own customers: closed by whoever takes the count to 0. */
struct pool {
    int_chan jobs;
    _Atomic int outstanding;
};
static void visit(struct pool *p, int depth) {
    if (depth > 0) {
        dally();
        for (int i = 0; i < 4; i++) {
            p->outstanding++;
            if (weir_try_send(p->jobs, depth - 1) != 0) visit(p, depth - 1);
        }
    }
    if (--p->outstanding == 0) weir_close(p->jobs);
}
static void crawl_work(struct pool *p) {
    for (int depth; weir_recv(p->jobs, &depth) == 0;) visit(p, depth);
}
static void a_crawl_by_a_pool(void) {
    struct pool p = { weir_make(int_chan, 10), 1 };
    weir_wg wg = WEIR_WG_INIT;
    for (int i = 0; i < 4; i++) CHECK_EQ(weir_wg_go(&wg, crawl_work, &p), 0);
    CHECK_EQ(weir_send(p.jobs, 3), 0);
    CHECK_EQ(weir_wg_wait(&wg), 0);
    weir_release(p.jobs);
}
static void crawl_in(weir_scope *s, int depth) {
    dally();
    for (int i = 0; depth > 0 && i < 4; i++)
        if (weir_scope_try_go(s, crawl_in, s, depth - 1) != 0) crawl_in(s, depth - 1);
}
static void a_crawl_in_a_scope(void) {
    weir_scoped(s) {
        weir_scope_limit(&s, 4);
        CHECK_EQ(weir_scope_go(&s, crawl_in, &s, 3), 0);
    }
}

/* ---- Channels ------------------------------------------------------------------------------------------------------ */

static void stage(int_chan in, int_chan out) {
    for (int v; weir_recv(in, &v) == 0;) CHECK_EQ(weir_send(out, v + 1), 0);
    weir_close(out);
    weir_release(in), weir_release(out);
}
static void a_pipeline(void) {
    int_chan first = weir_make(int_chan, 0), in = first, out = in;
    (void)weir_retain(first);
    for (int i = 0; i < 6; i++, in = out) {
        out = weir_make(int_chan, (size_t)i % 3);
        TEST_GO(stage, in, weir_retain(out));
    }
    for (int i = 0, v; i < 20; i++) {
        CHECK_EQ(weir_send(first, i), 0);
        CHECK_EQ(weir_recv(out, &v), 0);
        CHECK_EQ(v, i + 6);
        dally();
    }
    weir_close(first);
    CHECK_EQ(weir_wait_closed(out), 0);
    weir_release(first), weir_release(out);
}
static int filter(int_chan in, int_chan out, int prime) {
    int v, e;
    while ((e = weir_recv(in, &v)) == 0)
        if (v % prime != 0 && (e = weir_send(out, v)) != 0) break;
    return 0;
}
static int count_up(int_chan out) {
    for (int i = 2; weir_send(out, i) == 0; i++) {
    }
    return 0;
}
static void the_prime_sieve(void) {
    int_chan all[16];
    size_t n = 0;
    weir_scoped(s) {
        all[n++] = weir_make(int_chan, 0);
        CHECK_EQ(weir_scope_go(&s, count_up, all[0]), 0);
        for (int prime = 0; n < 15; n++) {
            CHECK_EQ(weir_recv(all[n - 1], &prime), 0);
            all[n] = weir_make(int_chan, 0);
            CHECK_EQ(weir_scope_go(&s, filter, all[n - 1], all[n], prime), 0);
        }
        break;
    }
    while (n > 0) weir_release(all[--n]);
}
static void echo(int_chan in, int_chan out) {
    for (int v; weir_recv(in, &v) == 0;) CHECK_EQ(weir_send(out, v), 0);
    weir_close(out);
    weir_release(in), weir_release(out);
}
static void ping_pong(void) {
    int_chan to = weir_make(int_chan, 0), from = weir_make(int_chan, 0);
    TEST_GO(echo, weir_retain(to), weir_retain(from));
    for (int i = 0; i < 100; i++) CHECK_EQ(weir_send(to, i), 0), CHECK_EQ(weir_recv(from, NULL), 0);
    weir_close(to);
    CHECK_EQ(weir_wait_closed(from), 0);
    weir_release(to), weir_release(from);
}
static void wait_for_start(int_chan start, weir_wg *wg) {
    CHECK_EQ(weir_recv(start, NULL), -EPIPE);
    dally();
    weir_wg_done(wg);
}
static void a_start_by_close(void) {
    int_chan start = weir_make(int_chan, 0);
    weir_wg wg = WEIR_WG_INIT;
    for (int i = 0; i < 20; i++) weir_wg_add(&wg, 1), TEST_GO(wait_for_start, start, &wg);
    dally();
    weir_close(start);
    CHECK_EQ(weir_wg_wait(&wg), 0);
    weir_release(start);
}

/* ---- Locks ----------------------------------------------------------------------------------------------------------- */

struct shop {
    weir_mutex m;
    weir_cond filled, emptied;
    weir_rwmutex rw;
    weir_sem counters;
    weir_once opened;
    weir_wg wg;
    int stock, prices;
};
static void open_shop(void *arg) {
    dally();
    ((struct shop *)arg)->prices = 1;
}
static void fill_shop(struct shop *s) {
    CHECK_EQ(weir_once_do(&s->opened, open_shop, s), 0);
    for (int i = 0; i < 20; i++) {
        weir_locked(&s->m) {
            while (s->stock == 3) CHECK_EQ(weir_cond_wait(&s->emptied, &s->m), 0);
            s->stock++;
            weir_cond_signal(&s->filled);
        }
        CHECK_EQ(weir_rwmutex_lock(&s->rw), 0);
        s->prices++;
        dally();
        CHECK_EQ(weir_rwmutex_unlock(&s->rw), 0);
    }
}
static void buy(struct shop *s) {
    CHECK_EQ(weir_once_do(&s->opened, open_shop, s), 0);
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(weir_rwmutex_rlock(&s->rw), 0);
        dally();
        CHECK_EQ(weir_rwmutex_runlock(&s->rw), 0);
        CHECK_EQ(weir_sem_acquire(&s->counters, 1 + i % 2), 0);
        weir_locked(&s->m) {
            while (s->stock == 0) CHECK_EQ(weir_cond_wait(&s->filled, &s->m), 0);
            s->stock--;
            weir_cond_signal(&s->emptied);
        }
        CHECK_EQ(weir_sem_release(&s->counters, 1 + i % 2), 0);
    }
}
static void a_shop(void) {
    struct shop *s = calloc(1, sizeof *s);
    CHECK(s);
    CHECK_EQ(weir_sem_init(&s->counters, 3), 0);
    for (int i = 0; i < 4; i++) CHECK_EQ(weir_wg_go(&s->wg, fill_shop, s), 0), CHECK_EQ(weir_wg_go(&s->wg, buy, s), 0);
    CHECK_EQ(weir_wg_wait(&s->wg), 0);
    CHECK_EQ(s->stock, 0);
    free(s);
}
static void a_shop_on_a_stack(void) {
    struct shop s = { .stock = 0 };
    CHECK_EQ(weir_sem_init(&s.counters, 3), 0);
    for (int i = 0; i < 2; i++) CHECK_EQ(weir_wg_go(&s.wg, fill_shop, &s), 0), CHECK_EQ(weir_wg_go(&s.wg, buy, &s), 0);
    CHECK_EQ(weir_wg_wait(&s.wg), 0);
}
static void split(weir_wg *up, int depth) {
    weir_wg wg = WEIR_WG_INIT;
    for (int i = 0; depth > 0 && i < 3; i++) weir_wg_add(&wg, 1), TEST_GO(split, &wg, depth - 1);
    dally();
    CHECK_EQ(weir_wg_wait(&wg), 0);
    weir_wg_done(up);
}
static void a_tree_of_groups(void) {
    weir_wg wg = WEIR_WG_INIT;
    weir_wg_add(&wg, 1);
    TEST_GO(split, &wg, 3);
    CHECK_EQ(weir_wg_wait(&wg), 0);
}

/* ---- Contexts, scopes and timers ------------------------------------------------------------------------------------------ */

static int wait_below(int depth) {
    int e = 0;
    weir_scoped(s, &e) {
        for (int i = 0; depth > 0 && i < 2; i++) (void)weir_scope_go(&s, wait_below, depth - 1);
        int_chan own = weir_make(int_chan, 0);
        weir_timeout(WEIR_HOUR) CHECK_EQ(weir_recv(own, NULL), -ECANCELED);
        weir_release(own);
    }
    return 0;
}
static void a_tree_that_is_cancelled(void) {
    weir_scoped(s) {
        CHECK_EQ(weir_scope_go(&s, wait_below, 3), 0);
        CHECK_EQ(weir_sleep(1 + dice(3000) * WEIR_MICROSECOND), 0);
        break;
    }
}
static void wake(void *ch) { CHECK_EQ(weir_chan_send(ch, &(int){ 1 }), 0); }
static void calls_that_are_pending(void) {
    int_chan ch = weir_make(int_chan, 0);
    for (int i = 0; i < 10; i++) {
        weir_timer *t = weir_after_func(1 + dice(500) * WEIR_MICROSECOND, wake, weir_chan_of(ch));
        CHECK_EQ(weir_recv(ch, NULL), 0);
        weir_timer_free(t);
    }
    weir_release(ch);
}
static void ends_of_contexts(void) {
    int_chan ch = weir_make(int_chan, 0);
    for (int i = 0; i < 10; i++) {
        WEIR_AUTO_CANCEL weir_ctx *ctx = weir_ctx_with_timeout(NULL, 1 + dice(500) * WEIR_MICROSECOND);
        weir_timer *t = weir_ctx_after_func(ctx, wake, weir_chan_of(ch));
        CHECK_EQ(weir_recv(ch, NULL), 0);
        weir_timer_free(t);
    }
    weir_release(ch);
}
static void timers_set_anew(void) {
    weir_timer *t = weir_timer_new(WEIR_HOUR);
    for (int i = 0; i < 20; i++) {
        weir_timer_reset(t, dice(300) * WEIR_MICROSECOND);
        CHECK_EQ(dice(2) ? weir_timer_wait(t, NULL) : weir_select(weir_on_timer(t)), 0);
    }
    weir_timer_free(t);
}
static int never_alone(int_chan a, int_chan b) {
    for (;;) {
        int arm = weir_select(weir_on_recv(a, NULL), weir_on_send(b, 1), weir_on_after(dice(500) * WEIR_MICROSECOND));
        if (arm < 0) return 0;
        dally();
        if (weir_ctx_err(weir_ctx_current())) return 0;
    }
}
static void selects_in_a_ring(void) {
    int_chan c[5];
    for (int i = 0; i < 5; i++) c[i] = weir_make(int_chan, (size_t)i % 2);
    weir_scoped(s) {
        for (int i = 0; i < 5; i++) CHECK_EQ(weir_scope_go(&s, never_alone, c[i], c[(i + 1) % 5]), 0);
        CHECK_EQ(weir_sleep(3 * WEIR_MILLISECOND), 0);
        break;
    }
    for (int i = 0; i < 5; i++) weir_release(c[i]);
}

#endif
