/*
 * libweir-heapmap: stands in front of malloc and writes down where blocks begin and end, for allocators whose heaps
 * weir cannot read by itself, that is, all but glibc's. To be loaded before the allocator:
 *
 *     LD_PRELOAD="libweir-heapmap.so libjemalloc.so.2" ./prog
 *
 * or linked in front of it: -lweir-heapmap -ljemalloc. It allocates nothing itself; costs a byte for 16, and 2 to 4
 * ns for a malloc with its free. And it asks for a byte more where the size is 8 or a multiple of 16 (inner.h). Mostly that
 * costs nothing; but what filled a size class of the allocator's takes the next one: 32 bytes for 16, 80 for 64, 128 for
 * 112, and from 128 on an eighth to a quarter more; where that class is one that the allocator is slower with, 3 to 7 ns.
 *
 * The map must never lack a block that is in use: what is in it would be overlooked, and goroutines reported that
 * somebody still reaches. Hence the order: a block is entered after the allocator has given it, when it has no
 * contents yet, and taken out before the allocator gets it back, as another thread may be given it at once. A large
 * realloc, which may move pages rather than bytes, cannot keep to that; while one goes on, the map says so and is not
 * believed.
 *
 * jemalloc's other names are seen, too (jemalloc.c), those of others are not: a program that gets memory by mi_malloc, say,
 * must not load this, nor one that asks a handle of the allocator's library for malloc. The allocator's own mappings are
 * written down as well, for jemalloc (mappings.c).
 */
#include "heapmap/inner.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static _Atomic(_Atomic uint8_t *) leaves[HEAPMAP_LEAVES];
extern struct weir_heapmap weir_heapmap_;
PUBLIC struct weir_heapmap weir_heapmap_ = { HEAPMAP_VERSION, sizeof weir_heapmap_, leaves, 0, 0, 0, 0,
                                             wr_heapmap_mappings };

/* ---- The map ----------------------------------------------------------------------------------------------- */

/* The count of a block that begins in the last bytes of a leaf lies behind it. */
#define LEAF_BYTES (HEAPMAP_LEAF_SIZE + 4096)

static _Atomic uint8_t *leaf_of(uintptr_t p) {
    _Atomic(_Atomic uint8_t *) *at = &leaves[p >> HEAPMAP_LEAF_BITS];
    _Atomic uint8_t *leaf = atomic_load_explicit(at, memory_order_acquire), *none = NULL;
    if (leaf) return leaf;
    int e = errno;
    void *fresh = mmap(NULL, LEAF_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    errno = e;
    if (fresh == MAP_FAILED) return NULL;
    leaf = fresh;
    if (atomic_compare_exchange_strong(at, &none, leaf)) return leaf;
    munmap(fresh, LEAF_BYTES);
    return none;
}

static inline _Atomic uint8_t *byte_of(uintptr_t p) {
    if (unlikely(p >> 48)) return NULL;
    _Atomic uint8_t *leaf = atomic_load_explicit(&leaves[p >> HEAPMAP_LEAF_BITS], memory_order_acquire);
    if (unlikely(!leaf)) leaf = leaf_of(p);
    return leaf ? leaf + ((p & (((uintptr_t)1 << HEAPMAP_LEAF_BITS) - 1)) >> 4) : NULL;
}

static inline void set(_Atomic uint8_t *byte, uint8_t to) { atomic_store_explicit(byte, to, memory_order_relaxed); }

/* Two blocks, of two threads perhaps, share the byte. */
static void set_half(_Atomic uint8_t *byte, uint8_t half, bool in_use) {
    uint8_t old = atomic_load_explicit(byte, memory_order_relaxed), to;
    do {
        uint8_t halves = old >= HEAPMAP_HALVES ? old & 3 : 0;
        halves = (uint8_t)(in_use ? halves | half : halves & ~half);
        to = halves ? HEAPMAP_HALVES | halves : 0;
    } while (!atomic_compare_exchange_weak(byte, &old, to));
}

__attribute__((noinline)) static void enter_oddly(uintptr_t p, size_t n, _Atomic uint8_t *byte) {
    if (!byte || (p % 16 && (p % 8 || n > 8))) {
        atomic_store(&weir_heapmap_.lost, 1);
    } else if (n <= 8) {
        set_half(byte, p % 16 ? 2 : 1, true);
    } else { /* first the byte, then the count: in between it is a small block */
        set(byte, HEAPMAP_MANY);
        atomic_store_explicit(heapmap_count(byte), n / 16 + (n % 16 != 0), memory_order_release);
    }
}

static inline void *enter(void *block, size_t n) {
    uintptr_t p = (uintptr_t)block;
    if (unlikely(!p)) return block;
    _Atomic uint8_t *byte = byte_of(p);
    if (unlikely(p % 16 || n <= 8 || n > 16 * (HEAPMAP_MANY - 1) || !byte)) enter_oddly(p, n, byte);
    else set(byte, (uint8_t)((n + 15) / 16));
    return block;
}

/* The same block, of another size, and full of data: it is in the map at each moment. Bytes that become its
 * outside must be 0. */
static void change(uintptr_t p, size_t n) {
    _Atomic uint8_t *byte = byte_of(p);
    size_t granules = n / 16 + (n % 16 != 0);
    uint8_t code = byte ? atomic_load_explicit(byte, memory_order_relaxed) : 0;
    if (p % 16 || code == 0 || n <= 8) {
        /* A half stays one. What is not in the map must not come in: it may be half of something. */
        if (p % 16 && n > 8) atomic_store(&weir_heapmap_.lost, 1);
    } else if (granules < HEAPMAP_MANY) {
        if (code == HEAPMAP_MANY && granules < 4) return; /* as large as it was, then */
        atomic_store_explicit(byte, (uint8_t)granules, memory_order_release);
        if (code == HEAPMAP_MANY) atomic_store_explicit(heapmap_count(byte), 0, memory_order_relaxed);
    } else if (code == HEAPMAP_MANY || (code >= 4 && code < HEAPMAP_MANY)) {
        atomic_store_explicit(heapmap_count(byte), granules, memory_order_relaxed);
        atomic_store_explicit(byte, HEAPMAP_MANY, memory_order_release);
    } else {
        atomic_store(&weir_heapmap_.lost, 1);
    }
}

/* How much has been entered; 0: nothing. */
static size_t entered(uintptr_t p) {
    _Atomic uint8_t *byte = byte_of(p);
    uint8_t code = byte ? atomic_load_explicit(byte, memory_order_relaxed) : 0;
    if (code >= HEAPMAP_HALVES) return code & (p % 16 ? 2 : 1) ? 8 : 0;
    if (code == HEAPMAP_MANY) return (size_t)atomic_load_explicit(heapmap_count(byte), memory_order_relaxed) * 16;
    return (size_t)code * 16;
}

static inline void take_out(void *block) {
    uintptr_t p = (uintptr_t)block;
    _Atomic uint8_t *byte = byte_of(p);
    if (unlikely(!byte)) return;
    uint8_t code = atomic_load_explicit(byte, memory_order_relaxed);
    if (unlikely(code >= HEAPMAP_MANY)) {
        if (code >= HEAPMAP_HALVES) {
            set_half(byte, p % 16 ? 2 : 1, false);
            return;
        }
        atomic_store_explicit(heapmap_count(byte), 0, memory_order_release);
    }
    set(byte, 0);
}

/* ---- The allocator behind ---------------------------------------------------------------------------------- */

static struct {
    void *(*malloc)(size_t), *(*calloc)(size_t, size_t), *(*realloc)(void *, size_t);
    void *(*memalign)(size_t, size_t), *(*aligned_alloc)(size_t, size_t), *(*valloc)(size_t), *(*pvalloc)(size_t);
    int (*posix_memalign)(void **, size_t, size_t);
    void (*free)(void *);
    size_t (*malloc_usable_size)(void *);
} real;
static _Atomic int ready;             /* 1: being looked up, and whoever does may allocate; 2: all is there */

static void *next(const char *name) { return dlsym(RTLD_NEXT, name); }

/* Are both in one library? In doubt they are. */
static bool are_together(const void *a, const void *b) {
    Dl_info of_a, of_b;
    return !dladdr(a, &of_a) || !dladdr(b, &of_b) || of_a.dli_fbase == of_b.dli_fbase;
}
/* Does the C library allocate, too, in ways that we do not see? glibc's own calls come by us, musl's do not always. */
static bool is_libc(void *function) { return are_together(function, next("strtol")); }

__attribute__((noinline)) static bool look_up(void) {
    int none = 0;
    if (!atomic_compare_exchange_strong(&ready, &none, 1)) return none == 2;
    real.calloc = (void *(*)(size_t, size_t))next("calloc");
    real.malloc = (void *(*)(size_t))next("malloc");
    real.realloc = (void *(*)(void *, size_t))next("realloc");
    real.memalign = (void *(*)(size_t, size_t))next("memalign");
    real.aligned_alloc = (void *(*)(size_t, size_t))next("aligned_alloc");
    real.valloc = (void *(*)(size_t))next("valloc");
    real.pvalloc = (void *(*)(size_t))next("pvalloc");
    real.posix_memalign = (int (*)(void **, size_t, size_t))next("posix_memalign");
    real.malloc_usable_size = (size_t (*)(void *))next("malloc_usable_size");
    real.free = (void (*)(void *))next("free");
    if (!real.malloc || !real.calloc || !real.realloc || !real.free) abort();
    bool all = !is_libc((void *)real.malloc);
    wr_heapmap_mappings_of(all ? (void *)real.malloc : NULL);
    atomic_store(&weir_heapmap_.all, all);
    atomic_store_explicit(&ready, 2, memory_order_release);
    return true;
}

static inline bool there(void) { return atomic_load_explicit(&ready, memory_order_acquire) == 2 || look_up(); }

/* What dlsym itself wants meanwhile. Never given back; as data of a library it is a root. */
static _Alignas(16) char early[1 << 16];
static _Atomic size_t early_used;

static void *early_malloc(size_t n) {
    size_t whole = (n + 16 + 15) & ~(size_t)15;
    if (n > sizeof early) return NULL;
    size_t at = atomic_fetch_add(&early_used, whole);
    if (at + whole > sizeof early) return NULL;
    *(size_t *)(void *)(early + at) = n;
    return early + at + 16;
}
static inline bool is_early(const void *p) { return (uintptr_t)p - (uintptr_t)early < sizeof early; }

/* ---- malloc and its family --------------------------------------------------------------------------------- */

/* All of them ask for n with its spare byte, and enter as much. */
PUBLIC void *malloc(size_t n) {
    if (unlikely(!there())) return early_malloc(n);
    n = with_spare(n);
    return enter(real.malloc(n), n);
}

PUBLIC void *calloc(size_t n, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    if (unlikely(!there())) return early_malloc(bytes);
    bytes = with_spare(bytes);
    return enter(real.calloc(1, bytes), bytes);
}

PUBLIC void free(void *p) {
    if (!p || unlikely(is_early(p)) || !there()) return;
    take_out(p);
    real.free(p);
}

/* C23's. The allocator must not be told a size: it gave more. */
void free_sized(void *p, size_t n);
void free_aligned_sized(void *p, size_t align, size_t n);
PUBLIC void free_sized(void *p, size_t n) {
    (void)n;
    free(p);
}
PUBLIC void free_aligned_sized(void *p, size_t align, size_t n) {
    (void)align, (void)n;
    free(p);
}

/* The allocator may move it: in between it is nowhere in the map. */
static void *move(void *p, size_t n) {
    size_t old = entered((uintptr_t)p);
    if (n) n = with_spare(n); /* 0 may mean to free it */
    atomic_fetch_add(&weir_heapmap_.moving, 1);
    take_out(p);
    void *q = real.realloc(p, n);
    if (q) enter(q, n);
    else if (n && old) enter(p, old);
    atomic_fetch_sub(&weir_heapmap_.moving, 1);
    return q;
}

enum { LARGE = 1 << 16 };

PUBLIC void *realloc(void *p, size_t n) {
    if (!p) return malloc(n);
    bool is_ours = is_early(p);
    if (!is_ours && !there()) return NULL;
    size_t old = LARGE;
    if (is_ours) {
        old = *(size_t *)(void *)((char *)p - 16);
    } else {
        if (real.malloc_usable_size) old = real.malloc_usable_size(p);
        if (n == 0 || old >= LARGE || n >= LARGE) return move(p, n);
        if (with_spare(n) <= old && n >= old / 2) {
            change((uintptr_t)p, with_spare(n));
            return p;
        }
    }
    void *q = malloc(n);
    if (!q) return NULL;
    memcpy(q, p, old < n ? old : n);
    free(p);
    return q;
}

PUBLIC void *reallocarray(void *p, size_t n, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc(p, bytes);
}

PUBLIC int posix_memalign(void **out, size_t align, size_t n) {
    if (!there() || !real.posix_memalign) return ENOMEM;
    void *p = NULL;
    n = with_spare(n);
    int e = real.posix_memalign(&p, align, n);
    if (e == 0) *out = enter(p, n);
    return e;
}

static void *no_memory(void) {
    errno = ENOMEM;
    return NULL;
}
PUBLIC void *memalign(size_t align, size_t n) {
    n = with_spare(n);
    return there() && real.memalign ? enter(real.memalign(align, n), n) : no_memory();
}
PUBLIC void *aligned_alloc(size_t align, size_t n) {
    if (!there() || !real.aligned_alloc) return no_memory();
    size_t spare = with_spare(n);
    void *p = real.aligned_alloc(align, spare);
    /* Some allocators give multiples of the alignment only, as C11 had it. */
    if (!p && spare != n && !__builtin_add_overflow(n, align, &spare)) p = real.aligned_alloc(align, spare);
    return enter(p, with_spare(n));
}
PUBLIC void *valloc(size_t n) {
    n = with_spare(n);
    return there() && real.valloc ? enter(real.valloc(n), n) : no_memory();
}
void *pvalloc(size_t n); /* musl has no such, so no header need declare it */
PUBLIC void *pvalloc(size_t n) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE); /* who asks for some of a page gets all of it */
    if (n > PTRDIFF_MAX || !there() || !real.pvalloc) return no_memory();
    n = with_spare((n + page - 1) & ~(page - 1));
    return enter(real.pvalloc(n), n);
}

/* Who asks may use all of it, but for the spare byte: whatever had been asked for was less. */
PUBLIC size_t malloc_usable_size(void *p) {
    if (!p || !there()) return 0;
    if (is_early(p)) return *(size_t *)(void *)((char *)p - 16);
    size_t n = real.malloc_usable_size ? real.malloc_usable_size(p) : 0;
    if (n && with_spare(n) != n) n--;
    if (n > entered((uintptr_t)p)) change((uintptr_t)p, n);
    return n;
}

/* ---- For the other files ----------------------------------------------------------------------------------- */

void wr_heapmap_enter(void *p, size_t n) {
    /* If malloc has been called for it, it is there, and may be larger. */
    if (p && entered((uintptr_t)p) < n) enter(p, n);
}
bool wr_heapmap_take_out(void *p) {
    if (!p || is_early(p)) return false;
    take_out(p);
    return true;
}
void *wr_heapmap_next(const char *name) { return next(name); }
bool wr_heapmap_is_allocators(const void *function) { return are_together(function, next("malloc")); }
void wr_heapmap_look_up(void) { (void)there(); }
void wr_heapmap_lose(void) { atomic_store(&weir_heapmap_.lost, 1); }
