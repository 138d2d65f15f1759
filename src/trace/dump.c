/*
 * weir_dump: every goroutine, or as many as there are of each stack.
 *
 * The program goes on meanwhile. Goroutines are taken in batches: while one is held its stack is copied, and
 * nothing else; names are looked up and text is written when the batch is full and nobody is held. So level 2
 * needs the same memory for any number of goroutines; level 1 needs room for each distinct stack. All of it
 * runs on a mapping of its own, because the caller's stack may be small and libdw's appetite is not.
 *
 * gate: how many dumps are in progress, and whether one may begin. Its mutex is held for moments only.
 */
#include "trace/trace.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- The gate ---------------------------------------------------------------------------------------- */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t left;
    bool open;
    unsigned inside;
} gate = { .lock = PTHREAD_MUTEX_INITIALIZER, .left = PTHREAD_COND_INITIALIZER };

_Atomic uint32_t wr_dump_cancel;

bool wr_dump_enter(void) {
    pthread_mutex_lock(&gate.lock);
    bool open = gate.open;
    if (open) gate.inside++;
    pthread_mutex_unlock(&gate.lock);
    return open;
}

void wr_dump_leave(void) {
    pthread_mutex_lock(&gate.lock);
    if (--gate.inside == 0) pthread_cond_broadcast(&gate.left);
    pthread_mutex_unlock(&gate.lock);
}

void wr_dump_open(void) {
    atomic_store_explicit(&wr_dump_cancel, 0, memory_order_release);
    pthread_mutex_lock(&gate.lock);
    gate.open = true;
    pthread_mutex_unlock(&gate.lock);
}

void wr_dump_close(void) {
    atomic_store_explicit(&wr_dump_cancel, 1, memory_order_release);
    pthread_mutex_lock(&gate.lock);
    gate.open = false;
    while (gate.inside > 0) pthread_cond_wait(&gate.left, &gate.lock);
    pthread_mutex_unlock(&gate.lock);
}

/* ---- Batches ------------------------------------------------------------------------------------------ */

enum {
    BATCH = 64,
    BATCH_PCS = 3072,
    PATIENCE = 4 /* threads that do not answer, as where signals are blocked, until no more are asked */
};

struct batch {
    const struct g *self;         /* left out: the caller knows more about itself */
    struct wr_cursor cursor;
    int unanswered;               /* goroutines whose stacks could not be had, in the whole dump */
    size_t n, n_pcs;
    struct wr_snapshot goroutines[BATCH];
    uintptr_t pcs[BATCH_PCS];
};

static bool room_for_one(const struct batch *b) { return b->n < BATCH && b->n_pcs + WR_DEPTH + 1 <= BATCH_PCS; }

static bool take(struct g *g, bool held, void *arg) {
    struct batch *b = arg;
    if (g == b->self) return true;
    struct wr_snapshot *s = &b->goroutines[b->n];
    if (wr_snapshot_take(g, held, s, b->pcs + b->n_pcs, b->unanswered < PATIENCE)) {
        b->unanswered += s->unavailable;
        b->n_pcs += s->n;
        b->n++;
    }
    return room_for_one(b);
}

/* The next few goroutines; false: there are no more. */
static bool next_batch(struct batch *b) {
    bool more = true;
    b->n = b->n_pcs = 0;
    while (more && b->n == 0) more = wr_next_goroutines(&b->cursor, take, b);
    return b->n > 0;
}

static bool cancelled(void) { return atomic_load_explicit(&wr_dump_cancel, memory_order_acquire) != 0; }

/* ---- Level 2 ------------------------------------------------------------------------------------------ */

static void hint_put(struct wr_text *t) {
    if (!wr_symbol_has_lines())
        wr_text_put(t, "# weir was built without libdw, so there are no lines; addr2line knows them\n");
}

static void dump_each(struct wr_text *t, const struct wr_snapshot *self, struct batch *b) {
    bool first = true;
    if (self) {
        wr_snapshot_put(t, self);
        first = false;
    }
    while (!t->error && !cancelled() && next_batch(b))
        for (size_t i = 0; i < b->n && !t->error; i++, first = false) {
            if (!first) wr_text_put(t, "\n");
            wr_snapshot_put(t, &b->goroutines[i]);
        }
    if (first || wr_symbol_has_lines()) return;
    wr_text_put(t, "\n");
    hint_put(t);
}

/* ---- Level 1 ------------------------------------------------------------------------------------------ */

static void count_all(struct wr_groups *gs, struct batch *b, bool leaked) {
    while (!gs->no_memory && !cancelled() && next_batch(b))
        for (size_t i = 0; i < b->n; i++)
            if (!leaked || b->goroutines[i].leaked) wr_groups_count(gs, &b->goroutines[i]);
}

static void dump_grouped(struct wr_text *t, const struct wr_snapshot *self, struct batch *b) {
    struct wr_groups gs = { 0 };
    if (self) wr_groups_count(&gs, self);
    count_all(&gs, b, false);
    wr_groups_put(t, &gs);
    if (!t->error) hint_put(t);
    wr_groups_free(&gs);
}

/* ---- The call ------------------------------------------------------------------------------------------ */

void wr_dump_all(struct wr_text *t) {
    struct batch b = { .n = 0 };
    wr_symbol_refresh();
    dump_each(t, NULL, &b);
}

static bool want_leaked(const struct g *g, const void *arg) { return atomic_load_explicit(&g->leaked, memory_order_relaxed); }

void wr_groups_all(struct wr_groups *gs, bool leaked) {
    struct batch b = { .cursor.want = leaked ? want_leaked : NULL };
    wr_symbol_refresh();
    count_all(gs, &b, leaked);
}

struct dump {
    int fd, level, error;
    struct g *g;                   /* the caller */
    size_t n;
    uintptr_t pcs[WR_DEPTH + 1];   /* its stack */
};

static void dump(void *arg) {
    struct dump *d = arg;
    struct wr_text t;
    struct wr_snapshot self;
    struct batch b = { .self = d->g };
    wr_text_open(&t, d->fd);
    t.cancel = &wr_dump_cancel;
    wr_symbol_refresh();
    if (d->g) wr_snapshot_self(d->g, &self, d->pcs, d->n);
    if (d->level == 2) dump_each(&t, d->g ? &self : NULL, &b);
    else dump_grouped(&t, d->g ? &self : NULL, &b);
    d->error = wr_text_close(&t);
}

int weir_dump(int fd, int level) {
    struct dump d = { .fd = fd, .level = level, .g = wr_self_or_null() };
    int saved_errno = errno;
    if (level != 1 && level != 2) return -EINVAL;
    if (!wr_dump_enter()) { /* no runtime, no goroutines */
        static const char none[] = "goroutine profile: total 0\n";
        if (level == 1 && write(fd, none, sizeof none - 1) < 0) d.error = -errno;
        errno = saved_errno;
        return d.error;
    }
    if (d.g) d.n = wr_unwind_here(d.pcs, WR_DEPTH + 1, 0);
    int e = wr_on_large_stack(dump, &d);
    wr_dump_leave();
    errno = saved_errno;
    return e ? e : d.error;
}
