/* Readers-writer mutexes: who shares, who waits for whom, who comes first. */
#include "sync_test.h"

static weir_rwmutex rw;
static _Atomic int done;
static _Atomic int readers, writers;
static _Atomic bool go_on;

static void check_idle(void) {
    CHECK_EQ(rw.state_, 0);
    CHECK_EQ(rw.q_.count_, 0);
    CHECK_EQ(rw.wq_.count_, 0);
}

TEST(readers_share_and_a_writer_does_not) {
    CHECK_EQ(weir_rwmutex_rlock(&rw), 0);
    CHECK_EQ(weir_rwmutex_rlock(&rw), 0);
    CHECK_EQ(weir_rwmutex_try_rlock(&rw), 0);
    CHECK_EQ(weir_rwmutex_try_lock(&rw), -EAGAIN);
    for (int i = 0; i < 3; i++) CHECK_EQ(weir_rwmutex_runlock(&rw), 0);
    CHECK_EQ(weir_rwmutex_lock(&rw), 0);
    CHECK_EQ(weir_rwmutex_try_rlock(&rw), -EAGAIN);
    CHECK_EQ(weir_rwmutex_try_lock(&rw), -EAGAIN);
    CHECK_EQ(weir_rwmutex_unlock(&rw), 0);
    CHECK_EQ(weir_rwmutex_try_lock(&rw), 0);
    CHECK_EQ(weir_rwmutex_unlock(&rw), 0);
    check_idle();
}

TEST(the_initialiser_and_zero_bytes_are_the_same) {
    weir_rwmutex a = WEIR_RWMUTEX_INIT, b;
    memset(&b, 0, sizeof b);
    CHECK(memcmp(&a, &b, sizeof a) == 0);
}

TEST(unlocking_what_is_not_locked_so_is_refused) {
    CHECK_EQ(weir_rwmutex_unlock(&rw), -EPERM);
    CHECK_EQ(weir_rwmutex_runlock(&rw), -EPERM);
    CHECK_EQ(weir_rwmutex_rlock(&rw), 0);
    CHECK_EQ(weir_rwmutex_unlock(&rw), -EPERM);
    CHECK_EQ(weir_rwmutex_runlock(&rw), 0);
    CHECK_EQ(weir_rwmutex_runlock(&rw), -EPERM);
    CHECK_EQ(weir_rwmutex_lock(&rw), 0);
    CHECK_EQ(weir_rwmutex_runlock(&rw), -EPERM);
    CHECK_EQ(weir_rwmutex_unlock(&rw), 0);
    CHECK_EQ(weir_rwmutex_unlock(&rw), -EPERM);
    check_idle();
}

/* With its lock taken, whoever touches the queue hangs. */
TEST(without_contention_the_queue_is_not_touched) {
    rw.q_.lock_ = rw.wq_.lock_ = 1;
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(weir_rwmutex_rlock(&rw), 0);
        CHECK_EQ(weir_rwmutex_rlock(&rw), 0);
        CHECK_EQ(weir_rwmutex_runlock(&rw), 0);
        CHECK_EQ(weir_rwmutex_runlock(&rw), 0);
        CHECK_EQ(weir_rwmutex_lock(&rw), 0);
        CHECK_EQ(weir_rwmutex_unlock(&rw), 0);
    }
}

static void read_until_told(void) {
    CHECK_EQ(weir_rwmutex_rlock(&rw), 0);
    CHECK_EQ(writers, 0);
    readers++;
    TEST_UNTIL(go_on);
    CHECK_EQ(writers, 0);
    readers--;
    CHECK_EQ(weir_rwmutex_runlock(&rw), 0);
    done++;
}

static void write_until_told(void) {
    CHECK_EQ(weir_rwmutex_lock(&rw), 0);
    CHECK_EQ(atomic_fetch_add(&writers, 1), 0);
    CHECK_EQ(readers, 0);
    TEST_UNTIL(go_on);
    CHECK_EQ(atomic_fetch_sub(&writers, 1), 1);
    CHECK_EQ(weir_rwmutex_unlock(&rw), 0);
    done++;
}

TEST(readers_hold_it_at_the_same_time) {
    for (int i = 0; i < 10; i++) GO(read_until_told);
    TEST_UNTIL(readers == 10);
    go_on = true;
    TEST_UNTIL(done == 10);
    check_idle();
}

TEST(blocked_calls_say_what_they_wait_for) {
    CHECK_EQ(weir_rwmutex_lock(&rw), 0);
    GO(read_until_told);
    GO(write_until_told);
    test_until_n_parked(1, "sync.RWMutex.RLock");
    test_until_n_parked(1, "sync.RWMutex.Lock");
    CHECK_EQ(waiting_on("sync.RWMutex.RLock", &rw), 1);
    CHECK_EQ(waiting_on("sync.RWMutex.Lock", &rw), 1);
    go_on = true;
    CHECK_EQ(weir_rwmutex_unlock(&rw), 0);
    TEST_UNTIL(done == 2);
    check_idle();
}

TEST(a_waiting_writer_holds_new_readers_back) {
    CHECK_EQ(weir_rwmutex_rlock(&rw), 0);
    GO(write_until_told);
    test_until_n_parked(1, "sync.RWMutex.Lock");
    CHECK_EQ(weir_rwmutex_try_rlock(&rw), -EAGAIN);
    CHECK_EQ(weir_rwmutex_try_lock(&rw), -EAGAIN);
    CHECK_EQ(weir_rwmutex_unlock(&rw), -EPERM); /* it is next, but does not have it */
    GO(read_until_told);
    test_until_n_parked(1, "sync.RWMutex.RLock");
    CHECK_EQ(weir_rwmutex_runlock(&rw), 0);
    TEST_UNTIL(writers == 1);
    CHECK_EQ(test_parked("sync.RWMutex.RLock"), 1); /* the writer came first */
    go_on = true;
    TEST_UNTIL(done == 2);
    check_idle();
}

TEST(only_the_last_of_several_readers_lets_the_writer_in) {
    for (int i = 0; i < 3; i++) CHECK_EQ(weir_rwmutex_rlock(&rw), 0);
    GO(write_until_told);
    test_until_n_parked(1, "sync.RWMutex.Lock");
    CHECK_EQ(weir_rwmutex_runlock(&rw), 0);
    CHECK_EQ(weir_rwmutex_runlock(&rw), 0);
    for (int i = 0; i < 100; i++) weir_yield();
    CHECK_EQ(test_parked("sync.RWMutex.Lock"), 1);
    CHECK_EQ(weir_rwmutex_runlock(&rw), 0);
    TEST_UNTIL(writers == 1);
    go_on = true;
    TEST_UNTIL(done == 1);
    check_idle();
}

/* A writer waited first, five readers after it; yet when the present writer unlocks it is the readers' turn. */
TEST(readers_that_wait_at_an_unlock_all_go_before_the_next_writer) {
    CHECK_EQ(weir_rwmutex_lock(&rw), 0);
    GO(write_until_told);
    test_until_n_parked(1, "sync.RWMutex.Lock");
    for (int i = 0; i < 5; i++) GO(read_until_told);
    test_until_n_parked(5, "sync.RWMutex.RLock");
    CHECK_EQ(weir_rwmutex_unlock(&rw), 0);
    TEST_UNTIL(readers == 5);
    test_until_n_parked(1, "sync.RWMutex.Lock");
    CHECK_EQ(writers, 0);
    CHECK_EQ(weir_rwmutex_try_rlock(&rw), -EAGAIN); /* who comes now comes after the writer */
    go_on = true;
    TEST_UNTIL(done == 6);
    check_idle();
}

static int order[32];
static int n_order; /* guarded by rw */

static void write_and_note(int i) {
    CHECK_EQ(weir_rwmutex_lock(&rw), 0);
    order[n_order++] = i;
    CHECK_EQ(weir_rwmutex_unlock(&rw), 0);
    done++;
}

TEST(writers_are_served_in_the_order_of_coming) {
    CHECK_EQ(weir_rwmutex_lock(&rw), 0);
    for (int i = 0; i < 32; i++) {
        GO(write_and_note, i);
        test_until_n_parked((size_t)i + 1, "sync.RWMutex.Lock");
    }
    CHECK_EQ(weir_rwmutex_unlock(&rw), 0);
    TEST_UNTIL(done == 32);
    for (int i = 0; i < 32; i++) CHECK_EQ(order[i], i);
    check_idle();
}

static void let_go(bool writing) {
    CHECK_EQ(writing ? weir_rwmutex_unlock(&rw) : weir_rwmutex_runlock(&rw), 0);
    done++;
}

TEST(another_goroutine_may_unlock) {
    CHECK_EQ(weir_rwmutex_lock(&rw), 0);
    GO(let_go, true);
    CHECK_EQ(weir_rwmutex_rlock(&rw), 0);
    GO(let_go, false);
    CHECK_EQ(weir_rwmutex_lock(&rw), 0);
    CHECK_EQ(weir_rwmutex_unlock(&rw), 0);
    TEST_UNTIL(done == 2);
    check_idle();
}

static void use_under(weir_ctx *ctx, bool writing) {
    weir_with(ctx) {
        CHECK_EQ(writing ? weir_rwmutex_lock(&rw) : weir_rwmutex_rlock(&rw), 0);
        CHECK_EQ(weir_ctx_err(NULL), -ECANCELED);
        CHECK_EQ(writing ? weir_rwmutex_unlock(&rw) : weir_rwmutex_runlock(&rw), 0);
    }
    done++;
}

TEST(neither_lock_is_cancellable) {
    weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    CHECK_EQ(weir_rwmutex_lock(&rw), 0);
    GO(use_under, ctx, true);
    GO(use_under, ctx, false);
    test_until_n_parked(1, "sync.RWMutex.Lock");
    test_until_n_parked(1, "sync.RWMutex.RLock");
    weir_ctx_cancel(ctx);
    for (int i = 0; i < 100; i++) weir_yield();
    CHECK_EQ(test_parked("sync.RWMutex.Lock"), 1);
    CHECK_EQ(test_parked("sync.RWMutex.RLock"), 1);
    CHECK_EQ(weir_rwmutex_unlock(&rw), 0);
    TEST_UNTIL(done == 2);
    weir_ctx_release(ctx);
}

/* ---- Under pressure ------------------------------------------------------------------------------------ */

static long plain[2]; /* guarded by rw: always equal, but while a writer is at it */

static void write_often(long n) {
    for (long i = 0; i < n; i++) {
        if (i % 4 || weir_rwmutex_try_lock(&rw)) CHECK_EQ(weir_rwmutex_lock(&rw), 0);
        CHECK_EQ(atomic_fetch_add(&writers, 1), 0);
        CHECK_EQ(readers, 0);
        plain[0]++;
        if (i % 16 == 0) weir_yield();
        plain[1]++;
        CHECK_EQ(atomic_fetch_sub(&writers, 1), 1);
        CHECK_EQ(weir_rwmutex_unlock(&rw), 0);
    }
    done++;
}

static void read_often(long n) {
    for (long i = 0; i < n; i++) {
        if (i % 4 || weir_rwmutex_try_rlock(&rw)) CHECK_EQ(weir_rwmutex_rlock(&rw), 0);
        atomic_fetch_add(&readers, 1);
        CHECK_EQ(writers, 0);
        if (i % 16 == 0) weir_yield();
        CHECK_EQ(plain[0], plain[1]);
        atomic_fetch_sub(&readers, 1);
        CHECK_EQ(weir_rwmutex_runlock(&rw), 0);
    }
    done++;
}

TEST(a_reader_never_meets_a_writer) {
    long n = TEST_SCALE(10000);
    weir_procs(4);
    for (int i = 0; i < 10; i++) GO(read_often, n);
    for (int i = 0; i < 3; i++) GO(write_often, n);
    TEST_UNTIL(done == 13);
    CHECK_EQ(plain[0], 3 * n);
    check_idle();
}

/* No atomics here: only the lock can make a writer's writes seen by those after it, says ThreadSanitizer. */
static void use_plainly(long n, bool writing) {
    for (long i = 0; i < n; i++) {
        if (writing) {
            CHECK_EQ(weir_rwmutex_lock(&rw), 0);
            plain[0]++, plain[1]++;
            CHECK_EQ(weir_rwmutex_unlock(&rw), 0);
        } else {
            CHECK_EQ(weir_rwmutex_rlock(&rw), 0);
            CHECK_EQ(plain[0], plain[1]);
            CHECK_EQ(weir_rwmutex_runlock(&rw), 0);
        }
    }
    done++;
}

TEST(what_a_writer_wrote_those_after_it_see) {
    long n = TEST_SCALE(20000);
    weir_procs(4);
    for (int i = 0; i < 8; i++) GO(use_plainly, n, (bool)(i % 2));
    TEST_UNTIL(done == 8);
    CHECK_EQ(plain[0], 4 * n);
}

TEST(writers_among_themselves_exclude_each_other) {
    long n = TEST_SCALE(10000);
    weir_procs(4);
    for (int i = 0; i < 8; i++) GO(write_often, n);
    TEST_UNTIL(done == 8);
    CHECK_EQ(plain[0], 8 * n);
    check_idle();
}

static _Atomic bool stop;
static _Atomic long reads;

/* Each leaves only when another one is in, so that without the writer's precedence there would be no gap for it. */
static void read_overlapping(void) {
    while (!stop) {
        CHECK_EQ(weir_rwmutex_rlock(&rw), 0);
        long before = atomic_fetch_add(&reads, 1);
        for (int i = 0; i < 1000 && reads == before + 1 && !stop; i++) weir_yield();
        CHECK_EQ(weir_rwmutex_runlock(&rw), 0);
    }
    done++;
}

TEST(readers_cannot_starve_a_writer) {
    for (int i = 0; i < 4; i++) GO(read_overlapping);
    for (int i = 0; i < 20; i++) {
        long before = reads;
        TEST_UNTIL(reads > before + 8);
        CHECK_EQ(weir_rwmutex_lock(&rw), 0);
        CHECK_EQ(weir_rwmutex_unlock(&rw), 0);
    }
    stop = true;
    TEST_UNTIL(done == 4);
    check_idle();
}

static _Atomic long writes;

static void write_on(void) {
    while (!stop) {
        CHECK_EQ(weir_rwmutex_lock(&rw), 0);
        writes++;
        weir_yield();
        CHECK_EQ(weir_rwmutex_unlock(&rw), 0);
    }
    done++;
}

static void read_between(void) {
    for (int i = 0; i < 20; i++) {
        long before = writes;
        TEST_UNTIL(writes > before + 8);
        CHECK_EQ(weir_rwmutex_rlock(&rw), 0);
        CHECK_EQ(weir_rwmutex_runlock(&rw), 0);
    }
    stop = true;
    done++;
}

TEST(writers_cannot_starve_a_reader) {
    for (int i = 0; i < 4; i++) GO(write_on);
    GO(read_between);
    TEST_UNTIL(done == 5);
    check_idle();
}

/* Lets go only to lock again at once. */
static void hog(weir_duration hold) {
    while (!stop) {
        CHECK_EQ(weir_rwmutex_lock(&rw), 0);
        CHECK_EQ(readers, 0);
        writes++;
        weir_sleep(hold);
        CHECK_EQ(weir_rwmutex_unlock(&rw), 0);
    }
    done++;
}

static void write_five_times(void) {
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(weir_rwmutex_lock(&rw), 0);
        CHECK_EQ(readers, 0);
        CHECK_EQ(weir_rwmutex_unlock(&rw), 0);
    }
    done++;
}

static void read_five_times(void) {
    for (int i = 0; i < 5; i++) {
        CHECK_EQ(weir_rwmutex_rlock(&rw), 0);
        readers++;
        weir_sleep(WEIR_MILLISECOND);
        readers--;
        CHECK_EQ(weir_rwmutex_runlock(&rw), 0);
    }
    done++;
}

/* Counted in turns of the hogs: if they could keep the others out, this would never end. */
TEST(hogging_writers_starve_neither_writers_nor_readers) {
    for (int i = 0; i < 2; i++) GO(hog, 2 * WEIR_MILLISECOND);
    TEST_UNTIL(writes > 0);
    long before = writes;
    for (int i = 0; i < 10; i++) {
        GO(write_five_times);
        GO(read_five_times);
    }
    TEST_UNTIL(done == 20);
    CHECK_LE(writes - before, 2000);
    stop = true;
    TEST_UNTIL(done == 22);
    check_idle();
}
