/*
 * Readers-writer mutex. One word says who has it and who waits.
 *
 *   WRITER         a writer has it, or, while readers are still in, is the next: it holds new readers back
 *   n * READER     n readers are in
 *   WRITERS_WAIT   writers sleep in wq_; changes only under the lock
 *   READERS_WAIT   readers sleep in q_; changes only under the lock, and is set only beside WRITER
 *   WOKEN          exactly one writer that wants it is awake and bound to look again: unlock need wake no other
 *   STARVING       unlock hands WRITER to the first writer instead of letting go; set only beside WRITER
 *
 * The lock is q_'s; it guards both queues and drain_, the one writer that has WRITER and sleeps until the readers are
 * out.
 *
 * Readers get in while WRITER is clear. A writer that finds readers in takes WRITER at once, so that no more come,
 * and sleeps as drain_; the last reader out wakes it. Writers compete for WRITER as for a mutex (see mutex.c for the
 * modes, for WOKEN and for what no starving means). A writer that unlocks lets in every reader that sleeps by then,
 * and lets go of WRITER, or, if STARVING, hands it on: to be drain_ if it has let readers in. So neither side can
 * starve the other: the readers that wait when a writer unlocks are in before the next one, and readers that come
 * when a writer is the next come after it. (Go's RWMutex has the same order; there, too, a writer that sleeps behind
 * other writers does not yet hold readers back.)
 *
 * No wake-up is lost.
 * - A reader queues by a compare-and-swap that finds WRITER set and sets READERS_WAIT, with the lock held; WRITER is
 *   let go of without the lock only by one that finds READERS_WAIT clear.
 * - A writer queues by one that finds WRITER set and sets WRITERS_WAIT, with the lock held; WRITER is let go of
 *   without the lock only by one that finds WRITERS_WAIT clear, or WOKEN set. The owner of WOKEN clears it by taking
 *   WRITER, or by queueing.
 * - drain_ is set, with the lock held, by the one whose compare-and-swap sets WRITER beside readers; the last reader
 *   leaves without the lock only by one that finds WRITER clear.
 * In each pair one comes first. If the sleeper's, the other takes the lock and finds the node; if the other's, the
 * sleeper's swap fails and it looks again. As waits here are not cancellable, a set bit means somebody who is still
 * there.
 *
 * What a holder wrote is seen by those after it: leaving releases the word (all leave by read-modify-writes, so a
 * later acquire sees what each of them released), entering acquires it; a hand-over passes through the claim and the
 * park. The last reader acquires too, for the sake of the writer that it wakes.
 */
#include "sync/sync.h"

#define WRITER UINT64_C(1)
#define WRITERS_WAIT UINT64_C(2)
#define READERS_WAIT UINT64_C(4)
#define WOKEN UINT64_C(8)
#define STARVING UINT64_C(16)
#define READER UINT64_C(32)

static inline bool swap_word(weir_rwmutex *rw, uint64_t *seen, uint64_t next, memory_order order) {
    return atomic_compare_exchange_strong_explicit(wr_atomic64(&rw->state_), seen, next, order, memory_order_relaxed);
}
static inline uint64_t word(weir_rwmutex *rw) {
    return atomic_load_explicit(wr_atomic64(&rw->state_), memory_order_relaxed);
}
static inline bool held_by_writer(uint64_t seen) { return (seen & WRITER) && seen < READER; }

bool wr_rwmutex_write_held(weir_rwmutex *rw) { return held_by_writer(word(rw)); }

/* ---- Readers ------------------------------------------------------------------------------------------ */

/* Get in by the word alone; false: a writer is in the way. */
static inline bool enter_reading(weir_rwmutex *rw, uint64_t *seen) {
    while (!(*seen & WRITER))
        if (wr_likely(swap_word(rw, seen, *seen + READER, memory_order_acquire))) return true;
    return false;
}

static void rlock_slow(weir_rwmutex *rw) {
    struct wr_wait w;
    struct wr_node node;
    wr_wait_init(&w, WR_WAIT_RLOCK, rw);
    w.cancellable = false;
    w.contended = wr_contended_now();
    wr_node_init(&node, &w);
    wr_waitq_lock(&rw->q_);
    uint64_t seen = word(rw);
    do {
        if (enter_reading(rw, &seen)) {
            wr_waitq_unlock(&rw->q_);
            return;
        }
    } while (!swap_word(rw, &seen, seen | READERS_WAIT, memory_order_relaxed));
    wr_waitq_append(&rw->q_, &node);
    wr_waitq_unlock(&rw->q_);
    (void)wr_park(&w); /* always 1: nothing else can decide it */
}

int weir_rwmutex_rlock(weir_rwmutex *rw) {
    uint64_t seen = word(rw);
    if (wr_unlikely(!enter_reading(rw, &seen))) rlock_slow(rw);
    return 0;
}

int weir_rwmutex_try_rlock(weir_rwmutex *rw) {
    uint64_t seen = word(rw);
    return enter_reading(rw, &seen) ? 0 : -EAGAIN;
}

/* The last one out, and a writer sleeps until then; false: it is not so, look again. */
static bool wake_drain(weir_rwmutex *rw) {
    wr_waitq_lock(&rw->q_);
    uint64_t seen = word(rw);
    if (seen / READER != 1 || !(seen & WRITER)) {
        wr_waitq_unlock(&rw->q_);
        return false;
    }
    struct wr_node *node = rw->drain_;
    struct g *g = node->wait->g;
    struct wr_let_go let_go = { 0 };
    rw->drain_ = NULL;
    atomic_fetch_sub_explicit(wr_atomic64(&rw->state_), READER, memory_order_acq_rel);
    wr_let_go_add(&let_go, node->wait);
    (void)wr_claim(node->wait, WR_YOURS);
    wr_waitq_unlock(&rw->q_);
    wr_ready(g);
    wr_let_go_report(&let_go);
    return true;
}

int weir_rwmutex_runlock(weir_rwmutex *rw) {
    uint64_t seen = word(rw);
    for (;;) {
        if (seen < READER) return -EPERM;
        if (seen / READER > 1 || !(seen & WRITER)) {
            if (wr_likely(swap_word(rw, &seen, seen - READER, memory_order_release))) return 0;
        } else {
            if (wake_drain(rw)) return 0;
            seen = word(rw);
        }
    }
}

/* ---- Writers ------------------------------------------------------------------------------------------- */

/* Spin while it may help: while a writer has it, not while readers drain. */
static void spin(weir_rwmutex *rw, struct wr_attempt *a) {
    unsigned turns = wr_spin_turns(&rw->spin_);
    for (unsigned turn = 0; turn < turns; turn++) {
        uint64_t seen = word(rw);
        if (!(seen & WRITER)) {
            wr_spin_was(&rw->spin_, true);
            return;
        }
        if ((seen & STARVING) || !held_by_writer(seen)) return;
        if (!a->woken && (seen & (WRITERS_WAIT | WOKEN)) == WRITERS_WAIT)
            a->woken = swap_word(rw, &seen, seen | WOKEN, memory_order_relaxed);
        wr_spin_turn();
    }
    if (turns) wr_spin_was(&rw->spin_, !(word(rw) & WRITER));
}

/* Queue and sleep: a newcomer at the end, who was woken and lost at the front. True: it was handed to us. */
static bool queue_up(weir_rwmutex *rw, struct wr_attempt *a) {
    struct wr_wait w;
    struct wr_node node;
    wr_attempt_prepare(a, &w, &node, WR_WAIT_LOCK, rw);
    wr_waitq_lock(&rw->q_);
    uint64_t seen = word(rw);
    do {
        if (!(seen & WRITER)) {
            wr_waitq_unlock(&rw->q_);
            return false;
        }
    } while (!swap_word(rw, &seen, (seen & ~(a->woken ? WOKEN : 0)) | WRITERS_WAIT | (a->starving ? STARVING : 0),
                        memory_order_relaxed));
    wr_attempt_link(a, &rw->wq_, &node);
    wr_waitq_unlock(&rw->q_);
    if (wr_park(&w) == WR_YOURS) return true;
    wr_attempt_woken(a);
    return false;
}

/* Readers are in: become the next, and sleep until they are out. False: it is not so any more, look again. */
static bool become_next(weir_rwmutex *rw, struct wr_attempt *a) {
    struct wr_wait w;
    struct wr_node node;
    wr_attempt_prepare(a, &w, &node, WR_WAIT_LOCK, rw);
    wr_waitq_lock(&rw->q_);
    uint64_t seen = word(rw);
    do {
        if ((seen & WRITER) || seen < READER) {
            wr_waitq_unlock(&rw->q_);
            return false;
        }
    } while (!swap_word(rw, &seen, (seen & ~(a->woken ? WOKEN : 0)) | WRITER, memory_order_relaxed));
    rw->drain_ = &node;
    wr_waitq_unlock(&rw->q_);
    (void)wr_park(&w); /* always WR_YOURS */
    return true;
}

static void lock_slow(weir_rwmutex *rw) {
    struct wr_attempt a = { 0 };
    for (;;) {
        uint64_t seen = word(rw);
        while (seen < READER && !(seen & WRITER))
            if (swap_word(rw, &seen, (seen & ~(a.woken ? WOKEN : 0)) | WRITER, memory_order_acquire)) return;
        if (!(seen & WRITER)) {
            if (become_next(rw, &a)) return;
        } else {
            spin(rw, &a);
            if ((word(rw) & WRITER) && queue_up(rw, &a)) return;
        }
    }
}

int weir_rwmutex_lock(weir_rwmutex *rw) {
    uint64_t seen = 0;
    if (wr_unlikely(!swap_word(rw, &seen, WRITER, memory_order_acquire))) lock_slow(rw);
    return 0;
}

int weir_rwmutex_try_lock(weir_rwmutex *rw) {
    uint64_t seen = word(rw);
    while (seen < READER && !(seen & WRITER))
        if (swap_word(rw, &seen, seen | WRITER, memory_order_acquire)) return 0;
    return -EAGAIN;
}

/* Must a writer that unlocks look at the queues? */
static inline bool somebody_to_wake(uint64_t seen) {
    return (seen & READERS_WAIT) || ((seen & WRITERS_WAIT) && (seen & (WOKEN | STARVING)) != WOKEN);
}

/*
 * Let the readers in, and let the first writer compete or hand it WRITER; false: the word is not what it was, look
 * again. We have WRITER until the word says otherwise, and nobody of those whom we take off can return before wr_ready.
 */
static bool pass_on(weir_rwmutex *rw) {
    struct wr_batch woken = { 0 };
    struct wr_let_go let_go = { 0 };
    wr_waitq_lock(&rw->q_);
    uint64_t seen = word(rw), readers = wr_waitq_count(&rw->q_), next = readers * READER;
    bool starving = seen & STARVING;
    struct wr_node *writer = starving || !(seen & WOKEN) ? wr_waitq_first(&rw->wq_) : NULL;
    if (!writer) {
        next |= seen & (WRITERS_WAIT | WOKEN);
    } else {
        bool last = !writer->link.next;
        next |= last ? 0 : WRITERS_WAIT;
        if (!starving)
            next |= WOKEN;
        else if (last || wr_now() - wr_node_number(writer) < WR_STARVES_AFTER)
            next |= WRITER | (seen & WOKEN);
        else
            next |= WRITER | STARVING | (seen & WOKEN);
    }
    if (!held_by_writer(seen) || !somebody_to_wake(seen) || !swap_word(rw, &seen, next, memory_order_release)) {
        wr_waitq_unlock(&rw->q_);
        return false;
    }
    for (struct wr_node *reader; (reader = wr_waitq_take(&rw->q_, 1));) {
        wr_let_go_add(&let_go, reader->wait); /* it is there until it is made ready */
        wr_batch_add(&woken, reader->wait->g);
    }
    if (writer) {
        wr_waitq_remove(&rw->wq_, writer);
        if (starving && readers) {
            rw->drain_ = writer; /* it sleeps on, until they are out */
        } else {
            wr_let_go_add(&let_go, writer->wait);
            (void)wr_claim(writer->wait, starving ? WR_YOURS : WR_COMPETE);
            wr_batch_add(&woken, writer->wait->g);
        }
    }
    wr_waitq_unlock(&rw->q_);
    wr_ready_all(&woken);
    wr_let_go_report(&let_go);
    return true;
}

int weir_rwmutex_unlock(weir_rwmutex *rw) {
    uint64_t seen = WRITER;
    if (wr_likely(swap_word(rw, &seen, 0, memory_order_release))) return 0;
    for (;;) {
        if (!held_by_writer(seen)) return -EPERM;
        if (!somebody_to_wake(seen)) {
            if (swap_word(rw, &seen, seen & ~WRITER, memory_order_release)) return 0;
        } else {
            if (pass_on(rw)) return 0;
            seen = word(rw);
        }
    }
}
