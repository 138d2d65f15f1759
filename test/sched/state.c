/* What belongs to a goroutine travels with it, whichever thread it goes on with: errno, the floating-point control word, its
 * number, its name. */
#include "sched/sched.h"
#undef errno
#define errno (*weir_errno_())
#include "sched_test.h"

#include <fenv.h>

static _Atomic int running;

/* ---- errno ----------------------------------------------------------------------------------------------------- */

enum { MINE = 1111, THE_THREADS = 2222 };
static int_chan ch;
static _Atomic long first_thread, second_thread;
static int *_Atomic cached;
static _Atomic int seen_errno, seen_cached, seen_after_failure, phase, placed;

/* The C library's word for the thread that this is called on. */
__attribute__((noinline)) static int *errno_of_thread(void) {
    __asm__ volatile("" ::: "memory");
    return __errno_location();
}
/* Here as anywhere in a program: a compiler that took errno's place for constant would ask for it once. */
static void parks_and_reads_errno(void) {
    first_thread = thread_id();
    cached = errno_of_thread();
    errno = MINE;
    CHECK_EQ(weir_recv(ch, NULL), 0);
    seen_errno = errno;
    seen_cached = __atomic_load_n(cached, __ATOMIC_RELAXED); /* it is another thread's by now */
    second_thread = thread_id();
    (void)!close(-1);
    seen_after_failure = errno;
    errno = MINE;
    phase = 2;
    while (phase != 3) {
    }
    running--;
}
static int wait_for_a_phase(void *arg) {
    while (phase == 0) usleep(1000);
    return 0;
}
/* Sits on the thread on which the other one parked, with an errno of its own, until that has gone on elsewhere. On any other thread it
 * holds that one until then, so that the next of them gets another. */
static void keeps_the_thread(void) {
    weir_lock_thread();
    if (thread_id() != first_thread) {
        placed++;
        CHECK_EQ(weir_blocking(wait_for_a_phase, NULL), 0);
    } else {
        CHECK_EQ(weir_try_send(ch, 1), 0);
        __atomic_store_n(errno_of_thread(), THE_THREADS, __ATOMIC_RELAXED);
        while (phase != 2) {
        }
        CHECK_EQ(*errno_of_thread(), THE_THREADS);
        phase = 3;
    }
    weir_unlock_thread();
    running--;
}
TEST(errno_is_the_goroutines_when_it_goes_on_with_another_thread) {
    ch = weir_make(int_chan, 0);
    weir_procs(2);
    for (int i = 0; i < 20; i++) {
        phase = 0;
        running = 1;
        TEST_GO(parks_and_reads_errno);
        test_until_n_parked(1, "chan receive");
        while (phase == 0) { /* until one comes to run on that thread */
            int before = placed;
            running++;
            TEST_GO(keeps_the_thread);
            TEST_UNTIL(placed > before || phase != 0);
        }
        TEST_UNTIL(running == 0);
        CHECK_NE(first_thread, second_thread);
        CHECK_EQ(seen_cached, THE_THREADS); /* what the C library's errno, asked for once, would have said */
        CHECK_EQ(seen_errno, MINE);
        CHECK_EQ(seen_after_failure, EBADF);
    }
    weir_release(ch);
}

static void keeps_errno(int mine, int n) {
    errno = mine;
    for (int i = 0; i < n; i++) {
        switch (i % 5) {
        case 0: weir_yield(); break;
        case 1: CHECK_EQ(weir_sleep(1), 0); break;
        case 2: CHECK_EQ(weir_recv(ch, NULL), 0); break;
        case 3: CHECK_EQ(weir_send(ch, 0), 0); break;
        case 4: CHECK_EQ(weir_select(weir_on_recv((int_chan){ 0 }, NULL), weir_on_after(1)), 1); break;
        }
        CHECK_EQ(errno, mine);
    }
    running--;
}
TEST(errno_is_kept_over_every_wait) {
    weir_procs(4);
    ch = weir_make(int_chan, 4);
    for (int i = 0; i < 4; i++) CHECK_EQ(weir_send(ch, 0), 0);
    running = 6;
    for (int i = 0; i < 6; i++) TEST_GO(keeps_errno, 1000 + i, (int)TEST_SCALE(500) * 5);
    TEST_UNTIL(running == 0);
    weir_release(ch);
}

/* ---- Floating point ------------------------------------------------------------------------------------------------ */

/* 1/3 as the present rounding has it. */
static double third(void) {
    volatile double one = 1, three = 3;
    return one / three;
}
static double rounded[2];
static void rounds(int mode, int which) {
    CHECK_EQ(fegetround(), FE_TONEAREST);
    CHECK_EQ(fesetround(mode), 0);
    for (int i = 0; i < TEST_SCALE(1000); i++) {
        CHECK_EQ(fegetround(), mode);
        double t = third();
        CHECK(t == rounded[which]);
        if (i % 8) weir_yield();
        else CHECK_EQ(weir_sleep(1), 0);
    }
    running--;
}
/* Neither do others get it, nor those started later on the same threads. */
TEST(rounding_is_each_goroutines_own) {
    fesetround(FE_UPWARD), rounded[0] = third();
    fesetround(FE_DOWNWARD), rounded[1] = third();
    fesetround(FE_TONEAREST);
    CHECK(rounded[0] != rounded[1]);
    weir_procs(2);
    for (int round = 0; round < 3; round++) {
        running = 8;
        for (int i = 0; i < 8; i++) TEST_GO(rounds, i % 2 ? FE_DOWNWARD : FE_UPWARD, i % 2);
        while (running > 0) {
            CHECK_EQ(fegetround(), FE_TONEAREST);
            test_pause();
        }
    }
}

/* ---- Numbers and names ----------------------------------------------------------------------------------------------- */

enum { MANY = 5000 };
static _Atomic(uint64_t) ids[MANY];
static void notes_id(int i) {
    uint64_t id = weir_id();
    weir_yield();
    CHECK_EQ(weir_id(), id);
    ids[i] = id;
    running--;
}
static int ascending(const void *a, const void *b) {
    return *(const uint64_t *)a < *(const uint64_t *)b ? -1 : *(const uint64_t *)a > *(const uint64_t *)b;
}
/* Their control blocks are used again, their numbers are not. */
TEST(numbers_are_never_used_again) {
    int n = (int)TEST_SCALE(MANY);
    weir_procs(4);
    CHECK_EQ(weir_id(), 1);
    for (int i = 0; i < n;) {
        int batch = n - i < 100 ? n - i : 100;
        running = batch;
        for (int j = 0; j < batch; j++) TEST_GO(notes_id, i++);
        TEST_UNTIL(running == 0);
    }
    qsort((void *)ids, (size_t)n, sizeof ids[0], ascending);
    CHECK_GE(ids[0], 2);
    for (int i = 1; i < n; i++) CHECK(ids[i] > ids[i - 1]);
}

static void waits(int_chan gate) { (void)!weir_recv(gate, NULL); }
TEST(the_count_is_of_all_that_live) {
    CHECK_EQ(weir_count(), 1);
    ch = weir_make(int_chan, 0);
    for (int i = 0; i < 100; i++) {
        TEST_GO(waits, ch);
        CHECK_EQ(weir_count(), i + 2);
    }
    test_until_n_parked(100, "chan receive");
    CHECK_EQ(weir_count(), 101);
    CHECK_EQ(weir_send(ch, 1), 0);
    TEST_UNTIL(weir_count() == 100);
    weir_close(ch);
    TEST_UNTIL(weir_count() == 1);
    weir_release(ch);
}

TEST(a_name_is_cut_and_kept_on_one_line) {
    char longest[100];
    memset(longest, 'x', sizeof longest);
    longest[99] = '\0';
    weir_name("%s %d", "worker", 7);
    CHECK_STR(wr_self()->name, "worker 7");
    weir_name("%s", longest);
    CHECK_EQ(strlen(wr_self()->name), 63);
    weir_name("two\nlines\tand a tab");
    CHECK_STR(wr_self()->name, "two lines and a tab");
}

static void show_label(const char *key, const char *value, void *text) {
    sprintf((char *)text + strlen(text), "%s=%s ", key, value);
}
static const char *my_labels(char *text) {
    *text = '\0';
    wr_labels_each(wr_self(), show_label, text);
    return text;
}
static void changes_labels(weir_unit_chan go_on) {
    char text[200];
    CHECK_STR(my_labels(text), "b=2 a=1 ");
    CHECK_EQ(weir_recv(go_on, NULL), -EPIPE);
    CHECK_STR(my_labels(text), "b=2 a=1 "); /* though its parent has others by now */
    weir_label("a", "changed");
    weir_label(NULL, "ignored");
    CHECK_STR(my_labels(text), "a=changed b=2 ");
    running--;
}
TEST(labels_are_inherited_and_then_ones_own) {
    char text[200], key[] = "a", value[] = "1";
    weir_unit_chan go_on = weir_make(weir_unit_chan, 0);
    weir_label(key, value), weir_label("b", "2");
    key[0] = value[0] = '?'; /* copied */
    running = 2;
    TEST_GO(changes_labels, go_on);
    TEST_GO(changes_labels, go_on);
    TEST_UNTIL(test_parked("chan receive") == 2);
    weir_label("a", NULL), weir_label("c", "3");
    CHECK_STR(my_labels(text), "c=3 b=2 ");
    weir_close(go_on);
    TEST_UNTIL(running == 0);
    CHECK_STR(my_labels(text), "c=3 b=2 ");
    weir_release(go_on);
}
