/* What was copied of a goroutine while it was held, between collect.c and describe.c. */
#ifndef WR_LEAK_ITEM_H
#define WR_LEAK_ITEM_H

#include "leak/report.h"
#include "trace/trace.h"

#pragma GCC visibility push(hidden)

enum { WR_LEAK_OBJECTS = 4 }; /* shown of a select */

/* Something that is waited on. */
struct wr_leak_object {
    const void *address;
    enum wr_reason verb;       /* in a select: send or receive */
    size_t cap;                /* of a channel */
    uintptr_t made_at;         /* and the pc that made it; 0: not read */
};

struct wr_leak_item {
    struct wr_snapshot s;
    uint8_t reason;
    bool leaked;
    const struct wr_verdict *verdict;
    uintptr_t start;           /* the function it was started with */
    const void *object;
    uint32_t n_objects;        /* in a select: of arms */
    struct wr_leak_object objects[WR_LEAK_OBJECTS];
    uintptr_t pcs[WR_DEPTH + 1];
};

/* Say in words what g's goroutines have in common, after the first of them, whose shown stack is pcs[from … to). */
void wr_describe_group(weir_leak_report *r, struct wr_leak_group *g, const struct wr_leak_item *item,
                       size_t from, size_t to);

#pragma GCC visibility pop
#endif
