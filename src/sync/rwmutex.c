/*
 * Readers-writer mutex. One word says who holds it and who waits; behind it are two queues, readers in q_, writers in
 * wq_, both guarded by q_'s lock.
 *
 *   WRITER          a writer holds it
 *   WRITERS_WAIT    wq_ is not empty
 *   READERS_WAIT    q_ is not empty; both change only under the lock
 *   n * READER      n readers hold it; never with WRITER
 *
 * A reader gets in while WRITER and WRITERS_WAIT are clear, so a waiting writer holds new readers back. A writer
 * gets in while the word is 0. Otherwise they queue, and get in by being handed what they wait for:
 * - the last reader to leave hands over to the first writer;
 * - a writer that unlocks lets in every reader that waits by then, and hands over to the next writer only if there is none.
 * So neither side can starve the other: between two writers every reader that waited has been in, and readers
 * that come while a writer waits come after it. (Go's RWMutex keeps the same order.)
 *
 * No wake-up is lost. To queue, a waiter sets its WAIT bit by a compare-and-swap that finds it cannot get in, with the lock held,
 * and its node is linked before the lock is dropped. Whoever leaves without the lock does so by a
 * compare-and-swap that finds nobody to hand over to: no WAIT bit, or other readers still in. One of the two
 * comes first: if the waiter's, the leaving one takes the lock and finds the node; if the other, the waiter finds the way free.
 * As waits here are not cancellable, a set bit means a waiter who is still there.
 *
 * What a holder wrote is seen by those after it: leaving releases the word (all leave by read-modify-writes, so a later
 * acquire sees what each of them released), entering acquires it; a hand-over passes through the claim and the park. In a hand-over
 * by the last of several readers the claimer must have seen what the others wrote, for the writer's sake: hence its
 * compare-and-swap acquires too.
 */
#include "sync/sync.h"

#define WRITER UINT64_C(1)
#define WRITERS_WAIT UINT64_C(2)
#define READERS_WAIT UINT64_C(4)
#define READER UINT64_C(8)

static inline bool swap_word(weir_rwmutex *rw, uint64_t *seen, uint64_t next, memory_order order) {
    return atomic_compare_exchange_strong_explicit(wr_atomic64(&rw->state_), seen, next, order, memory_order_relaxed);
}
static inline uint64_t word(weir_rwmutex *rw) {
    return atomic_load_explicit(wr_atomic64(&rw->state_), memory_order_relaxed);
}

bool wr_rwmutex_write_held(weir_rwmutex *rw) { return word(rw) & WRITER; }

/* Get in by the word alone; false: the way is not free. */
static inline bool enter_reading(weir_rwmutex *rw, uint64_t *seen) {
    while (!(*seen & (WRITER | WRITERS_WAIT)))
        if (wr_likely(swap_word(rw, seen, *seen + READER, memory_order_acquire))) return true;
    return false;
}
static inline bool enter_writing(weir_rwmutex *rw, uint64_t *seen) {
    while (*seen == 0)
        if (wr_likely(swap_word(rw, seen, WRITER, memory_order_acquire))) return true;
    return false;
}

/* Get in after all, or queue and sleep until we are let in. */
static void wait_for(weir_rwmutex *rw, bool writing) {
    struct wr_wait w;
    struct wr_node node;
    wr_wait_init(&w, writing ? WR_WAIT_LOCK : WR_WAIT_RLOCK, rw);
    w.cancellable = false;
    wr_node_init(&node, &w);

    wr_waitq_lock(&rw->q_);
    uint64_t seen = word(rw);
    do {
        if (writing ? enter_writing(rw, &seen) : enter_reading(rw, &seen)) {
            wr_waitq_unlock(&rw->q_);
            return;
        }
    } while (!swap_word(rw, &seen, seen | (writing ? WRITERS_WAIT : READERS_WAIT), memory_order_relaxed));
    wr_waitq_append(writing ? &rw->wq_ : &rw->q_, &node);
    wr_waitq_unlock(&rw->q_);
    (void)wr_park(&w); /* always 1: nothing else can decide it */
}

int weir_rwmutex_rlock(weir_rwmutex *rw) {
    uint64_t seen = word(rw);
    if (wr_unlikely(!enter_reading(rw, &seen))) wait_for(rw, false);
    return 0;
}

int weir_rwmutex_try_rlock(weir_rwmutex *rw) {
    uint64_t seen = word(rw);
    return enter_reading(rw, &seen) ? 0 : -EAGAIN;
}

int weir_rwmutex_lock(weir_rwmutex *rw) {
    uint64_t seen = 0;
    if (wr_unlikely(!enter_writing(rw, &seen))) wait_for(rw, true);
    return 0;
}

int weir_rwmutex_try_lock(weir_rwmutex *rw) {
    uint64_t seen = 0;
    return enter_writing(rw, &seen) ? 0 : -EAGAIN;
}

/* With the lock held, and the word ours to change: make the first writer its holder. Drops the lock. */
static void hand_to_writer(weir_rwmutex *rw, uint64_t readers_wait) {
    struct wr_node *node = wr_waitq_take(&rw->wq_, 1);
    wr_assert(node); /* the bit said so */
    uint64_t next = WRITER | readers_wait | (wr_waitq_first(&rw->wq_) ? WRITERS_WAIT : 0);
    struct g *g = node->wait->g;
    atomic_store_explicit(wr_atomic64(&rw->state_), next, memory_order_release);
    wr_waitq_unlock(&rw->q_);
    wr_ready(g);
}

int weir_rwmutex_runlock(weir_rwmutex *rw) {
    uint64_t seen = word(rw);
    for (;;) {
        if (seen < READER) return -EPERM;
        if (seen / READER > 1 || !(seen & WRITERS_WAIT)) {
            if (wr_likely(swap_word(rw, &seen, seen - READER, memory_order_release))) return 0;
            continue;
        }
        /* The last reader, and a writer waits: with both bits so, the word can change only under the lock. */
        wr_waitq_lock(&rw->q_);
        seen = atomic_load_explicit(wr_atomic64(&rw->state_), memory_order_acquire);
        if (seen / READER == 1 && (seen & WRITERS_WAIT)) {
            hand_to_writer(rw, seen & READERS_WAIT);
            return 0;
        }
        wr_waitq_unlock(&rw->q_);
    }
}

int weir_rwmutex_unlock(weir_rwmutex *rw) {
    uint64_t seen = WRITER;
    if (wr_likely(swap_word(rw, &seen, 0, memory_order_release))) return 0;
    for (;;) {
        if (!(seen & WRITER)) return -EPERM;
        if (seen == WRITER) {
            if (swap_word(rw, &seen, 0, memory_order_release)) return 0;
            continue;
        }
        /* Somebody waits: with WRITER set, the word can change only under the lock. */
        wr_waitq_lock(&rw->q_);
        seen = word(rw);
        if (!(seen & WRITER) || seen == WRITER) {
            wr_waitq_unlock(&rw->q_);
            continue;
        }
        if (!(seen & READERS_WAIT)) {
            hand_to_writer(rw, 0);
            return 0;
        }
        struct wr_woken woken = { 0 };
        uint64_t readers = wr_waitq_count(&rw->q_);
        wr_waitq_take_all(&rw->q_, &woken);
        atomic_store_explicit(wr_atomic64(&rw->state_), readers * READER | (seen & WRITERS_WAIT), memory_order_release);
        wr_waitq_unlock(&rw->q_);
        wr_woken_ready(&woken);
        return 0;
    }
}
