/*
 * The short lock: wr_lock, wr_unlock of src/base/lock.h, wr_lock_slow of src/base/lock.c. Nobody sleeps until woken,
 * so no wake-up can be lost; what is left is that the lock excludes, and that what was written under it is seen under
 * it.
 *
 * Who is who
 *   thread   takes the lock, reads and writes `data`, lets it go, TURNS times
 *
 * Variables
 *   word          wr_lock.word
 *   data          what the lock guards: how often it was taken
 *   late_data, late_unlock   stores of the thread that the others do not see yet
 *   inside        how many threads are between lock and unlock
 *
 * Memory. Stores become visible late. The unlock is a release: not before what was written earlier. The
 * compare-and-swap that takes the lock waits until the thread's own stores are visible.
 *
 * Checked: never two inside, no write is lost, everybody gets in.
 *
 * Left out: how long it takes (pause, yield, sleep), ranks.
 *
 * Runs
 *   ok     (as it is)
 *   fails  -DBREAK_SWAP       taking the lock is a load and a store
 *   fails  -DBREAK_RELEASE    the unlock may be seen before what was written under the lock
 *   fails  -DBREAK_UNLOCK     no unlock
 */
#define THREADS 3
#define TURNS 2

bool word;
byte data, inside;

inline drain_one() {
    if
    :: late_data -> atomic { data = mine; late_data = false }
#ifndef BREAK_RELEASE
    :: late_unlock && !late_data -> atomic { word = false; late_unlock = false }
#else
    :: late_unlock -> atomic { word = false; late_unlock = false }
#endif
    fi
}
inline drain() { do :: late_data || late_unlock -> drain_one() :: !late_data && !late_unlock -> break od }

active [THREADS] proctype thread() {
    byte mine, turn;
    bool late_data, late_unlock, seen;
    do
    :: turn < TURNS ->
        turn++;
        drain();
#ifdef BREAK_SWAP
        !word;
        word = true;
#else
        atomic { !word -> word = true };
#endif
        atomic { inside++; assert(inside == 1) };
        atomic { mine = data + 1; late_data = true };
        inside--;
#ifndef BREAK_UNLOCK
        late_unlock = true;
#endif
        do
        :: late_data || late_unlock -> drain_one()
        :: break
        od
    :: turn == TURNS -> break
    od;
    drain()
}

init {
    timeout;
    assert(data == THREADS * TURNS && !word)
}
