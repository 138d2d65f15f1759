/* The waiting half of the short lock, and the check of ranks. model/lock.pml checks that it excludes. */
#include "base/lock.h"

#include <sched.h>
#include <time.h>

/*
 * Each look at the word takes its line away from whoever has the lock, and with it what lies beside the lock, which he is about to write.
 * So who waits stands back at once, and longer each time; a holder who takes the lock again and again, as in a channel that many use,
 * works undisturbed meanwhile, and the queue moves faster than if it were shared element by element. A pause is 15 to 50 ns; the first
 * turn of them is 1 to 3 us, all are 7 to 22 us: few locks are held for longer, unless their holder has lost the processor.
 */
#define FIRST_PAUSES 64
#define PAUSING 3
#define YIELDING 10

void wr_lock_slow(struct wr_lock *l) {
    long ns = 20000;
    int pauses = FIRST_PAUSES;
    for (int turn = 0;; turn++) {
        uint32_t word = atomic_load_explicit(&l->word, memory_order_relaxed);
        if (word == 0 && atomic_compare_exchange_weak_explicit(&l->word, &word, 1, memory_order_acquire,
                                                               memory_order_relaxed))
            return;
        if (turn < PAUSING) {
            for (int i = 0; i < pauses; i++) wr_pause();
            pauses *= 2;
        } else if (turn < PAUSING + YIELDING) {
            sched_yield();
        } else {
            struct timespec t = { 0, ns };
            nanosleep(&t, NULL);
            if (ns < 1000000) ns *= 2;
        }
    }
}

#ifdef WEIR_DEBUG
/* The locks that this thread holds, in order of taking. A lock is never held over a switch. */
static __thread struct {
    int n;
    struct {
        const void *lock;
        enum wr_rank rank;
    } held[64];
} ranks;

void wr_rank_push(const void *lock, enum wr_rank rank) {
    if (ranks.n == 64) return; /* a select over many channels: equal ranks, checked for the first 64 */
    if (ranks.n > 0 && ranks.held[ranks.n - 1].rank > rank)
        wr_fatal("lock of rank %d taken while one of rank %d is held", rank, ranks.held[ranks.n - 1].rank);
    if (ranks.n > 0 && ranks.held[ranks.n - 1].rank == rank && ranks.held[ranks.n - 1].lock >= lock && rank != WR_RANK_CTX)
        wr_fatal("two locks of rank %d taken out of the order of their addresses", rank);
    ranks.held[ranks.n].lock = lock, ranks.held[ranks.n].rank = rank;
    ranks.n++;
}

void wr_rank_pop(const void *lock, enum wr_rank rank) {
    (void)rank;
    for (int i = ranks.n - 1; i >= 0; i--)
        if (ranks.held[i].lock == lock) {
            for (; i < ranks.n - 1; i++) ranks.held[i] = ranks.held[i + 1];
            ranks.held[--ranks.n].lock = NULL; /* the leak proof would find it here */
            return;
        }
}

int wr_ranks_held(void) { return ranks.n; }
#endif
