/*
 * Starting children in a scope, and their end.
 *
 * A child needs a slot: one of `live`, up to the limit. A slot that becomes free is handed to the one who has waited
 * longest for one, so live stays as it is, and nobody who comes later gets in between: while somebody waits for a
 * slot, none is free. Who waits watches two contexts: its own, as every blocked call does, and the scope's, whose end
 * takes it out of the queue (wr_scope_refuse_slots).
 */
#include "ctx/ctx.h"

/* ---- Slots -------------------------------------------------------------------------------------- */

/* The lock is held. 0: the slot is the caller's; -EAGAIN: none is free; else how the scope has ended. */
static int take_slot(struct weir_scope_ *in) {
    int e = weir_ctx_err(in->ctx);
    if (e) return e;
    if (in->limit && in->live >= in->limit) return -EAGAIN;
    in->live++;
    return 0;
}

static void free_slot(struct weir_scope_ *in) {
    struct g *heir = NULL;
    bool reports_stopped = false;
    wr_lock(&in->lock, WR_RANK_SCOPE);
    for (struct wr_list *link; !heir && (link = wr_list_pop(&in->slots));) {
        struct wr_wait *w = wr_container(link, struct wr_node, link)->wait;
        if (wr_claim(w, 1)) heir = w->g;
    }
    if (!heir && --in->live == 0) {
        for (struct wr_list *link; (link = wr_list_pop(&in->waiters));) {
            struct wr_wait *w = wr_container(link, struct wr_node, link)->wait;
            if (wr_claim(w, 1)) wr_ready(w->g);
        }
        reports_stopped = wr_scope_stop_reports(in);
    }
    wr_unlock(&in->lock, WR_RANK_SCOPE);
    if (heir) wr_ready(heir);
    if (reports_stopped) wr_scope_release(in);
}

void wr_scope_refuse_slots(struct weir_scope_ *in, int err) {
    for (struct wr_list *link; (link = wr_list_pop(&in->slots));) {
        struct wr_wait *w = wr_container(link, struct wr_node, link)->wait;
        if (wr_claim(w, err)) wr_ready(w->g);
    }
}

/* Called with none free; one may be by now. */
static int wait_for_slot(struct weir_scope_ *in) {
    struct wr_wait w;
    struct wr_node node = { .wait = &w, .code = 1 };
    wr_wait_init(&w, WR_WAIT_SCOPE_GO, in);
    wr_lock(&in->lock, WR_RANK_SCOPE);
    int e = take_slot(in);
    if (e == -EAGAIN) wr_list_append(&in->slots, &node.link);
    wr_unlock(&in->lock, WR_RANK_SCOPE);
    if (e != -EAGAIN) return e;

    wr_scope_retain(in);
    int why = wr_park(&w);
    wr_lock(&in->lock, WR_RANK_SCOPE);
    if (wr_list_linked(&node.link)) wr_list_remove(&node.link);
    wr_unlock(&in->lock, WR_RANK_SCOPE);
    /* The scope may have ended since the slot was handed over. */
    e = why > 0 ? weir_ctx_err(in->ctx) : why;
    if (why > 0 && e) free_slot(in);
    wr_scope_release(in);
    return e;
}

/* ---- Children ----------------------------------------------------------------------------------- */

/* The captured arguments are this thread's, and good until something parks. */
static int launch(void (*fn)(void), const weir_site_ *site, size_t stack, bool returns_int, weir_scope *s, bool wait) {
    const struct wr_args *args = &wr_captured_args;
    struct wr_args kept;
    struct weir_scope_ *in = s->in_;
    if (!in) return -EINVAL;
    wr_scope_check_frames(wr_self(), NULL);
    wr_lock(&in->lock, WR_RANK_SCOPE);
    int e = take_slot(in);
    wr_unlock(&in->lock, WR_RANK_SCOPE);
    if (e == -EAGAIN && wait) {
        kept = *args;
        wr_captured_args = (struct wr_args){ .integer = { 0 } }; /* while we wait, the leak proof must not find them there */
        args = &kept;
        e = wait_for_slot(in);
    }
    if (e) return e;

    wr_scope_retain(in);
    struct wr_spawn child = { .fn = fn,
                              .site = site,
                              .args = args,
                              .stack = stack,
                              .ctx = weir_ctx_retain(in->ctx),
                              .cancel = wr_ctx_cancel_of(in->ctx),
                              .on_end = wr_scope_child_ended,
                              .owner = in,
                              .returns_int = returns_int };
    e = wr_spawn(&child);
    if (e) {
        weir_ctx_release(in->ctx);
        free_slot(in);
        wr_scope_release(in);
    }
    return e;
}

int weir_scope_launch_(void (*fn)(void), const weir_site_ *site, size_t stack, bool returns_int, void *scope) {
    return launch(fn, site, stack, returns_int, scope, true);
}

int weir_scope_try_launch_(void (*fn)(void), const weir_site_ *site, size_t stack, bool returns_int, void *scope) {
    return launch(fn, site, stack, returns_int, scope, false);
}

/* The siblings are cancelled before the slot is free, so that whoever finds the scope empty finds it cancelled, too. */
void wr_scope_child_ended(struct g *g, int result) {
    struct weir_scope_ *in = g->owner;
    bool cancel = false;
    if (g->returns_int && result) {
        wr_lock(&in->lock, WR_RANK_SCOPE);
        if (in->first == 0) in->first = result, cancel = !in->supervised;
        wr_unlock(&in->lock, WR_RANK_SCOPE);
    }
    if (cancel) weir_ctx_cancel_cause(in->ctx, result < 0 ? result : -ECANCELED);
    __atomic_store_n(&g->owner, NULL, __ATOMIC_RELAXED); /* a report may be looking for our children */
    free_slot(in);
    wr_scope_release(in);
}
