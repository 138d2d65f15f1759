/* The current context ends each blocking call, and the call has then had no effect. */
#include "test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

typedef WEIR_CHAN(int) int_chan;

static weir_ctx *ended(void) {
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    weir_ctx_cancel(ctx);
    return ctx;
}

/* Run `call`, which must block, in a goroutine under a context that is cancelled once the call sleeps in `state`;
 * what it returns. */
struct asleep {
    int (*call)(void *);
    void *arg;
    weir_ctx *ctx;
    int_chan out;
    _Atomic uint64_t id;
};
static void call_asleep(struct asleep *a) {
    int e = 1;
    weir_with(a->ctx) {
        atomic_store(&a->id, weir_id());
        e = a->call(a->arg);
    }
    CHECK_EQ(weir_send(a->out, e), 0);
}
static int cancelled_while_asleep(int (*call)(void *), void *arg, const char *state) {
    struct asleep a = { .call = call, .arg = arg, .ctx = weir_ctx_with_cancel(NULL), .out = weir_make(int_chan, 0) };
    TEST_GO(call_asleep, &a);
    TEST_UNTIL(atomic_load(&a.id));
    test_until_parked(atomic_load(&a.id), state);
    weir_ctx_cancel(a.ctx);
    int e;
    CHECK_EQ(weir_recv(a.out, &e), 0);
    weir_ctx_release(a.ctx);
    weir_release(a.out);
    return e;
}
/* The same call under a context that has ended before. */
static int cancelled_before(int (*call)(void *), void *arg) {
    weir_ctx *ctx = ended();
    int e = 1;
    weir_with(ctx) e = call(arg);
    weir_ctx_release(ctx);
    return e;
}

static int recv_it(void *arg) {
    int v = 7, e = weir_recv(*(int_chan *)arg, &v);
    if (e) CHECK_EQ(v, 7); /* not even touched */
    return e;
}
static int send_it(void *arg) { return weir_send(*(int_chan *)arg, 5); }

TEST(a_receive_is_ended_and_takes_nothing) {
    int_chan ch = weir_make(int_chan, 0);
    CHECK_EQ(cancelled_before(recv_it, &ch), -ECANCELED);
    CHECK_EQ(cancelled_while_asleep(recv_it, &ch, "chan receive"), -ECANCELED);
    CHECK_EQ(weir_try_send(ch, 1), -EAGAIN); /* nobody is left in the queue */
    weir_release(ch);
}

TEST(a_send_is_ended_and_gives_nothing) {
    int_chan ch = weir_make(int_chan, 0), full = weir_make(int_chan, 1);
    int v;
    CHECK_EQ(cancelled_before(send_it, &ch), -ECANCELED);
    CHECK_EQ(cancelled_while_asleep(send_it, &ch, "chan send"), -ECANCELED);
    CHECK_EQ(weir_try_recv(ch, &v), -EAGAIN);
    CHECK_EQ(weir_send(full, 1), 0);
    CHECK_EQ(cancelled_while_asleep(send_it, &full, "chan send"), -ECANCELED);
    CHECK_EQ(weir_len(full), 1);
    CHECK_EQ(weir_recv(full, &v), 0);
    CHECK_EQ(v, 1);
    CHECK_EQ(weir_try_recv(full, &v), -EAGAIN);
    weir_release(ch), weir_release(full);
}

TEST(calls_on_a_nil_channel_are_ended) {
    int_chan nil = { 0 };
    CHECK_EQ(cancelled_before(recv_it, &nil), -ECANCELED);
    CHECK_EQ(cancelled_before(send_it, &nil), -ECANCELED);
    CHECK_EQ(cancelled_while_asleep(recv_it, &nil, "chan receive (nil chan)"), -ECANCELED);
    CHECK_EQ(cancelled_while_asleep(send_it, &nil, "chan send (nil chan)"), -ECANCELED);
}

static int select_both(void *arg) {
    int_chan *ch = arg;
    int v = 7, e = weir_select(weir_on_recv(ch[0], &v), weir_on_send(ch[1], 5));
    if (e < 0) CHECK_EQ(v, 7);
    return e;
}
static int select_nothing(void *arg) {
    (void)arg;
    return weir_selectv(NULL, 0);
}

TEST(a_select_is_ended_and_no_arm_has_fired) {
    int_chan ch[2] = { weir_make(int_chan, 0), weir_make(int_chan, 0) };
    int v;
    CHECK_EQ(cancelled_before(select_both, ch), -ECANCELED);
    CHECK_EQ(cancelled_while_asleep(select_both, ch, "select"), -ECANCELED);
    CHECK_EQ(weir_try_send(ch[0], 1), -EAGAIN);
    CHECK_EQ(weir_try_recv(ch[1], &v), -EAGAIN);
    weir_release(ch[0]), weir_release(ch[1]);
}

TEST(a_select_without_arms_is_ended) {
    CHECK_EQ(cancelled_before(select_nothing, NULL), -ECANCELED);
    CHECK_EQ(cancelled_while_asleep(select_nothing, NULL, "select (no cases)"), -ECANCELED);
}

static int sleep_long(void *arg) {
    (void)arg;
    return weir_sleep(WEIR_HOUR);
}
TEST(a_sleep_is_ended) {
    CHECK_EQ(cancelled_before(sleep_long, NULL), -ECANCELED);
    CHECK_EQ(cancelled_while_asleep(sleep_long, NULL, "sleep"), -ECANCELED);
}

static int wait_timer(void *arg) {
    weir_time when = 7;
    int e = weir_timer_wait(arg, &when);
    if (e) CHECK_EQ(when, 7);
    return e;
}
TEST(a_wait_for_a_timer_is_ended_and_the_tick_still_comes) {
    weir_timer *t = weir_timer_new(WEIR_HOUR);
    CHECK_EQ(cancelled_before(wait_timer, t), -ECANCELED);
    CHECK_EQ(cancelled_while_asleep(wait_timer, t, "chan receive"), -ECANCELED);
    CHECK(weir_timer_reset(t, WEIR_MILLISECOND)); /* still armed */
    CHECK_EQ(weir_timer_wait(t, NULL), 0);
    weir_timer_free(t);
}

static int wait_closed(void *arg) { return weir_wait_closed(*(int_chan *)arg); }
TEST(a_wait_for_a_close_is_ended) {
    int_chan ch = weir_make(int_chan, 0);
    CHECK_EQ(cancelled_before(wait_closed, &ch), -ECANCELED);
    CHECK_EQ(cancelled_while_asleep(wait_closed, &ch, "chan receive"), -ECANCELED);
    weir_release(ch);
}

static int wait_wg(void *arg) { return weir_wg_wait(arg); }
TEST(a_wait_for_a_group_is_ended) {
    weir_wg wg = WEIR_WG_INIT;
    CHECK_EQ(weir_wg_add(&wg, 1), 0);
    CHECK_EQ(cancelled_before(wait_wg, &wg), -ECANCELED);
    CHECK_EQ(cancelled_while_asleep(wait_wg, &wg, "sync.WaitGroup.Wait"), -ECANCELED);
    CHECK_EQ(weir_wg_done(&wg), 0);
    CHECK_EQ(weir_wg_wait(&wg), 0);
}

static int acquire_two(void *arg) { return weir_sem_acquire(arg, 2); }
TEST(an_acquire_is_ended_and_takes_nothing) {
    weir_sem sem;
    CHECK_EQ(weir_sem_init(&sem, 2), 0);
    CHECK_EQ(weir_sem_acquire(&sem, 1), 0);
    CHECK_EQ(cancelled_before(acquire_two, &sem), -ECANCELED);
    CHECK_EQ(cancelled_while_asleep(acquire_two, &sem, "semacquire"), -ECANCELED);
    CHECK_EQ(weir_sem_try_acquire(&sem, 1), 0);
    CHECK_EQ(weir_sem_release(&sem, 2), 0);
}

struct guarded {
    weir_mutex mu;
    weir_cond cond;
};
static int wait_cond(void *arg) {
    struct guarded *g = arg;
    CHECK_EQ(weir_mutex_lock(&g->mu), 0);
    int e = weir_cond_wait(&g->cond, &g->mu);
    CHECK_EQ(weir_mutex_try_lock(&g->mu), -EAGAIN); /* held again, whatever came */
    CHECK_EQ(weir_mutex_unlock(&g->mu), 0);
    return e;
}
TEST(a_wait_for_a_condition_is_ended_with_the_mutex_held) {
    struct guarded g = { WEIR_MUTEX_INIT, WEIR_COND_INIT };
    CHECK_EQ(cancelled_before(wait_cond, &g), -ECANCELED);
    CHECK_EQ(cancelled_while_asleep(wait_cond, &g, "sync.Cond.Wait"), -ECANCELED);
}

TEST(a_deadline_ends_a_call_with_a_timeout) {
    int_chan ch = weir_make(int_chan, 0);
    weir_time start = weir_now();
    int v;
    weir_timeout(5 * WEIR_MILLISECOND) CHECK_EQ(weir_recv(ch, &v), -ETIMEDOUT);
    CHECK_GE(weir_now() - start, 5 * WEIR_MILLISECOND);
    weir_timeout(2 * WEIR_MILLISECOND) CHECK_EQ(weir_select(weir_on_recv(ch, &v)), -ETIMEDOUT);
    weir_timeout(2 * WEIR_MILLISECOND) CHECK_EQ(weir_sleep(WEIR_HOUR), -ETIMEDOUT);
    weir_timeout(0) CHECK_EQ(weir_sleep(WEIR_HOUR), -ETIMEDOUT);
    weir_release(ch);
}

TEST(the_end_is_seen_by_every_later_call) {
    int_chan ch = weir_make(int_chan, 0);
    weir_ctx *ctx = ended();
    weir_with(ctx) {
        for (int i = 0; i < 100; i++) {
            CHECK_EQ(weir_recv(ch, NULL), -ECANCELED);
            CHECK_EQ(weir_send(ch, i), -ECANCELED);
            CHECK_EQ(weir_sleep(WEIR_HOUR), -ECANCELED);
        }
    }
    weir_ctx_release(ctx);
    weir_release(ch);
}

TEST(calls_that_need_not_block_are_not_refused) {
    int_chan ch = weir_make(int_chan, 1);
    weir_ctx *ctx = ended();
    weir_sem sem;
    weir_wg wg = WEIR_WG_INIT;
    weir_mutex mu = WEIR_MUTEX_INIT;
    int v = 0;
    CHECK_EQ(weir_sem_init(&sem, 1), 0);
    weir_timer *t = weir_timer_new(0);
    weir_with(ctx) {
        CHECK_EQ(weir_send(ch, 5), 0);
        CHECK_EQ(weir_recv(ch, &v), 0);
        CHECK_EQ(v, 5);
        CHECK_EQ(weir_select(weir_on_send(ch, 6)), 0);
        CHECK_EQ(weir_select(weir_on_recv(ch, &v)), 0);
        CHECK_EQ(v, 6);
        CHECK_EQ(weir_select(weir_on_recv(ch, &v), weir_on_default()), 1);
        CHECK_EQ(weir_sleep(0), 0);
        CHECK_EQ(weir_sem_acquire(&sem, 1), 0);
        CHECK_EQ(weir_wg_wait(&wg), 0);
        CHECK_EQ(weir_mutex_lock(&mu), 0);
        CHECK_EQ(weir_close(ch), 0);
        CHECK_EQ(weir_recv(ch, &v), -EPIPE);
        CHECK_EQ(weir_wait_closed(ch), 0);
    }
    weir_timer_free(t);
    weir_ctx_release(ctx);
    weir_release(ch);
}

static int give(void *arg) { return weir_send(*(int_chan *)arg, 9); }
TEST(a_partner_who_waits_makes_a_call_ready_too) {
    int_chan ch = weir_make(int_chan, 0);
    weir_ctx *ctx = ended();
    weir_wg wg = WEIR_WG_INIT;
    int v = 0;
    CHECK_EQ(weir_wg_go(&wg, give, (void *)&ch), 0);
    test_until_n_parked(1, "chan send");
    weir_with(ctx) CHECK_EQ(weir_recv(ch, &v), 0);
    CHECK_EQ(v, 9);
    CHECK_EQ(weir_wg_wait(&wg), 0);
    weir_ctx_release(ctx);
    weir_release(ch);
}

TEST(a_done_arm_sees_a_context_that_is_not_the_current_one) {
    weir_ctx *other = weir_ctx_with_cancel(NULL), *timed = weir_ctx_with_timeout(NULL, 2 * WEIR_MILLISECOND);
    CHECK_EQ(weir_select(weir_on_done(other), weir_on_done(timed)), 1);
    weir_ctx_cancel(other);
    CHECK_EQ(weir_select(weir_on_done(other)), 0);
    CHECK_EQ(weir_ctx_err(NULL), 0);
    weir_with(other) CHECK_EQ(weir_select(weir_on_done(NULL)), 0); /* a ready arm, before the context's end */
    weir_ctx_release(other), weir_ctx_release(timed);
}

static int lock_it(void *arg) { return weir_mutex_lock(arg); }
struct locker {
    weir_mutex *mu;
    weir_ctx *ctx;
    int_chan out;
};
static void lock_under(struct locker *l) {
    int e = 1;
    weir_with(l->ctx) e = lock_it(l->mu);
    CHECK_EQ(weir_send(l->out, e), 0);
}
TEST(a_lock_is_not_ended) {
    weir_mutex mu = WEIR_MUTEX_INIT;
    struct locker l = { &mu, weir_ctx_with_cancel(NULL), weir_make(int_chan, 0) };
    int e = 1;
    CHECK_EQ(weir_mutex_lock(&mu), 0);
    TEST_GO(lock_under, &l);
    test_until_n_parked(1, "sync.Mutex.Lock");
    weir_ctx_cancel(l.ctx);
    for (int i = 0; i < 100; i++) weir_yield();
    CHECK_EQ(test_parked("sync.Mutex.Lock"), 1);
    CHECK_EQ(weir_mutex_unlock(&mu), 0);
    CHECK_EQ(weir_recv(l.out, &e), 0);
    CHECK_EQ(e, 0);
    weir_ctx_release(l.ctx);
    weir_release(l.out);
}

static void sleep_under(weir_ctx *ctx, int_chan out) {
    int e = 1;
    weir_with(ctx) e = weir_sleep(WEIR_HOUR);
    weir_ctx_release(ctx);
    CHECK_EQ(weir_send(out, e), 0);
}

TEST(a_cancel_wakes_many_waiters_and_no_one_else) {
    int n = (int)TEST_SCALE(20000);
    int_chan out = weir_make(int_chan, 0);
    weir_ctx *ctx = weir_ctx_with_cancel(NULL), *other = weir_ctx_with_cancel(NULL);
    for (int i = 0; i < n; i++) TEST_GO(sleep_under, weir_ctx_retain(ctx), out);
    TEST_GO(sleep_under, weir_ctx_retain(other), out);
    test_until_n_parked((size_t)n + 1, "sleep");
    weir_ctx_cancel(ctx);
    for (int i = 0; i < n; i++) {
        int e = 0;
        CHECK_EQ(weir_recv(out, &e), 0);
        CHECK_EQ(e, -ECANCELED);
    }
    CHECK_EQ(test_parked("sleep"), 1);
    weir_ctx_cancel(other);
    CHECK_EQ(weir_recv(out, NULL), 0);
    weir_ctx_release(ctx), weir_ctx_release(other);
    weir_release(out);
}

TEST(a_cancel_reaches_waiters_under_values_and_children) {
    int_chan out = weir_make(int_chan, 0);
    weir_ctx *ctx = weir_ctx_with_cancel(NULL), *value = weir_ctx_with_value(ctx, &out, NULL);
    weir_ctx *child = weir_ctx_with_cancel(value);
    TEST_GO(sleep_under, weir_ctx_retain(value), out);
    TEST_GO(sleep_under, weir_ctx_retain(child), out);
    test_until_n_parked(2, "sleep");
    weir_ctx_cancel(ctx);
    for (int i = 0, e = 0; i < 2; i++) {
        CHECK_EQ(weir_recv(out, &e), 0);
        CHECK_EQ(e, -ECANCELED);
    }
    weir_ctx_release(child), weir_ctx_release(value), weir_ctx_release(ctx);
    weir_release(out);
}

static void *cancel_from_thread(void *ctx) {
    weir_ctx_cancel(ctx);
    return NULL;
}
TEST(a_thread_of_ones_own_may_cancel) {
    int_chan out = weir_make(int_chan, 0);
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    TEST_GO(sleep_under, weir_ctx_retain(ctx), out);
    test_until_n_parked(1, "sleep");
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, cancel_from_thread, ctx), 0);
    int e = 0;
    CHECK_EQ(weir_recv(out, &e), 0);
    CHECK_EQ(e, -ECANCELED);
    pthread_join(thread, NULL);
    weir_ctx_release(ctx);
    weir_release(out);
}

static void *recv_in_thread(void *arg) {
    weir_ctx *ctx = arg;
    int_chan ch = weir_make(int_chan, 0);
    intptr_t e = 1;
    weir_with(ctx) e = weir_recv(ch, NULL);
    weir_release(ch);
    return (void *)e;
}
TEST(a_call_of_a_thread_is_ended_like_any_other) {
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    pthread_t thread;
    void *e = NULL;
    CHECK_EQ(pthread_create(&thread, NULL, recv_in_thread, ctx), 0);
    for (int i = 0; i < 100; i++) test_pause();
    weir_ctx_cancel(ctx);
    pthread_join(thread, &e);
    CHECK_EQ((intptr_t)e, -ECANCELED);
    weir_ctx_release(ctx);
}

static void counted_sender(weir_ctx *ctx, int_chan ch, _Atomic int *sent, weir_unit_chan done) {
    weir_with(ctx) while (weir_send(ch, 1) == 0) atomic_fetch_add(sent, 1);
    weir_ctx_release(ctx);
    CHECK_EQ(weir_send(done, weir_unit_value), 0);
}
static void counted_receiver(weir_ctx *ctx, int_chan ch, _Atomic int *received, weir_unit_chan done) {
    weir_with(ctx) while (weir_recv(ch, NULL) == 0) atomic_fetch_add(received, 1);
    weir_ctx_release(ctx);
    CHECK_EQ(weir_send(done, weir_unit_value), 0);
}

/* The heart of the promise: a call that says it was cancelled has not moved an element, one that says 0 has. */
TEST(no_element_is_lost_or_doubled_by_a_cancel) {
    int rounds = (int)TEST_SCALE(200);
    for (int round = 0; round < rounds; round++) {
        int_chan ch = weir_make(int_chan, (size_t)(round % 3));
        weir_unit_chan done = weir_make(weir_unit_chan, 0);
        weir_ctx *ctx = weir_ctx_with_cancel(NULL);
        _Atomic int sent = 0, received = 0;
        for (int i = 0; i < 3; i++) {
            TEST_GO(counted_sender, weir_ctx_retain(ctx), ch, &sent, done);
            TEST_GO(counted_receiver, weir_ctx_retain(ctx), ch, &received, done);
        }
        for (int i = 0; i < round % 50; i++) weir_yield();
        weir_ctx_cancel(ctx);
        for (int i = 0; i < 6; i++) CHECK_EQ(weir_recv(done, NULL), 0);
        CHECK_EQ(atomic_load(&sent), atomic_load(&received) + (int)weir_len(ch));
        weir_ctx_release(ctx);
        weir_release(ch), weir_release(done);
    }
}
