/*
 * Every blocking call, for good, with what it waits on in four places: on the goroutine's own stack, in a block of
 * malloc's, behind a chain of such blocks, and in a node of a list. Each is found, is described as what it is, and is the
 * only one reported. Built by levels.sh too, at other levels of optimisation.
 */
#include "proof_test.h"

/* One of everything; only some of it is used. */
struct things {
    char pad[24];
    int_chan ch, full;
    weir_mutex m;
    weir_rwmutex rw;
    weir_cond cond;
    weir_wg wg;
    weir_sem sem;
    weir_once once;
    weir_timer *timer;
    weir_ctx *ctx;
    weir_scope scope;
};
typedef void blocker(struct things *t);

/* ---- What blocks -------------------------------------------------------------------------------------- */

static NOINLINE void send(struct things *t) { STUCK("chan send", weir_send(t->ch, 1)); }
static NOINLINE void send_to_full(struct things *t) { STUCK("chan send", weir_send(t->full, 2)); }
static NOINLINE void receive(struct things *t) { STUCK("chan receive", weir_recv(t->ch, NULL)); }
static NOINLINE void wait_closed(struct things *t) { STUCK("chan receive", weir_wait_closed(t->full)); }
static NOINLINE void range(struct things *t) {
    int seen = 0, v = 0;
    CHECK_EQ(weir_recv(t->full, &v), 0);
    CHECK_EQ(v, 1);
    STUCK("chan receive", ({ while (weir_recv(t->full, &v) == 0) seen++; seen; }));
}
static NOINLINE void send_nil(struct things *t) {
    t->ch = (int_chan){ 0 };
    STUCK("chan send (nil chan)", weir_send(t->ch, 1));
}
static NOINLINE void receive_nil(struct things *t) {
    t->ch = (int_chan){ 0 };
    STUCK("chan receive (nil chan)", weir_recv(t->ch, NULL));
}
static NOINLINE void select_one(struct things *t) { STUCK("select", weir_select(weir_on_recv(t->ch, NULL))); }
static NOINLINE void select_two(struct things *t) { STUCK("select", weir_select(weir_on_recv(t->ch, NULL), weir_on_send(t->full, 3))); }
static NOINLINE void select_done(struct things *t) {
    t->ctx = weir_ctx_with_cancel(NULL);
    STUCK("select", weir_select(weir_on_recv(t->ch, NULL), weir_on_done(t->ctx)));
}
static NOINLINE void select_many(struct things *t) {
    enum { ARMS = 100 };
    weir_arm arms[ARMS];
    for (int i = 0; i < ARMS; i++) {
        int_chan own = weir_make(int_chan, 0);
        arms[i] = i % 3 ? weir_on_recv(own, NULL) : i % 2 ? weir_on_send(own, i) : weir_on_recv(t->ch, NULL);
    }
    STUCK("select", weir_selectv(arms, ARMS));
}
static NOINLINE void select_nil(struct things *t) {
    int_chan nil = { 0 };
    t->ch = nil;
    STUCK("select", weir_select(weir_on_recv(nil, NULL), weir_on_send(t->ch, 1)));
}
static NOINLINE void select_none(struct things *t) {
    t->pad[0] = 1;
    STUCK("select (no cases)", weir_select());
}
static NOINLINE void lock_twice(struct things *t) {
    CHECK_EQ(weir_mutex_lock(&t->m), 0);
    STUCK("sync.Mutex.Lock", weir_mutex_lock(&t->m));
}
static NOINLINE void rlock_under_lock(struct things *t) {
    CHECK_EQ(weir_rwmutex_lock(&t->rw), 0);
    STUCK("sync.RWMutex.RLock", weir_rwmutex_rlock(&t->rw));
}
static NOINLINE void lock_under_rlock(struct things *t) {
    CHECK_EQ(weir_rwmutex_rlock(&t->rw), 0);
    STUCK("sync.RWMutex.Lock", weir_rwmutex_lock(&t->rw));
}
static NOINLINE void lock_under_lock(struct things *t) {
    CHECK_EQ(weir_rwmutex_lock(&t->rw), 0);
    STUCK("sync.RWMutex.Lock", weir_rwmutex_lock(&t->rw));
}
static void writer(weir_rwmutex *rw) { STUCK("sync.RWMutex.Lock", weir_rwmutex_lock(rw)); }
static NOINLINE void rlock_again(struct things *t) {
    CHECK_EQ(weir_rwmutex_rlock(&t->rw), 0);
    START(writer, &t->rw);
    /* A writer that waits holds new readers back. */
    for (int e; (e = weir_rwmutex_try_rlock(&t->rw)) != -EAGAIN; test_pause()) CHECK_EQ(e, 0), CHECK_EQ(weir_rwmutex_runlock(&t->rw), 0);
    STUCK("sync.RWMutex.RLock", weir_rwmutex_rlock(&t->rw));
}
static NOINLINE void wait_cond(struct things *t) {
    CHECK_EQ(weir_mutex_lock(&t->m), 0);
    STUCK("sync.Cond.Wait", weir_cond_wait(&t->cond, &t->m));
}
static NOINLINE void wait_cond_rw(struct things *t) {
    CHECK_EQ(weir_rwmutex_lock(&t->rw), 0);
    STUCK("sync.Cond.Wait", weir_cond_wait_rw(&t->cond, &t->rw));
}
static NOINLINE void wait_wg(struct things *t) {
    CHECK_EQ(weir_wg_add(&t->wg, 1), 0);
    STUCK("sync.WaitGroup.Wait", weir_wg_wait(&t->wg));
}
static NOINLINE void acquire(struct things *t) {
    CHECK_EQ(weir_sem_init(&t->sem, 3), 0);
    CHECK_EQ(weir_sem_acquire(&t->sem, 2), 0);
    STUCK("semacquire", weir_sem_acquire(&t->sem, 2));
}
static NOINLINE void once_inner(void *arg) { STUCK("sync.Once.Do", weir_once_do(&((struct things *)arg)->once, once_inner, arg)); }
static NOINLINE void once_recursive(struct things *t) {
    CHECK_EQ(weir_once_do(&t->once, once_inner, t), 0);
    FAIL("woken");
}
static NOINLINE void run_stuck(void *arg) { STUCK("chan receive", weir_recv(((struct things *)arg)->ch, NULL)); }
static void late_caller(struct things *t) { STUCK("sync.Once.Do", weir_once_do(&t->once, run_stuck, t)); }
static NOINLINE void once_stuck(struct things *t) {
    START(late_caller, t); /* whichever comes second waits for the other */
    (void)!weir_once_do(&t->once, run_stuck, t);
}
static void child(struct things *t) { STUCK("chan receive", weir_recv(t->ch, NULL)); }
static NOINLINE void wait_scope(struct things *t) {
    CHECK_EQ(weir_scope_open(&t->scope, NULL), 0);
    SCOPE_START(&t->scope, child, t);
    STUCK("weir.Scope.Wait", weir_scope_wait(&t->scope));
}
static void lone_child(int_chan ch) { STUCK("chan receive", weir_recv(ch, NULL)); }
static NOINLINE void wait_scope_with_lone_child(struct things *t) {
    CHECK_EQ(weir_scope_open(&t->scope, NULL), 0);
    SCOPE_START(&t->scope, lone_child, weir_make(int_chan, 0));
    STUCK("weir.Scope.Wait", weir_scope_wait(&t->scope));
}
static NOINLINE void go_at_limit(struct things *t) {
    CHECK_EQ(weir_scope_open(&t->scope, NULL), 0);
    CHECK_EQ(weir_scope_limit(&t->scope, 1), 0);
    SCOPE_START(&t->scope, child, t);
    STUCK("weir.Scope.Go", weir_scope_go(&t->scope, child, t));
}
static NOINLINE void wait_stopped_timer(struct things *t) {
    t->timer = weir_timer_new(WEIR_HOUR);
    CHECK(t->timer && weir_timer_stop(t->timer));
    STUCK("chan receive", weir_timer_wait(t->timer, NULL));
}
static NOINLINE void wait_stopped_ticker(struct things *t) {
    t->timer = weir_ticker_new(WEIR_HOUR);
    CHECK(t->timer && weir_timer_stop(t->timer));
    STUCK("chan receive", weir_timer_wait(t->timer, NULL));
}
static NOINLINE void wait_expired_timer(struct things *t) {
    t->timer = weir_timer_new(0);
    CHECK(t->timer);
    CHECK_EQ(weir_timer_wait(t->timer, NULL), 0);
    STUCK("chan receive", weir_timer_wait(t->timer, NULL));
}
static NOINLINE void select_expired_timer(struct things *t) {
    t->timer = weir_timer_new(0);
    CHECK(t->timer);
    CHECK_EQ(weir_timer_wait(t->timer, NULL), 0);
    STUCK("select", weir_select(weir_on_timer(t->timer), weir_on_recv(t->ch, NULL)));
}
static NOINLINE void wait_done(struct things *t) {
    t->ctx = weir_ctx_with_cancel(NULL);
    STUCK("chan receive", weir_wait_closed(weir_ctx_done(t->ctx)));
}
static NOINLINE void receive_under_own_context(struct things *t) {
    t->ctx = weir_ctx_with_cancel(NULL);
    weir_with(t->ctx) STUCK("chan receive", weir_recv(t->ch, NULL));
}
static NOINLINE void locked_to_its_thread(struct things *t) {
    weir_lock_thread();
    STUCK("chan receive", weir_recv(t->ch, NULL));
}

/* ---- Where it lies -------------------------------------------------------------------------------------- */

static NOINLINE void furnish(struct things *t) {
    memset(t, 0, sizeof *t);
    t->ch = weir_make(int_chan, 0), t->full = weir_make(int_chan, 1);
    CHECK_EQ(weir_try_send(t->full, 1), 0);
}
static NOINLINE struct things *new_things(void) {
    struct things *t = malloc(sizeof *t);
    CHECK(t);
    furnish(t);
    return t;
}
static void on_its_stack(blocker *block) {
    struct things t;
    furnish(&t);
    block(&t);
}
static void in_a_struct(struct things *t, blocker *block) { block(t); }

struct office {
    long number;
    struct things *desk;
};
struct house {
    char name[40];
    struct office *office;
};
static void in_a_struct_of_structs(struct house *h, blocker *block) { block(h->office->desk); }

struct node {
    struct node *next;
    struct things things;
};
static void in_a_list(struct node *first, blocker *block) {
    for (int i = 0; i < 6; i++) first = first->next;
    block(&first->things);
}

static blocker *chosen_;
static NOINLINE void start_in_all_places(void) {
    struct house *h = calloc(1, sizeof *h);
    struct node *list = NULL;
    CHECK(h && (h->office = calloc(1, sizeof *h->office)));
    h->office->desk = new_things();
    for (int i = 0; i < 10; i++) {
        struct node *n = malloc(sizeof *n);
        CHECK(n);
        furnish(&n->things);
        n->next = list, list = n;
    }
    START(on_its_stack, chosen_);
    START(in_a_struct, new_things(), chosen_);
    START(in_a_struct_of_structs, h, chosen_);
    START(in_a_list, list, chosen_);
}
enum { PLACES = 4 };

/* Twice, for a verdict stays; and after others have used the processor and the heap. */
static NOINLINE void found_everywhere(blocker *block, size_t stuck_each) {
    RECALL_WANTS_GLIBC();
    chosen_ = block;
    leak(PLACES * stuck_each, start_in_all_places);
    all_are_found();
    for (int i = 0; i < 100; i++) weir_yield();
    free(malloc(1000));
    all_are_found();
}

TEST(send_for_ever_is_found) { found_everywhere(send, 1); }
TEST(send_to_a_full_channel_for_ever_is_found) { found_everywhere(send_to_full, 1); }
TEST(receive_for_ever_is_found) { found_everywhere(receive, 1); }
TEST(range_over_a_channel_that_is_not_closed_is_found) { found_everywhere(range, 1); }
TEST(wait_for_a_close_that_does_not_come_is_found) { found_everywhere(wait_closed, 1); }
TEST(send_to_nil_is_found) { found_everywhere(send_nil, 1); }
TEST(receive_from_nil_is_found) { found_everywhere(receive_nil, 1); }
TEST(select_with_one_arm_is_found) { found_everywhere(select_one, 1); }
TEST(select_with_two_arms_is_found) { found_everywhere(select_two, 1); }
TEST(select_with_an_arm_for_its_own_context_is_found) { found_everywhere(select_done, 1); }
TEST(select_with_many_arms_is_found) { found_everywhere(select_many, 1); }
TEST(select_with_nil_arms_is_found) { found_everywhere(select_nil, 1); }
TEST(select_without_arms_is_found) { found_everywhere(select_none, 1); }
TEST(mutex_locked_twice_is_found) { found_everywhere(lock_twice, 1); }
TEST(rlock_under_its_own_lock_is_found) { found_everywhere(rlock_under_lock, 1); }
TEST(lock_under_its_own_rlock_is_found) { found_everywhere(lock_under_rlock, 1); }
TEST(rwmutex_locked_twice_is_found) { found_everywhere(lock_under_lock, 1); }
TEST(rlock_again_with_a_writer_between_is_found) { found_everywhere(rlock_again, 2); }
TEST(wait_for_a_signal_that_does_not_come_is_found) { found_everywhere(wait_cond, 1); }
TEST(wait_for_a_signal_under_an_rwmutex_is_found) { found_everywhere(wait_cond_rw, 1); }
TEST(wait_for_a_done_that_does_not_come_is_found) { found_everywhere(wait_wg, 1); }
TEST(acquire_for_ever_is_found) { found_everywhere(acquire, 1); }
TEST(once_that_calls_itself_is_found) { found_everywhere(once_recursive, 1); }
TEST(wait_for_a_scope_whose_child_is_stuck_is_found) { found_everywhere(wait_scope, 2); }
TEST(wait_for_a_scope_whose_child_alone_knows_its_channel_is_found) { found_everywhere(wait_scope_with_lone_child, 2); }
TEST(go_at_the_limit_of_a_scope_is_found) { found_everywhere(go_at_limit, 2); }
TEST(wait_for_a_stopped_timer_is_found) { found_everywhere(wait_stopped_timer, 1); }
TEST(wait_for_a_stopped_ticker_is_found) { found_everywhere(wait_stopped_ticker, 1); }
TEST(second_wait_for_a_timer_is_found) { found_everywhere(wait_expired_timer, 1); }
TEST(select_over_an_expired_timer_is_found) { found_everywhere(select_expired_timer, 1); }
TEST(wait_for_a_context_that_nobody_else_can_cancel_is_found) { found_everywhere(wait_done, 1); }
TEST(receive_under_a_context_that_nobody_else_can_cancel_is_found) { found_everywhere(receive_under_own_context, 1); }
TEST(receive_on_a_held_thread_is_found) { found_everywhere(locked_to_its_thread, 1); }

/* Two callers, one runs and is stuck, the other waits for it: who is which is chance. */
static NOINLINE void start_once(void) {
    weir_once *shared = &new_things()->once;
    struct things *t = (struct things *)(void *)((char *)shared - offsetof(struct things, once));
    START(in_a_struct, t, once_stuck);
}
TEST(once_whose_runner_is_stuck_is_found_with_who_waits_for_it) {
    RECALL_WANTS_GLIBC();
    tidily(start_once);
    test_until_n_parked(1, "chan receive");
    test_until_n_parked(1, "sync.Once.Do");
    scrub();
    CHECK_LEAKED(2);
}
