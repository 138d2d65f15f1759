/* The go statement: whatever can travel in registers arrives as the prototype says, and is copied. */
#include "sched_test.h"

#include <stdarg.h>

static weir_unit_chan arrived;
static void arrive(void) { CHECK_EQ(weir_send(arrived, weir_unit_value), 0); }
/* Start it, and wait until it has said so. */
#define GO_AND_ARRIVE(...)                                                                          \
    do {                                                                                            \
        if (!weir_chan_of(arrived)) arrived = weir_make(weir_unit_chan, 0);                         \
        TEST_GO(__VA_ARGS__);                                                                       \
        CHECK_EQ(weir_recv(arrived, NULL), 0);                                                      \
    } while (0)
#define DONE weir_release(arrived)

/* ---- Integers ---------------------------------------------------------------------------------------- */

static void small_integers(char c, signed char sc, unsigned char uc, short s, unsigned short us, bool b) {
    CHECK_EQ(c, 'x'), CHECK_EQ(sc, -128), CHECK_EQ(uc, 255), CHECK_EQ(s, -32768), CHECK_EQ(us, 65535), CHECK_EQ(b, true);
    arrive();
}
TEST(small_integers_arrive) {
    GO_AND_ARRIVE(small_integers, 'x', -128, 255, -32768, 65535, true);
    DONE;
}

enum colour { RED = -7, GREEN };
static void large_integers(int i, unsigned u, long l, unsigned long ul, long long ll, enum colour colour) {
    CHECK_EQ(i, -2147483647 - 1), CHECK_EQ(u, 4294967295u), CHECK_EQ(l, INT64_MIN), CHECK(ul == UINT64_MAX);
    CHECK_EQ(ll, -1), CHECK_EQ(colour, RED);
    arrive();
}
TEST(large_integers_arrive) {
    GO_AND_ARRIVE(large_integers, -2147483647 - 1, 4294967295u, INT64_MIN, UINT64_MAX, -1ll, RED);
    DONE;
}

static void widened(long l, unsigned long ul, long long ll, bool b, double d, long from_bool) {
    CHECK_EQ(l, -5), CHECK_EQ(ul, 7), CHECK_EQ(ll, -1), CHECK_EQ(b, true), CHECK(d == 1.0), CHECK_EQ(from_bool, 1);
    arrive();
}
TEST(arguments_convert_as_in_a_call) {
    short minus_one = -1;
    GO_AND_ARRIVE(widened, -5, 7u, minus_one, 256, 1, true);
    DONE;
}

static void wide(int before, __int128 value, int after) {
    CHECK_EQ(before, 1), CHECK_EQ(after, 2);
    CHECK(value == (__int128)-3 * ((__int128)1 << 64) + 5);
    arrive();
}
TEST(integers_of_sixteen_bytes_arrive) {
    GO_AND_ARRIVE(wide, 1, (__int128)-3 * ((__int128)1 << 64) + 5, 2);
    DONE;
}

/* ---- Floating point ---------------------------------------------------------------------------------- */

static void floats(float a, double b, float c, double d, float e, double f) {
    CHECK(a == 1.5f && b == -2.25 && c == 1e30f && d == 1e300 && e == 0.1f && f == 0.1);
    arrive();
}
TEST(floats_and_doubles_arrive) {
    GO_AND_ARRIVE(floats, 1.5f, -2.25, 1e30f, 1e300, 0.1f, 0.1);
    DONE;
}

static void converted(float narrow, double from_int, int from_double, float from_int_too) {
    CHECK(narrow == (float)0.1 && from_int == 3.0 && from_double == -2 && from_int_too == -9.0f);
    arrive();
}
TEST(numbers_convert_between_integer_and_floating_point) {
    double truncated = -2.9;
    GO_AND_ARRIVE(converted, 0.1, 3, truncated, -9);
    DONE;
}

static void mixed(int a, double b, const char *c, float d, long e, double f) {
    CHECK_EQ(a, -1), CHECK(b == 0.5), CHECK_STR(c, "three"), CHECK(d == 4.5f), CHECK_EQ(e, 1l << 40), CHECK(f == -6.5);
    arrive();
}
TEST(integers_and_floats_mix) {
    GO_AND_ARRIVE(mixed, -1, 0.5, "three", 4.5f, 1l << 40, -6.5);
    DONE;
}

/* ---- Structs and unions ------------------------------------------------------------------------------- */

/* A literal with a comma in its braces needs parentheses: to the preprocessor it is two arguments. */

struct two_floats { float x, y; };
struct two_doubles { double x, y; };
struct int_and_float { int i; float f; };
struct long_and_double { long l; double d; };
struct two_pointers { const char *a, *b; };
struct bytes { char c[11]; };
struct one { char c; };
union number { long l; double d; void *p; };
struct nested { struct { int a, b; } in; union { float f; unsigned u; } out; };

static void takes_two_floats(struct two_floats a, int i, struct two_floats b) {
    CHECK(a.x == 1.25f && a.y == -2.5f && i == 3 && b.x == 4.f && b.y == 5.f);
    arrive();
}
static void takes_two_doubles(struct two_doubles a, double b, struct two_doubles c) {
    CHECK(a.x == 1.5 && a.y == -2.5 && b == 3.5 && c.x == 4.5 && c.y == 5.5);
    arrive();
}
static void takes_int_and_float(struct int_and_float a, float b) {
    CHECK(a.i == -7 && a.f == 0.5f && b == 0.25f);
    arrive();
}
static void takes_long_and_double(double a, struct long_and_double b, long c) {
    CHECK(a == 1. && b.l == -2 && b.d == 3. && c == 4);
    arrive();
}
static void takes_two_pointers(struct two_pointers a, struct two_pointers b) {
    CHECK_STR(a.a, "a"), CHECK_STR(a.b, "b"), CHECK_STR(b.a, "c"), CHECK(b.b == NULL);
    arrive();
}
static void takes_odd_sizes(struct bytes a, struct one b, struct nested c) {
    CHECK(!memcmp(a.c, "hello weir", 11) && b.c == 'z' && c.in.a == 1 && c.in.b == -2 && c.out.f == 0.75f);
    arrive();
}
static void takes_unions(union number a, union number b) {
    CHECK(a.l == -99 && b.d == 2.5);
    arrive();
}
TEST(structs_of_two_floats_arrive) {
    GO_AND_ARRIVE(takes_two_floats, ((struct two_floats){ 1.25f, -2.5f }), 3, ((struct two_floats){ 4.f, 5.f }));
    DONE;
}
TEST(structs_of_two_doubles_arrive) {
    GO_AND_ARRIVE(takes_two_doubles, ((struct two_doubles){ 1.5, -2.5 }), 3.5, ((struct two_doubles){ 4.5, 5.5 }));
    DONE;
}
TEST(structs_of_an_integer_and_a_float_arrive) {
    GO_AND_ARRIVE(takes_int_and_float, ((struct int_and_float){ -7, 0.5f }), 0.25f);
    GO_AND_ARRIVE(takes_long_and_double, 1., ((struct long_and_double){ -2, 3. }), 4);
    DONE;
}
TEST(structs_of_two_pointers_arrive) {
    GO_AND_ARRIVE(takes_two_pointers, ((struct two_pointers){ "a", "b" }), ((struct two_pointers){ "c", NULL }));
    DONE;
}
TEST(structs_of_odd_sizes_arrive) {
    struct nested nested = { { 1, -2 }, { 0.75f } };
    GO_AND_ARRIVE(takes_odd_sizes, (struct bytes){ "hello weir" }, (struct one){ 'z' }, nested);
    DONE;
}
TEST(unions_arrive) {
    GO_AND_ARRIVE(takes_unions, (union number){ .l = -99 }, (union number){ .d = 2.5 });
    DONE;
}

/* ---- Handles and pointers ------------------------------------------------------------------------------- */

static void takes_channels(int_chan in, weir_unit_chan out, int_chan nil) {
    int v;
    CHECK_EQ(weir_recv(in, &v), 0);
    CHECK_EQ(v, 42);
    CHECK(weir_chan_of(nil) == NULL);
    weir_release(in);
    CHECK_EQ(weir_send(out, weir_unit_value), 0);
}
TEST(typed_channels_arrive) {
    int_chan in = weir_make(int_chan, 1);
    weir_unit_chan out = weir_make(weir_unit_chan, 0);
    CHECK_EQ(weir_send(in, 42), 0);
    TEST_GO(takes_channels, weir_retain(in), out, (int_chan){ 0 });
    CHECK_EQ(weir_recv(out, NULL), 0);
    weir_release(in), weir_release(out);
}

static int twice(int v) { return 2 * v; }
static void takes_functions(int (*fn)(int), void (*then)(void)) {
    CHECK_EQ(fn(21), 42);
    then();
}
TEST(function_pointers_arrive) {
    GO_AND_ARRIVE(takes_functions, twice, &arrive);
    DONE;
}

static void takes_pointers(const char *text, int *array, const void *any, void *null, char **list, volatile int *v) {
    CHECK_STR(text, "text"), CHECK_EQ(array[2], 3), CHECK(any == array), CHECK(null == NULL), CHECK_STR(list[1], "two");
    *v = 77;
    arrive();
}
TEST(arrays_and_pointers_arrive) {
    static int array[] = { 1, 2, 3 };
    static char one[] = "one", two[] = "two", *list[] = { one, two };
    volatile int v = 0;
    GO_AND_ARRIVE(takes_pointers, "text", array, array, NULL, list, &v);
    CHECK_EQ(v, 77);
    DONE;
}

/* ---- Number of arguments ------------------------------------------------------------------------------- */

static void takes_six(long a, long b, long c, long d, long e, long f) {
    CHECK(a == 1 && b == 2 && c == 3 && d == 4 && e == 5 && f == 6);
    arrive();
}
TEST(no_argument_and_six) {
    GO_AND_ARRIVE(arrive);
    GO_AND_ARRIVE(takes_six, 1, 2, 3, 4, 5, 6);
    DONE;
}

__attribute__((format(printf, 3, 4))) static void prints(char *out, size_t size, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    vsnprintf(out, size, fmt, args);
    va_end(args);
    arrive();
}
TEST(variadic_functions_take_what_printf_takes) {
    static char text[64];
    GO_AND_ARRIVE(prints, text, sizeof text, "%d %s %.2f", -3, "weir", 0.125);
    CHECK_STR(text, "-3 weir 0.12");
    float promoted = 0.5f;
    char letter = 'q';
    GO_AND_ARRIVE(prints, text, sizeof text, "%.1f %c %hhd", promoted, letter, (signed char)-1);
    CHECK_STR(text, "0.5 q -1");
    GO_AND_ARRIVE(prints, text, sizeof text, "plain");
    CHECK_STR(text, "plain");
    DONE;
}

/* ---- Functions of all kinds ----------------------------------------------------------------------------- */

static _Noreturn void never_returns(int v) {
    CHECK_EQ(v, 9);
    arrive();
    weir_exit();
}
__attribute__((noreturn)) static void never_returns_either(void) {
    arrive();
    weir_exit();
}
TEST(what_follows_the_start_of_a_noreturn_function_is_done) {
    int after = 0;
    GO_AND_ARRIVE(never_returns, 9);
    after++;
#ifndef __clang__ /* there the attribute is part of the type, see weir_go */
    GO_AND_ARRIVE(never_returns_either);
    after++;
#else
    (void)never_returns_either;
    after++;
#endif
    void (*pointer)(int) = never_returns;
    GO_AND_ARRIVE(pointer, 9);
    after++;
    CHECK_EQ(after, 3);
    DONE;
}

static int returns_int(void) {
    arrive();
    return -1;
}
static double returns_double(double d) {
    arrive();
    return d;
}
static struct two_doubles returns_struct(void) {
    arrive();
    return (struct two_doubles){ 1, 2 };
}
static const char *returns_pointer(const char *s) {
    arrive();
    return s;
}
TEST(results_are_dropped) {
    GO_AND_ARRIVE(returns_int);
    GO_AND_ARRIVE(returns_double, 2);
    GO_AND_ARRIVE(returns_struct);
    GO_AND_ARRIVE(returns_pointer, "text");
    DONE;
}

static void is_three(int v) {
    CHECK_EQ(v, 3);
    arrive();
}
TEST(functions_by_name_pointer_table_and_expression) {
    void (*pointer)(int) = is_three;
    void (*table[])(int) = { NULL, is_three };
    GO_AND_ARRIVE(is_three, 3);
    GO_AND_ARRIVE(&is_three, 3);
    GO_AND_ARRIVE(*is_three, 3);
    GO_AND_ARRIVE((is_three), 3);
    GO_AND_ARRIVE(pointer, 3);
    GO_AND_ARRIVE(*pointer, 3);
    GO_AND_ARRIVE(table[1], 3);
    GO_AND_ARRIVE(weir_id() ? is_three : NULL, 3);
    DONE;
}

/* ---- Evaluation ----------------------------------------------------------------------------------------- */

static int evaluations;
static int evaluate(int v) {
    evaluations++;
    return v;
}
static void (*which(void))(int) {
    evaluations++;
    return is_three;
}
TEST(everything_is_evaluated_once) {
    GO_AND_ARRIVE(which(), evaluate(3));
    CHECK_EQ(evaluations, 2);
    CHECK_EQ(weir_go_stack((size_t)evaluate(1 << 16), is_three, 3), 0);
    CHECK_EQ(weir_recv(arrived, NULL), 0);
    CHECK_EQ(evaluations, 3);
    DONE;
}

static int starts_another(int v) {
    CHECK_EQ(weir_go(takes_six, 1, 2, 3, 4, 5, 6), 0);
    return v;
}
TEST(an_argument_may_start_a_goroutine_itself) {
    GO_AND_ARRIVE(is_three, starts_another(3));
    CHECK_EQ(weir_recv(arrived, NULL), 0);
    DONE;
}

static void waits_then_compares(weir_unit_chan gate, int v, struct long_and_double s) {
    CHECK_EQ(weir_recv(gate, NULL), -EPIPE);
    CHECK(v == 5 && s.l == 6 && s.d == 7.);
    arrive();
}
TEST(arguments_are_copies) {
    weir_unit_chan gate = weir_make(weir_unit_chan, 0);
    int v = 5;
    struct long_and_double s = { 6, 7. };
    arrived = weir_make(weir_unit_chan, 0);
    TEST_GO(waits_then_compares, gate, v, s);
    v = 50, s = (struct long_and_double){ 60, 70. };
    weir_close(gate);
    CHECK_EQ(weir_recv(arrived, NULL), 0);
    CHECK_EQ(v + s.l, 110);
    weir_release(gate);
    DONE;
}

TEST(a_go_statement_is_an_expression) {
    arrived = weir_make(weir_unit_chan, 0);
    if (weir_go(is_three, 3) != 0) FAIL("not started");
    else CHECK_EQ(weir_recv(arrived, NULL), 0);
    int e = weir_id() == 1 ? weir_go(is_three, 3) : -1;
    CHECK_EQ(e, 0);
    CHECK_EQ(weir_recv(arrived, NULL), 0);
    DONE;
}

/* ---- On arrival ------------------------------------------------------------------------------------------ */

static void looks_at_its_stack(double d) {
    CHECK_EQ((uintptr_t)__builtin_frame_address(0) % 16, 0);
    char text[32];
    snprintf(text, sizeof text, "%.3f", d); /* moves aligned sixteen bytes where the alignment is wrong */
    CHECK_STR(text, "2.500");
    arrive();
}
TEST(the_stack_is_aligned) {
    GO_AND_ARRIVE(looks_at_its_stack, 2.5);
    DONE;
}

static _Atomic long sum;
static void add(long a, int b) { sum += a * b; }
static void start_some(int n) {
    for (int i = 0; i < n; i++) TEST_GO(add, 1l << i % 8, i % 5);
}
/* Each thread captures for itself. */
TEST(starts_on_several_threads_do_not_mix_up_their_arguments) {
    long expected = 0;
    int n = (int)TEST_SCALE(4000);
    for (int i = 0; i < n; i++) expected += (1l << i % 8) * (i % 5);
    weir_procs(4);
    for (int i = 0; i < 4; i++) TEST_GO(start_some, n);
    TEST_UNTIL(weir_count() == 1);
    CHECK_EQ(sum, 4 * expected);
}
