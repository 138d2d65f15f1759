/*
 * Timer objects: timers and tickers tick through a channel of capacity 1, so that waiting, select and leak proof know
 * nothing new; after-funcs start a goroutine. Both fire under the heap's lock (rank TIMERS), so a stop that returns has either prevented the
 * fire or comes after it, and then takes the stale tick out.
 */
#include "chan/chan.h"
#include "chan/timer.h"

#include <stdlib.h>

struct ticking {
    weir_timer base;
    struct wr_timer timer;
    struct wr_lock lock;   /* rank SYNC: one stop, or reset of what is not armed, at a time */
    weir_duration period;  /* 0: once. Guarded by the heap's lock while armed */
};

static weir_time tick(struct wr_timer *t, weir_time now) {
    struct ticking *k = wr_container(t, struct ticking, timer);
    (void)!weir_chan_try_send(k->base.tick, &t->when); /* full: a slow receiver loses this one */
    if (!k->period) return 0;
    return t->when + k->period * (1 + (now - t->when) / k->period);
}

static bool disarm(struct ticking *k) {
    bool armed = wr_timer_del(&k->timer);
    bool unread = weir_chan_try_recv(k->base.tick, NULL) == 0;
    return armed || unread;
}

static bool ticking_stop(weir_timer *t) {
    struct ticking *k = (struct ticking *)t;
    wr_lock(&k->lock, WR_RANK_SYNC);
    bool was = disarm(k);
    wr_unlock(&k->lock, WR_RANK_SYNC);
    return was;
}

static bool ticking_reset(weir_timer *t, weir_duration d) {
    struct ticking *k = (struct ticking *)t;
    if (k->period && d <= 0) return false;
    if (!k->period && wr_timer_move(&k->timer, wr_after(d))) return true; /* armed: no tick of it is unread */
    wr_lock(&k->lock, WR_RANK_SYNC);
    bool was = disarm(k);
    if (k->period) k->period = d;
    if (wr_timer_add(&k->timer, wr_after(d))) wr_fatal("weir_timer_reset: out of memory");
    wr_unlock(&k->lock, WR_RANK_SYNC);
    return was;
}

static void ticking_free(weir_timer *t) {
    ticking_stop(t);
    weir_chan_release(t->tick);
    free(t);
}

static const struct wr_timer_ops ticking_ops = { ticking_stop, ticking_reset, ticking_free };

static weir_timer *ticking_new(weir_duration d, weir_duration period) {
    struct ticking *k = wr_zalloc(sizeof *k);
    if (!k) return NULL;
    k->base.ops = &ticking_ops;
    k->timer.fire = tick;
    k->timer.in_lock = true;
    k->period = period;
    if (!(k->base.tick = weir_chan_make(sizeof(weir_time), 1)) || wr_timer_add(&k->timer, wr_after(d))) {
        weir_chan_release(k->base.tick);
        free(k);
        return NULL;
    }
    return &k->base;
}

weir_timer *weir_timer_new(weir_duration d) { return ticking_new(d, 0); }
weir_timer *weir_ticker_new(weir_duration period) { return period > 0 ? ticking_new(period, period) : NULL; }

struct after_func {
    weir_timer base;
    struct wr_timer timer;
    struct wr_lock lock; /* rank SYNC: one reset of what is not armed at a time */
    void (*fn)(void *);
    void *arg;
    const weir_site_ *site;
};

static weir_time call(struct wr_timer *t, weir_time now) {
    struct after_func *a = wr_container(t, struct after_func, timer);
    return wr_spawn1(a->fn, a->arg, a->site) == -ENOMEM ? now + WEIR_MILLISECOND : 0; /* no memory: a little later */
}
static bool after_stop(weir_timer *t) { return wr_timer_del(&((struct after_func *)t)->timer); }
static bool after_reset(weir_timer *t, weir_duration d) {
    struct after_func *a = (struct after_func *)t;
    weir_time when = wr_after(d);
    if (wr_timer_move(&a->timer, when)) return true;
    wr_lock(&a->lock, WR_RANK_SYNC);
    bool was = wr_timer_move(&a->timer, when); /* somebody else has reset it meanwhile */
    if (!was && wr_timer_add(&a->timer, when)) wr_fatal("weir_timer_reset: out of memory");
    wr_unlock(&a->lock, WR_RANK_SYNC);
    return was;
}
static void after_free(weir_timer *t) {
    after_stop(t);
    free(t);
}
static const struct wr_timer_ops after_ops = { after_stop, after_reset, after_free };

weir_timer *weir_after_func_(weir_duration d, void (*fn)(void *), void *arg, const weir_site_ *site) {
    struct after_func *a = wr_zalloc(sizeof *a);
    if (!a) return NULL;
    a->base.ops = &after_ops;
    a->timer.fire = call;
    a->timer.in_lock = true;
    a->fn = fn, a->arg = arg, a->site = site;
    if (wr_timer_add(&a->timer, wr_after(d))) {
        free(a);
        return NULL;
    }
    return &a->base;
}

bool weir_timer_stop(weir_timer *t) { return t->ops->stop(t); }
bool weir_timer_reset(weir_timer *t, weir_duration d) { return t->ops->reset(t, d); }
void weir_timer_free(weir_timer *t) {
    if (t) t->ops->free(t);
}
int weir_timer_wait(weir_timer *t, weir_time *when) { return t->tick ? weir_chan_recv(t->tick, when) : -EINVAL; }
