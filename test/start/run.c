/* weir_run, weir_start, weir_stop: results, order, what is left alone. */
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

typedef WEIR_CHAN(int) int_chan;

static int give(void *arg) { return *(int *)arg; }

PLAIN_TEST(run_returns_what_main_returned) {
    for (int v = -3; v < 400; v += 100) CHECK_EQ(weir_run(give, &v), v);
}

static int main_id(void *arg) { return (int)weir_id(); }

PLAIN_TEST(run_may_be_called_again) {
    for (int i = 0; i < 5; i++) CHECK_EQ(weir_run(main_id, NULL), 1);
}

PLAIN_TEST(without_a_function_there_is_nothing_to_run) { CHECK_EQ(weir_run(NULL, NULL), -EINVAL); }

static int nest(void *arg) {
    int v = 5;
    CHECK_EQ(weir_run(give, &v), -EBUSY);
    CHECK_EQ(weir_start(), -EBUSY);
    CHECK_EQ(weir_stop(0), -EPERM);
    return 4;
}
static void *nest_on_a_thread(void *arg) {
    *(int *)arg = nest(NULL);
    return NULL;
}
static int nest_on_another(void *arg) {
    pthread_t thread;
    int result = 0;
    CHECK_EQ(pthread_create(&thread, NULL, nest_on_a_thread, &result), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    return result;
}

PLAIN_TEST(a_second_runtime_is_refused) {
    CHECK_EQ(weir_run(nest, NULL), 4);
    CHECK_EQ(weir_run(nest_on_another, NULL), 4);
}

static void count_for_ever(_Atomic long *n) {
    for (;;) {
        atomic_fetch_add(n, 1);
        weir_yield();
    }
}
static void compute_for_ever(_Atomic long *n) {
    for (;;) atomic_fetch_add(n, 1);
}
static int leave_them(void *arg) {
    _Atomic long *n = arg;
    TEST_GO(count_for_ever, &n[0]);
    TEST_GO(compute_for_ever, &n[1]);
    TEST_UNTIL(atomic_load(&n[0]) && atomic_load(&n[1]));
    return 3;
}

PLAIN_TEST(the_other_goroutines_end_with_main) {
    static _Atomic long n[2];
    test_ignore_leaks();
    CHECK_EQ(weir_run(leave_them, n), 3);
    long a = atomic_load(&n[0]), b = atomic_load(&n[1]);
    usleep(20000);
    CHECK_EQ(atomic_load(&n[0]), a);
    CHECK_EQ(atomic_load(&n[1]), b);
}

static void add_one(_Atomic int *n) { atomic_fetch_add(n, 1); }

static void run_and_set(_Atomic int *order) {
    weir_sleep(5 * WEIR_MILLISECOND);
    atomic_store(order, 1);
}

/* ---- Embedding --------------------------------------------------------------------------------------- */

PLAIN_TEST(start_and_stop_beside_a_program) {
    static _Atomic int n;
    CHECK_EQ(weir_start(), 0);
    for (int i = 0; i < 10; i++) TEST_GO(add_one, &n);
    CHECK_EQ(weir_stop(10 * WEIR_SECOND), 0);
    CHECK_EQ(atomic_load(&n), 10);
}

PLAIN_TEST(stop_waits_for_those_that_end_in_time) {
    static _Atomic int order;
    CHECK_EQ(weir_start(), 0);
    TEST_GO(run_and_set, &order);
    CHECK_EQ(weir_stop(60 * WEIR_SECOND), 0);
    CHECK_EQ(atomic_load(&order), 1);
}

static void receive(int_chan ch, _Atomic int *woke) {
    int v;
    (void)!weir_recv(ch, &v);
    atomic_store(woke, 1);
}

PLAIN_TEST(stop_gives_up_on_those_that_do_not) {
    static _Atomic int woke;
    test_ignore_leaks();
    CHECK_EQ(weir_start(), 0);
    TEST_GO(receive, weir_make(int_chan, 0), &woke);
    weir_time start = weir_now();
    CHECK_EQ(weir_stop(30 * WEIR_MILLISECOND), -ETIMEDOUT);
    CHECK_GE(weir_now() - start, 30 * WEIR_MILLISECOND);
    CHECK_EQ(atomic_load(&woke), 0);
}

PLAIN_TEST(no_grace_is_no_wait) {
    static _Atomic int woke;
    test_ignore_leaks();
    CHECK_EQ(weir_start(), 0);
    CHECK_EQ(weir_stop(0), 0);
    CHECK_EQ(weir_start(), 0);
    TEST_GO(receive, weir_make(int_chan, 0), &woke);
    CHECK_EQ(weir_stop(-1), -ETIMEDOUT);
}

PLAIN_TEST(stop_needs_a_start) {
    CHECK_EQ(weir_stop(0), -EPERM);
    CHECK_EQ(weir_start(), 0);
    CHECK_EQ(weir_stop(0), 0);
    CHECK_EQ(weir_stop(0), -EPERM);
}

static void stop_from_inside(_Atomic int *result) { atomic_store(result, weir_stop(WEIR_SECOND)); }

PLAIN_TEST(a_goroutine_cannot_stop_its_own_runtime) {
    static _Atomic int result;
    CHECK_EQ(weir_start(), 0);
    TEST_GO(stop_from_inside, &result);
    CHECK_EQ(weir_stop(60 * WEIR_SECOND), 0);
    CHECK_EQ(atomic_load(&result), -EPERM);
}

PLAIN_TEST(starting_twice_is_refused) {
    int v = 1;
    CHECK_EQ(weir_start(), 0);
    CHECK_EQ(weir_start(), -EBUSY);
    CHECK_EQ(weir_run(give, &v), -EBUSY);
    CHECK_EQ(weir_stop(0), 0);
    CHECK_EQ(weir_run(give, &v), 1);
    CHECK_EQ(weir_start(), 0);
    CHECK_EQ(weir_stop(0), 0);
}

static void double_it(int_chan in, int_chan out) {
    int v;
    while (weir_recv(in, &v) == 0) CHECK_EQ(weir_send(out, 2 * v), 0);
    weir_close(out);
}

/* The calling thread blocks in the calls as a goroutine would, and stop does not wait for it. */
PLAIN_TEST(the_programs_threads_may_block_in_weir) {
    CHECK_EQ(weir_start(), 0);
    int_chan in = weir_make(int_chan, 0), out = weir_make(int_chan, 0);
    TEST_GO(double_it, in, out);
    for (int i = 0, v; i < 100; i++) {
        CHECK_EQ(weir_send(in, i), 0);
        CHECK_EQ(weir_recv(out, &v), 0);
        CHECK_EQ(v, 2 * i);
    }
    weir_close(in);
    CHECK_EQ(weir_stop(60 * WEIR_SECOND), 0);
    weir_release(in), weir_release(out);
}

PLAIN_TEST(embedded_a_deadlock_is_not_reported) {
    static _Atomic int woke;
    test_ignore_leaks();
    CHECK_EQ(weir_start(), 0);
    TEST_GO(receive, weir_make(int_chan, 0), &woke);
    test_until_n_parked(1, "chan receive");
    usleep(20000);
    CHECK_EQ(weir_stop(0), -ETIMEDOUT);
}

PLAIN_TEST(without_a_runtime_nothing_starts) {
    static _Atomic int n;
    CHECK_EQ(weir_go(add_one, &n), -EPERM);
    CHECK_EQ(weir_start(), 0);
    CHECK_EQ(weir_stop(0), 0);
    CHECK_EQ(weir_go(add_one, &n), -EPERM);
    CHECK_EQ(atomic_load(&n), 0);
}

static void *start_and_stop(void *won) {
    for (int i = 0; i < 20; i++)
        if (weir_start() == 0) {
            atomic_fetch_add((_Atomic int *)won, 1);
            CHECK_EQ(weir_stop(0), 0);
        }
    return NULL;
}

PLAIN_TEST(of_several_starters_one_wins) {
    static _Atomic int won;
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) CHECK_EQ(pthread_create(&threads[i], NULL, start_and_stop, &won), 0);
    for (int i = 0; i < 4; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
    CHECK_GE(atomic_load(&won), 1);
    CHECK_EQ(weir_start(), 0);
    CHECK_EQ(weir_stop(0), 0);
}
