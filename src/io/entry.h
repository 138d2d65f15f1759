/*
 * A descriptor's entry. For descriptor.c, which owns the entries and says how they are used.
 */
#ifndef WR_ENTRY_H
#define WR_ENTRY_H

#include "io/io.h"

#pragma GCC visibility push(hidden)

struct side {
    _Atomic uint32_t edges;    /* twice as many as there have been; changed under the lock */
    _Atomic uint32_t empty;    /* the count at which there was nothing left: no use in trying before the next */
    _Atomic uint32_t waiting;  /* length of the queue, to be read without the lock */
    struct wr_list queue;      /* wr_node, oldest first */
};

/* 96 bytes at most: of each number a program uses, and looked at by each call. */
struct entry {
    struct wr_source source;   /* of edges */
    struct wr_lock lock;       /* rank SYNC: the queues, edges */
    _Atomic bool registered;   /* with the poller; says nothing unless made */
    bool made : 1;             /* by weir: closed by weir too */
    bool stream : 1;           /* short reads tell */
    _Atomic bool ended;        /* short reads tell no longer */
    _Atomic uint64_t users;    /* calls in progress, by goroutines and by threads, and CLOSING */
    struct side sides[2];
};

/* NULL: no memory, or not a number that a descriptor can have here. */
struct entry *wr_entry_of(int fd);
/* The entry with the lowest number from *fd on, which *fd then is; NULL: there are no more. */
struct entry *wr_entry_from(int *fd);
/* Lock held: one more edge, and who waits first for it, claimed; or NULL. */
struct g *wr_entry_edge(struct side *side);

#pragma GCC visibility pop
#endif
