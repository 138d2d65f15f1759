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

/* Goroutines with one stack and the same labels. */
struct group {
    struct group *next;     /* in its bucket */
    uint64_t hash;
    size_t count, order;    /* how many; how many groups came before it */
    char name[64];          /* the name that all of them have; "": none */
    char *labels;
    size_t n_pcs;
    uintptr_t pcs[];
};

struct groups {
    struct group **buckets; /* n_buckets, a power of two */
    size_t n_buckets, n;
    size_t total;
    bool no_memory;
};

static uint64_t hash_of(const struct wr_snapshot *s, size_t from, size_t to) {
    uint64_t hash = 0xcbf29ce484222325ULL;
    for (size_t i = from; i < to; i++) hash = (hash ^ s->pcs[i]) * 0x9e3779b97f4a7c15ULL, hash ^= hash >> 32;
    for (const char *c = s->labels; *c; c++) hash = (hash ^ (unsigned char)*c) * 0x100000001b3ULL;
    return hash;
}

static bool grow(struct groups *gs) {
    size_t n = gs->n_buckets ? 2 * gs->n_buckets : 256;
    struct group **buckets = calloc(n, sizeof(struct group *));
    if (!buckets) return gs->n_buckets > 0;
    for (size_t i = 0; i < gs->n_buckets; i++)
        for (struct group *g = gs->buckets[i], *next; g; g = next) {
            next = g->next;
            g->next = buckets[g->hash & (n - 1)];
            buckets[g->hash & (n - 1)] = g;
        }
    free(gs->buckets);
    gs->buckets = buckets;
    gs->n_buckets = n;
    return true;
}

static void count_one(struct groups *gs, const struct wr_snapshot *s) {
    size_t from, to;
    wr_snapshot_shown(s, &from, &to);
    size_t n = to - from;
    uint64_t hash = hash_of(s, from, to);
    gs->total++;
    if (gs->n >= gs->n_buckets && !grow(gs)) {
        gs->no_memory = true;
        return;
    }
    struct group **bucket = &gs->buckets[hash & (gs->n_buckets - 1)];
    for (struct group *g = *bucket; g; g = g->next)
        if (g->hash == hash && g->n_pcs == n && !memcmp(g->pcs, s->pcs + from, n * sizeof *s->pcs) &&
            !strcmp(g->labels, s->labels)) {
            g->count++;
            if (strcmp(g->name, s->name)) *g->name = 0;
            return;
        }
    struct group *g = malloc(sizeof *g + n * sizeof *s->pcs + strlen(s->labels) + 1);
    if (!g) {
        gs->no_memory = true;
        return;
    }
    g->hash = hash, g->count = 1, g->order = gs->n++, g->n_pcs = n;
    memcpy(g->name, s->name, sizeof g->name);
    memcpy(g->pcs, s->pcs + from, n * sizeof *s->pcs);
    g->labels = strcpy((char *)(g->pcs + n), s->labels);
    g->next = *bucket;
    *bucket = g;
}

static int most_first(const void *a, const void *b) {
    const struct group *x = *(struct group *const *)a, *y = *(struct group *const *)b;
    if (x->count != y->count) return x->count > y->count ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* The name goes in as the label "name", unless there is one. */
static void labels_put(struct wr_text *t, const struct group *g) {
    char name[2 * sizeof g->name], *at = name;
    bool named = *g->name && !strstr(g->labels, "\"name\":");
    for (const char *c = g->name; *c; c++) {
        if (*c == '"' || *c == '\\') *at++ = '\\';
        *at++ = *c;
    }
    *at = 0;
    if (!named && *g->labels) wr_text_put(t, "# labels: %s\n", g->labels);
    else if (named && *g->labels) wr_text_put(t, "# labels: {\"name\":\"%s\", %s\n", name, g->labels + 1);
    else if (named) wr_text_put(t, "# labels: {\"name\":\"%s\"}\n", name);
}

static void group_put(struct wr_text *t, const struct group *g) {
    wr_text_put(t, "%zu @", g->count);
    for (size_t i = 0; i < g->n_pcs; i++) wr_text_put(t, " 0x%" PRIxPTR, g->pcs[i]);
    wr_text_put(t, "\n");
    labels_put(t, g);
    for (size_t i = 0; i < g->n_pcs; i++) {
        struct wr_frame frames[WR_INLINED];
        size_t n = wr_symbol(g->pcs[i], frames, WR_INLINED);
        for (size_t k = 0; k < n; k++) {
            if (i == 0 && k + 1 < n && wr_symbol_frame_class(&frames[k]) == WR_SYMBOL_OWN) continue;
            wr_text_put(t, "#\t0x%" PRIxPTR "\t%s+0x%" PRIxPTR "\t%s:%d\n", g->pcs[i] - 1, frames[k].function,
                        frames[k].offset, frames[k].file, frames[k].line);
        }
    }
    wr_text_put(t, "\n");
}

static void groups_put(struct wr_text *t, struct groups *gs) {
    struct group **sorted = malloc((gs->n + 1) * sizeof(struct group *));
    size_t n = 0;
    if (!sorted) {
        gs->no_memory = true;
        return;
    }
    for (size_t i = 0; i < gs->n_buckets; i++)
        for (struct group *g = gs->buckets[i]; g; g = g->next) sorted[n++] = g;
    qsort(sorted, n, sizeof(struct group *), most_first);
    wr_text_put(t, "goroutine profile: total %zu\n", gs->total);
    for (size_t i = 0; i < n && !t->error; i++) group_put(t, sorted[i]);
    free(sorted);
}

static void groups_free(struct groups *gs) {
    for (size_t i = 0; i < gs->n_buckets; i++)
        for (struct group *g = gs->buckets[i], *next; g; g = next) {
            next = g->next;
            free(g);
        }
    free(gs->buckets);
}

static void dump_grouped(struct wr_text *t, const struct wr_snapshot *self, struct batch *b) {
    struct groups gs = { 0 };
    if (self) count_one(&gs, self);
    while (!gs.no_memory && !cancelled() && next_batch(b))
        for (size_t i = 0; i < b->n; i++) count_one(&gs, &b->goroutines[i]);
    if (!gs.no_memory) groups_put(t, &gs);
    if (!t->error) hint_put(t);
    if (gs.no_memory && !t->error) t->error = -ENOMEM;
    groups_free(&gs);
}

/* ---- The call ------------------------------------------------------------------------------------------ */

void wr_dump_all(struct wr_text *t) {
    struct batch b = { .n = 0 };
    wr_symbol_refresh();
    dump_each(t, NULL, &b);
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
