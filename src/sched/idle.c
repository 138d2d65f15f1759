/*
 * Waking and idling: which thread sleeps and who ends that. The argument that no wake-up is lost is in worker.c; all lists here
 * are guarded by sched.lock. Who keeps the time: model/timer.pml; who asks the poller: model/poller.pml.
 */
#include "sched/inner.h"

#include <stdlib.h>
#include <unistd.h>

void (*wr_hook_deadlock)(const char *sentence);

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

/* Take an idle thread, rather not the one that keeps the time, nor the one that sleeps in the poller. */
static struct m *take_idle_m(void) {
    struct m **at = &wr_sched.idle_ms, **best = NULL;
    struct m *poller = atomic_load_explicit(&wr_sched.poller, memory_order_relaxed);
    for (; *at; at = &(*at)->next_idle) {
        bool free = (*at)->sleeps_until == WR_NEVER && *at != poller;
        if (!best || free) best = at;
        if (free) break;
    }
    if (!best) return NULL;
    struct m *m = *best;
    *best = m->next_idle;
    m->idle = false;
    wr_sched.n_running++;
    return m;
}

/*
 * It sleeps on its futex, or in the poller. Which, it says before it looks at `wake` for the last time (wr_idle: poller = m; then
 * wake?); we write `wake` and then look. Both sequentially consistent, so it finds `wake`, or we find it to be the poller.
 */
void wr_wake_m(struct m *m) {
    wr_tally_shared(WR_WAKES);
    atomic_store(&m->wake, 1);
    if (atomic_load(&wr_sched.poller) == m) wr_poll_interrupt();
    else wr_futex_wake(&m->wake, 1);
}

static struct m *m_new(struct p *p, bool spinning) {
    struct m *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    atomic_store_explicit(&m->p, p, memory_order_relaxed);
    m->spinning = spinning;
    atomic_store_explicit(&m->busy, 1, memory_order_relaxed);
    m->random = (uint64_t)wr_now() ^ (uint64_t)(uintptr_t)m;
    m->until_timed = 1 + (uint32_t)m->random % WR_LATENCY_EVERY;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, (size_t)512 << 10);
    /* No signal before it has a signal stack; and who stops the world is to find it at work, not with the registers of its maker. */
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &m->mask);
    int e = pthread_create(&m->thread, &attr, wr_m_main, m);
    pthread_sigmask(SIG_SETMASK, &m->mask, NULL);
    pthread_attr_destroy(&attr);
    if (e) {
        free(m);
        return NULL;
    }
    m->next_m = wr_sched.all_ms;
    wr_sched.all_ms = m;
    wr_sched.n_ms++;
    wr_sched.n_running++;
    wr_tally_shared(WR_THREADS);
    return m;
}

bool wr_start_m(struct p *p, bool spinning) {
    struct m *m = take_idle_m();
    if (m) {
        atomic_store_explicit(&m->p, p, memory_order_release);
        m->spinning = spinning;
        wr_wake_m(m);
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

/* Where all Ps are busy, those who own them fire what is due, as they come to run it; who sleeps without a P sees only that it is not later
 * than this. Else it would make ready in no time what then lies in queues, all with stacks of their own. */
#define LATE WEIR_MILLISECOND

/* sched.lock held. The idle thread that sleeps the shortest; NULL: there is none. */
static struct m *who_keeps_time(void) {
    struct m *keeper = NULL;
    for (struct m *m = wr_sched.idle_ms; m; m = m->next_idle)
        if (!keeper || m->sleeps_until < keeper->sleeps_until) keeper = m;
    return keeper;
}

/* Somebody must wake by then: the keeper if it sleeps longer, else any idle thread, which becomes the keeper, else a new one. Where
 * every P is busy, those who own them look between two goroutines, and sysmon when they are late. */
void wr_wake_for_timer(weir_time when) {
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    struct m *keeper = who_keeps_time();
    if (keeper && keeper->sleeps_until - (wr_sched.idle_ps ? 0 : LATE) > when)
        wr_wake_m(keeper); /* stays in the list: it comes out by itself */
    struct p *p = keeper || atomic_load_explicit(&wr_sched.stopping, memory_order_relaxed) ? NULL : wr_take_idle_p();
    if (p) wr_start_m(p, false);
    if (atomic_load_explicit(&wr_sched.sysmon_idle, memory_order_relaxed)) wr_sysmon_nudge();
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
}

bool wr_any_queue(void) {
    int n = atomic_load_explicit(&wr_sched.made_ps, memory_order_acquire);
    for (int i = 0; i < n; i++)
        if (!wr_queue_empty(atomic_load_explicit(&wr_sched.ps[i], memory_order_relaxed))) return true;
    return atomic_load_explicit(&wr_sched.global_n, memory_order_relaxed) > 0;
}

static bool unpolled(void) { return atomic_load(&wr_sched.waiting) && !atomic_load(&wr_sched.poller); }

/* Something to run, or a time to keep, or the poller to ask, and nobody idle who does: whoever gets the P finds nothing, and is the
 * keeper then. */
static bool has_work(void) { return wr_any_queue() || (!wr_sched.idle_ms && (wr_timers_first() != WR_NEVER || unpolled())); }

void wr_see_to_poller(void) {
    if (!unpolled() || !wr_sched.idle_ps || atomic_load_explicit(&wr_sched.stopping, memory_order_relaxed)) return;
    struct p *p;
    if (wr_sched.idle_ms) wr_wake_m(wr_sched.idle_ms); /* stays in the list: it comes out by itself, looks, and goes to sleep there */
    else if ((p = wr_take_idle_p())) wr_start_m(p, false);
}

void wr_hand_off(struct p *p) {
    wr_tally_shared(WR_HANDOFFS);
    bool stopping = atomic_load_explicit(&wr_sched.stopping, memory_order_relaxed);
    if (!stopping && has_work()) {
        wr_start_m(p, false);
        return;
    }
    wr_put_idle_p(p);
    wr_fence(); /* idle, fence, look, as in find_runnable */
    if (!stopping && wr_any_queue() && (p = wr_take_idle_p())) {
        wr_start_m(p, false);
        return;
    }
    struct m *keeper = who_keeps_time(); /* when it went to sleep no P was idle, perhaps: see LATE */
    if (keeper && keeper->sleeps_until > wr_timers_first()) wr_wake_m(keeper);
    wr_see_to_poller();
}

/* ---- Idling ---------------------------------------------------------------------------------------- */

/* Threads of this process that are not ours: they may call in any time. Asked only when a deadlock is suspected. */
static int other_threads(void) {
    return wr_threads_now() - wr_sched.extra_threads - (int)wr_sched.n_ms - (wr_sched.sysmon_made ? 1 : 0);
}

/* sched.lock held; a thread has just gone idle. True: nobody can ever wake anybody. */
static bool deadlocked(void) {
    if (wr_sched.n_running || wr_sched.mode != WR_MODE_MAIN || atomic_load(&wr_sched.main_done) ||
        atomic_load(&wr_sched.stopping) || atomic_load(&wr_sched.foreign) || atomic_load(&wr_sched.waiting) ||
        wr_timers_first() != WR_NEVER ||
        atomic_load(&wr_sched.global_n) || (wr_goroutines_locked() == 0 && !wr_sched.main_exited))
        return false;
    int n = atomic_load(&wr_sched.made_ps);
    for (int i = 0; i < n; i++)
        if (!wr_queue_empty(wr_sched.ps[i])) return false;
    /* Somebody stopped waiting for the poller while one sleeps there, who has what it brought in hand, perhaps (a signal's receiver, where
     * weir_signal_stop came meanwhile). It comes out, sleeps elsewhere when it has nothing, and looks for a deadlock then. */
    struct m *poller = atomic_load(&wr_sched.poller);
    if (poller) wr_wake_m(poller);
    return !poller && other_threads() <= 0;
}

static _Noreturn void report_deadlock(void) {
    const char *sentence = wr_sched.main_exited && wr_goroutines() == 0
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
    wr_sched.n_running++, wr_sched.n_outside++;
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
}
void wr_outside_end(void) {
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    wr_sched.n_running--, wr_sched.n_outside--;
    bool dead = wr_sched.n_running == 0 && wr_sched.idle_ms && deadlocked();
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    if (dead) report_deadlock();
}

_Noreturn void wr_blocking_left(struct m *m) {
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    bool counted = m->left_blocking;
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    if (counted) wr_outside_end();
    wr_freeze();
}

/* Sleep without a P until woken, or until the earliest timer if nobody else waits for that; in the poller, if nobody else does, somebody
 * waits for a descriptor, and a P is idle. Where all Ps are busy, those who own them ask: what came to a sleeper would only go to them, by
 * way of the global queue, and two more context switches. */
void wr_idle(struct m *m) {
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    if (atomic_load_explicit(&m->p, memory_order_relaxed) || atomic_load(&wr_sched.stopping) ||
        (atomic_load_explicit(&wr_sched.global_n, memory_order_relaxed) && wr_sched.idle_ps)) {
        wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
        return;
    }
    weir_time first = wr_timers_first(), until = first;
    if (first != WR_NEVER && !wr_sched.idle_ps && until < wr_after(LATE)) until = wr_after(LATE);
    for (struct m *other = wr_sched.idle_ms; other; other = other->next_idle)
        if (other->sleeps_until <= first) until = WR_NEVER;
    bool polls = unpolled() && wr_sched.idle_ps;
    if (polls) atomic_store(&wr_sched.poller, m);
    m->sleeps_until = until;
    m->new_timer = 0;
    atomic_store_explicit(&m->idle_since, atomic_load_explicit(&wr_sched.coarse, memory_order_relaxed), memory_order_relaxed);
    m->idle = true;
    m->next_idle = wr_sched.idle_ms;
    wr_sched.idle_ms = m;
    wr_sched.n_running--;
    bool dead = wr_sched.n_running == 0 && deadlocked();
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    if (dead) report_deadlock();

    bool timed = false;
    struct wr_batch polled = { 0 };
    while (!atomic_load(&m->wake) && !polled.n) {
        if (until != WR_NEVER && wr_now() >= until) {
            timed = true;
            break;
        }
        if (polls) wr_poll(until, WR_EVENTS, &polled);
        else wr_futex_wait(&m->wake, 0, until);
    }
    struct p *p = NULL;
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    if (polls) atomic_store(&wr_sched.poller, NULL);
    atomic_store_explicit(&m->idle_since, 0, memory_order_relaxed);
    atomic_store_explicit(&m->wake, 0, memory_order_relaxed);
    if (m->idle) { /* nobody took it out: a timer, or somebody wants it to look at the timers again */
        struct m **at = &wr_sched.idle_ms;
        while (*at != m) at = &(*at)->next_idle;
        *at = m->next_idle;
        m->idle = false;
        wr_sched.n_running++;
        if (atomic_load_explicit(&wr_sched.sysmon_idle, memory_order_relaxed)) wr_sysmon_nudge();
    }
    if (polled.n) { /* what it has brought goes to a P, if there is an idle one, or to everybody */
        p = atomic_load_explicit(&m->p, memory_order_relaxed);
        if (!p && (p = wr_take_idle_p())) atomic_store_explicit(&m->p, p, memory_order_release);
    }
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    /* Firing needs no P: what becomes ready goes to the global queue. So timers fire though every P is busy. */
    if (timed) wr_timers_run_all(wr_now(), WR_EVENTS);
    struct wr_batch ours = wr_batch_mark(&polled, UINT32_MAX);
    if (!ours.n) return;
    if (ours.n > 1) m->polled_in_vain = 0;
    if (p) {
        wr_ring_push_all(p, &ours);
        return;
    }
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    wr_global_push(&ours);
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    wr_wake_worker();
}

/* A thread tied to a goroutine runs nothing else: it gives its P away and sleeps until run_locked hands it that goroutine with
 * a P. m->next is written by others under sched.lock only. */
void wr_idle_locked(struct m *m) {
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

