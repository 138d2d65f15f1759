/*
 * State Threads' side of the benchmark, one row a run: `bench-st ROW N` does the row's work N times, checks it, and prints
 * `name value unit` lines, as ../ does with weir. A check that fails, or a call that does, ends the process with status 1 and prints no
 * figure; 3 says that there is no such row.
 *
 * The library runs all threads on one processor; BENCH_PROCS above 1 is therefore status 3 as well. It has threads, condition variables,
 * mutexes and sleep. The channels that the rows need are built here (channel.c), as a user has to; select, contexts, timers
 * that run a function, read-write locks and once are missing, and so are their rows.
 *
 * Stacks are 16 KiB instead of the 64 KiB that are the default: no thread here needs more. The event system is the default one, which
 * waits in select() to the microsecond; nothing is asked about descriptors. Other differences stand at the head of the files.
 */
#include "bench.h"

#include <time.h>

enum { STACK = 16 * 1024 };

static const struct row *const tables[] = { thread_rows, channel_rows, tree_rows };

void must(int result, const char *call) {
    if (result < 0) fail("%s: %s", call, strerror(errno));
}

duration now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

void start(void *(*run)(void *arg), void *arg) {
    if (!st_thread_create(run, arg, false, STACK)) fail("st_thread_create: %s", strerror(errno));
}

void wait_group_add(struct wait_group *wg, long count) {
    if (!wg->zero && !(wg->zero = st_cond_new())) fail("st_cond_new: %s", strerror(errno));
    wg->left += count;
}

void wait_group_done(struct wait_group *wg) {
    if (--wg->left == 0) MUST(st_cond_signal(wg->zero));
}

void wait_group_wait(struct wait_group *wg) {
    while (wg->left > 0) MUST(st_cond_wait(wg->zero));
}

int main(int argc, char **argv) {
    long n = argc == 3 ? strtol(argv[2], NULL, 10) : 0;
    const char *procs = getenv("BENCH_PROCS");
    if (n <= 0) {
        fputs("usage: bench-st ROW N\n", stderr);
        return 2;
    }
    if (procs && strcmp(procs, "1") != 0) {
        fputs("bench-st: State Threads has one processor\n", stderr);
        return 3;
    }
    MUST(st_init());
    for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++)
        for (const struct row *row = tables[t]; row->name; row++)
            if (strcmp(argv[1], row->name) == 0) {
                row->run(row->name, n);
                return 0;
            }
    fprintf(stderr, "bench-st: no row is named %s\n", argv[1]);
    return 3;
}
