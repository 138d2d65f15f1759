/* watch: proofs and counts at intervals, on a thread that is there while the runtime runs and something is to be
 * watched. */
#ifndef WR_LEAK_WATCH_H
#define WR_LEAK_WATCH_H

#include "leak/report.h"

#pragma GCC visibility push(hidden)

/* When the runtime has started, and before it stops. Whoever stops waits until no watch is at work; one whose
 * callback has not returned is left to itself. */
void wr_watch_start(void);
void wr_watch_stop(void);

/* WEIR_LEAK's own watch, beside the user's: prints what it finds. every ≤ 0: none. */
void wr_watch_environment(weir_duration every, bool heal);

/* ---- What piles up (growth.c). Called on the watch's thread only ------------------------------------------- */

struct wr_growth;
/* Count goroutines by stack, compare with the times before: adds to r what grows. *growth NULL: the first time. */
void wr_growth_sample(struct wr_growth **growth, weir_leak_report *r);
void wr_growth_free(struct wr_growth *growth);

#pragma GCC visibility pop
#endif
