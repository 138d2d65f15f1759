/* Text dumps of all goroutines. Go: runtime.Stack, pprof.Lookup("goroutine").WriteTo. */
#ifndef WEIR_DUMP_H
#define WEIR_DUMP_H

WEIR_BEGIN_

/* Write every goroutine to fd. level 1: grouped by stack, most first; level 2: each with its state, how long it has
 * waited, its stack, and who started it. The text is the one that Go's tools parse. Names and lines come
 * from libdw; built without it, there are addresses and a hint. 0; -EINVAL: another level; -ENOMEM; else what write()
 * failed with. The program goes on meanwhile. Blocks the thread (it writes to fd), not cancellable. A goroutine that runs
 * is asked for its stack by a signal: a system call in weir_blocking that no SA_RESTART restarts, such as poll, returns EINTR.
 *
 * SIGQUIT (ctrl-\) writes level 2 to standard error, unless the program has a handler of its own or ignores it, or
 * a channel gets it (weir_signal_notify); a second one within a second ends the process with status 2. A crash in a goroutine writes the signal and that
 * goroutine's stack; then the process dies of the signal. */
WEIR_API_ int weir_dump(int fd, int level);

WEIR_END_

#endif
