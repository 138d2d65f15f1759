/*
 * Mutex. One word says all that lock and unlock need while nobody waits; the queue is behind it.
 *
 *   LOCKED     somebody holds it
 *   WAITERS    the queue is not empty; changes only under the queue's lock
 *   WOKEN      exactly one goroutine that wants it is awake and bound to look again: unlock need wake nobody
 *   STARVING   unlock hands the mutex to the first waiter instead of letting go; set only beside LOCKED
 *
 * Normal mode: unlock lets go and wakes the first waiter, which then competes with newcomers. Those mostly win, as
 * they are running already, and that is what makes a contended mutex fast: no switch between two holders. A waiter
 * that loses goes back to the front. Once it has waited for longer than 1 ms it sets STARVING, and from then on
 * unlock hands over, first come first served; LOCKED stays set all the while, so newcomers cannot get in and queue up
 * at the end. The mode ends with a waiter that waited for less, or is the last. (Go's mutex has the same two modes,
 * for the same reason.)
 *
 * No wake-up is lost. A waiter queues only by a compare-and-swap that finds LOCKED set and sets WAITERS, with the
 * queue's lock held; the holder lets go without looking at the queue only by a compare-and-swap that finds WAITERS
 * clear, or WOKEN set. One of the two comes first: if the waiter's, unlock finds WAITERS, takes the queue's lock and
 * finds the node; if unlock's, the waiter finds LOCKED clear and takes the mutex. With WOKEN the duty passes to the
 * goroutine that owns it, which clears it in one of two ways: by taking the mutex, and its own unlock will find
 * WAITERS; or by queueing, and that is the waiter's case above again.
 *
 * What the holder wrote is seen by the next one: unlock's swap releases, lock's acquires; in a hand-over the claim of
 * the wait releases and the park acquires.
 *
 * May be called from goroutines and foreign threads; never from a timer's fire.
 */
#include "sync/sync.h"

enum { LOCKED = 1, WAITERS = 2, WOKEN = 4, STARVING = 8 };

void (*_Atomic wr_hook_contended)(uint64_t waiters, weir_duration waited);

__attribute__((noinline, cold)) void wr_let_go_report_(const struct wr_let_go *l) {
    void (*hook)(uint64_t, weir_duration) = atomic_load_explicit(&wr_hook_contended, memory_order_acquire);
    if (hook) hook(l->waiters, l->waited);
}

static inline bool swap_word(weir_mutex *m, uint32_t *seen, uint32_t next, memory_order order) {
    return atomic_compare_exchange_strong_explicit(wr_atomic32(&m->state_), seen, next, order, memory_order_relaxed);
}
static inline uint32_t word(weir_mutex *m) {
    return atomic_load_explicit(wr_atomic32(&m->state_), memory_order_relaxed);
}

bool wr_mutex_held(weir_mutex *m) { return word(m) & LOCKED; }

/* Spin while it may help. Owning WOKEN meanwhile keeps unlock from waking a sleeper, who would find us first. */
static void spin(weir_mutex *m, struct wr_attempt *a) {
    unsigned turns = wr_spin_turns(&m->spin_);
    for (unsigned turn = 0; turn < turns; turn++) {
        uint32_t seen = word(m);
        if (!(seen & LOCKED)) {
            wr_spin_was(&m->spin_, true);
            return;
        }
        if (seen & STARVING) return;
        if (!a->woken && (seen & (WAITERS | WOKEN)) == WAITERS)
            a->woken = swap_word(m, &seen, seen | WOKEN, memory_order_relaxed);
        wr_spin_turn();
    }
    if (turns) wr_spin_was(&m->spin_, !(word(m) & LOCKED));
}

/* Queue and sleep: a newcomer at the end, who was woken and lost at the front. True: the mutex was handed to us. */
static bool queue_up(weir_mutex *m, struct wr_attempt *a) {
    struct wr_wait w;
    struct wr_node node;
    wr_attempt_prepare(a, &w, &node, WR_WAIT_MUTEX, m);
    wr_waitq_lock(&m->q_);
    uint32_t seen = word(m);
    do {
        if (!(seen & LOCKED)) {
            wr_waitq_unlock(&m->q_);
            return false;
        }
    } while (!swap_word(m, &seen, (seen & ~(a->woken ? WOKEN : 0u)) | WAITERS | (a->starving ? STARVING : 0),
                        memory_order_relaxed));
    wr_attempt_link(a, &m->q_, &node);
    wr_waitq_unlock(&m->q_);
    if (wr_park(&w) == WR_YOURS) return true;
    wr_attempt_woken(a);
    return false;
}

static void lock_slow(weir_mutex *m) {
    struct wr_attempt a = { 0 };
    for (;;) {
        uint32_t seen = word(m);
        while (!(seen & LOCKED))
            if (swap_word(m, &seen, (seen & ~(a.woken ? WOKEN : 0u)) | LOCKED, memory_order_acquire)) return;
        spin(m, &a);
        if ((word(m) & LOCKED) && queue_up(m, &a)) return;
    }
}

/* Sets the bit, whatever else there is in the word: WOKEN may be there for as long as the one who was woken waits for a processor. */
static inline bool take(weir_mutex *m) {
    return !(atomic_fetch_or_explicit(wr_atomic32(&m->state_), LOCKED, memory_order_acquire) & LOCKED);
}

int weir_mutex_lock(weir_mutex *m) {
    if (wr_unlikely(!take(m))) lock_slow(m);
    return 0;
}

int weir_mutex_try_lock(weir_mutex *m) {
    uint32_t seen = word(m);
    while (!(seen & LOCKED))
        if (swap_word(m, &seen, seen | LOCKED, memory_order_acquire)) return 0;
    return -EAGAIN;
}

/*
 * Wake the first waiter, or hand it the mutex; false: the word is not what it was, look again. We hold the mutex
 * until the word says otherwise, and the waiter that we take off cannot return before wr_ready.
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
        if (ends || wr_now() - wr_node_number(node) < WR_STARVES_AFTER) ends |= STARVING;
        atomic_fetch_and_explicit(wr_atomic32(&m->state_), ~ends, memory_order_release);
    } else if (!swap_word(m, &seen, (seen & ~(LOCKED | ends)) | WOKEN, memory_order_release)) {
        wr_waitq_unlock(&m->q_);
        return false;
    }
    wr_waitq_remove(&m->q_, node);
    struct g *g = node->wait->g;
    struct wr_let_go let_go = { 0 };
    wr_let_go_add(&let_go, node->wait);
    bool claimed = wr_claim(node->wait, starving ? WR_YOURS : WR_COMPETE);
    wr_assert(claimed); /* not cancellable: nobody else can */
    (void)claimed;
    wr_waitq_unlock(&m->q_);
    wr_ready(g);
    wr_let_go_report(&let_go);
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
