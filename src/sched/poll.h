/*
 * The poller: what the kernel has to say of descriptors. Edge-triggered; one thread sleeps in it, an idle worker if there is
 * one, so waiting for descriptors costs no thread of its own. For the io room; how it is woken and who sleeps in it is in
 * sched/idle.c.
 *
 * An edge is a hint and no more: who is woken by one tries again, and waits again if it was for nothing. So an edge that comes late,
 * after its descriptor has been closed and the number has been given away, does no harm; but the source must still be there: sources
 * are never freed.
 */
#ifndef WR_POLL_H
#define WR_POLL_H

#include "sched/sched.h"

#pragma GCC visibility push(hidden)

/* What an edge says. ENDED: an end, an error or urgent data came with it, so that a short read does not mean that nothing is left. */
enum { WR_EDGE_IN = 1, WR_EDGE_OUT = 2, WR_EDGE_ENDED = 4 };

struct wr_source {
    /* Called for each edge, on a worker or on sysmon, on no goroutine; no locks are held. Must not park. Stored (release) when the rest of
     * what it needs is there: the kernel hands pointers on, but is no fence that anybody has promised. */
    void (*_Atomic edge)(struct wr_source *s, unsigned edges, struct wr_batch *ready);
};

/* From now on fd's edges go to the source; the first comes at once if it is ready. 0; -EPERM: a kind that is always ready (a regular
 * file); -EEXIST: is known to the poller; -EMFILE, -ENFILE, -ENOMEM, -ENOSPC, -EBADF. */
int wr_poll_add(int fd, struct wr_source *s);
/* The same for one that is known: an edge comes anew if it is ready. -ENOENT: it is not known. */
int wr_poll_again(int fd, struct wr_source *s);
void wr_poll_forget(int fd);

/* Somebody waits for an edge, from before it parks until after; while anybody does, the program is not deadlocked and the poller is
 * asked. Any thread. */
void wr_poll_begin(void);
void wr_poll_end(void);

#pragma GCC visibility pop
#endif
