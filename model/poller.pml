/*
 * Who asks the poller: wr_idle, wr_wake_m, wr_see_to_poller and wr_hand_off of src/sched/idle.c, poll_now of src/sched/worker.c,
 * wr_poll and wr_poll_begin of src/sched/poll.c, and sysmon's look (src/sched/sysmon.c).
 *
 * Who is who
 *   worker    0 and 1: take a P if one is idle, run a goroutine that may wait for a descriptor, then find something to run that may
 *             compute for good, or nothing. Then they ask the poller, give the P up, and go to sleep: in the poller if somebody waits,
 *             a P is idle, and nobody sleeps there yet, else on their futex
 *   retaker   may take the P of one that computes, or is in a system call, for the others: wr_hand_off
 *   outsider  a thread of the program's own: it waits for a descriptor
 *   waker     has work for an idle worker: takes it out of the list and wakes it
 *   kernel    makes descriptors ready, at any time
 *   sysmon    looks whether anybody asks, until nothing has run for long; then it rests until it is nudged
 *
 * Variables
 *   waiting        wr_sched.waiting
 *   ready          how many of those that wait have become ready, and have not been told
 *   poller         wr_sched.poller
 *   event          the eventfd in the poller has been written to
 *   free           the length of wr_sched.idle_ps; has[]: m->p
 *   idle[]         wr_sched.idle_ms; wake[] is m->wake; woken[]: wr_futex_wake was called while it slept on it
 *   running        wr_sched.n_running; rests, nudged: wr_sched.sysmon_idle, sysmon_wake
 * What happens under sched.lock is one step.
 *
 * Checked: when nothing moves any more, nobody waits for a descriptor that is ready, and nobody sleeps who was woken.
 *
 * Left out: timers (timer.pml), queues (park.pml).
 *
 * Runs
 *   ok     (as it is)
 *   ok     -DPS=1
 *   fails  -DBREAK_BUSY -DPS=1  sysmon leaves it to idle threads, though no P is idle
 *   fails  -DBREAK_ORDER      who goes to sleep in the poller says so after its last look at wake
 *   fails  -DBREAK_WAKE       wr_wake_m looks who the poller is before it writes wake
 *   fails  -DBREAK_OUTSIDER   an outsider wakes nobody
 *   fails  -DBREAK_SYSMON     sysmon does not ask
 *   fails  -DBREAK_DRAIN      whoever asks takes the eventfd's wake-up away
 *   fails  -DBREAK_NUDGE      who starts to run does not nudge sysmon
 */
#define WORKERS 2
#define NOBODY 9
#ifndef PS
#define PS 2
#endif

byte waiting, ready, poller = NOBODY, running = WORKERS, free = PS;
bool has[WORKERS], computing[WORKERS], event, idle[WORKERS], asleep[WORKERS], wake[WORKERS], on_futex[WORKERS], woken[WORKERS], rests, nudged;

#ifndef BREAK_NUDGE
inline nudge() { if :: rests -> rests = false; nudged = true :: else fi }
#else
inline nudge() { skip }
#endif

/* Tell all that are ready: they go on. */
inline take() {
    d_step {
        waiting = waiting - ready;
        ready = 0
#ifdef BREAK_DRAIN
        ; event = false
#endif
    }
}

inline wake_m(m) {
#ifndef BREAK_WAKE
    wake[m] = true;
    if
    :: poller == m -> event = true
    :: else -> atomic { if :: on_futex[m] -> woken[m] = true :: else fi }
    fi
#else
    if
    :: poller == m -> wake[m] = true; event = true
    :: else -> wake[m] = true; atomic { if :: on_futex[m] -> woken[m] = true :: else fi }
    fi
#endif
}

/* wr_see_to_poller, under the lock. */
inline see_to_poller() {
    if
    :: waiting && poller == NOBODY && free && idle[0] -> wake_m(0)
    :: waiting && poller == NOBODY && free && !idle[0] && idle[1] -> wake_m(1)
    :: else
    fi
}

active [WORKERS] proctype worker() {
    byte me = _pid;
    bool polls;

loop: /* find_runnable */
    atomic {
        if
        :: !has[me] && free -> free--; has[me] = true
        :: else
        fi
    };
    if
    :: !has[me] -> goto sleeps
    :: else
    fi;
    if
    :: atomic { waiting < 3 -> waiting++ } /* its goroutine parks */
    :: true
    fi;
    if
    :: goto computes
    :: true
    fi;
    if
    :: waiting && poller == NOBODY -> take()
    :: else
    fi;
    atomic { has[me] = false; free++ };
sleeps: /* wr_idle */
    atomic {
        polls = waiting && poller == NOBODY && free;
#ifndef BREAK_ORDER
        if :: polls -> poller = me :: else fi;
#endif
        idle[me] = true;
        asleep[me] = true;
        running--
    };
    do
    :: wake[me] -> break
    :: !wake[me] && !polls ->
        atomic { if :: !wake[me] -> on_futex[me] = true :: else fi };
end_sleeps:
        if
        :: atomic { !on_futex[me] -> skip }
        :: atomic { on_futex[me] && woken[me] -> on_futex[me] = false; woken[me] = false }
        fi
    :: !wake[me] && polls ->
#ifdef BREAK_ORDER
        poller = me;
#endif
end_polls:
        if
        :: ready -> take(); break
        :: event -> event = false
        fi
    od;
    atomic {
        if :: polls -> poller = NOBODY :: else fi;
        wake[me] = false;
        asleep[me] = false;
        if :: idle[me] -> idle[me] = false; running++; nudge() :: else fi
    };
    goto loop;
computes:
    computing[me] = true
}

active proctype retaker() {
end_waits:
    do
    :: atomic { computing[0] && has[0] -> has[0] = false; free++ }; goto gives
    :: atomic { computing[1] && has[1] -> has[1] = false; free++ }; goto gives
    :: goto leaves
    od;
gives:
    atomic { see_to_poller() };
leaves:
    skip
}

active proctype outsider() {
    atomic { waiting++ };
#ifndef BREAK_OUTSIDER
    if
    :: poller == NOBODY -> atomic { see_to_poller() }
    :: else
    fi
#endif
}

active proctype waker() {
    byte m = NOBODY;
    atomic {
        if
        :: idle[0] && free -> m = 0
        :: idle[1] && free -> m = 1
        :: true
        fi;
        if :: m != NOBODY -> idle[m] = false; free--; has[m] = true; running++; nudge() :: else fi
    };
    if
    :: m != NOBODY -> wake_m(m)
    :: else
    fi
}

active proctype kernel() {
end_kernel:
    do
    :: atomic { ready < waiting -> ready++ }
    od
}

#ifndef BREAK_BUSY
#define LEAVES_IT ((idle[0] || idle[1]) && free)
#else
#define LEAVES_IT (idle[0] || idle[1])
#endif

active proctype sysmon() {
loop:
    nudged = false;
#ifndef BREAK_SYSMON
    atomic {
        if
        :: LEAVES_IT -> see_to_poller()
        :: !LEAVES_IT && waiting && poller == NOBODY -> take()
        :: else
        fi
    };
#endif
end_waits:
    if
#ifndef BREAK_SYSMON
    :: waiting && poller == NOBODY && ready && (free || !LEAVES_IT) -> goto loop /* its period has passed; and it can do something */
#endif
    :: atomic { running == 0 && (idle[0] || idle[1] || !waiting) -> rests = true };
end_rests:
        atomic { nudged || !rests -> rests = false };
        goto loop
    fi
}

init {
    timeout;
    assert(!(waiting && ready));
    assert(!(asleep[0] && wake[0]) && !(asleep[1] && wake[1]))
}
