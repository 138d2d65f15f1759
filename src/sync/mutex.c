/*
 * Mutex. One word says all that lock and unlock need while nobody waits; the queue is behind it.
 *
 *   LOCKED    somebody holds it
 *   WAITERS   the queue is not empty; changes only under the queue's lock
 *   WOKEN     exactly one goroutine that wants it is awake and bound to look again: unlock need wake nobody
 *   STARVING  unlock hands the mutex to the first waiter instead of letting go; only set while LOCKED
 *
 * Normal mode: unlock lets go and wakes the first waiter, which then competes with newcomers. Those
 * mostly win, as they are running already, and that is what makes a contended mutex fast: no
 * switch between two holders. A waiter that loses goes back to the front. Once it has waited for longer than
 * 1 ms it sets STARVING, and from then on unlock hands over, first come first served; LOCKED stays set all the
 * while, so newcomers cannot get in and queue up at the end. The mode ends with a waiter that waited for less, or is the last.
 * (Go's mutex has the same two modes, for the same reason.)
 *
 * No wake-up is lost. A waiter queues only by a compare-and-swap that finds LOCKED set and sets WAITERS, with
 * the queue's lock held; the holder lets go without looking at the queue only by a compare-and-swap that
 * finds WAITERS clear, or WOKEN set. One of the two comes first: if the waiter's, unlock finds WAITERS, takes the queue's lock and finds
 * the node; if unlock's, the waiter finds LOCKED clear and takes the mutex. With WOKEN the duty passes
 * to the goroutine that owns it, which clears it in one of two ways: by taking the mutex, and its own unlock
 * will find WAITERS; or by queueing, and that is the waiter's case above again.
 *
 * What the holder wrote is seen by the next one: unlock's swap releases, lock's acquires; in a
 * hand-over the claim of the wait releases and the park acquires.
 *
 * May be called from goroutines and foreign threads; never from a timer's fire.
 */
#include "sync/sync.h"

enum { LOCKED = 1, WAITERS = 2, WOKEN = 4, STARVING = 8 };
enum { COMPETE = 1, YOURS = 2 }; /* how a waiter is woken */

#define STARVES_AFTER WEIR_MILLISECOND
#define SPIN_TURNS 4   /* at most, of … */
#define SPIN_PAUSES 30 /* … so many pauses: about a microsecond each */

static inline bool swap_word(weir_mutex *m, uint32_t *seen, uint32_t next, memory_order order) {
    return atomic_compare_exchange_strong_explicit(wr_atomic32(&m->state_), seen, next, order, memory_order_relaxed);
}
static inline uint32_t word(weir_mutex *m) {
    return atomic_load_explicit(wr_atomic32(&m->state_), memory_order_relaxed);
}

bool wr_mutex_held(weir_mutex *m) { return word(m) & LOCKED; }

/*
 * Spinning pays where the holder runs on another processor and is soon done; parking costs both sides a switch, and more if a
 * thread has to be woken. How many turns were worth their while last time is kept in the mutex (a hint, so races on it do
 * not matter): a failure takes one off, a success gives one back, and one turn is always tried.
 */
static inline unsigned spin_turns(weir_mutex *m) {
    uint32_t taken_off = atomic_load_explicit(wr_atomic32(&m->spin_), memory_order_relaxed);
    return weir_procs(0) == 1 ? 0 : SPIN_TURNS - taken_off % SPIN_TURNS;
}
static inline void spin_was(weir_mutex *m, bool worth_it) {
    uint32_t taken_off = atomic_load_explicit(wr_atomic32(&m->spin_), memory_order_relaxed);
    if (worth_it ? taken_off > 0 : taken_off < SPIN_TURNS - 1)
        atomic_store_explicit(wr_atomic32(&m->spin_), worth_it ? taken_off - 1 : taken_off + 1, memory_order_relaxed);
}

/* What a lock() that cannot have the mutex at once keeps in mind. */
struct attempt {
    weir_time start;  /* when it first queued; 0: not yet */
    weir_time since;  /* the same in the wait record's coarse time */
    bool woken;       /* it owns WOKEN */
    bool starving;    /* it has lost for too long */
};

/* Spin while it may help. Owning WOKEN meanwhile keeps unlock from waking a sleeper that would only find us here first. */
static void spin(weir_mutex *m, struct attempt *a) {
    unsigned turns = spin_turns(m);
    for (unsigned turn = 0; turn < turns; turn++) {
        uint32_t seen = word(m);
        if (!(seen & LOCKED)) {
            spin_was(m, true);
            return;
        }
        if (seen & STARVING) return;
        if (!a->woken && (seen & (WAITERS | WOKEN)) == WAITERS)
            a->woken = swap_word(m, &seen, seen | WOKEN, memory_order_relaxed);
        for (int i = 0; i < SPIN_PAUSES; i++) wr_pause();
    }
    if (turns) spin_was(m, !(word(m) & LOCKED));
}

/* Queue and sleep: a newcomer at the end, who was woken and lost at the front. True: the mutex was handed to us. */
static bool queue_up(weir_mutex *m, struct attempt *a) {
    struct wr_wait w;
    struct wr_node node;
    wr_wait_init(&w, WR_WAIT_MUTEX, m);
    w.cancellable = false;
    wr_node_init(&node, &w);
    bool again = a->start != 0;
    if (again) {
        w.since = a->since;
    } else {
        a->start = wr_now();
        a->since = w.since;
    }
    wr_node_number_set(&node, a->start);

    wr_waitq_lock(&m->q_);
    uint32_t seen = word(m);
    do {
        if (!(seen & LOCKED)) {
            wr_waitq_unlock(&m->q_);
            return false;
        }
    } while (!swap_word(m, &seen, (seen & ~(a->woken ? WOKEN : 0u)) | WAITERS | (a->starving ? STARVING : 0),
                        memory_order_relaxed));
    if (again)
        wr_waitq_prepend(&m->q_, &node);
    else
        wr_waitq_append(&m->q_, &node);
    wr_waitq_unlock(&m->q_);
    a->woken = false;

    if (wr_park(&w) == YOURS) return true;
    a->woken = true;
    a->starving = a->starving || wr_now() - a->start > STARVES_AFTER;
    return false;
}

static void lock_slow(weir_mutex *m) {
    struct attempt a = { 0 };
    for (;;) {
        uint32_t seen = word(m);
        while (!(seen & LOCKED))
            if (swap_word(m, &seen, (seen & ~(a.woken ? WOKEN : 0u)) | LOCKED, memory_order_acquire)) return;
        spin(m, &a);
        if ((word(m) & LOCKED) && queue_up(m, &a)) return;
    }
}

int weir_mutex_lock(weir_mutex *m) {
    uint32_t seen = 0;
    if (wr_unlikely(!swap_word(m, &seen, LOCKED, memory_order_acquire))) lock_slow(m);
    return 0;
}

int weir_mutex_try_lock(weir_mutex *m) {
    uint32_t seen = word(m);
    while (!(seen & LOCKED))
        if (swap_word(m, &seen, seen | LOCKED, memory_order_acquire)) return 0;
    return -EAGAIN;
}

/*
 * Wake the first waiter, or hand it the mutex; false: the word is not what it was, look again. We hold the mutex until the
 * word says otherwise, and the waiter that we take off cannot return before wr_ready.
 */
static bool pass_on(weir_mutex *m) {
    wr_waitq_lock(&m->q_);
    uint32_t seen = word(m);
    bool starving = seen & STARVING;
    struct wr_node *node = wr_waitq_first(&m->q_);
    if (!(seen & LOCKED) || !(seen & WAITERS) || ((seen & WOKEN) && !starving)) {
        wr_waitq_unlock(&m->q_);
        return false;
    }
    uint32_t ends = node->link.next ? 0 : WAITERS; /* what is no longer so without this waiter */
    if (starving) {
        /* Nobody but us changes a word that is LOCKED and STARVING while we have the queue's lock. */
        if (ends || wr_now() - wr_node_number(node) < STARVES_AFTER) ends |= STARVING;
        atomic_fetch_and_explicit(wr_atomic32(&m->state_), ~ends, memory_order_release);
    } else if (!swap_word(m, &seen, (seen & ~(LOCKED | ends)) | WOKEN, memory_order_release)) {
        wr_waitq_unlock(&m->q_);
        return false;
    }
    wr_waitq_remove(&m->q_, node);
    struct g *g = node->wait->g;
    bool claimed = wr_claim(node->wait, starving ? YOURS : COMPETE);
    wr_assert(claimed); /* not cancellable: nobody else can */
    (void)claimed;
    wr_waitq_unlock(&m->q_);
    wr_ready(g);
    return true;
}

static int unlock_slow(weir_mutex *m, uint32_t seen) {
    for (;;) {
        if (!(seen & LOCKED)) return -EPERM;
        if (!(seen & WAITERS) || (seen & (WOKEN | STARVING)) == WOKEN) {
            if (swap_word(m, &seen, seen & ~(uint32_t)LOCKED, memory_order_release)) return 0;
        } else {
            if (pass_on(m)) return 0;
            seen = word(m);
        }
    }
}

int weir_mutex_unlock(weir_mutex *m) {
    uint32_t seen = LOCKED;
    if (wr_likely(swap_word(m, &seen, 0, memory_order_release))) return 0;
    return unlock_slow(m, seen);
}

static void leave_locked(weir_block_ *b) { (void)weir_mutex_unlock(b->a_); }

weir_block_ *weir_locked_enter_(weir_block_ *b, weir_mutex *m) {
    (void)weir_mutex_lock(m);
    b->a_ = m;
    wr_block_push(b, leave_locked);
    return b;
}
