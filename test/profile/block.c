/* The block profile: where goroutines wait, how often and for how long. */
#include "profile_test.h"

#include <math.h>
#include <sys/wait.h>
#include <unistd.h>

#define A_WHILE (10 * WEIR_MILLISECOND)

/* ---- Each kind of waiting ------------------------------------------------------------------------------------ */

static int_chan ch;
static weir_mutex mutex;
static weir_rwmutex rwmutex;
static weir_cond cond;
static weir_wg wg, done;
static weir_sem sem;
static weir_once once;
static _Atomic bool go_on;
static int unused;

static NOT_INLINED void waits_to_receive(void) { (void)!weir_recv(ch, &unused), STAY(); }
static NOT_INLINED void waits_to_send(void) { (void)!weir_send(ch, 1), STAY(); }
static NOT_INLINED void waits_in_select(void) {
    (void)!weir_select(weir_on_recv(ch, &unused), weir_on_after(WEIR_HOUR));
    STAY();
}
static NOT_INLINED void waits_for_mutex(void) { (void)weir_mutex_lock(&mutex), weir_mutex_unlock(&mutex), STAY(); }
static NOT_INLINED void waits_to_read(void) { (void)weir_rwmutex_rlock(&rwmutex), weir_rwmutex_runlock(&rwmutex), STAY(); }
static NOT_INLINED void waits_to_write(void) { (void)weir_rwmutex_lock(&rwmutex), weir_rwmutex_unlock(&rwmutex), STAY(); }
static NOT_INLINED void waits_for_condition(void) {
    weir_mutex_lock(&mutex);
    while (!go_on) (void)!weir_cond_wait(&cond, &mutex);
    weir_mutex_unlock(&mutex);
}
static NOT_INLINED void waits_for_group(void) { (void)!weir_wg_wait(&wg), STAY(); }
static NOT_INLINED void waits_for_semaphore(void) { (void)!weir_sem_acquire(&sem, 1), STAY(); }
static void nothing(void *arg) { (void)arg; }
static NOT_INLINED void waits_for_once(void) { (void)weir_once_do(&once, nothing, NULL), STAY(); }
static void ends_late(void) {
    while (!go_on) weir_yield();
}
static NOT_INLINED void waits_for_scope(void) {
    weir_scoped(s) CHECK_EQ(weir_scope_go(&s, ends_late), 0);
    STAY();
}

static void run_waiter(void (*waiter)(void)) {
    waiter();
    weir_wg_done(&done);
}

/* It waits for a while, at least, until release() is called. Its stack then has that count, and all the time. */
static void waits_show(void (*waiter)(void), const char *state, void (*release)(void), void *call) {
    weir_block_profile_rate(1);
    weir_time start = weir_now();
    weir_wg_add(&done, 1);
    TEST_GO(run_waiter, waiter);
    test_until_n_parked(1, state);
    weir_time parked = weir_now();
    while (weir_now() < parked + A_WHILE) weir_yield();
    release();
    CHECK_EQ(weir_wg_wait(&done), 0);
    weir_block_profile_rate(0);
    struct stack s = sum_now(WR_PROFILE_BLOCK, waiter);
    CHECK_GE(s.count, 1);
    CHECK_GE(s.ns, A_WHILE);
    CHECK_LE(s.ns, (uint64_t)(weir_now() - start) * s.count);
    CHECK(is_call(s.pcs[0], FUNCTION(call)));     /* the public call is the first … */
    CHECK(is_in(s.pcs[s.n - 1], FUNCTION(run_waiter))); /* … and what the goroutine was started with the last */
}

static void send_one(void) { CHECK_EQ(weir_send(ch, 1), 0); }
static void receive_one(void) { CHECK_EQ(weir_recv(ch, &unused), 0); }
static void unlock_mutex(void) { CHECK_EQ(weir_mutex_unlock(&mutex), 0); }
static void unlock_rwmutex(void) { CHECK_EQ(weir_rwmutex_unlock(&rwmutex), 0); }
static void runlock_rwmutex(void) { CHECK_EQ(weir_rwmutex_runlock(&rwmutex), 0); }
static void signal_condition(void) {
    weir_mutex_lock(&mutex);
    go_on = true;
    weir_mutex_unlock(&mutex);
    weir_cond_signal(&cond);
}
static void end_group(void) { CHECK_EQ(weir_wg_done(&wg), 0); }
static void release_semaphore(void) { CHECK_EQ(weir_sem_release(&sem, 1), 0); }
static void let_go(void) { go_on = true; }

TEST(a_blocked_receive_shows) {
    ch = weir_make(int_chan, 0);
    waits_show(waits_to_receive, "chan receive", send_one, (void *)weir_chan_recv);
    weir_release(ch);
}
TEST(a_blocked_send_shows) {
    ch = weir_make(int_chan, 0);
    waits_show(waits_to_send, "chan send", receive_one, (void *)weir_chan_send);
    weir_release(ch);
}
TEST(a_blocked_select_shows) {
    ch = weir_make(int_chan, 0);
    waits_show(waits_in_select, "select", send_one, (void *)weir_selectv);
    weir_release(ch);
}
TEST(a_blocked_lock_shows) {
    weir_mutex_lock(&mutex);
    waits_show(waits_for_mutex, "sync.Mutex.Lock", unlock_mutex, (void *)weir_mutex_lock);
}
TEST(a_blocked_reader_shows) {
    weir_rwmutex_lock(&rwmutex);
    waits_show(waits_to_read, "sync.RWMutex.RLock", unlock_rwmutex, (void *)weir_rwmutex_rlock);
}
TEST(a_blocked_writer_shows) {
    weir_rwmutex_lock(&rwmutex);
    waits_show(waits_to_write, "sync.RWMutex.Lock", unlock_rwmutex, (void *)weir_rwmutex_lock);
}
TEST(a_writer_that_waits_for_readers_shows) {
    weir_rwmutex_rlock(&rwmutex);
    waits_show(waits_to_write, "sync.RWMutex.Lock", runlock_rwmutex, (void *)weir_rwmutex_lock);
}
TEST(a_wait_for_a_condition_shows) {
    waits_show(waits_for_condition, "sync.Cond.Wait", signal_condition, (void *)weir_cond_wait);
}
TEST(a_wait_for_a_group_shows) {
    weir_wg_add(&wg, 1);
    waits_show(waits_for_group, "sync.WaitGroup.Wait", end_group, (void *)weir_wg_wait);
}
TEST(a_wait_for_a_semaphore_shows) {
    CHECK_EQ(weir_sem_init(&sem, 1), 0);
    CHECK_EQ(weir_sem_acquire(&sem, 1), 0);
    waits_show(waits_for_semaphore, "semacquire", release_semaphore, (void *)weir_sem_acquire);
}
static _Atomic bool runs;
static void until_let_go(void *arg) {
    (void)arg;
    runs = true;
    while (!go_on) weir_yield();
}
static void does_once(void) { (void)weir_once_do(&once, until_let_go, NULL); }
TEST(a_wait_for_a_once_shows) {
    TEST_GO(does_once);
    TEST_UNTIL(runs);
    waits_show(waits_for_once, "sync.Once.Do", let_go, (void *)weir_once_do);
}
TEST(a_wait_for_a_scope_shows) {
    weir_block_profile_rate(1);
    weir_wg_add(&done, 1);
    TEST_GO(run_waiter, waits_for_scope);
    test_until_n_parked(1, "weir.Scope.Wait");
    go_on = true;
    CHECK_EQ(weir_wg_wait(&done), 0);
    CHECK_EQ(sum_now(WR_PROFILE_BLOCK, waits_for_scope).count, 1);
}

/* ---- What does not show ---------------------------------------------------------------------------------------- */

static void receives(int n) {
    for (int i = 0; i < n; i++) CHECK_EQ(weir_recv(ch, &unused), 0);
}
static void pass_through_channel(int n) {
    ch = weir_make(int_chan, 0);
    TEST_GO(receives, n);
    for (int i = 0; i < n; i++) CHECK_EQ(weir_send(ch, i), 0);
    TEST_UNTIL(weir_count() == 1);
    weir_release(ch);
}

TEST(nothing_shows_while_it_is_off) {
    pass_through_channel(100);
    weir_block_profile_rate(1);
    weir_block_profile_rate(0);
    pass_through_channel(100);
    weir_block_profile_rate(-5);
    pass_through_channel(100);
    struct profile p = take_profile(WR_PROFILE_BLOCK);
    CHECK_EQ(p.n, 0);
    CHECK(wr_hook_block == NULL);
}
TEST(what_was_recorded_stays_when_it_is_off) {
    weir_block_profile_rate(1);
    pass_through_channel(100);
    weir_block_profile_rate(0);
    struct profile p = take_profile(WR_PROFILE_BLOCK), q;
    CHECK_GE(p.count, 100);
    pass_through_channel(100);
    q = take_profile(WR_PROFILE_BLOCK);
    CHECK_EQ(p.count, q.count);
    drop_profile(&p), drop_profile(&q);
}

static int ends[2];
static NOT_INLINED void reads_from_pipe(void) {
    char c;
    CHECK_EQ(weir_read(ends[0], &c, 1), 1);
}
static NOT_INLINED void sleeps(void) { CHECK_EQ(weir_sleep(WEIR_MILLISECOND), 0), STAY(); }
TEST(sleeping_and_waiting_for_a_descriptor_do_not_show) {
    weir_block_profile_rate(1);
    CHECK_EQ(pipe(ends), 0);
    TEST_GO(reads_from_pipe);
    test_until_n_parked(1, "IO wait");
    sleeps();
    CHECK_EQ(write(ends[1], "x", 1), 1);
    TEST_UNTIL(weir_count() == 1);
    CHECK_EQ(sum_now(WR_PROFILE_BLOCK, reads_from_pipe).n, 0);
    CHECK_EQ(sum_now(WR_PROFILE_BLOCK, sleeps).n, 0);
}
TEST(a_call_that_is_cancelled_already_has_not_waited) {
    ch = weir_make(int_chan, 0);
    weir_block_profile_rate(1);
    weir_timeout(0) waits_to_receive();
    CHECK_EQ(sum_now(WR_PROFILE_BLOCK, waits_to_receive).n, 0);
    weir_release(ch);
}
TEST(a_cancelled_wait_shows) {
    ch = weir_make(int_chan, 0);
    weir_block_profile_rate(1);
    struct stack before, s = { 0 };
    weir_duration d = A_WHILE / 2;
    do { /* until it waits soon enough */
        d *= 2;
        before = s;
        weir_timeout(d) waits_to_receive();
        s = sum_now(WR_PROFILE_BLOCK, waits_to_receive);
    } while (s.ns - before.ns < (uint64_t)d / 2 && d < 10 * WEIR_SECOND);
    CHECK_EQ(s.count - before.count, 1);
    CHECK_GE(s.ns - before.ns, d / 2);
    weir_release(ch);
}

/* ---- Who ---------------------------------------------------------------------------------------------------------- */

static NOT_INLINED void *foreign_waits(void *arg) {
    (void)!weir_recv(ch, &unused);
    STAY();
    return arg;
}
TEST(a_foreign_thread_shows_too) {
    pthread_t thread;
    ch = weir_make(int_chan, 0);
    weir_block_profile_rate(1);
    uint64_t before = parks_so_far();
    CHECK_EQ(pthread_create(&thread, NULL, foreign_waits, NULL), 0);
    TEST_UNTIL(parks_so_far() > before);
    CHECK_EQ(weir_send(ch, 1), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(sum_now(WR_PROFILE_BLOCK, FUNCTION(foreign_waits)).count, 1);
    weir_release(ch);
}

static NOT_INLINED void first_way(void) { waits_to_receive(), STAY(); }
static NOT_INLINED void second_way(void) { waits_to_receive(), STAY(); }
static void goes_both_ways(int n) {
    for (int i = 0; i < n; i++) first_way();
    second_way();
    STAY();
}
TEST(each_stack_is_counted_for_itself) {
    ch = weir_make(int_chan, 0);
    weir_block_profile_rate(1);
    TEST_GO(goes_both_ways, 7);
    for (int i = 0; i < 8; i++) {
        test_until_n_parked(1, "chan receive");
        CHECK_EQ(weir_send(ch, i), 0);
    }
    TEST_UNTIL(weir_count() == 1);
    CHECK_EQ(sum_now(WR_PROFILE_BLOCK, first_way).count, 7);
    CHECK_EQ(sum_now(WR_PROFILE_BLOCK, second_way).count, 1);
    weir_release(ch);
}

TEST(the_smallest_stack_is_large_enough) {
    ch = weir_make(int_chan, 0);
    weir_block_profile_rate(1);
    CHECK_EQ(weir_go_stack(16 << 10, goes_both_ways, 1), 0);
    for (int i = 0; i < 2; i++) {
        test_until_n_parked(1, "chan receive");
        CHECK_EQ(weir_send(ch, i), 0);
    }
    TEST_UNTIL(weir_count() == 1);
    CHECK_EQ(sum_now(WR_PROFILE_BLOCK, FUNCTION(goes_both_ways)).count, 2);
    weir_release(ch);
}

static int main_of_a_run(void *arg) {
    pass_through_channel(*(int *)arg);
    return 0;
}
PLAIN_TEST(a_second_run_adds_to_the_first) {
    int n = 10;
    weir_block_profile_rate(1);
    CHECK_EQ(weir_run(main_of_a_run, &n), 0);
    uint64_t first = sum_now(WR_PROFILE_BLOCK, FUNCTION(receives)).count;
    CHECK_GE(first, 1);
    CHECK_EQ(weir_run(main_of_a_run, &n), 0);
    CHECK_GE(sum_now(WR_PROFILE_BLOCK, FUNCTION(receives)).count, first + 1);
}

/* ---- Sampling ------------------------------------------------------------------------------------------------------ */

/* n waits of that duration, told to the profile as sched does. */
static NOT_INLINED void waits(long n, weir_duration d) {
    for (long i = 0; i < n; i++) wr_hook_block(WR_WAIT_CHAN_RECV, d), STAY();
}
static NOT_INLINED void wait_short(long n) { waits(n, 50), STAY(); }
static NOT_INLINED void wait_long(long n) { waits(n, 400), STAY(); }
static NOT_INLINED void wait_beyond(long n) { waits(n, 3000), STAY(); }

/* Of n waits each is taken with probability d / rate, and then counts rate / d: 8 standard deviations are never left. */
static void is_about(struct stack s, long n, weir_duration d, weir_duration rate) {
    double deviation = sqrt((double)n * ((double)rate / (double)d - 1)) * 8 + 1;
    CHECK_GE(s.count, (double)n - deviation);
    CHECK_LE(s.count, (double)n + deviation);
    CHECK_GE(s.ns, ((double)n - deviation) * (double)d);
    CHECK_LE(s.ns, ((double)n + deviation) * (double)d);
    CHECK(deviation < (double)n / 2);
}
PLAIN_TEST(sampling_is_right_on_average_for_each_duration) {
    long n = TEST_SCALE(200000);
    weir_block_profile_rate(1000);
    wait_short(n), wait_long(n), wait_beyond(n / 10);
    is_about(sum_now(WR_PROFILE_BLOCK, FUNCTION(wait_short)), n, 50, 1000);
    is_about(sum_now(WR_PROFILE_BLOCK, FUNCTION(wait_long)), n, 400, 1000);
    struct stack all = sum_now(WR_PROFILE_BLOCK, FUNCTION(wait_beyond));
    CHECK_EQ(all.count, n / 10);
    CHECK_EQ(all.ns, n / 10 * 3000);
}
PLAIN_TEST(at_rate_one_all_is_exact) {
    weir_block_profile_rate(1);
    wait_short(1000);
    waits(1, 0); /* shorter than the clock can tell */
    struct stack s = sum_now(WR_PROFILE_BLOCK, FUNCTION(wait_short)), w = sum_now(WR_PROFILE_BLOCK, FUNCTION(waits));
    CHECK_EQ(s.count, 1000);
    CHECK_EQ(s.ns, 50000);
    CHECK_EQ(w.count, 1001);
    CHECK_EQ(w.ns, 50001);
}
PLAIN_TEST(an_enormous_rate_takes_next_to_nothing) {
    weir_block_profile_rate(INT64_MAX);
    wait_long(1000);
    CHECK_EQ(sum_now(WR_PROFILE_BLOCK, FUNCTION(wait_long)).n, 0);
}

/* ---- A full table ------------------------------------------------------------------------------------------------- */

/* Each path through the two is a stack of its own. Functions, as compilers would make one call out of two alike. */
static void walk_path(unsigned path, int depth);
static NOT_INLINED void by_one(unsigned path, int depth) {
    walk_path(path, depth);
    __asm__ volatile("# one");
}
static NOT_INLINED void by_the_other(unsigned path, int depth) {
    walk_path(path, depth);
    __asm__ volatile("# the other");
}
static NOT_INLINED void walk_path(unsigned path, int depth) {
    if (depth == 0) wr_hook_block(WR_WAIT_SELECT, 10);
    else if (path & 1) by_one(path >> 1, depth - 1);
    else by_the_other(path >> 1, depth - 1);
    STAY();
}
PLAIN_TEST(a_full_table_says_so_and_loses_nothing) {
    enum { DEPTH = 13, PATHS = 1 << DEPTH };
    weir_block_profile_rate(1);
    for (int round = 0; round < 2; round++)
        for (unsigned path = 0; path < PATHS; path++) walk_path(path, DEPTH);
    wait_short(1); /* comes too late for a place of its own, perhaps; not for being counted */
    struct profile p = take_profile(WR_PROFILE_BLOCK);
    CHECK_EQ(p.count, 2 * PATHS + 1);
    CHECK_EQ(p.ns, 2 * PATHS * 10 + 50);
    CHECK_GE(p.n, 1000);
    CHECK_LE(p.n, 4097);
    const struct stack *rest = &p.stacks[p.n - 1];
    CHECK_EQ(rest->n, 1);
    CHECK(is_in(rest->pcs[0], FUNCTION(wr_profile_table_is_full)));
    CHECK_GE(rest->count, 2 * (PATHS - 4096));
    for (size_t i = 0; i + 1 < p.n; i++) CHECK_LE(p.stacks[i].count, 2);
    drop_profile(&p);
}
static NOT_INLINED void deep(int depth) {
    if (depth) deep(depth - 1);
    else wr_hook_block(WR_WAIT_SELECT, 10);
    STAY();
}
PLAIN_TEST(a_stack_that_is_too_deep_keeps_its_inner_part) {
    weir_block_profile_rate(1);
    deep(500);
    struct stack s = sum_now(WR_PROFILE_BLOCK, FUNCTION(deep));
    CHECK_EQ(s.count, 1);
    CHECK_GE(s.n, 90);
    CHECK_LE(s.n, 100);
}

/* ---- Many at once, and forks ------------------------------------------------------------------------------------- */

static _Atomic bool enough;
static _Atomic long recorded;
static void *records(void *arg) {
    for (unsigned i = 0; !enough; i++, recorded++) walk_path(i % 512, 9);
    return arg;
}
PLAIN_TEST(many_threads_record_and_children_forked_meanwhile_read) {
    pthread_t threads[4];
    weir_block_profile_rate(1);
    for (int i = 0; i < 4; i++) CHECK_EQ(pthread_create(&threads[i], NULL, records, NULL), 0);
    TEST_UNTIL(recorded > 1000);
    CHECK_GE(sum_now(WR_PROFILE_BLOCK, FUNCTION(records)).count, 1); /* names are looked up here, once for all children */
    for (long i = 0; i < TEST_SCALE(20); i++) {
        pid_t child = fork();
        CHECK_GE(child, 0);
        if (child == 0) {
            wait_short(10);
            struct profile p = take_profile(WR_PROFILE_BLOCK);
            _exit(sum_of(&p, FUNCTION(wait_short), NULL).count == 10 ? 0 : 1);
        }
        int status;
        CHECK_EQ(waitpid(child, &status, 0), child);
        CHECK_EQ(status, 0);
    }
    enough = true;
    for (int i = 0; i < 4; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
    struct profile p = take_profile(WR_PROFILE_BLOCK);
    CHECK_EQ(p.count, recorded);
    CHECK_LE(p.n, 512 + 1);
    drop_profile(&p);
}
