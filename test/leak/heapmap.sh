#!/bin/sh
# What heap.c and neighbours.c check, with other allocators behind libweir-heapmap; glibc's own behind it, which is read as ever; and
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
    check "$1: neighbours" env LD_PRELOAD="$heapmap $2" "$WEIR_BUILD/test/leak-neighbours"
    [ -z "$2" ] || [ ! -x "$tmp/operators" ] || check "$1: operators" env LD_PRELOAD="$heapmap $2" "$tmp/operators"
    [ ! -x "$tmp/replaced" ] || check "$1: replaced operators" env LD_PRELOAD="$heapmap $2" "$tmp/replaced"
}

# A sized delete gives a block back as what it was taken for: the next one of the program's size is another.
cat >"$tmp/operators.cc" <<'END'
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
static bool failed;
template <class Give, class Take> static void same(const char *name, std::size_t n, Give give, Take take) {
    void *volatile p = give();
    std::memset(p, 0xa5, n);
    take(p);
    void *volatile q = std::malloc(n - 8); /* of the class that n alone would have */
    if (p == q) failed = true, std::printf("%s of %zu bytes: was given back as smaller than it was\n", name, n);
    std::free(q);
}
int main() {
    for (std::size_t n = 16; n <= 128; n += 16) {
        same("new", n, [=] { return ::operator new(n); }, [=](void *p) { ::operator delete(p, n); });
        same("new[]", n, [=] { return ::operator new[](n); }, [=](void *p) { ::operator delete[](p, n); });
        std::align_val_t align{16};
        same("aligned new", n, [=] { return ::operator new(n, align); }, [=](void *p) { ::operator delete(p, n, align); });
        same("aligned new[]", n, [=] { return ::operator new[](n, align); },
             [=](void *p) { ::operator delete[](p, n, align); });
    }
    return failed;
}
END
# Who has replaced the delete without a size gets what is deleted with one.
cat >"$tmp/replaced.cc" <<'END'
#include <cstddef>
#include <new>
static char pool[1 << 16];
static std::size_t used, given_back;
void *operator new(std::size_t n) { return pool + (used += (n + 15) / 16 * 16) - (n + 15) / 16 * 16; }
void operator delete(void *p) noexcept { given_back += p >= pool && p < pool + sizeof pool; }
int main() {
    for (std::size_t n = 8; n <= 128; n += 8) {
        void *volatile p = ::operator new(n);
        ::operator delete(p, n);
    }
    return given_back == 16 ? 0 : 1;
}
END
if command -v g++ >"$tmp/found"; then
    check 'operators: build' g++ -std=c++17 -O1 -o "$tmp/operators" "$tmp/operators.cc"
    check 'operators: replaced ones build' g++ -std=c++17 -O1 -w -o "$tmp/replaced" "$tmp/replaced.cc"
fi

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
