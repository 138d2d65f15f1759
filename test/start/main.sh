#!/bin/sh
# Programs that define weir_main, main, or neither: which main runs, and how the process ends.
set -u
. "$WEIR_SRC/test/support/script.sh"

# build NAME: the program on standard input, against the archive of the build directory.
build() {
    cat >"$tmp/$1.c"
    $CC -g -O1 -I"$WEIR_SRC/include" "$tmp/$1.c" "$WEIR_BUILD/libweir.a" -o "$tmp/$1" -Wl,--build-id $libs
}

exits_with() {
    want=$1
    shift
    "$@"
    got=$?
    [ $got = "$want" ] || { echo "exit status $got, not $want"; return 1; }
}

weir_main_gives_the_exit_status() {
    build status <<'END' || return 1
#include <weir.h>
#include <stdlib.h>
int weir_main(int argc, char **argv) { return argc > 1 ? atoi(argv[1]) : 0; }
END
    exits_with 0 "$tmp/status" && exits_with 7 "$tmp/status" 7 && exits_with 255 "$tmp/status" -1 &&
        exits_with 0 "$tmp/status" 256
}

arguments_arrive() {
    build arguments <<'END' || return 1
#include <weir.h>
#include <string.h>
int weir_main(int argc, char **argv)
{
    bool right = argc == 3 && !strcmp(argv[1], "a b") && !strcmp(argv[2], "") && !argv[3];
    return right && strstr(argv[0], "arguments") ? 9 : 1;
}
END
    exits_with 9 "$tmp/arguments" 'a b' ''
}

output_is_flushed_and_atexit_runs() {
    build output <<'END' || return 1
#include <weir.h>
#include <stdlib.h>
static void last(void) { printf("last"); }
int weir_main(int argc, char **argv) { atexit(last); printf("no newline, "); return 0; }
END
    [ "$("$tmp/output" | cat)" = 'no newline, last' ]
}

others_end_with_main() {
    build others <<'END' || return 1
#include <weir.h>
static void for_ever(void) { for (;;) weir_yield(); }
static void compute(void) { for (volatile int i = 0;; i++) {} }
int weir_main(int argc, char **argv)
{
    weir_go(for_ever);
    weir_go(compute);
    weir_sleep(WEIR_MILLISECOND);
    return 11;
}
END
    exits_with 11 timeout 60 "$tmp/others"
}

own_main_comes_first() {
    build own <<'END' || return 1
#include <weir.h>
static int run(void *arg) { return *(int *)arg; }
int main(void)
{
    int v = 12;
    return weir_run(run, &v);
}
END
    exits_with 12 "$tmp/own"
}

neither_is_told_what_is_missing() {
    build neither <<'END' || return 1
int nothing;
END
    "$tmp/neither" 2>"$tmp/said"
    [ $? = 2 ] && grep -q 'neither main() nor weir_main' "$tmp/said"
}

deadlock_exits_2_and_keeps_output() {
    build deadlock <<'END' || return 1
#include <weir.h>
int weir_main(int argc, char **argv)
{
    printf("before");
    return weir_select();
}
END
    out=$("$tmp/deadlock" 2>"$tmp/said")
    [ $? = 2 ] && [ "$out" = before ] && grep -q '^fatal error: all goroutines are asleep - deadlock!$' "$tmp/said" &&
        grep -q '^goroutine 1 \[select (no cases)\]:$' "$tmp/said"
}

# A crash in a goroutine ends the process by the signal, as the shell sees it.
crash_is_a_signal() {
    build crash <<'END' || return 1
#include <weir.h>
static void crash(void) { *(volatile int *)8 = 1; }
int weir_main(int argc, char **argv)
{
    weir_go(crash);
    return weir_select();
}
END
    (ulimit -c 0; exec "$tmp/crash") 2>"$tmp/said"
    [ $? = 139 ] && grep -q '^fatal error: SIGSEGV at address 0x8$' "$tmp/said"
}

# Debug information that has been split off lies beside the program, or nowhere; its build id must fit.
separate_debug_information_is_found() {
    build split <<'END' || return 1
#include <weir.h>
static __attribute__((noinline)) void show(void) { weir_dump(1, 2); __asm__ volatile(""); }
int weir_main(int argc, char **argv) { show(); return 0; }
END
    (cd "$tmp" && objcopy --only-keep-debug split split.debug && strip split &&
        objcopy --add-gnu-debuglink=split.debug split) || return 1
    "$tmp/split" >"$tmp/with" && mv "$tmp/split.debug" "$tmp/elsewhere" && "$tmp/split" >"$tmp/without" || return 1
    grep -A1 '^show(...)$' "$tmp/with" | grep -q 'split.c:2 ' && ! grep -q '^show(' "$tmp/without" || return 1
    # another program's debug information is not believed
    build other <<'END' || return 1
#include <weir.h>
int weir_main(int argc, char **argv) { return 0; }
END
    objcopy --only-keep-debug "$tmp/other" "$tmp/split.debug" && "$tmp/split" >"$tmp/wrong" &&
        ! grep -q 'other.c' "$tmp/wrong"
}

check weir_main_gives_the_exit_status weir_main_gives_the_exit_status
check arguments_arrive arguments_arrive
check output_is_flushed_and_atexit_runs output_is_flushed_and_atexit_runs
check others_end_with_main others_end_with_main
check own_main_comes_first own_main_comes_first
check neither_is_told_what_is_missing neither_is_told_what_is_missing
check deadlock_exits_2_and_keeps_output deadlock_exits_2_and_keeps_output
check crash_is_a_signal crash_is_a_signal
if [ "$libs" = -pthread ] || ! command -v objcopy >/dev/null; then
    skip separate_debug_information_is_found 'no libdw, or no objcopy'
else
    check separate_debug_information_is_found separate_debug_information_is_found
fi
finish
