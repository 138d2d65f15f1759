/*
 * What libweir-debug uses of the core: one table of functions, and nothing else, not even weir.h's own. A program has the core
 * once, in its own file or as libweir.so, while libweir-debug may be linked with it or loaded later, into a program that exports
 * nothing; so it gets the core's addresses through this table, either from weir_inside_() or handed over (start/debug.c).
 *
 * A function that is added goes to the end and makes `size` larger; anything else that changes makes `version` another one. A
 * library that was built for another version, or for more than there is, refuses to work.
 *
 * Any thread may call these, on no goroutine; none parks, none counts the caller as one of the program's threads.
 */
#ifndef WR_INSIDE_H
#define WR_INSIDE_H

#include "weir.h"

#define WR_INSIDE_VERSION 1

/* Goroutines, threads or events that share a stack. */
struct wr_inside_stack {
    const uintptr_t *pcs;  /* return addresses, innermost first, without weir's own machinery */
    size_t n;              /* at least 1 */
    uint64_t count;
    uint64_t nanoseconds;  /* of events: all together */
    const char *labels;    /* {"key":"value", …}; "": none */
};
typedef void wr_inside_visit(const struct wr_inside_stack *s, void *arg); /* what it gets stays valid until it returns */

/* Kinds of stacks. LEAKED: those that a proof has found, whenever. */
enum wr_inside_kind { WR_INSIDE_GOROUTINES, WR_INSIDE_LEAKED, WR_INSIDE_THREADS, WR_INSIDE_BLOCK, WR_INSIDE_MUTEX };

/* A function at a pc; of those that were inlined there, one. As struct wr_frame of the trace room. */
struct wr_inside_name {
    const char *function;  /* or the object's file name; stays valid */
    const char *file;      /* "?\?": not known; stays valid */
    int line;              /* 0: not known */
    bool named;            /* function is one */
    uintptr_t offset;      /* of pc − 1 in it */
};

struct wr_inside_proven {
    size_t leaked, healed;
    char why[240];         /* of an error, for a reader */
};

struct wr_metrics;         /* src/profile/profile.h */
struct wr_proofs;

struct wr_inside {
    uint32_t version, size;

    /* Make a thread of weir's own, as wr_helper_thread of sched/sched.h. */
    int (*thread)(size_t stack, void (*fn)(void *), void *arg);

    /* How many there are of what `stacks` would visit, cheaply; of LEAKED: use `proofs`. */
    size_t (*count)(enum wr_inside_kind what);
    /* Visit them, most first where they are goroutines. 0, -ENOMEM. */
    int (*stacks)(enum wr_inside_kind what, wr_inside_visit *visit, void *arg);
    /* weir_dump. */
    int (*dump)(int fd, int level);
    /* A proof, and healing if wanted. 0; -EBUSY: inconclusive, *proven says why; -ENOMEM. */
    int (*prove)(bool heal, struct wr_inside_proven *proven);
    void (*proofs)(struct wr_proofs *p); /* wr_proofs_take of profile/profile.h */
    /* What weir_mutex_profile_fraction has been given. */
    int (*mutex_fraction)(void);

    /* Run fn(arg) on a stack that is large enough for `names`. -ENOMEM. */
    int (*on_large_stack)(void (*fn)(void *), void *arg);
    /* What is at the return address pc: innermost first, at least 1. innermost: leave weir's own out, as it is the call that blocks. */
    size_t (*names)(uintptr_t pc, bool innermost, struct wr_inside_name *names, size_t max);
    bool (*has_lines)(void);

    /* The CPU profile, as wr_cpu_profile_start and _stop of profile/profile.h. */
    int (*cpu_start)(int hz);
    int (*cpu_stop)(wr_inside_visit *visit, void *arg);

    /* As wr_metrics_take of profile/profile.h; and the words for enum wr_reason, by which that counts. */
    void (*metrics)(struct wr_metrics *m);
    const char *const *reasons;
};

/* The core's table. */
WEIR_BEGIN_
WEIR_API_ const struct wr_inside *weir_inside_(void);
WEIR_END_

#endif
