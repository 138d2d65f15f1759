/*
 * Timers: a 4-ary heap for each P, one more for threads without. A timer stays in the heap where it was armed;
 * whoever runs the scheduler may fire it: the owner of the P between goroutines, an idle thread that slept until then, sysmon's
 * rescue. The heap's lock guards the heap and the fields of the timers in it; `first` alone is read without. The times lie in the heap
 * itself: to compare them must not mean to fetch timers, of which there may be many. A timer that is moved to a later time stays where it
 * is, and goes to its place when its old time comes: a limit that is put off again and again, as with each request, costs two words.
 */
#include "sched/inner.h"

#include <stdlib.h>

static void place(struct wr_timers *t, uint32_t i, struct wr_due due) {
    t->heap[i] = due;
    due.timer->index = i;
}
static void sift_up(struct wr_timers *t, uint32_t i, struct wr_due due) {
    for (uint32_t up; i > 0; i = up) {
        up = (i - 1) / 4;
        if (t->heap[up].when <= due.when) break;
        place(t, i, t->heap[up]);
    }
    place(t, i, due);
}
static void sift_down(struct wr_timers *t, uint32_t i, struct wr_due due) {
    for (;;) {
        uint32_t child = 4 * i + 1, least = child;
        if (child >= t->n) break;
        for (uint32_t c = child + 1; c < child + 4 && c < t->n; c++)
            if (t->heap[c].when < t->heap[least].when) least = c;
        if (t->heap[least].when >= due.when) break;
        place(t, i, t->heap[least]);
        i = least;
    }
    place(t, i, due);
}
static void publish_first(struct wr_timers *t) {
    atomic_store_explicit(&t->first, t->n ? t->heap[0].when : WR_NEVER, memory_order_release);
}
static void take_out(struct wr_timers *t, struct wr_timer *timer) {
    struct wr_due last = t->heap[--t->n];
    uint32_t i = timer->index;
    if (last.timer != timer) {
        if (i > 0 && t->heap[(i - 1) / 4].when > last.when) sift_up(t, i, last);
        else sift_down(t, i, last);
    }
    if (t->n < t->cap / 4 && t->cap > 64) {
        struct wr_due *smaller = realloc(t->heap, (t->cap / 2) * sizeof *t->heap);
        if (smaller) t->heap = smaller, t->cap /= 2;
    }
}
static int put_in(struct wr_timers *t, struct wr_timer *timer, weir_time when) {
    if (t->n == t->cap) {
        uint32_t cap = t->cap ? 2 * t->cap : 64;
        struct wr_due *larger = realloc(t->heap, cap * sizeof *larger);
        if (!larger) return -ENOMEM;
        t->heap = larger, t->cap = cap;
    }
    timer->when = when;
    sift_up(t, t->n++, (struct wr_due){ when, timer });
    return 0;
}

static int add(struct wr_timer *timer, weir_time when, bool parking) {
    struct m *m = wr_m();
    struct p *p = m ? wr_enter(m) : NULL;
    struct wr_timers *t = p ? &p->timers : &wr_sched.timers;
    wr_lock(&t->lock, WR_RANK_TIMERS);
    int e = put_in(t, timer, when);
    if (!e) atomic_store_explicit(&timer->heap, t, memory_order_relaxed);
    bool earliest = !e && timer->index == 0;
    if (earliest) publish_first(t);
    wr_unlock(&t->lock, WR_RANK_TIMERS);
    if (earliest && parking && m && (!m->new_timer || when < m->new_timer)) m->new_timer = when;
    if (m) wr_leave(m);
    if (earliest && !(parking && m)) wr_wake_for_timer(when);
    return e;
}
int wr_timer_add(struct wr_timer *timer, weir_time when) { return add(timer, when, false); }
int wr_timer_add_parking(struct wr_timer *timer, weir_time when) { return add(timer, when, true); }

bool wr_timer_del(struct wr_timer *timer) {
    struct wr_timers *t;
    while ((t = atomic_load_explicit(&timer->heap, memory_order_acquire))) {
        wr_lock(&t->lock, WR_RANK_TIMERS);
        bool here = atomic_load_explicit(&timer->heap, memory_order_relaxed) == t;
        if (here) {
            bool was_first = timer->index == 0;
            take_out(t, timer);
            atomic_store_explicit(&timer->heap, NULL, memory_order_release); /* last: who reads it may add the timer elsewhere */
            if (was_first) publish_first(t);
        }
        wr_unlock(&t->lock, WR_RANK_TIMERS);
        if (here) return true;
    }
    return false;
}

/* The time in the heap is never later than the timer's own. */
bool wr_timer_move(struct wr_timer *timer, weir_time when) {
    struct wr_timers *t;
    while ((t = atomic_load_explicit(&timer->heap, memory_order_acquire))) {
        wr_lock(&t->lock, WR_RANK_TIMERS);
        bool here = atomic_load_explicit(&timer->heap, memory_order_relaxed) == t;
        bool earlier = here && when < timer->when && when < t->heap[timer->index].when;
        if (here) timer->when = when;
        if (earlier) sift_up(t, timer->index, (struct wr_due){ when, timer });
        bool earliest = earlier && timer->index == 0;
        if (earliest) publish_first(t);
        wr_unlock(&t->lock, WR_RANK_TIMERS);
        if (earliest) wr_wake_for_timer(when);
        if (here) return true;
    }
    return false;
}

bool wr_timer_armed(struct wr_timer *timer) {
    return atomic_load_explicit(&timer->heap, memory_order_acquire) != NULL;
}

/*
 * An in_lock timer is fired under the lock, and its heap word cleared after it: wr_timer_del either finds it armed and takes it out
 * before, or waits for the lock and finds it fired; nobody's memory is touched after that. The heap word is cleared with
 * release for the del that finds NULL without taking the lock.
 */
static void run(struct wr_timers *t, weir_time now, int most) {
    if (atomic_load_explicit(&t->first, memory_order_acquire) > now) return;
    atomic_fetch_add_explicit(&wr_sched.timers_fired, 1, memory_order_relaxed);
    wr_lock(&t->lock, WR_RANK_TIMERS);
    while (t->n && t->heap[0].when <= now && most-- > 0) {
        struct wr_timer *timer = t->heap[0].timer;
        if (timer->when > t->heap[0].when) {
            sift_down(t, 0, (struct wr_due){ timer->when, timer });
            continue;
        }
        take_out(t, timer);
        if (timer->in_lock) {
            weir_time again = timer->fire(timer, now);
            if (again <= 0 || put_in(t, timer, again)) atomic_store_explicit(&timer->heap, NULL, memory_order_release);
            continue;
        }
        weir_time (*fire)(struct wr_timer *, weir_time) = timer->fire;
        atomic_store_explicit(&timer->heap, NULL, memory_order_release);
        publish_first(t);
        bool *firing = wr_m() ? &wr_m()->firing : &wr_sched.sysmon_firing;
        *firing = true; /* before the unlock: who stops the world has all heaps' locks, so it sees the timer in the heap, or this */
        wr_unlock(&t->lock, WR_RANK_TIMERS);
        fire(timer, now);
        wr_lock(&t->lock, WR_RANK_TIMERS);
        *firing = false;
    }
    publish_first(t);
    wr_unlock(&t->lock, WR_RANK_TIMERS);
}

weir_time wr_timers_first(void) {
    weir_time first = atomic_load_explicit(&wr_sched.timers.first, memory_order_acquire);
    int n = atomic_load_explicit(&wr_sched.made_ps, memory_order_acquire);
    for (int i = 0; i < n; i++) {
        weir_time t = atomic_load_explicit(&wr_sched.ps[i]->timers.first, memory_order_acquire);
        if (t < first) first = t;
    }
    return first;
}

static struct wr_timers *heap(int i) { return i < 0 ? &wr_sched.timers : &wr_sched.ps[i]->timers; }

/* To each heap that has some its part, and one at least: what comes back to the first again and again must not be all that is fired. */
void wr_timers_run_all(weir_time now, int most) {
    int n = atomic_load_explicit(&wr_sched.made_ps, memory_order_acquire), due = 0;
    for (int i = -1; i < n; i++) due += atomic_load_explicit(&heap(i)->first, memory_order_relaxed) <= now;
    for (int i = -1; i < n && due; i++) run(heap(i), now, most > due ? most / due : 1);
}
