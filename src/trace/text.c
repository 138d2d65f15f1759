/* Text to a descriptor, through a buffer: waits for slow readers, but not for one who keeps us from stopping. */
#include "trace/trace.h"

#include <poll.h>
#include <stdarg.h>
#include <time.h>
#include <unistd.h>

enum {
    PIECE = 4096,      /* a pipe that poll calls writable takes as much without blocking */
    LOOK_EVERY = 50    /* ms */
};

void wr_text_open(struct wr_text *t, int fd) {
    sigset_t sigpipe, pending;
    t->fd = fd, t->error = 0, t->cancel = NULL, t->n = 0;
    sigemptyset(&sigpipe);
    sigaddset(&sigpipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &sigpipe, &t->mask);
    t->sigpipe_pending = sigpending(&pending) == 0 && sigismember(&pending, SIGPIPE);
}

/* 0: the descriptor takes something now. */
static int wait_writable(const struct wr_text *t) {
    if (t->fd < 0) return -EBADF; /* poll would wait for ever */
    for (;;) {
        struct pollfd p = { .fd = t->fd, .events = POLLOUT };
        if (t->cancel && atomic_load_explicit(t->cancel, memory_order_acquire)) return -ECANCELED;
        int n = poll(&p, 1, t->cancel ? LOOK_EVERY : -1);
        if (n < 0 && errno != EINTR) return -errno;
        if (n > 0) return p.revents & POLLNVAL ? -EBADF : 0; /* what else is wrong, write will tell */
    }
}

void wr_text_flush(struct wr_text *t) {
    for (size_t done = 0; done < t->n && !t->error;) {
        size_t n = t->n - done < PIECE ? t->n - done : PIECE;
        t->error = wait_writable(t);
        if (t->error) break;
        ssize_t wrote = write(t->fd, t->buffer + done, n);
        if (wrote >= 0)
            done += (size_t)wrote;
        else if (errno == EAGAIN)
            poll(NULL, 0, 1);
        else if (errno != EINTR)
            t->error = -errno;
    }
    t->n = 0;
}

void wr_text_put(struct wr_text *t, const char *fmt, ...) {
    for (int attempt = 0; attempt < 2 && !t->error; attempt++) {
        size_t room = sizeof t->buffer - t->n;
        va_list args;
        va_start(args, fmt);
        int n = vsnprintf(t->buffer + t->n, room, fmt, args);
        va_end(args);
        if (n < 0) return;
        if ((size_t)n < room) {
            t->n += (size_t)n;
            return;
        }
        if (t->n == 0) { /* longer than the buffer: cut */
            t->n = sizeof t->buffer - 1;
            return;
        }
        wr_text_flush(t);
    }
}

int wr_text_close(struct wr_text *t) {
    wr_text_flush(t);
    if (t->error == -EPIPE && !t->sigpipe_pending) {
        sigset_t sigpipe;
        sigemptyset(&sigpipe);
        sigaddset(&sigpipe, SIGPIPE);
        while (sigtimedwait(&sigpipe, NULL, &(struct timespec){ 0, 0 }) < 0 && errno == EINTR) {}
    }
    pthread_sigmask(SIG_SETMASK, &t->mask, NULL);
    return t->error;
}
