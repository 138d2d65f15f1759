/*
 * Wait group. One word: the count, and in the top bit WAITERS, set while q_ is not empty.
 *
 * A waiter queues by a compare-and-swap that finds the count above 0 and sets WAITERS, with the queue's lock held.
 * Whoever brings the count to 0 does so by a compare-and-swap that finds WAITERS clear; if it finds it set, under the
 * lock, taking every waiter along. So either the waiter sees 0, or its node is found.
 *
 * With the lock held the count is brought to 0 only if WAITERS is still set, that is if the queue is not empty:
 * somebody is then in wait() who cannot leave before we drop the lock, a cancelled waiter included, and the user's
 * memory is safe that long. If the last waiter was cancelled meanwhile, the lock is dropped first and the word
 * changed without it.
 *
 * What went before each done() is seen after wait(): all changes of the word are releasing read-modify-writes, so who
 * reads 0 with acquire has synchronised with each of them; and so has the last one, which acquires, and passes it on
 * through the claims.
 */
#include "sync/sync.h"

#define WAITERS (UINT64_C(1) << 63)

static inline bool swap_word(weir_wg *wg, uint64_t *seen, uint64_t next) {
    return atomic_compare_exchange_strong_explicit(wr_atomic64(&wg->state_), seen, next, memory_order_acq_rel,
                                                   memory_order_acquire);
}
static inline uint64_t word(weir_wg *wg) {
    return atomic_load_explicit(wr_atomic64(&wg->state_), memory_order_acquire);
}

/* Bring the count from what `seen` says to 0 and wake all; false: the word is not what it was, look again. */
static bool end_waits(weir_wg *wg, uint64_t seen) {
    struct wr_batch woken = { 0 };
    wr_waitq_lock(&wg->q_);
    if (!swap_word(wg, &seen, 0)) {
        wr_waitq_unlock(&wg->q_);
        return false;
    }
    wr_waitq_take_all(&wg->q_, &woken);
    wr_waitq_unlock(&wg->q_);
    wr_ready_all(&woken);
    return true;
}

int weir_wg_add(weir_wg *wg, int64_t n) {
    uint64_t seen = word(wg);
    for (;;) {
        int64_t count = (int64_t)(seen & ~WAITERS), sum;
        if (__builtin_add_overflow(count, n, &sum) || sum < 0) return -EINVAL;
        if (sum == 0 && (seen & WAITERS)) {
            if (end_waits(wg, seen)) return 0;
            seen = word(wg);
        } else if (swap_word(wg, &seen, (uint64_t)sum | (seen & WAITERS))) {
            return 0;
        }
    }
}

int weir_wg_done(weir_wg *wg) { return weir_wg_add(wg, -1); }

/* A cancelled waiter leaves the queue, if it has not been taken off; WAITERS goes with the last one. */
static void withdraw(weir_wg *wg, struct wr_node *node) {
    wr_waitq_lock(&wg->q_);
    if (wr_node_linked(node)) {
        wr_waitq_remove(&wg->q_, node);
        if (!wr_waitq_first(&wg->q_))
            atomic_fetch_and_explicit(wr_atomic64(&wg->state_), ~WAITERS, memory_order_release);
    }
    wr_waitq_unlock(&wg->q_);
}

int weir_wg_wait(weir_wg *wg) {
    uint64_t seen = word(wg);
    if (seen == 0) return 0;

    struct wr_wait w;
    struct wr_node node;
    wr_wait_init(&w, WR_WAIT_WG, wg);
    wr_node_init(&node, &w);
    wr_waitq_lock(&wg->q_);
    do {
        if (seen == 0) {
            wr_waitq_unlock(&wg->q_);
            return 0;
        }
    } while (!swap_word(wg, &seen, seen | WAITERS));
    wr_waitq_append(&wg->q_, &node);
    wr_waitq_unlock(&wg->q_);

    int why = wr_park(&w);
    if (why >= 0) return 0;
    withdraw(wg, &node);
    return why;
}

/* The goroutine's last act but one: it may be the last to touch the group. */
static void count_down(struct g *g, int result) {
    (void)result;
    (void)weir_wg_done(g->owner);
}

int weir_wg_launch_(void (*fn)(void), const weir_site_ *site, size_t stack, bool returns_int, void *owner) {
    weir_wg *wg = owner;
    int err = weir_wg_add(wg, 1); /* parks not, so the captured arguments are still this call's */
    if (err) return err;
    err = wr_spawn(&(struct wr_spawn){ .fn = fn,
                                       .site = site,
                                       .args = &wr_captured_args,
                                       .stack = stack,
                                       .on_end = count_down,
                                       .owner = wg,
                                       .returns_int = returns_int });
    if (err) (void)weir_wg_done(wg);
    return err;
}
