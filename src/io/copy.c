/*
 * Copying between descriptors. No way of doing it takes more from one than the other has room for, so that there is nothing
 * left in between when the caller is cancelled or the other side fails; but for the last.
 *
 *   from a file         sendfile
 *   from a pipe         splice
 *   from a file, where sendfile does not; from a socket
 *                       look (pread, MSG_PEEK), write, then take as much as was written
 *   the rest            read when the other is ready, then write all of it, whatever the context
 *
 * Splicing from socket to socket would need a pipe in between, where bytes are stranded when the other side takes no more. sendfile and
 * splice block on a socket that is not O_NONBLOCK, so they are for those that are.
 */
#include "io/io.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUFFER ((size_t)64 << 10)
#define AT_ONCE ((size_t)1 << 20) /* for the kernel: a cancel is seen after so much */
#define EMPTY INT64_MIN           /* nothing in the pipe */

enum way { SENDFILE, SPLICE, LOOK, READ };

struct copy {
    int to, from;
    enum way way;
    bool file;          /* to look into: no socket */
    bool disk;          /* either may block its thread on a disk */
    bool stop;
    size_t n;           /* of this piece */
    char *buffer;       /* BUFFER bytes, for those who need it */
};

/* ---- By the kernel --------------------------------------------------------------------------------- */

static int64_t move(void *arg) {
    struct copy *c = arg;
    return wr_io_result(c->way == SENDFILE ? sendfile(c->to, c->from, NULL, c->n) : splice(c->from, NULL, c->to, NULL, c->n, SPLICE_F_NONBLOCK));
}
static int64_t move_quietly(void *arg) { return wr_io_quietly(move, arg); }

static int64_t try_move(int to, void *arg) {
    struct copy *c = arg;
    int64_t n = c->disk ? wr_io_blocking(move_quietly, c) : move_quietly(c);
    if (n != -EAGAIN || c->way != SPLICE) return n;
    /* Which of the two was it? Asked of the one whose edges are being counted: where it has got room since, there is an edge. */
    return wr_io_ready_now(to, POLLOUT) == -EAGAIN ? n : EMPTY;
}

static int64_t by_kernel(struct copy *c) {
    for (;;) {
        int64_t n = wr_io(c->to, WR_WRITE, try_move, c, 0);
        if (n != EMPTY) return n;
        n = weir_wait_fd(c->from, WEIR_IN);
        if (n < 0) return n;
    }
}

/* ---- By hand --------------------------------------------------------------------------------------- */

static int64_t look_into_file(void *arg) {
    struct copy *c = arg;
    off_t at = lseek(c->from, 0, SEEK_CUR);
    return at < 0 ? -errno : wr_io_result(pread(c->from, c->buffer, c->n, at));
}
static int64_t try_look(int from, void *arg) {
    struct copy *c = arg;
    int64_t n = wr_io_ahead(from, c->buffer, c->n, true);
    if (n) return n;
    return c->file ? wr_io_blocking(look_into_file, c) : wr_io_result(recv(from, c->buffer, c->n, MSG_PEEK | MSG_DONTWAIT));
}

static int64_t by_looking(struct copy *c) {
    int64_t n = wr_io(c->from, WR_READ, try_look, c, 0);
    if (n > 0) n = weir_write(c->to, c->buffer, (size_t)n);
    if (n <= 0) return n;
    int64_t taken = c->file ? lseek(c->from, n, SEEK_CUR) : wr_io_ahead(c->from, NULL, (size_t)n, false);
    if (taken == 0) taken = wr_io_result(recv(c->from, c->buffer, (size_t)n, MSG_DONTWAIT));
    if (taken < 0) c->stop = true; /* somebody else has it */
    return n;
}

static int64_t by_reading(struct copy *c) {
    int64_t n = weir_wait_fd(c->to, WEIR_OUT);
    if (n > 0) n = weir_read(c->from, c->buffer, c->n);
    if (n <= 0) return n;
    int64_t written = 0;
    weir_with(weir_ctx_background()) written = weir_write_all(c->to, c->buffer, (size_t)n);
    c->stop = written != n;
    return written;
}

/* ---- Choosing -------------------------------------------------------------------------------------- */

static int choose(struct copy *c) {
    struct stat from, to;
    if (fstat(c->from, &from) < 0 || fstat(c->to, &to) < 0) return -errno;
    int flags = fcntl(c->to, F_GETFL);
    if (flags < 0) return -errno;
    bool to_file = S_ISREG(to.st_mode), moves = to_file || (flags & O_NONBLOCK);
    c->file = S_ISREG(from.st_mode);
    c->disk = c->file || to_file;
    if (c->file) c->way = moves ? SENDFILE : LOOK;
    else if (S_ISFIFO(from.st_mode) && (moves || S_ISFIFO(to.st_mode))) c->way = SPLICE;
    else c->way = S_ISSOCK(from.st_mode) ? LOOK : READ;
    return 0;
}

static int64_t copy_piece(struct copy *c, int64_t rest) {
    bool kernel = c->way == SENDFILE || c->way == SPLICE;
    size_t most = kernel ? AT_ONCE : BUFFER;
    c->n = rest < 0 || (uint64_t)rest > most ? most : (size_t)rest;
    if (kernel) {
        int64_t n = by_kernel(c);
        if (n != -EINVAL && n != -ENOSYS && n != -EOPNOTSUPP) return n;
        c->way = c->way == SENDFILE ? LOOK : READ; /* a kind of file that cannot; a file that is appended to */
        if (c->n > BUFFER) c->n = BUFFER;
    }
    if (!c->buffer && !(c->buffer = malloc(BUFFER))) return -ENOMEM;
    return c->way == LOOK ? by_looking(c) : by_reading(c);
}

/* Both numbers are held until the end, so that no piece goes to, or comes from, what was opened under them meanwhile. */
int64_t weir_copy_fd(int to, int from, int64_t max) {
    struct copy c = { .to = to, .from = from };
    int64_t n = wr_io_hold(to), done = 0;
    if (n) return n;
    n = wr_io_hold(from);
    if (!n) {
        n = choose(&c);
        while (!n && done != max && !c.stop) {
            int64_t piece = copy_piece(&c, max < 0 ? -1 : max - done);
            if (piece > 0) done += piece;
            else if (piece == 0) break;
            else n = piece;
        }
        free(c.buffer);
        wr_io_release(from);
    }
    wr_io_release(to);
    return done ? done : n;
}
