/*
 * Who ends a wait: the record and the claim of src/sched/sched.h, wr_park_until and wr_cancel_fire of
 * src/sched/park.c, the in_lock timers of src/sched/timer.c, and the waiters of src/chan/chan.c and
 * src/chan/select.c.
 *
 * Who is who
 *   waiter      a select over two receive arms, under a context that can end, with a timeout. With -DPLAIN_RECV
 *               weir_chan_recv on channel 0 alone, without a timeout
 *   sender      one for each channel: sends one element, which a waiting receiver gets, else the channel's buffer; or
 *               none
 *   canceller   ends the context, at any time
 *   timer       whoever runs the timers, at any time
 *
 * Variables
 *   decided          wr_wait.decided: 0; OF(channel); TIMED; CANCELLED
 *   node[]           where the node is that lies in the waiter's frame: OFF every list, in the channel's QUEUE, or in
 *                    its list `leaving`
 *   got[]            elements that were copied into the waiter's frame; buffered[] those in the channel's ring
 *   linked           wr_wait.in_cancel is in the context's list; told is wr_wait.cancelled; ended is wr_cancel.err
 *   armed, in_heap   the timer's heap word; whether it lies in the heap
 *   alive            the frame with the record and the nodes: every access asserts it
 *   readied          how often wr_ready was called for the waiter; woken: it runs again
 *   channel[], context, heap   the locks
 *
 * Checked: the waiter always comes back, is made ready exactly once and by who has won, and says truly what happened;
 * no element is lost or there twice; nobody touches the frame once it is gone.
 *
 * Left out: what happens between ready and running (model/on_cpu.pml), close (it claims as a sender does), several
 * waiters in one queue.
 *
 * Runs
 *   ok     (as it is)
 *   ok     -DPLAIN_RECV
 *   fails  -DBREAK_CLAIM           the claim is a load and a store
 *   fails  -DBREAK_LOSER_READIES   a sender makes the waiter ready though it has not won the claim
 *   fails  -DBREAK_LOSER_TOUCHES   a sender looks at the node again after it has dropped the channel's lock
 *   fails  -DBREAK_OWN_CLAIM       the waiter finds its context ended and goes, though another has won the claim
 *   fails  -DBREAK_CANCEL_LOCK     it goes without the canceller's lock, as it is not in the list any more
 *   fails  -DBREAK_TOLD_EARLY      the canceller says that it was him before he has won
 *   fails  -DBREAK_TIMER_DEL       it goes without wr_timer_del
 *   fails  -DBREAK_HEAP_WORD       wr_timers_run clears the heap word before it fires
 *   fails  -DBREAK_CHANNEL_LOCK    it goes without the channel's lock, as its node is not in the queue any more
 *   fails  -DBREAK_QUEUED_LATE     it queues its nodes after it has dropped the locks under which it looked
 *   fails  -DPLAIN_RECV -DBREAK_LOOK_ONCE    wr_park does not look again, with the lock, whether the context has ended
 */
#ifdef PLAIN_RECV
#define CHANNELS 1
#else
#define CHANNELS 2
#endif
#define OF(c) (1 + c)
#define TIMED 8
#define CANCELLED 9
#define NO_ARM 7

mtype = { OFF, QUEUE, LEAVING };

bool alive, woken, linked, told, ended, armed, in_heap;
byte decided, readied, winner;
mtype node[2] = OFF;
bool got[2], buffered[2], sent[2];
bool channel[2], context, heap;

inline lock(l) { atomic { !l -> l = true } }
inline unlock(l) { l = false }
inline touch() { assert(alive) }

inline claim(code) {
#ifdef BREAK_CLAIM
    touch();
    won = (decided == 0);
    if
    :: won -> decided = code
    :: !won
    fi
#else
    atomic {
        touch();
        won = (decided == 0);
        if
        :: won -> decided = code
        :: !won
        fi
    }
#endif
}
inline ready(code) {
    atomic { assert(readied == 0); readied++; winner = code; woken = true }
}

/* ---- The waiter ---------------------------------------------------------------------------------- */

inline lock_all() {
    lock(channel[0]);
#ifndef PLAIN_RECV
    lock(channel[1])
#endif
}
inline unlock_all() {
    unlock(channel[0]);
#ifndef PLAIN_RECV
    unlock(channel[1])
#endif
}
/* With the locks held; the arm that went, or none. */
inline try_arms() {
    arm = NO_ARM;
    if
    :: buffered[0] -> arm = 0
    :: CHANNELS > 1 && buffered[1] -> arm = 1
    :: !buffered[0] && !buffered[1]
    fi;
    if
    :: arm != NO_ARM -> assert(!got[arm]); buffered[arm] = false; got[arm] = true
    :: arm == NO_ARM
    fi
}

inline leave(c) {
#ifdef BREAK_CHANNEL_LOCK
    if
    :: node[c] != QUEUE -> node[c] = OFF
    :: node[c] == QUEUE ->
        lock(channel[c]);
        node[c] = OFF;
        unlock(channel[c])
    fi
#else
    lock(channel[c]);
    assert(node[c] != OFF);
    node[c] = OFF;
    unlock(channel[c])
#endif
}

inline park_until() {
    listed = false;
    if
    :: ended -> mine = true
    :: !ended ->
#ifdef BREAK_LOOK_ONCE
        mine = false;
#endif
        lock(context);
#ifndef BREAK_LOOK_ONCE
        mine = ended;
#endif
        linked = !mine;
        listed = !mine;
        unlock(context)
    fi;
    if
    :: mine ->
        claim(CANCELLED);
#ifndef BREAK_OWN_CLAIM
        mine = won
#endif
    :: !mine
    fi;
#ifndef PLAIN_RECV
    if
    :: !mine -> lock(heap); atomic { armed = true; in_heap = true }; unlock(heap)
    :: mine
    fi;
#endif
    if
    :: !mine -> woken; woken = false
    :: mine
    fi;
#if !defined(PLAIN_RECV) && !defined(BREAK_TIMER_DEL)
    do
    :: armed ->
        lock(heap);
        if
        :: armed -> armed = false; in_heap = false
        :: !armed
        fi;
        unlock(heap)
    :: !armed -> break
    od;
#endif
#ifdef BREAK_CANCEL_LOCK
    if
    :: linked -> lock(context); linked = false; unlock(context)
    :: !linked
    fi
#else
    if
    :: listed && !told -> lock(context); linked = false; unlock(context)
    :: else
    fi
#endif
}

active proctype waiter() {
    byte arm, why;
    bool won, mine, listed;
    lock_all();
    try_arms();
    if
    :: arm != NO_ARM -> unlock_all(); why = OF(arm); goto done
    :: arm == NO_ARM
    fi;
    alive = true;
#ifdef BREAK_QUEUED_LATE
    unlock_all();
    lock_all();
#endif
    assert(!buffered[0] && !buffered[1]);
    node[0] = QUEUE;
#ifndef PLAIN_RECV
    node[1] = QUEUE;
#endif
    unlock_all();
    park_until();
    why = decided;
    if
    :: why == CANCELLED ->
#ifndef PLAIN_RECV
        lock_all();
        try_arms();
        unlock_all();
#else
        arm = NO_ARM;
#endif
        leave(0);
#ifndef PLAIN_RECV
        leave(1);
#endif
        if
        :: arm != NO_ARM -> why = OF(arm)
        :: arm == NO_ARM
        fi
    :: why != CANCELLED ->
        if
        :: why != OF(0) -> leave(0)
        :: why == OF(0)
        fi;
#ifndef PLAIN_RECV
        if
        :: why != OF(1) -> leave(1)
        :: why == OF(1)
        fi
#endif
    fi;
    alive = false;
done:
    assert(got[0] == (why == OF(0)));
    assert(got[1] == (why == OF(1)));
    assert(why == OF(0) || why == OF(1) || why == TIMED || why == CANCELLED);
    assert(readied == 0 || winner == decided)
}

/* ---- Those who end it ---------------------------------------------------------------------------- */

active [CHANNELS] proctype sender() {
    byte c = _pid - 1;
    bool won, queued;
    if
    :: goto done
    :: true
    fi;
    lock(channel[c]);
    queued = (node[c] == QUEUE);
    if
    :: queued -> /* claim_first */
        touch();
        node[c] = OFF;
        claim(OF(c));
        if
        :: won -> touch(); assert(!got[c]); got[c] = true
        :: !won -> touch(); node[c] = LEAVING
        fi
    :: !queued
    fi;
    if
    :: !won -> buffered[c] = true
    :: won
    fi;
    sent[c] = true;
    unlock(channel[c]);
#ifdef BREAK_LOSER_READIES
    won = queued;
#endif
#ifdef BREAK_LOSER_TOUCHES
    if
    :: queued && !won -> touch()
    :: else
    fi;
#endif
    if
    :: won -> ready(OF(c))
    :: !won
    fi;
done:
    skip
}

active proctype canceller() {
    bool won;
    lock(context);
    ended = true;
    if
    :: linked ->
        linked = false;
        touch();
#ifdef BREAK_TOLD_EARLY
        told = true;
#endif
        claim(CANCELLED);
        if
        :: won -> touch(); told = true; ready(CANCELLED) /* under the lock, or after it */
        :: !won
        fi
    :: !linked
    fi;
    unlock(context)
}

#ifndef PLAIN_RECV
active proctype timer() {
    bool won;
end:
    atomic { in_heap -> in_heap };
    lock(heap);
    if
    :: in_heap ->
        touch();
        in_heap = false;
#ifdef BREAK_HEAP_WORD
        armed = false;
#endif
        claim(TIMED);
        if
        :: won -> touch(); ready(TIMED)
        :: !won
        fi;
        touch();
        armed = false
    :: !in_heap
    fi;
    unlock(heap)
}
#endif

init {
    timeout;
    assert(buffered[0] + got[0] == sent[0]);
    assert(buffered[1] + got[1] == sent[1]);
    assert(node[0] == OFF && node[1] == OFF && !linked && !in_heap && !alive)
}
