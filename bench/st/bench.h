/* What the files of State Threads' side of the benchmark share: the clock, starting threads, a wait group, channels. */
#ifndef BENCH_H
#define BENCH_H

#include <st.h>

#include "../report.h"

typedef int64_t duration; /* nanoseconds */

struct row {
    const char *name;
    void (*run)(const char *row, long n);
};

/* Tables that end with an empty row. */
extern const struct row thread_rows[], channel_rows[], tree_rows[];

/* A call that gives -1 fails the row, with errno. */
void must(int result, const char *call);
#define MUST(call) must((call), #call)

duration now(void);

/* Start a thread that nobody joins, or fail. */
void start(void *(*run)(void *arg), void *arg);

/* Counts threads down. There is one processor and no preemption: nothing here is locked. */
struct wait_group {
    long left;
    st_cond_t zero;
};
void wait_group_add(struct wait_group *wg, long count);
void wait_group_done(struct wait_group *wg);
void wait_group_wait(struct wait_group *wg);

/*
 * A channel, of a ring and two condition variables. A sender waits while the ring holds `capacity` elements and one more for each receiver
 * that waits: so with capacity 0 an element goes to a receiver that is there, as in weir, and a sender that finds one goes on.
 */
struct channel {
    char *ring;
    size_t size;         /* of an element */
    long slots;          /* in the ring: capacity, and the most receivers */
    long capacity;
    long count, first;   /* elements in the ring, and where they begin */
    long receivers;      /* that wait */
    long senders;        /* that wait */
    bool closed;
    st_cond_t not_empty, not_full;
};
void channel_init(struct channel *ch, size_t size, long capacity, long most_receivers);
void channel_end(struct channel *ch);
void channel_send(struct channel *ch, const void *element);
bool channel_receive(struct channel *ch, void *element); /* false when it is closed and empty */
void channel_close(struct channel *ch);

#endif
