/* Scopes that were not closed: caught in debug builds, closed at the goroutine's end in others. */
#include "test.h"

#include <stdatomic.h>

static _Atomic int cancelled;
static int hang(void) {
    int e = weir_sleep(WEIR_HOUR);
    if (e == -ECANCELED) atomic_fetch_add(&cancelled, 1);
    return e;
}

/* Opens a scope in a frame of its own, and returns. */
__attribute__((noinline)) static void leave_open(void) {
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    CHECK_EQ(weir_scope_go(&s, hang), 0);
    test_until_n_parked(1, "sleep");
}

__attribute__((noinline, unused)) static void leave_open_deep(void) {
    char space[4096];
    __asm__ volatile("" : : "r"(space) : "memory");
    leave_open();
    __asm__ volatile("" : : "r"(space) : "memory");
}

__attribute__((noinline)) static void open_in_same_place(void) {
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    CHECK_EQ(weir_scope_close(&s), 0);
}
/* A frame that lies over the one that has gone. */
__attribute__((noinline)) static void open_below(void) {
    char space[8192];
    memset(space, 0xee, sizeof space);
    __asm__ volatile("" : : "r"(space) : "memory");
    open_in_same_place();
    __asm__ volatile("" : : "r"(space) : "memory");
}

#ifdef WEIR_DEBUG
#define RETURNED "was not closed, and the function that opened it has returned"
EXIT_TEST(a_scope_left_open_is_caught_by_the_next_open, 2, RETURNED) {
    leave_open_deep();
    open_in_same_place();
}
EXIT_TEST(a_scope_left_open_is_caught_when_its_frame_has_been_built_over, 2, RETURNED) {
    leave_open_deep();
    open_below();
}
EXIT_TEST(a_scope_left_open_is_caught_by_a_block, 2, RETURNED) {
    leave_open_deep();
    weir_timeout(WEIR_SECOND) weir_yield();
}
EXIT_TEST(a_scope_left_open_is_caught_by_a_wait, 2, RETURNED) {
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    leave_open_deep();
    weir_scope_wait(&s);
}
EXIT_TEST(the_message_names_the_place, 2, "fatal error: scope opened at ") {
    leave_open_deep();
    open_in_same_place();
}
EXIT_TEST(a_scope_opened_twice_is_caught, 2, "was not closed, and is opened again") {
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
}
EXIT_TEST(a_goroutine_that_ends_with_an_open_scope_is_caught, 2, "has ended with an open scope: scope opened at ") {
    TEST_GO(leave_open);
    CHECK_EQ(weir_sleep(WEIR_HOUR), 0);
}
#else
TEST(a_scope_left_open_is_closed_at_the_end_of_its_goroutine) {
    TEST_GO(leave_open);
    TEST_UNTIL(weir_count() == 1);
    CHECK_EQ(atomic_load(&cancelled), 1);
}
static void leave_open_and_go_on(_Atomic int *done) {
    leave_open();
    open_below();
    weir_timeout(WEIR_SECOND) weir_yield();
    atomic_store(done, 1);
}
TEST(a_scope_left_open_does_not_hurt_what_comes_after) {
    _Atomic int done = 0;
    TEST_GO(leave_open_and_go_on, &done);
    TEST_UNTIL(weir_count() == 1);
    CHECK_EQ(atomic_load(&done), 1);
    CHECK_EQ(atomic_load(&cancelled), 1);
}
#endif

TEST(a_scope_in_the_heap_may_outlive_the_function_that_opened_it) {
    static weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    open_below();
    CHECK_EQ(weir_scope_close(&s), 0);
}

TEST(open_scopes_of_outer_frames_are_no_offence) {
    weir_scope s;
    CHECK_EQ(weir_scope_open(&s, NULL), 0);
    open_in_same_place();
    open_below();
    weir_timeout(WEIR_SECOND) open_below();
    CHECK_EQ(weir_scope_close(&s), 0);
}
