/*
 * weir: Go's concurrency for C, with the leak taken out.
 *
 * A goroutine is a function running on a small stack of its own. Thousands of them share a few
 * threads, one for each CPU. `weir_go(fn, args…)` starts one; a channel carries values between them;
 * `weir_select` waits on several channels at once. Every blocking call obeys the goroutine's current
 * context: once that is cancelled, or its deadline passes, the call returns -ECANCELED or -ETIMEDOUT
 * and has had no effect. A scope waits for the goroutines started in it, whichever way its block is
 * left, so they cannot leak.
 *
 *     static void producer(int_chan out) { for (int i = 0; i < 3; i++) if (weir_send(out, i)) break;
 *                                          weir_close(out); weir_release(out); }
 *     int weir_main(int argc, char **argv) {
 *         int_chan ch = weir_make(int_chan, 0);
 *         if (weir_go(producer, weir_retain(ch))) return 1;
 *         for (int v; weir_recv(ch, &v) == 0;) printf("%d\n", v);
 *         weir_release(ch);
 *         return 0;
 *     }
 *
 * Conventions
 * - Calls return 0 (or a count) or a negative errno value: -ECANCELED, -ETIMEDOUT, -EPIPE (closed),
 *   -EAGAIN (would block, or a limit is reached), -ENOMEM, -EINVAL, -EPERM, -EBUSY; -EDEADLK (proven
 *   leaked, then healed: weir_leak_heal). No result travels through errno; errno itself is kept over a
 *   park.
 * - Time is `weir_duration` and `weir_time`, in nanoseconds; the clock is the monotonic one.
 * - Every call may be made from any thread, unless it says otherwise. Only where a call says "blocks"
 *   does the goroutine (or the foreign thread) sleep; "cancellable" means that it obeys the current
 *   context. While the runtime is not running no goroutine starts and no timer fires, so a sleep of a
 *   foreign thread does not end then.
 * - No call may be made from a signal handler. A call that would block there ends the process with a
 *   message when weir notices; the others are undefined.
 * - Whatever a macro is given is evaluated once.
 *
 * The tiers, simple to advanced: go.h (start, goroutines), chan.h, select.h, time.h, ctx.h, scope.h,
 * sync.h, io.h (descriptors), net.h (the network), file.h, process.h, signal.h, dump.h, profile.h, leak.h. Names with a
 * trailing underscore are for the macros alone.
 */
#ifndef WEIR_H
#define WEIR_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define WEIR_VERSION_MAJOR 0
#define WEIR_VERSION_MINOR 1
#define WEIR_VERSION_PATCH 0

#include "weir/base.h"
#include "weir/go.h"
#include "weir/chan.h"
#include "weir/time.h"
#include "weir/ctx.h"
#include "weir/select.h"
#include "weir/scope.h"
#include "weir/sync.h"
#include "weir/io.h"
#include "weir/net.h"
#include "weir/file.h"
#include "weir/process.h"
#include "weir/signal.h"
#include "weir/dump.h"
#include "weir/profile.h"
#include "weir/leak.h"

#endif
