#!/bin/sh
# What gdb shows of a goroutine that has not begun, or is about to come to a thread or to leave one.
set -u
. "$WEIR_SRC/test/support/script.sh"
. "$WEIR_SRC/test/support/gdb.sh"

cat >"$tmp/program.c" <<'END'
#include <weir.h>
__attribute__((noinline)) void started(void) { __asm__ volatile(""); }
static void later(int n) { __asm__ volatile("" :: "r"(n)); }
int weir_main(int argc, char **argv)
{
    weir_go(later, 7);
    started();
    return weir_sleep(WEIR_HOUR);
}
END
$CC -g -O0 -I"$WEIR_SRC/include" "$tmp/program.c" "$WEIR_BUILD/libweir.a" -o "$tmp/program" $libs || exit 1

debug() {
    HOME=$tmp DEBUGINFOD_URLS='' WEIR_PROCS=1 timeout 120 gdb -nx -batch -iex 'set auto-load off' -ex 'set confirm off' \
        -ex 'set print thread-events off' -ex 'set width 0' -ex "source $WEIR_SRC/packaging/gdb/weir-gdb.py" "$@" "$tmp/program" \
        >"$tmp/out" 2>&1 </dev/null
    cat "$tmp/out"
}
says() { grep -Eq -- "$1" "$tmp/out"; }

one_that_has_not_begun_has_its_function() {
    debug -ex 'break started' -ex run -ex 'info goroutines' -ex 'goroutine 2 bt'
    says '^  2 \[runnable\] later at .*program.c:3, not begun yet$' && says '^#1 .* wr_switch ' && says '^#2 .* wr_entry ' &&
        ! grep -q '^#3' "$tmp/out"
}
# The other goroutine may come to another thread meanwhile: a stop is long for the scheduler.
break_here() { echo "python gdb.execute('break $1 thread %d' % gdb.selected_thread().num)"; }
# Its control block says already that it sleeps, and the thread that it runs nobody; what was saved of it last is out of date.
one_that_leaves_is_on_its_thread_yet() {
    debug -ex 'break weir_sleep' -ex run -ex "$(break_here wr_schedule_away)" -ex continue -ex "$(break_here wr_switch)" -ex continue \
        -ex 'info goroutines' -ex 'goroutine 1 bt'
    says '^\* 1 \[sleep, [^]]*\] weir_main at .*program.c:8, thread [0-9]+$' && says '^#0 .*wr_switch ' && says '^#[0-9]+ .* weir_sleep '
}

for case in one_that_has_not_begun_has_its_function one_that_leaves_is_on_its_thread_yet; do check $case $case; done
finish
