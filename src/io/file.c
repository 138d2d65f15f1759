/*
 * Files, on threads that may block. Each call is an attempt of wr_io, whose entry holds the number meanwhile, so that weir_close_fd
 * cannot give it away under a thread that is about to use it.
 */
#include "io/io.h"

#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- Opening ----------------------------------------------------------------------------------------- */

struct opening {
    const char *path;
    int flags;
    mode_t mode;
    bool bounded; /* one of the 64 */
    int result;
};

/* Is it a kind whose open may wait for another program? All the turns taken by such would keep even that one from opening it. What the
 * name leads to may change meanwhile; then the worst is a turn too few, or one thread more. */
static bool waits_for_others(const struct opening *o) {
    struct stat s;
    return !(o->flags & (O_NONBLOCK | O_PATH)) && stat(o->path, &s) == 0 && (S_ISFIFO(s.st_mode) || S_ISCHR(s.st_mode));
}

static int open_now(void *arg) {
    struct opening *o = arg;
    do o->result = (int)wr_io_result(open(o->path, o->flags | O_CLOEXEC, o->mode));
    while (o->result == -EINTR);
    return 0;
}

static int64_t open_bounded(void *arg) {
    struct opening *o = arg;
    o->bounded = !waits_for_others(o);
    return o->bounded ? open_now(o) : 0;
}

int weir_open(const char *path, int flags, ...) {
    struct opening o = { .path = path, .flags = flags };
    if ((flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE) {
        va_list args;
        va_start(args, flags);
        o.mode = va_arg(args, mode_t);
        va_end(args);
    }
    int error = (int)wr_io_blocking(open_bounded, &o);
    if (error) return error;
    if (!o.bounded) weir_blocking(open_now, &o);
    return o.result < 0 ? o.result : wr_io_made(o.result, false);
}

/* ---- At an offset ------------------------------------------------------------------------------------- */

struct piece {
    int fd;
    void *to;
    const void *from;
    size_t n;
    int64_t offset;
};

static int64_t read_now(void *arg) {
    struct piece *p = arg;
    return wr_io_result(pread(p->fd, p->to, p->n, p->offset));
}
static int64_t write_now(void *arg) {
    struct piece *p = arg;
    return wr_io_result(pwrite(p->fd, p->from, p->n, p->offset));
}
static int64_t sync_now(void *arg) {
    struct piece *p = arg;
    return wr_io_result(fsync(p->fd));
}

static bool is_end(int fd, int64_t offset) {
    struct stat s;
    return fstat(fd, &s) == 0 && S_ISREG(s.st_mode) && offset >= s.st_size;
}

/* What is in memory first. That it has none, or 0, says nothing (Linux 5.9 and 5.10 say 0 where they would wait); and where it has a part,
 * the rest may be on the disk. */
static int64_t try_pread(int fd, void *arg) {
    struct piece *p = arg;
    int64_t n = wr_io_read_now(fd, p->to, p->n, p->offset);
    if (n <= 0) return wr_io_blocking(read_now, p);
    if ((size_t)n == p->n || is_end(fd, p->offset + n)) return n;
    struct piece rest = { .fd = fd, .to = (char *)p->to + n, .n = p->n - (size_t)n, .offset = p->offset + n };
    int64_t more = wr_io_blocking(read_now, &rest);
    return more > 0 ? n + more : n;
}
static int64_t try_pwrite(int fd, void *arg) { return wr_io_blocking(write_now, arg); }
static int64_t try_fsync(int fd, void *arg) { return wr_io_blocking(sync_now, arg); }

int64_t weir_pread(int fd, void *buffer, size_t n, int64_t offset) {
    struct piece p = { .fd = fd, .to = buffer, .n = n, .offset = offset };
    if (offset < 0) return -EINVAL; /* -1 is preadv2's word for the file's own position */
    return wr_io(fd, WR_READ, try_pread, &p, 0);
}

int64_t weir_pwrite(int fd, const void *data, size_t n, int64_t offset) {
    struct piece p = { .fd = fd, .from = data, .n = n, .offset = offset };
    if (offset < 0) return -EINVAL;
    return wr_io(fd, WR_WRITE, try_pwrite, &p, 0);
}

int weir_fsync(int fd) {
    struct piece p = { .fd = fd };
    return (int)wr_io(fd, WR_WRITE, try_fsync, &p, 0);
}
