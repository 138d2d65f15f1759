/* The stack switch: what travels, what belongs to each stack, how a new one starts. */
#include "context.h"

#include <complex.h>
#include <fenv.h>
#include <stdarg.h>
#include <stdio.h>

/* ---- Switching ------------------------------------------------------------------------------------- */

static void echo(int rounds) {
    for (int i = 0; i < rounds; i++) CHECK_EQ((intptr_t)park((void *)(intptr_t)(i + 1000)), i);
}

PLAIN_TEST(an_argument_travels_each_way) {
    struct context c;
    PREPARE(&c, echo, 100);
    CHECK_EQ((intptr_t)resume(&c, (void *)77), 1000);
    CHECK_EQ((intptr_t)c.begun_with, 77);
    for (int i = 0; i < 99; i++) CHECK_EQ((intptr_t)resume(&c, (void *)(intptr_t)i), 1001 + i);
    CHECK(!c.ended);
    resume(&c, (void *)99);
    CHECK(c.ended);
}

#if defined(__x86_64__)
#define SPOIL_CALLEE_SAVED()                                                                        \
    __asm__ volatile("mov $-1, %%rbx; mov $-2, %%r12; mov $-3, %%r13; mov $-4, %%r14; mov $-5, %%r15" :: \
                     : "rbx", "r12", "r13", "r14", "r15", "memory")
#else
#define SPOIL_CALLEE_SAVED()                                                                        \
    __asm__ volatile("mov x19, -1; mov x20, -1; mov x21, -1; mov x22, -1; mov x23, -1; mov x24, -1;" \
                     "mov x25, -1; mov x26, -1; mov x27, -1; mov x28, -1;"                          \
                     "fmov d8, x19; fmov d9, x19; fmov d10, x19; fmov d11, x19;"                    \
                     "fmov d12, x19; fmov d13, x19; fmov d14, x19; fmov d15, x19" ::                \
                     : "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "d8",  \
                       "d9", "d10", "d11", "d12", "d13", "d14", "d15", "memory")
#endif

static void spoil(void) {
    for (;;) {
        SPOIL_CALLEE_SAVED();
        park(NULL);
    }
}

PLAIN_TEST(callee_saved_registers_belong_to_the_context) {
    struct context c, d;
    PREPARE(&c, spoil);
    PREPARE(&d, spoil);
    volatile long seed = 3;
    volatile double real_seed = 3;
    long a = seed * 5, b = seed * 7, e = seed * 11, f = seed * 13, g = seed * 17, h = seed * 19, i = seed * 23,
         j = seed * 29, k = seed * 31, l = seed * 37;
    double ra = real_seed * 5, rb = real_seed * 7, rc = real_seed * 11, rd = real_seed * 13, re = real_seed * 17,
           rf = real_seed * 19, rg = real_seed * 23, rh = real_seed * 29;
    for (int n = 0; n < 10; n++) {
        resume(&c, NULL);
        resume(&d, NULL);
        __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(e), "+r"(f), "+r"(g)); /* may have changed, for all the compiler knows */
        __asm__ volatile("" : "+r"(h), "+r"(i), "+r"(j), "+r"(k), "+r"(l));
    }
    CHECK(a == 15 && b == 21 && e == 33 && f == 39 && g == 51 && h == 57 && i == 69 && j == 87 && k == 93 && l == 111);
    CHECK(ra == 15 && rb == 21 && rc == 33 && rd == 39 && re == 51 && rf == 57 && rg == 69 && rh == 87);
}

/* ---- Arguments ------------------------------------------------------------------------------------- */

struct two_floats { float x, y; };
struct two_doubles { double x, y; };
struct two_pointers { void *a, *b; };
struct real_and_int { double d; int i; };
struct handle { void *raw; };
struct three_chars { char c[3]; };
typedef double two_lanes __attribute__((vector_size(16)));

static int calls;
static struct context last;

/* Run fn with those arguments, to its end. */
#define RUN(fn, ...)                                                                                \
    do {                                                                                            \
        int calls_before = calls;                                                                   \
        PREPARE(&last, fn, __VA_ARGS__);                                                            \
        resume(&last, NULL);                                                                        \
        CHECK(last.ended);                                                                          \
        CHECK_EQ(calls, calls_before + 1);                                                          \
    } while (0)

static int integers(int a, int b, long c, short d, signed char e, unsigned long long f) {
    CHECK_EQ(a, 1);
    CHECK_EQ(b, -2);
    CHECK_EQ(c, -3000000000L);
    CHECK_EQ(d, -4);
    CHECK_EQ(e, -5);
    CHECK(f == ~0ull);
    calls++;
    return -42;
}

static void small_integers(char a, unsigned char b, bool c, short d) {
    CHECK_EQ(a, 'x');
    CHECK_EQ(b, 255);
    CHECK_EQ(c, 1);
    CHECK_EQ(d, -1);
    calls++;
}

PLAIN_TEST(integers_arrive) {
    RUN(integers, 1, -2, -3000000000L, -4, -5, ~0ull);
    CHECK_EQ((int)last.result, -42);
    RUN(small_integers, 'x', 255, 5, -1);
}

static void reals(float a, double b, float c, double d, float e, double f) {
    CHECK(a == 1.5f && b == -2.25 && c == 3.0f && d == 1e300 && e == -0.5f && f == 7.0);
    calls++;
}

static void mixed(int a, double b, const char *c, float d, struct handle e, double f) {
    CHECK_EQ(a, -7);
    CHECK(b == 1.0 && d == 2.0f && f == 9.5);
    CHECK_STR(c, "text");
    CHECK(e.raw == &calls);
    calls++;
}

PLAIN_TEST(reals_arrive_converted_as_in_a_call) {
    RUN(reals, 1.5, -2.25f, 3, 1e300, -0.5, 7);
    RUN(mixed, -7, 1, "text", 2, (struct handle){ &calls }, 9.5);
}

static void structs(struct two_floats a, struct two_doubles b, struct two_pointers c, struct real_and_int d,
                    struct three_chars e) {
    CHECK(a.x == 1 && a.y == 2 && b.x == 3 && b.y == 4 && c.a == &calls && c.b == NULL && d.d == 5 && d.i == -6);
    CHECK(!memcmp(e.c, "abc", 3));
    calls++;
}

static void wide(double _Complex a, float _Complex b, two_lanes c, __int128 d) {
    CHECK(a == 1 + 2 * I && b == 3 + 4 * I);
    CHECK(c[0] == 5 && c[1] == 6);
    CHECK(d == ((__int128)3 << 64 | 4));
    calls++;
}

PLAIN_TEST(structs_and_16_byte_values_arrive) {
    RUN(structs, (struct two_floats){ 1, 2 }, (struct two_doubles){ 3, 4 }, (struct two_pointers){ &calls, NULL },
        (struct real_and_int){ 5, -6 }, (struct three_chars){ "abc" });
    RUN(wide, 1 + 2 * I, 3 + 4 * I, (two_lanes){ 5, 6 }, (__int128)3 << 64 | 4);
}

static char text[100];

static void variadic(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    calls++;
}

PLAIN_TEST(variadic_functions_get_reals_too) {
    RUN(variadic, "%d %.2f %s %.1f", -3, 2.5, "x", 1e3);
    CHECK_STR(text, "-3 2.50 x 1000.0");
}

static void *returns_pointer(void) {
    calls++;
    return &calls;
}

PLAIN_TEST(the_whole_result_register_is_handed_on) {
    RUN(returns_pointer);
    CHECK(last.result == (intptr_t)&calls);
}

/* ---- The new stack --------------------------------------------------------------------------------- */

static void look_at_alignment(void) {
    CHECK_EQ((uintptr_t)__builtin_frame_address(0) % 16, 0);
    calls++;
}

PLAIN_TEST(a_function_starts_with_an_aligned_stack) {
    RUN(look_at_alignment);
    calls = 0;
    wr_call_on(top_of(&last), (void (*)(void *))look_at_alignment, NULL);
    CHECK_EQ(calls, 1);
}

static void forget(uintptr_t secret) {
    secret = 0;
    __asm__ volatile("" : "+r"(secret)); /* for -O0, which keeps it in memory: the store has to be made */
    park(NULL);
}

__attribute__((no_sanitize("address"))) static bool is_on_stack(struct context *c, uintptr_t word) {
    for (const uintptr_t *p = c->sp; p < (uintptr_t *)top_of(c); p++)
        if (*p == word) return true;
    return false;
}

PLAIN_TEST(no_copy_of_the_arguments_stays_on_the_stack) {
    struct context c;
    PREPARE(&c, forget, 0x123456789abcdef1);
    CHECK(is_on_stack(&c, 0x123456789abcdef1));
    resume(&c, NULL);
    CHECK(!is_on_stack(&c, 0x123456789abcdef1));
}

/* ---- Floating-point control ------------------------------------------------------------------------ */

/* A seventh is rounded down by default in every width of float, so upward gives another one. Not inline, or the
 * division may move across fesetround. */
__attribute__((noinline)) static double seventh(void) {
    volatile double one = 1, seven = 7, result = one / seven;
    return result;
}
__attribute__((noinline)) static long double long_seventh(void) {
    volatile long double one = 1, seven = 7, result = one / seven;
    return result;
}

static void keep_mode(int mode) {
    fesetround(mode);
    double expected = seventh();
    long double long_expected = long_seventh();
    for (int i = 0; i < 4; i++) {
        park(NULL);
        CHECK_EQ(fegetround(), mode);
        CHECK(seventh() == expected);
        CHECK(long_seventh() == long_expected);
    }
}

PLAIN_TEST(the_rounding_mode_belongs_to_the_context) {
    static const int modes[] = { FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO };
    struct context c[4];
    for (int i = 0; i < 4; i++) PREPARE(&c[i], keep_mode, modes[i]);
    for (int round = 0; round < 5; round++)
        for (int i = 0; i < 4; i++) {
            fesetround(modes[round % 4]);
            resume(&c[i], NULL);
            CHECK_EQ(fegetround(), modes[round % 4]);
        }
    for (int i = 0; i < 4; i++) CHECK(c[i].ended);
}

static void expect_upward(double a_seventh) {
    CHECK_EQ(fegetround(), FE_UPWARD);
    CHECK(seventh() == a_seventh);
}

PLAIN_TEST(a_new_context_starts_with_its_creators_rounding_mode) {
    struct context c;
    fesetround(FE_UPWARD);
    double up = seventh();
    PREPARE(&c, expect_upward, up);
    fesetround(FE_TONEAREST);
    CHECK(seventh() != up);
    resume(&c, NULL);
    CHECK(c.ended);
    CHECK_EQ(fegetround(), FE_TONEAREST);
}

#if defined(__x86_64__) && defined(__GLIBC__)
static volatile double sink;
static volatile long double long_sink;

static void trap_inexact(void) {
    feclearexcept(FE_ALL_EXCEPT);
    feenableexcept(FE_INEXACT);
    park(NULL);
    volatile long double one = 1;
    long_sink = one + one;
    volatile double two = 2;
    sink = two + two;
    fedisableexcept(FE_INEXACT);
}

PLAIN_TEST(a_flag_raised_by_one_context_does_not_trap_in_another) {
    struct context c;
    PREPARE(&c, trap_inexact);
    resume(&c, NULL);
    long_sink = long_seventh(); /* inexact, and masked here */
    sink = seventh();
    resume(&c, NULL);
    CHECK(c.ended);
    sink = seventh();
}
#endif

/* ---- Another stack for one call -------------------------------------------------------------------- */

static void note_address(void *arg) { *(uintptr_t *)arg = (uintptr_t)__builtin_frame_address(0); }

PLAIN_TEST(call_on_runs_there_and_comes_back) {
    struct context c;
    uintptr_t at = 0;
    PREPARE(&c, spoil);
    wr_call_on(top_of(&c), note_address, &at);
    CHECK(at >= (uintptr_t)c.stack && at < (uintptr_t)top_of(&c));
}
