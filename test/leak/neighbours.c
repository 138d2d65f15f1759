/*
 * Blocks side by side: a pointer to one is no pointer to the one in front of it, so that a leak is found between blocks that live;
 * and yet one past the end of a block keeps it alive. heapmap.sh runs the same with other allocators behind libweir-heapmap.
 */
#include "proof_test.h"

#include <dlfcn.h>
#include <malloc.h>

#include "heapmap/heapmap.h"

/* ---- A leak between blocks that live -------------------------------------------------------------------- */

enum { LEAKS = 1000, CHANNEL = 112 }; /* about as large as a channel without a buffer: of its size class */
static void *neighbours[8 * LEAKS];
static size_t n_neighbours;
static weir_chan *kept[LEAKS];
static size_t n_kept;

static void wait_for_ever(int_chan ch) { STUCK("chan receive", weir_recv(ch, NULL)); }
/* Zeroed, as allocators leave words of their own in what they give. */
static void live_here(void) {
    CHECK(n_neighbours < sizeof neighbours / sizeof *neighbours);
    CHECK(neighbours[n_neighbours++] = calloc(1, CHANNEL));
}
/* Behind libweir-heapmap: unless its mappings are known, an allocator may itself point to where a page of its blocks begins. */
static bool allocator_counts(void) {
    const struct weir_heapmap *map = dlsym(RTLD_DEFAULT, "weir_heapmap_");
    return map && map->n_mappings == 0;
}
static NOINLINE void leak_beside_live_blocks(void) {
    for (int i = 0; i < LEAKS;) {
        int_chan ch = weir_make(int_chan, 0);
        live_here();
        if (allocator_counts() && (uintptr_t)weir_chan_of(ch) % 4096 == 0 && n_kept < LEAKS) {
            kept[n_kept++] = weir_chan_of(ch);
            continue;
        }
        START(wait_for_ever, ch);
        i++;
    }
    for (int i = 0; allocator_counts() && i < 4 * LEAKS; i++) live_here(); /* nor do its lists of blocks name the last leaks */
}
TEST(leaks_beside_live_blocks_are_found) {
    RECALL_WANTS_GLIBC();
    leak(LEAKS, leak_beside_live_blocks);
    CHECK_LEAKED(LEAKS);
    for (size_t i = 0; i < n_neighbours; i++) free(neighbours[i]);
}

/* ---- One past the end --------------------------------------------------------------------------------------- */

/* Ways to get a block of n bytes; all of these give one that ends with its last byte, as far as a program may know. */
static void *by_malloc(size_t n) { return malloc(n); }
static void *by_calloc(size_t n) { return calloc(n / 8, 8); }
static void *by_posix_memalign(size_t n) {
    void *p = NULL;
    return posix_memalign(&p, 64, n) ? NULL : p;
}
static void *by_aligned_alloc(size_t n) { return aligned_alloc(16, n); }
static void *by_growing(size_t n) { return realloc(malloc(n - 8), n); }
static void *by_shrinking(size_t n) { return realloc(malloc(n + 32), n); }
static void *(*const ways[])(size_t n) = { by_malloc, by_calloc, by_posix_memalign, by_aligned_alloc, by_growing, by_shrinking };
enum { WAYS = sizeof ways / sizeof *ways, EACH = 20, MOST_ENDS = 4096 };
static const size_t sizes[] = { 16, 32, 48, 64, 80, 112, 128, 160, 256, 512, 1024, 4096, 16384, 65536, 1 << 20 };

static char *ends[MOST_ENDS]; /* of the blocks: no other word points to them */
static size_t lengths[MOST_ENDS], n_ends;
static _Atomic int n_served;

static void wait_once(int_chan ch) {
    int v = 0;
    CHECK_EQ(weir_recv(ch, &v), 0);
    weir_release(ch);
    n_served++;
}
static void hold(void *block, size_t n) {
    int_chan ch = weir_make(int_chan, 0);
    CHECK(block && n_ends < MOST_ENDS);
    weir_chan *handle = weir_chan_of(ch);
    memcpy(block, &handle, sizeof handle);
    ends[n_ends] = (char *)block + n, lengths[n_ends++] = n;
    TEST_GO(wait_once, ch);
}
/* Its end keeps nobody; its begin is perhaps the end of one that is held. */
static NOINLINE void lose(void *block) { CHECK(block); }
static NOINLINE void hold_by_ends(void) {
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int way = 0; way < WAYS; way++)
            for (int i = 0; i < EACH; i++) {
                hold(ways[way](sizes[s]), sizes[s]);
                lose(ways[way](sizes[s]));
            }
    for (int i = 0; i < 4 * EACH; i++) {
        lose(malloc(8)); /* perhaps two share 16 bytes: the first ends between them */
        hold(malloc(8), 8);
    }
    for (int i = 0; i < EACH; i++) { /* a program may use all that it is told of */
        void *block = malloc(100);
        CHECK(block);
        lose(malloc(100));
        hold(block, malloc_usable_size(block));
    }
}
static NOINLINE void let_go(void) {
    for (size_t i = 0; i < n_ends; i++) {
        weir_chan *ch;
        memcpy(&ch, ends[i] - lengths[i], sizeof ch);
        CHECK_EQ(weir_chan_send(ch, &(int){ 42 }), 0);
        free(ends[i] - lengths[i]);
    }
}
TEST(one_past_the_end_keeps_a_block_alive) {
    tidily(hold_by_ends);
    test_until_n_parked(n_ends, "chan receive");
    for (long i = TEST_SCALE(3); i > 0; i--) nobody_leaks("ends are kept");
    tidily(let_go);
    TEST_UNTIL(n_served == (int)n_ends);
}
