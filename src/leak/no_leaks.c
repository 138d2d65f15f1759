/*
 * weir_no_leaks: who was started inside, and is still there at the end?
 *
 * Ids are given out in order, so those inside are the ones from the first id after the block was entered. A goroutine
 * that is about to end should not fail a test, and one that never will should not hold it up for long. So the end of
 * the block waits while anything happens that could still change who lives: a goroutine or thread of the program that
 * runs, a timer that will fire within the time allowed. When it has been quiet for a while, or time is up, what lives
 * is left behind.
 */
#include "leak/report.h"

#include <stdlib.h>
#include <unistd.h>

#include "trace/trace.h"

#define ALLOWED WEIR_SECOND
#define LOOKS 100 /* at least: where the machine had no time for us, the others had none either */
/* A thread on its way from a timer to a goroutine is seen nowhere; it takes microseconds. */
#define QUIET (20 * WEIR_MILLISECOND)
#define SHORTEST (20 * WEIR_MICROSECOND)
#define LONGEST (5 * WEIR_MILLISECOND)

static _Atomic(void (*)(const char *, const weir_leak_report *)) hook;

void weir_on_leak(void (*fn)(const char *name, const weir_leak_report *report)) { atomic_store(&hook, fn); }

/* ---- Looking ---------------------------------------------------------------------------------------------- */

struct look {
    uint64_t from;
    const struct g *self;
    size_t inside;         /* that live */
    bool busy;             /* somebody runs, or is about to */
};

/* Ids and waits of goroutines that run. */
WR_RACY static void look_at(struct g *g, bool held, void *arg) {
    struct look *look = arg;
    if (g == look->self) return;
    if (!g->foreign && g->id >= look->from) look->inside++;
    uint32_t state = atomic_load_explicit(&g->state, memory_order_acquire);
    struct wr_wait *w = atomic_load_explicit(&g->wait, memory_order_acquire);
    bool asleep = state == WR_G_WAITING && (g->foreign || (held && w && atomic_load(&w->decided) == 0));
    if (!asleep) look->busy = true;
}

/* Sleep whatever the context says: it may have ended, and the block is to be checked all the same. */
static void pause_for(weir_duration d) {
    struct wr_wait w;
    wr_wait_init(&w, WR_WAIT_SLEEP, NULL);
    w.cancellable = false;
    (void)wr_park_until(&w, wr_after(d));
}

/* True: somebody is left behind. */
static bool left_behind(uint64_t from) {
    weir_time begun = wr_now(), quiet_since = 0;
    int looks = 0;
    for (weir_duration pause = 0;; looks++, pause = pause ? pause < LONGEST ? 2 * pause : LONGEST : SHORTEST) {
        struct look look = { .from = from, .self = wr_self() };
        if (!wr_dump_enter()) return false; /* nothing runs any more */
        wr_each_goroutine(look_at, &look);
        wr_dump_leave();
        if (!look.inside) return false;
        weir_time now = wr_now(), timer = wr_next_timer();
        if (look.busy || timer <= begun + ALLOWED) quiet_since = 0;
        else if (!quiet_since) quiet_since = now;
        if ((now - begun >= ALLOWED && looks >= LOOKS) || (quiet_since && now - quiet_since >= QUIET)) return true;
        if (pause) pause_for(pause);
        else weir_yield();
    }
}

/* ---- The end of the block ----------------------------------------------------------------------------------- */

static _Noreturn void end_process(const char *name, const weir_leak_report *r) {
    if (r) weir_leak_report_print(r, stderr);
    else wr_warn("goroutines started in weir_no_leaks(\"%s\") are left behind; no memory to say which", name);
    fflush(NULL);
    _exit(1);
}

static void left(weir_block_ *b) {
    const char *name = b->a_;
    uint64_t from = (uintptr_t)b->c_;
    if (!left_behind(from)) return;

    weir_leak_report *r = calloc(1, sizeof *r);
    if (r) r->title = wr_report_text(r, name);
    bool known = r && wr_dump_enter();
    if (known) {
        known = wr_collect_living(r, from) == 0;
        wr_dump_leave();
    }
    void (*fn)(const char *, const weir_leak_report *) = atomic_load(&hook);
    if (known && r->n == 0) fn = NULL; /* the last one has ended while we looked */
    else if (!fn || !known) end_process(name, known ? r : NULL);
    if (fn) fn(name, r);
    weir_leak_report_free(r);
}

weir_block_ *weir_no_leaks_enter_(weir_block_ *b, const char *name) {
    (void)wr_self(); /* a thread's own id comes before */
    *b = (weir_block_){ .a_ = (void *)(uintptr_t)(name ? name : ""), .c_ = (void *)(uintptr_t)wr_ids_end() };
    wr_block_push(b, left);
    return b;
}
