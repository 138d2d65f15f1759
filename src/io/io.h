/*
 * io: blocking-style calls on descriptors, on the scheduler's poller. This header is for the files of this room; the public side
 * is include/weir/{io,net,file,process,signal}.h.
 *
 * How a call on a descriptor is made
 *
 *     static int64_t attempt(int fd, void *arg) { …; return one non-blocking system call: its result, or -errno; }
 *
 *     return wr_io(fd, WR_READ, attempt, &arg, 0);
 *
 * wr_io holds the descriptor's entry while it goes on, tries, and where the attempt says -EAGAIN waits for the next edge and
 * tries again. Before each attempt it asks the context, so who is cancelled has had no effect.
 */
#ifndef WR_IO_H
#define WR_IO_H

#include "sched/poll.h"

#include <poll.h>
#include <sys/types.h>

#pragma GCC visibility push(hidden)

enum wr_side { WR_READ, WR_WRITE };

/* Run attempt until it says something else than -EAGAIN, or -EINTR; or the wait ends by context or close: -ECANCELED, -ETIMEDOUT,
 * -EBADF, -EPERM, -ENOMEM. `full`: on a stream, a result below it means that the kernel has no more now; 0 where that does not hold.
 * What the kernel cannot poll (a regular file) gives -EAGAIN. */
int64_t wr_io(int fd, enum wr_side side, int64_t (*attempt)(int fd, void *arg), void *arg, size_t full);

/* poll(2) for goroutines: how many of the n descriptors are ready, 0 once it is `until`; or the errors of wr_io. The descriptors are in use
 * meanwhile, so weir_close_fd ends it. -EINVAL: more than WR_IO_POLL_MAX. */
#define WR_IO_POLL_MAX 16
int wr_io_poll(struct pollfd *fds, size_t n, weir_time until);

/* Keep the number from being given back until it is released, over calls that are none of the above. 0; -EBADF: closed, or being
 * closed; -ENOMEM. */
int wr_io_hold(int fd);
void wr_io_release(int fd);

/*
 * What is ahead of who wants it, where WEIR_POLLER=uring (ahead.c), in place of asking the socket, for every attempt that takes from one.
 *
 * Bytes: up to n. > 0: so many; look: and they stay. 0: there is nothing, ask the socket. -EAGAIN: wait for an edge; or the error that was
 * met. `to` NULL: for nobody.
 */
static inline int64_t wr_io_ahead(int fd, void *to, size_t n, bool look);
int64_t wr_io_ahead_of(int fd, void *to, size_t n, bool look);
/* A connection: its descriptor, of which nothing is known yet. -ENODATA: there is none, ask the socket. -EAGAIN: wait for an edge; -ENOMEM. */
static inline int wr_io_accepted(int fd);
int wr_io_accepted_of(int fd);
/* Others than weir are going to read, or accept, from what fd stands for: from now on nothing is taken ahead. */
void wr_io_leave_alone(int fd);

/* A descriptor that weir has just made, non-blocking: what was known of the number before is forgotten. stream: a TCP socket, where a
 * short read or write means that there is no more. Returns fd; or -ENOMEM, -EMFILE and closes it. */
int wr_io_made(int fd, bool stream);
/* And it listens. Before anybody knows the number. */
void wr_io_listens(int fd);

/* What a system call says: its result, or -errno. */
static inline int64_t wr_io_result(int64_t n) { return n < 0 ? -errno : n; }

/* Is it ready now, for calls that would block? 0; -EAGAIN: it is not; or -errno. */
int wr_io_ready_now(int fd, short events);

/* 0, or how the current context has ended: -ECANCELED, -ETIMEDOUT. */
static inline int wr_io_ended_for(const struct g *g) {
    const struct wr_cancel *c = g->cancel;
    return c ? atomic_load_explicit(&c->err, memory_order_acquire) : 0;
}
static inline int wr_io_ended(void) { return wr_io_ended_for(wr_self()); }

static inline int64_t wr_io_ahead(int fd, void *to, size_t n, bool look) {
    return !wr_ring() || n == 0 ? 0 : wr_io_ahead_of(fd, to, n, look);
}
static inline int wr_io_accepted(int fd) { return !wr_ring() ? -ENODATA : wr_io_accepted_of(fd); }

/* Read what of a file is in memory, or of a pipe is there: preadv2, which not every C library has, with RWF_NOWAIT. At offset -1: from
 * where the descriptor is. The number of bytes; -EAGAIN: none; -EOPNOTSUPP, -ENOSYS: it, or the kernel, cannot do that. */
int64_t wr_io_read_now(int fd, void *to, size_t n, int64_t offset);

/* Run fn(arg), a write of some kind, so that it raises no SIGPIPE. fn's result. */
int64_t wr_io_quietly(int64_t (*fn)(void *arg), void *arg);

/* Run fn(arg), which blocks its thread on a file or the like, off the processors, and not too many at once. fn's result; -ECANCELED,
 * -ETIMEDOUT: it was not called. */
int64_t wr_io_blocking(int64_t (*fn)(void *arg), void *arg);

/* For the start room: signals may be asked for from now on; nobody gets any more, and the program's dispositions are back. */
void wr_signals_start(void);
void wr_signals_stop(void);
/* And: no goroutine runs any more; those that are in a call on a descriptor never come back from it. */
void wr_io_stop(void);

extern bool wr_process_without_pidfd; /* for tests: as on kernels before 5.4 */

#pragma GCC visibility pop
#endif
