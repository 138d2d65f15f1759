/*
 * The world stopped: what the leak room needs of the scheduler to look at the whole process at one moment. In the order of use:
 * wr_world_prepare, wr_world_stop, a fork, wr_world_resume; and in the child the walks, which read the copy.
 *
 * Every thread of the process is stopped by a signal, in whose handler it waits; so its registers lie on its
 * stack, and no ptrace is needed. Nobody waits there for longer than it was told: a thread may have been stopped inside malloc, or with
 * another lock that fork() wants, and then fork() gets on only when that thread does. Who resumes on its own ends the attempt
 * for all: the copy may then be of no single moment, and wr_world_resume says so.
 */
#ifndef WR_WORLD_H
#define WR_WORLD_H

#include "sched/sched.h"

#pragma GCC visibility push(hidden)

/* Room for the threads there are. 0, -ENOMEM, -EPERM (why says what stands in the way: the program's own handler for the signal). */
int wr_world_prepare(char *why, size_t size);
void wr_world_unprepare(void);

/*
 * Stop all threads but the caller, and keep the scheduler's and the timers' locks. They wait for `patience` at most. `frame` is where
 * the caller's own live stack begins: its registers have been saved above. From here to wr_world_resume the caller must not
 * allocate. 0; -EBUSY: one does not answer, `why` says which; -EAGAIN: they did not wait long enough for each other. Nobody is
 * stopped then.
 */
int wr_world_stop(weir_duration patience, const void *frame, char *why, size_t size);
/* Let them go. False: one had gone on by itself. */
bool wr_world_resume(void);

/* ---- In the child --------------------------------------------------------------------------------------- */

struct wr_world_visitor {
    void (*root)(uintptr_t lo, uintptr_t hi, int tid);      /* live: stacks, registers, thread-locals of a thread */
    void (*value)(uintptr_t word, int tid);                 /* live: a value of a thread, copied before fork cleared it */
    void (*dead)(uintptr_t lo, uintptr_t hi);               /* no root: below a stack pointer, the scheduler's own */
    void (*stack)(uintptr_t sp, int tid);                   /* live: what lies at sp and above, to the end of whatever that is */
    void (*runs)(struct g *g, uintptr_t sp);                /* it was on a thread; live from sp up; 0: stack() tells, or all of it */
    void (*opaque)(const void *block);                      /* memory from malloc that is the scheduler's: leads nowhere */
    void (*timer)(struct wr_timer *t);                      /* armed */
};
void wr_world_visit(const struct wr_world_visitor *v);
bool wr_world_unclear(void); /* a thread had more values than there was room for, or was where its stack cannot be told */
/* Each slab of stacks: n slots of `slot` bytes, a power of two, of which the first `used` have a control block. */
void wr_slabs_each(void (*visit)(uintptr_t base, size_t slot, uint32_t used, uint32_t n, void *arg), void *arg);
struct g *wr_slot_g(uintptr_t slot, size_t size);

#pragma GCC visibility pop
#endif
