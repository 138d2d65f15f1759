/* Contexts used from many goroutines at once. */
#include "test.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "ctx/ctx.h"

static void cancel_one(weir_ctx *ctx) {
    weir_ctx_cancel(ctx);
    CHECK_NE(weir_ctx_err(ctx), 0);
    weir_ctx_release(ctx);
}

TEST(simultaneous_cancels_in_a_tree_end_all_of_it) {
    enum { N = 1 + 8 + 64 };
    int rounds = (int)TEST_SCALE(50);
    for (int round = 0; round < rounds; round++) {
        weir_ctx *all[N];
        all[0] = weir_ctx_with_cancel(NULL);
        for (int i = 1; i < N; i++) all[i] = weir_ctx_with_cancel(all[(i - 1) / 8]);
        for (int i = 0; i < N; i++) TEST_GO(cancel_one, weir_ctx_retain(all[(i * 29 + round) % N]));
        for (int i = 0; i < N; i++) CHECK_EQ(weir_recv(weir_ctx_done(all[i]), NULL), -EPIPE);
        for (int i = 0; i < N; i++) weir_ctx_release(all[i]);
    }
    TEST_UNTIL(weir_count() == 1);
}

static void cancel_when_done(weir_ctx *parent, weir_ctx *child) {
    CHECK_EQ(weir_recv(weir_ctx_done(parent), NULL), -EPIPE);
    weir_ctx_cancel(child);
    CHECK_NE(weir_ctx_err(child), 0);
    weir_ctx_release(parent), weir_ctx_release(child);
}

/* The end of the parent sets off the cancel of a child that the parent is just about to end. */
TEST(interlocked_cancels_do_not_block_each_other) {
    int rounds = (int)TEST_SCALE(1000);
    for (int round = 0; round < rounds; round++) {
        weir_ctx *parent = weir_ctx_with_cancel(NULL), *child = weir_ctx_with_cancel(parent);
        TEST_GO(cancel_when_done, weir_ctx_retain(parent), weir_ctx_retain(child));
        if (round % 2) test_until_n_parked(1, "chan receive");
        weir_ctx_cancel(parent);
        CHECK_NE(weir_ctx_err(child), 0);
        weir_ctx_release(parent), weir_ctx_release(child);
        TEST_UNTIL(weir_count() == 1);
    }
}

struct fan {
    weir_ctx *root, *middle;
    weir_ctx **leaves;
    int n;
    _Atomic int ready;
};
static void cancel_middle(struct fan *f) {
    atomic_fetch_add(&f->ready, 1);
    while (atomic_load(&f->ready) < 2) weir_yield();
    weir_ctx_cancel(f->middle);
    for (int i = f->n - 1; i >= 0; i--) CHECK_NE(weir_ctx_err(f->leaves[i]), 0);
    atomic_fetch_add(&f->ready, 1);
}

/* Whoever loses the race to end a context returns no earlier than the winner is through. */
TEST(a_cancel_that_comes_second_also_returns_only_when_all_below_has_ended) {
    enum { N = 500 };
    int rounds = (int)TEST_SCALE(300);
    weir_ctx *leaves[N];
    for (int round = 0; round < rounds; round++) {
        struct fan f = { .leaves = leaves, .n = N };
        f.root = weir_ctx_with_cancel(NULL), f.middle = weir_ctx_with_cancel(f.root);
        for (int i = 0; i < N; i++) leaves[i] = weir_ctx_with_cancel(f.middle);
        TEST_GO(cancel_middle, &f);
        atomic_fetch_add(&f.ready, 1);
        while (atomic_load(&f.ready) < 2) weir_yield();
        weir_ctx_cancel(round % 2 ? f.root : f.middle);
        for (int i = N - 1; i >= 0; i--) CHECK_NE(weir_ctx_err(leaves[i]), 0);
        TEST_UNTIL(atomic_load(&f.ready) == 3);
        for (int i = 0; i < N; i++) weir_ctx_release(leaves[i]);
        weir_ctx_release(f.middle), weir_ctx_release(f.root);
    }
}

static void make_children(weir_ctx *ctx, _Atomic int *made, _Atomic bool *stop) {
    while (!atomic_load(stop)) {
        weir_ctx *kids[8];
        for (int i = 0; i < 8; i += 2) {
            kids[i] = weir_ctx_with_timeout(ctx, WEIR_HOUR);
            kids[i + 1] = weir_ctx_with_cancel(kids[i]);
        }
        atomic_fetch_add(made, 8);
        if (weir_ctx_err(ctx))
            for (int i = 0; i < 8; i++) {
                weir_ctx_cancel(kids[i]);
                CHECK_EQ(weir_ctx_err(kids[i]), -ECANCELED);
            }
        for (int i = 7; i >= 0; i--) weir_ctx_release(kids[(i * 3) % 8]);
        weir_yield();
    }
    weir_ctx_release(ctx);
}

/* Constructors, last releases and the end of the parent meet in the parent's list. */
TEST(children_come_and_go_while_their_parent_ends) {
    int rounds = (int)TEST_SCALE(100);
    for (int round = 0; round < rounds; round++) {
        _Atomic int made = 0;
        _Atomic bool stop = false;
        weir_ctx *ctx = weir_ctx_with_cancel(NULL);
        for (int i = 0; i < 4; i++) TEST_GO(make_children, weir_ctx_retain(ctx), &made, &stop);
        TEST_UNTIL(atomic_load(&made) > 100);
        weir_ctx_cancel(ctx);
        int then = atomic_load(&made);
        TEST_UNTIL(atomic_load(&made) > then + 50);
        atomic_store(&stop, true);
        TEST_UNTIL(weir_count() == 1);
        CHECK(wr_list_empty(&wr_ending_of(ctx)->children));
        weir_ctx_release(ctx);
    }
}

static void parks_under(weir_ctx *ctx, _Atomic bool *done) {
    weir_with(ctx) CHECK_EQ(weir_sleep(WEIR_HOUR), -ECANCELED);
    atomic_store(done, true);
}
/* Who ends it holds that for as long as there are others to wake. */
TEST(who_parks_under_an_ended_context_does_not_wait_for_its_lock) {
    _Atomic bool done = false;
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    struct wr_lock *lock = &wr_ending_of(ctx)->cancel.lock;
    weir_procs(2);
    weir_ctx_cancel(ctx);
    wr_lock_unranked(lock);
    TEST_GO(parks_under, ctx, &done);
    while (!atomic_load(&done)) sched_yield();
    wr_unlock_unranked(lock);
    TEST_UNTIL(weir_count() == 1);
    weir_ctx_release(ctx);
}

static _Atomic bool cancelled_too;
static void waits_for_the_other(struct wr_ctx_watch *w) {
    while (!atomic_load(&cancelled_too)) sched_yield();
}
static void cancels_when_ended(weir_ctx *ctx) {
    CHECK_EQ(weir_recv(weir_ctx_done(ctx), NULL), -EPIPE);
    weir_ctx_cancel(ctx);
    weir_ctx_release(ctx);
    atomic_store(&cancelled_too, true);
}
/* Their parent's end has come past it, though not to its own end. */
TEST(who_cancels_a_child_that_has_ended_does_not_wait_for_its_siblings) {
    weir_procs(2);
    weir_ctx *parent = weir_ctx_with_cancel(NULL), *child = weir_ctx_with_cancel(parent), *sibling = weir_ctx_with_cancel(parent);
    struct wr_ctx_watch watch = { .ended = waits_for_the_other };
    CHECK(wr_ctx_watch(wr_ending_of(sibling), &watch));
    TEST_GO(cancels_when_ended, child);
    test_until_n_parked(1, "chan receive");
    weir_ctx_cancel(parent);
    CHECK(cancelled_too);
    TEST_UNTIL(weir_count() == 1);
    weir_ctx_release(sibling), weir_ctx_release(parent);
}

static void ask_for_done(weir_ctx *ctx, weir_chan **out, weir_wg *wg) {
    *out = weir_chan_of(weir_ctx_done(ctx));
    CHECK_EQ(weir_chan_recv(*out, NULL), -EPIPE);
    CHECK_EQ(weir_wg_done(wg), 0);
}

TEST(everyone_who_asks_at_once_gets_the_same_done_channel) {
    enum { N = 8 };
    int rounds = (int)TEST_SCALE(300);
    for (int round = 0; round < rounds; round++) {
        weir_chan *got[N];
        weir_wg wg = WEIR_WG_INIT;
        weir_ctx *ctx = weir_ctx_with_cancel(NULL);
        CHECK_EQ(weir_wg_add(&wg, N), 0);
        for (int i = 0; i < N; i++) TEST_GO(ask_for_done, ctx, &got[i], &wg);
        if (round % 2) weir_yield();
        weir_ctx_cancel(ctx);
        CHECK_EQ(weir_wg_wait(&wg), 0);
        for (int i = 1; i < N; i++) CHECK(got[i] == got[0]);
        weir_ctx_release(ctx);
    }
}

struct meeting {
    weir_ctx *ctx;
    _Atomic int turn;
    _Atomic bool stop;
};
/* Spins, for the two sides are to meet closely; but not for long, if there is but one processor. */
#define SPIN_WHILE(condition) \
    for (int spins_ = 0; condition; spins_++) \
        if (spins_ % 1024 == 1023) sched_yield()

static void cancel_in_turn(struct meeting *m) {
    for (int turn = 1;; turn++) {
        SPIN_WHILE(atomic_load(&m->turn) < turn && !atomic_load(&m->stop));
        if (atomic_load(&m->stop)) return;
        for (volatile int i = turn % 64; i > 0; i--) continue;
        weir_ctx_cancel(m->ctx);
        atomic_store(&m->turn, -turn);
        SPIN_WHILE(atomic_load(&m->turn) == -turn && !atomic_load(&m->stop));
    }
}

/* The channel is made in the very moment in which the context ends: one of the two sides must close it. */
TEST(a_done_channel_made_while_the_context_ends_is_closed) {
    int rounds = (int)TEST_SCALE(20000);
    struct meeting m = { NULL, 0, false };
    CHECK(weir_procs(4) > 0); /* both spin */
    TEST_GO(cancel_in_turn, &m);
    for (int round = 1; round <= rounds; round++) {
        m.ctx = weir_ctx_with_cancel(NULL);
        atomic_store(&m.turn, round);
        weir_done_chan done = weir_ctx_done(m.ctx);
        SPIN_WHILE(atomic_load(&m.turn) != -round);
        CHECK_EQ(weir_try_recv(done, NULL), -EPIPE);
        weir_ctx_release(m.ctx);
    }
    atomic_store(&m.stop, true);
    TEST_UNTIL(weir_count() == 1);
}
