/*
 * The debug server: what a Go program shows at :6060, for the same tools. A library of its own, libweir-debug (pkg-config
 * weir-debug); weir.h does not bring it in. Go: net/http/pprof.
 *
 *     weir_debug_serve("127.0.0.1:6060");
 *
 *     $ go tool pprof -top http://127.0.0.1:6060/debug/pprof/goroutine
 *     $ curl 'http://127.0.0.1:6060/debug/pprof/goroutine?debug=2'
 *
 * A program that knows nothing of it shows the same, once the library is installed, when it is started with WEIR_DEBUG_ADDR=127.0.0.1:6060
 * in its environment.
 *
 * Below /debug/pprof/
 *   (index)        what there is, with counts
 *   goroutine      every goroutine; Go: the same
 *   goroutineleak  makes a proof of leaks and shows those that have leaked; 503 if it is inconclusive; see leak.h
 *   threadcreate   weir's threads, by what they run (Go: by what made them, which it does not know)
 *   block, mutex   contention, if it is recorded; see profile.h
 *   profile        a CPU profile of `seconds` (30)
 *   cmdline        the command line, arguments separated by zero bytes
 *   symbol         the functions at addresses: GET symbol?0x1234+0x5678, or POST with that as the body
 * and /metrics. Parameters, as in Go: debug=0 (the default) is a gzipped profile.proto with functions and lines filled in, debug=1 text,
 * one entry a stack, debug=2 (goroutine, goroutineleak) text with each goroutine, in constant memory; seconds=N (goroutine,
 * goroutineleak, threadcreate, block, mutex) the difference that so many seconds make.
 *
 * What is shown changes nothing in the program, but that stacks of goroutines that run are asked for by a signal, as weir_dump does, and that
 * a proof stops the program for some milliseconds. With WEIR_DEBUG_HEAL=1 in the environment, and not else,
 *   POST goroutineleak?heal=1
 * makes a proof and heals what has leaked (weir_leak_heal).
 *
 * The server has threads of its own, which are no goroutines and hide no deadlock: it answers while every worker is stuck. At most 64
 * connections, 16 requests at work (others get 503), 2 proofs at work or waiting. It has no passwords: whoever reaches the address may
 * look.
 */
#ifndef WEIR_DEBUG_H
#define WEIR_DEBUG_H

#include "weir.h"

WEIR_BEGIN_

/*
 * Serve at an address: "127.0.0.1:6060", "localhost:6060", "[::1]:6060". Without a host, ":6060", it is 127.0.0.1 (Go: every
 * interface), and standard error says so; an address that other machines may reach is served with a warning there. Port 0: any that is
 * free, see weir_debug_port. NULL: "127.0.0.1:6060". The server stays until the process ends, through all runs of the runtime, and may
 * be started before the first; a forked child has none, and may start its own.
 *
 * 0; -EINVAL: not an address and a port; -ENOENT: no such host; -EADDRINUSE, -EADDRNOTAVAIL, -EACCES, … of bind(2); -EBUSY: there is
 * a server; -ENOTSUP: the library and the core are of different versions; -ENOMEM, -EAGAIN: no memory, no thread. Any thread or
 * goroutine; blocks the thread for as long as looking up the host's name takes; not cancellable. Go: http.ListenAndServe with
 * net/http/pprof.
 */
WEIR_API_ WEIR_MUST_USE_ int weir_debug_serve(const char *address);

/* The port that is served; 0: none. Any thread; does not block. */
WEIR_API_ int weir_debug_port(void);

WEIR_END_

#endif
