#!/bin/sh
# What the compiler says: wrong uses of the interface must not compile, and the message must name the cause; right
# uses must compile without a warning. Each is a few lines put into a function.
set -u
. "$WEIR_SRC/test/support/script.sh"

warnings="-Wall -Wextra -Wshadow -I$WEIR_SRC/include"

cat >"$tmp/prelude.h" <<'END'
#include <weir.h>
struct point { int x, y; };
struct pair { long a, b; };
struct large { long v[5]; };
typedef WEIR_CHAN(int) int_chan;
typedef WEIR_CHAN(double) double_chan;
typedef WEIR_CHAN(int *) pointer_chan;
typedef WEIR_CHAN(const char *) text_chan;
typedef WEIR_CHAN(struct point) point_chan;
typedef WEIR_CHAN(struct pair) pair_chan;
typedef WEIR_CHAN(struct large) large_chan;
WEIR_CHAN_DECLARE(tagged_chan, struct point);
extern int_chan ints;
extern double_chan doubles;
extern pointer_chan pointers;
extern text_chan texts;
extern point_chan points;
extern pair_chan pairs;
extern large_chan larges;
extern weir_unit_chan units;
extern weir_ctx *ctx;
extern weir_timer *timer;
extern struct large large;
extern int number;
extern const int *const_pointer;
extern long *long_pointer;
void nothing(void);
void take_int(int);
void take_pointer(int *);
void take_text(const char *);
void take_double(double);
void take_chan(int_chan);
int take_two(int, double);
void take_point(struct point);
void take_large(struct large);
void take_pairs(struct pair, struct pair, struct pair, int);
void take_long_double(long double);
void take_six(int, long, char, short, unsigned, void *);
void take_seven(int, int, int, int, int, int, int);
void take_floats(float, double, int, float);
double gives_double(int);
struct large gives_large(void);
void wants_arg(void *);
__attribute__((noreturn)) void never_returns(int);
END

# program: the lines on standard input, in a function
program() {
    {
        echo '#include "prelude.h"'
        echo 'int test_me(void);'
        echo 'int test_me(void) {'
        cat
        echo '    return 0;'
        echo '}'
    } >"$tmp/case.$1"
}

# refused NAME REGEX [FLAG…] <lines: C must not compile them, and say what matches
refused() {
    name=$1 regex=$2
    shift 2
    program c
    check "$name" must_fail "$regex" $CC $warnings -std=gnu11 "$@" -I"$tmp" -c "$tmp/case.c" -o "$tmp/case.o"
}
must_fail() {
    want=$1
    shift
    if "$@" 2>"$tmp/messages"; then
        echo 'it compiled'
        return 1
    fi
    grep -Eq -- "$want" "$tmp/messages" && return
    echo "no message matches: $want"
    cat "$tmp/messages"
    return 1
}

# accepted NAME <lines: C must compile them without a warning, by the strict and by the GNU standard
accepted() {
    program c
    check "$1" all_standards
}
all_standards() {
    for flags in '-std=c11 -O2' '-std=gnu17 -O2' '-std=gnu11 -O0'; do
        $CC $warnings -Werror $flags -I"$tmp" -c "$tmp/case.c" -o "$tmp/case.o" || { echo "with $flags"; return 1; }
    done
}

# The C++ compiler of the same house, or whichever there is.
case $CC in
*clang*) compilers='clang++ g++' ;;
*) compilers='g++ clang++' ;;
esac
cxx=
for c in $compilers; do
    [ -z "$cxx" ] && command -v $c >/dev/null && echo '#include <string>' >"$tmp/empty.cc" &&
        $c -c "$tmp/empty.cc" -o "$tmp/empty.o" 2>/dev/null && cxx=$c
done
[ -n "$cxx" ] || skip cxx 'no C++ compiler here'

accepted_cxx() {
    program cc
    [ -z "$cxx" ] || check "cxx_$1" cxx_standards
}
cxx_standards() {
    for std in c++17 gnu++17 c++20; do
        $cxx $warnings -Werror -std=$std -O2 -I"$tmp" -c "$tmp/case.cc" -o "$tmp/case.o" ||
            { echo "with -std=$std"; return 1; }
    done
}
# What C++ compiles as C does.
accepted_both() {
    cat >"$tmp/lines"
    accepted "$1" <"$tmp/lines"
    accepted_cxx "$1" <"$tmp/lines"
}
refused_cxx() {
    name=$1 regex=$2
    shift 2
    program cc
    [ -z "$cxx" ] ||
        check "cxx_$name" must_fail "$regex" $cxx $warnings -std=c++17 "$@" -I"$tmp" -c "$tmp/case.cc" -o "$tmp/case.o"
}

# --- Sending ------------------------------------------------------------------------------------------

value='the value is not of the element type of the channel'
refused send_pointer_for_int "weir_send: $value" <<'END'
    if (weir_send(ints, "text")) return 1;
END
refused send_int_for_pointer "weir_send: $value" <<'END'
    if (weir_send(pointers, 5)) return 1;
END
refused send_another_pointer "weir_send: $value" <<'END'
    if (weir_send(pointers, long_pointer)) return 1;
END
refused send_drops_const "weir_send: $value" <<'END'
    if (weir_send(pointers, const_pointer)) return 1;
END
refused send_another_struct "weir_send: $value" <<'END'
    struct pair p = { 1, 2 };
    if (weir_send(points, p)) return 1;
END
refused send_int_for_struct "weir_send: $value" <<'END'
    if (weir_send(points, 1)) return 1;
END
refused send_struct_for_int "weir_send: $value" <<'END'
    struct point p = { 1, 2 };
    if (weir_send(ints, p)) return 1;
END
refused try_send_wrong_type "weir_try_send: $value" <<'END'
    if (weir_try_send(ints, &number)) return 1;
END
refused send_to_no_channel 'chan_|elem_' <<'END'
    if (weir_send(number, 1)) return 1;
END
refused send_ignored 'unused.result|ignoring return value' -Werror=unused-result <<'END'
    weir_send(ints, 1);
END
refused try_send_ignored 'unused.result|ignoring return value' -Werror=unused-result <<'END'
    weir_try_send(ints, 1);
END

accepted_both send_converts_numbers <<'END'
    if (weir_send(doubles, 1) || weir_send(ints, 'c') || weir_send(ints, number) || weir_send(doubles, 1.0f)) return 1;
    if (weir_try_send(doubles, number) || weir_try_send(ints, true)) return 1;
END
accepted send_narrows_as_an_assignment_does <<'END'
    double d = 1.5;
    if (weir_send(ints, d)) return 1;
END
accepted_both send_adds_const <<'END'
    char own[] = "x";
    char *p = own;
    if (weir_send(texts, p) || weir_send(texts, own) || weir_send(texts, "literal") || weir_send(texts, NULL)) return 1;
END
accepted send_void_pointer <<'END'
    void *p = &number;
    if (weir_send(pointers, p) || weir_send(pointers, NULL)) return 1;
END
accepted send_compound_literals <<'END'
    int x = number;
    if (weir_send(points, (struct point){ 1, 2 }) || weir_send(points, (struct point){ x, x + 1 }) ||
        weir_send(points, (struct point){ .y = x }) || weir_try_send(larges, (struct large){ { x, 2, 3 } })) return 1;
END
accepted_cxx send_braces <<'END'
    int x = number;
    if (weir_send(points, { 1, 2 }) || weir_send(points, { x, x + 1 }) || weir_send(points, point{ x, 1 })) return 1;
END
accepted_both send_units <<'END'
    if (weir_send(units, weir_unit_value) || weir_try_send(units, weir_unit_value)) return 1;
END
accepted_both send_through_pointers_and_arrays <<'END'
    int_chan some[2] = { ints, ints }, *p = some;
    struct { int_chan c; } s = { ints }, *sp = &s;
    if (weir_send(some[1], 1) || weir_send(*p, 1) || weir_send(p[number], 1) || weir_send(s.c, 1) ||
        weir_send(sp->c, 1))
        return 1;
END

# --- Receiving ----------------------------------------------------------------------------------------

place='the pointer is not to the element type of the channel'
refused receive_into_another_type "weir_recv: $place" <<'END'
    double d;
    if (weir_recv(ints, &d)) return 1;
END
refused receive_into_a_value "weir_recv: $place" <<'END'
    if (weir_recv(ints, number)) return 1;
END
refused receive_into_const "weir_recv: $place" <<'END'
    if (weir_recv(ints, const_pointer)) return 1;
END
refused receive_into_another_struct "weir_recv: $place" <<'END'
    struct pair p;
    if (weir_recv(points, &p)) return 1;
END
refused try_receive_into_another_type "weir_try_recv: $place" <<'END'
    char c;
    if (weir_try_recv(ints, &c)) return 1;
END
refused receive_ignored 'unused.result|ignoring return value' -Werror=unused-result <<'END'
    weir_recv(ints, &number);
END
refused wait_closed_ignored 'unused.result|ignoring return value' -Werror=unused-result <<'END'
    weir_wait_closed(ints);
END

accepted_both receive_into_its_type <<'END'
    int v;
    struct point p;
    int *q;
    const char *t;
    if (weir_recv(ints, &v) || weir_recv(points, &p) || weir_recv(pointers, &q) || weir_recv(texts, &t)) return 1;
    if (weir_try_recv(ints, &v) || weir_try_recv(ints, NULL) || weir_recv(ints, NULL) || weir_recv(units, NULL))
        return 1;
    return v + p.x + *q + *t;
END
accepted_both receive_in_a_loop <<'END'
    int v, sum = 0;
    while (weir_recv(ints, &v) == 0) sum += v;
    return sum;
END
accepted_both receive_from_a_context <<'END'
    if (weir_recv(weir_ctx_done(ctx), NULL) != -EPIPE) return 1;
END

# --- Handles ------------------------------------------------------------------------------------------

accepted_both handles <<'END'
    int_chan ch = weir_make(int_chan, 3), same;
    tagged_chan t = weir_make(tagged_chan, 0);
    if (weir_make_try(&same, 1)) return 1;
    same = weir_retain(ch);
    weir_retain(ch);
    weir_chan *raw = weir_chan_of(same);
    size_t n = weir_len(ch) + weir_cap(t) + weir_chan_len(raw);
    weir_chan_on_drop(ch, wants_arg);
    weir_close(ch);
    weir_release(ch);
    weir_release(t);
    return (int)n;
END
accepted_both nil_handles <<'END'
    int_chan nil = {};
    static int_chan other;
    if (weir_try_send(nil, 1) != -EAGAIN) return 1;
    nil = other;
    return weir_chan_of(nil) == NULL;
END
refused make_of_no_channel 'elem_|not a structure|member reference' <<'END'
    int x = weir_make(int, 0);
END
refused untyped_make_ignored 'unused.result|ignoring return value' -Werror=unused-result <<'END'
    weir_chan_make(4, 0);
END
refused handles_of_two_types 'incompatible types|invalid initializer|incompatible type' <<'END'
    int_chan ch = doubles;
    (void)ch;
END

# --- Goroutines ----------------------------------------------------------------------------------------

registers='weir_go: takes up to six arguments that travel in registers'
refused go_too_few 'too few arguments' <<'END'
    weir_go(take_two, 1);
END
refused go_too_many 'too many arguments' <<'END'
    weir_go(take_int, 1, 2);
END
refused go_argument_for_none 'too many arguments' <<'END'
    weir_go(nothing, 1);
END
refused go_pointer_for_int 'makes integer from pointer|pointer to integer conversion' <<'END'
    weir_go(take_int, "text");
END
refused go_int_for_pointer 'makes pointer from integer|integer to pointer conversion' <<'END'
    weir_go(take_pointer, 5);
END
refused go_another_pointer 'incompatible.pointer' <<'END'
    weir_go(take_pointer, long_pointer);
END
refused go_another_channel 'incompatible type' <<'END'
    weir_go(take_chan, doubles);
END
refused go_struct_for_int 'incompatible type' <<'END'
    struct point p = { 1, 2 };
    weir_go(take_int, p);
END
refused go_large_struct "$registers" <<'END'
    weir_go(take_large, large);
END
refused go_long_double "$registers" <<'END'
    weir_go(take_long_double, (long double)1);
END
refused go_seven "$registers" <<'END'
    weir_go(take_seven, 1, 2, 3, 4, 5, 6, 7);
END
refused go_more_words_than_registers "$registers" <<'END'
    struct pair p = { 1, 2 };
    weir_go(take_pairs, p, p, p, 1);
END
refused go_returns_a_large_struct 'weir_go: the function returns a struct in memory' <<'END'
    weir_go(gives_large);
END
refused go_no_function 'not a function' <<'END'
    weir_go(number, 1);
END
refused wg_go_too_few 'too few arguments' <<'END'
    weir_wg wg = WEIR_WG_INIT;
    weir_wg_go(&wg, take_int);
END
refused wg_go_no_wait_group 'incompatible|weir_wg' -Werror=incompatible-pointer-types -Werror=int-conversion <<'END'
    weir_wg_go(number, take_int, 1);
END
refused after_func_of_another_type 'incompatible.(function.)?pointer' -Werror=incompatible-pointer-types <<'END'
    weir_timer *t = weir_after_func(WEIR_SECOND, take_int, NULL);
    weir_timer_free(t);
END

accepted_both go_every_kind_of_argument <<'END'
    struct point p = { 1, 2 };
    weir_go(nothing);
    weir_go(take_int, 'c');
    weir_go(take_double, 1);
    weir_go(take_double, number);
    weir_go(take_point, p);
    weir_go(take_chan, weir_retain(ints));
    weir_go(take_six, 1, 2, 'c', 4, 5u, NULL);
    weir_go(take_floats, 1.0f, 2.0, 3, 4.0f);
    weir_go(take_text, "text");
    if (weir_go(take_two, 1, 2.0)) return 1;
    return weir_go(gives_double, 1);
END
accepted_both go_through_pointers <<'END'
    void (*fn)(int) = take_int;
    void (*table[1])(int) = { take_int };
    weir_go(fn, 1);
    weir_go(table[0], 1);
    weir_go(&take_int, 1);
    weir_go(*fn, 1);
END
accepted_both go_a_function_that_does_not_return <<'END'
    int e = weir_go(never_returns, 1);
    return e + 1;
END
accepted_both go_on_a_large_stack <<'END'
    return weir_go_stack(1 << 20, take_int, 1);
END
accepted_both go_twice_on_a_line <<'END'
    if (weir_go(take_int, 1) || weir_go(take_int, 2)) return 1;
END
accepted_both go_in_a_condition_and_a_loop <<'END'
    for (int i = 0; i < 3; i++)
        if (weir_go(take_int, i)) return 1;
END
accepted_both wait_groups <<'END'
    weir_wg wg = WEIR_WG_INIT;
    if (weir_wg_go(&wg, take_two, 1, 2.0)) return 1;
    weir_wg_add(&wg, 1);
    weir_wg_done(&wg);
    return weir_wg_wait(&wg);
END

# --- Scopes --------------------------------------------------------------------------------------------

int_or_void='weir_scope_go: the function must return int \(non-zero is a failure\) or void'
refused scope_go_returns_double "$int_or_void" <<'END'
    weir_scope s;
    weir_scope_open(&s, NULL);
    weir_scope_go(&s, gives_double, 1);
    weir_scope_close(&s);
END
refused scope_try_go_returns_double "$int_or_void" <<'END'
    weir_scope s;
    weir_scope_open(&s, NULL);
    weir_scope_try_go(&s, gives_double, 1);
    weir_scope_close(&s);
END
refused scope_go_large_struct "$registers" <<'END'
    weir_scoped(s) { weir_scope_go(&s, take_large, large); }
END
refused scope_go_too_many 'too many arguments' <<'END'
    weir_scoped(s) { weir_scope_go(&s, take_int, 1, 2); }
END
accepted_both scopes <<'END'
    int err;
    weir_scoped(s) { weir_scope_go(&s, take_two, 1, 2.0); }
    weir_scoped(outer, &err) {
        weir_scoped(inner, &err) {
            weir_scope_go(&inner, take_int, 1);
            if (number) break;
        }
        if (weir_scope_try_go(&outer, nothing)) continue;
        if (number == 2) return 1;
    }
    return err;
END
accepted_both a_scope_by_hand <<'END'
    weir_scope s;
    if (weir_scope_open(&s, NULL)) return 1;
    weir_scope_limit(&s, 3);
    weir_scope_supervise(&s);
    weir_scope_go(&s, take_int, 1);
    weir_scope_wait(&s);
    return weir_scope_close(&s);
END

# --- Select ---------------------------------------------------------------------------------------------

refused on_recv_into_another_type "weir_on_recv: $place" <<'END'
    double d;
    return weir_select(weir_on_recv(ints, &d));
END
refused on_recv_ok_into_another_type "weir_on_recv_ok: $place" <<'END'
    double d;
    bool ok;
    return weir_select(weir_on_recv_ok(ints, &d, &ok));
END
refused on_send_wrong_type "weir_on_send: $value" <<'END'
    return weir_select(weir_on_send(ints, "text"));
END
refused on_send_too_large 'weir_on_send: copies values of up to 16 bytes; use weir_on_send_ptr' <<'END'
    return weir_select(weir_on_send(larges, large));
END
refused on_send_ptr_wrong_type "weir_on_send_ptr: $place" <<'END'
    return weir_select(weir_on_send_ptr(larges, &number));
END
refused select_ignored 'unused.result|ignoring return value' -Werror=unused-result <<'END'
    weir_select(weir_on_recv(ints, NULL));
END
refused selectv_ignored 'unused.result|ignoring return value' -Werror=unused-result <<'END'
    weir_selectv(NULL, 0);
END
accepted_both select_of_all_kinds <<'END'
    int v;
    bool ok;
    struct large l = {};
    struct pair p = { 1, 2 };
    switch (weir_select(weir_on_recv(ints, &v), weir_on_recv_ok(ints, &v, &ok), weir_on_send(doubles, 1),
                        weir_on_send(pairs, p), weir_on_send_ptr(larges, &l), weir_on_recv(points, NULL),
                        weir_on_send(units, weir_unit_value), weir_on_done(NULL), weir_on_done(ctx),
                        weir_on_after(WEIR_SECOND), weir_on_timer(timer), weir_on_default())) {
    case 0: return v;
    case 1: return ok;
    default: return weir_select_error();
    }
END
accepted select_sends_compound_literals <<'END'
    int x = number;
    return weir_select(weir_on_send(points, (struct point){ x, 2 }), weir_on_send(pairs, (struct pair){ x, x }));
END
accepted_both select_of_nothing <<'END'
    return weir_select();
END
accepted_both select_in_a_condition_and_a_loop <<'END'
    int v, arm;
    while ((arm = weir_select(weir_on_recv(ints, &v), weir_on_done(NULL))) == 0)
        if (v) return arm;
    if (weir_select(weir_on_send(ints, 1), weir_on_default()) == 1) return 1;
END
accepted_both select_over_an_array <<'END'
    int v;
    weir_arm arms[2];
    arms[0] = weir_on_recv(ints, &v);
    arms[1] = weir_on_default();
    return weir_selectv(arms, 2);
END
accepted_both on_send_ptr_of_const <<'END'
    const struct point p = { 1, 2 };
    return weir_select(weir_on_send_ptr(points, &p));
END

# --- Contexts, blocks, time, locks ------------------------------------------------------------------------

refused context_ignored 'unused.result|ignoring return value' -Werror=unused-result <<'END'
    weir_ctx_with_cancel(NULL);
END
refused leaks_ignored 'unused.result|ignoring return value' -Werror=unused-result <<'END'
    weir_leaks(NULL);
END
refused timer_ignored 'unused.result|ignoring return value' -Werror=unused-result <<'END'
    weir_timer_new(WEIR_SECOND);
END
refused wg_wait_ignored 'unused.result|ignoring return value' -Werror=unused-result <<'END'
    weir_wg wg = WEIR_WG_INIT;
    weir_wg_wait(&wg);
END
accepted_both blocks <<'END'
    static weir_mutex m = WEIR_MUTEX_INIT;
    WEIR_AUTO_CANCEL weir_ctx *own = weir_ctx_with_timeout(NULL, WEIR_SECOND);
    weir_with(own) {
        weir_timeout(2 * WEIR_MILLISECOND) { number = 1; }
        weir_shield(WEIR_SECOND) { number = 2; }
        weir_locked(&m) { number = 3; }
        if (number == 3) break;
    }
    weir_locked(&m) return 1;
END
accepted_both what_may_be_ignored <<'END'
    static weir_mutex m = WEIR_MUTEX_INIT;
    static weir_cond c = WEIR_COND_INIT;
    weir_go(nothing);
    weir_sleep(WEIR_SECOND);
    weir_close(ints);
    weir_mutex_lock(&m);
    weir_mutex_unlock(&m);
    weir_cond_signal(&c);
    weir_timer_stop(timer);
    weir_timer_reset(timer, WEIR_SECOND);
    weir_after_func(WEIR_SECOND, wants_arg, NULL);
    weir_procs(2);
END

# --- The header ------------------------------------------------------------------------------------------

program_of_its_own() {
    echo '#include <weir.h>' >"$tmp/alone.$2"
    echo "$3" >>"$tmp/alone.$2"
    $1 $warnings -Werror "$4" -c "$tmp/alone.$2" -o "$tmp/alone.o"
}
check the_header_alone program_of_its_own "$CC" c 'int main(void) { return 0; }' -std=c11
check names_of_poll_and_unistd_are_free program_of_its_own "$CC" c \
    'int read(char p); int poll(int a); int close(void); struct pollfd { int x; }; enum { POLLIN = 7 };' -std=c11
check errno_is_an_lvalue program_of_its_own "$CC" c \
    'void f(void); void f(void) { errno = EINVAL; if (errno) errno++; }' -std=gnu17
check included_twice program_of_its_own "$CC" c '#include <weir.h>' -std=c11
if [ -n "$cxx" ]; then
    check cxx_the_header_alone program_of_its_own $cxx cc 'int main() { return 0; }' -std=c++17
    check cxx_before_the_standard_headers program_of_its_own $cxx cc '#include <string>
#include <vector>
#include <thread>
std::string s = std::to_string(errno);' -std=c++17
fi

# --- C++ -------------------------------------------------------------------------------------------------

refused_cxx send_wrong_type 'invalid conversion|cannot convert|no matching function|no known conversion' <<'END'
    return weir_send(ints, "text");
END
conversion='invalid (conversion|initialization)|(cannot|could not) convert|no (known|viable) conversion|no matching'
refused_cxx send_another_struct "$conversion" <<'END'
    pair p = { 1, 2 };
    return weir_send(points, p);
END
refused_cxx receive_into_another_type "$conversion" <<'END'
    double d;
    return weir_recv(ints, &d);
END
refused_cxx elements_that_are_not_trivially_copyable 'elements are copied byte by byte' -include string <<'END'
    auto ch = weir_make(WEIR_CHAN(std::string), 0);
    weir_release(ch);
END
refused_cxx go_too_few 'too few arguments' <<'END'
    weir_go(take_two, 1);
END
refused_cxx go_wrong_type 'invalid conversion|cannot initialize a parameter' <<'END'
    weir_go(take_int, "text");
END
refused_cxx go_large_struct "$registers" <<'END'
    weir_go(take_large, large);
END
refused_cxx go_lambda_with_captures 'weir_fn_of_|no match for|wrong type argument|invalid argument type' <<'END'
    int x = 1;
    weir_go([x](int y) { (void)(x + y); }, 1);
END
refused_cxx scope_go_returns_double 'weir_scope_go: the function must return int' <<'END'
    weir_scoped(s) { weir_scope_go(&s, gives_double, 1); }
END
refused_cxx on_send_too_large 'weir_on_send: copies values of up to 16 bytes' <<'END'
    return weir_select(weir_on_send(larges, large));
END
refused_cxx send_ignored 'unused.result|ignoring return value' -Werror=unused-result <<'END'
    weir_send(ints, 1);
END
refused_cxx select_ignored 'unused.result|ignoring return value' -Werror=unused-result <<'END'
    weir_select(weir_on_default());
END
accepted_cxx lambdas <<'END'
    weir_go([] {});
    weir_go([](int a, double b) { (void)(a + b); }, 1, 2);
    weir_scoped(s) { weir_scope_go(&s, [](int *p) { return *p; }, &number); }
END
accepted_cxx references_and_const <<'END'
    const int_chan &ch = ints;
    const int v = 1;
    if (weir_send(ch, v)) return 1;
    weir_go(take_int, v);
    weir_go(take_chan, ch);
END

# --- Signals and processes ------------------------------------------------------------------------------

refused notify_wrong_channel 'weir_signal_notify: not a channel of int' <<'END'
    if (weir_signal_notify(doubles, 2)) return 1;
END
refused signal_stop_wrong_channel 'weir_signal_stop: not a channel of int' <<'END'
    weir_signal_stop(pointers);
END
refused notify_ignored 'unused.result|ignoring return value' -Werror=unused-result <<'END'
    weir_signal_notify(ints, 2);
END
refused_cxx notify_wrong_channel 'weir_signal_notify|weir_typed_' <<'END'
    return weir_signal_notify(doubles, 2);
END
accepted_both notify <<'END'
    if (weir_signal_notify(ints, 2) || weir_signal_notify(ints, 2, 15, number)) return 1;
    weir_signal_stop(ints);
END
accepted_both a_process <<'END'
    const char *argv[] = { "true", NULL };
    weir_command c = { argv, NULL, "/", WEIR_DEV_NULL, WEIR_INHERIT, WEIR_INHERIT, WEIR_PROCESS_GROUP, WEIR_SECOND };
    weir_process p;
    int status;
    if (weir_process_start(&c, &p) || weir_process_kill(&p, 9) || weir_process_wait(&p, &status)) return 1;
    return weir_process_run(&c, NULL);
END
accepted_both a_file <<'END'
    int fd = weir_open("name", 0, 0600);
    char byte = 0;
    return weir_pread(fd, &byte, 1, 0) != 1 || weir_pwrite(fd, &byte, 1, 7) != 1 || weir_fsync(fd);
END
finish
