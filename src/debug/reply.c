/* The text of an answer: grows as it is written, and may be gzipped in the end. Of one thread. */
#include "debug/debug.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

/* Room for n more bytes, and a zero byte behind them. */
static bool reserve(struct wr_reply *r, size_t n) {
    if (r->no_memory) return false;
    if (r->room - r->n > n) return true;
    size_t room = r->room ? r->room : 4096;
    while (room - r->n <= n) room *= 2;
    char *data = realloc(r->data, room);
    if (!data) {
        r->no_memory = true;
        return false;
    }
    r->data = data, r->room = room;
    return true;
}

void wr_reply_add(struct wr_reply *r, const void *data, size_t n) {
    if (!reserve(r, n)) return;
    memcpy(r->data + r->n, data, n);
    r->n += n;
    r->data[r->n] = 0;
}

void wr_reply_put(struct wr_reply *r, const char *fmt, ...) {
    for (int attempt = 0; attempt < 2; attempt++) {
        size_t room = r->room - r->n;
        va_list args;
        va_start(args, fmt);
        int n = vsnprintf(room ? r->data + r->n : NULL, room, fmt, args);
        va_end(args);
        if (n < 0) return;
        if ((size_t)n < room) {
            r->n += (size_t)n;
            return;
        }
        if (!reserve(r, (size_t)n)) return;
    }
}

void wr_reply_error(struct wr_reply *r, unsigned status, const char *fmt, ...) {
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    r->n = 0;
    r->no_memory = false;
    r->status = status;
    r->type = NULL;
    *r->file = 0;
    wr_reply_put(r, "%s\n", text);
}

void wr_reply_gzip(struct wr_reply *r) {
    enum { GZIP = 16, BEST = 15, MEMORY = 8 };
    z_stream z = { .next_in = (Bytef *)r->data };
    size_t in = r->n;
    struct wr_reply out = { 0 };
    if (r->no_memory || deflateInit2(&z, Z_BEST_SPEED, Z_DEFLATED, BEST + GZIP, MEMORY, Z_DEFAULT_STRATEGY) != Z_OK) {
        r->no_memory = true;
        return;
    }
    for (int state = Z_OK; state != Z_STREAM_END && !out.no_memory;) {
        char buffer[16384];
        if (z.avail_in == 0 && in > 0) {
            z.avail_in = in > UINT32_MAX ? UINT32_MAX : (uInt)in;
            in -= z.avail_in;
        }
        z.next_out = (Bytef *)buffer, z.avail_out = sizeof buffer;
        state = deflate(&z, in > 0 ? Z_NO_FLUSH : Z_FINISH);
        wr_reply_add(&out, buffer, sizeof buffer - z.avail_out);
    }
    deflateEnd(&z);
    free(r->data);
    r->data = out.data, r->n = out.n, r->room = out.room, r->no_memory = out.no_memory;
}
