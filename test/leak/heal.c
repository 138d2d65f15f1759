/* Healing: every call that can block returns -EDEADLK, has had no effect, and lets its goroutine end; what cannot
 * return an error stays listed. */
#include "leak_test.h"

#include <stdatomic.h>

/* What the goroutine of a test waits for, in memory that only it has. */
struct lost {
    int_chan ch, full;
    weir_mutex mutex;
    weir_rwmutex rw;
    weir_cond cond;
    weir_wg wg;
    weir_sem sem;
    weir_once once;
    weir_scope scope;
};

/* The goroutine's; static, so that no pointer from here leads to what it waits on. */
static _Atomic int result;
static _Atomic bool ended;

static void wait_with(int (*blocks)(struct lost *)) {
    struct lost *lost = calloc(1, sizeof *lost);
    CHECK(lost != NULL);
    lost->ch = weir_make(int_chan, 0);
    lost->full = weir_make(int_chan, 1);
    atomic_store(&result, 1);
    int e = blocks(lost);
    atomic_store(&result, e);
    weir_release(lost->ch), weir_release(lost->full);
    free(lost);
    atomic_store(&ended, true);
}

static int (*what)(struct lost *);
static const char *state;
static int start(void) {
    TEST_GO(wait_with, what);
    test_until_parked(last_id(), state);
    return 0;
}

/* One goroutine blocks so, is proven and healed, and ends. */
static void heals(int (*blocks)(struct lost *), const char *in) {
    what = blocks, state = in;
    hidden(start);
    weir_leak_report *r = leaks(1);
    CHECK_STR(weir_leak_report_at(r, 0)->state, in);
    CHECK_EQ(weir_leak_heal(r), 1);
    CHECK_EQ(weir_leak_heal(r), 0); /* it goes on already */
    weir_leak_report_free(r);
    TEST_UNTIL(atomic_load(&ended));
    CHECK_EQ(atomic_load(&result), -EDEADLK);
    TEST_UNTIL(weir_count() == 1);
    weir_leak_report_free(leaks(0));
}

static int sends(struct lost *l) { return weir_send(l->ch, 1); }
static int sends_to_full(struct lost *l) {
    CHECK_EQ(weir_try_send(l->full, 1), 0);
    int e = weir_send(l->full, 2);
    CHECK_EQ(weir_len(l->full), 1);
    return e;
}
static int receives(struct lost *l) {
    int v = 5, e = weir_recv(l->ch, &v);
    CHECK_EQ(v, 5);
    return e;
}
static int waits_closed(struct lost *l) { return weir_wait_closed(l->ch); }
static int sends_to_nil(struct lost *l) { return weir_send((int_chan){ 0 }, 1); }
static int receives_from_nil(struct lost *l) { return weir_recv((int_chan){ 0 }, NULL); }
static int selects(struct lost *l) {
    int v = 5, e = weir_select(weir_on_recv(l->ch, &v), weir_on_send(l->ch, 1), weir_on_recv(l->full, &v));
    CHECK_EQ(v, 5);
    return e;
}
static int selects_nil(struct lost *l) { return weir_select(weir_on_recv((int_chan){ 0 }, NULL)); }
static int selects_nothing(struct lost *l) { return weir_select(); }
static int waits_cond(struct lost *l) {
    weir_mutex_lock(&l->mutex);
    int e = weir_cond_wait(&l->cond, &l->mutex);
    CHECK_EQ(weir_mutex_unlock(&l->mutex), 0); /* it is held again */
    return e;
}
static int waits_cond_rw(struct lost *l) {
    weir_rwmutex_lock(&l->rw);
    int e = weir_cond_wait_rw(&l->cond, &l->rw);
    CHECK_EQ(weir_rwmutex_unlock(&l->rw), 0);
    return e;
}
static int waits_wg(struct lost *l) {
    weir_wg_add(&l->wg, 1);
    return weir_wg_wait(&l->wg);
}
static int acquires(struct lost *l) {
    weir_sem_init(&l->sem, 1);
    CHECK_EQ(weir_sem_acquire(&l->sem, 1), 0);
    int e = weir_sem_acquire(&l->sem, 1);
    CHECK_EQ(weir_sem_release(&l->sem, 1), 0);
    CHECK_EQ(weir_sem_release(&l->sem, 1), -EINVAL); /* nothing was taken */
    return e;
}
static int waits_timer(struct lost *l) {
    weir_timer *t = weir_timer_new(WEIR_HOUR);
    CHECK(t != NULL);
    weir_timer_stop(t);
    int e = weir_timer_wait(t, NULL);
    weir_timer_free(t);
    return e;
}

TEST(a_send_is_healed) { heals(sends, "chan send"); }
TEST(a_send_to_a_full_channel_is_healed) { heals(sends_to_full, "chan send"); }
TEST(a_receive_is_healed) { heals(receives, "chan receive"); }
TEST(waiting_for_a_close_is_healed) { heals(waits_closed, "chan receive"); }
TEST(a_send_to_nil_is_healed) { heals(sends_to_nil, "chan send (nil chan)"); }
TEST(a_receive_from_nil_is_healed) { heals(receives_from_nil, "chan receive (nil chan)"); }
TEST(a_select_is_healed) { heals(selects, "select"); }
TEST(a_select_over_nil_channels_is_healed) { heals(selects_nil, "select"); }
TEST(an_empty_select_is_healed) { heals(selects_nothing, "select (no cases)"); }
TEST(a_cond_wait_is_healed_and_holds_its_mutex) { heals(waits_cond, "sync.Cond.Wait"); }
TEST(a_cond_wait_on_an_rwmutex_is_healed_and_holds_it) { heals(waits_cond_rw, "sync.Cond.Wait"); }
TEST(a_wait_group_is_healed) { heals(waits_wg, "sync.WaitGroup.Wait"); }
TEST(a_semaphore_is_healed_and_nothing_is_taken) { heals(acquires, "semacquire"); }
TEST(waiting_for_a_stopped_timer_is_healed) { heals(waits_timer, "chan receive"); }

/* ---- What returns no error ---------------------------------------------------------------------------------- */

static int locks(struct lost *l) {
    weir_mutex_lock(&l->mutex);
    return weir_mutex_lock(&l->mutex);
}
static int read_locks(struct lost *l) {
    weir_rwmutex_lock(&l->rw);
    return weir_rwmutex_rlock(&l->rw);
}
static int write_locks(struct lost *l) {
    weir_rwmutex_rlock(&l->rw);
    return weir_rwmutex_lock(&l->rw);
}
static void does_again(void *arg) {
    struct lost *l = arg;
    weir_once_do(&l->once, does_again, l);
}
static int does(struct lost *l) { return weir_once_do(&l->once, does_again, l); }

static void stays(int (*blocks)(struct lost *), const char *in) {
    what = blocks, state = in;
    hidden(start);
    weir_leak_report *r = leaks(1);
    CHECK_STR(weir_leak_report_at(r, 0)->state, in);
    CHECK_EQ(weir_leak_heal(r), 0);
    weir_leak_report_free(r);
    weir_leak_report_free(leaks(1));
    CHECK_EQ(atomic_load(&result), 1);
}
TEST(a_mutex_is_not_healed_and_stays_listed) { stays(locks, "sync.Mutex.Lock"); }
TEST(a_reader_is_not_healed_and_stays_listed) { stays(read_locks, "sync.RWMutex.RLock"); }
TEST(a_writer_is_not_healed_and_stays_listed) { stays(write_locks, "sync.RWMutex.Lock"); }
TEST(a_once_is_not_healed_and_stays_listed) { stays(does, "sync.Once.Do"); }

/* ---- Scopes ------------------------------------------------------------------------------------------------- */

static int child(int_chan ch) { return weir_recv(ch, NULL); }

/* Two calls block here: the child's, which obeys the scope's context, and the wait for it. Both are healed by one
 * call. */
static int waits_scope(struct lost *l) {
    CHECK_EQ(weir_scope_open(&l->scope, NULL), 0);
    CHECK_EQ(weir_scope_go(&l->scope, child, l->ch), 0);
    int e = weir_scope_wait(&l->scope);
    CHECK_EQ(weir_scope_close(&l->scope), e);
    return e;
}
TEST(a_scope_wait_is_healed_with_its_children) {
    what = waits_scope, state = "weir.Scope.Wait";
    TEST_GO(wait_with, what);
    test_until_n_parked(1, "chan receive");
    test_until_n_parked(1, "weir.Scope.Wait");
    wipe();
    weir_leak_report *r = leaks(2);
    CHECK_EQ(weir_leak_heal(r), 2);
    weir_leak_report_free(r);
    TEST_UNTIL(atomic_load(&ended));
    int e = atomic_load(&result);
    CHECK(e == -EDEADLK || e == -ECANCELED); /* the child's: whichever came first */
    TEST_UNTIL(weir_count() == 1);
}

static int asks_for_a_slot(struct lost *l) {
    CHECK_EQ(weir_scope_open(&l->scope, NULL), 0);
    CHECK_EQ(weir_scope_limit(&l->scope, 1), 0);
    CHECK_EQ(weir_scope_go(&l->scope, child, l->ch), 0);
    int e = weir_scope_go(&l->scope, child, l->ch);
    weir_scope_close(&l->scope);
    return e;
}
TEST(waiting_for_a_slot_in_a_scope_is_healed) {
    what = asks_for_a_slot;
    TEST_GO(wait_with, what);
    test_until_n_parked(1, "chan receive");
    test_until_n_parked(1, "weir.Scope.Go");
    wipe();
    weir_leak_report *r = leaks(2);
    CHECK_EQ(weir_leak_heal(r), 2);
    weir_leak_report_free(r);
    TEST_UNTIL(atomic_load(&ended));
    CHECK(atomic_load(&result) <= 0); /* 0: the child ended first, and left its slot */
    TEST_UNTIL(weir_count() == 1);
}

/* ---- Many ----------------------------------------------------------------------------------------- */

static int start_many(void) {
    what = receives, state = "chan receive";
    for (int i = 0; i < 500; i++) TEST_GO(wait_with, what);
    test_until_n_parked(500, state);
    return 0;
}
TEST(many_are_healed_at_once) {
    hidden(start_many);
    weir_leak_report *r = leaks(500);
    CHECK_EQ(weir_leak_heal(r), 500);
    weir_leak_report_free(r);
    TEST_UNTIL(weir_count() == 1);
    weir_leak_report_free(leaks(0));
}

TEST(healing_an_empty_report_does_nothing) {
    weir_leak_report *r = leaks(0);
    CHECK_EQ(weir_leak_heal(r), 0);
    CHECK_EQ(weir_leak_heal(NULL), 0);
    weir_leak_report_free(r);
}
