/*
 * From goroutines to a report. They are walked in batches as a dump walks them: what is held is copied and let go,
 * and named afterwards. A leaked goroutine does not move, so what was proven of it is still so; one that is not where
 * it was is left out.
 *
 * Stacks are large and few, goroutines many: texts belong to groups, which are shared. Runs on the large stack that
 * looking up names needs.
 */
#include "leak/item.h"

#include <stdlib.h>
#include <string.h>

#include "chan/chan.h"
#include "ctx/ctx.h"

enum { BATCH = 32, PATIENCE = 4, CHUNK = 16384 };

/* ---- Memory of a report --------------------------------------------------------------------------------- */

struct wr_leak_chunk {
    struct wr_leak_chunk *next;
    size_t used, size;
    _Alignas(16) char data[];
};

void *wr_report_alloc(weir_leak_report *r, size_t size) {
    size = (size + 15) & ~(size_t)15;
    struct wr_leak_chunk *c = r->chunks;
    if (!c || c->size - c->used < size) {
        size_t room = size > CHUNK ? size : CHUNK;
        c = calloc(1, sizeof *c + room);
        if (!c) {
            r->no_memory = true;
            return NULL;
        }
        c->size = room;
        c->next = r->chunks;
        r->chunks = c;
    }
    c->used += size;
    return c->data + c->used - size;
}

const char *wr_report_text(weir_leak_report *r, const char *text) {
    if (!*text) return "";
    char *copy = wr_report_alloc(r, strlen(text) + 1);
    return copy ? strcpy(copy, text) : "";
}

void wr_report_free_all(weir_leak_report *r) {
    for (struct wr_leak_chunk *c = r->chunks, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    r->chunks = NULL;
}

/* ---- Copying, while a goroutine is held ------------------------------------------------------------------- */

/* An id that is looked for, and where the goroutine is. */
struct creator {
    uint64_t id;
    const char *stack;
};

struct collect {
    weir_leak_report *r;
    const struct wr_verdict *verdicts; /* by id; NULL: all that live with ids from `from` on */
    size_t n_verdicts;
    uint64_t from;
    struct creator *creators;          /* by id; second round */
    size_t n_creators;
    const struct g *self;              /* the caller, whose stack was taken before */
    size_t n_self_pcs;
    uintptr_t self_pcs[WR_DEPTH + 1];
    struct wr_cursor cursor;
    int unanswered;
    size_t n;
    struct wr_leak_item items[BATCH];
};

/* A channel is there for as long as nobody ends the wait; nobody can end that of a leaked goroutine. Other
 * goroutines' channels may go while we look, so of them the address has to do. */
static void add_channel(struct wr_leak_item *item, const weir_chan *ch, enum wr_reason verb) {
    if (item->n_objects == WR_LEAK_OBJECTS) return;
    struct wr_leak_object *o = &item->objects[item->n_objects++];
    *o = (struct wr_leak_object){ .address = ch, .verb = verb };
    if (item->leaked) o->cap = ch->cap, o->made_at = ch->made_at;
}

static void copy_objects(struct wr_leak_item *item, const struct wr_wait *w) {
    item->n_objects = 0;
    item->object = NULL;
    if (!w->object) return;
    switch (w->reason) {
    case WR_WAIT_SELECT: {
        const weir_arm *arms = w->object;
        for (uint32_t i = 0; i < w->n_objects; i++)
            if (wr_arm_on_channel(&arms[i]))
                add_channel(item, arms[i].chan_,
                            arms[i].kind_ == WEIR_ARM_RECV_ ? WR_WAIT_CHAN_RECV : WR_WAIT_CHAN_SEND);
        return;
    }
    case WR_WAIT_CHAN_SEND:
    case WR_WAIT_CHAN_RECV: add_channel(item, w->object, w->reason); break;
    case WR_WAIT_SCOPE:
    case WR_WAIT_SCOPE_GO:
        item->n_objects = 1;
        item->objects[0] = (struct wr_leak_object){ .address = w->object, .verb = w->reason };
        if (item->leaked) item->objects[0].address = ((const struct weir_scope_ *)w->object)->record;
        break;
    default:
        item->n_objects = 1;
        item->objects[0] = (struct wr_leak_object){ .address = w->object, .verb = w->reason };
    }
    item->object = item->objects[0].address;
}

static int compare_ids(uint64_t a, uint64_t b) { return a < b ? -1 : a > b; }
static int by_verdict_id(const void *a, const void *b) {
    return compare_ids(((const struct wr_verdict *)a)->id, ((const struct wr_verdict *)b)->id);
}
static int by_creator_id(const void *a, const void *b) {
    return compare_ids(((const struct creator *)a)->id, ((const struct creator *)b)->id);
}
static int by_leak_id(const void *a, const void *b) {
    return compare_ids(((const weir_leak *)a)->id, ((const weir_leak *)b)->id);
}

/* What it waits for, if it is parked and nobody has ended that. */
static struct wr_wait *open_wait(struct g *g, bool held) {
    if (!held || atomic_load_explicit(&g->state, memory_order_acquire) != WR_G_WAITING) return NULL;
    struct wr_wait *w = atomic_load_explicit(&g->wait, memory_order_acquire);
    return w && atomic_load_explicit(&w->decided, memory_order_acquire) == 0 ? w : NULL;
}

static void copy_one(struct collect *c, struct g *g, bool held, const struct wr_verdict *verdict) {
    struct wr_leak_item *item = &c->items[c->n];
    struct wr_wait *w = open_wait(g, held);
    if (!wr_snapshot_take(g, held, &item->s, item->pcs, c->unanswered < PATIENCE)) return;
    c->unanswered += item->s.unavailable;
    item->verdict = verdict;
    item->leaked = item->s.leaked && w;
    item->start = held ? (uintptr_t)g->fn : 0;
    item->reason = w ? w->reason : WR_WAIT_NONE;
    item->object = NULL;
    item->n_objects = 0;
    if (w) copy_objects(item, w);
    c->n++;
}

/* WR_RACY here: the id may be of one that starts anew; but then it is none of those. */

static const struct wr_verdict *verdict_on(const struct collect *c, uint64_t id) {
    const struct wr_verdict key = { .id = id };
    return c->n_verdicts ? bsearch(&key, c->verdicts, c->n_verdicts, sizeof key, by_verdict_id) : NULL;
}
WR_RACY static bool want_proven(const struct g *g, const void *c) {
    return atomic_load_explicit(&g->leaked, memory_order_relaxed) || verdict_on(c, g->id);
}
static bool visit_proven(struct g *g, bool held, void *arg) {
    struct collect *c = arg;
    if (!open_wait(g, held)) return true;
    const struct wr_verdict *v = verdict_on(c, g->id);
    if (v && v->leaked) {
        atomic_store_explicit(&g->leaked, true, memory_order_relaxed);
        atomic_store_explicit(&wr_leaks_marked, true, memory_order_release);
    }
    if (!v && !atomic_load_explicit(&g->leaked, memory_order_relaxed)) return true;
    copy_one(c, g, held, v);
    return c->n < BATCH;
}

WR_RACY static bool visit_living(struct g *g, bool held, void *arg) {
    struct collect *c = arg;
    if (g == c->self || g->foreign || g->id < c->from) return true;
    copy_one(c, g, held, NULL);
    return c->n < BATCH;
}

static bool is_creator(const struct collect *c, uint64_t id) {
    const struct creator key = { .id = id };
    return bsearch(&key, c->creators, c->n_creators, sizeof key, by_creator_id) != NULL;
}
WR_RACY static bool want_creator(const struct g *g, const void *c) { return is_creator(c, g->id); }
WR_RACY static bool visit_creator(struct g *g, bool held, void *arg) {
    struct collect *c = arg;
    if (g == c->self || !is_creator(c, g->id)) return true;
    copy_one(c, g, held, NULL);
    return c->n < BATCH;
}

/* ---- Groups ----------------------------------------------------------------------------------------------- */

static bool grow_buckets(weir_leak_report *r) {
    size_t n = r->n_buckets ? r->n_buckets * 4 : 64;
    struct wr_leak_group **now = calloc(n, sizeof(struct wr_leak_group *));
    if (!now) return r->n_buckets > 0;
    for (size_t i = 0; i < r->n_buckets; i++)
        for (struct wr_leak_group *g = r->buckets[i], *next; g; g = next) {
            next = g->next;
            g->next = now[g->hash & (n - 1)];
            now[g->hash & (n - 1)] = g;
        }
    free(r->buckets);
    r->buckets = now;
    r->n_buckets = n;
    return true;
}

static uint64_t hash_of(const struct wr_leak_item *item, const char *reason, size_t from, size_t to) {
    uint64_t hash = 14695981039346656037ULL;
    for (size_t i = from; i < to; i++) hash = (hash ^ item->s.pcs[i]) * 1099511628211ULL;
    hash = (hash ^ (uintptr_t)item->s.site) * 1099511628211ULL;
    hash = (hash ^ (uintptr_t)reason ^ item->leaked) * 1099511628211ULL;
    return hash ^ hash >> 29;
}

/* With reason NULL: of a stack alone. */
static struct wr_leak_group *group_of(weir_leak_report *r, const struct wr_leak_item *item, const char *reason) {
    size_t from, to;
    wr_snapshot_shown(&item->s, &from, &to);
    uint64_t hash = hash_of(item, reason, from, to);
    size_t n = to - from;
    if (r->n_groups >= r->n_buckets && !grow_buckets(r)) {
        r->no_memory = true;
        return NULL;
    }
    struct wr_leak_group **bucket = &r->buckets[hash & (r->n_buckets - 1)];
    for (struct wr_leak_group *g = *bucket; g; g = g->next)
        if (g->hash == hash && g->site == item->s.site && g->reason == reason && g->leaked == item->leaked &&
            g->n_pcs == n && !memcmp(g->pcs, item->s.pcs + from, n * sizeof *g->pcs))
            return g;
    struct wr_leak_group *g = wr_report_alloc(r, sizeof *g + n * sizeof *g->pcs);
    if (!g) return NULL;
    g->hash = hash, g->site = item->s.site, g->reason = reason, g->leaked = item->leaked;
    g->order = r->n_groups++;
    g->n_pcs = n;
    memcpy(g->pcs, item->s.pcs + from, n * sizeof *g->pcs);
    g->next = *bucket;
    *bucket = g;
    wr_describe_group(r, g, item, from, to);
    return g;
}

/* ---- Entries ---------------------------------------------------------------------------------------------- */

static weir_leak *new_leak(weir_leak_report *r) {
    if (r->n == r->capacity) {
        size_t capacity = r->capacity ? 2 * r->capacity : 16;
        struct wr_leak_list *list = realloc(r->list, sizeof *list + capacity * sizeof *list->leaks);
        if (!list) {
            r->no_memory = true;
            return NULL;
        }
        list->tag = wr_tag(list, WR_TAG_OPAQUE);
        r->list = list, r->leaks = list->leaks;
        r->capacity = capacity;
    }
    return &r->leaks[r->n++];
}

static void add(struct collect *c, const struct wr_leak_item *item) {
    weir_leak_report *r = c->r;
    struct wr_leak_group *g = group_of(r, item, item->s.state);
    if (!g) return;
    if (g->count < WR_LISTED_IDS) g->ids[g->count] = item->s.id;
    if (!g->count || item->s.since < g->since) g->since = item->s.since;
    g->count++;
    if (c->verdicts && !item->leaked) return; /* alive: the group tells enough */
    weir_leak *leak = new_leak(r);
    if (!leak) return;
    *leak = (weir_leak){
        .id = item->s.id, .state = g->reason, .function = g->function, .file = g->file, .line = g->line,
        .created_by = g->created_by, .at_function = g->at_function, .at_file = g->at_file, .at_line = g->at_line,
        .since = item->s.since, .object = item->leaked ? item->object : NULL, .creator = item->s.creator,
        .waited = item->s.since ? r->made - item->s.since : 0, .name = wr_report_text(r, item->s.name),
        .labels = wr_report_text(r, item->s.labels), .stack = g->stack, .creator_stack = "",
    };
    if (leak->waited < 0) leak->waited = 0;
}

static void walk(struct collect *c, bool (*want)(const struct g *, const void *), bool (*visit)(struct g *, bool, void *),
                 void (*use)(struct collect *, const struct wr_leak_item *)) {
    c->cursor = (struct wr_cursor){ .want = want };
    for (bool more = true; more && !c->r->no_memory;) {
        c->n = 0;
        more = wr_next_goroutines(&c->cursor, visit, c);
        for (size_t i = 0; i < c->n; i++) use(c, &c->items[i]);
    }
}

/* ---- Creators --------------------------------------------------------------------------------------------- */

static void note_creator(struct collect *c, const struct wr_leak_item *item) {
    const struct creator key = { .id = item->s.id };
    struct creator *creator = bsearch(&key, c->creators, c->n_creators, sizeof key, by_creator_id);
    struct wr_leak_group *g = creator ? group_of(c->r, item, NULL) : NULL;
    if (g) creator->stack = g->stack;
}

static void note_self(struct collect *c) {
    struct wr_leak_item *item = &c->items[0];
    memset(item, 0, offsetof(struct wr_leak_item, pcs));
    wr_snapshot_self((struct g *)(uintptr_t)c->self, &item->s, c->self_pcs, c->n_self_pcs);
    note_creator(c, item);
}

/* Where those are now that started the goroutines of the report. */
static void find_creators(struct collect *c) {
    weir_leak_report *r = c->r;
    size_t n = 0, most = r->n + r->n_groups;
    if (!most || r->no_memory || !(c->creators = calloc(most, sizeof *c->creators))) return;
    for (size_t i = 0; i < r->n; i++)
        if (r->leaks[i].creator) c->creators[n++].id = r->leaks[i].creator;
    for (size_t b = 0; b < r->n_buckets; b++)
        for (struct wr_leak_group *g = r->buckets[b]; g; g = g->next)
            if (g->reason && g->creator) c->creators[n++].id = g->creator;
    qsort(c->creators, n, sizeof *c->creators, by_creator_id);
    for (size_t i = 0; i < n; i++)
        if (!c->n_creators || c->creators[c->n_creators - 1].id != c->creators[i].id)
            c->creators[c->n_creators++].id = c->creators[i].id;
    if (c->n_creators) walk(c, want_creator, visit_creator, note_creator);
    if (c->self) note_self(c);
    for (size_t i = 0; i < r->n; i++) {
        const struct creator key = { .id = r->leaks[i].creator };
        const struct creator *found = bsearch(&key, c->creators, c->n_creators, sizeof key, by_creator_id);
        if (found && found->stack) r->leaks[i].creator_stack = found->stack;
    }
    for (size_t b = 0; b < r->n_buckets; b++)
        for (struct wr_leak_group *g = r->buckets[b]; g; g = g->next) {
            const struct creator key = { .id = g->creator };
            const struct creator *found = bsearch(&key, c->creators, c->n_creators, sizeof key, by_creator_id);
            if (g->reason && found && found->stack) g->creator_stack = found->stack;
        }
    free(c->creators);
}

/* ---- The calls -------------------------------------------------------------------------------------------- */

static void collect(void *arg) {
    struct collect *c = arg;
    wr_symbol_refresh();
    c->r->made = wr_now();
    if (c->verdicts) walk(c, want_proven, visit_proven, add);
    else walk(c, NULL, visit_living, add);
    if (c->r->n) qsort(c->r->leaks, c->r->n, sizeof *c->r->leaks, by_leak_id);
    find_creators(c);
}

static int run(struct collect *c) {
    c->self = wr_self_or_null();
    if (c->self) c->n_self_pcs = wr_unwind_here(c->self_pcs, WR_DEPTH + 1, 0);
    int e = wr_on_large_stack(collect, c);
    return e ? e : c->r->no_memory ? -ENOMEM : 0;
}

/* The batch is too large for a goroutine's stack. */
static int collect_into(weir_leak_report *r, const struct wr_verdict *verdicts, size_t n, uint64_t from) {
    struct collect *c = calloc(1, sizeof *c);
    if (!c) return -ENOMEM;
    c->r = r;
    c->verdicts = verdicts, c->n_verdicts = n;
    c->from = from;
    int e = run(c);
    explicit_bzero(c, sizeof *c); /* whoever gets this memory next has no use for our addresses */
    free(c);
    return e;
}

int wr_collect_proven(weir_leak_report *r, struct wr_proof *proof) {
    static const struct wr_verdict none;
    if (proof->n) qsort(proof->verdicts, proof->n, sizeof *proof->verdicts, by_verdict_id);
    return collect_into(r, proof->n ? proof->verdicts : &none, proof->n, 0);
}

int wr_collect_living(weir_leak_report *r, uint64_t from) { return collect_into(r, NULL, 0, from); }
