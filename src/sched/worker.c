/*
 * Workers: the loop that finds the next goroutine, the switch, park and ready, idling and waking.
 *
 * Lost wake-ups. Work is published (pushed on a queue) by one side; the other goes idle. Both then look at what the other wrote:
 *
 *   publisher (wr_ready, wr_spawn):   push;                              fence;  idle Ps and no spinner?  -> wake one
 *   worker going idle (find_runnable): P to the idle list, spinning - 1;  fence;  look at every queue again
 *
 * The publisher's fence is the sequentially consistent read-modify-write with which it pushes (runnext is exchanged, global_n is added to),
 * the worker's is explicit. With both at least one of the two sees the other: either the publisher finds a P idle and nobody spinning, and
 * wakes; or the worker finds the queue non-empty, and takes a P back. Take either fence away and each may read the old value; the goroutine
 * then lies in a queue while a processor sleeps. model/park.pml checks this.
 *
 * Spinning. A thread that looks for work without having any is spinning. While one spins nobody is woken: it will find what
 * was published. So that a burst is not served by one thread alone, the last spinner that finds work wakes another
 * before it runs it. At most half as many threads spin as Ps are busy.
 *
 * The poller. Each busy P asks it now and then, and when it has nothing to run; where a P is idle, one of the idle threads sleeps in it.
 * That one is not woken for an edge's sake: it takes what came and runs it, and who runs dry next sleeps there. Where all are busy
 * with goroutines that do not give way, sysmon asks.
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

WR_PRIVATE struct sched wr_sched = { .timers.first = WR_NEVER, .next_id = 2, .default_stack = (size_t)256 << 10, .gdb = weir_gdb_ };

void (*_Atomic wr_hook_thread)(int tid);

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
    if (!m && !foreign_random) foreign_random = (uint64_t)wr_now() ^ (uint64_t)(uintptr_t)&foreign_random;
    return wr_random_below(m ? &m->random : &foreign_random, n);
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
    while ((g = wr_ring_pop(p)) || (g = atomic_exchange(&p->runnext, NULL))) wr_global_push_one(g);
    wr_stack_flush(p);
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    atomic_store_explicit(&m->p, NULL, memory_order_release);
    wr_put_idle_p(p); /* weir_procs may have raised the number again */
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    wr_wake_worker();
}

static uint32_t busy_ps(void) {
    return (uint32_t)atomic_load_explicit(&wr_sched.procs, memory_order_relaxed) -
           atomic_load_explicit(&wr_sched.n_idle_ps, memory_order_relaxed);
}

/* About what it takes until a thread that is woken runs, and the thread that wakes it goes on. */
#define A_WAKING (30 * WEIR_MICROSECOND)

static void work_again(struct m *m) {
    if (wr_likely(!m->idle_at)) return;
    weir_time gap = wr_now() - m->idle_at;
    m->gap += ((gap < 4 * A_WAKING ? gap : 4 * A_WAKING) - m->gap) / 4;
    m->idle_at = 0;
}

static struct g *steal_some(struct m *m, struct p *p, bool also_next) {
    int n = atomic_load_explicit(&wr_sched.made_ps, memory_order_acquire);
    int start = (int)wr_random_below(&m->random, (uint32_t)n);
    for (int i = 0; i < n; i++) {
        struct p *victim = atomic_load_explicit(&wr_sched.ps[(start + i) % n], memory_order_relaxed);
        if (victim == p) continue;
        struct g *g = wr_steal(p, victim, also_next);
        if (!g) continue;
        wr_tally(m, WR_STEALS);
        return g;
    }
    return NULL;
}

/* A thread that was stuck when its runtime stopped takes no part in the next one. */
void wr_freeze_if_left(struct m *m) {
    if (wr_unlikely(atomic_load_explicit(&m->frozen, memory_order_acquire)) && !atomic_load(&wr_sched.stopping)) wr_freeze();
}

/* A timer was set by a goroutine that parked: this thread will not keep the time, so somebody else must know. */
static inline void tell_new_timer(struct m *m) {
    if (wr_likely(!m->new_timer)) return;
    weir_time when = m->new_timer;
    m->new_timer = 0;
    wr_wake_for_timer(when);
}

/*
 * How many are made ready at once by what is due, or has come. No more than the ring has room for: the oldest there would be sent behind all
 * others, and fetched from memory once more; and each goroutine that a timer starts has a stack from then on. Who waits waits as well in the
 * heap, or in the kernel. Even where the ring stays full it is a few.
 */
#define A_FEW 4
static int room(struct p *p) {
    uint32_t n = wr_ring_count(p);
    return n < WR_RING / 2 ? (int)(WR_RING / 2 - n) : A_FEW;
}

/* To ask it before going to sleep in it is a system call more. That pays where much comes; after so many in vain it is done now and then. */
#define IN_VAIN 4

/* Ask the poller without sleeping there, unless somebody does. False: nothing came. */
static bool poll_now(struct p *p) {
    if (wr_likely(!atomic_load_explicit(&wr_sched.waiting, memory_order_relaxed)) ||
        atomic_load_explicit(&wr_sched.poller, memory_order_relaxed))
        return false;
    struct wr_batch polled = { 0 };
    wr_poll(0, room(p), &polled);
    struct wr_batch ours = wr_batch_mark(&polled, UINT32_MAX); /* an event may wake several */
    if (!ours.n) return false;
    wr_ring_push_all(p, &ours);
    return true;
}

/*
 * Look at the others' queues; and, where that pays, for as long as to sleep and to be woken would cost: while others are at work, and if
 * there was something to do again within that time, whether found in here or woken for, the last times that this thread had nothing.
 */
static struct g *look_around(struct m *m, struct p *p) {
    struct g *g;
    for (int round = 0; round < 4; round++)
        if ((g = steal_some(m, p, round == 3))) return g;
    if (m->gap >= A_WAKING) return NULL;
    weir_time until = m->idle_at + A_WAKING;
    while (wr_now() < until && busy_ps() > 1 && !atomic_load_explicit(&wr_sched.global_n, memory_order_relaxed) &&
           wr_timers_first() > until && !atomic_load_explicit(&wr_sched.stopping, memory_order_relaxed)) {
        for (int i = 0; i < 20; i++) wr_pause();
        if ((g = steal_some(m, p, false))) return g;
    }
    return steal_some(m, p, true);
}

/* Who runs next: every choice goes through here or through pick_local, its short form. NULL: the runtime stops. */
static struct g *find_runnable(struct m *m) {
    for (;;) {
        if (atomic_load_explicit(&wr_sched.stopping, memory_order_acquire)) return NULL;
        wr_freeze_if_left(m);
        if (m->next) {
            wr_lock(&wr_sched.lock, WR_RANK_SCHED);
            struct g *g = m->next;
            m->next = NULL;
            wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
            work_again(m);
            return g;
        }
        if (m->locked_g) {
            stop_spinning(m, false);
            tell_new_timer(m);
            wr_idle_locked(m);
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
                wr_idle(m);
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
            if (tick % 61 == 0 || wr_timers_first() <= now) wr_timers_run_all(now, room(p));
        }
        if (tick % 61 == 0) poll_now(p);
        struct g *g = NULL;
        if (atomic_load_explicit(&wr_sched.global_n, memory_order_relaxed) > 0 && tick % 61 == 0) g = wr_global_pop(p);
        if (!g && atomic_load_explicit(&p->runnext, memory_order_relaxed)) g = atomic_exchange_explicit(&p->runnext, NULL, memory_order_acq_rel);
        if (!g) g = wr_ring_pop(p);
        if (!g && atomic_load_explicit(&wr_sched.global_n, memory_order_relaxed) > 0) g = wr_global_pop(p);
        if (!g && (m->polled_in_vain < IN_VAIN || tick % 16 == 0)) {
            if (poll_now(p)) m->polled_in_vain = 0, g = wr_ring_pop(p);
            else if (m->polled_in_vain < IN_VAIN) m->polled_in_vain++;
        }
        /* Where no other P is at work there is nothing to be had from one, and the last look, below, is enough. */
        uint32_t busy = busy_ps();
        if (!g && (m->spinning || (busy > 1 && 2 * atomic_load_explicit(&wr_sched.spinning, memory_order_relaxed) < busy))) {
            if (!m->spinning) {
                m->spinning = true;
                atomic_fetch_add(&wr_sched.spinning, 1);
            }
            if (!m->idle_at) m->idle_at = wr_now();
            g = look_around(m, p);
        }
        if (g) {
            work_again(m);
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
        if (wr_any_queue()) {
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
        wr_idle(m);
    }
}

/* The short form, on the stack of the goroutine that leaves: NULL sends it to the long one. */
static struct g *pick_local(struct p *p) {
    uint32_t tick = p->tick;
    if (wr_unlikely(atomic_load_explicit(&wr_sched.stopping, memory_order_relaxed) ||
                    p->id >= atomic_load_explicit(&wr_sched.procs, memory_order_relaxed)))
        return NULL;
    if (wr_unlikely(tick % 61 == 0) &&
        (atomic_load_explicit(&wr_sched.global_n, memory_order_relaxed) > 0 || wr_timers_first() != WR_NEVER ||
         atomic_load_explicit(&wr_sched.waiting, memory_order_relaxed)))
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

#define TAKE_SPINS 200

/* on_cpu has been set, and somebody walks: the other side is in wr_hold. */
static __attribute__((noinline, cold)) bool not_held(struct g *g) {
    wr_fence();
    if (!atomic_load_explicit(&g->held, memory_order_acquire)) return true;
    atomic_store_explicit(&g->on_cpu, 0, memory_order_release);
    return false;
}

/*
 * Take the goroutine's stack, if whoever ran it last leaves it soon, and no walker has it. Nobody else wants it: it was in one queue, once.
 * So on_cpu needs no locked instruction, but for walkers, who are rare:
 *
 *   here:                       on_cpu = 1;   light fence;  walks?  -> fence; held?  -> on_cpu = 0, again
 *   wr_walk_begin, wr_hold:     walks + 1;    fence for all;           held = 1; fence; on_cpu?  -> held = 0, it runs
 *
 * Who finds no walks has set on_cpu before the fence for all, and every wr_hold that follows sees it. Who finds some is one side of two
 * stores and two loads with a full fence in between, as wr_hold is: at least one of them sees the other. model/on_cpu.pml
 */
static bool take_soon(struct g *g) {
    for (int spin = 0; spin < TAKE_SPINS; spin++) {
        if (wr_likely(!atomic_load_explicit(&g->on_cpu, memory_order_acquire))) {
            atomic_store_explicit(&g->on_cpu, 1, memory_order_relaxed);
            wr_fence_light();
            if (wr_likely(!atomic_load_explicit(&wr_sched.walks, memory_order_acquire)) || not_held(g)) return true;
        }
        wr_pause();
    }
    return false;
}

static void taken(struct m *m, struct g *g) {
    m->g = g;
    __atomic_store_n(&g->m, m, __ATOMIC_RELAXED); /* a dump asks a goroutine that runs for it */
    atomic_store_explicit(&g->state, WR_G_RUNNING, memory_order_release);
    if (wr_unlikely(g->ready_at)) wr_ready_runs(m, g);
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
        bool main = g->main && !g->exiting;
        atomic_store_explicit(&g->on_cpu, 0, memory_order_release);
        wr_stack_free(atomic_load_explicit(&wr_m()->p, memory_order_relaxed), g);
        if (wr_unlikely(main)) wr_main_gone();
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
        if (wr_unlikely(g->ready_at)) wr_ready_runs(m, g);
        return;
    }
    /* The next one may still be on its own stack, on a thread that waits for ours: it was made ready before it had parked, as
     * we were. So there is no waiting for long here, but on the thread's own stack, with ours left. model/on_cpu.pml */
    if (next && wr_unlikely(next->locked_m || !take_soon(next))) {
        m->next = next;
        next = NULL;
    }
    void *previous;
    if (next) {
        tell_new_timer(m);
        taken(m, next);
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
    atomic_store_explicit(&g->state, WR_G_RUNNABLE, memory_order_release);
    wr_global_push_one(g);
    wr_wake_worker();
    wr_schedule_away(g);
}

/* g may run on its own thread only: that thread gets it, and our P. */
static void run_locked(struct m *m, struct g *g) {
    struct m *owner = g->locked_m;
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    struct p *p = atomic_exchange_explicit(&m->p, NULL, memory_order_acq_rel);
    owner->next = g;
    if (owner->idle) { /* asleep in wr_idle_locked, without a P */
        owner->idle = false;
        wr_sched.n_running++;
        atomic_store_explicit(&owner->p, p, memory_order_release);
        wr_wake_m(owner);
    } else if (p) {
        wr_hand_off(p); /* it is on its way there, and finds g before it gives its own P away */
    }
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
}

#if defined(WR_TSAN)
__attribute__((no_sanitize("thread")))
#endif
static void run(struct m *m, struct g *g) {
    while (!take_soon(g)) sched_yield();
    taken(m, g);
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

void *wr_m_main(void *arg) {
    struct m *m = arg;
    wr_set_m(m);
    m->tid = (int)syscall(SYS_gettid);
    wr_thread_stack(&m->stack_lo, &m->stack_hi);
    m->stack_base = (uintptr_t)__builtin_frame_address(0);
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
    wr_signal_unblock(&m->mask);
    wr_lock(&wr_sched.lock, WR_RANK_SCHED); /* whoever made this thread has filled it in */
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    void (*hook)(int) = atomic_load_explicit(&wr_hook_thread, memory_order_acquire);
    if (hook) hook(m->tid);
    for (struct g *g; (g = find_runnable(m));) {
        tell_new_timer(m);
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

