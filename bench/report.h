/*
 * What the programs in C and C++ share, weir's and those of its peers: failing, checking, printing, what the system says about the
 * process, and numbers to check by. Include it last.
 */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* End the process with status 1 and a message, on whichever stack it is found: no figure is printed then. */
__attribute__((noreturn, format(printf, 1, 2))) static inline void fail(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fputs("bench: ", stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
    _Exit(1);
}

static inline void expect(const char *what, long got, long want) {
    if (got != want) fail("%s: %ld, expected %ld", what, got, want);
}

/* An array of n zeroed elements, or fail. The caller frees it. */
static inline void *array(long n, size_t size) {
    void *all = calloc((size_t)n, size);
    if (!all) fail("no memory for %ld elements", n);
    return all;
}
#define ARRAY(n, type) ((type *)array((n), sizeof(type)))

/* Spans of time are nanoseconds. Nanoseconds for one of n: */
static inline void print_each(const char *row, int64_t total, long n) {
    printf("%s %.2f ns\n", row, (double)total / (double)n);
}

/* Milliseconds for all. */
static inline void print_ms(const char *row, int64_t total) {
    printf("%s %.3f ms\n", row, (double)total / 1e6);
}

static inline int by_value(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* `row-p50` and `row-p99`, in nanoseconds. Sorts the n spans. */
static inline void print_percentiles(const char *row, int64_t *spans, long n) {
    qsort(spans, (size_t)n, sizeof *spans, by_value);
    printf("%s-p50 %ld ns\n%s-p99 %ld ns\n", row, (long)spans[n / 2], row, (long)spans[n * 99 / 100]);
}

/* What this process occupies, in bytes: resident memory, and the page tables that map it. */
static inline long memory(void) {
    FILE *f = fopen("/proc/self/status", "r");
    if (!f) fail("/proc/self/status: %s", strerror(errno));
    long rss = -1, tables = -1;
    for (char line[256]; fgets(line, sizeof line, f);) {
        (void)sscanf(line, "VmRSS: %ld", &rss);
        (void)sscanf(line, "VmPTE: %ld", &tables);
    }
    fclose(f);
    if (rss < 0 || tables < 0) fail("/proc/self/status tells no memory");
    return (rss + tables) * 1024;
}

/* 1 + 2 + … + n */
static inline long triangle(long n) { return n * (n + 1) / 2; }

/* The n-th prime, by division. */
static inline long nth_prime(long n) {
    long *primes = ARRAY(n, long), found = 0, last = 0;
    for (long v = 2; found < n; v++) {
        bool is_prime = true;
        for (long i = 0; i < found && primes[i] * primes[i] <= v && is_prime; i++) is_prime = v % primes[i] != 0;
        if (is_prime) primes[found++] = last = v;
    }
    free(primes);
    return last;
}

static inline long fibonacci(long n) {
    long before = 0, last = 1;
    for (long i = 1; i < n; i++) {
        long next = before + last;
        before = last, last = next;
    }
    return last;
}

/* The children of a node of skynet; that a tree with n leaves is whole. */
enum { CHILDREN = 10 };
static inline void expect_whole_tree(const char *row, long n) {
    long leaves = 1;
    while (leaves * CHILDREN <= n) leaves *= CHILDREN;
    if (leaves != n) fail("%s: %ld leaves are no power of %d", row, n, CHILDREN);
}

#endif
