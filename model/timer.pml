/*
 * Who keeps the time: wr_idle, wr_idle_locked, wr_wake_for_timer and take_idle_m of src/sched/idle.c, m->new_timer
 * (src/sched/timer.c, src/sched/worker.c), and sysmon's rescue and rest (src/sched/sysmon.c).
 *
 * Who is who
 *   worker    0 and 1: run a goroutine that sets a timer and parks at once (wr_timer_add_parking), then find
 *             something else to run, which may compute for good, or nothing. Then they sleep without a P, one of them
 *             until the earliest timer is due. With -DALONE there are none
 *   locked    a thread that is tied to its goroutine: it sets a timer, parks, and sleeps until it is handed that
 *             goroutine
 *   outsider  sets a timer (wr_timer_add) while it goes on: a running goroutine, a foreign thread
 *   sysmon    fires what nobody has fired in time, until nothing has run for long; then it rests until it is nudged
 *   clock     goes on from 0 to 2, at any time
 *
 * Variables
 *   armed[]           the timers that are set: one is due at 1, one at 2; NEVER comes after
 *   idle[], until[]   wr_sched.idle_ms, m->sleeps_until; wake[] is m->wake
 *   new_timer         m->new_timer
 *   running           wr_sched.n_running
 *   rests, nudged     wr_sched.sysmon_idle; sysmon_wake has changed since sysmon has read it
 * What happens under sched.lock is one step.
 *
 * Checked: when nothing moves any more, no timer that is due is still armed.
 *
 * Left out: the heaps (a set of timers here), disarming (it can only wake somebody for nothing), Ps, what is made
 * ready.
 *
 * Runs
 *   ok     (as it is)
 *   ok     -DALONE
 *   fails  -DBREAK_TELL           a timer that is set by who goes on, or finds something else to run, wakes nobody
 *   fails  -DBREAK_KEEPER         who goes idle sleeps until woken, though others who sleep do so too
 *   fails  -DBREAK_LOCKED         wr_idle_locked tells nobody of the timer
 *   fails  -DALONE -DBREAK_REST   sysmon rests though timers are set and no thread sleeps until they are due
 *   fails  -DBREAK_NUDGE          who starts to run does not nudge it
 */
#define NEVER 3
#define WORKERS 2

bool armed[NEVER];
byte now;
#ifndef ALONE
byte running = WORKERS + 2;
#else
byte running = 2;
#endif
bool idle[WORKERS], wake[WORKERS], rests, nudged;
byte until[WORKERS];

#define FIRST (armed[1] -> 1 : (armed[2] -> 2 : NEVER))
#define DUE ((armed[1] && now >= 1) || (armed[2] && now >= 2))
#ifndef BREAK_REST
#define MAY_REST (running == 0 && (FIRST == NEVER || idle[0] || idle[1]))
#else
#define MAY_REST (running == 0)
#endif

inline fire() {
    d_step {
        if :: now >= 1 -> armed[1] = false :: else fi;
        if :: now >= 2 -> armed[2] = false :: else fi
    }
}
#ifndef BREAK_NUDGE
inline nudge() { if :: rests -> rests = false; nudged = true :: else fi }
#else
inline nudge() { skip }
#endif

inline wake_for_timer(when) {
    atomic {
        if
        :: idle[0] && (!idle[1] || until[0] <= until[1]) && until[0] > when -> wake[0] = true
        :: idle[1] && (!idle[0] || until[1] < until[0]) && until[1] > when -> wake[1] = true
        :: else
        fi;
        nudge()
    }
}

#ifndef ALONE
active [WORKERS] proctype worker() {
    byte me = _pid, new_timer = NEVER, first;
    bool timed;

    if
    :: atomic { !armed[1 + me] -> armed[1 + me] = true; new_timer = 1 + me }
    :: true
    fi;
loop: /* find_runnable */
    if
    :: DUE -> fire()
    :: else
    fi;
    if
    :: true -> /* something else to run */
#ifndef BREAK_TELL
        if
        :: new_timer != NEVER -> wake_for_timer(new_timer)
        :: new_timer == NEVER
        fi;
#endif
        new_timer = NEVER;
        if
        :: goto loop
        :: goto computes
        fi
    :: true
    fi;
    /* wr_idle */
    atomic {
        first = FIRST;
        until[me] = first;
        if
#ifndef BREAK_KEEPER
        :: idle[1 - me] && until[1 - me] <= first -> until[me] = NEVER
#else
        :: idle[1 - me] -> until[me] = NEVER
#endif
        :: else
        fi;
        first = 0;
        new_timer = NEVER;
        idle[me] = true;
        running--
    };
end_asleep:
    if
    :: wake[me]
    :: !wake[me] && until[me] <= now -> timed = true
    fi;
    atomic { wake[me] = false; if :: idle[me] -> idle[me] = false; running++; nudge() :: else fi };
    if
    :: timed -> timed = false; fire()
    :: !timed
    fi;
    goto loop;
computes:
    skip
}
#endif

active proctype locked() {
    bool set;
    if
    :: atomic { !armed[2] -> armed[2] = true; set = true }
    :: true
    fi;
#ifndef BREAK_LOCKED
    if
    :: set -> wake_for_timer(2)
    :: !set
    fi;
#endif
    running--
}

active proctype outsider() {
    if
    :: atomic { !armed[1] -> armed[1] = true };
#ifndef BREAK_TELL
        wake_for_timer(1)
#endif
    :: atomic { !armed[2] -> armed[2] = true };
#ifndef BREAK_TELL
        wake_for_timer(2)
#endif
    :: true
    fi;
    running--
}

active proctype sysmon() {
loop:
    nudged = false;
    if
    :: DUE -> fire()
    :: else
    fi;
end_waits:
    if
    :: DUE -> goto loop /* its period has passed */
    :: atomic { MAY_REST -> rests = true };
end_rests:
        atomic { nudged || !rests -> rests = false };
        goto loop
    fi
}

active proctype clock() {
    do
    :: now < 2 -> now++
    :: now == 2 -> break
    od
}

init {
    timeout;
    assert(!DUE)
}
