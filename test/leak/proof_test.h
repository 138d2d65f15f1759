/*
 * What the tests of the leak proof share: leaking without leaving handles about, saying who is going to be stuck and where,
 * and comparing that with a report.
 *
 * The proof scans memory conservatively, so a handle left behind in a dead frame of the test would keep a goroutine alive. So
 * the leaking is done deep below, by leak(), and what lay there is overwritten; the frame that asks for the proof has never
 * held a handle. Where a test must find its way back to an object it keeps the pointer's complement.
 */
#ifndef PROOF_TEST_H
#define PROOF_TEST_H

#include "test.h"
#include "threads.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "allocator.h"
#include "leak/report.h"
#undef errno
#define errno (*weir_errno_())

typedef WEIR_CHAN(int) int_chan;

#define NOINLINE __attribute__((noinline, unused))
#define UNUSED __attribute__((unused))

/* ---- Leaking, and leaving nothing behind ------------------------------------------------------------- */

/* Frames come and go here all the time in a real program; in a test somebody has to see to it. */
static NOINLINE void scrub(void) {
    volatile char frame[16 << 10];
    for (size_t i = 0; i < sizeof frame; i++) frame[i] = 0;
}
static NOINLINE void deep_below(void (*fn)(void), int depth) {
    volatile char frame[200];
    frame[0] = 0;
    if (depth > 0)
        deep_below(fn, depth - 1);
    else
        fn();
    frame[sizeof frame - 1] = 0;
}
static NOINLINE void tidily(void (*fn)(void)) {
    deep_below(fn, 8);
    scrub();
}
/* A word that no scan takes for the pointer. */
static inline uintptr_t veil(const void *p) { return ~(uintptr_t)p; }
static inline void *unveil(uintptr_t veiled) { return (void *)~veiled; }

/* ---- Who is going to be stuck -------------------------------------------------------------------------- */

enum { MOST_EXPECTED = 4096, MOST_STARTS = 64 };
static struct {
    uint64_t id;
    const char *state, *at_function;
    int at_line;
    bool found;
} expected_[MOST_EXPECTED];
static struct {
    const char *function, *created_by;
    int line;
} starts_[MOST_STARTS];
static _Atomic size_t n_expected_, n_starts_;
static _Atomic bool may_wake_ UNUSED; /* never; but the compiler must not know that nothing comes after a call that blocks */

static NOINLINE void expect_(const char *state, const char *at_function, int at_line) {
    static _Atomic size_t next;
    size_t i = atomic_fetch_add(&next, 1);
    CHECK(i < MOST_EXPECTED);
    expected_[i].id = weir_id();
    expected_[i].state = state, expected_[i].at_function = at_function, expected_[i].at_line = at_line;
    atomic_fetch_add(&n_expected_, 1);
}
static NOINLINE void starts_here_(const char *function, const char *created_by, int line) {
    for (size_t i = 0; i < n_starts_; i++)
        if (starts_[i].line == line && strcmp(starts_[i].function, function) == 0) return;
    size_t i = atomic_fetch_add(&n_starts_, 1);
    CHECK(i < MOST_STARTS);
    starts_[i].function = function, starts_[i].created_by = created_by, starts_[i].line = line;
}

/* This goroutine is going to be stuck in the call; both on one line, in a function that is not inlined. */
#define STUCK(state, call)                                                                          \
    do {                                                                                            \
        expect_(state, __func__, __LINE__);                                                         \
        (void)!(call);                                                                              \
        if (!may_wake_) FAIL("%s was woken", state);                                                \
    } while (0)
/* Start a goroutine, in a scope or not, that is going to be stuck; on one line. */
#define START(fn, ...) (starts_here_(#fn, __func__, __LINE__), TEST_GO(fn __VA_OPT__(, ) __VA_ARGS__))
#define SCOPE_START(s, fn, ...)                                                                     \
    (starts_here_(#fn, __func__, __LINE__), CHECK_EQ(weir_scope_go(s, fn __VA_OPT__(, ) __VA_ARGS__), 0))

/* Run fn deep below, and wait until n goroutines in all are stuck. */
static NOINLINE void leak(size_t n, void (*fn)(void)) {
    tidily(fn);
    TEST_UNTIL(n_expected_ >= n);
    CHECK_EQ(n_expected_, n);
    for (size_t i = 0; i < n; i++) test_until_parked(expected_[i].id, expected_[i].state);
    scrub();
}

/* ---- What a report says --------------------------------------------------------------------------------- */

static inline const char *last_part_(const char *path) {
    const char *slash = path ? strrchr(path, '/') : NULL;
    return slash ? slash + 1 : path;
}
static bool comes_from_(const weir_leak *l) {
    for (size_t i = 0; i < n_starts_; i++)
        if (l->line == starts_[i].line && l->function && strcmp(l->function, starts_[i].function) == 0 && l->created_by &&
            strcmp(l->created_by, starts_[i].created_by) == 0)
            return true;
    return false;
}
/* Not without libdw, or without debug information: a dump shows it. */
static NOINLINE bool lines_are_known_(void) {
    static int known = -1;
    char text[1 << 14];
    if (known >= 0) return known;
    int file = memfd_create("dump", MFD_CLOEXEC);
    CHECK(file >= 0);
    CHECK_EQ(weir_dump(file, 2), 0);
    ssize_t n = pread(file, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = 0;
    close(file);
    known = strstr(text, last_part_(__BASE_FILE__)) != NULL;
    return known;
}
static bool is_as_expected_(const weir_leak *l, size_t i) {
    if (!l->state || strcmp(l->state, expected_[i].state) != 0 || !comes_from_(l)) return false;
    if (!lines_are_known_()) return true;
    return l->at_function && strcmp(l->at_function, expected_[i].at_function) == 0 && l->at_line == expected_[i].at_line &&
           l->at_file && strcmp(last_part_(l->at_file), last_part_(__BASE_FILE__)) == 0;
}
/* Reports tell of those who have not leaked, too, and what reaches them. What leaks here is no business of LeakSanitizer's. */
__attribute__((constructor)) static void explain_(void) {
    wr_long_blocked = -WEIR_SECOND;
    test_ignore_leaks();
}
static NOINLINE void wrong_(const weir_leak_report *r, const char *what, uint64_t id) {
    weir_leak_report_print(r, stderr);
    FAIL("goroutine %llu %s", (unsigned long long)id, what);
}
static void compare_(const weir_leak_report *r) {
    for (size_t i = 0; i < n_expected_; i++) expected_[i].found = false;
    for (size_t k = 0; k < weir_leak_report_count(r); k++) {
        const weir_leak *l = weir_leak_report_at(r, k);
        size_t i = 0;
        while (i < n_expected_ && expected_[i].id != l->id) i++;
        if (i == n_expected_) wrong_(r, "is reported, and has not leaked", l->id);
        if (expected_[i].found) wrong_(r, "is reported twice", l->id);
        if (!is_as_expected_(l, i)) {
            fprintf(stderr, "goroutine %llu: [%s] %s at %s %s:%d, created by %s at %s:%d\nexpected: [%s] at %s:%d\n",
                    (unsigned long long)l->id, l->state, l->function, l->at_function ? l->at_function : "?",
                    l->at_file ? l->at_file : "?", l->at_line, l->created_by, l->file, l->line, expected_[i].state,
                    expected_[i].at_function, expected_[i].at_line);
            wrong_(r, "is not described as it should be", l->id);
        }
        expected_[i].found = true;
    }
    for (size_t i = 0; i < n_expected_; i++)
        if (!expected_[i].found) wrong_(r, "has leaked, and is not reported", expected_[i].id);
}
static NOINLINE void no_proof_(const weir_leak_report *r, int e) {
    weir_leak_report_print(r, stderr);
    FAIL("no proof: %s", strerror(-e));
}
/* A proof, made again while it is inconclusive, as it may be on a busy machine. */
static NOINLINE int prove_(weir_leak_report **r) {
    int n = weir_leaks(r);
    for (int i = 0; i < 20 && n == -EBUSY; i++) {
        weir_leak_report_free(*r);
        n = weir_leaks(r);
    }
    if (n < 0) no_proof_(*r, n);
    return n;
}
/* Prove: exactly those who said that they would be stuck are. */
static NOINLINE void all_are_found(void) {
    PROOF_WANTS_SIGNALS();
    weir_leak_report *r = NULL;
    int n = prove_(&r);
    CHECK_EQ(weir_leak_report_count(r), n);
    compare_(r);
    CHECK_EQ(n, n_expected_);
    weir_leak_report_free(r);
}

/* Prove: nobody has leaked. Inconclusive is no news; returns whether it was conclusive. */
static NOINLINE bool nobody_leaks(const char *when) {
    PROOF_WANTS_SIGNALS();
    weir_leak_report *r = NULL;
    int n = weir_leaks(&r);
    if (n < 0 && n != -EBUSY) no_proof_(r, n);
    if (n > 0) {
        fprintf(stderr, "false report, %s:\n", when);
        weir_leak_report_print(r, stderr);
        weir_dump(STDERR_FILENO, 2);
        FAIL("%d goroutines are reported that have not leaked (%s)", n, when);
    }
    weir_leak_report_free(r);
    return n == 0;
}
/* As many have leaked, no matter who. */
#define CHECK_LEAKED(n) check_leaked_(__FILE__, __LINE__, n)
static NOINLINE void check_leaked_(const char *file, int line, int wanted) {
    PROOF_WANTS_SIGNALS();
    weir_leak_report *r = NULL;
    int n = prove_(&r);
    if (n != wanted) {
        weir_leak_report_print(r, stderr);
        test_fail_(file, line, "%d have leaked, not %d", n, wanted);
    }
    weir_leak_report_free(r);
}

#endif
