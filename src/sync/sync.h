/*
 * sync: what its files share — the queue of waiters, and the rule by which memory is given back.
 *
 * Queues are guarded by their own short lock (rank SYNC; no two are ever held at once, and nothing is called with one
 * held but wr_claim). Waiters are wr_nodes on the waiters' stacks.
 *
 * The user's memory. A mutex may lie in a struct that the last one to use it frees, so a call that lets another call
 * return must have done with the struct by then. Every change of state here keeps one of three rules:
 * - it is a compare-and-swap, without the queue's lock, and the call's last access;
 * - it is made under the lock while at least one waiter is in the queue. The lock is dropped, and only then is a
 *   waiter made ready (one that was cancelled needs the lock itself before it can leave). Until that waiter's call
 *   has returned the struct is still there, so it does not matter who else has seen the new state by then;
 * - it can be seen only under the lock: then dropping the lock is the last access.
 * (Whoever drops the lock may still issue a futex wake for its address. That reads no memory; a sleeper on a futex
 * that has come to lie there since looks at its word again, as it must anyway.)
 */
#ifndef WR_SYNC_H
#define WR_SYNC_H

#include "base/base.h"
#include "base/lock.h"
#include "sched/sched.h"

#pragma GCC visibility push(hidden)

/* The structs are the user's, so their words are plain there, and atomic from here on. */
#define wr_atomic32(word) ((_Atomic uint32_t *)(word))
#define wr_atomic64(word) ((_Atomic uint64_t *)(word))

static inline void wr_waitq_lock(struct weir_waitq_ *q) { wr_lock((struct wr_lock *)(void *)&q->lock_, WR_RANK_SYNC); }
static inline void wr_waitq_unlock(struct weir_waitq_ *q) {
    wr_dawdle(); /* the state has changed by now: somebody may be through, and give the memory back, before we are */
    wr_unlock((struct wr_lock *)(void *)&q->lock_, WR_RANK_SYNC);
}

/*
 * The list: NULL at both ends, so that all zeroes is an empty one. A node's `extra` says whether it is linked. All of
 * it needs the lock, except that count_ may be read by anyone.
 */
static inline struct wr_node *wr_node_of(struct wr_list *link) {
    return link ? wr_container(link, struct wr_node, link) : NULL;
}
static inline struct wr_node *wr_waitq_first(const struct weir_waitq_ *q) { return q->head_; }
static inline uint32_t wr_waitq_count(struct weir_waitq_ *q) {
    return atomic_load_explicit(wr_atomic32(&q->count_), memory_order_relaxed);
}
static inline void wr_waitq_count_set(struct weir_waitq_ *q, uint32_t n) {
    atomic_store_explicit(wr_atomic32(&q->count_), n, memory_order_relaxed);
}
static inline bool wr_node_linked(const struct wr_node *node) { return node->extra != 0; }

static inline void wr_node_init(struct wr_node *node, struct wr_wait *w) {
    *node = (struct wr_node){ .wait = w, .code = 1 };
}
/* A number that goes with the waiter, for its waker: since when it waits, how much it wants. */
_Static_assert(sizeof(void *) == sizeof(int64_t), "a number fits into elem");
static inline void wr_node_number_set(struct wr_node *node, int64_t number) { node->elem = (void *)(intptr_t)number; }
static inline int64_t wr_node_number(const struct wr_node *node) { return (intptr_t)node->elem; }

static inline void wr_waitq_append(struct weir_waitq_ *q, struct wr_node *node) {
    struct wr_node *last = q->tail_;
    node->link.next = NULL, node->link.prev = last ? &last->link : NULL;
    if (last)
        last->link.next = &node->link;
    else
        q->head_ = node;
    q->tail_ = node, node->extra = 1;
    wr_waitq_count_set(q, wr_waitq_count(q) + 1);
}

static inline void wr_waitq_prepend(struct weir_waitq_ *q, struct wr_node *node) {
    struct wr_node *first = q->head_;
    node->link.prev = NULL, node->link.next = first ? &first->link : NULL;
    if (first)
        first->link.prev = &node->link;
    else
        q->tail_ = node;
    q->head_ = node, node->extra = 1;
    wr_waitq_count_set(q, wr_waitq_count(q) + 1);
}

static inline void wr_waitq_remove(struct weir_waitq_ *q, struct wr_node *node) {
    struct wr_node *next = wr_node_of(node->link.next), *prev = wr_node_of(node->link.prev);
    wr_assert(wr_node_linked(node));
    if (prev)
        prev->link.next = node->link.next;
    else
        q->head_ = next;
    if (next)
        next->link.prev = node->link.prev;
    else
        q->tail_ = prev;
    node->link.next = node->link.prev = NULL, node->extra = 0;
    wr_waitq_count_set(q, wr_waitq_count(q) - 1);
}

/* Take the first waiter off the queue and claim it for `code`; NULL: none is left. Those that somebody else has
 * claimed, cancelled ones, are taken off on the way: they find themselves unlinked. */
static inline struct wr_node *wr_waitq_take(struct weir_waitq_ *q, int32_t code) {
    struct wr_node *node;
    while ((node = wr_waitq_first(q))) {
        wr_waitq_remove(q, node);
        if (wr_claim(node->wait, code)) return node;
    }
    return NULL;
}

/* Take every waiter. */
static inline void wr_waitq_take_all(struct weir_waitq_ *q, struct wr_batch *woken) {
    struct wr_node *node;
    while ((node = wr_waitq_take(q, 1))) wr_batch_add(woken, node->wait->g);
}

/*
 * Contention, for the profile room. While it looks on (the hook is not NULL), who queues for a lock notes since when (wait.contended),
 * and the call that lets him go reports for how long that was, once it is done with the lock's memory. So an unlock that finds nobody
 * waiting knows nothing of it.
 */
extern void (*_Atomic wr_hook_contended)(uint64_t waiters, weir_duration waited);
static inline weir_time wr_contended_now(void) {
    return wr_unlikely(atomic_load_explicit(&wr_hook_contended, memory_order_relaxed) != NULL) ? wr_now() : 0;
}
/* Those let go by one call. Gathered under the queue's lock, reported without. */
struct wr_let_go {
    uint64_t waiters;
    weir_duration waited; /* in all */
};
void wr_let_go_report_(const struct wr_let_go *l);
static inline void wr_let_go_add(struct wr_let_go *l, const struct wr_wait *w) {
    if (wr_unlikely(w->contended)) l->waiters++, l->waited += wr_now() - w->contended;
}
static inline void wr_let_go_report(const struct wr_let_go *l) {
    if (wr_unlikely(l->waiters)) wr_let_go_report_(l);
}

/*
 * Competing for a lock that is let go rather than handed over: what mutex.c and rwmutex.c have in common. A waiter is
 * woken either to COMPETE with newcomers, or because the lock is YOURS. It may lose the competition; once it has
 * waited for longer than 1 ms it asks for the lock to be handed over.
 */
enum { WR_COMPETE = 1, WR_YOURS = 2 };
#define WR_STARVES_AFTER WEIR_MILLISECOND

struct wr_attempt {
    weir_time start; /* when it first came to queue; 0: not yet */
    weir_time since; /* the same in the wait record's coarse time */
    bool queued;     /* it has slept before, so its place is at the front */
    bool woken;      /* it owns the lock's WOKEN bit */
    bool starving;   /* it has lost for too long */
};
static inline void wr_attempt_prepare(struct wr_attempt *a, struct wr_wait *w, struct wr_node *node,
                                      enum wr_reason reason, const void *object) {
    wr_wait_init(w, reason, object);
    w->cancellable = false;
    wr_node_init(node, w);
    w->contended = wr_contended_now();
    if (a->start == 0) {
        a->start = wr_now();
        a->since = w->since;
    }
    w->since = a->since;
    wr_node_number_set(node, a->start);
}
/* With the lock held, the lock's word saying that we wait, and no longer that we own WOKEN. */
static inline void wr_attempt_link(struct wr_attempt *a, struct weir_waitq_ *q, struct wr_node *node) {
    if (a->queued)
        wr_waitq_prepend(q, node);
    else
        wr_waitq_append(q, node);
    a->queued = true;
    a->woken = false;
}
static inline void wr_attempt_woken(struct wr_attempt *a) {
    a->woken = true;
    a->starving = a->starving || wr_now() - a->start > WR_STARVES_AFTER;
}

/*
 * Spinning pays where the holder runs on another processor and is soon done; parking costs both sides a switch, and
 * more if a thread has to be woken. How many turns were not worth their while is kept with the lock (a hint, so races
 * on it do not matter): a failure takes one turn off, a success gives one back, and one is always tried.
 */
#define WR_SPIN_TURNS 4   /* at most, of … */
#define WR_SPIN_PAUSES 30 /* … so many pauses: about a microsecond each */
static inline unsigned wr_spin_turns(uint32_t *hint) {
    uint32_t taken_off = atomic_load_explicit(wr_atomic32(hint), memory_order_relaxed);
    return weir_procs(0) == 1 ? 0 : WR_SPIN_TURNS - taken_off % WR_SPIN_TURNS;
}
static inline void wr_spin_was(uint32_t *hint, bool worth_it) {
    uint32_t taken_off = atomic_load_explicit(wr_atomic32(hint), memory_order_relaxed);
    if (worth_it ? taken_off > 0 : taken_off < WR_SPIN_TURNS - 1)
        atomic_store_explicit(wr_atomic32(hint), worth_it ? taken_off - 1 : taken_off + 1, memory_order_relaxed);
}
static inline void wr_spin_turn(void) {
    for (int i = 0; i < WR_SPIN_PAUSES; i++) wr_pause();
}

/* What a condition asks of the lock it is given. */
bool wr_mutex_held(weir_mutex *m);
bool wr_rwmutex_write_held(weir_rwmutex *rw);

#pragma GCC visibility pop
#endif
