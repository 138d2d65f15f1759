/*
 * Run queues: each P's ring with its runnext slot, and the global queue.
 *
 * The ring. Only the owner moves tail; head is moved by compare-and-swap, by the owner and by thieves. A taker
 * reads the slots first and then moves head (release): if the swap succeeds nobody else took them, and the owner could not have
 * overwritten them, since it pushes only while tail - head < WR_RING, reading head with acquire.
 *
 * runnext is swapped by everyone. What is in it has been ready for a shorter time than anything
 * in the ring, but runs first, since it is the partner of what just ran and its data is hot; so that a pair
 * cannot starve the ring, WR_NEXT_CAP hand-offs in a row put the next one behind the ring.
 */
#include "sched/inner.h"

void wr_global_push(struct g *first, struct g *last, uint32_t n) {
    last->next = NULL;
    if (wr_sched.global_tail) wr_sched.global_tail->next = first;
    else wr_sched.global_head = first;
    wr_sched.global_tail = last;
    atomic_fetch_add(&wr_sched.global_n, n); /* the publisher's fence, see worker.c */
}

static struct g *global_take(void) {
    struct g *g = wr_sched.global_head;
    if (!g) return NULL;
    wr_sched.global_head = g->next;
    if (!g->next) wr_sched.global_tail = NULL;
    g->next = NULL;
    atomic_fetch_sub_explicit(&wr_sched.global_n, 1, memory_order_relaxed);
    return g;
}

struct g *wr_global_pop(struct p *p) {
    struct g *first = global_take();
    if (!first || !p) return first;
    uint32_t share = atomic_load_explicit(&wr_sched.global_n, memory_order_relaxed) /
                     (uint32_t)atomic_load_explicit(&wr_sched.procs, memory_order_relaxed);
    if (share > WR_RING / 2) share = WR_RING / 2;
    for (; share > 0; share--) {
        uint32_t tail = atomic_load_explicit(&p->tail, memory_order_relaxed);
        if (tail - atomic_load_explicit(&p->head, memory_order_acquire) >= WR_RING) break;
        struct g *g = global_take();
        if (!g) break;
        atomic_store_explicit(&p->ring[tail % WR_RING], g, memory_order_relaxed);
        atomic_store_explicit(&p->tail, tail + 1, memory_order_release);
    }
    return first;
}

/* The ring is full: half of it, and g, go to the global queue. */
static bool spill(struct p *p, struct g *g, uint32_t head) {
    struct g *batch[WR_RING / 2 + 1];
    uint32_t n = WR_RING / 2;
    for (uint32_t i = 0; i < n; i++)
        batch[i] = atomic_load_explicit(&p->ring[(head + i) % WR_RING], memory_order_relaxed);
    if (!atomic_compare_exchange_strong_explicit(&p->head, &head, head + n, memory_order_acq_rel,
                                                 memory_order_relaxed))
        return false;
    batch[n] = g;
    for (uint32_t i = 0; i < n; i++) batch[i]->next = batch[i + 1];
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    wr_global_push(batch[0], batch[n], n + 1);
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    return true;
}

void wr_ring_push(struct p *p, struct g *g) {
    for (;;) {
        uint32_t tail = atomic_load_explicit(&p->tail, memory_order_relaxed);
        uint32_t head = atomic_load_explicit(&p->head, memory_order_acquire);
        if (wr_likely(tail - head < WR_RING)) {
            atomic_store_explicit(&p->ring[tail % WR_RING], g, memory_order_relaxed);
            atomic_store_explicit(&p->tail, tail + 1, memory_order_release);
            return;
        }
        if (spill(p, g, head)) return;
    }
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

/*
 * A new goroutine: into runnext if that is free, or the ring, behind those that were there before it. So those that are started one after the
 * other run in that order, and what has been made ready just now, whose data is hot, stays in front.
 */
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
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    wr_global_push(g, g, 1);
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
}

struct g *wr_ring_pop(struct p *p) {
    uint32_t head = atomic_load_explicit(&p->head, memory_order_acquire);
    for (;;) {
        if (head == atomic_load_explicit(&p->tail, memory_order_relaxed)) return NULL;
        struct g *g = atomic_load_explicit(&p->ring[head % WR_RING], memory_order_relaxed);
        if (atomic_compare_exchange_weak_explicit(&p->head, &head, head + 1, memory_order_acq_rel,
                                                  memory_order_acquire))
            return g;
    }
}

/* Seen by others than the owner this is only a hint, except after the fence that publishing and going idle share. */
bool wr_queue_empty(struct p *p) {
    return atomic_load(&p->head) == atomic_load(&p->tail) && !atomic_load(&p->runnext);
}

/* Half of the victim's ring moves to the thief's, which is empty; the last one taken is returned to be run. */
struct g *wr_steal(struct p *thief, struct p *victim, bool also_next) {
    wr_dawdle();
    for (;;) {
        uint32_t head = atomic_load_explicit(&victim->head, memory_order_acquire);
        uint32_t tail = atomic_load_explicit(&victim->tail, memory_order_acquire);
        uint32_t n = tail - head;
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
        for (uint32_t i = 0; i < n; i++)
            atomic_store_explicit(&thief->ring[(to + i) % WR_RING],
                                  atomic_load_explicit(&victim->ring[(head + i) % WR_RING], memory_order_relaxed),
                                  memory_order_relaxed);
        if (!atomic_compare_exchange_strong_explicit(&victim->head, &head, head + n, memory_order_acq_rel,
                                                     memory_order_relaxed))
            continue;
        struct g *g = atomic_load_explicit(&thief->ring[(to + n - 1) % WR_RING], memory_order_relaxed);
        atomic_store_explicit(&thief->tail, to + n - 1, memory_order_release);
        return g;
    }
}
