#!/bin/sh
# What heap.c and neighbours.c check, with other allocators behind libweir-heapmap; glibc's own behind it, which is read as ever; and
# linked statically, where libc's data lies in the program. What is found and what is not behind them: heapmap_leaks.sh.
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

# An allocator without operators: the C++ library's call what a program has replaced of them, and that may give pieces of a block,
# the first of which begins where it begins. The block stays in the map as it is.
cat >"$tmp/plain.c" <<'END'
#include <stddef.h>
#include <string.h>
static char memory[64 << 20] __attribute__((aligned(4096)));
static _Atomic size_t used;
void *memalign(size_t align, size_t n) {
    if (n > sizeof memory || align > 4096) return NULL;
    size_t at = used += n + 2 * align + 32;
    if (at > sizeof memory) return NULL;
    char *p = (char *)(((size_t)(memory + at - n - align) + align - 1) & ~(align - 1) & ~(size_t)15);
    ((size_t *)p)[-1] = n;
    return p;
}
void *malloc(size_t n) { return memalign(16, n); }
void *calloc(size_t n, size_t size) { return malloc(n * size); }
void free(void *p) { (void)p; }
size_t malloc_usable_size(void *p) { return p ? ((size_t *)p)[-1] : 0; }
void *realloc(void *p, size_t n) {
    void *q = malloc(n);
    size_t old = malloc_usable_size(p);
    return p && q ? memcpy(q, p, old < n ? old : n) : q;
}
END
cat >"$tmp/pieces.c" <<'END'
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include "heapmap/heapmap.h"
static char *pool;
static size_t used;
void *_Znwm(size_t n), *_Znam(size_t n);
void _ZdlPv(void *p), _ZdaPv(void *p);
void *_Znwm(size_t n) { return pool + (used += (n + 15) / 16 * 16) - (n + 15) / 16 * 16; }
void _ZdlPv(void *p) { (void)p; }
int main(void) {
    const struct weir_heapmap *map = dlsym(RTLD_DEFAULT, "weir_heapmap_");
    void *pieces[40];
    pool = malloc(1 << 20);
    _Atomic uint8_t *byte = map->leaves[(uintptr_t)pool >> HEAPMAP_LEAF_BITS] + ((uintptr_t)pool % ((size_t)1 << HEAPMAP_LEAF_BITS) >> 4);
    uint64_t count = *heapmap_count(byte);
    for (int i = 0; i < 40; i++) {
        pieces[i] = _Znam(16 + (size_t)i);
        if (*byte != HEAPMAP_MANY || *heapmap_count(byte) != count) return puts("a piece counts as the block"), 1;
    }
    for (int i = 0; i < 40; i++) {
        _ZdaPv(pieces[i]);
        if (*byte != HEAPMAP_MANY || *heapmap_count(byte) != count) return puts("a piece was taken out as the block"), 1;
    }
    return (char *)pieces[0] != pool;
}
END
pieces() {
    $CC -O1 -w -fno-builtin -shared -fPIC -o "$tmp/plain.so" "$tmp/plain.c" &&
        $CC -D_GNU_SOURCE -O1 -w -I"$WEIR_SRC/src" -o "$tmp/pieces" "$tmp/pieces.c" -Wl,--no-as-needed -lstdc++ -ldl &&
        LD_PRELOAD="$heapmap $tmp/plain.so" "$tmp/pieces"
}
[ ! -x "$tmp/operators" ] || check 'operators: pieces of a block' pieces

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
