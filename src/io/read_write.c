/*
 * Reading and writing, on whatever a descriptor is. Nothing is remembered of what it is: the number may have been given away since,
 * so each call asks the kernel, the likeliest first: a socket answers at once, and is the one that needs to be fast.
 *
 *   a socket            recv and send, told not to wait
 *   a regular file      preadv2, told not to wait; if its data is not in memory, and for writing, a thread that may block
 *   O_NONBLOCK          read and write as they are
 *   any other           poll(2) first, and then no more than is sure to pass: what is there; PIPE_BUF bytes
 */
#include "io/io.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

struct piece {
    int fd;
    void *to;
    const void *from;
    size_t n;
};

enum kind { FILE_ON_DISK, NONBLOCKING, BLOCKING };

/* What it is that is no socket; or -errno. */
static int kind_of(int fd) {
    struct stat s;
    if (fstat(fd, &s) < 0) return -errno;
    if (S_ISREG(s.st_mode) || S_ISBLK(s.st_mode)) return FILE_ON_DISK;
    int flags = fcntl(fd, F_GETFL);
    return flags < 0 ? -errno : flags & O_NONBLOCK ? NONBLOCKING : BLOCKING;
}

int wr_io_ready_now(int fd, short events) {
    struct pollfd p = { .fd = fd, .events = events };
    int n = poll(&p, 1, 0);
    return n < 0 ? -errno : n == 0 ? -EAGAIN : 0;
}

static int64_t read_file(void *arg) {
    struct piece *p = arg;
    return wr_io_result(read(p->fd, p->to, p->n));
}
static int64_t write_file(void *arg) {
    struct piece *p = arg;
    return wr_io_result(write(p->fd, p->from, p->n));
}

int64_t wr_io_read_now(int fd, void *to, size_t n, int64_t offset) {
    struct iovec v = { .iov_base = to, .iov_len = n };
    enum { NOWAIT = 8 }; /* RWF_NOWAIT */
    return wr_io_result(syscall(SYS_preadv2, fd, &v, 1L, offset, 0L, NOWAIT)); /* the 0: the high half, where longs are short */
}

/*
 * Not by way of the C library, where recv and send are points of cancellation, which costs a process of several threads four locked
 * instructions. Nobody may cancel a thread that goroutines share. The sanitizers look into the library's calls.
 */
static int64_t receive_now(int fd, void *to, size_t n) {
#if defined(WR_TSAN) || defined(WR_ASAN)
    return wr_io_result(recv(fd, to, n, MSG_DONTWAIT));
#else
    return wr_io_result(syscall(SYS_recvfrom, fd, to, n, MSG_DONTWAIT, NULL, NULL));
#endif
}
static int64_t send_now(int fd, const void *from, size_t n) {
#if defined(WR_TSAN) || defined(WR_ASAN)
    return wr_io_result(send(fd, from, n, MSG_DONTWAIT | MSG_NOSIGNAL));
#else
    return wr_io_result(syscall(SYS_sendto, fd, from, n, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0));
#endif
}

static int64_t try_read(int fd, void *arg) {
    struct piece *p = arg;
    int64_t n = wr_io_ahead(fd, p->to, p->n, false);
    if (n) return n;
    if (!p->n && wr_io_ahead(fd, NULL, 1, true) > 0) return 0; /* as from the socket: it waits for something to come */
    n = receive_now(fd, p->to, p->n);
    if (n != -ENOTSOCK) return n;
    int kind = kind_of(fd);
    if (kind < 0) return kind;
    if (kind != NONBLOCKING) {
        n = wr_io_read_now(fd, p->to, p->n, -1);
        if (kind == FILE_ON_DISK) return n > 0 ? n : wr_io_blocking(read_file, p); /* 0 is not always the end: Linux 5.9, 5.10 */
        if (n != -EOPNOTSUPP && n != -ENOSYS) return n;
        n = wr_io_ready_now(fd, POLLIN);
        if (n) return n;
    }
    return wr_io_result(read(fd, p->to, p->n));
}

/* A write that nobody reads raises SIGPIPE on this thread: keep it from being delivered, and take it back. */
int64_t wr_io_quietly(int64_t (*fn)(void *arg), void *arg) {
    sigset_t sigpipe, before, pending;
    sigemptyset(&sigpipe);
    sigaddset(&sigpipe, SIGPIPE);
    sigpending(&pending);
    pthread_sigmask(SIG_BLOCK, &sigpipe, &before);
    int64_t result = fn(arg);
    if (result == -EPIPE && !sigismember(&pending, SIGPIPE)) {
        struct timespec now = { 0 };
        while (sigtimedwait(&sigpipe, NULL, &now) < 0 && errno == EINTR) {}
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return result;
}

static int64_t try_write(int fd, void *arg) {
    struct piece *p = arg;
    int64_t n = send_now(fd, p->from, p->n);
    if (n != -ENOTSOCK) return n;
    int kind = kind_of(fd);
    if (kind < 0) return kind;
    if (kind == FILE_ON_DISK) return wr_io_blocking(write_file, p);
    if (kind == NONBLOCKING) return wr_io_quietly(write_file, p);
    n = wr_io_ready_now(fd, POLLOUT);
    struct piece sure = { .fd = fd, .from = p->from, .n = p->n < PIPE_BUF ? p->n : PIPE_BUF };
    return n ? n : wr_io_quietly(write_file, &sure);
}

/* Beyond this a short result may be the kernel's own limit for one call. */
static size_t full(size_t n) { return n <= (size_t)1 << 30 ? n : 0; }

int64_t weir_read(int fd, void *buffer, size_t n) {
    struct piece p = { .fd = fd, .to = buffer, .n = n };
    return wr_io(fd, WR_READ, try_read, &p, full(n));
}

int64_t weir_write(int fd, const void *data, size_t n) {
    struct piece p = { .fd = fd, .from = data, .n = n };
    return wr_io(fd, WR_WRITE, try_write, &p, full(n));
}

int64_t weir_read_full(int fd, void *buffer, size_t n) {
    for (size_t done = 0;;) {
        int64_t got = weir_read(fd, (char *)buffer + done, n - done);
        if (got <= 0) return done ? (int64_t)done : got;
        done += (size_t)got;
        if (done == n) return (int64_t)n;
    }
}

int64_t weir_write_all(int fd, const void *data, size_t n) {
    size_t done = 0;
    do {
        int64_t put = weir_write(fd, (const char *)data + done, n - done);
        if (put < 0) return done ? (int64_t)done : put;
        done += (size_t)put;
    } while (done < n);
    return (int64_t)n;
}

int weir_pipe(int fds[2]) {
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0) return -errno;
    for (int i = 0; i < 2; i++) {
        int made = wr_io_made(fds[i], false);
        if (made >= 0) continue;
        (void)weir_close_fd(fds[1 - i]);
        return made;
    }
    return 0;
}
