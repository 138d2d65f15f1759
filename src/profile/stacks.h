/*
 * A table of stacks and what was counted on each: for the files of this room. Any number of threads add at once, in signal handlers
 * too; others read meanwhile. See stacks.c for why that is right.
 */
#ifndef WR_PROFILE_STACKS_H
#define WR_PROFILE_STACKS_H

#include "profile/profile.h"
#include "trace/trace.h"

#pragma GCC visibility push(hidden)

/* One stack, with the labels of whoever was on it. */
struct wr_stack_cell {
    _Atomic uint64_t hash;        /* 0: free. Set once, by who takes the cell */
    _Atomic uint32_t ready;       /* all that follows but the sums is there, and stays */
    uint16_t n;                   /* addresses */
    uint16_t n_text;              /* bytes of text */
    uint32_t at;                  /* the first word; the text comes after the addresses */
    _Atomic uint32_t shown;       /* contention.c's: which of them are shown; 0: not looked up yet */
    _Atomic uint64_t count;       /* in 1/65536, as sampled events have fractions */
    _Atomic uint64_t nanoseconds;
};

/* Of a size that is fixed when it is made. Memory that is not used is not real. */
struct wr_stack_table {
    struct wr_stack_cell *_Atomic cells; /* NULL: not made, and then all goes to `rest` */
    uint32_t n_cells;             /* a power of two */
    uintptr_t *words;             /* behind the cells: addresses and text */
    size_t n_words;
    _Atomic size_t used_words;
    size_t bytes;                 /* of the mapping */
    _Atomic uint64_t rest, rest_nanoseconds; /* what there was no room for */
};

enum { WR_COUNT_ONE = 1 << 16, WR_LONGEST_STACK = WR_DEPTH };

/* Make it: 0, -ENOMEM. Not called twice at once, nor while others may see it half made. */
int wr_stack_table_make(struct wr_stack_table *s, uint32_t n_cells, size_t n_words);
/* Nobody adds or reads. */
void wr_stack_table_drop(struct wr_stack_table *s);
/* Add count / 65536 events. Async-signal-safe; any thread. n ≤ WR_LONGEST_STACK. */
void wr_stack_table_add(struct wr_stack_table *s, const uintptr_t *pcs, size_t n, const char *text, size_t n_text, uint64_t count,
                   uint64_t nanoseconds);
/* Call visit for each stack and text, with the sums; what is in `rest` is not among them. Returns how many. */
typedef void wr_stack_visitor(struct wr_stack_cell *c, const uintptr_t *pcs, const char *text, uint64_t count, uint64_t nanoseconds,
                              void *arg);
size_t wr_stack_table_each(struct wr_stack_table *s, wr_stack_visitor *visit, void *arg);

/* Where it lies, if it is made. */
void wr_stack_table_memory(struct wr_stack_table *s, void (*visit)(uintptr_t lo, uintptr_t hi));

/* What the files of this room have, for wr_profile_memory_each. */
void wr_contention_memory_each(void (*visit)(uintptr_t lo, uintptr_t hi));
void wr_cpu_memory_each(void (*visit)(uintptr_t lo, uintptr_t hi));

/* The stack that stands for those that there was no room for. */
extern const uintptr_t wr_full_stack[1];

#pragma GCC visibility pop
#endif
