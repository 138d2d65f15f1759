/*
 * What one goroutine is doing: taken quickly while it is held, put into words later.
 *
 * The words are those of Go's tracebacks, for the sake of the tools that read them; four things are ours. What has leaked
 * keeps its minutes. A goroutine's name is the function of a last, made-up frame, since those tools take nothing else in any other
 * place. So are frames that were left out: one of the tools gives up on a line without a parenthesis. What is
 * at no function is shown as its object and the offset in that, for addr2line.
 */
#include "trace/trace.h"

#include <inttypes.h>
#include <string.h>

/* ---- Taking ---------------------------------------------------------------------------------------- */

/* Fields of a goroutine that runs, or that starts anew meanwhile, are read as they are: any value of theirs is
 * valid, and the caller looks at the id twice. */
/* Stands for a stack that could not be had: its thread did not answer. */
__attribute__((noinline)) static void stack_unavailable(void) { __asm__ volatile(""); }

void wr_pairs_add(const char *key, const char *value, void *arg) {
    struct wr_pairs *pairs = arg;
    if (pairs->n == sizeof pairs->pair / sizeof pairs->pair[0]) return;
    size_t i = pairs->n++;
    for (; i > 0 && strcmp(pairs->pair[i - 1].key, key) > 0; i--) pairs->pair[i] = pairs->pair[i - 1];
    pairs->pair[i].key = key, pairs->pair[i].value = value;
}

/* A quoted string; NULL if it does not fit before end. */
static char *quote(char *at, const char *end, const char *text) {
    if (end - at < 3) return NULL;
    *at++ = '"';
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (end - at < 8) return NULL;
        if (c == '"' || c == '\\') *at++ = '\\', *at++ = (char)c;
        else if (c < ' ' || c == 127) at += snprintf(at, 7, "\\u%04x", c);
        else *at++ = (char)c;
    }
    *at++ = '"';
    return at;
}

void wr_pairs_text(const struct wr_pairs *pairs, char *text) {
    char *at = text, *end = text + WR_LABELS_TEXT - 2; /* room for the brace */
    *text = 0;
    for (size_t i = 0; i < pairs->n; i++) {
        char *p = at;
        p += snprintf(p, 3, at == text ? "{" : ", ");
        if (p < end && (p = quote(p, end, pairs->pair[i].key)) && p < end) {
            *p++ = ':';
            if ((p = quote(p, end, pairs->pair[i].value))) at = p;
        }
        if (end - at < 4) break;
    }
    if (at > text) *at++ = '}';
    *at = 0;
}

static void labels_text(const struct g *g, char *text) {
    struct wr_pairs pairs = { .n = 0 };
    (void)wr_labels_each(g, wr_pairs_add, &pairs);
    wr_pairs_text(&pairs, text);
}

static const char *const state_text[] = {
    [WR_G_DEAD] = "dead",       [WR_G_RUNNABLE] = "runnable", [WR_G_RUNNING] = "running",
    [WR_G_WAITING] = "waiting", [WR_G_BLOCKING] = "syscall",
};

WR_RACY static void take_state(struct g *g, struct wr_snapshot *s) {
    uint32_t state = atomic_load_explicit(&g->state, memory_order_acquire);
    struct wr_wait *w = atomic_load_explicit(&g->wait, memory_order_acquire);
    s->state = state < sizeof state_text / sizeof state_text[0] ? state_text[state] : "running";
    s->waiting = state == WR_G_WAITING;
    if (!s->waiting || !w) return;
    unsigned reason = w->reason;
    if (reason < WR_REASONS) s->state = wr_reason_text[reason];
    s->since = w->since;
    s->leaked = atomic_load_explicit(&g->leaked, memory_order_relaxed);
}

WR_RACY static void take_identity(struct g *g, struct wr_snapshot *s) {
    memset(s, 0, offsetof(struct wr_snapshot, labels) + 1);
    s->n = 0;
    s->id = g->id;
    s->creator = g->creator;
    s->site = g->site;
    s->foreign = g->foreign;
    s->locked = g->foreign || g->locked_m;
}

WR_RACY static uint64_t id_of(const struct g *g) { return g->id; }
WR_RACY static uintptr_t start_of(const struct g *g) { return (uintptr_t)g->fn; }

static void take_parked(struct g *g, struct wr_snapshot *s, uintptr_t *pcs) {
    s->n = wr_unwind_parked(g->sp, pcs, WR_DEPTH + 1);
    if (g->name) snprintf(s->name, sizeof s->name, "%s", g->name);
    labels_text(g, s->labels);
}

/*
 * One that runs is asked for its stack; by then it may have parked, and is taken like the others, or ended. A
 * signal may cut short a system call, so a foreign thread is asked only while it sleeps in weir, which minds
 * none.
 */
static bool take_running(struct g *g, struct wr_snapshot *s, uintptr_t *pcs, bool ask) {
    for (int i = 0; i < 2 && s->n == 0; i++) {
        if (ask && (!s->foreign || s->waiting)) s->n = wr_running_stack(g, pcs, WR_DEPTH + 1);
        s->exact = s->n > 0;
        if (s->n > 0) pcs[0]++;
        else if (!s->foreign && wr_hold(g)) {
            bool there = atomic_load_explicit(&g->state, memory_order_acquire) != WR_G_DEAD && g->id == s->id;
            if (there) {
                take_state(g, s);
                take_parked(g, s, pcs);
            }
            wr_let_go(g);
            return there;
        }
    }
    return atomic_load_explicit(&g->state, memory_order_acquire) != WR_G_DEAD && id_of(g) == s->id;
}

bool wr_snapshot_take(struct g *g, bool held, struct wr_snapshot *s, uintptr_t *pcs, bool ask) {
    take_identity(g, s);
    take_state(g, s);
    if (held) take_parked(g, s, pcs);
    else if (!take_running(g, s, pcs, ask)) return false;
    if (s->n == 0) {
        uintptr_t start = start_of(g);
        pcs[s->n++] = (start ? start : (uintptr_t)stack_unavailable) + 1;
        s->unavailable = true;
    }
    s->elided = s->n > WR_DEPTH;
    if (s->elided) s->n = WR_DEPTH;
    s->pcs = pcs;
    return true;
}

void wr_snapshot_self(struct g *g, struct wr_snapshot *s, const uintptr_t *pcs, size_t n) {
    take_identity(g, s);
    s->state = "running";
    if (g->name) snprintf(s->name, sizeof s->name, "%s", g->name);
    labels_text(g, s->labels);
    s->elided = n > WR_DEPTH;
    s->n = s->elided ? WR_DEPTH : n;
    s->pcs = pcs;
}

void wr_snapshot_crashed(struct g *g, struct wr_snapshot *s, const uintptr_t *pcs, size_t n) {
    if (g) take_identity(g, s);
    else memset(s, 0, sizeof *s);
    s->state = "running";
    s->exact = true;
    s->n = n;
    s->pcs = pcs;
}

/* ---- What of it is shown ----------------------------------------------------------------------------- */

void wr_snapshot_shown(const struct wr_snapshot *s, size_t *from, size_t *to) {
    enum {
        LIBC = 2,  /* frames of the C library inside a foreign thread's park: syscall */
        HELPERS = 3 /* between the park and the public call; without debug information they look like anybody's */
    };
    size_t n = s->n, first = 0, call = n;
    for (; first < n; first++) {
        unsigned class = wr_symbol_class(s->pcs[first]);
        if ((class & WR_SYMBOL_CALL) && call == n) call = first;
        if (!(class & WR_SYMBOL_OWN) && !(s->waiting && call == n && first < LIBC)) break;
    }
    for (size_t i = first; first > 0 && call == n && i < n && i < first + HELPERS; i++) {
        unsigned class = wr_symbol_class(s->pcs[i]);
        if (class & WR_SYMBOL_CALL) call = first = i;
        else if (!(class & WR_SYMBOL_BARE)) break;
    }
    if (call < first) first = call;
    else if (first == n) first = 0; /* nothing but ours */
    else if (first > 0 && call == n) first--; /* the public call became a jump to this, which says almost as much */
    while (n > first + 1 && (wr_symbol_class(s->pcs[n - 1]) & WR_SYMBOL_OWN)) n--;
    *from = first;
    *to = n;
}

/* ---- Words ------------------------------------------------------------------------------------------- */

void wr_header_put(struct wr_text *t, const struct wr_snapshot *s) {
    wr_text_put(t, "goroutine %" PRIu64 " [%s%s", s->id, s->state, s->leaked ? " (leaked)" : "");
    weir_duration waited = s->since > 0 ? wr_now() - s->since : 0;
    if (waited >= WEIR_MINUTE) wr_text_put(t, ", %" PRId64 " minutes", waited / WEIR_MINUTE);
    wr_text_put(t, "%s]:\n", s->locked ? ", locked to thread" : "");
}

static void frame_put(struct wr_text *t, const struct wr_frame *frame, bool exact) {
    uintptr_t offset = frame->offset + !exact;
    if (frame->named) wr_text_put(t, "%s(...)\n", frame->function);
    else wr_text_put(t, "%s+0x%" PRIxPTR "(...)\n", frame->function, offset);
    wr_text_put(t, "\t%s:%d +0x%" PRIxPTR "\n", frame->file, frame->line, offset);
}

void wr_frames_put(struct wr_text *t, const struct wr_snapshot *s, size_t from, size_t to, bool names) {
    for (size_t i = from; i < to; i++) {
        struct wr_frame frames[WR_INLINED];
        bool exact = i == 0 && s->exact;
        size_t n = 1, first = 0;
        if (names) n = wr_symbol(s->pcs[i], frames, WR_INLINED);
        else wr_symbol_plain(s->pcs[i], &frames[0]);
        if (names && i == from && from > 0) { /* the runtime's own, inlined into the call that is shown */
            while (first < n && wr_symbol_frame_class(&frames[first]) == WR_SYMBOL_OWN) first++;
            if (first == n) first = 0;
        }
        for (; first < n; first++) frame_put(t, &frames[first], exact);
    }
}

void wr_elided_put(struct wr_text *t) { wr_text_put(t, "...additional frames elided...(...)\n\t?\?:0 +0x0\n"); }

/* A parenthesis in a name would end it too soon, for some. */
static void name_put(struct wr_text *t, const char *name) {
    char clean[sizeof ((struct wr_snapshot *)0)->name];
    snprintf(clean, sizeof clean, "%s", name);
    for (char *c = clean; *c; c++) {
        if (*c == '(') *c = '[';
        if (*c == ')') *c = ']';
        if (*c == '%' || (unsigned char)*c < ' ') *c = '_';
    }
    wr_text_put(t, "weir_name \"%s\"(...)\n\t?\?:0 +0x0\n", clean);
}

void wr_creator_put(struct wr_text *t, const struct wr_snapshot *s) {
    if (s->site)
        wr_text_put(t, "created by %s in goroutine %" PRIu64 "\n\t%s:%d +0x0\n", s->site->creator, s->creator,
                    s->site->file, s->site->line);
}

void wr_snapshot_put(struct wr_text *t, const struct wr_snapshot *s) {
    size_t from, to;
    wr_header_put(t, s);
    wr_snapshot_shown(s, &from, &to);
    wr_frames_put(t, s, from, to, true);
    if (s->elided) wr_elided_put(t);
    if (*s->name) name_put(t, s->name);
    wr_creator_put(t, s);
}
