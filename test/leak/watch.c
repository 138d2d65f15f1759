/* weir_leak_watch and weir_watch_count: called as often as they should, in nobody's way. */
#include "leak_test.h"

#include <stdatomic.h>
#include <time.h>

static _Atomic int begun, calls, inconclusive;
static _Atomic size_t most;
static char *_Atomic growth;
static int_chan found;
static void note(const weir_leak_report *r, void *arg) {
    CHECK(arg == &calls);
    atomic_fetch_add(&begun, 1);
    size_t n = weir_leak_report_count(r);
    if (n > atomic_load(&most)) {
        atomic_store(&most, n);
        (void)!weir_try_send(found, 1);
    }
    char *text = printed(r);
    if (strstr(text, "inconclusive")) atomic_fetch_add(&inconclusive, 1);
    if (strstr(text, "pile up") && !atomic_load(&growth)) atomic_store(&growth, text);
    else free(text);
    atomic_fetch_add(&calls, 1);
}
static void receive(int_chan ch) {
    int v;
    (void)!weir_recv(ch, &v);
}
static int start_leak(void) {
    int_chan ch = weir_make(int_chan, 0);
    TEST_GO(receive, ch);
    test_until_parked(last_id(), "chan receive");
    return 0;
}

TEST(the_watch_finds_a_leak_and_is_called_again) {
    RECALL_WANTS_GLIBC();
    found = weir_make(int_chan, 1);
    weir_leak_watch(WEIR_MILLISECOND, note, &calls);
    TEST_UNTIL(atomic_load(&calls) >= 2);
    hidden(start_leak);
    /* Parked: a frame that runs may hold stale words. The timer, since who waits for the watch alone is in a
     * deadlock. */
    CHECK_EQ(weir_select(weir_on_recv(found, NULL), weir_on_after(50 * WEIR_SECOND)), 0);
    CHECK_EQ(atomic_load(&most), 1);
    weir_leak_watch(0, NULL, NULL);
    int so_far = atomic_load(&calls);
    weir_sleep(20 * WEIR_MILLISECOND);
    CHECK_EQ(atomic_load(&calls), so_far); /* it has ended */
    TEST_UNTIL(weir_count() == 2);         /* its thread was one while it called */
}

static _Atomic bool stopped_inside;
static void stop_inside(const weir_leak_report *r, void *arg) {
    weir_leak_watch(0, NULL, NULL);
    atomic_store(&stopped_inside, true);
}
TEST(a_watch_may_end_itself) {
    weir_leak_watch(WEIR_MILLISECOND, stop_inside, NULL);
    TEST_UNTIL(atomic_load(&stopped_inside));
}

static int_chan pile;
static void note_and_add(const weir_leak_report *r, void *arg) {
    note(r, arg);
    if (atomic_load(&growth)) return;
    for (int i = 0; i < 10; i++) TEST_GO(receive, pile);
    test_until_n_parked(10 * (size_t)atomic_load(&calls), "chan receive");
}
TEST(what_grows_from_time_to_time_is_listed) {
    PROOF_WANTS_SIGNALS();
    pile = weir_make(int_chan, 0);
    weir_leak_watch(WEIR_MILLISECOND, note_and_add, &calls);
    TEST_UNTIL(atomic_load(&growth));
    weir_leak_watch(0, NULL, NULL);
    CHECK_CONTAINS(atomic_load(&growth), "in chan receive at ");
    CHECK_CONTAINS(atomic_load(&growth), "started at ");
    CHECK_EQ(atomic_load(&most), 0);
    weir_close(pile);
}

static _Atomic size_t counted;
static void note_count(size_t n, void *arg) { atomic_store(&counted, n); }
TEST(the_count_is_told_when_it_is_above_the_threshold) {
    pile = weir_make(int_chan, 0);
    weir_watch_count(5, WEIR_MILLISECOND, note_count, NULL);
    for (int i = 0; i < 4; i++) TEST_GO(receive, pile);
    weir_sleep(20 * WEIR_MILLISECOND);
    CHECK_EQ(atomic_load(&counted), 0); /* five, with main: not above */
    TEST_GO(receive, pile);
    TEST_UNTIL(atomic_load(&counted) == 6);
    weir_watch_count(0, 0, NULL, NULL);
    weir_close(pile);
}

static void ask_weir(const weir_leak_report *r, void *arg) {
    (void)weir_count(); /* so the thread is one that has called weir, while this lasts */
    atomic_fetch_add(&calls, 1);
}
TEST(it_counts_neither_as_a_goroutine_nor_as_a_thread) {
    weir_leak_watch(WEIR_MILLISECOND, ask_weir, NULL);
    TEST_UNTIL(atomic_load(&calls) >= 3);
    weir_leak_watch(WEIR_HOUR, ask_weir, NULL);
    TEST_UNTIL(weir_count() == 1);
}
EXIT_TEST(it_hides_no_deadlock, 2, "all goroutines are asleep - deadlock!") {
    weir_leak_watch(WEIR_MILLISECOND, ask_weir, NULL);
    weir_watch_count(1000, WEIR_MILLISECOND, note_count, NULL);
    TEST_UNTIL(atomic_load(&calls) >= 3);
    (void)!weir_recv((int_chan){ 0 }, NULL);
}
EXIT_TEST(one_that_sleeps_hides_no_deadlock, 2, "all goroutines are asleep - deadlock!") {
    weir_leak_watch(WEIR_HOUR, ask_weir, NULL);
    (void)!weir_recv((int_chan){ 0 }, NULL);
}

static _Atomic bool inside;
static int_chan never;
static void block(const weir_leak_report *r, void *arg) {
    atomic_store(&inside, true);
    int v;
    (void)!weir_recv(never, &v);
}
TEST(one_that_blocks_does_not_keep_main_from_ending) {
    never = weir_make(int_chan, 0);
    weir_leak_watch(WEIR_MILLISECOND, block, NULL);
    TEST_UNTIL(atomic_load(&inside));
    test_ignore_leaks();
}

static int count_calls(void *arg) {
    int before = atomic_load(&calls);
    TEST_UNTIL(atomic_load(&calls) >= before + 2);
    return 0;
}
PLAIN_TEST(it_goes_on_over_several_runs_and_rests_between_them) {
    weir_leak_watch(WEIR_MILLISECOND, note, &calls);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(weir_run(count_calls, NULL), 0);
        int so_far = atomic_load(&calls);
        nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
        CHECK_LE(atomic_load(&calls), so_far + 1); /* a call that was being made goes on */
    }
}
