/*
 * Condition. A queue of waiters, first come first served, and its lock; that is all.
 *
 * A waiter queues while it still holds the mutex, so whoever changes the condition with the mutex held finds it in
 * the queue. A signal claims the first waiter that nobody else has claimed: a cancelled one on the way is dropped and
 * not counted, so no signal is lost on it; one that was claimed by a signal before the cancel came returns 0.
 *
 * May be called from goroutines and foreign threads; never from a timer's fire.
 */
#include "sync/sync.h"

/* The lock that comes with the condition. */
struct held {
    weir_mutex *mutex; /* or … */
    weir_rwmutex *rw;  /* … write-locked */
};

static int wait_releasing(weir_cond *c, struct held held) {
    struct wr_wait w;
    struct wr_node node;
    if (held.mutex ? !wr_mutex_held(held.mutex) : !wr_rwmutex_write_held(held.rw)) return -EPERM;
    wr_wait_init(&w, WR_WAIT_COND, c);
    wr_node_init(&node, &w);
    wr_waitq_lock(&c->q_);
    wr_waitq_append(&c->q_, &node);
    wr_waitq_unlock(&c->q_);
    wr_dawdle(); /* a signal may come before the unlock, and before the park */
    (void)(held.mutex ? weir_mutex_unlock(held.mutex) : weir_rwmutex_unlock(held.rw));

    int why = wr_park(&w);
    if (why < 0) {
        wr_waitq_lock(&c->q_);
        if (wr_node_linked(&node)) wr_waitq_remove(&c->q_, &node);
        wr_waitq_unlock(&c->q_);
    }
    (void)(held.mutex ? weir_mutex_lock(held.mutex) : weir_rwmutex_lock(held.rw));
    return why < 0 ? why : 0;
}

int weir_cond_wait(weir_cond *c, weir_mutex *m) { return wait_releasing(c, (struct held){ .mutex = m }); }
int weir_cond_wait_rw(weir_cond *c, weir_rwmutex *rw) { return wait_releasing(c, (struct held){ .rw = rw }); }

/*
 * The count may be read without the lock. A waiter that a signal must find queued before the mutex was free; the
 * signaller changed the condition with the mutex held, after that; so the one happens before the other, and the
 * load cannot read an older count. A signaller that went by without the mutex has no claim on any particular waiter.
 */
static bool nobody_waits(weir_cond *c) { return wr_waitq_count(&c->q_) == 0; }

int weir_cond_signal(weir_cond *c) {
    if (nobody_waits(c)) return 0;
    wr_waitq_lock(&c->q_);
    struct wr_node *node = wr_waitq_take(&c->q_, 1);
    struct g *g = node ? node->wait->g : NULL;
    wr_waitq_unlock(&c->q_);
    if (g) wr_ready(g);
    return 0;
}

int weir_cond_broadcast(weir_cond *c) {
    struct wr_batch woken = { 0 };
    if (nobody_waits(c)) return 0;
    wr_waitq_lock(&c->q_);
    wr_waitq_take_all(&c->q_, &woken);
    wr_waitq_unlock(&c->q_);
    wr_ready_all(&woken);
    return 0;
}
