/*
 * The only handle lies where an allocator's own memory is near: in a block that the program has by another name than malloc, in
 * memory of its own where the allocator's was before, in a block that moves by pages. It keeps its goroutine alive. heapmap.sh
 * runs this with other allocators behind libweir-heapmap, which takes what they have mapped for themselves for no root.
 */
#include "held.h"

#include <dlfcn.h>
#include <malloc.h>

#include "heapmap/heapmap.h"

static void put(void *to, void *h) { memcpy(to, &h, sizeof h); }

/* ---- Other names than malloc -------------------------------------------------------------------------------- */

static void *(*mallocx_)(size_t n, int flags);
static void *(*rallocx_)(void *p, size_t n, int flags);
static size_t (*xallocx_)(void *p, size_t n, size_t extra, int flags), (*sallocx_)(const void *p, int flags);
static size_t (*nallocx_)(size_t n, int flags);
static void (*dallocx_)(void *p, int flags), (*sdallocx_)(void *p, size_t n, int flags);
static int (*mallctl_)(const char *name, void *old, size_t *old_size, void *new, size_t new_size);

/* Also where no jemalloc is, if libweir-heapmap is. */
static bool jemalloc_is_there(void) {
    *(void **)&mallocx_ = dlsym(RTLD_DEFAULT, "mallocx"), *(void **)&rallocx_ = dlsym(RTLD_DEFAULT, "rallocx");
    *(void **)&xallocx_ = dlsym(RTLD_DEFAULT, "xallocx"), *(void **)&sallocx_ = dlsym(RTLD_DEFAULT, "sallocx");
    *(void **)&nallocx_ = dlsym(RTLD_DEFAULT, "nallocx"), *(void **)&mallctl_ = dlsym(RTLD_DEFAULT, "mallctl");
    *(void **)&dallocx_ = dlsym(RTLD_DEFAULT, "dallocx"), *(void **)&sdallocx_ = dlsym(RTLD_DEFAULT, "sdallocx");
    return mallocx_ && rallocx_ && xallocx_ && sallocx_ && nallocx_ && dallocx_ && sdallocx_ && mallctl_;
}
#define WANTS_JEMALLOC()                                                                            \
    do {                                                                                            \
        if (!jemalloc_is_there()) SKIP("no mallocx here");                                          \
    } while (0)

enum { ZERO = 64 }; /* MALLOCX_ZERO */
static char *volatile kept;
static size_t size;
static void fill_mallocx(void *h) { kept = mallocx_(size, ZERO), put(kept + size - sizeof h, h); }
static void wipe_dallocx(void) { memset(kept, 0, size), dallocx_(kept, 0), kept = NULL; }
static void wipe_sdallocx(void) { memset(kept, 0, size), sdallocx_(kept, size, 0), kept = NULL; }
static NOINLINE void held_by_mallocx(size_t n) {
    WANTS_JEMALLOC();
    size = n;
    held(fill_mallocx, wipe_dallocx);
}
TEST(held_in_a_small_block_from_mallocx) { held_by_mallocx(64); }
TEST(held_in_a_block_from_mallocx) { held_by_mallocx(3000); }
TEST(held_in_a_large_block_from_mallocx) { held_by_mallocx(5 << 20); }
TEST(held_in_a_block_that_sdallocx_frees) {
    WANTS_JEMALLOC();
    size = 128;
    held(fill_mallocx, wipe_sdallocx);
}

static void fill_rallocx(void *h) {
    kept = mallocx_(size / 4, 0);
    put(kept + 8, h);
    kept = rallocx_(kept, size, 6 | ZERO); /* aligned to 64 */
    CHECK((uintptr_t)kept % 64 == 0 && kept[size - 1] == 0);
}
TEST(held_in_a_block_that_rallocx_grows) {
    WANTS_JEMALLOC();
    size = 1 << 20;
    held(fill_rallocx, wipe_dallocx);
}
static void fill_to_the_last(void *h) {
    kept = mallocx_(100, ZERO);
    size = xallocx_(kept, 5000, 0, 0);
    CHECK(size >= 100 && size == sallocx_(kept, 0));
    put(kept + size - sizeof h, h);
}
TEST(held_in_the_last_bytes_that_sallocx_tells_of) {
    WANTS_JEMALLOC();
    held(fill_to_the_last, wipe_dallocx);
}
static void fill_as_nallocx_says(void *h) {
    size = nallocx_(130, 0);
    CHECK(size >= 130);
    kept = mallocx_(130, ZERO);
    put(kept + size - sizeof h, h);
}
TEST(held_in_the_last_bytes_that_nallocx_tells_of) {
    WANTS_JEMALLOC();
    held(fill_as_nallocx_says, wipe_dallocx);
}

/* The ways in which an arena gets its memory are the program's, too. */
struct extent_hooks {
    void *(*alloc)(struct extent_hooks *, void *at, size_t n, size_t align, bool *zero, bool *commit, unsigned arena);
    void *others[8];
};
static void fill_extent(void *h) {
    struct extent_hooks *hooks;
    size_t n = sizeof hooks;
    bool zero = true, commit = true;
    CHECK_EQ(mallctl_("arena.0.extent_hooks", &hooks, &n, NULL, 0), 0);
    kept = hooks->alloc(hooks, NULL, 2 << 20, 4096, &zero, &commit, 0);
    CHECK(kept);
    put(kept + 4096, h);
}
TEST(held_in_memory_that_the_allocator_maps_for_the_program) {
    WANTS_JEMALLOC();
    if (mallctl_("version", NULL, NULL, NULL, 0)) SKIP("no jemalloc here");
    held(fill_extent, NULL);
}
TEST(statistics_are_no_harm) {
    RECALL_WANTS_GLIBC();
    WANTS_JEMALLOC();
    size_t n = sizeof n, used = 0, mib[4], depth = 4;
    (void)mallctl_("epoch", NULL, NULL, &(uint64_t){ 1 }, sizeof(uint64_t));
    (void)mallctl_("stats.allocated", &used, &n, NULL, 0);
    int (*to_mib)(const char *, size_t *, size_t *);
    *(void **)&to_mib = dlsym(RTLD_DEFAULT, "mallctlnametomib");
    CHECK(to_mib);
    (void)to_mib("arena.0.purge", mib, &depth);
    tidily(start_waiter);
    CHECK_LEAKED(1);
}

/* ---- Where the allocator's memory was ------------------------------------------------------------------------- */

/* Blocks so large that the allocator gives them back to the system; then memory of the program's own, in the same places. */
enum { LARGE = 64, LARGE_SIZE = 8 << 20 };
static void come_and_go(void) {
    void *blocks[LARGE];
    for (int i = 0; i < LARGE; i++) CHECK(blocks[i] = malloc(LARGE_SIZE + (size_t)i * 4096));
    for (int i = 0; i < LARGE; i += 2) free(blocks[i]);
    for (int i = 1; i < LARGE; i += 2) free(blocks[i]);
}
static char *own[4 * LARGE];
static int n_own;
static void fill_own_mappings(void *h) {
    come_and_go();
    for (n_own = 0; n_own < 4 * LARGE; n_own++) {
        own[n_own] = mmap(NULL, LARGE_SIZE / 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(own[n_own] != MAP_FAILED);
    }
    size = (size_t)rand() % (4 * LARGE);
    put(own[size] + (LARGE_SIZE / 4 + 40), h);
}
/* The first at which it is held tells nothing of the others, so each has its turn. */
static NOINLINE void move_on(void) {
    void *h = unveil(the_handle);
    memset(own[size] + (LARGE_SIZE / 4 + 40), 0, sizeof h);
    size = (size + 1) % (4 * LARGE);
    put(own[size] + (LARGE_SIZE / 4 + 40), h);
}
static void unmap_own(void) {
    while (n_own > 0) munmap(own[--n_own], LARGE_SIZE / 2);
}
TEST(held_in_a_mapping_where_the_allocators_was) {
    tidily(start_waiter);
    fill_ = fill_own_mappings;
    tidily(call_fill_);
    for (int i = 0; i < 4 * LARGE; i++) {
        nobody_leaks("a mapping of the program's holds it");
        tidily(move_on);
    }
    tidily(unmap_own);
    if (HEAP_IS_KNOWN) CHECK_LEAKED(1);
    tidily(end_waiter);
}

/* At each moment what is written down is the allocator's, and nobody else's. */
static bool is_mapped_by_allocator(const struct weir_heapmap *map, const void *p) {
    uint32_t n = map->n_mappings;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t m = map->mappings[i];
        if ((uintptr_t)p >= heapmap_mapping_lo(m) && (uintptr_t)p < heapmap_mapping_hi(m)) return true;
    }
    return false;
}
enum { ROUNDS = 300 };
static _Atomic bool stop;
static void *allocate(void *arg) {
    while (!stop) come_and_go();
    return arg;
}
TEST(what_a_program_maps_is_never_taken_for_the_allocators) {
    const struct weir_heapmap *map = dlsym(RTLD_DEFAULT, "weir_heapmap_");
    if (!map) SKIP("no libweir-heapmap here");
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) threads[i] = thread_start(allocate, NULL);
    for (long k = TEST_SCALE(ROUNDS); k > 0; k--) {
        char *p = mmap(NULL, LARGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(p != MAP_FAILED);
        for (int i = 0; i < 20; i++)
            for (size_t at = 0; at < LARGE_SIZE; at += LARGE_SIZE / 16) CHECK(!is_mapped_by_allocator(map, p + at));
        CHECK(!munmap(p, LARGE_SIZE));
    }
    stop = true;
    for (int i = 0; i < 2; i++) thread_end(threads[i]);
}

/* ---- Pieces and large blocks ------------------------------------------------------------------------------------- */

/* The program's own allocator, in one block: it gives the begin of it away, too. */
static char *volatile pool;
static void fill_pool(void *h) {
    pool = malloc(1 << 20);
    memset(pool, 0, 1 << 20);
    put(pool + (1 << 19), h);
}
static void wipe_pool(void) { memset(pool, 0, 1 << 20), free(pool), pool = NULL; }
TEST(held_in_a_pool) { held(fill_pool, wipe_pool); }

static void fill_grown(void *h) {
    size = 1 << 20;
    kept = calloc(1, size);
    put(kept + size - 2 * sizeof h, h);
    for (; size < 64 << 20; size *= 2) CHECK(kept = realloc(kept, size * 2));
    CHECK(kept = realloc(kept, size /= 4));
}
static void wipe_grown(void) { memset(kept, 0, size), free(kept), kept = NULL; }
TEST(held_in_a_block_that_has_grown_by_pages) { held(fill_grown, wipe_grown); }

/* While it moves, too. */
static void *resize(void *arg) {
    for (size_t n = 2 << 20; !stop; n = n >= 32 << 20 ? 2 << 20 : n + (n >> 1)) CHECK(kept = realloc(kept, n));
    return arg;
}
static void fill_moving(void *h) {
    kept = calloc(1, 2 << 20);
    put(kept + 5000, h);
}
TEST(held_in_a_large_block_that_moves_all_the_time) {
    tidily(start_waiter);
    fill_ = fill_moving;
    tidily(call_fill_);
    pthread_t thread = thread_start(resize, NULL);
    for (long i = TEST_SCALE(60); i > 0; i--) nobody_leaks("the block is moved");
    stop = true;
    thread_end(thread);
    size = 2 << 20;
    tidily(wipe_grown);
    tidily(end_waiter);
}

/* The program has hidden a page of it from itself: it counts as a root then, with its neighbours. */
static void fill_protected(void *h) {
    kept = aligned_alloc(4096, 3 * 4096);
    put(kept + 4096 + 64, h);
    CHECK(!mprotect(kept + 4096, 4096, PROT_NONE));
}
static void wipe_protected(void) {
    CHECK(!mprotect(kept + 4096, 4096, PROT_READ | PROT_WRITE));
    memset(kept, 0, 3 * 4096), free(kept), kept = NULL;
}
TEST(held_in_a_page_of_a_block_that_cannot_be_read_now) { held(fill_protected, wipe_protected); }
