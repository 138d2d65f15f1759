/* Threads that weir did not start use its locks, beside goroutines; with the runtime embedded, too. */
#include "sync_test.h"

static weir_mutex m;
static weir_rwmutex rw;
static weir_cond c;
static weir_once once;
static weir_wg wg;
static weir_sem s;
static _Atomic int done, inside;
static long plain; /* guarded by the lock in use */
static long times;

static void add_locked(void) {
    for (long i = 0; i < times; i++) {
        CHECK_EQ(weir_mutex_lock(&m), 0);
        CHECK_EQ(atomic_fetch_add(&inside, 1), 0);
        plain++;
        CHECK_EQ(atomic_fetch_sub(&inside, 1), 1);
        CHECK_EQ(weir_mutex_unlock(&m), 0);
        if (i % 32 == 0) weir_yield();
    }
    done++;
}
static void *thread_add_locked(void *arg) {
    add_locked();
    return arg;
}

TEST(threads_and_goroutines_share_a_mutex) {
    pthread_t threads[3];
    times = TEST_SCALE(10000);
    for (int i = 0; i < 3; i++) {
        threads[i] = thread_start(thread_add_locked, NULL);
        GO(add_locked);
    }
    for (int i = 0; i < 3; i++) thread_end(threads[i]);
    TEST_UNTIL(done == 6);
    CHECK_EQ(plain, 6 * times);
    CHECK_EQ(m.state_, 0);
}

static void *thread_lock_and_unlock(void *arg) {
    CHECK_EQ(weir_mutex_lock(&m), 0);
    plain++;
    CHECK_EQ(weir_mutex_unlock(&m), 0);
    done++;
    return arg;
}

TEST(a_thread_sleeps_in_a_lock_until_a_goroutine_unlocks) {
    CHECK_EQ(weir_mutex_lock(&m), 0);
    pthread_t thread = thread_start(thread_lock_and_unlock, NULL);
    TEST_UNTIL(__atomic_load_n(&m.q_.count_, __ATOMIC_RELAXED) == 1);
    CHECK_EQ(done, 0);
    plain = 1;
    CHECK_EQ(weir_mutex_unlock(&m), 0);
    thread_end(thread);
    CHECK_EQ(plain, 2);
}

static void lock_it(void) {
    CHECK_EQ(weir_mutex_lock(&m), 0);
    done++;
}
static void *thread_unlock(void *arg) {
    CHECK_EQ(weir_mutex_unlock(&m), 0);
    return arg;
}

TEST(a_thread_may_unlock_what_a_goroutine_locked) {
    CHECK_EQ(weir_mutex_lock(&m), 0);
    GO(lock_it);
    test_until_n_parked(1, "sync.Mutex.Lock");
    thread_end(thread_start(thread_unlock, NULL));
    TEST_UNTIL(done == 1);
    thread_end(thread_start(thread_unlock, NULL));
    CHECK_EQ(weir_mutex_unlock(&m), -EPERM);
}

static void read_and_write(void) {
    for (long i = 0; i < times; i++) {
        if (i % 4) {
            CHECK_EQ(weir_rwmutex_rlock(&rw), 0);
            CHECK_EQ(inside, 0);
            CHECK_EQ(weir_rwmutex_runlock(&rw), 0);
        } else {
            CHECK_EQ(weir_rwmutex_lock(&rw), 0);
            CHECK_EQ(atomic_fetch_add(&inside, 1), 0);
            plain++;
            CHECK_EQ(atomic_fetch_sub(&inside, 1), 1);
            CHECK_EQ(weir_rwmutex_unlock(&rw), 0);
        }
    }
    done++;
}
static void *thread_read_and_write(void *arg) {
    read_and_write();
    return arg;
}

TEST(threads_and_goroutines_share_a_rwmutex) {
    pthread_t threads[3];
    times = TEST_SCALE(8000) / 4 * 4;
    for (int i = 0; i < 3; i++) {
        threads[i] = thread_start(thread_read_and_write, NULL);
        GO(read_and_write);
    }
    for (int i = 0; i < 3; i++) thread_end(threads[i]);
    TEST_UNTIL(done == 6);
    CHECK_EQ(plain, 6 * (times / 4));
}

/* No scheduler of ours and no atomics: the locks alone order what these threads do, says ThreadSanitizer. */
static long guarded[3]; /* by m; by rw, both */

static void *thread_use_plainly(void *arg) {
    for (long i = 0; i < times; i++) {
        CHECK_EQ(weir_mutex_lock(&m), 0);
        guarded[0]++;
        CHECK_EQ(weir_mutex_unlock(&m), 0);
        if (i % 4 == 0) {
            CHECK_EQ(weir_rwmutex_lock(&rw), 0);
            guarded[1]++, guarded[2]++;
            CHECK_EQ(weir_rwmutex_unlock(&rw), 0);
        }
        CHECK_EQ(weir_rwmutex_rlock(&rw), 0);
        CHECK_EQ(guarded[1], guarded[2]);
        CHECK_EQ(weir_rwmutex_runlock(&rw), 0);
    }
    return arg;
}

TEST(locks_alone_order_what_threads_do) {
    pthread_t threads[4];
    times = TEST_SCALE(40000) / 4 * 4;
    for (int i = 0; i < 4; i++) threads[i] = thread_start(thread_use_plainly, NULL);
    for (int i = 0; i < 4; i++) thread_end(threads[i]);
    CHECK_EQ(guarded[0], 4 * times);
    CHECK_EQ(guarded[1], times);
}

static int turn; /* guarded by m */

static void take_turns(int mine) {
    for (long i = 0; i < times; i++) {
        CHECK_EQ(weir_mutex_lock(&m), 0);
        while (turn != mine) CHECK_EQ(weir_cond_wait(&c, &m), 0);
        turn = !turn;
        CHECK_EQ(weir_cond_signal(&c), 0);
        CHECK_EQ(weir_mutex_unlock(&m), 0);
    }
    done++;
}
static void *thread_take_turns(void *arg) {
    take_turns(1);
    return arg;
}

TEST(a_thread_and_a_goroutine_signal_each_other) {
    times = TEST_SCALE(1000);
    pthread_t thread = thread_start(thread_take_turns, NULL);
    take_turns(0);
    thread_end(thread);
    CHECK_EQ(done, 2);
}

static void *thread_wait_cancelled(void *arg) {
    weir_timeout(5 * WEIR_MILLISECOND) {
        CHECK_EQ(weir_mutex_lock(&m), 0);
        CHECK_EQ(weir_cond_wait(&c, &m), -ETIMEDOUT);
        CHECK_EQ(weir_mutex_try_lock(&m), -EAGAIN);
        CHECK_EQ(weir_mutex_unlock(&m), 0);
        CHECK_EQ(weir_wg_wait(&wg), -ETIMEDOUT);
        CHECK_EQ(weir_sem_acquire(&s, 1), -ETIMEDOUT);
    }
    weir_locked(&m) {
        done++;
    }
    return arg;
}

TEST(a_threads_waits_are_cancellable) {
    CHECK_EQ(weir_sem_init(&s, 1), 0);
    CHECK_EQ(weir_sem_acquire(&s, 1), 0);
    CHECK_EQ(weir_wg_add(&wg, 1), 0);
    thread_end(thread_start(thread_wait_cancelled, NULL));
    CHECK_EQ(done, 1);
    CHECK_EQ(weir_mutex_unlock(&m), -EPERM);
}

static void run_once(void *arg) {
    (void)arg;
    compute(2 * WEIR_MILLISECOND);
    plain++;
}
static void do_once(void) {
    CHECK_EQ(weir_once_do(&once, run_once, NULL), 0);
    CHECK_EQ(plain, 1);
    done++;
}
static void *thread_do_once(void *arg) {
    do_once();
    return arg;
}

TEST(threads_and_goroutines_do_a_once_once) {
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        threads[i] = thread_start(thread_do_once, NULL);
        GO(do_once);
    }
    for (int i = 0; i < 4; i++) thread_end(threads[i]);
    TEST_UNTIL(done == 8);
}

static void *thread_exit_once(void *arg) {
    weir_exit();
    return arg;
}
static void exit_in_once(void *arg) { (void)thread_exit_once(arg); }
static void *thread_do_exit(void *arg) {
    (void)weir_once_do(&once, exit_in_once, NULL);
    return arg;
}

TEST(a_thread_that_exits_in_a_once_has_done_it) {
    thread_end(thread_start(thread_do_exit, NULL));
    CHECK_EQ(weir_once_do(&once, run_once, NULL), 0);
    CHECK_EQ(plain, 0);
}

static _Atomic int units;

static void use_sem(void) {
    for (long i = 0; i < times; i++) {
        CHECK_EQ(weir_sem_acquire(&s, 2), 0);
        CHECK_LE(atomic_fetch_add(&units, 2), 2);
        atomic_fetch_sub(&units, 2);
        CHECK_EQ(weir_sem_release(&s, 2), 0);
    }
    CHECK_EQ(weir_wg_done(&wg), 0);
}
static void *thread_use_sem(void *arg) {
    use_sem();
    return arg;
}
static void *thread_wait_wg(void *arg) {
    CHECK_EQ(weir_wg_wait(&wg), 0);
    done++;
    return arg;
}

/* The threads of a program that merely embeds weir: no goroutine of theirs is the main one. */
PLAIN_TEST(an_embedding_programs_threads_use_everything) {
    pthread_t users[3], waiter;
    CHECK_EQ(weir_start(), 0);
    times = TEST_SCALE(5000);
    CHECK_EQ(weir_sem_init(&s, 5), 0);
    CHECK_EQ(weir_wg_add(&wg, 6), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(pthread_create(&users[i], NULL, thread_use_sem, NULL), 0);
        GO(use_sem);
    }
    CHECK_EQ(pthread_create(&waiter, NULL, thread_wait_wg, NULL), 0);
    CHECK_EQ(weir_wg_go(&wg, add_locked), 0);
    add_locked();
    CHECK_EQ(weir_wg_wait(&wg), 0);
    CHECK_EQ(plain, 2 * times);
    for (int i = 0; i < 3; i++) CHECK_EQ(pthread_join(users[i], NULL), 0);
    CHECK_EQ(pthread_join(waiter, NULL), 0);
    CHECK_EQ(weir_stop(WEIR_SECOND * 30), 0);
}
