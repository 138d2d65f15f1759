/*
 * Accepting: one connection at a time, and ahead of who wants it (WEIR_POLLER=uring).
 *
 * Ahead. Connections that the ring has accepted lie in a list of the listener's entry, linked through their own; each is an open
 * descriptor, closed on exec and in no blocking mode, as accept4 gives it, and weir's until weir_accept takes it. Guarded by the lock of
 * the listener's entry.
 *
 * How many. AHEAD of them end the request, until weir_accept has taken them all: asking and ending cost two system calls, which is little
 * for so many connections, and so many numbers are few of the thousand that programs commonly have. Like a listener's backlog, what is
 * ahead is bounded also in what the other side can have of us; but the kernel empties the backlog in one go, and goes on until somebody
 * asks the poller, so one burst may bring as many as there is backlog and numbers. Where no number is left the request ends, and the
 * connection stays in the backlog.
 *
 * Errors. None is kept but that there was no memory: a request that ends for one wakes who waits, who asks the socket, which says it again
 * if it still holds (-EMFILE), and has forgotten what does not concern who comes later (-ECONNABORTED).
 */
#include "io/entry.h"
#include "io/net.h"

#include <fcntl.h>
#include <netinet/in.h>

/* ---- Ahead ----------------------------------------------------------------------------------------- */

#define AHEAD 64

bool wr_accepted_keep(struct wr_ahead *a, const struct wr_word *w, struct entry *new) {
    if (w->n < 0) return false;
    if (!new) {
        a->error = -ENOMEM;
        return false;
    }
    if (a->count++) wr_entry_of((int)a->last)->sides[WR_READ].next_accepted = w->n;
    else a->first = (uint32_t)w->n;
    a->last = (uint32_t)w->n;
    return true;
}

bool wr_accepted_enough(const struct wr_ahead *a) { return a->count >= AHEAD; }

int wr_accepted_take(struct wr_ahead *a) {
    if (!a->count) return -1;
    int new = (int)a->first;
    a->count--;
    a->first = (uint32_t)wr_entry_of(new)->sides[WR_READ].next_accepted;
    return new;
}

/* ---- One at a time --------------------------------------------------------------------------------- */

/* One at a time looks whether there is a connection and takes it, where taking would block. Not a wr_lock: those are for less than a
 * system call. */
static pthread_mutex_t one_taker = PTHREAD_MUTEX_INITIALIZER;

static int64_t take(int fd, bool blocks) {
    for (;;) {
        int new = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (new >= 0) return new;
        if (errno != ECONNABORTED && errno != EPROTO && errno != EINTR) return -errno;
        if (blocks) return -EINTR; /* who blocks looks first, again */
    }
}

static int64_t try_accept(int fd, void *arg) {
    int64_t ahead = wr_io_accepted(fd);
    if (ahead != -ENODATA) return ahead;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0) return -errno;
    if (flags & O_NONBLOCK) return take(fd, false);
    int listens = 0; /* one that does not may never be ready */
    socklen_t size = sizeof listens;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) < 0) return -errno;
    if (!listens) return -EINVAL;
    pthread_mutex_lock(&one_taker);
    int64_t result = wr_io_ready_now(fd, POLLIN);
    if (!result) result = take(fd, true);
    pthread_mutex_unlock(&one_taker);
    return result;
}

/* Of some that are made like TCP's (MPTCP, SCTP) it is not known that a short read has emptied them. */
static bool is_tcp(int fd) {
    int protocol = 0;
    socklen_t size = sizeof protocol;
    return getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) == 0 && protocol == IPPROTO_TCP;
}

int weir_accept(int fd) {
    int new = (int)wr_io(fd, WR_READ, try_accept, NULL, 0);
    return new < 0 ? new : wr_io_made(new, is_tcp(new));
}
