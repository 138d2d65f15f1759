/*
 * What piles up: goroutines parked on one stack, of which there are more each time that one looks. They need not have
 * leaked: a queue that nobody empties reaches them all. Counts only, by the innermost calls and the place of start; a
 * goroutine costs a short unwinding, and nothing is kept of it.
 */
#include "leak/watch.h"

#include <stdlib.h>
#include <string.h>

#include "trace/trace.h"

enum {
    DEPTH = 16,      /* return addresses that make a stack */
    HISTORY = 4,     /* samples compared */
    LEAST = 8,       /* so many more than in the oldest of them, or it is no news */
    TABLE = 1024,    /* stacks; what comes when all places are taken is not counted */
    SHOWN = 10
};

struct pile {
    const struct weir_site_ *site;   /* used: n_pcs > 0 */
    const char *reason;
    uint32_t counts[HISTORY];        /* the newest first */
    uint32_t n_pcs;
    uintptr_t pcs[DEPTH];
};

struct wr_growth {
    unsigned samples;
    struct pile piles[TABLE];
};

static void count_one(struct g *g, bool held, void *arg) {
    struct wr_growth *growth = arg;
    uintptr_t pcs[DEPTH];
    if (!held || atomic_load_explicit(&g->state, memory_order_acquire) != WR_G_WAITING) return;
    struct wr_wait *w = atomic_load_explicit(&g->wait, memory_order_acquire);
    size_t n = w ? wr_unwind_parked(g->sp, pcs, DEPTH) : 0;
    if (!n) return;
    uint64_t hash = (uintptr_t)g->site;
    for (size_t i = 0; i < n; i++) hash = (hash ^ pcs[i]) * 1099511628211ULL;
    hash ^= hash >> 32;
    for (size_t i = 0; i < TABLE; i++) {
        struct pile *p = &growth->piles[(hash + i) % TABLE];
        if (!p->n_pcs) {
            p->site = g->site, p->reason = wr_reason_text[w->reason], p->n_pcs = (uint32_t)n;
            memcpy(p->pcs, pcs, n * sizeof *pcs);
        }
        if (p->site == g->site && p->n_pcs == n && !memcmp(p->pcs, pcs, n * sizeof *pcs)) {
            p->counts[0]++;
            return;
        }
    }
}

/* More each time, and enough more. */
static bool grows(const struct pile *p) {
    for (int i = 0; i + 1 < HISTORY; i++)
        if (p->counts[i] <= p->counts[i + 1]) return false;
    return p->counts[0] - p->counts[HISTORY - 1] >= LEAST;
}

/* Places of stacks that are not there any more are free again; which moves the others, as in any table with open
 * places. */
static void tidy(struct wr_growth *growth) {
    struct pile *old = malloc(sizeof growth->piles);
    if (!old) return;
    memcpy(old, growth->piles, sizeof growth->piles);
    memset(growth->piles, 0, sizeof growth->piles);
    for (size_t k = 0; k < TABLE; k++) {
        uint64_t hash = (uintptr_t)old[k].site;
        bool any = false;
        for (int i = 0; i < HISTORY; i++) any |= old[k].counts[i] > 0;
        if (!any) continue;
        for (size_t i = 0; i < old[k].n_pcs; i++) hash = (hash ^ old[k].pcs[i]) * 1099511628211ULL;
        hash ^= hash >> 32;
        size_t at = hash % TABLE;
        while (growth->piles[at].n_pcs) at = (at + 1) % TABLE;
        growth->piles[at] = old[k];
    }
    free(old);
}

struct telling {
    const struct wr_growth *growth;
    char *text;
    size_t size, n;
};

static void put_pile(struct telling *t, const struct pile *p) {
    struct wr_snapshot s = { .waiting = true, .n = p->n_pcs, .pcs = p->pcs };
    struct wr_frame frame = { .function = "", .file = "?\?" };
    size_t from, to;
    wr_snapshot_shown(&s, &from, &to);
    for (; from < to; from++) {
        struct wr_frame frames[WR_INLINED];
        size_t n = wr_symbol(p->pcs[from], frames, WR_INLINED), i = 0;
        while (i < n && (wr_symbol_frame_class(&frames[i]) & WR_SYMBOL_OWN)) i++;
        if (i == n) continue;
        frame = frames[i];
        break;
    }
    static const struct weir_site_ unknown = { .creator = "the beginning", .file = "?\?" };
    const struct weir_site_ *site = p->site ? p->site : &unknown;
    int n = snprintf(t->text + t->n, t->size - t->n,
                     "    %u, %u, %u, now %u in %s at %s (%s:%d), started at %s (%s:%d)\n", p->counts[3], p->counts[2],
                     p->counts[1], p->counts[0], p->reason, frame.function, frame.file, frame.line, site->creator,
                     site->file, site->line);
    if (n > 0) t->n += (size_t)n < t->size - t->n ? (size_t)n : t->size - t->n - 1;
}

static void tell(void *arg) {
    struct telling *t = arg;
    bool shown[TABLE] = { false };
    wr_symbol_refresh();
    for (int k = 0; k < SHOWN; k++) { /* the largest first */
        const struct pile *most = NULL;
        for (size_t i = 0; i < TABLE; i++) {
            const struct pile *p = &t->growth->piles[i];
            if (!shown[i] && p->n_pcs && grows(p) && (!most || p->counts[0] > most->counts[0])) most = p;
        }
        if (!most) return;
        shown[most - t->growth->piles] = true;
        if (!t->n) t->n = (size_t)snprintf(t->text, t->size, "Goroutines that pile up, more of them each time:\n");
        put_pile(t, most);
    }
}

void wr_growth_sample(struct wr_growth **growth, weir_leak_report *r) {
    char text[8192];
    if (!*growth && !(*growth = calloc(1, sizeof **growth))) return;
    struct wr_growth *now = *growth;
    for (size_t i = 0; i < TABLE; i++) {
        memmove(now->piles[i].counts + 1, now->piles[i].counts, (HISTORY - 1) * sizeof now->piles[i].counts[0]);
        now->piles[i].counts[0] = 0;
    }
    if (!wr_dump_enter()) return;
    wr_each_goroutine(count_one, now);
    wr_dump_leave();
    tidy(now);
    if (++now->samples < HISTORY) return;
    struct telling t = { now, text, sizeof text, 0 };
    if (wr_on_large_stack(tell, &t) == 0 && t.n) r->growth = wr_report_text(r, text);
}

void wr_growth_free(struct wr_growth *growth) { free(growth); }
