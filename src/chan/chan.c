/* Channels. May be called from goroutines and foreign threads; the _now forms from a timer's fire as well. */
#include "chan/chan.h"

#include <stdlib.h>
#include <string.h>

#define MAX_ELEM ((size_t)64 << 10)

static inline void copy(void *to, const void *from, size_t n) {
    if (n == 8) memcpy(to, from, 8);
    else if (n == 4) memcpy(to, from, 4);
    else if (n == 16) memcpy(to, from, 16);
    else memcpy(to, from, n);
}

/* What has been received is not held any more, neither for the leak proof nor for who reads a core. */
static inline void clear(void *at, size_t n) {
    if (n == 8) memset(at, 0, 8);
    else if (n == 4) memset(at, 0, 4);
    else if (n == 16) memset(at, 0, 16);
    else memset(at, 0, n);
}

static inline struct wr_node *node_of(struct wr_list *l) { return wr_container(l, struct wr_node, link); }

/* ---- Making and freeing ---------------------------------------------------------------------------- */

#ifdef WEIR_DEBUG
/* Freed channels rest here for a while, so that their use is noticed. */
WR_PRIVATE static weir_chan *_Atomic resting[4096];
static _Atomic uint32_t n_rested;

static void put_to_rest(weir_chan *ch) {
    explicit_bzero(ch, sizeof *ch);
    free(atomic_exchange(&resting[atomic_fetch_add(&n_rested, 1) % 4096], ch));
}
void wr_chan_check(const weir_chan *ch, const char *call) {
    if (ch && ch->magic != WR_CHAN_MAGIC) wr_fatal("%s: the channel %p has been freed", call, (const void *)ch);
}
#else
static void put_to_rest(weir_chan *ch) {
    explicit_bzero(ch, sizeof *ch); /* who gets this memory next may leave some of it as it is, for the leak proof to find */
    free(ch);
}
#endif

static weir_chan *make(size_t elem_size, size_t cap, uintptr_t made_at) {
    size_t bytes;
    if (elem_size > MAX_ELEM || __builtin_mul_overflow(elem_size, cap, &bytes) || bytes > PTRDIFF_MAX - sizeof(weir_chan))
        return NULL;
    weir_chan *ch = malloc(sizeof *ch + bytes);
    if (!ch) return NULL;
    explicit_bzero(ch, sizeof *ch);
    atomic_init(&ch->refs, 1);
    ch->elem_size = (uint32_t)elem_size;
    ch->cap = cap;
    wr_list_init(&ch->receivers);
    wr_list_init(&ch->senders);
    wr_list_init(&ch->leaving);
    ch->made_at = made_at;
    ch->magic = WR_CHAN_MAGIC;
    return ch;
}

weir_chan *weir_chan_make(size_t elem_size, size_t cap) {
    return make(elem_size, cap, (uintptr_t)__builtin_return_address(0));
}

weir_chan *weir_chan_make_or_die_(size_t elem_size, size_t cap) {
    weir_chan *ch = make(elem_size, cap, (uintptr_t)__builtin_return_address(0));
    if (!ch && elem_size > MAX_ELEM) wr_fatal("weir_make: elements of %zu bytes; up to %zu can be sent", elem_size, MAX_ELEM);
    if (!ch) wr_fatal("weir_make: out of memory for %zu elements of %zu bytes", cap, elem_size);
    return ch;
}

weir_chan *weir_chan_retain(weir_chan *ch) {
    wr_chan_check(ch, "weir_retain");
    if (ch) atomic_fetch_add_explicit(&ch->refs, 1, memory_order_relaxed);
    return ch;
}

static bool has_waiters(const weir_chan *ch) {
    return !wr_list_empty(&ch->receivers) || !wr_list_empty(&ch->senders) || !wr_list_empty(&ch->leaving);
}

static void drop(weir_chan *ch) {
    if (ch->on_drop)
        for (size_t i = 0; i < ch->len; i++)
            ch->on_drop(ch->ring + (ch->first + i) % ch->cap * ch->elem_size);
    put_to_rest(ch);
}

void weir_chan_release(weir_chan *ch) {
    wr_chan_check(ch, "weir_release");
    if (!ch || atomic_fetch_sub_explicit(&ch->refs, 1, memory_order_acq_rel) != 1) return;
    wr_lock(&ch->lock, WR_RANK_CHAN);
    ch->orphan = true;
    bool waited_on = has_waiters(ch);
    wr_unlock(&ch->lock, WR_RANK_CHAN);
    if (!waited_on) drop(ch);
}

void wr_chan_leave(weir_chan *ch, struct wr_node *node) {
    wr_list_remove(&node->link);
    bool last = ch->orphan && !has_waiters(ch);
    wr_unlock(&ch->lock, WR_RANK_CHAN);
    if (wr_unlikely(last)) drop(ch);
}

void weir_chan_set_on_drop_(weir_chan *ch, void (*fn)(void *elem)) {
    wr_chan_check(ch, "weir_chan_on_drop");
    if (!ch) return;
    wr_lock(&ch->lock, WR_RANK_CHAN);
    ch->on_drop = fn;
    wr_unlock(&ch->lock, WR_RANK_CHAN);
}

/* ---- What can be done at once ----------------------------------------------------------------------- */

/* The first waiter whose wait we settle, taken off the queue. Those already settled by somebody else step
 * aside. model/wait.pml checks the claim. */
static struct wr_node *claim_first(weir_chan *ch, struct wr_list *queue) {
    for (struct wr_list *l; (l = wr_list_pop(queue));) {
        struct wr_node *node = node_of(l);
        if (wr_claim(node->wait, node->code)) return node;
        wr_list_append(&ch->leaving, l);
    }
    return NULL;
}

/* Written once in each call, for wr_chan_may_…: in between it would say what is true at no time. */
static inline void set_len(weir_chan *ch, size_t len) { __atomic_store_n(&ch->len, len, __ATOMIC_RELAXED); }

int wr_chan_send_now(weir_chan *ch, const void *elem, struct g **woken) {
    *woken = NULL;
    if (ch->closed) return -EPIPE;
    if (!wr_list_empty(&ch->receivers)) {
        struct wr_node *receiver = claim_first(ch, &ch->receivers);
        if (receiver) {
            if (receiver->elem) copy(receiver->elem, elem, ch->elem_size);
            receiver->extra = 0;
            *woken = receiver->wait->g;
            return 0;
        }
    }
    if (ch->len == ch->cap) return -EAGAIN;
    size_t at = ch->first + ch->len;
    if (at >= ch->cap) at -= ch->cap;
    copy(ch->ring + at * ch->elem_size, elem, ch->elem_size);
    set_len(ch, ch->len + 1);
    return 0;
}

int wr_chan_recv_now(weir_chan *ch, void *elem, struct g **woken) {
    *woken = NULL;
    struct wr_node *sender = wr_list_empty(&ch->senders) ? NULL : claim_first(ch, &ch->senders);
    if (ch->len) {
        char *oldest = ch->ring + ch->first * ch->elem_size;
        if (elem) copy(elem, oldest, ch->elem_size);
        if (++ch->first == ch->cap) ch->first = 0;
        if (sender) { /* the ring is full, or nobody would wait: what was the first place is the last */
            copy(oldest, sender->elem, ch->elem_size);
            sender->extra = 0;
            *woken = sender->wait->g;
        } else {
            clear(oldest, ch->elem_size);
            set_len(ch, ch->len - 1);
        }
        return 0;
    }
    if (sender) {
        if (elem) copy(elem, sender->elem, ch->elem_size);
        sender->extra = 0;
        *woken = sender->wait->g;
        return 0;
    }
    if (!ch->closed) return -EAGAIN;
    if (elem) memset(elem, 0, ch->elem_size);
    return -EPIPE;
}

/* ---- Send and receive ------------------------------------------------------------------------------- */

static int wait_for_ever(enum wr_reason reason) {
    struct wr_wait w;
    wr_wait_init(&w, reason, NULL);
    return wr_park(&w);
}

/* Locked; returns unlocked. The node's code is 1; extra says how a partner or close left it: 0 or -EPIPE. */
static int block(weir_chan *ch, struct wr_list *queue, enum wr_reason reason, void *elem) {
    struct wr_wait w;
    struct wr_node node = { .wait = &w, .elem = elem, .code = 1 };
    wr_wait_init(&w, reason, ch);
    wr_wait_publish(&w);
    wr_list_append(queue, &node.link);
    wr_unlock(&ch->lock, WR_RANK_CHAN);
    int why = wr_park(&w);
    if (why > 0) return node.extra;
    wr_lock(&ch->lock, WR_RANK_CHAN);
    wr_chan_leave(ch, &node);
    return why;
}

int weir_chan_send(weir_chan *ch, const void *elem) {
    wr_chan_check(ch, "weir_send");
    if (wr_unlikely(!ch)) return wait_for_ever(WR_WAIT_CHAN_SEND_NIL);
    struct g *woken;
    wr_lock(&ch->lock, WR_RANK_CHAN);
    int e = wr_chan_send_now(ch, elem, &woken);
    if (e == -EAGAIN) return block(ch, &ch->senders, WR_WAIT_CHAN_SEND, (void *)(uintptr_t)elem);
    wr_unlock(&ch->lock, WR_RANK_CHAN);
    if (woken) wr_ready(woken);
    return e;
}

int weir_chan_recv(weir_chan *ch, void *elem) {
    wr_chan_check(ch, "weir_recv");
    if (wr_unlikely(!ch)) return wait_for_ever(WR_WAIT_CHAN_RECV_NIL);
    struct g *woken;
    wr_lock(&ch->lock, WR_RANK_CHAN);
    int e = wr_chan_recv_now(ch, elem, &woken);
    if (e == -EAGAIN) return block(ch, &ch->receivers, WR_WAIT_CHAN_RECV, elem);
    wr_unlock(&ch->lock, WR_RANK_CHAN);
    if (woken) wr_ready(woken);
    return e;
}

int weir_chan_try_send(weir_chan *ch, const void *elem) {
    wr_chan_check(ch, "weir_try_send");
    if (!ch || !wr_chan_may_send(ch)) return -EAGAIN;
    struct g *woken;
    wr_lock(&ch->lock, WR_RANK_CHAN);
    int e = wr_chan_send_now(ch, elem, &woken);
    wr_unlock(&ch->lock, WR_RANK_CHAN);
    if (woken) wr_ready(woken);
    return e;
}

int weir_chan_try_recv(weir_chan *ch, void *elem) {
    wr_chan_check(ch, "weir_try_recv");
    if (!ch || !wr_chan_may_recv(ch)) return -EAGAIN;
    struct g *woken;
    wr_lock(&ch->lock, WR_RANK_CHAN);
    int e = wr_chan_recv_now(ch, elem, &woken);
    wr_unlock(&ch->lock, WR_RANK_CHAN);
    if (woken) wr_ready(woken);
    return e;
}

int weir_chan_close(weir_chan *ch) {
    wr_chan_check(ch, "weir_close");
    if (!ch) return -EINVAL;
    struct wr_batch woken = { 0 };
    wr_lock(&ch->lock, WR_RANK_CHAN);
    if (ch->closed) {
        wr_unlock(&ch->lock, WR_RANK_CHAN);
        return -EPIPE;
    }
    __atomic_store_n(&ch->closed, true, __ATOMIC_RELAXED);
    atomic_thread_fence(memory_order_release); /* who finds a queue empty by this finds the channel closed: wr_chan_may_… read it later */
    for (int side = 0; side < 2; side++) {
        struct wr_list *queue = side ? &ch->senders : &ch->receivers;
        for (struct wr_node *node; (node = claim_first(ch, queue));) {
            if (!side && node->elem) memset(node->elem, 0, ch->elem_size);
            node->extra = -EPIPE;
            wr_batch_wake(&woken, node->wait->g); /* the caller has a count of the channel */
        }
    }
    wr_unlock(&ch->lock, WR_RANK_CHAN);
    wr_ready_all(&woken);
    return 0;
}

size_t weir_chan_len(weir_chan *ch) {
    wr_chan_check(ch, "weir_len");
    if (!ch) return 0;
    wr_lock(&ch->lock, WR_RANK_CHAN);
    size_t n = ch->len;
    wr_unlock(&ch->lock, WR_RANK_CHAN);
    return n;
}

size_t weir_chan_cap(weir_chan *ch) {
    wr_chan_check(ch, "weir_cap");
    return ch ? ch->cap : 0;
}

int weir_chan_wait_closed(weir_chan *ch) {
    int e;
    weir_chan_retain(ch); /* between two elements, too */
    while ((e = weir_chan_recv(ch, NULL)) == 0) {}
    weir_chan_release(ch);
    return e == -EPIPE ? 0 : e;
}
