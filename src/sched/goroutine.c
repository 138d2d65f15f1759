/*
 * Goroutines: start, end, what they carry (name, labels, deferred calls, blocks), and the control blocks of foreign
 * threads. A control block belongs to its goroutine while that runs; state, on_cpu and held say when others may look.
 */
#include "sched/inner.h"

#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef WR_ASAN
#include <sanitizer/asan_interface.h>
#endif

void (*wr_hook_ctx_drop)(void *ctx);

const char *const wr_reason_text[WR_REASONS] = {
    [WR_WAIT_NONE] = "waiting",
    [WR_WAIT_CHAN_SEND] = "chan send",
    [WR_WAIT_CHAN_RECV] = "chan receive",
    [WR_WAIT_CHAN_SEND_NIL] = "chan send (nil chan)",
    [WR_WAIT_CHAN_RECV_NIL] = "chan receive (nil chan)",
    [WR_WAIT_SELECT] = "select",
    [WR_WAIT_SELECT_NONE] = "select (no cases)",
    [WR_WAIT_SLEEP] = "sleep",
    [WR_WAIT_IO] = "IO wait",
    [WR_WAIT_MUTEX] = "sync.Mutex.Lock",
    [WR_WAIT_RLOCK] = "sync.RWMutex.RLock",
    [WR_WAIT_LOCK] = "sync.RWMutex.Lock",
    [WR_WAIT_COND] = "sync.Cond.Wait",
    [WR_WAIT_WG] = "sync.WaitGroup.Wait",
    [WR_WAIT_ONCE] = "sync.Once.Do",
    [WR_WAIT_SEMACQUIRE] = "semacquire",
    [WR_WAIT_SCOPE] = "weir.Scope.Wait",
    [WR_WAIT_SCOPE_GO] = "weir.Scope.Go",
};

/* ---- Labels: an immutable list, shared by count with the goroutines started since ---------------- */

struct wr_labels {
    _Atomic uint32_t refs;
    struct wr_labels *next;
    const char *key, *value; /* value NULL: removed */
    char text[];
};

static struct wr_labels *labels_retain(struct wr_labels *l) {
    if (l) atomic_fetch_add_explicit(&l->refs, 1, memory_order_relaxed);
    return l;
}
static void labels_release(struct wr_labels *l) {
    while (l && atomic_fetch_sub_explicit(&l->refs, 1, memory_order_acq_rel) == 1) {
        struct wr_labels *next = l->next;
        free(l);
        l = next;
    }
}

void weir_label(const char *key, const char *value) {
    struct g *g = wr_self();
    if (!key) return;
    size_t k = strlen(key) + 1, v = value ? strlen(value) + 1 : 0;
    struct wr_labels *l = malloc(sizeof *l + k + v);
    if (!l) return; /* a label is decoration */
    atomic_init(&l->refs, 1);
    l->key = memcpy(l->text, key, k);
    l->value = value ? memcpy(l->text + k, value, v) : NULL;
    l->next = g->labels;
    atomic_signal_fence(memory_order_release); /* a handler of ours may look at them, on this thread, at any time */
    g->labels = l;
}

size_t wr_labels_newest(const struct g *g, size_t most, void (*visit)(const char *key, const char *value, void *arg), void *arg) {
    size_t n = 0;
    for (const struct wr_labels *l = g->labels; l && most > 0; l = l->next, most--) {
        bool newer = false;
        for (const struct wr_labels *before = g->labels; before != l && !newer; before = before->next)
            newer = !strcmp(before->key, l->key);
        if (!newer && l->value) visit(l->key, l->value, arg), n++;
    }
    return n;
}
size_t wr_labels_each(const struct g *g, void (*visit)(const char *key, const char *value, void *arg), void *arg) {
    return wr_labels_newest(g, SIZE_MAX, visit, arg);
}

void weir_name(const char *fmt, ...) {
    struct g *g = wr_self();
    char text[64];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < ' ') *c = ' '; /* a name must not break a dump's lines */
    char *copy = strdup(text);
    if (!copy) return; /* so is a name */
    free(g->name);
    g->name = copy;
}

/* ---- Blocks and deferred calls --------------------------------------------------------------------- */

void wr_block_push(weir_block_ *b, void (*leave)(weir_block_ *)) {
    struct g *g = wr_self();
    b->leave_ = leave;
    b->outer_ = g->blocks;
    g->blocks = b;
}

void wr_block_pop(weir_block_ *b) {
    struct g *g = wr_self();
    weir_block_ **at = &g->blocks;
    while (*at && *at != b) at = &(*at)->outer_;
    wr_assert(*at == b);
    if (*at) *at = b->outer_;
    b->leave_ = NULL;
}

struct deferred {
    weir_block_ block;
    void (*fn)(void *);
    void *arg;
};

static void run_deferred(weir_block_ *b) {
    struct deferred *d = (struct deferred *)b;
    void (*fn)(void *) = d->fn;
    void *arg = d->arg;
    free(d);
    fn(arg);
}

void weir_defer(void (*fn)(void *), void *arg) {
    struct deferred *d = malloc(sizeof *d);
    if (!d) wr_fatal("weir_defer: out of memory");
    d->fn = fn, d->arg = arg;
    wr_block_push(&d->block, run_deferred);
}

/* Innermost first. A deferred call may itself call weir_exit: the rest is then undone from there. */
static void undo_blocks(void) {
    for (weir_block_ *b; (b = wr_self()->blocks);) {
        void (*leave)(weir_block_ *) = b->leave_;
        wr_self()->blocks = b->outer_;
        b->leave_ = NULL;
        leave(b);
    }
}

/* ---- Start and end --------------------------------------------------------------------------------- */

static uint64_t new_id(void) { return atomic_fetch_add_explicit(&wr_sched.next_id, 1, memory_order_relaxed); }

/* Everything but state, on_cpu and held, which others may look at. */
void wr_g_init(struct g *g) {
    g->next = NULL;
    __atomic_store_n(&g->m, NULL, __ATOMIC_RELAXED);
    g->locked_m = NULL;
    g->lock_depth = 0;
    atomic_store_explicit(&g->wait, NULL, memory_order_relaxed);
    atomic_store_explicit(&g->leaked, false, memory_order_relaxed);
    g->creator = 0, g->depth = 0;
    g->site = NULL, g->fn = NULL, g->ctx = NULL, g->cancel = NULL, g->blocks = NULL;
    g->on_end = NULL, g->owner = NULL, g->labels = NULL, g->name = NULL;
    g->select_error = 0;
    g->ready_at = 0;
    g->returns_int = g->foreign = g->exiting = g->main = g->fresh = false;
    g->tsan = g->asan = NULL;
}

void wr_g_drop(struct g *g) {
    struct wr_labels *labels = g->labels;
    free(g->name);
    g->name = NULL;
    g->labels = NULL;
    atomic_signal_fence(memory_order_release); /* as in weir_label */
    labels_release(labels);
    if (g->ctx && wr_hook_ctx_drop) wr_hook_ctx_drop(g->ctx);
    g->ctx = NULL, g->cancel = NULL;
}

int wr_spawn(const struct wr_spawn *s) {
    if (!atomic_load_explicit(&wr_sched.running, memory_order_acquire)) return -EPERM;
    size_t size = s->stack ? s->stack : wr_sched.default_stack;
    if (size > (size_t)1 << 30) return -EINVAL;
    struct m *m = wr_m();
    struct g *creator = m ? m->g : wr_foreign_self(false);
    struct p *p = m ? wr_enter(m) : NULL;
    struct g *g = wr_stack_new(p, size);
    if (wr_unlikely(!g)) {
        if (m) wr_leave(m);
        return -ENOMEM;
    }
    wr_g_init(g);
    g->id = s->main ? 1 : new_id();
    g->main = s->main, g->fresh = true;
    if (creator) g->creator = creator->id, g->depth = creator->depth + 1, g->labels = labels_retain(creator->labels);
    g->site = s->site, g->fn = s->fn, g->ctx = s->ctx, g->cancel = s->cancel;
    g->on_end = s->on_end, g->owner = s->owner, g->returns_int = s->returns_int;
#ifdef WR_ASAN
    __asan_unpoison_memory_region(g->stack_lo, (size_t)(g->stack_hi - g->stack_lo));
#endif
#ifdef WR_TSAN
    g->tsan = __tsan_create_fiber(0);
#endif
    g->sp = wr_prepare(g->stack_hi, s->fn, s->args);
    /* Before anybody can see it end. The tallies of a thread that an earlier run has left behind are added up no more. */
    if (m && wr_likely(!atomic_load_explicit(&m->frozen, memory_order_relaxed))) wr_tally(m, WR_STARTED);
    else wr_tally_shared(WR_STARTED);
    atomic_store_explicit(&g->state, WR_G_RUNNABLE, memory_order_release);
    /* From here on the leak proof finds the arguments on the new stack, and needs not find them here. */
    atomic_signal_fence(memory_order_seq_cst);
    memset(&wr_captured_args, 0, sizeof wr_captured_args);
    wr_made_ready(m, g);
    wr_push_new(p, g);
    if (m) wr_leave(m);
    wr_wake_worker();
    return 0;
}

int wr_spawn1(void (*fn)(void *), void *arg, const weir_site_ *site) {
    struct wr_args args;
    memset(&args, 0, sizeof args);
    args.integer[0] = (uint64_t)(uintptr_t)arg;
    struct wr_spawn s = { .fn = (void (*)(void))fn, .site = site, .args = &args };
    return wr_spawn(&s);
}

int weir_go_launch_(void (*fn)(void), const weir_site_ *site, size_t stack, bool returns_int, void *owner) {
    (void)owner;
    struct wr_spawn s = { .fn = fn, .site = site, .args = &wr_captured_args, .stack = stack, .returns_int = returns_int };
    return wr_spawn(&s);
}

/* The entry stub's first call, on the new stack. */
void wr_goroutine_begin(void *previous) {
#ifdef WR_ASAN
    __sanitizer_finish_switch_fiber(NULL, NULL, NULL);
#endif
    wr_after_switch(previous);
    struct m *m = wr_m();
    m->g->fresh = false;
    wr_leave(m);
}

/* Among the public functions since it takes locks, without one of them below it: see in_weir in signal.c. */
__attribute__((noinline, section("weir_api"))) static bool finish(struct g *g, int result) {
    /* All is given back and forgotten, and it is not counted any more, before on_end lets those go on who wait for it. */
    wr_g_drop(g);
    wr_vectors_clear();
    wr_tally(wr_m(), WR_ENDED);
    wr_fence_light(); /* the other side is in wr_sched_wait_idle */
    bool last = wr_unlikely(atomic_load_explicit(&wr_sched.idle_waiters, memory_order_relaxed)) && wr_goroutines() == 0;
    if (g->on_end) {
        g->on_end(g, result);
        wr_vectors_clear();
    }
    return last;
}

static _Noreturn void end(intptr_t result) {
    undo_blocks();
    struct g *g = wr_self();
    bool last = finish(g, g->returns_int ? (int)result : 0);
    g = wr_self();
    if (g->locked_m) {
        g->locked_m->locked_g = NULL;
        g->locked_m = NULL, g->lock_depth = 0;
    }
    if (last) {
        atomic_fetch_add(&wr_sched.idle_word, 1);
        wr_futex_wake(&wr_sched.idle_word, INT32_MAX);
    }
    wr_enter(wr_m());
    atomic_store_explicit(&g->state, WR_G_DEAD, memory_order_release);
    wr_schedule_away(g); /* whoever comes next frees this stack */
    wr_fatal("an ended goroutine ran again");
}

_Noreturn void wr_goroutine_end(intptr_t result) { end(result); }

void weir_exit(void) {
    struct g *g = wr_self();
    g->exiting = true;
    if (g->foreign) {
        undo_blocks();
        pthread_exit(NULL);
    }
    end(0);
}

/* ---- Foreign threads ------------------------------------------------------------------------------- */

static __thread struct g *foreign_g __attribute__((tls_model("initial-exec")));
static pthread_key_t foreign_key;
static pthread_once_t foreign_once = PTHREAD_ONCE_INIT;

static void foreign_drop(void *arg) {
    struct g *g = arg;
    foreign_g = g; /* still this thread's while what it deferred runs, or that would make another one */
    undo_blocks();
    foreign_g = NULL;
    wr_g_drop(g);
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    wr_list_remove(&g->in_foreign);
    atomic_store_explicit(&g->state, WR_G_DEAD, memory_order_release);
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    atomic_fetch_sub(&wr_sched.foreign, 1);
    free(g);
}
static void foreign_init(void) { pthread_key_create(&foreign_key, foreign_drop); }

struct g *wr_foreign_self(bool make) {
    if (foreign_g || !make) return foreign_g;
    if (wr_in_run || wr_m()) wr_fatal("a weir call was made in a signal handler");
    pthread_once(&foreign_once, foreign_init);
    struct g *g = calloc(1, sizeof *g);
    if (!g) wr_fatal("out of memory for a thread's control block");
    wr_g_init(g);
    g->foreign = true;
    g->id = new_id();
    g->thread = pthread_self();
    uintptr_t lo = 0, hi = 0;
    wr_thread_stack(&lo, &hi);
    g->stack_lo = (char *)lo, g->stack_hi = (char *)hi;
    atomic_init(&g->state, WR_G_RUNNING);
    atomic_init(&g->on_cpu, 1);
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    if (!wr_sched.foreigns.next) wr_list_init(&wr_sched.foreigns);
    wr_list_append(&wr_sched.foreigns, &g->in_foreign);
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    atomic_fetch_add(&wr_sched.foreign, 1);
    pthread_setspecific(foreign_key, g);
    return foreign_g = g;
}

void wr_foreign_drop_self(void) {
    struct g *g = foreign_g;
    if (!g) return;
    pthread_setspecific(foreign_key, NULL);
    foreign_drop(g);
}

struct g *wr_self(void) {
    struct m *m = wr_m();
    return wr_likely(m && m->g) ? m->g : wr_foreign_self(true);
}
struct g *wr_self_or_null(void) {
    struct m *m = wr_m();
    return m && m->g ? m->g : foreign_g;
}

/* ---- Questions -------------------------------------------------------------------------------------- */

uint64_t weir_id(void) { return wr_self()->id; }

size_t wr_live(void) { return wr_goroutines() + atomic_load_explicit(&wr_sched.foreign, memory_order_relaxed); }

size_t weir_count(void) {
    (void)wr_self();
    return wr_live();
}

void weir_lock_thread(void) {
    struct m *m = wr_m();
    struct g *g = wr_self();
    if (g->lock_depth++ || g->foreign) return;
    m->locked_g = g;
    g->locked_m = m;
}

void weir_unlock_thread(void) {
    struct g *g = wr_self();
    if (g->lock_depth == 0 || --g->lock_depth || g->foreign) return;
    g->locked_m->locked_g = NULL;
    g->locked_m = NULL;
}

/* ---- Walking all of them ---------------------------------------------------------------------------- */

struct walk {
    void (*visit)(struct g *, bool, void *);
    void *arg;
    size_t n;
};

void wr_walk_begin(void) {
    atomic_fetch_add(&wr_sched.walks, 1);
    wr_fence_all();
}
void wr_walk_end(void) { atomic_fetch_sub_explicit(&wr_sched.walks, 1, memory_order_release); }

/* The other side, and the argument: take_soon. */
bool wr_hold(struct g *g) {
    uint32_t free = 0;
    if (!atomic_compare_exchange_strong_explicit(&g->held, &free, 1, memory_order_acquire, memory_order_relaxed)) return false;
    wr_fence();
    if (!atomic_load_explicit(&g->on_cpu, memory_order_acquire)) return true;
    wr_let_go(g);
    return false;
}
void wr_let_go(struct g *g) { atomic_store_explicit(&g->held, 0, memory_order_release); }

/* A dead control block is passed by without touching it, and one that dies in between is noticed when the state is read again. */
static void walk_one(struct g *g, void *arg) {
    struct walk *w = arg;
    if (atomic_load_explicit(&g->state, memory_order_acquire) == WR_G_DEAD) return;
    bool held = false;
    for (int i = 0; i < 100 && !held; i++) {
        held = wr_hold(g);
        if (!held && atomic_load_explicit(&g->state, memory_order_acquire) == WR_G_RUNNING) break;
        if (!held) wr_pause();
    }
    if (atomic_load_explicit(&g->state, memory_order_acquire) != WR_G_DEAD) {
        w->visit(g, held, w->arg);
        w->n++;
    }
    if (held) wr_let_go(g);
}

size_t wr_each_goroutine(void (*visit)(struct g *g, bool held, void *arg), void *arg) {
    struct walk w = { visit, arg, 0 };
    wr_walk_begin();
    wr_stacks_each(walk_one, &w);
    wr_walk_end();
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    if (wr_sched.foreigns.next)
        for (struct wr_list *l = wr_sched.foreigns.next; l != &wr_sched.foreigns; l = l->next)
            visit(wr_container(l, struct g, in_foreign), false, arg), w.n++;
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    return w.n;
}

struct some {
    bool (*want)(const struct g *, const void *);
    bool (*visit)(struct g *, bool, void *);
    void *arg;
    bool more;
};

static void visit_some(struct g *g, bool held, void *arg) {
    struct some *some = arg;
    some->more = some->visit(g, held, some->arg);
}

static bool walk_some(struct g *g, void *arg) {
    const struct some *some = arg;
    if (some->want && !some->want(g, some->arg)) return true;
    struct walk w = { visit_some, arg, 0 };
    walk_one(g, &w);
    return some->more;
}

/* Foreign threads in the order of their ids, since the list changes between the instalments. */
bool wr_next_goroutines(struct wr_cursor *at, bool (*visit)(struct g *g, bool held, void *arg), void *arg) {
    struct some some = { at->want, visit, arg, true };
    wr_walk_begin();
    bool more = wr_stacks_from(at, walk_some, &some);
    wr_walk_end();
    if (more) return true;
    wr_lock(&wr_sched.lock, WR_RANK_SCHED);
    while (some.more && wr_sched.foreigns.next) {
        struct g *first = NULL;
        for (struct wr_list *l = wr_sched.foreigns.next; l != &wr_sched.foreigns; l = l->next) {
            struct g *g = wr_container(l, struct g, in_foreign);
            if (g->id > at->foreign && (!first || g->id < first->id)) first = g;
        }
        if (!first) break;
        at->foreign = first->id;
        visit_some(first, false, &some);
    }
    wr_unlock(&wr_sched.lock, WR_RANK_SCHED);
    return !some.more;
}
