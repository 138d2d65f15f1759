/*
 * Where malloc's blocks begin and end, as a forked copy of the process finds it: every live block is one block in
 * use, with its own bounds, and freed ones are none. heapmap.sh runs the same with other allocators behind
 * libweir-heapmap.
 */
#include "leak/heap.h"

#include "test.h"

#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(TEST_ASAN) || defined(TEST_TSAN)
#define SANITIZED 1
#endif

/* ---- What there is ------------------------------------------------------------------------------------------- */

struct block {
    char *p;
    size_t n, usable, align; /* n = 0: freed. usable: 0 if it is not known */
};
enum { MOST = 1 << 20 };
static struct block *blocks; /* a mapping of its own, so that malloc is not disturbed */
static _Atomic size_t n_blocks;

static struct block *note(void *p, size_t n, size_t align) {
    CHECK(p);
    memset(p, 0xa5, n);
    struct block *b = &blocks[n_blocks++];
    CHECK(b < blocks + MOST);
    *b = (struct block){ p, n, 0, align };
    return b;
}
static struct block *get(size_t n) { return note(malloc(n), n, 16); }
static struct block *get_aligned(size_t align, size_t n) {
    void *p = NULL;
    CHECK_EQ(posix_memalign(&p, align, n), 0);
    return note(p, n, align);
}
static void put(struct block *b) {
    free(b->p);
    b->n = 0;
}
static void resize(struct block *b, size_t n) {
    b->p = realloc(b->p, n);
    CHECK(b->p);
    b->n = n;
}

static void begin(void) {
    test_ignore_leaks();
    blocks = mmap(NULL, MOST * sizeof *blocks, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                  0);
    CHECK(blocks != MAP_FAILED);
}

/* ---- What the child sees ------------------------------------------------------------------------------------- */

static bool is_glibc(void) { return strcmp(wr_heap_bounds, "glibc malloc") == 0; }

/* The begin of the bound at or before the address, in granules; SIZE_MAX: none. */
static size_t bound_of(const struct wr_region *r, uintptr_t at) {
    size_t i = (at - r->lo) / 16;
    while (!wr_bit(r, bound, i))
        if (i-- == 0) return SIZE_MAX;
    return i;
}

static void check_live(const struct block *b) {
    uintptr_t p = (uintptr_t)b->p;
    struct wr_region *r = wr_region_of(p);
    if (!r) FAIL("the block at %p of %zu bytes is in no region (%s)", (void *)b->p, b->n, wr_heap_bounds);
    size_t i = bound_of(r, p), k = i + 1;
    if (i == SIZE_MAX || !wr_bit(r, used, i)) FAIL("the block at %p of %zu bytes is not in use", (void *)b->p, b->n);
    while (k < (r->hi - r->lo) / 16 && !wr_bit(r, bound, k)) k++;
    uintptr_t lo = r->lo + i * 16 + r->header, hi = r->lo + k * 16 + r->tail;
    CHECK(lo <= p && hi >= p + b->n);
    /* Nobody else has it, but for the other half of 16 bytes. */
    if (b->n > 8) {
        CHECK(!wr_bit(r, mark, i));
        if (b->align <= 16) CHECK_EQ(lo, p);
    }
    wr_bit_set(r, mark, i);
    if (is_glibc() && b->usable) CHECK_EQ(hi, p + b->usable);
    if (!is_glibc()) CHECK_LE(hi, p + b->n + 16);
    if (r->spares) CHECK(hi > p + b->n); /* one past the end is inside */
}

static void check_freed(const struct block *b) {
    struct wr_region *r = wr_region_of((uintptr_t)b->p);
    if (!r) return;
    size_t i = bound_of(r, (uintptr_t)b->p);
    /* One that lives may have its memory, or half of its 16 bytes. */
    if (i != SIZE_MAX && wr_bit(r, used, i) && !wr_bit(r, mark, i))
        FAIL("the freed block at %p is in use", (void *)b->p);
}

static void find_again(void) {
    wr_heap_find();
    for (size_t i = 1; i < wr_n_regions; i++) CHECK(wr_regions[i - 1].hi <= wr_regions[i].lo);
    for (size_t i = 0; i < wr_n_regions; i++) CHECK(wr_heap_readable(wr_regions[i].lo, wr_regions[i].hi));
}

static void find(void) {
    uintptr_t lo, hi;
    wr_child_memory(&lo, &hi);
    wr_maps_read();
    find_again();
}

/* Do it in a copy of the process; fails if that does. */
static void in_child(void (*fn)(void)) {
    pid_t child = fork();
    if (child == 0) {
        alarm(50);
        fn();
        _exit(0);
    }
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    if (status) FAIL("the child ended with wait status %#x", (unsigned)status);
}

static void find_all(void) {
    find();
    size_t n = n_blocks;
    for (size_t i = 0; i < n; i++)
        if (blocks[i].n) check_live(&blocks[i]);
    for (size_t i = 0; i < n; i++)
        if (!blocks[i].n && blocks[i].p) check_freed(&blocks[i]);
}

static bool known(void) {
    int fds[2];
    char is = 0;
    CHECK_EQ(pipe(fds), 0);
    pid_t child = fork();
    if (child == 0) {
        find();
        is = wr_n_regions > 0;
        _exit(write(fds[1], &is, 1) != 1);
    }
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_EQ(status, 0);
    CHECK_EQ(read(fds[0], &is, 1), 1);
    close(fds[0]), close(fds[1]);
    return is;
}

static void look(void) {
    const char *behind = getenv("WEIR_TEST_HEAPMAP");
#if !defined(__GLIBC__) || defined(SANITIZED)
    if (!behind) SKIP("nobody tells where blocks begin and end here");
#endif
    CHECK(known()); /* else nothing below would be checked */
    if (!behind)
        for (size_t i = 0; i < n_blocks; i++)
            if (blocks[i].n) blocks[i].usable = malloc_usable_size(blocks[i].p);
    in_child(find_all);
}

/* ---- Shapes -------------------------------------------------------------------------------------------------- */

PLAIN_TEST(small_blocks_freed_in_any_order) {
    begin();
    uint64_t seed = 1;
    for (int i = 0; i < 20000; i++) get(wr_random_below(&seed, i % 3 ? 200 : 5000) + 1);
    for (int i = 0; i < 8000; i++) {
        struct block *b = &blocks[wr_random_below(&seed, 20000)];
        if (b->n) put(b);
    }
    look();
}

PLAIN_TEST(blocks_in_the_caches_are_free) {
    begin();
    for (size_t size = 9; size < 1100; size += 16)
        for (int i = 0; i < 20; i++) get(size);
    for (size_t i = 0; i < n_blocks; i += 2) put(&blocks[i]); /* 10 of each: 7 into the cache, 3 into a fast bin */
    look();
}

PLAIN_TEST(a_block_like_an_empty_cache_is_in_use) {
    begin();
    for (int i = 0; i < 10; i++) memset(get(640)->p, 0, 640);
    look();
}

PLAIN_TEST(resized_blocks) {
    begin();
    uint64_t seed = 2;
    for (int i = 0; i < 2000; i++) get(wr_random_below(&seed, 3000) + 1);
    for (int i = 0; i < 10000; i++) {
        struct block *b = &blocks[wr_random_below(&seed, 2000)];
        resize(b, wr_random_below(&seed, i % 50 ? 4000 : 300000) + 1);
        if (i % 7 == 0) memset(b->p, 0xff, b->n);
    }
    look();
}

PLAIN_TEST(aligned_blocks) {
    begin();
    uint64_t seed = 3;
    for (size_t align = 16; align <= 65536; align *= 2)
        for (int i = 0; i < 40; i++) get_aligned(align, wr_random_below(&seed, 6000) + 1);
    for (size_t i = 0; i < n_blocks; i += 3) put(&blocks[i]);
    look();
}

PLAIN_TEST(large_blocks) {
    begin();
    uint64_t seed = 4;
    for (int i = 0; i < 300; i++) get(130 * 1024 + wr_random_below(&seed, 1 << 20));
    for (int i = 0; i < 20; i++) get_aligned((size_t)32 << i % 12, 150 * 1024 + wr_random_below(&seed, 1 << 18));
    for (int i = 0; i < 300; i += 7) put(&blocks[i]);
    for (int i = 1; i < 300; i += 7) resize(&blocks[i], 200 * 1024 + wr_random_below(&seed, 1 << 21));
    look();
}

PLAIN_TEST(very_small_blocks) {
    begin();
    for (int i = 0; i < 5000; i++) get((size_t)i % 8 + 1);
    look();
}

/* ---- Threads ------------------------------------------------------------------------------------------------- */

enum { THREADS = 8 };
static pthread_barrier_t filled, looked;

static void *fill(void *arg) {
    uint64_t seed = (uintptr_t)arg;
    struct block *mine[3000];
    for (int i = 0; i < 3000; i++) mine[i] = get(wr_random_below(&seed, 1000) + 1);
    for (int i = 0; i < 3000; i += 2) put(mine[i]);
    if (arg == (void *)1) /* more than one heap has room for */
        for (int i = 0; i < 3000; i++) get(50000);
    pthread_barrier_wait(&filled);
    pthread_barrier_wait(&looked);
    return NULL;
}

PLAIN_TEST(arenas_of_threads) {
    begin();
    pthread_t threads[THREADS], gone;
    CHECK_EQ(pthread_barrier_init(&filled, NULL, 2), 0);
    CHECK_EQ(pthread_barrier_init(&looked, NULL, 2), 0);
    CHECK_EQ(pthread_create(&gone, NULL, fill, (void *)99), 0);
    pthread_barrier_wait(&filled), pthread_barrier_wait(&looked);
    CHECK_EQ(pthread_join(gone, NULL), 0);
    for (size_t i = 0; i < n_blocks; i++) /* what it has freed others may get, among them libc for the next thread */
        if (!blocks[i].n) blocks[i].p = NULL;
    CHECK_EQ(pthread_barrier_init(&filled, NULL, THREADS + 1), 0);
    CHECK_EQ(pthread_barrier_init(&looked, NULL, THREADS + 1), 0);
    for (uintptr_t i = 0; i < THREADS; i++) CHECK_EQ(pthread_create(&threads[i], NULL, fill, (void *)(i + 1)), 0);
    pthread_barrier_wait(&filled);
    for (size_t i = 0; i < n_blocks; i += 5) /* of others, into this thread's cache */
        if (blocks[i].n) put(&blocks[i]);
    look();
    pthread_barrier_wait(&looked);
    for (int i = 0; i < THREADS; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
}

/* ---- What must not be believed ------------------------------------------------------------------------------- */

PLAIN_TEST(memory_from_sbrk_is_not_mallocs) {
    begin();
    for (int i = 0; i < 1000; i++) get(500);
    if (sbrk(64 * 1024) == (void *)-1) SKIP("no sbrk here");
    look(); /* malloc does not know of it yet */
}

static char *decoy;
static void find_decoy(void) {
    find();
    for (int i = 0; i < 4; i++) CHECK(!wr_region_of((uintptr_t)decoy + (uintptr_t)i * 8192));
}

PLAIN_TEST(what_looks_like_a_large_block_is_not_one) {
    begin();
    for (int i = 0; i < 10; i++) get(200000);
    decoy = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(decoy != MAP_FAILED);
    for (int i = 0; i < 4; i++) ((uintptr_t *)(void *)(decoy + i * 8192))[1] = 8192 | 2;
    in_child(find_decoy);
}

/* Spoil words of what has been found, and find again: whatever comes out, it does come, and lies in readable memory. */
static uint64_t spoil_seed;
static void spoil(void) {
    int n = 1 + (int)wr_random_below(&spoil_seed, 4);
    bool arenas = wr_random_below(&spoil_seed, 3) == 0; /* not both: what no arena is found for is not walked */
    while (n-- > 0) {
        bool private = wr_n_heap_private && arenas;
        struct wr_region *r = wr_region_of((uintptr_t)blocks[wr_random_below(&spoil_seed, (uint32_t)n_blocks)].p);
        if (!r) continue;
        uintptr_t lo = r->lo, hi = r->hi;
        if (private) {
            struct wr_leak_range *range = &wr_heap_private[wr_random_below(&spoil_seed, (uint32_t)wr_n_heap_private)];
            lo = range->lo, hi = range->hi;
        }
        uint64_t *word = (uint64_t *)lo + wr_random_below(&spoil_seed, (uint32_t)((hi - lo) / 8));
        if (!private && wr_random_below(&spoil_seed, 4)) { /* where it hurts: the size of a block */
            size_t bound = bound_of(r, (uintptr_t)word);
            if (bound != SIZE_MAX) word = (uint64_t *)(r->lo + bound * 16) + 1;
        }
        switch (wr_random_below(&spoil_seed, 4)) {
        case 0: *word = 0; break;
        case 1: *word = wr_random(&spoil_seed); break;
        case 2: *word ^= (uint64_t)1 << wr_random_below(&spoil_seed, 40); break;
        default: *word = lo + wr_random_below(&spoil_seed, (uint32_t)(hi - lo)); break;
        }
    }
    find_again();
}

static void find_spoilt(void) {
    find();
    if (!wr_n_regions || !is_glibc()) return;
    /* An emulator takes long to fork what has so much address space. */
    for (long i = 0; i < (test_slowness() > 1 ? 10 : 1000); i++) {
        spoil_seed = (uint64_t)i * 977 + 1;
        in_child(spoil);
    }
}

PLAIN_TEST(nonsense_in_the_heap_does_no_harm) {
#ifdef SANITIZED
    SKIP("glibc's malloc is not in use");
#endif
    begin();
    uint64_t seed = 5;
    for (int i = 0; i < 2000; i++) get(wr_random_below(&seed, 1000) + 1);
    for (int i = 0; i < 2000; i += 3) put(&blocks[i]);
    for (int i = 0; i < 10; i++) get(200000);
    in_child(find_spoilt);
}
