/* The table that start/inside.h describes: each entry is a function of a lower room, or a few lines around one. */
#include "base/base.h"
#include "start/inside.h"

#include <string.h>

#include "leak/report.h"
#include "profile/profile.h"
#include "sched/sched.h"
#include "trace/trace.h"

/* ---- Stacks ------------------------------------------------------------------------------------------------- */

struct visit {
    enum wr_inside_kind what;
    wr_inside_visit *visit;
    void *arg;
    int error;
};

static void visit_group(const struct wr_group *g, void *arg) {
    const struct visit *v = arg;
    char text[WR_GROUP_LABELS];
    struct wr_inside_stack s = { .pcs = g->pcs, .n = g->n_pcs, .count = g->count, .labels = wr_group_labels(g, text) };
    v->visit(&s, v->arg);
}

static void visit_goroutines(void *arg) {
    struct visit *v = arg;
    struct wr_groups gs = { 0 };
    wr_groups_all(&gs, v->what == WR_INSIDE_LEAKED);
    v->error = wr_groups_each(&gs, visit_group, v);
    wr_groups_free(&gs);
}

static int goroutines(struct visit *v) {
    if (!wr_dump_enter()) return 0; /* no runtime, no goroutines */
    int e = wr_on_large_stack(visit_goroutines, v);
    wr_dump_leave();
    return e ? e : v->error;
}

/* Where a thread was made is always the same place of ours, so it is shown as what it runs. */
static void visit_threads(uintptr_t start, size_t n, void *arg) {
    const struct visit *v = arg;
    uintptr_t pc = start + 1;
    struct wr_inside_stack s = { .pcs = &pc, .n = 1, .count = n, .labels = "" };
    v->visit(&s, v->arg);
}

/* Events that are counted, and what they took. */
static void visit_event(const uintptr_t *pcs, size_t n, uint64_t count, uint64_t nanoseconds, void *arg) {
    const struct visit *v = arg;
    struct wr_inside_stack s = { .pcs = pcs, .n = n, .count = count, .nanoseconds = nanoseconds, .labels = "" };
    if (v->visit) v->visit(&s, v->arg);
}

static size_t events(struct visit *v) {
    return wr_profile_each(v->what == WR_INSIDE_BLOCK ? WR_PROFILE_BLOCK : WR_PROFILE_MUTEX, visit_event, v);
}

static int stacks(enum wr_inside_kind what, wr_inside_visit *visit, void *arg) {
    struct visit v = { what, visit, arg, 0 };
    switch (what) {
    case WR_INSIDE_GOROUTINES:
    case WR_INSIDE_LEAKED: return goroutines(&v);
    case WR_INSIDE_THREADS: wr_threads_each(visit_threads, &v); return 0;
    case WR_INSIDE_BLOCK:
    case WR_INSIDE_MUTEX: (void)events(&v); return 0;
    }
    return -EINVAL;
}

static size_t count(enum wr_inside_kind what) {
    struct visit v = { .what = what };
    switch (what) {
    case WR_INSIDE_GOROUTINES: return wr_live();
    case WR_INSIDE_THREADS: return wr_threads_each(NULL, NULL);
    case WR_INSIDE_BLOCK:
    case WR_INSIDE_MUTEX: return events(&v);
    case WR_INSIDE_LEAKED: break;
    }
    return 0;
}

/* ---- Proofs ------------------------------------------------------------------------------------------------- */

/* Healing wakes goroutines: until it is over, this thread is one that a deadlock is not to be called without. */
static int prove(bool heal, struct wr_inside_proven *proven) {
    weir_leak_report *r;
    memset(proven, 0, sizeof *proven);
    wr_helper_works();
    int n = weir_leaks(&r);
    if (n >= 0) proven->leaked = (size_t)n;
    if (n > 0 && heal) proven->healed = (size_t)weir_leak_heal(r);
    if (n < 0) snprintf(proven->why, sizeof proven->why, "%s", r && *r->proof.why ? r->proof.why : strerror(-n));
    weir_leak_report_free(r);
    wr_helper_rests();
    return n < 0 ? n : 0;
}

/* ---- Names -------------------------------------------------------------------------------------------------- */

struct call {
    void (*fn)(void *);
    void *arg;
};
static void call(void *arg) {
    const struct call *c = arg;
    wr_symbol_refresh();
    c->fn(c->arg);
}
static int on_large_stack(void (*fn)(void *), void *arg) {
    struct call c = { fn, arg };
    return wr_on_large_stack(call, &c);
}

static size_t names(uintptr_t pc, bool innermost, struct wr_inside_name *names, size_t max) {
    struct wr_frame frames[WR_INLINED];
    size_t n = wr_group_frames(pc, innermost, frames, max < WR_INLINED ? max : WR_INLINED);
    for (size_t i = 0; i < n; i++)
        names[i] = (struct wr_inside_name){ frames[i].function, frames[i].file, frames[i].line, frames[i].named, frames[i].offset };
    return n;
}

/* ---- Profiles ----------------------------------------------------------------------------------------------- */

static int mutex_fraction(void) { return weir_mutex_profile_fraction(-1); }

static void visit_samples(const uintptr_t *pcs, size_t n, uint64_t samples, uint64_t nanoseconds, const char *labels, void *arg) {
    const struct visit *v = arg;
    struct wr_inside_stack s = { .pcs = pcs, .n = n, .count = samples, .nanoseconds = nanoseconds, .labels = labels };
    v->visit(&s, v->arg);
}
static int cpu_stop(wr_inside_visit *visit, void *arg) {
    struct visit v = { .visit = visit, .arg = arg };
    return wr_cpu_profile_stop(visit_samples, &v);
}

/* ---- The table ---------------------------------------------------------------------------------------------- */

static const struct wr_inside inside = {
    .version = WR_INSIDE_VERSION,
    .size = sizeof inside,
    .thread = wr_helper_thread,
    .count = count,
    .stacks = stacks,
    .dump = weir_dump,
    .prove = prove,
    .proofs = wr_proofs_take,
    .on_large_stack = on_large_stack,
    .names = names,
    .has_lines = wr_symbol_has_lines,
    .mutex_fraction = mutex_fraction,
    .cpu_start = wr_cpu_profile_start,
    .cpu_stop = cpu_stop,
    .metrics = wr_metrics_take,
    .reasons = wr_reason_text,
};

const struct wr_inside *weir_inside_(void) { return &inside; }
