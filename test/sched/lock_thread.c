/* weir_lock_thread: the goroutine stays on its thread, and the thread runs nothing else. */
#include "sched_test.h"

static _Atomic int running, stop;

static void parks_everywhere(int_chan in, int_chan out) {
    weir_lock_thread();
    long here = thread_id();
    for (int v; weir_recv(in, &v) == 0;) {
        CHECK_EQ(thread_id(), here);
        weir_yield();
        CHECK_EQ(thread_id(), here);
        if (v % 16 == 0) CHECK_EQ(weir_sleep(20 * WEIR_MICROSECOND), 0);
        CHECK_EQ(thread_id(), here);
        CHECK_EQ(weir_send(out, v), 0);
        CHECK_EQ(thread_id(), here);
    }
    running--;
}
static void busy(void) {
    while (!stop) {
        compute(5 * WEIR_MICROSECOND);
        weir_yield();
    }
    running--;
}
static void stays_on_its_thread(int procs, int others) {
    int_chan in = weir_make(int_chan, 0), out = weir_make(int_chan, 0);
    weir_procs(procs);
    running = others + 1;
    TEST_GO(parks_everywhere, in, out);
    for (int i = 0; i < others; i++) TEST_GO(busy);
    for (int i = 0, v; i < TEST_SCALE(500); i++) {
        CHECK_EQ(weir_send(in, i), 0);
        CHECK_EQ(weir_recv(out, &v), 0);
        CHECK_EQ(v, i);
    }
    weir_close(in);
    stop = 1;
    TEST_UNTIL(running == 0);
    weir_release(in), weir_release(out);
}
TEST(a_locked_goroutine_comes_back_to_its_thread_on_one_processor) { stays_on_its_thread(1, 0); }
TEST(a_locked_goroutine_comes_back_to_its_thread_on_four_processors) { stays_on_its_thread(4, 0); }
TEST(a_locked_goroutine_comes_back_to_its_thread_under_load) { stays_on_its_thread(2, 8); }

/* ---- Nesting ------------------------------------------------------------------------------------------------ */

/* Nobody else has run on this thread meanwhile; only threads that are somebody's own stay so under load. */
static __thread int last_here;
static void leaves_a_mark(int mark) {
    while (!stop) {
        last_here = mark;
        weir_yield();
    }
    running--;
}
TEST(nobody_else_runs_on_a_locked_thread) {
    weir_procs(2);
    running = 4;
    for (int i = 0; i < 4; i++) TEST_GO(leaves_a_mark, i + 1);
    weir_lock_thread();
    last_here = -1;
    for (int i = 0; i < TEST_SCALE(2000); i++) {
        weir_yield();
        CHECK_EQ(last_here, -1);
    }
    weir_unlock_thread();
    stop = 1;
    TEST_UNTIL(running == 0);
}
static _Atomic long wanted;
static void takes_the_thread(void) {
    weir_lock_thread();
    while (thread_id() == wanted) {
    }
    weir_unlock_thread();
    running--;
}
TEST(as_many_unlocks_as_locks_are_needed) {
    weir_procs(2);
    running = 4;
    for (int i = 0; i < 4; i++) TEST_GO(leaves_a_mark, i + 1);
    long here;
    for (int depth = 1; depth <= 5; depth++) {
        for (int i = 0; i < depth; i++) weir_lock_thread();
        here = thread_id();
        for (int i = 0; i < depth; i++) {
            for (int j = 0; j < 100; j++) weir_yield();
            CHECK_EQ(thread_id(), here);
            weir_unlock_thread();
        }
    }
    /* Free again: it goes on elsewhere when another takes its thread, which waits for just that. */
    wanted = thread_id();
    while (thread_id() == wanted) {
        running++;
        TEST_GO(takes_the_thread);
        weir_yield();
    }
    wanted = 0;
    stop = 1;
    TEST_UNTIL(running == 0);
}
TEST(an_unlock_too_many_is_harmless) {
    weir_unlock_thread();
    weir_unlock_thread();
    weir_lock_thread();
    long here = thread_id();
    CHECK_EQ(weir_sleep(WEIR_MICROSECOND), 0);
    CHECK_EQ(thread_id(), here);
    weir_unlock_thread();
    weir_unlock_thread();
    CHECK_EQ(weir_sleep(WEIR_MICROSECOND), 0);
}

/* ---- Others -------------------------------------------------------------------------------------------------- */

static void computes_locked(void) {
    weir_lock_thread();
    while (!stop) {
    }
    running--;
}
TEST(others_run_while_a_locked_one_computes) {
    weir_procs(1);
    running = 1;
    TEST_GO(computes_locked);
    for (int i = 0; i < 100; i++) weir_yield();
    CHECK_EQ(weir_sleep(WEIR_MICROSECOND), 0);
    stop = 1;
    TEST_UNTIL(running == 0);
}

static void waits_locked(int_chan ch) {
    weir_lock_thread();
    CHECK_EQ(weir_recv(ch, NULL), 0);
    running--;
}
TEST(others_run_while_locked_ones_wait) {
    int_chan ch = weir_make(int_chan, 0);
    int n = (int)TEST_SCALE(50);
    weir_procs(1);
    running = n;
    for (int i = 0; i < n; i++) TEST_GO(waits_locked, ch);
    test_until_n_parked((size_t)n, "chan receive");
    for (int i = 0; i < 1000; i++) weir_yield();
    for (int i = 0; i < n; i++) CHECK_EQ(weir_send(ch, i), 0);
    TEST_UNTIL(running == 0);
    weir_release(ch);
}

static void passes_on(int_chan in, int_chan out) {
    weir_lock_thread();
    long here = thread_id();
    for (int v; weir_recv(in, &v) == 0;) {
        CHECK_EQ(weir_send(out, v + 1), 0);
        CHECK_EQ(thread_id(), here);
    }
    weir_close(out);
}
static void ring_of_locked(int procs) {
    enum { LINKS = 5 };
    int_chan links[LINKS + 1];
    weir_procs(procs);
    for (int i = 0; i <= LINKS; i++) links[i] = weir_make(int_chan, 0);
    for (int i = 0; i < LINKS; i++) TEST_GO(passes_on, links[i], links[i + 1]);
    weir_lock_thread();
    for (int i = 0, v; i < TEST_SCALE(300); i++) {
        CHECK_EQ(weir_send(links[0], i), 0);
        CHECK_EQ(weir_recv(links[LINKS], &v), 0);
        CHECK_EQ(v, i + LINKS);
    }
    weir_unlock_thread();
    weir_close(links[0]);
    TEST_UNTIL(weir_count() == 1);
    for (int i = 0; i <= LINKS; i++) weir_release(links[i]);
}
TEST(locked_ones_hand_over_to_each_other_on_one_processor) { ring_of_locked(1); }
TEST(locked_ones_hand_over_to_each_other_on_four_processors) { ring_of_locked(4); }

static void *wakes(void *ch) {
    for (int i = 0; i < 100; i++) CHECK_EQ(weir_chan_send(ch, &i), 0);
    return NULL;
}
TEST(a_thread_wakes_a_locked_goroutine) {
    int_chan ch = weir_make(int_chan, 0);
    weir_lock_thread();
    long here = thread_id();
    pthread_t thread = thread_start(wakes, weir_chan_of(ch));
    for (int i = 0, v; i < 100; i++) {
        CHECK_EQ(weir_recv(ch, &v), 0);
        CHECK_EQ(v, i);
        CHECK_EQ(thread_id(), here);
    }
    thread_end(thread);
    weir_unlock_thread();
    weir_release(ch);
}

static int same_thread(void *here) {
    CHECK_EQ(weir_sleep(WEIR_MICROSECOND), 0);
    return thread_id() == *(long *)here;
}
TEST(a_blocking_call_of_a_locked_goroutine_is_made_on_its_thread) {
    weir_procs(1);
    running = 2;
    for (int i = 0; i < 2; i++) TEST_GO(busy);
    weir_lock_thread();
    long here = thread_id();
    for (int i = 0; i < 50; i++) {
        CHECK_EQ(weir_blocking(same_thread, &here), 1);
        CHECK_EQ(thread_id(), here);
    }
    weir_unlock_thread();
    stop = 1;
    TEST_UNTIL(running == 0);
}

static void locks_or_not(int i) {
    for (int j = 0; j < 20; j++) {
        weir_lock_thread();
        long here = thread_id();
        weir_yield();
        CHECK_EQ(thread_id(), here);
        weir_unlock_thread();
        if (i % 2) weir_yield();
        else CHECK_EQ(weir_sleep(WEIR_MICROSECOND), 0);
    }
    running--;
}
TEST(many_lock_and_unlock_at_once) {
    int n = (int)TEST_SCALE(100);
    weir_procs(4);
    running = n;
    for (int i = 0; i < n; i++) TEST_GO(locks_or_not, i);
    TEST_UNTIL(running == 0);
}

TEST(the_number_of_processors_may_change_under_locked_ones) {
    int n = (int)TEST_SCALE(40);
    running = n;
    for (int i = 0; i < n; i++) TEST_GO(locks_or_not, i);
    for (int i = 0; running > 0; i++) {
        weir_procs(1 + i % 5);
        weir_yield();
    }
}

/* ---- The end -------------------------------------------------------------------------------------------------- */

static void ends_locked(int how) {
    weir_lock_thread();
    weir_lock_thread();
    if (how == 1) weir_exit();
    if (how == 2) CHECK_EQ(weir_sleep(WEIR_MICROSECOND), 0);
}
/* The thread is neither lost nor kept for a goroutine that is gone. */
TEST(a_goroutine_may_end_locked) {
    weir_procs(2);
    for (int i = 0; i < TEST_SCALE(600); i++) {
        TEST_GO(ends_locked, i % 3);
        TEST_UNTIL(weir_count() == 1);
    }
    CHECK_LE(threads_there_are(), 20);
    running = 4;
    stop = 1;
    for (int i = 0; i < 4; i++) TEST_GO(busy);
    TEST_UNTIL(running == 0);
}

static void *locks_on_a_thread(void *arg) {
    weir_unlock_thread();
    weir_lock_thread();
    CHECK_EQ(weir_sleep(WEIR_MICROSECOND), 0);
    weir_unlock_thread();
    return arg;
}
TEST(on_a_foreign_thread_it_means_nothing) { thread_end(thread_start(locks_on_a_thread, NULL)); }

static int main_runs_locked(void *arg) {
    weir_lock_thread();
    for (int i = 0; i < 10; i++) CHECK_EQ(weir_sleep(WEIR_MICROSECOND), 0);
    TEST_GO(busy);
    return 3;
}
PLAIN_TEST(main_may_end_locked) {
    test_ignore_leaks();
    for (int i = 0; i < 10; i++) CHECK_EQ(weir_run(main_runs_locked, NULL), 3);
}
