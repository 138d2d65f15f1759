/*
 * profile: what a program does with its time, in numbers. contention.c has the block and mutex profiles of include/weir/profile.h, cpu.c
 * and threads.c the CPU profile, stacks.c the table in which all three count by stack, metrics.c the counters. For the leak
 * room above, and for the debug library.
 *
 * A stack is a list of addresses, innermost first, each to be looked up one byte before itself, as wr_symbol does. What is left out
 * at its inner end is what dumps leave out: weir's own, but for the public call.
 */
#ifndef WR_PROFILE_H
#define WR_PROFILE_H

#include "base/base.h"
#include "sched/sched.h"

#pragma GCC visibility push(hidden)

/* ---- Contention (contention.c) --------------------------------------------------------------------------- */

enum wr_profile { WR_PROFILE_BLOCK, WR_PROFILE_MUTEX };

/*
 * Call visit for each stack that has been recorded since the process began: `count` events that took `nanoseconds` in all, those
 * that sampling has left out made up for. pcs are valid in the call alone. Events for which there was no room come last, on a stack of
 * one, wr_profile_table_is_full. Recording goes on meanwhile. Holds no locks while it visits; needs up to 1 MiB of mapping for
 * names. Any thread, also while no runtime runs. Returns how many stacks.
 */
size_t wr_profile_each(enum wr_profile which,
                       void (*visit)(const uintptr_t *pcs, size_t n, uint64_t count, uint64_t nanoseconds, void *arg), void *arg);

/* Stands for the stacks that there was no room for. Never called. */
void wr_profile_table_is_full(void);

/* ---- CPU (cpu.c) ------------------------------------------------------------------------------------------- */

/*
 * Look `hz` times in each second of CPU time at what each thread of the process does; threads that start meanwhile are looked at too.
 * 0; -EBUSY: a profile is being taken, or the program has a handler of its own for SIGPROF; -EINVAL: hz is not 1 to 1000;
 * -ENOMEM; -EAGAIN: the kernel has no timers left, or there is no /proc. A thread that blocks SIGPROF is not seen. The kernel looks at the timers at each
 * of its ticks, 250 or 1000 times a second, so that is the most there can be. Any thread, also while no runtime runs.
 */
int wr_cpu_profile_start(int hz);

/*
 * End it, and call visit for each stack (with the same labels) that was seen: so many samples, which stand for so many nanoseconds of
 * CPU time. labels is {"k":"v", …} as in snapshots, "" for none. pcs[0] is the address + 1 of the instruction that was to be executed next.
 * Nothing is left out of the stacks. Samples for which there was no room come last, as above. pcs and labels are valid in the call
 * alone. 0; -EINVAL: none is being taken in this process (a forked child takes no part in its parent's). visit NULL: all is dropped.
 */
int wr_cpu_profile_stop(void (*visit)(const uintptr_t *pcs, size_t n, uint64_t samples, uint64_t nanoseconds, const char *labels,
                                      void *arg),
                        void *arg);

/* ---- Counters (metrics.c) ----------------------------------------------------------------------------------- */

enum { WR_METRIC_SITES = 32 };

/* How many goroutines that live have been started there. */
struct wr_metric_site {
    const struct weir_site_ *site;   /* NULL: the main goroutine */
    uint64_t count;
};

/* Proofs of leaks, by whomever. */
struct wr_proofs {
    uint64_t n;                      /* that came to a result; 0: what follows says nothing */
    weir_time at;                    /* when the last of them ended */
    uint64_t leaked;                 /* how many goroutines it found */
    weir_duration took;
    weir_duration paused;            /* for how long it stopped the process */
    uint64_t inconclusive;           /* those that came to none */
};

/* What weir_watch_count has been told, and how often it has called. */
struct wr_watched {
    bool now;                        /* somebody watches; if not, threshold says nothing */
    size_t threshold;
    uint64_t exceeded;               /* in total */
};

/* "In total" is since the process began, through all runs of the runtime; all else is of this moment, and 0 while none runs. */
struct wr_metrics {
    struct wr_counts sched;          /* what the scheduler counts: sched/sched.h */

    /* Goroutines that live (foreign threads are none), by where they were started: the most first. */
    struct wr_metric_site sites[WR_METRIC_SITES];
    size_t n_sites;
    uint64_t other_sites;            /* started in places that are not listed */

    struct wr_proofs proofs;
    struct wr_watched watched;
};

/* Fill *m. Visits every goroutine without holding any: about 0.1 µs each. Holds off the end of the runtime meanwhile. Any thread. */
void wr_metrics_take(struct wr_metrics *m);

/* Fill *p, which is a part of that, and costs nothing. */
void wr_proofs_take(struct wr_proofs *p);

/* For the leak room: a proof has come to this result; or to none. Any thread. */
void wr_metrics_proved(uint64_t leaked, weir_duration took, weir_duration paused);
void wr_metrics_not_proved(void);

/* For the leak room: goroutines are counted from now on, or no more; there were more than the threshold. Any thread. */
void wr_metrics_watch(bool now, size_t threshold);
void wr_metrics_exceeded(void);

/* ---- For the leak proof ---------------------------------------------------------------------------------------- */

/* Memory of this room's that leads to nothing of the program's. In the child of a proof. */
void wr_profile_memory_each(void (*visit)(uintptr_t lo, uintptr_t hi));

#pragma GCC visibility pop
#endif
