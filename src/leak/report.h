/*
 * Reports: what a proof, or the end of a weir_no_leaks block, has to say, for readers and for programs. collect.c
 * fills one from the goroutines themselves, print.c writes it, report.c has the public calls.
 *
 * A report may be held for long, and its memory is searched like any other by the next proof. So it keeps addresses
 * of what goroutines wait on only for those that have leaked (they stay listed whatever reaches them); all others are
 * text.
 */
#ifndef WR_LEAK_REPORT_H
#define WR_LEAK_REPORT_H

#include "leak/leak.h"

#pragma GCC visibility push(hidden)

enum { WR_LISTED_IDS = 10 };

/* Goroutines of one stack, state and place of start. */
struct wr_leak_group {
    struct wr_leak_group *next;       /* in its bucket */
    uint64_t hash;
    const struct weir_site_ *site;
    const char *reason;               /* the state, NULL: a stack alone, that of a creator */
    bool leaked;                      /* else alive, and reached by `why`; or of a weir_no_leaks block */
    size_t count, order;              /* how many; how many groups came before it */
    uint64_t ids[WR_LISTED_IDS];      /* the first of them */
    weir_time since;                  /* the earliest; 0: not known */
    uint64_t creator;                 /* of the first */
    const char *creator_stack, *name;
    const char *function, *file, *created_by; /* as in weir_leak */
    int line;
    const char *at_function, *at_file;
    int at_line;
    const char *stack;                /* text */
    const char *objects;              /* what the first waits on; "": nothing to say */
    const char *why;                  /* what reaches the first; "": nothing does, or it was not asked */
    size_t n_pcs;
    uintptr_t pcs[];
};

struct wr_leak_chunk;

/* The objects in it are no reason for the next proof to call them reached. */
struct wr_leak_list {
    uintptr_t tag;                    /* WR_TAG_OPAQUE */
    weir_leak leaks[];
};

struct weir_leak_report {
    int error;                        /* of the proof: 0 or -EBUSY */
    const char *title;                /* the name of a weir_no_leaks block; NULL: of a proof */
    struct wr_proof proof;            /* without its verdicts */
    weir_time made;
    weir_leak *leaks;                 /* in `list`, by id */
    struct wr_leak_list *list;
    size_t n, capacity;
    struct wr_leak_group **buckets;   /* n_buckets, a power of two; or NULL */
    size_t n_groups, n_buckets;
    const char *growth;               /* what the watch has to add; NULL: nothing */
    struct wr_leak_chunk *chunks;     /* texts and groups */
    bool no_memory;
};

/* Zeroed memory that goes with the report; NULL (and no_memory): none. */
void *wr_report_alloc(weir_leak_report *r, size_t size);
const char *wr_report_text(weir_leak_report *r, const char *text);
void wr_report_free_all(weir_leak_report *r);

/* Fill r from those that proof names, and those that were named before; marks them. The caller has entered
 * (wr_dump_enter). 0, -ENOMEM. */
int wr_collect_proven(weir_leak_report *r, struct wr_proof *proof);
/* Fill r from goroutines that live with an id of `from` or above, but for the caller. */
int wr_collect_living(weir_leak_report *r, uint64_t from);

/* A goroutine has been marked as leaked since the process began. */
extern _Atomic bool wr_leaks_marked;

/* A proof and its report. As weir_leaks, and out is not NULL. */
int wr_leaks(weir_leak_report **out);
/* Blocked for longer than this and reachable: told why. A minute, but for tests. */
extern weir_duration wr_long_blocked;
void wr_duration_text(weir_duration d, char *text, size_t size);

#pragma GCC visibility pop
#endif
