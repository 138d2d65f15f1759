/* at_exit: WEIR_LEAK. Called by the start room around a run of the runtime. */
#ifndef WR_LEAK_AT_EXIT_H
#define WR_LEAK_AT_EXIT_H

#pragma GCC visibility push(hidden)

/* The runtime has started: reads WEIR_LEAK, starts what watches. */
void wr_leak_started(void);
/* It is about to stop: proves for the last time, if WEIR_LEAK says so, and ends what watches. */
void wr_leak_stopping(void);

#pragma GCC visibility pop
#endif
