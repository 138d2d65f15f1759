/*
 * What the user has told the proof: objects that count as reachable, memory that it does not find by itself.
 *
 * The lists are arrays that grow; memory is asked for without the lock, since a proof holds that while it forks, and
 * fork wants malloc's.
 */
#include "leak/report.h"

#include <stdlib.h>
#include <string.h>

#include "trace/trace.h"

struct wr_leak_registry wr_leak_registry;
static size_t room_for_roots, room_for_ignored;

static void lock(void) { wr_lock(&wr_leak_registry.lock, WR_RANK_LEAF); }
static void unlock(void) { wr_unlock(&wr_leak_registry.lock, WR_RANK_LEAF); }

/* Locked before and after: *array, of n elements, has room for one more. */
static void make_room(void *array, const size_t *n, size_t *room, size_t element) {
    while (*n == *room) {
        size_t seen = *room, more = seen ? 2 * seen : 16;
        unlock();
        void *now = calloc(more, element), *old = now;
        if (!now) wr_fatal("weir_leak_ignore, weir_leak_root: out of memory");
        lock();
        if (*room == seen) {
            memcpy(&old, array, sizeof old);
            if (*n) memcpy(now, old, *n * element);
            memcpy(array, &now, sizeof now);
            *room = more;
        }
        unlock();
        free(old); /* the smaller array, or ours, if somebody else was faster */
        lock();
    }
}

static void forget(struct g *g, bool held, void *arg) {
    (void)arg;
    if (held) atomic_store_explicit(&g->leaked, false, memory_order_relaxed);
}

_Atomic bool wr_leaks_marked;

/* Earlier verdicts were made without knowing this. One that comes later and was made earlier sees `changes`. */
void wr_leak_judge_anew(void) {
    if (!atomic_load_explicit(&wr_leaks_marked, memory_order_acquire) || !wr_dump_enter()) return;
    wr_each_goroutine(forget, NULL);
    wr_dump_leave();
}

void weir_leak_ignore(const void *obj) {
    if (!obj) return;
    lock();
    make_room(&wr_leak_registry.ignored, &wr_leak_registry.n_ignored, &room_for_ignored, sizeof obj);
    wr_leak_registry.ignored[wr_leak_registry.n_ignored++] = obj;
    atomic_fetch_add(&wr_leak_registry.changes, 1);
    unlock();
    wr_leak_judge_anew();
}

void weir_leak_unignore(const void *obj) {
    lock();
    for (size_t i = wr_leak_registry.n_ignored; i-- > 0;)
        if (wr_leak_registry.ignored[i] == obj) {
            wr_leak_registry.ignored[i] = wr_leak_registry.ignored[--wr_leak_registry.n_ignored];
            /* The proof finds words, whatever they are for. */
            wr_leak_registry.ignored[wr_leak_registry.n_ignored] = NULL;
            break;
        }
    unlock();
}

void weir_leak_root(const void *p, size_t n) {
    if (!p || !n) return;
    lock();
    make_room(&wr_leak_registry.roots, &wr_leak_registry.n_roots, &room_for_roots, sizeof(struct wr_leak_range));
    wr_leak_registry.roots[wr_leak_registry.n_roots++] = (struct wr_leak_range){ (uintptr_t)p, (uintptr_t)p + n };
    atomic_fetch_add(&wr_leak_registry.changes, 1);
    unlock();
    wr_leak_judge_anew();
}

void weir_leak_unroot(const void *p, size_t n) {
    lock();
    for (size_t i = wr_leak_registry.n_roots; i-- > 0;) {
        struct wr_leak_range *range = &wr_leak_registry.roots[i];
        if (range->lo == (uintptr_t)p && range->hi - range->lo == n) {
            *range = wr_leak_registry.roots[--wr_leak_registry.n_roots];
            wr_leak_registry.roots[wr_leak_registry.n_roots] = (struct wr_leak_range){ 0, 0 };
            break;
        }
    }
    unlock();
}
