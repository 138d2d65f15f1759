/*
 * Weighted semaphore. Counts and queue are guarded by the queue's lock; there is no faster way past it. First come,
 * first served: nobody passes a waiter, however little it wants, so a large request is not starved.
 *
 * After every change, the waiters at the front that can be served are: by release, and by a cancelled waiter on its
 * way out, as those behind it may have waited for it alone.
 */
#include "sync/sync.h"

/* With the lock held: serve whom there is enough for, in order. Units are taken on the waiter's behalf. */
static void serve(weir_sem *s, struct wr_batch *woken) {
    struct wr_node *node;
    while ((node = wr_waitq_first(&s->q_)) && wr_node_number(node) <= s->size_ - s->used_) {
        wr_waitq_remove(&s->q_, node);
        if (!wr_claim(node->wait, 1)) continue; /* cancelled; it finds itself unlinked */
        s->used_ += wr_node_number(node);
        wr_batch_add(woken, node->wait->g);
    }
}

int weir_sem_init(weir_sem *s, int64_t n) {
    if (n < 0) return -EINVAL;
    *s = (weir_sem){ .size_ = n };
    return 0;
}

/* With the lock held: take n units if that passes nobody. */
static bool take(weir_sem *s, int64_t n) {
    if (n > s->size_ - s->used_ || wr_waitq_first(&s->q_)) return false;
    s->used_ += n;
    return true;
}

/* A cancelled waiter takes nothing along, and lets the next ones in. */
static void withdraw(weir_sem *s, struct wr_node *node) {
    struct wr_batch woken = { 0 };
    wr_waitq_lock(&s->q_);
    if (wr_node_linked(node)) {
        wr_waitq_remove(&s->q_, node);
        serve(s, &woken);
    }
    wr_waitq_unlock(&s->q_);
    wr_ready_all(&woken);
}

int weir_sem_acquire(weir_sem *s, int64_t n) {
    if (n < 0 || n > s->size_) return -EINVAL;
    wr_waitq_lock(&s->q_);
    bool taken = take(s, n);
    if (taken) {
        wr_waitq_unlock(&s->q_);
        return 0;
    }
    struct wr_wait w;
    struct wr_node node;
    wr_wait_init(&w, WR_WAIT_SEMACQUIRE, s);
    wr_node_init(&node, &w);
    wr_node_number_set(&node, n);
    wr_waitq_append(&s->q_, &node);
    wr_waitq_unlock(&s->q_);

    int why = wr_park(&w);
    if (why >= 0) return 0;
    withdraw(s, &node);
    return why;
}

int weir_sem_try_acquire(weir_sem *s, int64_t n) {
    if (n < 0 || n > s->size_) return -EINVAL;
    wr_waitq_lock(&s->q_);
    bool taken = take(s, n);
    wr_waitq_unlock(&s->q_);
    return taken ? 0 : -EAGAIN;
}

int weir_sem_release(weir_sem *s, int64_t n) {
    struct wr_batch woken = { 0 };
    if (n < 0) return -EINVAL;
    wr_waitq_lock(&s->q_);
    if (n > s->used_) {
        wr_waitq_unlock(&s->q_);
        return -EINVAL;
    }
    s->used_ -= n;
    serve(s, &woken);
    wr_waitq_unlock(&s->q_);
    wr_ready_all(&woken);
    return 0;
}
