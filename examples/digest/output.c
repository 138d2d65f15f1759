/*
 * digest's collector: writes a line for each file in the order in which the walker found them, and complains of those
 * that could not be read. Also the progress line, which shares standard error with the complaints.
 */
#define _GNU_SOURCE
#include "digest.h"

#include <limits.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

/* ---- Standard error ---------------------------------------------------------------------------- */

/* A path in one line, as sha256sum writes it; `to` has room for twice the path. Did it need any escape? */
static bool escape(char *to, const char *path) {
    bool escaped = false;
    for (; *path; path++) {
        char c = *path;
        if (c == '\\' || c == '\n' || c == '\r') {
            *to++ = '\\', escaped = true;
            c = c == '\n' ? 'n' : c == '\r' ? 'r' : c;
        }
        *to++ = c;
    }
    *to = 0;
    return escaped;
}

static void complain(struct digest *d, const char *path, int error) {
    char *shown = malloc(2 * strlen(path) + 1);
    if (shown) escape(shown, path);
    weir_locked(&d->screen)
        fprintf(stderr, "%sdigest: %s: %s\n", d->progress ? "\r\033[K" : "", shown ? shown : "?", strerror(-error));
    free(shown);
}

void show_progress(struct digest *d) {
    weir_timer *tick = weir_ticker_new(200 * WEIR_MILLISECOND);
    while (tick && weir_timer_wait(tick, NULL) == 0) {
        double seconds = (double)(weir_now() - d->start) / (double)WEIR_SECOND;
        double mib = (double)d->bytes / (1 << 20);
        weir_locked(&d->screen)
            fprintf(stderr, "\r\033[K%llu files, %.1f MiB, %.1f MiB/s", (unsigned long long)d->files, mib,
                    mib / seconds);
    }
    weir_timer_free(tick);
    fputs("\r\033[K", stderr);
}

/* ---- The collector ------------------------------------------------------------------------------ */

struct output {
    const char *from;       /* what write_some is to write */
    size_t left;
    bool inside;            /* a line is cut in two at `from` */
    bool terminal;          /* show each line at once */
    char *line;
    size_t room;
    size_t used;
    char lines[PIPE_BUF];   /* whole ones */
};

/* A pipe takes PIPE_BUF bytes all or none, so that no line is cut when we are told to stop while nobody reads. */
static int write_some(void *arg) {
    struct output *o = arg;
    size_t size = o->left < PIPE_BUF ? o->left : PIPE_BUF;
    struct pollfd p[] = { { .fd = STDOUT_FILENO, .events = POLLOUT },
                          { .fd = o->inside ? -1 : stop_fd, .events = POLLIN } };
    while (poll(p, 2, -1) < 0) continue;
    if (!p[0].revents) return -ECANCELED;
    ssize_t n = write(STDOUT_FILENO, o->from, size);
    if (n < 0) return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    o->from += n, o->left -= (size_t)n, o->inside = o->left > 0;
    return 0;
}

static int put(struct digest *d, struct output *o, const char *text, size_t size) {
    int error = 0;
    o->from = text, o->left = size, o->inside = false;
    while (o->left && !error) error = weir_blocking(write_some, o);
    if (error && error != -ECANCELED) complain(d, "write error", error);
    return error;
}

static int flush(struct digest *d, struct output *o) {
    size_t size = o->used;
    o->used = 0;
    return put(d, o, o->lines, size);
}

static int put_line(struct digest *d, struct output *o, const struct file *f) {
    enum { PATH = 1 + 2 * SUM + 2 };
    if (reserve(&o->line, &o->room, PATH + 2 * strlen(f->path) + 2, 1)) return -ENOMEM;
    /* A line with escapes says so by a backslash before the sum. */
    char *line = escape(o->line + PATH, f->path) ? o->line : o->line + 1;
    o->line[0] = '\\';
    for (int i = 0; i < SUM; i++) {
        o->line[1 + 2 * i] = "0123456789abcdef"[f->sum[i] >> 4];
        o->line[2 + 2 * i] = "0123456789abcdef"[f->sum[i] & 15];
    }
    memset(o->line + 1 + 2 * SUM, ' ', 2);
    strcat(o->line + PATH, "\n");
    size_t size = strlen(line);
    int error = o->used + size > sizeof o->lines ? flush(d, o) : 0;
    if (error || size > sizeof o->lines) return error ? error : put(d, o, line, size);
    memcpy(o->lines + o->used, line, size);
    o->used += size;
    return o->terminal ? flush(d, o) : 0;
}

int collect(struct digest *d) {
    struct output *o = calloc(1, sizeof *o);
    struct file *f;
    if (!o) return -ENOMEM;
    o->terminal = isatty(STDOUT_FILENO);
    int stopped, error = 0;
    while (!error && !(stopped = take(d->order, &f)) && !(stopped = weir_recv(f->done, NULL))) {
        if (f->error) {
            d->failed = true;
            complain(d, f->path, f->error);
        } else {
            error = put_line(d, o, f);
        }
        if (!error) error = weir_send(d->idle, f);
    }
    if (!error) error = flush(d, o); /* also when we are to stop: these lines are whole */
    free(o->line);
    free(o);
    return error ? error : stopped == -EPIPE ? 0 : stopped;
}
