/*
 * The memory of a lock is the caller's again as soon as the last wait, lock or do has returned, even if the call that
 * let it return has not. In each round some goroutines use an object; the last of them to get through overwrites and
 * keeps it; when all calls have ended nobody may have written to it since. Under a sanitizer it is freed, so that
 * reading it late is found as well.
 */
#include "sync_test.h"

#include <stdlib.h>

#define GONE 0xa5

/* A round: `users` goroutines work on the object, and the test waits for all of them. */
struct round {
    _Atomic int left;     /* who has not got through yet */
    _Atomic int running;  /* who has not ended yet */
    union {
        weir_mutex mutex;
        weir_rwmutex rw;
        weir_once once;
        weir_wg wg;
        weir_sem sem;
        struct {
            weir_mutex mutex;
            weir_cond cond;
            bool ready;
        } cond;
    } * at;
};

static struct round *begin(struct round *r, int users) {
    r->left = r->running = users;
    r->at = calloc(1, sizeof *r->at);
    CHECK(r->at != NULL);
    return r;
}

static void take_over(struct round *r) {
#if defined(TEST_ASAN) || defined(TEST_TSAN)
    free(r->at);
    r->at = NULL;
#else
    memset(r->at, GONE, sizeof *r->at);
#endif
}

/* Through with it: the last one makes the memory its own. */
static void through(struct round *r) {
    if (atomic_fetch_sub(&r->left, 1) == 1) take_over(r);
}

static void end(struct round *r) {
    TEST_UNTIL(r->running == 0);
    if (!r->at) return;
    CHECK(all_bytes_are(r->at, sizeof *r->at, GONE));
    free(r->at);
}

/* So that the rounds are not all alike. */
static void dawdle(unsigned how) {
    if (how % 3 == 1) weir_yield();
    for (volatile unsigned i = 0; i < how * 37 % 512; i++) {
    }
}

static void use_mutex(struct round *r, unsigned how) {
    dawdle(how);
    weir_mutex *m = &r->at->mutex;
    CHECK_EQ(weir_mutex_lock(m), 0);
    bool last = atomic_fetch_sub(&r->left, 1) == 1; /* everybody else has counted down under the lock */
    if (how % 5 == 0) weir_yield();
    CHECK_EQ(weir_mutex_unlock(m), 0);
    if (last) take_over(r); /* … and may still be unlocking */
    r->running--;
}

TEST(a_mutex_is_free_when_the_last_lock_has_been_got_and_undone) {
    long n = TEST_SCALE(5000);
    struct round r;
    weir_procs(4);
    for (long i = 0; i < n; i++) {
        int users = 2 + (int)(i % 3);
        begin(&r, users);
        for (int u = 0; u < users; u++) GO(use_mutex, &r, (unsigned)(i * 7 + u));
        end(&r);
    }
}

static void use_rwmutex(struct round *r, unsigned how, bool writing) {
    dawdle(how);
    weir_rwmutex *rw = &r->at->rw;
    CHECK_EQ(writing ? weir_rwmutex_lock(rw) : weir_rwmutex_rlock(rw), 0);
    if (how % 5 == 0) weir_yield();
    bool last = atomic_fetch_sub(&r->left, 1) == 1;
    CHECK_EQ(writing ? weir_rwmutex_unlock(rw) : weir_rwmutex_runlock(rw), 0);
    if (last && !writing) { /* other readers may not have unlocked yet: wait for them */
        CHECK_EQ(weir_rwmutex_lock(rw), 0);
        CHECK_EQ(weir_rwmutex_unlock(rw), 0);
    }
    if (last) take_over(r);
    r->running--;
}

TEST(a_rwmutex_is_free_when_the_last_lock_has_been_got_and_undone) {
    long n = TEST_SCALE(5000);
    struct round r;
    weir_procs(4);
    for (long i = 0; i < n; i++) {
        int users = 2 + (int)(i % 4);
        begin(&r, users);
        for (int u = 0; u < users; u++) GO(use_rwmutex, &r, (unsigned)(i * 7 + u), (bool)((i + u) % 3 == 0));
        end(&r);
    }
}

/* Each waiter is let through by the same done(). */
static void wait_wg(struct round *r, unsigned how) {
    dawdle(how);
    CHECK_EQ(weir_wg_wait(&r->at->wg), 0);
    through(r);
    r->running--;
}
static void finish_wg(struct round *r, unsigned how) {
    dawdle(how);
    CHECK_EQ(weir_wg_done(&r->at->wg), 0);
    r->running--;
}

TEST(a_wait_group_is_free_when_the_last_wait_has_returned) {
    long n = TEST_SCALE(5000);
    struct round r;
    weir_procs(4);
    for (long i = 0; i < n; i++) {
        int waiters = 1 + (int)(i % 3), finishers = 1 + (int)(i % 2);
        begin(&r, waiters);
        r.running += finishers;
        CHECK_EQ(weir_wg_add(&r.at->wg, finishers), 0);
        for (int u = 0; u < waiters; u++) GO(wait_wg, &r, (unsigned)(i * 7 + u));
        for (int u = 0; u < finishers; u++) GO(finish_wg, &r, (unsigned)(i * 5 + u));
        end(&r);
    }
}

/* A cancelled waiter looks after itself, and the one that then waits in earnest frees the group. */
static void wait_wg_cancelled(struct round *r, weir_ctx *ctx, unsigned how) {
    weir_with(ctx) {
        dawdle(how);
        int e = weir_wg_wait(&r->at->wg);
        CHECK(e == 0 || e == -ECANCELED);
    }
    through(r);
    r->running--;
}
static void cancel_it(struct round *r, weir_ctx *ctx, unsigned how) {
    dawdle(how);
    weir_ctx_cancel(ctx);
    r->running--;
}

TEST(a_wait_group_is_free_after_a_cancelled_wait_too) {
    long n = TEST_SCALE(3000);
    struct round r;
    weir_procs(4);
    for (long i = 0; i < n; i++) {
        weir_ctx *ctx = weir_ctx_with_cancel(NULL);
        begin(&r, 2);
        r.running += 2;
        CHECK_EQ(weir_wg_add(&r.at->wg, 1), 0);
        GO(wait_wg_cancelled, &r, ctx, (unsigned)i);
        if (i % 2) weir_yield();
        GO(cancel_it, &r, ctx, (unsigned)(i * 3));
        GO(finish_wg, &r, (unsigned)(i * 5));
        CHECK_EQ(weir_wg_wait(&r.at->wg), 0);
        through(&r);
        r.running--;
        end(&r);
        weir_ctx_release(ctx);
    }
}

static void empty(void *arg) {
    (void)arg;
    weir_yield();
}
static void exit_at_once(void *arg) {
    (void)arg;
    weir_exit();
}

static void note_end(void *round) { ((struct round *)round)->running--; }

static void use_once(struct round *r, unsigned how) {
    dawdle(how);
    CHECK_EQ(weir_once_do(&r->at->once, empty, NULL), 0);
    through(r);
    r->running--;
}

/* Its do never returns, so it must be through with the once when the others see that it is done. */
static void exit_once(struct round *r, unsigned how) {
    weir_defer(note_end, r);
    dawdle(how);
    CHECK_EQ(weir_once_do(&r->at->once, exit_at_once, NULL), 0);
}

TEST(a_once_is_free_when_the_last_do_has_returned) {
    long n = TEST_SCALE(5000);
    struct round r;
    weir_procs(4);
    for (long i = 0; i < n; i++) {
        int users = 1 + (int)(i % 3);
        begin(&r, users);
        for (int u = 0; u < users; u++) GO(use_once, &r, (unsigned)(i * 7 + u));
        end(&r);
    }
}

TEST(a_once_is_free_though_the_one_call_ended_its_goroutine) {
    long n = TEST_SCALE(5000);
    struct round r;
    weir_procs(4);
    for (long i = 0; i < n; i++) {
        int users = 1 + (int)(i % 3);
        begin(&r, users);
        r.running++;
        GO(exit_once, &r, (unsigned)(i * 5));
        TEST_UNTIL(__atomic_load_n(&r.at->once.state_, __ATOMIC_RELAXED)); /* it has begun */
        for (int u = 0; u < users; u++) GO(use_once, &r, (unsigned)(i * 7 + u));
        end(&r);
    }
}

static void acquire_sem(struct round *r, unsigned how) {
    dawdle(how);
    CHECK_EQ(weir_sem_acquire(&r->at->sem, 1), 0);
    through(r);
    r->running--;
}
static void release_sem(struct round *r, int64_t units, unsigned how) {
    dawdle(how);
    CHECK_EQ(weir_sem_release(&r->at->sem, units), 0);
    r->running--;
}

TEST(a_semaphore_is_free_when_the_last_acquire_has_returned) {
    long n = TEST_SCALE(5000);
    struct round r;
    weir_procs(4);
    for (long i = 0; i < n; i++) {
        int users = 1 + (int)(i % 3);
        begin(&r, users);
        r.running++;
        CHECK_EQ(weir_sem_init(&r.at->sem, users), 0);
        CHECK_EQ(weir_sem_acquire(&r.at->sem, users), 0);
        for (int u = 0; u < users; u++) GO(acquire_sem, &r, (unsigned)(i * 7 + u));
        GO(release_sem, &r, (int64_t)users, (unsigned)(i * 5));
        end(&r);
    }
}

static void wait_cond(struct round *r, unsigned how) {
    dawdle(how);
    CHECK_EQ(weir_mutex_lock(&r->at->cond.mutex), 0);
    while (!r->at->cond.ready) CHECK_EQ(weir_cond_wait(&r->at->cond.cond, &r->at->cond.mutex), 0);
    CHECK_EQ(weir_mutex_unlock(&r->at->cond.mutex), 0);
    through(r);
    r->running--;
}
/* Signals with the mutex held, as one must where a waiter frees both. */
static void signal_cond(struct round *r, bool all, unsigned how) {
    dawdle(how);
    weir_mutex *m = &r->at->cond.mutex;
    CHECK_EQ(weir_mutex_lock(m), 0);
    r->at->cond.ready = true;
    CHECK_EQ(all ? weir_cond_broadcast(&r->at->cond.cond) : weir_cond_signal(&r->at->cond.cond), 0);
    CHECK_EQ(weir_mutex_unlock(m), 0);
    r->running--;
}

TEST(a_condition_and_its_mutex_are_free_when_the_last_wait_has_returned) {
    long n = TEST_SCALE(5000);
    struct round r;
    weir_procs(4);
    for (long i = 0; i < n; i++) {
        int users = 1 + (int)(i % 3);
        begin(&r, users);
        r.running++;
        for (int u = 0; u < users; u++) GO(wait_cond, &r, (unsigned)(i * 7 + u));
        GO(signal_cond, &r, users > 1, (unsigned)(i * 5));
        end(&r);
    }
}
