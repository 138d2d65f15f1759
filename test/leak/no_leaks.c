/* weir_no_leaks: who may be there when the block is left, however it is left. */
#include "leak_test.h"

#include <stdatomic.h>

static _Atomic int reports;
static size_t reported;
static char said[65536], reported_name[64], reported_state[64];
static void note(const char *name, const weir_leak_report *r) {
    char *text = printed(r);
    snprintf(said, sizeof said, "%s", text);
    snprintf(reported_name, sizeof reported_name, "%s", name);
    free(text);
    reported = weir_leak_report_count(r);
    snprintf(reported_state, sizeof reported_state, "%s", weir_leak_report_at(r, 0)->state);
    atomic_fetch_add(&reports, 1);
}

static int_chan shared;
static void receive(int_chan ch) {
    int v;
    (void)!weir_recv(ch, &v);
}
static void nothing(void) {}

TEST(goroutines_that_end_are_none_left_behind) {
    weir_on_leak(note);
    weir_no_leaks("ends") {
        for (int i = 0; i < 100; i++) TEST_GO(nothing);
    }
    CHECK_EQ(atomic_load(&reports), 0);
    CHECK_EQ(weir_count(), 1);
}

TEST(goroutines_about_to_be_woken_are_waited_for) {
    weir_on_leak(note);
    weir_no_leaks("closed") {
        int_chan ch = weir_make(int_chan, 0);
        for (int i = 0; i < 100; i++) TEST_GO(receive, ch);
        test_until_n_parked(100, "chan receive");
        weir_close(ch);
        weir_release(ch);
    }
    CHECK_EQ(atomic_load(&reports), 0);
    CHECK_EQ(weir_count(), 1);
}

static void sleep_a_little(void) { weir_sleep(50 * WEIR_MILLISECOND); }
TEST(a_timer_that_is_about_to_fire_is_waited_for) {
    weir_on_leak(note);
    weir_no_leaks("sleeps") TEST_GO(sleep_a_little);
    CHECK_EQ(atomic_load(&reports), 0);
    CHECK_EQ(weir_count(), 1);
}

TEST(who_is_blocked_is_reported_though_it_can_be_reached) {
    weir_on_leak(note);
    shared = weir_make(int_chan, 0);
    weir_no_leaks("reachable") {
        TEST_GO(receive, shared);
        test_until_n_parked(1, "chan receive");
    }
    CHECK_EQ(atomic_load(&reports), 1);
    CHECK_EQ(reported, 1);
    CHECK_STR(reported_name, "reachable");
    CHECK_STR(reported_state, "chan receive");
    CHECK_CONTAINS(said, "weir: 1 goroutine started in weir_no_leaks(\"reachable\") is left behind.");
    CHECK_CONTAINS(said, "1 goroutine left behind, started at ");
    weir_close(shared);
}

static void sleep_for_ever(void) { weir_sleep(WEIR_HOUR); }
TEST(who_sleeps_for_long_is_reported) {
    weir_on_leak(note);
    weir_no_leaks("sleeper") TEST_GO(sleep_for_ever);
    CHECK_EQ(atomic_load(&reports), 1);
    CHECK_STR(reported_state, "sleep");
}

static _Atomic bool go_on;
static void run_for_ever(void) {
    while (!atomic_load(&go_on)) weir_yield();
}
TEST(who_still_runs_after_a_second_is_reported) {
    weir_time begun = weir_now();
    weir_on_leak(note);
    weir_no_leaks("runner") TEST_GO(run_for_ever);
    CHECK_GE(weir_now() - begun, WEIR_SECOND);
    CHECK_EQ(atomic_load(&reports), 1);
    atomic_store(&go_on, true);
}

static void start_another(void) { TEST_GO(receive, shared); }
TEST(those_started_by_others_count_and_those_from_before_do_not) {
    weir_on_leak(note);
    shared = weir_make(int_chan, 0);
    TEST_GO(receive, shared);
    test_until_n_parked(1, "chan receive");
    weir_no_leaks("descendants") {
        TEST_GO(start_another);
        test_until_n_parked(2, "chan receive");
    }
    CHECK_EQ(atomic_load(&reports), 1);
    CHECK_EQ(reported, 1);
    weir_close(shared);
}

static int leave_by_return(void) {
    weir_no_leaks("return") {
        TEST_GO(receive, shared);
        return 7;
    }
    return 8;
}
static void leave_by_goto(void) {
    weir_no_leaks("goto") {
        TEST_GO(receive, shared);
        goto out;
    }
    FAIL("went on");
out:
    return;
}
static void leave_by_exit(void) {
    weir_no_leaks("exit") {
        TEST_GO(receive, shared);
        weir_exit();
    }
}
TEST(the_check_is_made_however_the_block_is_left) {
    weir_on_leak(note);
    shared = weir_make(int_chan, 0);
    CHECK_EQ(leave_by_return(), 7);
    CHECK_EQ(atomic_load(&reports), 1);
    leave_by_goto();
    CHECK_EQ(atomic_load(&reports), 2);
    int ran = 0;
    weir_no_leaks("break") {
        TEST_GO(receive, shared);
        ran++;
        break;
    }
    CHECK_EQ(atomic_load(&reports), 3);
    weir_no_leaks("continue") {
        TEST_GO(receive, shared);
        ran++;
        continue;
    }
    CHECK_EQ(atomic_load(&reports), 4);
    CHECK_EQ(ran, 2);
    TEST_GO(leave_by_exit);
    TEST_UNTIL(atomic_load(&reports) == 5);
    CHECK_STR(reported_name, "exit");
    weir_close(shared);
}

TEST(blocks_nest_and_the_inner_one_counts_its_own) {
    weir_on_leak(note);
    shared = weir_make(int_chan, 0);
    weir_no_leaks("outer") {
        TEST_GO(receive, shared);
        weir_no_leaks("inner") TEST_GO(nothing);
        CHECK_EQ(atomic_load(&reports), 0);
    }
    CHECK_EQ(atomic_load(&reports), 1);
    CHECK_STR(reported_name, "outer");
    weir_close(shared);
}

TEST(a_cancelled_context_does_not_hurry_the_check) {
    weir_on_leak(note);
    WEIR_AUTO_CANCEL weir_ctx *ctx = weir_ctx_with_cancel(NULL);
    weir_ctx_cancel(ctx);
    weir_with(ctx) {
        weir_no_leaks("cancelled") TEST_GO(sleep_a_little);
    }
    CHECK_EQ(atomic_load(&reports), 0);
}

EXIT_TEST(without_a_hook_the_process_ends_with_1, 1,
          "weir: 1 goroutine started in weir_no_leaks(\"fatal\") is left behind.") {
    shared = weir_make(int_chan, 0);
    weir_no_leaks("fatal") TEST_GO(receive, shared);
}
EXIT_TEST(what_was_printed_before_is_kept, 1, "buffered") {
    static char buffer[4096];
    setvbuf(stderr, buffer, _IOFBF, sizeof buffer);
    fprintf(stderr, "buffered\n");
    shared = weir_make(int_chan, 0);
    weir_no_leaks("fatal") TEST_GO(receive, shared);
}

PLAIN_TEST(without_a_runtime_nothing_is_left_behind) {
    weir_no_leaks("nothing") {}
}
PLAIN_TEST(a_thread_of_the_program_may_hold_the_block) {
    weir_on_leak(note);
    CHECK_EQ(weir_start(), 0);
    weir_no_leaks("ends") TEST_GO(nothing);
    CHECK_EQ(atomic_load(&reports), 0);
    int_chan ch = weir_make(int_chan, 0);
    weir_no_leaks("stays") TEST_GO(receive, ch);
    CHECK_EQ(atomic_load(&reports), 1);
    weir_close(ch);
    CHECK_EQ(weir_stop(WEIR_SECOND * 10), 0);
    weir_release(ch);
}
