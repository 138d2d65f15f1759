/*
 * Once. One word: fresh (0), RUNNING, DONE; WAITERS beside RUNNING while q_ is not empty.
 *
 * The first caller to swap 0 for RUNNING runs fn; it alone ends that state. A later one queues by a swap that finds
 * RUNNING and sets WAITERS, with the queue's lock held. The end is a swap of RUNNING alone for DONE; if that finds
 * WAITERS, the end comes under the lock. So either the waiter sees DONE, or its node is found. The swap to DONE
 * releases what fn wrote; whoever returns has acquired it from the word, or through the claim of its wait.
 *
 * fn may end its goroutine by weir_exit: the once counts as done then, as in Go. That is what the block record is
 * for.
 */
#include "sync/sync.h"

enum { RUNNING = 1, DONE = WEIR_ONCE_DONE_, WAITERS = 4 };

static inline bool swap_word(weir_once *o, uint32_t *seen, uint32_t next) {
    return atomic_compare_exchange_strong_explicit(wr_atomic32(&o->state_), seen, next, memory_order_acq_rel,
                                                   memory_order_acquire);
}

static void finish(weir_block_ *b) {
    weir_once *o = b->a_;
    struct wr_batch woken = { 0 };
    uint32_t seen = RUNNING;
    if (swap_word(o, &seen, DONE)) return;
    wr_waitq_lock(&o->q_);
    wr_waitq_take_all(&o->q_, &woken);
    atomic_store_explicit(wr_atomic32(&o->state_), DONE, memory_order_release);
    wr_waitq_unlock(&o->q_);
    wr_ready_all(&woken);
}

static void wait_for_first(weir_once *o) {
    struct wr_wait w;
    struct wr_node node;
    wr_wait_init(&w, WR_WAIT_ONCE, o);
    w.cancellable = false;
    wr_node_init(&node, &w);
    wr_waitq_lock(&o->q_);
    uint32_t seen = RUNNING;
    while (!swap_word(o, &seen, RUNNING | WAITERS))
        if (seen == DONE) {
            wr_waitq_unlock(&o->q_);
            return;
        }
    wr_waitq_append(&o->q_, &node);
    wr_waitq_unlock(&o->q_);
    (void)wr_park(&w); /* always 1: nothing else can decide it */
}

int (weir_once_do)(weir_once *o, void (*fn)(void *), void *arg) {
    uint32_t seen = atomic_load_explicit(wr_atomic32(&o->state_), memory_order_acquire);
    if (wr_likely(seen == DONE)) return 0;
    if (seen == 0 && swap_word(o, &seen, RUNNING)) {
        weir_block_ b = { .a_ = o };
        wr_block_push(&b, finish);
        fn(arg);
        weir_block_leave_(&b);
    } else if (seen != DONE) {
        wait_for_first(o);
    }
    return 0;
}
