#!/bin/sh
# How gdb comes by the commands, and what they say where there are no goroutines.
set -u
. "$WEIR_SRC/test/support/script.sh"
. "$WEIR_SRC/test/support/gdb.sh"

cat >"$tmp/weir.c" <<'END'
#include <weir.h>
__attribute__((noinline)) void before(void) { __asm__ volatile(""); }
__attribute__((noinline)) void inside(void) { __asm__ volatile(""); }
__attribute__((noinline)) void after(void) { __asm__ volatile(""); }
static int first(void *arg)
{
    inside();
    return 0;
}
int main(void)
{
    before();
    int e = weir_run(first, NULL);
    after();
    return e;
}
END
echo 'int main(void) { return 0; }' >"$tmp/none.c"
$CC -g -O0 "$tmp/none.c" -o "$tmp/none" || exit 1
$CC -g -O0 -I"$WEIR_SRC/include" "$tmp/weir.c" "$WEIR_BUILD/libweir.a" -o "$tmp/weir" $libs || exit 1

debug() {
    HOME=$tmp DEBUGINFOD_URLS='' timeout 120 gdb -nx -batch -ex 'set confirm off' -ex 'set print thread-events off' "$@" 2>&1 </dev/null
}
sourced() { debug -iex 'set auto-load off' -ex "source $WEIR_SRC/packaging/gdb/weir-gdb.py" "$@"; }
says() { cat "$tmp/out" && grep -q "$1" "$tmp/out"; }

without_a_process_it_says_so() {
    sourced -ex 'info goroutines' "$tmp/weir" >"$tmp/out"
    says '^There is no process'
}
a_program_without_weir_is_told() {
    sourced -ex 'break main' -ex run -ex 'goroutine 1 bt' "$tmp/none" >"$tmp/out"
    says '^There is no weir in this program'
}
without_symbols_it_says_what_to_do() {
    strip -o "$tmp/bare" "$tmp/weir" && sourced -ex starti -ex 'info goroutines' "$tmp/bare" >"$tmp/out"
    says 'its symbols are missing.*symbol-file'
}
before_the_runtime_starts_it_says_so() {
    sourced -ex 'break before' -ex run -ex 'info goroutines' "$tmp/weir" >"$tmp/out"
    says "^weir's runtime does not run"
}
after_the_runtime_has_stopped_it_says_so() {
    sourced -ex 'break after' -ex run -ex 'info goroutines' "$tmp/weir" >"$tmp/out"
    says "^weir's runtime does not run"
}
to_source_it_twice_does_no_harm() {
    sourced -ex "source $WEIR_SRC/packaging/gdb/weir-gdb.py" -ex 'break inside' -ex run -ex 'info goroutines' "$tmp/weir" >"$tmp/out"
    says '^\* 1 \[running\] inside at ' && ! grep -i 'error\|traceback' "$tmp/out"
}
sourcing_leaves_no_files_behind() { ! find "$WEIR_SRC/packaging/gdb" -name '*.pyc' | grep .; }

# gdb looks below the folders it is told, for the library's full path: here one that leads to what was installed.
gdb_finds_the_commands_of_an_installed_library() {
    root=$tmp/root
    prefix=$(sed -n 's/^prefix=//p' "$WEIR_BUILD/meson-private/weir.pc")
    meson install -C "$WEIR_BUILD" --no-rebuild --destdir "$root" >"$tmp/installed" 2>&1 || { cat "$tmp/installed"; return 1; }
    lib=$(dirname "$(find "$root" -name 'libweir.so.0' | head -n 1)")
    scripts=$(dirname "$(find "$root$prefix/share/gdb/auto-load" -name 'libweir.so.*-gdb.py')")
    [ "$scripts" = "$root$prefix/share/gdb/auto-load${lib#"$root"}" ] || { echo "scripts in $scripts, library in $lib"; return 1; }
    real=$(realpath "$lib")
    mkdir -p "$tmp/auto-load$(dirname "$real")" && ln -sfn "$scripts" "$tmp/auto-load$real" &&
        $CC -g -O0 -I"$WEIR_SRC/include" "$tmp/weir.c" "$lib/libweir.so" -Wl,-rpath,"$lib" -o "$tmp/shared" -pthread || return 1
    debug -iex "set auto-load scripts-directory $tmp/auto-load" -iex "set auto-load safe-path $tmp" \
        -ex 'break inside' -ex run -ex 'info goroutines' -ex 'goroutine 1 bt' "$tmp/shared" >"$tmp/out"
    says '^\* 1 \[running\] inside at ' && says ' first (' && ! grep -i 'error\|declined' "$tmp/out"
}

for case in without_a_process_it_says_so a_program_without_weir_is_told without_symbols_it_says_what_to_do before_the_runtime_starts_it_says_so \
    after_the_runtime_has_stopped_it_says_so to_source_it_twice_does_no_harm sourcing_leaves_no_files_behind \
    gdb_finds_the_commands_of_an_installed_library; do
    check $case $case
done
finish
