/*
 * Memory in huge pages: the only handle lies in one, in a mapping of the program's or in a block of malloc's. What is
 * in use there counts, what is lost does not.
 */
#include "held.h"

#include <malloc.h>

enum { HUGE_PAGE = 2 << 20, MAPPED = 8 << 20, BLOCK = 16 << 20 };

static char *block; /* what the tests below keep of it */
static size_t at;   /* where the handle is, from there */
static NOINLINE void put(char *into, size_t offset, void *h) {
    block = into, at = offset;
    memcpy(into + offset, &h, sizeof h);
}
static void wipe(void) { memset(block + at, 0, sizeof(void *)); }

/* Does the kernel say that there is a huge page at that address? */
static NOINLINE bool is_huge(uintptr_t address) {
    char line[512];
    unsigned long lo, hi, kib;
    bool there = false, huge = false;
    FILE *f = fopen("/proc/self/smaps", "re");
    CHECK(f);
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "%lx-%lx ", &lo, &hi) == 2) there = address >= lo && address < hi;
        else if (there && sscanf(line, "AnonHugePages: %lu", &kib) == 1) huge = kib > 0;
    }
    fclose(f);
    return huge;
}
/* All of it that can be in huge pages. */
static NOINLINE void make_huge(char *p, size_t size) {
    char *lo = (char *)(((uintptr_t)p + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1));
    char *hi = (char *)((uintptr_t)(p + size) & ~(uintptr_t)(HUGE_PAGE - 1));
    if (madvise(lo, (size_t)(hi - lo), MADV_HUGEPAGE) != 0) SKIP("no huge pages on this kernel");
    for (char *c = lo; c < hi; c += 4096) *(volatile char *)c = 1;
    if (!is_huge((uintptr_t)lo)) SKIP("the kernel has no huge page left");
}

/* ---- Mappings -------------------------------------------------------------------------------- */

static NOINLINE char *map_huge(void) {
    char *p = mmap(NULL, MAPPED + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED);
    p = (char *)(((uintptr_t)p + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1));
    make_huge(p, MAPPED);
    return p;
}
static void fill_mapping(void *h) { put(map_huge(), 3 * HUGE_PAGE + 77 * 4096 + 16, h); }
TEST(held_in_a_huge_page) { held(fill_mapping, wipe); }

static void fill_last_word(void *h) { put(map_huge(), MAPPED - sizeof h, h); }
TEST(held_in_the_last_word_of_a_huge_page) { held(fill_last_word, wipe); }

/* One that begins on the next page. */
static void fill_across(void *h) { put(map_huge(), HUGE_PAGE - 3, h); }
TEST(held_across_two_huge_pages) { held(fill_across, wipe); }

/* A part of the page has been given back, another cannot be written: the kernel splits what it keeps. */
static void fill_split(void *h) {
    char *p = map_huge();
    put(p, HUGE_PAGE + 9 * 4096, h);
    CHECK_EQ(madvise(p + HUGE_PAGE, 9 * 4096, MADV_DONTNEED), 0);
    CHECK_EQ(mprotect(p + HUGE_PAGE + 20 * 4096, 4096, PROT_READ), 0);
}
TEST(held_in_a_huge_page_of_which_a_part_was_given_back) { held(fill_split, wipe); }

/* Never written, so that one page of zeroes stands for all; but for the word. */
static void fill_zeroes(void *h) {
    char *p = map_huge();
    CHECK_EQ(madvise(p, MAPPED, MADV_DONTNEED), 0);
    for (int i = 0; i < MAPPED; i += 4096) CHECK_EQ(*(volatile char *)(p + i), 0);
    put(p, 2 * HUGE_PAGE + 4096, h);
}
TEST(held_beside_huge_pages_of_zeroes) { held(fill_zeroes, wipe); }

/* ---- Blocks of malloc's ---------------------------------------------------------------------- */

/* malloc maps it by itself, mostly right below what was mapped last. A pointer to where another mapping begins
 * could be one past the end of ours, and a thread has one to its stack: so there is something between that nobody
 * knows. And an old pointer on a stack of which an int 0 has taken the lower half is one to a multiple of 4 GiB. */
static bool has_round_address(const char *p, size_t size) { return (uintptr_t)p >> 32 != ((uintptr_t)p + size) >> 32; }
static NOINLINE char *huge_block(void) {
    char *p = NULL;
    for (int i = 0; i < 20; i++) {
        char *moat = mmap(NULL, 16 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(moat != MAP_FAILED);
        CHECK((p = malloc(BLOCK)));
        size_t size = malloc_usable_size(p);
        if (p + size == moat && !has_round_address(p, size)) break;
    }
    make_huge(p, BLOCK);
    return p;
}
static void fill_block(void *h) { put(huge_block(), 5 * HUGE_PAGE + 4096 + 32, h); }
TEST(held_in_a_block_of_huge_pages) { held(fill_block, wipe); }

static void drop_block(void) { block = NULL; }
static void free_block(void) {
    free(block);
    block = NULL;
}
TEST(a_lost_block_of_huge_pages_hides_nothing) {
    RECALL_WANTS_GLIBC();
    held(fill_block, drop_block);
}
TEST(a_freed_block_of_huge_pages_hides_nothing) {
    RECALL_WANTS_GLIBC();
    held(fill_block, free_block);
}

#ifdef M_MMAP_THRESHOLD
/* The same within a heap, among other blocks, rather than in a mapping of its own. */
static void *volatile behind; /* or free would give the memory back to the kernel */
static void fill_heap(void *h) {
    if (mallopt(M_MMAP_THRESHOLD, 2 * BLOCK) != 1) SKIP("malloc cannot be told to keep large blocks in its heaps");
    fill_block(h);
    behind = malloc(100);
    CHECK(behind);
}
TEST(held_in_a_heap_of_huge_pages) { held(fill_heap, wipe); }
TEST(a_lost_block_in_a_heap_of_huge_pages_hides_nothing) {
    RECALL_WANTS_GLIBC();
    held(fill_heap, drop_block);
}
TEST(a_freed_block_in_a_heap_of_huge_pages_hides_nothing) {
    RECALL_WANTS_GLIBC();
    held(fill_heap, free_block);
}
#endif
