/*
 * The poller: what the kernel has to say of descriptors. Edge-triggered; one thread sleeps in it, an idle worker if there is
 * one, so waiting for descriptors costs no thread of its own. For the io room; how it is woken and who sleeps in it is in
 * sched/idle.c.
 *
 * An edge is a hint and no more: who is woken by one tries again, and waits again if it was for nothing. So an edge that comes late,
 * after its descriptor has been closed and the number has been given away, does no harm; but the source must still be there: sources
 * are never freed.
 */
#ifndef WR_POLL_H
#define WR_POLL_H

#include "sched/sched.h"

#pragma GCC visibility push(hidden)

/* What an edge says. ENDED: an end, an error or urgent data came with it, so that a short read does not mean that nothing is left. */
enum { WR_EDGE_IN = 1, WR_EDGE_OUT = 2, WR_EDGE_ENDED = 4 };

struct wr_source {
    /* Called for each edge, on a worker or on sysmon, on no goroutine; no locks are held. Must not park. Stored (release) when the rest of
     * what it needs is there: the kernel hands pointers on, but is no fence that anybody has promised. */
    void (*_Atomic edge)(struct wr_source *s, unsigned edges, struct wr_batch *ready);
};

/* From now on fd's edges go to the source; the first comes at once if it is ready. 0; -EPERM: a kind that is always ready (a regular
 * file); -EEXIST: is known to the poller; -EMFILE, -ENFILE, -ENOMEM, -ENOSPC, -EBADF. */
int wr_poll_add(int fd, struct wr_source *s);
/* The same for one that is known: an edge comes anew if it is ready. -ENOENT: it is not known. */
int wr_poll_again(int fd, struct wr_source *s);
void wr_poll_forget(int fd);

/* ---- The ring: WEIR_POLLER=uring (poll_uring.c) ---------------------------------------------------- */

/* Is there one? Set before the runtime starts, for good; a copy of the process has none. */
extern _Atomic bool wr_has_ring;
static inline bool wr_ring(void) { return wr_unlikely(atomic_load_explicit(&wr_has_ring, memory_order_relaxed)); }

/* What a request goes on doing, until its last word: receive from a socket, accept from a listener. */
enum wr_asked { WR_RECEIVE, WR_ACCEPT };

/* What it has to say. */
struct wr_word {
    enum wr_asked asked;
    int32_t n;       /* bytes, 0 at the end; the number of a connection; or -errno */
    uint32_t buffer; /* where the bytes are, the source's from now on (wr_buffer_free); WR_NO_BUFFER */
    uint16_t turn;   /* which of the source's requests says so */
    bool last;       /* and says no more */
};
#define WR_NO_BUFFER UINT32_MAX
#define WR_BUFFERS 16384 /* at most */
#define WR_BUFFER_SIZE 1024

/* Ask for it; what comes is told to the source. `turn` is for it to tell one request from another. Only on a worker. 0; -EPERM, -EBUSY, and
 * the errors of wr_poll_add: not so. */
int wr_ring_ask(int fd, enum wr_asked what, struct wr_source *s, uint16_t turn);
/* End that request soon. Its last word comes all the same. Must hold no short lock. Any thread. */
void wr_ring_end(enum wr_asked what, struct wr_source *s, uint16_t turn);
/* Who hears the words of all requests, of each in order: as wr_source's edge. To be said before the first is made; there is one room that makes any. */
void wr_ring_tells(void (*told)(struct wr_source *s, const struct wr_word *w, struct wr_batch *ready));
/* Who asks in wr_ring_ask: the calling worker, for as long as the runtime runs; and has that one had nothing to do for long? Then another
 * that has should ask in its place, or it is woken from its sleep for all that comes. */
const void *wr_ring_asker(void);
bool wr_ring_asker_sleeps(const void *asker);
extern weir_duration wr_ring_patience; /* that long; for tests: less */
extern uint32_t wr_buffers; /* for tests: fewer; a power of two */
/* WR_BUFFER_SIZE bytes that the source was given; and back. */
const char *wr_buffer(uint32_t b);
void wr_buffer_free(uint32_t b);
/* Tell what there is to tell, though no runtime runs, or nobody polls. */
void wr_poll_settle(void);

/* ---- Waiting --------------------------------------------------------------------------------------- */

/* Somebody waits for an edge, from before it parks until after; while anybody does, the program is not deadlocked and the poller is
 * asked. Any thread. */
void wr_poll_begin(void);
void wr_poll_end(void);

#pragma GCC visibility pop
#endif
