/*
 * Who owns a P: src/sched/inner.h (wr_enter, wr_leave), src/sched/sysmon.c (retake, fence_all_threads),
 * src/sched/park.c (regain_p, weir_yield, weir_blocking), src/sched/idle.c (wr_hand_off).
 *
 * Who is who
 *   thread   runs a goroutine, and with it calls into the runtime ROUNDS times: wr_ready (or anything else that uses
 *            the P if there is one), weir_yield, weir_blocking
 *   sysmon   takes the P away from it, up to RETAKES times; whether the goroutine has had it for too long is left
 *            open, and so is retake_stuck's look at m->busy before it does
 *   other    the thread that gets a P which is handed off, uses it, and gives it up
 *
 * Variables
 *   m_p, busy        the thread's m->p and m->busy
 *   buffer           stores of busy that other threads do not see yet
 *   idle[], other_p  wr_sched.idle_ps; what the other thread owns
 *   lock             sched.lock
 *   users[]          how many threads use a P's queue at this moment
 *   blocking         the thread is in the function that weir_blocking has called
 *
 * Memory. The thread's stores of busy go to its buffer and become visible in their order, at any later time; a fence,
 * and taking or dropping a lock, wait for that, and so does membarrier(2) on the thread's behalf. Without its fence
 * sysmon's store of m->p may become visible after its load of busy.
 *
 * Checked: no P is ever used by two threads, nobody uses the P it has not got, no P is lost, and a thread that knows
 * it will block keeps none.
 *
 * Left out: threads that have no P and wait for one (model/park.pml has them asleep).
 *
 * Runs
 *   ok     (as it is)
 *   ok     -DNO_MEMBARRIER                        the kernel has none: both sides have a fence
 *   fails  -DBREAK_SYSMON_FENCE                   sysmon does without it
 *   fails  -DNO_MEMBARRIER -DBREAK_SYSMON_FENCE
 *   fails  -DNO_MEMBARRIER -DBREAK_THREAD_FENCE   wr_enter does
 *   fails  -DBREAK_NO_BUSY                        sysmon does not look at busy
 *   fails  -DBREAK_LEAVE_EARLY                    the thread leaves before it has done with the P
 *   fails  -DBREAK_REGAIN_LOCK                    regain_p takes an idle P while a retake is half done
 *   fails  -DBREAK_READ_TWICE                     weir_yield reads m->p again after regain_p
 *   fails  -DBREAK_BLOCKING_LOOKS                 weir_blocking gives its P away only if wr_enter has seen one
 */
#define ROUNDS 3
#define RETAKES 2
#define NONE 9

bool lock, busy, blocking;
byte m_p, other_p = NONE;
bool idle[2];
byte users[2];
chan buffer = [4] of { bool };

inline drain() { do :: buffer ? busy :: empty(buffer) -> break od }
inline drain_perhaps() { do :: buffer ? busy :: break od }

inline store_busy(value) { atomic { if :: nfull(buffer) :: full(buffer) -> buffer ? busy fi; buffer ! value } }

inline use(the_p) {
    atomic { assert(the_p != NONE); assert(users[the_p] == 0); users[the_p]++ };
    users[the_p]--
}

/* sched.lock held. To a thread if there is work, else to the idle ones. */
inline hand_off(the_p) {
    if
    :: other_p == NONE -> other_p = the_p
    :: idle[the_p] = true
    fi
}

/* ---- The thread ---------------------------------------------------------------------------------- */

inline enter() {
    store_busy(true);
#if defined(NO_MEMBARRIER) && !defined(BREAK_THREAD_FENCE)
    drain();
#endif
    drain_perhaps();
    p = m_p
}
inline leave() { store_busy(false) }

/* What it returns is in p. */
inline regain_p() {
    p = m_p;
    if
    :: p == NONE ->
        drain();
#ifdef BREAK_REGAIN_LOCK
        atomic {
#else
        atomic {
            !lock;
#endif
            p = m_p;
            if
            :: p == NONE && idle[0] -> p = 0; idle[0] = false
            :: p == NONE && !idle[0] && idle[1] -> p = 1; idle[1] = false
            :: else
            fi;
            m_p = p
        }
    :: p != NONE
    fi
}

proctype thread() {
    byte p, round;
    do
    :: round < ROUNDS ->
        round++;
        enter();
        if
        :: /* wr_ready */
#ifdef BREAK_LEAVE_EARLY
            leave();
            drain_perhaps();
#endif
            if
            :: p != NONE -> use(p)
            :: p == NONE /* into the global queue */
            fi
        :: /* weir_yield */
            regain_p();
            if
            :: p != NONE ->
#ifdef BREAK_READ_TWICE
                p = m_p;
#endif
                use(p)
            :: p == NONE /* wr_requeue_away */
            fi
        :: /* weir_blocking */
#ifdef BREAK_BLOCKING_LOOKS
            if
            :: p == NONE -> goto blocks
            :: p != NONE
            fi;
#endif
            drain();
            atomic {
                !lock;
                p = m_p;
                m_p = NONE;
                if
                :: p != NONE -> hand_off(p)
                :: p == NONE
                fi
            };
blocks:
            leave();
            blocking = true;
            drain_perhaps();
            blocking = false;
            enter();
            regain_p()
        fi;
#ifndef BREAK_LEAVE_EARLY
        leave();
#endif
        drain_perhaps();
        p = 0
    :: round == ROUNDS -> break
    od;
    drain()
}

/* ---- sysmon -------------------------------------------------------------------------------------- */

proctype sysmon() {
    byte p, retakes;
    bool was_busy;
    do
    :: retakes < RETAKES ->
        retakes++;
        atomic { !lock -> lock = true };
        p = m_p;
        if
        :: p != NONE ->
#ifdef BREAK_SYSMON_FENCE
            if
            :: m_p = NONE; was_busy = busy
            :: was_busy = busy; m_p = NONE
            fi;
#else
            m_p = NONE;
#ifndef NO_MEMBARRIER
            do :: buffer ? busy :: empty(buffer) -> break od;
#endif
            was_busy = busy;
#endif
#ifdef BREAK_NO_BUSY
            was_busy = false;
#endif
            if
            :: was_busy -> m_p = p
            :: !was_busy -> hand_off(p)
            fi
        :: p == NONE
        fi;
        atomic { lock = false; assert(!blocking || m_p == NONE); p = 0; was_busy = false }
    :: retakes == RETAKES -> break
    od
}

/* ---- Another thread ------------------------------------------------------------------------------ */

proctype other() {
    byte p;
end:
    do
    :: other_p != NONE ->
        p = other_p;
        use(p);
        atomic { !lock -> idle[p] = true; other_p = NONE; p = 0 }
    od
}

init {
    atomic { idle[1] = true; run thread(); run sysmon(); run other() };
    timeout;
    assert((m_p == 0) + (other_p == 0) + idle[0] == 1);
    assert((m_p == 1) + (other_p == 1) + idle[1] == 1)
}
