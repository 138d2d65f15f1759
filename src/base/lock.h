/*
 * The short lock: one word, for regions of a few dozen instructions that never park and never call user
 * code. Not for use in signal handlers.
 *
 * Who finds it held spins a little, then sleeps and looks again, 20 µs at first and up to 1 ms: that only happens
 * when the kernel has taken the processor from the holder. Nobody is woken, so unlocking is a plain store and not, as with a
 * futex, a second locked instruction; every channel operation pays for those.
 *
 * Every lock has a rank, and a thread takes locks only in the order of their ranks (equal ranks: only
 * where the code says by what order, as select does by address). Debug builds check it.
 */
#ifndef WR_LOCK_H
#define WR_LOCK_H

#include "base/base.h"

enum wr_rank {
    WR_RANK_CTX = 1,   /* a context: parent before child */
    WR_RANK_SCOPE,
    WR_RANK_SYNC,      /* the queue of a mutex, wg, … */
    WR_RANK_TIMERS,    /* a processor's timer heap: calls channels and ready */
    WR_RANK_CHAN,      /* a channel; several by address */
    WR_RANK_CANCEL,    /* the waiters under one context */
    WR_RANK_SCHED,     /* global queue, idle lists */
    WR_RANK_STACK,     /* the stack slabs */
    WR_RANK_LEAF,      /* nothing is taken under it */
    WR_RANKS
};

/* 0 free, 1 held. */
struct wr_lock {
    _Atomic uint32_t word;
};

#pragma GCC visibility push(hidden)
void wr_lock_slow(struct wr_lock *l);
#ifdef WEIR_DEBUG
void wr_rank_push(const void *lock, enum wr_rank rank);
void wr_rank_pop(const void *lock, enum wr_rank rank);
int wr_ranks_held(void);
#else
static inline void wr_rank_push(const void *lock, enum wr_rank rank) { (void)lock, (void)rank; }
static inline void wr_rank_pop(const void *lock, enum wr_rank rank) { (void)lock, (void)rank; }
#endif
#pragma GCC visibility pop

static inline void wr_lock(struct wr_lock *l, enum wr_rank rank) {
    uint32_t free_word = 0;
    wr_dawdle();
    wr_rank_push(l, rank);
    if (wr_unlikely(!atomic_compare_exchange_strong_explicit(&l->word, &free_word, 1, memory_order_acquire,
                                                             memory_order_relaxed)))
        wr_lock_slow(l);
}
static inline void wr_unlock(struct wr_lock *l, enum wr_rank rank) {
    wr_rank_pop(l, rank);
    atomic_store_explicit(&l->word, 0, memory_order_release);
}
/* For who takes many locks of one rank, each of which is otherwise taken alone. */
static inline void wr_lock_unranked(struct wr_lock *l) { wr_lock_slow(l); }
static inline void wr_unlock_unranked(struct wr_lock *l) { atomic_store_explicit(&l->word, 0, memory_order_release); }
static inline bool wr_lock_held(struct wr_lock *l) { return atomic_load_explicit(&l->word, memory_order_relaxed) != 0; }

#endif
