/*
 * The test harness: every test runs in a forked child of its own, so that it may crash, hang, exit or leave
 * goroutines behind without touching the next one. Small and our own, because the same suites run under
 * qemu, musl and the sanitizers, where no test library is packaged.
 *
 *     #include "test.h"
 *
 *     TEST(close_wakes_every_receiver) { …; CHECK_EQ(weir_close(ch), 0); … }
 *
 * The body of a TEST is the main goroutine of weir_run; that of a PLAIN_TEST runs without the runtime. A
 * test passes if its body returns and the process then ends with status 0. A check may fail on any
 * goroutine or thread: it says where and why on standard error and ends the child at once. What a child
 * prints is shown only if it fails. A child gets 60 s × WEIR_TEST_TIMEOUT_SCALE, then SIGQUIT (so that the
 * dump is seen), 2 s later SIGKILL.
 *
 * `--list` lists the tests; other arguments choose those whose names contain one of them; `--no-fork NAME` runs
 * one in the process itself, for a debugger.
 *
 * For C11 and C++17.
 */
#ifndef WEIR_TEST_H
#define WEIR_TEST_H

#include "weir.h"

#include <string.h>

#if defined(__SANITIZE_THREAD__)
#define TEST_TSAN 1
#endif
#if defined(__SANITIZE_ADDRESS__)
#define TEST_ASAN 1
#endif
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TEST_TSAN 1
#endif
#if __has_feature(address_sanitizer)
#define TEST_ASAN 1
#endif
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Tests ---------------------------------------------------------------------------------------- */

enum test_end { TEST_RETURNS, TEST_EXITS, TEST_SIGNALLED };

struct test_case {
    const char *name, *file;
    void (*body)(void);
    int in_weir;          /* run the body as the main goroutine */
    enum test_end end;    /* how the child must end */
    int value;            /* with which status, by which signal */
    const char *text;     /* what standard error must contain then; NULL: anything */
    struct test_case *next;
};
void test_register(struct test_case *t);

#define TEST_CASE_(name, in_weir, end, value, text)                                                 \
    static void test_body_##name(void);                                                             \
    static struct test_case test_case_##name = { #name,   __FILE__, test_body_##name, in_weir,      \
                                                 end,     value,    text,             NULL };       \
    __attribute__((constructor)) static void test_constructor_##name(void) {                        \
        test_register(&test_case_##name);                                                           \
    }                                                                                               \
    static void test_body_##name(void)

#define TEST(name) TEST_CASE_(name, 1, TEST_RETURNS, 0, NULL)
#define PLAIN_TEST(name) TEST_CASE_(name, 0, TEST_RETURNS, 0, NULL)
/* The body must end the process: with that status, or by that signal, and with `text` (or NULL) on standard error. */
#define EXIT_TEST(name, status, text) TEST_CASE_(name, 1, TEST_EXITS, status, text)
#define EXIT_PLAIN_TEST(name, status, text) TEST_CASE_(name, 0, TEST_EXITS, status, text)
#define SIGNAL_TEST(name, signo, text) TEST_CASE_(name, 1, TEST_SIGNALLED, signo, text)
#define SIGNAL_PLAIN_TEST(name, signo, text) TEST_CASE_(name, 0, TEST_SIGNALLED, signo, text)

/* ---- Checks --------------------------------------------------------------------------------------- */

__attribute__((noreturn, format(printf, 3, 4))) void test_fail_(const char *file, int line, const char *fmt, ...);
__attribute__((noreturn, format(printf, 1, 2))) void test_skip_(const char *fmt, ...);
void test_compare_(const char *file, int line, const char *a_text, const char *op, const char *b_text, long long a,
                   long long b);
void test_strings_(const char *file, int line, const char *a_text, const char *b_text, const char *a, const char *b);
void test_contains_(const char *file, int line, const char *text, const char *hay, const char *needle);

#define CHECK(condition) ((condition) ? (void)0 : test_fail_(__FILE__, __LINE__, "%s does not hold", #condition))
/* Integers; both values are shown when they differ. */
#define CHECK_EQ(a, b) test_compare_(__FILE__, __LINE__, #a, "==", #b, (long long)(a), (long long)(b))
#define CHECK_NE(a, b) test_compare_(__FILE__, __LINE__, #a, "!=", #b, (long long)(a), (long long)(b))
#define CHECK_LE(a, b) test_compare_(__FILE__, __LINE__, #a, "<=", #b, (long long)(a), (long long)(b))
#define CHECK_GE(a, b) test_compare_(__FILE__, __LINE__, #a, ">=", #b, (long long)(a), (long long)(b))
#define CHECK_STR(a, b) test_strings_(__FILE__, __LINE__, #a, #b, (a), (b))
#define CHECK_CONTAINS(hay, needle) test_contains_(__FILE__, __LINE__, #hay, (hay), (needle))
#define FAIL(...) test_fail_(__FILE__, __LINE__, __VA_ARGS__)
/* This test cannot be run here; says why, and counts as neither passed nor failed. */
#define SKIP(...) test_skip_(__VA_ARGS__)

/* Start a goroutine, or fail. */
#define TEST_GO(...) CHECK_EQ(weir_go(__VA_ARGS__), 0)
/* LeakSanitizer judges a test that returns, but for one that leaves goroutines behind, whose memory it cannot see. A
 * PLAIN_TEST that does says so itself. */
void test_ignore_leaks(void);

/* ---- Amounts -------------------------------------------------------------------------------------- */

/* How many times slower than usual things are here: sanitizers, and WEIR_TEST_TIMEOUT_SCALE. 1 = as usual. */
long test_slowness(void);
/* n, or fewer (at least 1) where things are slow. */
#define TEST_SCALE(n) test_scale_(n)
static inline long test_scale_(long n) {
    long fewer = n / test_slowness();
    return fewer > 0 ? fewer : 1;
}

/* ---- Waiting without sleeping ---------------------------------------------------------------------- */

/* Let others run: a goroutine yields, a thread gives the processor away. */
void test_pause(void);
#define TEST_UNTIL(condition)                                                                       \
    do {                                                                                            \
        while (!(condition)) test_pause();                                                          \
    } while (0)
/* Until the goroutine of that id is parked in that state, in the words of the dumps: "chan send", "select", …;
 * NULL: any. Fails if it ends first. */
void test_until_parked(uint64_t id, const char *state);
/* Until that many goroutines besides the caller are parked in that state. */
void test_until_n_parked(size_t n, const char *state);
/* How many are just now. */
size_t test_parked(const char *state);

#ifdef __cplusplus
}
#endif

#endif
