/* The limit: how many children run at once, and who waits for a place. */
#include "test.h"

#include <pthread.h>
#include <stdatomic.h>

#include "ctx/ctx.h"

typedef WEIR_CHAN(int) int_chan;

static void hold(weir_unit_chan until) {
    weir_shield(WEIR_HOUR) CHECK_EQ(weir_recv(until, NULL), 0);
}
static void nothing(void) {}

struct meter {
    _Atomic int now, most, all;
};
static void measure(struct meter *m) {
    int now = atomic_fetch_add(&m->now, 1) + 1;
    for (int most = atomic_load(&m->most); now > most && !atomic_compare_exchange_weak(&m->most, &most, now);) continue;
    for (int i = 0; i < 5; i++) weir_yield();
    atomic_fetch_sub(&m->now, 1);
    atomic_fetch_add(&m->all, 1);
}

TEST(no_more_children_than_the_limit_run_at_once) {
    for (int limit = 1; limit <= 7; limit += 3) {
        struct meter m = { 0, 0, 0 };
        weir_scope s;
        CHECK_EQ(weir_scope_open(&s, NULL), 0);
        CHECK_EQ(weir_scope_limit(&s, limit), 0);
        for (int i = 0; i < 200; i++) CHECK_EQ(weir_scope_go(&s, measure, &m), 0);
        CHECK_EQ(weir_scope_wait(&s), 0);
        CHECK_EQ(atomic_load(&m.all), 200);
        CHECK_LE(atomic_load(&m.most), limit);
        CHECK_EQ(weir_scope_close(&s), 0);
    }
}

TEST(try_go_gives_up_at_the_limit) {
    weir_unit_chan until = weir_make(weir_unit_chan, 0);
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    CHECK_EQ(weir_scope_limit(&s, 2), 0);
    CHECK_EQ(weir_scope_try_go(&s, hold, until), 0);
    CHECK_EQ(weir_scope_try_go(&s, hold, until), 0);
    CHECK_EQ(weir_scope_try_go(&s, hold, until), -EAGAIN);
    CHECK_EQ(weir_send(until, weir_unit_value), 0);
    int e;
    TEST_UNTIL((e = weir_scope_try_go(&s, hold, until)) != -EAGAIN);
    CHECK_EQ(e, 0);
    CHECK_EQ(weir_scope_try_go(&s, hold, until), -EAGAIN);
    for (int i = 0; i < 2; i++) CHECK_EQ(weir_send(until, weir_unit_value), 0);
    CHECK_EQ(weir_scope_close(&s), 0);
    weir_release(until);
}

TEST(without_a_limit_try_go_always_starts) {
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    for (int i = 0; i < 100; i++) CHECK_EQ(weir_scope_try_go(&s, nothing), 0);
    CHECK_EQ(weir_scope_wait(&s), 0);
    CHECK_EQ(weir_scope_close(&s), 0);
}

TEST(the_limit_cannot_be_changed_while_children_live) {
    weir_unit_chan until = weir_make(weir_unit_chan, 0);
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    CHECK_EQ(weir_scope_limit(&s, 1), 0);
    CHECK_EQ(weir_scope_limit(&s, 2), 0);
    CHECK_EQ(weir_scope_go(&s, hold, until), 0);
    CHECK_EQ(weir_scope_limit(&s, 3), -EBUSY);
    CHECK_EQ(weir_scope_limit(&s, 0), -EBUSY);
    CHECK_EQ(weir_scope_try_go(&s, hold, until), 0); /* it is 2 still */
    CHECK_EQ(weir_scope_try_go(&s, hold, until), -EAGAIN);
    for (int i = 0; i < 2; i++) CHECK_EQ(weir_send(until, weir_unit_value), 0);
    CHECK_EQ(weir_scope_wait(&s), 0);
    CHECK_EQ(weir_scope_limit(&s, 0), 0);
    for (int i = 0; i < 10; i++) CHECK_EQ(weir_scope_try_go(&s, hold, until), 0);
    for (int i = 0; i < 10; i++) CHECK_EQ(weir_send(until, weir_unit_value), 0);
    CHECK_EQ(weir_scope_wait(&s), 0);
    CHECK_EQ(weir_scope_limit(&s, -5), 0);
    CHECK_EQ(weir_scope_try_go(&s, nothing), 0);
    CHECK_EQ(weir_scope_close(&s), 0);
    weir_release(until);
}

/* ---- Waiting for a place -------------------------------------------------------------------------- */

struct queue {
    weir_scope s;
    weir_unit_chan until;
    int_chan order, results;
};
static void note(struct queue *q, int i) {
    CHECK_EQ(weir_send(q->order, i), 0);
}
static void go_in_turn(struct queue *q, int i, weir_ctx *ctx) {
    weir_with(ctx) {
        int e = weir_scope_go(&q->s, note, q, i);
        weir_shield(WEIR_HOUR) CHECK_EQ(weir_send(q->results, e), 0);
    }
}
static struct queue open_queue(void) {
    struct queue q = { .until = weir_make(weir_unit_chan, 0) };
    q.order = weir_make(int_chan, 100), q.results = weir_make(int_chan, 100);
    return q;
}
static void free_queue(struct queue *q) { weir_release(q->until), weir_release(q->order), weir_release(q->results); }

TEST(go_waits_at_the_limit_first_come_first_served) {
    struct queue q = open_queue();
    CHECK_EQ(weir_scope_open(&q.s, NULL), 0);
    CHECK_EQ(weir_scope_limit(&q.s, 1), 0);
    CHECK_EQ(weir_scope_go(&q.s, hold, q.until), 0);
    for (int i = 0; i < 10; i++) {
        TEST_GO(go_in_turn, &q, i, weir_ctx_background());
        test_until_n_parked((size_t)i + 1, "weir.Scope.Go");
    }
    CHECK_EQ(weir_scope_try_go(&q.s, nothing), -EAGAIN);
    CHECK_EQ(weir_send(q.until, weir_unit_value), 0);
    for (int i = 0, got; i < 10; i++) {
        CHECK_EQ(weir_recv(q.order, &got), 0);
        CHECK_EQ(got, i);
        CHECK_EQ(weir_recv(q.results, &got), 0);
        CHECK_EQ(got, 0);
    }
    CHECK_EQ(weir_scope_wait(&q.s), 0);
    CHECK_EQ(weir_scope_close(&q.s), 0);
    free_queue(&q);
}

TEST(a_go_whose_own_context_ends_gives_up_and_starts_nothing) {
    struct queue q = open_queue();
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    int e = 0;
    CHECK_EQ(weir_scope_open(&q.s, NULL), 0);
    CHECK_EQ(weir_scope_limit(&q.s, 1), 0);
    CHECK_EQ(weir_scope_go(&q.s, hold, q.until), 0);
    TEST_GO(go_in_turn, &q, 1, ctx);
    test_until_n_parked(1, "weir.Scope.Go");
    TEST_GO(go_in_turn, &q, 2, weir_ctx_background());
    test_until_n_parked(2, "weir.Scope.Go");
    weir_ctx_cancel(ctx);
    CHECK_EQ(weir_recv(q.results, &e), 0);
    CHECK_EQ(e, -ECANCELED);
    CHECK_EQ(weir_send(q.until, weir_unit_value), 0); /* its place goes to the one behind */
    CHECK_EQ(weir_recv(q.results, &e), 0);
    CHECK_EQ(e, 0);
    CHECK_EQ(weir_recv(q.order, &e), 0);
    CHECK_EQ(e, 2);
    CHECK_EQ(weir_scope_wait(&q.s), 0);
    CHECK_EQ(weir_len(q.order), 0);
    CHECK_EQ(weir_scope_close(&q.s), 0);
    weir_ctx_release(ctx);
    free_queue(&q);
}

TEST(the_end_of_the_scope_sends_waiting_starters_away) {
    struct queue q = open_queue();
    int e = 0;
    CHECK_EQ(weir_scope_open(&q.s, NULL), 0);
    CHECK_EQ(weir_scope_limit(&q.s, 1), 0);
    CHECK_EQ(weir_scope_go(&q.s, hold, q.until), 0);
    for (int i = 0; i < 5; i++) TEST_GO(go_in_turn, &q, i, weir_ctx_background());
    test_until_n_parked(5, "weir.Scope.Go");
    weir_scope_cancel(&q.s);
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(weir_recv(q.results, &e), 0);
        CHECK_EQ(e, -ECANCELED);
    }
    CHECK_EQ(weir_send(q.until, weir_unit_value), 0);
    CHECK_EQ(weir_scope_close(&q.s), 0);
    CHECK_EQ(weir_len(q.order), 0);
    free_queue(&q);
}

TEST(a_deadline_of_the_scopes_context_sends_them_away_with_a_timeout) {
    struct queue q = open_queue();
    weir_ctx *ctx = weir_ctx_with_timeout(NULL, WEIR_HOUR);
    int e = 0;
    CHECK_EQ(weir_scope_open(&q.s, ctx), 0);
    CHECK_EQ(weir_scope_limit(&q.s, 1), 0);
    CHECK_EQ(weir_scope_go(&q.s, hold, q.until), 0);
    TEST_GO(go_in_turn, &q, 1, weir_ctx_background());
    test_until_n_parked(1, "weir.Scope.Go");
    wr_ctx_end(wr_ending_of(ctx), -ETIMEDOUT, -ETIMEDOUT); /* as its deadline would */
    CHECK_EQ(weir_recv(q.results, &e), 0);
    CHECK_EQ(e, -ETIMEDOUT);
    CHECK_EQ(weir_send(q.until, weir_unit_value), 0);
    CHECK_EQ(weir_scope_close(&q.s), 0);
    weir_ctx_release(ctx);
    free_queue(&q);
}

TEST(a_go_that_need_not_wait_is_not_refused_by_its_own_context) {
    weir_ctx *ctx = weir_ctx_with_timeout(NULL, 0);
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, weir_ctx_background()), 0);
    weir_with(ctx) CHECK_EQ(weir_scope_go(&s, nothing), 0);
    CHECK_EQ(weir_scope_wait(&s), 0);
    CHECK_EQ(weir_scope_close(&s), 0);
    weir_ctx_release(ctx);
}

static void *go_from_thread(void *arg) {
    weir_scope *s = arg;
    intptr_t failed = 0;
    for (int i = 0; i < 50; i++) failed += weir_scope_go(s, weir_yield) != 0;
    return (void *)failed;
}
TEST(threads_of_ones_own_wait_for_places_too) {
    enum { N = 4 };
    pthread_t threads[N];
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    CHECK_EQ(weir_scope_limit(&s, 2), 0);
    for (int i = 0; i < N; i++) CHECK_EQ(pthread_create(&threads[i], NULL, go_from_thread, &s), 0);
    for (int i = 0; i < N; i++) {
        void *failed = NULL;
        pthread_join(threads[i], &failed);
        CHECK_EQ((intptr_t)failed, 0);
    }
    CHECK_EQ(weir_scope_wait(&s), 0);
    CHECK_EQ(weir_scope_close(&s), 0);
}

static void count_run(_Atomic int *ran) {
    weir_yield();
    atomic_fetch_add(ran, 1);
}
static int spawn_some(weir_scope *s, weir_ctx *ctx, _Atomic int *started, _Atomic int *ran) {
    weir_with(ctx) for (int i = 0; i < 50; i++)
        if (weir_scope_go(s, count_run, ran) == 0) atomic_fetch_add(started, 1);
    return 0;
}

/* Places, cancelled starters and the end of the scope meet: what go said was started is exactly what ran. */
TEST(no_place_is_lost_when_starters_are_cancelled) {
    int rounds = (int)TEST_SCALE(100);
    for (int round = 0; round < rounds; round++) {
        _Atomic int started = 0, ran = 0;
        weir_ctx *ctx = weir_ctx_with_cancel(NULL);
        weir_scope s, starters;
        CHECK_EQ(weir_scope_open(&s, NULL), 0);
        CHECK_EQ(weir_scope_limit(&s, 3), 0);
        CHECK_EQ(weir_scope_open(&starters, NULL), 0);
        for (int i = 0; i < 6; i++)
            CHECK_EQ(weir_scope_go(&starters, spawn_some, &s, i % 2 ? ctx : weir_ctx_background(), &started, &ran), 0);
        for (int i = 0; i < round % 40; i++) weir_yield();
        weir_ctx_cancel(ctx);
        if (round % 3 == 0) weir_scope_cancel(&s);
        CHECK_EQ(weir_scope_wait(&starters), 0);
        CHECK_EQ(weir_scope_wait(&s), 0);
        CHECK_EQ(atomic_load(&started), atomic_load(&ran));
        if (round % 3) /* all places are free again */
            for (int i = 0; i < 3; i++) CHECK_EQ(weir_scope_try_go(&s, nothing), 0);
        CHECK_EQ(weir_scope_close(&starters), 0);
        CHECK_EQ(weir_scope_close(&s), 0);
        weir_ctx_release(ctx);
    }
}

struct late {
    weir_scope *s;
    int result;
};
static void *go_late(void *arg) {
    struct late *l = arg;
    l->result = weir_scope_go(l->s, nothing);
    return NULL;
}
static bool somebody_waits(struct weir_scope_ *in) {
    wr_lock(&in->lock, WR_RANK_SCOPE);
    bool waits = !wr_list_empty(&in->slots);
    wr_unlock(&in->lock, WR_RANK_SCOPE);
    return waits;
}

/* A thread takes its time to wake up, so the scope has mostly ended between the moment it is given the place and the
 * moment it looks. */
TEST(a_place_given_to_one_who_finds_the_scope_ended_is_given_back) {
    int rounds = (int)TEST_SCALE(200);
    weir_unit_chan until = weir_make(weir_unit_chan, 0);
    for (int round = 0; round < rounds; round++) {
        weir_scope s;
        struct late l = { &s, 1 };
        pthread_t thread;
        CHECK_EQ(weir_scope_open(&s, NULL), 0);
        CHECK_EQ(weir_scope_limit(&s, 1), 0);
        CHECK_EQ(weir_scope_go(&s, hold, until), 0);
        CHECK_EQ(pthread_create(&thread, NULL, go_late, &l), 0);
        TEST_UNTIL(somebody_waits(s.in_));
        CHECK_EQ(weir_send(until, weir_unit_value), 0);
        while (somebody_waits(s.in_)) weir_yield();
        weir_scope_cancel(&s);
        pthread_join(thread, NULL);
        CHECK(l.result == 0 || l.result == -ECANCELED);
        CHECK_EQ(weir_scope_close(&s), 0);
    }
    weir_release(until);
}
