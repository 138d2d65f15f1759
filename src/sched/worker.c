/*
 * Workers: the loop that finds the next goroutine, the switch, park and ready, idling and waking.
 *
 * Lost wake-ups. Work is published (pushed on a queue) by one side; the other goes idle. Both then look at what the other wrote:
 *
 *   publisher (wr_ready, wr_spawn):   push;                              fence;  idle Ps and no spinner?  -> wake one
 *   worker going idle (find_runnable): P to the idle list, spinning - 1;  fence;  look at every queue again
 *
 * The publisher's fence is the sequentially consistent read-modify-write with which it pushes (runnext is exchanged, global_n is added to), the
 * worker's is explicit. With both at least one of the two sees the other: either the publisher
 * finds a P idle and nobody spinning, and wakes; or the worker finds the queue non-empty, and takes a P back. Take either fence away and each
 * may read the old value; the goroutine then lies in a queue while a processor sleeps. model/park.pml checks this.
 *
 * Spinning. A thread that looks for work without having any is spinning. While one spins nobody is woken: it will find what
 * was published. So that a burst is not served by one thread alone, the last spinner that finds work wakes another
 * before it runs it. At most half as many threads spin as Ps are busy.
 *
 * Timers. Each busy P fires its own between goroutines. An idle thread that is the keeper sleeps only until the earliest of all heaps.
 */
#include "sched/inner.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

struct sched wr_sched = { .timers.first = WR_NEVER, .next_id = 2, .default_stack = (size_t)256 << 10 };
void (*wr_hook_deadlock)(const char *sentence);

static __thread struct m *this_m __attribute__((tls_model("initial-exec")));

/* The memory clobber keeps it from being taken for a pure function, whose result could be reused after a switch. */
__attribute__((noinline, noclone)) struct m *wr_m(void) {
    __asm__ volatile("" ::: "memory");
    return this_m;
}
void wr_set_m(struct m *m) { this_m = m; }

uint32_t wr_choose(uint32_t n) {
    static __thread uint64_t foreign_random;
    struct m *m = wr_m();
    if (m) return wr_random_below(&m->random, n);
    if (!foreign_random) foreign_random = (uint64_t)wr_now() ^ (uint64_t)(uintptr_t)&foreign_random;
    return wr_random_below(&foreign_random, n);
}

/* ---- Waking ---------------------------------------------------------------------------------------- */

struct p *wr_take_idle_p(void) {
    struct p *p;
    while ((p = wr_sched.idle_ps)) {
        wr_sched.idle_ps = p->next_idle;
        atomic_fetch_sub_explicit(&wr_sched.n_idle_ps, 1, memory_order_relaxed);
        if (p->id < atomic_load_explicit(&wr_sched.procs, memory_order_relaxed)) return p;
        p->retired = true;
    }
    return NULL;
}

void wr_put_idle_p(struct p *p) {
    if (p->id >= atomic_load_explicit(&wr_sched.procs, memory_order_relaxed)) {
        p->retired = true;
        return;
    }
    p->next_idle = wr_sched.idle_ps;
    wr_sched.idle_ps = p;
    atomic_fetch_add_explicit(&wr_sched.n_idle_ps, 1, memory_order_relaxed);
}

/* Take an idle thread, rather not the one that keeps the time. */
static struct m *take_idle_m(void) {
    struct m **at = &wr_sched.idle_ms, **best = NULL;
    for (; *at; at = &(*at)->next_idle)
        if (!best || (*at)->sleeps_until == WR_NEVER) {
            best = at;
            if ((*at)->sleeps_until == WR_NEVER) break;
        }
    if (!best) return NULL;
    struct m *m = *best;
    *best = m->next_idle;
    m->idle = false;
    wr_sched.n_running++;
    return m;
}

static void wake_m(struct m *m) {
    atomic_store_explicit(&m->wake, 1, memory_order_release);
    wr_futex_wake(&m->wake, 1);
}

static void *m_main(void *arg);

static struct m *m_new(struct p *p, bool spinning) {
    struct m *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    atomic_store_explicit(&m->p, p, memory_order_relaxed);
    m->spinning = spinning;
    atomic_store_explicit(&m->busy, 1, memory_order_relaxed);
    m->random = (uint64_t)wr_now() ^ (uint64_t)(uintptr_t)m;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, (size_t)512 << 10);
    int e = pthread_create(&m->thread, &attr, m_main, m);
    pthread_attr_destroy(&attr);
    if (e) {
        free(m);
        return NULL;
    }
    m->next_m = wr_sched.all_ms;
    wr_sched.all_ms = m;
    wr_sched.n_ms++;
    wr_sched.n_running++;
    return m;
}

bool wr_start_m(struct p *p, bool spinning) {
    struct m *m = take_idle_m();
    if (m) {
        atomic_store_explicit(&m->p, p, memory_order_release);
        m->spinning = spinning;
        wake_m(m);
    } else if (!m_new(p, spinning)) {
        static bool said;
        if (!said) wr_warn("no more threads can be made (%u are there): goroutines wait for those", wr_sched.n_ms);
        said = true;
        if (spinning) atomic_fetch_sub(&wr_sched.spinning, 1);
        wr_put_idle_p(p);
        return false;
    }
    if (atomic_load_explicit(&wr_sched.sysmon_idle, memory_order_relaxed)) wr_sysmon_nudge();
    return true;
}

void wr_wake_worker(void) {
    /* The push before was the fence: publish, fence, look. The other side is in find_runnable. */
    if (wr_likely(atomic_load(&wr_sched.n_idle_ps) == 0) || atomic_load(&wr_sched.spinning) > 0) return;
    uint32_t none = 0;
    if (!atomic_compare_exchange_strong(&wr_sched.spinning, &none, 1)) return;
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    struct p *p = atomic_load_explicit(&wr_sched.stopping, memory_order_relaxed) ? NULL : wr_take_idle_p();
    if (p) wr_start_m(p, true);
    else atomic_fetch_sub(&wr_sched.spinning, 1);
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
}

/* Somebody must wake by then: the keeper if it sleeps longer, else any idle thread, which becomes the keeper. */
void wr_wake_for_timer(weir_time when) {
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    struct m *keeper = NULL;
    for (struct m *m = wr_sched.idle_ms; m; m = m->next_idle)
        if (!keeper || m->sleeps_until < keeper->sleeps_until) keeper = m;
    if (keeper && keeper->sleeps_until > when) wake_m(keeper); /* stays in the list: it comes out by itself */
    if (atomic_load_explicit(&wr_sched.sysmon_idle, memory_order_relaxed)) wr_sysmon_nudge();
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
}

static bool any_queue(void) {
    int n = atomic_load_explicit(&wr_sched.made_ps, memory_order_acquire);
    for (int i = 0; i < n; i++)
        if (!wr_queue_empty(atomic_load_explicit(&wr_sched.ps[i], memory_order_relaxed))) return true;
    return atomic_load_explicit(&wr_sched.global_n, memory_order_relaxed) > 0;
}

static bool p_has_work(struct p *p) {
    return any_queue() || atomic_load_explicit(&p->timers.first, memory_order_relaxed) <= wr_now();
}

void wr_hand_off(struct p *p) {
    if (!atomic_load_explicit(&wr_sched.stopping, memory_order_relaxed) && p_has_work(p)) wr_start_m(p, false);
    else wr_put_idle_p(p);
}

/* ---- Idling ---------------------------------------------------------------------------------------- */

/* Threads of this process that are not ours: they may call in any time. Asked only when a deadlock is suspected. */
static int other_threads(void) {
    return wr_threads_now() - wr_sched.extra_threads - (int)wr_sched.n_ms - (wr_sched.sysmon_made ? 1 : 0);
}

/* sched.lock held; a thread has just gone idle. True: nobody can ever wake anybody. */
static bool deadlocked(void) {
    if (wr_sched.n_running || wr_sched.mode != WR_MODE_MAIN || atomic_load(&wr_sched.main_done) ||
        atomic_load(&wr_sched.stopping) || atomic_load(&wr_sched.foreign) || wr_timers_first() != WR_NEVER ||
        atomic_load(&wr_sched.global_n) || (atomic_load(&wr_sched.live) == 0 && !wr_sched.main_exited))
        return false;
    int n = atomic_load(&wr_sched.made_ps);
    for (int i = 0; i < n; i++)
        if (!wr_queue_empty(wr_sched.ps[i])) return false;
    return other_threads() <= 0;
}

static _Noreturn void report_deadlock(void) {
    const char *sentence = wr_sched.main_exited && atomic_load(&wr_sched.live) == 0
                               ? "no goroutines (main called weir_exit) - deadlock!"
                               : "all goroutines are asleep - deadlock!";
    if (wr_hook_deadlock) wr_hook_deadlock(sentence);
    else wr_warn("fatal error: %s", sentence);
    fflush(NULL); /* what the program has printed is not lost with it */
    _exit(2);
}

/* Work done outside of the workers (sysmon's timers, the start) counts as a running thread, or a worker that goes idle meanwhile
 * would see a deadlock. */
void wr_outside_begin(void) {
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    wr_sched.n_running++;
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
}
void wr_outside_end(void) {
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    wr_sched.n_running--;
    bool dead = wr_sched.n_running == 0 && wr_sched.idle_ms && deadlocked();
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    if (dead) report_deadlock();
}

/* Sleep without a P until woken, or until the earliest timer if nobody else waits for that. */
static void idle(struct m *m) {
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    if (atomic_load_explicit(&m->p, memory_order_relaxed) || atomic_load(&wr_sched.stopping) ||
        (atomic_load_explicit(&wr_sched.global_n, memory_order_relaxed) && wr_sched.idle_ps)) {
        wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
        return;
    }
    weir_time first = wr_timers_first(), until = first;
    for (struct m *other = wr_sched.idle_ms; other; other = other->next_idle)
        if (other->sleeps_until <= first) until = WR_NEVER;
    m->sleeps_until = until;
    m->new_timer = 0;
    m->idle = true;
    m->next_idle = wr_sched.idle_ms;
    wr_sched.idle_ms = m;
    wr_sched.n_running--;
    bool dead = wr_sched.n_running == 0 && deadlocked();
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    if (dead) report_deadlock();

    bool timed = false;
    while (!atomic_load_explicit(&m->wake, memory_order_acquire)) {
        if (until != WR_NEVER && wr_now() >= until) {
            timed = true;
            break;
        }
        wr_futex_wait(&m->wake, 0, until);
    }
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    atomic_store_explicit(&m->wake, 0, memory_order_relaxed);
    if (m->idle) { /* nobody took it out: a timer, or somebody wants it to look at the timers again */
        struct m **at = &wr_sched.idle_ms;
        while (*at != m) at = &(*at)->next_idle;
        *at = m->next_idle;
        m->idle = false;
        wr_sched.n_running++;
        if (atomic_load_explicit(&wr_sched.sysmon_idle, memory_order_relaxed)) wr_sysmon_nudge();
    }
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    /* Firing needs no P: what becomes ready goes to the global queue. So timers fire though every P is busy. */
    if (timed) wr_timers_run_all(wr_now());
}

/* A thread tied to a goroutine runs nothing else: it gives its P away and sleeps until run_locked hands it that goroutine with
 * a P. m->next is written by others under sched.lock only. */
static void idle_locked(struct m *m) {
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    if (m->next || atomic_load(&wr_sched.stopping)) {
        wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
        return;
    }
    struct p *p = atomic_exchange_explicit(&m->p, NULL, memory_order_acq_rel);
    if (p) wr_hand_off(p);
    m->idle = true;
    wr_sched.n_running--;
    bool dead = wr_sched.n_running == 0 && deadlocked();
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    if (dead) report_deadlock();
    while (!atomic_load_explicit(&m->wake, memory_order_acquire)) wr_futex_wait(&m->wake, 0, WR_NEVER);
    atomic_store_explicit(&m->wake, 0, memory_order_relaxed);
}

/* ---- Finding work ---------------------------------------------------------------------------------- */

static void stop_spinning(struct m *m, bool found) {
    if (!m->spinning) return;
    m->spinning = false;
    uint32_t before = atomic_fetch_sub(&wr_sched.spinning, 1);
    if (found && before == 1) wr_wake_worker();
}

/* P is beyond the number in use: what it holds goes to the others. */
static void retire(struct m *m, struct p *p) {
    struct g *g;
    while ((g = wr_ring_pop(p)) || (g = atomic_exchange(&p->runnext, NULL))) {
        wr_lock(&wr_sched.lock, WR_RANK_SCHED);
        wr_global_push(g, g, 1);
        wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    }
    wr_stack_flush(p);
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    atomic_store_explicit(&m->p, NULL, memory_order_release);
    wr_put_idle_p(p); /* weir_procs may have raised the number again */
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    wr_wake_worker();
}

static struct g *steal_some(struct m *m, struct p *p, bool also_next) {
    int n = atomic_load_explicit(&wr_sched.made_ps, memory_order_acquire);
    int start = (int)wr_random_below(&m->random, (uint32_t)n);
    for (int i = 0; i < n; i++) {
        struct p *victim = atomic_load_explicit(&wr_sched.ps[(start + i) % n], memory_order_relaxed);
        if (victim == p) continue;
        struct g *g = wr_steal(p, victim, also_next);
        if (g) return g;
    }
    return NULL;
}

/* A thread that was stuck when its runtime stopped takes no part in the next one. */
static void freeze_if_left(struct m *m) {
    if (wr_unlikely(atomic_load_explicit(&m->frozen, memory_order_acquire)) && !atomic_load(&wr_sched.stopping)) wr_freeze();
}

/* Who runs next: every choice goes through here or through pick_local, its short form. NULL: the runtime stops. */
static struct g *find_runnable(struct m *m) {
    for (;;) {
        if (atomic_load_explicit(&wr_sched.stopping, memory_order_acquire)) return NULL;
        freeze_if_left(m);
        if (m->next) {
            wr_lock(&wr_sched.lock, WR_RANK_SCHED);
            struct g *g = m->next;
            m->next = NULL;
            wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
            return g;
        }
        if (m->locked_g) {
            stop_spinning(m, false);
            idle_locked(m);
            continue;
        }
        struct p *p = atomic_load_explicit(&m->p, memory_order_acquire);
        if (!p) {
            wr_lock(&wr_sched.lock, WR_RANK_SCHED);
            p = atomic_load_explicit(&m->p, memory_order_acquire); /* a retake given back */
            if (!p) atomic_store_explicit(&m->p, p = wr_take_idle_p(), memory_order_release);
            wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
            if (!p) {
                stop_spinning(m, false);
                idle(m);
                continue;
            }
        }
        if (p->id >= atomic_load_explicit(&wr_sched.procs, memory_order_relaxed)) {
            stop_spinning(m, false);
            retire(m, p);
            continue;
        }
        uint32_t tick = p->tick++;
        if (wr_timers_first() != WR_NEVER) {
            weir_time now = wr_now();
            if (tick % 61 == 0 || wr_timers_first() <= now) wr_timers_run_all(now);
        }
        struct g *g = NULL;
        if (atomic_load_explicit(&wr_sched.global_n, memory_order_relaxed) > 0 && tick % 61 == 0) {
            wr_lock(&wr_sched.lock, WR_RANK_SCHED);
            g = wr_global_pop(p);
            wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
        }
        if (!g) g = atomic_exchange_explicit(&p->runnext, NULL, memory_order_acq_rel);
        if (!g) g = wr_ring_pop(p);
        if (!g && atomic_load_explicit(&wr_sched.global_n, memory_order_relaxed) > 0) {
            wr_lock(&wr_sched.lock, WR_RANK_SCHED);
            g = wr_global_pop(p);
            wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
        }
        uint32_t busy = (uint32_t)atomic_load_explicit(&wr_sched.procs, memory_order_relaxed) -
                        atomic_load_explicit(&wr_sched.n_idle_ps, memory_order_relaxed);
        if (!g && (m->spinning || 2 * atomic_load_explicit(&wr_sched.spinning, memory_order_relaxed) < busy)) {
            if (!m->spinning) {
                m->spinning = true;
                atomic_fetch_add(&wr_sched.spinning, 1);
            }
            for (int round = 0; round < 4 && !g; round++) g = steal_some(m, p, round == 3);
        }
        if (g) {
            stop_spinning(m, true);
            return g;
        }

        /* Nothing: give the P up, then look again. */
        wr_lock(&wr_sched.lock, WR_RANK_SCHED);
        if (atomic_load_explicit(&wr_sched.global_n, memory_order_relaxed)) {
            wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
            continue;
        }
        atomic_store_explicit(&m->p, NULL, memory_order_release);
        wr_put_idle_p(p);
        wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
        stop_spinning(m, false);
        wr_fence(); /* idle, fence, look: the other side is in wr_wake_worker */
        if (any_queue()) {
            wr_lock(&wr_sched.lock, WR_RANK_SCHED);
            p = wr_take_idle_p();
            if (p) atomic_store_explicit(&m->p, p, memory_order_release);
            wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
            if (p) {
                m->spinning = true;
                atomic_fetch_add(&wr_sched.spinning, 1);
                continue;
            }
        }
        idle(m);
    }
}

/* The short form, on the stack of the goroutine that leaves: NULL sends it to the long one. */
static struct g *pick_local(struct p *p) {
    uint32_t tick = p->tick;
    if (wr_unlikely(atomic_load_explicit(&wr_sched.stopping, memory_order_relaxed) ||
                    p->id >= atomic_load_explicit(&wr_sched.procs, memory_order_relaxed)))
        return NULL;
    if (wr_unlikely(tick % 61 == 0) &&
        (atomic_load_explicit(&wr_sched.global_n, memory_order_relaxed) > 0 || wr_timers_first() != WR_NEVER))
        return NULL;
    if (wr_unlikely(tick % 16 == 0)) {
        weir_time first = atomic_load_explicit(&p->timers.first, memory_order_relaxed);
        if (first != WR_NEVER && first <= wr_now()) return NULL;
    }
    p->tick = tick + 1;
    struct g *g = atomic_load_explicit(&p->runnext, memory_order_relaxed);
    if (g && (g = atomic_exchange_explicit(&p->runnext, NULL, memory_order_acq_rel))) {
        if (++p->handoffs < WR_NEXT_CAP) return g;
        wr_ring_push(p, g); /* a pair has had its share */
    }
    p->handoffs = 0;
    return wr_ring_pop(p);
}

/* ---- Switching ------------------------------------------------------------------------------------- */

/* Take the goroutine's stack: waits until whoever ran it last has left it, or a walker has let go. */
static void take(struct m *m, struct g *g) {
    uint32_t off = 0;
    for (int spin = 0; wr_unlikely(!atomic_compare_exchange_weak_explicit(&g->on_cpu, &off, 1, memory_order_acquire,
                                                                          memory_order_relaxed));
         spin++, off = 0) {
        if (spin < 200) wr_pause();
        else sched_yield();
    }
    m->g = g;
    __atomic_store_n(&g->m, m, __ATOMIC_RELAXED); /* a dump asks a goroutine that runs for it */
    atomic_store_explicit(&g->state, WR_G_RUNNING, memory_order_release);
    struct p *p = atomic_load_explicit(&m->p, memory_order_relaxed);
    if (p)
        atomic_store_explicit(&p->switches, atomic_load_explicit(&p->switches, memory_order_relaxed) + 1,
                              memory_order_relaxed);
}

/* The first thing done on the stack that was switched to: the one that was left may now be resumed by anybody, or freed. */
void wr_after_switch(void *previous) {
    struct g *g = previous;
    if (!g) return;
    if (wr_unlikely(atomic_load_explicit(&g->state, memory_order_relaxed) == WR_G_DEAD)) {
#ifdef WR_TSAN
        __tsan_destroy_fiber(g->tsan);
#endif
        atomic_store_explicit(&g->on_cpu, 0, memory_order_release);
        struct m *m = wr_m();
        wr_stack_free(atomic_load_explicit(&m->p, memory_order_relaxed), g);
        return;
    }
    atomic_store_explicit(&g->on_cpu, 0, memory_order_release);
}

#if defined(WR_TSAN)
__attribute__((no_sanitize("thread")))
#endif
void wr_schedule_away(struct g *g) {
    struct m *m = wr_m();
    struct p *p = atomic_load_explicit(&m->p, memory_order_acquire);
    if (wr_unlikely(atomic_load_explicit(&m->blocking, memory_order_relaxed))) m->blocking = false; /* its call parks, or ends g */
    struct g *next = p && !g->locked_m ? pick_local(p) : NULL;
    if (next == g) { /* it was made ready, or yielded, and is its own successor */
        atomic_store_explicit(&g->state, WR_G_RUNNING, memory_order_release);
        return;
    }
    if (wr_unlikely(next && next->locked_m)) {
        m->next = next;
        next = NULL;
    }
    void *previous;
    if (next) {
        if (wr_unlikely(m->new_timer)) {
            weir_time when = m->new_timer;
            m->new_timer = 0;
            wr_wake_for_timer(when);
        }
        take(m, next);
#ifdef WR_ASAN
        bool dies = atomic_load_explicit(&g->state, memory_order_relaxed) == WR_G_DEAD;
        __sanitizer_start_switch_fiber(dies ? NULL : &g->asan, next->stack_lo, (size_t)(next->stack_hi - next->stack_lo));
#endif
#ifdef WR_TSAN
        __tsan_switch_to_fiber(next->tsan, 0);
#endif
        previous = wr_switch(&g->sp, next->sp, g);
    } else {
        m->g = NULL;
#ifdef WR_ASAN
        bool dies = atomic_load_explicit(&g->state, memory_order_relaxed) == WR_G_DEAD;
        __sanitizer_start_switch_fiber(dies ? NULL : &g->asan, m->asan_lo, m->asan_size);
#endif
#ifdef WR_TSAN
        __tsan_switch_to_fiber(m->tsan, 0);
#endif
        previous = wr_switch(&g->sp, m->sp, g);
    }
#ifdef WR_ASAN
    __sanitizer_finish_switch_fiber(g->asan, NULL, NULL);
#endif
    wr_after_switch(previous);
}

void wr_requeue_away(struct g *g) {
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    atomic_store_explicit(&g->state, WR_G_RUNNABLE, memory_order_release);
    wr_global_push(g, g, 1);
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    wr_wake_worker();
    wr_schedule_away(g);
}

/* g may run on its own thread only: that thread gets it, and our P. */
static void run_locked(struct m *m, struct g *g) {
    struct m *owner = g->locked_m;
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    struct p *p = atomic_exchange_explicit(&m->p, NULL, memory_order_acq_rel);
    owner->next = g;
    if (owner->idle) { /* asleep in idle_locked, without a P */
        owner->idle = false;
        wr_sched.n_running++;
        atomic_store_explicit(&owner->p, p, memory_order_release);
        wake_m(owner);
    } else if (p) {
        wr_hand_off(p); /* it is on its way there, and finds g before it gives its own P away */
    }
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
}

#if defined(WR_TSAN)
__attribute__((no_sanitize("thread")))
#endif
static void run(struct m *m, struct g *g) {
    take(m, g);
#ifdef WR_ASAN
    __sanitizer_start_switch_fiber(&m->asan, g->stack_lo, (size_t)(g->stack_hi - g->stack_lo));
#endif
#ifdef WR_TSAN
    __tsan_switch_to_fiber(g->tsan, 0);
#endif
    void *previous = wr_switch(&m->sp, g->sp, NULL);
#ifdef WR_ASAN
    __sanitizer_finish_switch_fiber(m->asan, NULL, NULL);
#endif
    wr_after_switch(previous);
}

#define SIGNAL_STACK ((size_t)64 << 10)

static void *m_main(void *arg) {
    struct m *m = arg;
    wr_set_m(m);
    m->tid = (int)syscall(SYS_gettid);
    prctl(PR_SET_TIMERSLACK, 1UL, 0, 0, 0); /* else each sleep is 50 µs late */
    prctl(PR_SET_NAME, "weir", 0, 0, 0);
    stack_t signals = { .ss_size = SIGNAL_STACK, .ss_sp = malloc(SIGNAL_STACK) };
    m->signal_stack = signals.ss_sp;
    if (signals.ss_sp) sigaltstack(&signals, NULL);
#ifdef WR_TSAN
    m->tsan = __tsan_get_current_fiber();
#endif
#ifdef WR_ASAN
    pthread_attr_t attr;
    void *lo;
    pthread_getattr_np(pthread_self(), &attr);
    pthread_attr_getstack(&attr, &lo, &m->asan_size);
    pthread_attr_destroy(&attr);
    m->asan_lo = lo;
#endif
    wr_lock(&wr_sched.lock, WR_RANK_SCHED); /* whoever made this thread has filled it in */
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    for (struct g *g; (g = find_runnable(m));) {
        if (wr_unlikely(m->new_timer)) {
            weir_time when = m->new_timer;
            m->new_timer = 0;
            wr_wake_for_timer(when);
        }
        if (wr_unlikely(g->locked_m && g->locked_m != m)) run_locked(m, g);
        else run(m, g);
    }
    signals.ss_flags = SS_DISABLE;
    sigaltstack(&signals, NULL);
    free(m->signal_stack);
    m->signal_stack = NULL;
    atomic_store_explicit(&m->gone, 1, memory_order_release);
    wr_futex_wake(&m->gone, INT32_MAX);
    return NULL;
}

/* ---- The verbs ------------------------------------------------------------------------------------- */

void wr_wait_init(struct wr_wait *w, enum wr_reason reason, const void *object) {
    atomic_init(&w->decided, 0);
    w->reason = (uint8_t)reason;
    w->cancellable = true;
    w->published = false;
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

static void sleep_foreign(struct g *g) {
    while (!atomic_load_explicit(&g->futex, memory_order_acquire)) wr_futex_wait(&g->futex, 0, WR_NEVER);
    atomic_store_explicit(&g->futex, 0, memory_order_relaxed);
    atomic_store_explicit(&g->state, WR_G_RUNNING, memory_order_release);
}

int wr_park(struct wr_wait *w) { return wr_park_until(w, WR_NEVER); }

int wr_park_until(struct wr_wait *w, weir_time when) {
    struct g *g = w->g;
    int saved_errno = errno;
    bool mine = false; /* nobody will make us ready: we decided ourselves */
    struct wr_cancel *c = w->cancellable ? g->cancel : NULL;
    if (!g->foreign) refuse_in_handler(wr_m(), g);
#ifdef WEIR_DEBUG
    if (wr_ranks_held()) wr_fatal("a goroutine parks with a short lock held");
#endif
    wr_dawdle();
    if (c) {
        wr_lock(&c->lock, WR_RANK_CANCEL);
        int err = atomic_load_explicit(&c->err, memory_order_relaxed);
        if (!err) wr_list_append(&c->waits, &w->in_cancel);
        wr_unlock(&c->lock, WR_RANK_CANCEL);
        if (err) mine = wr_claim(w, err);
    }
    if (when != WR_NEVER && !mine) {
        w->timer.fire = wait_timed_out;
        w->timer.in_lock = true;
        int e = g->foreign ? wr_timer_add(&w->timer, when) : wr_timer_add_parking(&w->timer, when);
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
        if (g->foreign) {
            sleep_foreign(g);
        } else {
            wr_enter(wr_m());
            wr_schedule_away(g);
            wr_leave(wr_m());
        }
    } else {
        atomic_store_explicit(&g->state, WR_G_RUNNING, memory_order_release);
    }
    atomic_store_explicit(&g->wait, NULL, memory_order_release);
    if (when != WR_NEVER) wr_timer_del(&w->timer);
    if (c) {
        wr_lock(&c->lock, WR_RANK_CANCEL);
        if (wr_list_linked(&w->in_cancel)) wr_list_remove(&w->in_cancel);
        wr_unlock(&c->lock, WR_RANK_CANCEL);
    }
    errno = saved_errno;
    return atomic_load_explicit(&w->decided, memory_order_acquire);
}

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
    if (wr_likely(p != NULL)) {
        wr_next_push(p, g);
    } else {
        wr_lock(&wr_sched.lock, WR_RANK_SCHED);
        wr_global_push(g, g, 1);
        wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    }
    if (m) wr_leave(m);
    wr_wake_worker();
}

void wr_ready_all(struct g *first, struct g *last, uint32_t n) {
    struct g *head = NULL, *tail = NULL;
    uint32_t ours = 0;
    last->next = NULL;
    for (struct g *g = first, *next; n > 0 && g; g = next) {
        next = g->next;
        atomic_store_explicit(&g->state, WR_G_RUNNABLE, memory_order_release);
        if (g->foreign) {
            ready_foreign(g);
            continue;
        }
        if (tail) tail->next = g;
        else head = g;
        tail = g;
        ours++;
    }
    if (!head) return;
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    wr_global_push(head, tail, ours);
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    wr_wake_worker();
}

/* ---- Cancelling ------------------------------------------------------------------------------------ */

void wr_cancel_init(struct wr_cancel *c) {
    memset(c, 0, sizeof *c);
    wr_list_init(&c->waits);
}

/* A wait in the list is alive: its goroutine takes it out, under the lock, before it leaves wr_park. */
bool wr_cancel_fire(struct wr_cancel *c, int err) {
    struct g *first = NULL, *last = NULL;
    uint32_t n = 0;
    wr_lock(&c->lock, WR_RANK_CANCEL);
    bool was_open = atomic_load_explicit(&c->err, memory_order_relaxed) == 0;
    if (was_open) {
        atomic_store_explicit(&c->err, err, memory_order_release);
        for (struct wr_list *l; (l = wr_list_pop(&c->waits));) {
            struct wr_wait *w = wr_container(l, struct wr_wait, in_cancel);
            struct g *g = w->g;
            if (!wr_claim(w, err)) continue;
            g->next = NULL;
            if (last) last->next = g;
            else first = g;
            last = g;
            n++;
        }
    }
    wr_unlock(&c->lock, WR_RANK_CANCEL);
    if (n == 1) wr_ready(first);
    else if (n > 1) wr_ready_all(first, last, n);
    return was_open;
}

/* ---- Yield, blocking calls, sleep ------------------------------------------------------------------ */

/* Entered; true: the thread has a P. */
static bool regain_p(struct m *m) {
    if (atomic_load_explicit(&m->p, memory_order_acquire)) return true;
    freeze_if_left(m);
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    struct p *p = atomic_load_explicit(&m->p, memory_order_acquire);
    if (!p && (p = wr_take_idle_p())) atomic_store_explicit(&m->p, p, memory_order_release);
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    return p != NULL;
}

void weir_yield(void) {
    struct m *m = wr_m();
    if (!m || !m->g) {
        sched_yield();
        return;
    }
    struct g *g = m->g;
    int saved_errno = errno;
    wr_dawdle();
    wr_enter(m);
    if (regain_p(m)) {
        struct p *p = atomic_load_explicit(&m->p, memory_order_relaxed);
        if (wr_likely(++p->tick % 16) && wr_queue_empty(p) &&
            !atomic_load_explicit(&wr_sched.global_n, memory_order_relaxed) &&
            !atomic_load_explicit(&wr_sched.stopping, memory_order_relaxed)) {
            wr_leave(m);
            return;
        }
        atomic_store_explicit(&g->state, WR_G_RUNNABLE, memory_order_release);
        wr_ring_push(p, g);
        wr_schedule_away(g);
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
    struct p *p = wr_enter(m);
    if (p) {
        wr_lock(&wr_sched.lock, WR_RANK_SCHED);
        if (atomic_exchange_explicit(&m->p, NULL, memory_order_acq_rel)) wr_hand_off(p);
        wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    }
    atomic_store_explicit(&g->state, WR_G_BLOCKING, memory_order_release);
    m->blocking = true;
    wr_leave(m);
    int result = fn(arg);
    int saved_errno = errno;
    m = wr_m(); /* fn may have parked */
    m->blocking = false;
    if (wr_unlikely(atomic_load_explicit(&m->frozen, memory_order_acquire))) wr_freeze(); /* the runtime stopped meanwhile */
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
