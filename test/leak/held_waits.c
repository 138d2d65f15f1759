/*
 * Goroutines that wait for long, and rightly so: somebody who can still run, or the clock, will end it. No proof may report one of
 * them, though nobody else knows what they wait for.
 */
#include "proof_test.h"

/* Start all of it deep below; then prove, until `rounds` proofs were made, at whatever moment. */
static _Atomic bool let_go;
static void sleep_until_let_go(void) {
    while (!let_go) CHECK_EQ(weir_sleep(WEIR_MILLISECOND), 0);
}
static void *prove_in_thread(void *arg) {
    (void)nobody_leaks("asked by a thread");
    return arg;
}
static NOINLINE void all_wait_rightly(void (*start)(void), size_t parked, const char *state) {
    tidily(start);
    if (state) test_until_n_parked(parked, state);
    scrub();
    for (long i = TEST_SCALE(5); i > 0; i--) {
        bool conclusive = nobody_leaks("asked by main");
#ifndef TEST_TSAN
        CHECK(conclusive);
#endif
        (void)conclusive;
        (void)!weir_sleep(i * 300 * WEIR_MICROSECOND);
    }
    thread_end(thread_start(prove_in_thread, NULL));
    let_go = true;
    TEST_UNTIL(weir_count() == 1);
    CHECK(nobody_leaks("all have ended") || !HEAP_IS_KNOWN);
}

/* ---- Locks with a holder who lives ------------------------------------------------------------------------------ */

struct shared {
    weir_mutex m;
    weir_rwmutex rw;
    weir_cond cond;
    weir_once once;
    weir_sem sem;
    weir_wg wg;
    bool ready;
    _Atomic int holding, left;
};
/* Nobody but those who are started knows it; the last to leave frees it. */
static NOINLINE struct shared *new_shared(int users) {
    struct shared *s = calloc(1, sizeof *s);
    CHECK(s);
    s->left = users;
    return s;
}
static void leave(struct shared *s) {
    if (--s->left == 0) free(s);
}
static void hold_mutex(struct shared *s) {
    weir_locked(&s->m) {
        s->holding = 1;
        sleep_until_let_go();
    }
    leave(s);
}
static void want_mutex(struct shared *s) {
    TEST_UNTIL(s->holding);
    CHECK_EQ(weir_mutex_lock(&s->m), 0);
    CHECK_EQ(weir_mutex_unlock(&s->m), 0);
    leave(s);
}
static void start_mutex(void) {
    struct shared *s = new_shared(4);
    TEST_GO(hold_mutex, s);
    for (int i = 0; i < 3; i++) TEST_GO(want_mutex, s);
}
TEST(a_mutex_whose_holder_sleeps) { all_wait_rightly(start_mutex, 3, "sync.Mutex.Lock"); }

/* Whoever can reach it could unlock it: it need not be the one who locked it. */
static void know_mutex(struct shared *s) {
    sleep_until_let_go();
    CHECK_EQ(weir_mutex_unlock(&s->m), 0);
    leave(s);
}
static void lock_and_end(struct shared *s) {
    CHECK_EQ(weir_mutex_lock(&s->m), 0);
    s->holding = 1;
    leave(s);
}
static void start_other_unlocker(void) {
    struct shared *s = new_shared(3);
    TEST_GO(lock_and_end, s);
    TEST_GO(know_mutex, s);
    TEST_GO(want_mutex, s);
}
TEST(a_mutex_that_another_will_unlock) { all_wait_rightly(start_other_unlocker, 1, "sync.Mutex.Lock"); }

static void hold_read(struct shared *s) {
    CHECK_EQ(weir_rwmutex_rlock(&s->rw), 0);
    s->holding++;
    sleep_until_let_go();
    CHECK_EQ(weir_rwmutex_runlock(&s->rw), 0);
    leave(s);
}
static void want_write(struct shared *s) {
    TEST_UNTIL(s->holding == 2);
    CHECK_EQ(weir_rwmutex_lock(&s->rw), 0);
    CHECK_EQ(weir_rwmutex_unlock(&s->rw), 0);
    leave(s);
}
static void start_writers(void) {
    struct shared *s = new_shared(4);
    for (int i = 0; i < 2; i++) TEST_GO(hold_read, s), TEST_GO(want_write, s);
}
TEST(an_rwmutex_whose_readers_sleep) { all_wait_rightly(start_writers, 2, "sync.RWMutex.Lock"); }

static void hold_write(struct shared *s) {
    CHECK_EQ(weir_rwmutex_lock(&s->rw), 0);
    s->holding = 2;
    sleep_until_let_go();
    CHECK_EQ(weir_rwmutex_unlock(&s->rw), 0);
    leave(s);
}
static void want_read(struct shared *s) {
    TEST_UNTIL(s->holding == 2);
    CHECK_EQ(weir_rwmutex_rlock(&s->rw), 0);
    CHECK_EQ(weir_rwmutex_runlock(&s->rw), 0);
    leave(s);
}
static void start_readers(void) {
    struct shared *s = new_shared(4);
    TEST_GO(hold_write, s), TEST_GO(want_write, s);
    for (int i = 0; i < 2; i++) TEST_GO(want_read, s);
}
TEST(an_rwmutex_whose_writer_sleeps) { all_wait_rightly(start_readers, 2, "sync.RWMutex.RLock"); }

static void wait_ready(struct shared *s) {
    weir_locked(&s->m) while (!s->ready) CHECK_EQ(weir_cond_wait(&s->cond, &s->m), 0);
    leave(s);
}
static void make_ready(struct shared *s) {
    sleep_until_let_go();
    weir_locked(&s->m) {
        s->ready = true;
        weir_cond_broadcast(&s->cond);
    }
    leave(s);
}
static void start_cond(void) {
    struct shared *s = new_shared(4);
    TEST_GO(make_ready, s);
    for (int i = 0; i < 3; i++) TEST_GO(wait_ready, s);
}
TEST(a_condition_that_another_will_signal) { all_wait_rightly(start_cond, 3, "sync.Cond.Wait"); }

static void run_once(void *arg) {
    ((struct shared *)arg)->holding = 1;
    sleep_until_let_go();
}
static void first_once(struct shared *s) {
    CHECK_EQ(weir_once_do(&s->once, run_once, s), 0);
    leave(s);
}
static void next_once(struct shared *s) {
    TEST_UNTIL(s->holding);
    first_once(s);
}
static void start_once(void) {
    struct shared *s = new_shared(3);
    TEST_GO(first_once, s);
    for (int i = 0; i < 2; i++) TEST_GO(next_once, s);
}
TEST(a_once_whose_runner_sleeps) { all_wait_rightly(start_once, 2, "sync.Once.Do"); }

static void hold_sem(struct shared *s) {
    CHECK_EQ(weir_sem_acquire(&s->sem, 2), 0);
    s->holding = 1;
    sleep_until_let_go();
    CHECK_EQ(weir_sem_release(&s->sem, 2), 0);
    leave(s);
}
static void want_sem(struct shared *s) {
    TEST_UNTIL(s->holding);
    CHECK_EQ(weir_sem_acquire(&s->sem, 1), 0);
    CHECK_EQ(weir_sem_release(&s->sem, 1), 0);
    leave(s);
}
static void start_sem(void) {
    struct shared *s = new_shared(3);
    CHECK_EQ(weir_sem_init(&s->sem, 2), 0);
    TEST_GO(hold_sem, s);
    for (int i = 0; i < 2; i++) TEST_GO(want_sem, s);
}
TEST(a_semaphore_whose_holder_sleeps) { all_wait_rightly(start_sem, 2, "semacquire"); }

static void sleep_in_group(void) { sleep_until_let_go(); }
static void wait_for_group(struct shared *s) {
    CHECK_EQ(weir_wg_wait(&s->wg), 0);
    leave(s);
}
static void start_group(void) {
    struct shared *s = new_shared(1);
    for (int i = 0; i < 3; i++) CHECK_EQ(weir_wg_go(&s->wg, sleep_in_group), 0); /* they know it by weir_wg_go alone */
    TEST_GO(wait_for_group, s);
}
TEST(a_group_whose_members_sleep) { all_wait_rightly(start_group, 1, "sync.WaitGroup.Wait"); }

/* The group is on the stack of the one who waits: the members have pointers to it. */
static void member_of(weir_wg *wg) {
    sleep_until_let_go();
    CHECK_EQ(weir_wg_done(wg), 0);
}
static void wait_on_own_stack(void) {
    weir_wg wg = WEIR_WG_INIT;
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(weir_wg_add(&wg, 1), 0);
        TEST_GO(member_of, &wg);
    }
    CHECK_EQ(weir_wg_wait(&wg), 0);
}
static void start_own_stack(void) { TEST_GO(wait_on_own_stack); }
TEST(a_group_on_the_stack_of_the_one_who_waits) { all_wait_rightly(start_own_stack, 1, "sync.WaitGroup.Wait"); }

static void *thread_member(void *wg) {
    while (!let_go) sched_yield();
    CHECK_EQ(weir_wg_done(wg), 0);
    return NULL;
}
static void wait_for_thread(void) {
    weir_wg wg = WEIR_WG_INIT;
    CHECK_EQ(weir_wg_add(&wg, 1), 0);
    pthread_t thread = thread_start(thread_member, &wg);
    CHECK_EQ(weir_wg_wait(&wg), 0);
    thread_end(thread);
}
static void start_thread_member(void) { TEST_GO(wait_for_thread); }
TEST(a_group_with_a_thread_for_a_member) {
    tidily(start_thread_member);
    test_until_n_parked(1, "sync.WaitGroup.Wait");
    scrub();
    CHECK(nobody_leaks("a thread will be done") || !HEAP_IS_KNOWN);
    let_go = true;
    TEST_UNTIL(weir_count() <= 2); /* the thread may count yet */
}

/* ---- Scopes -------------------------------------------------------------------------------------------------------- */

static int sleep_in_scope(void) {
    sleep_until_let_go();
    return 0;
}
static void wait_in_scope(void) {
    int e = -1;
    weir_scoped(s, &e) for (int i = 0; i < 3; i++) CHECK_EQ(weir_scope_go(&s, sleep_in_scope), 0);
    CHECK_EQ(e, 0);
}
static void start_scope(void) { TEST_GO(wait_in_scope); }
TEST(a_scope_whose_children_sleep) { all_wait_rightly(start_scope, 1, "weir.Scope.Wait"); }

static void go_at_limit(void) {
    weir_scoped(s) {
        weir_scope_limit(&s, 2);
        for (int i = 0; i < 3; i++) CHECK_EQ(weir_scope_go(&s, sleep_in_scope), 0);
    }
}
static void start_limit(void) { TEST_GO(go_at_limit); }
TEST(a_scope_at_its_limit) { all_wait_rightly(start_limit, 1, "weir.Scope.Go"); }

static int nested(int depth) {
    int e = 0;
    if (depth == 0) return sleep_in_scope();
    weir_scoped(s, &e) for (int i = 0; i < 2; i++) CHECK_EQ(weir_scope_go(&s, nested, depth - 1), 0);
    return e;
}
static void start_nested(void) { TEST_GO(nested, 4); }
TEST(scopes_in_scopes) { all_wait_rightly(start_nested, 15, "weir.Scope.Wait"); }

/* A child is stuck but for its sibling, whose failure would cancel it: a child knows its scope. */
static int fail_late(void) {
    sleep_until_let_go();
    return -EIO;
}
static int wait_to_be_cancelled(void) {
    CHECK_EQ(weir_recv(weir_make(int_chan, 0), NULL), -ECANCELED);
    return 0;
}
static void scope_that_fails(void) {
    int e = 0;
    weir_scoped(s, &e) {
        CHECK_EQ(weir_scope_go(&s, wait_to_be_cancelled), 0);
        CHECK_EQ(weir_scope_go(&s, fail_late), 0);
    }
    CHECK_EQ(e, -EIO);
}
static void start_scope_that_fails(void) { TEST_GO(scope_that_fails); }
TEST(a_child_that_its_siblings_failure_will_cancel) { all_wait_rightly(start_scope_that_fails, 1, "chan receive"); }

/* Its parent sleeps, and will leave the block. */
static void leave_late(void) {
    weir_scoped(s) {
        CHECK_EQ(weir_scope_go(&s, wait_to_be_cancelled), 0);
        sleep_until_let_go();
        break;
    }
}
static void start_leave_late(void) { TEST_GO(leave_late); }
TEST(a_child_that_its_parent_will_cancel) { all_wait_rightly(start_leave_late, 1, "chan receive"); }

/* ---- The clock ------------------------------------------------------------------------------------------------------- */

enum { LATER = 30 }; /* milliseconds; proofs come before and after */
static void wait_timer(void) {
    weir_timer *t = weir_timer_new(LATER * WEIR_MILLISECOND);
    CHECK_EQ(weir_timer_wait(t, NULL), 0);
    weir_timer_free(t);
}
static void wait_ticker(void) {
    weir_timer *t = weir_ticker_new(3 * WEIR_MILLISECOND);
    while (!let_go) CHECK_EQ(weir_timer_wait(t, NULL), 0);
    weir_timer_free(t);
}
static void select_ticker(void) {
    weir_timer *t = weir_ticker_new(3 * WEIR_MILLISECOND);
    while (!let_go) CHECK_EQ(weir_select(weir_on_timer(t), weir_on_recv(weir_make(int_chan, 0), NULL)), 0);
    weir_timer_free(t);
}
static void select_after(void) { CHECK_EQ(weir_select(weir_on_after(LATER * WEIR_MILLISECOND), weir_on_recv(weir_make(int_chan, 0), NULL)), 0); }
static void under_deadline(void) {
    weir_timeout(LATER * WEIR_MILLISECOND) CHECK_EQ(weir_recv(weir_make(int_chan, 0), NULL), -ETIMEDOUT);
}
static void deadline_of_parent(void) {
    weir_timeout(LATER * WEIR_MILLISECOND) {
        weir_ctx *below = weir_ctx_with_cancel(weir_ctx_with_value(NULL, &let_go, (void *)&let_go));
        weir_with(below) CHECK_EQ(weir_send(weir_make(int_chan, 0), 1), -ETIMEDOUT);
    }
}
static void select_done(void) {
    weir_ctx *c = weir_ctx_with_timeout(NULL, LATER * WEIR_MILLISECOND);
    CHECK_EQ(weir_select(weir_on_done(c), weir_on_send(weir_make(int_chan, 0), 1)), 0);
}
static void wait_closed_done(void) {
    weir_ctx *c = weir_ctx_with_timeout(NULL, LATER * WEIR_MILLISECOND);
    CHECK_EQ(weir_wait_closed(weir_ctx_done(c)), 0);
}
static void shielded(void) {
    weir_ctx *c = weir_ctx_with_cancel(NULL);
    weir_ctx_cancel(c);
    weir_with(c) weir_shield(LATER * WEIR_MILLISECOND) CHECK_EQ(weir_recv(weir_make(int_chan, 0), NULL), -ETIMEDOUT);
}
static void send_later(void *ch) { CHECK_EQ(weir_chan_send(ch, &(int){ 1 }), 0); }
static void wait_for_call(void) {
    int_chan ch = weir_make(int_chan, 0);
    CHECK(weir_after_func(LATER * WEIR_MILLISECOND, send_later, weir_chan_of(ch)));
    CHECK_EQ(weir_recv(ch, NULL), 0);
}
static void reset_timer(void) {
    weir_timer *t = weir_timer_new(WEIR_HOUR);
    CHECK(weir_timer_stop(t));
    CHECK(!weir_timer_reset(t, LATER * WEIR_MILLISECOND));
    CHECK_EQ(weir_timer_wait(t, NULL), 0);
    weir_timer_free(t);
}
static void sleep_long(void) { CHECK_EQ(weir_sleep(LATER * WEIR_MILLISECOND), 0); }
static void (*waiting)(void);
static void start_waiting(void) {
    for (int i = 0; i < 3; i++) TEST_GO(waiting);
}
static void clock_ends_it(void (*fn)(void)) {
    test_ignore_leaks();
    waiting = fn;
    all_wait_rightly(start_waiting, 0, NULL);
}
TEST(a_sleep) { clock_ends_it(sleep_long); }
TEST(a_wait_for_an_armed_timer) { clock_ends_it(wait_timer); }
TEST(a_wait_for_a_timer_armed_anew) { clock_ends_it(reset_timer); }
TEST(a_wait_for_a_ticker) { clock_ends_it(wait_ticker); }
TEST(a_select_over_a_ticker) { clock_ends_it(select_ticker); }
TEST(a_select_with_a_timeout) { clock_ends_it(select_after); }
TEST(a_receive_under_a_deadline) { clock_ends_it(under_deadline); }
TEST(a_send_below_a_context_with_a_deadline) { clock_ends_it(deadline_of_parent); }
TEST(a_select_over_a_context_with_a_deadline) { clock_ends_it(select_done); }
TEST(a_wait_for_the_end_of_a_context_with_a_deadline) { clock_ends_it(wait_closed_done); }
TEST(a_receive_in_a_shield) { clock_ends_it(shielded); }
TEST(a_receive_for_which_a_call_is_pending) { clock_ends_it(wait_for_call); }

/* ---- Contexts that somebody who lives can cancel ------------------------------------------------------------------------ */

static void cancel_late(weir_ctx *c) {
    sleep_until_let_go();
    weir_ctx_cancel(c);
}
static void under_grandchild(weir_ctx *c) {
    weir_with(weir_ctx_with_cancel(weir_ctx_with_value(weir_ctx_with_cancel(c), &let_go, NULL)))
        CHECK_EQ(weir_select(weir_on_recv(weir_make(int_chan, 0), NULL)), -ECANCELED);
}
static void start_below(void) {
    weir_ctx *c = weir_ctx_with_cancel(NULL);
    TEST_GO(under_grandchild, c), TEST_GO(under_grandchild, c);
    TEST_GO(cancel_late, c);
}
TEST(a_receive_below_a_context_that_another_will_cancel) {
    test_ignore_leaks();
    all_wait_rightly(start_below, 2, "select");
}

/* ---- One runtime after another ---------------------------------------------------------------------------------------------- */

static void stay(int_chan ch) { (void)!weir_recv(ch, NULL); }
static int first_run(void *arg) {
    for (int i = 0; i < 10; i++) TEST_GO(stay, weir_make(int_chan, 0));
    test_until_n_parked(10, "chan receive");
    return arg == NULL;
}
static int second_run(void *arg) {
    all_wait_rightly(start_mutex, 3, "sync.Mutex.Lock");
    return arg == NULL;
}
PLAIN_TEST(what_the_first_runtime_left_behind_is_no_concern_of_the_second) {
    test_ignore_leaks();
    CHECK_EQ(weir_run(first_run, NULL), 1);
    for (int i = 0; i < 3; i++) {
        let_go = false;
        CHECK_EQ(weir_run(second_run, NULL), 1);
    }
}
