/* debug: starts the debug server where the environment asks for it. */
#ifndef WR_START_DEBUG_H
#define WR_START_DEBUG_H

#pragma GCC visibility push(hidden)

/* The runtime has started: if WEIR_DEBUG_ADDR is set, serve there, from the first start of the process on. Says on standard error
 * where, or why not. */
void wr_debug_started(void);

#pragma GCC visibility pop
#endif
