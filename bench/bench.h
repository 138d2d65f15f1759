/*
 * What the files of weir's side of the benchmark share, besides report.h: the table of rows, and goroutines that are parked.
 *
 * A row is a function that does its work n times, checks it, and prints `name value unit` lines. The rows of a theme are in one
 * file (goroutines.c, channels.c, …), as a table that ends with an empty row; main.c knows the tables. go/ has the twins under the
 * same names. doc/performance.md says what each row does.
 */
#ifndef BENCH_H
#define BENCH_H

#include <weir.h>

#include <stdatomic.h>

#include "report.h"

struct row {
    const char *name;
    void (*run)(const char *row, long n);
};

extern const struct row goroutine_rows[], tree_rows[], channel_rows[], select_rows[], context_rows[], timer_rows[], lock_rows[],
    proof_rows[];

typedef WEIR_CHAN(long) long_chan;

/* A call that gives a negative errno fails the row. */
void must(int result, const char *call);
#define MUST(call) must((call), #call)

/* The next of a sequence of numbers that looks random and is the same in both twins. Begins with SEED. */
#define SEED 88172645463325252ul
unsigned long next_random(unsigned long *state);

/* Goroutines that wait on one channel until it is closed. The rows parked and prove-parked begin with them. */
struct parkers {
    weir_wg ready, done;
    long_chan ch;
    atomic_long woken;
};
void park_all(struct parkers *p, long n); /* returns when all n have come as far as their receive */
void wake_all(struct parkers *p);         /* returns when all have ended */

#endif
