/* How a goroutine ends: by return or weir_exit, and what was deferred; how the process ends. */
#include "sched_test.h"

static char said[64];
static void say(void *letter) { strcat(said, letter); }
static void expect_said(const char *text) {
    CHECK_STR(said, text);
    said[0] = '\0';
}
static _Atomic int ended;
static void has_ended(void *unused) { ended++; }
/* Start it, and wait for its end. */
#define GO_TO_THE_END(...)                                                                          \
    do {                                                                                            \
        size_t before = weir_count();                                                               \
        TEST_GO(__VA_ARGS__);                                                                       \
        TEST_UNTIL(weir_count() == before);                                                         \
    } while (0)

/* ---- Deferred calls ------------------------------------------------------------------------------------ */

static void defers_three(void) {
    weir_defer(say, "a"), weir_defer(say, "b"), weir_defer(say, "c");
    say("-");
}
TEST(deferred_calls_run_at_the_end_last_in_first_out) {
    GO_TO_THE_END(defers_three);
    expect_said("-cba");
}

static void inner(void) {
    weir_defer(say, "i");
    say("(");
}
static void outer(void) {
    weir_defer(say, "o");
    inner();
    say(")");
}
TEST(deferring_is_per_goroutine_not_per_function) {
    GO_TO_THE_END(outer);
    expect_said("()io");
}

static void exits_deep_inside(volatile int depth) {
    if (depth == 0) weir_exit();
    depth--;
    if (depth >= 0) exits_deep_inside(depth);
    say("!");
}
static void exits_from_nested_calls(void) {
    weir_defer(say, "a");
    weir_defer(say, "b");
    exits_deep_inside(10);
    say("!");
}
TEST(exit_runs_what_was_deferred_and_nothing_else) {
    GO_TO_THE_END(exits_from_nested_calls);
    expect_said("ba");
}

static void exits(void *letter) {
    say(letter);
    weir_exit();
}
static void defers_exits(void) {
    weir_defer(say, "a"), weir_defer(exits, "b"), weir_defer(say, "c"), weir_defer(exits, "d");
}
TEST(exit_in_a_deferred_call_is_harmless) {
    GO_TO_THE_END(defers_exits);
    expect_said("dcba");
}
static void exits_with_exits_deferred(void) {
    defers_exits();
    weir_exit();
}
TEST(exit_in_a_deferred_call_of_an_exit_is_harmless) {
    GO_TO_THE_END(exits_with_exits_deferred);
    expect_said("dcba");
}

static void defers_more(void *letter) {
    say(letter);
    weir_defer(say, "2");
    weir_defer(say, "1");
}
static void defers_what_defers(void) {
    weir_defer(say, "3");
    weir_defer(defers_more, "0");
}
TEST(a_deferred_call_may_defer) {
    GO_TO_THE_END(defers_what_defers);
    expect_said("0123");
}

static int_chan ch;
static void sends_late(void *unused) {
    CHECK_EQ(weir_send(ch, 1), 0);
    CHECK_EQ(weir_sleep(WEIR_MICROSECOND), 0);
    weir_yield();
    CHECK_EQ(weir_send(ch, 2), 0);
}
static void defers_a_send(void) { weir_defer(sends_late, NULL); }
static void starts_another(void *unused) { TEST_GO(defers_a_send); }
static void defers_a_start(void) {
    weir_defer(starts_another, NULL);
    weir_exit();
}
TEST(a_deferred_call_may_block_and_start_goroutines) {
    int v;
    ch = weir_make(int_chan, 0);
    TEST_GO(defers_a_start);
    CHECK_EQ(weir_recv(ch, &v), 0), CHECK_EQ(v, 1);
    CHECK_EQ(weir_recv(ch, &v), 0), CHECK_EQ(v, 2);
    weir_release(ch);
}

static void defers_and_waits(int_chan gate, _Atomic int *mine) {
    weir_defer(has_ended, NULL);
    CHECK_EQ(weir_recv(gate, NULL), 0);
    ++*mine;
}
TEST(what_one_defers_is_not_run_by_another) {
    _Atomic int a = 0, b = 0;
    int_chan gate_a = weir_make(int_chan, 0), gate_b = weir_make(int_chan, 0);
    TEST_GO(defers_and_waits, gate_a, &a);
    TEST_GO(defers_and_waits, gate_b, &b);
    CHECK_EQ(weir_send(gate_b, 0), 0);
    TEST_UNTIL(weir_count() == 2);
    CHECK_EQ(ended, 1), CHECK_EQ(a, 0), CHECK_EQ(b, 1);
    CHECK_EQ(weir_send(gate_a, 0), 0);
    TEST_UNTIL(weir_count() == 1);
    CHECK_EQ(ended, 2), CHECK_EQ(a, 1);
    weir_release(gate_a), weir_release(gate_b);
}

static void defers_many(int n) {
    for (int i = 0; i < n; i++) weir_defer(has_ended, NULL);
}
TEST(many_deferred_calls) {
    GO_TO_THE_END(defers_many, 100000);
    CHECK_EQ(ended, 100000);
}

static void exits_inside_blocks(weir_ctx **seen) {
    *seen = weir_ctx_current();
    weir_defer(say, "z");
    weir_timeout(WEIR_HOUR) {
        weir_defer(say, "y");
        weir_shield(WEIR_HOUR) {
            weir_defer(say, "x");
            weir_exit();
        }
    }
}
TEST(exit_leaves_open_blocks_in_between) {
    weir_ctx *seen = NULL;
    GO_TO_THE_END(exits_inside_blocks, &seen);
    CHECK(seen == weir_ctx_background());
    expect_said("xyz");
}

static _Atomic int children;
static int child(void) {
    int e = weir_sleep(WEIR_HOUR);
    children--;
    return e;
}
static void exits_inside_a_scope(void) {
    weir_scoped(s) {
        for (int i = 0; i < 3; i++) {
            children++;
            CHECK_EQ(weir_scope_go(&s, child), 0);
        }
        weir_exit();
    }
}
TEST(exit_closes_an_open_scope) {
    GO_TO_THE_END(exits_inside_a_scope);
    CHECK_EQ(children, 0);
}

/* ---- The main goroutine ---------------------------------------------------------------------------------- */

static int returns_seven(void *arg) {
    weir_defer(say, "d");
    return 7;
}
PLAIN_TEST(what_main_deferred_has_run_when_the_runtime_returns) {
    CHECK_EQ(weir_run(returns_seven, NULL), 7);
    expect_said("d");
}

static void defers_and_waits_for_ever(void) {
    weir_defer(has_ended, NULL);
    (void)!weir_recv((int_chan){ 0 }, NULL);
}
static int leaves_one_behind(void *arg) {
    TEST_GO(defers_and_waits_for_ever);
    test_until_n_parked(1, NULL);
    return 0;
}
PLAIN_TEST(what_others_deferred_does_not_run_when_main_returns) {
    test_ignore_leaks();
    CHECK_EQ(weir_run(leaves_one_behind, NULL), 0);
    CHECK_EQ(ended, 0);
}

static void ends_the_process(void) {
    TEST_UNTIL(ended == 1);
    TEST_UNTIL(weir_count() == 1); /* what it had deferred has run, the rest of its end follows */
    fprintf(stderr, "the last one\n");
    exit(7);
}
EXIT_TEST(others_go_on_when_main_exits, 7, "the last one") {
    weir_defer(has_ended, NULL);
    TEST_GO(ends_the_process);
    weir_exit();
}

EXIT_TEST(main_exits_and_nobody_is_left, 2, "fatal error: no goroutines (main called weir_exit) - deadlock!") { weir_exit(); }

static void runs_a_little(void) {
    for (int i = 0; i < 10; i++) CHECK_EQ(weir_sleep(WEIR_MILLISECOND), 0);
    fprintf(stderr, "done\n");
}
EXIT_TEST(main_exits_and_the_last_one_ends, 2, "done\nfatal error: no goroutines (main called weir_exit) - deadlock!") {
    TEST_GO(runs_a_little);
    weir_exit();
}
EXIT_TEST(main_exits_and_those_left_wait_for_ever, 2, "fatal error: all goroutines are asleep - deadlock!") {
    TEST_GO(defers_and_waits_for_ever);
    weir_exit();
}

static void says_at_exit(void) { fprintf(stderr, "atexit\n"); }
static void exits_with_five(void) { exit(5); }
EXIT_TEST(exit_on_a_goroutine_does_what_exit_does, 5, "atexit") {
    atexit(says_at_exit);
    TEST_GO(exits_with_five);
    for (;;) CHECK_EQ(weir_sleep(WEIR_MILLISECOND), 0);
}

/* ---- Everybody asleep for good ----------------------------------------------------------------------------- */

#define DEADLOCK "fatal error: all goroutines are asleep - deadlock!"

EXIT_TEST(main_waits_for_what_nobody_sends, 2, DEADLOCK "\n\ngoroutine 1 [chan receive") {
    int_chan never = weir_make(int_chan, 0);
    (void)!weir_recv(never, NULL);
}
EXIT_TEST(main_sends_what_nobody_receives, 2, DEADLOCK "\n\ngoroutine 1 [chan send") {
    int_chan never = weir_make(int_chan, 0);
    (void)!weir_send(never, 1);
}
EXIT_TEST(main_waits_on_nothing, 2, DEADLOCK "\n\ngoroutine 1 [select (no cases)") { (void)!weir_select(); }
EXIT_TEST(main_waits_on_nil, 2, DEADLOCK "\n\ngoroutine 1 [chan receive (nil chan)") { (void)!weir_recv((int_chan){ 0 }, NULL); }
EXIT_TEST(main_locks_twice, 2, DEADLOCK "\n\ngoroutine 1 [sync.Mutex.Lock") {
    static weir_mutex m = WEIR_MUTEX_INIT;
    weir_mutex_lock(&m);
    weir_mutex_lock(&m);
}
EXIT_TEST(two_wait_for_each_other, 2, DEADLOCK) {
    weir_procs(4);
    TEST_GO(defers_and_waits_for_ever);
    (void)!weir_recv((int_chan){ 0 }, NULL);
}
static void locked_and_waits(void) {
    weir_lock_thread();
    (void)!weir_recv((int_chan){ 0 }, NULL);
}
EXIT_TEST(all_wait_and_are_tied_to_threads, 2, DEADLOCK) {
    TEST_GO(locked_and_waits);
    weir_lock_thread();
    (void)!weir_recv((int_chan){ 0 }, NULL);
}
EXIT_TEST(what_was_printed_is_not_lost_in_a_deadlock, 2, "printed before\n") {
    setvbuf(stdout, NULL, _IOFBF, 4096);
    dup2(STDERR_FILENO, STDOUT_FILENO);
    printf("printed before\n");
    (void)!weir_recv((int_chan){ 0 }, NULL);
}

/* Somebody who may yet wake the others is no deadlock. */
static void sends_after_a_sleep(int_chan to) {
    CHECK_EQ(weir_sleep(20 * WEIR_MILLISECOND), 0);
    CHECK_EQ(weir_send(to, 1), 0);
}
static int sleeps_in_libc(void *arg) {
    thread_sleep(20 * WEIR_MILLISECOND);
    return 0;
}
static void sends_after_a_blocking_call(int_chan to) {
    CHECK_EQ(weir_blocking(sleeps_in_libc, NULL), 0);
    CHECK_EQ(weir_send(to, 1), 0);
}
static void sends_after_libc(int_chan to) {
    thread_sleep(20 * WEIR_MILLISECOND);
    CHECK_EQ(weir_send(to, 1), 0);
}
static void *thread_sends(void *to) {
    thread_sleep(20 * WEIR_MILLISECOND);
    CHECK_EQ(weir_chan_send(to, &(int){ 1 }), 0);
    return NULL;
}
static void *thread_waits_then_sends(void *to) {
    CHECK_EQ(weir_sleep(20 * WEIR_MILLISECOND), 0);
    CHECK_EQ(weir_chan_send(to, &(int){ 1 }), 0);
    return NULL;
}
static void closes(void *of) { weir_chan_close(of); }
TEST(to_wait_for_a_sleeper_is_no_deadlock) {
    ch = weir_make(int_chan, 0);
    TEST_GO(sends_after_a_sleep, ch);
    CHECK_EQ(weir_recv(ch, NULL), 0);
    weir_release(ch);
}
TEST(to_wait_for_a_blocking_call_is_no_deadlock) {
    ch = weir_make(int_chan, 0);
    TEST_GO(sends_after_a_blocking_call, ch);
    CHECK_EQ(weir_recv(ch, NULL), 0);
    TEST_GO(sends_after_libc, ch);
    CHECK_EQ(weir_recv(ch, NULL), 0);
    weir_release(ch);
}
TEST(to_wait_for_a_thread_is_no_deadlock) {
    ch = weir_make(int_chan, 0);
    pthread_t thread = thread_start(thread_sends, weir_chan_of(ch));
    CHECK_EQ(weir_recv(ch, NULL), 0);
    thread_end(thread);
    thread = thread_start(thread_waits_then_sends, weir_chan_of(ch));
    CHECK_EQ(weir_recv(ch, NULL), 0);
    thread_end(thread);
    weir_release(ch);
}
TEST(to_wait_for_a_timer_is_no_deadlock) {
    ch = weir_make(int_chan, 0);
    weir_timer *t = weir_after_func(20 * WEIR_MILLISECOND, closes, weir_chan_of(ch));
    CHECK_EQ(weir_recv(ch, NULL), -EPIPE);
    weir_timer_free(t);
    t = weir_timer_new(20 * WEIR_MILLISECOND);
    CHECK_EQ(weir_timer_wait(t, NULL), 0);
    weir_timer_free(t);
    weir_timeout(20 * WEIR_MILLISECOND) CHECK_EQ(weir_recv((int_chan){ 0 }, NULL), -ETIMEDOUT);
    weir_release(ch);
}

static int receives_one(void *from) { return weir_chan_recv(from, NULL); }
PLAIN_TEST(to_wait_for_a_thread_that_was_there_first_is_no_deadlock) {
    ch = weir_make(int_chan, 0);
    pthread_t thread = thread_start(thread_sends, weir_chan_of(ch));
    CHECK_EQ(weir_run(receives_one, weir_chan_of(ch)), 0);
    pthread_join(thread, NULL);
    weir_release(ch);
}
