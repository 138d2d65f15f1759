/*
 * weir's side of the benchmark, one row a run: `bench-weir ROW N` does the row's work N times, checks it, and prints
 * `name value unit` lines. A check that fails, or a call that does, ends the process with status 1 and prints no figure; 3 says
 * that there is no such row. Without a row: their names.
 *
 * go/ is its twin: the same rows, the same work in the same order, the same checks. Change both or neither.
 */
#include "bench.h"

#include <stdarg.h>

static const struct row *const tables[] = { goroutine_rows, tree_rows,  channel_rows, select_rows,
                                            context_rows,   timer_rows, lock_rows,    proof_rows };

_Noreturn void fail(const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    fputs("bench-weir: ", stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

void must(int result, const char *call) {
    if (result < 0) fail("%s: %s", call, strerror(-result));
}

void expect(const char *what, long got, long want) {
    if (got != want) fail("%s: %ld, expected %ld", what, got, want);
}

void *array(long n, size_t size) {
    void *all = calloc((size_t)n, size);
    if (!all) fail("no memory for %ld elements", n);
    return all;
}

void print_each(const char *row, weir_duration total, long n) {
    printf("%s %.2f ns\n", row, (double)total / (double)n);
}

void print_ms(const char *row, weir_duration total) {
    printf("%s %.3f ms\n", row, (double)total / 1e6);
}

static int by_value(const void *a, const void *b) {
    weir_duration x = *(const weir_duration *)a, y = *(const weir_duration *)b;
    return (x > y) - (x < y);
}

void print_percentiles(const char *row, weir_duration *spans, long n) {
    qsort(spans, (size_t)n, sizeof *spans, by_value);
    printf("%s-p50 %ld ns\n%s-p99 %ld ns\n", row, (long)spans[n / 2], row, (long)spans[n * 99 / 100]);
}

unsigned long next_random(unsigned long *state) {
    *state ^= *state << 13, *state ^= *state >> 7, *state ^= *state << 17;
    return *state;
}

int weir_main(int argc, char **argv) {
    long n = argc == 3 ? strtol(argv[2], NULL, 10) : 0;
    if (n > 0) {
        for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++)
            for (const struct row *row = tables[t]; row->name; row++)
                if (strcmp(argv[1], row->name) == 0) {
                    row->run(row->name, n);
                    return 0;
                }
        fprintf(stderr, "bench-weir: no row is named %s\n", argv[1]);
        return 3;
    }
    fputs("usage: bench-weir ROW N\nrows:", stderr);
    for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++)
        for (const struct row *row = tables[t]; row->name; row++) fprintf(stderr, " %s", row->name);
    fputc('\n', stderr);
    return 2;
}
