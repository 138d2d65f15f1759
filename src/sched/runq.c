/*
 * Run queues: each P's ring with its runnext slot, and the global queue.
 *
 * The ring. Only the owner moves tail; head is moved by compare-and-swap, by the owner and by thieves. A taker
 * reads the slots first and then moves head (release): if the swap succeeds nobody else took them, and the owner could not have
 * overwritten them, since it pushes only while tail - head < WR_RING, reading head with acquire.
 *
 * First come, first served, but for trees. A program that starts goroutines which start more goes through a tree: in the order in which
 * they were started level by level, where all of a level are there at once, each with a page of stack. The newest first is depth first: as
 * many are there as the tree is deep, on stacks that have just been given back; and a thief takes the oldest, which has the most below it.
 * A server, too, starts many, but all from one place. So the newest is taken if neither it nor the oldest has run yet, and it has more
 * ancestors. What has run before waits for what was there before it, as ever: who yields lets all others run. And so that the oldest is not
 * kept waiting for as long as the tree grows, it goes first after OLD; but only once in SOMETIMES, or it would be level by level again.
 *
 * Taking the newest. Thieves may be about to take several, up to the newest; so head is changed, though it stays where it is:
 *
 *   the owner:  tail - 1;                       head.taken + 1 by compare-and-swap (else tail + 1, and again)
 *   a thief:    head?  tail?  up to half of it: head + n       by compare-and-swap
 *
 * A thief that has read head before the owner changed it fails. One that reads it after that reads the new tail as well (release, acquire),
 * and does not take what is no longer there. model/ring.pml checks this.
 *
 * runnext is swapped by everyone. What is in it has been ready for a shorter time than anything
 * in the ring, but runs first, since it is the partner of what just ran and its data is hot; so that a pair
 * cannot starve the ring, WR_NEXT_CAP hand-offs in a row put the next one behind the ring.
 */
#include "sched/inner.h"

#include <stdlib.h>
#include <string.h>

/*
 * The global queue holds pointers by the hundred, in crates, and is no list through the goroutines. To go through such a list is to fetch
 * each from memory to learn which is the next, and those who are here have been out of the cache for long. Only where there is no memory
 * for a crate they are linked, behind all crates. sched.lock guards it.
 */
#define CRATE (sizeof ((struct wr_crate *)0)->g / sizeof(struct g *))
#define SPARE_CRATES 64

static struct wr_crate *add_crate(void) {
    struct wr_crate *c = wr_sched.spare_crates;
    if (c) wr_sched.spare_crates = c->next, wr_sched.n_spare_crates--;
    else if (!(c = malloc(sizeof *c))) return NULL;
    c->next = NULL;
    c->first = c->end = 0;
    if (wr_sched.global_tail) wr_sched.global_tail->next = c;
    else wr_sched.global_head = c;
    return wr_sched.global_tail = c;
}
/* The oldest, which is empty. */
static void drop_crate(void) {
    struct wr_crate *c = wr_sched.global_head;
    if (!(wr_sched.global_head = c->next)) wr_sched.global_tail = NULL;
    if (wr_sched.n_spare_crates == SPARE_CRATES) {
        free(c);
        return;
    }
    c->next = wr_sched.spare_crates;
    wr_sched.spare_crates = c, wr_sched.n_spare_crates++;
}

static void put(struct g *g) {
    struct wr_crate *c = wr_sched.global_tail;
    bool room = !wr_sched.global_rest.n && ((c && c->end < CRATE) || (c = add_crate()));
    if (wr_likely(room)) c->g[c->end++] = g;
    else wr_batch_add(&wr_sched.global_rest, g);
}

/* The oldest; how many there were. */
static uint32_t take(struct g **to, uint32_t most) {
    uint32_t n = 0;
    for (struct wr_crate *c; n < most && (c = wr_sched.global_head);) {
        uint32_t part = c->end - c->first < most - n ? c->end - c->first : most - n;
        memcpy(to + n, c->g + c->first, part * sizeof *to);
        n += part, c->first += part;
        if (c->first == c->end) drop_crate();
    }
    for (struct wr_batch *rest = &wr_sched.global_rest; n < most && rest->n; rest->n--) {
        to[n++] = rest->first;
        if (!(rest->first = rest->first->next)) rest->last = NULL;
    }
    atomic_fetch_sub_explicit(&wr_sched.global_n, n, memory_order_relaxed);
    return n;
}

void wr_global_forget(void) {
    while (wr_sched.global_head) drop_crate();
    for (struct wr_crate *c; (c = wr_sched.spare_crates); free(c)) wr_sched.spare_crates = c->next;
    wr_sched.n_spare_crates = 0;
    wr_sched.global_rest = (struct wr_batch){ 0 };
    atomic_store(&wr_sched.global_n, 0);
}

void wr_global_push(const struct wr_batch *b) {
    for (struct g *g = b->first, *next; g; g = next) {
        next = g->next;
        put(g);
    }
    atomic_fetch_add(&wr_sched.global_n, b->n); /* the publisher's fence, see worker.c */
}
void wr_global_push_one(struct g *g) {
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    put(g);
    atomic_fetch_add(&wr_sched.global_n, 1); /* its fence, too */
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
}

/*
 * One; and where p has nothing else, a share of the others. They go to the ring once the lock is free again: each is out of the cache,
 * perhaps in somebody else's. On its way it is in no queue, and who looks finds none and may go to sleep: so somebody is woken for it then.
 */
struct g *wr_global_pop(struct p *p) {
    struct g *some[1 + WR_RING / 2];
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    uint32_t share = 1, all = atomic_load_explicit(&wr_sched.global_n, memory_order_relaxed);
    if (p && wr_queue_empty(p)) share += all / (uint32_t)atomic_load_explicit(&wr_sched.procs, memory_order_relaxed);
    uint32_t n = take(some, share < 1 + WR_RING / 2 ? share : 1 + WR_RING / 2);
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    if (n < 2) return n ? some[0] : NULL;
    for (uint32_t i = 0; i < n; i++) wr_ring_push(p, some[i]);
    wr_fence(); /* the publisher's, see worker.c */
    wr_wake_worker();
    return wr_ring_pop(p);
}

/* Whoever succeeds has the n oldest. Else head is read anew. */
static bool move_head(struct p *p, uint64_t *head, uint32_t n) {
    uint64_t moved = (*head & ~(uint64_t)UINT32_MAX) | (uint32_t)((uint32_t)*head + n);
    return atomic_compare_exchange_strong_explicit(&p->head, head, moved, memory_order_acq_rel, memory_order_acquire);
}

/* The ring is full: half of it, and g, go to the global queue; or into the ring, if somebody has made room. */
static __attribute__((noinline)) void spill(struct p *p, struct g *g, uint64_t head) {
    struct g *half[WR_RING / 2];
    for (uint32_t i = 0; i < WR_RING / 2; i++)
        half[i] = atomic_load_explicit(&p->ring[((uint32_t)head + i) % WR_RING], memory_order_relaxed);
    if (!move_head(p, &head, WR_RING / 2)) {
        wr_ring_push(p, g);
        return;
    }
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    for (uint32_t i = 0; i < WR_RING / 2; i++) put(half[i]);
    put(g);
    atomic_fetch_add(&wr_sched.global_n, 1 + WR_RING / 2); /* the publisher's fence, see worker.c */
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
}

void wr_ring_push(struct p *p, struct g *g) {
    uint32_t tail = atomic_load_explicit(&p->tail, memory_order_relaxed);
    uint64_t head = atomic_load_explicit(&p->head, memory_order_acquire);
    if (wr_unlikely(tail - (uint32_t)head >= WR_RING)) {
        spill(p, g, head);
        return;
    }
    struct wr_queued *queued = &p->queued[tail % WR_RING];
    atomic_store_explicit(&queued->depth, g->fresh ? g->depth + 1 : 0, memory_order_relaxed);
    if (g->fresh) {
        weir_time now = atomic_load_explicit(&wr_sched.coarse, memory_order_relaxed);
        atomic_store_explicit(&queued->since, now, memory_order_relaxed);
    }
    atomic_store_explicit(&p->ring[tail % WR_RING], g, memory_order_relaxed);
    atomic_store_explicit(&p->tail, tail + 1, memory_order_release);
}

void wr_ring_push_all(struct p *p, const struct wr_batch *b) {
    bool others = b->n > 1 || !wr_queue_empty(p);
    for (struct g *g = b->first, *next; g; g = next) {
        next = g->next;
        wr_ring_push(p, g);
    }
    if (others) {
        wr_fence(); /* the publisher's, see worker.c */
        wr_wake_worker();
    }
}

void wr_next_push(struct p *p, struct g *g) {
    struct g *kicked = atomic_exchange(&p->runnext, g); /* the publisher's fence, see worker.c */
    if (kicked) {
        wr_ring_push(p, kicked);
        wr_fence(); /* and its fence */
    }
}

/* A new goroutine: into runnext if that is free, or else the ring: what has been made ready just now, whose data is hot, stays in front. */
void wr_push_new(struct p *p, struct g *g) {
    if (wr_likely(p != NULL) && atomic_load_explicit(&p->runnext, memory_order_relaxed)) {
        wr_ring_push(p, g);
        wr_fence(); /* the publisher's, see worker.c */
        return;
    }
    wr_push_ready(p, g);
}

void wr_push_ready(struct p *p, struct g *g) {
    if (wr_likely(p != NULL)) {
        wr_next_push(p, g);
        return;
    }
    wr_global_push_one(g);
}

#define OLD (10 * WEIR_MILLISECOND)
#define SOMETIMES (500 * WEIR_MICROSECOND)
#define LOOK_EVERY 64 /* turns, as the clock costs something */

static bool newest_first(struct p *p, struct wr_queued *oldest, struct wr_queued *newest) {
    uint32_t depth = atomic_load_explicit(&oldest->depth, memory_order_relaxed);
    if (wr_likely(depth == 0 || atomic_load_explicit(&newest->depth, memory_order_relaxed) <= depth)) return false;
    if (wr_likely(++p->newest_taken % LOOK_EVERY)) return true;
    weir_time now = wr_now();
    if (now - atomic_load_explicit(&oldest->since, memory_order_relaxed) < OLD || now - p->old_went < SOMETIMES) return true;
    p->old_went = now;
    return false;
}

/* The oldest has not run yet; or somebody else has taken it just now. */
static __attribute__((noinline)) struct g *pop_either(struct p *p, uint64_t head, uint32_t tail) {
    while ((uint32_t)head != tail) {
        uint32_t first = (uint32_t)head % WR_RING, last = (tail - 1) % WR_RING;
        if (newest_first(p, &p->queued[first], &p->queued[last])) {
            atomic_store_explicit(&p->tail, tail - 1, memory_order_relaxed);
            if (atomic_compare_exchange_strong_explicit(&p->head, &head, head + ((uint64_t)1 << 32), memory_order_acq_rel,
                                                        memory_order_acquire))
                return atomic_load_explicit(&p->ring[last], memory_order_relaxed);
            atomic_store_explicit(&p->tail, tail, memory_order_release);
        } else {
            struct g *g = atomic_load_explicit(&p->ring[first], memory_order_relaxed);
            if (move_head(p, &head, 1)) return g;
        }
    }
    return NULL;
}

struct g *wr_ring_pop(struct p *p) {
    uint64_t head = atomic_load_explicit(&p->head, memory_order_acquire);
    uint32_t tail = atomic_load_explicit(&p->tail, memory_order_relaxed), first = (uint32_t)head % WR_RING;
    if ((uint32_t)head == tail) return NULL;
    if (wr_likely(atomic_load_explicit(&p->queued[first].depth, memory_order_relaxed) == 0)) {
        struct g *g = atomic_load_explicit(&p->ring[first], memory_order_relaxed);
        if (wr_likely(move_head(p, &head, 1))) return g;
    }
    return pop_either(p, head, tail);
}

/* Seen by others than the owner this is only a hint, except after the fence that publishing and going idle share. */
bool wr_queue_empty(struct p *p) {
    return wr_ring_count(p) == 0 && !atomic_load(&p->runnext);
}

static void copy(struct p *to, uint32_t at, struct p *from, uint32_t i) {
    struct wr_queued *is = &from->queued[i % WR_RING], *will = &to->queued[at % WR_RING];
    struct g *g = atomic_load_explicit(&from->ring[i % WR_RING], memory_order_relaxed);
    atomic_store_explicit(&to->ring[at % WR_RING], g, memory_order_relaxed);
    atomic_store_explicit(&will->depth, atomic_load_explicit(&is->depth, memory_order_relaxed), memory_order_relaxed);
    atomic_store_explicit(&will->since, atomic_load_explicit(&is->since, memory_order_relaxed), memory_order_relaxed);
}

/* Half of the victim's ring moves to the thief's, which is empty; the oldest is returned to be run. */
struct g *wr_steal(struct p *thief, struct p *victim, bool also_next) {
    wr_dawdle();
    for (;;) {
        uint64_t head = atomic_load_explicit(&victim->head, memory_order_acquire);
        uint32_t tail = atomic_load_explicit(&victim->tail, memory_order_acquire);
        uint32_t n = tail - (uint32_t)head;
        n -= n / 2;
        if (n == 0) {
            struct g *g = also_next ? atomic_load_explicit(&victim->runnext, memory_order_acquire) : NULL;
            if (g && atomic_compare_exchange_strong_explicit(&victim->runnext, &g, NULL, memory_order_acq_rel,
                                                             memory_order_relaxed))
                return g;
            return NULL;
        }
        if (n > WR_RING / 2) continue; /* head and tail were not read at one moment */
        uint32_t to = atomic_load_explicit(&thief->tail, memory_order_relaxed);
        struct g *g = atomic_load_explicit(&victim->ring[(uint32_t)head % WR_RING], memory_order_relaxed);
        for (uint32_t i = 1; i < n; i++) copy(thief, to + i - 1, victim, (uint32_t)head + i);
        if (!move_head(victim, &head, n)) continue;
        atomic_store_explicit(&thief->tail, to + n - 1, memory_order_release);
        return g;
    }
}
