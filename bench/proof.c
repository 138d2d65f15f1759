/*
 * Rows about the leak proof: a process in which one goroutine has leaked, and one proof. How long it stood still, and how long
 * the call took. Among N others that wait, or beside N MiB of memory.
 */
#include "bench.h"

#include <pthread.h>

/* A thread that knows nothing of weir looks at the clock: the largest gap is how long the process stood still. */
static atomic_bool watching;
static void *watch_gaps(void *gap) {
    weir_time last = weir_now();
    while (atomic_load(&watching)) {
        weir_time now = weir_now();
        if (now - last > *(weir_duration *)gap) *(weir_duration *)gap = now - last;
        last = now;
    }
    return NULL;
}

static void leak_one(void) {
    long_chan ch = weir_make(long_chan, 0);
    (void)!weir_recv(ch, NULL);
}

/* One proof of a process in which one goroutine has leaked. */
static void prove(const char *row) {
    MUST(weir_go(leak_one));
    MUST(weir_sleep(50 * WEIR_MILLISECOND)); /* until it has got there, and all others sleep */
    weir_duration gap = 0;
    pthread_t thread;
    weir_leak_report *report;
    atomic_store(&watching, true);
    if (pthread_create(&thread, NULL, watch_gaps, &gap)) fail("no thread");
    weir_time start = weir_now();
    int n = weir_leaks(&report);
    weir_duration total = weir_now() - start;
    atomic_store(&watching, false);
    pthread_join(thread, NULL);
    if (n < 0) weir_leak_report_print(report, stderr);
    expect(row, n, 1);
    weir_leak_report_free(report);
    printf("%s-pause %.3f ms\n%s-total %.3f ms\n", row, (double)gap / 1e6, row, (double)total / 1e6);
}

static void prove_parked(const char *row, long n) {
    static struct parkers p;
    p.ch = weir_make(long_chan, 0);
    park_all(&p, n);
    prove(row);
    wake_all(&p);
}

/* n MiB in blocks of 64 bytes, each of which points to two others. */
struct block {
    struct block *next, *before;
    long filler[6];
};
static void prove_heap(const char *row, long n) {
    static struct block *all;
    for (long i = 0; i < n << 14; i++) {
        struct block *b = calloc(1, sizeof *b);
        if (!b) fail("no memory");
        b->next = all, b->before = all ? all->next : NULL;
        all = b;
    }
    prove(row);
    for (struct block *next; all; all = next) {
        next = all->next;
        free(all);
    }
}

/* The same, but each points to two of all, and so the next one lies anywhere. */
static void prove_anyhow(const char *row, long n) {
    static struct block **all;
    unsigned long random = SEED;
    all = calloc((size_t)n << 14, sizeof *all);
    if (!all) fail("no memory");
    for (long i = 0; i < n << 14; i++)
        if (!(all[i] = calloc(1, sizeof **all))) fail("no memory");
    for (long i = 0; i < n << 14; i++) {
        next_random(&random);
        all[i]->next = all[random % ((unsigned long)n << 14)], all[i]->before = all[(random >> 20) % ((unsigned long)n << 14)];
    }
    prove(row);
    for (long i = 0; i < n << 14; i++) free(all[i]);
    free(all);
}

const struct row proof_rows[] = {
    { "prove-parked", prove_parked },
    { "prove-heap", prove_heap },
    { "prove-heap-anyhow", prove_anyhow },
    { "prove-parked-1m", prove_parked },
    { "prove-heap-4g", prove_heap },
    { 0 },
};
