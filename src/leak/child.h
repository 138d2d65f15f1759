/* What the files that run in the child share besides leak.h. */
#ifndef WR_LEAK_CHILD_H
#define WR_LEAK_CHILD_H

#include "leak/leak.h"

#pragma GCC visibility push(hidden)

/* maps.c: reserve the child's memory; where it lies. Before all else. */
void wr_child_memory(uintptr_t *lo, uintptr_t *hi);
const struct wr_map *wr_map_of(uintptr_t at); /* NULL: none */

/* What the child sends: this, then n verdicts. */
struct wr_answer {
    int error;
    char why[240];
    size_t n, n_leaked, goroutines, candidates, heap_bytes, unknown_bytes, shared_bytes;
    char bounds[64];
};

/* judge.c: the whole of it. The answer's verdicts are the child's memory. */
void wr_judge(struct wr_answer *answer, struct wr_verdict **verdicts, weir_duration long_blocked);

/* ---- mark.c ---------------------------------------------------------------------------------------------- */

/* A goroutine, as the child sees it; one for each slot that was ever used. */
enum wr_kind { WR_DEAD, WR_ALIVE, WR_CANDIDATE };
struct wr_seen {
    uintptr_t sp;          /* its stack counts from here up; 0: it has none */
    uint8_t kind;          /* enum wr_kind */
    bool queued;           /* has come alive: once is enough */
    bool reached;          /* its stack has been, or will be, scanned: it is alive, or somebody has a pointer into it */
};

/* The slabs of stacks, by address. */
struct wr_slab {
    uintptr_t lo, hi;
    size_t slot;
    uint32_t used;
    struct wr_seen *seen;  /* of each slot in use; by wr_mark_init */
};
extern struct wr_slab *wr_slabs;
extern size_t wr_n_slabs;
void wr_slabs_find(void);                                 /* the first call does it */

/* After wr_heap_find. */
void wr_mark_init(void);
struct wr_seen *wr_seen_of(struct g *g);
struct g *wr_g_at(uintptr_t address);  /* whose slot it is; NULL: nobody's */
void wr_seen_each(void (*visit)(struct g *g, struct wr_seen *s));

/*
 * A thing is the unit of reaching: a block from malloc, or the live part of a goroutine's stack. Its key is an address that
 * names it: of the block's begin, or of the control block. 0: there is none at that address.
 */
uintptr_t wr_thing_at(uintptr_t address);
size_t wr_block_size(uintptr_t key);
void wr_thing_wakes(uintptr_t key);      /* wr_reached is to hear of it */
void wr_block_opaque(uintptr_t address); /* is none: leads nowhere, and nothing leads to it */

/* Where what is being looked at comes from: what gets reached takes it from here. */
struct wr_origin {
    enum wr_reach by;
    uint64_t owner;
    uintptr_t root;        /* the word in root memory, where there is one */
    uintptr_t holder;      /* the block that is being scanned; 0: the root memory itself */
};
extern struct wr_origin wr_origin;

/* Take a word for a pointer: what it reaches is marked, and will be scanned by the next wr_mark_drain. */
void wr_mark_word(uintptr_t word);
/* A goroutine has come alive: its stack will be scanned, and wr_alive called. */
void wr_mark_alive(struct g *g);
void wr_mark_drain(void);
/* Every word of it, and all that this reaches. */
void wr_mark_range(uintptr_t lo, uintptr_t hi);
void wr_mark_all(uintptr_t lo, uintptr_t hi); /* the same, but not only of pages that are private */

/* judge.c's part in it: a thing has been marked (a block only if it was said that it wakes somebody); a goroutine has
 * come alive; a block that is not to be scanned word by word (true: it has been dealt with). */
void wr_reached(uintptr_t key);
void wr_alive(struct g *g);
bool wr_scan_specially(uintptr_t lo, uintptr_t hi);

#pragma GCC visibility pop
#endif
