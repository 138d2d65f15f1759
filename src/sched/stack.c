/*
 * Stacks: slots of equal size cut from large mappings, the control block at the top of each.
 *
 *     slot:  | guard page | … the stack grows down … | struct g |
 *
 * Only touched pages are real, so a parked goroutine costs its top page. Slots are never unmapped while the
 * runtime runs: a control block can be looked at, at any time, by whoever walks all goroutines. Free default-sized slots sit in the
 * caches of the Ps and in the class's pool; pool.lock guards classes, slabs and pools.
 *
 * Guards, best first: MADV_GUARD_INSTALL (Linux ≥ 6.13) costs no mapping of its own; mprotect splits the mapping, so there can be
 * about 30,000 of them (vm.max_map_count) if malloc, threads and our own slabs are still to get mappings; without either, the
 * lowest words of the stack must still be zero when the goroutine ends. WEIR_STACK_GUARD=madvise|mprotect|none picks one.
 */
#include "sched/inner.h"
#include "sched/world.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef WEIR_HAVE_VALGRIND
#include <valgrind/memcheck.h>
#include <valgrind/valgrind.h>
#endif

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

enum { CLASS_MIN = 14, CLASS_MAX = 30 }; /* 16 KiB … 1 GiB */
#define SLAB_BYTES ((size_t)64 << 20)

struct slab {
    struct slab *next;
    char *base;
    size_t slot;            /* bytes of each */
    _Atomic uint32_t used;  /* slots ever handed out; the first `used` have a control block */
    uint32_t n;
};

struct class {
    _Atomic(struct slab *) slabs;
    struct g **pool;        /* free slots; room for all that there are */
    uint32_t n_pool, cap_pool, n_slots;
    uint32_t idle;          /* the fewest in the pool since the last trim: pool[0 … idle) was not needed */
    uint32_t trimmed;       /* of these, pool[0 … trimmed) has given its pages back */
};

WR_PRIVATE static struct {
    struct wr_lock lock;    /* rank STACK */
    struct class classes[CLASS_MAX + 1];
    size_t page;
    enum { GUARD_MADVISE, GUARD_MPROTECT, GUARD_NONE } guard;
    long n_protected, max_protected; /* guards by mprotect; max 0: not asked yet */
    bool said;
} pool;

static size_t class_of(size_t bytes) {
    return bytes <= (size_t)1 << CLASS_MIN ? CLASS_MIN : 64 - (size_t)__builtin_clzll(bytes - 1);
}

/* An emulator may take the advice and do nothing, so the kernel is asked whether it finds the page unreadable. */
static bool guard_advice_works(void) {
    int pipes[2];
    char *page = mmap(NULL, pool.page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return false;
    bool works = madvise(page, pool.page, MADV_GUARD_INSTALL) == 0;
    if (works && pipe2(pipes, O_CLOEXEC) == 0) {
        works = write(pipes[1], page, 1) < 0 && errno == EFAULT;
        close(pipes[0]), close(pipes[1]);
    }
    munmap(page, pool.page);
    return works;
}

void wr_stacks_init(void) {
    const char *env = getenv("WEIR_STACK_GUARD");
    pool.page = (size_t)sysconf(_SC_PAGESIZE);
    pool.guard = GUARD_MADVISE;
    if (env && !strcmp(env, "mprotect")) pool.guard = GUARD_MPROTECT;
    else if (env && !strcmp(env, "none")) pool.guard = GUARD_NONE;
    else if (env && *env && strcmp(env, "madvise")) wr_warn("WEIR_STACK_GUARD=%s: not madvise, mprotect or none; taken as madvise", env);
    if (pool.guard == GUARD_MADVISE && !guard_advice_works()) pool.guard = GUARD_MPROTECT;
}

/* Each takes two of the mappings that the kernel grants. Leaves some thousands; 65530 is the kernel's default. */
static long guards_by_mprotect(void) {
    char text[32] = "";
    int fd = open("/proc/sys/vm/max_map_count", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    long max = n > 0 ? strtol(text, NULL, 10) : 65530;
    if (fd >= 0) close(fd);
    return max > 16384 ? (max - 4096) / 2 : max / 4 + 1;
}

static void set_guard(char *slot) {
    if (pool.guard == GUARD_MADVISE) {
        if (madvise(slot, pool.page, MADV_GUARD_INSTALL) == 0) return;
        pool.guard = GUARD_MPROTECT; /* an older kernel */
    }
    if (pool.guard == GUARD_MPROTECT) {
        if (!pool.max_protected) pool.max_protected = guards_by_mprotect();
        errno = ENOMEM;
        if (pool.n_protected < pool.max_protected && mprotect(slot, pool.page, PROT_NONE) == 0) {
            pool.n_protected++;
            return;
        }
        pool.guard = GUARD_NONE;
        if (!pool.said)
            wr_warn("no more guard pages below stacks (%s; see vm.max_map_count): overflows are noticed late from here on",
                    strerror(errno));
        pool.said = true;
    }
}

/*
 * Slots are aligned to their size, so a slot is found from any address in it. The control blocks are staggered over the first 1.5 KiB
 * below the top: at equal offsets of their pages all goroutines would share a few sets of the first-level cache.
 */
#define COLOURS 24
#define COLOUR_BYTES 64
#define G_BYTES ((sizeof(struct g) + 63) & ~(size_t)63)
static struct g *control_block(char *slot, size_t size) {
    size_t colour = (uintptr_t)slot / size % COLOURS;
    return (struct g *)(slot + size - G_BYTES - colour * COLOUR_BYTES);
}
static char *slot_of(struct g *g, size_t size) { return (char *)((uintptr_t)g & ~(size - 1)); }

/* Aligned to `size`; the kernel mostly gives the next such mapping below the last. NULL: no address space. */
static char *map_aligned(size_t bytes, size_t size) {
    char *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED || (uintptr_t)at % size == 0) return at == MAP_FAILED ? NULL : at;
    munmap(at, bytes);
    at = mmap(NULL, bytes + size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) return NULL;
    size_t before = (size - (uintptr_t)at % size) % size;
    if (before) munmap(at, before);
    if (size > before) munmap(at + before + bytes, size - before);
    return at + before;
}

static struct slab *slab_new(struct class *class, size_t size) {
    size_t bytes = size > SLAB_BYTES ? size : SLAB_BYTES;
    char *base;
    for (; !(base = map_aligned(bytes, size)); bytes /= 2)
        if (bytes / 2 < size) return NULL;
    madvise(base, bytes, MADV_NOHUGEPAGE); /* a huge page under a stack would undo "one page each" */
    uint32_t n = (uint32_t)(bytes / size);
    struct slab *slab = calloc(1, sizeof *slab);
    struct g **larger = realloc(class->pool, (class->n_slots + n) * sizeof *larger);
    if (larger) class->pool = larger;
    if (!slab || !larger) {
        munmap(base, bytes);
        free(slab);
        return NULL;
    }
    class->n_slots += n;
    slab->base = base, slab->slot = size, slab->n = n;
    slab->next = atomic_load_explicit(&class->slabs, memory_order_relaxed);
    atomic_store_explicit(&class->slabs, slab, memory_order_release);
    return slab;
}

static struct g *slot_new(struct class *class, size_t size) {
    struct slab *slab = atomic_load_explicit(&class->slabs, memory_order_relaxed);
    if (!slab || slab->used == slab->n) slab = slab_new(class, size);
    if (!slab) return NULL;
    uint32_t i = atomic_load_explicit(&slab->used, memory_order_relaxed);
    char *slot = slab->base + (size_t)i * size;
    set_guard(slot);
#ifdef WEIR_HAVE_VALGRIND
    (void)VALGRIND_STACK_REGISTER(slot, slot + size);
#endif
    atomic_store_explicit(&slab->used, i + 1, memory_order_release); /* fresh memory: state is 0 = dead */
    return control_block(slot, size);
}

static void set_bounds(struct g *g, size_t size) {
    g->stack_lo = slot_of(g, size) + pool.page;
    g->stack_hi = (char *)((uintptr_t)g & ~(uintptr_t)15);
}

/* pool.lock held */
static struct g *pool_take(struct class *class) {
    if (!class->n_pool) return NULL;
    struct g *g = class->pool[--class->n_pool];
    if (class->n_pool < class->idle) class->idle = class->n_pool;
    if (class->n_pool < class->trimmed) class->trimmed = class->n_pool;
    return g;
}
static void pool_put(struct class *class, struct g *g) {
    class->pool[class->n_pool++] = g; /* there is room: slab_new saw to it */
}

struct g *wr_stack_new(struct p *p, size_t size) {
    size_t c = class_of(size);
    struct class *class = &pool.classes[c];
    struct g *g;
    if (size != wr_sched.default_stack) p = NULL;
    if (p && p->n_cached) {
        g = p->cached[--p->n_cached];
    } else {
        wr_lock(&pool.lock, WR_RANK_STACK);
        g = pool_take(class);
        for (struct g *more; p && g && p->n_cached < WR_STACK_CACHE / 2 && (more = pool_take(class));)
            p->cached[p->n_cached++] = more;
        if (!g) g = slot_new(class, (size_t)1 << c);
        wr_unlock(&pool.lock, WR_RANK_STACK);
    }
    if (g) set_bounds(g, (size_t)1 << c);
    return g;
}

static void check_canary(struct g *g) {
    if (pool.guard != GUARD_NONE) return;
    const uint64_t *low = (const uint64_t *)(void *)g->stack_lo;
    for (int i = 0; i < 8; i++)
        if (low[i]) wr_fatal("stack overflow: goroutine %llu has written below its stack of %zu KiB (found when it ended)", (unsigned long long)g->id, (size_t)(g->stack_hi - g->stack_lo) >> 10);
}

/* pool.lock held: all but `keep` of p's cache goes to the pool. */
static void flush(struct p *p, uint32_t keep) {
    while (p->n_cached > keep) pool_put(&pool.classes[class_of(wr_sched.default_stack)], p->cached[--p->n_cached]);
}

void wr_stack_free(struct p *p, struct g *g) {
    check_canary(g);
    size_t c = class_of((size_t)((char *)g - g->stack_lo)); /* the slot's size, rounded up */
    if (p && (size_t)1 << c == wr_sched.default_stack && p->n_cached < WR_STACK_CACHE) {
        p->cached[p->n_cached++] = g;
        return;
    }
    wr_lock(&pool.lock, WR_RANK_STACK);
    pool_put(&pool.classes[c], g);
    if (p) flush(p, WR_STACK_CACHE / 2);
    wr_unlock(&pool.lock, WR_RANK_STACK);
}

void wr_stack_flush(struct p *p) {
    wr_lock(&pool.lock, WR_RANK_STACK);
    flush(p, 0);
    wr_unlock(&pool.lock, WR_RANK_STACK);
}

/*
 * What stayed in a pool since the last call was not needed: its pages go back. The control block goes with them and reads as
 * zeros, which is a dead goroutine. 16 slots at a time, so that nobody waits long for the lock.
 */
void wr_stacks_trim(void) {
    for (size_t c = CLASS_MIN; c <= CLASS_MAX; c++) {
        struct class *class = &pool.classes[c];
        bool more;
        do {
            wr_lock(&pool.lock, WR_RANK_STACK);
            for (int i = 0; i < 16 && class->trimmed < class->idle; i++) {
                char *slot = slot_of(class->pool[class->trimmed++], (size_t)1 << c);
                madvise(slot + pool.page, ((size_t)1 << c) - pool.page, MADV_DONTNEED);
            }
            more = class->trimmed < class->idle;
            wr_unlock(&pool.lock, WR_RANK_STACK);
        } while (more);
        wr_lock(&pool.lock, WR_RANK_STACK);
        class->idle = class->n_pool;
        wr_unlock(&pool.lock, WR_RANK_STACK);
    }
}

void wr_stacks_each(void (*visit)(struct g *, void *), void *arg) {
    for (size_t c = CLASS_MIN; c <= CLASS_MAX; c++)
        for (struct slab *s = atomic_load_explicit(&pool.classes[c].slabs, memory_order_acquire); s; s = s->next) {
            uint32_t used = atomic_load_explicit(&s->used, memory_order_acquire);
            for (uint32_t i = 0; i < used; i++) visit(control_block(s->base + i * s->slot, s->slot), arg);
        }
}

bool wr_stacks_from(struct wr_cursor *at, bool (*visit)(struct g *, void *), void *arg) {
    for (; at->classes <= CLASS_MAX; at->classes++, at->slab = NULL) {
        struct class *class = &pool.classes[CLASS_MAX - at->classes];
        if (!at->slab) at->slab = atomic_load_explicit(&class->slabs, memory_order_acquire), at->slot = 0;
        for (const struct slab *s; (s = at->slab); at->slab = s->next, at->slot = 0) {
            uint32_t used = atomic_load_explicit(&s->used, memory_order_acquire);
            while (at->slot < used)
                if (!visit(control_block(s->base + at->slot++ * s->slot, s->slot), arg)) return true;
        }
    }
    return false;
}

void wr_slabs_each(void (*visit)(uintptr_t base, size_t slot, uint32_t used, uint32_t n, void *arg), void *arg) {
    for (size_t c = CLASS_MIN; c <= CLASS_MAX; c++)
        for (struct slab *s = atomic_load_explicit(&pool.classes[c].slabs, memory_order_acquire); s; s = s->next)
            visit((uintptr_t)s->base, s->slot, atomic_load_explicit(&s->used, memory_order_acquire), s->n, arg);
}
struct g *wr_slot_g(uintptr_t slot, size_t size) { return control_block((char *)slot, size); }

void wr_stacks_free_all(void) {
    pool.n_protected = 0;
    for (size_t c = CLASS_MIN; c <= CLASS_MAX; c++) {
        struct class *class = &pool.classes[c];
        for (struct slab *s = atomic_load_explicit(&class->slabs, memory_order_relaxed), *next; s; s = next) {
            next = s->next;
            munmap(s->base, s->slot * s->n);
            free(s);
        }
        free(class->pool);
        memset(class, 0, sizeof *class);
    }
}

bool wr_stack_guard_hit(const void *address, struct g **out) {
    struct g *g = wr_self_or_null();
    const char *at = address;
    if (!g || g->foreign || !g->stack_lo || at >= g->stack_lo || at < g->stack_lo - pool.page) return false;
    *out = g;
    return true;
}

/* For a debugger, which finds the control blocks as control_block does: gdb.c. */
const struct wr_gdb_number wr_stack_numbers[] = {
    { "classes", (uintptr_t)pool.classes },
    { "classes.n", CLASS_MAX + 1 },
    { "class", sizeof(struct class) },
    { "class.slabs", offsetof(struct class, slabs) },
    { "slab.next", offsetof(struct slab, next) },
    { "slab.base", offsetof(struct slab, base) },
    { "slab.slot", offsetof(struct slab, slot) },
    { "slab.used", offsetof(struct slab, used) },
    { "g.room", G_BYTES },
    { "colours", COLOURS },
    { "colour", COLOUR_BYTES },
    { "", 0 },
};
