/*
 * Publishing work and going idle: src/sched/worker.c (wr_wake_worker, wr_start_m, find_runnable, stop_spinning, idle) and
 * src/sched/runq.c (wr_next_push, wr_ring_push, wr_global_push, wr_steal).
 *
 * Who is who
 *   owner     a thread that runs a goroutine on a P of its own, makes PUSHES goroutines ready there (wr_ready: the new one into
 *             runnext, the one that was in it into the ring), and then computes for good: it never comes back for them
 *   foreign   a thread without a P: puts one goroutine into the global queue
 *   worker    everybody else. The first NP - 1 start with a P each and look for work; the others sleep, as threads do that were
 *             made while somebody blocked. A goroutine that is found ends at once, or computes for good and keeps the P
 *
 * Variables
 *   next, ring, global       runnext and ring of the owner's P, the global queue: how many goroutines are in it. All other Ps'
 *                            queues are empty in this model, so that they are not there
 *   idle_ps, n_idle          wr_sched.idle_ps, how long the list is, and wr_sched.n_idle_ps, what others see of that. Which Ps are in
 *                            it does not matter, as their queues are empty
 *   spinning                 wr_sched.spinning
 *   m_idle[], wake[]         wr_sched.idle_ms, m->wake; m_spins[] is m->spinning
 *   lock                     sched.lock. A region under it in which at most one thing is changed that others read without it is one step
 *
 * Memory. spin's is sequentially consistent, the machines' is not: a store may become visible only after later loads of the same
 * thread were done. Where that matters the stores go to a buffer of the thread's own (late_…) and leave it in their order,
 * sooner or later; a fence, a compare-and-swap and taking a lock wait until it is empty. The relaxed read-modify-writes of n_idle_ps
 * count as such stores: on aarch64 later loads may pass them.
 *
 * Checked: when nothing moves any more, no goroutine lies in a queue while a P is idle; and the counts are right: Ps, spinners.
 *
 * Left out: timers (model/timer.pml), threads tied to a goroutine, sysmon (model/retake.pml), a change of the number of Ps, threads that
 * cannot be made, and goroutines that a batch moves from one queue to another.
 *
 * Breaks: BREAK_PUBLISH_FENCE   pushing is a plain store
 *         BREAK_KICK_FENCE      no fence after the goroutine that was in runnext has gone into the ring
 *         BREAK_IDLE_FENCE      find_runnable looks again without a fence
 *         BREAK_LOOK_AGAIN      it does not look again
 *         BREAK_LAST_SPINNER    the last spinner that finds work does not wake another
 */
#define NP 3
#define NM 5 /* as many workers as can be awake at once; asserted */
#define PUSHES 2

bool lock, next;
byte ring, global, idle_ps, n_idle, spinning;
bool m_idle[NM], m_spins[NM], wake[NM];

/* ---- The thread's store buffer: what is in it, oldest first -------------------------------------- */

#define EMPTY (!late_ring && !late_idle && !late_spinning)
inline drain_one() {
    if
    :: late_ring -> d_step { ring++; late_ring = false }
    :: late_idle -> d_step { n_idle++; lock = false; late_idle = false }
    :: !late_idle && late_spinning -> d_step { spinning--; late_spinning = false }
    fi
}
inline drain_perhaps() { do :: !EMPTY -> drain_one() :: break od; skip }
inline fence() { do :: !EMPTY -> drain_one() :: EMPTY -> break od; skip }

/* ---- wr_wake_worker, wr_start_m ------------------------------------------------------------------ */

inline wake_worker() {
    drain_perhaps();
    if
    :: n_idle > 0 ->
        drain_perhaps();
        if
        :: spinning == 0 ->
            fence();
            if
            :: atomic { spinning == 0 -> spinning = 1 };
                atomic {
                    !lock;
                    if
                    :: idle_ps > 0 ->
                        idle_ps--; n_idle--;
                        m = 0;
                        do
                        :: m < NM && !m_idle[m] -> m++
                        :: else -> break
                        od;
                        assert(m < NM);
                        m_idle[m] = false; m_spins[m] = true; wake[m] = true; m = 0
                    :: else -> spinning--
                    fi
                }
            :: spinning > 0
            fi
        :: spinning > 0
        fi
    :: n_idle == 0
    fi
}

/* ---- Publishers ---------------------------------------------------------------------------------- */

active proctype owner() {
    byte m, pushed;
    bool kicked, late_ring, late_idle, late_spinning;
    do
    :: pushed < PUSHES ->
#ifdef BREAK_PUBLISH_FENCE
        fence();
        late_ring = true;
#else
        d_step { kicked = next; next = true };
        if
        :: kicked ->
            d_step { kicked = false; late_ring = true };
#ifndef BREAK_KICK_FENCE
            fence()
#endif
        :: !kicked
        fi;
#endif
        wake_worker();
        pushed++
    :: pushed == PUSHES -> break
    od;
    fence()
}

active proctype foreign() {
    byte m;
    bool late_ring, late_idle, late_spinning;
    atomic { !lock -> global++ };
    wake_worker()
}

/* ---- Workers ------------------------------------------------------------------------------------- */

inline take_p() { atomic { !lock -> if :: idle_ps > 0 -> idle_ps--; n_idle--; has_p = true :: else fi } }

proctype worker(byte me; bool has_p) {
    byte m;
    bool found, last, late_ring, late_idle, late_spinning;

    if
    :: !has_p -> goto asleep
    :: has_p
    fi;

find:
    if
    :: !has_p ->
        take_p();
        if
        :: !has_p -> assert(!m_spins[me]); goto idle
        :: has_p
        fi
    :: has_p
    fi;
    if
    :: global > 0 ->
        atomic { !lock -> if :: global > 0 -> global--; found = true :: else fi }
    :: global == 0
    fi;
    if
    :: !found && !m_spins[me] ->
        last = (2 * spinning < NP - n_idle);
        if
        :: last -> atomic { last = false; m_spins[me] = true; spinning++ }
        :: !last
        fi
    :: else
    fi;
    if
    :: !found && m_spins[me] ->
        atomic { if :: ring > 0 -> ring--; found = true :: else fi };
        if
        :: !found -> atomic { if :: next -> next = false; found = true :: else fi }
        :: found
        fi
    :: else
    fi;
    if
    :: found ->
        found = false;
        if
        :: m_spins[me] ->
            atomic { m_spins[me] = false; last = (spinning == 1); spinning-- };
#ifndef BREAK_LAST_SPINNER
            if
            :: last -> last = false; wake_worker()
            :: !last
            fi
#else
            last = false
#endif
        :: !m_spins[me]
        fi;
        if
        :: goto find /* it has ended */
        :: goto computes
        fi
    :: !found
    fi;

    /* Nothing: give the P up, then look again. */
    atomic {
        !lock;
        if
        :: global > 0 -> goto find
        :: else -> lock = true; idle_ps++; has_p = false; late_idle = true /* and the unlock after it */
        fi
    };
    if
    :: m_spins[me] -> atomic { m_spins[me] = false; late_spinning = true }
    :: !m_spins[me]
    fi;
#ifndef BREAK_IDLE_FENCE
    fence();
#endif
#ifndef BREAK_LOOK_AGAIN
    drain_perhaps();
    found = (ring > 0);
    if
    :: !found -> drain_perhaps(); found = next
    :: found
    fi;
    if
    :: !found -> drain_perhaps(); found = (global > 0)
    :: found
    fi;
    if
    :: found ->
        found = false;
        fence();
        take_p();
        if
        :: has_p -> atomic { m_spins[me] = true; spinning++ }; goto find
        :: !has_p
        fi
    :: !found
    fi;
#endif

idle:
    fence();
    atomic {
        !lock;
        if
        :: global > 0 && idle_ps > 0 -> goto find
        :: else -> m_idle[me] = true
        fi
    };
asleep:
end_asleep:
    atomic { wake[me] -> wake[me] = false; has_p = true };
    goto find;

computes:
    skip
}

init {
    byte i;
    atomic {
        do
        :: i < NM -> m_idle[i] = (i >= NP - 1); run worker(i, i < NP - 1); i++
        :: else -> break
        od
    }
    timeout;
    assert(spinning == 0);
    assert(n_idle == idle_ps);
    assert(idle_ps == 0 || global + ring + next == 0)
}
