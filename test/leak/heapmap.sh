#!/bin/sh
# What heap.c checks, with other allocators behind libweir-heapmap; glibc's own behind it, which is read as ever; and
# linked statically, where libc's data lies in the program.
set -u
. "$WEIR_SRC/test/support/script.sh"

program=$WEIR_BUILD/test/leak-heap
heapmap=$WEIR_BUILD/libweir-heapmap.so

# behind NAME LIBRARY
behind() {
    if [ -n "$2" ] && LD_PRELOAD=$2 true 2>&1 | grep -q 'cannot be preloaded'; then
        skip "$1" "$2 is not installed"
        return
    fi
    check "$1" env WEIR_TEST_HEAPMAP=1 LD_PRELOAD="$heapmap $2" "$program"
}

behind jemalloc libjemalloc.so.2
behind mimalloc libmimalloc.so.2
behind libc ''

static() {
    $CC -D_GNU_SOURCE -O1 -g -static -o "$tmp/static" \
        -I"$WEIR_SRC/include" -I"$WEIR_SRC/src" -I"$WEIR_SRC/test/support" \
        "$WEIR_SRC/test/leak/heap.c" "$WEIR_SRC"/test/support/*.c "$WEIR_BUILD/libweir.a" \
        $(grep -q -e -DWEIR_HAVE_LIBDW "$WEIR_BUILD/build.ninja" && pkg-config --static --libs libdw) -lpthread &&
        "$tmp/static"
}
check static static

finish
