/*
 * Starting and stopping: weir_run around a main goroutine, weir_start and weir_stop beside a program's own
 * threads. Wires the trace room to the scheduler, and begins and ends what lives as long as the runtime; all else is in those.
 *
 * One word says who has started the runtime. It is changed before and after the work, so that of several callers
 * exactly one does it.
 */
#include "io/io.h"
#include "leak/at_exit.h"
#include "sched/sched.h"
#include "start/debug.h"
#include "trace/trace.h"

enum { OFF, BUSY, RUN, EMBEDDED }; /* BUSY: being started or stopped */
static _Atomic int state = OFF;

static bool change(int from, int to) { return atomic_compare_exchange_strong(&state, &from, to); }

/* BUSY before and after, if it goes wrong. */
static int start(enum wr_mode mode) {
    wr_trace_start();
    int e = wr_sched_start(mode);
    if (e) wr_trace_stop(), wr_crash_stop();
    else wr_leak_started(), wr_signals_start(), wr_debug_started();
    return e;
}

/* No dump may look at goroutines that go, but their last steps may still crash. */
static void stop(void) {
    wr_leak_stopping();
    wr_signals_stop(); /* before SIGQUIT's is put back, which it may have taken over */
    wr_trace_stop();
    (void)wr_sched_stop();
    wr_io_stop();
    wr_crash_stop();
}

int weir_run(int (*fn)(void *arg), void *arg) {
    if (!fn) return -EINVAL;
    if (!change(OFF, BUSY)) return -EBUSY;
    int result = start(WR_MODE_MAIN);
    if (result == 0) {
        atomic_store(&state, RUN);
        result = wr_sched_main(fn, arg);
        atomic_store(&state, BUSY);
        stop();
    }
    atomic_store(&state, OFF);
    return result;
}

int weir_start(void) {
    if (!change(OFF, BUSY)) return -EBUSY;
    int e = start(WR_MODE_EMBED);
    atomic_store(&state, e ? OFF : EMBEDDED);
    return e;
}

int weir_stop(weir_duration grace) {
    struct g *g = wr_self_or_null();
    if ((g && !g->foreign) || !change(EMBEDDED, BUSY)) return -EPERM;
    bool all_ended = wr_sched_wait_idle(wr_after(grace));
    stop();
    atomic_store(&state, OFF);
    return all_ended ? 0 : -ETIMEDOUT;
}
