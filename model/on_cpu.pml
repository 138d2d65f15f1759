/*
 * Ready before the goroutine has left its stack: take_soon, wr_schedule_away, run and wr_after_switch of src/sched/worker.c,
 * wr_park_until and wr_ready of src/sched/park.c, wr_walk_begin, wr_hold and walk_one of src/sched/goroutine.c.
 *
 * Who is who
 *   thread   a worker with a P: finds a goroutine, runs it, and switches from one to the next without a detour over
 *            its own stack
 *   walker   visits every goroutine, as a dump does
 *
 * A goroutine, each time it runs: may make another one ready that waits; publishes its wait (from here on others may
 * claim it); may make another one ready once more, as weir_cond_wait does when it unlocks the mutex; parks. It does
 * that TURNS times at most.
 *
 * Variables
 *   on_cpu[], state[]   of each goroutine
 *   runs[]              how many threads use its stack right now
 *   waits[]             its wait is published and not claimed
 *   queue[]             each P's queue, runnext for short
 *   walks, hold[]       the walker walks; it wants this one to stay where it is
 *   held                the goroutine that it holds and whose state it found to be WAITING
 *   late[]              on_cpu of this one has been set by the thread, but not in memory yet: until the thread's next fence or store, or
 *                       until the walker has all threads make one (membarrier)
 *
 * Checked: no stack is ever used by two threads; what lies in a queue is RUNNABLE; what the walker holds and finds
 * WAITING stays as it is; no goroutine is left in a queue, and no two threads wait for each other for ever.
 *
 * Left out: how work is found (model/park.pml), who may claim (model/wait.pml), the end of a goroutine.
 *
 * Runs
 *   ok     (as it is)
 *   fails  -DBREAK_TAKE           who resumes does not wait for on_cpu
 *   fails  -DBREAK_TAKE_AT_HOME   wr_schedule_away waits for the next one's stack as long as it takes, on its own
 *   fails  -DBREAK_LEFT_EARLY     on_cpu is cleared before the switch
 *   fails  -DBREAK_STATE          wr_park_until stores WAITING over what a waker has stored
 *   fails  -DBREAK_WALKER         the walker looks at a goroutine without holding it
 *   fails  -DBREAK_FENCE_FOR_ALL  wr_walk_begin has no fence made for all threads
 *   fails  -DBREAK_HOLD           wr_hold looks at on_cpu before it says that it holds
 *   fails  -DBREAK_HELD           who resumes does not ask whether it is held
 *   fails  -DBREAK_HELD_FENCE     who resumes asks without a fence after it has set on_cpu
 */
#define GOROUTINES 2
#define THREADS 2
#define TURNS 2
#define NONE 7

mtype = { RUNNABLE, RUNNING, WAITING };

bool on_cpu[GOROUTINES], waits[GOROUTINES];
mtype state[GOROUTINES] = RUNNABLE;
byte runs[GOROUTINES], turns[GOROUTINES];
chan queue[THREADS] = [GOROUTINES] of { byte };
byte held = NONE, late[THREADS] = NONE;
bool walks, hold[GOROUTINES];

/* Claim another goroutine's wait, and wr_ready. */
inline wake_another(other) {
    if
    :: atomic { other != g && waits[other] -> waits[other] = false };
        state[other] = RUNNABLE;
        queue[me] ! other
    :: true
    fi
}

inline use_stack() { atomic { runs[g]++; assert(runs[g] == 1); assert(held != g) } }
inline switch_away() {
#ifdef BREAK_LEFT_EARLY
    on_cpu[g] = false;
#endif
    runs[g]--
}
/* wr_after_switch: the first thing on the stack that was switched to. */
inline after_switch() {
#ifndef BREAK_LEFT_EARLY
    on_cpu[previous] = false;
#endif
    previous = NONE
}

inline reach_memory(who) {
    atomic {
        if
        :: late[who] != NONE -> on_cpu[late[who]] = true; late[who] = NONE
        :: else
        fi
    }
}

/* take_soon, of one that is on no stack just now. */
inline take(g_, taken) {
    late[me] = g_;
    if
    :: !walks -> taken = true
    :: walks ->
#ifndef BREAK_HELD_FENCE
        reach_memory(me);
#endif
#ifndef BREAK_HELD
        taken = !hold[g_];
#else
        taken = true;
#endif
    fi;
    reach_memory(me); /* before the next store of this thread */
    if
    :: !taken -> on_cpu[g_] = false
    :: taken
    fi
}

inline pick_local(into) {
    if
    :: atomic { queue[me] ? [_] -> queue[me] ? into }
    :: empty(queue[me]) -> into = NONE
    fi
}

proctype thread(byte me) {
    byte g = NONE, next = NONE, previous = NONE;
    bool published, taken;

at_home: /* find_runnable, run */
    if
    :: next == NONE ->
end_idle:
        if
        :: queue[0] ? next
        :: queue[1] ? next
        fi
    :: next != NONE
    fi;
    assert(state[next] == RUNNABLE);
#ifndef BREAK_TAKE
    do
    :: taken -> break
    :: !taken && !on_cpu[next] -> take(next, taken)
    od;
    taken = false;
#else
    on_cpu[next] = true;
#endif
    g = next;
    next = NONE;
    state[g] = RUNNING;

on_goroutine:
    use_stack();
    if
    :: previous != NONE -> after_switch()
    :: previous == NONE
    fi;
again:
    wake_another(1 - g);
    if
    :: turns[g] == TURNS -> goto parks /* for good: nobody knows its wait */
    :: turns[g] < TURNS -> turns[g]++
    fi;
    if
    :: atomic { published = true; state[g] = WAITING } /* wr_wait_publish */
    :: published = false
    fi;
    waits[g] = true;
    wake_another(1 - g);
    if
    :: !published ->
#ifdef BREAK_STATE
        state[g] = WAITING
#else
        atomic {
            if
            :: state[g] == RUNNING -> state[g] = WAITING
            :: else
            fi
        }
#endif
    :: published
    fi;
    published = false;

parks: /* wr_schedule_away */
    pick_local(next);
    if
    :: next == g -> assert(state[g] == RUNNABLE); next = NONE; state[g] = RUNNING; goto again
    :: next == NONE -> goto leaves
    :: next != g && next != NONE
    fi;
    assert(state[next] == RUNNABLE);
#ifdef BREAK_TAKE
    on_cpu[next] = true;
#else
    do
    :: taken -> break
    :: !taken && !on_cpu[next] -> take(next, taken)
#ifndef BREAK_TAKE_AT_HOME
    :: !taken && on_cpu[next] -> goto leaves /* and waits there */
    :: !taken && hold[next] -> goto leaves
#endif
    od;
    taken = false;
#endif
    state[next] = RUNNING;
    switch_away();
    previous = g;
    g = next;
    next = NONE;
    goto on_goroutine;

leaves:
    switch_away();
    previous = g;
    g = NONE;
    after_switch();
    goto at_home
}

active proctype walker() {
    byte g, i;
    bool on;
    walks = true;
#ifndef BREAK_FENCE_FOR_ALL
    do
    :: i < THREADS -> reach_memory(i); i++
    :: i == THREADS -> break
    od;
#endif
    do
    :: g < GOROUTINES ->
#ifdef BREAK_HOLD
        on = on_cpu[g];
        hold[g] = true;
#else
        hold[g] = true;
        on = on_cpu[g];
#endif
#ifdef BREAK_WALKER
        on = false;
#endif
        if
        :: !on ->
            atomic {
                if
                :: state[g] == WAITING -> held = g
                :: else
                fi
            };
            atomic { assert(held != g || runs[g] == 0); held = NONE }
        :: on /* shown as it is */
        fi;
        hold[g] = false;
        g++
    :: g == GOROUTINES -> break
    od;
    walks = false
}

init {
    atomic { queue[0] ! 0; queue[1] ! 1; run thread(0); run thread(1) };
    timeout;
    assert(empty(queue[0]) && empty(queue[1]))
}
