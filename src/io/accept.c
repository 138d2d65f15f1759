/*
 * Accepting.
 */
#include "io/net.h"

#include <fcntl.h>
#include <netinet/in.h>

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
