/*
 * Publishing work and going idle: find_runnable and stop_spinning of src/sched/worker.c, wr_wake_worker, wr_start_m,
 * wr_hand_off and wr_idle of src/sched/idle.c, wr_next_push, wr_ring_push and wr_global_push of src/sched/runq.c.
 *
 * Who is who
 *   owner     a thread that runs a goroutine on a P of its own, makes PUSHES goroutines ready there (wr_ready: the
 *             new one into runnext, the one that was in it into the ring), and then computes for good: it never comes
 *             back for them
 *   foreign   with -DFOREIGN. A thread without a P: puts one goroutine into the global queue
 *   worker    everybody else. The first two run a goroutine each, on a P each; the others sleep, as threads do that
 *             were made while somebody blocked. A goroutine that is run ends at once, or computes for good and keeps
 *             the P, or blocks for good, and its P is handed off
 *
 * Variables
 *   next, ring, global       runnext and ring of the owner's P, the global queue: how many goroutines are in it. All
 *                            other Ps' queues are empty in this model, so they are not there
 *   idle_ps, n_idle          how long the list wr_sched.idle_ps is, and wr_sched.n_idle_ps, what others see of that
 *   spinning, spins          wr_sched.spinning, m->spinning
 *   m_idle[], wake[]         wr_sched.idle_ms, m->wake
 *   lock                     sched.lock. A region under it in which only one thing is changed that others read
 *                            without it is one step
 *
 * Memory. spin's is sequentially consistent, the machines' is not: a store may become visible only after later loads
 * of the same thread were done. Where that matters the stores go to a buffer of the thread's own (late_…) and leave
 * it in their order, sooner or later; a fence, a compare-and-swap and taking a lock wait until it is empty. The
 * relaxed read-modify-writes of n_idle_ps count as such stores: on aarch64 later loads may pass them.
 *
 * A thread that looks for work looks at all queues in one step; when it looks again, after it has given its P up, it
 * reads one after the other.
 *
 * Checked: when nothing moves any more, no goroutine lies in a queue while a P is idle; and the counts are right.
 *
 * Left out: timers (model/timer.pml), threads tied to a goroutine, sysmon (model/retake.pml), a change of the number
 * of Ps, threads that cannot be made, and goroutines that a batch moves from one queue to another.
 *
 * Runs
 *   ok     -DPUSHES=2
 *   ok     -DPUSHES=1 -DFOREIGN
 *   fails  -DPUSHES=1 -DBREAK_PUBLISH_FENCE   pushing is a plain store
 *   fails  -DPUSHES=2 -DBREAK_KICK_FENCE      no fence after the goroutine that was in runnext has gone into the ring
 *   fails  -DPUSHES=2 -DBREAK_IDLE_FENCE      find_runnable looks again without a fence
 *   fails  -DPUSHES=1 -DBREAK_LOOK_AGAIN      it does not look again
 *   fails  -DPUSHES=2 -DBREAK_LAST_SPINNER    the last spinner that finds work does not wake another
 *   fails  -DPUSHES=1 -DBREAK_HAND_OFF        wr_hand_off does not look again after it has put the P to the idle ones
 */
#define NP 3
/* Workers: as many as can be awake at once. Who would make one more waits, as if he had to wait for sched.lock. */
#define NM 3
#define SOMEBODY_SLEEPS (m_idle[0] || m_idle[1] || m_idle[2])

bool lock, next;
byte ring, global, idle_ps, n_idle, spinning;
bool m_idle[NM], wake[NM];

/* ---- The thread's store buffer: what is in it, oldest first -------------------------------------- */

#define EMPTY (!late_ring && !late_idle && !late_spinning)
inline drain_one() {
    if
    :: late_ring -> atomic { ring++; late_ring = false }
    :: late_idle -> atomic { n_idle++; lock = false; late_idle = false }
    :: !late_idle && late_spinning -> atomic { spinning--; late_spinning = false }
    fi
}
inline drain_perhaps() {
    if
    :: EMPTY
    :: !EMPTY -> do :: !EMPTY -> drain_one() :: break od
    fi
}
inline fence() { do :: !EMPTY -> drain_one() :: EMPTY -> break od }

/* ---- wr_wake_worker, wr_start_m ------------------------------------------------------------------ */

inline wake_worker() {
    drain_perhaps();
    if
    :: n_idle > 0 ->
        drain_perhaps();
        if
        :: spinning == 0 && !EMPTY -> fence()
        :: spinning > 0 || EMPTY
        fi;
        if
        :: atomic { spinning == 0 -> spinning = 1 };
            atomic {
                !lock && (idle_ps == 0 || SOMEBODY_SLEEPS);
                if
                :: idle_ps > 0 ->
                    idle_ps--; n_idle--;
                    do
                    :: !m_idle[m] -> m++
                    :: m_idle[m] -> break
                    od;
                    m_idle[m] = false; wake[m] = true; m = 0
                :: else -> spinning--
                fi
            }
        :: spinning > 0
        fi
    :: n_idle == 0
    fi
}

/* ---- Publishers ---------------------------------------------------------------------------------- */

active proctype owner() {
    byte m, pushed;
    bool late_ring, late_idle, late_spinning;
    do
    :: pushed < PUSHES ->
#ifdef BREAK_PUBLISH_FENCE
        fence();
        late_ring = true;
#else
        atomic { late_ring = next; next = true };
#ifndef BREAK_KICK_FENCE
        fence();
#endif
#endif
        wake_worker();
        pushed++
    :: pushed == PUSHES -> break
    od;
    fence()
}

#ifdef FOREIGN
active proctype foreign() {
    byte m;
    bool late_ring, late_idle, late_spinning;
    atomic { !lock -> global++ };
    wake_worker()
}
#endif

/* ---- Workers ------------------------------------------------------------------------------------- */

proctype worker(byte me) {
    byte m;
    bool spins, found, last, late_ring, late_idle, late_spinning;

    if
    :: me > 1 -> goto asleep
    :: else -> goto runs
    fi;

find:
    atomic {
        if
        :: !spins && 2 * spinning < NP - n_idle -> spins = true; spinning++
        :: !spins -> skip /* who is alone at work does not; here, any may choose so */
        :: else
        fi
    };
    atomic {
        if
        :: !lock && global > 0 -> global--; found = true
        :: else ->
            if
            :: spins && ring > 0 -> ring--; found = true
            :: spins && ring == 0 && next -> next = false; found = true
            :: else
            fi
        fi
    };
    if
    :: found ->
        found = false;
        if
        :: spins ->
            atomic { spins = false; last = (spinning == 1); spinning-- };
#ifndef BREAK_LAST_SPINNER
            if
            :: last -> last = false; wake_worker()
            :: !last
            fi
#else
            last = false
#endif
        :: !spins
        fi;
runs:
        if
        :: goto find /* it has ended */
        :: goto computes
        :: goto blocks
        fi
    :: !found
    fi;

    /* Nothing: give the P up (and unlock, in late_idle), then look again. */
    atomic {
        !lock;
        if
        :: global > 0 -> goto find
        :: else -> lock = true; idle_ps++; late_idle = true; late_spinning = spins; spins = false
        fi
    };
#ifndef BREAK_IDLE_FENCE
    fence();
#endif
#ifndef BREAK_LOOK_AGAIN
    drain_perhaps();
    if
    :: ring > 0 -> goto seen
    :: ring == 0
    fi;
    drain_perhaps();
    if
    :: next -> goto seen
    :: !next
    fi;
    drain_perhaps();
    if
    :: global > 0 -> goto seen
    :: global == 0
    fi;
    goto idle;
seen:
    fence();
    atomic {
        !lock;
        if
        :: idle_ps > 0 -> idle_ps--; n_idle--
        :: else -> goto idle
        fi
    };
    atomic { spins = true; spinning++ };
    goto find;
#endif

idle:
    fence();
    atomic {
        !lock;
        if
        :: global > 0 && idle_ps > 0 -> idle_ps--; n_idle--; goto find
        :: else -> m_idle[me] = true
        fi
    };
asleep:
end_asleep:
    atomic { wake[me] -> wake[me] = false; spins = true };
    goto find;

blocks: /* its place is another thread's from here on: one that looks for work with that P, or one that sleeps */
    atomic { !lock -> lock = true };
    if
    :: ring > 0 || next || global > 0 -> lock = false; goto find
    :: else
    fi;
    atomic { idle_ps++; n_idle++ };
#ifndef BREAK_HAND_OFF
    if
    :: ring > 0 -> goto back
    :: ring == 0
    fi;
    if
    :: next -> goto back
    :: !next
    fi;
#endif
    atomic { lock = false; m_idle[me] = true };
    goto asleep;
#ifndef BREAK_HAND_OFF
back:
    atomic { idle_ps--; n_idle--; lock = false };
    goto find;
#endif

computes:
    skip
}

init {
    byte i;
    atomic {
        do
        :: i < NM -> m_idle[i] = (i > 1); run worker(i); i++
        :: else -> break
        od
    }
    timeout;
    assert(spinning == 0);
    assert(n_idle == idle_ps);
    assert(idle_ps == 0 || global + ring + next == 0)
}
