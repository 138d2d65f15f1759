/*
 * The ring of a P, from which thieves take the oldest while its owner takes now the oldest, now the newest: wr_ring_push, wr_ring_pop and
 * wr_steal of src/sched/runq.c.
 *
 * Who is who
 *   owner   pushes ITEMS, and takes one now and then, from either end; and in the end all that are left
 *   thief   takes half of what it sees, rounded up, STEALS times; there are two
 *
 * Variables head, turn   the two halves of p->head, changed together tail         p->tail slot[]       the ring. It is as long as there are
 * items, so that no slot is written twice: that the owner overwrites nothing that is still wanted is seen to by `tail - head < WR_RING`,
 * which is read with acquire, and is not in this model taken[]      how often each item was taken
 *
 * Memory. The owner's stores of tail, and to slots, go to a buffer, and leave it in their order (store-release); a compare-and-swap waits
 * until it is empty. Thieves read head, and then tail (load-acquire), one after the other.
 *
 * Checked: nothing is taken twice, nothing that was not there, and nothing is lost.
 *
 * Runs
 *   ok     (as it is)
 *   fails  -DBREAK_TURN        the owner takes the newest without changing head
 *   fails  -DBREAK_ORDER       it takes tail back after it has changed head
 *   fails  -DBREAK_RESTORE     it does not put tail back where that fails
 */
#define ITEMS 4
#define STEALS 2
#define NONE 15

byte head, turn, tail, slot[ITEMS] = NONE, taken[ITEMS];
byte late_tail = NONE; /* the owner's buffer: one store of tail is enough, as each is followed by what empties it, or by a later one */
bool stealing[2];

inline drain() {
    atomic {
        if
        :: late_tail != NONE -> tail = late_tail; late_tail = NONE
        :: else
        fi
    }
}
inline drain_perhaps() {
    if
    :: drain()
    :: true
    fi
}

inline take(item) {
    atomic {
        assert(item != NONE);
        taken[item]++;
        assert(taken[item] == 1)
    }
}

/* The owner's, who knows where tail is: `mine`. */
inline pop_oldest() {
    h = head; t = turn;
    if
    :: h == mine
    :: h != mine ->
        item = slot[h];
        drain();
        atomic {
            if
            :: head == h && turn == t -> head = h + 1
            :: else -> item = NONE
            fi
        };
        if
        :: item != NONE -> take(item)
        :: item == NONE
        fi
    fi
}

inline pop_newest() {
    h = head; t = turn;
    if
    :: h == mine
    :: h != mine && mine - h == 1 /* it is the oldest, too, and is taken as that */
    :: h != mine && mine - h > 1 ->
#ifndef BREAK_ORDER
        late_tail = mine - 1;
        drain_perhaps();
#endif
#ifndef BREAK_TURN
        drain(); /* the compare-and-swap */
        atomic {
            if
            :: head == h && turn == t -> turn++; item = slot[mine - 1]
            :: else -> item = NONE
            fi
        };
#else
        item = slot[mine - 1];
#endif
#ifdef BREAK_ORDER
        if
        :: item != NONE -> late_tail = mine - 1
        :: item == NONE
        fi;
        drain_perhaps();
#endif
        if
        :: item != NONE -> mine--; take(item)
        :: item == NONE ->
#if defined(BREAK_RESTORE)
            mine--;
#elif !defined(BREAK_ORDER)
            late_tail = mine;
#endif
            drain_perhaps()
        fi
    fi
}

active proctype owner() {
    byte h, t, mine, item = NONE, pushed;
    do
    :: pushed < ITEMS && mine < ITEMS ->
        slot[mine] = pushed; /* the buffer of tail keeps them in order */
        mine++;
        pushed++;
        late_tail = mine;
        drain_perhaps()
    :: pop_oldest(); item = NONE
    :: pop_newest(); item = NONE
    :: pushed == ITEMS || mine == ITEMS -> break
    od;
    drain();
    (!stealing[0] && !stealing[1]);
    do
    :: head == mine -> break
    :: head != mine -> pop_oldest(); item = NONE
    od;
    atomic {
        h = 0;
        do
        :: h < pushed -> assert(taken[h] == 1); h++
        :: else -> break
        od
    }
}

proctype thief(byte me) {
    byte h, t, n, i, steals;
    do
    :: steals < STEALS ->
        steals++;
        atomic { h = head; t = turn };
        n = tail;
        if
        :: n > h ->
            n = n - h;
            n = n - n / 2;
            /* A slot that the owner writes meanwhile is not of these, or the swap fails: they are read at once. */
            atomic {
                if
                :: head == h && turn == t ->
                    head = h + n;
                    i = 0;
                    do
                    :: i < n -> assert(slot[h + i] != NONE); taken[slot[h + i]]++; assert(taken[slot[h + i]] == 1); i++
                    :: else -> break
                    od
                :: else
                fi
            }
        :: else
        fi
    :: steals == STEALS -> break
    od;
    stealing[me] = false
}

init {
    atomic { stealing[0] = true; stealing[1] = true; run thief(0); run thief(1) }
}
