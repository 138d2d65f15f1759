/* A million goroutines, parked: what each costs in memory, that each can be woken, and that the memory comes back. */
#include "sched/inner.h"
#undef errno
#define errno (*weir_errno_())
#include "test.h"

#include <stdatomic.h>
#include <stdlib.h>

enum { MILLION = 1000000, BYTES_EACH = 4812 /* 4.7 KiB, page tables included */ };
typedef WEIR_CHAN(int) int_chan;

/* A line of that file in KiB. */
static long kib_in(const char *path, const char *what) {
    char line[256];
    long kib = -1;
    FILE *f = fopen(path, "re");
    CHECK(f);
    while (kib < 0 && fgets(line, sizeof line, f))
        if (!strncmp(line, what, strlen(what))) kib = strtol(line + strlen(what), NULL, 10);
    fclose(f);
    CHECK_GE(kib, 0);
    return kib;
}
static long memory(void) { return kib_in("/proc/self/status", "VmRSS:") + kib_in("/proc/self/status", "VmPTE:"); }
static void need_memory(void) {
#if defined(TEST_ASAN) || defined(TEST_TSAN)
    SKIP("a sanitizer keeps an account of every page");
#endif
    long there = kib_in("/proc/meminfo", "MemAvailable:"), needed = (long)MILLION * BYTES_EACH / 1024 * 9 / 8;
    if (there < needed) FAIL("a million goroutines need %ld MiB, and there are %ld", needed >> 10, there >> 10);
}

static int_chan ch;
static _Atomic long sum, woken;
static void receives(void) {
    int v;
    if (weir_recv(ch, &v) == 0) sum += v;
    woken++;
}
static weir_duration start_all(void) {
    weir_time start = weir_now();
    for (int i = 0; i < MILLION; i++) TEST_GO(receives);
    CHECK_EQ(weir_count(), MILLION + 1);
    test_until_n_parked(MILLION, "chan receive");
    return weir_now() - start;
}

TEST(a_million_parked_goroutines_cost_a_page_each) {
    need_memory();
    ch = weir_make(int_chan, 0);
    long before = memory();
    weir_duration took = start_all();
    long after = memory(), each = (after - before) * 1024 / MILLION;
    printf("%ld bytes each, %.0f ns each to start\n", each, (double)took / MILLION);
    CHECK_LE(each, BYTES_EACH);

    weir_time start = weir_now();
    for (int i = 0; i < MILLION; i++) CHECK_EQ(weir_send(ch, i), 0);
    TEST_UNTIL(weir_count() == 1);
    printf("%.0f ns each to wake and end\n", (double)(weir_now() - start) / MILLION);
    CHECK_EQ(woken, MILLION);
    CHECK_EQ(sum, (long)MILLION * (MILLION - 1) / 2);

    wr_stacks_trim(); /* what is idle from now on … */
    wr_stacks_trim(); /* … until now */
    long left = memory();
    printf("%ld MiB of %ld are left\n", (left - before) >> 10, (after - before) >> 10);
    CHECK_LE(left - before, (after - before) / 6); /* the page tables stay, 512 bytes each */
    weir_release(ch);
}

TEST(a_million_goroutines_wake_at_a_close) {
    need_memory();
    ch = weir_make(int_chan, 0);
    (void)start_all();
    weir_time start = weir_now();
    weir_close(ch);
    TEST_UNTIL(weir_count() == 1);
    printf("%.0f ns each to wake and end\n", (double)(weir_now() - start) / MILLION);
    CHECK_EQ(woken, MILLION);
    CHECK_EQ(sum, 0);
    weir_release(ch);
}
