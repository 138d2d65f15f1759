/*
 * chan: channels and select, and the timer objects that tick through a channel.
 *
 * A channel is a short lock, a ring, and two queues of waiters whose nodes lie on the waiters' stacks or in their
 * select arms. A waiting peer gets its element handed over directly, under the lock.
 */
#ifndef WR_CHAN_H
#define WR_CHAN_H

#include "sched/sched.h"

#pragma GCC visibility push(hidden)

struct weir_chan {
    struct wr_lock lock;        /* rank CHAN; guards all but refs */
    _Atomic uint32_t refs;
    uint32_t elem_size;
    bool closed;                /* this, len, and whether the queues are empty are also read without the lock: wr_chan_may_… */
    bool orphan;                /* the last handle has gone; whoever is the last to leave a queue frees it */
    size_t cap;
    size_t len;                 /* elements buffered */
    size_t first;               /* index of the oldest */
    struct wr_list receivers;   /* wr_node.link, first come first */
    struct wr_list senders;
    struct wr_list leaving;     /* waiters that were passed by, since somebody else ended their wait: they have yet to go */
    void (*on_drop)(void *elem);
    uintptr_t made_at;          /* the pc that made it */
    uint32_t magic;
    _Alignas(16) char ring[];
};

#define WR_CHAN_MAGIC 0x6e616863u

/* With the lock held: do it now if it can be done. 0; -EPIPE; -EAGAIN. *woken is who must be made ready after unlocking, or NULL. */
int wr_chan_send_now(weir_chan *ch, const void *elem, struct g **woken);
int wr_chan_recv_now(weir_chan *ch, void *elem, struct g **woken);

/*
 * Without the lock: might it be done now? True is a guess, to be tried with the lock. False is certain of one moment during the call,
 * so that who does not want to wait need not take the lock to hear it. The order of the reads matters: the end of the channel last.
 * It is open then, and was so before; so if it has a buffer, it could not be done when len was read, as nobody waits for what the buffer
 * would give him; and if it has none, it could not be done when the queue was read. The other way round, a sender might wait while
 * the channel is found open, and be sent away by the close before the queue is looked at.
 */
static inline bool wr_chan_may_send(const weir_chan *ch) {
    if (!wr_list_empty(&ch->receivers)) return true;
    wr_dawdle();
    if (__atomic_load_n(&ch->len, __ATOMIC_ACQUIRE) < ch->cap) return true;
    wr_dawdle();
    return __atomic_load_n(&ch->closed, __ATOMIC_RELAXED);
}
static inline bool wr_chan_may_recv(const weir_chan *ch) {
    if (!wr_list_empty(&ch->senders)) return true;
    wr_dawdle();
    if (__atomic_load_n(&ch->len, __ATOMIC_ACQUIRE) > 0) return true;
    wr_dawdle();
    return __atomic_load_n(&ch->closed, __ATOMIC_RELAXED);
}

/*
 * A waiter that was not woken through this node takes it off its queue, with the lock held, and unlocks. A blocked call keeps
 * the channel alive without a count: as long as a node is linked the channel is there, and a partner that takes a node off
 * leaves its waiter no reason to come back.
 */
void wr_chan_leave(weir_chan *ch, struct wr_node *node);

/* Does the arm of a select wait on a channel that is not nil? */
static inline bool wr_arm_on_channel(const weir_arm *a) {
    return a->chan_ && (a->kind_ == WEIR_ARM_RECV_ || a->kind_ == WEIR_ARM_SEND_ || a->kind_ == WEIR_ARM_SEND_PTR_);
}

#ifdef WEIR_DEBUG
void wr_chan_check(const weir_chan *ch, const char *call);
#else
static inline void wr_chan_check(const weir_chan *ch, const char *call) { (void)ch, (void)call; }
#endif

#pragma GCC visibility pop
#endif
