/* Stacks: how large they are, that all of it can be used, what an overflow does, and what they cost. */
#include "sched/inner.h"
#undef errno
#define errno (*weir_errno_())
#include "sched_test.h"

#include <alloca.h>
#include <signal.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static _Atomic int running;

/* Touch that many bytes of the stack, from the top down. */
__attribute__((noinline)) static void use(size_t bytes) {
    volatile char *room = alloca(bytes);
    for (size_t i = bytes; i > 0; i -= i < 1024 ? i : 1024) room[i - 1] = 1;
    room[0] = 1;
}
static void uses(size_t bytes) {
    use(bytes);
    running--;
}
static void use_on(size_t stack, size_t bytes) {
    running = 1;
    CHECK_EQ(weir_go_stack(stack, uses, bytes), 0);
    TEST_UNTIL(running == 0);
}

/* ---- Sizes ------------------------------------------------------------------------------------------------------- */

/* The guard page and the control block, and what the harness and sanitizers add to frames. */
enum { SPARE = SANITIZED ? 12 << 10 : 8 << 10 };

TEST(a_stack_is_as_large_as_was_asked_for) {
    for (size_t size = 16 * KIB; size <= 64 * MIB; size *= 2) use_on(size, size - SPARE);
}
TEST(a_size_is_rounded_up) {
    use_on(1, 16 * KIB - SPARE);
    use_on(16 * KIB + 1, 32 * KIB - SPARE);
    use_on(100 * KIB, 128 * KIB - SPARE);
    use_on(5 * MIB, 8 * MIB - SPARE);
}
TEST(no_size_is_the_default) {
    use_on(0, 256 * KIB - SPARE);
    running = 1;
    TEST_GO(uses, 256 * KIB - SPARE);
    TEST_UNTIL(running == 0);
}
TEST(seven_of_the_eight_mib_of_main_can_be_used) { use(7 * MIB); }

static void uses_both_ends(char *lowest) {
    /* The other end of a GiB, of which little is real. */
    volatile char *far = (char *)__builtin_frame_address(0) - 1000 * MIB;
    *far = 1;
    *lowest = *far;
    running--;
}
TEST(a_stack_may_have_a_gib) {
    char seen = 0;
    running = 1;
    long before = status_kib("VmRSS:");
    CHECK_EQ(weir_go_stack((size_t)1 << 30, uses_both_ends, &seen), 0);
    TEST_UNTIL(running == 0);
    CHECK_EQ(seen, 1);
    if (!SANITIZED) CHECK_LE(status_kib("VmRSS:") - before, 64 << 10); /* an emulator needs some, too */
}
TEST(a_stack_may_not_have_more) {
    CHECK_EQ(weir_go_stack(((size_t)1 << 30) + 1, uses, 0), -EINVAL);
    CHECK_EQ(weir_go_stack(SIZE_MAX, uses, 0), -EINVAL);
    CHECK_EQ(weir_count(), 1);
}

static void says_where(char **at) {
    *at = __builtin_frame_address(0);
    running--;
}
TEST(a_stack_is_used_again) {
    char *first, *again;
    weir_procs(1);
    running = 1;
    CHECK_EQ(weir_go_stack(2 * MIB, says_where, &first), 0);
    TEST_UNTIL(running == 0 && weir_count() == 1);
    for (int i = 0; i < 10; i++) {
        running = 1;
        CHECK_EQ(weir_go_stack(2 * MIB, says_where, &again), 0);
        TEST_UNTIL(running == 0 && weir_count() == 1);
        CHECK(again == first);
    }
}

/* ---- WEIR_STACK ---------------------------------------------------------------------------------------------------- */

static int uses_by_default(void *bytes) {
    running = 1;
    TEST_GO(uses, (size_t)(uintptr_t)bytes);
    TEST_UNTIL(running == 0);
    return (int)(wr_sched.default_stack >> 10);
}
static int with(const char *value, const char **said, size_t bytes) {
    static struct heard heard;
    CHECK_EQ(setenv("WEIR_STACK", value, 1), 0);
    listen_to_stderr(&heard);
    int kib = weir_run(uses_by_default, (void *)(uintptr_t)bytes);
    *said = stop_listening(&heard);
    return kib;
}
PLAIN_TEST(the_environment_says_how_large_a_stack_is) {
    static const struct {
        const char *value;
        size_t size;
    } good[] = { { "16K", 16 * KIB }, { "16384", 16 * KIB }, { "64k", 64 * KIB }, { "1M", MIB }, { "300k", 512 * KIB }, { "8m", 8 * MIB } };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        const char *said;
        CHECK_EQ(with(good[i].value, &said, good[i].size - SPARE), good[i].size >> 10);
        CHECK_STR(said, "");
    }
}
PLAIN_TEST(an_environment_that_makes_no_sense_is_told_so) {
    static const char *const bad[] = { "12", "15K", "abc", "K", "2G", "1.5M", "1025M", "-1", "1M ", "99999999999999999999M" };
    const char *said;
    CHECK_EQ(with("", &said, 256 * KIB - SPARE), 256);
    CHECK_STR(said, "");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char expected[128];
        CHECK_EQ(with(bad[i], &said, 256 * KIB - SPARE), 256);
        snprintf(expected, sizeof expected, "weir: WEIR_STACK=%s: not a size from 16K to 1024M; ignored\n", bad[i]);
        CHECK_STR(said, expected);
    }
}

/* ---- Overflow -------------------------------------------------------------------------------------------------------- */

__attribute__((noinline)) static int recurses(volatile char *above) {
    volatile char here[512];
    here[0] = 1;
    return above ? recurses(here) + here[0] : 0;
}
static void overflows(void) { (void)recurses(""); }
static int lets_one_overflow(void *arg) {
    TEST_GO(overflows);
    return weir_sleep(WEIR_HOUR);
}
static void overflow_guarded_by(const char *guard) {
    if (SANITIZED) SKIP("a sanitizer ends the process its own way");
    CHECK_EQ(setenv("WEIR_STACK_GUARD", guard, 1), 0);
    (void)weir_run(lets_one_overflow, NULL);
}
SIGNAL_PLAIN_TEST(an_overflow_is_found_by_madvise, SIGSEGV, "fatal error: stack overflow\nweir: the stack of goroutine 2, 256 KiB, is full") {
    overflow_guarded_by("madvise");
}
SIGNAL_PLAIN_TEST(an_overflow_is_found_by_mprotect, SIGSEGV, "fatal error: stack overflow\nweir: the stack of goroutine 2, 256 KiB, is full") {
    overflow_guarded_by("mprotect");
}

/* A little below the stack, where without a guard nothing but that is damaged. */
static void writes_below(void) {
    size_t bytes = (size_t)((char *)__builtin_frame_address(0) - wr_self()->stack_lo) + 256;
    char *room = alloca(bytes);
    memset(room, 1, 1024);
    __asm__ volatile("" ::"r"(room) : "memory");
}
static int lets_one_write_below(void *arg) {
    TEST_GO(writes_below);
    return weir_sleep(WEIR_HOUR);
}
EXIT_PLAIN_TEST(an_overflow_without_guards_is_found_at_the_end, 2, "fatal error: stack overflow: goroutine 2 has written below its stack") {
    CHECK_EQ(setenv("WEIR_STACK_GUARD", "none", 1), 0);
    (void)weir_run(lets_one_write_below, NULL);
}

static int uses_stacks(void *arg) {
    for (int i = 0; i < 3; i++) use_on(0, 256 * KIB - SPARE), use_on(64 * KIB, 64 * KIB - SPARE);
    return 0;
}
PLAIN_TEST(whatever_guards_them_stacks_can_be_used_to_their_end) {
    static const char *const guards[] = { "madvise", "mprotect", "none", "" };
    for (size_t i = 0; i < sizeof guards / sizeof guards[0]; i++) {
        CHECK_EQ(setenv("WEIR_STACK_GUARD", guards[i], 1), 0);
        CHECK_EQ(weir_run(uses_stacks, NULL), 0);
    }
}
PLAIN_TEST(an_unknown_guard_is_told_so) {
    static struct heard heard;
    CHECK_EQ(setenv("WEIR_STACK_GUARD", "dog", 1), 0);
    listen_to_stderr(&heard);
    CHECK_EQ(weir_run(uses_stacks, NULL), 0);
    CHECK_STR(stop_listening(&heard), "weir: WEIR_STACK_GUARD=dog: not madvise, mprotect or none; taken as madvise\n");
}

static weir_unit_chan gate;
static void parks(void) {
    (void)!weir_recv(gate, NULL);
    running--;
}
/* Each guard is two mappings more, and there is a limit to those. */
static int parks_forty_thousand(void *arg) {
    gate = weir_make(weir_unit_chan, 0);
    enum { N = 40000 };
    running = N;
    for (int i = 0; i < N; i++) TEST_GO(parks);
    CHECK_EQ(weir_count(), N + 1);
    weir_close(gate);
    TEST_UNTIL(weir_count() == 1);
    weir_release(gate);
    return uses_stacks(NULL);
}
PLAIN_TEST(when_there_are_too_many_guards_the_others_go_without) {
    static struct heard heard;
    if (SANITIZED || test_slowness() > 1) SKIP("needs 40,000 goroutines");
    CHECK_EQ(setenv("WEIR_STACK_GUARD", "mprotect", 1), 0);
    listen_to_stderr(&heard);
    CHECK_EQ(weir_run(parks_forty_thousand, NULL), 0);
    const char *said = stop_listening(&heard);
    CHECK_EQ(times_in(said, "\n"), 1);
    CHECK_CONTAINS(said, "weir: no more guard pages below stacks (");
}
