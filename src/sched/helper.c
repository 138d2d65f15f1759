/*
 * Threads of weir's own that are no workers: the scheduler must know of them, since one thread too many looks like
 * one of the program's, that may call in and wake somebody, and then no deadlock is ever found. And two questions of
 * other rooms.
 */
#include "sched/inner.h"

uint64_t wr_ids_end(void) { return atomic_load_explicit(&wr_sched.next_id, memory_order_acquire); }

weir_time wr_next_timer(void) { return wr_timers_first(); }

/* Called once the thread is there: counted before that, it would hide one of the program's. */
static void count(int threads) {
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    wr_sched.extra_threads += threads;
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
}

void wr_helper_works(void) { wr_outside_begin(); }

void wr_helper_rests(void) {
    wr_foreign_drop_self();
    wr_outside_end();
}

void wr_helper_joins(void) {
    wr_signal_unblock(NULL);
    wr_outside_begin();
    count(1);
    wr_outside_end(); /* a deadlock may have been passed over on our account */
}

void wr_helper_leaves(void) {
    wr_foreign_drop_self();
    count(-1);
}
