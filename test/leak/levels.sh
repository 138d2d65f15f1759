#!/bin/sh
# The recall tests, and some of the others, compiled at every level of optimisation, by each compiler that is here, and linked to
# the library as it was built. What is on a stack, in a register or nowhere differs with each.
set -u
. "$WEIR_SRC/test/support/script.sh"

defines=
grep -q -e -DWEIR_DEBUG=1 "$WEIR_BUILD/build.ninja" && defines="$defines -DWEIR_DEBUG=1"
grep -q -e -DWEIR_STRESS=1 "$WEIR_BUILD/build.ninja" && defines="$defines -DWEIR_STRESS=1"

# passes NAME COMPILER FLAG…
passes() {
    program=$1
    shift
    "$@" -std=gnu11 -g -D_GNU_SOURCE $defines -I"$WEIR_SRC/include" -I"$WEIR_BUILD/include" -I"$WEIR_SRC/test/support" \
        -I"$WEIR_SRC/src" -o "$tmp/$program" "$WEIR_SRC/test/leak/$program.c" "$WEIR_SRC/test/support/harness.c" \
        "$WEIR_SRC/test/support/parked.c" "$WEIR_BUILD/libweir.a" $libs -ldl -lm &&
        "$tmp/$program"
}

levels() {
    for level in -O0 -O1 -O2 -O3 '-O3 -flto'; do
        name=$(echo "$1$level" | tr -c 'a-zA-Z0-9\n' _)
        # clang needs a linker that can do it
        if ! echo 'int main(void) { return 0; }' | $1 $level -x c - -o "$tmp/able" 2>/dev/null; then
            skip "$name" "$1 cannot link with $level here"
            continue
        fi
        check "${name}_recall" passes recall $1 $level
        case $level in
        -O0 | *-flto) check "${name}_held" passes held_by_goroutine $1 $level ;;
        esac
    done
}
for compiler in gcc clang; do
    if [ $compiler = clang ] && grep -q -e '-flto' "$WEIR_BUILD/build.ninja"; then
        skip clang 'the archive is for the link-time optimisation of another compiler'
    elif command -v $compiler >/dev/null; then
        levels $compiler
    else
        skip "$compiler" "no $compiler here"
    fi
done
finish
