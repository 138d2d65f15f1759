/*
 * In the child: who is alive. A goroutine that is parked on something without a timer is a candidate; all others are alive. A
 * candidate comes alive when a thing that holds what it waits on is reached, from roots or from those alive. The
 * things that can wake it are its edges; a table leads from a thing to the candidates that it wakes, so that each is touched once,
 * however long the chains are. Those who are candidates at the end have leaked.
 */
#include "leak/heap.h"

#include "ctx/ctx.h"
#include "profile/profile.h"
#include "sched/world.h"
#include "chan/chan.h"

#include <string.h>
#include <sys/mman.h>

/* ---- Edges --------------------------------------------------------------------------------------------------- */

struct edge {
    uintptr_t key;         /* of the thing; 0: free */
    struct g *g;           /* whom it wakes */
    uint32_t next;         /* another one of that thing, 0: none; only in the first of each thing is the table's chain begun */
};
static struct edge *edges; /* from 1 */
static uint32_t *table;    /* by key: the first edge */
static size_t n_edges, table_size;

static size_t hash(uintptr_t key) { return (size_t)((key >> 4) * 0x9e3779b97f4a7c15 >> 20); }

static uint32_t *slot_of_key(uintptr_t key) {
    for (size_t i = hash(key) & (table_size - 1);; i = (i + 1) & (table_size - 1))
        if (!table[i] || edges[table[i]].key == key) return &table[i];
}
static void add_edge(uintptr_t key, struct g *g) {
    uint32_t *slot = slot_of_key(key);
    edges[++n_edges] = (struct edge){ key, g, *slot };
    *slot = (uint32_t)n_edges;
}

/* ---- Candidates ---------------------------------------------------------------------------------------------- */

static struct wr_answer *answer;
static struct wr_verdict *alive_long; /* blocked for long, and alive */
static size_t n_alive_long, n_candidates, max_edges;
static weir_time long_before;         /* who has been blocked since before that is shown */
static uintptr_t *timers;
static size_t n_timers;

static bool can_leak(enum wr_reason reason) {
    return reason != WR_WAIT_NONE && reason != WR_WAIT_SLEEP && reason != WR_WAIT_IO && reason < WR_REASONS;
}

static struct wr_ending *end_over(const struct wr_wait *w) {
    struct wr_cancel *c = w->cancellable ? w->g->cancel : NULL;
    return c ? wr_container(c, struct wr_ending, cancel) : NULL;
}

static bool is_candidate(struct g *g) {
    struct wr_wait *w = atomic_load(&g->wait);
    if (atomic_load(&g->state) != WR_G_WAITING || !w || w->g != g || atomic_load(&w->decided)) return false;
    if (!can_leak((enum wr_reason)w->reason) || atomic_load(&w->timer.heap)) return false;
    const struct wr_ending *e = end_over(w);
    return !e || !atomic_load(&e->err);
}

static void classify(struct g *g, struct wr_seen *s) {
    if (atomic_load(&g->state) == WR_G_DEAD) return;
    answer->goroutines++;
    s->sp = (uintptr_t)g->sp;
    if (s->sp < (uintptr_t)g->stack_lo || s->sp >= (uintptr_t)g->stack_hi) s->sp = (uintptr_t)g->stack_lo;
    s->kind = is_candidate(g) ? WR_CANDIDATE : WR_ALIVE;
}

static void comes_alive(struct g *g, struct wr_seen *s) {
    s->kind = WR_ALIVE;
    if (atomic_load(&g->wait)->since < long_before)
        alive_long[n_alive_long++] = (struct wr_verdict){ .g = g, .id = g->id, .by = wr_origin.by, .root = wr_origin.root,
                                                          .owner = wr_origin.owner, .holder = wr_origin.holder };
}

/* The object lies in a thing, and is reached when that is; or in other memory, where anybody can reach it. */
static void add_object(struct g *g, const void *object) {
    if (!object || wr_seen_of(g)->kind != WR_CANDIDATE) return;
    uintptr_t key = wr_thing_at((uintptr_t)object);
    if (key) {
        wr_thing_wakes(key);
        add_edge(key, g);
    } else {
        wr_origin = (struct wr_origin){ .by = WR_REACH_MODULE, .root = (uintptr_t)object };
        comes_alive(g, wr_seen_of(g));
    }
}

static void each_object(struct g *g, void (*visit)(struct g *, const void *)) {
    const struct wr_wait *w = atomic_load(&g->wait);
    if (w->reason == WR_WAIT_SELECT) {
        const weir_arm *arms = w->object;
        for (uint32_t i = 0; i < w->n_objects; i++)
            if (wr_arm_on_channel(&arms[i])) visit(g, arms[i].chan_);
    } else if (w->n_objects) {
        visit(g, w->object);
    }
    if (end_over(w)) visit(g, end_over(w));
}
static void count_object(struct g *g, const void *object) { max_edges++; }
static void count_edges(struct g *g, struct wr_seen *s) {
    if (s->kind != WR_CANDIDATE) return;
    n_candidates++;
    each_object(g, count_object);
}
static void add_edges(struct g *g, struct wr_seen *s) {
    if (s->kind == WR_CANDIDATE) each_object(g, add_object);
}

/* ---- Coming alive -------------------------------------------------------------------------------------------- */

void wr_reached(uintptr_t key) {
    for (uint32_t i = *slot_of_key(key); i; i = edges[i].next) {
        struct g *g = edges[i].g;
        struct wr_seen *s = wr_seen_of(g);
        if (s->kind != WR_CANDIDATE) continue;
        comes_alive(g, s);
        wr_mark_alive(g);
    }
}

/* What a goroutine has besides its stack: it ends its context, tells its owner, undoes its blocks. */
void wr_alive(struct g *g) {
    wr_mark_word((uintptr_t)g->owner);
    wr_mark_word((uintptr_t)g->ctx);
    wr_mark_word((uintptr_t)g->blocks);
}

/* ---- What is not scanned word by word ----------------------------------------------------------------------- */

/* The values of a context can be asked for below it. Those above are done once: refs of the copy says so. */
#define VISITED 0xfffffff0u
static void mark_values(weir_ctx *ctx) {
    for (; ctx && ctx->kind != WR_CTX_STATIC && atomic_load(&ctx->refs) != VISITED; ctx = ctx->parent) {
        atomic_store(&ctx->refs, VISITED);
        if (ctx->kind == WR_CTX_VALUE) wr_mark_word((uintptr_t)wr_container(ctx, struct wr_valued, ctx)->value);
    }
}

/* Who has a context can end it; that ends all below it, and starts what watches for that. It cannot end what is above. */
static void scan_ending(struct wr_ending *e) {
    if (wr_lock_held(&e->lock)) wr_child_give_up("again: a context was being changed");
    for (struct wr_list *l = e->children.next; l && l != &e->children; l = l->next) wr_mark_word((uintptr_t)l);
    for (struct wr_list *l = e->watches.next; l && l != &e->watches; l = l->next) wr_mark_word((uintptr_t)l);
    wr_mark_word((uintptr_t)atomic_load(&e->done));
    /* Being ended: who ends it has it in a chain that is in no list any more, and only the first and last in hand. */
    if (atomic_load(&e->settled) != 1) wr_mark_word((uintptr_t)e->next);
}

bool wr_scan_specially(uintptr_t lo, uintptr_t hi) {
    if (hi - lo < sizeof(weir_ctx)) return false;
    uintptr_t tag = *(const uintptr_t *)lo;
    if (tag == wr_tag((void *)lo, WR_TAG_CTX)) {
        weir_ctx *ctx = (weir_ctx *)lo;
        if (ctx->kind == WR_CTX_ENDS) scan_ending(wr_ending_of(ctx));
        mark_values(ctx);
        return true;
    }
    if (tag == wr_tag((void *)lo, WR_TAG_SCOPE)) {
        const struct weir_scope_ *in = (const struct weir_scope_ *)lo;
        wr_mark_word((uintptr_t)in->ctx);
        wr_mark_word((uintptr_t)in->block.outer_);
        return true;
    }
    return tag == wr_tag((void *)lo, WR_TAG_OPAQUE);
}

/* ---- Roots ---------------------------------------------------------------------------------------------------- */

static struct wr_leak_range *dead;     /* no roots: sorted, may overlap */
static size_t n_dead, cap_dead;
static struct live {
    uintptr_t lo, hi;                  /* hi 0: lo is a word of its own */
    int tid;
} *live;
static size_t n_live, cap_live;

static void add_dead(uintptr_t lo, uintptr_t hi) {
    if (lo >= hi) return;
    wr_grow(dead, n_dead, cap_dead);
    dead[n_dead++] = (struct wr_leak_range){ lo, hi };
}
static void add_live(uintptr_t lo, uintptr_t hi, int tid) {
    if (hi && lo >= hi) return;
    wr_grow(live, n_live, cap_live);
    live[n_live++] = (struct live){ lo, hi, tid };
}
static void add_value(uintptr_t word, int tid) { add_live(word, 0, tid); }

/* A goroutine that is on a thread is alive. `stack` is told after `runs`, and knows better where its stack begins. */
static void runs(struct g *g, uintptr_t sp) {
    if (g->foreign) return;
    struct wr_seen *s = wr_seen_of(g);
    s->kind = WR_ALIVE;
    s->sp = sp ? sp : (uintptr_t)g->stack_lo;
}
/* The kernel shows neighbouring mappings as one, so a heap may seem to be a part of the stack below it: which ends where that begins. */
static uintptr_t end_of_stack(uintptr_t sp, uintptr_t hi) {
    size_t next = wr_region_behind(sp);
    if (next < wr_n_regions && wr_regions[next].lo > sp && wr_regions[next].lo < hi) hi = wr_regions[next].lo;
    for (size_t i = 0; i < wr_n_heap_private; i++)
        if (wr_heap_private[i].lo > sp && wr_heap_private[i].lo < hi) hi = wr_heap_private[i].lo;
    for (size_t i = 0; i < wr_n_slabs; i++)
        if (wr_slabs[i].lo > sp && wr_slabs[i].lo < hi) hi = wr_slabs[i].lo;
    return hi;
}
static void on_stack(uintptr_t sp, int tid) {
    struct g *g = wr_g_at(sp);
    if (g) {
        if (sp < (uintptr_t)g->stack_lo || sp >= (uintptr_t)g->stack_hi) return;
        struct wr_seen *s = wr_seen_of(g);
        /* All of it counts so far if it runs there itself. Another thread may run on a buffer in its frames: then the lower one counts. */
        bool itself = s->kind == WR_ALIVE && s->sp == (uintptr_t)g->stack_lo;
        if (itself || sp < s->sp || !s->sp) runs(g, sp);
        else s->kind = WR_ALIVE;
        return;
    }
    uintptr_t block = wr_thing_at(sp);
    const struct wr_map *map = wr_map_of(sp);
    if (block) {
        add_live(sp, 0, tid); /* a stack from malloc */
    } else if (map) {
        if (!strcmp(map->name, "[stack]")) add_dead(map->lo, sp);
        add_live(sp, end_of_stack(sp, map->hi), tid);
    }
}
static void opaque(const void *block) { wr_block_opaque((uintptr_t)block); }
static void add_timer(struct wr_timer *t) {
    static size_t cap;
    wr_grow(timers, n_timers, cap);
    timers[n_timers++] = (uintptr_t)t;
}

static void sift(struct wr_leak_range *a, size_t i, size_t n) {
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && a[child + 1].lo > a[child].lo) child++;
        if (a[i].lo >= a[child].lo) return;
        struct wr_leak_range swap = a[i];
        a[i] = a[child], a[child] = swap;
    }
}
static void sort(struct wr_leak_range *a, size_t n) {
    for (size_t i = n / 2; i-- > 0;) sift(a, i, n);
    for (size_t i = n; i-- > 1;) {
        struct wr_leak_range swap = a[0];
        a[0] = a[i], a[i] = swap;
        sift(a, 0, i);
    }
}

static void add_slab(uintptr_t base, size_t slot, uint32_t used, uint32_t n, void *arg) { add_dead(base, base + slot * n); }

static bool is_no_memory(const struct wr_map *m) {
    return m->shared || !strncmp(m->name, "[v", 2); /* [vdso], [vvar], [vsyscall] */
}

/* What the program has hidden from itself for a while. */
static void make_readable(uintptr_t lo, uintptr_t hi, void *arg) { (void)mprotect((void *)lo, hi - lo, PROT_READ); }
static void count_page(uintptr_t lo, uintptr_t hi, void *arg) { answer->unknown_bytes += hi - lo; }

/* All memory of the mapping that is not known to be none. */
static void scan_map(const struct wr_map *m, size_t *at) {
    uintptr_t lo = m->lo;
    while (*at > 0 && dead[*at - 1].hi > lo) --*at;
    for (size_t i = *at; lo < m->hi; i++) {
        while (i < n_dead && dead[i].hi <= lo) i++;
        uintptr_t hi = i < n_dead && dead[i].lo < m->hi ? dead[i].lo : m->hi;
        if (hi > lo) {
            if (!m->readable) wr_pages_each(lo, hi, make_readable, NULL);
            /* (A guard stays a guard: those pages are not there.) */
            if (!m->file && strcmp(m->name, "[stack]")) wr_pages_each(lo, hi, count_page, NULL);
            wr_origin = (struct wr_origin){ .by = WR_REACH_MODULE };
            wr_mark_range(lo, hi);
        }
        if (i >= n_dead || dead[i].lo >= m->hi) break;
        if (dead[i].hi > lo) lo = dead[i].hi;
    }
}

static void scan_roots(void) {
    for (size_t i = 0; i < wr_leak_registry.n_ignored; i++) {
        wr_origin = (struct wr_origin){ .by = WR_REACH_REGISTERED };
        wr_mark_word((uintptr_t)wr_leak_registry.ignored[i]);
        wr_mark_drain();
    }
    for (size_t i = 0; i < wr_leak_registry.n_roots; i++) {
        const struct wr_leak_range *r = &wr_leak_registry.roots[i];
        wr_origin = (struct wr_origin){ .by = WR_REACH_REGISTERED };
        for (size_t k = 0; k < wr_n_maps; k++) {
            uintptr_t lo = r->lo > wr_maps[k].lo ? r->lo : wr_maps[k].lo, hi = r->hi < wr_maps[k].hi ? r->hi : wr_maps[k].hi;
            if (lo < hi && wr_maps[k].shared && wr_maps[k].readable) wr_mark_all(lo, hi);
            else if (lo < hi) wr_mark_range(lo, hi);
        }
    }
    answer->unknown_bytes = 0;
    size_t at = 0;
    for (size_t i = 0; i < wr_n_maps; i++)
        if (!is_no_memory(&wr_maps[i])) {
            while (at < n_dead && dead[at].hi <= wr_maps[i].lo) at++;
            scan_map(&wr_maps[i], &at);
        }
    for (size_t i = 0; i < n_live; i++) {
        wr_origin = (struct wr_origin){ .by = WR_REACH_THREAD, .owner = (uint64_t)live[i].tid };
        if (live[i].hi) wr_mark_range(live[i].lo, live[i].hi);
        else wr_mark_word(live[i].lo), wr_mark_drain();
    }
    for (size_t i = 0; i < n_timers; i++) {
        wr_origin = (struct wr_origin){ .by = WR_REACH_TIMER };
        if (!wr_g_at(timers[i])) wr_mark_word(timers[i]), wr_mark_drain(); /* on a stack: a wait, whose goroutine is alive as it is */
    }
}

static void start_alive(struct g *g, struct wr_seen *s) {
    if (s->kind != WR_ALIVE || s->reached) return;
    wr_origin = (struct wr_origin){ .by = WR_REACH_GOROUTINE, .owner = g->id };
    wr_mark_alive(g);
    wr_mark_drain();
}

/* ---- The verdict ----------------------------------------------------------------------------------------------- */

extern char __start_weir_private[], __stop_weir_private[]; /* the linker's names for all that is WR_PRIVATE */

static struct wr_verdict *leaked;
static size_t n_leaked;
/* What was proven once stays so as long as that wait lasts, whatever stray word there is now. Main is no leak: it ends the program. */
static bool has_leaked(struct g *g, const struct wr_seen *s) {
    return !g->main && (s->kind == WR_CANDIDATE || (s->kind == WR_ALIVE && atomic_load(&g->leaked) && is_candidate(g)));
}
static void count_leaked(struct g *g, struct wr_seen *s) { n_leaked += has_leaked(g, s); }
static void list_leaked(struct g *g, struct wr_seen *s) {
    if (has_leaked(g, s)) leaked[n_leaked++] = (struct wr_verdict){ .g = g, .id = g->id, .leaked = true };
}

static size_t count_heap(void) {
    size_t bytes = 0;
    for (size_t i = 0; i < wr_n_regions; i++) bytes += wr_regions[i].hi - wr_regions[i].lo;
    return bytes;
}

void wr_judge(struct wr_answer *a, struct wr_verdict **verdicts, weir_duration long_blocked) {
    uintptr_t lo, hi;
    answer = a;
    long_before = long_blocked == WR_NEVER ? 0 : wr_now() - long_blocked;
    wr_child_memory(&lo, &hi);
    wr_maps_read();
    wr_heap_find();
    wr_mark_init();
    wr_seen_each(classify);
    static const struct wr_world_visitor visitor = { .root = add_live, .value = add_value, .dead = add_dead,
        .stack = on_stack, .runs = runs, .opaque = opaque, .timer = add_timer };
    if (wr_world_unclear()) wr_child_give_up("again: a thread was in a handler inside the scheduler, or has too many thread-specific values");
    wr_world_visit(&visitor);

    add_dead(lo, hi);
    add_dead((uintptr_t)__start_weir_private, (uintptr_t)__stop_weir_private);
    wr_slabs_each(add_slab, NULL);
    wr_profile_memory_each(add_dead);
    for (size_t i = 0; i < wr_n_regions; i++) add_dead(wr_regions[i].lo, wr_regions[i].hi);
    for (size_t i = 0; i < wr_n_heap_private; i++) add_dead(wr_heap_private[i].lo, wr_heap_private[i].hi);
    sort(dead, n_dead);
    for (size_t i = 1; i < n_dead; i++) /* disjoint from here on, or a long one would hide behind a short one */
        if (dead[i].lo < dead[i - 1].hi) {
            if (dead[i].hi < dead[i - 1].hi) dead[i].hi = dead[i - 1].hi;
            dead[i].lo = dead[i - 1].hi;
        }

    wr_seen_each(count_edges);
    for (table_size = 64; table_size < 2 * max_edges + 2; table_size *= 2) {
    }
    table = wr_child_alloc(table_size * sizeof *table);
    edges = wr_child_alloc((max_edges + 2) * sizeof *edges);
    alive_long = wr_child_alloc((n_candidates + 1) * sizeof *alive_long);
    wr_seen_each(add_edges);

    wr_seen_each(start_alive);
    scan_roots();
    wr_seen_each(count_leaked);
    size_t suspects = n_leaked;
    n_leaked = 0;
    leaked = wr_child_alloc((suspects + n_alive_long + 1) * sizeof *leaked);
    wr_seen_each(list_leaked);
    a->n_leaked = n_leaked;
    for (size_t i = 0; i < n_alive_long; i++) {
        leaked[n_leaked + i] = alive_long[i];
        if (alive_long[i].holder) leaked[n_leaked + i].holder_size = wr_block_size(wr_thing_at(alive_long[i].holder));
    }
    a->n = n_leaked + n_alive_long;
    a->candidates = n_candidates;
    a->heap_bytes = count_heap();
    memcpy(a->bounds, wr_heap_bounds, sizeof a->bounds);
    for (size_t i = 0; i < wr_n_maps; i++)
        if (wr_maps[i].shared) a->shared_bytes += wr_maps[i].hi - wr_maps[i].lo;
    *verdicts = leaked;
}
