/* Mutexes: exclusion, order, fairness, misuse, and blocks that hold one. */
#include "sync_test.h"

static weir_mutex m;
static _Atomic int done;

TEST(a_locked_mutex_is_locked_until_it_is_unlocked) {
    CHECK_EQ(weir_mutex_lock(&m), 0);
    CHECK_EQ(weir_mutex_try_lock(&m), -EAGAIN);
    CHECK_EQ(weir_mutex_unlock(&m), 0);
    CHECK_EQ(weir_mutex_try_lock(&m), 0);
    CHECK_EQ(weir_mutex_try_lock(&m), -EAGAIN);
    CHECK_EQ(weir_mutex_unlock(&m), 0);
}

TEST(the_initialiser_and_zero_bytes_are_the_same) {
    weir_mutex a = WEIR_MUTEX_INIT, b;
    memset(&b, 0, sizeof b);
    CHECK(memcmp(&a, &b, sizeof a) == 0);
    CHECK_EQ(weir_mutex_lock(&b), 0);
    CHECK_EQ(weir_mutex_unlock(&b), 0);
}

TEST(unlocking_what_is_not_locked_is_refused) {
    CHECK_EQ(weir_mutex_unlock(&m), -EPERM);
    CHECK_EQ(weir_mutex_lock(&m), 0);
    CHECK_EQ(weir_mutex_unlock(&m), 0);
    CHECK_EQ(weir_mutex_unlock(&m), -EPERM);
    CHECK_EQ(weir_mutex_lock(&m), 0); /* and the mutex is as good as before */
    CHECK_EQ(weir_mutex_try_lock(&m), -EAGAIN);
    CHECK_EQ(weir_mutex_unlock(&m), 0);
}

/* With its lock taken, whoever touches the queue hangs. */
TEST(without_contention_the_queue_is_not_touched) {
    m.q_.lock_ = 1;
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(weir_mutex_lock(&m), 0);
        CHECK_EQ(weir_mutex_unlock(&m), 0);
        CHECK_EQ(weir_mutex_try_lock(&m), 0);
        CHECK_EQ(weir_mutex_unlock(&m), 0);
    }
}

static void lock_and_unlock(void) {
    CHECK_EQ(weir_mutex_lock(&m), 0);
    CHECK_EQ(weir_mutex_unlock(&m), 0);
    done++;
}

TEST(a_blocked_lock_says_what_it_waits_for) {
    CHECK_EQ(weir_mutex_lock(&m), 0);
    GO(lock_and_unlock);
    test_until_n_parked(1, "sync.Mutex.Lock");
    CHECK_EQ(waiting_on("sync.Mutex.Lock", &m), 1);
    CHECK_EQ(done, 0);
    CHECK_EQ(weir_mutex_unlock(&m), 0);
    TEST_UNTIL(done == 1);
}

static void unlock_it(void) {
    CHECK_EQ(weir_mutex_unlock(&m), 0);
    done++;
}

TEST(another_goroutine_may_unlock) {
    CHECK_EQ(weir_mutex_lock(&m), 0);
    GO(unlock_it);
    CHECK_EQ(weir_mutex_lock(&m), 0);
    TEST_UNTIL(done == 1);
    CHECK_EQ(weir_mutex_try_lock(&m), -EAGAIN);
    CHECK_EQ(weir_mutex_unlock(&m), 0);
}

static void lock_under(weir_ctx *ctx) {
    weir_with(ctx) {
        CHECK_EQ(weir_mutex_lock(&m), 0);
        CHECK_EQ(weir_ctx_err(NULL), -ECANCELED);
        CHECK_EQ(weir_mutex_unlock(&m), 0);
    }
    done++;
}

TEST(a_lock_is_not_cancellable) {
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    CHECK_EQ(weir_mutex_lock(&m), 0);
    GO(lock_under, ctx);
    test_until_n_parked(1, "sync.Mutex.Lock");
    weir_ctx_cancel(ctx);
    GO(lock_under, ctx); /* cancelled before it even begins */
    test_until_n_parked(2, "sync.Mutex.Lock");
    for (int i = 0; i < 100; i++) weir_yield();
    CHECK_EQ(test_parked("sync.Mutex.Lock"), 2);
    CHECK_EQ(weir_mutex_unlock(&m), 0);
    TEST_UNTIL(done == 2);
    weir_ctx_release(ctx);
}

static void lock_with_errno(void) {
    errno = 77;
    CHECK_EQ(weir_mutex_lock(&m), 0);
    CHECK_EQ(errno, 77);
    CHECK_EQ(weir_mutex_unlock(&m), 0);
    done++;
}

TEST(errno_is_kept_over_a_blocked_lock) {
    CHECK_EQ(weir_mutex_lock(&m), 0);
    GO(lock_with_errno);
    test_until_n_parked(1, "sync.Mutex.Lock");
    errno = 5;
    CHECK_EQ(weir_mutex_unlock(&m), 0);
    TEST_UNTIL(done == 1);
}

/* ---- Exclusion --------------------------------------------------------------------------------------- */

static long plain; /* guarded by m */
static _Atomic int inside;

static void check_alone(void) {
    CHECK_EQ(atomic_fetch_add(&inside, 1), 0);
    plain++;
    if (plain % 64 == 0) weir_yield();
    CHECK_EQ(atomic_fetch_sub(&inside, 1), 1);
}

static void add_locked(long n) {
    for (long i = 0; i < n; i++) {
        CHECK_EQ(weir_mutex_lock(&m), 0);
        check_alone();
        CHECK_EQ(weir_mutex_unlock(&m), 0);
    }
    done++;
}

static void check_idle(void) {
    CHECK_EQ(m.state_, 0);
    CHECK_EQ(m.q_.count_, 0);
    CHECK(!m.q_.head_ && !m.q_.tail_);
}

TEST(one_at_a_time_holds_it) {
    long n = TEST_SCALE(20000);
    weir_procs(4);
    for (int i = 0; i < 20; i++) GO(add_locked, n);
    TEST_UNTIL(done == 20);
    CHECK_EQ(plain, 20 * n);
    check_idle();
}

TEST(one_at_a_time_holds_it_on_one_processor) {
    long n = TEST_SCALE(20000);
    weir_procs(1);
    for (int i = 0; i < 10; i++) GO(add_locked, n);
    TEST_UNTIL(done == 10);
    CHECK_EQ(plain, 10 * n);
    check_idle();
}

/* No atomics here: only the mutex can make one holder's writes seen by the next one, says ThreadSanitizer. */
static void add_plainly(long n) {
    for (long i = 0; i < n; i++) {
        CHECK_EQ(weir_mutex_lock(&m), 0);
        plain++;
        CHECK_EQ(weir_mutex_unlock(&m), 0);
    }
    done++;
}

TEST(what_a_holder_wrote_the_next_one_sees) {
    long n = TEST_SCALE(20000);
    weir_procs(4);
    for (int i = 0; i < 8; i++) GO(add_plainly, n);
    TEST_UNTIL(done == 8);
    CHECK_EQ(plain, 8 * n);
}

static void add_trying(long n) {
    for (long i = 0; i < n;) {
        if (weir_mutex_try_lock(&m)) {
            weir_yield();
            continue;
        }
        check_alone();
        CHECK_EQ(weir_mutex_unlock(&m), 0);
        i++;
    }
    done++;
}

TEST(try_lock_and_lock_exclude_each_other) {
    long n = TEST_SCALE(10000);
    weir_procs(4);
    for (int i = 0; i < 4; i++) {
        GO(add_locked, n);
        GO(add_trying, n);
    }
    TEST_UNTIL(done == 8);
    CHECK_EQ(plain, 8 * n);
    check_idle();
}

/* Each holds it long enough for those who wait to become impatient, so that both modes are entered many times. */
static void add_slowly(long n) {
    for (long i = 0; i < n; i++) {
        CHECK_EQ(weir_mutex_lock(&m), 0);
        check_alone();
        if (i % 4 == 0) compute(500 * WEIR_MICROSECOND);
        CHECK_EQ(weir_mutex_unlock(&m), 0);
        if (i % 8 == 0) weir_sleep(WEIR_MILLISECOND);
    }
    done++;
}

TEST(hand_overs_and_free_competition_take_turns) {
    weir_procs(4);
    for (int i = 0; i < 8; i++) GO(add_slowly, 40L);
    TEST_UNTIL(done == 8);
    CHECK_EQ(plain, 8 * 40);
    check_idle();
}

/* ---- Order and fairness ------------------------------------------------------------------------------- */

static int order[64]; /* guarded by m */
static _Atomic int n_order;

static void lock_and_note(int i) {
    CHECK_EQ(weir_mutex_lock(&m), 0);
    order[n_order++] = i;
    CHECK_EQ(weir_mutex_unlock(&m), 0);
    done++;
}

TEST(waiters_are_served_in_the_order_of_coming) {
    CHECK_EQ(weir_mutex_lock(&m), 0);
    for (int i = 0; i < 32; i++) {
        GO(lock_and_note, i);
        test_until_n_parked((size_t)i + 1, "sync.Mutex.Lock");
    }
    CHECK_EQ(weir_mutex_unlock(&m), 0);
    TEST_UNTIL(done == 32);
    for (int i = 0; i < 32; i++) CHECK_EQ(order[i], i);
}

/* The first waiter is woken, and while it comes the mutex is taken again: it goes back to the front, not to the end. */
TEST(a_waiter_that_was_passed_by_is_still_the_first) {
    weir_procs(1);
    CHECK_EQ(weir_mutex_lock(&m), 0);
    for (int i = 0; i < 3; i++) {
        GO(lock_and_note, i);
        test_until_n_parked((size_t)i + 1, "sync.Mutex.Lock");
    }
    CHECK_EQ(weir_mutex_unlock(&m), 0);
    CHECK_EQ(weir_mutex_lock(&m), 0);
    TEST_UNTIL(test_parked("sync.Mutex.Lock") == 3 || n_order);
    CHECK_EQ(weir_mutex_unlock(&m), 0);
    TEST_UNTIL(done == 3);
    for (int i = 0; i < 3; i++) CHECK_EQ(order[i], i);
}

static _Atomic bool stop;
static _Atomic long hog_turns;

/* Lets go only to lock again at once, and holds on long enough that it is never found free. */
static void hog(weir_duration hold) {
    while (!stop) {
        CHECK_EQ(weir_mutex_lock(&m), 0);
        hog_turns++;
        weir_sleep(hold);
        CHECK_EQ(weir_mutex_unlock(&m), 0);
    }
    done++;
}

/* How long somebody waits is counted in turns of the hog. Three are what the protocol allows if a woken goroutine runs
 * before the hog's next turn is over; the rest is for a busy machine. Which may also set our thread aside before it has asked, or
 * once it was woken, for any number of turns; such a time says nothing. */
static void waits_for_few_turns(void) {
    int few = 0;
    for (int i = 0; i < 100 && few < 5; i++) {
        long before = hog_turns;
        CHECK_EQ(weir_mutex_lock(&m), 0);
        few += hog_turns - before <= 100;
        CHECK_EQ(weir_mutex_unlock(&m), 0);
    }
    CHECK_EQ(few, 5);
}
TEST(a_hog_cannot_starve_a_waiter) {
    GO(hog, 2 * WEIR_MILLISECOND);
    TEST_UNTIL(hog_turns > 0);
    waits_for_few_turns();
    stop = true;
    TEST_UNTIL(done == 1);
}

TEST(a_hog_cannot_starve_a_waiter_on_one_processor) {
    weir_procs(1);
    GO(hog, 2 * WEIR_MILLISECOND);
    TEST_UNTIL(hog_turns > 0);
    waits_for_few_turns();
    stop = true;
    TEST_UNTIL(done == 1);
}

static void lock_five_times(void) {
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(weir_mutex_lock(&m), 0);
        CHECK_EQ(weir_mutex_unlock(&m), 0);
    }
    done++;
}

TEST(hogs_cannot_starve_many_waiters) {
    for (int i = 0; i < 2; i++) GO(hog, 2 * WEIR_MILLISECOND);
    TEST_UNTIL(hog_turns > 0);
    long before = hog_turns;
    for (int i = 0; i < 20; i++) GO(lock_five_times);
    TEST_UNTIL(done == 20);
    CHECK_LE(hog_turns - before, 2000);
    stop = true;
    TEST_UNTIL(done == 22);
    check_idle();
}

/* A hog that never parks: the processor is taken from it, and then so is the mutex. */
static void hog_computing(void) {
    while (!stop) {
        CHECK_EQ(weir_mutex_lock(&m), 0);
        compute(100 * WEIR_MICROSECOND);
        CHECK_EQ(weir_mutex_unlock(&m), 0);
    }
    done++;
}

TEST(a_computing_hog_cannot_starve_a_waiter) {
    weir_procs(1);
    GO(hog_computing);
    for (int i = 0; i < 5; i++) {
        weir_sleep(WEIR_MILLISECOND);
        weir_time before = weir_now();
        CHECK_EQ(weir_mutex_lock(&m), 0);
        CHECK_LE(weir_now() - before, 5 * test_slowness() * WEIR_SECOND);
        CHECK_EQ(weir_mutex_unlock(&m), 0);
    }
    stop = true;
    TEST_UNTIL(done == 1);
}

static _Atomic long taken[16];

static void take_turns(int i) {
    while (!stop) {
        CHECK_EQ(weir_mutex_lock(&m), 0);
        taken[i]++;
        compute(200 * WEIR_MICROSECOND);
        CHECK_EQ(weir_mutex_unlock(&m), 0);
    }
    done++;
}

TEST(contenders_all_get_their_turn) {
    for (int i = 0; i < 16; i++) GO(take_turns, i);
    for (int i = 0; i < 16; i++) TEST_UNTIL(taken[i] >= 1); /* for ever, if anybody did not */
    stop = true;
    TEST_UNTIL(done == 16);
}

/* ---- Blocks that hold a mutex ------------------------------------------------------------------------- */

TEST(a_locked_block_holds_the_mutex_until_its_end) {
    int runs = 0;
    weir_locked(&m) {
        CHECK_EQ(weir_mutex_try_lock(&m), -EAGAIN);
        runs++;
    }
    CHECK_EQ(runs, 1);
    CHECK_EQ(weir_mutex_unlock(&m), -EPERM);
}

static int return_out(void) {
    weir_locked(&m) {
        return 7;
    }
    return 0;
}

TEST(however_a_locked_block_is_left_it_unlocks) {
    weir_locked(&m) {
        break;
    }
    CHECK_EQ(weir_mutex_unlock(&m), -EPERM);
    weir_locked(&m) {
        continue;
    }
    CHECK_EQ(weir_mutex_unlock(&m), -EPERM);
    weir_locked(&m) {
        goto out;
    }
out:
    CHECK_EQ(weir_mutex_unlock(&m), -EPERM);
    CHECK_EQ(return_out(), 7);
    CHECK_EQ(weir_mutex_unlock(&m), -EPERM);
}

static void note_free(void *arg) {
    (void)arg;
    CHECK_EQ(weir_mutex_try_lock(&m), 0); /* the inner block has been left by now */
    CHECK_EQ(weir_mutex_unlock(&m), 0);
    done++;
}

static void exit_inside(void) {
    weir_defer(note_free, NULL);
    weir_locked(&m) {
        weir_exit();
    }
}

TEST(weir_exit_leaves_a_locked_block) {
    GO(exit_inside);
    TEST_UNTIL(done == 1);
    CHECK_EQ(weir_mutex_lock(&m), 0);
    CHECK_EQ(weir_mutex_unlock(&m), 0);
}

TEST(locked_blocks_nest) {
    weir_mutex other = WEIR_MUTEX_INIT;
    weir_locked(&m) {
        weir_locked(&other) {
            CHECK_EQ(weir_mutex_try_lock(&m), -EAGAIN);
            CHECK_EQ(weir_mutex_try_lock(&other), -EAGAIN);
        }
        CHECK_EQ(weir_mutex_try_lock(&m), -EAGAIN);
        CHECK_EQ(weir_mutex_try_lock(&other), 0);
        CHECK_EQ(weir_mutex_unlock(&other), 0);
    }
    CHECK_EQ(weir_mutex_unlock(&m), -EPERM);
}

static void add_in_block(long n) {
    for (long i = 0; i < n; i++)
        weir_locked(&m) {
            check_alone();
        }
    done++;
}

TEST(locked_blocks_exclude_each_other) {
    long n = TEST_SCALE(5000);
    for (int i = 0; i < 8; i++) GO(add_in_block, n);
    TEST_UNTIL(done == 8);
    CHECK_EQ(plain, 8 * n);
}

static void lock_twice(void) {
    CHECK_EQ(weir_mutex_lock(&m), 0);
    CHECK_EQ(weir_mutex_lock(&m), 0);
}

EXIT_TEST(locking_twice_is_a_deadlock, 2, "all goroutines are asleep - deadlock!") { lock_twice(); }
