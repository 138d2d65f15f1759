/*
 * weir's side of the benchmark, one row a run: `bench-weir ROW N` does the row's work N times, checks it, and prints
 * `name value unit` lines. A check that fails, or a call that does, ends the process with status 1 and prints no figure; 3 says
 * that there is no such row. Without a row: their names.
 *
 * go/ is its twin: the same rows, the same work in the same order, the same checks. Change both or neither.
 */
#include "bench.h"

static const struct row *const tables[] = { goroutine_rows, tree_rows,  channel_rows, select_rows,
                                            context_rows,   timer_rows, lock_rows,    proof_rows };

void must(int result, const char *call) {
    if (result < 0) fail("%s: %s", call, strerror(-result));
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
