/* CPU timers, one for each thread: for cpu.c, which calls all of this under its lock. */
#ifndef WR_PROFILE_THREADS_H
#define WR_PROFILE_THREADS_H

#include "base/base.h"

#pragma GCC visibility push(hidden)

/* SIGPROF's si_value.sival_ptr is this. */
extern char wr_cpu_timers_mark;

/* Give each thread that has none yet a timer, and forget those whose threads have ended. Returns how many there are; 0: the kernel gives none. */
size_t wr_cpu_timers_look(long period_ns);
/* A thread of ours has begun. */
void wr_cpu_timers_add(int tid, long period_ns);
/* Delete all. */
void wr_cpu_timers_drop(void);
/* In a forked child, which has none of them: forget them. */
void wr_cpu_timers_forget(void);

#pragma GCC visibility pop
#endif
