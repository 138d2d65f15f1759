/*
 * Messages: the calls that say where from and where to, and descriptors that are sent along. The kernel is told not to wait, call by call, so
 * these take sockets of any mode.
 */
#include "io/net.h"

#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* As wr_io; who says MSG_DONTWAIT gets its -EAGAIN. */
static int64_t transfer(int fd, enum wr_side side, int64_t (*attempt)(int, void *), void *arg, int flags) {
    if (!(flags & MSG_DONTWAIT)) return wr_io(fd, side, attempt, arg, 0);
    int64_t n = wr_io_ended();
    if (!n) n = wr_io_hold(fd);
    if (n) return n;
    n = attempt(fd, arg);
    wr_io_release(fd);
    return n;
}

struct piece {
    void *to;
    const void *data;
    size_t n;
    int flags;
    struct sockaddr *from;
    const struct sockaddr *peer;
    unsigned *from_length, length;
};

/* MSG_TRUNC: the bytes are for nobody. */
static int64_t ahead(int fd, void *to, size_t n, int flags) {
    if (flags & (MSG_OOB | MSG_ERRQUEUE)) return 0;
    return wr_io_ahead(fd, flags & MSG_TRUNC ? NULL : to, n, flags & MSG_PEEK);
}

static int64_t try_recvfrom(int fd, void *arg) {
    struct piece *p = arg;
    int64_t n = ahead(fd, p->to, p->n, p->flags);
    if (n > 0 && p->from && p->from_length) *p->from_length = 0; /* as TCP says it */
    if (n) return n;
    return wr_io_result(recvfrom(fd, p->to, p->n, p->flags | MSG_DONTWAIT, p->from, p->from_length));
}
static int64_t try_sendto(int fd, void *arg) {
    struct piece *p = arg;
    return wr_io_result(sendto(fd, p->data, p->n, p->flags | MSG_DONTWAIT | MSG_NOSIGNAL, p->peer, p->length));
}

int64_t weir_recvfrom(int fd, void *buffer, size_t n, int flags, struct sockaddr *from, unsigned *len) {
    struct piece p = { .to = buffer, .n = n, .flags = flags, .from = from, .from_length = len };
    return transfer(fd, WR_READ, try_recvfrom, &p, flags);
}

int64_t weir_sendto(int fd, const void *data, size_t n, int flags, const struct sockaddr *to, unsigned len) {
    struct piece p = { .data = data, .n = n, .flags = flags, .peer = to, .length = len };
    return transfer(fd, WR_WRITE, try_sendto, &p, flags);
}

struct message {
    struct msghdr *received;
    const struct msghdr *sent;
    int flags;
};

/* Into the first piece that has room: the caller may come again for the rest. */
static int64_t ahead_message(int fd, struct message *m) {
    struct msghdr *h = m->received;
    size_t i = 0, pieces = (size_t)h->msg_iovlen; /* of some C libraries an int */
    while (i < pieces && !h->msg_iov[i].iov_len) i++;
    int64_t n = i < pieces ? ahead(fd, h->msg_iov[i].iov_base, h->msg_iov[i].iov_len, m->flags) : 0;
    if (n > 0) h->msg_namelen = 0, h->msg_controllen = 0, h->msg_flags = 0;
    return n;
}

static int64_t try_recvmsg(int fd, void *arg) {
    struct message *m = arg;
    int64_t n = ahead_message(fd, m);
    if (n) return n;
    return wr_io_result(recvmsg(fd, m->received, m->flags | MSG_DONTWAIT));
}
static int64_t try_sendmsg(int fd, void *arg) {
    struct message *m = arg;
    return wr_io_result(sendmsg(fd, m->sent, m->flags | MSG_DONTWAIT | MSG_NOSIGNAL));
}

int64_t weir_recvmsg(int fd, struct msghdr *message, int flags) {
    if (!message) return -EFAULT;
    return transfer(fd, WR_READ, try_recvmsg, &(struct message){ .received = message, .flags = flags }, flags);
}

int64_t weir_sendmsg(int fd, const struct msghdr *message, int flags) {
    if (!message) return -EFAULT;
    return transfer(fd, WR_WRITE, try_sendmsg, &(struct message){ .sent = message, .flags = flags }, flags);
}

/* ---- Descriptors ----------------------------------------------------------------------------------- */

#define MOST 253 /* descriptors in one message: SCM_MAX_FD of Linux */

int weir_send_fd(int sock, int fd) {
    char zero = 0;
    wr_io_leave_alone(fd);
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof fd)];
    } control = { 0 };
    struct iovec v = { .iov_base = &zero, .iov_len = 1 };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
    control.header = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    int64_t n = weir_sendmsg(sock, &m, 0);
    return n < 0 ? (int)n : 0;
}

/* There is room for all that one message may bring, so what the kernel leaves out it has no number for: no descriptor comes unseen. */
int weir_recv_fd(int sock) {
    char byte;
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int) * MOST) + CMSG_SPACE(64)]; /* and for who sent it, where a socket asks for that */
    } control;
    struct iovec v = { .iov_base = &byte, .iov_len = 1 };
    struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
    int64_t n = weir_recvmsg(sock, &m, MSG_CMSG_CLOEXEC);
    if (n < 0) return (int)n;
    int first = -1, fds = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
        for (size_t at = 0; at + sizeof(int) <= c->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + at, sizeof fd);
            if (fds++ == 0) first = fd;
            else close(fd);
        }
    }
    if (fds == 1 && !(m.msg_flags & MSG_CTRUNC)) return first;
    if (fds) close(first);
    return m.msg_flags & MSG_CTRUNC ? -EMFILE : fds ? -EMSGSIZE : n == 0 ? -EPIPE : -ENOMSG;
}
