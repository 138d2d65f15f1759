#!/bin/sh
# A debugger walks through a goroutine's stack to its first function, and stops there.
set -u
. "$WEIR_SRC/test/support/script.sh"

if ! command -v gdb >/dev/null; then
    skip gdb_walks_to_the_first_function 'no gdb here'
    skip gdb_walks_a_parking_goroutine 'no gdb here'
    finish
fi

cat >"$tmp/program.c" <<'END'
#include <weir.h>
static __attribute__((noinline)) void innermost(int n) { __asm__ volatile("" :: "r"(n)); }
static __attribute__((noinline)) void middle(int n) { innermost(n); __asm__ volatile(""); }
static void first(int n) { middle(n + 1); __asm__ volatile(""); }
int weir_main(int argc, char **argv)
{
    weir_go(first, 1);
    return weir_sleep(WEIR_HOUR);
}
END
$CC -g -O1 -I"$WEIR_SRC/include" "$tmp/program.c" "$WEIR_BUILD/libweir.a" -o "$tmp/program" $libs || exit 1

debug() {
    HOME=$tmp DEBUGINFOD_URLS='' timeout 120 \
        gdb -nx -batch -ex 'set confirm off' -ex 'set print thread-events off' "$@" "$tmp/program"
}

# Frames of the goroutine, the entry stub as the last one, and no complaint about a corrupt stack.
gdb_walks_to_the_first_function() {
    debug -ex 'break innermost' -ex run -ex bt >"$tmp/bt" 2>&1
    cat "$tmp/bt"
    grep '^#' "$tmp/bt" >"$tmp/frames"
    sed -n 1p "$tmp/frames" | grep -q ' innermost (' && sed -n 2p "$tmp/frames" | grep -q ' middle (' &&
        sed -n 3p "$tmp/frames" | grep -q ' first (' && tail -1 "$tmp/frames" | grep -q 'wr_entry' &&
        [ "$(wc -l <"$tmp/frames")" = 4 ] && ! grep -qi 'corrupt\|Backtrace stopped' "$tmp/bt"
}

# From the switch, where a goroutine is parked, the same holds.
gdb_walks_a_parking_goroutine() {
    debug -ex 'break weir_sleep' -ex run -ex 'break wr_switch' -ex continue -ex bt >"$tmp/bt" 2>&1
    cat "$tmp/bt"
    grep '^#' "$tmp/bt" | tail -n +1 >"$tmp/frames"
    grep -q ' wr_switch' "$tmp/frames" && tail -1 "$tmp/frames" | grep -q 'wr_entry\|clone' &&
        ! grep -qi 'corrupt\|Backtrace stopped' "$tmp/bt"
}

check gdb_walks_to_the_first_function gdb_walks_to_the_first_function
check gdb_walks_a_parking_goroutine gdb_walks_a_parking_goroutine
finish
