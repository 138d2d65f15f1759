/*
 * leak: which goroutines have leaked, proven. The method, its soundness and its limits are in doc/leaks.md; who does what:
 *
 *   prove.c     the steps: stop the world, fork, let it go on, read the verdict from the child
 *   judge.c     in the child: who waits for what, who is alive, what that reaches; the fixed point
 *   mark.c      in the child: memory as blocks, finding the block of a word, scanning
 *   heap.c      in the child: where malloc's blocks begin and end
 *   maps.c      in the child: the mappings, and which of their pages are there
 *   report.c    in the parent: verdicts become a report, with stacks, names and lines
 *   heal.c, watch.c, at_exit.c, no_leaks.c, registry.c: the rest of include/weir/leak.h
 *
 * The child is alone in a copy of the process in which any lock may be held: it calls nothing that allocates, locks or
 * runs the scheduler. Memory it gets from wr_child_alloc; what it finds it may change, for the copy is its own.
 */
#ifndef WR_LEAK_H
#define WR_LEAK_H

#include "base/base.h"
#include "sched/sched.h"

#pragma GCC visibility push(hidden)

/* ---- What a proof says (prove.c) ---------------------------------------------------------------------- */

/* Why a goroutine that has been blocked for long counts as alive: what reaches it. */
enum wr_reach {
    WR_REACH_NONE,      /* nothing does: leaked */
    WR_REACH_MODULE,    /* a word in the data of a program or library, or in other memory of the process: `root` */
    WR_REACH_THREAD,    /* the stack, registers or thread-locals of thread `owner` */
    WR_REACH_GOROUTINE, /* the stack of goroutine `owner`, which can still run */
    WR_REACH_TIMER,     /* a pending timer or deadline */
    WR_REACH_REGISTERED /* weir_leak_root, weir_leak_ignore */
};

struct wr_verdict {
    struct g *g;
    uint64_t id;            /* to be compared with g->id: the control block may be somebody else's by now */
    bool leaked;            /* false: blocked for longer than `long_blocked`, and alive because of what follows */
    enum wr_reach by;
    uintptr_t root;         /* where the root's word lies; 0: no single word */
    uint64_t owner;         /* tid, or goroutine id */
    uintptr_t holder;       /* the heap block that holds the last pointer of the chain; 0: the root itself does */
    size_t holder_size;
};

struct wr_proof {
    int error;              /* 0, -EBUSY (inconclusive), -ENOMEM */
    char why[240];          /* of an error, for a reader */
    struct wr_verdict *verdicts; /* malloc'ed; the leaked ones first */
    size_t n, n_leaked;
    size_t goroutines, candidates;
    weir_duration pause, total;
    size_t heap_bytes;      /* in blocks whose bounds are known */
    size_t unknown_bytes;   /* private memory whose structure is not known, so all of it counted as roots */
    size_t shared_bytes;    /* not looked at */
    char bounds[64];        /* who told the bounds: "glibc malloc", "libweir-heapmap", "glibc malloc, libweir-heapmap", "" */
    unsigned attempts;
    uint32_t registered;    /* wr_leak_registry.changes of its moment */
};

/* Prove, now. Blocks the calling goroutine or thread, not its processor; is not cancelled. Verdicts on goroutines blocked
 * longer than long_blocked yet alive are given too (WR_NEVER: none). One proof runs at a time. */
void wr_prove(struct wr_proof *proof, weir_duration long_blocked);
void wr_proof_free(struct wr_proof *proof);

/* ---- What the user has registered (registry.c) -------------------------------------------------------- */

struct wr_leak_range {
    uintptr_t lo, hi;
};
struct wr_leak_registry {
    struct wr_lock lock;            /* rank LEAF; prove.c holds it while it forks */
    struct wr_leak_range *roots;    /* weir_leak_root: malloc'ed arrays */
    size_t n_roots;
    const void **ignored;           /* weir_leak_ignore */
    size_t n_ignored;
    _Atomic uint32_t changes;       /* more was registered: proofs from before that mark nobody for good */
};
extern struct wr_leak_registry wr_leak_registry;
void wr_leak_judge_anew(void);      /* who was found to have leaked is to be found anew */

/* ---- In the child: memory of its own, and mappings (maps.c) ------------------------------------------- */

/* Zeroed, page-aligned if large, never given back. Ends the child (inconclusive, "out of memory") if there is none. */
void *wr_child_alloc(size_t bytes);
/* The child's last word: the proof is inconclusive, and why. */
_Noreturn void wr_child_give_up(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

struct wr_map {
    uintptr_t lo, hi;
    bool readable, writable, shared;
    bool file;                      /* backed by one: `name` is its path */
    char name[64];                  /* the path's last part, "[heap]", "[stack]", "[anon:…]" or "" */
};
extern struct wr_map *wr_maps;      /* sorted */
extern size_t wr_n_maps;
void wr_maps_read(void);
/* Call visit for each run of pages of [lo, hi) that hold something: not those that were never touched (they read as
 * zeroes, or as their file), are unreadable by a guard, or have been given back. */
void wr_pages_each(uintptr_t lo, uintptr_t hi, void (*visit)(uintptr_t lo, uintptr_t hi, void *arg), void *arg);

/* ---- In the child: malloc's blocks (heap.c) ------------------------------------------------------------ */

/* Of 64 granules of 16 bytes, a bit for each; side by side, for they are looked at together. */
struct wr_granules {
    uint64_t bound;                 /* something begins here: a block, free or used, or what is not a block */
    uint64_t used;                  /* and that is a block in use. It reaches to the next bound (or the region's end) */
    uint64_t mark;                  /* mark.c: it has been reached */
    uint64_t wakes;                 /* mark.c: whoever reaches it wakes somebody */
};

/*
 * A region of memory that is a heap, or a part of one. The first `header` bytes of a used block are the allocator's, not the
 * user's; and the user's memory goes on for `tail` bytes into the next block's header (glibc: 16 and 8).
 */
struct wr_region {
    uintptr_t lo, hi;               /* multiples of 16 */
    uint32_t header, tail;
    struct wr_granules *map;        /* wr_child_alloc'ed, one more at least than needed */
    bool spares;                    /* one past the end of the user's memory still is inside of the block */
};
#define wr_bit(region, what, i) ((region)->map[(i) / 64].what >> ((i) % 64) & 1)
#define wr_bit_set(region, what, i) ((void)((region)->map[(i) / 64].what |= (uint64_t)1 << ((i) % 64)))
#define wr_bit_clear(region, what, i) ((void)((region)->map[(i) / 64].what &= ~((uint64_t)1 << ((i) % 64))))

/*
 * Find what can be bounded, from wr_maps: sets wr_regions (sorted by lo, disjoint), and wr_heap_bounds to who told. A heap that
 * does not add up is left out: then all of it counts as a root, which hides leaks but invents none. Chunks
 * that are free, those in malloc's caches among them, are bounds that are not used.
 */
void wr_heap_find(void);
extern struct wr_region *wr_regions;
extern size_t wr_n_regions;
extern char wr_heap_bounds[64];
/* Memory that is the allocator's own, outside of any region, and no root (glibc: the arenas' headers, wherever they are). */
extern struct wr_leak_range *wr_heap_private;
extern size_t wr_n_heap_private;

#pragma GCC visibility pop
#endif
