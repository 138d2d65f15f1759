/*
 * sysmon: a thread without a P that looks after the others every few milliseconds. It takes the P away
 * from a thread whose goroutine has not given way for too long, fires timers that everybody was too busy for, keeps the
 * coarse clock, gives idle stacks' pages back, and writes the dump for SIGQUIT. When nothing has
 * run for a second it sleeps until something does.
 */
#include "sched/inner.h"

#include <linux/membarrier.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

void (*wr_hook_quit)(void);
static void (*_Atomic hook_tick)(weir_time now);

/* Who gets stuck just after a look is found out after PERIOD + STUCK, or IDLE_PERIOD + STUCK; with a thread's start this stays below 20 ms.
 * To wake for it is dear where a processor sleeps between two requests: 90 us of its time were measured. */
#define PERIOD (4 * WEIR_MILLISECOND)
#define IDLE_PERIOD (8 * WEIR_MILLISECOND)
#define STUCK (8 * WEIR_MILLISECOND)
#define SOON (100 * WEIR_MICROSECOND)
#define TRIM_EVERY (30 * WEIR_SECOND)

void wr_fence_all(void) {
    if (wr_sched.membarrier) syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
    else wr_fence();
}

/* sched.lock held. The other side, and why this is safe: sched/inner.h. False: the thread is inside the runtime, and keeps its P. */
static bool retake(struct m *m, struct p *p) {
    atomic_store(&m->p, NULL);
    wr_fence_all();
    if (atomic_load(&m->busy)) {
        atomic_store(&m->p, p);
        return false;
    }
    wr_hand_off(p);
    return true;
}

/* True: one is stuck that was inside the runtime just now, as one that calls weir all the time often is. Look again soon. */
static bool retake_stuck(weir_time now) {
    bool again = false;
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    for (struct m *m = wr_sched.all_ms; m; m = m->next_m) {
        struct p *p = atomic_load_explicit(&m->p, memory_order_acquire);
        if (!p || m->idle) continue;
        uint32_t switches = atomic_load_explicit(&p->switches, memory_order_relaxed);
        if (switches != p->seen_switches || !p->seen_since) {
            p->seen_switches = switches;
            p->seen_since = now;
            continue;
        }
        if (now - p->seen_since < STUCK) continue;
        if (wr_queue_empty(p) && !atomic_load_explicit(&wr_sched.global_n, memory_order_relaxed) &&
            atomic_load_explicit(&p->timers.first, memory_order_relaxed) > now)
            continue;
        if (!atomic_load_explicit(&m->busy, memory_order_relaxed) && retake(m, p)) p->seen_since = now;
        else again = true;
    }
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    return again;
}

/* Nobody has asked the poller since last time: an idle thread shall, if there is a P for it, or else we do. */
static void see_to_poller(void) {
    static uint32_t seen;
    uint32_t polls = atomic_load_explicit(&wr_sched.polls, memory_order_relaxed);
    bool stale = polls == seen;
    seen = polls;
    if (!stale || !atomic_load(&wr_sched.waiting) || atomic_load(&wr_sched.poller)) return;
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    bool idle = wr_sched.idle_ms && wr_sched.idle_ps;
    if (idle) wr_see_to_poller();
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    if (idle) return;
    wr_outside_begin();
    struct wr_batch polled = { 0 };
    wr_poll(0, WR_EVENTS, &polled);
    wr_ready_all(&polled);
    wr_outside_end();
}

/* sched.lock held. A P is idle, somebody asks the poller, if anybody waits for it, and somebody keeps the time: who is ready waits for nobody,
 * whoever computes. */
static bool looked_after(void) {
    if (!wr_sched.idle_ps || (atomic_load(&wr_sched.waiting) && !atomic_load(&wr_sched.poller))) return false;
    weir_time first = wr_timers_first();
    bool kept = first == WR_NEVER;
    for (struct m *m = wr_sched.idle_ms; m && !kept; m = m->next_idle) kept = m->sleeps_until <= first;
    return kept;
}

void *wr_sysmon_main(void *arg) {
    (void)arg;
    uintptr_t hi;
    wr_thread_stack(&wr_sched.sysmon_stack_lo, &hi);
    wr_sched.sysmon_stack_base = (uintptr_t)__builtin_frame_address(0);
    wr_sched.sysmon_tid = (int)syscall(SYS_gettid);
    prctl(PR_SET_NAME, "weir sysmon", 0, 0, 0);
    weir_time last_busy = wr_now(), last_trim = last_busy;
    uint32_t seen_fired = 0;
    while (!atomic_load(&wr_sched.stopping)) {
        uint32_t seen = atomic_load(&wr_sched.sysmon_wake);
        weir_time now = wr_now();
        atomic_store_explicit(&wr_sched.coarse, now, memory_order_relaxed);
        if (atomic_load(&wr_sched.quit)) {
            atomic_store(&wr_sched.quit, 0);
            if (wr_hook_quit) wr_hook_quit();
        }
        uint32_t fired = atomic_load_explicit(&wr_sched.timers_fired, memory_order_relaxed);
        bool stale = fired == seen_fired;
        seen_fired = fired;
        if (stale && wr_timers_first() < now - WEIR_MILLISECOND) { /* else somebody is at work on them, between goroutines */
            wr_outside_begin();
            wr_timers_run_all(now, WR_EVENTS); /* no more at once than there is room for elsewhere: each has a stack from then on */
            wr_outside_end();
            seen_fired = atomic_load_explicit(&wr_sched.timers_fired, memory_order_relaxed);
        }
        see_to_poller();
        void (*tick)(weir_time) = atomic_load_explicit(&hook_tick, memory_order_acquire);
        if (tick) tick(now);
        weir_duration pause = retake_stuck(now) ? SOON : PERIOD;
        if (now - last_trim >= TRIM_EVERY) {
            wr_stacks_trim();
            last_trim = now;
        }
        wr_lock(&wr_sched.lock, WR_RANK_SCHED);
        if (wr_sched.n_running > 0) last_busy = now;
        if (pause == PERIOD && looked_after()) pause = IDLE_PERIOD;
        /* Idle threads keep the time among them; those that are tied to a goroutine do not. model/timer.pml */
        bool kept = wr_sched.idle_ms || (wr_timers_first() == WR_NEVER && !atomic_load(&wr_sched.waiting));
        bool rest = now - last_busy > WEIR_SECOND && now - last_trim > TRIM_EVERY / 2 && kept && !tick;
        /* Under the lock that every thread takes when it starts to run, and then reads this. */
        if (rest) atomic_store(&wr_sched.sysmon_idle, 1);
        wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
        if (rest) { /* a thread that was taken for one that may call in may have ended since: look for a deadlock once more */
            wr_outside_begin();
            wr_outside_end();
        }
        wr_futex_wait(&wr_sched.sysmon_wake, seen, rest ? WR_NEVER : now + pause);
        if (rest) {
            atomic_store(&wr_sched.sysmon_idle, 0);
            last_busy = wr_now();
        }
    }
    return NULL;
}

void wr_sysmon_nudge(void) {
    atomic_store(&wr_sched.sysmon_idle, 0);
    atomic_fetch_add(&wr_sched.sysmon_wake, 1);
    wr_futex_wake(&wr_sched.sysmon_wake, 1);
}

void wr_sysmon_tick(void (*tick)(weir_time now)) {
    atomic_store(&hook_tick, tick);
    wr_sysmon_nudge();
}

void wr_sysmon_poke(void) {
    atomic_fetch_add(&wr_sched.quit, 1);
    wr_sysmon_nudge();
}

int wr_sysmon_start(void) {
    wr_sched.membarrier = syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, (size_t)1 << 20);
    int e = pthread_create(&wr_sched.sysmon, &attr, wr_sysmon_main, NULL);
    pthread_attr_destroy(&attr);
    wr_sched.sysmon_made = e == 0;
    return -e;
}

void wr_sysmon_stop(void) {
    if (!wr_sched.sysmon_made) return;
    wr_sysmon_nudge();
    wr_thread_join(wr_sched.sysmon, &wr_sched.sysmon_tid);
    wr_sched.sysmon_made = false;
}
