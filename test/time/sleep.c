/* The clock, and sleeping. */
#include "sched/sched.h"
#undef errno
#define errno (*weir_errno_())
#include "test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

typedef WEIR_CHAN(int) int_chan;
static _Atomic int running, stop;

/* ---- The clock ---------------------------------------------------------------------------------------------------- */

static _Atomic weir_time latest;
static void looks_at_the_clock(int n) {
    for (int i = 0; i < n; i++) {
        weir_time seen = latest, now = weir_now(); /* somebody, somewhere, saw that before we looked */
        CHECK_GE(now, seen);
        while (now > seen && !atomic_compare_exchange_weak(&latest, &seen, now)) {
        }
        if (i % 64 == 0) weir_yield();
    }
    running--;
}
TEST(the_clock_never_goes_back_on_any_thread) {
    weir_procs(4);
    running = 4;
    for (int i = 0; i < 4; i++) TEST_GO(looks_at_the_clock, (int)TEST_SCALE(100000));
    TEST_UNTIL(running == 0);
}
PLAIN_TEST(the_clock_runs_without_the_runtime) {
    weir_time a = weir_now();
    while (weir_now() == a) {
    }
    CHECK_GE(weir_now(), a + 1);
}

/* ---- How long ------------------------------------------------------------------------------------------------------- */

TEST(a_sleep_lasts_at_least_as_long_as_was_asked_for) {
    for (weir_duration d = 1; d <= 30 * WEIR_MILLISECOND; d *= 5) {
        for (int i = 0; i < 5; i++) {
            weir_time start = weir_now();
            CHECK_EQ(weir_sleep(d), 0);
            CHECK_GE(weir_now() - start, d);
        }
    }
}

static int compare(const void *a, const void *b) {
    weir_duration x = *(const weir_duration *)a, y = *(const weir_duration *)b;
    return x < y ? -1 : x > y;
}
/* How late the machine itself wakes a thread just now. */
static weir_duration late_by_itself(void) {
    weir_time start = weir_now();
    nanosleep(&(struct timespec){ .tv_nsec = 50 * WEIR_MICROSECOND }, NULL);
    return weir_now() - start - 50 * WEIR_MICROSECOND;
}
/* Later than a thread's own sleep, that is; and the best of several batches counts, of which there may be many. */
TEST(a_short_sleep_is_less_than_100_us_later_than_a_threads) {
    enum { N = 50 };
    weir_duration late[N], own[N], best = WEIR_HOUR, most = 100 * WEIR_MICROSECOND * test_slowness();
    for (int batch = 0; batch < 40 && best >= most; batch++) {
        for (int i = 0; i < N; i++) {
            weir_time start = weir_now();
            CHECK_EQ(weir_sleep(50 * WEIR_MICROSECOND), 0);
            late[i] = weir_now() - start - 50 * WEIR_MICROSECOND;
            own[i] = late_by_itself();
        }
        qsort(late, N, sizeof late[0], compare);
        qsort(own, N, sizeof own[0], compare);
        if (late[N / 2] - own[N / 2] < best) best = late[N / 2] - own[N / 2];
    }
    printf("%.1f us later than a thread\n", (double)best / 1000);
    CHECK_LE(best, most);
}

static _Atomic int turns;
static void counts(void) { turns++; }
TEST(no_time_and_less_are_no_sleep) {
    weir_procs(1);
    for (int i = 0; i < 1000; i++) CHECK_EQ(weir_sleep(0), 0);
    CHECK_EQ(weir_sleep(-1), 0), CHECK_EQ(weir_sleep(-WEIR_HOUR), 0), CHECK_EQ(weir_sleep(INT64_MIN), 0);
    weir_timeout(0) CHECK_EQ(weir_sleep(0), 0); /* nor refused */
}
TEST(the_shortest_sleep_lets_others_run) {
    weir_procs(1);
    for (int i = 0; i < 200; i++) {
        TEST_GO(counts);
        CHECK_EQ(weir_sleep(1), 0);
    }
    CHECK_GE(turns, 100); /* sometimes the time is over before the other one's turn comes */
}

/* ---- Very long, and cut short ------------------------------------------------------------------------------------------ */

static void sleeps_for(weir_duration d, int *result) {
    *result = weir_sleep(d);
    running--;
}
static void cut_short(weir_duration d) {
    int result = 1;
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    running = 1;
    weir_scoped(s) {
        CHECK_EQ(weir_scope_go(&s, sleeps_for, d, &result), 0);
        test_until_n_parked(1, "sleep");
        CHECK_EQ(weir_sleep(WEIR_MILLISECOND), 0);
        CHECK_EQ(running, 1);
        weir_scope_cancel(&s);
    }
    CHECK_EQ(result, -ECANCELED);
    weir_ctx_release(ctx);
}
TEST(a_sleep_of_an_hour_ends_when_it_is_cancelled) { cut_short(WEIR_HOUR); }
TEST(a_sleep_may_be_longer_than_time_is) {
    cut_short(INT64_MAX);
    cut_short(INT64_MAX - 1);
    cut_short(INT64_MAX - weir_now());
    cut_short(INT64_MAX / 2);
}
TEST(a_sleep_ends_at_the_deadline_of_its_context) {
    weir_time start = weir_now();
    weir_timeout(3 * WEIR_MILLISECOND) {
        CHECK_EQ(weir_sleep(WEIR_HOUR), -ETIMEDOUT);
        CHECK_EQ(weir_sleep(WEIR_HOUR), -ETIMEDOUT);
        CHECK_EQ(weir_sleep(1), -ETIMEDOUT);
    }
    CHECK_GE(weir_now() - start, 3 * WEIR_MILLISECOND);
    CHECK_EQ(weir_sleep(1), 0);
}

/* ---- Many ------------------------------------------------------------------------------------------------------------- */

static _Atomic weir_time done_at[8];
static void sleeps_and_notes(int i, weir_duration d) {
    CHECK_EQ(weir_sleep(d), 0);
    done_at[i] = weir_now();
    running--;
}
TEST(who_sleeps_longer_wakes_later) {
    running = 6;
    for (int i = 5; i >= 0; i--) TEST_GO(sleeps_and_notes, i, (1 + i) * 150 * WEIR_MILLISECOND);
    TEST_UNTIL(running == 0);
    for (int i = 1; i < 6; i++) CHECK_GE(done_at[i], done_at[i - 1]);
}

static void sleeps_some(unsigned seed, int n) {
    for (int i = 0; i < n; i++) {
        seed = seed * 1103515245u + 12345u;
        weir_duration d = seed >> 12 & 0xfffff;
        weir_time start = weir_now();
        CHECK_EQ(weir_sleep(d), 0);
        CHECK_GE(weir_now() - start, d);
    }
    running--;
}
TEST(thousands_sleep_at_once) {
    int n = (int)TEST_SCALE(5000);
    for (int procs = 1; procs <= 4; procs *= 2) {
        weir_procs(procs);
        running = n;
        for (int i = 0; i < n; i++) TEST_GO(sleeps_some, (unsigned)i, 5);
        TEST_UNTIL(running == 0);
    }
}

static void sleeps_until(weir_time when) {
    CHECK_EQ(weir_sleep(when - weir_now()), 0);
    running--;
}
TEST(thousands_wake_at_the_same_time) {
    int n = (int)TEST_SCALE(10000);
    weir_procs(2);
    running = n;
    weir_time when = weir_now() + 50 * WEIR_MILLISECOND;
    for (int i = 0; i < n; i++) TEST_GO(sleeps_until, when);
    TEST_UNTIL(running == 0);
    CHECK_GE(weir_now(), when);
}

static void sleeps_and_is_cancelled(int i) {
    int e = weir_sleep(i % 2 ? WEIR_MILLISECOND : WEIR_HOUR);
    CHECK(e == -ECANCELED || (e == 0 && i % 2));
    running--;
}
/* Timers that are taken out from all over the heap. */
TEST(thousands_are_cancelled_while_others_wake) {
    int n = (int)TEST_SCALE(5000);
    running = n;
    weir_scoped(s) {
        for (int i = 0; i < n; i++) CHECK_EQ(weir_scope_go(&s, sleeps_and_is_cancelled, i), 0);
        CHECK_EQ(weir_sleep(WEIR_MILLISECOND), 0);
        weir_scope_cancel(&s);
    }
    CHECK_EQ(running, 0);
}

/* ---- Busy processors ----------------------------------------------------------------------------------------------------- */

static void computes(void) {
    while (!stop) {
    }
    running--;
}
/* Best of a few, since the machine has to give the sleeper a processor as well. */
static void wakes_beside(int procs) {
    weir_procs(procs);
    running = procs;
    for (int i = 0; i < procs; i++) TEST_GO(computes);
    weir_duration best = WEIR_HOUR;
    for (int i = 0; i < 50 && best > 20 * WEIR_MILLISECOND; i++) {
        weir_time start = weir_now();
        CHECK_EQ(weir_sleep(WEIR_MILLISECOND), 0);
        if (weir_now() - start < best) best = weir_now() - start;
    }
    stop = 1;
    TEST_UNTIL(running == 0);
    CHECK_LE(best, 20 * WEIR_MILLISECOND * test_slowness());
}
TEST(sleepers_wake_though_the_only_processor_is_busy) { wakes_beside(1); }
TEST(sleepers_wake_though_both_processors_are_busy) { wakes_beside(2); }

static weir_timer *_Atomic armed;
static void arms_and_computes(void) {
    armed = weir_timer_new(2 * WEIR_MILLISECOND); /* in the heap of the processor that it keeps busy */
    computes();
}
TEST(a_timer_fires_though_its_processor_is_busy) {
    weir_procs(2);
    running = 1;
    TEST_GO(arms_and_computes);
    TEST_UNTIL(armed != NULL);
    CHECK_EQ(weir_timer_wait(armed, NULL), 0);
    stop = 1;
    TEST_UNTIL(running == 0);
    weir_timer_free(armed);
}

static void *sleeps_on_a_thread(void *arg) {
    for (int i = 0; i < 20; i++) CHECK_EQ(weir_sleep(100 * WEIR_MICROSECOND), 0);
    return arg;
}
PLAIN_TEST(threads_of_the_program_sleep_beside_idle_workers) {
    pthread_t threads[4];
    CHECK_EQ(weir_start(), 0);
    for (int i = 0; i < 4; i++) CHECK_EQ(pthread_create(&threads[i], NULL, sleeps_on_a_thread, NULL), 0);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    CHECK_EQ(weir_stop(WEIR_MINUTE), 0);
}

PLAIN_TEST(a_thread_sleeps_though_no_runtime_runs) {
    weir_time start = weir_now();
    CHECK_EQ(weir_sleep(5 * WEIR_MILLISECOND), 0);
    CHECK_GE(weir_now() - start, 5 * WEIR_MILLISECOND);
}

/* ---- The heap, from inside ------------------------------------------------------------------------------------------------- */

enum { TIMERS = 2000 };
static struct wr_timer timers[TIMERS];
static int fired_order[TIMERS], n_fired;
static weir_time notes_itself(struct wr_timer *t, weir_time now) {
    CHECK_GE(now, t->when);
    fired_order[n_fired] = (int)(t - timers);
    __atomic_store_n(&n_fired, n_fired + 1, __ATOMIC_RELEASE);
    return 0;
}
TEST(what_is_due_first_fires_first) {
    static weir_time due[TIMERS];
    unsigned seed = 7;
    int deleted = 0;
    weir_procs(1); /* one heap */
    weir_time base = weir_now() + 300 * WEIR_MILLISECOND * test_slowness();
    for (int i = 0; i < TIMERS; i++) {
        seed = seed * 1103515245u + 12345u;
        due[i] = base + (weir_duration)(seed >> 10 & 0x3fff) * 1000;
        timers[i].fire = notes_itself;
        timers[i].in_lock = true;
        CHECK_EQ(wr_timer_add(&timers[i], due[i]), 0);
    }
    for (int i = 0; i < TIMERS; i += 3) deleted += wr_timer_del(&timers[i]);
    for (int i = 0; i < TIMERS; i += 9) deleted -= wr_timer_add(&timers[i], due[i]) == 0;
    TEST_UNTIL(__atomic_load_n(&n_fired, __ATOMIC_ACQUIRE) == TIMERS - deleted);
    for (int i = 1; i < n_fired; i++) CHECK_LE(due[fired_order[i - 1]], due[fired_order[i]]);
    for (int i = 0; i < TIMERS; i++) TEST_UNTIL(!wr_timer_armed(&timers[i])); /* the last one has still to come back */
}
