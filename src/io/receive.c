/*
 * What has been received ahead (WEIR_POLLER=uring): for each socket a short queue of buffers that the kernel has filled before anybody
 * asked. Guarded by the lock of the descriptor's entry; for ahead.c, which has the request that goes on filling them. Bytes that are here
 * are no longer in the socket.
 *
 * How much. A request is ended for good as soon as a buffer comes full, or AHEAD of them lie here: such a socket is better read by its
 * readers, with one system call into a large buffer of their own; and one that nobody reads should not take the buffers of the others. But
 * that is seen only when somebody asks the poller, which may be late, where all compute. Until then the kernel goes on, as long as there
 * are buffers: wr_buffers, 16 MiB, are the bound, for one socket and for all. Where none is free a request ends by itself (-ENOBUFS), for
 * good as well: its socket goes by epoll from then on, and what comes stays in it. So who is left without buffers loses what they are
 * worth, and no byte.
 */
#include "io/entry.h"

#include <string.h>

#define AHEAD 4

static struct {
    uint32_t next;   /* the buffer after this */
    uint32_t length;
} pieces[WR_BUFFERS]; /* of each buffer: whose queue it is in guards it */

bool wr_received_keep(struct wr_ahead *a, const struct wr_word *w) {
    bool data = w->buffer != WR_NO_BUFFER && w->n > 0;
    if (data) {
        pieces[w->buffer].length = (uint32_t)w->n;
        if (a->count++) pieces[a->last].next = w->buffer;
        else a->first = w->buffer, a->at = 0;
        a->last = w->buffer;
    }
    /* The end is told by the socket as often as it is asked, an error once. */
    if (w->last && w->n == -ENOBUFS) a->plain = true;
    else if (w->last && w->n < 0 && w->n != -ECANCELED && w->n != -EAGAIN && w->n != -EINTR) a->error = w->n;
    return data;
}

bool wr_received_enough(struct wr_ahead *a, const struct wr_word *w) {
    bool enough = w->n == WR_BUFFER_SIZE || a->count >= AHEAD;
    a->plain |= enough;
    return enough;
}

static void drop_first(struct wr_ahead *a) {
    uint32_t b = a->first;
    a->first = pieces[b].next;
    a->count--;
    a->at = 0;
    wr_buffer_free(b);
}

int64_t wr_received_take(struct wr_ahead *a, void *to, size_t n, bool look) {
    size_t done = 0;
    uint32_t b = a->first, at = a->at, left = a->count;
    while (left && done < n) {
        size_t piece = pieces[b].length - at;
        bool all = piece <= n - done;
        if (!all) piece = n - done;
        if (to) memcpy((char *)to + done, wr_buffer(b) + at, piece);
        done += piece;
        at = all ? 0 : at + (uint32_t)piece;
        if (!all) break;
        b = pieces[b].next;
        left--;
        if (!look) drop_first(a);
    }
    if (!look) a->at = at;
    return (int64_t)done;
}
