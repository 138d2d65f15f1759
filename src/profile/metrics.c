/*
 * The counters that metrics are made of: the scheduler's own (sched/count.c), goroutines by where they were started, and the last leak
 * proof and the watched count, which the leak room tells us of, since it stands above.
 *
 * Who asks enters the gate of the dumps, so that the runtime is not stopped while its goroutines are walked.
 */
#include "profile/stacks.h"

#include <stdlib.h>
#include <string.h>

/* ---- Places of start ------------------------------------------------------------------------------------------ */

/* There is one for each weir_go in the program's text; more than fit are counted without their place. */
enum { SITES = 4096, SITES_AT_MOST = SITES / 2 };

struct sites {
    struct wr_metric_site table[SITES]; /* by site; count 0: free */
    size_t n;
    uint64_t others;
};

static size_t place_of(const struct weir_site_ *site) { return (uintptr_t)site / 8 * 0x9e3779b97f4a7c15ULL >> 52; }
_Static_assert(SITES == 1 << (64 - 52), "place_of gives 12 bits");

static void add_site(const struct weir_site_ *site, void *arg) {
    struct sites *s = arg;
    size_t at = place_of(site);
    while (s->table[at].count && s->table[at].site != site) at = (at + 1) % SITES;
    if (!s->table[at].count && s->n == SITES_AT_MOST) {
        s->others++;
        return;
    }
    s->n += !s->table[at].count;
    s->table[at].site = site;
    s->table[at].count++;
}

static int most_first(const void *a, const void *b) {
    const struct wr_metric_site *x = a, *y = b;
    if (x->count != y->count) return x->count > y->count ? -1 : 1;
    return x->site < y->site ? -1 : x->site > y->site;
}

static void list_sites(struct wr_metrics *m, struct sites *s) {
    qsort(s->table, SITES, sizeof s->table[0], most_first);
    m->n_sites = s->n < WR_METRIC_SITES ? s->n : WR_METRIC_SITES;
    memcpy(m->sites, s->table, m->n_sites * sizeof m->sites[0]);
    m->other_sites = s->others;
    for (size_t i = m->n_sites; i < s->n; i++) m->other_sites += s->table[i].count;
}

static void add_other(const struct weir_site_ *site, void *arg) {
    (void)site;
    ++*(uint64_t *)arg;
}

/* ---- What the leak room tells ------------------------------------------------------------------------------------- */

static struct {
    struct wr_lock lock; /* rank LEAF */
    struct wr_proofs proofs;
    struct wr_watched watched;
} told;

static void lock(void) { wr_lock(&told.lock, WR_RANK_LEAF); }
static void unlock(void) { wr_unlock(&told.lock, WR_RANK_LEAF); }

void wr_metrics_proved(uint64_t leaked, weir_duration took, weir_duration paused) {
    weir_time now = wr_now();
    lock();
    told.proofs = (struct wr_proofs){ told.proofs.n + 1, now, leaked, took, paused, told.proofs.inconclusive };
    unlock();
}

void wr_metrics_not_proved(void) {
    lock();
    told.proofs.inconclusive++;
    unlock();
}

void wr_metrics_watch(bool now, size_t threshold) {
    lock();
    told.watched.now = now, told.watched.threshold = threshold;
    unlock();
}

void wr_metrics_exceeded(void) {
    lock();
    told.watched.exceeded++;
    unlock();
}

void wr_proofs_take(struct wr_proofs *p) {
    lock();
    *p = told.proofs;
    unlock();
}

/* ---- All of it ------------------------------------------------------------------------------------------------------ */

void wr_metrics_take(struct wr_metrics *m) {
    int saved_errno = errno;
    memset(m, 0, sizeof *m);
    bool running = wr_dump_enter();
    wr_count_totals(&m->sched);
    if (running) {
        struct sites *s = calloc(1, sizeof *s); /* without memory for it, all are others */
        wr_count_now(&m->sched, s ? add_site : add_other, s ? (void *)s : (void *)&m->other_sites);
        wr_dump_leave();
        if (s) list_sites(m, s);
        free(s);
    }
    lock();
    m->proofs = told.proofs, m->watched = told.watched;
    unlock();
    errno = saved_errno;
}

void wr_profile_memory_each(void (*visit)(uintptr_t lo, uintptr_t hi)) {
    wr_contention_memory_each(visit);
    wr_cpu_memory_each(visit);
}
