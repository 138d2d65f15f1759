/* The mutex profile: which unlocks let others wait, and for how long. */
#include "profile_test.h"

#include <math.h>

#define A_WHILE (10 * WEIR_MILLISECOND)

static weir_mutex mutex;
static weir_rwmutex rwmutex;

static void waits_for_mutex(void) { (void)weir_mutex_lock(&mutex), weir_mutex_unlock(&mutex); }
static void waits_to_read(void) { (void)weir_rwmutex_rlock(&rwmutex), weir_rwmutex_runlock(&rwmutex); }
static void waits_to_write(void) { (void)weir_rwmutex_lock(&rwmutex), weir_rwmutex_unlock(&rwmutex); }

/* n of them wait for a while, at least. */
static void let_wait(void (*waiter)(void), int n, const char *state) {
    for (int i = 0; i < n; i++) TEST_GO(waiter);
    test_until_n_parked((size_t)n, state);
    weir_time parked = weir_now();
    while (weir_now() < parked + A_WHILE) weir_yield();
}
static void until_all_have_ended(void) { TEST_UNTIL(weir_count() == 1); }

static NOT_INLINED void unlocks(void) { CHECK_EQ(weir_mutex_unlock(&mutex), 0); }
static NOT_INLINED void unlocks_writer(void) { CHECK_EQ(weir_rwmutex_unlock(&rwmutex), 0); }
static NOT_INLINED void unlocks_reader(void) { CHECK_EQ(weir_rwmutex_runlock(&rwmutex), 0); }

TEST(the_unlock_that_lets_a_waiter_go_shows_with_its_delay) {
    weir_mutex_profile_fraction(1);
    weir_time start = weir_now();
    weir_mutex_lock(&mutex);
    let_wait(waits_for_mutex, 1, "sync.Mutex.Lock");
    unlocks();
    weir_duration all = weir_now() - start;
    struct stack s = sum_now(WR_PROFILE_MUTEX, unlocks);
    CHECK_EQ(s.count, 1);
    CHECK_GE(s.ns, A_WHILE);
    CHECK_LE(s.ns, all);
    CHECK(is_call(s.pcs[0], FUNCTION(weir_mutex_unlock)));
    CHECK_EQ(sum_now(WR_PROFILE_MUTEX, waits_for_mutex).n, 0);
    until_all_have_ended();
}
TEST(the_block_profile_has_the_waiter_and_the_mutex_profile_the_holder) {
    weir_mutex_profile_fraction(1);
    weir_block_profile_rate(1);
    weir_mutex_lock(&mutex);
    let_wait(waits_for_mutex, 1, "sync.Mutex.Lock");
    unlocks();
    until_all_have_ended();
    CHECK_EQ(sum_now(WR_PROFILE_BLOCK, unlocks).n, 0);
    CHECK_GE(sum_now(WR_PROFILE_BLOCK, waits_for_mutex).ns, A_WHILE);
    CHECK_GE(sum_now(WR_PROFILE_MUTEX, unlocks).ns, A_WHILE);
}
TEST(readers_that_a_writer_lets_go_count_each) {
    weir_mutex_profile_fraction(1);
    weir_rwmutex_lock(&rwmutex);
    let_wait(waits_to_read, 3, "sync.RWMutex.RLock");
    unlocks_writer();
    struct stack s = sum_now(WR_PROFILE_MUTEX, unlocks_writer);
    CHECK_EQ(s.count, 3);
    CHECK_GE(s.ns, 3 * A_WHILE);
    until_all_have_ended();
}
TEST(a_writer_that_a_writer_lets_go_counts) {
    weir_mutex_profile_fraction(1);
    weir_rwmutex_lock(&rwmutex);
    let_wait(waits_to_write, 1, "sync.RWMutex.Lock");
    unlocks_writer();
    struct stack s = sum_now(WR_PROFILE_MUTEX, unlocks_writer);
    CHECK_EQ(s.count, 1);
    CHECK_GE(s.ns, A_WHILE);
    until_all_have_ended();
}
TEST(the_last_reader_is_the_one_who_lets_a_writer_go) {
    weir_mutex_profile_fraction(1);
    weir_rwmutex_rlock(&rwmutex);
    weir_rwmutex_rlock(&rwmutex);
    let_wait(waits_to_write, 1, "sync.RWMutex.Lock");
    CHECK_EQ(weir_rwmutex_runlock(&rwmutex), 0);
    unlocks_reader();
    struct profile p = take_profile(WR_PROFILE_MUTEX);
    CHECK_EQ(p.count, 1);
    CHECK_EQ(sum_of(&p, unlocks_reader, NULL).count, 1);
    CHECK_GE(p.ns, A_WHILE);
    drop_profile(&p);
    until_all_have_ended();
}
static NOT_INLINED void holds_in_block(void) {
    weir_locked(&mutex) let_wait(waits_for_mutex, 1, "sync.Mutex.Lock");
    STAY();
}
TEST(leaving_a_locked_block_shows) {
    weir_mutex_profile_fraction(1);
    holds_in_block();
    CHECK_EQ(sum_now(WR_PROFILE_MUTEX, holds_in_block).count, 1);
    until_all_have_ended();
}

static _Atomic bool enough;
static long many;
static void competes(void) {
    while (!enough) {
        weir_mutex_lock(&mutex);
        many++;
        weir_yield(); /* with it held: the others queue */
        weir_mutex_unlock(&mutex);
    }
}
TEST(nobody_is_charged_for_a_wait_twice) {
    weir_mutex_profile_fraction(1);
    weir_time start = weir_now();
    for (int i = 0; i < 4; i++) TEST_GO(competes);
    for (bool more = true; more; weir_yield()) weir_locked(&mutex) more = many < TEST_SCALE(2000);
    enough = true;
    until_all_have_ended();
    weir_duration all = weir_now() - start;
    struct profile p = take_profile(WR_PROFILE_MUTEX);
    CHECK_GE(p.count, 1);
    CHECK_LE(p.ns, 5 * all); /* five could have waited, all the time */
    drop_profile(&p);
}

static void contend_once(void) {
    weir_mutex_lock(&mutex);
    TEST_GO(waits_for_mutex);
    test_until_n_parked(1, "sync.Mutex.Lock");
    unlocks();
    until_all_have_ended();
}
TEST(nothing_shows_while_it_is_off) {
    contend_once();
    weir_mutex_profile_fraction(1);
    weir_mutex_profile_fraction(0);
    contend_once();
    struct profile p = take_profile(WR_PROFILE_MUTEX);
    CHECK_EQ(p.n, 0);
}
TEST(unlocking_what_nobody_waits_for_shows_nothing) {
    weir_mutex_profile_fraction(1);
    for (int i = 0; i < 1000; i++) weir_mutex_lock(&mutex), weir_mutex_unlock(&mutex);
    struct profile p = take_profile(WR_PROFILE_MUTEX);
    CHECK_EQ(p.n, 0);
}
TEST(who_began_to_wait_while_it_was_off_is_not_counted) {
    weir_mutex_lock(&mutex);
    TEST_GO(waits_for_mutex);
    test_until_n_parked(1, "sync.Mutex.Lock");
    weir_mutex_profile_fraction(1);
    unlocks();
    until_all_have_ended();
    struct profile p = take_profile(WR_PROFILE_MUTEX);
    CHECK_EQ(p.n, 0);
}

PLAIN_TEST(setting_the_fraction_returns_what_it_was_and_a_negative_one_asks) {
    CHECK_EQ(weir_mutex_profile_fraction(-1), 0);
    CHECK_EQ(weir_mutex_profile_fraction(5), 0);
    CHECK_EQ(weir_mutex_profile_fraction(-1), 5);
    CHECK_EQ(weir_mutex_profile_fraction(INT32_MIN), 5);
    CHECK_EQ(weir_mutex_profile_fraction(1), 5);
    CHECK_EQ(weir_mutex_profile_fraction(0), 1);
    CHECK_EQ(weir_mutex_profile_fraction(0), 0);
}

/* Told as sync does. One in `fraction` is taken, and counts for as many: 8 standard deviations are never left. */
extern void (*_Atomic wr_hook_contended)(uint64_t waiters, weir_duration waited);
static NOT_INLINED void lets_go(long n) {
    for (long i = 0; i < n; i++) wr_hook_contended(1, 700), STAY();
}
PLAIN_TEST(sampling_is_right_on_average) {
    long n = TEST_SCALE(200000);
    int fraction = 10;
    weir_mutex_profile_fraction(fraction);
    lets_go(n);
    struct stack s = sum_now(WR_PROFILE_MUTEX, FUNCTION(lets_go));
    double deviation = 8 * sqrt((double)n * (fraction - 1));
    CHECK_GE(s.count, (double)n - deviation);
    CHECK_LE(s.count, (double)n + deviation);
    CHECK_EQ(s.ns, s.count * 700);
    CHECK_EQ(s.count % 10, 0);
}
