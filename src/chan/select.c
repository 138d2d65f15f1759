/*
 * Select. First it looks at all arms without a lock, and takes one of those that look as if they could go, each with the same
 * probability: one lock. If none can, or it could not after all, it does so again with every channel locked, since what is said of all of
 * them must be true of one moment; and if that is so, a node for each arm is queued before the locks are dropped, so that no partner can
 * come in between. One claim of the shared wait decides among partners, timer and canceller; model/wait.pml checks that it does.
 *
 * Channels are locked in the order of their addresses, each once, whatever the arms' order; two selects over the same
 * channels can therefore not block each other. The arms carry that order (order_), the list of those that can go (visit_) and the
 * nodes, so a select of any size allocates nothing.
 */
#include "chan/chan.h"
#include "chan/timer.h"

#include <string.h>

static struct wr_node *node_in(weir_arm *a) { return (struct wr_node *)(void *)a->wait_; }
static const void *to_send(const weir_arm *a) { return a->kind_ == WEIR_ARM_SEND_ ? a->value_ : a->value_ptr_; }

static void sift(weir_arm *arms, uint32_t top, uint32_t n) {
    uint32_t moving = arms[top].order_;
    for (uint32_t child; (child = 2 * top + 1) < n; top = child) {
        if (child + 1 < n && arms[arms[child].order_].chan_ < arms[arms[child + 1].order_].chan_) child++;
        if (arms[moving].chan_ >= arms[arms[child].order_].chan_) break;
        arms[top].order_ = arms[child].order_;
    }
    arms[top].order_ = moving;
}
/*
 * arms[0 … n).order_ becomes the indices sorted by channel address, in place. Often they are so already, or nearly, as channels that were
 * made one after the other lie; so they are inserted, and a heap sort, which does not notice that, begins only after many moves.
 */
static void sort(weir_arm *arms, uint32_t n) {
    uint32_t i = 1;
    for (uint32_t moves = 0; i < n && moves < n + 32; i++) {
        uint32_t moving = arms[i].order_, j = i;
        for (; j > 0 && arms[arms[j - 1].order_].chan_ > arms[moving].chan_; j--, moves++) arms[j].order_ = arms[j - 1].order_;
        arms[j].order_ = moving;
    }
    if (i >= n) return;
    for (i = n / 2; i-- > 0;) sift(arms, i, n);
    for (uint32_t end = n; end-- > 1;) {
        uint32_t largest = arms[0].order_;
        arms[0].order_ = arms[end].order_;
        arms[end].order_ = largest;
        sift(arms, 0, end);
    }
}

/* n_order: how many arms are on channels; their indices lead the order. */
static void lock_all(weir_arm *arms, uint32_t n_order) {
    weir_chan *last = NULL;
    for (uint32_t i = 0; i < n_order; i++) {
        weir_chan *ch = arms[arms[i].order_].chan_;
        if (ch != last) wr_lock(&ch->lock, WR_RANK_CHAN);
        last = ch;
    }
}
static void unlock_all(weir_arm *arms, uint32_t n_order) {
    weir_chan *last = NULL;
    for (uint32_t i = n_order; i-- > 0;) {
        weir_chan *ch = arms[arms[i].order_].chan_;
        if (ch != last) wr_unlock(&ch->lock, WR_RANK_CHAN);
        last = ch;
    }
}

/* Of an arm on a channel. Without its lock a guess, as wr_chan_may_recv. */
static inline bool channel_may(const weir_arm *a) {
    return a->kind_ == WEIR_ARM_RECV_ ? wr_chan_may_recv(a->chan_) : wr_chan_may_send(a->chan_);
}

/* Locked, if it is on a channel: as wr_chan_recv_now. */
static int arm_now(weir_arm *a, struct g **woken) {
    *woken = NULL;
    if (a->kind_ == WEIR_ARM_AFTER_) return a->after_ <= 0 ? 0 : -EAGAIN;
    if (!wr_arm_on_channel(a)) return -EAGAIN;
    return a->kind_ == WEIR_ARM_RECV_ ? wr_chan_recv_now(a->chan_, a->elem_, woken) : wr_chan_send_now(a->chan_, to_send(a), woken);
}

/* All are locked. The arm that went, or -1. *error: how, *woken: its partner. */
static int try_arms(weir_arm *arms, uint32_t n, int *error, struct g **woken) {
    uint32_t likely = 0;
    for (uint32_t i = 0; i < n; i++)
        if (wr_arm_on_channel(&arms[i]) ? channel_may(&arms[i]) : arms[i].kind_ == WEIR_ARM_AFTER_ && arms[i].after_ <= 0)
            arms[likely++].visit_ = i;
    while (likely) { /* a partner may have been claimed by another, and still be in the queue */
        uint32_t k = wr_choose(likely);
        int arm = (int)arms[k].visit_, e = arm_now(&arms[arm], woken);
        if (e != -EAGAIN) {
            *error = e;
            return arm;
        }
        arms[k].visit_ = arms[--likely].visit_;
    }
    return -1;
}

/* It looked as if it could go: lock no more than its channel. As arm_now. */
static int try_arm(weir_arm *a) {
    struct g *woken;
    bool locks = wr_arm_on_channel(a);
    if (locks) wr_lock(&a->chan_->lock, WR_RANK_CHAN);
    int e = arm_now(a, &woken);
    if (locks) wr_unlock(&a->chan_->lock, WR_RANK_CHAN);
    if (woken) wr_ready(woken);
    return e;
}

static int fired(struct g *g, weir_arm *arms, int i, int error) {
    g->select_error = arms[i].done_ ? 0 : error;
    if (arms[i].ok_) *arms[i].ok_ = error == 0;
    return i;
}

int weir_selectv(weir_arm *arms, size_t count) {
    if (count > 65535) return -EINVAL;
    uint32_t n = (uint32_t)count, n_order = 0, likely = 0;
    struct g *g = wr_self(), *woken = NULL;
    int error = 0, arm, otherwise = -1, soonest = -1;
    g->select_error = 0;
    for (uint32_t i = 0; i < n; i++) {
        weir_arm *a = &arms[i];
        if (a->kind_ == WEIR_ARM_TIMER_) { /* a timer ticks through a channel */
            a->chan_ = a->timer_ ? a->timer_->tick : NULL;
            a->kind_ = WEIR_ARM_RECV_;
        }
        bool may = false;
        if (wr_arm_on_channel(a)) {
            wr_chan_check(a->chan_, "weir_select");
            n_order++;
            may = channel_may(a);
        } else if (a->kind_ == WEIR_ARM_DEFAULT_) {
            otherwise = (int)i;
        } else if (a->kind_ == WEIR_ARM_AFTER_) {
            if (soonest < 0 || a->after_ < arms[soonest].after_) soonest = (int)i;
            may = a->after_ <= 0;
        }
        if (may) arms[likely++].visit_ = i;
    }
    if (likely) {
        arm = (int)arms[likely > 1 ? wr_choose(likely) : 0].visit_;
        error = try_arm(&arms[arm]);
        if (error != -EAGAIN) return fired(g, arms, arm, error);
    }
    if (otherwise >= 0 && n_order <= 1) return otherwise;

    for (uint32_t i = 0, k = 0; k < n_order; i++)
        if (wr_arm_on_channel(&arms[i])) arms[k++].order_ = i;
    sort(arms, n_order);
    lock_all(arms, n_order);
    arm = try_arms(arms, n, &error, &woken);
    if (arm >= 0 || otherwise >= 0) {
        unlock_all(arms, n_order);
        if (woken) wr_ready(woken);
        return arm >= 0 ? fired(g, arms, arm, error) : otherwise;
    }

    struct wr_wait w;
    wr_wait_init(&w, n ? WR_WAIT_SELECT : WR_WAIT_SELECT_NONE, NULL);
    w.object = n ? arms : NULL;
    w.n_objects = n;
    wr_wait_publish(&w);
    for (uint32_t i = 0; i < n_order; i++) {
        weir_arm *a = &arms[arms[i].order_];
        bool receives = a->kind_ == WEIR_ARM_RECV_;
        *node_in(a) = (struct wr_node){ .wait = &w, .code = (int32_t)arms[i].order_ + 1,
                                        .elem = receives ? a->elem_ : (void *)(uintptr_t)to_send(a) };
        wr_list_append(receives ? &a->chan_->receivers : &a->chan_->senders, &node_in(a)->link);
    }
    unlock_all(arms, n_order);
    int why = wr_park_until(&w, soonest < 0 ? WR_NEVER : wr_after(arms[soonest].after_));

    if (why < 0) { /* cancelled: but an arm that is ready by now is preferred */
        lock_all(arms, n_order);
        arm = try_arms(arms, n, &error, &woken);
        unlock_all(arms, n_order);
        if (woken) wr_ready(woken);
    } else {
        arm = why == WR_TIMED ? soonest : why - 1;
        error = why == WR_TIMED ? 0 : node_in(&arms[arm])->extra;
    }
    for (uint32_t i = 0; i < n_order; i++) { /* the winner's node was taken off by its partner */
        weir_arm *a = &arms[arms[i].order_];
        if ((int)arms[i].order_ == why - 1) continue;
        wr_lock(&a->chan_->lock, WR_RANK_CHAN);
        wr_chan_leave(a->chan_, node_in(a));
    }
    return arm >= 0 ? fired(g, arms, arm, error) : why;
}

int weir_select_error(void) { return wr_self()->select_error; }
