/*
 * Stopping the world by signal, see world.h. The two sides:
 *
 *   who stops:  phase = STOP, a number of its own each time;  signal every thread;  wait until each has a slot;  … fork …;
 *               phase: STOP -> RUN, and if that fails the copy is void
 *   a thread:   takes a slot, fills it, counts itself;  sleeps while phase is that STOP, at most until `until`; then
 *               phase: STOP -> VOID, and goes on
 *
 * The two swaps of `phase` decide, so no thread that had been counted has run between the signal and a resume that says true. A thread
 * that came into being meanwhile was made by one that was not stopped yet; so threads are listed again until a
 * list holds nobody new.
 */
#include "sched/world.h"
#include "sched/inner.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { RUN, STOP, VOID }; /* phase % 4 */
#define VALUES 120
#define MOST_THREADS 32768

struct stopped {
    _Atomic uint32_t there; /* filled in: the phase of that stop; another one's is of somebody who was late */
    int tid;
    struct m *m;            /* NULL: no worker */
    struct g *g;            /* the goroutine it ran, or a foreign thread's control block */
    uintptr_t sp;           /* of what was interrupted */
    uintptr_t frame;        /* of the handler: the saved registers are above */
    uintptr_t alt_hi;       /* end of the signal stack that frame is on; 0: it is on the interrupted stack */
    bool nested;            /* and what was interrupted is on that one too: a handler of the program's */
    uint32_t n_values;
    void *values[VALUES];   /* pthread_setspecific: fork() clears them in the child */
};

WR_PRIVATE static struct {
    _Atomic uint32_t phase; /* futex */
    _Atomic uint32_t n;     /* futex: slots taken */
    uint32_t cap;
    weir_time until;
    struct stopped *slots;
    int tasks;              /* /proc/self/task */
    uintptr_t asker_lo;     /* the low end of the asking thread's stack; 0: it is a goroutine, or that is not known */
    int *known;             /* threads that have been signalled */
    uint32_t n_known;
} world;

/* ---- A thread that is stopped --------------------------------------------------------------------------- */

static uint32_t copy_values(void **values) {
    uint32_t n = 0;
    for (unsigned key = 0; key < PTHREAD_KEYS_MAX; key++) {
        void *value = pthread_getspecific(key);
        if (!value) continue;
        if (n < VALUES) values[n] = value;
        n++;
    }
    return n;
}

static void fill(struct stopped *s, const void *context) {
    const ucontext_t *uc = context;
#if defined(__x86_64__)
    s->sp = (uintptr_t)uc->uc_mcontext.gregs[REG_RSP];
#else
    s->sp = (uintptr_t)uc->uc_mcontext.sp;
#endif
    uintptr_t alt_lo = (uintptr_t)uc->uc_stack.ss_sp;
    s->frame = (uintptr_t)__builtin_frame_address(0);
    s->alt_hi = s->frame >= alt_lo && s->frame < alt_lo + uc->uc_stack.ss_size ? alt_lo + uc->uc_stack.ss_size : 0;
    s->nested = s->alt_hi && s->sp >= alt_lo && s->sp < s->alt_hi;
    s->tid = (int)syscall(SYS_gettid);
    s->m = wr_m();
    s->g = wr_self_or_null();
    s->n_values = copy_values(s->values);
}

bool wr_world_signalled(const void *context) {
    uint32_t mine = atomic_load(&world.phase);
    if (mine % 4 != STOP) return false;
    uint32_t i = atomic_fetch_add(&world.n, 1);
    if (i < world.cap) {
        fill(&world.slots[i], context);
        atomic_store(&world.slots[i].there, mine);
    }
    wr_futex_wake(&world.n, 1);
    while (atomic_load(&world.phase) == mine) {
        uint32_t stop = mine;
        if (wr_now() >= world.until && atomic_compare_exchange_strong(&world.phase, &stop, mine - STOP + VOID))
            wr_futex_wake(&world.phase, INT32_MAX);
        else wr_futex_wait(&world.phase, mine, world.until);
    }
    return true;
}

/* ---- Who stops them --------------------------------------------------------------------------------------- */

static int self_tid;
static bool missing;
static int missing_tid;
static weir_time missing_since; /* from then on it is asked whether they are dead */

static bool is_there(int tid) {
    uint32_t n = atomic_load(&world.n);
    for (uint32_t i = 0; i < n && i < world.cap; i++)
        if (atomic_load(&world.slots[i].there) == atomic_load(&world.phase) && world.slots[i].tid == tid) return true;
    return false;
}
static size_t read_task(int tid, const char *file, char *text, size_t size) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/%s", tid, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, size - 1);
    if (fd >= 0) close(fd);
    text[n > 0 ? n : 0] = 0;
    return n > 0 ? (size_t)n : 0;
}
/* A main thread that has called pthread_exit stays in the list, dead. Whose state cannot be read is not known to be. */
static bool is_dead(int tid) {
    char text[256];
    const char *state = read_task(tid, "stat", text, sizeof text) ? strrchr(text, ')') : NULL;
    return state && (state[2] == 'Z' || state[2] == 'X');
}
static uint32_t n_listed;
/* The list ends early where a thread ends while it is written. The folder's number of links has the count in it. */
static bool all_listed(void) {
    struct stat tasks;
    return fstat(world.tasks, &tasks) || tasks.st_nlink <= 2 || tasks.st_nlink - 2 == n_listed;
}
static bool signal_new(int tid, void *arg) {
    n_listed++;
    if (tid == self_tid || is_there(tid)) return true;
    for (uint32_t i = 0; i < world.n_known; i++)
        if (world.known[i] == tid) {
            if (wr_now() > missing_since && is_dead(tid)) return true;
            missing = true, missing_tid = tid;
            return true;
        }
    missing = true, missing_tid = tid;
    if (world.n_known == world.cap) return false;
    world.known[world.n_known++] = tid;
    syscall(SYS_tgkill, getpid(), tid, SIGURG); /* fails only if it has ended */
    return true;
}

static void describe_missing(int tid, char *why, size_t size) {
    char name[32], status[4096];
    if (read_task(tid, "comm", name, sizeof name)) name[strcspn(name, "\n")] = 0;
    const char *blocked = read_task(tid, "status", status, sizeof status) ? strstr(status, "\nSigBlk:") : NULL;
    bool blocks = blocked && strtoull(blocked + 8, NULL, 16) >> (SIGURG - 1) & 1;
    snprintf(why, size, "thread %d (\"%s\") does not answer%s", tid, name, blocks ? ": it blocks SIGURG" : "");
}

static void each_heap(void (*each)(struct wr_timers *)) {
    each(&wr_sched.timers);
    for (int i = 0, n = atomic_load(&wr_sched.made_ps); i < n; i++) each(&wr_sched.ps[i]->timers);
}
static void lock_heap(struct wr_timers *t) { wr_lock_unranked(&t->lock); }
static void unlock_heap(struct wr_timers *t) { wr_unlock_unranked(&t->lock); }

int wr_world_prepare(char *why, size_t size) {
#ifdef WR_TSAN
    snprintf(why, size, "ThreadSanitizer hands signals on too late to stop a thread where it is");
    return -EPERM;
#endif
    if (!wr_signal_ours()) {
        snprintf(why, size, "%s", wr_sched_running() ? "the program has a handler of its own for SIGURG"
                                                     : "the runtime is not running");
        return -EPERM;
    }
    /* For all threads that there can be; what is not used is not real. Never given back: a thread may be late in its handler. */
    size_t bytes = MOST_THREADS * (sizeof *world.slots + sizeof *world.known);
    if (!world.slots) {
        void *slots = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (slots == MAP_FAILED) {
            snprintf(why, size, "mmap: %s", strerror(errno));
            return -ENOMEM;
        }
        world.slots = slots, world.cap = MOST_THREADS;
        world.known = (int *)(void *)(world.slots + MOST_THREADS);
    }
    world.tasks = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (world.tasks < 0) {
        snprintf(why, size, "/proc/self/task: %s", strerror(errno));
        return -ENOMEM;
    }
    uintptr_t hi = 0;
    world.asker_lo = 0;
    if (!wr_m()) wr_thread_stack(&world.asker_lo, &hi);
    return 0;
}
void wr_world_unprepare(void) { close(world.tasks); }

int wr_world_stop(weir_duration patience, const void *frame, char *why, size_t size) {
    self_tid = (int)syscall(SYS_gettid);
    world.n_known = 0;
    struct stopped *self = &world.slots[0];
    self->tid = self_tid, self->m = wr_m(), self->g = wr_self_or_null();
    self->frame = (uintptr_t)frame;
    self->sp = self->frame + 128; /* nothing below it counts */
    self->n_values = copy_values(self->values);

    each_heap(lock_heap);
    wr_lock_unranked(&wr_sched.lock);
    world.until = wr_now() + patience;
    atomic_store(&world.n, 1);
    uint32_t phase = (atomic_load(&world.phase) / 4 + 1) * 4 + STOP;
    atomic_store(&self->there, phase);
    atomic_store(&world.phase, phase);
    weir_time start = wr_now(), answer_by = start + patience + 200 * WEIR_MILLISECOND;
    missing_since = start + 2 * WEIR_MILLISECOND;
    /* Twice: the first time a thread may have been listed as stopped that had just made one, which was not listed. */
    for (int complete = 0;;) {
        uint32_t n = atomic_load(&world.n);
        missing = false;
        n_listed = 0;
        bool listed = wr_each_thread(world.tasks, signal_new, NULL);
        complete = listed && !missing && all_listed() ? complete + 1 : 0;
        if (complete == 2) return 0;
        if (complete) continue;
        if (!listed || wr_now() >= answer_by || atomic_load(&world.phase) != phase) break;
        wr_futex_wait(&world.n, n, wr_now() + 200 * WEIR_MICROSECOND);
    }
    int silent = missing && wr_now() >= answer_by ? missing_tid : 0;
    wr_world_resume();
    if (silent) describe_missing(silent, why, size);
    else snprintf(why, size, "the threads could not be stopped all at once");
    return silent ? -EBUSY : -EAGAIN;
}

bool wr_world_resume(void) {
    uint32_t phase = atomic_load(&world.phase), stop = phase - phase % 4 + STOP;
    bool held = atomic_compare_exchange_strong(&world.phase, &stop, stop - STOP + RUN);
    wr_futex_wake(&world.phase, INT32_MAX);
    wr_unlock_unranked(&wr_sched.lock);
    each_heap(unlock_heap);
    return held;
}

/* ---- In the child ---------------------------------------------------------------------------------------- */

static const struct wr_world_visitor *to;

static void visit_heap(struct wr_timers *t) {
    if (t->heap) to->opaque(t->heap);
    for (uint32_t i = 0; i < t->n; i++) to->timer(t->heap[i].timer);
}

/*
 * A worker between two goroutines has nothing of the program's in hand, and its registers and stack hold what it had before;
 * except while it fires a timer that has left the heap. A thread that never called weir has a stack of unknown bounds.
 */
static void visit_thread(const struct stopped *s) {
    const struct m *m = s->m;
    uintptr_t lo = s->sp - 128; /* the red zone */
    if (!s->alt_hi && s->frame < lo) lo = s->frame;
    bool sysmon = wr_sched.sysmon_made && s->tid == wr_sched.sysmon_tid;
    bool system = m && s->sp >= m->stack_lo && s->sp < m->stack_hi;
    bool quiet = sysmon ? !wr_sched.sysmon_firing : system && !m->g && !m->firing;
    for (uint32_t i = 0; i < s->n_values && i < VALUES; i++) to->value((uintptr_t)s->values[i], s->tid);
    if (m) {
        to->dead(m->stack_lo, m->stack_base);
        to->root(m->stack_base, m->stack_hi, s->tid); /* thread-locals */
        if (m->signal_stack) to->opaque(m->signal_stack);
        if (m->g) to->runs(m->g, system ? (uintptr_t)m->g->sp : 0);
    } else if (sysmon) {
        to->dead(wr_sched.sysmon_stack_lo, wr_sched.sysmon_stack_base);
    } else if (s->g && s->g->stack_lo && lo >= (uintptr_t)s->g->stack_lo && lo < (uintptr_t)s->g->stack_hi) {
        to->dead((uintptr_t)s->g->stack_lo, lo);
    } else if (s == world.slots && world.asker_lo && lo > world.asker_lo) {
        to->dead(world.asker_lo, lo);
    }
    if (quiet) return;
    if (s->alt_hi) to->root(s->frame, s->alt_hi, s->tid);
    to->stack(lo, s->tid);
}

void wr_world_visit(const struct wr_world_visitor *v) {
    to = v;
    v->dead((uintptr_t)world.slots, (uintptr_t)(world.known + world.cap));
    for (int i = 0, n = atomic_load(&wr_sched.made_ps); i < n; i++) v->opaque(wr_sched.ps[i]);
    for (const struct m *m = wr_sched.all_ms; m; m = m->next_m) v->opaque(m);
    for (const struct wr_crate *c = wr_sched.global_head; c; c = c->next) v->opaque(c);
    for (const struct wr_crate *c = wr_sched.spare_crates; c; c = c->next) v->opaque(c);
    uint32_t n = atomic_load(&world.n);
    for (uint32_t i = 0; i < n && i < world.cap; i++)
        if (atomic_load(&world.slots[i].there) == atomic_load(&world.phase)) visit_thread(&world.slots[i]);
    each_heap(visit_heap);
}

bool wr_world_unclear(void) {
    for (uint32_t i = 0, n = atomic_load(&world.n); i < n && i < world.cap; i++) {
        const struct stopped *s = &world.slots[i];
        if (s->n_values > VALUES) return true;
        if (s->nested && s->m && atomic_load(&s->m->busy)) return true; /* and where it left its stack is not known */
    }
    return atomic_load(&world.n) > world.cap;
}
