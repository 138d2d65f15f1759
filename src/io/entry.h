/*
 * A descriptor's entry, and what the ring has been asked for on its behalf. For descriptor.c, which owns the entries and says how they are
 * used, and for the files of WEIR_POLLER=uring: ahead.c (requests), receive.c (bytes), accept.c (connections).
 */
#ifndef WR_ENTRY_H
#define WR_ENTRY_H

#include "io/io.h"

#pragma GCC visibility push(hidden)

struct side {
    _Atomic uint32_t edges;    /* twice as many as there have been; changed under the lock */
    _Atomic uint32_t empty;    /* the count at which there was nothing left: no use in trying before the next */
    _Atomic uint32_t waiting;  /* length of the queue; changed under the lock, too */
    int next_accepted;         /* of a connection that nobody has taken yet, its reading side: the one after it; the listener's lock guards it */
    struct wr_list queue;      /* wr_node, oldest first */
};

/* 96 bytes: of each number a program uses, and looked at by each call. */
struct entry {
    struct wr_source source;   /* of edges */
    struct wr_lock lock;       /* rank SYNC: the queues, edges, what is ahead */
    _Atomic bool registered;   /* with the poller; says nothing unless made */
    bool made : 1;             /* by weir: closed by weir too */
    bool stream : 1;           /* short reads tell */
    bool listens : 1;          /* made by weir_listen */
    _Atomic bool ended;        /* short reads tell no longer */
    _Atomic uint64_t users;    /* calls in progress, by goroutines and by threads, and CLOSING */
    _Atomic(struct wr_ahead *) ahead; /* NULL: the ring has never been asked for anything here; stays for good */
    struct side sides[2];
};

/* Lock held, which is all that keeps others from changing it as well. */
static inline void wr_count(_Atomic uint32_t *count, uint32_t more) {
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + more, memory_order_release);
}

/* NULL: no memory, or not a number that a descriptor can have here. */
struct entry *wr_entry_of(int fd);
/* The entry with the lowest number from *fd on, which *fd then is; NULL: there are no more. */
struct entry *wr_entry_from(int *fd);
/* Lock held: one more edge, and who waits first for it, claimed; or NULL. */
struct g *wr_entry_edge(struct side *side);

/* ---- Ahead ----------------------------------------------------------------------------------------- */

/* All of it is guarded by the entry's lock. */
struct wr_ahead {
    bool asked;         /* a request is out */
    bool ending;        /* and has been told to end */
    bool plain;         /* no further request */
    uint16_t turn;      /* the number of the latest */
    const void *asker;  /* wr_ring_asker, if a request is out */
    uint32_t count;     /* pieces received, or connections accepted, that nobody has had yet: */
    uint32_t first, last; /* their buffers; or their numbers */
    uint32_t at;        /* how far the first piece has been read */
    int32_t error;      /* to be told after them, once */
};
static inline struct wr_ahead *wr_ahead(struct entry *e) { return atomic_load_explicit(&e->ahead, memory_order_acquire); }

/* A goroutine, or a thread, is about to wait for an edge of the reading side, in weir_read or weir_accept (`may`) or some other call. True:
 * a request is out, or has been made now, and its next word is that edge. False: ask the poller. */
bool wr_ahead_waits(struct entry *e, int fd, bool may);
/* Of the poller's edges, those that count: what there is to read is the ring's while a request is out. Lock held. */
unsigned wr_ahead_edges(struct wr_ahead *a, unsigned edges);
/* The number is given back, or was behind our back: nothing that is ahead is for who has it next. No lock held. */
void wr_ahead_close(struct entry *e);
/* The runtime has stopped: end all requests. */
void wr_ahead_stop(void);
/* poll(2) of descriptors whose entries are entered, where what is ahead counts as well. */
int wr_ahead_poll(struct pollfd *fds, struct entry **entries, size_t n);

/* receive.c and accept.c, for ahead.c, all with the lock held. Keep what the word brings: false: nothing, or that there is no place for.
 * `new`: the connection's entry; NULL: there is no memory for one. */
bool wr_received_keep(struct wr_ahead *a, const struct wr_word *w);
bool wr_accepted_keep(struct wr_ahead *a, const struct wr_word *w, struct entry *new);
/* Is so much ahead now that the request must end? */
bool wr_received_enough(struct wr_ahead *a, const struct wr_word *w);
bool wr_accepted_enough(const struct wr_ahead *a);
/* Up to n bytes to `to`, which may be NULL; look: and they stay. 0: there are none. */
int64_t wr_received_take(struct wr_ahead *a, void *to, size_t n, bool look);
/* The number of the oldest, or -1. */
int wr_accepted_take(struct wr_ahead *a);

#pragma GCC visibility pop
#endif
