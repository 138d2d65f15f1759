/*
 * Park and ready, cancelling, and the calls that are made of nothing else: sleep, yield, weir_blocking. The rules for those
 * who use them are in sched/sched.h.
 */
#include "sched/inner.h"

#include <sched.h>
#include <string.h>

void (*_Atomic wr_hook_block)(enum wr_reason reason, weir_duration slept);

/* ---- The verbs ------------------------------------------------------------------------------------- */

void wr_wait_init(struct wr_wait *w, enum wr_reason reason, const void *object) {
    atomic_init(&w->decided, 0);
    w->reason = (uint8_t)reason;
    w->cancellable = true;
    w->published = w->cancelled = false;
    w->n_objects = object ? 1 : 0;
    w->object = object;
    w->g = wr_self();
    w->since = atomic_load_explicit(&wr_sched.coarse, memory_order_relaxed);
    w->in_cancel.next = NULL;
    atomic_init(&w->timer.heap, NULL);
}

static weir_time wait_timed_out(struct wr_timer *t, weir_time now) {
    (void)now;
    struct wr_wait *w = wr_container(t, struct wr_wait, timer);
    if (wr_claim(w, WR_TIMED)) wr_ready(w->g);
    return 0;
}

/* A signal handler that blocks would take the goroutine it interrupted, and the thread's signal mask, to sleep with it. */
static void refuse_in_handler(struct m *m, struct g *g) {
    char *sp = __builtin_frame_address(0);
    if (wr_unlikely(sp < g->stack_lo || sp >= g->stack_hi))
        wr_fatal("a call that blocks was made in a signal handler, or on a stack that is not the goroutine's");
    if (wr_unlikely(atomic_load_explicit(&m->busy, memory_order_relaxed) != 0))
        wr_fatal("a call that blocks was made in a signal handler");
}

/* A thread needs nobody to keep the time for it, and may sleep while no runtime runs. */
static void sleep_foreign(struct g *g, struct wr_wait *w, weir_time until) {
    while (!atomic_load_explicit(&g->futex, memory_order_acquire)) {
        if (until != WR_NEVER && wr_now() >= until) {
            if (wr_claim(w, WR_TIMED)) break;
            until = WR_NEVER; /* who was faster is about to wake us */
        }
        wr_futex_wait(&g->futex, 0, until);
    }
    atomic_store_explicit(&g->futex, 0, memory_order_relaxed);
    atomic_store_explicit(&g->state, WR_G_RUNNING, memory_order_release);
}

/* slept_from: not NULL if somebody wants to know when it went to sleep. The two callers get a copy each, so that the usual one does
 * nothing for the sake of the other. */
static inline __attribute__((always_inline)) int park(struct wr_wait *w, weir_time when, weir_time *slept_from) {
    struct g *g = w->g;
    int saved_errno = errno;
    bool mine = false;   /* nobody will make us ready: we decided ourselves */
    bool listed = false; /* among the waits of c */
    struct wr_cancel *c = w->cancellable ? g->cancel : NULL;
    if (wr_likely(!g->foreign)) refuse_in_handler(wr_m(), g);
#ifdef WEIR_DEBUG
    if (wr_ranks_held()) wr_fatal("a goroutine parks with a short lock held");
#endif
    wr_check_held(g);
    wr_dawdle();
    if (c) {
        int err = atomic_load_explicit(&c->err, memory_order_acquire);
        if (!err) {
            wr_lock(&c->lock, WR_RANK_CANCEL);
            err = atomic_load_explicit(&c->err, memory_order_relaxed);
            listed = err == 0;
            if (listed) wr_list_append(&c->waits, &w->in_cancel);
            wr_unlock(&c->lock, WR_RANK_CANCEL);
        } /* else it may be held for long: who ends it wakes all others meanwhile */
        if (err) mine = wr_claim(w, err);
    }
    if (when != WR_NEVER && !g->foreign && !mine) {
        w->timer.fire = wait_timed_out;
        w->timer.in_lock = true;
        int e = wr_timer_add_parking(&w->timer, when);
        if (e) mine = wr_claim(w, e);
    }
    if (!mine) {
        if (!w->published) {
            uint32_t running = WR_G_RUNNING;
            atomic_store_explicit(&g->wait, w, memory_order_release);
            /* Fails if a waker came first: it has stored RUNNABLE, and g lies in a queue already. */
            atomic_compare_exchange_strong_explicit(&g->state, &running, WR_G_WAITING, memory_order_acq_rel,
                                                    memory_order_relaxed);
        }
        wr_dawdle();
        if (slept_from) *slept_from = wr_now();
        if (wr_unlikely(g->foreign)) {
            wr_tally_shared(WR_PARKS);
            sleep_foreign(g, w, when);
        } else {
            struct m *m = wr_m();
            wr_enter(m);
            wr_tally(m, WR_PARKS);
            wr_schedule_away(g);
            wr_leave(wr_m());
        }
    } else {
        atomic_store_explicit(&g->state, WR_G_RUNNING, memory_order_release);
    }
    atomic_store_explicit(&g->wait, NULL, memory_order_release);
    if (wr_unlikely(atomic_load_explicit(&g->leaked, memory_order_relaxed)))
        atomic_store_explicit(&g->leaked, false, memory_order_relaxed);
    if (when != WR_NEVER) wr_timer_del(&w->timer);
    if (listed && !w->cancelled) {
        wr_lock(&c->lock, WR_RANK_CANCEL);
        if (wr_list_linked(&w->in_cancel)) wr_list_remove(&w->in_cancel);
        wr_unlock(&c->lock, WR_RANK_CANCEL);
    }
    errno = saved_errno;
    return atomic_load_explicit(&w->decided, memory_order_acquire);
}

/* The wait has been decided, but is its caller's yet. */
static __attribute__((noinline, cold)) int park_profiled(struct wr_wait *w, weir_time when) {
    weir_time slept_from = 0;
    int why = park(w, when, &slept_from);
    void (*hook)(enum wr_reason, weir_duration) = atomic_load_explicit(&wr_hook_block, memory_order_acquire);
    if (hook && slept_from) hook((enum wr_reason)w->reason, wr_now() - slept_from);
    return why;
}

int wr_park_until(struct wr_wait *w, weir_time when) {
    if (wr_unlikely(atomic_load_explicit(&wr_hook_block, memory_order_relaxed) != NULL)) return park_profiled(w, when);
    return park(w, when, NULL);
}
int wr_park(struct wr_wait *w) { return wr_park_until(w, WR_NEVER); }

static void ready_foreign(struct g *g) {
    atomic_store_explicit(&g->futex, 1, memory_order_release);
    wr_futex_wake(&g->futex, 1);
}

void wr_ready(struct g *g) {
    wr_dawdle();
    atomic_store_explicit(&g->state, WR_G_RUNNABLE, memory_order_release);
    if (wr_unlikely(g->foreign)) {
        ready_foreign(g);
        return;
    }
    struct m *m = wr_m();
    struct p *p = m ? wr_enter(m) : NULL;
    wr_made_ready(m, g);
    wr_push_ready(p, g);
    if (m) wr_leave(m);
    wr_wake_worker();
}

/* Marks them, and takes out those of foreign threads, who run from then on. */
struct wr_batch wr_batch_mark(struct wr_batch *b, uint32_t most) {
    struct wr_batch ours = { 0 };
    struct m *m = wr_m();
    for (struct g *g; (g = b->first) && ours.n < most;) {
        b->first = g->next;
        atomic_store_explicit(&g->state, WR_G_RUNNABLE, memory_order_release);
        if (g->foreign) {
            ready_foreign(g);
        } else {
            wr_made_ready(m, g);
            wr_batch_add(&ours, g);
        }
    }
    return ours;
}

void wr_ready_all(const struct wr_batch *b) {
    if (b->n == 1) {
        wr_ready(b->first);
        return;
    }
    for (struct wr_batch rest = *b; rest.first;) {
        struct wr_batch ours = wr_batch_mark(&rest, WR_BATCH);
        if (!ours.n) continue;
        wr_lock(&wr_sched.lock, WR_RANK_SCHED);
        wr_global_push(&ours);
        wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
        wr_wake_worker();
    }
}

/* ---- Cancelling ------------------------------------------------------------------------------------ */

void wr_cancel_init(struct wr_cancel *c) {
    memset(c, 0, sizeof *c);
    wr_list_init(&c->waits);
}

/* A wait in the list is alive: its goroutine takes it out, under the lock, before it leaves wr_park; unless we have decided it, which
 * we say before it wakes, and do not touch it after that. */
bool wr_cancel_fire(struct wr_cancel *c, int err) {
    struct wr_batch woken = { 0 };
    wr_lock(&c->lock, WR_RANK_CANCEL);
    bool was_open = atomic_load_explicit(&c->err, memory_order_relaxed) == 0;
    if (was_open) {
        atomic_store_explicit(&c->err, err, memory_order_release);
        for (struct wr_list *l; (l = wr_list_pop(&c->waits));) {
            struct wr_wait *w = wr_container(l, struct wr_wait, in_cancel);
            if (!wr_claim(w, err)) continue;
            w->cancelled = true;
            wr_batch_wake(&woken, w->g);
        }
    }
    wr_unlock(&c->lock, WR_RANK_CANCEL);
    wr_ready_all(&woken);
    return was_open;
}

/* ---- Yield, blocking calls, sleep ------------------------------------------------------------------ */

/* Entered; the thread's P, NULL if there is none. Only what m->p was found to be once is the thread's: read again it
 * may be NULL, in the middle of a retake that will be given up. */
static struct p *regain_p(struct m *m) {
    struct p *p = atomic_load_explicit(&m->p, memory_order_acquire);
    if (wr_likely(p != NULL)) return p;
    wr_freeze_if_left(m);
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    p = atomic_load_explicit(&m->p, memory_order_acquire);
    if (!p && (p = wr_take_idle_p())) atomic_store_explicit(&m->p, p, memory_order_release);
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    return p;
}

void weir_yield(void) {
    struct m *m = wr_m();
    if (!m || !m->g) {
        sched_yield();
        return;
    }
    struct g *g = m->g;
    int saved_errno = errno;
    wr_check_held(g);
    wr_dawdle();
    wr_enter(m);
    struct p *p = regain_p(m);
    if (p) {
        bool wanted = ++p->tick % 16 == 0, alone = wr_queue_empty(p);
        if (alone && atomic_load_explicit(&wr_sched.global_n, memory_order_relaxed)) { /* in the ring it would be its own successor */
            wr_requeue_away(g);
        } else if (alone && !wanted && !atomic_load_explicit(&wr_sched.stopping, memory_order_relaxed)) {
            wr_leave(m);
            return;
        } else {
            atomic_store_explicit(&g->state, WR_G_RUNNABLE, memory_order_release);
            wr_ring_push(p, g);
            wr_schedule_away(g);
        }
    } else {
        wr_requeue_away(g);
    }
    wr_leave(wr_m());
    errno = saved_errno;
}

int weir_blocking(int (*fn)(void *), void *arg) {
    struct m *m = wr_m();
    if (!m || !m->g) return fn(arg);
    struct g *g = m->g;
    wr_enter(m);
    wr_lock(&wr_sched.lock, WR_RANK_SCHED); /* not in the middle of a retake, which may give the P back */
    struct p *p = atomic_exchange_explicit(&m->p, NULL, memory_order_acq_rel);
    if (p) wr_hand_off(p);
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    atomic_store_explicit(&g->state, WR_G_BLOCKING, memory_order_release);
    m->blocking = true;
    wr_leave(m);
    wr_vectors_clear();
    int result = fn(arg);
    int saved_errno = errno;
    m = wr_m(); /* fn may have parked */
    m->blocking = false;
    if (wr_unlikely(atomic_load(&m->frozen))) wr_blocking_left(m); /* the runtime stopped meanwhile */
    wr_enter(m);
    atomic_store_explicit(&g->state, WR_G_RUNNING, memory_order_release);
    if (!regain_p(m)) wr_requeue_away(g);
    wr_leave(wr_m());
    errno = saved_errno;
    return result;
}

int weir_sleep(weir_duration d) {
    if (d <= 0) return 0;
    struct wr_wait w;
    wr_wait_init(&w, WR_WAIT_SLEEP, NULL);
    int why = wr_park_until(&w, wr_after(d));
    return why == WR_TIMED ? 0 : why;
}
