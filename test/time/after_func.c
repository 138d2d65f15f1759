/* weir_after_func: a call in a goroutine of its own, later. */
#include "test.h"

#include <stdatomic.h>

#include "threads.h"

typedef WEIR_CHAN(int) int_chan;
static _Atomic int calls, running;
static _Atomic uint64_t called_by;
static _Atomic weir_time called_at;

static void notes(void *arg) {
    called_by = weir_id();
    called_at = weir_now();
    calls++;
}
static void settle(void) { TEST_UNTIL(weir_count() == 1); }

TEST(the_call_is_made_later_in_a_goroutine_of_its_own) {
    weir_time start = weir_now();
    weir_timer *t = weir_after_func(2 * WEIR_MILLISECOND, notes, NULL);
    CHECK(t != NULL);
    TEST_UNTIL(calls == 1);
    CHECK_GE(called_at - start, 2 * WEIR_MILLISECOND);
    CHECK(called_by > 1);
    weir_timer_free(t);
}
TEST(no_time_and_less_are_at_once) {
    static const weir_duration none[] = { 0, -1, INT64_MIN };
    for (int i = 0; i < 3; i++) {
        weir_timer *t = weir_after_func(none[i], notes, NULL);
        TEST_UNTIL(calls == i + 1);
        CHECK(!weir_timer_stop(t));
        weir_timer_free(t);
    }
}
TEST(it_may_be_set_beyond_the_end_of_time) {
    weir_timer *t = weir_after_func(INT64_MAX, notes, NULL);
    CHECK_EQ(weir_sleep(2 * WEIR_MILLISECOND), 0);
    CHECK_EQ(calls, 0);
    CHECK(weir_timer_stop(t));
    weir_timer_free(t);
}

static void takes(void *arg) { calls += *(int *)arg; }
static _Atomic int evaluations;
static weir_duration evaluate(weir_duration d) {
    evaluations++;
    return d;
}
TEST(the_argument_is_handed_on) {
    int v = 42;
    weir_timer *t = weir_after_func(evaluate(0), takes, &v);
    TEST_UNTIL(calls == 42);
    CHECK_EQ(evaluations, 1);
    settle();
    weir_timer_free(t);
}

static int_chan ch;
static void blocks(void *arg) {
    int v;
    CHECK_EQ(weir_recv(ch, &v), 0);
    CHECK_EQ(weir_sleep(WEIR_MICROSECOND), 0);
    CHECK_EQ(weir_send(ch, v + 1), 0);
}
TEST(the_call_may_block) {
    int v;
    ch = weir_make(int_chan, 0);
    weir_timer *t = weir_after_func(0, blocks, NULL), *other = weir_after_func(WEIR_MILLISECOND, notes, NULL);
    test_until_n_parked(1, "chan receive");
    TEST_UNTIL(calls == 1); /* it keeps no other from being made */
    CHECK_EQ(weir_send(ch, 1), 0);
    CHECK_EQ(weir_recv(ch, &v), 0);
    CHECK_EQ(v, 2);
    weir_timer_free(t), weir_timer_free(other);
    weir_release(ch);
}

static void exits(void *arg) {
    calls++;
    weir_exit();
}
TEST(the_call_may_end_by_exit) {
    weir_timer *t = weir_after_func(0, exits, NULL);
    TEST_UNTIL(calls == 1);
    settle();
    weir_timer_free(t);
}

/* ---- Stop, reset, free ----------------------------------------------------------------------------------------------- */

TEST(stop_keeps_the_call_from_being_made_and_says_so) {
    weir_timer *t = weir_after_func(200 * WEIR_MILLISECOND, notes, NULL);
    CHECK(weir_timer_stop(t));
    CHECK(!weir_timer_stop(t));
    CHECK_EQ(weir_sleep(250 * WEIR_MILLISECOND), 0);
    CHECK_EQ(calls, 0);
    weir_timer_free(t);
}
TEST(stop_after_the_call_says_no) {
    weir_timer *t = weir_after_func(0, notes, NULL);
    TEST_UNTIL(calls == 1);
    CHECK(!weir_timer_stop(t));
    weir_timer_free(t);
}
TEST(reset_makes_the_call_again) {
    weir_timer *t = weir_after_func(0, notes, NULL);
    for (int i = 1; i <= 5; i++) {
        TEST_UNTIL(calls == i);
        weir_time start = weir_now();
        CHECK(!weir_timer_reset(t, i == 5 ? WEIR_HOUR : WEIR_MILLISECOND));
        if (i == 5) break;
        TEST_UNTIL(calls == i + 1);
        CHECK_GE(called_at - start, WEIR_MILLISECOND);
    }
    CHECK(weir_timer_reset(t, WEIR_HOUR)); /* armed: moved, not doubled */
    CHECK(weir_timer_reset(t, 0));
    TEST_UNTIL(calls == 6);
    settle();
    CHECK_EQ(calls, 6);
    weir_timer_free(t);
}

enum { MOVED = 400 };
static struct moved {
    weir_timer *timer;
    weir_time due;              /* not before */
    int armings;
    _Atomic int calls;
    _Atomic weir_time called_at;
} moved[MOVED];
static void note_moved(void *arg) {
    struct moved *m = arg;
    m->called_at = weir_now();
    m->calls++;
}
/* Soon, later, or long after the test. */
static weir_duration some_time(uint64_t *random, int kinds) {
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    uint32_t r = (uint32_t)(*random >> 33);
    weir_duration part = (weir_duration)(r >> 8) % WEIR_MILLISECOND;
    return r % (uint32_t)kinds == 0 ? 1 + 5 * part : r % (uint32_t)kinds == 1 ? 10 * WEIR_MILLISECOND + 30 * part : WEIR_HOUR + part;
}
TEST(each_is_called_when_it_was_moved_to_last) {
    uint64_t random = 1;
    for (int round = 0; round < TEST_SCALE(10); round++) {
        memset(moved, 0, sizeof moved);
        for (int i = 0; i < MOVED; i++) {
            CHECK((moved[i].timer = weir_after_func(some_time(&random, 3), note_moved, &moved[i])) != NULL);
            moved[i].armings = 1;
        }
        for (int turn = 0; turn < 4; turn++)
            for (int i = 0; i < MOVED; i++) {
                weir_duration d = some_time(&random, turn < 3 ? 3 : 2);
                moved[i].due = weir_now() + d;
                if (!weir_timer_reset(moved[i].timer, d)) moved[i].armings++;
            }
        for (int i = 0; i < MOVED; i++) {
            TEST_UNTIL(moved[i].calls == moved[i].armings);
            if (moved[i].armings == 1) CHECK_GE(moved[i].called_at, moved[i].due);
        }
        settle();
        for (int i = 0; i < MOVED; i++) {
            CHECK_EQ(moved[i].calls, moved[i].armings);
            weir_timer_free(moved[i].timer);
        }
    }
}
/* Each of them may find the timer unarmed while another takes it out of his heap, and arm it in a heap of its own. */
enum { FAR = 60 };
static _Atomic int turns_left;
static void stop_and_reset(weir_timer *t, uint64_t random) {
    weir_timer *far[FAR];
    for (int i = 0; i < FAR; i++) {
        far[i] = weir_after_func(WEIR_HOUR + i * WEIR_SECOND, notes, NULL);
        CHECK(far[i] != NULL);
    }
    while (turns_left-- > 0) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        weir_duration d = (weir_duration)(random >> 40) % (FAR * WEIR_SECOND);
        if (random >> 63) weir_timer_stop(t);
        else weir_timer_reset(t, (random >> 61) & 3 ? WEIR_HOUR + d : d % 20000);
    }
    for (int i = 0; i < FAR; i++) {
        CHECK(weir_timer_stop(far[i]));
        weir_timer_free(far[i]);
    }
    running--;
}
static void *stop_and_reset_in_thread(void *t) {
    stop_and_reset(t, 4);
    return NULL;
}
TEST(stops_and_resets_of_many_meet) {
    weir_procs(4);
    weir_timer *t = weir_after_func(WEIR_HOUR, notes, NULL);
    CHECK(t != NULL);
    turns_left = (int)TEST_SCALE(4000000);
    running = 4;
    for (uint64_t i = 1; i < 4; i++) TEST_GO(stop_and_reset, t, i);
    pthread_t thread = thread_start(stop_and_reset_in_thread, t);
    TEST_UNTIL(running == 0);
    thread_end(thread);
    weir_timer_stop(t);
    settle();
    calls = 0;
    CHECK(!weir_timer_reset(t, WEIR_HOUR));
    CHECK(weir_timer_reset(t, WEIR_MILLISECOND));
    TEST_UNTIL(calls == 1);
    settle();
    CHECK_EQ(calls, 1);
    weir_timer_free(t);
}
TEST(it_has_no_tick) {
    weir_timer *t = weir_after_func(0, notes, NULL);
    CHECK_EQ(weir_timer_wait(t, NULL), -EINVAL);
    CHECK_EQ(weir_select(weir_on_timer(t), weir_on_default()), 1);
    CHECK_EQ(weir_select(weir_on_timer(t), weir_on_after(WEIR_MILLISECOND)), 1);
    weir_timer_free(t);
}

static weir_timer *_Atomic self;
static void frees_itself(void *arg) {
    TEST_UNTIL(self); /* who set it may not have got it yet */
    weir_timer_free(self);
    calls++;
}
static void waits(void *gate) {
    running++;
    (void)!weir_chan_recv(gate, NULL);
    calls++;
}
TEST(it_may_be_freed_before_in_and_after_its_call) {
    ch = weir_make(int_chan, 0);
    weir_timer_free(weir_after_func(200 * WEIR_MILLISECOND, notes, NULL));
    CHECK_EQ(weir_sleep(250 * WEIR_MILLISECOND), 0);
    CHECK_EQ(calls, 0);
    self = weir_after_func(WEIR_MILLISECOND, frees_itself, NULL);
    TEST_UNTIL(calls == 1);
    weir_timer *t = weir_after_func(0, waits, weir_chan_of(ch));
    TEST_UNTIL(running == 1);
    weir_timer_free(t); /* while its call runs */
    weir_close(ch);
    TEST_UNTIL(calls == 2);
    weir_procs(1);
    for (int i = 0; i < 200; i++) weir_timer_free(weir_after_func(0, notes, NULL)); /* and while it is queued */
    settle();
    CHECK_LE(calls, 202);
    weir_release(ch);
}

static weir_timer *_Atomic resetting;
static void resets_itself(void *arg) {
    TEST_UNTIL(resetting); /* it may come before weir_after_func has returned */
    if (++calls < 10) CHECK(!weir_timer_reset(resetting, 0));
}
TEST(the_call_may_set_its_timer_again) {
    resetting = weir_after_func(WEIR_MILLISECOND, resets_itself, NULL);
    TEST_UNTIL(calls == 10);
    settle();
    CHECK(!weir_timer_stop(resetting));
    weir_timer_free(resetting);
}

/* ---- Many --------------------------------------------------------------------------------------------------------------- */

TEST(either_it_was_stopped_or_the_call_was_made) {
    int stopped = 0, n = (int)TEST_SCALE(10000);
    weir_procs(4);
    for (int i = 0; i < n; i++) {
        weir_timer *t = weir_after_func(i % 8 * WEIR_MICROSECOND, notes, NULL);
        for (int j = i % 5; j > 0; j--) weir_yield();
        stopped += weir_timer_stop(t);
        weir_timer_free(t);
    }
    settle();
    CHECK_EQ(calls + stopped, n);
}

TEST(thousands_are_due_at_once) {
    enum { N = 5000 };
    static weir_timer *all[N];
    int n = (int)TEST_SCALE(N);
    weir_procs(2);
    weir_time when = weir_now() + 30 * WEIR_MILLISECOND;
    for (int i = 0; i < n; i++) all[i] = weir_after_func(when - weir_now(), notes, NULL);
    TEST_UNTIL(calls == n);
    CHECK_GE(weir_now(), when);
    settle();
    CHECK_EQ(calls, n);
    for (int i = 0; i < n; i++) weir_timer_free(all[i]);
}

PLAIN_TEST(a_program_sets_them_beside_idle_workers) {
    CHECK_EQ(weir_start(), 0);
    for (int i = 0; i < 3; i++) {
        weir_timer *t = weir_after_func(2 * WEIR_MILLISECOND, notes, NULL);
        TEST_UNTIL(calls == i + 1);
        weir_timer_free(t);
    }
    weir_timer *never = weir_after_func(WEIR_HOUR, notes, NULL);
    CHECK(weir_timer_stop(never));
    weir_timer_free(never);
    CHECK_EQ(weir_stop(WEIR_MINUTE), 0);
}

static void computes(int n) {
    while (calls < n) {
    }
    running--;
}
TEST(the_call_is_made_though_every_processor_is_busy) {
    weir_procs(2);
    running = 2;
    for (int i = 0; i < 2; i++) TEST_GO(computes, 3);
    for (int i = 1; i <= 3; i++) {
        weir_timer *t = weir_after_func(WEIR_MILLISECOND, notes, NULL);
        TEST_UNTIL(calls >= i);
        weir_timer_free(t);
    }
    TEST_UNTIL(running == 0);
}
